package backoff4

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// Before asks with backoff v4.
func Before(base *http.Client, log *slog.Logger) func(ctx context.Context, url string) (string, error) {
	return func(ctx context.Context, url string) (text string, err error) {
		policy := backoff.NewExponentialBackOff() // has a state: one for each call
		policy.InitialInterval, policy.Multiplier, policy.MaxInterval = 100*time.Millisecond, 2, time.Second
		policy.RandomizationFactor = 0
		policy.MaxElapsedTime = 2 * time.Second
		ask := func() error {
			text, err = genes.Fetch(ctx, base, url)
			var status *genes.StatusError
			if errors.As(err, &status) && status.Final() {
				return backoff.Permanent(err)
			}
			return err
		}
		err = backoff.RetryNotify(ask, backoff.WithContext(policy, ctx), func(err error, delay time.Duration) {
			log.Warn("retry", "error", err, "delay", delay)
		})
		return text, err
	}
}

package backoff5

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// Before asks with backoff v5.
func Before(base *http.Client, log *slog.Logger) func(ctx context.Context, url string) (string, error) {
	return func(ctx context.Context, url string) (string, error) {
		policy := backoff.NewExponentialBackOff()
		policy.InitialInterval, policy.Multiplier, policy.MaxInterval = 100*time.Millisecond, 2, time.Second
		policy.RandomizationFactor = 0
		ask := func() (string, error) {
			text, err := genes.Fetch(ctx, base, url)
			var status *genes.StatusError
			switch {
			case !errors.As(err, &status):
				return text, err
			case status.Final():
				return "", backoff.Permanent(err)
			case status.RetryAfter > 0:
				return "", backoff.RetryAfter(status.RetryAfter) // in seconds, in place of the error
			}
			return "", err
		}
		return backoff.Retry(ctx, ask, backoff.WithBackOff(policy), backoff.WithMaxTries(4), backoff.WithMaxElapsedTime(5*time.Second),
			backoff.WithNotify(func(err error, delay time.Duration) { log.Warn("retry", "error", err, "delay", delay) }))
	}
}

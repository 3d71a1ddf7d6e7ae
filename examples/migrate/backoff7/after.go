package backoff7

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/retryutils/retry"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// After asks with retry.Do.
func After(base *http.Client, log *slog.Logger) (func(ctx context.Context, url string) (string, error), error) {
	cfg := retry.Config{
		InitialDelay: 100 * time.Millisecond, MaxDelay: time.Second, Jitter: retry.NoJitter,
		MaxRetries: 3, MaxElapsed: 5 * time.Second, // four tries
		OnRetry: func(ctx context.Context, e retry.Event) {
			log.WarnContext(ctx, "retry", "error", e.Err, "delay", e.Delay)
		},
	}
	return func(ctx context.Context, url string) (string, error) {
		return retry.Do(ctx, cfg, func(ctx context.Context) (string, error) {
			text, err := genes.Fetch(ctx, base, url)
			var status *genes.StatusError
			switch {
			case !errors.As(err, &status):
				return text, err
			case status.Final():
				return "", retry.Permanent(err)
			case status.RetryAfter > 0:
				return "", retry.RetryAfter(err, time.Duration(status.RetryAfter)*time.Second) // with the error
			}
			return "", err
		})
	}, cfg.Validate()
}

package retrygo

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
		MaxRetries: 3, InitialDelay: 100 * time.Millisecond, MaxDelay: time.Second, Jitter: retry.NoJitter, // four attempts
		RetryIf: func(err error) bool { // the caller's cancel ends the call without it
			var status *genes.StatusError
			return retry.Retryable(err) && !(errors.As(err, &status) && status.Final())
		},
		OnRetry: func(ctx context.Context, e retry.Event) {
			log.WarnContext(ctx, "retry", "attempt", e.Attempt, "error", e.Err)
		},
	}
	return func(ctx context.Context, url string) (string, error) {
		return retry.Do(ctx, cfg, func(ctx context.Context) (string, error) {
			text, err := genes.Fetch(ctx, base, url)
			var status *genes.StatusError
			if errors.As(err, &status) && status.RetryAfter > 0 {
				return "", retry.RetryAfter(err, time.Duration(status.RetryAfter)*time.Second)
			}
			return text, err
		})
	}, cfg.Validate()
}

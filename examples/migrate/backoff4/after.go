package backoff4

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/retryutils/retry"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// After asks with retry.Do, whose Config has no state: one for all calls.
func After(base *http.Client, log *slog.Logger) (func(ctx context.Context, url string) (string, error), error) {
	cfg := retry.Config{
		InitialDelay: 100 * time.Millisecond, MaxDelay: time.Second, Jitter: retry.NoJitter,
		MaxRetries: retry.Unlimited, MaxElapsed: 2 * time.Second,
		OnRetry: func(ctx context.Context, e retry.Event) {
			log.WarnContext(ctx, "retry", "error", e.Err, "delay", e.Delay)
		},
	}
	return func(ctx context.Context, url string) (string, error) {
		return retry.Do(ctx, cfg, func(ctx context.Context) (string, error) { // the inner ctx
			text, err := genes.Fetch(ctx, base, url)
			var status *genes.StatusError
			if errors.As(err, &status) && status.Final() {
				return "", retry.Permanent(err)
			}
			return text, err
		})
	}, cfg.Validate()
}

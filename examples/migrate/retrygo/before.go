package retrygo

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/avast/retry-go/v5"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// Before asks with retry-go. In its version 4 the last line is retry.DoWithData(ask, …),
// with the same options.
func Before(base *http.Client, log *slog.Logger) func(ctx context.Context, url string) (string, error) {
	return func(ctx context.Context, url string) (string, error) {
		ask := func() (string, error) {
			text, err := genes.Fetch(ctx, base, url)
			if errors.Is(err, context.Canceled) {
				return "", retry.Unrecoverable(err)
			}
			return text, err
		}
		return retry.NewWithData[string](
			retry.Context(ctx),
			retry.Attempts(4),
			retry.Delay(100*time.Millisecond),
			retry.MaxDelay(time.Second),
			retry.DelayType(func(n uint, err error, config retry.DelayContext) time.Duration {
				var status *genes.StatusError
				if errors.As(err, &status) && status.RetryAfter > 0 {
					return time.Duration(status.RetryAfter) * time.Second
				}
				return retry.BackOffDelay(n, err, config)
			}),
			retry.RetryIf(func(err error) bool {
				var status *genes.StatusError
				return retry.IsRecoverable(err) && !(errors.As(err, &status) && status.Final())
			}),
			retry.OnRetry(func(n uint, err error) { log.Warn("retry", "attempt", n+1, "error", err) }),
			retry.LastErrorOnly(true),
		).Do(ask)
	}
}

package resty

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-resty/resty/v2"
	"github.com/retryutils/retry"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// After asks with resty still, over a client that retries: only the retries move.
func After(base *http.Client, log *slog.Logger) (func(ctx context.Context, url string) (string, error), error) {
	retrying, err := retry.NewRetryableClient(base, retry.Config{
		MaxRetries: 3, InitialDelay: 100 * time.Millisecond, MaxDelay: time.Second, Jitter: retry.EqualJitter,
		OnRetry: func(ctx context.Context, e retry.Event) {
			log.WarnContext(ctx, "retry", "attempt", e.Attempt, "error", e.Err)
		},
	})
	if err != nil {
		return nil, err
	}
	client := resty.NewWithClient(retrying.StandardClient()).SetLogger(silent{}) // SetRetryCount is 0 by default
	return func(ctx context.Context, url string) (string, error) {
		resp, err := client.R().SetContext(ctx).Get(url)
		if err == nil && resp.IsError() {
			err = &genes.StatusError{Code: resp.StatusCode()}
		}
		return resp.String(), err
	}, nil
}

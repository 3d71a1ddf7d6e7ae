package resty

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/go-resty/resty/v2"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// Before asks with resty and its retries.
func Before(base *http.Client, log *slog.Logger) func(ctx context.Context, url string) (string, error) {
	client := resty.NewWithClient(base).
		SetLogger(silent{}).
		SetRetryCount(3).
		SetRetryWaitTime(100 * time.Millisecond).
		SetRetryMaxWaitTime(time.Second).
		SetRetryAfter(func(_ *resty.Client, resp *resty.Response) (time.Duration, error) {
			seconds, _ := strconv.Atoi(resp.Header().Get("Retry-After"))
			return time.Duration(seconds) * time.Second, nil // 0: the backoff
		}).
		AddRetryCondition(func(resp *resty.Response, err error) bool {
			return err != nil || resp.StatusCode() == http.StatusTooManyRequests || resp.StatusCode() >= 500
		}).
		AddRetryHook(func(resp *resty.Response, err error) {
			log.Warn("retry", "attempt", resp.Request.Attempt, "error", err)
		})
	return func(ctx context.Context, url string) (string, error) {
		resp, err := client.R().SetContext(ctx).Get(url)
		if err == nil && resp.IsError() {
			err = &genes.StatusError{Code: resp.StatusCode()}
		}
		return resp.String(), err
	}
}

// silent keeps resty from writing to standard error.
type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Warnf(string, ...any)  {}
func (silent) Debugf(string, ...any) {}

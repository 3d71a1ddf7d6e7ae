package retryablehttp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Before asks with go-retryablehttp, and with all that it lets a program set.
func Before(base *http.Client, log *slog.Logger) func(ctx context.Context, url string) (string, error) {
	client := retryablehttp.NewClient()
	client.HTTPClient = base
	client.Logger = nil
	client.RetryMax, client.RetryWaitMin, client.RetryWaitMax = 3, 100*time.Millisecond, time.Second
	client.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if err == nil && resp.StatusCode == http.StatusLocked { // while the genes are loaded
			return true, nil
		}
		return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
	}
	client.Backoff = func(min, max time.Duration, attempt int, resp *http.Response) time.Duration {
		if resp != nil {
			if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
				return time.Duration(seconds) * time.Second
			}
		}
		return retryablehttp.LinearJitterBackoff(min, min, attempt, resp)
	}
	client.RequestLogHook = func(_ retryablehttp.Logger, req *http.Request, attempt int) {
		req.Header.Set("X-Attempt", strconv.Itoa(attempt+1))
		log.Info("request", "attempt", attempt+1)
	}
	client.ResponseLogHook = func(_ retryablehttp.Logger, resp *http.Response) {
		log.Info("response", "status", resp.StatusCode)
	}
	client.ErrorHandler = func(resp *http.Response, err error, tries int) (*http.Response, error) {
		if err == nil {
			resp.Body.Close()
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil, fmt.Errorf("gene service: %w, after %d attempts", err, tries)
	}
	return func(ctx context.Context, url string) (string, error) {
		req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 400 { // one that is not retried comes back as a response
			return "", fmt.Errorf("gene service: status %d", resp.StatusCode)
		}
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
}

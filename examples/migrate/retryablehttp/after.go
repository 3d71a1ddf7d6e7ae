package retryablehttp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/retryutils/retry"
)

// hooks sees every attempt, and its response before it is judged.
type hooks struct {
	base http.RoundTripper
	log  *slog.Logger
}

func (h hooks) RoundTrip(req *http.Request) (*http.Response, error) {
	attempt := retry.RetryCount(req.Context()) + 1
	req = req.Clone(req.Context()) // a RoundTripper does not change its request
	req.Header.Set("X-Attempt", strconv.Itoa(attempt))
	h.log.Info("request", "attempt", attempt)
	resp, err := h.base.RoundTrip(req)
	if err == nil {
		h.log.Info("response", "status", resp.StatusCode)
	}
	return resp, err
}

// After asks with a RetryableClient.
func After(base *http.Client, log *slog.Logger) (func(ctx context.Context, url string) (string, error), error) {
	client, err := retry.NewRetryableClient(base, retry.Config{
		MaxRetries: 3, MaxDelay: time.Second,
		RetryStatusCodes: append(retry.DefaultRetryStatusCodes(), http.StatusLocked), // CheckRetry
		Backoff:          retry.LinearBackoff(100 * time.Millisecond),                // no Retry-After in it: that is seen to
		Jitter:           retry.NoJitter,                                             // as before; a crowd needs some
	}, retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper { return hooks{base, log} }))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, url string) (string, error) {
		resp, err := client.Get(ctx, url)
		if err != nil { // every status of 400 and above, too
			return "", fmt.Errorf("gene service: %w", err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}, nil
}

// Package genes is what the programs of this module have in common, and had before they
// retried anything: one request, and its error.
package genes

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// StatusError is an answer other than 200.
type StatusError struct {
	Code       int
	RetryAfter int // seconds; 0: the server named none
}

func (e *StatusError) Error() string { return fmt.Sprintf("gene service: status %d", e.Code) }

// Final reports whether the same request would get the same answer.
func (e *StatusError) Final() bool { return e.Code < 500 && e.Code != http.StatusTooManyRequests }

// Fetch asks once.
func Fetch(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return "", &StatusError{resp.StatusCode, seconds}
	}
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

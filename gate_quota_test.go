package retry_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A server with 60 calls a minute that tells what is left of them refuses nobody:
// the last tenth is spread over the rest of the minute.
func TestHTTP_QuotaIsHeeded(t *testing.T) {
	for name, header := range map[string]func(h http.Header, left, reset int){
		"X-RateLimit": func(h http.Header, left, reset int) {
			h.Set("X-RateLimit-Limit", "60")
			h.Set("X-RateLimit-Remaining", strconv.Itoa(left))
			h.Set("X-RateLimit-Reset", strconv.Itoa(reset))
		},
		"RateLimit": func(h http.Header, left, reset int) {
			h.Set("RateLimit", `"minute";r=`+strconv.Itoa(left)+`;t=`+strconv.Itoa(reset))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				window, used, refused := 0, 0, 0
				base := roundTrip(func(req *http.Request) (*http.Response, error) {
					since := time.Since(start)
					if now := int(since / time.Minute); now != window {
						window, used = now, 0
					}
					resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}
					if used++; used > 60 {
						refused++
						resp.StatusCode = 429
					}
					reset := int((time.Minute - since%time.Minute + time.Second - 1) / time.Second)
					header(resp.Header, max(0, 60-used), reset)
					return resp, nil
				})
				client, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{})
				require.NoError(t, err)
				for range 150 {
					resp, err := client.Get(t.Context(), "http://api.test/")
					require.NoError(t, err)
					resp.Body.Close()
				}
				assert.Zero(t, refused)
				assert.Less(t, time.Since(start), 3*time.Minute)
			})
		})
	}
}

package retry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A transport of WrapTransport is given the settings that hold for the host, as its
// PerHost and HostBreaker left them, in the first attempt and in a retry, over
// net/http's own transport and over another one.
func TestConfigOf(t *testing.T) {
	answers := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answers++; answers%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	plain := server.Client().Transport
	budget, err := retry.NewBudget(1, 1)
	require.NoError(t, err)
	for name, base := range map[string]http.RoundTripper{"net/http": plain, "another": roundTrip(plain.RoundTrip)} {
		var seen []retry.Config
		look := retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				cfg, ok := retry.ConfigOf(req.Context())
				assert.True(t, ok, name)
				seen = append(seen, cfg)
				return base.RoundTrip(req)
			})
		})
		client, err := retry.NewRetryableClient(&http.Client{Transport: base},
			retry.Config{InitialDelay: time.Nanosecond, AttemptTimeout: time.Minute},
			look, retry.HostBreaker(retry.BreakerConfig{}),
			retry.PerHost(func(_ string, cfg *retry.Config) error { cfg.Budget = budget; return nil }))
		require.NoError(t, err)
		resp, err := client.Get(context.Background(), server.URL)
		require.NoError(t, err, name)
		resp.Body.Close()
		require.Len(t, seen, 2, name)
		for _, cfg := range seen {
			assert.Same(t, budget, cfg.Budget, name)
			assert.NotNil(t, cfg.Gate, name)
			require.NotNil(t, cfg.Breaker, name)
			assert.Equal(t, retry.StateClosed, cfg.Breaker.State(), name)
			assert.Equal(t, time.Minute, cfg.AttemptTimeout, name)
			assert.Equal(t, server.URL, cfg.Name, name)
		}
	}
	_, ok := retry.ConfigOf(context.Background())
	assert.False(t, ok)
}

// The simplest of requests, with nothing to add to it, was given to the transports of
// WrapTransport as the caller's own: what one of them added to the header was in the
// caller's request afterwards.
func TestWrapTransportGetsACopy(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	sign := retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			req.Header.Add("X-Signature", "1")
			return base.RoundTrip(req)
		})
	})
	transport, err := retry.NewTransport(server.Client().Transport, retry.Config{}, sign)
	require.NoError(t, err)
	for range 3 { // once it is known that the host speaks HTTP/1, nothing is watched
		req, err := http.NewRequest(http.MethodGet, server.URL, nil)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Empty(t, req.Header)
	}
}

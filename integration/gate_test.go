package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// gateWork has workers make n calls to a URL, and returns how long that took.
func gateWork(t *testing.T, client *retry.RetryableClient, url string, workers, n int) time.Duration {
	start := time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range n / workers {
				resp, err := client.Get(t.Context(), url)
				if assert.NoError(t, err) {
					resp.Body.Close()
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// gateAndNone does the same with a gate for each host, as by default, and without.
func gateAndNone(t *testing.T, run func(*retry.RetryableClient) time.Duration) (gate, none time.Duration) {
	cfg := retry.Config{MaxRetries: 50, InitialDelay: 10 * time.Millisecond}
	for i, opts := range [][]retry.Option{nil, {retry.NoSharedPause()}} {
		client, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second}, cfg, opts...)
		require.NoError(t, err)
		took := run(client)
		client.CloseIdleConnections()
		if i == 0 {
			gate = took
		} else {
			none = took
		}
	}
	t.Logf("%v with a gate, %v without", gate, none)
	return gate, none
}

// One of ten backends behind HAProxy answers 503 with a Retry-After: each refusal
// paused all calls, though nine of ten would have been accepted.
func TestGateWithOneOfTenBackendsDown(t *testing.T) {
	var servers strings.Builder
	for i := range 10 {
		backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if i == 0 {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}))
		defer backend.Close()
		fmt.Fprintf(&servers, "\tserver s%d %s\n", i, strings.TrimPrefix(backend.URL, "http://"))
	}
	url := startHAProxy(t, "balance random\n"+servers.String())
	gate, none := gateAndNone(t, func(client *retry.RetryableClient) time.Duration {
		return gateWork(t, client, url+"/", 10, 600)
	})
	assert.Less(t, gate, 2*none, "it took a hundred times as long")
}

// One endpoint of a host takes a call a second, and another any number.
func TestGateWithALimitOfOneEndpoint(t *testing.T) {
	var mu sync.Mutex
	next := time.Now()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != "/limited" {
			return
		}
		if now := time.Now(); now.Before(next) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		next = time.Now().Add(time.Second)
	}))
	defer server.Close()
	gate, none := gateAndNone(t, func(client *retry.RetryableClient) time.Duration {
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				for range 2 {
					if resp, err := client.Get(t.Context(), server.URL+"/limited"); err == nil {
						resp.Body.Close()
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		took := time.Now()
		for range 1000 {
			resp, err := client.Get(t.Context(), server.URL+"/other")
			require.NoError(t, err)
			resp.Body.Close()
			time.Sleep(10 * time.Millisecond)
		}
		defer wg.Wait()
		return time.Since(took)
	})
	assert.Less(t, gate, 2*none)
}

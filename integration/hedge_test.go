package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/hedge"
)

// An nginx before four servers, of which one is slow for every third of its requests: the
// tail without hedges, and with them, and what they cost.
func TestHedgeNginxSlowBackend(t *testing.T) {
	const stall = 300 * time.Millisecond
	var places []string
	var requests atomic.Int64
	for i := range 4 {
		var n atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			if i == 0 && n.Add(1)%3 == 0 {
				select {
				case <-time.After(stall):
				case <-r.Context().Done(): // nginx has closed the connection: its client is gone
				}
			}
			fmt.Fprint(w, "done")
		}))
		t.Cleanup(server.Close)
		places = append(places, strings.TrimPrefix(server.URL, "http://"))
	}
	_, url := nginx(t, strings.Join(places, "; server "), "", "")

	budget, err := retry.NewBudget(0.2, 10)
	require.NoError(t, err)
	h, err := hedge.New(hedge.Config{Quantile: 0.9})
	require.NoError(t, err)
	p99 := func(opts ...retry.Option) time.Duration {
		base := http.DefaultTransport.(*http.Transport).Clone()
		base.MaxIdleConnsPerHost = 10
		defer base.CloseIdleConnections()
		client, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{Budget: budget}, opts...)
		require.NoError(t, err)
		var mu sync.Mutex
		var took []time.Duration
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 200 {
					began := time.Now()
					resp, err := client.Get(t.Context(), url)
					if !assert.NoError(t, err) {
						return
					}
					text, err := io.ReadAll(resp.Body)
					assert.NoError(t, err)
					assert.Equal(t, "done", string(text))
					resp.Body.Close()
					mu.Lock()
					took = append(took, time.Since(began))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		took = took[len(took)/4:] // by then enough is known
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	without := p99()
	before := requests.Load()
	with := p99(retry.WrapTransport(h.Transport))
	extra := float64(requests.Load()-before)/float64(before) - 1
	t.Logf("p99 %v without, %v with hedges, %.1f %% more requests; %+v", without, with, 100*extra, h.Snapshot())
	assert.Greater(t, without, stall)
	assert.Less(t, with, stall*2/3)
	assert.LessOrEqual(t, extra, 0.22)
	assert.Positive(t, h.Snapshot().Won)
}

// The connection of a request that lost is given up over HTTP/1, which has no other way to
// take a request back, and kept over HTTP/2, where the stream alone ends. Either way the
// server learns of it.
func TestHedgeConnections(t *testing.T) {
	const calls = 20
	for _, major := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", major), func(t *testing.T) {
			var connections, cancelled atomic.Int64
			var turn atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, major, r.ProtoMajor)
				if turn.Add(1)%2 == 1 { // the first of each call
					<-r.Context().Done()
					cancelled.Add(1)
					return
				}
				fmt.Fprint(w, strings.Repeat("x", 100<<10)) // more than there is in a buffer
			}))
			server.EnableHTTP2 = major == 2
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					connections.Add(1)
				}
			}
			server.StartTLS()
			defer server.Close()
			h, err := hedge.New(hedge.Config{Delay: 5 * time.Millisecond, Budget: newBudget(t, 1, calls)})
			require.NoError(t, err)
			client, err := retry.NewRetryableClient(server.Client(), retry.Config{MaxRetries: retry.NoRetries}, retry.WrapTransport(h.Transport))
			require.NoError(t, err)
			for range calls {
				resp, err := client.Get(t.Context(), server.URL)
				require.NoError(t, err)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Len(t, text, 100<<10)
				resp.Body.Close()
			}
			assert.Equal(t, int64(calls), h.Snapshot().Won)
			assert.Eventually(t, func() bool { return cancelled.Load() == calls }, 5*time.Second, time.Millisecond)
			if major == 2 {
				assert.EqualValues(t, 1, connections.Load())
			} else {
				assert.Greater(t, connections.Load(), int64(calls/2))
				assert.LessOrEqual(t, connections.Load(), int64(2*calls))
			}
		})
	}
}

func newBudget(t testing.TB, ratio float64, burst int) *retry.Budget {
	t.Helper()
	b, err := retry.NewBudget(ratio, burst)
	require.NoError(t, err)
	return b
}

package hedge_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/hedge"
	"github.com/retryutils/retry/retrytest"
)

// Many calls at once over real connections, slow ones, failing ones and cancelled ones among
// them: each has an answer of its own, whole, and no goroutine stays.
func TestManyCallsAtOnce(t *testing.T) {
	retrytest.NoLeaks(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch rand.IntN(10) {
		case 0, 1:
			select {
			case <-time.After(300 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		case 2:
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintf(w, "%s %064d", r.URL.Query().Get("n"), 0)
	}))
	t.Cleanup(server.Close)
	base := server.Client().Transport.(*http.Transport)
	t.Cleanup(base.CloseIdleConnections)
	h := newHedge(t, hedge.Config{Delay: 30 * time.Millisecond, MaxHedges: 2, Budget: newBudget(t, 1, 1000)})
	client, err := retry.NewRetryableClient(&http.Client{Transport: base},
		retry.Config{InitialDelay: time.Millisecond, MaxRetries: 10}, retry.WrapTransport(h.Transport), retry.NoSharedPause())
	require.NoError(t, err)
	var next, cancelled atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := next.Add(1); n <= 600; n = next.Add(1) {
				ctx, cancel := context.WithCancel(context.Background())
				if n%10 == 0 {
					time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, cancel)
				}
				resp, err := client.Get(ctx, fmt.Sprintf("%s/?n=%d", server.URL, n))
				var text []byte
				if err == nil {
					text, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err != nil {
					assert.Zero(t, n%10, err)
					cancelled.Add(1)
				} else {
					assert.Equal(t, fmt.Sprintf("%d %064d", n, 0), string(text))
				}
				cancel()
			}
		})
	}
	wg.Wait()
	s := h.Snapshot()
	t.Logf("%+v, %d cancelled", s, cancelled.Load())
	assert.Positive(t, s.Won)
	assert.GreaterOrEqual(t, s.Hedges, s.Won)
}

// A client that meets ever new hosts learns of a bounded number of them.
func TestHostsAreBounded(t *testing.T) {
	base := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})
	h := newHedge(t, hedge.Config{})
	rt := h.Transport(base)
	for i := range 2000 {
		req := request(t, t.Context(), "GET", nil)
		for _, host := range []string{"often.test", fmt.Sprintf("host%d.test", i)} {
			req.URL.Host = host
			_, err := rt.RoundTrip(req)
			require.NoError(t, err)
		}
	}
	req := request(t, t.Context(), "GET", nil)
	req.URL.Host = "often.test"
	_, err := rt.RoundTrip(req)
	require.NoError(t, err)
	assert.Positive(t, h.Snapshot().Delay, "that of the host in use is kept")
	assert.LessOrEqual(t, hedge.Hosts(h), 256)
}

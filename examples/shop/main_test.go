package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// running is the shop with its three APIs on loopback. The first answer of the catalog is
// a failure.
type running struct {
	payments atomic.Int32 // that were made
	address  string
	stop     context.CancelFunc
	ended    chan error
}

func start(t *testing.T, pay http.HandlerFunc) *running {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	api := func(handler http.HandlerFunc) string {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return server.URL
	}
	var lookups atomic.Int32
	catalog := api(func(w http.ResponseWriter, _ *http.Request) {
		if lookups.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, `{"price": 7}`)
	})
	stock := api(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"left": 1}`) })
	r := &running{ended: make(chan error, 1)}
	payments := api(func(w http.ResponseWriter, req *http.Request) {
		if pay == nil {
			w.WriteHeader(http.StatusTooManyRequests) // before it is made
			return
		}
		r.payments.Add(1)
		pay(w, req)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var ctx context.Context
	ctx, r.stop = context.WithCancel(t.Context())
	t.Cleanup(r.stop)
	r.address = "http://" + listener.Addr().String()
	go func() { r.ended <- run(ctx, listener, catalog, stock, payments) }()
	return r
}

func (r *running) do(t *testing.T, method, path string) (int, string) {
	req, err := http.NewRequestWithContext(t.Context(), method, r.address+path, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// A customer pays once, and learns what became of it: also where the answer to the payment
// is cut off, and nothing is known.
func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		pay      http.HandlerFunc
		status   int
		body     string
		payments int32
	}{
		"paid":     {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"receipt": 1}`) }, 200, `{"receipt": 1}`, 1},
		"declined": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(402) }, 402, "declined", 1},
		"cut":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 202, "we check", 1},
		"half a body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"receipt"`)
		}, 202, "we check", 1},
		"a proxy's 503": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 202, "we check", 1},
		"refused":       {nil, 503, "nothing was paid", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, c.pay)
			status, body := r.do(t, "POST", "/order/7")
			assert.Equal(t, c.status, status)
			assert.Contains(t, body, c.body)
			assert.Equal(t, c.payments, r.payments.Load())
			_, page := r.do(t, "GET", "/debug/retry?format=json")
			_, metrics := r.do(t, "GET", "/metrics")
			for _, api := range []string{"catalog", "stock", "payments"} {
				assert.Contains(t, page, api)
				assert.Regexp(t, `retry_calls_total\{.*name="`+api+`"`, metrics)
			}
			r.stop()
			assert.NoError(t, <-r.ended)
		})
	}
}

// A payment in flight when the service stops is finished, and its customer gets the receipt.
func TestShutdown(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	r := start(t, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		io.WriteString(w, `{"receipt": 1}`)
	})
	answered := make(chan int, 1)
	go func() {
		resp, err := http.Post(r.address+"/order/7", "", nil)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-begun
	r.stop()
	close(finish)
	assert.Equal(t, 200, <-answered)
	assert.NoError(t, <-r.ended)
	assert.EqualValues(t, 1, r.payments.Load())
}

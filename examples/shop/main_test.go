package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
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
		"paid":          {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"receipt": 1}`) }, 200, `{"receipt": 1}`, 1},
		"declined":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(402) }, 402, "declined", 1},
		"a changed key": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, 500, "nothing was paid", 1},
		"cut":           {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 202, "we check", 1},
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

// The same APIs in a script, without a network and without a wait: the payment reaches its
// server, and the answer is lost.
func TestOrder_Scripted(t *testing.T) {
	for name, c := range map[string]struct {
		payment    retrytest.Answer
		status     int
		retryAfter string
	}{
		"lost":                                   {retrytest.Lost(), 202, ""},
		"the key was changed":                    {retrytest.Status(401, ""), 500, ""},
		"busy for longer than an order may take": {retrytest.TooManyRequests(20 * time.Second), 503, "20"},
	} {
		t.Run(name, func(t *testing.T) {
			waits, err := retrytest.Bubble(t, retry.Config{Jitter: retry.NoJitter}, func(t *testing.T, cfg retry.Config) error {
				apis := retrytest.NewScript(t)
				apis.On("GET catalog/items/7", retrytest.Status(503, ""), retrytest.JSON(item{Price: 7}))
				apis.On("GET stock/stock/7", retrytest.JSON(item{Left: 1}))
				apis.On("POST payments/payments", c.payment) // a second one would fail the test
				shop, err := newShop(apis.Client(), cfg, "http://catalog", "http://stock", "http://payments")
				require.NoError(t, err)
				order, answer := httptest.NewRequestWithContext(t.Context(), "POST", "/order/7", nil), httptest.NewRecorder()
				order.SetPathValue("item", "7")
				shop.ServeHTTP(answer, order)
				assert.Equal(t, c.status, answer.Code)
				assert.Equal(t, c.retryAfter, answer.Header().Get("Retry-After"))
				return nil
			})
			require.NoError(t, err)
			assert.Len(t, waits, 1, "of the catalog")
		})
	}
}

// A breaker that is open, and a pause of a host, say when to come again.
func TestUnavailable(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"open":    {&retry.Error{Err: &retry.OpenError{RetryAfter: 1500 * time.Millisecond}}, "2"},
		"paused":  {&retry.PauseError{RetryAfter: time.Minute}, "60"},
		"of two":  {errors.Join(&retry.StatusError{StatusCode: 404}, &retry.PauseError{RetryAfter: time.Minute}), "60"},
		"unknown": {errors.New("no connection"), ""},
		"sold":    {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := httptest.NewRecorder()
			unavailable(answer, "later", c.err)
			assert.Equal(t, 503, answer.Code)
			assert.Equal(t, c.want, answer.Header().Get("Retry-After"))
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

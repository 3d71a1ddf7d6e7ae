package hedge_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/hedge"
)

const (
	late = 20 * time.Millisecond // the delay of the tests, where it is given
	slow = 300 * time.Millisecond
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// backend is a base transport whose answers take time, in a bubble.
type backend struct {
	answer func(n int64, req *http.Request) (*http.Response, error) // n counts from 1

	requests atomic.Int64
	underway atomic.Int64
	bodies   atomic.Int64 // that are open
	drained  atomic.Int64
}

func (b *backend) RoundTrip(req *http.Request) (*http.Response, error) {
	b.underway.Add(1)
	defer b.underway.Add(-1)
	if req.Body != nil {
		defer req.Body.Close()
	}
	resp, err := b.answer(b.requests.Add(1), req)
	if resp != nil && resp.Body == nil {
		resp.Body = b.body(strings.NewReader("body"))
	}
	return resp, err
}

func (b *backend) body(r io.Reader) io.ReadCloser {
	b.bodies.Add(1)
	return &openBody{Reader: r, b: b}
}

type openBody struct {
	io.Reader
	b      *backend
	closed atomic.Bool
}

func (o *openBody) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	if err == io.EOF {
		o.b.drained.Add(1)
	}
	return n, err
}

func (o *openBody) Close() error {
	if !o.closed.Swap(true) {
		o.b.bodies.Add(-1)
	}
	return nil
}

// after answers a request when some time has passed, unless it is cancelled before.
func after(req *http.Request, d time.Duration, status int) (*http.Response, error) {
	select {
	case <-time.After(d):
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Request: req}, nil
}

func newHedge(t testing.TB, cfg hedge.Config) *hedge.Hedge {
	t.Helper()
	h, err := hedge.New(cfg)
	require.NoError(t, err)
	return h
}

func newBudget(t testing.TB, ratio float64, burst int) *retry.Budget {
	t.Helper()
	b, err := retry.NewBudget(ratio, burst)
	require.NoError(t, err)
	return b
}

func request(t testing.TB, ctx context.Context, method string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://host.test/", body)
	require.NoError(t, err)
	return req
}

// send makes a GET, reads its answer, and returns its status and how long that took.
func send(t testing.TB, rt http.RoundTripper) (int, time.Duration) {
	t.Helper()
	began := time.Now()
	resp, err := rt.RoundTrip(request(t, context.Background(), http.MethodGet, nil))
	require.NoError(t, err)
	took := time.Since(began)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "body", string(text))
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, took
}

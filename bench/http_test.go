package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/smithy-go/middleware"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/retryutils/retry"
	"resty.dev/v3"
)

const (
	answer  = `{"status":"ok"}`
	refusal = "try again later"
	retries = 2
)

var payload = bytes.Repeat([]byte("x"), 1024)

// exchange is one kind of HTTP call.
type exchange struct {
	method  string
	body    []byte
	refused int // so many answers of 503 before one of 200
}

var (
	get   = exchange{method: http.MethodGet}
	post  = exchange{method: http.MethodPost, body: payload}
	again = exchange{method: http.MethodGet, refused: retries}
)

func BenchmarkMemoryGet(b *testing.B)   { measureMemory(b, get, clients()) }
func BenchmarkMemoryPost(b *testing.B)  { measureMemory(b, post, append(clients(), keyed)) }
func BenchmarkMemoryRetry(b *testing.B) { measureMemory(b, again, retrying()) }

func BenchmarkLoopbackGet(b *testing.B)   { measureLoopback(b, get, clients()) }
func BenchmarkLoopbackPost(b *testing.B)  { measureLoopback(b, post, clients()) }
func BenchmarkLoopbackRetry(b *testing.B) { measureLoopback(b, again, retrying()) }

// client is one way to make HTTP calls that are retried twice after a
// nanosecond. It has one of two forms: something that is called with a request,
// or an http.RoundTripper beneath an http.Client.
type client struct {
	kind, name string
	build      func(base http.RoundTripper) doer
	leaks      bool // leaves the bodies of refused attempts open
}

// doer makes one call, and returns the answer with its body open.
type doer func(method, url string, body []byte) (status int, answer io.ReadCloser, err error)

func clients() []client {
	return []client{
		{kind: floor, name: plainName, build: plainClient},
		{kind: ours, name: "client: RetryableClient", build: func(base http.RoundTripper) doer { return ourClient(base) }},
		{kind: ours, name: "round tripper: Transport", build: func(base http.RoundTripper) doer { return ourTransport(base) }},
		{kind: peer, name: "client: retryablehttp Client", build: retryablehttpClient},
		{kind: peer, name: "client: failsafehttp Request", build: failsafeRequest, leaks: true},
		{kind: peer, name: "client: resty v3", build: restyClient},
		{kind: peer, name: "client: AWS SDK retry middleware over http.Client", build: awsClient},
		{kind: peer, name: "round tripper: retryablehttp StandardClient", build: retryablehttpStandard},
		{kind: peer, name: "round tripper: failsafehttp", build: failsafeTripper, leaks: true},
	}
}

const plainName = "plain http.Client"

// keyed is a plain client that sends an Idempotency-Key, as RetryableClient does with a
// POST.
var keyed = client{kind: floor, name: "plain http.Client with an Idempotency-Key", build: func(base http.RoundTripper) doer {
	c := &http.Client{Transport: base}
	return func(method, url string, body []byte) (int, io.ReadCloser, error) {
		req, err := newRequest(method, url, body)
		if err != nil {
			return 0, nil, err
		}
		req.Header.Set("Idempotency-Key", rand.Text())
		resp, err := c.Do(req)
		if err != nil {
			return 0, nil, err
		}
		return resp.StatusCode, resp.Body, nil
	}
}}

// retrying are the clients where a server refuses two requests of three. Ours share no
// pause there: no peer does, and by default the gate would space the calls by
// milliseconds, since the server refuses most of them.
func retrying() []client {
	clients := clients()
	for i, c := range clients {
		switch c.name {
		case "client: RetryableClient":
			clients[i].build = func(base http.RoundTripper) doer { return ourClient(base, retry.NoSharedPause()) }
		case "round tripper: Transport":
			clients[i].build = func(base http.RoundTripper) doer { return ourTransport(base, retry.NoSharedPause()) }
		}
	}
	return append(clients,
		client{kind: floor, name: "hand-written loop over http.Client", build: func(base http.RoundTripper) doer { return clientByHand(base, false) }},
		client{kind: floor, name: "hand-written loop over http.Client with time.NewTimer", build: func(base http.RoundTripper) doer { return clientByHand(base, true) }},
	)
}

// call makes a call and reads its answer, as every caller must.
func (x exchange) call(tb testing.TB, do doer, url string, buf []byte) {
	status, body, err := do(x.method, url, x.body)
	if err != nil {
		tb.Fatal(err)
	}
	n := 0
	for err == nil {
		var more int
		more, err = body.Read(buf)
		n += more
	}
	body.Close()
	if status != http.StatusOK || err != io.EOF || n != len(answer) {
		tb.Fatalf("the answer has status %d, %d bytes, and ended with %v", status, n, err)
	}
}

func measureMemory(b *testing.B, x exchange, group []client) {
	for _, c := range group {
		if x.refused > 0 && c.name == plainName {
			continue // it does not retry
		}
		b.Run(c.kind+"/"+c.name, func(b *testing.B) {
			server := &memory{exchange: x}
			do, buf := c.build(server), make([]byte, 512)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				x.call(b, do, "http://bench.example/items/1?page=2", buf)
			}
			b.StopTimer()
			if server.requests != b.N*(x.refused+1) {
				b.Fatalf("%d calls made %d requests, want %d for each", b.N, server.requests, x.refused+1)
			}
			if x.refused > 0 {
				b.ReportMetric(float64(server.open)/float64(b.N), "open-bodies/op")
			}
			if server.open != 0 && !c.leaks {
				b.Fatalf("%d bodies were left open", server.open)
			}
		})
	}
}

// memory is a RoundTripper that is the server as well. It serves one call after
// the other.
type memory struct {
	exchange
	streak   int
	requests int
	open     int // bodies of answers
	buf      [2048]byte
}

var errBody = errors.New("the request's body is not what was sent")

func (m *memory) RoundTrip(req *http.Request) (*http.Response, error) {
	m.requests++
	received := 0
	if req.Body != nil {
		for {
			n, err := req.Body.Read(m.buf[:])
			received += n
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, err
			}
		}
		req.Body.Close()
	}
	if received != len(m.body) || req.Method != m.method {
		return nil, errBody
	}
	m.open++
	if m.streak < m.refused {
		m.streak++
		return m.respond(req, http.StatusServiceUnavailable, "503 Service Unavailable", refusal), nil
	}
	m.streak = 0
	return m.respond(req, http.StatusOK, "200 OK", answer), nil
}

func (m *memory) respond(req *http.Request, code int, status, body string) *http.Response {
	return &http.Response{
		StatusCode: code, Status: status, Request: req,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{},
		ContentLength: int64(len(body)),
		Body:          &memoryBody{left: body, server: m},
	}
}

type memoryBody struct {
	left   string
	server *memory
	closed bool
}

func (b *memoryBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	n := copy(p, b.left)
	if b.left = b.left[n:]; b.left == "" {
		return n, io.EOF
	}
	return n, nil
}

func (b *memoryBody) Close() error {
	if !b.closed {
		b.closed = true
		b.server.open--
	}
	return nil
}

// loopback is a server on the loopback interface, with a transport for each who
// asks.
type loopback struct {
	*httptest.Server
	requests atomic.Int64
	bad      atomic.Int64 // requests with a wrong body
}

func newLoopback(b *testing.B, x exchange) *loopback {
	l := new(loopback)
	streak := 0 // the calls come one after the other
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.requests.Add(1)
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n != int64(len(x.body)) || r.Method != x.method {
			l.bad.Add(1)
		}
		if streak < x.refused {
			streak++
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, refusal)
			return
		}
		streak = 0
		io.WriteString(w, answer)
	}))
	b.Cleanup(l.Close)
	return l
}

func (l *loopback) transport(b *testing.B) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	b.Cleanup(transport.CloseIdleConnections)
	return transport
}

func (l *loopback) check(b *testing.B, want int) {
	if got := int(l.requests.Load()); got != want || l.bad.Load() != 0 {
		b.Fatalf("the server saw %d requests, %d of them bad, want %d", got, l.bad.Load(), want)
	}
}

func measureLoopback(b *testing.B, x exchange, group []client) {
	for _, c := range group {
		if x.refused > 0 && (c.leaks || c.name == plainName) {
			continue // each body left open costs a connection: they would run out
		}
		b.Run(c.kind+"/"+c.name, func(b *testing.B) {
			server := newLoopback(b, x)
			do, buf := c.build(server.transport(b)), make([]byte, 512)
			x.call(b, do, server.URL, buf) // connects
			server.requests.Store(0)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				x.call(b, do, server.URL, buf)
			}
			b.StopTimer()
			server.check(b, b.N*(x.refused+1))
		})
	}
}

// BenchmarkLoopbackPaired makes calls by turns, with the plain client twice, to
// distinguish a difference from noise.
func BenchmarkLoopbackPaired(b *testing.B) {
	for _, x := range []exchange{get, post} {
		b.Run(x.method, func(b *testing.B) {
			server := newLoopback(b, x)
			turns := []struct {
				name string
				do   doer
				took []time.Duration
			}{
				{name: "plain", do: plainClient(server.transport(b))},
				{name: "control", do: plainClient(server.transport(b))},
				{name: "keyed", do: keyed.build(server.transport(b))},
				{name: "client", do: ourClient(server.transport(b))},
				{name: "tripper", do: ourTransport(server.transport(b))},
			}
			buf := make([]byte, 512)
			for _, t := range turns {
				x.call(b, t.do, server.URL, buf)
			}
			server.requests.Store(0)
			b.ResetTimer()
			for i := range b.N {
				for j := range turns {
					t := &turns[(i+j)%len(turns)] // none always comes after the same
					begun := time.Now()
					x.call(b, t.do, server.URL, buf)
					t.took = append(t.took, time.Since(begun))
				}
			}
			b.StopTimer()
			server.check(b, b.N*len(turns))
			for _, t := range turns {
				slices.Sort(t.took)
				b.ReportMetric(float64(t.took[len(t.took)/2]), t.name+"-ns")
			}
		})
	}
}

// newRequest is net/http's, with no body rather than an empty one.
func newRequest(method, url string, body []byte) (*http.Request, error) {
	if body == nil {
		return http.NewRequestWithContext(background, method, url, nil)
	}
	return http.NewRequestWithContext(background, method, url, bytes.NewReader(body))
}

func doPlain(c *http.Client) doer {
	return func(method, url string, body []byte) (int, io.ReadCloser, error) {
		req, err := newRequest(method, url, body)
		if err != nil {
			return 0, nil, err
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0, nil, err
		}
		return resp.StatusCode, resp.Body, nil
	}
}

func plainClient(base http.RoundTripper) doer { return doPlain(&http.Client{Transport: base}) }

// clientByHand repeats a request until its status is not 503.
func clientByHand(base http.RoundTripper, timer bool) doer {
	c := &http.Client{Transport: base}
	return func(method, url string, body []byte) (int, io.ReadCloser, error) {
		for attempt := 0; ; attempt++ {
			status, answer, err := doPlain(c)(method, url, body)
			if err != nil || status != http.StatusServiceUnavailable || attempt == retries {
				return status, answer, err
			}
			drain(answer)
			if timer {
				select {
				case <-time.NewTimer(tick).C:
				case <-background.Done():
				}
			}
		}
	}
}

func drain(body io.ReadCloser) {
	io.CopyN(io.Discard, body, 4096)
	body.Close()
}

func ourClient(base http.RoundTripper, opts ...retry.Option) doer {
	c, err := retry.NewRetryableClient(&http.Client{Transport: base}, plain(retries, tick), opts...)
	if err != nil {
		panic(err)
	}
	return func(method, url string, body []byte) (int, io.ReadCloser, error) {
		req, err := newRequest(method, url, body)
		if err != nil {
			return 0, nil, err
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0, nil, err
		}
		return resp.StatusCode, resp.Body, nil
	}
}

func ourTransport(base http.RoundTripper, opts ...retry.Option) doer {
	t, err := retry.NewTransport(base, plain(retries, tick), opts...)
	if err != nil {
		panic(err)
	}
	return plainClient(t)
}

func newRetryablehttp(base http.RoundTripper) *retryablehttp.Client {
	c := retryablehttp.NewClient()
	c.HTTPClient = &http.Client{Transport: base}
	c.Logger = nil
	c.RetryMax = retries
	c.Backoff = func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return tick }
	return c
}

func retryablehttpClient(base http.RoundTripper) doer {
	c := newRetryablehttp(base)
	return func(method, url string, body []byte) (int, io.ReadCloser, error) {
		var raw any
		if body != nil {
			raw = body // its own kind of body, which it need not read ahead
		}
		req, err := retryablehttp.NewRequestWithContext(background, method, url, raw)
		if err != nil {
			return 0, nil, err
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0, nil, err
		}
		return resp.StatusCode, resp.Body, nil
	}
}

func retryablehttpStandard(base http.RoundTripper) doer {
	return doPlain(newRetryablehttp(base).StandardClient())
}

func failsafehttpExecutor() failsafe.Executor[*http.Response] {
	return failsafe.With(failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(retries).WithDelay(tick).Build())
}

func failsafeTripper(base http.RoundTripper) doer {
	return plainClient(failsafehttp.NewRoundTripperWithExecutor(base, failsafehttpExecutor()))
}

func failsafeRequest(base http.RoundTripper) doer {
	c, executor := &http.Client{Transport: base}, failsafehttpExecutor()
	return func(method, url string, body []byte) (int, io.ReadCloser, error) {
		req, err := newRequest(method, url, body)
		if err != nil {
			return 0, nil, err
		}
		resp, err := failsafehttp.NewRequestWithExecutor(req, c, executor).Do()
		if err != nil {
			return 0, nil, err
		}
		return resp.StatusCode, resp.Body, nil
	}
}

func restyClient(base http.RoundTripper) doer {
	c := resty.NewWithClient(&http.Client{Transport: base}).
		SetRetryCount(retries).SetRetryWaitTime(tick).SetRetryMaxWaitTime(tick).
		SetRetryDelayStrategy(resty.RetryConstantDelayStrategy(tick)).
		SetRetryAllowNonIdempotent(true).
		AddRetryConditions(resty.RetryConditionStatus5XX)
	return func(method, url string, body []byte) (int, io.ReadCloser, error) {
		req := c.R().SetContext(background)
		if body != nil {
			req.SetBody(body)
		}
		resp, err := req.Execute(method, url)
		if err != nil {
			return 0, nil, err
		}
		return resp.StatusCode(), resp.Body, nil
	}
}

var errRefused = errors.New("refused")

// awsClient is what the SDK's middleware comes to without the rest of the SDK.
func awsClient(base http.RoundTripper) doer {
	c := &http.Client{Transport: base}
	send := middleware.FinalizeHandlerFunc(func(_ context.Context, in middleware.FinalizeInput) (
		out middleware.FinalizeOutput, md middleware.Metadata, err error) {
		resp, err := c.Do(in.Request.(*http.Request))
		if err == nil && resp.StatusCode >= 500 {
			drain(resp.Body)
			err = errRefused
		}
		out.Result = resp
		return out, md, err
	})
	clone := func(r any) any {
		req := r.(*http.Request)
		copy := req.Clone(req.Context())
		if req.GetBody != nil {
			copy.Body, _ = req.GetBody()
		}
		return copy
	}
	attempts := awsAttempts(retries, tick, func(err error) bool { return err == errRefused }, clone)
	return func(method, url string, body []byte) (int, io.ReadCloser, error) {
		req, err := newRequest(method, url, body)
		if err != nil {
			return 0, nil, err
		}
		out, _, err := attempts.HandleFinalize(background, middleware.FinalizeInput{Request: req}, send)
		if err != nil {
			return 0, nil, err
		}
		resp := out.Result.(*http.Response)
		return resp.StatusCode, resp.Body, nil
	}
}

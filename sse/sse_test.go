package sse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
	"github.com/retryutils/retry/sse"
)

var soon = retry.Config{Backoff: retry.ConstantBackoff(time.Millisecond), MaxRetries: 3, Jitter: retry.NoJitter}

// answer is what the played server gives to one connection.
type answer struct {
	status  int    // 0: 200
	kind    string // "": text/event-stream
	text    string
	end     error // of the body; nil: a clean end
	err     error // instead of a response
	headers http.Header
	pause   time.Duration // before the end
}

var errCut = fmt.Errorf("read: %w", io.ErrUnexpectedEOF)

// played gives its answers one after the other, and the last one again and again.
type played struct {
	answers []answer
	ids     []string // Last-Event-ID of each request
	bodies  []string
	open    int
}

func (p *played) RoundTrip(req *http.Request) (*http.Response, error) {
	a := p.answers[min(len(p.ids), len(p.answers)-1)]
	p.ids = append(p.ids, req.Header.Get("Last-Event-ID"))
	if req.Body != nil {
		text, _ := io.ReadAll(req.Body)
		req.Body.Close()
		p.bodies = append(p.bodies, string(text))
	}
	if a.err != nil {
		return nil, a.err
	}
	resp := &http.Response{StatusCode: max(200, a.status), ProtoMajor: 2, ContentLength: -1, Header: http.Header{}, Request: req}
	for name, values := range a.headers {
		resp.Header[name] = values
	}
	if a.kind == "" {
		a.kind = "text/event-stream"
	}
	resp.Header.Set("Content-Type", a.kind)
	p.open++
	resp.Body = &playedBody{Reader: io.MultiReader(strings.NewReader(a.text), ending{req.Context(), a.pause, a.end}), p: p}
	return resp, nil
}

type playedBody struct {
	io.Reader
	p      *played
	closed bool
}

func (b *playedBody) Close() error {
	if !b.closed {
		b.p.open--
	}
	b.closed = true
	return nil
}

type ending struct {
	ctx   context.Context
	pause time.Duration
	err   error
}

func (e ending) Read([]byte) (int, error) {
	select {
	case <-time.After(e.pause):
	case <-e.ctx.Done():
		return 0, e.ctx.Err()
	}
	if e.err == nil {
		return 0, io.EOF
	}
	return 0, e.err
}

func clientOf(t testing.TB, base http.RoundTripper, cfg retry.Config, opts ...retry.Option) *retry.RetryableClient {
	t.Helper()
	cfg.Jitter = retry.NoJitter
	client, err := retry.NewRetryableClient(&http.Client{Transport: base, Timeout: 30 * time.Second}, cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func requestOf(t testing.TB, ctx context.Context, method, url, body string) *http.Request {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, reader)
	require.NoError(t, err)
	return req
}

// collect reads at most so many events; 0 means all.
func collect(events iter.Seq2[sse.Event, error], most int) (text []string, last error) {
	for event, err := range events {
		if err != nil {
			return text, err
		}
		text = append(text, string(event.Data))
		if len(text) == most {
			break
		}
	}
	return text, nil
}

// play runs a stream in a bubble, and returns what came of it and how long it took.
func play(t *testing.T, p *played, cfg retry.Config, method string, most int, opts ...sse.Option) (text []string, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		body := ""
		if method == http.MethodPost {
			body = "question"
		}
		req := requestOf(t, t.Context(), method, "http://user:hunter2@feed.example/events?token=secret", body)
		text, err = collect(sse.Stream(clientOf(t, p, cfg), req, opts...), most)
		took = time.Since(began)
	})
	assert.Zero(t, p.open, "bodies that were left open")
	if err != nil {
		assert.NotContains(t, err.Error(), "secret")
		assert.NotContains(t, err.Error(), "hunter2")
	}
	return text, took, err
}

// A feed that is cut, or ended by its server, goes on with the last ID, after the
// server's reconnection time, and 204 is its end.
func TestFeed(t *testing.T) {
	p := &played{answers: []answer{
		{text: "retry: 3000\nid: 1 a\ndata: a\n\ndata: b\n\nid: 2\ndata: lost", end: errCut},
		{text: "id: 2\ndata: c\n\nid\ndata: d\n\n"},
		{text: "id: 4\n\ndata: x", end: errCut}, // an ID without data is one, too
		{text: "data: e\n\n"},
		{status: 204},
	}}
	text, took, err := play(t, p, retry.Config{}, http.MethodGet, 0)
	assert.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "c", "d", "e"}, text)
	assert.Equal(t, []string{"", "1 a", "", "4", "4"}, p.ids)
	assert.Equal(t, 12*time.Second, took)
}

// The wait is the longer of the reconnection time and the backoff, also where the server
// cannot be reached when it is over; an ID in the request is where the feed begins; one
// with control characters, which net/http does not send, leaves the one before.
func TestFeed_Waits(t *testing.T) {
	p := &played{answers: []answer{
		{text: "retry: 500\nid: \x01\ndata: a\n\n", end: errCut},
		{text: "retry: 5000\n: comment\n", end: errCut},
		{err: &net.OpError{Op: "dial", Err: errors.New("refused")}},
		{status: 503},
		{text: "data: b\n\n"},
	}}
	synctest.Test(t, func(t *testing.T) {
		cfg, waits := retrytest.Record(retry.Config{Jitter: retry.NoJitter})
		req := requestOf(t, t.Context(), http.MethodGet, "http://feed.example", "")
		req.Header.Set("Last-Event-ID", "start")
		text, err := collect(sse.Stream(clientOf(t, p, cfg), req), 2)
		assert.NoError(t, err)
		assert.Equal(t, []string{"a", "b"}, text)
		assert.Equal(t, "1s backoff, 5s retry-after, 5s retry-after, 5s retry-after", waits().String())
		assert.Equal(t, []string{"start", "start", "start", "start", "start"}, p.ids)
		assert.Equal(t, "start", req.Header.Get("Last-Event-ID"), "the caller's request is not changed")
	})
}

// A quiet feed whose connections a proxy ends every minute lives, if it sends comments
// or nothing at all; one whose connections break without a byte does not.
func TestFeed_Quiet(t *testing.T) {
	for name, test := range map[string]struct {
		answer answer
		lives  bool
	}{
		"comments, then a cut": {answer{text: ":\n", end: errCut, pause: time.Minute}, true},
		"clean ends":           {answer{pause: time.Minute}, true},
		"cuts":                 {answer{end: errCut, pause: time.Minute}, false},
		"half an event":        {answer{text: "id: 1\ndata: x\n", end: errCut, pause: time.Minute}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &played{}
			for range 50 {
				p.answers = append(p.answers, test.answer)
			}
			p.answers = append(p.answers, answer{text: "data: news\n\n"}, answer{status: 204})
			text, _, err := play(t, p, retry.Config{}, http.MethodGet, 0)
			if test.lives {
				assert.NoError(t, err)
				assert.Equal(t, []string{"news"}, text)
				return
			}
			assert.ErrorIs(t, err, retry.ErrMaxRetries)
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
			assert.Len(t, p.ids, 6)
		})
	}
}

// The loop's limits end a feed: no retries, a reconnection time beyond MaxRetryAfter,
// MaxElapsed, a breaker, a status that is not retried, a response of another kind.
func TestFeed_Ends(t *testing.T) {
	for name, test := range map[string]struct {
		cfg     retry.Config
		answers []answer
		want    any
		text    string
	}{
		"no retries":   {retry.Config{MaxRetries: retry.NoRetries}, []answer{{text: "data: a\n\n"}}, retry.ErrMaxRetries, `retry: http://feed.example: no retries left after 1 attempt: Get "http://feed.example/events": event stream at byte 9: the server ended it`},
		"too long":     {retry.Config{}, []answer{{text: "retry: 300001\ndata: a\n\n"}}, retry.ErrRetryAfterTooLong, ""},
		"absurd":       {retry.Config{}, []answer{{text: "retry: 99999999999999999999\ndata: a\n\n"}}, retry.ErrRetryAfterTooLong, ""},
		"elapsed":      {retry.Config{MaxElapsed: 10 * time.Second}, []answer{{text: "data: a\n\n"}}, retry.ErrMaxElapsed, ""},
		"status":       {retry.Config{}, []answer{{status: 404}}, new(*retry.StatusError), ""},
		"content type": {retry.Config{}, []answer{{kind: "text/html; charset=utf-8", text: "data: a\n\n"}}, new(*url.Error), `Get "http://feed.example/events": content type is "text/html", want "text/event-stream"`},
		"not 200":      {retry.Config{}, []answer{{status: 206}}, new(*url.Error), `Get "http://feed.example/events": status is 206, want 200`},
		"encoding":     {retry.Config{}, []answer{{headers: http.Header{"Content-Encoding": {"gzip"}}}}, new(*url.Error), `Get "http://feed.example/events": content encoding is "gzip", want none`},
		"too large":    {retry.Config{}, []answer{{text: "data: a\n\ndata: " + strings.Repeat("x", 2000)}}, new(*url.Error), `Get "http://feed.example/events": event at byte 9 of the stream is longer than 1000 bytes (MaxEvent)`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := play(t, &played{answers: test.answers}, test.cfg, http.MethodGet, 0, sse.MaxEvent(1000))
			if target, ok := test.want.(error); ok {
				assert.ErrorIs(t, err, target)
			} else {
				assert.ErrorAs(t, err, test.want)
			}
			if test.text != "" {
				assert.EqualError(t, err, test.text)
			}
		})
	}
}

// A feed that its server ends and asks to be asked for again is in order; one that breaks
// off without a word counts for the breaker.
func TestFeed_Breaker(t *testing.T) {
	for text, failures := range map[string]int{"": 2, "retry: 0\n": 2, "retry: 1\n": 0} {
		breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
		require.NoError(t, err)
		p := &played{answers: []answer{{text: text, end: errCut}, {text: text, end: errCut}, {text: "data: a\n\n", pause: time.Hour}}}
		synctest.Test(t, func(t *testing.T) {
			req := requestOf(t, t.Context(), http.MethodGet, "http://feed.example/", "")
			for range sse.Stream(clientOf(t, p, retry.Config{Breaker: breaker}), req) {
				assert.Equal(t, failures, breaker.Snapshot().ConsecutiveFailures, "%q", text)
				break
			}
		})
	}
}

// Without a limit an event is as large as it is.
func TestNoMaxEvent(t *testing.T) {
	large := strings.Repeat("x", 2000)
	for most, fits := range map[int64]bool{0: true, 1000: false} {
		p := &played{answers: []answer{{text: "data: " + large + "\n\n"}}}
		text, _, err := play(t, p, retry.Config{}, http.MethodGet, 1, sse.MaxEvent(most))
		assert.Equal(t, fits, err == nil, "%v", err)
		assert.Equal(t, fits, len(text) == 1)
	}
}

// The content type may have parameters, and any case.
func TestFeed_ContentType(t *testing.T) {
	for _, kind := range []string{"text/event-stream;charset=utf-8", "Text/Event-Stream", "text/event-stream ; x", "text/event-stream; charset"} {
		_, _, err := play(t, &played{answers: []answer{{kind: kind, text: "data: a\n\n"}}}, retry.Config{}, http.MethodGet, 1)
		assert.NoError(t, err, kind)
	}
}

// A request that says nothing asks for events, uncompressed and from no cache; one that
// says something is left as it is.
func TestRequestHeaders(t *testing.T) {
	for own, want := range map[string]string{"": "text/event-stream", "text/event-stream, application/json": "text/event-stream, application/json"} {
		var sent http.Header
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			sent = req.Header.Clone()
			return &http.Response{StatusCode: http.StatusNoContent, ProtoMajor: 2, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		})
		req := requestOf(t, t.Context(), http.MethodGet, "http://feed.example/events", "")
		if own != "" {
			req.Header.Set("Accept", own)
		}
		_, err := collect(sse.Stream(clientOf(t, base, soon), req), 0)
		assert.NoError(t, err)
		assert.Equal(t, want, sent.Get("Accept"))
		assert.Equal(t, "identity", sent.Get("Accept-Encoding"))
		assert.Equal(t, "no-cache", sent.Get("Cache-Control"))
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A POST is asked again until the first event came; then it is not, whatever
// WithIdempotent says, and the error says so. Its clean end is the end.
func TestPost(t *testing.T) {
	for name, test := range map[string]struct {
		answers  []answer
		want     []string
		requests int
		err      error
	}{
		"whole":                  {[]answer{{text: "data: a\n\ndata: b\n\n"}}, []string{"a", "b"}, 1, nil},
		"nothing":                {[]answer{{}}, nil, 1, nil},
		"refused, cut, whole":    {[]answer{{status: 503}, {end: errCut}, {text: ": wait\n", end: errCut}, {text: "data: a\n\n"}}, []string{"a"}, 4, nil},
		"refused, then cut":      {[]answer{{status: 503}, {text: "data: a\n\n", end: errCut}}, []string{"a"}, 2, retry.ErrNotIdempotent},
		"cut after an event":     {[]answer{{text: "data: a\n\ndata: b", end: errCut}}, []string{"a"}, 1, retry.ErrNotIdempotent},
		"comments, but no event": {[]answer{{text: ":\n", end: errCut}}, nil, 4, retry.ErrMaxRetries},
	} {
		for _, idempotent := range []string{"", "yes", "no"} {
			t.Run(name+idempotent, func(t *testing.T) {
				p := &played{answers: test.answers}
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					if idempotent != "" {
						ctx = retry.WithIdempotent(ctx, idempotent == "yes")
					}
					text, err := collect(sse.Stream(clientOf(t, p, soon), requestOf(t, ctx, http.MethodPost, "http://model.example/", "question")), 0)
					if idempotent == "no" && test.requests > 1 {
						assert.ErrorIs(t, err, retry.ErrNotIdempotent)
						return
					}
					assert.Equal(t, test.want, text)
					assert.ErrorIs(t, err, test.err)
					if test.err != nil {
						assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
						var gaveUp *retry.Error
						require.ErrorAs(t, err, &gaveUp)
						assert.Equal(t, test.requests, gaveUp.Attempts)
					}
					assert.Len(t, p.ids, test.requests)
					for _, body := range p.bodies {
						assert.Equal(t, "question", body)
					}
				})
				assert.Zero(t, p.open)
			})
		}
	}
}

// An overload that is reported in the first event is retried by the rule of
// CheckResponse, and never seen by the loop.
func TestPost_Overloaded(t *testing.T) {
	p := &played{answers: []answer{
		{text: "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"},
		{text: "data: a\n\n"},
	}}
	check := func(resp *http.Response) error {
		begin := make([]byte, 200)
		n, err := resp.Body.Read(begin)
		if bytes.Contains(begin[:n], []byte("overloaded_error")) {
			return errors.New("overloaded")
		}
		if err == io.EOF {
			err = nil
		}
		return err
	}
	text, err := collect(sse.Stream(clientOf(t, p, soon, retry.CheckResponse(check)), requestOf(t, t.Context(), http.MethodPost, "http://model.example/", "q")), 0)
	assert.NoError(t, err)
	assert.Equal(t, []string{"a"}, text)
	assert.Len(t, p.ids, 2)
}

// A body that can be read only once is sent once; one with a GetBody again, and so is
// the whole stream.
func TestPost_Bodies(t *testing.T) {
	p := &played{answers: []answer{{end: errCut}, {text: "data: a\n\n"}}}
	req := requestOf(t, t.Context(), http.MethodPost, "http://model.example/", "q")
	events := sse.Stream(clientOf(t, p, soon), req)
	for range 2 {
		text, err := collect(events, 0)
		assert.NoError(t, err)
		assert.Equal(t, []string{"a"}, text)
	}
	assert.Equal(t, []string{"q", "q", "q"}, p.bodies)

	p = &played{answers: []answer{{end: errCut}}}
	req = requestOf(t, t.Context(), http.MethodPost, "http://model.example/", "q")
	req.GetBody = nil
	_, err := collect(sse.Stream(clientOf(t, p, soon), req), 0)
	assert.ErrorIs(t, err, retry.ErrBodyNotReplayable)
	assert.Len(t, p.ids, 1)
}

// A cancel gives the cancel, with its cause, while the stream is read, while it waits,
// and before; also of a POST after its first event.
func TestCancel(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		answer answer
	}{
		"reading":       {http.MethodGet, answer{text: "data: a\n\n", pause: time.Hour}},
		"waiting":       {http.MethodGet, answer{text: "retry: 100000\ndata: a\n\n"}},
		"before":        {http.MethodGet, answer{}},
		"reading, POST": {http.MethodPost, answer{text: "data: a\n\n", pause: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop := errors.New("stop")
				ctx, cancel := context.WithCancelCause(t.Context())
				if name == "before" {
					cancel(stop)
				} else {
					time.AfterFunc(10*time.Second, func() { cancel(stop) })
				}
				began := time.Now()
				p := &played{answers: []answer{test.answer}}
				_, err := collect(sse.Stream(clientOf(t, p, retry.Config{}), requestOf(t, ctx, test.method, "http://feed.example/", "")), 0)
				assert.ErrorIs(t, err, context.Canceled)
				assert.ErrorIs(t, err, stop)
				assert.NotErrorIs(t, err, retry.ErrNotIdempotent)
				assert.LessOrEqual(t, time.Since(began), 10*time.Second)
			})
		})
	}
}

// Wrong use is an error, and nothing is sent.
func TestWrongUse(t *testing.T) {
	client := clientOf(t, &played{}, soon)
	req := requestOf(t, t.Context(), http.MethodGet, "http://feed.example/", "")
	for _, events := range []iter.Seq2[sse.Event, error]{
		sse.Stream(nil, req), sse.Stream(client, nil), sse.Stream(client, req, sse.MaxEvent(-1)), sse.Stream(client, &http.Request{}),
	} {
		_, err := collect(events, 0)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	}
}

// A server over a real network: the Timeout of the client ends with the headers, an
// event is handed on as soon as it is there, an IdleTimeout ends a silence, and breaking
// out of the loop closes the connection. No goroutine stays.
func TestOverTheNetwork(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2 ", http2), func(t *testing.T) {
			retrytest.NoLeaks(t)
			var connections atomic.Int32
			closed := make(chan struct{}, 10)
			seen := make(chan struct{})
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				n := connections.Add(1)
				fmt.Fprintf(w, "id: %d\ndata: %d\n\n", n, n)
				w.(http.Flusher).Flush()
				if n == 1 {
					<-seen
					fmt.Fprint(w, "data: more\n\n")
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
				closed <- struct{}{}
			}))
			server.EnableHTTP2 = http2
			server.StartTLS()
			defer server.Close()
			base := server.Client()
			base.Timeout = 500 * time.Millisecond
			client, err := retry.NewRetryableClient(base, soon, retry.IdleTimeout(700*time.Millisecond))
			require.NoError(t, err)
			defer client.CloseIdleConnections()
			var got []string
			for event, err := range sse.Stream(client, requestOf(t, t.Context(), http.MethodGet, server.URL, "")) {
				require.NoError(t, err)
				if got = append(got, string(event.Data)); len(got) == 1 {
					close(seen) // the second event follows the first one's being seen
				}
				if len(got) == 3 {
					break
				}
			}
			assert.Equal(t, []string{"1", "more", "2"}, got)
			for range 2 {
				select {
				case <-closed:
				case <-time.After(5 * time.Second):
					t.Fatal("the connection is open still")
				}
			}
		})
	}
}

// FuzzStream puts secrets into the URL and the header of a stream that ends in every way: its
// error has none.
func FuzzStream(f *testing.F) {
	f.Add("https", "feed.example", "/a", "token", "text/event-stream")
	f.Add("http", "[::1]:80", "/%2F", "", "text/html; charset")
	f.Fuzz(func(t *testing.T, scheme, host, path, key, kind string) {
		const secret = "S3CR3Tt0ken"
		for _, u := range []url.URL{
			{Scheme: scheme, Host: host, Path: path, User: url.UserPassword("user", secret)},
			{Scheme: scheme, Host: host, Path: path, User: url.User(secret), RawQuery: key + "=" + secret},
			{Scheme: scheme, Host: host, Path: path, RawQuery: secret, Fragment: secret},
			{Scheme: scheme, Host: host, Opaque: "//" + host + path + "?" + key + "=" + secret},
		} {
			for _, a := range []answer{{text: "data: x\n\n", end: errCut}, {text: "data: a very long event\n\n"}, {status: 206}, {status: 400}, {err: io.EOF}} {
				a.headers, a.kind = http.Header{"Set-Cookie": {secret}}, kind
				client := clientOf(t, &played{answers: []answer{a}}, retry.Config{MaxRetries: retry.NoRetries})
				for _, err := range sse.Stream(client, &http.Request{Method: "GET", URL: &u, Header: http.Header{"Authorization": {secret}}}, sse.MaxEvent(9)) {
					if err != nil {
						assert.NotContains(t, fmt.Sprintf("%v %+v %q", err, err, err), secret)
					}
				}
			}
		}
	})
}

// While the process drains, a feed that was cut is not resumed: the stream ends, with an
// error that says so, and what came before is the caller's.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := make(chan struct{})
		p := &played{answers: []answer{{text: "data: a\n\n"}}}
		cfg := retry.Config{Drain: drain}
		var text []string
		var last error
		for event, err := range sse.Stream(clientOf(t, p, cfg), requestOf(t, t.Context(), http.MethodGet, "http://feed.example/", "")) {
			if last = err; err != nil {
				break
			}
			if text = append(text, string(event.Data)); len(text) == 2 {
				close(drain)
			}
		}
		assert.ErrorIs(t, last, retry.ErrDraining)
		assert.Equal(t, []string{"a", "a"}, text)
		assert.Len(t, p.ids, 2)
	})
}

// A panic of the loop's body reaches its caller, and closes the connection.
func TestPanic(t *testing.T) {
	p := &played{answers: []answer{{text: "data: a\n\n", pause: time.Hour}}}
	assert.PanicsWithValue(t, "boom", func() {
		for range sse.Stream(clientOf(t, p, soon), requestOf(t, t.Context(), http.MethodGet, "http://feed.example/", "")) {
			panic("boom")
		}
	})
	assert.Zero(t, p.open)
}

// Nothing is lost and nothing comes twice: 10,000 events over 200 cuts at random bytes,
// clean ends and resets among them, from a server that honours the ID.
func TestTenThousandEventsOver200Cuts(t *testing.T) {
	const events, cuts = 10_000, 200
	random := rand.New(rand.NewPCG(27, 1))
	var connections atomic.Int32
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		n := connections.Add(1)
		first, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		var text bytes.Buffer
		for i := first + 1; i <= events; i++ {
			fmt.Fprintf(&text, "id: %d\ndata: event %d %s\n\n", i, i, strings.Repeat("x", random.IntN(200)))
		}
		if first == events {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if n > cuts {
			w.Write(text.Bytes())
			return
		}
		end := 1 + random.IntN(2*text.Len()/(cuts-int(n)+1))
		w.Write(text.Bytes()[:min(end, text.Len())])
		w.(http.Flusher).Flush()
		switch random.IntN(3) {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}))
	defer server.Close()
	cfg := soon
	cfg.MaxRetries = 20 // a reset may overtake what was sent, again and again
	var retries atomic.Int32
	cfg.OnRetry = func(context.Context, retry.Event) { retries.Add(1) }
	client := clientOf(t, &http.Transport{}, cfg)
	began := time.Now()
	next := 1
	for event, err := range sse.Stream(client, requestOf(t, t.Context(), http.MethodGet, server.URL, "")) {
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(next), event.ID)
		require.True(t, strings.HasPrefix(string(event.Data), fmt.Sprintf("event %d ", next)))
		next++
	}
	assert.Equal(t, events+1, next)
	assert.GreaterOrEqual(t, connections.Load(), int32(cuts))
	t.Logf("%d events over %d connections in %v", next-1, connections.Load(), time.Since(began).Round(time.Millisecond))
}

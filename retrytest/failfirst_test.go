package retrytest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// A client without retries fails, and the list says which request it gave up on. In
// TestMain http.DefaultTransport is replaced in the same way.
func ExampleFailFirst() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "BRCA1") }))
	defer server.Close()
	faults := retrytest.FailFirst(retrytest.Status(503, ""), retrytest.Lost())
	base := &http.Client{Transport: faults.Transport(server.Client().Transport)}

	resp, _ := base.Get(server.URL + "/gene/672")
	fmt.Println("once:", resp.Status)
	resp.Body.Close()
	fmt.Println(len(faults.Abandoned()), "not tried again")

	client, _ := retry.NewRetryableClient(base, retry.Config{InitialDelay: time.Millisecond})
	resp, err := client.Get(context.Background(), server.URL+"/gene/672")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println("with retries:", resp.Status)
	fmt.Println(len(faults.Abandoned()), "not tried again")
	// Output:
	// once: 503 Service Unavailable
	// 1 not tried again
	// with retries: 200 OK
	// 0 not tried again
}

// A third of all attempts fail, in one of two ways; the seed repeats the run.
func ExampleFailAtRandom() {
	faults := retrytest.FailAtRandom(1, 1.0/3, retrytest.Status(503, ""), retrytest.Refused())
	find := retrytest.FailFunc(faults, func(ctx context.Context, symbol string) (string, error) { return symbol, nil })
	failed := 0
	for i := range 300 {
		if _, err := find(context.Background(), fmt.Sprint("gene ", i)); err != nil {
			failed++
		}
	}
	fmt.Println(failed, "of 300")
	// Output: 96 of 300
}

// A layer above HTTP, or a call that is none: the same, for a function.
func ExampleFailFunc() {
	faults := retrytest.FailFirst(retrytest.Refused())
	find := retrytest.FailFunc(faults, func(ctx context.Context, symbol string) (Gene, error) { return Gene{symbol}, nil })
	find = retry.Wrap(retry.Config{InitialDelay: time.Millisecond}, find)
	fmt.Println(find(context.Background(), "BRCA1"))
	// Output: {BRCA1} <nil>
}

// counter is a server that counts what it carried out, by method, URL and body.
type counter struct {
	mu    sync.Mutex
	acted map[string]int
}

func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acted == nil {
		c.acted = make(map[string]int)
	}
	c.acted[req.Method+" "+req.URL.String()+" "+string(body)]++
	const text = "0123456789"
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, ContentLength: int64(len(text)), Body: io.NopCloser(strings.NewReader(text)), Request: req}
	if req.URL.Path == "/unknown-length" {
		resp.ContentLength = -1
	}
	if req.URL.Path == "/empty" || req.Method == http.MethodHead {
		resp.ContentLength, resp.Body = 0, http.NoBody
	}
	return resp, nil
}

// closing notes that a request's body was closed, as a RoundTripper must.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error { c.closed.Store(true); return nil }

// Each answer does what it says to the attempt, whether the server has acted is known,
// and the attempt after it is let through as it is.
func TestFailFirst_Kinds(t *testing.T) {
	for _, c := range []struct {
		answer retrytest.Answer
		path   string
		acted  int
		status int
		err    error // of the request, or of reading the answer
		read   string
		after  string
	}{
		{answer: retrytest.Status(503, "busy"), status: 503, read: "busy"},
		{answer: retrytest.TooManyRequests(1500 * time.Millisecond), status: 429, after: "1.5"},
		{answer: retrytest.Reset(), err: syscall.ECONNRESET},
		{answer: retrytest.Refused(), err: syscall.ECONNREFUSED},
		{answer: retrytest.Cut("in place of the answer", 2), status: 200, err: io.ErrUnexpectedEOF, read: "in"},
		{answer: retrytest.Lost(), acted: 1, err: syscall.ECONNRESET},
		{answer: retrytest.CutOff(), acted: 1, status: 200, err: io.ErrUnexpectedEOF, read: "01234"},
		{answer: retrytest.CutOff(), path: "unknown-length", acted: 1, status: 200, err: io.ErrUnexpectedEOF, read: "0123456789"},
		{answer: retrytest.CutOff(), path: "empty", acted: 1, err: syscall.ECONNRESET},
	} {
		t.Run(c.answer.String(), func(t *testing.T) {
			server := new(counter)
			faults := retrytest.FailFirst(c.answer)
			transport := faults.Transport(server)
			send := func() (*http.Response, string, error) {
				body := &closing{Reader: strings.NewReader("x")}
				req, err := http.NewRequest(http.MethodPost, "http://user:SECRET@h.example/"+c.path+"?key=SECRET", body)
				require.NoError(t, err)
				resp, err := transport.RoundTrip(req)
				assert.True(t, body.closed.Load(), "the request's body is closed")
				if err != nil {
					assert.Nil(t, resp)
					return nil, "", err
				}
				text, err := io.ReadAll(resp.Body)
				assert.NoError(t, resp.Body.Close())
				return resp, string(text), err
			}
			resp, text, err := send()
			assert.ErrorIs(t, err, c.err)
			assert.Equal(t, c.read, text)
			if c.status != 0 {
				require.NotNil(t, resp)
				assert.Equal(t, c.status, resp.StatusCode)
				assert.Equal(t, c.after, resp.Header.Get("Retry-After"))
			}
			assert.Len(t, server.acted, c.acted)
			assert.Equal(t, []string{"POST http://h.example/" + c.path}, faults.Abandoned(), "without secrets")

			resp, text, err = send()
			require.NoError(t, err)
			assert.Equal(t, 200, resp.StatusCode)
			if c.path != "empty" {
				assert.Equal(t, "0123456789", text)
			}
			assert.Empty(t, faults.Abandoned())
		})
	}
}

// What attempts have in common, and what makes another request of one.
func TestFailFirst_DistinctRequests(t *testing.T) {
	request := func(method, address, body, key string, replayable bool) *http.Request {
		req, err := http.NewRequest(method, address, strings.NewReader(body))
		require.NoError(t, err)
		if !replayable {
			req.Body, req.GetBody = struct{ io.ReadCloser }{req.Body}, nil
		}
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		return req
	}
	server := new(counter)
	transport := retrytest.FailFirst(retrytest.Refused(), retrytest.Refused()).Transport(server)
	for i, c := range []struct {
		req  *http.Request
		pass bool
	}{
		{request("PUT", "http://a/x", "1", "", true), false},
		{request("PUT", "http://a/x", "1", "", true), false},
		{request("PUT", "http://a/x", "1", "", true), true},
		{request("PUT", "http://a/x", "1", "", true), true},
		{request("PUT", "http://a/x", "2", "", true), false},  // another body
		{request("POST", "http://a/x", "1", "", true), false}, // another method
		{request("PUT", "http://a/y", "1", "", true), false},  // another path
		{request("PUT", "http://a/x?", "1", "", true), false}, // another query
		{request("PUT", "http://b/x", "1", "", true), false},  // another host
		{request("PUT", "https://a/x", "1", "", true), false}, // another scheme
		{request("PUT", "http://a/x", "1", "k", true), false}, // a key
		{request("PUT", "http://a/x", "1", "l", true), false}, // another key, and the same body
		{request("PUT", "http://a/x", "1", "k", true), false},
		{request("PUT", "http://a/x", "1", "k", true), true},
		{request("PUT", "http://a/x", "3", "", false), false}, // a body that is not read ahead does not tell
		{request("PUT", "http://a/x", "4", "", false), false},
		{request("PUT", "http://a/x", "5", "", false), true},
	} {
		resp, err := transport.RoundTrip(c.req)
		assert.Equal(t, c.pass, err == nil, i)
		if err == nil {
			resp.Body.Close()
		}
	}
	assert.Equal(t, 1, server.acted["PUT http://a/x 5"], "the body is sent whole")
	assert.Equal(t, 2, server.acted["PUT http://a/x 1"]-1)
}

// Attempts of one request may differ for a good reason: each is signed with the time, or
// with a nonce. Then the test says what they have in common.
func TestFailFirst_Key(t *testing.T) {
	faults := retrytest.FailFirst()
	faults.Key = func(req *http.Request) string { return req.Method + " " + req.URL.Path }
	transport := faults.Transport(new(counter))
	for i, want := range []int{503, 200, 200} {
		req, err := http.NewRequest(http.MethodPost, "http://a/x", strings.NewReader(fmt.Sprint("nonce ", i)))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, want, resp.StatusCode)
	}
}

// A body that cannot be had again fails the attempt, and is closed.
func TestFailFirst_BrokenBody(t *testing.T) {
	for _, getBody := range []func() (io.ReadCloser, error){
		func() (io.ReadCloser, error) { return nil, io.ErrNoProgress },
		func() (io.ReadCloser, error) { return io.NopCloser(brokenReader{}), nil },
	} {
		body := &closing{Reader: strings.NewReader("x")}
		req, err := http.NewRequest(http.MethodPut, "http://a/x", body)
		require.NoError(t, err)
		req.GetBody = getBody
		_, err = retrytest.FailFirst().Transport(new(counter)).RoundTrip(req)
		assert.ErrorIs(t, err, io.ErrNoProgress)
		assert.True(t, body.closed.Load())
	}
}

// A body that the client of this library records while it is sent is not asked for:
// playing it back would take it from the attempt.
func TestFailFirst_RecordedBody(t *testing.T) {
	server := new(counter)
	faults := retrytest.FailFirst(retrytest.Status(503, ""), retrytest.Lost())
	client, err := retry.NewRetryableClient(&http.Client{Transport: faults.Transport(server)}, retry.Config{InitialDelay: time.Millisecond})
	require.NoError(t, err)
	resp, err := client.Post(t.Context(), "http://a/x", "text/plain", struct{ io.Reader }{strings.NewReader("streamed")})
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, map[string]int{"POST http://a/x streamed": 2}, server.acted)
}

// The client of this library gets through every kind of failure, and the one Lost is
// what doubles the work: the server sees the request twice, with one key.
func TestFailFirst_RetryableClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := new(counter)
		faults := retrytest.FailFirst(retrytest.Status(503, ""), retrytest.TooManyRequests(time.Second), retrytest.Reset(), retrytest.Lost(), retrytest.CutOff())
		client, err := retry.NewRetryableClient(&http.Client{Transport: faults.Transport(server)}, retry.Config{})
		require.NoError(t, err)
		req, err := retry.NewJSONRequest(t.Context(), http.MethodPost, "http://a/x", 1)
		require.NoError(t, err)
		text, err := retry.Fetch(client, req, func(resp *http.Response) (string, error) {
			text, err := io.ReadAll(resp.Body)
			return string(text), err
		})
		require.NoError(t, err)
		assert.Equal(t, "0123456789", text)
		assert.Equal(t, map[string]int{"POST http://a/x 1": 3}, server.acted)
		assert.Empty(t, faults.Abandoned())
	})
}

// The draw of an attempt depends on its seed, its request and its number: not on the order
// in which goroutines come, and not on the port that a test's server was given.
func TestFailAtRandom_Reproducible(t *testing.T) {
	draws := func(seed uint64, host string, backwards bool) (failed [50]string) {
		transport := retrytest.FailAtRandom(seed, 0.5, retrytest.Status(500, ""), retrytest.Status(502, ""), retrytest.Status(503, "")).Transport(new(counter))
		for i := range failed {
			if backwards {
				i = len(failed) - 1 - i
			}
			for range 3 {
				resp, err := transport.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: host, Path: fmt.Sprint("/", i)}})
				require.NoError(t, err)
				resp.Body.Close()
				failed[i] += fmt.Sprint(resp.StatusCode, " ")
			}
		}
		return failed
	}
	first := draws(7, "127.0.0.1:1", false)
	assert.Equal(t, first, draws(7, "127.0.0.1:2", true))
	assert.NotEqual(t, first, draws(8, "127.0.0.1:1", false))
	all := fmt.Sprint(first)
	for _, status := range []string{"200", "500", "502", "503"} {
		assert.Contains(t, all, status)
	}
	none := retrytest.FailFunc(retrytest.FailAtRandom(7, 0), func(_ context.Context, n int) (int, error) { return n, nil })
	every := retrytest.FailFunc(retrytest.FailAtRandom(7, 1), func(_ context.Context, n int) (int, error) { return n, nil })
	for n := range 100 {
		_, err := none(t.Context(), n)
		assert.NoError(t, err)
		_, err = every(t.Context(), n)
		assert.Error(t, err)
	}
}

// A function gets the answer as an error, and is called where it is to be carried out.
func TestFailFunc_Kinds(t *testing.T) {
	errOwn := errors.New("its own")
	for _, c := range []struct {
		answer retrytest.Answer
		called int
		check  func(error) bool
	}{
		{retrytest.Status(503, ""), 0, func(err error) bool {
			var status *retry.StatusError
			return errors.As(err, &status) && status.StatusCode == 503
		}},
		{retrytest.TooManyRequests(2 * time.Second), 0, func(err error) bool {
			var status *retry.StatusError
			return errors.As(err, &status) && status.RetryAfter == 2*time.Second
		}},
		{retrytest.Refused(), 0, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		{retrytest.Cut("x", 0), 0, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{retrytest.Fail(errOwn), 0, func(err error) bool { return errors.Is(err, errOwn) }},
		{retrytest.Lost(), 1, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{retrytest.CutOff(), 1, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
	} {
		called := 0
		faults := retrytest.FailFirst(c.answer)
		fn := func(_ context.Context, n int) (int, error) { called++; return n, nil }
		failing, other := retrytest.FailFunc(faults, fn), retrytest.FailFunc(faults, fn)
		got, err := failing(t.Context(), 1)
		assert.True(t, c.check(err), "%v: %v", c.answer, err)
		assert.Zero(t, got)
		assert.Equal(t, c.called, called, c.answer)
		_, err = other(t.Context(), 2)
		assert.Error(t, err, "another argument, another request")
		assert.Len(t, faults.Abandoned(), 1, "each function once")
		assert.Contains(t, faults.Abandoned()[0], "failfirst_test.go:")
		got, err = failing(t.Context(), 1)
		assert.NoError(t, err)
		assert.Equal(t, 1, got)
	}
	// An error of the function's own is no lost result.
	failing := retrytest.FailFunc(retrytest.FailFirst(retrytest.Lost()), func(context.Context, int) (int, error) { return 1, errOwn })
	_, err := failing(t.Context(), 1)
	assert.ErrorIs(t, err, errOwn)
}

// An attempt that hangs, or is slow to fail, ends with its context, as a real one does.
func TestFailFirst_EndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []retrytest.Answer{retrytest.Hang(), retrytest.Lost().After(time.Hour)} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			body := &closing{Reader: strings.NewReader("x")}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://a/x", body)
			require.NoError(t, err)
			server := new(counter)
			_, err = retrytest.FailFirst(answer).Transport(server).RoundTrip(req)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.True(t, body.closed.Load())
			assert.Empty(t, server.acted)
			fn := retrytest.FailFunc(retrytest.FailFirst(answer), func(context.Context, int) (int, error) { return 1, nil })
			_, err = fn(ctx, 1)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
}

// The requests that are known are bounded: one that was forgotten fails once more, and one
// that comes again and again is not forgotten.
func TestFailFirst_BoundedMemory(t *testing.T) {
	faults := retrytest.FailFirst()
	fn := retrytest.FailFunc(faults, func(_ context.Context, n int) (int, error) { return n, nil })
	for n := range 140_000 {
		_, err := fn(t.Context(), n)
		require.Error(t, err)
		_, err = fn(t.Context(), -1)
		require.Equal(t, n == 0, err != nil)
	}
	_, err := fn(t.Context(), 0)
	assert.Error(t, err, "forgotten")
	_, err = fn(t.Context(), 139_999)
	assert.NoError(t, err)
}

// A script, which carries nothing out, resets the connection instead, in process and as a
// server.
func TestScript_Lost(t *testing.T) {
	for _, answer := range []retrytest.Answer{retrytest.Lost(), retrytest.CutOff()} {
		_, err := get(t, retrytest.NewScript(t, answer), "/")
		assert.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = http.Get(retrytest.NewScript(t, answer).Serve())
		assert.Error(t, err)
	}
}

// What code looks for in a transport is still there.
func TestFailFirst_Transport(t *testing.T) {
	base := &http.Transport{}
	transport := retrytest.FailFirst().Transport(base)
	assert.Same(t, base, transport.(interface{ Unwrap() http.RoundTripper }).Unwrap())
	(&http.Client{Transport: transport}).CloseIdleConnections()
	(&http.Client{Transport: retrytest.FailFirst().Transport(new(counter))}).CloseIdleConnections()
	assert.Same(t, http.DefaultTransport, retrytest.FailFirst().Transport(nil).(interface{ Unwrap() http.RoundTripper }).Unwrap())
}

// FuzzAbandoned puts secrets into the URL of a request that is not tried again: the list has
// none.
func FuzzAbandoned(f *testing.F) {
	f.Add("https", "genes.example", "/a", "token")
	f.Add("http", "[::1", "/%zz", "")
	f.Fuzz(func(t *testing.T, scheme, host, path, key string) {
		const secret = "S3CR3Tt0ken"
		faults := retrytest.FailFirst()
		transport := faults.Transport(new(counter))
		for _, u := range []url.URL{
			{Scheme: scheme, Host: host, Path: path, User: url.UserPassword("user", secret), RawQuery: secret},
			{Scheme: scheme, Host: host, Path: path, RawQuery: key + "=" + secret, Fragment: secret},
			{Scheme: scheme, Host: host, Opaque: "//" + host + path + "?" + key + "=" + secret},
		} {
			resp, err := transport.RoundTrip(&http.Request{Method: http.MethodGet, URL: &u})
			require.NoError(t, err)
			resp.Body.Close()
		}
		assert.NotContains(t, fmt.Sprint(faults.Abandoned()), secret)
	})
}

// Of a payment whose attempts all failed before they were sent on, a client knows as much
// as of one that a Script answers.
func TestMayHaveActedOverFaults(t *testing.T) {
	busy := retrytest.TooManyRequests(time.Nanosecond)
	for _, c := range []struct {
		answers []retrytest.Answer
		want    bool
	}{
		{[]retrytest.Answer{retrytest.Refused(), busy}, false},
		{[]retrytest.Answer{busy, retrytest.Reset()}, true},
		{[]retrytest.Answer{retrytest.Status(503, ""), retrytest.Refused()}, true},
		{[]retrytest.Answer{retrytest.Lost(), retrytest.Refused()}, true},
	} {
		url := retrytest.NewScriptFunc(t, func(retrytest.Request) retrytest.Answer { return retrytest.JSON("paid") }).Serve()
		base := &http.Client{Transport: retrytest.FailFirst(c.answers...).Transport(http.DefaultTransport)}
		client, err := retry.NewRetryableClient(base, retry.Config{MaxRetries: 1, InitialDelay: time.Nanosecond})
		require.NoError(t, err)
		_, err = retry.PostJSON[string](t.Context(), client, url, 7)
		require.Error(t, err)
		assert.Equal(t, c.want, retry.MayHaveActed(err), "%v: %v", c.answers, err)
	}
}

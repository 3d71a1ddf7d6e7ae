package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/attempt"
)

// A function of the user's that panics once, recovered further out as a server
// does, must not leave a lock held, a host half configured or a response open:
// with a pool of one connection, the next request would wait for ever.
func TestPanicsInARequest(t *testing.T) {
	type fuse struct{ blown atomic.Bool }
	boom := func(f *fuse) {
		if !f.blown.Swap(true) {
			panic("boom")
		}
	}
	for name, set := range map[string]func(*fuse, *retry.Config) []retry.Option{
		"HostKey": func(f *fuse, _ *retry.Config) []retry.Option {
			return []retry.Option{retry.HostKey(func(*http.Request) string { boom(f); return "x" })}
		},
		"PerHost": func(f *fuse, _ *retry.Config) []retry.Option {
			return []retry.Option{retry.PerHost(func(string, *retry.Config) error { boom(f); return nil })}
		},
		"CheckResponse": func(f *fuse, _ *retry.Config) []retry.Option {
			return []retry.Option{retry.CheckResponse(func(*http.Response) error { boom(f); return nil })}
		},
		"OnDone": func(f *fuse, cfg *retry.Config) []retry.Option {
			cfg.OnDone = func(context.Context, retry.Event) { boom(f) }
			return nil
		},
		"OnRetry": func(f *fuse, cfg *retry.Config) []retry.Option {
			cfg.OnRetry = func(context.Context, retry.Event) { boom(f) }
			return nil
		},
		"RetryIf": func(f *fuse, cfg *retry.Config) []retry.Option {
			cfg.RetryIf = func(err error) bool { boom(f); return retry.Retryable(err) }
			return nil
		},
		"Backoff": func(f *fuse, cfg *retry.Config) []retry.Option {
			cfg.Backoff = func(int, time.Duration, func() float64) time.Duration { boom(f); return 0 }
			return nil
		},
	} {
		for _, size := range []int{10, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				s := newStand(t, bodied(503, size), bodied(503, size), bodied(200, size))
				cfg, f := soon, new(fuse)
				opts := set(f, &cfg)
				transport, err := retry.NewTransport(&http.Transport{MaxConnsPerHost: 1}, cfg, opts...)
				require.NoError(t, err)
				t.Cleanup(transport.CloseIdleConnections)
				body := &countedClose{Reader: strings.NewReader("x")}
				assert.Panics(t, func() { transport.RoundTrip(newRequest(t, "PUT", s.URL, body)) })
				assertClosed(t, body)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				resp, err := transport.RoundTrip(newRequest(t, "GET", s.URL, nil).WithContext(ctx))
				code, _ := read(t, resp, err)
				assert.Equal(t, 200, code)
			})
		}
	}
}

// explosive is a Logger's handler that panics at the first line with a text.
type explosive struct {
	slog.Handler
	at    string
	blown *atomic.Bool
}

func (e explosive) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == e.at && !e.blown.Swap(true) {
		panic("boom")
	}
	return e.Handler.Handle(ctx, r)
}

// A Logger's handler is a function of the user's too: whatever line it panics at,
// no response stays open.
func TestPanicsOfALoggerInARequest(t *testing.T) {
	const size = 1 << 20
	for at, answers := range map[string][]http.HandlerFunc{
		"retrying":  {bodied(503, size), bodied(200, size)},
		"pausing":   {bodied(429, size, "Retry-After-Ms", "1"), bodied(200, size)},
		"giving up": {bodied(503, size), bodied(503, size), bodied(503, size), bodied(503, size), bodied(200, size)},
		"succeeded": {bodied(503, size), bodied(200, size)},
	} {
		t.Run(at, func(t *testing.T) {
			cfg := soon
			cfg.Logger = slog.New(explosive{slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}), at, new(atomic.Bool)})
			base := &http.Transport{MaxConnsPerHost: 1}
			transport, err := retry.NewTransport(base, cfg)
			require.NoError(t, err)
			t.Cleanup(base.CloseIdleConnections)
			for name, do := range map[string]func(*http.Request) (*http.Response, error){
				"client": outcomeClient(t, &http.Client{Transport: base}, cfg).Do, "transport": transport.RoundTrip,
			} {
				server := newStand(t, answers...)
				cfg.Logger.Handler().(explosive).blown.Store(false)
				assert.Panics(t, func() { do(newRequest(t, "GET", server.URL, nil)) }, name)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				resp, err := do(newRequest(t, "GET", server.URL, nil).WithContext(ctx))
				code, _ := read(t, resp, err)
				assert.Equal(t, 200, code)
			}
		})
	}
}

// Elapsed is exact for a request, its first attempt included, though nothing in
// the Config asks for the time; and the text says it.
func TestElapsedIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			time.Sleep(3 * time.Second)
			if req.URL.Path == "/status" {
				return &http.Response{StatusCode: 503, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			}
			return nil, io.ErrUnexpectedEOF
		})
		cfg := retry.Config{MaxRetries: 1, Jitter: retry.NoJitter}
		client, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg)
		require.NoError(t, err)
		transport, err := retry.NewTransport(base, cfg)
		require.NoError(t, err)
		_, ofStatus := client.Get(t.Context(), "http://gene.example/status")
		_, ofError := client.Get(t.Context(), "http://gene.example/")
		_, ofTransport := transport.RoundTrip(newRequest(t, "GET", "http://gene.example/", nil))
		for _, err := range []error{ofStatus, ofError, ofTransport} {
			e := gaveUp(t, err, retry.ErrMaxRetries)
			assert.Equal(t, 7*time.Second, e.Elapsed)
			assert.ErrorContains(t, e, "after 2 attempts in 7s")
		}
	})
}

// What belongs to a request is not seen by another one in the same context: a base
// transport that fetches a token, a hook that reports, a decode that turns pages.
func TestRequestsWithinRequests(t *testing.T) {
	tokens := newStand(t, status(503), func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "token") })
	inner := outcomeClient(t, nil, soon)
	var got []string
	fetch := func(ctx context.Context) {
		resp, err := inner.Get(ctx, tokens.URL)
		_, text := read(t, resp, err)
		got = append(got, text)
	}
	std := &http.Transport{}
	t.Cleanup(std.CloseIdleConnections)
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		fetch(req.Context())
		return std.RoundTrip(req)
	})
	genes := newStand(t, status(503), func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"symbol":"BRCA1"}`) })
	cfg := soon
	cfg.OnRetry = func(ctx context.Context, _ retry.Event) { fetch(ctx) }
	client := outcomeClient(t, &http.Client{Transport: base}, cfg)
	ctx := retry.WithIdempotent(t.Context(), true)
	gene, err := retry.Fetch(client, newRequest(t, "GET", genes.URL, nil).WithContext(ctx), func(resp *http.Response) (string, error) {
		fetch(resp.Request.Context())
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	})
	require.NoError(t, err)
	assert.Equal(t, `{"symbol":"BRCA1"}`, gene)
	assert.Equal(t, []string{"token", "token", "token", "token"}, got)
}

// WithIdempotent is for the request made with it, not for those on its way.
func TestWithIdempotentGoesNoFurther(t *testing.T) {
	audit := newStand(t, reset)
	bare := outcomeTransport(t, soon)
	post := func(ctx context.Context) {
		bare.Do(newRequest(t, "POST", audit.URL, strings.NewReader("x")).WithContext(ctx))
	}
	std := &http.Transport{}
	t.Cleanup(std.CloseIdleConnections)
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		post(req.Context())
		return std.RoundTrip(req)
	})
	server := newStand(t, status(503), status(200))
	cfg := soon
	cfg.OnRetry = func(ctx context.Context, _ retry.Event) { post(ctx) }
	req := newRequest(t, "POST", server.URL, strings.NewReader("x"))
	_, err := retry.Fetch(outcomeClient(t, &http.Client{Transport: base}, cfg), req.WithContext(retry.WithIdempotent(t.Context(), true)),
		func(resp *http.Response) (int, error) { post(resp.Request.Context()); return 0, nil })
	require.NoError(t, err)
	assert.Equal(t, 4, audit.hits())
}

// Of a Transport inside of another one only the retries are skipped, and only for
// the same request: its limiter, its check and other hosts are as usual.
func TestTransportWithinATransport(t *testing.T) {
	other, server := newStand(t, status(503), status(503), status(200)), newStand(t, status(503), status(200))
	cfg, waits, checks := soon, new(countedLimiter), 0
	cfg.Limiter = waits
	within, err := retry.NewTransport(&http.Transport{}, cfg, retry.CheckResponse(func(*http.Response) error { checks++; return nil }))
	require.NoError(t, err)
	t.Cleanup(within.CloseIdleConnections)
	asked := false
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		if !asked {
			asked = true
			nested, _ := http.NewRequestWithContext(req.Context(), req.Method, other.URL+req.URL.Path, nil)
			resp, err := within.RoundTrip(nested)
			code, _ := read(t, resp, err)
			assert.Equal(t, 200, code)
		}
		return within.RoundTrip(req)
	})
	resp, err := outcomeClient(t, &http.Client{Transport: base}, soon).Get(t.Context(), server.URL+"/")
	read(t, resp, err)
	assert.Equal(t, 3, other.hits())
	assert.Equal(t, 2, server.hits())
	assert.EqualValues(t, 5, waits.Load())
	assert.Equal(t, 5, checks)
}

type countedLimiter struct{ atomic.Int32 }

func (c *countedLimiter) Wait(context.Context) error { c.Add(1); return nil }

// GetBody that returns nothing is a mistake of the caller's, and no crash.
func TestGetBodyReturnsNothing(t *testing.T) {
	server := newStand(t, status(503))
	for _, method := range []string{"PUT", "POST"} {
		req := newRequest(t, method, server.URL, io.LimitReader(strings.NewReader("x"), 1))
		req.GetBody = func() (io.ReadCloser, error) { return nil, nil }
		_, err := outcomeClient(t, nil, soon).Do(req)
		assert.ErrorContains(t, err, "GetBody")
	}
}

// A check is bounded by the attempt's timeout, and holds a bounded part of the body.
func TestCheckResponseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, func(w http.ResponseWriter, r *http.Request) {
			for range 8 {
				w.Write(make([]byte, 1<<20))
			}
		})
		cfg := soon
		cfg.AttemptTimeout = 500 * time.Millisecond
		seen := 0
		client := outcomeClient(t, base, cfg, retry.CheckResponse(func(resp *http.Response) error {
			text, err := io.ReadAll(resp.Body)
			seen = len(text)
			return err
		}))
		resp, err := client.Get(t.Context(), server.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		assert.Equal(t, 1<<20, seen)
		n, err := io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		assert.EqualValues(t, 8<<20, n)
	})
}

// lateBody comes after a while, and then, if it stops, neither goes on nor ends
// before it is closed.
type lateBody struct {
	text   string
	stops  bool
	closed chan struct{}
}

func (b *lateBody) Read(p []byte) (int, error) {
	if b.text == "" {
		if b.stops {
			<-b.closed
		}
		return 0, io.EOF
	}
	time.Sleep(400 * time.Millisecond)
	n := copy(p, b.text)
	b.text = b.text[n:]
	return n, nil
}

func (b *lateBody) Close() error { close(b.closed); return nil }

// The last error has its body, also where a RetryIf or an empty budget makes it
// the last one; and what came of one that then stops, whatever the base.
func TestLateBodyOfTheLastError(t *testing.T) {
	for name, set := range map[string]func(*retry.Config){
		"RetryIf":   func(cfg *retry.Config) { cfg.RetryIf = func(error) bool { return false } },
		"budget":    func(cfg *retry.Config) { cfg.Budget = new(retry.Budget) },
		"NoRetries": func(cfg *retry.Config) { cfg.MaxRetries = retry.NoRetries },
	} {
		for _, stops := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				base := roundTrip(func(req *http.Request) (*http.Response, error) {
					body := &lateBody{"what is wrong", stops, make(chan struct{})}
					return &http.Response{StatusCode: 503, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: body, Request: req}, nil
				})
				cfg := soon
				set(&cfg)
				client, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg)
				require.NoError(t, err)
				_, err = client.Get(t.Context(), "http://gene.example/")
				var status *retry.StatusError
				require.ErrorAs(t, err, &status)
				assert.Equal(t, "what is wrong", string(status.Body), "%s, stops: %v", name, stops)
			})
		}
	}
}

// Nothing stays under a long-lived context once a response is over, whatever its
// form and whatever way it was left.
func TestNothingStaysUnderALongContext(t *testing.T) {
	respond := func(body func() io.ReadCloser, code int) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: code, ProtoMajor: 1, Header: http.Header{}, Body: body(), Request: req}, nil
		})
	}
	text := func() io.ReadCloser { return io.NopCloser(strings.NewReader("x")) }
	none := func() io.ReadCloser { return http.NoBody }
	for name, test := range map[string]struct {
		base   http.RoundTripper
		method string
		legacy bool
	}{
		"204":            {respond(none, 204), "GET", false},
		"HEAD":           {respond(none, 200), "HEAD", false},
		"HEAD with body": {respond(text, 200), "HEAD", false},
		"200":            {respond(text, 200), "GET", false},
		"404":            {respond(text, 404), "GET", false},
		"Cancel":         {respond(none, 200), "GET", true},
		"Cancel, body":   {respond(text, 200), "GET", true},
		"Cancel, error": {roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, retry.Permanent(io.ErrUnexpectedEOF)
		}), "GET", true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cfg := soon
			cfg.AttemptTimeout = time.Minute
			transport, err := retry.NewTransport(test.base, cfg)
			require.NoError(t, err)
			send := func(n int) {
				for range n {
					req := newRequest(t, test.method, "http://gene.example/", nil).WithContext(ctx)
					if test.legacy {
						//lint:ignore SA1019 callers may still use it
						req.Cancel = make(chan struct{})
					}
					if resp, err := transport.RoundTrip(req); err == nil && test.method != "HEAD" {
						io.Copy(io.Discard, resp.Body)
					}
				}
			}
			heap := func() (m runtime.MemStats) {
				runtime.GC()
				runtime.GC()
				runtime.ReadMemStats(&m)
				return m
			}
			send(100)
			before := heap()
			send(4_000)
			after := heap()
			assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(4_000*20), "bytes kept")
		})
	}
}

// The jar works as in http.Client where nothing fails: a redirect that sets a cookie
// which the caller set too replaces it in the requests that follow.
func TestJarAcrossARedirect(t *testing.T) {
	var sent [][]string
	for n := range 3 {
		server := newStand(t, status(302, "Set-Cookie", "a=2", "Set-Cookie", "b=2", "Location", "/next"), status(200))
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		plain := &http.Client{Transport: &http.Transport{}, Jar: jar}
		client := outcomeClient(t, plain, soon)
		do := []func(*http.Request) (*http.Response, error){plain.Do, client.Do, client.StandardClient().Do}[n]
		req := newRequest(t, "GET", server.URL, nil)
		jar.SetCookies(req.URL, []*http.Cookie{{Name: "b", Value: "1"}})
		req.Header.Set("Cookie", "a=1; own=1")
		resp, err := do(req)
		read(t, resp, err)
		sent = append(sent, nil)
		for _, r := range server.requests() {
			sent[n] = append(sent[n], r.header.Get("Cookie"))
		}
	}
	assert.Equal(t, []string{"a=1; own=1; b=1", "own=1; b=2; a=2"}, sent[0])
	assert.Equal(t, sent[0], sent[1])
	assert.Equal(t, sent[0], sent[2])
}

// A caller's Cookie header stays as it is, letter by letter, and the jar's come
// and go: a cookie that a failed attempt deleted is not sent again. They belong
// to Request.Host where it is set.
func TestCookiesOfFailedAttempts(t *testing.T) {
	server := newStand(t, status(503, "Set-Cookie", "lb=2", "Set-Cookie", "old=; Max-Age=0"), status(503, "Set-Cookie", "lb=3"), status(200))
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	req := newRequest(t, "GET", server.URL, nil)
	jar.SetCookies(req.URL, []*http.Cookie{{Name: "old", Value: "1"}, {Name: "lb", Value: "1"}})
	req.Header.Set("Cookie", `prefs={"t":1}; sid=a`)
	resp, err := outcomeClient(t, &http.Client{Transport: &http.Transport{}, Jar: jar}, soon).Do(req)
	read(t, resp, err)
	sent := []string{}
	for _, r := range server.requests() {
		sent = append(sent, r.header.Get("Cookie"))
	}
	assert.Equal(t, []string{`prefs={"t":1}; sid=a; old=1; lb=1`, `prefs={"t":1}; sid=a; lb=2`, `prefs={"t":1}; sid=a; lb=3`}, sent)
	assert.Same(t, req, resp.Request)

	server = newStand(t, status(503, "Set-Cookie", "lb=2"), status(200))
	req = newRequest(t, "GET", server.URL, nil)
	req.Host = "gene.example"
	resp, err = outcomeClient(t, &http.Client{Transport: &http.Transport{}, Jar: jar}, soon).Do(req)
	read(t, resp, err)
	assert.Equal(t, "lb=2", server.requests()[1].header.Get("Cookie"))
}

// A trailer that the body sets at its end arrives, of every attempt.
func TestTrailerSetByTheBody(t *testing.T) {
	sums := []string{}
	server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		sums = append(sums, r.Trailer.Get("X-Sum"))
		w.WriteHeader(503)
	}, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		sums = append(sums, r.Trailer.Get("X-Sum"))
	})
	req := newRequest(t, "PUT", server.URL, nil)
	req.Trailer = http.Header{"X-Sum": nil}
	req.Body = io.NopCloser(io.MultiReader(strings.NewReader("x"), atEnd(func() { req.Trailer.Set("X-Sum", "42") })))
	req.ContentLength = -1
	resp, err := outcomeClient(t, nil, soon).Do(req)
	read(t, resp, err)
	assert.Equal(t, []string{"42", "42"}, sums)
}

type atEnd func()

func (f atEnd) Read([]byte) (int, error) { f(); return 0, io.EOF }

// A key under any spelling of its name is one, and stays alone.
func TestKeyInLowerCase(t *testing.T) {
	server := newStand(t, status(200))
	req := newRequest(t, "POST", server.URL, strings.NewReader("x"))
	req.Header["idempotency-key"] = []string{"mine"}
	resp, err := outcomeClient(t, nil, soon).Do(req)
	read(t, resp, err)
	assert.Equal(t, []string{"mine"}, server.requests()[0].header["Idempotency-Key"])
}

// After an upload nothing of it is held while its response streams.
func TestUploadIsReleased(t *testing.T) {
	server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for name, do := range map[string]func(*http.Request) (*http.Response, error){
		"client": outcomeClient(t, nil, soon).Do, "transport": outcomeTransport(t, soon).Do,
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 10 {
			resp, err := do(newRequest(t, "POST", server.URL, io.LimitReader(endless{}, 1<<20)))
			require.NoError(t, err)
			defer resp.Body.Close()
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(3<<20), name)
	}
}

// A file that is not as long as it says is sent as net/http would, up to where it
// ends; anything that can be read from any place is as good as a file.
func TestFilesOfAllKinds(t *testing.T) {
	var lengths []int64
	answer := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			lengths = append(lengths, r.ContentLength, int64(len(text)))
			w.WriteHeader(code)
		}
	}
	open := func(name string) *os.File {
		f, err := os.Open(name)
		require.NoError(t, err)
		return f
	}
	path := filepath.Join(t.TempDir(), "upload")
	require.NoError(t, os.WriteFile(path, make([]byte, 3<<20), 0o600))
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for name, test := range map[string]struct {
		body  io.Reader
		known bool
	}{
		"file":              {open(path), true},
		"NopCloser of file": {io.NopCloser(open(path)), true},
		"section":           {io.NewSectionReader(bytes.NewReader(make([]byte, 3<<20)), 10, 2<<20), true},
		"empty":             {open(empty), true},
		"/proc":             {open("/proc/self/status"), false},
	} {
		lengths = nil
		server := inTurn(t, answer(503), answer(200))
		resp, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "", test.body)
		read(t, resp, err)
		require.Len(t, lengths, 4, name)
		assert.Equal(t, lengths[0], lengths[2], name)
		if test.known {
			assert.Equal(t, lengths[0], lengths[1], name)
			assert.Equal(t, lengths[0], lengths[3], name)
		} else {
			assert.EqualValues(t, -1, lengths[0], name)
			assert.Positive(t, lengths[1], name)
		}
	}
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage/enabled"); err == nil {
		lengths = nil
		server := inTurn(t, answer(200))
		resp, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "", open("/sys/kernel/mm/transparent_hugepage/enabled"))
		read(t, resp, err)
		assert.EqualValues(t, -1, lengths[0])
	}

	// At its end, with a length declared: refused as net/http does.
	f := open(path)
	f.Seek(0, io.SeekEnd)
	server := newStand(t, status(200))
	req := newRequest(t, "PUT", server.URL, f)
	req.ContentLength = 5
	cfg, tr := track(soon)
	_, err := outcomeClient(t, nil, cfg).Do(req)
	require.Error(t, err)
	assert.Equal(t, 1, tr.last().Attempt)
}

// upperFile is a file whose Read gives other bytes than its ReadAt, as those do that encrypt
// or mask what they read.
type upperFile struct{ *os.File }

func (f upperFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	copy(p, bytes.ToUpper(p[:n]))
	return n, err
}

// A struct that embeds a file, and has a Read of its own, was sent by the file's ReadAt: the
// server got the bytes that Read was there to change, and a progress bar in Read stood still.
func TestEmbeddedFileIsReadByItsOwnRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "upload")
	require.NoError(t, os.WriteFile(path, []byte("brca1"), 0o600))
	for name, wrap := range map[string]func(upperFile) io.Reader{
		"value":     func(f upperFile) io.Reader { return f },
		"pointer":   func(f upperFile) io.Reader { return &f },
		"NopCloser": func(f upperFile) io.Reader { return io.NopCloser(f) },
		"embedded":  func(f upperFile) io.Reader { return struct{ upperFile }{f} },
	} {
		f, err := os.Open(path)
		require.NoError(t, err)
		server := newStand(t, status(503), status(200))
		resp, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "", wrap(upperFile{f}))
		read(t, resp, err)
		for _, r := range server.requests() {
			assert.Equal(t, "BRCA1", r.body, name)
		}
		assert.Equal(t, 2, server.hits(), name)
	}
}

// The files of mime/multipart embed a section, and are read from it again.
func TestFileOfAForm(t *testing.T) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("reads", "reads.fastq")
	require.NoError(t, err)
	part.Write(make([]byte, 2<<20))
	w.Close()
	parsed, err := multipart.NewReader(&form, w.Boundary()).ReadForm(8 << 20)
	require.NoError(t, err)
	f, err := parsed.File["reads"][0].Open()
	require.NoError(t, err)
	server := newStand(t, status(503), status(200))
	resp, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "", f)
	read(t, resp, err)
	for _, r := range server.requests() {
		assert.EqualValues(t, 2<<20, r.length)
	}
	assert.Equal(t, 2, server.hits())
}

// inTurn is a server that leaves the bodies to its handlers.
func inTurn(t testing.TB, answers ...http.HandlerFunc) *httptest.Server {
	var n atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answers[min(int(n.Add(1)), len(answers))-1](w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

// A redirect that asks for a wait holds no connection meanwhile, and is waited for
// only if it is followed; then the caller's request is in the response.
func TestRedirectsThatWait(t *testing.T) {
	server := routes(t, map[string][]http.HandlerFunc{
		"/a": {status(302, "Location", "/b", "Retry-After", "0.1"), status(302, "Location", "/b", "Retry-After", "60")}, "/b": {status(200)},
	})
	cfg := retry.Config{}
	var client *retry.RetryableClient
	freed := false
	cfg.OnWait = func(ctx context.Context, e retry.Event) {
		assert.Equal(t, retry.WaitRetryAfter, e.Why)
		resp, err := client.Get(ctx, server.URL+"/b")
		read(t, resp, err)
		freed = true
	}
	client = outcomeClient(t, &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}, cfg)
	resp, err := client.Get(t.Context(), server.URL+"/a")
	read(t, resp, err)
	assert.True(t, freed)

	last := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	cfg = soon
	cfg.AttemptTimeout = time.Minute
	began := time.Now()
	req := newRequest(t, "GET", server.URL+"/a", nil)
	resp, err = outcomeClient(t, last, cfg).Do(req)
	code, _ := read(t, resp, err)
	assert.Equal(t, 302, code)
	assert.Same(t, req, resp.Request)
	assert.NoError(t, resp.Request.Context().Err())
	assert.Less(t, time.Since(began), 30*time.Second)
}

// The wait is the one of Retry-After alone, and what the client takes before it follows
// counts: then it is not reported.
func TestRedirectWithoutAWait(t *testing.T) {
	for name, header := range map[string][]string{
		"none":           {"Location", "/b"},
		"another header": {"Location", "/b", "X-RateLimit-Reset", "60", "X-RateLimit-Remaining", "0", "Retry-After-Ms", "60000"},
		"over":           {"Location", "/b", "Retry-After", "5"},
	} {
		bubble(t, name, func(t *testing.T) {
			base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(302, "", header...), answerOf(200, "")}}
			cfg := soon
			cfg.OnWait = func(_ context.Context, e retry.Event) { t.Errorf("waits for %v", e.Delay) }
			client := outcomeClient(t, &http.Client{Transport: base, CheckRedirect: func(*http.Request, []*http.Request) error {
				time.Sleep(5 * time.Second)
				return nil
			}}, cfg)
			start := time.Now()
			resp, err := client.Get(t.Context(), "http://gene.example/")
			read(t, resp, err)
			assert.Equal(t, 5*time.Second, time.Since(start))
		})
	}
}

// What OnStart puts into the context of a request is found by the request that it is
// redirected to, behind what the caller's own context has; a Transport sees each for itself.
func TestTraceGoesOnBehindARedirect(t *testing.T) {
	type own struct{}
	type hook struct{}
	base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(302, "", "Location", "/b"), answerOf(200, "")}}
	var seen []any
	cfg := soon
	cfg.OnStart = func(ctx context.Context, _ retry.Event) context.Context {
		seen = append(seen, ctx.Value(hook{}), ctx.Value(own{}))
		return context.WithValue(ctx, hook{}, len(seen))
	}
	req := newRequest(t, "GET", "http://gene.example/", nil)
	resp, err := outcomeClient(t, &http.Client{Transport: base}, cfg).Do(req.WithContext(context.WithValue(t.Context(), own{}, "BRCA1")))
	read(t, resp, err)
	assert.Equal(t, []any{nil, "BRCA1", 2, "BRCA1"}, seen)

	base.requests, seen = nil, nil
	transport, err := retry.NewTransport(base, cfg)
	require.NoError(t, err)
	resp, err = (&http.Client{Transport: transport}).Do(req)
	read(t, resp, err)
	assert.Equal(t, []any{nil, nil, nil, nil}, seen)
}

// A Location that cannot be read is an error where a client must follow it, and nowhere
// else.
func TestMalformedLocationThatIsNotFollowed(t *testing.T) {
	for _, code := range []int{200, 201, 302} {
		base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(code, "", "Location", "http://[::1")}}
		transport, err := retry.NewTransport(base, soon)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(newRequest(t, "GET", "http://gene.example/", nil))
		got, _ := read(t, resp, err)
		assert.Equal(t, code, got)
		if code != 302 {
			resp, err = outcomeClient(t, &http.Client{Transport: base}, soon).Get(t.Context(), "http://gene.example/")
			got, _ = read(t, resp, err)
			assert.Equal(t, code, got)
		}
	}
}

// An error that is the end of the context, or its cause, comes in the place of the response
// that a check gave it for; any other comes with the response.
func TestCheckThatReturnsTheEndOfTheContext(t *testing.T) {
	for name, c := range map[string]struct {
		err      func(context.Context) error
		response bool
	}{
		"error": {context.Context.Err, false}, "cause": {context.Cause, false}, "other": {func(context.Context) error { return errDown }, true},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		transport, err := retry.NewTransport(answering(200), retry.Config{RetryIf: func(error) bool { return false }},
			retry.CheckResponse(func(*http.Response) error {
				cancel(errCause)
				return retry.Permanent(c.err(ctx))
			}))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(newRequest(t, "GET", "http://gene.example/", nil).WithContext(ctx))
		if c.response {
			assert.NoError(t, err, name)
			resp.Body.Close()
			continue
		}
		assert.ErrorIs(t, err, c.err(ctx), name)
		assert.Nil(t, resp, name)
	}
}

// The retries of a Transport inside of another one are that one's: the error tells of no
// others.
func TestErrorOfATransportWithinATransport(t *testing.T) {
	for _, failure := range []error{errDown, retry.RetryAfter(errDown, time.Millisecond)} {
		inner, err := retry.NewTransport(roundTrip(func(*http.Request) (*http.Response, error) { return nil, failure }), soon)
		require.NoError(t, err)
		base := roundTrip(func(req *http.Request) (*http.Response, error) { return inner.RoundTrip(req) })
		_, err = outcomeClient(t, &http.Client{Transport: base}, soon).Get(t.Context(), "http://gene.example/")
		e := gaveUp(t, err, retry.ErrMaxRetries)
		assert.Equal(t, 4, e.Attempts)
		var another *retry.Error
		assert.False(t, errors.As(e.Err, &another), "%v", err)
		assert.ErrorIs(t, err, errDown)
	}
}

// A body that is recorded while it streams has one reader at a time, which those that send
// a request twice must know.
func TestRecordedBodyIsNamedAsSuch(t *testing.T) {
	for recorded, body := range map[bool]io.Reader{true: struct{ io.Reader }{strings.NewReader("x")}, false: strings.NewReader("x")} {
		for _, retries := range []int{0, retry.NoRetries} {
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				assert.Equal(t, recorded, attempt.Of(req.Context()).Recorded)
				return answering(200).RoundTrip(req)
			})
			transport, err := retry.NewTransport(base, retry.Config{MaxRetries: retries})
			require.NoError(t, err)
			resp, err := transport.RoundTrip(newRequest(t, "PUT", "http://gene.example/", body))
			read(t, resp, err)
		}
	}
}

// A 307 needs the body once more: one that was remembered, or a file, is sent to
// where it leads; without one that is left, the 307 is no success.
func TestRedirectWithAOneShotBody(t *testing.T) {
	for _, size := range []int64{1000, 2 << 20} {
		server := inTurn(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Location", "/b")
			w.WriteHeader(307)
		}, func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			assert.Equal(t, size, n)
		})
		body := &countedClose{Reader: io.LimitReader(endless{}, size)}
		resp, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL+"/a", "", body)
		if size < 1<<20 {
			read(t, resp, err)
		} else {
			assert.ErrorIs(t, err, retry.ErrBodyNotReplayable)
		}
		assertClosed(t, body)
	}
}

// A peer whose body does not end a Read on Close does not hang the drain.
func TestBodyThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		attempts := 0
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: 503, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(hanging(hang)), Request: req}
			if attempts++; attempts == 2 {
				resp.StatusCode, resp.Body = 200, http.NoBody
			}
			return resp, nil
		})
		start := time.Now()
		resp, err := outcomeClient(t, &http.Client{Transport: base}, soon).Get(t.Context(), "http://gene.example/")
		read(t, resp, err)
		assert.Less(t, time.Since(start), time.Second)
	})
}

// What WrapTransport puts around a body need not pass Close on. It was taken for one of
// net/http's, and a Read that hung held the call for as long as it liked.
func TestBodyOfAWrapperThatHangs(t *testing.T) {
	hang := make(chan struct{})
	release := sync.OnceFunc(func() { close(hang) })
	defer release()
	defer time.AfterFunc(5*time.Second, release).Stop()
	server := newStand(t, status(503), status(200))
	wrap := retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil && resp.StatusCode == 503 {
				resp.Body.Close()
				resp.ContentLength, resp.Body = -1, io.NopCloser(hanging(hang))
			}
			return resp, err
		})
	})
	start := time.Now()
	resp, err := outcomeClient(t, nil, soon, wrap).Get(t.Context(), server.URL)
	read(t, resp, err)
	assert.Less(t, time.Since(start), 5*time.Second)
}

type hanging chan struct{}

func (h hanging) Read([]byte) (int, error) { <-h; return 0, io.EOF }

// A client over a client keeps its time limit and its options.
func TestOptionsAreInherited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		server, base := newPiped(t, hang, hang, status(200))
		base.Timeout = 40 * time.Millisecond
		checks := 0
		first := outcomeClient(t, base, soon, retry.CheckResponse(func(*http.Response) error { checks++; return nil }))
		cfg := soon
		cfg.MaxRetries = 1
		_, err := outcomeClient(t, first.StandardClient(), cfg).Get(t.Context(), server.URL)
		assert.ErrorIs(t, err, retry.ErrMaxRetries)
		assert.Equal(t, 2, server.hits())

		resp, err := outcomeClient(t, first.StandardClient(), cfg).Get(t.Context(), server.URL)
		read(t, resp, err)
		assert.Equal(t, 1, checks)
	})
}

// A Transport whose context ends returns the response or the context's error, and
// never the status as an error.
func TestTransportNeverAStatusError(t *testing.T) {
	server := newStand(t, status(404))
	ctx, cancel := context.WithCancel(t.Context())
	cfg := soon
	cfg.RetryIf = func(error) bool { cancel(); return false }
	transport, err := retry.NewTransport(&http.Transport{}, cfg)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(newRequest(t, "GET", server.URL, nil).WithContext(ctx))
	if err != nil {
		assert.ErrorIs(t, err, context.Canceled)
		return
	}
	assert.Equal(t, 404, resp.StatusCode)
	resp.Body.Close()
}

// routes is a server of several paths, each with its script.
func routes(t testing.TB, scripts map[string][]http.HandlerFunc) *stand {
	counts := map[string]int{}
	var mu sync.Mutex
	return newStand(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n := counts[r.URL.Path]
		counts[r.URL.Path]++
		mu.Unlock()
		script := scripts[r.URL.Path]
		script[min(n, len(script)-1)](w, r)
	})
}

func paths(s *stand) (all []string) {
	for _, r := range s.requests() {
		all = append(all, r.path)
	}
	return all
}

func TestEarlierHopsAreNotRepeated(t *testing.T) {
	for _, method := range []string{"PUT", "POST"} {
		server := routes(t, map[string][]http.HandlerFunc{
			"/a": {status(307, "Location", "/b")},
			"/b": {status(503), status(503), status(200)},
		})
		resp, err := outcomeClient(t, nil, soon).Do(newRequest(t, method, server.URL+"/a", strings.NewReader("body")))
		read(t, resp, err)
		assert.Equal(t, []string{"/a", "/b", "/b", "/b"}, paths(server))
		keys := map[string]bool{}
		for _, r := range server.requests() {
			assert.Equal(t, "body", r.body)
			keys[r.header.Get("Idempotency-Key")] = true
		}
		assert.Len(t, keys, 1, "one key for the chain")
		assert.Equal(t, method == "PUT", keys[""])
	}

	// Nor where the chain fails to its end.
	server := routes(t, map[string][]http.HandlerFunc{"/a": {status(307, "Location", "/b")}, "/b": {status(503)}})
	cfg := soon
	cfg.MaxRetries = 2
	_, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL+"/a")
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Equal(t, []string{"/a", "/b", "/b", "/b"}, paths(server))
}

// The key made for one host's POST goes nowhere else than a redirect leads it, and
// not into the GET that a 303 turns it into.
func TestKeysAcrossRedirects(t *testing.T) {
	server := routes(t, map[string][]http.HandlerFunc{
		"/a": {status(503), status(303, "Location", "/b")},
		"/b": {status(503), status(200)},
		"/c": {status(503), status(503), status(200)},
	})
	client := outcomeClient(t, nil, soon)
	req := newRequest(t, "POST", server.URL+"/a", strings.NewReader("x"))
	resp, err := client.Do(req)
	read(t, resp, err)
	assert.Empty(t, req.Header, "the caller's request is as it was")
	seen := server.requests()
	require.Len(t, seen, 4)
	first := seen[0].header.Get("Idempotency-Key")
	assert.NotEmpty(t, first)
	assert.Equal(t, first, seen[1].header.Get("Idempotency-Key"))
	for _, r := range seen[2:] {
		assert.Equal(t, "GET", r.method)
		assert.Empty(t, r.header.Get("Idempotency-Key"))
	}

	// Another call, another key; the caller's own is kept.
	keys := map[string]int{}
	for _, own := range []string{"", "mine"} {
		req = newRequest(t, "PATCH", server.URL+"/c", strings.NewReader("x"))
		if own != "" {
			req.Header.Set("Idempotency-Key", own)
		}
		resp, err = client.Do(req)
		read(t, resp, err)
	}
	for _, r := range server.requests()[4:] {
		keys[r.header.Get("Idempotency-Key")]++
	}
	delete(keys, first)
	assert.Len(t, keys, 2)
	assert.Equal(t, 1, keys["mine"])
}

func TestRedirectsAreTheClients(t *testing.T) {
	server := routes(t, map[string][]http.HandlerFunc{
		"/a": {status(503), status(307, "Location", "/b", "Retry-After", "3600")},
	})
	transport, err := retry.NewTransport(nil, soon)
	require.NoError(t, err)
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(server.URL + "/a")
	got, _ := read(t, resp, err)
	assert.Equal(t, 307, got)
	assert.Equal(t, []string{"/a", "/a"}, paths(server))
}

func TestEachHopHasItsAttempts(t *testing.T) {
	scripts := map[string][]http.HandlerFunc{"/5": {status(503), status(200)}}
	for _, hop := range []string{"1", "2", "3", "4"} {
		scripts["/"+hop] = []http.HandlerFunc{status(503), status(302, "Location", "/"+string(hop[0]+1))}
	}
	server := routes(t, scripts)
	cfg := soon
	cfg.MaxRetries = 1
	resp, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL+"/1")
	read(t, resp, err)
	assert.Equal(t, []string{"/1", "/1", "/2", "/2", "/3", "/3", "/4", "/4", "/5", "/5"}, paths(server))
}

func TestHTTPTrace(t *testing.T) {
	server := newStand(t, status(503), status(503), func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(103)
		w.WriteHeader(200)
	})
	var conns, wrote, early int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { conns++ },
		WroteRequest: func(httptrace.WroteRequestInfo) { wrote++ },
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			early++
			return nil
		},
	})
	resp, err := outcomeClient(t, nil, soon).Get(ctx, server.URL)
	read(t, resp, err)
	assert.Equal(t, []int{3, 3, 1}, []int{conns, wrote, early})
}

func TestAttemptNumbers(t *testing.T) {
	server := newStand(t, status(503), status(503), status(200))
	client := outcomeClient(t, &http.Client{Transport: counting{http.DefaultTransport}}, soon)
	resp, err := client.Get(t.Context(), server.URL)
	read(t, resp, err)
	for i, r := range server.requests() {
		assert.Equal(t, string(rune('0'+i)), r.header.Get("X-Attempt"))
	}
	bare := newStand(t, status(503), status(200))
	resp, err = outcomeClient(t, nil, soon).Get(t.Context(), bare.URL)
	read(t, resp, err)
	assert.ElementsMatch(t, []string{"User-Agent", "Accept-Encoding"}, keysOf(bare.requests()[1].header), "nothing of ours on the wire")
}

func keysOf(h http.Header) (names []string) {
	for name := range h {
		names = append(names, name)
	}
	return names
}

func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, status(200))
		cfg, tr := track(soon)
		cfg.AttemptTimeout = 30 * time.Millisecond
		cfg.Backoff = retry.ConstantBackoff(60 * time.Millisecond) // longer than the attempt's whole time
		resp, err := outcomeClient(t, base, cfg).Get(t.Context(), server.URL)
		read(t, resp, err)
		assert.Equal(t, 2, server.hits())
		require.Len(t, tr.errs, 1)
		assert.ErrorIs(t, tr.errs[0], context.DeadlineExceeded)
		assert.Equal(t, 90*time.Millisecond, tr.last().Elapsed)
	})
}

// However the caller treats the body, the attempt's context ends with it.
func TestContextEndsWithTheBody(t *testing.T) {
	for name, treat := range map[string]func(*http.Response){
		"read to the end": func(resp *http.Response) { io.Copy(io.Discard, resp.Body) },
		"closed early":    func(resp *http.Response) { resp.Body.Close() },
		"closed twice":    func(resp *http.Response) { resp.Body.Close(); assert.NoError(t, resp.Body.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, bodied(200, 10_000))
			var attempt context.Context
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				attempt = req.Context()
				return http.DefaultTransport.RoundTrip(req)
			})
			cfg := soon
			cfg.AttemptTimeout = time.Minute
			resp, err := outcomeClient(t, &http.Client{Transport: base}, cfg).Get(t.Context(), server.URL)
			require.NoError(t, err)
			require.NoError(t, attempt.Err(), "not before")
			treat(resp)
			select {
			case <-attempt.Done():
			case <-time.After(5 * time.Second):
				t.Error("the context was not released")
			}
		})
	}
}

// A Timeout of the client around a Transport bounds all of it.
func TestOuterTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		transport, err := retry.NewTransport(base.Transport, soon)
		require.NoError(t, err)
		_, err = (&http.Client{Transport: transport, Timeout: 40 * time.Millisecond}).Get(server.URL)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
		assert.Equal(t, 1, server.hits())

		// In the client's form, it bounds each attempt.
		cfg := soon
		cfg.MaxRetries = 1
		base.Timeout = 40 * time.Millisecond
		_, err = outcomeClient(t, base, cfg).Get(t.Context(), server.URL)
		assert.ErrorIs(t, err, retry.ErrMaxRetries)
		assert.Equal(t, 3, server.hits())
	})
}

// A load balancer's cookie on a 503 goes out with the next attempt, once.
func TestCookiesBetweenAttempts(t *testing.T) {
	server := newStand(t, status(503, "Set-Cookie", "lb=2"), func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("lb"); err != nil || c.Value != "2" {
			w.WriteHeader(400)
		}
	})
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := outcomeClient(t, &http.Client{Transport: &http.Transport{}, Jar: jar}, soon)
	req := newRequest(t, "GET", server.URL, nil)
	req.AddCookie(&http.Cookie{Name: "own", Value: "1"})
	jar.SetCookies(req.URL, []*http.Cookie{{Name: "lb", Value: "1"}})
	resp, err := client.Do(req)
	read(t, resp, err)
	assert.ElementsMatch(t, []string{"own=1", "lb=1"}, strings.Split(server.requests()[0].header.Get("Cookie"), "; "))
	assert.ElementsMatch(t, []string{"own=1", "lb=2"}, strings.Split(server.requests()[1].header.Get("Cookie"), "; "))
	assert.Equal(t, []string{"own=1"}, req.Header["Cookie"], "the caller's request is as it was")
}

// A client over a client of this package, and a transport over a transport, do not
// multiply their attempts, even with something in between.
func TestNestedClients(t *testing.T) {
	inner, err := retry.NewTransport(&http.Transport{}, soon)
	require.NoError(t, err)
	between := roundTrip(func(req *http.Request) (*http.Response, error) { return inner.RoundTrip(req) })
	for name, base := range map[string]*http.Client{
		"transport":        {Transport: inner},
		"with one between": {Transport: between},
		"standard client":  outcomeClient(t, nil, soon).StandardClient(),
	} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, status(503))
			_, err := outcomeClient(t, base, soon).Get(t.Context(), server.URL)
			assert.ErrorIs(t, err, retry.ErrMaxRetries)
			assert.Equal(t, 4, server.hits())
		})
	}
}

func TestBreakerPerHost(t *testing.T) {
	down, up := newStand(t, status(500)), newStand(t, status(200))
	breakers := map[string]*retry.CircuitBreaker{}
	client := outcomeClient(t, nil, soon, retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 2}), retry.PerHost(func(host string, cfg *retry.Config) error {
		breakers[host] = cfg.Breaker
		return nil
	}))
	_, err := client.Get(t.Context(), down.URL)
	var open *retry.OpenError
	require.ErrorAs(t, err, &open)
	var found *retry.StatusError
	assert.ErrorAs(t, err, &found, "what opened it")
	resp, err := client.Get(t.Context(), up.URL)
	read(t, resp, err)
	assert.Equal(t, retry.StateOpen, breakers[down.URL].State())
	assert.Equal(t, retry.StateClosed, breakers[up.URL].State())

	// Open: not a single request, nor a wait.
	body := &countedClose{Reader: strings.NewReader("x")}
	_, err = client.Do(newRequest(t, "PUT", down.URL, body))
	require.ErrorAs(t, err, &open)
	assert.Equal(t, down.URL, open.Name)
	assert.Positive(t, open.RetryAfter)
	assert.Equal(t, 2, down.hits())
	assert.EqualValues(t, 1, body.closed.Load())
}

// Spellings of one address are one host.
func TestSpellingsOfAHost(t *testing.T) {
	var hosts []string
	client := outcomeClient(t, &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})}, soon, retry.PerHost(func(host string, _ *retry.Config) error { hosts = append(hosts, host); return nil }))
	for _, address := range []string{"https://gene.example", "https://GENE.example/x", "HTTPS://gene.example:443", "http://gene.example", "https://gene.example:8443", "https://[::1]/"} {
		resp, err := client.Get(t.Context(), address)
		read(t, resp, err)
	}
	assert.Equal(t, []string{"https://gene.example", "http://gene.example", "https://gene.example:8443", "https://[::1]"}, hosts)
}

func TestWhatABreakerCounts(t *testing.T) {
	errDisk := io.ErrNoProgress
	for _, test := range []struct {
		name     string
		answer   http.HandlerFunc
		body     io.Reader
		failures int
	}{
		{"404", status(404), nil, 0},
		{"429", status(429), nil, 0},
		{"the body's own error", status(200), failingReader{errDisk}, 0},
		{"500", status(500), nil, 4},
		{"reset", reset, nil, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newStand(t, test.answer)
			breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 100})
			require.NoError(t, err)
			cfg := soon
			cfg.Breaker = breaker
			_, err = outcomeClient(t, nil, cfg).Do(newRequest(t, "PUT", server.URL, test.body))
			assert.Error(t, err)
			assert.Equal(t, test.failures, breaker.Snapshot().Failures, "one for each attempt")
		})
	}
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
			cancel(io.ErrClosedPipe)
			<-r.Context().Done()
		})
		breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
		require.NoError(t, err)
		cfg := soon
		cfg.Breaker = breaker
		_, err = outcomeClient(t, nil, cfg).Get(ctx, server.URL)
		assert.Error(t, err)
		assert.Equal(t, retry.StateClosed, breaker.State())
	})
}

func TestHTTPHalfOpenBreaker(t *testing.T) {
	entered, release := make(chan struct{}, 50), make(chan struct{})
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(500)
			return
		}
		entered <- struct{}{}
		<-release
	}))
	defer server.Close()
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: 10 * time.Millisecond, ProbeTimeout: time.Minute})
	require.NoError(t, err)
	cfg := soon
	cfg.Breaker = breaker
	cfg.MaxRetries = retry.NoRetries
	client := outcomeClient(t, nil, cfg)
	_, err = client.Get(t.Context(), server.URL)
	require.Error(t, err)
	require.Eventually(t, func() bool { return breaker.State() == retry.StateHalfOpen }, 5*time.Second, time.Millisecond)
	var all sync.WaitGroup
	var rejected atomic.Int32
	for range 50 {
		all.Go(func() {
			resp, err := client.Get(t.Context(), server.URL)
			if err != nil {
				assert.ErrorIs(t, err, retry.ErrCircuitOpen)
				rejected.Add(1)
				return
			}
			resp.Body.Close()
		})
	}
	assert.Eventually(t, func() bool { return rejected.Load() == 49 }, 5*time.Second, time.Millisecond)
	close(release)
	all.Wait()
	assert.EqualValues(t, 2, requests.Load())
	assert.Equal(t, retry.StateClosed, breaker.State())
}

// The form for code that wants an *http.Client keeps net/http's contract, and the
// base's Timeout per attempt.
func TestStandardClientFollowsTheTransportsRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		server, base := newPiped(t, hang, status(503), status(503), status(503), func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		})
		base.Timeout = 40 * time.Millisecond
		client := outcomeClient(t, base, soon).StandardClient()
		assert.Zero(t, client.Timeout)
		resp, err := client.Get(server.URL)
		got, _ := read(t, resp, err)
		assert.Equal(t, 503, got)
		assert.Equal(t, 4, server.hits())

		_, err = client.Post(server.URL, "", strings.NewReader("x"))
		assert.Error(t, err)
		assert.Equal(t, 5, server.hits())
		assert.Empty(t, server.requests()[4].header.Get("Idempotency-Key"))
		assert.Equal(t, 40*time.Millisecond, base.Timeout, "the base client is as it was")
	})
}

// A Location that is no URL ends the request, once, and is not quoted.
func TestMalformedLocation(t *testing.T) {
	for _, location := range []string{"http://user:SECRET/word@host/", "http://[::1?k=SECRET", "http://SECRET:SECRET@x:port/", "%zz?k=SECRET", "://SECRET", ":SECRET"} {
		server := newStand(t, status(302, "Location", location))
		log, logger := newLog()
		cfg := soon
		cfg.Logger = logger
		client := outcomeClient(t, nil, cfg)
		_, got := client.Get(t.Context(), server.URL)
		_, decoded := retry.GetJSON[int](t.Context(), client, server.URL)
		for _, err := range []error{got, decoded} {
			assert.ErrorContains(t, err, "malformed Location")
			assert.False(t, retry.Retryable(err), "by a Do around it")
			assert.NotContains(t, fmt.Sprintf("%+v", err)+log.String(), "SECRET")
		}
		assert.Equal(t, 2, server.hits())
	}
}

// A redirect that asks for too long a wait says how long, and what the limit is.
func TestRedirectThatAsksForTooLong(t *testing.T) {
	server := routes(t, map[string][]http.HandlerFunc{"/a": {status(302, "Location", "/b", "Retry-After", "7200")}})
	_, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL+"/a")
	gaveUp(t, err, retry.ErrRetryAfterTooLong)
	assert.ErrorContains(t, err, "wait of 2h0m0s, and MaxRetryAfter is 5m0s")
	assert.Equal(t, []string{"/a"}, paths(server))
}

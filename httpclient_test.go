package retry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// This file walks through the outcomes that matter most, end to end against real
// servers; the files beside it go through the cases one by one.

// A POST whose connection breaks after the handler ran may have been carried
// out. A Transport leaves it at that; a RetryableClient sends it again, with the
// same Idempotency-Key.
func TestPostAfterReset(t *testing.T) {
	var runs atomic.Int32
	var keys []string
	server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		runs.Add(1)
		resetConnection(w)
	})

	for _, body := range []io.Reader{strings.NewReader("x"), nil, io.LimitReader(strings.NewReader("x"), 1)} {
		runs.Store(0)
		_, err := outcomeTransport(t, soon).Post(server.URL, "text/plain", body)
		assert.ErrorIs(t, err, syscall.ECONNRESET)
		assert.EqualValues(t, 1, runs.Load())
	}

	keys = nil
	runs.Store(0)
	body := &countedClose{Reader: strings.NewReader("x")}
	_, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "text/plain", body)
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.EqualValues(t, 4, runs.Load())
	assert.EqualValues(t, 1, body.closed.Load())
	assert.NotEmpty(t, keys[0])
	assert.Equal(t, []string{keys[0], keys[0], keys[0], keys[0]}, keys)
}

// Refused bodies are drained and closed before the wait, so that a pool of one
// connection is enough. The time to drain them is real, and must not be that of a machine
// under load.
func TestOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, append(slices.Repeat([]http.HandlerFunc{bodied(503, 60_000)}, 10), status(200))...)
		base.Transport.(*http.Transport).MaxConnsPerHost = 1
		cfg := soon
		cfg.MaxRetries = 10
		resp, err := outcomeClient(t, base, cfg).Get(t.Context(), server.URL)
		read(t, resp, err)
		assert.Equal(t, 11, server.hits())
		assert.Equal(t, 1, server.connections())
	})
}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A body that is too long to be remembered is streamed, sent once, and costs no
// more memory than the replay buffer.
func TestLongOneShotBody(t *testing.T) {
	server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(503)
		io.WriteString(w, "down")
	})
	var before, after runtime.MemStats
	body := &countedClose{Reader: io.LimitReader(endless{}, 50<<20)}
	client := outcomeTransport(t, soon)
	runtime.GC()
	runtime.ReadMemStats(&before)
	resp, err := client.Post(server.URL, "application/octet-stream", body)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	assert.Equal(t, "down", string(text), "the last response comes back unread")
	assert.EqualValues(t, 1, body.closed.Load())
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20+512<<10), "bytes allocated in all, by both sides")

	_, err = outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "application/octet-stream", io.LimitReader(endless{}, 2<<20))
	assert.ErrorIs(t, err, retry.ErrBodyNotReplayable)
	var status *retry.StatusError
	require.ErrorAs(t, err, &status)
	assert.Equal(t, 503, status.StatusCode)
	assert.Equal(t, "down", string(status.Body))
}

// A server that answers while the upload still runs must not get a mixture of
// two attempts.
func TestEarlyAnswer(t *testing.T) {
	want := bytes.Repeat([]byte("abcdefgh"), 1<<15)
	file := filepath.Join(t.TempDir(), "upload")
	require.NoError(t, os.WriteFile(file, append([]byte("skip"), want...), 0o600))
	openAt4 := func() io.Reader {
		f, err := os.Open(file)
		require.NoError(t, err)
		f.Seek(4, io.SeekStart)
		return f
	}
	for name, body := range map[string]func() io.Reader{
		"GetBody":  func() io.Reader { return bytes.NewReader(want) },
		"one-shot": func() io.Reader { return io.LimitReader(bytes.NewReader(want), 1<<30) },
		"file":     openAt4,
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) < 3 {
					io.CopyN(io.Discard, r.Body, 1000)
					w.WriteHeader(503)
					return
				}
				if got, _ := io.ReadAll(r.Body); !bytes.Equal(got, want) {
					w.WriteHeader(400)
					fmt.Fprintf(w, "%d bytes", len(got))
				}
			})
			resp, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "application/octet-stream", body())
			require.NoError(t, err)
			resp.Body.Close()
			assert.EqualValues(t, 3, requests.Load())
		})
	}
}

// What cannot change is tried once; what can, until it works or the limits end
// it. The errors are net/http's own.
func TestErrors(t *testing.T) {
	plain := outcomeServer(t, http.NotFound)
	unknownCA := httptest.NewTLSServer(http.NotFoundHandler())
	defer unknownCA.Close()
	wantsCert := httptest.NewUnstartedServer(http.NotFoundHandler())
	wantsCert.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	wantsCert.StartTLS()
	defer wantsCert.Close()
	proxy := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(407) })
	loop := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })

	for _, test := range []struct {
		name, url string
		base      *http.Transport
		attempts  int
	}{
		{"unknown certificate authority", unknownCA.URL, &http.Transport{}, 1},
		{"HTTP on an https URL", strings.Replace(plain.URL, "http:", "https:", 1), &http.Transport{}, 1},
		{"TLS alert", wantsCert.URL, &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, 1},
		{"unknown host", "http://does-not-exist.invalid/", &http.Transport{}, 1},
		{"unsupported scheme", "gopher://localhost/", &http.Transport{}, 1},
		{"no host", "http:///path", &http.Transport{}, 1},
		{"redirect loop", loop.URL, &http.Transport{}, 1},
		{"proxy authentication", "https://example.invalid/", &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }}, 1},
		{"not HTTP", rawServer(t, "220 smtp.example ESMTP\r\n"), &http.Transport{}, 1},
		{"refused", "http://127.0.0.1:1/", &http.Transport{}, 4},
		{"closed without an answer", rawServer(t, ""), &http.Transport{}, 4},
		{"cut in the status line", rawServer(t, "HTTP/1.1 200 OK"), &http.Transport{}, 4},
		{"cut in a header", rawServer(t, "HTTP/1.1 200 OK\r\nContent-Le"), &http.Transport{}, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			attempts := 0
			cfg := soon
			cfg.OnDone = func(_ context.Context, e retry.Event) { attempts = e.Attempt }
			_, err := outcomeClient(t, &http.Client{Transport: test.base}, cfg).Get(t.Context(), test.url)
			require.Error(t, err)
			assert.Equal(t, test.attempts, attempts, "%v", err)
			var wrapped *url.Error
			assert.ErrorAs(t, err, &wrapped)
			assert.Equal(t, test.attempts > 1, errors.Is(err, retry.ErrMaxRetries))
		})
	}
}

// The caller's own body failing, or not being as long as was said, is no fault
// of the host.
func TestOwnBodyFails(t *testing.T) {
	server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
	require.NoError(t, err)
	attempts := 0
	cfg := soon
	cfg.Breaker = breaker
	cfg.OnDone = func(_ context.Context, e retry.Event) { attempts = e.Attempt }
	client := outcomeClient(t, nil, cfg)

	errDisk := errors.New("disk")
	_, err = client.Post(t.Context(), server.URL, "text/plain", io.MultiReader(strings.NewReader("abc"), failingReader{errDisk}))
	assert.ErrorIs(t, err, errDisk)
	assert.Equal(t, 1, attempts)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, io.NopCloser(strings.NewReader("abc")))
	require.NoError(t, err)
	req.ContentLength = 10
	_, err = client.Do(req)
	assert.Error(t, err)
	assert.Equal(t, 1, attempts)
	assert.Equal(t, retry.StateClosed, breaker.State())
}

// A cancel ends the call at once; its cause, the cancel itself and the last
// failure are all to be found.
func TestCancel(t *testing.T) {
	errStop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	requests := 0
	server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
		if requests++; requests == 1 {
			w.WriteHeader(503)
			return
		}
		cancel(errStop)
		<-r.Context().Done()
	})
	_, err := outcomeClient(t, nil, soon).Get(ctx, server.URL)
	assert.ErrorIs(t, err, errStop)
	assert.ErrorIs(t, err, context.Canceled)
	var given *retry.Error
	require.ErrorAs(t, err, &given)
	assert.Equal(t, 2, given.Attempts)
	assert.Equal(t, 2, requests)
}

// An attempt that times out before its headers is retried; a slow body is not
// cut by AttemptTimeout, but by the base client's Timeout.
func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		release := make(chan struct{})
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 1 {
				<-r.Context().Done()
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
			io.WriteString(w, "late")
		})
		cfg := soon
		cfg.AttemptTimeout = 50 * time.Millisecond
		resp, err := outcomeClient(t, base, cfg).Get(t.Context(), server.URL)
		require.NoError(t, err)
		assert.EqualValues(t, 2, requests.Load())
		time.AfterFunc(2*cfg.AttemptTimeout, func() { close(release) })
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		assert.NoError(t, err)
		assert.Equal(t, "late", string(text))

		release = make(chan struct{})
		base.Timeout = 50 * time.Millisecond
		resp, err = outcomeClient(t, base, soon).Get(t.Context(), server.URL)
		require.NoError(t, err)
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// An error page that never ends costs a moment, not more.
func TestDrippingBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			for r.Context().Err() == nil {
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
		start := time.Now()
		_, err := outcomeClient(t, base, soon).Get(t.Context(), server.URL)
		assert.ErrorIs(t, err, retry.ErrMaxRetries)
		assert.Less(t, time.Since(start), 1500*time.Millisecond)
	})
}

// No secret of a URL gets into an error.
func TestSecrets(t *testing.T) {
	missing := outcomeServer(t, http.NotFound)
	host := strings.TrimPrefix(missing.URL, "http://")
	client := outcomeClient(t, nil, soon)
	for _, address := range []string{
		"http://user:SECRET@" + host + "/?sig=SECRET#SECRET",
		"http://SECRET@127.0.0.1:1/?SECRET",
		"http://127.0.0.1:1/?api_key=SECRET&x=SECRET",
		"http://[::1/?sig=SECRET",
		"gopher://user:SECRET@host/?sig=SECRET",
	} {
		_, err := client.Get(t.Context(), address)
		require.Error(t, err)
		assert.NotContains(t, fmt.Sprintf("%v %+v %s", err, err, err), "SECRET")
		for inner := err; inner != nil; inner = errors.Unwrap(inner) {
			assert.NotContains(t, inner.Error(), "SECRET")
		}
	}
}

// The decoding belongs to the attempt: a body that is cut off is fetched again,
// one that does not fit is not.
func TestGetJSON(t *testing.T) {
	var requests atomic.Int32
	answers := []string{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Symbol\": ", "", "HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"Symbol\":\"BRCA1\"}"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, answers[requests.Add(1)-1])
			conn.Close()
		}
	}()
	gene, err := retry.GetJSON[Gene](t.Context(), outcomeClient(t, nil, soon), "http://"+listener.Addr().String())
	require.NoError(t, err)
	assert.Equal(t, "BRCA1", gene.Symbol)
	assert.EqualValues(t, 3, requests.Load())

	for _, body := range []string{`{"Symbol": 5}`, `<html>`, `{"Symbol": "x"} y`} {
		requests.Store(0)
		server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			io.WriteString(w, body)
		})
		_, err := retry.GetJSON[Gene](t.Context(), outcomeClient(t, nil, soon), server.URL)
		assert.Error(t, err, body)
		assert.EqualValues(t, 1, requests.Load(), body)
	}

	server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q", strings.Repeat("x", 5000))
	})
	_, err = retry.GetJSON[string](t.Context(), outcomeClient(t, nil, soon, retry.DecodeLimit(4096)), server.URL)
	var tooLong *http.MaxBytesError
	assert.ErrorAs(t, err, &tooLong)
}

// A client over nothing had no time limit at all: an attempt that a server leaves
// unanswered ends after 30 seconds, and is made again.
func TestNilBaseHasATimeLimit(t *testing.T) {
	release := make(chan struct{})
	server := newStand(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	clock := clockwork.NewFakeClock()
	cfg, tr := track(soon)
	cfg.Clock, cfg.MaxRetries = clock, retry.NoRetries
	client, err := retry.NewRetryableClient(nil, cfg)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	failed := make(chan error, 1)
	go func() {
		_, err := client.Get(t.Context(), server.URL)
		failed <- err
	}()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
	clock.Advance(30*time.Second - 1)
	select {
	case err := <-failed:
		t.Fatal("too early:", err)
	default:
	}
	clock.Advance(1)
	err = <-failed
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, 30*time.Second, gaveUp(t, err, retry.ErrMaxRetries).Elapsed)
	assert.Equal(t, 1, tr.last().Attempt)
}

// The response's request is the caller's own, or, behind a redirect, the last one.
func TestRequestOfTheResponse(t *testing.T) {
	base := &stages{answers: []func(*http.Request) (*http.Response, error){
		answerOf(200, ""), answerOf(200, ""), answerOf(307, "", "Location", "/moved"), answerOf(200, ""),
	}}
	client := outcomeClient(t, &http.Client{Transport: base}, soon)
	for name, body := range map[string]io.Reader{"": nil, "once": struct{ io.Reader }{strings.NewReader("x")}} {
		req := newRequest(t, "PUT", "http://gene.example/", body)
		resp, err := client.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Same(t, req, resp.Request, name)
	}
	resp, err := client.Do(newRequest(t, "PUT", "http://gene.example/", struct{ io.Reader }{strings.NewReader("x")}))
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "/moved", resp.Request.URL.Path)
}

// A client sends what an http.Client would, which it asks only where there is a redirect to
// follow: a URL's user information as a header, the caller's header and a Referer along the
// redirects, GET behind a 303; and it asks CheckRedirect with the same requests.
func TestClientSendsWhatAnHTTPClientDoes(t *testing.T) {
	type sent struct{ method, path, user, own, referer, body string }
	for name, change := range map[string]func(*http.Request){
		"plain":                func(*http.Request) {},
		"no header":            func(r *http.Request) { r.Header = nil },
		"user":                 func(r *http.Request) { r.URL.User = url.UserPassword("me", "secret") },
		"user and credentials": func(r *http.Request) { r.URL.User = url.User("me"); r.Header.Set("Authorization", "Bearer x") },
		"credentials":          func(r *http.Request) { r.Header.Set("Authorization", "Bearer x"); r.Header.Set("Own", "kept") },
	} {
		for _, path := range []string{"/", "/moved", "/seen", "/loop", "/stop", "/refused"} {
			for _, method := range []string{"GET", "PUT"} {
				do := func(with func(*http.Client) func(*http.Request) (*http.Response, error)) (seen []sent, vias []int, code int, failed bool) {
					server := routes(t, map[string][]http.HandlerFunc{
						"/": {status(200)}, "/moved": {status(307, "Location", "/")}, "/seen": {status(303, "Location", "/moved")},
						"/loop": {status(307, "Location", "/loop")}, "/stop": {status(302, "Location", "/")}, "/refused": {status(302, "Location", "/")},
					})
					base := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(req *http.Request, via []*http.Request) error {
						vias = append(vias, len(via))
						switch {
						case path == "/stop":
							return http.ErrUseLastResponse
						case path == "/refused", len(via) > 3:
							return errDown
						}
						return nil
					}}
					req := newRequest(t, method, server.URL+path, nil)
					if method == "PUT" {
						req = newRequest(t, method, server.URL+path, strings.NewReader("body"))
					}
					change(req)
					resp, err := with(base)(req)
					if failed = err != nil; !failed {
						code = resp.StatusCode
						read(t, resp, nil)
					}
					for _, r := range server.requests() {
						referer, _ := strings.CutPrefix(r.header.Get("Referer"), server.URL)
						seen = append(seen, sent{r.method, r.path, r.header.Get("Authorization"), r.header.Get("Own"), referer, r.body})
					}
					base.CloseIdleConnections()
					return seen, vias, code, failed
				}
				wantSeen, wantVias, wantCode, wantFailed := do(func(c *http.Client) func(*http.Request) (*http.Response, error) { return c.Do })
				seen, vias, code, failed := do(func(c *http.Client) func(*http.Request) (*http.Response, error) { return outcomeClient(t, c, soon).Do })
				assert.Equal(t, wantSeen, seen, "%s: %s %s", name, method, path)
				assert.Equal(t, wantVias, vias, "%s: %s %s", name, method, path)
				assert.Equal(t, wantCode, code, "%s: %s %s", name, method, path)
				assert.Equal(t, wantFailed, failed, "%s: %s %s", name, method, path)
			}
		}
	}
}

package retry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A transport of WrapTransport is given the settings that hold for the host, as its
// PerHost and HostBreaker left them, in the first attempt and in a retry, over
// net/http's own transport and over another one.
func TestConfigOf(t *testing.T) {
	answers := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answers++; answers%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	plain := server.Client().Transport
	budget, err := retry.NewBudget(1, 1)
	require.NoError(t, err)
	for name, base := range map[string]http.RoundTripper{"net/http": plain, "another": roundTrip(plain.RoundTrip)} {
		var seen []retry.Config
		look := retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				cfg, ok := retry.ConfigOf(req.Context())
				assert.True(t, ok, name)
				seen = append(seen, cfg)
				return base.RoundTrip(req)
			})
		})
		client, err := retry.NewRetryableClient(&http.Client{Transport: base},
			retry.Config{InitialDelay: time.Nanosecond, AttemptTimeout: time.Minute},
			look, retry.HostBreaker(retry.BreakerConfig{}),
			retry.PerHost(func(_ string, cfg *retry.Config) error { cfg.Budget = budget; return nil }))
		require.NoError(t, err)
		resp, err := client.Get(context.Background(), server.URL)
		require.NoError(t, err, name)
		resp.Body.Close()
		require.Len(t, seen, 2, name)
		for _, cfg := range seen {
			assert.Same(t, budget, cfg.Budget, name)
			assert.NotNil(t, cfg.Gate, name)
			require.NotNil(t, cfg.Breaker, name)
			assert.Equal(t, retry.StateClosed, cfg.Breaker.State(), name)
			assert.Equal(t, time.Minute, cfg.AttemptTimeout, name)
			assert.Equal(t, server.URL, cfg.Name, name)
		}
	}
	_, ok := retry.ConfigOf(context.Background())
	assert.False(t, ok)
	_, ok = retry.ConfigOf(nil) //lint:ignore SA1012 it is as RetryCount, which has no panic for it either
	assert.False(t, ok)
}

// The simplest of requests, with nothing to add to it, was given to the transports of
// WrapTransport as the caller's own: what one of them added to the header was in the
// caller's request afterwards.
func TestWrapTransportGetsACopy(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	sign := retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			req.Header.Add("X-Signature", "1")
			return base.RoundTrip(req)
		})
	})
	transport, err := retry.NewTransport(server.Client().Transport, retry.Config{}, sign)
	require.NoError(t, err)
	for range 3 { // once it is known that the host speaks HTTP/1, nothing is watched
		req, err := http.NewRequest(http.MethodGet, server.URL, nil)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Empty(t, req.Header)
	}
}

// A base is made to report on its connections only where the answer may decide something:
// a GET by a base other than net/http's own may be repeated in any case.
func TestTracesOnlyWhereTheyDecide(t *testing.T) {
	for method, want := range map[string]bool{"GET": false, "PUT": false, "PATCH": true} {
		for name, option := range map[string]retry.Option{
			"wrapped": retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper { return roundTrip(base.RoundTrip) }), "bare": nil,
		} {
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				assert.Equal(t, want, httptrace.ContextClientTrace(req.Context()) != nil, "%s, %s", method, name)
				return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
			})
			client := outcomeClient(t, &http.Client{Transport: base}, soon, option, retry.IdempotentOnly())
			_, err := client.Do(newRequest(t, method, "http://genes.example/", nil))
			assert.NoError(t, err)
		}
	}
}

// A transport that signs saw "X-Idempotency-Key: []" on PUT and DELETE, a mark for
// net/http that is not sent, signed it, and got SignatureDoesNotMatch. The mark is set
// beneath it, and still works: net/http itself repeats a PUT whose connection, used
// before, turned out to be closed.
func TestSignerSeesWhatIsSent(t *testing.T) {
	for _, method := range []string{"PUT", "DELETE", "QUERY", "POST", "PATCH"} {
		for _, query := range []string{"", "?signature=x"} {
			t.Run(method+query, func(t *testing.T) {
				server := newStand(t, status(200), reset, status(200))
				var signed []http.Header
				cfg, tr := track(soon)
				client := outcomeClient(t, nil, cfg, retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
					return roundTrip(func(req *http.Request) (*http.Response, error) {
						signed = append(signed, req.Header.Clone())
						req = req.Clone(req.Context())
						req.URL.RawQuery = strings.TrimPrefix(query, "?")
						return base.RoundTrip(req)
					})
				}))
				resp, err := client.Get(t.Context(), server.URL)
				read(t, resp, err)
				req := newRequest(t, method, server.URL, strings.NewReader("x"))
				resp, err = client.Do(req.WithContext(retry.WithIdempotent(req.Context(), true)))
				read(t, resp, err)
				assert.Equal(t, 1, tr.last().Attempt, "net/http repeated it")
				require.Len(t, signed, 2)
				for _, r := range server.requests()[1:] {
					for name := range signed[1] {
						assert.Equal(t, signed[1][name], r.header[name], name)
					}
					assert.NotContains(t, r.header, "X-Idempotency-Key")
				}
				assert.Len(t, server.requests(), 3)
			})
		}
	}
}

// net/http itself repeats a GET, and whatever has a key, when a connection that was used
// before breaks with the request on it. A caller who says that the request is not
// idempotent had it carried out twice all the same.
func TestNotIdempotentHoldsForNetHTTPToo(t *testing.T) {
	for _, method := range []string{"GET", "", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "LOCK"} {
		for _, key := range []string{"", "Idempotency-Key", "X-Idempotency-Key"} {
			for _, body := range []string{"", "x"} {
				t.Run(strings.Join([]string{method, key, body}, " "), func(t *testing.T) {
					server := newStand(t, status(200), reset, status(200))
					client := outcomeClient(t, nil, soon)
					send := func(idempotent bool) (*http.Response, error) {
						req := newRequest(t, method, server.URL, nil)
						if body != "" {
							req = newRequest(t, method, server.URL, strings.NewReader(body))
						}
						if key != "" {
							req.Header.Set(key, "k")
						}
						return client.Do(req.WithContext(retry.WithIdempotent(req.Context(), idempotent)))
					}
					resp, err := send(true)
					read(t, resp, err)
					_, err = send(false)
					assert.ErrorIs(t, err, retry.ErrNotIdempotent)
					require.Equal(t, 2, server.hits())
					first, second := server.requests()[0], server.requests()[1]
					assert.Equal(t, first.header, second.header)
					assert.Equal(t, first.body, second.body)
					assert.Equal(t, first.length, second.length)
					assert.Empty(t, second.encoding)
				})
			}
		}
	}
}

// RetryCount was 0 in a check and in a decoder, so that what was to be done once, at
// the first failure, was done at each.
func TestChecksAndDecodersKnowTheAttempt(t *testing.T) {
	for _, code := range []int{500, 401, 200} {
		server := newStand(t, status(code))
		var checks, decodes []int
		client := outcomeClient(t, nil, soon, retry.CheckResponse(func(resp *http.Response) error {
			checks = append(checks, retry.RetryCount(resp.Request.Context()))
			if code == 401 {
				return retry.RetryAfter(retry.CheckStatus(resp), 0)
			}
			return nil
		}))
		_, err := retry.Fetch(client, newRequest(t, "GET", server.URL, nil), func(resp *http.Response) (int, error) {
			decodes = append(decodes, retry.RetryCount(resp.Request.Context()))
			return 0, assert.AnError
		})
		assert.Error(t, err)
		assert.Equal(t, []int{0, 1, 2, 3}, checks, code)
		if code == 200 {
			assert.Equal(t, checks, decodes)
		}
	}
}

func zipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.Bytes()
}

// Whether a body is complete depends on how it is framed and coded. A POST whose
// complete answer was empty was sent again, although the status said that it was
// carried out.
func TestEmptyAnswerToAPostIsNotAskedForAgain(t *testing.T) {
	for _, framing := range []string{"length", "chunks", "trailers", "close"} {
		for coding, body := range map[string][]byte{"": nil, "gzip": zipped("")} {
			for how, fetch := range fetches {
				for _, sender := range senders {
					t.Run(strings.Join([]string{framing, coding, how, sender.method}, " "), func(t *testing.T) {
						url, hits := newAnswers(t, framed(framing, coding, body))
						_, err := fetch(outcomeClient(t, nil, soon, sender.opts...), newRequest(t, sender.method, url, strings.NewReader("x")))
						assert.Equal(t, how == "DecodeJSON", err == nil, "%v", err)
						assert.EqualValues(t, 1, hits.Load())
					})
				}
			}
		}
	}
}

// lateEnd is an empty body whose end comes late.
type lateEnd struct{ after time.Duration }

func (b lateEnd) Read([]byte) (int, error) { time.Sleep(b.after); return 0, io.EOF }
func (b lateEnd) Close() error             { return nil }

// The end of an empty answer may come a moment after its header. A decoder that read
// nothing had a POST sent again when that took 50ms, the time that is spent on a body that
// is only thrown away.
func TestLateEndOfAnEmptyAnswerToAPost(t *testing.T) {
	for after, want := range map[time.Duration]int{300 * time.Millisecond: 1, 2 * time.Second: 4} {
		synctest.Test(t, func(t *testing.T) {
			requests := 0
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				requests++
				return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1, TransferEncoding: []string{"chunked"}, Body: lateEnd{after}, Request: req}, nil
			})
			_, err := fetches["own decoder that reads nothing"](outcomeClient(t, &http.Client{Transport: base}, soon), newRequest(t, "POST", "http://example.org", strings.NewReader("x")))
			assert.Error(t, err)
			assert.Equal(t, want, requests, after)
			time.Sleep(time.Minute) // for the reads that are left behind
		})
	}
}

// A body whose checksum alone shows that it is damaged was taken for good: the
// decoder had its value before the end came.
func TestDamagedBodyIsNoSuccess(t *testing.T) {
	good := zipped(`{"a":"b"}`)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-6] ^= 0xff // in the checksum
	for _, framing := range []string{"length", "chunks", "trailers", "close"} {
		for name, fetch := range map[string]func(*retry.RetryableClient, string) (map[string]string, error){
			"GET": func(c *retry.RetryableClient, url string) (map[string]string, error) {
				return retry.GetJSON[map[string]string](context.Background(), c, url)
			},
			"POST with a key": func(c *retry.RetryableClient, url string) (map[string]string, error) {
				return retry.PostJSON[map[string]string](context.Background(), c, url, 1)
			},
			"own decoder": func(c *retry.RetryableClient, url string) (map[string]string, error) {
				return retry.Fetch(c, newRequest(t, "GET", url, nil), func(resp *http.Response) (map[string]string, error) {
					_, err := resp.Body.Read(make([]byte, 1)) // as much as it wants
					return map[string]string{"a": "b"}, err
				})
			},
		} {
			t.Run(framing+name, func(t *testing.T) {
				url, hits := newAnswers(t, framed(framing, "gzip", damaged), framed(framing, "gzip", good))
				got, err := fetch(outcomeClient(t, nil, soon), url)
				assert.NoError(t, err)
				assert.Equal(t, map[string]string{"a": "b"}, got)
				assert.EqualValues(t, 2, hits.Load())
			})
		}
	}
	// DecodeJSON without Fetch: of a value that fills its first read exactly, 512 bytes,
	// no further read shows the end.
	for _, length := range []int{9, 512} {
		value := zipped(`{"a":"` + strings.Repeat("b", length-len(`{"a":""}`)) + `"}`)
		value[len(value)-6] ^= 0xff
		url, _ := newAnswers(t, framed("length", "gzip", value))
		resp, err := http.Get(url)
		require.NoError(t, err)
		_, err = retry.DecodeJSON[map[string]string](resp)
		assert.ErrorIs(t, err, gzip.ErrChecksum, length)
		resp.Body.Close()
	}

	url, hits := newAnswers(t, framed("length", "gzip", damaged))
	_, err := retry.PostJSON[map[string]string](t.Context(), outcomeClient(t, nil, soon, retry.IdempotentOnly()), url, 1)
	assert.ErrorIs(t, err, retry.ErrNotIdempotent)
	assert.ErrorIs(t, err, gzip.ErrChecksum)
	assert.EqualValues(t, 1, hits.Load())
}

// Lines of a log about a request say which: several hosts share a Config, and a name.
func TestLogLinesNameTheRequest(t *testing.T) {
	server := newStand(t, status(502, "Connection", "close"), reset, status(500))
	text, logger := newLog()
	cfg, tr := track(soon)
	cfg.Logger, cfg.Name = logger, "genes"
	_, err := outcomeClient(t, nil, cfg).Post(t.Context(), server.URL+"/?key=SECRET", "", nil)
	require.Error(t, err)
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	require.Len(t, lines, 4)
	for i, want := range []string{"status=502", "", "status=500", "status=500"} {
		assert.Contains(t, lines[i], "name=genes method=POST host="+server.URL)
		if assert.Contains(t, lines[i], want); want == "" {
			assert.NotContains(t, lines[i], "status=", "there was no answer")
		}
		assert.NotContains(t, lines[i], "SECRET")
	}
	assert.Equal(t, server.URL, tr.last().Host)
}

// Secrets of a URL or a header get into no error, log line or event, whatever
// befalls the request.
func TestErrorsAndLogsHaveNoSecrets(t *testing.T) {
	refused := strings.TrimPrefix(newClosed(t), "http://")
	for name, answer := range map[string]http.HandlerFunc{
		"reset":             reset,
		"503":               status(503),
		"404":               status(404),
		"throttled":         status(429, "Retry-After-Ms", "2"),
		"redirect":          status(302, "Location", "http://user:SECRET@"+refused+"/?token=SECRET"),
		"malformed":         status(302, "Location", "http://[::1?token=SECRET"),
		"not followed":      status(302, "Location", "gopher://user:SECRET@gene.example/?token=SECRET"),
		"too long a wait":   status(429, "Retry-After", "3600"),
		"open breaker next": status(500),
	} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, answer)
			seen, logger := newLog()
			breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 3})
			require.NoError(t, err)
			cfg := soon
			cfg.Logger = logger
			cfg.Breaker = breaker
			var events strings.Builder
			event := func(_ context.Context, e retry.Event) { fmt.Fprintf(&events, "%+v %v\n", e, e.Err) }
			cfg.OnRetry, cfg.OnDone = event, event
			client := outcomeClient(t, nil, cfg)
			address := strings.Replace(server.URL, "http://", "http://user:SECRET@", 1) + "/gene?sig=SECRET&api_key=SECRET#SECRET"
			req := newRequest(t, "GET", address, nil)
			req.Header.Set("Authorization", "Bearer SECRET")
			_, err = client.Do(req)
			require.Error(t, err)
			texts := events.String() + seen.String() + fmt.Sprintf("%v %+v %s %q", err, err, err, err)
			assert.NotContains(t, texts, "SECRET")
			assert.NotEmpty(t, events.String())

			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			resp, err := client.StandardClient().Do(req.WithContext(ctx))
			if err == nil {
				resp.Body.Close()
			}
			assert.NotContains(t, events.String()+seen.String(), "SECRET")
		})
	}
	_, err := outcomeClient(t, nil, soon).Get(t.Context(), "http://user:SECRET@[::1/?sig=SECRET")
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "SECRET")
}

// newClosed is an address where nothing listens.
func newClosed(t testing.TB) string {
	server := newStand(t, status(200))
	server.Close()
	return server.URL
}

// A URL whose address and query stand in Opaque hides its secrets as
// well, though its fields have none.
func TestErrorsHaveNoSecretsOfAnOpaqueURL(t *testing.T) {
	server := newStand(t, status(404))
	req := newRequest(t, "GET", server.URL, nil)
	req.URL.Opaque = "//user:SECRET@" + req.URL.Host + "/gene?token=SECRET"
	_, err := outcomeClient(t, nil, soon).Do(req)
	var failure *retry.StatusError
	require.ErrorAs(t, err, &failure)
	assert.Contains(t, failure.URL, "token=")
	assert.NotContains(t, failure.URL+err.Error(), "SECRET")
}

// Every attempt starts from the caller's request: what a transport inside does to
// one is not there in the next, nor in the caller's.
func TestEachAttemptHasARequestOfItsOwn(t *testing.T) {
	server := newStand(t, status(503), status(503), status(200))
	spoiling := roundTrip(func(req *http.Request) (*http.Response, error) {
		req.Header.Add("X-Attempt", fmt.Sprint(retry.RetryCount(req.Context())))
		req.Header["Accept"] = append(req.Header["Accept"], "spoiled")
		req.URL.Path += "/spoiled"
		return http.DefaultTransport.RoundTrip(req)
	})
	req := newRequest(t, "GET", server.URL+"/gene", nil)
	req.Header["Accept"] = append(make([]string, 0, 8), "x")
	resp, err := outcomeClient(t, &http.Client{Transport: spoiling}, soon).Do(req)
	read(t, resp, err)
	for i, r := range server.requests() {
		assert.Equal(t, []string{fmt.Sprint(i)}, r.header["X-Attempt"])
		assert.Equal(t, []string{"x", "spoiled"}, r.header["Accept"])
		assert.Equal(t, "/gene/spoiled", r.path)
	}
	assert.Equal(t, http.Header{"Accept": {"x"}}, req.Header)
	assert.Empty(t, req.Header["Accept"][:2][1], "not even behind its end")
	assert.Equal(t, "/gene", req.URL.Path)
}

// A header without values says that net/http shall send none: it must not get lost
// on the way, as it once did if there was no other.
func TestHeaderWithoutValues(t *testing.T) {
	server := newStand(t, status(503), status(200))
	req := newRequest(t, "GET", server.URL, nil)
	req.Header["User-Agent"] = nil
	resp, err := outcomeClient(t, nil, soon).Do(req)
	read(t, resp, err)
	for _, r := range server.requests() {
		assert.NotContains(t, r.header, "User-Agent")
	}
}

// One request is good for many attempts, many times, at once.
func TestManyRequestsAtOnce(t *testing.T) {
	flaky := func() *stand {
		return newStand(t, status(503), status(200), status(500), status(200))
	}
	hosts := []*stand{flaky(), flaky(), flaky()}
	client := outcomeClient(t, nil, soon)
	shared := newRequest(t, "GET", hosts[0].URL, nil)
	shared.Header.Set("Accept", "x")
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for range 3 {
				req := shared
				if i%2 == 1 {
					req = newRequest(t, "POST", hosts[i%3].URL, strings.NewReader("body"))
				}
				resp, err := client.Do(req)
				if assert.NoError(t, err) {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		})
	}
	all.Wait()
	assert.Equal(t, http.Header{"Accept": {"x"}}, shared.Header)
}

// The first attempt over net/http's own transport is the caller's own request,
// which spares a copy that nothing would change. All others are copies: retries,
// to which their number belongs, what gets a time limit, and what goes to any
// other transport.
func TestCopiesOnlyForOthers(t *testing.T) {
	seen := func(cfg retry.Config, wrap func(*http.Transport) http.RoundTripper) (own []bool, counts []int) {
		s := newStand(t, status(200), status(503), status(200))
		req := newRequest(t, "GET", s.URL, nil)
		std := &http.Transport{Proxy: func(sent *http.Request) (*url.URL, error) { // asked for each request
			own, counts = append(own, sent == req), append(counts, retry.RetryCount(sent.Context()))
			return nil, nil
		}}
		t.Cleanup(std.CloseIdleConnections)
		transport, err := retry.NewTransport(wrap(std), cfg)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(newRequest(t, "GET", s.URL, nil)) // the host is known then
		require.NoError(t, err)
		resp.Body.Close()
		own, counts = nil, nil
		resp, err = transport.RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, 200, resp.StatusCode)
		resp.Body.Close()
		return own, counts
	}
	plain := func(std *http.Transport) http.RoundTripper { return std }
	own, counts := seen(soon, plain)
	assert.Equal(t, []bool{true, false}, own)
	assert.Equal(t, []int{0, 1}, counts)

	limited := soon
	limited.AttemptTimeout = time.Minute
	own, _ = seen(limited, plain)
	assert.Equal(t, []bool{false, false}, own)
	own, _ = seen(soon, func(std *http.Transport) http.RoundTripper { return struct{ http.RoundTripper }{std} })
	assert.Equal(t, []bool{false, false}, own)
}

// A transport error in a log line names the URL, without its secrets, as a status
// does; also that of a bare Transport, and of a base that net/http did not write.
func TestLogLinesNameTheURL(t *testing.T) {
	server := newStand(t, reset)
	address := strings.Replace(server.URL, "http://", "http://user:SECRET@", 1) + "/gene?key=SECRET#SECRET"
	std := &http.Transport{}
	t.Cleanup(std.CloseIdleConnections)
	for _, base := range []http.RoundTripper{std, roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })} {
		log, logger := newLog()
		cfg := soon
		cfg.Logger = logger
		transport, err := retry.NewTransport(base, cfg)
		require.NoError(t, err)
		for _, do := range []func(*http.Request) (*http.Response, error){outcomeClient(t, &http.Client{Transport: base}, cfg).Do, transport.RoundTrip} {
			_, err := do(newRequest(t, "GET", address, nil))
			require.Error(t, err)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		assert.Len(t, lines, 8)
		for _, line := range lines {
			assert.Contains(t, line, "/gene?key=xxxxx")
			assert.NotContains(t, line, "SECRET")
		}
	}
}

// What the hooks make of a context goes out with the request, with any of them alone.
func TestContextOfEachHook(t *testing.T) {
	type key struct{}
	hook := func(ctx context.Context, _ retry.Event) context.Context {
		return context.WithValue(ctx, key{}, "trace")
	}
	for name, set := range map[string]func(*retry.Config){
		"OnStart": func(c *retry.Config) { c.OnStart = hook }, "OnAttempt": func(c *retry.Config) { c.OnAttempt = hook },
	} {
		base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(200, "")}}
		cfg := retry.Config{}
		set(&cfg)
		for _, do := range []func(*http.Request) (*http.Response, error){
			outcomeClient(t, &http.Client{Transport: base}, cfg).Do, must2(retry.NewTransport(base, cfg)).RoundTrip,
		} {
			resp, err := do(newRequest(t, "GET", "http://gene.example/", nil))
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, "trace", base.requests[len(base.requests)-1].Context().Value(key{}), name)
		}
	}
}

func must2[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// A base that is not net/http's own, and a wrapper, see what is sent and no more: no key and
// no trace that are meant for net/http, and what the caller asked for is still there.
func TestBaseSeesWhatIsSent(t *testing.T) {
	for _, method := range []string{"GET", "PUT", "POST"} {
		for _, wrapped := range []bool{false, true} {
			seen := 0
			look := func(next http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					seen++
					assert.Equal(t, http.Header{"A": {"b"}}, req.Header, "%s, wrapped: %v", method, wrapped)
					assert.True(t, req.Close)
					if wrapped {
						assert.Nil(t, httptrace.ContextClientTrace(req.Context()), method)
					}
					return next.RoundTrip(req)
				})
			}
			base := look(answering(200))
			var opts []retry.Option
			if wrapped {
				opts = []retry.Option{retry.WrapTransport(func(next http.RoundTripper) http.RoundTripper { return look(next) })}
				base = roundTrip(func(req *http.Request) (*http.Response, error) {
					assert.Equal(t, http.Header{"A": {"b"}}, req.Header, method)
					assert.True(t, req.Close)
					return answering(200).RoundTrip(req)
				})
			}
			transport, err := retry.NewTransport(base, soon, opts...)
			require.NoError(t, err)
			req := newRequest(t, method, "http://gene.example/", strings.NewReader("x"))
			req.Header, req.Close = http.Header{"A": {"b"}}, true
			resp, err := transport.RoundTrip(req)
			read(t, resp, err)
			assert.Equal(t, 1, seen)
		}
	}
}

// The context of either hook reaches net/http, also where the host is known and the request
// could be sent as it is.
func TestContextOfAHookReachesNetHTTP(t *testing.T) {
	server := newStand(t, status(200))
	for name, set := range map[string]func(*retry.Config, func(context.Context, retry.Event) context.Context){
		"OnStart":   func(cfg *retry.Config, hook func(context.Context, retry.Event) context.Context) { cfg.OnStart = hook },
		"OnAttempt": func(cfg *retry.Config, hook func(context.Context, retry.Event) context.Context) { cfg.OnAttempt = hook },
	} {
		traced := 0
		cfg := soon
		set(&cfg, func(ctx context.Context, _ retry.Event) context.Context {
			return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { traced++ }})
		})
		client := outcomeTransport(t, cfg)
		for range 3 {
			resp, err := client.Get(server.URL)
			read(t, resp, err)
		}
		assert.Equal(t, 3, traced, name)
	}
}

// A body that is read once is recorded for the next attempt, also where the host is known
// and the method one that net/http repeats by itself.
func TestBodyOfAGetToAKnownHost(t *testing.T) {
	server := newStand(t, status(200), status(503), status(200))
	client := outcomeTransport(t, soon)
	resp, err := client.Get(server.URL)
	read(t, resp, err)
	resp, err = client.Do(newRequest(t, "GET", server.URL, struct{ io.Reader }{strings.NewReader("genes")}))
	read(t, resp, err)
	for _, r := range server.requests()[1:] {
		assert.Equal(t, "genes", r.body)
	}
	assert.Equal(t, 3, server.hits())
}

// A TRACE has no content (RFC 9110, section 9.3.8), and servers refuse one that has. What
// keeps net/http from repeating a GET would send a TRACE with an empty body in chunks.
func TestTraceThatMustNotBeRepeatedHasNoBody(t *testing.T) {
	server := newStand(t, status(200))
	req := newRequest(t, "TRACE", server.URL, nil)
	resp, err := outcomeClient(t, nil, soon).Do(req.WithContext(retry.WithIdempotent(t.Context(), false)))
	read(t, resp, err)
	assert.Empty(t, server.requests()[0].encoding)
}

package retry_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

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

func TestHTTP_098_127_EarlierHopsAreNotRepeated(t *testing.T) {
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
}

// The key made for one host's POST goes nowhere else than a redirect leads it, and
// not into the GET that a 303 turns it into.
func TestHTTP_127_129_Keys(t *testing.T) {
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

func TestHTTP_101_RedirectsAreTheClients(t *testing.T) {
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

func TestHTTP_102_EachHopHasItsAttempts(t *testing.T) {
	scripts := map[string][]http.HandlerFunc{"/5": {status(503), status(200)}}
	for _, hop := range []string{"1", "2", "3", "4"} {
		scripts["/"+hop] = []http.HandlerFunc{status(503), status(302, "Location", "/"+string(hop[0]+1))}
	}
	server := routes(t, scripts)
	resp, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL+"/1")
	read(t, resp, err)
	assert.Equal(t, []string{"/1", "/1", "/2", "/2", "/3", "/3", "/4", "/4", "/5", "/5"}, paths(server))
}

func TestHTTP_107_Trace(t *testing.T) {
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

func TestHTTP_108_AttemptNumbers(t *testing.T) {
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

func TestHTTP_112_115_AttemptTimeout(t *testing.T) {
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
func TestHTTP_114_ContextEndsWithTheBody(t *testing.T) {
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
func TestHTTP_116_OuterTimeout(t *testing.T) {
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
func TestHTTP_126_Cookies(t *testing.T) {
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
func TestHTTP_140_Nested(t *testing.T) {
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

func TestHTTP_130_BreakerPerHost(t *testing.T) {
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
func TestHTTP_130_Spellings(t *testing.T) {
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

func TestHTTP_132_WhatABreakerCounts(t *testing.T) {
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

func TestHTTP_133_HalfOpen(t *testing.T) {
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
func TestHTTP_StandardClient(t *testing.T) {
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
func TestHTTP_MalformedLocation(t *testing.T) {
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
func TestHTTP_RedirectThatAsksForTooLong(t *testing.T) {
	server := routes(t, map[string][]http.HandlerFunc{"/a": {status(302, "Location", "/b", "Retry-After", "7200")}})
	_, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL+"/a")
	gaveUp(t, err, retry.ErrRetryAfterTooLong)
	assert.ErrorContains(t, err, "wait of 2h0m0s, and MaxRetryAfter is 5m0s")
	assert.Equal(t, []string{"/a"}, paths(server))
}

package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// What cannot be fetched has its body closed all the same.
func TestFetchOfNothing(t *testing.T) {
	client := outcomeClient(t, nil, soon)
	decode := func(*http.Response) (int, error) { return 0, nil }
	for name, fetch := range map[string]func(*http.Request) error{
		"decode": func(req *http.Request) error { _, err := retry.Fetch[int](client, req, nil); return err },
		"client": func(req *http.Request) error { _, err := retry.Fetch(nil, req, decode); return err },
		"URL":    func(req *http.Request) error { req.URL = nil; _, err := retry.Fetch(client, req, decode); return err },
	} {
		body := &countedClose{Reader: strings.NewReader("x")}
		assert.ErrorIs(t, fetch(newRequest(t, "POST", "http://gene.example/", body)), retry.ErrInvalidConfig, name)
		assertClosed(t, body)
	}
	_, err := retry.Fetch(client, nil, decode)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
}

// Without a DecodeLimit a body of 64 MiB is decoded, and one that is a byte longer
// is not, nor asked for again.
func TestDecodeLimitByDefault(t *testing.T) {
	for _, test := range []struct {
		size int64
		opts []retry.Option
		fits bool
	}{
		{64 << 20, nil, true},
		{64<<20 + 1, nil, false},
		{64<<20 + 1, []retry.Option{retry.DecodeLimit(0)}, true},
	} {
		requests := 0
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			requests++
			return &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{},
				Body: io.NopCloser(io.LimitReader(endless{}, test.size)), Request: req}, nil
		})
		got, err := retry.Fetch(outcomeClient(t, &http.Client{Transport: base}, soon, test.opts...), newRequest(t, "GET", "http://gene.example/", nil),
			func(resp *http.Response) (int64, error) { return io.Copy(io.Discard, resp.Body) })
		assert.Equal(t, 1, requests)
		if test.fits {
			assert.NoError(t, err)
			assert.Equal(t, test.size, got)
			continue
		}
		var tooLong *http.MaxBytesError
		require.ErrorAs(t, err, &tooLong)
		assert.EqualValues(t, 64<<20, tooLong.Limit)
		assert.Zero(t, got)
	}
}

// A 202 without a body, which says that the work was accepted, was taken for an
// answer cut off: the work was ordered four times.
func TestJSONOfACompleteAndEmptyAnswer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"202": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202) },
		"200": func(w http.ResponseWriter, r *http.Request) {},
		"201": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(201)
		},
		"203 typed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(203)
		},
		"204":     status(204),
		"205":     func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(205) },
		"chunked": sending(202, "", ""),
		"gzip": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.(http.Flusher).Flush()
		},
		"a new line":          sending(202, "application/json", "\r\n"),
		"a new line, counted": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "\n") },
	} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, answer)
			client := outcomeClient(t, nil, soon)
			posted, err := retry.PostJSON[map[string]int](t.Context(), client, server.URL, 7)
			assert.NoError(t, err)
			assert.Zero(t, posted)
			got, err := retry.GetJSON[*struct{}](t.Context(), client, server.URL)
			assert.NoError(t, err)
			assert.Nil(t, got)
			assert.Equal(t, 2, server.hits())
		})
	}
	t.Run("of unknown length it may have been cut off", func(t *testing.T) {
		for _, head := range []string{"HTTP/1.1 202 Accepted\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n \r\n"} {
			server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
				conn, _, _ := w.(http.Hijacker).Hijack()
				io.WriteString(conn, head)
				conn.Close()
			})
			_, err := retry.GetJSON[int](t.Context(), outcomeClient(t, nil, soon), server.URL)
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
			assert.ErrorContains(t, err, `Get "`+server.URL+`": unexpected EOF`, "who reads only the text must know of what")
			assert.Equal(t, 4, server.hits())
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		for _, answer := range []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202) }, sending(202, "", "")} {
			server := unstarted(t, answer)
			server.EnableHTTP2 = true
			server.StartTLS()
			got, err := retry.PostJSON[int](t.Context(), outcomeClient(t, server.Client(), soon), server.URL, 7)
			assert.NoError(t, err)
			assert.Zero(t, got)
			assert.Equal(t, 1, server.hits())
		}
	})
	t.Run("in two pieces", func(t *testing.T) {
		for length, want := range map[int64]error{2: nil, 3: io.ErrUnexpectedEOF} {
			_, err := retry.DecodeJSON[int](&http.Response{StatusCode: 200, ContentLength: length, Body: io.NopCloser(io.MultiReader(strings.NewReader("\r"), strings.NewReader("\n")))})
			assert.ErrorIs(t, err, want)
		}
	})
	t.Run("a response by hand", func(t *testing.T) { // its ContentLength of 0 says nothing
		got, err := retry.DecodeJSON[int](&http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("7"))})
		assert.NoError(t, err)
		assert.Equal(t, 7, got)
		got, err = retry.DecodeJSON[int](&http.Response{StatusCode: 200})
		assert.NoError(t, err)
		assert.Zero(t, got)
		_, err = retry.DecodeJSON[int](nil)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	})
}

// A server that sent all its JSON, and then neither a byte nor the end, was asked
// four times, each time until the time limit.
func TestJSONFollowedBySilence(t *testing.T) {
	for _, text := range []string{`{"a":[1,"}"]}`, `[]`, `"BRCA1"`, `"a\\\"b"`, "\"\u00e9\\u00e9\"", `true`, `false`, `null`, " \n{} ", " true", "\n \"x\"", "\xef\xbb\xbf{}", "\xef\xbb\xbf\"x\""} {
		for _, head := range []string{"Content-Length: 1000\r\n\r\n" + text, fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(text), text)} {
			t.Run(text, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
					conn, _, _ := w.(http.Hijacker).Hijack()
					defer conn.Close()
					io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+head)
					<-release
				})
				defer close(release)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_, err := retry.GetJSON[any](ctx, outcomeClient(t, nil, soon), server.URL)
				assert.NoError(t, err)
				assert.Equal(t, 1, server.hits())
			})
		}
	}
}

// What is complete is so in any number of pieces, and so is what is not.
func TestJSONInPieces(t *testing.T) {
	for text, good := range map[string]bool{
		`{"a":"\"","b":[true,null]}`: true, `"a\\"`: true, `"a\"b"`: true, `12.5`: true, `false`: true, " \t\r\n null \n": true, "\xef\xbb\xbf[]": true,
		`"a`: false, `"a\"`: false, `tru`: false, `[1`: false, "\xef\xbb\xbf": false, "\xef\xbb": false,
		`nul1`: false, `{} {}`: false, `"a" "b"`: false, `true false`: false, `<html>`: false, `truefalse`: false,
	} {
		var pieces []io.Reader
		for i := range len(text) {
			pieces = append(pieces, strings.NewReader(text[i:i+1]))
		}
		_, whole := retry.DecodeJSON[any](&http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader(text))})
		assert.Equal(t, good, whole == nil, "%q: %v", text, whole)
		_, err := retry.DecodeJSON[any](&http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(io.MultiReader(pieces...))})
		if strings.Contains(text, " ") && !good || text == "truefalse" {
			continue // what follows the value is not waited for
		}
		assert.Equal(t, good, err == nil, "%q: %v", text, err)
	}
}

// The error of a status has its body, from 400 on.
func TestJSONOfABadRequest(t *testing.T) {
	_, err := retry.DecodeJSON[int](&http.Response{StatusCode: 400, Body: io.NopCloser(strings.NewReader("no such gene"))})
	var status *retry.StatusError
	require.ErrorAs(t, err, &status)
	assert.Equal(t, "no such gene", string(status.Body))
}

// A 304, and a redirect that the client does not follow, have no JSON: they were
// "cut off", and asked for again.
func TestJSONOfAStatusBelow400(t *testing.T) {
	unfollowed := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, test := range []struct {
		code   int
		answer http.HandlerFunc
		base   *http.Client
		name   string
	}{
		{304, status(304), nil, "304 Not Modified"},
		{300, sending(300, "application/json", `{}`), nil, "300 Multiple Choices"},
		{302, status(302, "Location", "/there?key=SECRET"), unfollowed, "302 Found"},
		{307, status(307, "Location", "/there"), unfollowed, "307 Temporary Redirect"},
		{305, status(305), nil, "305 Use Proxy"},
	} {
		server := newStand(t, test.answer)
		_, err := retry.GetJSON[any](t.Context(), outcomeClient(t, test.base, soon), server.URL)
		var found *retry.StatusError
		require.ErrorAs(t, err, &found)
		assert.Equal(t, test.code, found.StatusCode)
		assert.EqualError(t, err, "GET "+server.URL+": "+test.name)
		assert.Equal(t, 1, server.hits())
	}
}

// An HTML page, of a login or a proxy, in the place of JSON: "invalid character
// '<'" did not say where to look.
func TestJSONThatIsALoginPage(t *testing.T) {
	page := "<!DOCTYPE html>\n<html><head><title>Sign in</title>" + strings.Repeat(" x", 500)
	server := newStand(t, sending(200, "text/html; charset=utf-8", page))
	_, err := retry.GetJSON[map[string]int](t.Context(), outcomeClient(t, nil, soon), server.URL)
	require.Error(t, err)
	assert.Equal(t, 1, server.hits())
	for _, part := range []string{"200 OK", "text/html", `<!DOCTYPE html> <html>`, "Sign in", "invalid character '<'"} {
		assert.ErrorContains(t, err, part)
	}
	assert.NotContains(t, err.Error(), "\n")
	assert.Less(t, len(err.Error()), 300)

	_, err = retry.DecodeJSON[int](&http.Response{StatusCode: 203, Body: io.NopCloser(strings.NewReader(`"private"`))})
	assert.ErrorContains(t, err, "203 Non-Authoritative Information")
	assert.NotContains(t, err.Error(), "private", "it was JSON after all")
}

func TestNewJSONRequest(t *testing.T) {
	req, err := retry.NewJSONRequest(t.Context(), "PUT", "https://h.example/gene", map[string]int{"a": 1})
	require.NoError(t, err)
	assert.Equal(t, "PUT", req.Method)
	assert.Equal(t, "application/json", req.Header.Get("Content-Type"))
	assert.Equal(t, "application/json", req.Header.Get("Accept"))
	assert.EqualValues(t, 7, req.ContentLength)
	for range 2 {
		body, err := req.GetBody()
		require.NoError(t, err)
		text, _ := io.ReadAll(body)
		assert.Equal(t, `{"a":1}`, string(text))
	}
	req, err = retry.NewJSONRequest(t.Context(), "GET", "https://h.example/gene", nil)
	require.NoError(t, err)
	assert.Nil(t, req.Body)
	assert.Empty(t, req.Header.Get("Content-Type"))

	for _, make := range []func() (*http.Request, error){
		func() (*http.Request, error) { return retry.NewJSONRequest(t.Context(), "GET", "http://[::1", nil) },
		func() (*http.Request, error) { return retry.NewJSONRequest(t.Context(), "G ET", "http://h", nil) },
		func() (*http.Request, error) { return retry.NewJSONRequest(t.Context(), "PUT", "http://h", func() {}) },
		func() (*http.Request, error) { return retry.NewJSONRequest(nil, "GET", "http://h", nil) }, //lint:ignore SA1012 that is the test
	} {
		_, err := make()
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	}

	server := newStand(t, status(503), sending(200, "application/json", `{"Symbol":"BRCA1"}`))
	req, err = retry.NewJSONRequest(t.Context(), "PUT", server.URL, []int{1})
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer x")
	got, err := retry.Fetch(outcomeClient(t, nil, soon), req, retry.DecodeJSON[struct{ Symbol string }])
	require.NoError(t, err)
	assert.Equal(t, "BRCA1", got.Symbol)
	for _, r := range server.requests() {
		assert.Equal(t, "[1]", r.body)
		assert.Equal(t, "Bearer x", r.header.Get("Authorization"))
	}
	_, err = retry.PostJSON[any](t.Context(), outcomeClient(t, nil, soon), server.URL, nil)
	require.NoError(t, err)
	assert.Equal(t, "null", server.requests()[2].body)
	_, err = retry.PostJSON[any](t.Context(), outcomeClient(t, nil, soon), server.URL, func() {})
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
}

// stages plays a server whose answers are given one after the other; the last one is
// repeated.
type stages struct {
	answers  []func(*http.Request) (*http.Response, error)
	requests []*http.Request
}

func (s *stages) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := s.answers[min(len(s.requests), len(s.answers)-1)]
	s.requests = append(s.requests, req)
	return answer(req)
}

func answerOf(status int, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: status, ProtoMajor: 1, ContentLength: int64(len(body)), Header: http.Header{},
			Body: io.NopCloser(strings.NewReader(body)), Request: req}
		for i := 0; i < len(header); i += 2 {
			resp.Header.Set(header[i], header[i+1])
		}
		return resp, nil
	}
}

// pieces collects what the attempts of a Resume bring, each of which is cut off unless
// its piece ends with a full stop.
type pieces struct {
	url    string
	text   string
	counts []int
	change func(*http.Request)
}

var errCutOff = errors.New("cut off")

func (p *pieces) next(ctx context.Context) (*http.Request, error) {
	p.counts = append(p.counts, retry.RetryCount(ctx))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err == nil && p.change != nil {
		p.change(req)
	}
	return req, err
}

func (p *pieces) read(resp *http.Response) (bool, error) {
	piece, err := io.ReadAll(resp.Body)
	if p.text += string(piece); err != nil || strings.HasSuffix(p.text, ".") {
		return len(piece) > 0, err
	}
	return len(piece) > 0, errCutOff
}

func unjittered(cfg retry.Config) retry.Config {
	cfg.Jitter = retry.NoJitter
	return cfg
}

// An answer that comes in pieces is put together, however many there are: each piece
// sets the retries and the backoff back, and their retries cost no budget. Attempts and
// the retry's number count on.
func TestResume_Progress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget, err := retry.NewBudget(0, 1)
		require.NoError(t, err)
		p := &pieces{url: "http://gene.example/file"}
		base := &stages{}
		for range 9 {
			base.answers = append(base.answers, answerOf(200, "x"))
		}
		base.answers = append(base.answers, answerOf(503, ""), answerOf(200, "y"), answerOf(200, "."))
		var waits []time.Duration
		var done []retry.Event
		cfg := unjittered(retry.Config{
			MaxRetries: 2, Budget: budget,
			OnWait: func(_ context.Context, e retry.Event) { waits = append(waits, e.Delay) },
			OnDone: func(_ context.Context, e retry.Event) { done = append(done, e) },
		})
		client := outcomeClient(t, &http.Client{Transport: base}, cfg)
		require.NoError(t, retry.Resume(t.Context(), client, p.next, p.read))
		assert.Equal(t, "xxxxxxxxxy.", p.text)
		assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, p.counts)
		for _, wait := range waits[:9] {
			assert.Equal(t, time.Second, wait)
		}
		assert.Len(t, waits, 11)
		require.Len(t, done, 1)
		assert.Equal(t, 12, done[0].Attempt)
		assert.Less(t, budget.Balance(), 1.0, "the retry after a 503 draws on the budget")
	})
}

// Without progress the limits are those of any call, and the error says so. The
// backoff grows, and begins again after the next piece.
func TestResume_NoProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pieces{url: "http://gene.example/file?token=secret"}
		base := &stages{answers: []func(*http.Request) (*http.Response, error){
			answerOf(200, ""), answerOf(200, ""), answerOf(200, "x"), answerOf(200, ""),
		}}
		var waits []time.Duration
		cfg := unjittered(retry.Config{MaxRetries: 2, Name: "genes", OnWait: func(_ context.Context, e retry.Event) { waits = append(waits, e.Delay) }})
		err := retry.Resume(t.Context(), outcomeClient(t, &http.Client{Transport: base}, cfg), p.next, p.read)
		var given *retry.Error
		require.ErrorAs(t, err, &given)
		assert.ErrorIs(t, err, retry.ErrMaxRetries)
		assert.ErrorIs(t, err, errCutOff)
		assert.Equal(t, 5, given.Attempts)
		assert.Contains(t, err.Error(), "genes")
		assert.Equal(t, []time.Duration{1 * time.Second, 2 * time.Second, 1 * time.Second, 2 * time.Second}, waits)
	})
}

// NoRetries means none, also after progress; a budget that is empty refuses what an
// attempt without progress asks for; MaxElapsed and the deadline bound the whole.
func TestResume_Limits(t *testing.T) {
	empty, err := retry.NewBudget(0, 0)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		cfg      retry.Config
		timeout  time.Duration
		piece    string
		outcome  string
		attempts int
	}{
		"no retries": {retry.Config{MaxRetries: retry.NoRetries}, 0, "x", "max_retries", 1},
		"budget":     {retry.Config{Budget: empty}, 0, "", "budget", 1},
		"elapsed":    {retry.Config{MaxElapsed: 3500 * time.Millisecond}, 0, "x", "max_elapsed", 4},
		"deadline":   {retry.Config{}, 2500 * time.Millisecond, "x", "deadline", 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if test.timeout > 0 {
					ctx, cancel = context.WithTimeout(ctx, test.timeout)
				}
				defer cancel()
				p := &pieces{url: "http://gene.example/file"}
				base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(200, test.piece)}}
				err := retry.Resume(ctx, outcomeClient(t, &http.Client{Transport: base}, unjittered(test.cfg)), p.next, p.read)
				assert.Equal(t, test.outcome, retry.Outcome(err), "%v", err)
				assert.Len(t, base.requests, test.attempts)
			})
		})
	}
}

// AttemptTimeout ends with the headers, also where next failed first, so that no host was
// known when the call began: it cut off the body then.
func TestResume_AttemptTimeoutAfterAFailureOfNext(t *testing.T) {
	for _, failures := range []int{0, 1} {
		bubble(t, fmt.Sprint(failures), func(t *testing.T) {
			server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				time.Sleep(time.Minute)
				io.WriteString(w, "late")
			})
			cfg := soon
			cfg.AttemptTimeout = time.Second
			left := failures
			err := retry.Resume(t.Context(), outcomeClient(t, base, cfg), func(ctx context.Context) (*http.Request, error) {
				if left--; left >= 0 {
					return nil, errDown
				}
				return http.NewRequestWithContext(ctx, "GET", server.URL, nil)
			}, func(resp *http.Response) (bool, error) {
				body, err := io.ReadAll(resp.Body)
				assert.Equal(t, "late", string(body))
				return false, err
			})
			assert.NoError(t, err)
			assert.Equal(t, 1, server.hits())
		})
	}
}

// Each attempt begins with its own request and follows the redirects again: an address
// that a redirect named may have expired. The redirect is no retry, and its target's
// failures are neither the first host's nor hidden: marks are honoured, hooks see one
// call, and each host has its own breaker and pause.
func TestResume_Redirects(t *testing.T) {
	var resolved, refused atomic.Int32
	target := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("signed") {
		case "1":
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "ab")
		case "2":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "3":
			refused.Add(1)
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			assert.Equal(t, "2", r.Header.Get("X-From"))
			io.WriteString(w, "cde.")
		}
	})
	origin := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, fmt.Sprintf("%s/?signed=%d", target.URL, resolved.Add(1)), http.StatusFound)
	})
	var hooks []string
	hosts := map[string]*retry.CircuitBreaker{}
	cfg := soon
	cfg.OnStart = func(ctx context.Context, _ retry.Event) context.Context { hooks = append(hooks, "start"); return ctx }
	cfg.OnAttempt = func(ctx context.Context, _ retry.Event) context.Context { hooks = append(hooks, "attempt"); return ctx }
	cfg.OnRetry = func(context.Context, retry.Event) { hooks = append(hooks, "retry") }
	cfg.OnDone = func(_ context.Context, e retry.Event) {
		hooks = append(hooks, fmt.Sprint("done ", e.Attempt, e.Host == origin.URL))
	}
	client := outcomeClient(t, nil, cfg, retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 3}),
		retry.OnHost(func(host string, cfg retry.Config) { hosts[host] = cfg.Breaker }))
	var text string
	err := retry.Resume(t.Context(), client, func(ctx context.Context) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, origin.URL, nil)
		req.Header.Set("X-From", fmt.Sprint(len(text)))
		return req, err
	}, func(resp *http.Response) (bool, error) {
		piece, err := io.ReadAll(resp.Body)
		text += string(piece)
		return len(piece) > 0, err
	})
	require.NoError(t, err)
	assert.Equal(t, "abcde.", text)
	assert.EqualValues(t, 4, resolved.Load())
	assert.Equal(t, strings.Split("start attempt retry attempt retry attempt retry attempt", " "), hooks[:8])
	assert.Equal(t, []string{"done 4 true"}, hooks[8:])
	assert.Zero(t, hosts[origin.URL].Snapshot().Failures, "the target's failures are its own")
	assert.Zero(t, hosts[origin.URL].Snapshot().ConsecutiveFailures)
	assert.Positive(t, hosts[target.URL].Snapshot().Requests)
}

// Every request of an attempt passes what guards its host: one that a redirect leads to the
// same host takes another grant of the limiter, and one that a limiter of its own host
// refuses ends the call. MaxElapsed bounds its waits, from the start of the call: what had
// passed before was counted twice, and in the second half of it no redirect was followed.
func TestResume_GuardsOfEachRequest(t *testing.T) {
	resume := func(t *testing.T, cfg retry.Config, location string, own retry.Limiter, takes time.Duration) error {
		base := &stages{answers: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			time.Sleep(takes)
			return answerOf(302, "", "Location", location)(req)
		}, answerOf(200, "x.")}}
		client := outcomeClient(t, &http.Client{Transport: base}, cfg, retry.PerHost(func(host string, cfg *retry.Config) error {
			if host == "http://target.example" {
				cfg.Limiter = own
			}
			return nil
		}))
		p := &pieces{url: "http://gene.example/"}
		return retry.Resume(t.Context(), client, p.next, p.read)
	}
	bubble(t, "the same host", func(t *testing.T) {
		limiter := new(countingLimiter)
		assert.NoError(t, resume(t, retry.Config{Limiter: limiter}, "/here", nil, 0))
		assert.Equal(t, 2, limiter.calls)
	})
	bubble(t, "another host, refused", func(t *testing.T) {
		err := resume(t, retry.Config{MaxRetries: retry.NoRetries}, "http://target.example/", &countingLimiter{err: errCause}, 0)
		assert.ErrorIs(t, err, errCause)
	})
	bubble(t, "another host, in time", func(t *testing.T) {
		assert.NoError(t, resume(t, retry.Config{MaxElapsed: 10 * time.Second}, "http://target.example/", &countingLimiter{wait: 3 * time.Second}, 6*time.Second))
		breaker := retry.Config{MaxElapsed: 10 * time.Second, Breaker: new(retry.CircuitBreaker)}
		assert.NoError(t, resume(t, breaker, "/here", nil, 6*time.Second))
	})
	bubble(t, "another host, for too long", func(t *testing.T) {
		start := time.Now()
		err := resume(t, retry.Config{MaxElapsed: 10 * time.Second}, "http://target.example/", hungLimiter{}, 6*time.Second)
		assert.ErrorIs(t, err, retry.ErrMaxElapsed)
		assert.Equal(t, 10*time.Second, time.Since(start))
	})
}

// The body of an error that no attempt follows is in it, also where it is too long to be
// read before a retry.
func TestResume_BodyOfTheLastError(t *testing.T) {
	base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(503, strings.Repeat("x", 100<<10))}}
	p := &pieces{url: "http://gene.example/"}
	err := retry.Resume(t.Context(), outcomeClient(t, &http.Client{Transport: base}, soon), p.next, p.read)
	gaveUp(t, err, retry.ErrMaxRetries)
	var given *retry.StatusError
	require.ErrorAs(t, err, &given)
	assert.NotEmpty(t, given.Body)
}

// A Permanent of CheckResponse ends the call, and a RetryAfter is waited for, also where
// the response came from behind a redirect, and without the mark in the error returned.
func TestResume_Marks(t *testing.T) {
	for _, redirected := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			broken, later := errors.New("broken"), errors.New("later")
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				if redirected && req.URL.Host == "first.example" {
					return answerOf(302, "", "Location", "http://second.example/")(req)
				}
				return answerOf(200, "x")(req)
			})
			checks := 0
			check := func(*http.Response) error {
				if checks++; checks == 1 {
					return retry.RetryAfter(later, 7*time.Second)
				}
				return retry.Permanent(broken)
			}
			p := &pieces{url: "http://first.example/"}
			began := time.Now()
			err := retry.Resume(t.Context(), outcomeClient(t, &http.Client{Transport: base}, unjittered(retry.Config{}), retry.CheckResponse(check)), p.next, p.read)
			assert.Equal(t, broken, err, redirected)
			assert.Equal(t, 2, checks)
			assert.Equal(t, 7*time.Second, time.Since(began))
		})
	}
}

// A breaker that is open ends the call at once, with the last real error in it; one
// that opens under an attempt's failures does so for the next one. Progress is no
// failure: a long file over a bad line must not trip the breaker of a host that works.
func TestResume_Breaker(t *testing.T) {
	for _, piece := range []string{"", "x"} {
		synctest.Test(t, func(t *testing.T) {
			breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 2})
			require.NoError(t, err)
			p := &pieces{url: "http://gene.example/"}
			base := &stages{}
			for range 4 {
				base.answers = append(base.answers, answerOf(200, piece))
			}
			base.answers = append(base.answers, answerOf(200, "."))
			cfg := unjittered(retry.Config{Breaker: breaker})
			err = retry.Resume(t.Context(), outcomeClient(t, &http.Client{Transport: base}, cfg), p.next, p.read)
			if piece != "" {
				assert.NoError(t, err)
				assert.Equal(t, retry.StateClosed, breaker.State())
				return
			}
			assert.ErrorIs(t, err, retry.ErrCircuitOpen)
			assert.ErrorIs(t, err, errCutOff)
			assert.Len(t, base.requests, 2)
		})
	}
}

// A 429 pauses the host's gate for all, and a pause holds back the attempts of Resume;
// so do a 429 and a pause behind a redirect, at the gate of the host that they are of.
func TestResume_Gate(t *testing.T) {
	for _, redirected := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			limited := true
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				switch {
				case redirected && req.URL.Host == "first.example":
					return answerOf(302, "", "Location", "http://second.example/")(req)
				case limited:
					limited = false
					return answerOf(429, "", "Retry-After", "5")(req)
				}
				return answerOf(200, ".")(req)
			})
			gates := map[string]*retry.Gate{}
			cfg := unjittered(retry.Config{OnRetry: func(context.Context, retry.Event) {
				for host, gate := range gates {
					until, paused := gate.PausedUntil()
					assert.Equal(t, redirected == (host == "http://second.example"), paused, "%s until %v", host, until)
				}
			}})
			client := outcomeClient(t, &http.Client{Transport: base}, cfg,
				retry.OnHost(func(host string, cfg retry.Config) { gates[host] = cfg.Gate }))
			p := &pieces{url: "http://first.example/"}
			began := time.Now()
			assert.NoError(t, retry.Resume(t.Context(), client, p.next, p.read))
			assert.Equal(t, 5*time.Second, time.Since(began))
		})
	}
}

// A POST has one Idempotency-Key in all attempts, and with IdempotentOnly is not sent
// again when it may have been carried out.
func TestResume_Post(t *testing.T) {
	for _, opts := range [][]retry.Option{nil, {retry.IdempotentOnly()}} {
		var keys []string
		server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			text, _ := io.ReadAll(r.Body)
			assert.Equal(t, "question", string(text))
			if len(keys) < 3 {
				resetConnection(w)
				return
			}
			io.WriteString(w, ".")
		})
		p := &pieces{url: server.URL}
		err := retry.Resume(t.Context(), outcomeClient(t, nil, soon, opts...), func(ctx context.Context) (*http.Request, error) {
			return http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("question"))
		}, p.read)
		if opts != nil {
			assert.ErrorIs(t, err, retry.ErrNotIdempotent)
			assert.Len(t, keys, 1)
			continue
		}
		require.NoError(t, err)
		require.Len(t, keys, 3)
		assert.NotEmpty(t, keys[0])
		assert.Equal(t, []string{keys[0], keys[0], keys[0]}, keys)
	}
}

// The statuses below 400, and a 416, are for read; the others are errors as usual. So is
// a redirect that the client does not follow.
func TestResume_Statuses(t *testing.T) {
	for status, forRead := range map[int]bool{200: true, 204: true, 206: true, 304: true, 302: true, 416: true, 404: false, 412: false, 503: false} {
		base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(status, "", "Location", "/elsewhere")}}
		client := outcomeClient(t, &http.Client{Transport: base, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, soon)
		got := 0
		err := retry.Resume(t.Context(), client, (&pieces{url: "http://gene.example/"}).next, func(resp *http.Response) (bool, error) {
			got = resp.StatusCode
			return false, nil
		})
		if forRead {
			assert.NoError(t, err, status)
			assert.Equal(t, status, got)
			continue
		}
		var given *retry.StatusError
		require.ErrorAs(t, err, &given)
		assert.Equal(t, status, given.StatusCode)
		assert.Zero(t, got)
	}
}

// The client's Timeout and AttemptTimeout end with the headers: a stream may last
// longer. Headers that do not come in time are a failed attempt.
func TestResume_Timeouts(t *testing.T) {
	for _, cfg := range []retry.Config{{}, {AttemptTimeout: 10 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			slow := &slowBody{pauses: []time.Duration{time.Hour, time.Hour}}
			requests := 0
			base := slow.base()
			inner := base.Transport
			base.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
				if requests++; requests == 1 {
					<-req.Context().Done()
					return nil, req.Context().Err()
				}
				return inner.RoundTrip(req)
			})
			base.Timeout = 30 * time.Second
			p := &pieces{url: "http://gene.example/"}
			began := time.Now()
			err := retry.Resume(t.Context(), outcomeClient(t, base, unjittered(cfg)), p.next, func(resp *http.Response) (bool, error) {
				n, err := io.Copy(io.Discard, resp.Body)
				return n > 0, err
			})
			assert.NoError(t, err)
			limit := base.Timeout
			if cfg.AttemptTimeout > 0 {
				limit = cfg.AttemptTimeout
			}
			assert.Equal(t, limit+time.Second+2*time.Hour, time.Since(began))
		})
	}
}

// What next and read return is judged as in Do; a panic of either reaches the caller,
// and releases everything. A cancel gives the cancel.
func TestResume_Functions(t *testing.T) {
	base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(200, "x")}}
	client := outcomeClient(t, &http.Client{Transport: base}, soon)
	p := &pieces{url: "http://gene.example/"}

	tries := 0
	err := retry.Resume(t.Context(), client, func(ctx context.Context) (*http.Request, error) {
		if tries++; tries < 3 {
			return nil, errors.New("no token yet")
		}
		return p.next(ctx)
	}, func(*http.Response) (bool, error) { return false, nil })
	assert.NoError(t, err)
	assert.Equal(t, 3, tries)

	failure := errors.New("no such thing")
	assert.Equal(t, failure, retry.Resume(t.Context(), client, func(context.Context) (*http.Request, error) { return nil, retry.Permanent(failure) }, p.read))
	assert.Equal(t, failure, retry.Resume(t.Context(), client, p.next, func(*http.Response) (bool, error) { return true, retry.Permanent(failure) }))
	assert.PanicsWithValue(t, "boom", func() {
		_ = retry.Resume(t.Context(), client, p.next, func(*http.Response) (bool, error) { panic("boom") })
	})

	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	err = retry.Resume(ctx, client, p.next, func(resp *http.Response) (bool, error) {
		cancel(stop)
		return true, resp.Request.Context().Err()
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, stop)

	never := func(context.Context) (*http.Request, error) { t.Error("next is called"); return nil, nil }
	assert.ErrorIs(t, retry.Resume(ctx, client, never, p.read), context.Canceled)
	var nilContext context.Context
	for _, err := range []error{
		retry.Resume(nilContext, client, never, p.read), retry.Resume(t.Context(), nil, never, p.read),
		retry.Resume(t.Context(), client, nil, p.read), retry.Resume(t.Context(), client, p.next, nil),
		retry.Resume(t.Context(), client, func(context.Context) (*http.Request, error) { return nil, nil }, p.read),
		retry.Resume(t.Context(), client, func(context.Context) (*http.Request, error) { return &http.Request{}, nil }, p.read),
	} {
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	}
}

// Each request has the context of its attempt, as the hooks made it, also the first one,
// which was made before there was an attempt; one that next made with a context of its
// own keeps that.
func TestResume_Contexts(t *testing.T) {
	type hook struct{}
	type own struct{}
	for _, derives := range []bool{false, true} {
		var seen []any
		base := &stages{answers: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			seen = append(seen, req.Context().Value(hook{}), req.Context().Value(own{}))
			return nil, errDown
		}, answerOf(200, "x")}}
		cfg := soon
		cfg.OnAttempt = func(ctx context.Context, e retry.Event) context.Context {
			return context.WithValue(ctx, hook{}, e.Attempt)
		}
		p := &pieces{url: "http://gene.example/"}
		err := retry.Resume(t.Context(), outcomeClient(t, &http.Client{Transport: base}, cfg), func(ctx context.Context) (*http.Request, error) {
			if derives {
				ctx = context.WithValue(ctx, own{}, "BRCA1")
			}
			return p.next(ctx)
		}, func(*http.Response) (bool, error) { return false, nil })
		require.NoError(t, err)
		if derives {
			assert.Equal(t, "BRCA1", seen[1])
		} else {
			assert.Equal(t, 1, seen[0])
		}
	}
}

// noteContext is a context that cannot be compared, as those written by hand may be.
type noteContext struct {
	context.Context
	notes map[string]string
}

// Resume compared the context of the first request with the caller's, and that panicked for
// one of a type that cannot be compared.
func TestResume_ContextThatCannotBeCompared(t *testing.T) {
	server := newStand(t, status(503), status(200))
	p := &pieces{url: server.URL}
	err := retry.Resume(noteContext{t.Context(), nil}, outcomeClient(t, nil, soon), p.next, func(*http.Response) (bool, error) { return false, nil })
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1}, p.counts)
}

// A failed attempt's cookies go out with the next one, as in any call.
func TestResume_Cookies(t *testing.T) {
	var got []string
	server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Cookie"))
		http.SetCookie(w, &http.Cookie{Name: "node", Value: fmt.Sprint(len(got))})
		if len(got) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, ".")
	})
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	p := &pieces{url: server.URL}
	require.NoError(t, retry.Resume(t.Context(), outcomeClient(t, &http.Client{Transport: &http.Transport{}, Jar: jar}, soon), p.next, p.read))
	assert.Equal(t, []string{"", "node=1", "node=2"}, got)
	where, _ := url.Parse(server.URL)
	assert.Equal(t, "3", jar.Cookies(where)[0].Value)
}

// Marked RetryAfter and Neutral, a wait is this call's alone: it pauses nothing for
// others, as the reconnection time of an event stream must not.
func TestNeutralRetryAfterPausesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for pauses, mark := range map[bool]func(error) error{
			false: func(err error) error { return retry.Neutral(retry.RetryAfter(err, time.Minute)) },
			true:  func(err error) error { return retry.RetryAfter(err, time.Minute) },
		} {
			gate := retry.NewGate(nil)
			attempts := 0
			began := time.Now()
			err := retry.Run(t.Context(), unjittered(retry.Config{Gate: gate, OnRetry: func(context.Context, retry.Event) {
				_, paused := gate.PausedUntil()
				assert.Equal(t, pauses, paused)
			}}), func(context.Context) error {
				if attempts++; attempts == 1 {
					return mark(errCutOff)
				}
				return nil
			})
			assert.NoError(t, err)
			assert.Equal(t, time.Minute, time.Since(began))
		}
	})
}

// The end of a body may come with its last bytes, a whole byte order mark among them.
func TestJSONBehindAMarkAtTheEnd(t *testing.T) {
	for text, want := range map[string]string{"\xef\xbb\xbf\"x\"": "x", "\xef\xbb\xbf": ""} {
		body := io.NopCloser(iotest.DataErrReader(strings.NewReader(text)))
		got, err := retry.DecodeJSON[string](&http.Response{StatusCode: 200, ContentLength: int64(len(text)), Body: body})
		assert.NoError(t, err)
		assert.Equal(t, want, got)
	}
	cut := io.NopCloser(strings.NewReader("\xef\xbb"))
	_, err := retry.DecodeJSON[string](&http.Response{StatusCode: 200, ContentLength: 2, Body: cut})
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// A 204 and a 205 have no content, however their end is marked: the answer of a recorder in
// a test has no length, and a server may end a 205 by closing the connection. Such a GET was
// taken for cut off, and sent again until no retries were left.
func TestNoContentIsNoJSON(t *testing.T) {
	for _, code := range []int{http.StatusNoContent, http.StatusResetContent} {
		calls := 0
		client := outcomeClient(t, &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			calls++
			recorder := httptest.NewRecorder()
			recorder.WriteHeader(code)
			return recorder.Result(), nil
		})}, soon)
		got, err := retry.GetJSON[map[string]int](t.Context(), client, "http://gene.example/")
		assert.NoError(t, err, code)
		assert.Nil(t, got)
		assert.Equal(t, 1, calls)
	}
	server := newStand(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(conn, "HTTP/1.1 205 Reset Content\r\nConnection: close\r\n\r\n")
			conn.Close()
		}
	})
	_, err := retry.GetJSON[map[string]int](t.Context(), outcomeClient(t, nil, soon), server.URL)
	assert.NoError(t, err)
	assert.Equal(t, 1, server.hits())
}

package retrytest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// bad is a test that is allowed to fail: what it complained of is noted.
type bad struct {
	testing.TB
	mu       sync.Mutex
	errors   []string
	cleanups []func()
}

func (b *bad) Helper()          {}
func (b *bad) Cleanup(f func()) { b.cleanups = append(b.cleanups, f) }
func (b *bad) Error(a ...any)   { b.Errorf("%s", fmt.Sprint(a...)) }

func (b *bad) Errorf(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errors = append(b.errors, fmt.Sprintf(format, args...))
}

// end runs the cleanups, last first, as package testing does.
func (b *bad) end() []string {
	for i := len(b.cleanups) - 1; i >= 0; i-- {
		b.cleanups[i]()
	}
	return b.errors
}

func get(t *testing.T, s *retrytest.Script, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://genes.example"+path, nil)
	require.NoError(t, err)
	return s.RoundTrip(req)
}

// What is reported of a wrong use, and of which script: the line that package testing puts
// before it is one of a library, or of a helper that many tests share.
func TestWrongUse(t *testing.T) {
	for want, use := range map[string]func(*bad){
		"retrytest: 2 of 3 answers were not asked for, the next one: 429 Too Many Requests after 2s (script of retrytest_test.go:LINE)": func(b *bad) {
			s := retrytest.NewScript(b, retrytest.Status(200, ""), retrytest.TooManyRequests(time.Second).After(2*time.Second), retrytest.Reset())
			_, err := get(t, s, "/")
			assert.NoError(t, err)
		},
		"retrytest: request 2 came, and the script has answers for 1: GET https://genes.example/gene (script of retrytest_test.go:LINE)": func(b *bad) {
			s := retrytest.NewScript(b, retrytest.Status(204, ""))
			_, err := get(t, s, "/")
			assert.NoError(t, err)
			_, err = get(t, s, "/gene?api_key=secret")
			assert.False(t, retry.Retryable(err), "a test that goes wrong should not go on for long")
		},
		`retrytest: 1 of 2 answers were not asked for, the next one: 200 OK (On "/gene" of retrytest_test.go:LINE)`: func(b *bad) {
			s := retrytest.NewScript(b)
			s.On("/gene", retrytest.Status(503, ""), retrytest.Status(200, ""))
			_, err := get(t, s, "/gene")
			assert.NoError(t, err)
		},
		`retrytest: request 2 came, and the script has answers for 1: GET https://genes.example/gene (On "genes.example/" of retrytest_test.go:LINE)`: func(b *bad) {
			s := retrytest.NewScript(b)
			s.On("genes.example/", retrytest.Status(204, ""))
			_, err := get(t, s, "/other")
			assert.NoError(t, err)
			_, err = get(t, s, "/gene?api_key=secret")
			assert.False(t, retry.Retryable(err))
		},
		"retrytest: the body of the response to request 1 was not closed: 200 OK (script of retrytest_test.go:LINE)": func(b *bad) {
			resp, err := get(t, retrytest.NewScript(b, retrytest.Status(200, "text")), "/")
			require.NoError(t, err)
			io.ReadAll(resp.Body)
		},
		"retrytest: timers left on the clock: 2": func(b *bad) {
			clock := retrytest.NewClock(b)
			clock.AfterFunc(time.Hour, func() {})
			clock.AfterFunc(time.Hour, func() {})
			clock.AfterFunc(time.Hour, func() {}).Stop()
			clock.Sleep(time.Minute)
		},
		"retrytest: this must not be called (Never of retrytest_test.go:LINE)": func(b *bad) {
			attempts, cfg := 0, retry.Config{OnDone: func(_ context.Context, e retry.Event) {}}
			cfg.OnDone = func(_ context.Context, e retry.Event) { attempts = e.Attempt }
			assert.Error(t, retry.Run(t.Context(), cfg, retrytest.Never(b)))
			assert.Equal(t, 1, attempts)
		},
		`retrytest: a server that was reached cannot answer with "connection refused"; use the Script as an http.RoundTripper (script of retrytest_test.go:LINE)`: func(b *bad) {
			_, err := http.Get(retrytest.NewScript(b, retrytest.Refused()).Serve())
			assert.Error(t, err)
		},
	} {
		b := new(bad)
		use(b)
		reports := b.end()
		require.Len(t, reports, 1)
		assert.Regexp(t, "^"+strings.ReplaceAll(regexp.QuoteMeta(want), "LINE", `\d+`)+"$", reports[0])
	}
}

// A goroutine that the test started, or that one of its goroutines started, is
// named with its stack; a bystander is not.
func TestNoLeaks(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	go func() { <-stop }() // not started by the test below

	clean := new(bad)
	over := make(chan struct{})
	go func() {
		defer close(over)
		retrytest.NoLeaks(clean)
		go func() { time.Sleep(10 * time.Millisecond) }()
		clean.end()
	}()
	<-over
	assert.Empty(t, clean.errors)

	leaking := new(bad)
	over = make(chan struct{})
	go func() {
		defer close(over)
		retrytest.NoLeaks(leaking)
		started := make(chan struct{})
		go func() { go leak(stop); close(started) }()
		<-started
		leaking.end()
	}()
	<-over
	require.Len(t, leaking.errors, 1)
	assert.Contains(t, leaking.errors[0], "retrytest_test.leak")
	assert.Contains(t, leaking.errors[0], "goroutines left:\n1 @")
}

func leak(stop chan struct{}) { <-stop }

// Each answer is the same thing in memory and over a real connection.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer retrytest.Answer
		status int
		body   string
		header string
		is     error
	}{
		"status":      {answer: retrytest.Status(404, "no such gene").With("X-Gene", "none"), status: 404, body: "no such gene", header: "none"},
		"empty":       {answer: retrytest.Status(204, ""), status: 204},
		"JSON":        {answer: retrytest.JSON([]int{1, 2}).With("X-Gene", "two"), status: 200, body: "[1,2]", header: "two"},
		"throttled":   {answer: retrytest.TooManyRequests(1500*time.Millisecond).With("X-Gene", "later"), status: 429, header: "later"},
		"unchanged":   {answer: retrytest.Status(304, ""), status: 304},
		"cut":         {answer: retrytest.Cut("half of it", 4), status: 200, body: "half", is: io.ErrUnexpectedEOF},
		"cut to none": {answer: retrytest.Cut("half of it", 0), status: 200, is: io.ErrUnexpectedEOF},
		"reset":       {answer: retrytest.Reset(), is: syscall.ECONNRESET},
		"slow":        {answer: retrytest.Status(200, "late").After(time.Millisecond), status: 200, body: "late"},
	} {
		t.Run(name, func(t *testing.T) {
			retrytest.NoLeaks(t)
			for _, real := range []bool{false, true} {
				script := retrytest.NewScript(t, c.answer)
				client, url := script.Client(), "http://genes.example"
				if real {
					client, url = &http.Client{Transport: &http.Transport{}}, script.Serve()
				}
				resp, err := client.Post(url+"/x?y=z", "text/plain", strings.NewReader("asked"))
				if err == nil {
					var body []byte
					body, err = io.ReadAll(resp.Body)
					resp.Body.Close()
					assert.Equal(t, c.status, resp.StatusCode)
					assert.Equal(t, c.body, string(body))
					assert.Equal(t, c.header, resp.Header.Get("X-Gene"))
					if c.is != nil {
						assert.EqualValues(t, len("half of it"), resp.ContentLength)
					}
					if c.status == 204 || c.status == 304 {
						assert.Empty(t, resp.Header.Values("Content-Length"), "of what has no body")
					}
				}
				assert.ErrorIs(t, err, c.is)
				client.CloseIdleConnections()
				require.Len(t, script.Requests(), 1)
				r := script.Requests()[0]
				assert.Equal(t, "POST "+url+"/x?y=z asked text/plain 1",
					fmt.Sprintf("%s %s %s %s %d", r.Method, r.URL, r.Body, r.Header.Get("Content-Type"), r.Attempt))
				assert.WithinDuration(t, time.Now(), r.At, time.Minute)
			}
		})
	}
}

// A refused connection is one, so that even a POST may be repeated; an error of
// one's own is passed on.
func TestAnswers_WithoutConnection(t *testing.T) {
	errOwn := errors.New("own")
	script := retrytest.NewScript(t, retrytest.Refused(), retrytest.Refused(), retrytest.Fail(errOwn))
	waits, err := retrytest.Run(t, retry.Config{Jitter: retry.NoJitter}, func(cfg retry.Config) error {
		transport, err := retry.NewTransport(script, cfg)
		require.NoError(t, err)
		_, err = (&http.Client{Transport: transport}).Post("http://genes.example", "text/plain", strings.NewReader("x"))
		return err
	})
	assert.ErrorIs(t, err, errOwn)
	assert.Equal(t, "1s backoff, 2s backoff", waits.String())
	for i, r := range script.Requests() {
		assert.Equal(t, i+1, r.Attempt)
		assert.Equal(t, "x", string(r.Body))
	}

	// A reset one may have brought the POST to the server.
	transport, err := retry.NewTransport(retrytest.NewScript(t, retrytest.Reset()), retry.Config{})
	require.NoError(t, err)
	_, err = (&http.Client{Transport: transport}).Post("http://genes.example", "text/plain", strings.NewReader("x"))
	assert.ErrorIs(t, err, retry.ErrNotIdempotent)
}

// A server numbers the requests with the same method and URL.
func TestScript_ServeCountsAttempts(t *testing.T) {
	ok := retrytest.Status(204, "")
	script := retrytest.NewScript(t, ok, ok, ok, ok, ok)
	url := script.Serve()
	for _, request := range []string{"GET /a", "POST /a", "GET /b", "GET /a", "GET /a"} {
		method, path, _ := strings.Cut(request, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
	}
	var attempts []int
	for _, r := range script.Requests() {
		attempts = append(attempts, r.Attempt)
	}
	assert.Equal(t, []int{1, 1, 1, 2, 3}, attempts)
}

// HEAD has no body, and so none to close.
func TestAnswers_Head(t *testing.T) {
	resp, err := retrytest.NewScript(t, retrytest.Status(200, "text")).Client().Head("http://genes.example")
	require.NoError(t, err)
	assert.EqualValues(t, 4, resp.ContentLength)
}

// The clock is moved on by waits and by slow answers, and the requests are noted
// by it. A slow answer that comes before the attempt's timeout is an answer, one
// that does not is none.
func TestClock(t *testing.T) {
	retrytest.NoLeaks(t)
	for range 20 {
		clock := retrytest.NewClock(t)
		gate := retry.NewGate(clock)
		script := retrytest.NewScript(t,
			retrytest.Status(200, "").After(10*time.Second), // the timeout wins at the same moment
			retrytest.Status(503, "").After(9*time.Second),
			retrytest.Hang(),
			retrytest.TooManyRequests(20*time.Second),
			retrytest.Status(200, "x"),
		)
		script.Clock = clock
		start := clock.Now()
		cfg := retry.Config{Clock: clock, Gate: gate, AttemptTimeout: 10 * time.Second, Jitter: retry.NoJitter}
		waits, err := retrytest.Run(t, cfg, func(cfg retry.Config) error { return getOnce(t, script, cfg) })
		require.NoError(t, err)
		assert.Equal(t, "1s backoff, 2s backoff, 4s backoff, 20s retry-after", waits.String())
		var at []time.Duration
		for _, r := range script.Requests() {
			at = append(at, r.At.Sub(start)/time.Second)
		}
		assert.Equal(t, []time.Duration{0, 11, 22, 36, 56}, at)
		assert.Equal(t, 56*time.Second, clock.Since(start))
	}
}

// Timers that the clock hands out behave like those of package time.
func TestClock_Timers(t *testing.T) {
	clock := retrytest.NewClock(t)
	start := clock.Now()
	assert.Equal(t, start.Add(time.Second), <-clock.After(time.Second))
	timer := clock.NewTimer(-1)
	<-timer.Chan()
	assert.False(t, timer.Reset(time.Second))
	assert.Equal(t, start.Add(2*time.Second), <-timer.Chan())
	assert.False(t, timer.Stop())
	clock.Sleep(-time.Second)
	assert.Equal(t, 2*time.Second, clock.Since(start))
}

// Waits for an open breaker, and hooks of one's own, are noted too.
func TestRun_Breaker(t *testing.T) {
	clock := retrytest.NewClock(t)
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Clock: clock, RecoveryTimeout: 30 * time.Second})
	require.NoError(t, err)
	breaker.Trip(30 * time.Second)
	var own int
	cfg := retry.Config{Clock: clock, Breaker: breaker, WaitWhenOpen: true}
	cfg.OnWait = func(context.Context, retry.Event) { own++ }
	waits, err := retrytest.Run(t, cfg, func(cfg retry.Config) error {
		return retry.Run(t.Context(), cfg, func(context.Context) error { return nil })
	})
	require.NoError(t, err)
	assert.Equal(t, "30s breaker", waits.String())
	assert.Equal(t, 1, own)
	waits, err = retrytest.Run(t, retry.Config{}, func(retry.Config) error { return nil })
	require.NoError(t, err)
	assert.Equal(t, "no waits", waits.String())
}

// In a bubble contexts with deadlines work as well, and so do slow answers and
// calls side by side.
func TestBubble(t *testing.T) {
	waits, err := retrytest.Bubble(t, retry.Config{Jitter: retry.NoJitter}, func(t *testing.T, cfg retry.Config) error {
		script := retrytest.NewScript(t, retrytest.Status(503, "").After(3*time.Second), retrytest.Hang())
		client, err := retry.NewRetryableClient(script.Client(), cfg)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_, err = client.Get(ctx, "http://genes.example")
		assert.Equal(t, 10*time.Second, time.Since(start))
		return err
	})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, "1s backoff", waits.String())
}

// A test that fails shows what the call did, wherever it fails: after the call, where a
// comparison of the waits says nothing about the error, or within it, also where that
// ends the test. A test that passes shows nothing.
func TestBubble_FailureShowsWaitsAndError(t *testing.T) {
	down := errors.New("down")
	attempts := func(t *testing.T, cfg retry.Config) error {
		return retry.Run(t.Context(), cfg, func(context.Context) error { return down })
	}
	cfg := retry.Config{MaxRetries: 2, Jitter: retry.NoJitter}
	if os.Getenv("RETRYTEST_FAIL") != "" {
		t.Run("after", func(t *testing.T) {
			waits, _ := retrytest.Bubble(t, cfg, attempts)
			assert.Equal(t, "no waits", waits.String())
		})
		t.Run("within", func(t *testing.T) {
			retrytest.Bubble(t, cfg, func(t *testing.T, cfg retry.Config) error {
				defer t.Error("wrong")
				return attempts(t, cfg)
			})
		})
		t.Run("ended", func(t *testing.T) {
			retrytest.Bubble(t, cfg, func(t *testing.T, cfg retry.Config) error {
				require.NoError(t, attempts(t, cfg))
				return nil
			})
		})
		t.Run("passes", func(t *testing.T) { retrytest.Bubble(t, cfg, attempts) })
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "RETRYTEST_FAIL=1")
	output, err := cmd.Output()
	require.Error(t, err)
	_, after, _ := strings.Cut(string(output), "=== RUN   "+t.Name()+"/after\n")
	after, within, _ := strings.Cut(after, "=== RUN   "+t.Name()+"/within\n")
	within, ended, _ := strings.Cut(within, "=== RUN   "+t.Name()+"/ended\n")
	ended, passes, _ := strings.Cut(ended, "=== RUN   "+t.Name()+"/passes\n")
	const log = `Bubble of retrytest_test.go:\d+: waits: 1s backoff, 2s backoff; error: `
	assert.Regexp(t, log+"retry: no retries left .*down", after)
	assert.Regexp(t, log+"retry: no retries left .*down", within)
	assert.Regexp(t, log+"unknown", ended)
	assert.NotContains(t, passes, "waits:")
}

// A Drain from outside of the bubble stopped its time, and the test for the ten minutes
// that a test may take: a call that waits for a channel from outside counts as busy.
func TestBubble_DrainFromOutside(t *testing.T) {
	drain := make(chan struct{})
	if os.Getenv("RETRYTEST_FAIL") != "" {
		retrytest.Bubble(t, retry.Config{Drain: drain}, func(*testing.T, retry.Config) error { return nil })
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "RETRYTEST_FAIL=1")
	output, err := cmd.Output()
	assert.Error(t, err)
	assert.Contains(t, string(output), "set it within the call")

	close(drain) // by which no call waits
	down := errors.New("down")
	fails := func(t *testing.T, cfg retry.Config) error {
		return retry.Run(t.Context(), cfg, func(context.Context) error { return down })
	}
	_, err = retrytest.Bubble(t, retry.Config{Drain: drain}, fails)
	assert.ErrorIs(t, err, retry.ErrDraining)
	waits, err := retrytest.Bubble(t, retry.Config{Jitter: retry.NoJitter}, func(t *testing.T, cfg retry.Config) error {
		within := make(chan struct{})
		cfg.Drain = within
		time.AfterFunc(2*time.Second, func() { close(within) })
		return fails(t, cfg)
	})
	assert.ErrorIs(t, err, retry.ErrDraining)
	assert.Equal(t, "1s backoff, 2s backoff", waits.String())
}

// getOnce makes a request to a script by a client of its own.
func getOnce(t *testing.T, script *retrytest.Script, cfg retry.Config) error {
	client, err := retry.NewRetryableClient(script.Client(), cfg)
	if err != nil {
		return err
	}
	resp, err := client.Get(t.Context(), "http://genes.example")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// A Script that was given no clock let its slow answers go by the real one, while the call
// went by the fake clock of Run: an answer that hangs did so for ten minutes, one that took
// 3s took them, and no timeout of an attempt ended either.
func TestRun_SlowAnswers(t *testing.T) {
	started := time.Now()
	for name, slow := range map[string]retrytest.Answer{"hangs": retrytest.Hang(), "slow": retrytest.Status(200, "").After(30 * time.Second)} {
		script := retrytest.NewScript(t, slow, retrytest.Status(200, "").After(3*time.Second), retrytest.Status(200, ""))
		cfg := retry.Config{AttemptTimeout: 2 * time.Second, Jitter: retry.NoJitter}
		waits, err := retrytest.Run(t, cfg, func(cfg retry.Config) error { return getOnce(t, script, cfg) })
		assert.NoError(t, err, name)
		assert.Equal(t, "1s backoff, 2s backoff", waits.String(), name)
		at := func(n int) time.Duration { return script.Requests()[n].At.Sub(script.Requests()[0].At) }
		assert.Equal(t, []time.Duration{3 * time.Second, 7 * time.Second}, []time.Duration{at(1), at(2)}, name)
	}
	assert.Less(t, time.Since(started), time.Minute, "30 real seconds each, at least")
}

// So do they on a fake clock that the test moves.
func TestScript_SlowOnTheConfigsClock(t *testing.T) {
	fake := clockwork.NewFakeClock()
	script := retrytest.NewScript(t, retrytest.Status(200, "").After(time.Hour))
	answered := make(chan error)
	go func() { answered <- getOnce(t, script, retry.Config{Clock: fake}) }()
	require.NoError(t, fake.BlockUntilContext(t.Context(), 1))
	fake.Advance(time.Hour)
	assert.NoError(t, <-answered)
}

// A context that is done, and a body that cannot be read, are no requests.
func TestScript_NotSent(t *testing.T) {
	script := retrytest.NewScript(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://genes.example", nil)
	require.NoError(t, err)
	_, err = script.RoundTrip(req)
	assert.ErrorIs(t, err, context.Canceled)
	_, err = script.Client().Post("http://genes.example", "", io.MultiReader(strings.NewReader("x"), brokenReader{}))
	assert.ErrorIs(t, err, io.ErrNoProgress)
	assert.Empty(t, script.Requests())
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

// A body cannot be read when it is closed.
func TestScript_ClosedBody(t *testing.T) {
	resp, err := get(t, retrytest.NewScript(t, retrytest.Status(200, "text")), "/")
	require.NoError(t, err)
	resp.Body.Close()
	_, err = resp.Body.Read(make([]byte, 1))
	assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	resp.Body.Close()
}

func TestJSON_Panics(t *testing.T) {
	assert.Panics(t, func() { retrytest.JSON(func() {}) })
}

// A service with several upstreams has one script: each host, path or method has its own
// answers, whatever the order of the requests, over a connection too.
func TestScriptByPattern(t *testing.T) {
	s := retrytest.NewScript(t, retrytest.Status(404, ""))
	s.On("genes.example/", retrytest.Status(201, ""), retrytest.Status(202, ""))
	s.On("genes.example/gene/{symbol}", retrytest.Status(203, ""))
	s.On("POST https://genes.example/gene/{symbol}", retrytest.Status(204, ""))
	s.On("/health", retrytest.Status(205, ""), retrytest.Status(206, ""))
	for _, step := range []struct {
		method, url string
		want        int
	}{
		{"GET", "https://genes.example:8443/", 201},
		{"POST", "https://genes.example/gene/BRCA1", 204},
		{"GET", "https://genes.example/gene/BRCA1?fields=all", 203},
		{"GET", "https://genes.example", 202},
		{"GET", "https://variants.example/health", 205},
		{"GET", "https://variants.example/", 404},
		{"GET", s.Serve() + "/health", 206},
	} {
		req, err := http.NewRequestWithContext(t.Context(), step.method, step.url, nil)
		require.NoError(t, err)
		client := s.Client()
		if req.URL.Scheme == "http" {
			client = new(http.Client)
		}
		resp, err := client.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, step.want, resp.StatusCode, "%s %s", step.method, step.url)
	}
	assert.Len(t, s.Requests(), 7)

	// What no pattern matches is the function's to decide.
	f := retrytest.NewScriptFunc(t, func(r retrytest.Request) retrytest.Answer { return retrytest.Status(299, "") })
	f.On("/health", retrytest.Status(200, ""))
	for _, step := range []struct {
		path string
		want int
	}{{"/gene", 299}, {"/health", 200}, {"/gene", 299}} {
		resp, err := get(t, f, step.path)
		require.NoError(t, err)
		assert.Equal(t, step.want, resp.StatusCode, step.path)
	}
}

// What MayHaveActed says of a payment is the same over a Script as over the network, with
// and without a key, and also where the Script is wrapped. Over a Script alone it once was
// always true of a request with a key.
func TestMayHaveActedOverAScript(t *testing.T) {
	cfg := retry.Config{MaxRetries: 1, InitialDelay: time.Nanosecond}
	busy := retrytest.TooManyRequests(time.Nanosecond)
	twice := func(base http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			first := req.Clone(req.Context())
			first.Body, _ = req.GetBody()
			if resp, err := base.RoundTrip(first); err == nil {
				resp.Body.Close()
			}
			return base.RoundTrip(req)
		})
	}
	for name, c := range map[string]struct {
		answers []retrytest.Answer
		want    bool
		served  bool // a server can answer so, too
		opts    []retry.Option
	}{
		"refused":            {answers: []retrytest.Answer{retrytest.Refused(), retrytest.Refused()}},
		"no such host":       {answers: []retrytest.Answer{retrytest.Fail(&net.DNSError{IsTimeout: true}), retrytest.Refused()}},
		"429":                {answers: []retrytest.Answer{busy, busy}, served: true},
		"503 with a wait":    {answers: []retrytest.Answer{retrytest.Status(503, "").With("Retry-After", "0"), busy}, served: true},
		"425":                {answers: []retrytest.Answer{retrytest.Status(425, ""), busy}, served: true},
		"reset, not sent on": {answers: []retrytest.Answer{busy, retrytest.Reset()}, want: true, served: true},
		"500":                {answers: []retrytest.Answer{busy, retrytest.Status(500, "")}, want: true, served: true},
		"402":                {answers: []retrytest.Answer{retrytest.Status(402, "")}, want: true, served: true},
		"cut":                {answers: []retrytest.Answer{busy, retrytest.Cut(`"paid"`, 3)}, want: true, served: true},
		"no answer": {answers: []retrytest.Answer{busy, retrytest.Hang()}, want: true,
			opts: []retry.Option{retry.PerHost(func(_ string, cfg *retry.Config) error { cfg.AttemptTimeout = 50 * time.Millisecond; return nil })}},
		"another failure": {answers: []retrytest.Answer{busy, retrytest.Fail(io.ErrUnexpectedEOF)}, want: true},
		"twice in an attempt, both refused": {answers: []retrytest.Answer{retrytest.Refused(), busy, retrytest.Refused(), busy},
			opts: []retry.Option{retry.WrapTransport(twice)}},
		"twice in an attempt, the first lost": {answers: []retrytest.Answer{retrytest.Reset(), busy, retrytest.Reset(), busy}, want: true,
			opts: []retry.Option{retry.WrapTransport(twice)}},
	} {
		for way, opt := range map[string]retry.Option{"keyed": nil, "not idempotent": retry.IdempotentOnly()} {
			t.Run(name+"/"+way, func(t *testing.T) {
				pay := func(base *http.Client, url string) {
					client, err := retry.NewRetryableClient(base, cfg, append(c.opts, opt)...)
					require.NoError(t, err)
					_, err = retry.PostJSON[string](t.Context(), client, url, 7)
					require.Error(t, err)
					assert.Equal(t, c.want, retry.MayHaveActed(err), "%v", err)
				}
				pay(retrytest.NewScript(t, c.answers...).Client(), "https://payments.example/")
				pay(&http.Client{Transport: roundTrip(retrytest.NewScript(t, c.answers...).RoundTrip)}, "https://payments.example/")
				if c.served {
					pay(nil, retrytest.NewScript(t, c.answers...).Serve())
				}
			})
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

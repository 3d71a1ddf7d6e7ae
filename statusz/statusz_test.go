package statusz_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
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
	"github.com/retryutils/retry/statusz"
)

var errDown = errors.New("down")

// shown is what the page says as JSON.
type shown struct {
	Hosts []struct {
		Client, Name, Host, Settings string
		Counted                      bool
		Findings                     []struct {
			Severe     bool
			Text, Hint string
		}
		Breaker *struct{ State, Cause, Open_for, Last_failure string }
		Gate    *struct {
			Paused_for, Last_refusal string
			Pace_per_second          float64
			Calls_waiting            int
		}
		Budget          *struct{ Balance float64 }
		Calls_under_way int
		Calls_waiting   []struct {
			For, Longest string
			Calls        int
		}
		Last         map[string]counts
		Last_failure *struct{ Error string }
	}
	Breakers []struct{ Name, State string }
	Gates    []struct{ Name, Paused_for string }
	Budgets  []struct {
		Name    string
		Balance float64
	}
}

type counts struct {
	Calls, Attempts, Retries int
	Outcomes, Failures       map[string]int
}

func get(page http.Handler, target string, accept ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, target, nil)
	req.Header["Accept"] = accept
	w := httptest.NewRecorder()
	page.ServeHTTP(w, req)
	return w
}

func read(t *testing.T, page http.Handler) (s shown) {
	t.Helper()
	require.NoError(t, json.Unmarshal(get(page, "/?format=json").Body.Bytes(), &s))
	return s
}

func html(t *testing.T, page http.Handler) string {
	t.Helper()
	w := get(page, "/")
	require.Equal(t, http.StatusOK, w.Code)
	return w.Body.String()
}

func texts(s shown) (all []string) {
	for _, h := range s.Hosts {
		for _, f := range h.Findings {
			all = append(all, f.Text)
		}
	}
	return all
}

func newClient(t *testing.T, page *statusz.Page, cfg retry.Config, answer func(n int, r retrytest.Request) retrytest.Answer, opts ...retry.Option) *retry.RetryableClient {
	t.Helper()
	var n atomic.Int64
	base := &http.Client{Transport: retrytest.NewScriptFunc(t, func(r retrytest.Request) retrytest.Answer { return answer(int(n.Add(1)), r) })}
	client, err := retry.NewRetryableClient(base, page.Watch(cfg), opts...)
	require.NoError(t, err)
	page.Client("annotate", client)
	return client
}

func call(ctx context.Context, client *retry.RetryableClient, url string) error {
	resp, err := client.Get(ctx, url)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// The five incidents for which the page is there: each is named, with what to do.
func TestIncidents(t *testing.T) {
	incident := func(name string, test func(t *testing.T, page *statusz.Page)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, statusz.New()) })
		})
	}
	incident("upstream down", func(t *testing.T, page *statusz.Page) {
		cfg := retry.Config{Name: "annotate", MaxRetries: 2, Jitter: retry.NoJitter}
		client := newClient(t, page, cfg, func(int, retrytest.Request) retrytest.Answer { return retrytest.Status(503, "") }, retry.HostBreaker(retry.BreakerConfig{}))
		for range 2 {
			require.Error(t, call(t.Context(), client, "https://hgnc.test/fetch?key=hidden"))
		}
		time.Sleep(10 * time.Second)
		s := read(t, page)
		require.Len(t, s.Hosts, 1)
		host := s.Hosts[0]
		assert.Equal(t, "annotate", host.Name)
		assert.Equal(t, "https://hgnc.test", host.Host)
		assert.Equal(t, "open", host.Breaker.State)
		assert.Equal(t, "5 failures in a row", host.Breaker.Cause)
		assert.Equal(t, "50s", host.Breaker.Open_for)
		assert.Equal(t, "5 of 5 attempts in 5m failed with 503 (5, after 0s).", texts(s)[0])
		assert.Equal(t, "The circuit breaker is open for another 50s: 5 failures in a row; last failure: GET https://hgnc.test/fetch?key=xxxxx: 503 Service Unavailable.", texts(s)[1], "which follows")
		require.Error(t, call(t.Context(), client, "https://hgnc.test/"))
		assert.Regexp(t, `<dd>open for another 50s, [^<]*; 5 failures in a row; last failure: [^;<]*; \d+ rejected so far</dd>`, html(t, page), "and not that 0 of 0 calls failed")
		s = read(t, page)
		host = s.Hosts[0]
		assert.Equal(t, counts{3, 5, 3, map[string]int{"max_retries": 1, "circuit_open": 2}, map[string]int{"503": 5}}, host.Last["5m"])
		assert.Contains(t, host.Settings, "max_retries=2")
		assert.Contains(t, html(t, page), "max_retries 1")
		assert.NotContains(t, html(t, page), "hidden")
	})
	incident("pause of ten minutes", func(t *testing.T, page *statusz.Page) {
		cfg := retry.Config{Name: "annotate", MaxRetryAfter: time.Hour}
		client := newClient(t, page, cfg, func(n int, r retrytest.Request) retrytest.Answer {
			switch { // all are refused: a pause yields to calls that are accepted
			case n == 1:
				return retrytest.TooManyRequests(10 * time.Minute).After(time.Second)
			case n <= 5:
				return retrytest.TooManyRequests(5 * time.Minute).After(time.Second + time.Millisecond)
			}
			return retrytest.Status(200, "")
		})
		finished := make(chan error)
		for range 5 {
			go func() { finished <- call(t.Context(), client, "https://hgnc.test/") }()
		}
		time.Sleep(time.Minute + time.Second)
		s := read(t, page)
		assert.Regexp(t, `^Paused for another 9m0s, until ..:10:01 \S+ \(the server asked for 10m0s at ..:00:01 \S+\); last refusal: GET https://hgnc.test/: 429 Too Many Requests\.$`, texts(s)[0])
		assert.Contains(t, s.Hosts[0].Findings[0].Hint, "Calls wait for its end")
		assert.Contains(t, s.Hosts[0].Findings[0].Hint, "Something else may use the same quota")
		waits := s.Hosts[0].Calls_waiting
		require.NotEmpty(t, waits)
		calls := 0
		for _, w := range waits {
			assert.Contains(t, []string{"retry-after", "pause"}, w.For)
			assert.Equal(t, "1m0s", w.Longest)
			calls += w.Calls
		}
		assert.Equal(t, s.Hosts[0].Calls_under_way, calls)
		for range 5 {
			require.NoError(t, <-finished)
		}
		s = read(t, page)
		assert.Zero(t, s.Hosts[0].Calls_under_way)
		assert.Empty(t, s.Hosts[0].Calls_waiting)
		assert.Empty(t, s.Hosts[0].Gate.Paused_for)
	})
	incident("pause longer than calls may wait", func(t *testing.T, page *statusz.Page) {
		client := newClient(t, page, retry.Config{Name: "annotate"}, func(n int, r retrytest.Request) retrytest.Answer {
			if n > 60 {
				return retrytest.TooManyRequests(10 * time.Minute)
			}
			return retrytest.Status(200, "")
		})
		for range 60 {
			require.NoError(t, call(t.Context(), client, "https://hgnc.test/"))
			time.Sleep(20 * time.Second)
		}
		for range 10 {
			require.Error(t, call(t.Context(), client, "https://hgnc.test/"))
		}
		findings := read(t, page).Hosts[0].Findings
		hint := findings[0].Hint
		assert.Empty(t, findings[1].Hint, "the pause's says it all")
		assert.Contains(t, hint, "end at once: their deadline, or max_retry_after in the settings, is shorter")
		assert.Contains(t, hint, "Something else may use the same quota")
		for range 40 {
			require.Error(t, call(t.Context(), client, "https://hgnc.test/"))
		}
		assert.Contains(t, read(t, page).Hosts[0].Findings[0].Hint, "lower the demand")
	})
	incident("deadline too short", func(t *testing.T, page *statusz.Page) {
		client := newClient(t, page, retry.Config{Name: "annotate", Jitter: retry.NoJitter}, func(int, retrytest.Request) retrytest.Answer { return retrytest.Status(500, "") })
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		require.Error(t, call(ctx, client, "https://hgnc.test/"))
		s := read(t, page)
		assert.Equal(t, "1 of 1 attempts in 5m failed with 500 (1, after 0s).", texts(s)[0])
		assert.Equal(t, "1 of 1 calls in 5m ended with deadline: their callers had allowed 300ms.", texts(s)[1])
		assert.Contains(t, s.Hosts[0].Findings[1].Hint, "caller's deadline")
		assert.Contains(t, s.Hosts[0].Last_failure.Error, "a wait of 1s, and 300ms is left")
	})
	incident("deadline shorter than an answer takes", func(t *testing.T, page *statusz.Page) {
		client := newClient(t, page, retry.Config{Name: "annotate", AttemptTimeout: time.Second}, func(n int, _ retrytest.Request) retrytest.Answer {
			return retrytest.Status(200, "").After(time.Duration(n) * 200 * time.Millisecond)
		})
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_ = call(ctx, client, "https://hgnc.test/")
		}
		s := read(t, page)
		assert.Equal(t, "1 of 3 attempts in 5m failed with deadline (1, after 500ms); 2 were answered, after 300ms on average (only those within the limit are counted).", texts(s)[0])
		assert.Contains(t, s.Hosts[0].Findings[0].Hint, "the deadline is too short")
		assert.Equal(t, "1 of 3 calls in 5m ended with deadline: their callers had allowed 500ms.", texts(s)[1])
		assert.Contains(t, get(page, "/?format=json").Body.String(), `"mean": "300ms"`)
		assert.Contains(t, html(t, page), "answers after 300ms on average (only those within the limit are counted)")
	})
	incident("no connection", func(t *testing.T, page *statusz.Page) {
		var down atomic.Bool
		down.Store(true)
		client := newClient(t, page, retry.Config{Name: "annotate", MaxRetries: 1}, func(int, retrytest.Request) retrytest.Answer {
			if down.Load() {
				return retrytest.Refused()
			}
			return retrytest.Status(200, "")
		})
		require.Error(t, call(t.Context(), client, "https://hgnc.test/"))
		s := read(t, page)
		assert.Equal(t, "2 of 2 attempts in 5m failed with connect (2, after 0s).", texts(s)[0])
		assert.True(t, s.Hosts[0].Findings[0].Severe)
		assert.Contains(t, s.Hosts[0].Findings[0].Hint, "or its address is wrong")
		down.Store(false)
		require.NoError(t, call(t.Context(), client, "https://hgnc.test/"))
		time.Sleep(2 * time.Hour)
		down.Store(true)
		require.Error(t, call(t.Context(), client, "https://hgnc.test/"))
		hint := read(t, page).Hosts[0].Findings[0].Hint
		assert.Contains(t, hint, "the dependency is down")
		assert.NotContains(t, hint, "address", "which was right before")
	})
	incident("wrong setting", func(t *testing.T, page *statusz.Page) {
		cfg := retry.Config{Name: "annotate", AttemptTimeout: time.Millisecond, MaxRetries: 1}
		client := newClient(t, page, cfg, func(int, retrytest.Request) retrytest.Answer { return retrytest.Status(200, "").After(time.Second) })
		require.Error(t, call(t.Context(), client, "https://hgnc.test/"))
		s := read(t, page)
		assert.Contains(t, s.Hosts[0].Last_failure.Error, "no answer within 1ms (AttemptTimeout)")
		assert.Contains(t, s.Hosts[0].Settings, "attempt_timeout=1ms")
		assert.Equal(t, map[string]int{"timeout": 2}, s.Hosts[0].Last["1m"].Failures)
		assert.Equal(t, "2 of 2 attempts in 5m failed with timeout (2, after 1ms).", texts(s)[0])
		assert.Contains(t, s.Hosts[0].Findings[0].Hint, "attempt_timeout in the settings")
	})
	for _, c := range []struct {
		name                string
		after               time.Duration // failures
		busy                int           // calls beyond those before
		noRetries, probably bool
	}{
		{name: "one bad backend", probably: true},
		{name: "slow failures", after: 20 * time.Millisecond},
		{name: "more load", busy: 300},
		{name: "no retries that succeed", noRetries: true},
	} {
		incident(c.name, func(t *testing.T, page *statusz.Page) {
			cfg := retry.Config{Name: "annotate", InitialDelay: time.Millisecond}
			if c.noRetries {
				cfg.MaxRetries = retry.NoRetries
			}
			client := newClient(t, page, cfg, func(n int, r retrytest.Request) retrytest.Answer {
				if n%5 == 0 {
					return retrytest.Status(502, "").After(c.after)
				}
				return retrytest.Status(200, "").After(30 * time.Millisecond)
			})
			for range 700 {
				_ = call(t.Context(), client, "https://hgnc.test/")
				time.Sleep(time.Second)
			}
			for range c.busy {
				_ = call(t.Context(), client, "https://hgnc.test/")
			}
			s := read(t, page)
			assert.Regexp(t, `^\d+ of \d+ attempts in 5m failed with 502 \(\d+, after \d+(ms|s)\); \d+ were answered, after 30ms\.$`, texts(s)[0])
			if hint := s.Hosts[0].Findings[0].Hint; c.probably {
				assert.Contains(t, hint, "One of several backends behind the host is probably bad.")
			} else {
				assert.Contains(t, hint, "may be bad, or the load is near a limit")
			}
			assert.Equal(t, c.noRetries, s.Hosts[0].Findings[0].Severe)
		})
	}
	// The page was read 100 ms into a step that held one failure and nothing else, and that
	// step was one of three: it said of a backend in four that attempts fail by turns.
	incident("the step has only begun", func(t *testing.T, page *statusz.Page) {
		client := newClient(t, page, retry.Config{Name: "annotate", MaxRetries: retry.NoRetries}, func(n int, r retrytest.Request) retrytest.Answer {
			if n%4 == 1 {
				return retrytest.Status(502, "")
			}
			return retrytest.Status(200, "").After(30 * time.Millisecond)
		})
		for range 20 {
			_ = call(t.Context(), client, "https://hgnc.test/")
			time.Sleep(400 * time.Millisecond)
		}
		time.Sleep(time.Until(time.Now().Truncate(5 * time.Second).Add(5 * time.Second))) // a new step
		_ = call(t.Context(), client, "https://hgnc.test/")
		assert.Contains(t, read(t, page).Hosts[0].Findings[0].Hint, "One of several backends")
	})
	incident("down for a while", func(t *testing.T, page *statusz.Page) { // which looks like a bad backend in the counts
		client := newClient(t, page, retry.Config{Name: "annotate", MaxRetries: retry.NoRetries}, func(n int, r retrytest.Request) retrytest.Answer {
			if n > 20 && n <= 30 {
				return retrytest.Status(502, "")
			}
			return retrytest.Status(200, "")
		})
		for range 40 {
			_ = call(t.Context(), client, "https://hgnc.test/")
			time.Sleep(3 * time.Second)
		}
		for _, f := range read(t, page).Hosts[0].Findings {
			assert.NotContains(t, f.Hint, "backends")
		}
	})
}

// Of hosts in trouble, the one comes first that most calls suffer from.
func TestOrderOfHosts(t *testing.T) {
	page := statusz.New()
	for name, failing := range map[string]int{"a": 1, "b": 3, "c": 0, "d": 2} {
		cfg := page.Watch(retry.Config{Name: name, MaxRetries: retry.NoRetries})
		for i := range 4 {
			_ = retry.Run(t.Context(), cfg, func(context.Context) error {
				if i < failing {
					return errDown
				}
				return nil
			})
		}
	}
	var names []string
	for _, h := range read(t, page).Hosts {
		names = append(names, h.Name)
	}
	assert.Equal(t, []string{"b", "d", "a", "c"}, names)
}

// A count is in a window until the window has passed, and never for longer.
func TestWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := statusz.New()
		cfg := page.Watch(retry.Config{Name: "x", MaxRetries: retry.NoRetries})
		run := func(err error) {
			_ = retry.Run(t.Context(), cfg, func(context.Context) error { return err })
		}
		in := func(window string) int { return read(t, page).Hosts[0].Last[window].Calls }
		run(nil)
		for _, c := range []struct {
			window string
			span   time.Duration
			step   time.Duration
		}{{"1m", time.Minute, 5 * time.Second}, {"5m", 5 * time.Minute, 5 * time.Second}, {"60m", time.Hour, time.Minute}} {
			start := time.Now()
			before := in(c.window)
			run(errDown)
			require.Equal(t, before+1, in(c.window))
			time.Sleep(c.span - c.step)
			assert.GreaterOrEqual(t, in(c.window), 1, c.window)
			time.Sleep(time.Until(start.Add(c.span)))
			assert.Zero(t, in(c.window), c.window)
		}
		assert.NotZero(t, len(html(t, page)))
		time.Sleep(1000 * time.Hour)
		run(nil)
		assert.Equal(t, 1, in("60m"))
	})
}

// Each kind of wait is shown while it lasts, a limiter's too, which is announced when it
// is over.
func TestWaitingForWhat(t *testing.T) {
	for why, set := range map[string]func(*retry.Config){
		"backoff": func(cfg *retry.Config) { cfg.InitialDelay = time.Minute },
		"pause":   func(cfg *retry.Config) { cfg.Gate = retry.NewGate(nil); cfg.Gate.Pause(time.Minute) },
		"limiter": func(cfg *retry.Config) { cfg.Limiter = slowLimiter{} },
		"breaker": func(cfg *retry.Config) {
			cfg.Breaker, _ = retry.NewCircuitBreaker(retry.BreakerConfig{})
			cfg.Breaker.ForceOpen()
			cfg.WaitWhenOpen = true
		},
	} {
		t.Run(why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				page := statusz.New()
				cfg := retry.Config{Name: "x", Jitter: retry.NoJitter}
				set(&cfg)
				ctx, cancel := context.WithCancel(t.Context())
				finished := make(chan error)
				go func() {
					finished <- retry.Run(ctx, page.Watch(cfg), func(context.Context) error { return errDown })
				}()
				time.Sleep(10 * time.Second)
				waits := read(t, page).Hosts[0].Calls_waiting
				require.Len(t, waits, 1)
				assert.Equal(t, why, waits[0].For)
				assert.Equal(t, "10s", waits[0].Longest)
				assert.Contains(t, html(t, page), "1 waiting for "+why+", the longest for 10s")
				cancel()
				require.Error(t, <-finished)
				assert.Empty(t, read(t, page).Hosts[0].Calls_waiting)
			})
		})
	}
}

type slowLimiter struct{}

func (slowLimiter) Wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// The hooks that a Config had are called as before, those of a Config that is watched
// twice count once, and a call within a call is one of its own.
func TestWatchKeepsHooksAndCountsOnce(t *testing.T) {
	page := statusz.New()
	var calls []string
	type own struct{}
	cfg := retry.Config{Name: "x", Backoff: retry.ConstantBackoff(time.Millisecond), MaxRetries: 1}
	cfg.OnStart = func(ctx context.Context, _ retry.Event) context.Context {
		calls = append(calls, "start")
		return context.WithValue(ctx, own{}, "mine")
	}
	cfg.OnAttempt = func(ctx context.Context, _ retry.Event) context.Context { calls = append(calls, "attempt"); return nil }
	cfg.OnAttemptDone = func(context.Context, retry.Event) { calls = append(calls, "attempt done") }
	cfg.OnWait = func(context.Context, retry.Event) { calls = append(calls, "wait") }
	cfg.OnRetry = func(context.Context, retry.Event) { calls = append(calls, "retry") }
	cfg.OnDone = func(ctx context.Context, _ retry.Event) { calls = append(calls, fmt.Sprint("done ", ctx.Value(own{}))) }
	inner := page.Watch(retry.Config{Name: "x"})
	_ = retry.Run(t.Context(), page.Watch(page.Watch(cfg)), func(ctx context.Context) error {
		assert.NoError(t, retry.Run(ctx, inner, func(context.Context) error { return nil }))
		return errDown
	})
	assert.Equal(t, []string{"start", "attempt", "attempt done", "retry", "wait", "attempt", "attempt done", "done mine"}, calls)
	s := read(t, page)
	assert.Equal(t, counts{3, 4, 1, map[string]int{"ok": 2, "max_retries": 1}, map[string]int{"error": 2}}, s.Hosts[0].Last["1m"])
	assert.Zero(t, s.Hosts[0].Calls_under_way)
	assert.Panics(t, func() {
		_ = retry.Run(t.Context(), inner, func(context.Context) error { panic("fn") })
	})
	s = read(t, page)
	assert.Equal(t, 1, s.Hosts[0].Last["1m"].Outcomes["abandoned"])
	assert.Zero(t, s.Hosts[0].Calls_under_way)
}

// What is registered by itself is shown once, and nil is nothing to show. What calls of
// a function share is shown with them.
func TestPartsByThemselves(t *testing.T) {
	page := statusz.New()
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "<b>"})
	require.NoError(t, err)
	b.ForceOpen()
	gate := retry.NewGate(nil)
	gate.Pause(time.Hour)
	budget, err := retry.NewBudget(0.1, 3)
	require.NoError(t, err)
	for range 2 {
		page.Breaker(b)
		page.Gate("search", gate)
		page.Budget("search", budget)
	}
	page.Breaker(nil)
	page.Gate("", nil)
	page.Budget("", nil)
	page.Client("", nil)
	s := read(t, page)
	assert.Empty(t, s.Hosts)
	require.Len(t, s.Breakers, 1)
	assert.Equal(t, "open", s.Breakers[0].State)
	require.Len(t, s.Gates, 1)
	assert.Equal(t, "1h0m0s", s.Gates[0].Paused_for)
	require.Len(t, s.Budgets, 1)
	assert.Equal(t, 3.0, s.Budgets[0].Balance)
	text := html(t, page)
	assert.Contains(t, text, "breaker &lt;b&gt;")
	assert.NotContains(t, text, "<b>")
	assert.Contains(t, text, "No call was made yet.")

	require.Error(t, retry.Run(t.Context(), page.Watch(retry.Config{Name: "y", Breaker: b, Budget: budget}), func(context.Context) error { return nil }))
	s = read(t, page)
	assert.Equal(t, "open", s.Hosts[0].Breaker.State)
	assert.Equal(t, 3.0, s.Hosts[0].Budget.Balance)
	assert.Contains(t, texts(s)[0], "The circuit breaker is open: forced.")
}

// The page is read only, needs nothing from elsewhere, and speaks JSON to machines.
func TestFormatsAndMethods(t *testing.T) {
	page := statusz.New()
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, c := range []struct{ target, accept, want string }{
		{"/", "", "text/html; charset=utf-8"}, {"/", browser, "text/html; charset=utf-8"}, {"/", "*/*", "text/html; charset=utf-8"},
		{"/", "application/json", "application/json"}, {"/", "application/json, text/plain, */*", "application/json"},
		{"/?format=json", browser, "application/json"}, {"/?format=html", "application/json", "text/html; charset=utf-8"},
	} {
		w := get(page, c.target, c.accept)
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Equal(t, c.want, w.Header().Get("Content-Type"), c)
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		if c.want == "application/json" {
			assert.True(t, json.Valid(w.Body.Bytes()))
		} else {
			assert.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
			assert.NotContains(t, w.Body.String(), "<script")
			assert.NotContains(t, w.Body.String(), "http://")
			assert.NotContains(t, w.Body.String(), "https://")
		}
	}
	assert.Equal(t, http.StatusBadRequest, get(page, "/?format=xml").Code)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"} {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
		assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
	}
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest("HEAD", "/", nil))
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Empty(t, w.Body.String())
}

// No secret of a URL, a header, a body or a host's key is on the page, and nothing that
// a server sends becomes markup.
func TestNoSecretsAndNoMarkup(t *testing.T) {
	page := statusz.New()
	cfg := retry.Config{MaxRetries: retry.NoRetries}
	client := newClient(t, page, cfg, func(n int, r retrytest.Request) retrytest.Answer {
		if n == 1 {
			return retrytest.Status(500, "hidden body").With("Authorization", "hidden").With("Retry-After", "7")
		}
		return retrytest.Fail(errors.New(`<script>alert(1)</script> Get "https://u:hidden@h.test/?token=hidden"`))
	}, retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: time.Nanosecond}),
		retry.HostKey(func(*http.Request) string { return "hidden-key" }))
	for range 3 {
		require.Error(t, call(t.Context(), client, "https://user:hidden@hgnc.test/?key=hidden#hidden"))
		for _, text := range []string{html(t, page), get(page, "/?format=json").Body.String()} {
			assert.NotContains(t, text, "hidden")
			assert.NotContains(t, text, "<script")
			assert.Contains(t, text, "https://hgnc.test")
		}
	}
	_ = retry.Run(t.Context(), page.Watch(retry.Config{Name: "lookup", MaxRetries: retry.NoRetries}), func(context.Context) error {
		return retry.Permanent(errors.New(`Get "https://u:hidden@h.test/?token=hidden": down`))
	})
	assert.NotContains(t, html(t, page), "hidden")
	assert.Contains(t, html(t, page), "h.test/?token=")
}

// Reading the page disturbs no call, and names without number do not fill the memory.
func TestConcurrentUseAndManyNames(t *testing.T) {
	page := statusz.New()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 300 {
				cfg := page.Watch(retry.Config{Name: fmt.Sprint(i*300 + n), MaxRetries: retry.NoRetries})
				_ = retry.Run(t.Context(), cfg, func(context.Context) error { return errDown })
				if n == 150 {
					get(page, "/")
				}
			}
		})
	}
	all.Wait()
	s := read(t, page)
	assert.Len(t, s.Hosts, 1001)
	total := 0
	for _, h := range s.Hosts {
		total += h.Last["60m"].Calls
	}
	assert.Equal(t, 2400, total)
}

// A browser shows the whole page, and refuses nothing of it by the page's own policy.
func TestInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	page := statusz.New()
	demo(t, page)
	server := httptest.NewServer(page)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	browse := func(args ...string) string {
		args = append([]string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--user-data-dir=" + t.TempDir(),
		}, append(args, server.URL)...)
		command := exec.CommandContext(ctx, chromium, args...)
		var log strings.Builder
		command.Stderr = &log
		out, err := command.Output()
		require.NoError(t, err, log.String())
		assert.NotContains(t, log.String(), "CONSOLE", "where a browser says what it refused")
		return string(out)
	}
	if dir := os.Getenv("STATUSZ_SCREENSHOTS"); dir != "" { // for people to look at
		for _, size := range []string{"1280,2200", "500,2600"} {
			browse("--window-size="+size, "--screenshot="+filepath.Join(dir, size+".png"))
		}
	}
	dom := browse("--dump-dom")
	for _, want := range []string{"The circuit breaker is open", "Paused for another", "<rect class=\"bad\"", "https://ensembl.test"} {
		assert.Contains(t, dom, want)
	}
	assert.Equal(t, 1, strings.Count(dom, "</html>"))
}

// demo has a page show a bit of everything.
func demo(t *testing.T, page *statusz.Page) {
	budget, err := retry.NewBudget(0.1, 1)
	require.NoError(t, err)
	cfg := retry.Config{Name: "annotate", InitialDelay: time.Millisecond, MaxRetries: 2, Budget: budget}
	client := newClient(t, page, cfg, func(n int, r retrytest.Request) retrytest.Answer {
		switch host := strings.Split(r.URL, "/")[2]; {
		case host == "hgnc.test", host == "ensembl.test" && n%4 == 0:
			return retrytest.Status(503, "")
		case host == "gnomad.test":
			return retrytest.TooManyRequests(10 * time.Minute)
		}
		return retrytest.Status(200, "")
	}, retry.HostBreaker(retry.BreakerConfig{}))
	for range 12 {
		for _, host := range []string{"hgnc", "gnomad", "ensembl", "uniprot"} {
			_ = call(t.Context(), client, "https://"+host+".test/lookup/a-rather-long-path?key=hidden")
		}
	}
	_ = retry.Run(t.Context(), page.Watch(retry.Config{Name: "main database"}), func(context.Context) error { return nil })
}

package retry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

type traceKey struct{}

// traced is a handler for JSON that adds a trace's id from the context, as those
// of tracing libraries do.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if id, ok := ctx.Value(traceKey{}).(string); ok {
		r.AddAttrs(slog.String("trace", id))
	}
	return h.Handler.Handle(ctx, r)
}

// logLines runs test with a Logger and returns what was logged.
func logLines(t *testing.T, test func(ctx context.Context, cfg retry.Config)) (lines []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Name = "hgnc"
		cfg.Logger = slog.New(traced{slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})})
		test(context.WithValue(t.Context(), traceKey{}, "abc"), cfg)
	})
	for line := range bytes.Lines(out.Bytes()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal(line, &fields))
		assert.Equal(t, "abc", fields["trace"], "the caller's context: %s", line)
		assert.Equal(t, "hgnc", fields["name"], "%s", line)
		lines = append(lines, fields)
	}
	return lines
}

// Levels of the ends of calls: an error for giving up after attempts; a caller's
// cancel, and what no attempt was made for, is of interest to those who debug.
func TestLevelsOfTheEnd(t *testing.T) {
	open := new(retry.CircuitBreaker)
	open.ForceOpen()
	for name, c := range map[string]struct {
		run   func(ctx context.Context, cfg retry.Config)
		lines int
		level string
		text  string
	}{
		"success at once": {func(ctx context.Context, cfg retry.Config) {
			fn, _ := script(nil)
			_ = retry.Run(ctx, cfg, fn)
		}, 0, "", ""},
		"permanent at once": {func(ctx context.Context, cfg retry.Config) {
			fn, _ := script(retry.Permanent(errDown))
			_ = retry.Run(ctx, cfg, fn)
		}, 0, "", ""},
		"success after a retry": {func(ctx context.Context, cfg retry.Config) {
			fn, _ := script(errDown, nil)
			_ = retry.Run(ctx, cfg, fn)
		}, 2, "INFO", "succeeded"},
		"permanent after a retry": {func(ctx context.Context, cfg retry.Config) {
			fn, _ := script(errDown, retry.Permanent(errDown))
			_ = retry.Run(ctx, cfg, fn)
		}, 2, "ERROR", "giving up"},
		"no retries left": {func(ctx context.Context, cfg retry.Config) {
			fn, _ := script(errDown)
			_ = retry.Run(ctx, cfg, fn)
		}, 6, "ERROR", "giving up"},
		"panic after a retry": {func(ctx context.Context, cfg retry.Config) {
			leaveBy(func() {
				n := 0
				_ = retry.Run(ctx, cfg, func(context.Context) error {
					if n++; n == 2 {
						panic("oh")
					}
					return errDown
				})
			})
		}, 2, "ERROR", "giving up"},
		"cancel": {func(ctx context.Context, cfg retry.Config) {
			ctx, cancel := context.WithCancel(ctx)
			_ = retry.Run(ctx, cfg, func(context.Context) error { cancel(); return errDown })
		}, 1, "DEBUG", "giving up"},
		"cancel with a cause": {func(ctx context.Context, cfg retry.Config) {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(&retry.Error{Reason: retry.ErrMaxRetries}) // as in an errgroup
			_ = retry.Run(ctx, cfg, func(context.Context) error { return errDown })
		}, 1, "DEBUG", "giving up"},
		"cancel that RetryIf knows": {func(ctx context.Context, cfg retry.Config) {
			ctx, cancel := context.WithCancel(ctx)
			cfg.RetryIf = func(err error) bool { return err == errDown }
			n := 0
			_ = retry.Run(ctx, cfg, func(context.Context) error {
				if n++; n == 1 {
					return errDown
				}
				cancel()
				return errCause
			})
		}, 2, "DEBUG", "giving up"},
		"answer of the server in spite of a cancel": {func(ctx context.Context, cfg retry.Config) {
			ctx, cancel := context.WithCancel(ctx)
			n := 0
			_ = retry.Run(ctx, cfg, func(context.Context) error {
				if n++; n == 1 {
					return errDown
				}
				cancel()
				return &retry.StatusError{StatusCode: 404}
			})
		}, 2, "ERROR", "giving up"},
		"open breaker": {func(ctx context.Context, cfg retry.Config) {
			cfg.Breaker = open
			fn, _ := script(nil)
			_ = retry.Run(ctx, cfg, fn)
		}, 1, "DEBUG", "giving up"},
		"pause": {func(ctx context.Context, cfg retry.Config) {
			cfg.Gate = pausedFor(time.Hour)
			fn, _ := script(nil)
			_ = retry.Run(ctx, cfg, fn)
		}, 1, "DEBUG", "giving up"},
		"deadline": {func(ctx context.Context, cfg retry.Config) {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			cfg.InitialDelay, cfg.MaxDelay = time.Hour, time.Hour
			fn, _ := script(errDown)
			_ = retry.Run(ctx, cfg, fn)
		}, 1, "ERROR", "giving up"},
	} {
		t.Run(name, func(t *testing.T) {
			lines := logLines(t, c.run)
			require.Len(t, lines, c.lines, "%v", lines)
			if c.lines > 0 {
				end := lines[len(lines)-1]
				assert.Equal(t, c.level, end["level"], "%v", end)
				assert.Equal(t, c.text, end["msg"])
			}
		})
	}
}

// The line of a pause names the host and the failure, each wait at it the
// failure that set it, and durations are such as a person reads, in JSON too.
func TestLogOfAPause(t *testing.T) {
	lines := logLines(t, func(ctx context.Context, cfg retry.Config) {
		cfg.Gate = retry.NewGate(nil)
		fn, _ := script(askFor(90*time.Second), nil)
		require.NoError(t, retry.Run(ctx, cfg, fn))
		cfg.Gate.Pause(time.Second)
		cfg.MaxRetries = retry.NoRetries
		_ = retry.Run(ctx, cfg, func(context.Context) error { return askFor(time.Minute) })
		fn, _ = script(nil)
		require.NoError(t, retry.Run(ctx, cfg, fn))
	})
	var pauses, waiting []map[string]any
	for _, line := range lines {
		switch line["msg"] {
		case "pausing":
			pauses = append(pauses, line)
		case "waiting":
			waiting = append(waiting, line)
		}
	}
	require.Len(t, pauses, 2)
	assert.Equal(t, "INFO", pauses[0]["level"])
	assert.Equal(t, "1m30s", pauses[0]["delay"])
	assert.Contains(t, pauses[0]["error"], "429")
	require.NotEmpty(t, waiting)
	last := waiting[len(waiting)-1]
	assert.Equal(t, "INFO", last["level"])
	assert.Equal(t, "pause", last["why"])
	assert.Equal(t, "1m0s", last["delay"])
	assert.Contains(t, last["error"], "429")
}

// A gauge of calls in flight that OnDone counts down never came back to zero
// after a panic, because OnDone was not called then.
func TestOnDoneAlsoWhenTheFunctionDoesNotReturn(t *testing.T) {
	boom := func(context.Context, retry.Event) { panic("hook") }
	for name, c := range map[string]struct {
		cfg      retry.Config
		fn       func(context.Context) error
		attempts int
	}{
		"panic":        {retry.Config{}, func(context.Context) error { panic("oh") }, 1},
		"Goexit":       {retry.Config{}, func(context.Context) error { runtime.Goexit(); return nil }, 1},
		"with breaker": {retry.Config{Breaker: new(retry.CircuitBreaker)}, func(context.Context) error { panic("oh") }, 1},
		"with timeout": {retry.Config{AttemptTimeout: time.Hour}, func(context.Context) error { panic("oh") }, 1},
		"OnRetry":      {retry.Config{OnRetry: boom}, func(context.Context) error { return errDown }, 1},
		"OnWait":       {retry.Config{OnWait: boom}, func(context.Context) error { return errDown }, 1},
		"OnWait, gate": {retry.Config{OnWait: boom, Gate: pausedFor(time.Minute)}, func(context.Context) error { return nil }, 0},
		"RetryIf":      {retry.Config{RetryIf: func(error) bool { panic("oh") }}, func(context.Context) error { return errDown }, 1},
		"Rand":         {retry.Config{Rand: func() float64 { panic("oh") }}, func(context.Context) error { return errDown }, 1},
		"Limiter":      {retry.Config{Limiter: panicking{}}, func(context.Context) error { return nil }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var ends []retry.Event
			cfg := c.cfg
			cfg.OnDone = func(_ context.Context, e retry.Event) { ends = append(ends, e) }
			leaveBy(func() { _ = retry.Run(t.Context(), cfg, c.fn) })
			require.Len(t, ends, 1)
			assert.Equal(t, c.attempts, ends[0].Attempt)
			assert.Error(t, ends[0].Err)
		})
	}
	n := 0
	cfg := retry.Config{OnDone: func(context.Context, retry.Event) { n++; panic("oh") }}
	leaveBy(func() { _ = retry.Run(t.Context(), cfg, func(context.Context) error { return nil }) })
	assert.Equal(t, 1, n, "once, even if it panics itself")
}

type panicking struct{}

func (panicking) Wait(context.Context) error { panic("oh") }

// "after 1 attempt in 9.257µs" was said of an attempt of half a second: a call
// without a reason to look at the clock begins to measure when it failed.
func TestNoTimeInTheTextThatWasNotMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context) error { time.Sleep(500 * time.Millisecond); return errDown }
		err := retry.Run(t.Context(), retry.Config{MaxRetries: 1, Backoff: retry.ConstantBackoff(time.Second), Jitter: retry.NoJitter}, slow)
		assert.EqualError(t, err, "retry: no retries left after 2 attempts: down")
		err = retry.Run(t.Context(), retry.Config{MaxRetries: retry.NoRetries, MaxElapsed: time.Minute}, slow)
		assert.EqualError(t, err, "retry: no retries left after 1 attempt in 500ms: down")
	})
	assert.EqualError(t, &retry.Error{Attempts: 3}, "retry: after 3 attempts")
	assert.EqualError(t, &retry.Error{Attempts: 3, Elapsed: time.Second, Reason: retry.ErrDeadline}, "retry: "+retry.ErrDeadline.Error()+" after 3 attempts in 1s")
}

// Nil pointers inside error values, which functions return by mistake.
func TestTypedNilsDoNoHarm(t *testing.T) {
	for name, err := range map[string]error{
		"Error": (*retry.Error)(nil), "OpenError": (*retry.OpenError)(nil), "StatusError": (*retry.StatusError)(nil), "PauseError": (*retry.PauseError)(nil),
	} {
		t.Run(name, func(t *testing.T) {
			assert.NotEmpty(t, err.Error())
			var out bytes.Buffer
			cfg := retry.Config{Backoff: retry.ConstantBackoff(0), Logger: slog.New(slog.NewJSONHandler(&out, nil)), Gate: retry.NewGate(nil), Breaker: new(retry.CircuitBreaker)}
			got := retry.Run(t.Context(), cfg, func(context.Context) error { return err })
			assert.Error(t, got)
			assert.NotEmpty(t, got.Error())
			retry.Outcome(got)
			retry.Retryable(err)
		})
	}
}

func TestHooksTellWhatFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events, ends []retry.Event
		cfg := exact
		cfg.Name, cfg.MaxRetries = "x", 2
		cfg.OnRetry = func(_ context.Context, e retry.Event) { events = append(events, e) }
		cfg.OnDone = func(_ context.Context, e retry.Event) { ends = append(ends, e) }
		fn, _ := script(errDown)
		err := retry.Run(t.Context(), cfg, fn)
		assert.Equal(t, []retry.Event{
			{Name: "x", Attempt: 1, Delay: time.Second, Why: retry.WaitBackoff, Err: errDown},
			{Name: "x", Attempt: 2, Delay: 2 * time.Second, Elapsed: time.Second, Why: retry.WaitBackoff, Err: errDown},
		}, events)
		assert.Equal(t, []retry.Event{{Name: "x", Attempt: 3, Elapsed: 3 * time.Second, Err: err}}, ends)

		ends = nil
		require.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error { return nil }))
		assert.Equal(t, []retry.Event{{Name: "x", Attempt: 1}}, ends)
	})
}

func TestHookCancelsOrPanics(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cfg := retry.Config{Backoff: retry.ConstantBackoff(0), Budget: budget(t, 0, 1)}
	cfg.OnRetry = func(context.Context, retry.Event) { cancel() }
	fn, calls := script(errDown)
	gaveUp(t, retry.Run(ctx, cfg, fn), context.Canceled)
	assert.Equal(t, 1, *calls)

	cfg.OnRetry = func(context.Context, retry.Event) { panic("hook") }
	assert.PanicsWithValue(t, "hook", func() { _ = retry.Run(t.Context(), cfg, fn) })
	cfg.OnRetry = nil // both gave their retry back
	fn, calls = script(errDown)
	gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrBudgetExhausted)
	assert.Equal(t, 2, *calls)
}

func TestLoggerTellsOfRetriesAndTheEnd(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "b", FailureThreshold: 2})
		require.NoError(t, err)
		cfg := exact
		cfg.Name, cfg.Logger, cfg.Breaker, cfg.Gate = "hgnc", log, b, retry.NewGate(nil)
		fn, _ := script(errDown, &retry.StatusError{StatusCode: 503, RetryAfter: 4 * time.Second})
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrCircuitOpen)
	})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 4)
	assert.Equal(t, `level=WARN msg=retrying attempt=1 name=hgnc delay=1s why=backoff error=down`, lines[0])
	assert.Equal(t, `level=WARN msg="circuit breaker changed state" name=b from=closed to=open cause="2 failures in a row" until=2000-01-01T00:01:01.000Z error="503 Service Unavailable"`, lines[1])
	assert.Contains(t, lines[2], `level=INFO msg=pausing attempt=2 name=hgnc delay=4s`)
	assert.Equal(t, `level=ERROR msg="giving up" attempt=2 name=hgnc reason="circuit breaker open" elapsed=1s waited=1s error="503 Service Unavailable"`, lines[3])
}

func TestLoggerTellsOfARetryAfter(t *testing.T) {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
		fn, _ := script(retry.RetryAfter(errDown, 4*time.Second), nil)
		require.NoError(t, retry.Run(t.Context(), cfg, fn))
	})
	assert.Contains(t, out.String(), "delay=4s why=retry-after")
}

// An event without a wait has none in the log.
func TestEventInTheLog(t *testing.T) {
	for _, c := range []struct {
		event retry.Event
		want  string
	}{
		{retry.Event{Attempt: 2}, "[attempt=2 elapsed=0s]"},
		{retry.Event{Attempt: 2, Delay: time.Second, Why: retry.WaitPause, Name: "a", Host: "b", Err: errDown}, "[attempt=2 name=a host=b delay=1s elapsed=0s why=pause error=down]"},
	} {
		assert.Equal(t, c.want, c.event.LogValue().String())
	}
}

// The failure that set a pause is shown to all who meet the pause, and was kept
// with the response that one of them had got.
func TestFailureThatSetAPauseIsKeptWithoutItsResponse(t *testing.T) {
	cfg := retry.Config{Gate: retry.NewGate(nil)}
	first := secretStatus()
	first.RetryAfter = time.Hour
	gaveUp(t, retry.Run(t.Context(), cfg, func(context.Context) error { return first }), retry.ErrRetryAfterTooLong)
	err := retry.Run(t.Context(), cfg, none)
	var pause *retry.PauseError
	require.ErrorAs(t, err, &pause)
	var status *retry.StatusError
	assert.NotErrorAs(t, err, &status)
	require.ErrorAs(t, pause.Err, &status)
	assert.Empty(t, status.Header)
	assert.Empty(t, status.Body)
	assert.NotEmpty(t, first.Body, "the caller's own is untouched")
}

// A search of the log for a service's name, or for a host, finds all lines: a breaker's
// own name must not take the place of the Config's.
func TestLinesOfARequestHaveTheSameNameAndHost(t *testing.T) {
	for _, own := range []string{"", "annotate", "main database"} {
		var out strings.Builder
		synctest.Test(t, func(t *testing.T) {
			script := retrytest.NewScript(t, retrytest.TooManyRequests(4*time.Second), retrytest.Status(500, ""), retrytest.Status(200, ""))
			cfg := exact
			cfg.Name, cfg.MaxRetries = "annotate", 2
			cfg.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			replaced := cfg
			option := retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: 5 * time.Second})
			if own != "" {
				option = retry.PerHost(func(_ string, cfg *retry.Config) (err error) {
					*cfg = replaced
					cfg.Breaker, err = retry.NewCircuitBreaker(retry.BreakerConfig{Name: own, FailureThreshold: 1, RecoveryTimeout: 5 * time.Second})
					return err
				})
			}
			client, err := retry.NewRetryableClient(&http.Client{Transport: script}, cfg, option)
			require.NoError(t, err)
			_, err = client.Get(t.Context(), "https://user:pw@Ensembl.test:443/lookup?key=hidden")
			require.Error(t, err)
			time.Sleep(10 * time.Second)
			resp, err := client.Get(t.Context(), "https://ensembl.test/lookup")
			require.NoError(t, err)
			resp.Body.Close()
		})
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 6, out.String())
		for _, line := range lines {
			assert.Contains(t, line, " name=annotate ")
			assert.Contains(t, line, " host=https://ensembl.test ")
			assert.Equal(t, own == "main database" && strings.Contains(line, "breaker changed"), strings.Contains(line, ` breaker="main database" `), line)
		}
	}
}

// A call with many waits, for different things, says at its end what they came to: in
// the middle of an incident its other lines are hard to find.
func TestLastLineHasTheTotalWaited(t *testing.T) {
	for name, c := range map[string]struct {
		errs []error
		want string
	}{
		"succeeded":     {[]error{errDown, askFor(10 * time.Second), nil}, `msg=succeeded attempt=3 elapsed=16s waited=13s`},
		"gave up":       {[]error{errDown}, `msg="giving up" attempt=3 reason="no retries left" elapsed=8s waited=5s error=down`},
		"not retryable": {[]error{errDown, retry.Permanent(errDown)}, `msg="giving up" attempt=2 reason="not retryable" elapsed=5s waited=3s error=down`},
	} {
		bubble(t, name, func(t *testing.T) {
			var out strings.Builder
			cfg := exact
			cfg.MaxRetries, cfg.Gate = 2, pausedFor(2*time.Second)
			cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
			fn, _ := script(c.errs...)
			_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error {
				time.Sleep(time.Second) // an attempt is no wait
				return fn(ctx)
			})
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			assert.Contains(t, lines[len(lines)-1], c.want)
		})
	}
	bubble(t, "limiter and breaker", func(t *testing.T) {
		var out strings.Builder
		cfg := exact
		cfg.MaxRetries = retry.NoRetries
		cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
		cfg.Limiter, cfg.WaitWhenOpen = eager(3*time.Second), true
		cfg.Breaker = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(10 * time.Second) })
		_ = retry.Run(t.Context(), cfg, func(context.Context) error { return errDown })
		assert.Contains(t, out.String(), `reason="no retries left" elapsed=10s waited=10s`)
	})
}

// Without a Logger nothing is printed, whatever becomes of a call. A process of its own
// shows it: others print here.
func TestSilentWithoutALogger(t *testing.T) {
	if os.Getenv("RETRY_TEST_SILENT") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSilentWithoutALogger$")
		cmd.Env = append(os.Environ(), "RETRY_TEST_SILENT=1")
		printed, err := cmd.CombinedOutput()
		require.NoError(t, err, string(printed))
		assert.Contains(t, string(printed), "begin\nend\n")
		return
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	fmt.Println("begin")
	synctest.Test(t, func(t *testing.T) {
		breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 2})
		require.NoError(t, err)
		cfg := retry.Config{Name: "hgnc", MaxRetries: 2, Breaker: breaker, WaitWhenOpen: true, Gate: retry.NewGate(nil)}
		for _, outcomes := range [][]error{{nil}, {errDown, nil}, {errDown, errDown, errDown}, {retry.RetryAfter(errDown, time.Minute), nil}, {retry.Permanent(errDown)}} {
			fn, _ := script(outcomes...)
			retry.Run(t.Context(), cfg, fn)
		}
		lost := roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })
		client, err := retry.NewRetryableClient(&http.Client{Transport: lost}, retry.Config{}, retry.IdempotentOnly())
		require.NoError(t, err)
		_, err = client.Post(t.Context(), "http://service.example", "text/plain", strings.NewReader("order"))
		require.ErrorIs(t, err, retry.ErrNotIdempotent)
	})
	fmt.Println("end")
}

// The line of a call's end has the sum of its waits from 10ms on.
func TestLogNamesWaitsFromTenMillisecondsOn(t *testing.T) {
	for wait, named := range map[time.Duration]bool{10*time.Millisecond - 1: false, 10 * time.Millisecond: true} {
		synctest.Test(t, func(t *testing.T) {
			log, logger := newLog()
			fn, _ := script(errDown, nil)
			require.NoError(t, retry.Run(t.Context(), retry.Config{Logger: logger, Backoff: retry.ConstantBackoff(wait), Jitter: retry.NoJitter}, fn))
			assert.Equal(t, named, strings.Contains(log.String(), "waited"), log.String())
		})
	}
}

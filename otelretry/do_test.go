package otelretry_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/retryutils/retry"
)

// failing returns a function that fails n times.
func failing(n int, err error) func(context.Context) error {
	return func(context.Context) error {
		if n--; n >= 0 {
			return err
		}
		return nil
	}
}

// Every way in which a call can end, with all that is reported of it.
func TestCallsByOutcome(t *testing.T) {
	second := retry.Config{Name: "x", MaxRetries: 2, InitialDelay: time.Second, Jitter: retry.NoJitter}
	with := func(change func(*retry.Config)) retry.Config {
		cfg := second
		change(&cfg)
		return cfg
	}
	type numbers struct{ attempts, retries, waited, elapsed float64 }
	for outcome, test := range map[string]struct {
		cfg  retry.Config
		ctx  func() (context.Context, context.CancelFunc)
		fn   func(context.Context) error
		want numbers
	}{
		"ok":          {cfg: second, fn: failing(2, errFault), want: numbers{3, 2, 3, 3}},
		"permanent":   {cfg: second, fn: failing(1, retry.Permanent(errFault)), want: numbers{1, 0, 0, 0}},
		"max_retries": {cfg: second, fn: failing(9, errFault), want: numbers{3, 2, 3, 3}},
		"max_elapsed": {cfg: with(func(c *retry.Config) { c.MaxElapsed = 2 * time.Second }), fn: failing(9, errFault), want: numbers{2, 1, 1, 1}},
		"budget": {cfg: with(func(c *retry.Config) { c.Budget, _ = retry.NewBudget(0, 1) }), fn: failing(9, errFault),
			want: numbers{2, 1, 1, 1}},
		"deadline": {cfg: second, fn: failing(9, errFault), want: numbers{2, 1, 1, 1},
			ctx: func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(context.Background(), 1500*time.Millisecond)
			}},
		"canceled": {cfg: second, fn: failing(9, errFault), want: numbers{2, 2, 3, 2},
			ctx: func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(2*time.Second, cancel)
				return ctx, cancel
			}},
		"retry_after_too_long": {cfg: second, fn: failing(9, retry.RetryAfter(errFault, time.Hour)), want: numbers{1, 0, 0, 0}},
		"circuit_open":         {cfg: second, fn: failing(9, errFault), want: numbers{0, 0, 0, 0}},
		"paused":               {cfg: with(func(c *retry.Config) { c.MaxElapsed = time.Second }), fn: failing(9, errFault), want: numbers{0, 0, 0, 0}},
		"limiter":              {cfg: with(func(c *retry.Config) { c.Limiter = rate.NewLimiter(1, 0) }), fn: failing(9, errFault), want: numbers{0, 0, 0, 0}},
	} {
		t.Run(outcome, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg, ctx := test.cfg, context.Background()
				if test.ctx != nil {
					var cancel context.CancelFunc
					ctx, cancel = test.ctx()
					defer cancel()
				}
				switch outcome {
				case "paused":
					cfg.Gate = retry.NewGate(nil)
					cfg.Gate.Pause(time.Minute)
				case "circuit_open":
					cfg.Breaker = new(retry.CircuitBreaker)
					cfg.Breaker.Trip(time.Minute)
				}
				p := newProbe(t)
				err := retry.Run(ctx, p.instrument(cfg), test.fn)
				require.Equal(t, outcome, retry.Outcome(err))
				got := p.metrics()
				name := "{x," + outcome + "}"
				assert.Equal(t, 1.0, got["retry.calls"+name], got)
				assert.Equal(t, 1.0, got["#retry.call.duration"+name])
				assert.InDelta(t, test.want.elapsed, got["retry.call.duration"+name], 1e-9)
				assert.Equal(t, 0.0, got["retry.active_calls{x}"])
				assert.Contains(t, got, "retry.active_calls{x}")
				assert.Equal(t, 1.0, got["#retry.call.attempts{x}"])
				assert.Equal(t, test.want.attempts, got["retry.call.attempts{x}"])
				assert.Equal(t, test.want.retries, got["retry.retries{x}"])
				assert.Equal(t, test.want.retries, got["#retry.wait.duration{x,backoff}"])
				assert.InDelta(t, test.want.waited, got["retry.wait.duration{x,backoff}"], 1e-9)
				assert.Len(t, p.spans.Ended(), 1+int(test.want.attempts), "a span for the call and one for each attempt")
				p.tree()
			})
		})
	}
}

// A call whose function does not return is over all the same: it is counted, is
// no longer under way, and its spans are ended.
func TestPanicAndGoexitAreReported(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("x") }, "Goexit": runtime.Goexit} {
		p := newProbe(t)
		cfg := p.instrument(retry.Config{Name: "x"})
		over := make(chan struct{})
		go func() {
			defer close(over)
			defer func() { _ = recover() }()
			_ = retry.Run(context.Background(), cfg, func(context.Context) error {
				assert.Equal(t, 1.0, p.metrics()["retry.active_calls{x}"], "while it is under way")
				leave()
				return nil
			})
		}()
		<-over
		got := p.metrics()
		assert.Equal(t, 1.0, got["retry.calls{x,abandoned}"], name)
		assert.Equal(t, 0.0, got["retry.active_calls{x}"], name)
		assert.Equal(t, "x Error outcome=abandoned attempts=1 type=abandoned\n  attempt Error attempt=1 type=abandoned\n", p.tree(), name)
	}
}

// The waits have their reasons, and the spans show retries and waits.
func TestWaitsAndSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		gate := retry.NewGate(nil)
		gate.Pause(2 * time.Second)
		cfg := p.instrument(retry.Config{Name: "x", InitialDelay: time.Second, Jitter: retry.NoJitter, Gate: gate})
		errs := []error{errFault, retry.RetryAfter(&retry.StatusError{StatusCode: 503, RetryAfter: 5 * time.Second}, 5*time.Second), nil}
		require.NoError(t, retry.Run(context.Background(), cfg, func(context.Context) (err error) {
			err, errs = errs[0], errs[1:]
			return err
		}))
		got := p.metrics()
		assert.Equal(t, 2.0, got["retry.wait.duration{x,pause}"])
		assert.Equal(t, 1.0, got["retry.wait.duration{x,backoff}"])
		assert.Equal(t, 5.0, got["retry.wait.duration{x,retry-after}"])
		assert.Equal(t, 2.0, got["retry.gate.pauses{x}"])
		assert.InDelta(t, 7, got["retry.gate.pause.duration{x}"], 1e-9)
		assert.Equal(t, `x Unset outcome=ok attempts=3
  - wait reason=pause duration=2
  - retry attempt=1 reason=backoff duration=1 type=*errors.errorString
  - retry attempt=2 reason=retry-after duration=5 type=503 retry_after=5
  attempt Error attempt=1 type=*errors.errorString
  attempt Error attempt=2 type=503
  attempt Unset attempt=3
`, p.tree())
	})
}

// The waits that are no backoff have their own reasons too: for a breaker, reported
// before the wait, and for a limiter, reported afterwards and only if there was one.
func TestWaitsForBreakerAndLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "b"})
		require.NoError(t, err)
		breaker.Trip(7 * time.Second)
		cfg := p.instrument(retry.Config{
			Name: "x", InitialDelay: time.Second, Jitter: retry.NoJitter,
			Breaker: breaker, WaitWhenOpen: true, Limiter: &waits{0, 2 * time.Second},
		})
		require.NoError(t, retry.Run(context.Background(), cfg, failing(1, retry.Neutral(errFault))))
		got := p.metrics()
		assert.Equal(t, 7.0, got["retry.wait.duration{x,breaker}"])
		assert.Equal(t, 1.0, got["#retry.wait.duration{x,breaker}"])
		assert.Equal(t, 2.0, got["retry.wait.duration{x,limiter}"])
		assert.Equal(t, 1.0, got["#retry.wait.duration{x,limiter}"])
		assert.Equal(t, 10.0, got["retry.call.duration{x,ok}"])
		assert.Equal(t, 1.0, got["retry.breaker.state{b,closed}"])
		assert.Equal(t, `x Unset outcome=ok attempts=2
  - wait reason=breaker duration=7
  - retry attempt=1 reason=backoff duration=1 type=*errors.errorString
  - wait reason=limiter duration=2
  attempt Error attempt=1 type=*errors.errorString
  attempt Unset attempt=2
`, p.tree())
	})
}

// waits is a limiter that has each attempt wait for so long.
type waits []time.Duration

func (w *waits) Wait(context.Context) error {
	time.Sleep((*w)[0])
	*w = (*w)[1:]
	return nil
}

// What the caller's hooks do is done as before, and once; a Config instrumented
// twice reports once.
func TestHooksAreAdded(t *testing.T) {
	p := newProbe(t)
	var reports []string
	report := func(name string) func(context.Context, retry.Event) {
		return func(context.Context, retry.Event) { reports = append(reports, name) }
	}
	start := func(name string) func(context.Context, retry.Event) context.Context {
		return func(ctx context.Context, _ retry.Event) context.Context { reports = append(reports, name); return nil }
	}
	cfg := p.instrument(p.instrument(retry.Config{
		Name: "x", InitialDelay: time.Microsecond, OnStart: start("start"), OnAttempt: start("attempt"), OnAttemptDone: report("attempt done"),
		OnRetry: report("retry"), OnWait: report("wait"), OnDone: report("done"),
	}))
	require.NoError(t, retry.Run(context.Background(), cfg, failing(1, errFault)))
	assert.Equal(t, []string{"start", "attempt", "attempt done", "retry", "wait", "attempt", "attempt done", "done"}, reports)
	assert.Equal(t, 1.0, p.metrics()["retry.calls{x,ok}"])
	assert.Len(t, p.spans.Ended(), 3)
}

// A hook that panics leaves no span behind, and no call under way.
func TestSpanEndsWhenHookPanics(t *testing.T) {
	p := newProbe(t)
	cfg := p.instrument(retry.Config{Name: "x", OnDone: func(context.Context, retry.Event) { panic("x") }})
	assert.Panics(t, func() { _ = retry.Run(context.Background(), cfg, failing(0, nil)) })
	assert.Equal(t, 0.0, p.metrics()["retry.active_calls{x}"])
	p.tree()
}

// The caller's span is the call's parent, and is left open; the text of an error
// has no secrets.
func TestCallIsChildOfCaller(t *testing.T) {
	p := newProbe(t)
	ctx, parent := p.tracer.Tracer("test").Start(context.Background(), "caller")
	err := retry.Run(ctx, p.instrument(retry.Config{Name: "x"}), failing(1, retry.Permanent(urlError())))
	require.Error(t, err)
	assert.True(t, parent.IsRecording())
	for _, s := range p.spans.Ended() {
		assert.Equal(t, parent.SpanContext().TraceID(), s.SpanContext().TraceID())
		assert.NotContains(t, s.Status().Description, "secret")
		assert.Contains(t, s.Status().Description, "fault")
		assert.NotContains(t, s.Status().Description, "attempt", "the text is the error's own")
	}
	parent.End()
	assert.Equal(t, "caller Unset\n  x Error outcome=permanent attempts=1 type=permanent\n    attempt Error attempt=1 type=*errors.errorString\n", p.tree())
}

// Time series are bounded: names beyond the thousandth share one.
func TestNamesAreBounded(t *testing.T) {
	p := newProbe(t)
	cfg := p.instrument(retry.Config{})
	for i := range 1100 {
		named := cfg
		named.Name = string(rune('a'+i%26)) + time.Duration(i).String()
		require.NoError(t, retry.Run(context.Background(), named, failing(0, nil)))
	}
	n := 0
	for k := range p.metrics() {
		if len(k) > 12 && k[:12] == "retry.calls{" {
			n++
		}
	}
	assert.Equal(t, 1000, n, "999 names of the calls, and the rest")
	assert.Equal(t, 101.0, p.metrics()["retry.calls{_OTHER,ok}"])
}

// errors.As must not be needed to distinguish types: few values, none of them a text.
func TestErrorTypes(t *testing.T) {
	for want, err := range map[string]error{
		"503":                  &retry.StatusError{StatusCode: 503},
		"timeout":              context.DeadlineExceeded,
		"circuit_open":         &retry.OpenError{},
		"canceled":             errors.Join(&net.OpError{Op: "dial", Err: context.Canceled}),
		"connect":              &url.Error{Op: "Get", URL: "https://a.test/", Err: &net.OpError{Op: "dial", Err: errFault}},
		"*net.OpError":         &url.Error{Op: "Get", URL: "https://a.test/", Err: &net.OpError{Op: "read", Err: errFault}},
		"*errors.errorString":  retry.RetryAfter(errFault, 0),
		"retry_after_too_long": &retry.Error{Reason: retry.ErrRetryAfterTooLong},
	} {
		p := newProbe(t)
		_ = retry.Run(context.Background(), p.instrument(retry.Config{Name: "x", MaxRetries: retry.NoRetries}), failing(1, err))
		assert.Contains(t, p.tree(), "  attempt Error attempt=1 type="+want+"\n")
	}
}

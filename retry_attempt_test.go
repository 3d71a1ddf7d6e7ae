package retry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

type hookKey struct{}

// hooked is a Config whose hooks write down their names, and mark the contexts
// that they return.
func hooked(told *[]string) retry.Config {
	tell := func(name string) func(context.Context, retry.Event) {
		return func(ctx context.Context, e retry.Event) {
			mark, _ := ctx.Value(hookKey{}).(string)
			line := name + " " + mark
			if e.Err != nil {
				line += ": " + retry.Outcome(e.Err)
			}
			*told = append(*told, line)
		}
	}
	mark := func(name string) func(context.Context, retry.Event) context.Context {
		tell := tell(name)
		return func(ctx context.Context, e retry.Event) context.Context {
			tell(ctx, e)
			return context.WithValue(ctx, hookKey{}, name)
		}
	}
	return retry.Config{
		MaxRetries: 1, OnStart: mark("start"), OnAttempt: mark("attempt"), OnAttemptDone: tell("attempt done"),
		OnRetry: tell("retry"), OnWait: tell("wait"), OnDone: tell("done"),
	}
}

// The hooks surround what they are named after, and the contexts of OnStart and
// OnAttempt reach all that is within.
func TestHooksSurroundCallAndAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		cfg := hooked(&told)
		err := retry.Run(context.Background(), cfg, func(ctx context.Context) error {
			assert.Equal(t, "attempt", ctx.Value(hookKey{}))
			return errors.New("no")
		})
		require.ErrorIs(t, err, retry.ErrMaxRetries)
		assert.Equal(t, []string{
			"start ", "attempt start", "attempt done attempt: permanent", "retry start: permanent", "wait start: permanent",
			"attempt start: permanent", "attempt done attempt: permanent", "done start: max_retries",
		}, told)
	})
}

// An Event has these fields and no more: whole events are compared, and written
// without keys.
func TestEventIsAsDesigned(t *testing.T) {
	type event struct {
		Name, Host     string
		Attempt        int
		Delay, Elapsed time.Duration
		Why            retry.Why
		Err            error
	}
	err := errors.New("no")
	assert.Equal(t, retry.Event{Name: "x", Host: "h", Attempt: 1, Delay: 2, Elapsed: 3, Why: retry.WaitPause, Err: err},
		retry.Event(event{"x", "h", 1, 2, 3, retry.WaitPause, err}))
}

// A nil context from a hook, as one that only counts may return, leaves the
// call's as it is.
func TestHooksMayReturnNoContext(t *testing.T) {
	none := func(context.Context, retry.Event) context.Context { return nil }
	cfg := retry.Config{OnStart: none, OnAttempt: none}
	assert.NoError(t, retry.Run(context.WithValue(context.Background(), hookKey{}, "caller"), cfg, func(ctx context.Context) error {
		assert.Equal(t, "caller", ctx.Value(hookKey{}))
		return nil
	}))
}

// A span that is never ended is never seen: the end of an attempt and of a call
// is told however it comes about, and a breaker's pass is given back.
func TestHooksAreToldOfPanicAndGoexit(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("x") }, "Goexit": runtime.Goexit} {
		var told []string
		cfg := hooked(&told)
		cfg.Breaker = new(retry.CircuitBreaker)
		over := make(chan struct{})
		go func() {
			defer close(over)
			defer func() { _ = recover() }()
			_ = retry.Run(context.Background(), cfg, func(context.Context) error { leave(); return nil })
		}()
		<-over
		assert.Equal(t, []string{"start ", "attempt start", "attempt done attempt: abandoned", "done start: abandoned"}, told, name)
		assert.Equal(t, 1, cfg.Breaker.Snapshot().Failures, name)
	}
}

// A hook that panics leaves no probe of a breaker behind.
func TestPanicOfAttemptHookGivesPassBack(t *testing.T) {
	boom := func(context.Context, retry.Event) context.Context { panic("x") }
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: time.Nanosecond})
	require.NoError(t, err)
	for range 3 {
		assert.PanicsWithValue(t, "x", func() {
			_ = retry.Run(context.Background(), retry.Config{Breaker: b, OnAttempt: boom}, func(context.Context) error { return nil })
		})
	}
	assert.NoError(t, b.Do(context.Background(), func(context.Context) error { return nil }))
}

// The first attempt of a request used to be the caller's own request, with the
// caller's context, whatever the hooks had returned.
func TestHooksReachRequests(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer server.Close()
	var told, seen []string
	cfg := hooked(&told)
	client, err := retry.NewRetryableClient(&http.Client{Transport: http.DefaultTransport}, cfg,
		retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				mark, _ := req.Context().Value(hookKey{}).(string)
				seen = append(seen, mark)
				return base.RoundTrip(req)
			})
		}))
	require.NoError(t, err)
	resp, err := client.Post(context.Background(), server.URL, "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, []string{"attempt"}, seen)
	assert.Equal(t, []string{"start ", "attempt start", "attempt done attempt", "done start"}, told)
}

// What net/http reports is understood through a wrapped transport as well: an
// unsupported scheme is not worth a second attempt.
func TestWrapTransportKeepsJudgement(t *testing.T) {
	attempts := 0
	count := func(base http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) { attempts++; return base.RoundTrip(req) })
	}
	client, err := retry.NewRetryableClient(nil, retry.Config{InitialDelay: time.Nanosecond}, retry.WrapTransport(count), retry.WrapTransport(count))
	require.NoError(t, err)
	_, err = client.Get(context.Background(), "gopher://localhost/")
	require.Error(t, err)
	assert.Equal(t, 2, attempts, "each of two wrappers sees one attempt")

	_, err = retry.NewTransport(nil, retry.Config{}, retry.WrapTransport(func(http.RoundTripper) http.RoundTripper { return nil }))
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
}

// A client over one that retries takes over its options: the base used to be
// wrapped a second time by the wrapper that was around it already.
func TestWrapTransportOnceOverBaseThatRetries(t *testing.T) {
	var seen []string
	note := func(name string) retry.Option {
		return retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) { seen = append(seen, name); return base.RoundTrip(req) })
		})
	}
	base := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})
	first, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{}, note("first"))
	require.NoError(t, err)
	second, err := retry.NewRetryableClient(first.StandardClient(), retry.Config{}, note("second"))
	require.NoError(t, err)
	resp, err := second.Get(context.Background(), "http://a.test/")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, []string{"second", "first"}, seen)
}

// A wrapper that is no more than a RoundTrip does not keep idle connections from
// being closed, as after a 421.
func TestWrapTransportLetsConnectionsBeClosed(t *testing.T) {
	base := &closing{}
	transport, err := retry.NewTransport(base, retry.Config{}, retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) { return base.RoundTrip(req) })
	}))
	require.NoError(t, err)
	transport.CloseIdleConnections()
	assert.Equal(t, 1, base.closed)
}

type closing struct {
	http.RoundTripper
	closed int
}

func (c *closing) CloseIdleConnections() { c.closed++ }

// A hook of OnHost sees what PerHost set and the Gate that each host gets.
func TestOnHostSeesWhatHostsShare(t *testing.T) {
	breaker := new(retry.CircuitBreaker)
	hosts := make(map[string]retry.Config)
	times := 0
	note := func(host string, cfg retry.Config) { hosts[host] = cfg; times++ }
	transport, err := retry.NewTransport(roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	}), retry.Config{}, retry.OnHost(note), retry.OnHost(note),
		retry.PerHost(func(host string, cfg *retry.Config) error { cfg.Breaker = breaker; return nil }))
	require.NoError(t, err)
	for range 2 {
		req, _ := http.NewRequest("GET", "http://a.test/", nil)
		_, err = transport.RoundTrip(req)
		require.NoError(t, err)
	}
	assert.Equal(t, 2, times, "each hook, once")
	cfg := hosts["http://a.test"]
	assert.Same(t, breaker, cfg.Breaker)
	assert.NotNil(t, cfg.Gate)
	assert.Equal(t, "http://a.test", cfg.Name)
}

// A breaker's rejections add up over its changes of state; those of a Snapshot
// begin anew with each.
func TestRejectionsAddUp(t *testing.T) {
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "b"})
	require.NoError(t, err)
	assert.Equal(t, "b", b.Name())
	for range 3 {
		b.ForceOpen()
		for range 2 {
			_, err := b.Allow()
			assert.ErrorIs(t, err, retry.ErrCircuitOpen)
		}
		b.Reset()
	}
	assert.EqualValues(t, 6, b.Rejections())
	assert.Zero(t, b.Snapshot().Rejections)
	assert.Empty(t, new(retry.CircuitBreaker).Name())
}

func TestBudgetTellsBalanceAndRefusals(t *testing.T) {
	budget, err := retry.NewBudget(0.5, 1)
	require.NoError(t, err)
	cfg := retry.Config{Budget: budget, InitialDelay: time.Nanosecond}
	fail := func(context.Context) error { return errors.New("no") }
	assert.InDelta(t, 1, budget.Balance(), 1e-9)
	assert.ErrorIs(t, retry.Run(context.Background(), cfg, fail), retry.ErrBudgetExhausted)
	assert.InDelta(t, 0, budget.Balance(), 1e-9)
	assert.EqualValues(t, 1, budget.Refusals())
	assert.ErrorIs(t, retry.Run(context.Background(), cfg, fail), retry.ErrBudgetExhausted)
	assert.InDelta(t, 0.5, budget.Balance(), 1e-9)
	assert.EqualValues(t, 2, budget.Refusals())
}

func TestR17_AttemptTimeoutInsideADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		cfg := retry.Config{AttemptTimeout: 2 * time.Second, Backoff: retry.ConstantBackoff(0)}
		start, attempt := time.Now(), 0
		e := gaveUp(t, retry.Run(ctx, cfg, func(ctx context.Context) error {
			attempt++
			deadline, ok := ctx.Deadline()
			assert.True(t, ok)
			assert.Equal(t, start.Add([]time.Duration{2 * time.Second, 3 * time.Second}[attempt-1]), deadline)
			assert.NoError(t, ctx.Err())
			<-ctx.Done()
			assert.Equal(t, context.DeadlineExceeded, ctx.Err())
			assert.Equal(t, context.DeadlineExceeded, context.Cause(ctx))
			return fmt.Errorf("attempt %d: %w", attempt, ctx.Err())
		}), context.DeadlineExceeded)
		assert.Equal(t, 2, e.Attempts, "its own timeout is retried, the caller's deadline not")
		assert.EqualError(t, e.Err, "attempt 2: context deadline exceeded")
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.True(t, e.Timeout())
	})
}

func TestR17_AttemptTimeoutOnAFakeClock(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cfg := retry.Config{AttemptTimeout: 2 * time.Second, MaxRetries: retry.NoRetries, Clock: clock}
	e := gaveUp(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error {
		clock.Advance(2*time.Second - 1)
		assert.NoError(t, ctx.Err())
		clock.Advance(1)
		<-ctx.Done()
		return ctx.Err()
	}), retry.ErrMaxRetries)
	assert.ErrorIs(t, e, context.DeadlineExceeded)
	assert.True(t, e.Timeout())
	assert.False(t, hasWaiters(clock))
}

// A context derived from an attempt's ends with it, with the caller's cause.
func TestAttemptContextIsAnHonestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		cause := errors.New("cause")
		ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "v"))
		time.AfterFunc(time.Second, func() { cancel(cause) })
		var kept, derived context.Context
		err := retry.Run(ctx, retry.Config{AttemptTimeout: time.Minute}, func(ctx context.Context) error {
			assert.Equal(t, "v", ctx.Value(key{}))
			kept = ctx
			var stop context.CancelFunc
			derived, stop = context.WithCancel(ctx)
			defer stop()
			<-derived.Done()
			return context.Cause(ctx)
		})
		assert.ErrorIs(t, err, cause)
		assert.ErrorIs(t, kept.Err(), context.Canceled)
		assert.ErrorIs(t, derived.Err(), context.Canceled)

		require.NoError(t, retry.Run(t.Context(), retry.Config{AttemptTimeout: time.Minute}, func(ctx context.Context) error { kept = ctx; return nil }))
		assert.ErrorIs(t, kept.Err(), context.Canceled, "over with the attempt")
	})
}

// There is no goroutine to leave fn behind in: Do waits for it.
func TestR18_DoWaitsForFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		assert.NoError(t, retry.Run(t.Context(), retry.Config{AttemptTimeout: time.Second}, func(context.Context) error {
			time.Sleep(10 * time.Second) // deaf to its context
			return nil
		}), "a success is a success")
		assert.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestR44_NestedAttemptsAdd(t *testing.T) {
	cfg := retry.Config{MaxRetries: 2, Backoff: retry.ConstantBackoff(0)}
	for name, err := range map[string]error{
		"plain": errDown,
		// The mark on the inner failure made the outer loop retry what the inner
		// one had given up.
		"marked": retry.RetryAfter(errDown, 1),
		"status": &retry.StatusError{StatusCode: 503, RetryAfter: 1},
	} {
		fn, calls := script(err)
		outer := retry.Run(t.Context(), cfg, func(ctx context.Context) error {
			return fmt.Errorf("outer: %w", retry.Run(ctx, cfg, fn))
		})
		assert.Equal(t, 3, *calls, name)
		var e *retry.Error
		require.ErrorAs(t, outer, &e)
		assert.Equal(t, 3, e.Attempts)
		assert.False(t, retry.Retryable(outer))
	}
	fn, calls := script(errDown) // who marks the inner result asks for it
	_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error { return retry.RetryAfter(retry.Run(ctx, cfg, fn), 0) })
	assert.Equal(t, 9, *calls)
	fn, calls = script(retry.RetryAfter(errDown, 1)) // and RetryIf is asked
	cfg.RetryIf = func(err error) bool { var e *retry.Error; return !errors.As(err, &e) }
	_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error { return retry.Run(ctx, cfg, fn) })
	assert.Equal(t, 3, *calls)
	fn, calls = script(retry.RetryAfter(errDown, 1))
	cfg.RetryIf = func(error) bool { return true }
	_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error { return retry.Run(ctx, cfg, fn) })
	assert.Equal(t, 9, *calls)
}

func TestRetryCount(t *testing.T) {
	assert.Zero(t, retry.RetryCount(noContext))
	var counts []int
	var kept []context.Context
	cfg := retry.Config{MaxRetries: 5, Backoff: retry.ConstantBackoff(0)}
	_ = retry.Run(t.Context(), cfg, func(ctx context.Context) error {
		counts = append(counts, retry.RetryCount(ctx))
		kept = append(kept, ctx)
		return retry.Run(ctx, retry.Config{}, func(ctx context.Context) error {
			assert.Zero(t, retry.RetryCount(ctx), "of this Do")
			return retry.Permanent(fmt.Errorf("again: %w", errDown))
		})
	})
	assert.Equal(t, []int{0, 1, 2, 3, 4, 5}, counts)
	for i, ctx := range kept {
		assert.Equal(t, i, retry.RetryCount(ctx), "a context that was kept is not used again")
	}
}

package retry_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// exact waits 1s, 2s, 4s, … to the nanosecond.
var exact = retry.Config{Jitter: retry.NoJitter}

// script returns a function that returns the given errors, one per call, the
// last of them again and again, and counts its calls.
func script(errs ...error) (fn func(context.Context) error, calls *int) {
	calls = new(int)
	return func(context.Context) error {
		*calls++
		return errs[min(*calls, len(errs))-1]
	}, calls
}

// calling is a call for package retrytest, of a function that fails as script says.
func calling(t testing.TB, errs ...error) func(retry.Config) error {
	fn, _ := script(errs...)
	return func(cfg retry.Config) error { return retry.Run(t.Context(), cfg, fn) }
}

// gaveUp checks that err is an *Error, and returns it.
func gaveUp(t testing.TB, err, reason error) *retry.Error {
	t.Helper()
	require.ErrorIs(t, err, reason)
	e, ok := err.(*retry.Error)
	require.True(t, ok, "%T", err)
	return e
}

// bubble runs the test on the fake time of package synctest.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func TestDoneContextCallsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, cfg := range map[string]retry.Config{
		"zero": {}, "gate": {Gate: retry.NewGate(nil)}, "hooks": {OnDone: func(context.Context, retry.Event) {}},
	} {
		fn, calls := script(nil)
		e := gaveUp(t, retry.Run(ctx, cfg, fn), context.Canceled)
		assert.Zero(t, *calls, name)
		assert.Zero(t, e.Attempts)
		assert.Nil(t, e.Err)
		_, err := retry.Do(ctx, cfg, func(context.Context) (int, error) { t.Error("called"); return 0, nil })
		assert.ErrorIs(t, err, context.Canceled)
	}
}

func TestCauseAndCancelAreBothFound(t *testing.T) {
	cause := errors.New("deploy")
	ctx, cancel := context.WithCancelCause(context.Background())
	err := retry.Run(ctx, exact, func(context.Context) error { cancel(cause); return errDown })
	e := gaveUp(t, err, cause)
	assert.Equal(t, cause, e.Reason)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, errDown)
	assert.False(t, e.Timeout())
	assert.EqualError(t, &retry.Error{Attempts: 1, Reason: cause, Err: errDown}, "retry: deploy after 1 attempt: down")
}

func TestNoSleepThatCannotPay(t *testing.T) {
	for _, c := range []struct {
		deadline time.Duration
		calls    int
		took     time.Duration
	}{
		{time.Second, 1, 0}, // the wait would end exactly at the deadline
		{time.Second + 1, 2, time.Second},
		{3 * time.Second, 2, time.Second},
	} {
		bubble(t, c.deadline.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
			defer cancel()
			fn, calls := script(errDown)
			start := time.Now()
			e := gaveUp(t, retry.Run(ctx, exact, fn), retry.ErrDeadline)
			assert.Equal(t, c.calls, *calls)
			assert.Equal(t, c.took, time.Since(start))
			assert.ErrorIs(t, e, context.DeadlineExceeded)
			assert.ErrorIs(t, e, errDown)
			assert.True(t, e.Timeout())
		})
	}
}

// The deadline of a context on the fake clock counts on that clock.
func TestDeadlineOnAFakeClock(t *testing.T) {
	for _, year := range []int{2000, 2100} { // whatever the real one says
		clock := clockwork.NewFakeClockAt(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		ctx, cancel := clockwork.WithTimeout(context.Background(), clock, time.Second)
		defer cancel()
		cfg := exact
		cfg.Clock = clock
		fn, calls := script(errDown)
		gaveUp(t, retry.Run(ctx, cfg, fn), retry.ErrDeadline)
		assert.Equal(t, 1, *calls)

		cfg.Backoff = retry.ConstantBackoff(0)
		fn, calls = script(errDown, nil)
		require.NoError(t, retry.Run(ctx, cfg, fn))
		assert.Equal(t, 2, *calls)
	}
}

// Contexts are asked in the way that suits their kind: those of clockwork, and
// what is made of them, block when they are asked for Err too early.
func TestContextsOfAllKinds(t *testing.T) {
	type key struct{}
	fake := func(parent context.Context) (context.Context, context.CancelFunc) {
		return clockwork.WithTimeout(parent, clockwork.NewFakeClock(), time.Hour)
	}
	timed := func(parent context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(parent, time.Hour)
	}
	plain := func(parent context.Context) (context.Context, context.CancelFunc) {
		return context.WithValue(parent, key{}, 1), func() {}
	}
	kinds := map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancel": context.WithCancel, "timeout": timed, "fake": fake, "value": plain,
	}
	for outer, wrap := range kinds {
		for inner, make := range kinds {
			bubble(t, outer+" of "+inner, func(t *testing.T) {
				parent, end := make(t.Context())
				ctx, cancel := wrap(parent)
				breaker := new(retry.CircuitBreaker)
				for _, done := range []bool{false, inner != "value" || outer != "value"} {
					calls := 0
					fn := func(context.Context) error { calls++; return nil }
					first, second := retry.Run(ctx, exact, fn), breaker.Do(ctx, fn)
					if done {
						assert.ErrorIs(t, first, context.Canceled)
						assert.ErrorIs(t, second, context.Canceled)
						assert.Zero(t, calls)
					} else {
						assert.NoError(t, errors.Join(first, second))
						assert.Equal(t, 2, calls)
					}
					end()
					cancel()
					synctest.Wait()
				}
			})
		}
	}
}

func TestCancelDuringTheWaitKeepsTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		fn, calls := script(errDown)
		start := time.Now()
		e := gaveUp(t, retry.Run(ctx, exact, fn), context.Canceled)
		assert.Equal(t, 500*time.Millisecond, time.Since(start))
		assert.Equal(t, 1, *calls)
		assert.Equal(t, errDown, e.Err)
	})
}

func TestRealErrorOfACancelledAttemptIsKept(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	e := gaveUp(t, retry.Run(ctx, exact, func(context.Context) error { cancel(); return errDown }), context.Canceled)
	assert.Equal(t, errDown, e.Err)
	assert.Equal(t, 1, e.Attempts)
	// The context is the reason, also where no retry was left.
	ctx, cancel = context.WithCancel(context.Background())
	cfg := retry.Config{MaxRetries: retry.NoRetries}
	gaveUp(t, retry.Run(ctx, cfg, func(context.Context) error { cancel(); return errDown }), context.Canceled)
}

func TestNeverACallAfterACancel(t *testing.T) {
	cfg := retry.Config{Backoff: retry.ConstantBackoff(0), MaxRetries: retry.Unlimited}
	for range 500 {
		ctx, cancel := context.WithCancel(context.Background())
		cancelled := false
		_ = retry.Run(ctx, cfg, func(context.Context) error {
			require.False(t, cancelled)
			cancel()
			cancelled = true
			return errDown
		})
	}
}

// suddenClock has each wait end at once, and at the same instant the context.
type suddenClock struct {
	*clockwork.FakeClock
	cancel func()
}

func (c suddenClock) NewTimer(d time.Duration) clockwork.Timer {
	c.Advance(d)
	c.cancel()
	return c.FakeClock.NewTimer(0)
}

// When both are ready, select picks at random; there must be no call either way.
func TestCancelAtTheSameInstantAsTheTimer(t *testing.T) {
	for range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		clock := suddenClock{clockwork.NewFakeClock(), cancel}
		fn, calls := script(errDown)
		e := gaveUp(t, retry.Run(ctx, retry.Config{Clock: clock}, fn), context.Canceled)
		assert.Equal(t, 1, *calls)
		assert.Equal(t, errDown, e.Err)
	}
}

func TestFinalErrorTellsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Name, cfg.MaxRetries, cfg.OnDone = "hgnc", 2, func(context.Context, retry.Event) {}
		status := &retry.StatusError{StatusCode: 503, Method: "GET", URL: "http://x/"}
		fn, _ := script(errDown, errDown, fmt.Errorf("fetch: %w", status))
		e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries)
		assert.Equal(t, 3, e.Attempts)
		assert.Equal(t, 3*time.Second, e.Elapsed)
		var found *retry.StatusError
		assert.ErrorAs(t, e, &found)
		assert.False(t, errors.Is(e, errDown), "earlier failures are not kept")
		assert.EqualError(t, e, "retry: hgnc: no retries left after 3 attempts in 3s: fetch: GET http://x/: 503 Service Unavailable")
	})
}

func TestLastValueComesWithTheError(t *testing.T) {
	n := 0
	value, err := retry.Do(t.Context(), retry.Config{MaxRetries: 2, Backoff: retry.ConstantBackoff(0)},
		func(context.Context) (int, error) { n++; return n, errDown })
	gaveUp(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 3, value)
	value, err = retry.Do(t.Context(), retry.Config{}, func(context.Context) (int, error) { return 7, retry.Permanent(errDown) })
	assert.Equal(t, errDown, err)
	assert.Equal(t, 7, value)
}

// Do knows nothing of what its values hold: a function that opens something
// closes it when it fails. It never touches the value that it returns.
type closer struct{ closed bool }

func (c *closer) Close() error { c.closed = true; return nil }

func TestTheReturnedValueIsUntouched(t *testing.T) {
	value, err := retry.Do(t.Context(), retry.Config{MaxRetries: retry.NoRetries},
		func(context.Context) (*closer, error) { return new(closer), errDown })
	assert.Error(t, err)
	assert.False(t, value.closed)
}

func TestHugeDelaysDoNotOverflow(t *testing.T) {
	for cfg, err := range map[*retry.Config]error{
		{MaxElapsed: time.Second, Backoff: retry.ConstantBackoff(math.MaxInt64), MaxDelay: math.MaxInt64}: errDown,
		{MaxElapsed: time.Second, MaxRetryAfter: math.MaxInt64}:                                           retry.RetryAfter(errDown, math.MaxInt64),
	} {
		fn, calls := script(err)
		gaveUp(t, retry.Run(t.Context(), *cfg, fn), retry.ErrMaxElapsed)
		assert.Equal(t, 1, *calls)
	}
}

func TestMaxElapsedCutsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.MaxElapsed = 5 * time.Second
		err := retry.Run(t.Context(), cfg, func(ctx context.Context) error {
			time.Sleep(20 * time.Second)
			assert.NoError(t, ctx.Err())
			return errDown
		})
		e := gaveUp(t, err, retry.ErrMaxElapsed)
		assert.Equal(t, 1, e.Attempts)
		assert.Equal(t, 20*time.Second, e.Elapsed)
		assert.False(t, e.Timeout())
		assert.NoError(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error { time.Sleep(20 * time.Second); return nil }))
	})
}

func TestMaxElapsedIsNotReachedByAWait(t *testing.T) {
	for limit, want := range map[time.Duration]int{time.Second: 1, time.Second + 1: 2, 3 * time.Second: 2, 3*time.Second + 1: 3} {
		bubble(t, limit.String(), func(t *testing.T) {
			cfg := exact
			cfg.MaxElapsed = limit
			fn, calls := script(errDown)
			e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxElapsed)
			assert.Equal(t, want, *calls)
			assert.Contains(t, e.Error(), fmt.Sprintf("MaxElapsed of %v would pass first", limit), "it did not say which")
		})
	}
}

func TestNoTimerIsLeft(t *testing.T) {
	clock := clockwork.NewFakeClock()
	ctx, cancel := context.WithCancel(context.Background())
	cfg := retry.Config{Clock: clock, AttemptTimeout: time.Hour}
	done := make(chan error)
	go func() { done <- retry.Run(ctx, cfg, func(context.Context) error { return errDown }) }()
	awaitTimer(t, clock)
	cancel()
	assert.ErrorIs(t, <-done, context.Canceled)
	assert.False(t, hasWaiters(clock))
}

func budget(t testing.TB, ratio float64, burst int) *retry.Budget {
	t.Helper()
	b, err := retry.NewBudget(ratio, burst)
	require.NoError(t, err)
	return b
}

func TestPanicReachesTheCallerAndLeavesNothing(t *testing.T) {
	clock := clockwork.NewFakeClock()
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
	cfg := retry.Config{Clock: clock, Backoff: retry.ConstantBackoff(0), Breaker: b, Budget: budget(t, 0, 2), AttemptTimeout: time.Hour}
	n := 0
	assert.PanicsWithValue(t, errDown, func() {
		_ = retry.Run(t.Context(), cfg, func(context.Context) error {
			if n++; n == 2 {
				panic(errDown)
			}
			return errDown
		})
	})
	assert.False(t, hasWaiters(clock))
	s := b.Snapshot()
	assert.Equal(t, 2, s.Requests)
	assert.Equal(t, 2, s.Failures)
}

func TestBreakerOutsideSeesOneOutcome(t *testing.T) {
	b, _ := newBreaker(t, nil)
	fn, calls := script(errDown)
	_ = b.Do(t.Context(), func(ctx context.Context) error {
		return retry.Run(ctx, retry.Config{Backoff: retry.ConstantBackoff(0)}, fn)
	})
	assert.Equal(t, 6, *calls)
	assert.Equal(t, 1, b.Snapshot().Failures)
}

// tickingClock moves on a little each time it is read.
type tickingClock struct{ *clockwork.FakeClock }

func (c tickingClock) Now() time.Time {
	c.Advance(time.Millisecond)
	return c.FakeClock.Now()
}

func TestSharedConfigCarriesNoState(t *testing.T) {
	cfg := retry.Config{MaxRetries: 3, Backoff: retry.DecorrelatedBackoff(1), Jitter: retry.FullJitter}
	before := cfg
	var calls atomic.Int64
	rush(100, func() bool {
		return retry.Run(t.Context(), cfg, func(context.Context) error { calls.Add(1); return errDown }) == nil
	})
	assert.EqualValues(t, 400, calls.Load())
	before.Backoff, cfg.Backoff = nil, nil
	assert.Equal(t, before, cfg)
}

func TestNothingPanicsOnNil(t *testing.T) {
	ctx := t.Context()
	assert.ErrorIs(t, retry.Run(ctx, retry.Config{}, nil), retry.ErrInvalidConfig)
	_, err := retry.Do[int](ctx, retry.Config{}, nil)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	_, err = retry.Wrap[int, int](retry.Config{}, nil)(ctx, 1)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	fn, calls := script(nil)
	assert.ErrorIs(t, retry.Run(noContext, retry.Config{}, fn), retry.ErrInvalidConfig)
	assert.ErrorIs(t, retry.NewGate(nil).Wait(noContext), retry.ErrInvalidConfig)
	retry.NewGate(nil).OnPause(nil)
	assert.Zero(t, *calls)
	assert.False(t, retry.Retryable(nil))
}

func TestWrap(t *testing.T) {
	calls := 0
	double := retry.Wrap(retry.Config{Backoff: retry.ConstantBackoff(0)}, func(_ context.Context, n int) (int, error) {
		if calls++; calls == 1 {
			return 0, errDown
		}
		return 2 * n, nil
	})
	got, err := double(t.Context(), 21)
	assert.NoError(t, err)
	assert.Equal(t, 42, got)
	assert.Equal(t, 2, calls)
}

// slowLimiter lets an attempt through after a second.
type slowLimiter struct{ err error }

func (l slowLimiter) Wait(ctx context.Context) error {
	select {
	case <-time.After(time.Second):
		return l.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestSuccessIsASuccess(t *testing.T) {
	for _, cfg := range []retry.Config{{}, {AttemptTimeout: time.Hour}, {Breaker: new(retry.CircuitBreaker)}} {
		ctx, cancel := context.WithCancel(context.Background())
		assert.NoError(t, retry.Run(ctx, cfg, func(context.Context) error { cancel(); return nil }))
		ctx, cancel = context.WithCancel(context.Background())
		value, err := retry.Do(ctx, cfg, func(context.Context) (int, error) { cancel(); return 7, nil })
		assert.NoError(t, err)
		assert.Equal(t, 7, value)
	}
}

// Do and Run have a short way for calls that need nothing watched; it must
// deposit, retry and give up like the long one.
func TestShortWayIsLikeTheLongOne(t *testing.T) {
	for _, clock := range []clockwork.Clock{nil, clockwork.NewRealClock()} {
		cfg := retry.Config{Backoff: retry.ConstantBackoff(0), Budget: budget(t, 1, 0), MaxRetries: 1, Clock: clock}
		n := 0
		value, err := retry.Do(t.Context(), cfg, func(ctx context.Context) (int, error) {
			n++
			assert.Equal(t, n-1, retry.RetryCount(ctx))
			return n, errDown
		})
		assert.Equal(t, 2, value, "the first call's deposit paid for it")
		assert.Equal(t, 2, gaveUp(t, err, retry.ErrMaxRetries).Attempts)
		fn, calls := script(errDown)
		assert.Equal(t, 2, gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries).Attempts)
		assert.Equal(t, 2, *calls)
		value, err = retry.Do(t.Context(), cfg, func(context.Context) (int, error) { return 9, retry.Permanent(errDown) })
		assert.Equal(t, errDown, err)
		assert.Equal(t, 9, value)
	}
}

type hookKey struct{}

// hooked is a Config whose hooks write down their names, and mark the contexts
// that they return.
func hooked(reports *[]string) retry.Config {
	report := func(name string) func(context.Context, retry.Event) {
		return func(ctx context.Context, e retry.Event) {
			mark, _ := ctx.Value(hookKey{}).(string)
			line := name + " " + mark
			if e.Err != nil {
				line += ": " + retry.Outcome(e.Err)
			}
			*reports = append(*reports, line)
		}
	}
	mark := func(name string) func(context.Context, retry.Event) context.Context {
		report := report(name)
		return func(ctx context.Context, e retry.Event) context.Context {
			report(ctx, e)
			return context.WithValue(ctx, hookKey{}, name)
		}
	}
	return retry.Config{
		MaxRetries: 1, OnStart: mark("start"), OnAttempt: mark("attempt"), OnAttemptDone: report("attempt done"),
		OnRetry: report("retry"), OnWait: report("wait"), OnDone: report("done"),
	}
}

// The hooks surround what they are named after, and the contexts of OnStart and
// OnAttempt reach all that is within.
func TestHooksSurroundCallAndAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reports []string
		cfg := hooked(&reports)
		err := retry.Run(context.Background(), cfg, func(ctx context.Context) error {
			assert.Equal(t, "attempt", ctx.Value(hookKey{}))
			return errors.New("no")
		})
		require.ErrorIs(t, err, retry.ErrMaxRetries)
		assert.Equal(t, []string{
			"start ", "attempt start", "attempt done attempt: permanent", "retry start: permanent", "wait start: permanent",
			"attempt start: permanent", "attempt done attempt: permanent", "done start: max_retries",
		}, reports)
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
// is reported however it comes about, and a breaker's permit is given back.
func TestHooksAreToldOfPanicAndGoexit(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("x") }, "Goexit": runtime.Goexit} {
		var reports []string
		cfg := hooked(&reports)
		cfg.Breaker = new(retry.CircuitBreaker)
		over := make(chan struct{})
		go func() {
			defer close(over)
			defer func() { _ = recover() }()
			_ = retry.Run(context.Background(), cfg, func(context.Context) error { leave(); return nil })
		}()
		<-over
		assert.Equal(t, []string{"start ", "attempt start", "attempt done attempt: abandoned", "done start: abandoned"}, reports, name)
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
	var reports, seen []string
	cfg := hooked(&reports)
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
	assert.Equal(t, []string{"start ", "attempt start", "attempt done attempt", "done start"}, reports)
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

	address, requests := countedConversation(t, "SSH-2.0-OpenSSH_9.6\r\n")
	_, err = client.Get(context.Background(), address)
	require.Error(t, err)
	assert.EqualValues(t, 1, requests.Load(), "the peer does not speak HTTP")

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
// begin again with each.
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

func TestAttemptTimeoutInsideADeadline(t *testing.T) {
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

func TestAttemptTimeoutOnAFakeClock(t *testing.T) {
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
func TestDoWaitsForFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		assert.NoError(t, retry.Run(t.Context(), retry.Config{AttemptTimeout: time.Second}, func(context.Context) error {
			time.Sleep(10 * time.Second) // deaf to its context
			return nil
		}), "a success is a success")
		assert.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestNestedAttemptsAdd(t *testing.T) {
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

// wayOut is one way for a call of Do to end.
type wayOut struct {
	// fn makes attempt number n; cancel ends the caller's context.
	fn       func(ctx context.Context, n int, cancel func()) (string, error)
	onRetry  func(cancel func())
	sudden   bool // the context ends at the very instant at which the wait does
	timeout  time.Duration
	panics   any
	vanishes bool // by runtime.Goexit

	value    string
	is       []error // what errors.Is must find; none: success
	reason   error   // of the *Error, if there must be one
	attempts int
	retries  int // OnRetry events
	left     int // what is left of a budget of 2
	verdicts retry.Snapshot
}

var errCause = errors.New("the caller's cause")

func waysOut() map[string]wayOut {
	fail := func(_ context.Context, n int, _ func()) (string, error) { return "value", errDown }
	return map[string]wayOut{
		"success": {
			fn:    func(context.Context, int, func()) (string, error) { return "good", nil },
			value: "good", attempts: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Successes: 1},
		},
		"success though cancelled": {
			fn:    func(_ context.Context, _ int, cancel func()) (string, error) { cancel(); return "good", nil },
			value: "good", attempts: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Successes: 1},
		},
		"permanent error": {
			fn: func(_ context.Context, _ int, _ func()) (string, error) {
				return "value", retry.Permanent(errDown)
			},
			value: "value", is: []error{errDown}, attempts: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
		"no retries left": {
			fn: fail, value: "value", is: []error{errDown}, reason: retry.ErrMaxRetries, attempts: 2, retries: 1, left: 1,
			verdicts: retry.Snapshot{Requests: 2, Failures: 2},
		},
		"neutral": {
			fn:    func(context.Context, int, func()) (string, error) { return "value", context.Canceled },
			value: "value", is: []error{context.Canceled}, reason: retry.ErrMaxRetries, attempts: 2, retries: 1, left: 1,
			verdicts: retry.Snapshot{Requests: 2},
		},
		"attempt's timeout": {
			fn: func(ctx context.Context, _ int, _ func()) (string, error) {
				<-ctx.Done()
				return "value", ctx.Err()
			},
			timeout: time.Nanosecond,
			value:   "value", is: []error{context.DeadlineExceeded}, reason: retry.ErrMaxRetries, attempts: 2, retries: 1, left: 1,
			verdicts: retry.Snapshot{Requests: 2, Failures: 2},
		},
		"panic":        {fn: func(context.Context, int, func()) (string, error) { panic(errCause) }, panics: errCause, attempts: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Failures: 1}},
		"panic, later": {fn: later(func() { panic(errCause) }), panics: errCause, attempts: 2, retries: 1, left: 1, verdicts: retry.Snapshot{Requests: 2, Failures: 2}},
		"goexit":       {fn: func(context.Context, int, func()) (string, error) { runtime.Goexit(); return "", nil }, vanishes: true, attempts: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Failures: 1}},
		"goexit, later": {
			fn: later(runtime.Goexit), vanishes: true, attempts: 2, retries: 1, left: 1,
			verdicts: retry.Snapshot{Requests: 2, Failures: 2},
		},
		"cancel during the attempt": {
			fn: func(ctx context.Context, _ int, cancel func()) (string, error) {
				cancel()
				<-ctx.Done()
				return "value", context.Cause(ctx)
			},
			value: "value", is: []error{errCause, context.Canceled}, reason: errCause, attempts: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1},
		},
		"cancel during a failing attempt": {
			fn:    func(_ context.Context, _ int, cancel func()) (string, error) { cancel(); return "value", errDown },
			value: "value", is: []error{errCause, context.Canceled, errDown}, reason: errCause, attempts: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1},
		},
		"cancel at the instant of the timer": {
			fn: fail, sudden: true,
			value: "value", is: []error{errCause, context.Canceled, errDown}, reason: errCause, attempts: 1, retries: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
		"cancel inside a hook": {
			fn: fail, onRetry: func(cancel func()) { cancel() },
			value: "value", is: []error{errCause, context.Canceled, errDown}, reason: errCause, attempts: 1, retries: 1, left: 2,
			verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
		"panic inside a hook": {
			fn: fail, onRetry: func(func()) { panic(errCause) }, panics: errCause,
			attempts: 1, retries: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
		"goexit inside a hook": {
			fn: fail, onRetry: func(func()) { runtime.Goexit() }, vanishes: true,
			attempts: 1, retries: 1, left: 2, verdicts: retry.Snapshot{Requests: 1, Failures: 1},
		},
	}
}

// later fails first, and leaves in the second attempt.
func later(leave func()) func(context.Context, int, func()) (string, error) {
	return func(_ context.Context, n int, _ func()) (string, error) {
		if n == 2 {
			leave()
		}
		return "value", errDown
	}
}

// patientClock ends every wait at once; suddenly with the caller's context.
type patientClock struct {
	*clockwork.FakeClock
	sudden func()
}

func (c patientClock) NewTimer(d time.Duration) clockwork.Timer {
	timer := c.FakeClock.NewTimer(d)
	c.Advance(d)
	if c.sudden != nil {
		c.sudden()
	}
	return timer
}

func (c patientClock) AfterFunc(d time.Duration, f func()) clockwork.Timer {
	timer := c.FakeClock.AfterFunc(d, f)
	if d == time.Nanosecond {
		c.Advance(d)
	}
	return timer
}

func TestEveryWayOutOfTheLoop(t *testing.T) {
	for name, w := range waysOut() {
		bubble(t, name, func(t *testing.T) { // its end finds any goroutine that is left
			ctx, stop := context.WithCancelCause(context.Background())
			cancel := func() { stop(errCause) }
			defer cancel()
			clock := patientClock{FakeClock: clockwork.NewFakeClock()}
			if w.sudden {
				clock.sudden = cancel
			}
			b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock, c.FailureThreshold = clock, 100 })
			attempts, retries, ends := 0, 0, 0
			cfg := retry.Config{
				MaxRetries: 1, Clock: clock, Breaker: b, Budget: budget(t, 0, 2), AttemptTimeout: cmp.Or(w.timeout, time.Hour),
				Gate: retry.NewGate(clock),
				OnRetry: func(context.Context, retry.Event) {
					if retries++; w.onRetry != nil {
						w.onRetry(cancel)
					}
				},
				OnDone: func(_ context.Context, e retry.Event) { ends++; assert.Equal(t, w.attempts, e.Attempt) },
			}
			value, err, returned, panicked := "", error(nil), false, any(nil)
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { panicked = recover() }()
				value, err = retry.Do(ctx, cfg, func(ctx context.Context) (string, error) {
					attempts++
					return w.fn(ctx, attempts, cancel)
				})
				returned = true
			}()
			<-done

			assert.Equal(t, w.panics, panicked)
			assert.Equal(t, w.panics == nil && !w.vanishes, returned)
			assert.Equal(t, w.attempts, attempts)
			assert.Equal(t, w.retries, retries)
			assert.Equal(t, 1, ends, "OnDone is called at every end, a panic and Goexit included")
			if returned {
				assert.Equal(t, w.value, value)
				checkShape(t, w, err)
			}
			assert.False(t, hasWaiters(clock.FakeClock), "a timer is left")
			s := b.Snapshot()
			assert.Equal(t, w.verdicts, retry.Snapshot{Requests: s.Requests, Successes: s.Successes, Failures: s.Failures})
			spent, calls := script(errDown)
			_ = retry.Run(context.Background(), retry.Config{MaxRetries: 10, Budget: cfg.Budget, Backoff: retry.ConstantBackoff(0)}, spent)
			assert.Equal(t, w.left, *calls-1, "left of the budget")
		})
	}
}

func checkShape(t *testing.T, w wayOut, err error) {
	t.Helper()
	if len(w.is) == 0 {
		assert.NoError(t, err)
	}
	for _, target := range w.is {
		assert.ErrorIs(t, err, target)
	}
	e, ok := err.(*retry.Error)
	assert.Equal(t, w.reason != nil, ok, "%T", err)
	if ok {
		assert.Equal(t, w.reason, e.Reason)
		assert.Equal(t, w.attempts, e.Attempts)
		assert.NotNil(t, e.Err, "the last failure")
	}
}

func TestEveryWayOutOfAProbe(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(cancel func()) error
		after retry.State // that it leaves behind
	}{
		"success":        {func(func()) error { return nil }, retry.StateClosed},
		"error":          {func(func()) error { return errDown }, retry.StateOpen},
		"neutral":        {func(func()) error { return context.Canceled }, retry.StateHalfOpen},
		"rejection":      {func(func()) error { return &retry.OpenError{} }, retry.StateHalfOpen},
		"cancel":         {func(cancel func()) error { cancel(); return errCause }, retry.StateHalfOpen},
		"cancel, error":  {func(cancel func()) error { cancel(); return errDown }, retry.StateHalfOpen},
		"cancel, status": {func(cancel func()) error { cancel(); return &retry.StatusError{StatusCode: 503} }, retry.StateOpen},
		"deadline":       {func(func()) error { return context.DeadlineExceeded }, retry.StateOpen},
		"panic":          {func(func()) error { panic("bang") }, retry.StateOpen},
		"goexit":         {func(func()) error { runtime.Goexit(); return nil }, retry.StateOpen},
	} {
		do := func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error {
			return b.Do(ctx, fn)
		}
		loop := func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error {
			return retry.Run(ctx, retry.Config{Breaker: b, MaxRetries: retry.NoRetries}, fn)
		}
		for kind, run := range map[string]func(*retry.CircuitBreaker, context.Context, func(context.Context) error) error{"Do": do, "loop": loop} {
			t.Run(name+" "+kind, func(t *testing.T) {
				b, clock := newBreaker(t, nil)
				b.Trip(time.Second)
				clock.Advance(time.Second)
				ctx, stop := context.WithCancelCause(context.Background())
				defer stop(nil)
				leaveBy(func() {
					_ = run(b, ctx, func(context.Context) error { return c.leave(func() { stop(errCause) }) })
				})
				assert.Equal(t, c.after, b.State())
				clock.Advance(10 * time.Second)
				p := permit(t, b) // the place is free
				if c.after != retry.StateClosed {
					refused(t, b) // and there is only one
				}
				p.Done(nil)
				assert.Equal(t, retry.StateClosed, b.State())
				assert.False(t, hasWaiters(clock))
			})
		}
	}
}

// A call that ends while it waits for the breaker, or for the gate, holds
// nothing.
func TestWayOutOfEachWait(t *testing.T) {
	for _, name := range []string{"breaker", "gate", "limiter"} {
		bubble(t, name, func(t *testing.T) {
			clock := clockwork.NewFakeClock()
			b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
			cfg := retry.Config{Clock: clock, Breaker: b, WaitWhenOpen: true, Gate: retry.NewGate(clock)}
			switch name {
			case "breaker":
				b.Trip(time.Hour)
			case "gate":
				cfg.Gate.Pause(time.Minute)
			case "limiter":
				cfg.Limiter = hungLimiter{}
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			done := make(chan error)
			go func() { done <- retry.Run(ctx, cfg, func(context.Context) error { t.Error("called"); return nil }) }()
			synctest.Wait()
			cancel(errCause)
			e := gaveUp(t, <-done, errCause)
			assert.Zero(t, e.Attempts)
			assert.False(t, hasWaiters(clock), "a timer is left")
			assert.Zero(t, b.Snapshot().Requests, "no permit is held while waiting")
		})
	}
}

type hungLimiter struct{}

func (hungLimiter) Wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

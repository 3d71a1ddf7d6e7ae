package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

var errDown = errors.New("down")

// newBreaker returns a breaker on a fake clock: 3 failures open it for 10s.
func newBreaker(t testing.TB, change func(*retry.BreakerConfig)) (*retry.CircuitBreaker, *clockwork.FakeClock) {
	t.Helper()
	clock := clockwork.NewFakeClock()
	cfg := retry.BreakerConfig{FailureThreshold: 3, RecoveryTimeout: 10 * time.Second, Clock: clock}
	if change != nil {
		change(&cfg)
	}
	b, err := retry.NewCircuitBreaker(cfg)
	require.NoError(t, err)
	return b, clock
}

// halfOpened returns a breaker whose open time has just passed.
func halfOpened(t testing.TB, change func(*retry.BreakerConfig)) (b *retry.CircuitBreaker, advance func(time.Duration)) {
	t.Helper()
	b, clock := newBreaker(t, change)
	b.Trip(time.Second)
	clock.Advance(time.Second)
	require.Equal(t, retry.StateHalfOpen, b.State())
	return b, func(d time.Duration) { clock.Advance(d) }
}

func permit(t testing.TB, b *retry.CircuitBreaker) retry.Permit {
	t.Helper()
	p, err := b.Allow()
	require.NoError(t, err)
	return p
}

func refused(t testing.TB, b *retry.CircuitBreaker) *retry.OpenError {
	t.Helper()
	_, err := b.Allow()
	var open *retry.OpenError
	require.ErrorAs(t, err, &open)
	require.ErrorIs(t, err, retry.ErrCircuitOpen)
	return open
}

func report(t testing.TB, b *retry.CircuitBreaker, n int, err error) {
	t.Helper()
	for range n {
		permit(t, b).Done(err)
	}
}

func none(context.Context) error { return nil }

var noContext context.Context

func byRate(c *retry.BreakerConfig) { c.FailureThreshold, c.FailureRate, c.MinCalls = -1, 0.5, 10 }

func slowCalls(c *retry.BreakerConfig) {
	c.SlowCallDuration, c.SlowCallRate, c.MinCalls = time.Second, 0.5, 4
}

func slowFromOneSecond(c *retry.BreakerConfig) {
	c.SlowCallDuration, c.SlowCallRate, c.MinCalls = time.Second, 0.5, 2
}

// wallClock has no monotonic reading: it can be set back and forward, while
// its timers run on.
type wallClock struct {
	*clockwork.FakeClock
	mu     sync.Mutex
	offset time.Duration
}

func (c *wallClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.FakeClock.Now().Add(c.offset)
}

func (c *wallClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

func newWallBreaker(t *testing.T, change func(*retry.BreakerConfig)) (*retry.CircuitBreaker, *wallClock) {
	wall := &wallClock{FakeClock: clockwork.NewFakeClock()}
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) {
		c.Clock = wall
		if change != nil {
			change(c)
		}
	})
	return b, wall
}

// rush calls fn in n goroutines at once and counts how often it is true.
func rush(n int, fn func() bool) (count int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for range n {
		wg.Go(func() {
			<-start
			if fn() {
				mu.Lock()
				count++
				mu.Unlock()
			}
		})
	}
	close(start)
	wg.Wait()
	return count
}

// leaveBy runs fn in a goroutine of its own and waits until that is gone.
func leaveBy(fn func()) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer func() { _ = recover() }()
		fn()
	}()
	<-gone
}

// awaitTimer waits until a timer is set.
func awaitTimer(t testing.TB, clock *clockwork.FakeClock) {
	t.Helper()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
}

// hasWaiters reports whether a timer runs on the clock.
func hasWaiters(clock *clockwork.FakeClock) bool {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	return clock.BlockUntilContext(gone, 1) == nil
}

func TestPanicIsAFailureAndPassesUnchanged(t *testing.T) {
	b, _ := newBreaker(t, nil)
	type value struct{ n int }
	for n := range 3 {
		assert.PanicsWithValue(t, value{n}, func() {
			_ = b.Do(context.Background(), func(context.Context) error { panic(value{n}) })
		})
	}
	assert.Equal(t, retry.StateOpen, b.State())
	refused(t, b)
}

func TestSuccessEndsARunOfFailures(t *testing.T) {
	for name, change := range map[string]func(*retry.BreakerConfig){
		"by count": nil,
		"and rate": func(c *retry.BreakerConfig) { c.FailureRate, c.MinCalls = 1, 1000 },
		"and slow": func(c *retry.BreakerConfig) { c.SlowCallRate, c.SlowCallDuration = 1, time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newBreaker(t, change)
			for range 10 {
				report(t, b, 2, errDown)
				assert.Equal(t, 2, b.Snapshot().ConsecutiveFailures)
				report(t, b, 1, nil)
				assert.Zero(t, b.Snapshot().ConsecutiveFailures)
			}
			assert.Equal(t, retry.StateClosed, b.State())
		})
	}
}

// There is no window of a number of calls; consecutive failures are the count.
func TestNeutralResultDoesNotEndARunOfFailures(t *testing.T) {
	b, _ := newBreaker(t, nil)
	report(t, b, 2, errDown)
	report(t, b, 1, nil)
	report(t, b, 2, errDown)
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, context.Canceled) // says nothing either way
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
}

func TestRejectionInEachState(t *testing.T) {
	b, clock := newBreaker(t, nil)
	report(t, b, 3, errDown)
	open := refused(t, b)
	assert.Equal(t, retry.StateOpen, open.State)
	assert.Equal(t, 10*time.Second, open.RetryAfter)
	clock.Advance(10 * time.Second)
	permit(t, b)
	full := refused(t, b)
	assert.Equal(t, retry.StateHalfOpen, full.State)
	assert.Zero(t, full.RetryAfter)
	b.ForceOpen()
	forced := refused(t, b)
	assert.Equal(t, retry.StateOpen, forced.State)
	assert.Zero(t, forced.RetryAfter)
}

func TestOpenErrorNamesBreakerTimeAndFailure(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.Name = "ensembl" })
	report(t, b, 3, errDown)
	clock.Advance(4 * time.Second)
	err := b.Do(context.Background(), func(context.Context) error { return nil })
	assert.ErrorIs(t, err, retry.ErrCircuitOpen)
	assert.NotErrorIs(t, err, errDown, "it was another call's: shown only")
	assert.Equal(t, &retry.OpenError{Name: "ensembl", State: retry.StateOpen, RetryAfter: 6 * time.Second, Err: errDown}, err)
	assert.EqualError(t, err, "circuit breaker ensembl open for another 6s (last failure: down)")
	assert.EqualError(t, &retry.OpenError{State: retry.StateHalfOpen}, "circuit breaker half-open")
}

func TestSharedRejectionIsNeverTooEarly(t *testing.T) {
	b, clock := newBreaker(t, nil)
	report(t, b, 3, errDown)
	for left := 10 * time.Second; left > 0; left -= 317 * time.Microsecond {
		got := refused(t, b).RetryAfter
		require.True(t, got >= left && got <= left+time.Millisecond, "%v left, got %v", left, got)
		clock.Advance(317 * time.Microsecond)
	}
}

// Calls that are rejected within a millisecond share a rejection, and within a shorter
// time where little of the open time is left: each is right to a thousandth.
func TestRejectionIsSharedForAMillisecond(t *testing.T) {
	for _, c := range []struct{ open, shared time.Duration }{{10 * time.Second, time.Millisecond}, {102_500 * time.Microsecond, 100 * time.Microsecond}} {
		b, clock := newBreaker(t, nil)
		b.Trip(c.open)
		first := refused(t, b)
		assert.Same(t, first, refused(t, b))
		clock.Advance(c.shared)
		assert.Same(t, first, refused(t, b))
		clock.Advance(1)
		assert.Equal(t, c.open-c.shared-1, refused(t, b).RetryAfter)
	}
}

func TestRetryAfterOfAHalfOpenBreakerIsNotKnown(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.ProbeTimeout = time.Hour })
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	permit(t, b)
	clock.Advance(30 * time.Minute)
	rejection := refused(t, b)
	assert.Zero(t, rejection.RetryAfter)
	assert.Equal(t, retry.StateHalfOpen, rejection.State)
	assert.Equal(t, errDown, rejection.Err)
}

func TestHalfOpenExactlyAtTheEndOfTheOpenTime(t *testing.T) {
	b, clock := newBreaker(t, nil)
	report(t, b, 3, errDown)
	clock.Advance(10*time.Second - 1)
	assert.Equal(t, time.Duration(1), refused(t, b).RetryAfter)
	clock.Advance(1)
	permit(t, b)
}

func TestBreakerRunsOnOneClock(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { byRate(c); c.ProbeTimeout = time.Hour })
	report(t, b, 10, errDown)
	assert.True(t, b.Snapshot().OpenUntil.Equal(clock.Now().Add(10*time.Second)))
	clock.Advance(10 * time.Second)
	permit(t, b)
	clock.Advance(time.Hour)
	permit(t, b).Done(nil)
	report(t, b, 9, errDown)
	clock.Advance(10 * time.Second)
	report(t, b, 9, errDown)
	assert.Equal(t, retry.StateClosed, b.State())
}

// An open breaker whose clock was set back an hour used to stay open until the
// clock had caught up.
func TestClockSetBackWhileOpen(t *testing.T) {
	b, wall := newWallBreaker(t, nil)
	report(t, b, 3, errDown)
	wall.Advance(5 * time.Second)
	assert.Equal(t, 5*time.Second, refused(t, b).RetryAfter)
	wall.step(-time.Hour)
	assert.Equal(t, 10*time.Second, refused(t, b).RetryAfter, "too early is worse than too late")
	wall.Advance(10*time.Second - 1)
	refused(t, b)
	wall.Advance(1)
	assert.Equal(t, retry.StateHalfOpen, b.State())
	permit(t, b) // and a probe that hangs does not keep its place for an hour
	wall.step(-time.Hour)
	refused(t, b)
	wall.Advance(10 * time.Second)
	permit(t, b).Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestClockSetForwardWhileOpen(t *testing.T) {
	b, wall := newWallBreaker(t, nil)
	report(t, b, 3, errDown)
	wall.step(time.Hour)
	assert.Equal(t, retry.StateHalfOpen, b.State())
}

func TestOpenTimeGrowsWithFailedProbes(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.MaxRecoveryTimeout = 45 * time.Second })
	report(t, b, 3, errDown)
	for _, want := range []time.Duration{10, 20, 40, 45, 45, 45} {
		require.Equal(t, want*time.Second, refused(t, b).RetryAfter)
		clock.Advance(want * time.Second)
		report(t, b, 1, errDown)
	}
	clock.Advance(45 * time.Second)
	report(t, b, 1, nil)
	report(t, b, 3, errDown)
	assert.Equal(t, 10*time.Second, refused(t, b).RetryAfter, "falls back when it closes")
}

func TestGrowthOfTheOpenTimeDoesNotOverflow(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.RecoveryTimeout, c.MaxRecoveryTimeout = 1, math.MaxInt64
	})
	report(t, b, 3, errDown)
	for range 100 {
		left := refused(t, b).RetryAfter
		require.Positive(t, left)
		if left > 1<<60 {
			return
		}
		clock.Advance(left)
		report(t, b, 1, errDown)
	}
	t.Fatal("the open time does not grow")
}

func TestJitterOfTheOpenTimeIsClamped(t *testing.T) {
	for _, c := range []struct {
		draw float64
		want time.Duration
	}{{0, 10 * time.Second}, {0.5, 11 * time.Second}, {-3, 10 * time.Second}, {math.NaN(), 10 * time.Second}, {math.Inf(1), 12 * time.Second}} {
		b, _ := newBreaker(t, func(cfg *retry.BreakerConfig) {
			cfg.RecoveryJitter, cfg.Rand = 0.2, func() float64 { return c.draw }
		})
		report(t, b, 3, errDown)
		assert.InDelta(t, c.want, refused(t, b).RetryAfter, 10, c.draw)
	}
	b, _ := newBreaker(t, func(cfg *retry.BreakerConfig) { cfg.RecoveryJitter = 1 })
	report(t, b, 3, errDown)
	left := refused(t, b).RetryAfter
	assert.True(t, left >= 10*time.Second && left <= 20*time.Second, left)
}

// Rand is asked when the breaker may open, and not for every success; a slow success may
// open it, with the jitter of any other.
func TestJitterIsDrawnWhenTheBreakerMayOpen(t *testing.T) {
	draws := 0
	jitter := func(c *retry.BreakerConfig) {
		c.RecoveryJitter, c.Rand = 1, func() float64 { draws++; return 0.5 }
	}
	b, _ := halfOpened(t, jitter)
	report(t, b, 1, nil)
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 5, nil)
	assert.Zero(t, draws)

	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { jitter(c); slowFromOneSecond(c); c.MinCalls = 1 })
	slow := permit(t, b)
	clock.Advance(2 * time.Second)
	slow.Done(nil)
	assert.Equal(t, 15*time.Second, refused(t, b).RetryAfter)
}

func TestStateIsAPureRead(t *testing.T) {
	var changes []retry.StateChange
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.OnStateChange = func(s retry.StateChange) { changes = append(changes, s) }
	})
	report(t, b, 3, errDown)
	clock.Advance(time.Hour)
	for range 3 {
		assert.Equal(t, retry.StateHalfOpen, b.State())
		assert.Equal(t, retry.StateHalfOpen, b.Snapshot().State)
		assert.True(t, b.Snapshot().OpenUntil.IsZero())
	}
	assert.Len(t, changes, 1, "a read notifies no listener")
}

func TestForcedOpenStaysUntilReset(t *testing.T) {
	b, clock := newBreaker(t, nil)
	late := permit(t, b)
	b.ForceOpen()
	clock.Advance(1000 * time.Hour)
	late.Done(nil)
	b.Trip(time.Second)
	clock.Advance(time.Hour)
	assert.Equal(t, retry.StateOpen, b.State())
	assert.True(t, b.Snapshot().OpenUntil.IsZero())
	b.ForceOpen()
	refused(t, b)
	b.Reset()
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, nil)
}

func TestTripOpensForExactlyThatLong(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.RecoveryJitter = 1 })
	b.Trip(0)
	b.Trip(-1)
	assert.Equal(t, retry.StateClosed, b.State())
	b.Trip(time.Minute)
	b.Trip(time.Second)
	assert.Equal(t, time.Minute, refused(t, b).RetryAfter, "never shorter")
	clock.Advance(59 * time.Second)
	b.Trip(2 * time.Second)
	assert.Equal(t, 2*time.Second, refused(t, b).RetryAfter, "but longer")
	clock.Advance(2 * time.Second)
	assert.Equal(t, retry.StateHalfOpen, b.State())
	probe := permit(t, b)
	b.Trip(time.Second)
	probe.Done(nil)
	assert.Equal(t, retry.StateOpen, b.State())
	b.Trip(math.MaxInt64)
	refused(t, b)
}

func TestResetForgetsAllCounts(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureRate, c.MinCalls = 1, 3 })
	var late []retry.Permit
	for range 3 {
		late = append(late, permit(t, b))
	}
	report(t, b, 2, errDown)
	b.Reset()
	for _, p := range late {
		p.Done(errDown)
	}
	assert.Equal(t, retry.Snapshot{}, b.Snapshot())
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	probe := permit(t, b)
	b.Reset()
	probe.Done(errDown)
	assert.Equal(t, retry.Snapshot{Cause: "reset"}, b.Snapshot())
}

func TestObserveOnlyRejectsNoCall(t *testing.T) {
	var to []retry.State
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.ObserveOnly = true
		c.OnStateChange = func(s retry.StateChange) { to = append(to, s.To) }
	})
	report(t, b, 3, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
	report(t, b, 5, nil)
	assert.Equal(t, 5, b.Snapshot().Rejections, "those it would have rejected")
	clock.Advance(10 * time.Second)
	probe := permit(t, b)
	report(t, b, 2, nil)
	assert.Equal(t, 2, b.Snapshot().Rejections)
	probe.Done(nil)
	assert.Equal(t, []retry.State{retry.StateOpen, retry.StateHalfOpen, retry.StateClosed}, to)
}

// The loop used to count a rejection for each failure of an observed breaker.
func TestObserveOnlyInTheLoop(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.ObserveOnly, c.FailureThreshold = true, 1 })
	calls := 0
	err := retry.Run(context.Background(), retry.Config{Breaker: b, Clock: clock, Backoff: retry.ConstantBackoff(0)},
		func(context.Context) error { calls++; return errDown })
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 6, calls)
	assert.Equal(t, 5, b.Snapshot().Rejections)
}

func TestNilFunctionTakesNoPermit(t *testing.T) {
	b, _ := newBreaker(t, nil)
	assert.ErrorIs(t, b.Do(context.Background(), nil), retry.ErrInvalidConfig)
	assert.ErrorIs(t, b.Do(noContext, func(context.Context) error { return nil }), retry.ErrInvalidConfig)
	done, cancel := context.WithCancelCause(context.Background())
	cancel(errDown)
	err := b.Do(done, func(context.Context) error { t.Error("called"); return nil })
	assert.ErrorIs(t, err, errDown)
	assert.ErrorIs(t, err, context.Canceled)
	retry.Permit{}.Done(errDown)
	assert.Zero(t, b.Snapshot().Requests)
}

func TestPermitCountsOnceAmongManyCopies(t *testing.T) {
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold = 1000 })
	p := permit(t, b)
	rush(100, func() bool { p.Done(errDown); return true })
	next := permit(t, b) // may serve the next call with what the first left behind
	p.Done(errDown)
	assert.Equal(t, 1, b.Snapshot().Failures)
	next.Done(nil)
	assert.Equal(t, 1, b.Snapshot().Successes)
}

// Without half-open probes the mark costs nothing.
func TestNestedCallsInAClosedBreakerAllocateNothing(t *testing.T) {
	b, _ := newBreaker(t, nil)
	inner := func(ctx context.Context) error { return b.Do(ctx, none) }
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = b.Do(context.Background(), inner) }))
	assert.Equal(t, 202, b.Snapshot().Requests, "both count")
}

// IsFailure and Rand are the user's. Their panic reaches the caller, and nothing
// stays behind: neither a probe's place nor a call under watch.
func TestPanicOfTheUsersFunctions(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*retry.BreakerConfig, *bool)
		after  retry.State
	}{
		"IsFailure": {func(c *retry.BreakerConfig, on *bool) {
			c.IsFailure = func(error) bool {
				if *on {
					panic("user")
				}
				return true
			}
		}, retry.StateHalfOpen},
		"Rand": {func(c *retry.BreakerConfig, on *bool) {
			c.RecoveryJitter, c.Rand = 0.5, func() float64 {
				if *on {
					panic("user")
				}
				return 0
			}
		}, retry.StateOpen}, // that the probe failed is known
	} {
		fail := func(context.Context) error { return errDown }
		for kind, call := range map[string]func(b *retry.CircuitBreaker){
			"Do":     func(b *retry.CircuitBreaker) { _ = b.Do(context.Background(), fail) },
			"Permit": func(b *retry.CircuitBreaker) { p, _ := b.Allow(); p.Done(errDown) },
			"loop": func(b *retry.CircuitBreaker) {
				_ = retry.Run(context.Background(), retry.Config{Breaker: b, MaxRetries: retry.NoRetries}, fail)
			},
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				on := false
				b, advance := halfOpened(t, func(cfg *retry.BreakerConfig) { c.change(cfg, &on) })
				on = true
				assert.PanicsWithValue(t, "user", func() { call(b) })
				on = false
				assert.Equal(t, c.after, b.State())
				advance(10 * time.Second)
				permit(t, b).Done(nil)
				assert.Equal(t, retry.StateClosed, b.State())
			})
			t.Run(name+" "+kind+", slow call", func(t *testing.T) {
				on := false
				b, clock := newBreaker(t, func(cfg *retry.BreakerConfig) {
					slowFromOneSecond(cfg)
					c.change(cfg, &on)
				})
				permit(t, b).Done(nil)
				func() {
					defer func() { assert.Equal(t, "user", recover()) }()
					_ = b.Do(context.Background(), func(context.Context) error { on = true; return errDown })
				}()
				on = false
				clock.Advance(time.Hour)
				s := b.Snapshot()
				assert.Zero(t, s.SlowCalls, "it is not in flight")
				assert.Zero(t, s.Requests-s.Successes-s.Failures)
			})
		}
	}
}

func TestSnapshotAddsUp(t *testing.T) {
	for name, change := range map[string]func(*retry.BreakerConfig){"count": nil, "window": byRate, "slow": slowCalls} {
		t.Run(name, func(t *testing.T) {
			b, _ := newBreaker(t, change)
			permit(t, b)
			report(t, b, 4, nil)
			report(t, b, 2, errDown)
			report(t, b, 3, context.Canceled)
			s := b.Snapshot()
			assert.Equal(t, 10, s.Requests)
			assert.Equal(t, 4, s.Successes)
			assert.Equal(t, 2, s.Failures)
			assert.Equal(t, 2, s.ConsecutiveFailures)
			assert.Equal(t, errDown, s.LastFailure)
		})
	}
}

func TestStateText(t *testing.T) {
	for state, want := range map[retry.State]string{retry.StateClosed: "closed", retry.StateOpen: "open", retry.StateHalfOpen: "half-open", 7: "State(7)"} {
		assert.Equal(t, want, state.String())
		text, err := state.MarshalText()
		assert.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
}

func TestBreakersStartNoGoroutineOrTimer(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 1000 {
		b, clock := newBreaker(t, slowCalls)
		report(t, b, 3, errDown)
		clock.Advance(10 * time.Second)
		permit(t, b)
		assert.False(t, hasWaiters(clock))
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
}

// slog and encoding/json wrote {} for an error, or all the fields of one, with
// the query of its URL.
func TestBreakerRenderings(t *testing.T) {
	var change retry.StateChange
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.Name, c.FailureThreshold = "hgnc", 1
		c.OnStateChange = func(s retry.StateChange) { change = s }
	})
	secret := &url.Error{Op: "Get", URL: "https://user:SECRET@host/a?sig=SECRET", Err: errDown}
	permit(t, b).Done(fmt.Errorf("fetch: %w", secret))
	open, snapshot := refused(t, b), b.Snapshot()
	const failure = `fetch: Get \"https://xxxxx@host/a?sig=xxxxx\": down`
	at := clock.Now().Format(time.RFC3339Nano)
	until := clock.Now().Add(10 * time.Second).Format(time.RFC3339Nano)
	for want, value := range map[string]any{
		`{"Name":"hgnc","State":"open","RetryAfter":10000000000,"Err":"` + failure + `"}`:                                                                                                                        open,
		`{"Name":"hgnc","From":"closed","To":"open","At":"` + at + `","Until":"` + until + `","Cause":"1 failure in a row","Err":"` + failure + `"}`:                                                             change,
		`{"State":"open","Requests":0,"Successes":0,"Failures":0,"SlowCalls":0,"Rejections":1,"ConsecutiveFailures":0,"OpenUntil":"` + until + `","LastFailure":"` + failure + `","Cause":"1 failure in a row"}`: snapshot,
		`{"Name":"","State":"half-open","RetryAfter":0,"Err":null}`:                                                                                                                                              &retry.OpenError{State: retry.StateHalfOpen},
		`{"State":"closed","Requests":0,"Successes":0,"Failures":0,"SlowCalls":0,"Rejections":0,"ConsecutiveFailures":0,"OpenUntil":"0001-01-01T00:00:00Z","LastFailure":null,"Cause":""}`:                       retry.Snapshot{},
		`null`: (*retry.OpenError)(nil),
	} {
		got, err := json.Marshal(value)
		assert.NoError(t, err)
		assert.JSONEq(t, want, string(got))
		if p, ok := value.(retry.Snapshot); ok {
			got, err = json.Marshal(&p)
			assert.NoError(t, err)
			assert.JSONEq(t, want, string(got))
		}
	}
	for kind, handler := range map[string]func(*strings.Builder) slog.Handler{
		"text": func(out *strings.Builder) slog.Handler { return slog.NewTextHandler(out, nil) },
		"json": func(out *strings.Builder) slog.Handler { return slog.NewJSONHandler(out, nil) },
	} {
		for name, value := range map[string]any{"open": open, "change": change, "pointer": &change, "snapshot": snapshot, "pointer to snapshot": &snapshot, "rejection": error(open)} {
			var out strings.Builder
			slog.New(handler(&out)).Info("x", "value", value)
			line := out.String()
			assert.NotContains(t, line, "SECRET", kind+name)
			assert.NotContains(t, line, "{}", kind+name)
			assert.Contains(t, line, "sig=xxxxx", kind+name)
			assert.Contains(t, line, "open", kind+name)
			if strings.HasSuffix(name, "snapshot") {
				assert.Contains(t, line, "1 failure in a row", kind+name)
			}
		}
		var out strings.Builder
		slog.New(handler(&out)).Info("x", "rejection", (*retry.OpenError)(nil), "snapshot", retry.Snapshot{}, "change", retry.StateChange{})
		assert.NotContains(t, out.String(), "panic")
		assert.NotContains(t, out.String(), "snapshot.cause", "there is none")
	}
}

func TestStateReadsBackWhatItWrites(t *testing.T) {
	for _, state := range []retry.State{retry.StateClosed, retry.StateOpen, retry.StateHalfOpen, 7, -1} {
		text, err := json.Marshal(map[retry.State]retry.State{state: state})
		require.NoError(t, err)
		var back map[retry.State]retry.State
		require.NoError(t, json.Unmarshal(text, &back))
		assert.Equal(t, map[retry.State]retry.State{state: state}, back)
	}
	for _, text := range []string{"", "Open", "open ", "halfopen", "State()", "State(1)", "State(7)x", "State(07)", "3"} {
		state := retry.StateOpen
		err := state.UnmarshalText([]byte(text))
		assert.ErrorIs(t, err, retry.ErrInvalidConfig, text)
		assert.Equal(t, retry.StateOpen, state)
	}
}

// Calls that are rejected together share a rejection: it never changes once it was returned.
func TestSharedRejectionDoesNotChange(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold, c.ProbeTimeout = 1, time.Second })
	permit(t, b).Done(errDown)
	var given []*retry.OpenError
	var copies []retry.OpenError
	take := func() {
		given = append(given, refused(t, b))
		copies = append(copies, *given[len(given)-1])
	}
	for range 50 {
		take()
		clock.Advance(100 * time.Millisecond)
	}
	clock.Advance(5 * time.Second)
	probe := permit(t, b)
	take()
	probe.Done(errCause)
	take()
	b.Trip(time.Minute)
	take()
	b.ForceOpen()
	take()
	b.Reset()
	for n := range given {
		assert.Equal(t, copies[n], *given[n])
	}
}

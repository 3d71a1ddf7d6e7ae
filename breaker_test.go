package retry_test

import (
	"context"
	"errors"
	"math"
	"runtime"
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

func TestB01_SuccessFromBeforeTheOutageClosesNothing(t *testing.T) {
	b, clock := newBreaker(t, nil)
	late := permit(t, b)
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	probe := permit(t, b)
	late.Done(nil)
	assert.Equal(t, retry.StateHalfOpen, b.State())
	probe.Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB02_FailureFromBeforeTheOutageReopensNothing(t *testing.T) {
	b, clock := newBreaker(t, nil)
	late := permit(t, b)
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	probe := permit(t, b)
	late.Done(errDown)
	assert.Equal(t, retry.StateHalfOpen, b.State())
	probe.Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB03_LateFailuresAfterRecoveryDoNotReopen(t *testing.T) {
	b, clock := newBreaker(t, nil)
	late := []retry.Permit{permit(t, b), permit(t, b), permit(t, b)}
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	report(t, b, 1, nil)
	for _, p := range late {
		p.Done(errDown)
	}
	assert.Equal(t, retry.StateClosed, b.State())
	assert.Zero(t, b.Snapshot().Failures)
}

func TestB04_ProbeOfAnEarlierEpisodeIsIgnored(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.HalfOpenProbes = 2 })
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	old := permit(t, b)
	permit(t, b).Done(errDown) // reopens
	clock.Advance(10 * time.Second)
	permit(t, b)
	permit(t, b)
	old.Done(nil)
	assert.Equal(t, retry.StateHalfOpen, b.State())
	refused(t, b) // and it freed no place of the new episode
}

func TestB05_StaleResultsReturnOnlyTheirOwnPlace(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.HalfOpenProbes, c.SuccessThreshold = 2, 100 })
	var stale []retry.Permit
	for range 9 {
		stale = append(stale, permit(t, b))
	}
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	held := permit(t, b)
	for _, p := range stale {
		p.Done(nil)
	}
	permit(t, b)
	refused(t, b)
	held.Done(nil)
	held.Done(nil) // twice is once
	permit(t, b)
	refused(t, b)
}

func TestB06_ResultWhileOpenChangesNothing(t *testing.T) {
	var changes []retry.StateChange
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.OnStateChange = func(s retry.StateChange) { changes = append(changes, s) }
	})
	late := permit(t, b)
	report(t, b, 3, errDown)
	before := b.Snapshot()
	clock.Advance(5 * time.Second)
	late.Done(errDown)
	after := b.Snapshot()
	assert.Len(t, changes, 1)
	assert.True(t, before.OpenUntil.Equal(after.OpenUntil))
	assert.Zero(t, after.Failures)
	assert.Equal(t, 5*time.Second, refused(t, b).RetryAfter)
}

func TestB14_PanicsCountAndPassUnchanged(t *testing.T) {
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

func TestB16_ProbePanicReopensAndFreesThePlace(t *testing.T) {
	b, clock := newBreaker(t, nil)
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	leaveBy(func() { _ = b.Do(context.Background(), func(context.Context) error { panic("bang") }) })
	assert.Equal(t, retry.StateOpen, b.State())
	clock.Advance(10 * time.Second)
	require.NoError(t, b.Do(context.Background(), func(context.Context) error { return nil }))
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB17_ProbeLeavesByGoexit(t *testing.T) {
	b, clock := newBreaker(t, nil)
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	leaveBy(func() { _ = b.Do(context.Background(), func(context.Context) error { runtime.Goexit(); return nil }) })
	assert.Equal(t, retry.StateOpen, b.State())
	clock.Advance(10 * time.Second)
	report(t, b, 1, nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB18_ProbeThatNeverReturnsLosesItsPlace(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.ProbeTimeout = 4 * time.Second })
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	lost := permit(t, b)
	clock.Advance(4*time.Second - 1)
	refused(t, b)
	clock.Advance(1)
	next := permit(t, b)
	lost.Done(errDown) // too late to say anything
	assert.Equal(t, retry.StateHalfOpen, b.State())
	next.Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB18_LateSuccessOfAProbeCounts(t *testing.T) {
	b, clock := newBreaker(t, nil) // the place lasts as long as the open time
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	late := permit(t, b)
	clock.Advance(10 * time.Second)
	next := permit(t, b)
	late.Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
	next.Done(errDown) // a probe of a period that is over
	assert.Zero(t, b.Snapshot().Failures)
}

func TestB19_HalfOpenEdgeAdmitsExactlyTheProbes(t *testing.T) {
	for _, probes := range []int{1, 7} {
		b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.HalfOpenProbes = probes })
		report(t, b, 3, errDown)
		clock.Advance(10 * time.Second)
		admitted := rush(1000, func() bool { _, err := b.Allow(); return err == nil })
		assert.Equal(t, probes, admitted)
		assert.Equal(t, 1000-probes, b.Snapshot().Rejections)
	}
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

func TestB20_SuccessesNeededAndProbesAtOnceAreTwoNumbers(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.SuccessThreshold = 5 })
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	for range 4 {
		p := permit(t, b)
		refused(t, b)
		p.Done(nil)
		assert.Equal(t, retry.StateHalfOpen, b.State())
	}
	report(t, b, 1, nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB22_ThreeReasonsOneSentinel(t *testing.T) {
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

// An open breaker whose clock was set back an hour used to stay open until the
// clock had caught up.
func TestB30_ClockSetBackWhileOpen(t *testing.T) {
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

func TestB30_ClockSetForwardWhileOpen(t *testing.T) {
	b, wall := newWallBreaker(t, nil)
	report(t, b, 3, errDown)
	wall.step(time.Hour)
	assert.Equal(t, retry.StateHalfOpen, b.State())
}

func TestB35_SuccessBetweenResetsTheCount(t *testing.T) {
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

func TestB38_OneClockForAll(t *testing.T) {
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

func TestB39_OpenTimeGrowsWithFailedProbes(t *testing.T) {
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

func TestB39_GrowthDoesNotOverflow(t *testing.T) {
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

func TestB40_JitterOfTheOpenTimeIsClamped(t *testing.T) {
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

func TestB41_HalfOpenExactlyAtTheEnd(t *testing.T) {
	b, clock := newBreaker(t, nil)
	report(t, b, 3, errDown)
	clock.Advance(10*time.Second - 1)
	assert.Equal(t, time.Duration(1), refused(t, b).RetryAfter)
	clock.Advance(1)
	permit(t, b)
}

func TestB42_StateIsAPureRead(t *testing.T) {
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
	assert.Len(t, changes, 1, "a read tells nobody")
}

func TestB43_ForcedOpenStaysUntilReset(t *testing.T) {
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

func TestB44_ResetWithCallsInFlight(t *testing.T) {
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

func TestB45_ObserveOnlyRejectsNobody(t *testing.T) {
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
func TestB45_ObserveOnlyInsideDo(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.ObserveOnly, c.FailureThreshold = true, 1 })
	calls := 0
	err := retry.Run(context.Background(), retry.Config{Breaker: b, Clock: clock, Backoff: retry.ConstantBackoff(0)},
		func(context.Context) error { calls++; return errDown })
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 6, calls)
	assert.Equal(t, 5, b.Snapshot().Rejections)
}

func TestB51_NilFunctionTakesNoPermit(t *testing.T) {
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

func TestB53_RejectionTellsAll(t *testing.T) {
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

func TestB53_SharedRejectionIsNeverTooEarly(t *testing.T) {
	b, clock := newBreaker(t, nil)
	report(t, b, 3, errDown)
	for left := 10 * time.Second; left > 0; left -= 317 * time.Microsecond {
		got := refused(t, b).RetryAfter
		require.True(t, got >= left && got <= left+time.Millisecond, "%v left, told %v", left, got)
		clock.Advance(317 * time.Microsecond)
	}
}

func TestB54_RetryAfterIsNeverNegative(t *testing.T) {
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

func TestB55_SnapshotAddsUp(t *testing.T) {
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

func TestB57_BreakersLeaveNothingBehind(t *testing.T) {
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

// awaitTimer waits until somebody has set a timer.
func awaitTimer(t testing.TB, clock *clockwork.FakeClock) {
	t.Helper()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
}

var noContext context.Context

// hasWaiters reports whether a timer runs on the clock.
func hasWaiters(clock *clockwork.FakeClock) bool {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	return clock.BlockUntilContext(gone, 1) == nil
}

func TestStateText(t *testing.T) {
	for state, want := range map[retry.State]string{retry.StateClosed: "closed", retry.StateOpen: "open", retry.StateHalfOpen: "half-open", 7: "State(7)"} {
		assert.Equal(t, want, state.String())
		text, err := state.MarshalText()
		assert.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
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

package retry_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// queueing lets n callers wait at a gate in a synctest bubble, one joining after
// the other, and notes who passed when.
type queueing struct {
	gate   *retry.Gate
	mu     sync.Mutex
	passed []passing
}

type passing struct {
	who int
	at  time.Time
}

func (c *queueing) join(t *testing.T, who int, ctx context.Context) {
	go func() {
		if err := c.gate.Wait(ctx); err != nil {
			assert.ErrorIs(t, err, context.Canceled)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.passed = append(c.passed, passing{who, time.Now()})
	}()
	synctest.Wait()
}

func (c *queueing) result() []passing {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed
}

func TestGateReleasesACrowdOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := queueing{gate: retry.NewGate(nil)}
		c.gate.Pause(time.Minute)
		end := time.Now().Add(time.Minute)
		for who := range 1000 {
			c.join(t, who, t.Context())
		}
		time.Sleep(2 * time.Minute)
		passed := c.result()
		require.Len(t, passed, 1000)
		assert.Equal(t, end, passed[0].at, "the first at the very moment")
		for i, p := range passed {
			require.Equal(t, i, p.who, "in the order in which they came")
			if i >= 20 {
				require.Greater(t, p.at.Sub(passed[i-20].at), 100*time.Millisecond-1, "more than 20 in 100ms")
			}
		}
		assert.LessOrEqual(t, passed[999].at.Sub(end), 5*time.Second, "and no slower than need be")
		require.NoError(t, c.gate.Wait(t.Context()))
		_, paused := c.gate.PausedUntil()
		assert.False(t, paused)
	})
}

func TestGateDelaysOneWaiterByNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g retry.Gate // the zero value is ready
		start := time.Now()
		require.NoError(t, g.Wait(t.Context()))
		assert.Zero(t, time.Since(start))
		g.Pause(time.Second)
		until, paused := g.PausedUntil()
		assert.True(t, paused)
		assert.Equal(t, start.Add(time.Second), until)
		require.NoError(t, g.Wait(t.Context()))
		assert.Equal(t, time.Second, time.Since(start))
		time.Sleep(5 * time.Millisecond)
		require.NoError(t, g.Wait(t.Context()))
		assert.Equal(t, time.Second+5*time.Millisecond, time.Since(start))
	})
}

func TestGateKeepsTheLongestPause(t *testing.T) {
	clock := clockwork.NewFakeClock()
	g := retry.NewGate(clock)
	var heard []time.Duration
	start := clock.Now()
	g.OnPause(func(until time.Time) {
		heard = append(heard, until.Sub(start))
		g.Pause(until.Sub(clock.Now())) // as another process would send it back
	})
	g.Pause(0)
	g.Pause(-time.Hour)
	_, paused := g.PausedUntil()
	assert.False(t, paused)
	g.Pause(time.Minute)
	g.Pause(time.Second)
	g.Pause(time.Minute)
	until, _ := g.PausedUntil()
	assert.Equal(t, start.Add(time.Minute), until)
	g.Pause(2 * time.Minute)
	assert.Equal(t, []time.Duration{time.Minute, 2 * time.Minute}, heard)
	g.Pause(math.MaxInt64)
	until, _ = g.PausedUntil()
	assert.True(t, until.After(start.Add(time.Hour)))
}

func TestGateWaiterWithTooLittleTimeFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := retry.NewGate(nil)
		g.Pause(time.Second)
		start := time.Now()
		for _, d := range []time.Duration{time.Second, 500 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			assert.ErrorIs(t, g.Wait(ctx), retry.ErrDeadline)
			cancel()
		}
		assert.Zero(t, time.Since(start))

		// There was time enough, until the pause was lengthened.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		time.AfterFunc(500*time.Millisecond, func() { g.Pause(time.Minute) })
		assert.ErrorIs(t, g.Wait(ctx), retry.ErrDeadline)
		assert.Equal(t, 500*time.Millisecond, time.Since(start))

		cause := errors.New("cause")
		gone, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(cause) })
		err := g.Wait(gone)
		assert.ErrorIs(t, err, cause)
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorIs(t, g.Wait(gone), cause, "also when it is done before")
		assert.ErrorIs(t, retry.NewGate(nil).Wait(gone), cause)
	})
}

func TestR50_CancelledWaitersLeaveNoHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := queueing{gate: retry.NewGate(nil)}
		c.gate.Pause(time.Minute)
		end := time.Now().Add(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		for who := range 90 {
			if who%3 == 0 {
				c.join(t, who, ctx)
			} else {
				c.join(t, who, t.Context())
			}
		}
		time.Sleep(time.Second)
		cancel()
		time.Sleep(2 * time.Minute)
		passed := c.result()
		require.Len(t, passed, 60)
		last := -1
		for i, p := range passed {
			assert.Equal(t, end.Add(time.Duration(i)*5*time.Millisecond), p.at)
			assert.Greater(t, p.who, last, "first come, first served")
			last = p.who
		}
	})
}

func TestGatePauseDuringTheReleaseHoldsBackTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := queueing{gate: retry.NewGate(nil)}
		c.gate.Pause(time.Second)
		for who := range 10 {
			c.join(t, who, t.Context())
		}
		time.Sleep(time.Second + 12*time.Millisecond) // three have passed
		c.gate.Pause(time.Minute)
		end := time.Now().Add(time.Minute)
		time.Sleep(30 * time.Second)
		assert.Len(t, c.result(), 3)
		time.Sleep(time.Minute)
		passed := c.result()
		require.Len(t, passed, 10)
		assert.Equal(t, end, passed[3].at)
		assert.Equal(t, end.Add(10*time.Millisecond), passed[4].at, "slower than the server did not like")
	})
}

// A service with more calls than the interval lets through used to wait in line
// for ever after a single pause, longer and longer; then it was let out all at
// once a second after the pause, past those who were still in line. Now all pass
// in the order in which they came, faster and faster.
func TestGateDoesNotLimitABusyServiceForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := retry.NewGate(nil)
		g.Pause(time.Second)
		start := time.Now()
		var mu sync.Mutex
		last, lastLate := -1, 0
		for i := range 12_500 { // 500 a second
			time.Sleep(2 * time.Millisecond)
			came := time.Now()
			go func() {
				assert.NoError(t, g.Wait(t.Context()))
				mu.Lock()
				defer mu.Unlock()
				assert.Equal(t, last+1, i, "in order")
				last = i
				if time.Since(came) > 0 {
					lastLate = i
				}
			}()
			synctest.Wait()
		}
		assert.Less(t, lastLate, 10_000, "all is well again soon")
		assert.Greater(t, lastLate, 2_500)
		assert.Equal(t, 25*time.Second, time.Since(start))
		_, paced := g.Pace()
		assert.False(t, paced)
	})
}

// A process is stopped, by a debugger or a container's throttle:
// its clock jumps, and all timers fire at once. 200 waiters whose turns had all
// come meanwhile passed within 0.2ms.
func TestGateSpacesThoseWhoPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := clockwork.NewFakeClock()
		g := retry.NewGate(clock)
		g.Pause(time.Second)
		var passed atomic.Int64
		for range 200 {
			go func() {
				assert.NoError(t, g.Wait(t.Context()))
				passed.Add(1)
			}()
			synctest.Wait()
		}
		advance := func(d time.Duration) int64 {
			clock.Advance(d)
			synctest.Wait() // until all who woke have passed or set their timers again
			return passed.Load()
		}
		require.EqualValues(t, 1, advance(3*time.Second), "all turns were over by 2s")
		for n := int64(1); n < 200; n++ {
			require.Equal(t, n, advance(5*time.Millisecond-1), "one at a time")
			require.Equal(t, n+1, advance(1))
		}
	})
}

// 20,000 waiters who were cancelled one by one took 3.7s to leave the queue: each
// moved all those behind it. Ten times as many may take 40 times as long, not 100:
// the best of several tries, since the machine may be busy with other things.
func TestGateManyWaitersLeave(t *testing.T) {
	leave := func(n int) time.Duration {
		clock := &countingClock{Clock: clockwork.NewRealClock()}
		clock.timers.Add(n)
		g := retry.NewGate(clock)
		g.Pause(time.Hour)
		cancels := make([]context.CancelFunc, n)
		var out sync.WaitGroup
		for i := range n {
			ctx, cancel := context.WithCancel(t.Context())
			cancels[i] = cancel
			out.Go(func() { assert.Error(t, g.Wait(ctx)) })
		}
		clock.timers.Wait() // until each has set the timer it waits for
		start := time.Now()
		for _, cancel := range cancels {
			cancel()
		}
		out.Wait()
		return time.Since(start)
	}
	few, many := leave(2_000), leave(20_000)
	for try := 1; many > 40*few && try < 10; try++ {
		few, many = min(few, leave(2_000)), min(many, leave(20_000))
	}
	assert.LessOrEqual(t, many, 40*few, "%v for a tenth", few)
}

// countingClock is done with timers when so many were set on it.
type countingClock struct {
	clockwork.Clock
	timers sync.WaitGroup
}

func (c *countingClock) NewTimer(d time.Duration) clockwork.Timer {
	defer c.timers.Done()
	return c.Clock.NewTimer(d)
}

// A gate that was used in one synctest bubble, and is used in another: nothing of
// the first may be left in it.
func TestGateInTwoBubbles(t *testing.T) {
	var g retry.Gate
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			g.Pause(time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(500*time.Millisecond, cancel)
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					if i%2 == 0 {
						assert.ErrorIs(t, g.Wait(ctx), context.Canceled)
					} else {
						assert.NoError(t, g.Wait(t.Context()))
					}
				})
			}
			wg.Wait()
		})
	}
}

// The same with one call after the other: the gate is open again, and costs
// nothing.
func TestGateOpensAgain(t *testing.T) {
	clock := clockwork.NewFakeClock()
	g := retry.NewGate(clock)
	g.Pause(time.Second)
	clock.Advance(2 * time.Second)
	for range 1000 {
		require.NoError(t, g.Wait(t.Context()))
	}
	assert.Zero(t, testing.AllocsPerRun(10, func() { _ = g.Wait(t.Context()) }))
	assert.False(t, hasWaiters(clock))
}

func TestGateOnAClockThatIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wall := &wallClock{FakeClock: clockwork.NewFakeClock()}
		g := retry.NewGate(wall)
		g.Pause(time.Minute)
		wall.Advance(10 * time.Second)
		passed := make(chan error)
		go func() { passed <- g.Wait(t.Context()) }()
		synctest.Wait()
		wall.step(-time.Hour)
		until, paused := g.PausedUntil()
		assert.True(t, paused)
		assert.LessOrEqual(t, until.Sub(wall.Now()), time.Minute)
		wall.Advance(50 * time.Second)
		assert.NoError(t, <-passed, "and not an hour later")
		wall.step(time.Hour)
		assert.NoError(t, g.Wait(t.Context()))
	})
}

// The same, when only the waiter reads the clock.
func TestGateWaiterOnAClockThatIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wall := &wallClock{FakeClock: clockwork.NewFakeClock()}
		g := retry.NewGate(wall)
		g.Pause(time.Minute)
		passed := make(chan error)
		go func() { passed <- g.Wait(t.Context()) }()
		synctest.Wait()
		wall.step(-time.Hour)
		wall.Advance(time.Minute) // wakes it: of the pause, a minute is left
		synctest.Wait()
		wall.Advance(time.Minute)
		assert.NoError(t, <-passed)
	})
}

// One 429 pauses all who share the gate, first attempts too.
func TestGateInsideDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Gate = retry.NewGate(nil)
		start := time.Now()
		var mu sync.Mutex
		var calls []time.Duration
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				assert.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error {
					time.Sleep(time.Millisecond) // all are in flight when the first answer comes
					mu.Lock()
					defer mu.Unlock()
					if calls = append(calls, time.Since(start)); len(calls) == 1 {
						return &retry.StatusError{StatusCode: 429, RetryAfter: 10 * time.Second}
					}
					return nil
				}))
			})
		}
		time.Sleep(2 * time.Millisecond)
		wg.Go(func() { // and a newcomer
			assert.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error {
				assert.GreaterOrEqual(t, time.Since(start), 10*time.Second)
				return nil
			}))
		})
		wg.Wait()
		require.Len(t, calls, 21)
		back := calls[20] - 2*time.Millisecond // the answer came after one, and an attempt takes another
		assert.True(t, back == 10*time.Second || back == 10*time.Second+5*time.Millisecond, "one of two was first: %v", back)
	})
}

// A status that is about one request, and a wait beyond MaxRetryAfter, do not
// pause everybody, or not for that long.
func TestWhatPausesTheGate(t *testing.T) {
	for _, c := range []struct {
		err  error
		want time.Duration
	}{
		{&retry.StatusError{StatusCode: 429, RetryAfter: time.Minute}, time.Minute},
		{&retry.StatusError{StatusCode: 503, RetryAfter: time.Minute}, time.Minute},
		{&retry.StatusError{StatusCode: 403, RetryAfter: time.Minute}, time.Minute},
		{&retry.StatusError{StatusCode: 500, RetryAfter: time.Minute}, 0},
		{&retry.StatusError{StatusCode: 429}, 0},
		{retry.RetryAfter(errDown, time.Minute), time.Minute},
		{retry.RetryAfter(errDown, 24*time.Hour), time.Hour},
		{errDown, 0},
	} {
		clock := clockwork.NewFakeClock()
		cfg := retry.Config{Clock: clock, Gate: retry.NewGate(clock), MaxRetries: retry.NoRetries}
		fn, _ := script(c.err)
		assert.Error(t, retry.Run(t.Context(), cfg, fn))
		until, paused := cfg.Gate.PausedUntil()
		assert.Equal(t, c.want > 0, paused)
		if paused {
			assert.Equal(t, c.want, until.Sub(clock.Now()))
		}
	}
}

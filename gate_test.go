package retry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
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

// crowd has n callers wait at the gate, and returns when each was let through.
func crowd(t *testing.T, gate *retry.Gate, n int) []time.Duration {
	start := time.Now()
	var mu sync.Mutex
	var passed []time.Duration
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			require.NoError(t, gate.Wait(t.Context()))
			mu.Lock()
			defer mu.Unlock()
			passed = append(passed, time.Since(start))
		})
	}
	wg.Wait()
	return passed
}

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
	var received []time.Duration
	start := clock.Now()
	g.OnPause(func(until time.Time) {
		received = append(received, until.Sub(start))
		g.Pause(until.Sub(clock.Now())) // as another process would send it back
	})
	g.Pause(0)
	g.Pause(-time.Hour)
	_, paused := g.PausedUntil()
	assert.False(t, paused)
	g.Pause(time.Minute)
	g.Pause(time.Second)
	until, _ := g.PausedUntil()
	assert.Equal(t, start.Add(time.Minute), until)
	g.Pause(time.Minute)
	g.Pause(2 * time.Minute)
	assert.Equal(t, []time.Duration{time.Minute, 2 * time.Minute}, received)
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

func TestCancelledWaitersLeaveNoHole(t *testing.T) {
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
		assert.Equal(t, end.Add(5*time.Millisecond), passed[4].at)
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
// moved all those behind it. Ten times as many take ten times as long, and would take a
// hundred times then; the best of several tries counts, since the machine may be busy with
// other things.
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
	var few, many time.Duration
	for range 10 {
		if few, many = leave(1_000), leave(10_000); many <= 40*few {
			return
		}
	}
	t.Errorf("1,000 took %v, 10,000 %v", few, many)
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

// A status that is about one request, and a wait beyond MaxRetryAfter, do not
// pause all calls, or not for that long.
func TestWhatPausesTheGate(t *testing.T) {
	for _, c := range []struct {
		err  error
		want time.Duration
	}{
		{&retry.StatusError{StatusCode: 429, RetryAfter: time.Minute}, time.Minute},
		{&retry.StatusError{StatusCode: 503, RetryAfter: time.Minute}, time.Minute},
		{&retry.StatusError{StatusCode: 403, RetryAfter: time.Minute}, time.Minute},
		{&retry.StatusError{StatusCode: 500, RetryAfter: time.Minute}, 0},
		{&retry.StatusError{StatusCode: 429}, 0}, // there is no backoff: it is not retried
		{&retry.StatusError{StatusCode: 503}, 0},
		{&retry.StatusError{StatusCode: 403}, 0},
		{retry.RetryAfter(errDown, time.Minute), time.Minute},
		{retry.RetryAfter(errDown, 24*time.Hour), time.Hour},
		{errDown, 0},
	} {
		clock := clockwork.NewFakeClock()
		cfg := retry.Config{Clock: clock, Gate: retry.NewGate(clock), MaxRetries: retry.NoRetries, Jitter: retry.NoJitter}
		fn, _ := script(c.err)
		assert.Error(t, retry.Run(t.Context(), cfg, fn))
		until, paused := cfg.Gate.PausedUntil()
		assert.Equal(t, c.want > 0, paused)
		if paused {
			assert.Equal(t, c.want, until.Sub(clock.Now()))
		}
	}
}

// Whatever the pace is, the first waiter goes at the very end of a pause, also of
// one that comes from another process, and the others one turn after the other.
func TestGatePauseEndsForTheFirstAtOnce(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 11))
			gate := retry.NewGate(nil)
			cfg := retry.Config{Gate: gate, MaxRetries: retry.NoRetries}
			for range 15 {
				d := time.Duration(1 + random.Int64N(int64(3*time.Second)))
				if random.IntN(2) == 0 {
					gate.Pause(d)
				} else {
					_ = retry.Run(t.Context(), cfg, func(context.Context) error { return retry.RetryAfter(errDown, d) })
				}
				until, paused := gate.PausedUntil()
				require.True(t, paused)
				left := time.Until(until)
				passed := crowd(t, gate, 1+random.IntN(5))
				require.Equal(t, left, passed[0])
				for i, at := range passed[1:] {
					require.GreaterOrEqual(t, at-passed[i], 5*time.Millisecond)
				}
				if random.IntN(3) == 0 {
					time.Sleep(time.Duration(random.Int64N(int64(5 * time.Second))))
				}
			}
		})
	}
}

// A crowd of thousands goes 5ms apart for five seconds, and then ever faster; one that
// was held up by a stall of the process does not make up for it.
func TestGateGoesFasterAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := retry.NewGate(nil)
		gate.Pause(time.Second)
		c := queueing{gate: gate}
		for who := range 5000 {
			c.join(t, who, t.Context())
		}
		time.Sleep(time.Minute)
		passed := c.result()
		require.Len(t, passed, 5000)
		for i, p := range passed {
			require.Equal(t, i, p.who, "in the order in which they came")
		}
		assert.Equal(t, 999*5*time.Millisecond, passed[999].at.Sub(passed[0].at))
		assert.InDelta(t, 11, passed[4999].at.Sub(passed[0].at).Seconds(), 1, "it would be 25s")
	})
}

// The rate that a server was seen to accept is kept, for as long as there is more
// demand: before, a pause was followed by 200 calls a second, and the next pause. How many
// are refused until there is a pace depends on the order of those in flight: of 3,000 runs
// half took 41 or fewer, and the worst 77. A probe of more doubles the pace for a moment, so
// that the pace is read a hundred times: one reading was 83 once in 400 runs.
func TestGateKeepsBelowTheLimit(t *testing.T) {
	var all, accepted []int
	var medians []float64
	for range 25 {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			excess, last, refused, done := 0.0, time.Now(), 0, 0
			server := func(context.Context) error { // 50 a second, and 10 at once
				mu.Lock()
				defer mu.Unlock()
				now := time.Now()
				excess = max(0, excess-50*now.Sub(last).Seconds())
				last = now
				if excess > 10 {
					refused++
					return retry.RetryAfter(errDown, time.Second)
				}
				excess++
				done++
				return nil
			}
			cfg := retry.Config{Gate: retry.NewGate(nil), MaxRetries: retry.Unlimited}
			end := time.Now().Add(30 * time.Second)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for time.Now().Before(end) {
						assert.NoError(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error {
							time.Sleep(time.Millisecond)
							return server(ctx)
						}))
					}
				})
			}
			time.Sleep(10 * time.Second)
			var paces []float64
			for range 100 {
				time.Sleep(100 * time.Millisecond)
				pace, paced := cfg.Gate.Pace()
				require.True(t, paced)
				paces = append(paces, pace)
			}
			slices.Sort(paces)
			assert.GreaterOrEqual(t, paces[50], 18.0, "%v", paces)
			assert.LessOrEqual(t, paces[50], 55.0, "%v", paces)
			assert.LessOrEqual(t, paces[90], 70.0, "a probe of more is short: %v", paces)
			medians = append(medians, paces[50])
			wg.Wait()
			all = append(all, refused)
			assert.GreaterOrEqual(t, done, 600, "of 1500: what is lost depends on the order of those in flight")
			accepted = append(accepted, done)
			time.Sleep(time.Minute) // no call has to wait any more
			require.NoError(t, cfg.Gate.Wait(t.Context()))
			_, paced := cfg.Gate.Pace()
			assert.False(t, paced)
		})
	}
	slices.Sort(accepted)
	assert.GreaterOrEqual(t, accepted[1], 700, "of 1500: %v", accepted)
	assert.GreaterOrEqual(t, accepted[12], 1400, "of 1500: %v", accepted)
	slices.Sort(medians)
	assert.InDelta(t, 50, medians[12], 4, "%v", medians)
	slices.Sort(all)
	assert.LessOrEqual(t, all[12], 50, "those in flight at first, and a few: %v", all)
	assert.LessOrEqual(t, all[24], 100, "%v", all)
}

// Waiters that come, leave and are paused from everywhere.
func TestGateStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := retry.NewGate(nil)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				for range 200 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
					_ = g.Wait(ctx)
					cancel()
					if i%8 == 0 {
						g.Pause(time.Millisecond)
					}
					g.Pace()
					g.PausedUntil()
				}
			})
		}
		wg.Wait()
		assert.NoError(t, g.Wait(t.Context()))
	})
}

// gated answers the calls of a client, and lets a test say when each comes back.
type gated struct{ cfg retry.Config }

// send begins a call whose first attempt returns what is sent to the channel.
func (s *gated) send(t *testing.T) chan<- error {
	answer := make(chan error)
	go func() {
		first := true
		_ = retry.Run(t.Context(), s.cfg, func(context.Context) error { // ends with the test, if it waits
			if first {
				first = false
				return <-answer
			}
			return nil
		})
	}()
	synctest.Wait()
	return answer
}

func (s *gated) paused() bool {
	synctest.Wait()
	_, paused := s.cfg.Gate.PausedUntil()
	return paused
}

func refusal(d time.Duration) error { return &retry.StatusError{StatusCode: 429, RetryAfter: d} }

// One refusal used to pause all calls to the host, whatever became of the others: at
// a server that refuses one call in a hundred by chance, that was half of the time.
func TestGatePausesByEvidence(t *testing.T) {
	after := func(t *testing.T, accepted, refused int) *gated {
		s := &gated{cfg: exact}
		s.cfg.Gate = retry.NewGate(nil)
		for range accepted {
			s.send(t) <- nil
		}
		for range refused {
			s.send(t) <- refusal(time.Minute)
			synctest.Wait()
		}
		return s
	}
	for _, c := range []struct {
		accepted, refused int
		paused            bool
	}{{0, 1, true}, {100, 1, false}, {100, 2, true}, {3, 1, false}, {1, 2, true}} {
		synctest.Test(t, func(t *testing.T) {
			s := after(t, c.accepted, c.refused)
			assert.Equal(t, c.paused, s.paused(), "%d accepted, then %d refused", c.accepted, c.refused)
		})
	}
	t.Run("a call that was sent after the refused one is accepted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := after(t, 0, 0)
			before, refused, behind := s.send(t), s.send(t), s.send(t)
			refused <- refusal(time.Minute)
			assert.True(t, s.paused())
			before <- nil
			assert.True(t, s.paused(), "it was sent earlier, and says nothing")
			start, passed := time.Now(), make(chan time.Duration, 1)
			go func() {
				assert.NoError(t, s.cfg.Gate.Wait(t.Context()))
				passed <- time.Since(start)
			}()
			synctest.Wait()
			behind <- nil
			assert.False(t, s.paused())
			assert.Zero(t, <-passed, "the pause is over at once")
		})
	})
	t.Run("a call that was sent after the refused one is refused, too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := after(t, 0, 0)
			first, second := s.send(t), s.send(t)
			first <- refusal(time.Second)
			second <- refusal(time.Minute)
			time.Sleep(30 * time.Second)
			assert.True(t, s.paused(), "the longest counts")
		})
	})
	t.Run("an answer that is an error of the request is no refusal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := after(t, 0, 0)
			refused := s.send(t)
			behind := make(chan error)
			go func() {
				err := retry.Run(t.Context(), s.cfg, func(context.Context) error { return <-behind })
				assert.Error(t, err)
			}()
			synctest.Wait()
			refused <- refusal(time.Minute)
			assert.True(t, s.paused())
			behind <- &retry.StatusError{StatusCode: 404}
			assert.False(t, s.paused())
		})
	})
	t.Run("Pause stands", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := after(t, 0, 0)
			refused, behind := s.send(t), s.send(t)
			s.cfg.Gate.Pause(10 * time.Second)
			refused <- refusal(time.Minute)
			behind <- nil
			synctest.Wait()
			until, paused := s.cfg.Gate.PausedUntil()
			assert.True(t, paused)
			assert.Equal(t, 10*time.Second, time.Until(until), "to its end, and not longer")
		})
	})
	t.Run("Refused yields to the gate's own calls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := after(t, 0, 0)
			s.cfg.Gate.Refused(0)
			assert.False(t, s.paused())
			under := s.send(t)
			s.cfg.Gate.Refused(time.Minute)
			assert.True(t, s.paused())
			under <- nil
			assert.False(t, s.paused(), "one was under way, and is accepted")
			s = after(t, 100, 0)
			synctest.Wait()
			s.cfg.Gate.Refused(time.Minute)
			assert.True(t, s.paused(), "nothing is under way")
		})
	})
}

// A refusal without a hint paused no call but its own: of 5,000 jobs of 1,000 workers
// 915 were lost, as each tried again by its own backoff.
func TestGateWithoutAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := exact
		cfg.Gate, cfg.InitialDelay = retry.NewGate(nil), 7*time.Second
		start, calls := time.Now(), 0
		refused := func(context.Context) error {
			if calls++; calls > 1 {
				return nil
			}
			return &retry.StatusError{StatusCode: 503}
		}
		done := make(chan error)
		go func() { done <- retry.Run(t.Context(), cfg, refused) }()
		synctest.Wait()
		until, paused := cfg.Gate.PausedUntil()
		assert.True(t, paused)
		assert.Equal(t, start.Add(7*time.Second), until)
		assert.NoError(t, <-done)
		assert.Equal(t, 7*time.Second, time.Since(start))
	})
}

// Two gates that pass each pause on to the other, each with the time that is left by
// a clock that moves on meanwhile: what came back was always a little longer, and
// went to and fro until the stack overflowed.
func TestGatesJoinedByTheirHooks(t *testing.T) {
	for name, pass := range map[string]func(*retry.Gate, time.Duration){"Pause": (*retry.Gate).Pause, "Refused": (*retry.Gate).Refused} {
		for _, delay := range []time.Duration{0, time.Microsecond, 20 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				a, b := retry.NewGate(nil), retry.NewGate(nil)
				reported := 0
				join := func(from, to *retry.Gate) {
					from.OnPause(func(until time.Time) {
						left := time.Until(until)
						reported++
						time.Sleep(delay)
						pass(to, left)
					})
				}
				join(a, b)
				join(b, a)
				pass(a, time.Second)
				assert.Equal(t, 2, reported, "%s, %v", name, delay)
				until, paused := b.PausedUntil()
				assert.True(t, paused)
				assert.LessOrEqual(t, time.Until(until), time.Second+2*delay)
				time.Sleep(2 * time.Second)
				_, paused = a.PausedUntil()
				assert.False(t, paused)
			})
		}
	}
}

// What the gate does, and why, can be seen.
func TestGateSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg := retry.Config{Gate: retry.NewGate(nil), MaxRetries: retry.Unlimited, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		assert.Equal(t, retry.GateSnapshot{}, cfg.Gate.Snapshot())
		var mu sync.Mutex // guards next
		next := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 20 {
					assert.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error {
						mu.Lock()
						defer mu.Unlock()
						if now := time.Now(); now.Before(next) {
							return &retry.StatusError{StatusCode: 429, RetryAfter: 100 * time.Millisecond, Body: []byte("secret")}
						}
						next = time.Now().Add(20 * time.Millisecond)
						return nil
					}))
				}
			})
		}
		time.Sleep(4 * time.Second)
		s := cfg.Gate.Snapshot()
		assert.InDelta(t, 50, s.PacePerSecond, 35) // which of the calls is refused is by chance
		assert.Positive(t, s.Waiting)
		assert.Regexp(t, `^\d+ of \d+ refused in [\d.]+m?s$`, s.Cause)
		var status *retry.StatusError
		require.ErrorAs(t, s.LastRefusal, &status)
		assert.Empty(t, status.Body)
		wg.Wait()
		assert.Regexp(t, `pacing at [\d.]+/s: \d+ of \d+ refused in `, log.String())
	})
}

// A pace that is raised by probes, or that no call needs any more, ended without a line
// in the log: what had slowed calls down was still in force for all that it said.
func TestEndOfPaceIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg := retry.Config{Gate: retry.NewGate(nil), MaxRetries: retry.Unlimited, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		var mu sync.Mutex // guards next
		next, apart := time.Now(), 20*time.Millisecond
		call := func() {
			assert.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				if now := time.Now(); now.Before(next) {
					return &retry.StatusError{StatusCode: 429, RetryAfter: 100 * time.Millisecond}
				}
				next = time.Now().Add(apart)
				return nil
			}))
		}
		crowd := func(calls int) {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for range calls {
						call()
					}
				})
			}
			wg.Wait()
		}
		crowd(20)
		apart = 0 // the server sustains any rate by now
		crowd(200)
		lines := regexp.MustCompile(`msg="(pacing at|no pace).*?"`).FindAllString(log.String(), -1)
		require.Greater(t, len(lines), 1)
		assert.Regexp(t, `pacing at [\d.]+/s: \d+ of \d+ refused in `, lines[0])
		assert.Regexp(t, `pacing at [\d.e+]+/s: the server accepts more than [\d.e+]+/s`, lines[len(lines)-1])

		log.Reset()
		for range 3 {
			time.Sleep(time.Minute)
			call()
		}
		_, paced := cfg.Gate.Pace()
		assert.False(t, paced)
		assert.Equal(t, 1, strings.Count(log.String(), `msg="no pace: no call has to wait for it any more"`), log.String())
	})
}

// A success never makes a call wait, whatever its headers say of a quota: a response
// that said "none left, and none for 50 minutes" made the next call wait so long.
func TestGateAfterASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			h := http.Header{}
			h.Set("X-RateLimit-Limit", "5000")
			h.Set("X-RateLimit-Remaining", "0")
			h.Set("X-RateLimit-Reset", "3000")
			h.Set("RateLimit", `"default";r=0;t=3000`)
			return &http.Response{StatusCode: 200, Header: h, Body: http.NoBody, Request: req}, nil
		})
		client, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{})
		require.NoError(t, err)
		start := time.Now()
		for range 20 {
			resp, err := client.Get(t.Context(), "http://api.test/")
			require.NoError(t, err)
			resp.Body.Close()
		}
		assert.Zero(t, time.Since(start))
	})
}

// Five callers of an endpoint that takes a call a second came first, so that nearly all
// the calls that the gate knew of had been refused. It paused the host for all, second
// after second, which kept away the calls to other endpoints that would have been
// accepted; then it took what was left for a limit of the host, and held it: 18s in the
// median, and up to 85s, for work of 12s. A call that is refused again is no evidence for a
// pace since: of 3,000 seeds none took more than 21s.
func TestGateOfAHostWithOneLimitedEndpoint(t *testing.T) {
	var all []time.Duration
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			var next time.Time
			client, err := retry.NewRetryableClient(&http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				mu.Lock()
				took := time.Duration(random.Int64N(int64(3 * time.Millisecond)))
				mu.Unlock()
				time.Sleep(took)
				mu.Lock()
				defer mu.Unlock()
				status, header := http.StatusOK, http.Header{}
				if now := time.Now(); req.URL.Path == "/limited" && now.Before(next) {
					status = http.StatusTooManyRequests
					header.Set("Retry-After", "1")
				} else if req.URL.Path == "/limited" {
					next = now.Add(time.Second)
				}
				return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: req}, nil
			})}, retry.Config{MaxRetries: 50, InitialDelay: 10 * time.Millisecond})
			require.NoError(t, err)
			get := func(url string) {
				resp, err := client.Get(t.Context(), url)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
			}
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					get("http://example.org/limited")
					get("http://example.org/limited")
				})
			}
			time.Sleep(100 * time.Millisecond)
			start := time.Now()
			for range 1000 {
				get("http://example.org/other")
				time.Sleep(10 * time.Millisecond)
			}
			all = append(all, time.Since(start))
			wg.Wait()
		})
	}
	slices.Sort(all) // it takes 11.5s without a gate
	assert.Less(t, all[len(all)/2], 15*time.Second, "%v", all)
	assert.Less(t, all[len(all)-1], 23*time.Second, "%v", all)
}

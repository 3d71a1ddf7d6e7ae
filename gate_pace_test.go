package retry_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// A crowd that is paused again and again is let through more and more slowly;
// after a while without a pause that is forgotten, though nobody came meanwhile:
// yesterday's rate limit must not slow down today's work.
func TestGatePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := retry.NewGate(nil)
		last := func(passed []time.Duration) time.Duration { return passed[len(passed)-1] - passed[0] }

		gate.Pause(time.Second)
		first := crowd(t, gate, 3)
		assert.Equal(t, time.Second, first[0])
		assert.Equal(t, 10*time.Millisecond, last(first))

		gate.Pause(time.Second)
		assert.Greater(t, last(crowd(t, gate, 3)), 18*time.Millisecond, "twice as slow")

		time.Sleep(10 * time.Minute)
		synctest.Wait()
		assert.Zero(t, last(crowd(t, gate, 3)))
		gate.Pause(time.Second)
		assert.Equal(t, 10*time.Millisecond, last(crowd(t, gate, 3)))
	})
}

// However often it is told to, the gate never lets less than one a second
// through.
func TestGatePace_Slowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := retry.NewGate(nil)
		for range 20 {
			gate.Pause(time.Second)
			crowd(t, gate, 2)
		}
		gate.Pause(time.Second)
		passed := crowd(t, gate, 3)
		assert.LessOrEqual(t, passed[2]-passed[0], 2*time.Second)
		assert.Greater(t, passed[2]-passed[0], 1900*time.Millisecond)

		// And a caller who has no time to wait is told so at once.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		gate.Pause(time.Second)
		assert.ErrorIs(t, gate.Wait(ctx), retry.ErrDeadline)
	})
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

// A crowd that waited for the end of a pause, and those who come back meanwhile:
// once the crowd is through without a refusal, the others go faster at once.
func TestGateGoesFasterWhenTheCrowdIsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := retry.NewGate(nil)
		gate.Pause(time.Second)
		c := queueing{gate: gate}
		for who := range 800 {
			c.join(t, who, t.Context())
		}
		time.Sleep(1500 * time.Millisecond)
		for who := range 400 {
			c.join(t, 800+who, t.Context())
		}
		time.Sleep(time.Minute)
		passed := c.result()
		require.Len(t, passed, 1200)
		for i, p := range passed {
			require.Equal(t, i, p.who, "nobody overtakes")
		}
		assert.Equal(t, 799*5*time.Millisecond, passed[799].at.Sub(passed[0].at))
		assert.Less(t, passed[1199].at.Sub(passed[800].at), 1600*time.Millisecond, "400 at 5ms took 2s")
	})
}

// A bucket of 20 that fills at 100 a second, whose refusals come at once, and whose
// answers to those it accepts take 50ms, but for the first three. The second refusal tells its rate: those
// who were accepted and had no answer yet when the first came are of the burst too.
// They were left out, and it took eight pauses.
func TestGatePaceCountsLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		level, at := 20.0, time.Now()
		var accepted atomic.Int64
		accepts := func() bool {
			mu.Lock()
			defer mu.Unlock()
			level, at = min(20, level+100*time.Since(at).Seconds()), time.Now()
			if level < 1 {
				return false
			}
			level--
			return true
		}
		cfg := retry.Config{Gate: retry.NewGate(nil), MaxRetries: retry.Unlimited, MaxElapsed: time.Minute}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for ctx.Err() == nil {
					_ = retry.Run(ctx, cfg, func(context.Context) error {
						if !accepts() {
							time.Sleep(time.Millisecond)
							return retry.RetryAfter(errDown, time.Second)
						}
						if accepted.Add(1) > 3 {
							time.Sleep(50 * time.Millisecond)
						}
						return nil
					})
				}
			})
		}
		time.Sleep(4 * time.Second)
		perSecond, paced := cfg.Gate.Pace()
		assert.True(t, paced)
		assert.InDelta(t, 96, perSecond, 4)
		cancel()
		wg.Wait()
	})
}

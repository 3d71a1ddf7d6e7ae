package retry_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// Whatever happens at a gate, on a clock that also jumps: the pace is a number
// within its limits, never above what was let through before a refusal, and
// nobody waits longer than the pause and a turn if nobody is ahead.
func TestGatePaceProperties(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 16))
		wall := &wallClock{FakeClock: clockwork.NewFakeClock()}
		g := retry.NewGate(wall)
		cfg := retry.Config{Clock: wall, Gate: g, MaxRetries: retry.NoRetries}
		for range 300 {
			before, pacedBefore := g.Pace()
			switch random.IntN(6) {
			case 0:
				d := time.Duration(1 + random.Int64N(int64(5*time.Second)))
				failed := retry.RetryAfter(errDown, d)
				if _, paused := g.PausedUntil(); !paused && !pacedBefore {
					_ = retry.Run(t.Context(), cfg, func(context.Context) error { return failed })
				} else {
					g.Pause(d)
				}
				after, paced := g.Pace()
				require.True(t, paced)
				if pacedBefore {
					require.LessOrEqual(t, after, before*1.000001, "a refusal never raises it")
				}
			case 1:
				wall.step(-time.Duration(random.Int64N(int64(time.Hour))))
			case 2:
				wall.step(time.Duration(random.Int64N(int64(time.Minute))))
			default:
				wall.Advance(time.Duration(random.Int64N(int64(time.Second))))
				ctx, cancel := context.WithDeadline(t.Context(), wall.Now())
				err := g.Wait(ctx) // passes at once, or not at all
				require.True(t, err == nil || errors.Is(err, retry.ErrDeadline) || errors.Is(err, context.DeadlineExceeded))
				cancel()
			}
			perSecond, paced := g.Pace()
			require.Equal(t, paced, perSecond > 0)
			if paced {
				require.GreaterOrEqual(t, perSecond, 1.0/3700)
				require.LessOrEqual(t, perSecond, 1e6)
			}
		}
	}
}

// The rate that a server was seen to accept is kept, for as long as there is more
// demand: before, a pause was followed by 200 calls a second, and the next pause.
func TestGateKeepsBelowTheLimit(t *testing.T) {
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
		time.Sleep(15 * time.Second)
		pace, paced := cfg.Gate.Pace()
		assert.True(t, paced)
		assert.InDelta(t, 50, pace, 6)
		wg.Wait()
		assert.LessOrEqual(t, refused, 30, "those in flight at first, and a few")
		assert.GreaterOrEqual(t, done, 1000, "of 1500: what is lost depends on the order of those in flight")
		time.Sleep(time.Minute) // nobody has to wait any more
		require.NoError(t, cfg.Gate.Wait(t.Context()))
		_, paced = cfg.Gate.Pace()
		assert.False(t, paced)
	})
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

package retry_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
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

// A thousand goroutines come at once, over and over, and the probes never
// outnumber their places.
func TestStressAtTheHalfOpenEdge(t *testing.T) {
	const probes = 3
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.HalfOpenProbes, c.SuccessThreshold, c.ProbeTimeout = probes, 1<<30, time.Hour
	})
	var inFlight, most atomic.Int64
	b.Trip(time.Second)
	clock.Advance(time.Second)
	rush(1000, func() bool {
		for range 20 {
			_ = b.Do(context.Background(), func(context.Context) error {
				n := inFlight.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				runtime.Gosched()
				inFlight.Add(-1)
				return []error{nil, context.Canceled}[n%2]
			})
		}
		return true
	})
	assert.LessOrEqual(t, most.Load(), int64(probes))
	s := b.Snapshot()
	assert.Equal(t, 20_000, s.Requests+s.Rejections)
	for range probes { // all places are free again
		permit(t, b)
	}
	refused(t, b)
}

// The counts of a breaker under fire add up, whatever it counts by.
func TestStressCountsAddUp(t *testing.T) {
	for name, change := range map[string]func(*retry.BreakerConfig){
		"count":  func(c *retry.BreakerConfig) { c.FailureThreshold = 1 << 30 },
		"window": func(c *retry.BreakerConfig) { c.FailureThreshold, c.FailureRate, c.MinCalls = -1, 1, 1<<30 },
		"slow":   func(c *retry.BreakerConfig) { slowCalls(c); c.FailureThreshold = 1 << 30 },
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newBreaker(t, change)
			stop := make(chan struct{})
			var reader sync.WaitGroup
			reader.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						s := b.Snapshot()
						assert.GreaterOrEqual(t, s.Requests, s.Successes+s.Failures)
					}
				}
			})
			rush(100, func() bool {
				for n := range 100 {
					_ = b.Do(context.Background(), func(context.Context) error {
						return []error{nil, nil, errDown, context.Canceled}[n%4]
					})
				}
				return true
			})
			close(stop)
			reader.Wait()
			s := b.Snapshot()
			assert.Equal(t, 10_000, s.Requests)
			assert.Equal(t, 5_000, s.Successes)
			assert.Equal(t, 2_500, s.Failures)
		})
	}
}

// A hundred goroutines share one of everything, and are cancelled at random.
func TestStressSharedByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := clockwork.NewFakeClock()
		b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock, c.HalfOpenProbes, c.FailureThreshold = clock, 2, 4 })
		var retries, ends, attempts, first atomic.Int64
		cfg := retry.Config{
			Clock: clock, Gate: retry.NewGate(clock), Breaker: b, WaitWhenOpen: true, Budget: budget(t, 0.5, 3),
			AttemptTimeout: 2 * time.Second, MaxElapsed: time.Hour,
			OnRetry: func(context.Context, retry.Event) { retries.Add(1) },
			OnDone:  func(context.Context, retry.Event) { ends.Add(1) },
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for range 10 {
					ctx, cancel := context.WithCancel(context.Background())
					if rand.IntN(2) == 0 {
						clock.AfterFunc(time.Duration(rand.Int64N(int64(5*time.Second))), cancel)
					}
					err := retry.Run(ctx, cfg, func(ctx context.Context) error {
						attempts.Add(1)
						if retry.RetryCount(ctx) == 0 {
							first.Add(1)
						}
						return shaky(ctx, clock)
					})
					var e *retry.Error
					if err != nil && !errors.As(err, &e) {
						assert.ErrorIs(t, err, context.Canceled)
					}
					cancel()
				}
			})
		}
		finished := make(chan struct{})
		go func() { wg.Wait(); close(finished) }()
		for running := true; running; {
			synctest.Wait()
			select {
			case <-finished:
				running = false
			default:
				clock.Advance(50 * time.Millisecond)
			}
		}
		clock.Advance(time.Hour) // also the cancels that came too late
		synctest.Wait()
		assert.EqualValues(t, 1000, ends.Load())
		assert.LessOrEqual(t, attempts.Load()-first.Load(), retries.Load())
		assert.LessOrEqual(t, float64(attempts.Load()), 1.5*1000+3)
		assert.False(t, hasWaiters(clock), "a timer is left")
		_, paused := cfg.Gate.PausedUntil()
		assert.False(t, paused)
		b.Trip(1)
		clock.Advance(1)
		permit(t, b)
		permit(t, b)
		refused(t, b)
		require.NoError(t, cfg.Gate.Wait(context.Background()))
	}) // the bubble's end finds any goroutine that is left
}

// shaky does what dependencies do.
func shaky(ctx context.Context, clock *clockwork.FakeClock) error {
	switch rand.IntN(8) {
	case 0:
		return errDown
	case 1:
		return retry.RetryAfter(errDown, time.Duration(rand.Int64N(int64(time.Second))))
	case 2: // hangs
		<-ctx.Done()
		return ctx.Err()
	case 3, 4: // is slow
		select {
		case <-clock.After(time.Duration(rand.Int64N(int64(time.Second)))):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

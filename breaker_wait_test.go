package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A breaker that is shared by the tests of a package killed the process: a
// channel that was made inside one testing/synctest bubble was closed inside the
// next.
func TestBreakerSharedByBubbles(t *testing.T) {
	for name, prepare := range map[string]func(b *retry.CircuitBreaker) func(){
		"open":   func(b *retry.CircuitBreaker) func() { b.Trip(time.Hour); return func() {} },
		"forced": func(b *retry.CircuitBreaker) func() { b.ForceOpen(); return func() {} },
		"half-open": func(b *retry.CircuitBreaker) func() {
			b.Trip(time.Second)
			time.Sleep(time.Second)
			p, _ := b.Allow()
			return func() { p.Done(context.Canceled) }
		},
	} {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Hour})
		require.NoError(t, err)
		cfg := retry.Config{Breaker: b, WaitWhenOpen: true, MaxElapsed: 100 * time.Hour}
		var release func()
		bubble(t, name+", one gives up", func(t *testing.T) {
			release = prepare(b)
			ctx, cancel := context.WithCancel(t.Context())
			finished := make(chan error)
			go func() { finished <- retry.Run(ctx, cfg, none) }()
			synctest.Wait()
			cancel()
			assert.ErrorIs(t, <-finished, context.Canceled)
		})
		bubble(t, name+", the next wakes all", func(t *testing.T) {
			release()
			b.Reset()
			assert.NoError(t, retry.Run(t.Context(), cfg, none))
			b.OnStateChange(func(retry.StateChange) {})
			b.Trip(time.Second)
			start := time.Now()
			assert.NoError(t, retry.Run(t.Context(), cfg, none))
			assert.Equal(t, time.Second, time.Since(start))
		})
		bubble(t, name+", and one more", func(t *testing.T) {
			b.Trip(time.Minute)
			finished := make(chan error, 3)
			for range cap(finished) {
				go func() { finished <- retry.Run(t.Context(), cfg, none) }()
			}
			synctest.Wait()
			b.Reset()
			for range cap(finished) {
				assert.NoError(t, <-finished)
			}
		})
	}
}

// Waiters are woken by each thing that may let them pass, none is forgotten, and
// none stays on the list.
func TestEachWaiterIsWoken(t *testing.T) {
	for name, change := range map[string]func(b *retry.CircuitBreaker, probe retry.Permit){
		"probe succeeds":      func(_ *retry.CircuitBreaker, probe retry.Permit) { probe.Done(nil) },
		"probe says nothing":  func(_ *retry.CircuitBreaker, probe retry.Permit) { probe.Done(context.Canceled) },
		"reset":               func(b *retry.CircuitBreaker, _ retry.Permit) { b.Reset() },
		"tripped for a while": func(b *retry.CircuitBreaker, _ retry.Permit) { b.Trip(time.Second) },
	} {
		bubble(t, name, func(t *testing.T) {
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Hour})
			require.NoError(t, err)
			b.Trip(time.Second)
			time.Sleep(time.Second)
			probe := permit(t, b)
			finished := make(chan error, 20)
			for range cap(finished) {
				go func() { finished <- retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, none) }()
			}
			synctest.Wait()
			start := time.Now()
			change(b, probe)
			for range cap(finished) {
				require.NoError(t, <-finished)
			}
			assert.Less(t, time.Since(start), 2*time.Second)
			assert.Equal(t, retry.StateClosed, b.State())
		})
	}
}

// Waiters that give up leave nothing behind.
func TestManyWaitersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
		require.NoError(t, err)
		b.ForceOpen()
		ctx, cancel := context.WithCancel(t.Context())
		const waiters = 2000
		finished := make(chan error, waiters)
		for range waiters {
			go func() { finished <- retry.Run(ctx, retry.Config{Breaker: b, WaitWhenOpen: true}, none) }()
		}
		synctest.Wait()
		cancel()
		for range waiters {
			assert.ErrorIs(t, <-finished, context.Canceled)
		}
		b.Reset()
		assert.NoError(t, b.Do(t.Context(), none))
	})
}

// Those in line count until they have left it.
func TestBreakerWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
		require.NoError(t, err)
		assert.Zero(t, b.Waiting())
		b.Trip(time.Hour)
		assert.ErrorIs(t, retry.Run(t.Context(), retry.Config{Breaker: b}, none), retry.ErrCircuitOpen)
		assert.Zero(t, b.Waiting(), "it did not wait")
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 4 {
			if i == 3 {
				ctx = t.Context()
			}
			go retry.Run(ctx, retry.Config{Breaker: b, WaitWhenOpen: true}, none)
		}
		for range 20 {
			go retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, none)
		}
		synctest.Wait()
		assert.Equal(t, 24, b.Waiting())
		cancel()
		synctest.Wait()
		assert.Equal(t, 21, b.Waiting())
		b.Reset()
		time.Sleep(51 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 10, b.Waiting(), "one goes at once, and one every 5ms")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Zero(t, b.Waiting())
	})
}

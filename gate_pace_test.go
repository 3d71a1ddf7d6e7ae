package retry_test

import (
	"context"
	"sync"
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

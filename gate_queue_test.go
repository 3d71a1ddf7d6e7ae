package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/pace"
)

// A clock without monotonic time is set forward, past the end of the pause. The
// timer of the first in line did not know. All who came later stood behind it, and
// looked every few milliseconds whether it had gone: for a day, if it was a day.
func TestGateOnAClockThatIsSetForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &settableClock{}
		clock.allow(200)
		g := NewGate(clock)
		passed := make(chan time.Duration, 2)
		start := time.Now()
		wait := func() {
			assert.NoError(t, g.Wait(t.Context()))
			passed <- time.Since(start)
		}
		g.Pause(24 * time.Hour)
		go wait()
		synctest.Wait()
		clock.offset.Add(int64(24 * time.Hour))
		time.Sleep(time.Second)
		go wait()
		assert.Equal(t, time.Second, <-passed, "whoever comes wakes the first")
		assert.Equal(t, time.Second+5*time.Millisecond, <-passed)
	})
}

// The first in line is held up by a hook of its own. Those behind it looked at every
// turn whether it had gone.
func TestGateBehindASlowHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &settableClock{}
		clock.allow(4000)
		g := NewGate(clock)
		g.Pause(time.Second)
		slow := Config{Clock: clock, Gate: g, OnWait: func(context.Context, Event) { time.Sleep(time.Hour) }}
		done := make(chan error, 51)
		go func() { done <- Run(t.Context(), slow, func(context.Context) error { return nil }) }()
		synctest.Wait()
		for range 50 {
			go func() { done <- g.Wait(t.Context()) }()
		}
		for range 51 {
			assert.NoError(t, <-done)
		}
	})
}

// Of a thousand calls in flight each refusal makes the pause a little longer. All
// who were in line were told of each: with 20,000 of them that took 15ms.
func TestGateTellsTheLineOfLongerPausesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &settableClock{}
		clock.allow(1e6)
		g := NewGate(clock)
		g.Pause(time.Second)
		done := make(chan error, 100)
		for range cap(done) {
			go func() { done <- g.Wait(t.Context()) }()
		}
		synctest.Wait()
		clock.allow(10_000) // and not 100,000
		for range 1000 {
			time.Sleep(100 * time.Microsecond)
			g.refused(pace.Call{Number: 1, Sent: time.Now()}, 0, time.Second, errors.New("refused"))
			synctest.Wait()
		}
		last := time.Now()
		for range cap(done) {
			assert.NoError(t, <-done)
		}
		assert.Equal(t, time.Second+99*5*time.Millisecond, time.Since(last))
	})
}

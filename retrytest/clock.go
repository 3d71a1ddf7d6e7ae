package retrytest

import (
	"context"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

// Clock is a fake clock on which no call has to wait: a timer with a channel
// (NewTimer, After, Sleep) moves the clock on to its end, at once. What fires by
// calling a function (AfterFunc), such as the timeout of an attempt, does so
// when the clock gets there: because of another's wait, a slow answer of a
// [Script], or Advance.
//
// It begins at the time of day, so that deadlines of contexts are as far away on
// it as they really are. It is safe for concurrent use, but two who wait for a
// second each, side by side, move it on by two; [Bubble] has no such limit.
type Clock struct{ *clockwork.FakeClock }

// NewClock returns a clock. A timer that is left on it at the end of the test
// fails the test.
func NewClock(t testing.TB) *Clock {
	c := &Clock{clockwork.NewFakeClock()}
	t.Cleanup(func() {
		if n := c.timers(); n > 0 {
			t.Errorf("retrytest: timers left on the clock: %d", n)
		}
	})
	return c
}

// timers counts those that have not fired and are not stopped.
func (c *Clock) timers() (n int) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for c.BlockUntilContext(over, n+1) == nil {
		n++
	}
	return n
}

// NewTimer returns a timer that has fired already, d later.
func (c *Clock) NewTimer(d time.Duration) clockwork.Timer {
	timer := c.FakeClock.NewTimer(d)
	c.Advance(max(0, d))
	return &waitTimer{timer, c}
}

// After returns the channel of such a timer.
func (c *Clock) After(d time.Duration) <-chan time.Time { return c.NewTimer(d).Chan() }

// Sleep moves the clock on by d.
func (c *Clock) Sleep(d time.Duration) { c.Advance(max(0, d)) }

type waitTimer struct {
	clockwork.Timer
	clock *Clock
}

func (w *waitTimer) Reset(d time.Duration) bool {
	active := w.Timer.Reset(d)
	w.clock.Advance(max(0, d))
	return active
}

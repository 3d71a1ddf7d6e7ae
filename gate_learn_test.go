package retry

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

var errRefused = errors.New("refused")

// Two limits of one server: the call that was refused first asks for a second, one
// in flight for a minute, which is the pause. It was reckoned with a second: ten
// seconds after the minute the gate had forgotten it, and learned nothing.
func TestGateLearnsByTheLongerPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(nil)
		g.pause(time.Second, errRefused)
		g.pause(time.Minute, errRefused)
		time.Sleep(time.Minute)
		for range 60 {
			time.Sleep(500 * time.Millisecond)
			assert.NoError(t, g.Wait(t.Context()))
		}
		g.pause(time.Minute, errRefused)
		assert.True(t, g.queue.pace.learned, "half a minute later it is held against the last")
	})
}

// A pause from elsewhere is not limited, but what is learned from it is: 24 times
// the longest was a negative time to hold a pace.
func TestGateLearnsFromAnEndlessPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &settableClock{}
		clock.allow(100)
		g := NewGate(clock)
		g.Pause(1 << 62)
		clock.offset.Add(int64(101 * 365 * 24 * time.Hour))
		g.Pause(1 << 62)
		assert.Equal(t, maxPause, g.queue.pace.pause)
	})
}

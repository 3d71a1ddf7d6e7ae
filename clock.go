package retry

import (
	"reflect"
	"time"

	"github.com/jonboulle/clockwork"
)

func now(clock clockwork.Clock) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock.Now()
}

// since is cheaper than two readings of the real clock compared.
func since(clock clockwork.Clock, t time.Time) time.Duration {
	if clock == nil {
		return time.Since(t)
	}
	return clock.Now().Sub(t)
}

// sameClock reports whether two clocks are one; nil is the real one.
func sameClock(clock, other clockwork.Clock) bool {
	if isReal(clock) || isReal(other) {
		return isReal(clock) && isReal(other)
	}
	// A clock of the user's own need not be comparable. Its type alone does not say
	// whether it is: a field may hold anything.
	return reflect.TypeOf(clock) == reflect.TypeOf(other) && (!reflect.ValueOf(clock).Comparable() || clock == other)
}

func isReal(clock clockwork.Clock) bool {
	return clock == nil || reflect.TypeOf(clock) == typeRealClock
}

var typeRealClock = reflect.TypeOf(clockwork.NewRealClock())

// alarm is the one timer of a call, set anew for each of its waits. The zero
// value is ready; it is stopped with stop.
type alarm struct {
	real *time.Timer
	fake clockwork.Timer
}

// set returns a channel that receives after d on the given clock. The wait
// before must be over: received from, or stopped.
func (a *alarm) set(clock clockwork.Clock, d time.Duration) <-chan time.Time {
	switch {
	case clock != nil && a.fake == nil:
		a.fake = clock.NewTimer(d)
	case clock != nil:
		a.fake.Reset(d)
	case a.real == nil:
		a.real = time.NewTimer(d)
	default:
		a.real.Reset(d)
	}
	if clock != nil {
		return a.fake.Chan()
	}
	return a.real.C
}

// stop lets go of the timer; what it may have sent meanwhile is discarded.
func (a *alarm) stop() {
	if a.real != nil {
		a.real.Stop() // since Go 1.23 nothing stale is received afterwards
	}
	if a.fake != nil && !a.fake.Stop() {
		select {
		case <-a.fake.Chan():
		default:
		}
	}
}

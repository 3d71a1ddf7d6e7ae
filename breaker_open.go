package retry

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// openPeriod is what only an open period has. It does not change, but for its cache,
// and when the clock is set back.
type openPeriod struct {
	forced    bool // until Reset
	since     time.Time
	skew      atomic.Int64 // by how much the clock went back behind since
	lasts     time.Duration
	err       error                     // the last failure before
	rejection atomic.Pointer[OpenError] // the newest, given out again while it is true
}

// left is the time until a probe may pass.
func (o *openPeriod) left(clock clockwork.Clock) time.Duration {
	if o.forced {
		return math.MaxInt64
	}
	elapsed := since(clock, o.since)
	if skew := o.skew.Load(); skew != 0 || elapsed < 0 {
		// A clock without monotonic time was set back: then the whole open time
		// is ahead again, and not an hour more.
		if elapsed += time.Duration(skew); elapsed < 0 {
			o.skew.CompareAndSwap(skew, skew-int64(elapsed))
			elapsed = 0
		}
	}
	return o.lasts - elapsed
}

// rejectOpen counts a rejection and returns it. A breaker that only observes
// lets the call pass instead.
func (b *CircuitBreaker) rejectOpen(p *period, left time.Duration) (pass, error) {
	p.requests.Add(1)
	if b.observeOnly {
		return pass{}, nil
	}
	return pass{}, b.rejection(p.open, left)
}

func (b *CircuitBreaker) rejection(o *openPeriod, left time.Duration) error {
	if o.forced {
		left = 0 // not known
	}
	// A busy open breaker rejects thousands of calls a millisecond. They share
	// one error as long as its RetryAfter is nearly right.
	if r := o.rejection.Load(); r != nil && r.RetryAfter >= left && r.RetryAfter-left <= min(left/1024, time.Millisecond) {
		return r
	}
	r := &OpenError{Name: b.name, State: StateOpen, RetryAfter: left, Err: o.err}
	o.rejection.Store(r)
	return r
}

// rejects returns the open period that a call after a wait would still fall
// into, and what is left of it; nil if there is none.
func (b *CircuitBreaker) rejects(wait time.Duration) (p *period, left time.Duration) {
	p = b.period()
	if p.open == nil || b.observeOnly {
		return nil, 0
	}
	if left = p.open.left(b.clock); left > wait {
		return p, left
	}
	return nil, 0
}

// drawStretch draws the factor by which an open time that may begin is lengthened.
// It calls the user's Rand, and so must not be called with b.mu held.
func (b *CircuitBreaker) drawStretch() float64 {
	if b.jitter == 0 {
		return 1
	}
	random := b.rand
	if random == nil {
		random = randomFloat
	}
	return 1 + b.jitter*random()
}

// maxDoublings bring the shortest open time, 1ns, to about the longest.
const maxDoublings = 62

// trip opens the breaker because of a result, for as long as it is due; cause says
// what it was in a few words. b.mu must be held.
func (b *CircuitBreaker) trip(r result, cause string) {
	lasts := b.recovery
	for range b.reopened {
		if lasts >= b.maxRecovery-lasts {
			lasts = b.maxRecovery
			break
		}
		lasts *= 2
	}
	if most := 1 + b.jitter; r.stretch > 1 { // whatever Rand returned
		lasts = max(lasts, saturate(float64(lasts)*min(r.stretch, most)))
	}
	b.transitionToOpen(&openPeriod{since: now(b.clock), lasts: lasts, err: b.last}, cause, r.err)
}

func (b *CircuitBreaker) transitionToOpen(o *openPeriod, cause string, err error) {
	b.transition(&period{open: o}, cause, err, o.since)
}

// ForceOpen rejects all calls until Reset.
func (b *CircuitBreaker) ForceOpen() {
	b.control(func(now time.Time) {
		b.transitionToOpen(&openPeriod{forced: true, since: now, err: b.last}, "forced", nil)
	})
}

// Trip opens the breaker now, for d: because a server said so, or another
// process did. Results of calls in flight are ignored. It never shortens the
// time that a breaker is open; a d of 0 or less does nothing.
func (b *CircuitBreaker) Trip(d time.Duration) {
	if d <= 0 {
		return
	}
	b.control(func(now time.Time) {
		if o := b.current.Load().open; o == nil || o.left(b.clock) < d {
			b.transitionToOpen(&openPeriod{since: now, lasts: d, err: b.last}, "tripped", nil)
		}
	})
}

// Reset closes the breaker, from any state, and forgets all that it counted.
// Results of calls in flight are ignored.
func (b *CircuitBreaker) Reset() {
	b.control(func(now time.Time) {
		b.reopened, b.last = 0, nil
		b.transition(b.closed(), "reset", nil, now)
	})
}

func (b *CircuitBreaker) control(change func(now time.Time)) {
	b.period()
	b.mu.Lock()
	change(now(b.clock))
	b.unlock(context.Background(), nil)
}

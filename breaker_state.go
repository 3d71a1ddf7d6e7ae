package retry

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/clock"
)

// period is the time between two changes of a breaker's state: what is counted
// in it, and, by its address, the generation that results belong to.
type period struct {
	open       *openPeriod // nil unless open
	probes     *probes     // nil unless half-open
	countsOnly bool        // closed, and no call is watched for being slow: to let one pass, and a success, change counts only
	cause      string      // of the change that began it

	requests       atomic.Int64 // let through
	successes      atomic.Int64
	consecutive    atomic.Int64              // failures; successes reset it without the lock
	rejectedBefore int64                     // the breaker's rejections when it began
	rejection      atomic.Pointer[OpenError] // the newest; nil if closed

	failures int64 // the breaker's mu guards these two
	neutrals int64
}

// openPeriod is what only an open period has. Only skew changes.
type openPeriod struct {
	forced   bool // until Reset
	since    time.Time
	duration time.Duration
	skew     atomic.Int64 // by how much the clock was set back behind since
}

func (b *CircuitBreaker) closedPeriod() *period {
	return &period{countsOnly: b.cfg.SlowCallRate == 0}
}

func (p *period) state() State {
	switch {
	case p.open != nil:
		return StateOpen
	case p.probes != nil:
		return StateHalfOpen
	}
	return StateClosed
}

// left is the time until a probe may pass.
func (o *openPeriod) left(on clockwork.Clock) time.Duration {
	if o.forced {
		return math.MaxInt64
	}
	skew := o.skew.Load()
	elapsed := clock.Since(on, o.since) + time.Duration(skew)
	if elapsed < 0 {
		// A clock without monotonic time was set back: then the whole open time
		// is ahead again, and not an hour more.
		o.skew.CompareAndSwap(skew, skew-int64(elapsed))
		elapsed = 0
	}
	return o.duration - elapsed
}

// permit lets one call pass. The zero permit is for a call that is not counted.
type permit struct {
	period  *period
	probe   *probe // nil unless half-open
	watched uint64 // number of a call that is watched for being slow
}

// admit lets a call pass, or rejects it with an [*OpenError]. ctx and cfg are the
// caller's; cfg may be nil.
func (b *CircuitBreaker) admit(ctx context.Context, cfg *Config) (permit, error) {
	p := b.period()
	switch {
	case p.countsOnly:
		p.requests.Add(1)
		return permit{period: p}, nil
	case p.open != nil:
		if left := p.open.left(b.cfg.Clock); left > 0 {
			return permit{}, b.reject(p, left)
		}
	case p.probes != nil && b.isWithinProbe(ctx, p):
		return permit{}, nil
	}
	return b.admitSlow(ctx, cfg)
}

// admitSlow takes the lock, for the breaker may change its state.
func (b *CircuitBreaker) admitSlow(ctx context.Context, cfg *Config) (admitted permit, rejection error) {
	stretch := 1.0
	if b.cfg.SlowCallRate > 0 { // calls in flight that have become slow may open it
		stretch = b.drawStretch()
	}
	delivered := false
	defer func() {
		if !delivered { // a listener panicked, and the call is not made
			b.release(ctx, cfg, admitted)
		}
	}()
	b.mu.Lock()
	admitted, rejection = b.admitLocked(stretch)
	b.unlock(ctx, cfg)
	delivered = true
	return admitted, rejection
}

// admitLocked is admit with b.mu held, and the only way into half-open.
func (b *CircuitBreaker) admitLocked(stretch float64) (permit, error) {
	p := b.current.Load()
	if p.state() == StateClosed {
		id, cause := uint64(0), ""
		if !p.countsOnly { // else it was closed a moment ago
			id, cause = b.window.watch()
		}
		if cause == "" {
			p.requests.Add(1)
			return permit{period: p, watched: id}, nil
		}
		p = b.trip(cause, nil, stretch)
	}
	if p.state() == StateOpen {
		if left := p.open.left(b.cfg.Clock); left > 0 {
			return permit{}, b.reject(p, left)
		}
		p = b.transition(&period{probes: new(probes)}, "recovery time over", nil)
	}
	return b.admitProbe(p)
}

// reject counts a rejection and returns it, nil if the breaker only observes.
func (b *CircuitBreaker) reject(p *period, left time.Duration) error {
	b.rejections.Add(1)
	if b.cfg.ObserveOnly {
		return nil
	}
	return b.rejection(p, left)
}

// rejection returns the error of a rejection. A busy open breaker rejects thousands
// of calls a millisecond: they share one as long as its RetryAfter is nearly right.
func (b *CircuitBreaker) rejection(p *period, left time.Duration) error {
	r := p.rejection.Load()
	if p.open == nil || p.open.forced || r.RetryAfter >= left && r.RetryAfter-left <= min(left/1024, time.Millisecond) {
		return r
	}
	r = &OpenError{Name: r.Name, State: r.State, RetryAfter: left, Err: r.Err}
	p.rejection.Store(r)
	return r
}

// rejectsAfter returns the open period that a call after a wait would still fall
// into, and what is left of it; nil if there is none.
func (b *CircuitBreaker) rejectsAfter(wait time.Duration) (p *period, left time.Duration) {
	p = b.period()
	if p.open == nil || b.cfg.ObserveOnly {
		return nil, 0
	}
	if left = p.open.left(b.cfg.Clock); left > wait {
		return p, left
	}
	return nil, 0
}

// release gives back the permit of a call that is not made.
func (b *CircuitBreaker) release(ctx context.Context, cfg *Config, p permit) {
	b.report(ctx, cfg, p, context.Canceled)
}

// report counts the result of a call. A stale one, whose period is over, changes
// nothing. err is what the call returned, or errAbandoned; ctx and cfg are the caller's.
// It returns what it found in err, by the status codes of cfg.
func (b *CircuitBreaker) report(ctx context.Context, cfg *Config, p permit, err error) (found findings) {
	if err != nil {
		var codes []int
		if cfg != nil {
			codes = cfg.RetryStatusCodes
		}
		found = examine(err, codes)
	}
	switch {
	case p.period == nil || p.period != b.current.Load():
		if p.probe != nil {
			p.probe.over.Store(true)
		}
	case err == nil && p.period.countsOnly:
		b.succeed(p.period)
	default:
		b.settle(ctx, cfg, p, err, found)
	}
	return found
}

// succeed counts a success in a period where it changes counts only.
func (b *CircuitBreaker) succeed(p *period) {
	if b.window == nil {
		p.succeed()
		return
	}
	b.mu.Lock()
	if p == b.current.Load() {
		b.window.advance()
		b.window.bucket().successes++
		p.succeed()
	}
	b.mu.Unlock()
}

// settle judges and counts a result that may change the state.
func (b *CircuitBreaker) settle(ctx context.Context, cfg *Config, p permit, err error, found findings) {
	if p.probe != nil {
		p.probe.over.Store(true)
	}
	r := result{verdict: neutral, stretch: 1}
	defer func() { // also if the user's IsFailure or Rand panics
		b.mu.Lock()
		if p.period == b.current.Load() {
			if p.probe != nil {
				b.settleProbe(p.probe, r)
			} else {
				b.settleClosed(p, r)
			}
		}
		b.unlock(ctx, cfg)
	}()
	if r.verdict = b.judge(ctx, err, found); r.verdict == failure {
		r.err, _ = sanitized(err)
	}
	if r.verdict == failure || b.cfg.SlowCallRate > 0 { // it may open
		r.stretch = b.drawStretch()
	}
}

// result is what a call says about the dependency.
type result struct {
	verdict verdict
	err     error   // a failure's, sanitized
	stretch float64 // if it opens the breaker: the factor of the open time that RecoveryJitter drew
}

// settleClosed counts a result in a closed period. A success opens the breaker
// only by having been slow. b.mu must be held.
func (b *CircuitBreaker) settleClosed(from permit, r result) {
	p, cause := from.period, ""
	if b.window != nil {
		cause = b.window.record(from.watched, r.verdict)
	}
	switch r.verdict {
	case success:
		p.succeed()
	case neutral:
		p.neutrals++
	case failure:
		p.failures++
		b.lastFailure = r.err
		if n := p.consecutive.Add(1); b.cfg.FailureThreshold > 0 && n >= int64(b.cfg.FailureThreshold) {
			cause = count(asInt(n), "failure") + " in a row"
		}
	}
	if cause != "" {
		b.trip(cause, r.err, r.stretch)
	}
}

// succeed counts a success, which ends a run of failures. Most find none to end, and
// do not write.
func (p *period) succeed() {
	p.successes.Add(1)
	if p.consecutive.Load() != 0 {
		p.consecutive.Store(0)
	}
}

// drawStretch draws the factor by which an open time that may begin is lengthened.
// It calls the user's Rand, and so must not be called with b.mu held.
func (b *CircuitBreaker) drawStretch() float64 {
	if b.cfg.RecoveryJitter == 0 {
		return 1
	}
	return 1 + b.cfg.RecoveryJitter*b.cfg.Rand()
}

// trip opens the breaker because of what its calls did, for as long as it is due.
// b.mu must be held.
func (b *CircuitBreaker) trip(cause string, err error, stretch float64) *period {
	d := b.openTime
	if most := 1 + b.cfg.RecoveryJitter; stretch > 1 { // whatever Rand returned
		d = max(d, saturate(float64(d)*min(stretch, most)))
	}
	return b.transition(&period{open: &openPeriod{duration: d}}, cause, err)
}

// ForceOpen rejects all calls until Reset.
func (b *CircuitBreaker) ForceOpen() {
	b.control(func() {
		b.transition(&period{open: &openPeriod{forced: true}}, "forced", nil)
	})
}

// Trip opens the breaker now, for d: because a server said so, or another
// process did. Results of calls in flight are ignored. It never shortens the
// time that a breaker is open; a d of 0 or less does nothing.
func (b *CircuitBreaker) Trip(d time.Duration) {
	if d <= 0 {
		return
	}
	b.control(func() {
		if o := b.current.Load().open; o == nil || o.left(b.cfg.Clock) < d {
			b.transition(&period{open: &openPeriod{duration: d}}, "tripped", nil)
		}
	})
}

// Reset closes the breaker, from any state, and forgets all that it counted.
// Results of calls in flight are ignored.
func (b *CircuitBreaker) Reset() {
	b.control(func() {
		b.lastFailure = nil
		b.transition(b.closedPeriod(), "reset", nil)
	})
}

func (b *CircuitBreaker) control(change func()) {
	b.period()
	b.mu.Lock()
	change()
	b.unlock(context.Background(), nil)
}

// transition ends the current period, and with it the standing of all results
// that are still to come. It is the only writer of the state. b.mu must be held,
// and released by unlock, which delivers the change.
func (b *CircuitBreaker) transition(next *period, cause string, err error) *period {
	ended, at := b.current.Load(), clock.Now(b.cfg.Clock)
	from, to := ended.state(), next.state()
	change := &StateChange{Name: b.cfg.Name, From: from, To: to, Err: err, At: at, Cause: cause}
	next.cause, next.rejectedBefore = cause, b.rejections.Load()
	switch to {
	case StateClosed:
		b.openTime = b.cfg.RecoveryTimeout
		if from == StateClosed { // a reset that changes no more than counts
			next.cause = ended.cause
		}
	case StateOpen:
		next.open.since = at
		if !next.open.forced {
			change.Until = at.Add(next.open.duration)
		}
		fallthrough
	case StateHalfOpen:
		next.rejection.Store(&OpenError{Name: b.cfg.Name, State: to, Err: b.lastFailure})
	}
	if b.window != nil {
		b.window.clear()
	}
	b.current.Store(next)
	if from != to {
		if b.notify == nil {
			b.notify = new(notifier)
		}
		b.notify.changed = change
		if to == StateClosed && b.waiters != nil {
			b.waiters.after.release()
		}
	}
	b.wake()
	return next
}

// State returns the state as of now. An open breaker whose time is over is
// half-open, though it is only the next call that finds it so: reading changes
// nothing.
func (b *CircuitBreaker) State() State {
	p := b.period()
	if p.open != nil && p.open.left(b.cfg.Clock) <= 0 {
		return StateHalfOpen
	}
	return p.state()
}

// Rejections returns how many calls were rejected so far, or would have been, with
// ObserveOnly. Unlike the count in a [Snapshot] it goes on over all changes of
// state.
func (b *CircuitBreaker) Rejections() int64 { return b.rejections.Load() }

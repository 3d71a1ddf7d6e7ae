package retry

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// period is the time between two changes of a breaker's state: what is counted
// in it, and, by its address, the generation that results belong to.
type period struct {
	open             *openPeriod     // nil unless open
	halfOpen         *halfOpenPeriod // nil unless half-open
	cause            string          // of the change that began it
	entersUnlocked   bool            // closed, and no call is watched for being slow: none needs the lock to pass
	succeedsUnlocked bool            // and there are no rates: a success does not need it either
	requests         atomic.Int64    // closed: calls let through; open: calls rejected
	successes        atomic.Int64
	consecutive      atomic.Int64 // failures; reset by successes without the lock

	failures int64 // the breaker's mu guards these two
	neutrals int64
}

func (p *period) state() State {
	switch {
	case p.open != nil:
		return StateOpen
	case p.halfOpen != nil:
		return StateHalfOpen
	}
	return StateClosed
}

// pass is a permit as the breaker itself knows it. A call with a zero pass is let
// through uncounted.
type pass struct {
	period  *period
	probe   *probe // nil unless half-open
	watched uint64 // number of a call that is watched for being slow
}

// result is what a call says about the dependency.
type result struct {
	verdict verdict
	err     error   // a failure's, as it may be kept
	stretch float64 // if it opens the breaker: the factor of the open time that RecoveryJitter drew
}

// passing returns the period under way if calls pass it without the lock and a
// look at the clock. It is short enough to be inlined.
func (b *CircuitBreaker) passing() *period {
	if p := b.current.Load(); p != nil && p.entersUnlocked {
		return p
	}
	return nil
}

// enter lets a call pass, or rejects it with an *OpenError. ctx and cfg are the
// caller's; cfg may be nil.
func (b *CircuitBreaker) enter(ctx context.Context, cfg *Config) (pass, error) {
	p := b.period()
	if p.entersUnlocked {
		p.requests.Add(1)
		return pass{period: p}, nil
	}
	if p.open != nil {
		if left := p.open.left(b.clock); left > 0 {
			return b.rejectOpen(p, left)
		}
	}
	if p.halfOpen != nil && b.within(ctx, p) {
		return pass{}, nil
	}
	return b.enterLocked(ctx, cfg)
}

func (b *CircuitBreaker) enterLocked(ctx context.Context, cfg *Config) (admitted pass, rejection error) {
	stretch := 1.0
	if b.window != nil && b.window.slow != nil { // it may open right here
		stretch = b.drawStretch()
	}
	told := false
	defer func() {
		if !told { // a listener panicked: nobody will make this call
			b.record(ctx, cfg, admitted, neutral, nil)
		}
	}()
	b.mu.Lock()
	admitted, rejection = b.admit(stretch)
	b.unlock(ctx, cfg)
	told = true
	return admitted, rejection
}

// admit is enter with b.mu held.
func (b *CircuitBreaker) admit(stretch float64) (pass, error) {
	p, now := b.current.Load(), now(b.clock)
	switch p.state() {
	case StateClosed:
		return b.admitWatched(p, stretch)
	case StateOpen:
		if left := p.open.left(b.clock); left > 0 {
			return b.rejectOpen(p, left)
		}
		p = b.transition(&period{halfOpen: new(halfOpenPeriod)}, "recovery time over", nil, now)
	}
	return b.admitProbe(p, now)
}

// report judges the result of a call, and records it. err is what the call returned,
// or errAbandoned. If IsFailure panics the result is neutral.
// It returns what it found in err, by the status codes of cfg.
func (b *CircuitBreaker) report(ctx context.Context, cfg *Config, from pass, err error) (found findings) {
	if err == nil {
		b.record(ctx, cfg, from, success, nil)
		return found
	}
	v := neutral
	defer func() { b.record(ctx, cfg, from, v, err) }()
	var codes []int
	if cfg != nil {
		codes = cfg.RetryStatusCodes
	}
	found = examine(err, codes)
	v = b.judge(ctx, err, found)
	return found
}

// record counts the result of a call, if its period is still under way.
func (b *CircuitBreaker) record(ctx context.Context, cfg *Config, from pass, v verdict, err error) {
	if from.probe != nil {
		from.probe.over.Store(true)
	}
	p := from.period
	if p == nil || p != b.current.Load() {
		return
	}
	if v == success && p.entersUnlocked {
		b.succeed(p)
		return
	}
	r := result{verdict: v, stretch: 1}
	defer func() { b.settle(ctx, cfg, from, r) }() // also if the user's code panics
	if v == failure {
		r.err, _ = sanitized(err)
	}
	if v == failure || b.window != nil && b.window.slow != nil { // it may open
		r.stretch = b.drawStretch()
	}
}

func (b *CircuitBreaker) settle(ctx context.Context, cfg *Config, from pass, r result) {
	b.mu.Lock()
	if from.period == b.current.Load() {
		if from.probe != nil {
			b.settleProbe(from.probe, r)
		} else {
			b.settleClosed(from, r)
		}
	}
	b.unlock(ctx, cfg)
}

// transition ends the current period, and with it the standing of all results
// that are still to come. It is the only writer of the state. b.mu must be held,
// and released by unlock, which delivers the change.
func (b *CircuitBreaker) transition(next *period, cause string, err error, now time.Time) *period {
	ended := b.current.Load()
	from, to := ended.state(), next.state()
	if next.cause = cause; from == to && to == StateClosed { // a reset that changes nothing
		next.cause = ended.cause
	}
	b.current.Store(next)
	b.rejected += ended.rejections()
	if b.window != nil {
		b.window.clear()
	}
	b.wake()
	if from != to {
		b.notify.changed = &StateChange{Name: b.name, From: from, To: to, Err: err, At: now, Cause: cause}
		if to == StateOpen && !next.open.forced {
			b.notify.changed.Until = now.Add(next.open.lasts)
		}
		if to == StateClosed && b.waiters != nil {
			b.waiters.after.release()
		}
	}
	return next
}

// Rejections returns how many calls were rejected so far, or would have been, with
// ObserveOnly. Unlike the count in a [Snapshot] it goes on over all changes of
// state.
func (b *CircuitBreaker) Rejections() int64 {
	b.period()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rejected + b.current.Load().rejections()
}

// rejections counts those of one period. The breaker's mu must be held.
func (p *period) rejections() int64 {
	switch {
	case p.open != nil:
		return p.requests.Load()
	case p.halfOpen != nil:
		return p.halfOpen.rejections
	}
	return 0
}

// State returns the state as of now. An open breaker whose time is over is
// half-open, though it is only the next call that finds it so: reading changes
// nothing.
func (b *CircuitBreaker) State() State {
	p := b.period()
	if p.open != nil && p.open.left(b.clock) <= 0 {
		return StateHalfOpen
	}
	return p.state()
}

// Snapshot returns one consistent copy of the state and the counts.
func (b *CircuitBreaker) Snapshot() Snapshot {
	b.period()
	b.mu.Lock()
	defer b.mu.Unlock()
	p, now := b.current.Load(), now(b.clock)
	s := Snapshot{
		State:               p.state(),
		Failures:            asInt(p.failures),
		ConsecutiveFailures: asInt(p.consecutive.Load()),
		LastFailure:         b.last,
		Cause:               p.cause,
	}
	successes := p.successes.Load() // first, for each was a request before
	requests := p.requests.Load()
	s.Requests, s.Successes = asInt(requests), asInt(successes)
	switch {
	case p.open != nil:
		s.Requests, s.Rejections = 0, s.Requests
		if left := p.open.left(b.clock); left <= 0 {
			s.State = StateHalfOpen
		} else if !p.open.forced {
			s.OpenUntil = now.Add(left)
		}
	case p.halfOpen != nil:
		s.Requests, s.Rejections = asInt(p.halfOpen.count), asInt(p.halfOpen.rejections)
	case b.window != nil:
		b.window.advance(b.clock)
		b.window.report(&s, requests-successes-p.failures-p.neutrals)
	}
	return s
}

// asInt is the count as far as an int goes, which has 32 bits on some systems.
func asInt(n int64) int { return int(min(n, math.MaxInt)) }

package retry

import (
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// period is the time between two changes of a breaker's state: the state, what
// is counted in it, and, by its address, the generation that results belong to.
type period struct {
	open        *openTime    // nil unless open
	trial       *trial       // nil unless half-open
	passes      bool         // closed, and no call is watched for being slow: none needs the lock to pass
	free        bool         // and there are no rates: a success does not need it either
	consecutive atomic.Int32 // failures; reset by successes without the lock
	tally       tally        // closed: calls let through, and successes if free; open: calls rejected

	successes uint32 // those not in the tally; the breaker's mu guards these three
	failures  uint32
	neutrals  uint32
}

func (p *period) state() State {
	switch {
	case p.open != nil:
		return StateOpen
	case p.trial != nil:
		return StateHalfOpen
	}
	return StateClosed
}

func (b *CircuitBreaker) closed() *period {
	return &period{passes: b.window == nil || b.window.slow == nil, free: b.window == nil}
}

// openTime is what only an open period has. It does not change, but for its
// cache, and when the clock is set back.
type openTime struct {
	forced    bool // until Reset
	since     time.Time
	skew      atomic.Int64 // by how much the clock went back behind since
	lasts     time.Duration
	err       error
	rejection atomic.Pointer[OpenError] // the newest, given out again while it is true
}

// left is the time until a probe may pass.
func (o *openTime) left(clock clockwork.Clock) time.Duration {
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

// trial is what only a half-open period has; the breaker's mu guards it.
type trial struct {
	inFlight   []probe // in order of their deadlines
	count      uint64  // of probes so far
	rejections int
	rejection  *OpenError
}

type probe struct {
	id    uint64
	since time.Time
}

// pass is a permit as the breaker itself knows it. A zero one has no result.
type pass struct {
	period *period
	id     uint64 // of a probe, or of a call that is watched for being slow
}

// passing returns the period under way if calls pass it without the lock and a
// look at the clock. It is short enough to be inlined.
func (b *CircuitBreaker) passing() *period {
	if p := b.current.Load(); p != nil && p.passes {
		return p
	}
	return nil
}

// enter lets a call pass, or rejects it with an *OpenError.
func (b *CircuitBreaker) enter(log *slog.Logger) (pass, error) {
	p := b.period()
	if p.passes {
		p.tally.request()
		return pass{period: p}, nil
	}
	if p.open != nil {
		if left := p.open.left(b.clock); left > 0 {
			return b.rejectOpen(p, left)
		}
	}
	return b.enterLocked(log)
}

func (b *CircuitBreaker) enterLocked(log *slog.Logger) (admitted pass, rejection error) {
	stretch := b.stretch(b.window != nil && b.window.slow != nil)
	told := false
	defer func() {
		if !told { // a listener panicked: nobody will make this call
			b.leave(admitted, neutral, nil, log)
		}
	}()
	b.mu.Lock()
	admitted, rejection = b.admit(stretch, log)
	b.unlock()
	told = true
	return admitted, rejection
}

// admit is enter with b.mu held.
func (b *CircuitBreaker) admit(stretch float64, log *slog.Logger) (pass, error) {
	p := b.current.Load()
	switch p.state() {
	case StateOpen:
		if left := p.open.left(b.clock); left > 0 {
			return b.rejectOpen(p, left)
		}
		p = b.transition(&period{trial: new(trial)}, nil, now(b.clock), log)
	case StateClosed:
		return b.watch(p, stretch, log)
	}
	now := now(b.clock)
	if t := p.trial; b.places(t, now) == 0 {
		t.rejections++
		if b.observe {
			return pass{}, nil
		}
		if t.rejection == nil {
			t.rejection = &OpenError{Name: b.name, State: StateHalfOpen, Err: b.last}
		}
		return pass{}, t.rejection
	}
	p.trial.count++
	p.trial.inFlight = append(p.trial.inFlight, probe{p.trial.count, now})
	return pass{p, p.trial.count}, nil
}

// places is how many more probes may pass. It frees the places of those whose
// time is over.
func (b *CircuitBreaker) places(t *trial, now time.Time) int {
	for i := range t.inFlight {
		if t.inFlight[i].since.After(now) { // the clock was set back
			t.inFlight[i].since = now
		}
	}
	for len(t.inFlight) > 0 && b.leaseLeft(t, now) <= 0 {
		t.inFlight = t.inFlight[1:]
	}
	return max(0, int(b.probes)-len(t.inFlight))
}

// leaseLeft is the time that the oldest probe may still keep its place.
func (b *CircuitBreaker) leaseLeft(t *trial, now time.Time) time.Duration {
	return t.inFlight[0].since.Add(b.probeTimeout).Sub(now)
}

func (b *CircuitBreaker) rejectOpen(p *period, left time.Duration) (pass, error) {
	p.tally.request()
	if b.observe {
		return pass{}, nil
	}
	return pass{}, b.rejection(p.open, left)
}

func (b *CircuitBreaker) rejection(o *openTime, left time.Duration) error {
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
	if p.open == nil || b.observe {
		return nil, 0
	}
	if left = p.open.left(b.clock); left > wait {
		return p, left
	}
	return nil, 0
}

// leave counts the result of a call, if its period is still under way.
func (b *CircuitBreaker) leave(from pass, v verdict, err error, log *slog.Logger) {
	p := from.period
	if p == nil || p != b.current.Load() {
		return
	}
	if v == success && p.passes {
		b.succeed(p)
		return
	}
	stretch := b.stretch(v == failure || b.window != nil && b.window.slow != nil)
	b.mu.Lock()
	if p == b.current.Load() {
		if p.trial == nil {
			b.settle(p, from.id, v, err, stretch, log)
		} else {
			b.settleProbe(p, from.id, v, err, stretch, log)
		}
	}
	b.unlock()
}

// succeed counts a success that can change nothing but counts.
func (b *CircuitBreaker) succeed(p *period) {
	if p.free {
		p.tally.success()
		p.forgive()
		return
	}
	b.mu.Lock()
	if p == b.current.Load() {
		b.window.advance(b.clock)
		b.window.count(success)
		p.successes++
		p.forgive()
	}
	b.mu.Unlock()
}

// forgive forgets the failures in a row. After a success there are none.
func (p *period) forgive() {
	if p.consecutive.Load() != 0 {
		p.consecutive.Store(0)
	}
}

// settle counts a result in a closed period. b.mu must be held.
func (b *CircuitBreaker) settle(p *period, id uint64, v verdict, err error, stretch float64, log *slog.Logger) {
	open := false
	if b.window != nil {
		b.window.advance(b.clock)
		b.window.count(v)
		open = b.window.finish(id, v)
	}
	switch v {
	case success:
		p.successes++
		p.forgive()
	case neutral:
		p.neutrals++
	case failure:
		p.failures++
		b.last = err
		n := p.consecutive.Add(1)
		open = open || b.threshold > 0 && n >= b.threshold || b.window != nil && b.window.failing()
	}
	if open {
		b.trip(err, stretch, log)
	}
}

// settleProbe counts a probe's result, unless it has lost its place.
func (b *CircuitBreaker) settleProbe(p *period, id uint64, v verdict, err error, stretch float64, log *slog.Logger) {
	b.places(p.trial, now(b.clock))
	i := slices.IndexFunc(p.trial.inFlight, func(other probe) bool { return other.id == id })
	if i < 0 {
		return
	}
	p.trial.inFlight = slices.Delete(p.trial.inFlight, i, i+1)
	switch v {
	case neutral:
		p.neutrals++
		b.wake()
	case success:
		if p.successes++; p.successes < uint32(b.successes) {
			b.wake()
			return
		}
		b.reopened = 0
		b.transition(b.closed(), nil, now(b.clock), log)
	case failure:
		b.last = err
		if b.reopened < 62 {
			b.reopened++
		}
		b.trip(err, stretch, log)
	}
}

// watch lets a call pass that will count as slow in a while.
func (b *CircuitBreaker) watch(p *period, stretch float64, log *slog.Logger) (pass, error) {
	if b.window == nil || b.window.slow == nil {
		p.tally.request()
		return pass{period: p}, nil
	}
	b.window.advance(b.clock)
	if b.window.finish(0, neutral) { // the slow ones in flight are enough to open it
		b.trip(nil, stretch, log)
		p = b.current.Load()
		return b.rejectOpen(p, p.open.left(b.clock))
	}
	p.tally.request()
	return pass{p, b.window.start()}, nil
}

// stretch draws by how much an open time that may begin is lengthened. It calls
// the user's Rand, and so must not be called with b.mu held.
func (b *CircuitBreaker) stretch(needed bool) float64 {
	if b.jitter == 0 || !needed {
		return 1
	}
	random := b.rand
	if random == nil {
		random = randomFloat
	}
	return 1 + b.jitter*random()
}

// trip opens the breaker after a failure, for as long as it is due.
func (b *CircuitBreaker) trip(err error, stretch float64, log *slog.Logger) {
	lasts := b.recovery
	for range b.reopened {
		if lasts >= b.maxRecovery-lasts {
			lasts = b.maxRecovery
			break
		}
		lasts *= 2
	}
	if most := 1 + b.jitter; stretch > 1 { // whatever Rand returned
		lasts = max(lasts, saturate(float64(lasts)*min(stretch, most)))
	}
	b.open(&openTime{since: now(b.clock), lasts: lasts, err: b.last}, err, log)
}

func (b *CircuitBreaker) open(o *openTime, err error, log *slog.Logger) {
	b.transition(&period{open: o}, err, o.since, log)
}

// transition ends the current period, and with it the standing of all results
// that are still to come. It is the only writer of the state. b.mu must be
// held, and notify be called when it is not any more.
func (b *CircuitBreaker) transition(next *period, err error, now time.Time, log *slog.Logger) *period {
	from, to := b.current.Load().state(), next.state()
	b.current.Store(next)
	if b.window != nil {
		b.window.clear()
	}
	b.wake()
	if from != to {
		b.announce(StateChange{b.name, from, to, err, now}, log)
		if to == StateClosed && b.herd != nil {
			b.herd.release()
		}
	}
	return next
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
		Failures:            int(p.failures),
		ConsecutiveFailures: int(p.consecutive.Load()),
		LastFailure:         b.last,
	}
	calls, successes := p.tally.sums()
	s.Requests, s.Successes = calls, successes+int(p.successes)
	switch {
	case p.open != nil:
		s.Requests, s.Rejections = 0, calls
		if left := p.open.left(b.clock); left <= 0 {
			s.State = StateHalfOpen
		} else if !p.open.forced {
			s.OpenUntil = now.Add(left)
		}
	case p.trial != nil:
		s.Requests, s.Rejections = int(p.trial.count), p.trial.rejections
	case b.window != nil:
		b.window.advance(b.clock)
		inFlight := s.Requests - s.Successes - s.Failures - int(p.neutrals)
		b.window.report(&s)
		s.Requests += inFlight
	}
	return s
}

// ForceOpen rejects all calls until Reset.
func (b *CircuitBreaker) ForceOpen() {
	b.control(func(now time.Time) { b.open(&openTime{forced: true, since: now, err: b.last}, nil, nil) })
}

// Trip opens the breaker now, for d: because a server said so, or another
// process did. Results of calls in flight are ignored. A d of 0 or less does
// nothing, and neither does Trip on a breaker that was forced open.
func (b *CircuitBreaker) Trip(d time.Duration) {
	if d <= 0 {
		return
	}
	b.control(func(now time.Time) {
		if o := b.current.Load().open; o == nil || !o.forced {
			b.open(&openTime{since: now, lasts: d, err: b.last}, nil, nil)
		}
	})
}

// Reset closes the breaker, from any state, and forgets all that it counted.
// Results of calls in flight are ignored.
func (b *CircuitBreaker) Reset() {
	b.control(func(now time.Time) {
		b.reopened, b.last = 0, nil
		b.transition(b.closed(), nil, now, nil)
	})
}

func (b *CircuitBreaker) control(change func(now time.Time)) {
	b.period()
	b.mu.Lock()
	change(now(b.clock))
	b.unlock()
}

// wake has those who wait for the breaker look again. b.mu must be held.
func (b *CircuitBreaker) wake() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// blocked tells how long calls are rejected from now on, unless changed is
// closed before. known is false if that may come at any time. A nil changed
// means that a call may pass.
func (b *CircuitBreaker) blocked() (left time.Duration, known bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.herd == nil {
		b.herd = NewGate(b.clock)
	}
	now := now(b.clock)
	switch p := b.current.Load(); {
	case p.open != nil && p.open.left(b.clock) > 0:
		left, known = p.open.left(b.clock), !p.open.forced
	case p.trial != nil && b.places(p.trial, now) == 0:
		left = b.leaseLeft(p.trial, now)
	default:
		return 0, true, nil
	}
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return left, known, b.changed
}

package retry

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/clock"
)

// State is the state of a [CircuitBreaker].
type State int

const (
	StateClosed   State = iota // calls pass
	StateOpen                  // calls are rejected
	StateHalfOpen              // a few calls pass, to probe whether the others may
)

// String returns "closed", "open" or "half-open".
func (s State) String() string {
	switch s {
	case StateClosed:
		return "closed"
	case StateOpen:
		return "open"
	case StateHalfOpen:
		return "half-open"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// MarshalText returns what String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range []State{StateClosed, StateOpen, StateHalfOpen} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	var n State
	if _, err := fmt.Sscanf(string(text), "State(%d)", (*int)(&n)); err != nil || n.String() != string(text) {
		return invalid("State is %q, want closed, open or half-open", text)
	}
	*s = n
	return nil
}

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
	return 1 + b.cfg.RecoveryJitter*inUnit(b.cfg.Rand())
}

// trip opens the breaker because of what its calls did, for as long as it is due.
// b.mu must be held.
func (b *CircuitBreaker) trip(cause string, err error, stretch float64) *period {
	d := max(b.openTime, saturate(float64(b.openTime)*stretch))
	return b.transition(&period{open: &openPeriod{duration: d}}, cause, err)
}

// ForceOpen rejects all calls until Reset.
func (b *CircuitBreaker) ForceOpen() {
	b.control(func() {
		b.transition(&period{open: &openPeriod{forced: true}}, "forced", nil)
	})
}

// Trip opens the breaker now, for d: because a server said so, another process
// did, or a test needs an open one. Results of calls in flight are ignored. It never
// shortens the time that a breaker is open; a d of 0 or less does nothing.
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

// probe is a call that was let through to see whether others may follow.
type probe struct {
	period *period
	since  time.Time
	over   atomic.Bool // its result has come
}

// probes are the probes that hold a place, in order of their start. The breaker's
// mu guards them.
type probes []*probe

// expire frees the places of the probes whose time is over. They may still succeed.
func (p *probes) expire(now time.Time, timeout time.Duration) {
	for _, probe := range *p {
		if probe.since.After(now) { // the clock was set back
			probe.since = now
		}
	}
	for len(*p) > 0 && p.left(now, timeout) <= 0 {
		*p = (*p)[1:]
	}
}

// left is how long the oldest probe may still keep its place.
func (p probes) left(now time.Time, timeout time.Duration) time.Duration {
	return p[0].since.Add(timeout).Sub(now)
}

// admitProbe lets a call pass as a probe if there is a place. b.mu must be held.
func (b *CircuitBreaker) admitProbe(p *period) (permit, error) {
	now := clock.Now(b.cfg.Clock)
	p.probes.expire(now, b.cfg.ProbeTimeout)
	if len(*p.probes) >= b.cfg.HalfOpenProbes {
		return permit{}, b.reject(p, 0)
	}
	probe := &probe{period: p, since: now}
	*p.probes = append(*p.probes, probe)
	p.requests.Add(1)
	return permit{period: p, probe: probe}, nil
}

// settleProbe counts a probe's result. One that has lost its place counts if it
// succeeded, for the dependency works, if slowly; its failure is stale. b.mu must
// be held.
func (b *CircuitBreaker) settleProbe(probe *probe, r result) {
	p, now := probe.period, clock.Now(b.cfg.Clock)
	p.probes.expire(now, b.cfg.ProbeTimeout)
	place := slices.Index(*p.probes, probe)
	if place >= 0 {
		*p.probes = slices.Delete(*p.probes, place, place+1)
	}
	slow := b.cfg.SlowCallRate > 0 && now.Sub(probe.since) >= b.cfg.SlowCallDuration
	switch {
	case r.verdict == neutral:
	case slow, r.verdict == failure && place >= 0:
		if r.verdict == failure {
			b.lastFailure = r.err
		}
		b.openTime += min(b.openTime, b.cfg.MaxRecoveryTimeout-b.openTime)
		b.trip("probe failed", r.err, r.stretch)
		return
	case r.verdict == success:
		if p.successes.Add(1) >= int64(b.cfg.SuccessThreshold) {
			b.transition(b.closedPeriod(), "probe succeeded", nil)
			return
		}
	}
	b.wake()
}

// probeKey marks all that happens inside a probe. Without the mark, a call
// through the same breaker there would wait for the place that its own probe
// holds.
type probeKey struct{ breaker *CircuitBreaker }

// context returns the context to make the call with.
func (p permit) context(ctx context.Context, b *CircuitBreaker) context.Context {
	if p.probe == nil {
		return ctx
	}
	return context.WithValue(ctx, probeKey{b}, p.probe)
}

// isWithinProbe reports whether ctx comes from a probe of this period that is still
// in flight.
func (b *CircuitBreaker) isWithinProbe(ctx context.Context, p *period) bool {
	probe, _ := ctx.Value(probeKey{b}).(*probe)
	return probe != nil && probe.period == p && !probe.over.Load()
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

// Snapshot is a copy of a breaker's state and counts: since the last change of
// state, or, while it is closed and has a rate to go by, within the Window.
// [CircuitBreaker.Snapshot] has an example.
type Snapshot struct {
	State               State
	Requests            int // calls let through: Successes, Failures, neither, and those in flight
	Successes           int
	Failures            int
	SlowCalls           int
	Rejections          int
	ConsecutiveFailures int
	OpenUntil           time.Time // zero unless open for a known time
	LastFailure         error     // since the last Reset; as in OpenError
	Cause               string    // of the last change, as in StateChange; "" if there was none
}

// Snapshot returns one consistent copy of the state and the counts.
func (b *CircuitBreaker) Snapshot() Snapshot {
	b.period()
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.current.Load()
	successes := p.successes.Load() // first, for each was a request before
	requests := p.requests.Load()
	s := Snapshot{
		State:               p.state(),
		Requests:            asInt(requests),
		Successes:           asInt(successes),
		Failures:            asInt(p.failures),
		Rejections:          asInt(b.rejections.Load() - p.rejectedBefore),
		ConsecutiveFailures: asInt(p.consecutive.Load()),
		LastFailure:         b.lastFailure,
		Cause:               p.cause,
	}
	if p.open != nil {
		if left := p.open.left(b.cfg.Clock); left <= 0 {
			s.State = StateHalfOpen
		} else if !p.open.forced {
			s.OpenUntil = clock.Now(b.cfg.Clock).Add(left)
		}
	}
	if w := b.window; w != nil && s.State == StateClosed {
		w.advance()
		all, inFlight := w.sum(), requests-successes-p.failures-p.neutrals
		s.Successes, s.Failures = asInt(all.successes), asInt(all.failures)
		s.Requests = asInt(all.successes + all.failures + all.neutrals + inFlight)
		if w.slow != nil {
			s.SlowCalls = asInt(w.slowCalls())
		}
	}
	return s
}

// asInt is the count as far as an int goes, which has 32 bits on some systems.
func asInt(n int64) int { return int(min(n, math.MaxInt)) }

// MarshalJSON writes the fields, LastFailure as its text.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	type fields Snapshot // without methods
	return json.Marshal(struct {
		fields
		LastFailure *string
	}{fields(s), textOrNil(s.LastFailure)})
}

// LogValue is a group of the fields. OpenUntil, Cause and LastFailure are left out
// if there is none.
func (s Snapshot) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("state", s.State.String()),
		slog.Int("requests", s.Requests),
		slog.Int("successes", s.Successes),
		slog.Int("failures", s.Failures),
		slog.Int("slow_calls", s.SlowCalls),
		slog.Int("rejections", s.Rejections),
		slog.Int("consecutive_failures", s.ConsecutiveFailures),
	}
	if !s.OpenUntil.IsZero() {
		attrs = append(attrs, slog.Time("open_until", s.OpenUntil))
	}
	if s.Cause != "" {
		attrs = append(attrs, slog.String("cause", s.Cause))
	}
	return slog.GroupValue(appendError(attrs, s.LastFailure)...)
}

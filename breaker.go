package retry

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/redact"
)

// CircuitBreaker rejects calls to a dependency that keeps failing, and probes
// after a while whether it has recovered.
//
// Closed, it lets all calls pass and counts. Open, it rejects them with an
// [*OpenError]. When the open time is over it is half-open and lets a few pass
// as probes: enough successes close it, a failure opens it again. A result that
// arrives after a change of state belongs to the state before, and changes
// nothing.
//
// A breaker starts no goroutine. It is safe for concurrent use. The zero value
// is a breaker with the default settings.
type CircuitBreaker struct {
	cfg        BreakerConfig          // with its defaults; set before current
	current    atomic.Pointer[period] // nil until a zero breaker is used; written by start and transition only
	rejections atomic.Int64

	mu          sync.Mutex    // guards the fields below, and the periods' where they say so
	openTime    time.Duration // the next one, without jitter
	lastFailure error         // since the last Reset, sanitized
	window      *window       // nil without rates
	notify      *notifier     // nil until there is a listener or a change of state
	waiters     *waiters      // nil until a call waits for the breaker
}

// NewCircuitBreaker returns a closed breaker, or what is wrong with cfg.
func NewCircuitBreaker(cfg BreakerConfig) (*CircuitBreaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := new(CircuitBreaker)
	b.start(cfg)
	return b, nil
}

// start sets the breaker up and begins its first period.
func (b *CircuitBreaker) start(cfg BreakerConfig) {
	b.cfg = cfg.withDefaults()
	b.openTime = b.cfg.RecoveryTimeout
	if cfg.rated() {
		b.window = newWindow(&b.cfg)
	}
	if cfg.OnStateChange != nil {
		b.notify = &notifier{listeners: []func(StateChange){cfg.OnStateChange}}
	}
	b.current.Store(b.closedPeriod())
}

// period returns the current period. It comes before any reading of cfg, for a zero
// breaker gets its settings here.
func (b *CircuitBreaker) period() *period {
	if p := b.current.Load(); p != nil {
		return p
	}
	return b.firstPeriod() // apart, so that the common case is inlined
}

func (b *CircuitBreaker) firstPeriod() *period {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current.Load() == nil {
		b.start(BreakerConfig{})
	}
	return b.current.Load()
}

// Name returns the Name of its [BreakerConfig].
func (b *CircuitBreaker) Name() string {
	b.period()
	return b.cfg.Name
}

func (b *CircuitBreaker) clock() clockwork.Clock {
	b.period()
	return b.cfg.Clock
}

// Do calls fn if the breaker lets it pass, and counts its result. Otherwise it
// returns an [*OpenError]. A panic of fn counts as a failure, and so does a
// deadline of ctx that passes. An error that fn returns after a cancel of ctx
// counts as neither, unless it is a [*StatusError].
//
// fn may call Do of the same breaker again, with the context that it was given.
// Inside of a probe that call passes uncounted. While the breaker is closed it counts
// as a call of its own, so that one failure counts twice.
func (b *CircuitBreaker) Do(ctx context.Context, fn func(context.Context) error) (err error) {
	if ctx == nil || fn == nil {
		return invalid("CircuitBreaker.Do: ctx or fn is nil")
	}
	if done(ctx) {
		return doneError(ctx)
	}
	p := permit{period: b.countingPeriod()}
	if p.period != nil { // as admit does: inlined here and below, they are a quarter faster
		p.period.requests.Add(1)
	} else if p, err = b.admit(ctx, nil); err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned {
			b.report(ctx, nil, p, errAbandoned)
		}
	}()
	err = fn(p.context(ctx, b))
	returned = true
	if err == nil && p.period != nil && p.period.countsOnly { // as report does
		b.succeed(p.period)
	} else {
		b.report(ctx, nil, p, err)
	}
	return err
}

// countingPeriod returns the current period if calls that pass and succeed change
// counts only, or else nil. It is short enough to be inlined.
func (b *CircuitBreaker) countingPeriod() *period {
	if p := b.current.Load(); p != nil && p.countsOnly {
		return p
	}
	return nil
}

// Allow asks for a permit for one call, and returns an [*OpenError] if there is
// none. With a permit, the result of the call must be reported by [Permit.Done],
// also if the call panics. Where a function can be passed, [CircuitBreaker.Do] sees
// to all of that.
func (b *CircuitBreaker) Allow() (Permit, error) {
	p, rejection := b.admit(context.Background(), nil)
	if rejection != nil {
		return Permit{}, rejection
	}
	shared := permits.Get().(*sharedPermit)
	shared.breaker, shared.permit = b, p
	return Permit{shared, shared.uses.Load()}, nil
}

// Permit is the permit of one call, as [CircuitBreaker.Allow] gives it. Call Done
// exactly once, when the call is over. Until then the breaker takes the call to be in
// flight: a probe keeps its place until ProbeTimeout, and a call that is watched for
// being slow counts as slow in the end.
//
// The zero value is the permit of no call, and its Done does nothing. A Permit may be
// copied, and is safe for concurrent use. [CircuitBreaker.Allow] has an example.
type Permit struct {
	shared *sharedPermit
	use    uint64 // of shared.uses, while this permit is the one that it serves
}

// Done reports the call's result, nil for a success. The first report of a permit
// counts, and any further one, of a copy too, does nothing. The breaker does not know
// the call's context here: an error that came of the caller's own cancel, but is no
// [context.Canceled], is to be marked with [Neutral].
func (p Permit) Done(err error) {
	if p.shared == nil || !p.shared.uses.CompareAndSwap(p.use, p.use+1) {
		return
	}
	b, admitted := p.shared.breaker, p.shared.permit
	p.shared.breaker, p.shared.permit = nil, permit{}
	permits.Put(p.shared)
	b.report(context.Background(), nil, admitted, err)
}

// sharedPermit is what all copies of a Permit share, so that it counts once. It is
// pooled, for an allocation takes as long as all the rest of Allow and Done: it serves
// one Permit after another, which differ by the number of its uses.
type sharedPermit struct {
	uses    atomic.Uint64
	breaker *CircuitBreaker
	permit  permit
}

var permits = sync.Pool{New: func() any { return new(sharedPermit) }}

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
		return permit{}, b.reject(p, p.open.duration) // also if that is over already: one change at a time
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

// OpenError is the rejection of a call by a [CircuitBreaker]. It matches
// [ErrCircuitOpen]. Callers share it, and must not change it.
type OpenError struct {
	Name  string
	State State // StateOpen, or StateHalfOpen when the places for probes are taken

	// RetryAfter is the time until the breaker lets a probe through, never too
	// short, and too long by a millisecond at most. 0 means that it is not
	// known: the breaker was forced open, or is waiting for its probes.
	RetryAfter time.Duration

	// Err is the last failure before the breaker opened, nil if there was none.
	// It was another call's, and so it is shown in the text, but not unwrapped,
	// and a [*StatusError] in it has neither header nor body.
	Err error
}

// Error names the breaker, its state, and when to come back.
func (e *OpenError) Error() string {
	if e == nil {
		return "<nil>"
	}
	text := "circuit breaker " + e.State.String()
	if e.Name != "" {
		text = "circuit breaker " + e.Name + " " + e.State.String()
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(" for another %v", roughly(e.RetryAfter))
	}
	if e.Err != nil {
		text += " (last failure: " + redact.Error(e.Err) + ")"
	}
	return text
}

// Is reports whether target is [ErrCircuitOpen].
func (e *OpenError) Is(target error) bool { return target == ErrCircuitOpen }

// MarshalJSON writes the fields, Err as its text.
func (e *OpenError) MarshalJSON() ([]byte, error) {
	type fields OpenError // without methods
	return json.Marshal(struct {
		fields
		Err *string
	}{fields(*e), textOrNil(e.Err)})
}

// LogValue is the text, as of any error in a log.
func (e *OpenError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

package retry

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/clock"
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

func appendError(attrs []slog.Attr, err error) []slog.Attr {
	if err != nil {
		attrs = append(attrs, slog.String("error", redact.Error(err)))
	}
	return attrs
}

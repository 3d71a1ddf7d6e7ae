package retry

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
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

// BreakerConfig says when a [CircuitBreaker] opens, for how long, and what
// closes it. The zero value opens after 5 consecutive failures, for 60s, and is
// closed by one successful probe.
type BreakerConfig struct {
	// Name stands in rejections and state changes.
	Name string

	// FailureThreshold is how many consecutive failures open the breaker. 0
	// means 5, or, where one of the rates below is set, that only they do;
	// negative means the latter.
	FailureThreshold int

	// FailureRate opens the breaker when this share of the calls of the last
	// Window failed, in (0, 1]. 0 means off. It is judged at failures.
	FailureRate float64

	// A call of SlowCallDuration or longer is slow, and counts as such from
	// that moment on, even while it is still in flight. SlowCallRate opens the
	// breaker when this share of the last Window's calls is slow, in (0, 1].
	// Both or neither must be set.
	SlowCallDuration time.Duration
	SlowCallRate     float64

	// Window is how far back the rates look, in tenths of it. 0 means 10s; the
	// least is 1ms, the most a year.
	Window time.Duration

	// MinCalls is how many calls the window must hold before a rate is judged.
	// 0 means 20.
	MinCalls int

	// RecoveryTimeout is how long the breaker stays open before it lets a probe
	// through. 0 means 60s.
	RecoveryTimeout time.Duration

	// MaxRecoveryTimeout lets the open time double with each failed probe, up
	// to this. 0 means RecoveryTimeout: no growth. It falls back when the
	// breaker closes.
	MaxRecoveryTimeout time.Duration

	// RecoveryJitter lengthens each open time by a random share of up to this,
	// in [0, 1], so that the breakers of a fleet do not probe together.
	RecoveryJitter float64

	// HalfOpenProbes is how many probes may be in flight at once. 0 means 1.
	HalfOpenProbes int

	// SuccessThreshold is how many probes must succeed for the breaker to
	// close. 0 means 1. One failed probe opens it again, and one that took
	// SlowCallDuration, where that is set.
	SuccessThreshold int

	// ProbeTimeout is how long a probe may keep its place. One that has not
	// come back by then frees it for another. If it succeeds later on, while
	// the breaker is still half-open, that counts. 0 means RecoveryTimeout.
	ProbeTimeout time.Duration

	// IsFailure tells failures from successes among a call's errors; nil means
	// the package's [IsFailure]. It is not asked about a caller's cancel, about
	// rejections and about what is marked [Neutral], which count as neither,
	// nor about panics, which fail.
	IsFailure func(error) bool

	// ObserveOnly lets every call pass, while the breaker changes state, counts
	// and reports as if it rejected: to see what it would do.
	ObserveOnly bool

	// OnStateChange is called after each change of state, in order, once each,
	// outside of any lock, by the goroutine that made the change; it may call
	// any method. One slow to return delays the call that made the change, and
	// those that make the next ones, until it is their turn. A call whose
	// context ends, or one that waits for 5s for the same change to be told,
	// leaves its own to the goroutine that is at it.
	OnStateChange func(StateChange)

	// Clock times everything; nil means the real clock.
	Clock clockwork.Clock

	// Rand draws from [0, 1) for RecoveryJitter; nil means math/rand/v2.
	Rand func() float64
}

// Validate reports every field that cannot be used, one joined error each, all
// matching [ErrInvalidConfig].
func (c BreakerConfig) Validate() error { return c.problems().join(of("BreakerConfig")) }

func (c *BreakerConfig) problems() (p problems) {
	const rate = "a share in (0, 1], or 0 for off"
	p.require(validRate(c.FailureRate), "FailureRate", c.FailureRate, rate)
	p.require(validRate(c.SlowCallRate), "SlowCallRate", c.SlowCallRate, rate)
	p.notNegative("SlowCallDuration", c.SlowCallDuration)
	p.requireOther(c.SlowCallDuration == 0 || c.SlowCallRate != 0,
		"SlowCallRate", c.SlowCallRate, "a share, to go with", "SlowCallDuration", c.SlowCallDuration)
	p.requireOther(c.SlowCallRate == 0 || c.SlowCallDuration != 0,
		"SlowCallDuration", c.SlowCallDuration, "a duration, to go with", "SlowCallRate", c.SlowCallRate)
	p.require(c.FailureThreshold >= 0 || c.FailureRate != 0 || c.SlowCallRate != 0,
		"FailureThreshold", c.FailureThreshold, "a count, or a rate to open by instead")
	p.require(c.Window == 0 || c.Window >= minWindow && c.Window <= maxWindow, "Window", c.Window, "1ms to a year"+orDefault)
	p.require(c.MinCalls >= 0, "MinCalls", c.MinCalls, "0 or more")
	p.notNegative("RecoveryTimeout", c.RecoveryTimeout)
	recovery := cmp.Or(c.RecoveryTimeout, defaultRecovery)
	p.requireOther(c.MaxRecoveryTimeout == 0 || c.MaxRecoveryTimeout >= recovery,
		"MaxRecoveryTimeout", c.MaxRecoveryTimeout, "0 for no growth, or at least", "RecoveryTimeout", recovery)
	p.require(c.RecoveryJitter >= 0 && c.RecoveryJitter <= 1, "RecoveryJitter", c.RecoveryJitter, "a share in [0, 1]")
	p.require(validCount(c.HalfOpenProbes), "HalfOpenProbes", c.HalfOpenProbes, "a count"+orDefault)
	p.require(validCount(c.SuccessThreshold), "SuccessThreshold", c.SuccessThreshold, "a count"+orDefault)
	p.notNegative("ProbeTimeout", c.ProbeTimeout)
	return p
}

func validRate(rate float64) bool { return rate >= 0 && rate <= 1 }
func validCount(n int) bool       { return n >= 0 && n <= math.MaxInt32 }

const (
	defaultFailureThreshold = 5
	defaultRecovery         = time.Minute
	defaultWindow           = 10 * time.Second
	defaultMinCalls         = 20

	minWindow = time.Millisecond
	maxWindow = 365 * 24 * time.Hour
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
	name         string
	threshold    int64 // consecutive failures; 0: not by count
	probes       int32
	successes    int32
	observe      bool
	reopened     int32 // failed probes since it was last closed, or enough of them; mu guards it
	recovery     time.Duration
	maxRecovery  time.Duration
	probeTimeout time.Duration
	jitter       float64
	isFailure    func(error) bool
	clock        clockwork.Clock
	rand         func() float64

	current atomic.Pointer[period] // written by transition only

	mu        sync.Mutex // guards the fields below, and the periods' counts where they say so
	last      error      // the last failure, as it may be kept
	rejected  int64      // calls, in the periods that have ended
	window    *window    // nil without rates
	listeners *listeners // nil until there is something to tell
	waiters   *waiters   // nil until somebody waits for calls to pass
}

// NewCircuitBreaker returns a closed breaker, or what is wrong with cfg.
func NewCircuitBreaker(cfg BreakerConfig) (*CircuitBreaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := new(CircuitBreaker)
	b.configure(cfg)
	b.current.Store(b.closed())
	return b, nil
}

func (b *CircuitBreaker) configure(cfg BreakerConfig) {
	b.name = cfg.Name
	rated := cfg.FailureRate > 0 || cfg.SlowCallRate > 0
	b.threshold = int64(max(0, cfg.FailureThreshold))
	if cfg.FailureThreshold == 0 && !rated {
		b.threshold = defaultFailureThreshold
	}
	b.probes = int32(cmp.Or(cfg.HalfOpenProbes, 1))
	b.successes = int32(cmp.Or(cfg.SuccessThreshold, 1))
	b.observe = cfg.ObserveOnly
	b.recovery = cmp.Or(cfg.RecoveryTimeout, defaultRecovery)
	b.maxRecovery = cmp.Or(cfg.MaxRecoveryTimeout, b.recovery)
	b.probeTimeout = cmp.Or(cfg.ProbeTimeout, b.recovery)
	b.jitter = cfg.RecoveryJitter
	b.isFailure = cfg.IsFailure
	if cfg.OnStateChange != nil {
		b.listeners = &listeners{all: []func(StateChange){cfg.OnStateChange}}
	}
	b.clock = cfg.Clock
	b.rand = cfg.Rand
	if rated {
		b.window = newWindow(cfg)
	}
}

// Name returns the name that it was given.
func (b *CircuitBreaker) Name() string {
	b.period() // a zero breaker is about to get its settings
	return b.name
}

// period returns the period under way.
func (b *CircuitBreaker) period() *period {
	if p := b.current.Load(); p != nil {
		return p
	}
	return b.first()
}

// first gives a zero breaker its settings and its first period.
func (b *CircuitBreaker) first() *period {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current.Load() == nil {
		b.configure(BreakerConfig{})
		b.current.Store(b.closed())
	}
	return b.current.Load()
}

// time is the clock it runs on.
func (b *CircuitBreaker) time() clockwork.Clock {
	b.period() // a zero breaker is about to get its settings
	return b.clock
}

// Do calls fn if the breaker lets it pass, and counts its result. Otherwise it
// returns an [*OpenError]. A panic of fn counts as a failure, and so does a
// deadline of ctx that passes. An error that fn returns after a cancel of ctx
// counts as neither, unless it is a [*StatusError].
//
// A Do inside of fn, with the context that fn was given, passes uncounted if fn
// is a probe. While the breaker is closed, it is a call of its own, so that one
// failure counts twice.
func (b *CircuitBreaker) Do(ctx context.Context, fn func(context.Context) error) (err error) {
	if ctx == nil || fn == nil {
		return invalid("CircuitBreaker.Do: ctx or fn is nil")
	}
	if done(ctx) {
		return doneError(ctx)
	}
	p := pass{period: b.passing()}
	if p.period != nil {
		p.period.tally.request()
	} else if p, err = b.enter(ctx, nil); err != nil {
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
	if err == nil && p.period != nil && p.period.entersUnlocked {
		b.succeed(p.period)
	} else {
		b.report(ctx, nil, p, err)
	}
	return err
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
		text += " (last failure: " + redacted(e.Err) + ")"
	}
	return text
}

// Is reports whether target is [ErrCircuitOpen].
func (e *OpenError) Is(target error) bool { return target == ErrCircuitOpen }

// StateChange is what a breaker's listeners are told.
type StateChange struct {
	Name     string
	From, To State
	Err      error // the failure that opened it, as in OpenError; nil for other changes, and for slow calls
	At       time.Time
}

// Snapshot is a copy of a breaker's state and counts: since the last change of
// state, or, while it is closed and has a rate to go by, within the Window.
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
}

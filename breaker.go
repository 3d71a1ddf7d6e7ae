package retry

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/redact"
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
	observeOnly  bool
	reopened     int32 // failed probes since it was last closed, up to maxDoublings; mu guards it
	recovery     time.Duration
	maxRecovery  time.Duration
	probeTimeout time.Duration
	jitter       float64
	isFailure    func(error) bool
	clock        clockwork.Clock
	rand         func() float64

	current atomic.Pointer[period] // written by transition only

	mu       sync.Mutex // guards the fields below, and the periods' counts where they say so
	last     error      // the last failure, as it may be kept
	rejected int64      // calls, in the periods that have ended
	window   *window    // nil without rates
	notify   notifier
	waiters  *waiters // nil until a call waits for the breaker
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
	b.observeOnly = cfg.ObserveOnly
	b.recovery = cmp.Or(cfg.RecoveryTimeout, defaultRecovery)
	b.maxRecovery = cmp.Or(cfg.MaxRecoveryTimeout, b.recovery)
	b.probeTimeout = cmp.Or(cfg.ProbeTimeout, b.recovery)
	b.jitter = cfg.RecoveryJitter
	b.isFailure = cfg.IsFailure
	if cfg.OnStateChange != nil {
		b.notify.listeners = []func(StateChange){cfg.OnStateChange}
	}
	b.clock = cfg.Clock
	b.rand = cfg.Rand
	if rated {
		b.window = newWindow(cfg)
	}
}

// Name returns the Name of its [BreakerConfig].
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
	p := pass{period: b.passing()}
	if p.period != nil {
		p.period.requests.Add(1)
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
		text += " (last failure: " + redact.Error(e.Err) + ")"
	}
	return text
}

// Is reports whether target is [ErrCircuitOpen].
func (e *OpenError) Is(target error) bool { return target == ErrCircuitOpen }

// StateChange is what a breaker's listeners receive.
type StateChange struct {
	Name      string
	From, To  State
	Err       error     // the failure that opened it, as in OpenError; nil for other changes, and for slow calls
	At, Until time.Time // Until: when an open breaker will let a probe through; zero if it is not known, and for other states

	// Cause is why, for people to read. To open: "5 failures in a row", "12 of 20
	// calls failed", "14 of 20 calls slow", "probe failed" (or slow), "tripped",
	// "forced". To half-open: "recovery time over". To closed: "probe succeeded",
	// "reset".
	Cause string
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
	Cause               string    // of the last change, as in StateChange; "" if there was none
}

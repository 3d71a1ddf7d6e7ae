package retry

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/redact"
	"github.com/retryutils/retry/internal/valid"
)

// BreakerConfig says when a [CircuitBreaker] opens, for how long, and what
// closes it. The zero value opens after 5 consecutive failures, for 60s, and is
// closed by one successful probe.
type BreakerConfig struct {
	// Name stands in rejections and state changes.
	Name string

	// FailureThreshold is how many consecutive failures open the breaker. 0
	// means 5; where FailureRate or SlowCallRate is set, it means that only the
	// rates open it. A negative number always means that, and needs a rate.
	FailureThreshold int

	// FailureRate opens the breaker when this share of the calls of the last
	// Window failed, in (0, 1]. 0 means off. Only a failure can open it so.
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
	// close. 0 means 1. One probe that fails opens it again, and so does one that
	// takes SlowCallDuration, where that is set.
	SuccessThreshold int

	// ProbeTimeout is how long a probe may keep its place. One that has not
	// come back by then frees it for another. If it succeeds later on, while
	// the breaker is still half-open, that counts. 0 means RecoveryTimeout.
	ProbeTimeout time.Duration

	// IsFailure reports whether a call's error counts as a failure; if not, it
	// counts as a success. Nil means the package's [IsFailure]. It is not asked
	// about panics, which are failures, nor about what counts as neither: a
	// caller's cancel, a rejection, and what is marked [Neutral]; nor about a result
	// that is too late to count.
	//
	// It replaces the default, so call that inside for all other errors:
	//
	//	IsFailure: func(err error) bool { return !errors.Is(err, errNoStock) && retry.IsFailure(err) }
	IsFailure func(error) bool

	// ObserveOnly lets every call pass, while the breaker changes state, counts
	// and reports as if it rejected: to see what it would do.
	ObserveOnly bool

	// OnStateChange is called after each change of state, in order, once each,
	// outside of any lock. It may call any method. It runs in the goroutine of
	// the call that made the change, or in one that delivers another change at that
	// moment. It should return soon: it delays that call.
	OnStateChange func(StateChange)

	// Clock times everything; nil means the real clock.
	Clock clockwork.Clock

	// Rand draws from [0, 1) for RecoveryJitter; nil means math/rand/v2. It must
	// be safe for concurrent use.
	Rand func() float64
}

// Validate reports every field that cannot be used, one joined error each, all
// matching [ErrInvalidConfig].
func (c BreakerConfig) Validate() error {
	return c.problems().Join(ErrInvalidConfig, valid.Of("BreakerConfig"))
}

func (c *BreakerConfig) problems() (p valid.Problems) {
	const rate = "a share in (0, 1], or 0 for off"
	valid.Require(&p, validRate(c.FailureRate), "FailureRate", c.FailureRate, rate)
	valid.Require(&p, validRate(c.SlowCallRate), "SlowCallRate", c.SlowCallRate, rate)
	p.NotNegative("SlowCallDuration", c.SlowCallDuration)
	valid.RequireOther(&p, c.SlowCallDuration == 0 || c.SlowCallRate != 0,
		"SlowCallRate", c.SlowCallRate, "a share, to go with", "SlowCallDuration", c.SlowCallDuration)
	valid.RequireOther(&p, c.SlowCallRate == 0 || c.SlowCallDuration != 0,
		"SlowCallDuration", c.SlowCallDuration, "a duration, to go with", "SlowCallRate", c.SlowCallRate)
	valid.Require(&p, c.FailureThreshold >= 0 || c.FailureRate != 0 || c.SlowCallRate != 0,
		"FailureThreshold", c.FailureThreshold, "a count, or a rate to open by instead")
	valid.Require(&p, c.Window == 0 || c.Window >= minWindow && c.Window <= maxWindow, "Window", c.Window, "1ms to a year"+valid.OrDefault)
	valid.Require(&p, c.MinCalls >= 0, "MinCalls", c.MinCalls, "0 or more")
	p.NotNegative("RecoveryTimeout", c.RecoveryTimeout)
	recovery := cmp.Or(c.RecoveryTimeout, defaultRecovery)
	valid.RequireOther(&p, c.MaxRecoveryTimeout == 0 || c.MaxRecoveryTimeout >= recovery,
		"MaxRecoveryTimeout", c.MaxRecoveryTimeout, "0 for no growth, or at least", "RecoveryTimeout", recovery)
	valid.Require(&p, c.RecoveryJitter >= 0 && c.RecoveryJitter <= 1, "RecoveryJitter", c.RecoveryJitter, "a share in [0, 1]")
	valid.Require(&p, validCount(c.HalfOpenProbes), "HalfOpenProbes", c.HalfOpenProbes, "a count"+valid.OrDefault)
	valid.Require(&p, validCount(c.SuccessThreshold), "SuccessThreshold", c.SuccessThreshold, "a count"+valid.OrDefault)
	p.NotNegative("ProbeTimeout", c.ProbeTimeout)
	p.NotNil("Clock", c.Clock)
	return p
}

// rated reports whether there is a rate to open by.
func (c *BreakerConfig) rated() bool { return c.FailureRate > 0 || c.SlowCallRate > 0 }

// withDefaults fills in what is 0 and means something else.
func (c BreakerConfig) withDefaults() BreakerConfig {
	if c.FailureThreshold == 0 && !c.rated() {
		c.FailureThreshold = defaultFailureThreshold
	}
	c.Window = cmp.Or(c.Window, defaultWindow)
	c.MinCalls = cmp.Or(c.MinCalls, defaultMinCalls)
	c.RecoveryTimeout = cmp.Or(c.RecoveryTimeout, defaultRecovery)
	c.MaxRecoveryTimeout = cmp.Or(c.MaxRecoveryTimeout, c.RecoveryTimeout)
	c.HalfOpenProbes = cmp.Or(c.HalfOpenProbes, 1)
	c.SuccessThreshold = cmp.Or(c.SuccessThreshold, 1)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, c.RecoveryTimeout)
	if c.Rand == nil {
		c.Rand = randomFloat
	}
	return c
}

// settings are those that decide when a breaker opens and for how long, as text.
func (b *CircuitBreaker) settings() string {
	name, c := b.Name(), &b.cfg
	var parts []string
	if c.FailureThreshold > 0 {
		parts = append(parts, count(c.FailureThreshold, "failure")+" in a row")
	}
	if c.FailureRate > 0 {
		parts = append(parts, fmt.Sprintf("failure rate %.4g", c.FailureRate))
	}
	if c.SlowCallRate > 0 {
		parts = append(parts, fmt.Sprintf("rate %.4g of %v or longer", c.SlowCallRate, c.SlowCallDuration))
	}
	if c.rated() {
		parts = append(parts, fmt.Sprintf("window %v, at least %s", c.Window, count(c.MinCalls, "call")))
	}
	parts = append(parts, fmt.Sprintf("open for %v", c.RecoveryTimeout))
	if c.MaxRecoveryTimeout > c.RecoveryTimeout {
		parts = append(parts, fmt.Sprintf("at most %v", c.MaxRecoveryTimeout))
	}
	if c.ObserveOnly {
		parts = append(parts, "observe only")
	}
	text := strings.Join(parts, ", ")
	if name != "" {
		text = redact.Text(name) + ": " + text
	}
	return text
}

func validRate(rate float64) bool { return rate >= 0 && rate <= 1 }

func validCount(n int) bool { return n >= 0 && n <= math.MaxInt32 }

const (
	defaultFailureThreshold = 5
	defaultRecovery         = time.Minute
	defaultWindow           = 10 * time.Second
	defaultMinCalls         = 20

	minWindow = time.Millisecond
	maxWindow = 365 * 24 * time.Hour
)

package retry

import (
	"encoding/json"
	"log/slog"
	"math"
	"time"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/redact"
)

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

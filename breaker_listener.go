package retry

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/retryutils/retry/internal/clock"
)

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

// notifier delivers a breaker's changes to its listeners: in order, once each, and
// never under the breaker's lock. Whichever goroutine finds changes queued and no other
// at work delivers until the queue is empty. The breaker's mu guards the fields.
type notifier struct {
	listeners  []func(StateChange)
	changed    *StateChange // made under mu just now, and queued by unlock
	queue      []func()     // a call for each listener and change
	delivering bool
}

// OnStateChange adds a listener beside the configured one. The same holds for
// it as for [BreakerConfig.OnStateChange].
func (b *CircuitBreaker) OnStateChange(fn func(StateChange)) {
	if fn == nil {
		return
	}
	b.period()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.notify == nil {
		b.notify = new(notifier)
	}
	b.notify.listeners = append(slices.Clip(b.notify.listeners), fn)
}

// unlock releases b.mu, and delivers the change that was made under it, unless another
// goroutine is delivering: that one goes on with this change. ctx and cfg are the
// caller's; cfg may be nil.
func (b *CircuitBreaker) unlock(ctx context.Context, cfg *Config) {
	n := b.notify
	if n == nil || n.changed == nil {
		b.mu.Unlock()
		return
	}
	change := *n.changed
	n.changed = nil
	if cfg != nil && cfg.Logger != nil {
		log, name, host, level := cfg.Logger, cfg.Name, cfg.host, slog.LevelInfo // cfg itself stays on the caller's stack
		if change.To == StateOpen {
			level = slog.LevelWarn
		}
		n.queue = append(n.queue, func() {
			log.LogAttrs(ctx, level, "circuit breaker changed state", change.attrs(name, host)...)
		})
	}
	for _, listener := range n.listeners {
		n.queue = append(n.queue, func() { listener(change) })
	}
	mine := !n.delivering && len(n.queue) > 0
	n.delivering = n.delivering || mine
	b.mu.Unlock()
	if mine {
		b.deliver()
	}
}

// deliver empties the queue, whatever is added to it meanwhile. If a listener panics
// or calls runtime.Goexit, the others are called before the goroutine goes on with that.
func (b *CircuitBreaker) deliver() {
	n, empty := b.notify, false
	defer func() {
		if !empty {
			b.deliver()
		}
	}()
	for {
		b.mu.Lock()
		if empty = len(n.queue) == 0; empty {
			n.queue, n.delivering = nil, false
			b.mu.Unlock()
			return
		}
		next := n.queue[0]
		n.queue = n.queue[1:]
		b.mu.Unlock()
		next()
	}
}

// MarshalJSON writes the fields, Err as its text.
func (c StateChange) MarshalJSON() ([]byte, error) {
	type fields StateChange // without methods
	return json.Marshal(struct {
		fields
		Err *string
	}{fields(c), textOrNil(c.Err)})
}

// LogValue is a group of the fields that are set, under the keys of the
// package's own log lines.
func (c StateChange) LogValue() slog.Value {
	return slog.GroupValue(append(c.attrs("", ""), slog.Time("at", c.At))...)
}

// attrs describes the change of a breaker, for a caller of the given name. About a host
// it has the name and host of the caller's other lines, and beside them the breaker's
// own name where it is neither.
func (c *StateChange) attrs(name, host string) []slog.Attr {
	attrs := make([]slog.Attr, 0, 8)
	if host == "" && c.Name != "" {
		name = c.Name
	}
	if name != "" {
		attrs = append(attrs, slog.String("name", name))
	}
	if host != "" {
		attrs = append(attrs, slog.String("host", host))
	}
	if c.Name != "" && c.Name != name && c.Name != host {
		attrs = append(attrs, slog.String("breaker", c.Name))
	}
	attrs = append(attrs, slog.String("from", c.From.String()), slog.String("to", c.To.String()))
	if c.Cause != "" {
		attrs = append(attrs, slog.String("cause", c.Cause))
	}
	if !c.Until.IsZero() {
		attrs = append(attrs, slog.Time("until", c.Until))
	}
	return appendError(attrs, c.Err)
}

// waiters are the calls that wait until the breaker lets them pass. Its mu guards
// the fields.
type waiters struct {
	count   int
	changed chan struct{} // closed when they must check the breaker again; nil unless one of them waits for that
	after   *Gate         // lets them through one by one, once the breaker has closed
}

// join counts a call as waiting, until quit.
func (b *CircuitBreaker) join() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters == nil {
		b.waiters = &waiters{after: NewGate(b.cfg.Clock)}
	}
	b.waiters.count++
}

func (b *CircuitBreaker) quit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters.count--; b.waiters.count == 0 {
		b.waiters.changed = nil // one of a testing/synctest bubble is of no use in another
	}
}

// wake has the waiters check the breaker again. b.mu must be held.
func (b *CircuitBreaker) wake() {
	if b.waiters != nil && b.waiters.changed != nil {
		close(b.waiters.changed)
		b.waiters.changed = nil
	}
}

// blocked returns how long calls are rejected from now on, 0 or less if they are not,
// unless changed is closed before. known is false if that may come at any time.
func (b *CircuitBreaker) blocked() (left time.Duration, known bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters.changed == nil {
		b.waiters.changed = make(chan struct{})
	}
	changed = b.waiters.changed
	switch p := b.current.Load(); p.state() {
	case StateOpen:
		return p.open.left(b.cfg.Clock), !p.open.forced, changed
	case StateHalfOpen:
		now := clock.Now(b.cfg.Clock)
		if p.probes.expire(now, b.cfg.ProbeTimeout); len(*p.probes) >= b.cfg.HalfOpenProbes {
			return p.probes.left(now, b.cfg.ProbeTimeout), false, changed
		}
	}
	return 0, true, changed
}

// Waiting returns how many calls wait for the breaker to let them pass, as they
// do with [Config.WaitWhenOpen]. When it closes they go one by one, and those that
// have not gone yet count too. It is 0 for a breaker that only observes.
func (b *CircuitBreaker) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters == nil {
		return 0
	}
	return b.waiters.count
}

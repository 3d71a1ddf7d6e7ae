package retry

import (
	"context"
	"log/slog"
	"slices"
)

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
	b.notify.listeners = append(slices.Clip(b.notify.listeners), fn)
}

// unlock releases b.mu, and delivers the change that was made under it, unless another
// goroutine is delivering: that one goes on with this change. ctx and cfg are the
// caller's; cfg may be nil.
func (b *CircuitBreaker) unlock(ctx context.Context, cfg *Config) {
	n := &b.notify
	if n.changed == nil {
		b.mu.Unlock()
		return
	}
	change := *n.changed
	n.changed = nil
	if cfg != nil && cfg.Logger != nil {
		log, name := cfg.Logger, cfg.Name // cfg itself stays on the caller's stack
		n.queue = append(n.queue, func() { logChange(ctx, log, name, change) })
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
	n, empty := &b.notify, false
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

func logChange(ctx context.Context, log *slog.Logger, caller string, change StateChange) {
	level := slog.LevelInfo
	if change.To == StateOpen {
		level = slog.LevelWarn
	}
	log.LogAttrs(ctx, level, "circuit breaker changed state", change.attrs(caller)...)
}

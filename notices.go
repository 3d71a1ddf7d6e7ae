package retry

import "log/slog"

// notices tells a breaker's listeners of its changes: in order, once each, and
// never under its lock. The goroutine that finds nobody at it delivers all that
// is there, its own and what others add meanwhile. The breaker's mu guards it.
type notices struct {
	listeners  []func(StateChange)
	queue      []func()
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
	b.audience().listeners = append(b.audience().listeners, fn)
}

// audience makes the notices when there is somebody to tell. b.mu must be held.
func (b *CircuitBreaker) audience() *notices {
	if b.notices == nil {
		b.notices = new(notices)
		if b.onStateChange != nil {
			b.notices.listeners = append(b.notices.listeners, b.onStateChange)
		}
	}
	return b.notices
}

// announce queues the news of a change for everybody. b.mu must be held.
func (b *CircuitBreaker) announce(change StateChange, log *slog.Logger) {
	if b.notices == nil && b.onStateChange == nil && log == nil {
		return
	}
	n := b.audience()
	if log != nil {
		n.queue = append(n.queue, func() { logStateChange(log, change) })
	}
	for _, listener := range n.listeners {
		n.queue = append(n.queue, func() { listener(change) })
	}
}

// unlock releases b.mu and delivers what was queued under it.
func (b *CircuitBreaker) unlock() {
	pending := b.notices != nil && len(b.notices.queue) > 0
	b.mu.Unlock()
	if pending {
		b.notify()
	}
}

// notify delivers what is queued. b.mu must not be held.
func (b *CircuitBreaker) notify() {
	for {
		b.mu.Lock()
		n := b.notices
		if n == nil || n.delivering || len(n.queue) == 0 {
			b.mu.Unlock()
			return
		}
		n.delivering = true
		next := n.queue[0]
		n.queue = n.queue[1:]
		b.mu.Unlock()
		b.deliver(next)
	}
}

// deliver calls one listener. If it panics the others are still told, before
// the panic goes on to the caller.
func (b *CircuitBreaker) deliver(next func()) {
	returned := false
	defer func() {
		b.mu.Lock()
		b.notices.delivering = false
		b.mu.Unlock()
		if !returned {
			b.notify()
		}
	}()
	next()
	returned = true
}

func logStateChange(log *slog.Logger, change StateChange) {
	attrs := []any{"from", change.From.String(), "to", change.To.String()}
	if change.Name != "" {
		attrs = append(attrs, "breaker", change.Name)
	}
	if change.Err != nil {
		attrs = append(attrs, "error", redacted(change.Err))
	}
	log.Info("circuit breaker changed state", attrs...)
}

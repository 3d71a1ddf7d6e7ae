package retry

import (
	"context"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"time"
)

// listeners are told of a breaker's changes: in order, once each, and never
// under its lock. Each change is told by the goroutine that made it, as soon as
// the ones before are told. The breaker's mu guards the fields.
type listeners struct {
	all     []func(StateChange)
	changed *StateChange    // made under mu just now, and queued when it is released
	queue   []*notification // not told yet, in order; the first is being told
}

// notification is a change on its way to the listeners.
type notification struct {
	change StateChange
	to     []func(StateChange) // those who were not told yet
	ready  chan struct{}       // closed when the ones before are told; nil if nobody waits for that
}

// listenerPatience is how long a goroutine waits for an earlier change to be
// told, before it leaves its own to the goroutine that is at it: a listener that
// hangs, or waits for this very goroutine, must not stop it.
const listenerPatience = 5 * time.Second

// OnStateChange adds a listener beside the configured one. The same holds for
// it as for [BreakerConfig.OnStateChange].
func (b *CircuitBreaker) OnStateChange(fn func(StateChange)) {
	if fn == nil {
		return
	}
	b.period()
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ensureListeners()
	l.all = append(slices.Clip(l.all), fn)
}

// ensureListeners makes the listeners for the first of them, or for the first
// change. b.mu must be held.
func (b *CircuitBreaker) ensureListeners() *listeners {
	if b.listeners == nil {
		b.listeners = new(listeners)
	}
	return b.listeners
}

// unlock releases b.mu and tells of the change that was made under it. ctx and
// cfg are the caller's; cfg may be nil.
func (b *CircuitBreaker) unlock(ctx context.Context, cfg *Config) {
	l := b.listeners
	if l == nil || l.changed == nil {
		b.mu.Unlock()
		return
	}
	n := &notification{change: *l.changed, to: l.all}
	l.changed = nil
	if cfg != nil && cfg.Logger != nil {
		n.to = append([]func(StateChange){logChange(ctx, cfg.Logger, cfg.Name)}, n.to...)
	}
	if len(n.to) == 0 {
		b.mu.Unlock()
		return
	}
	l.queue = append(l.queue, n)
	first := len(l.queue) == 1
	if !first && !inListener() {
		n.ready = make(chan struct{})
	}
	ready := n.ready
	b.mu.Unlock()
	if first || ready != nil && b.awaitReady(ctx, n, ready) {
		b.deliver(n)
	}
}

// awaitReady waits until the goroutine may tell its change. It returns false if
// it need not do so: the caller's context is done, or a listener takes too long,
// and the goroutine that is at it will tell this change too.
func (b *CircuitBreaker) awaitReady(ctx context.Context, n *notification, ready chan struct{}) bool {
	for {
		b.mu.Lock()
		before := b.listeners.queue[0]
		b.mu.Unlock()
		timer := time.NewTimer(listenerPatience)
		select {
		case <-ready:
			timer.Stop()
			return true
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		b.mu.Lock()
		now := b.listeners.queue[0]
		leave := now != n && (now == before || done(ctx))
		if leave {
			n.ready = nil
		}
		b.mu.Unlock()
		if now == n || leave {
			return now == n
		}
	}
}

// deliver tells a change, and lets the next one be told.
func (b *CircuitBreaker) deliver(n *notification) {
	defer b.deliverNext()
	notify(n)
}

// deliverNext lets the goroutine tell the next change that waits for it. A change
// that nobody waits with is told here.
func (b *CircuitBreaker) deliverNext() {
	b.mu.Lock()
	l := b.listeners
	l.queue = l.queue[1:]
	var left *notification
	if len(l.queue) > 0 {
		if next := l.queue[0]; next.ready != nil {
			close(next.ready)
		} else {
			left = next
		}
	}
	b.mu.Unlock()
	if left != nil {
		b.deliver(left)
	}
}

// notify calls the listeners. If one panics the others are still told, before
// the panic goes on to the caller.
//
//go:noinline
func notify(n *notification) {
	if len(n.to) == 0 {
		return
	}
	next := n.to[0]
	n.to = n.to[1:]
	defer notify(n)
	next(n.change)
}

var notifyEntry = reflect.ValueOf(notify).Pointer()

// inListener reports whether this goroutine is inside a listener. A change that
// it makes there cannot wait to be told: it is told when the listener has
// returned. No argument leads from there to here, so the stack is searched for
// notify; that happens only while a change is being told.
func inListener() bool {
	var callers [64]uintptr
	for skip := 0; ; skip += len(callers) {
		n := runtime.Callers(skip, callers[:])
		for _, pc := range callers[:n] {
			if f := runtime.FuncForPC(pc - 1); f != nil && f.Entry() == notifyEntry {
				return true
			}
		}
		if n < len(callers) {
			return false
		}
	}
}

// logChange returns the listener that a caller's Logger is.
func logChange(ctx context.Context, log *slog.Logger, caller string) func(StateChange) {
	return func(change StateChange) {
		level := slog.LevelInfo
		if change.To == StateOpen {
			level = slog.LevelWarn
		}
		log.LogAttrs(ctx, level, "circuit breaker changed state", change.attrs(caller)...)
	}
}

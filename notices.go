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
// under its lock. Each change is told by the goroutine that made it, when its
// turn has come. The breaker's mu guards the fields.
type listeners struct {
	all     []func(StateChange)
	changed *StateChange // made under mu just now, and queued when it is released
	queue   []*news      // not told yet, in order; the first is being told
}

// news is a change of state on its way to the listeners.
type news struct {
	change StateChange
	to     []func(StateChange) // those who were not told yet
	turn   chan struct{}       // closed when its maker may tell it; nil if that does not wait
}

// hookPatience is how long a goroutine waits for one listener that is busy with
// an earlier change, before it leaves its own news to the goroutine there: a
// listener that hangs, or waits for this very goroutine, must not stop it.
const hookPatience = 5 * time.Second

// OnStateChange adds a listener beside the configured one. The same holds for
// it as for [BreakerConfig.OnStateChange].
func (b *CircuitBreaker) OnStateChange(fn func(StateChange)) {
	if fn == nil {
		return
	}
	b.period()
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.audience()
	l.all = append(slices.Clip(l.all), fn)
}

// audience makes the listeners for the first of them, or for the first change.
// b.mu must be held.
func (b *CircuitBreaker) audience() *listeners {
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
	n := &news{change: *l.changed, to: l.all}
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
	if !first && !telling() {
		n.turn = make(chan struct{})
	}
	turn := n.turn
	b.mu.Unlock()
	if first || turn != nil && b.awaitTurn(ctx, n, turn) {
		b.deliver(n)
	}
}

// awaitTurn waits until the goroutine may tell its news. It returns false if it
// need not do so: the caller's context is done, or whoever is at it takes too
// long, and will tell them instead.
func (b *CircuitBreaker) awaitTurn(ctx context.Context, n *news, turn chan struct{}) bool {
	for {
		b.mu.Lock()
		before := b.listeners.queue[0]
		b.mu.Unlock()
		timer := time.NewTimer(hookPatience)
		select {
		case <-turn:
			timer.Stop()
			return true
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		b.mu.Lock()
		mine := b.listeners.queue[0] == n
		leave := !mine && (b.listeners.queue[0] == before || done(ctx))
		if leave {
			n.turn = nil
		}
		b.mu.Unlock()
		if mine || leave {
			return mine
		}
	}
}

// deliver tells news, and passes the turn on.
func (b *CircuitBreaker) deliver(n *news) {
	defer b.passTurn()
	tell(n)
}

func (b *CircuitBreaker) passTurn() {
	b.mu.Lock()
	l := b.listeners
	l.queue = l.queue[1:]
	var orphan *news
	if len(l.queue) > 0 {
		if next := l.queue[0]; next.turn != nil {
			close(next.turn)
		} else {
			orphan = next
		}
	}
	b.mu.Unlock()
	if orphan != nil {
		b.deliver(orphan)
	}
}

// tell calls the listeners. If one panics the others are still told, before the
// panic goes on to the caller.
//
//go:noinline
func tell(n *news) {
	if len(n.to) == 0 {
		return
	}
	next := n.to[0]
	n.to = n.to[1:]
	defer tell(n)
	next(n.change)
}

var tellEntry = reflect.ValueOf(tell).Pointer()

// telling reports whether this goroutine is inside a listener. What it changes
// there cannot wait for its turn: that comes when the listener has returned.
func telling() bool {
	var callers [64]uintptr
	for skip := 0; ; skip += len(callers) {
		n := runtime.Callers(skip, callers[:])
		for _, pc := range callers[:n] {
			if f := runtime.FuncForPC(pc - 1); f != nil && f.Entry() == tellEntry {
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

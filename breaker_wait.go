package retry

import "time"

// waiters are the calls that wait until the breaker lets them pass. Its mu guards
// the fields.
type waiters struct {
	woken map[chan struct{}]struct{} // a channel for each
	after *Gate                      // lets them through one by one
}

// join has the returned channel receive whenever one who waits for the breaker
// should look at it again. Each has a channel of its own, and takes it along
// with quit: one that stayed behind could not be used by the next who comes from
// another testing/synctest bubble.
func (b *CircuitBreaker) join() (changed chan struct{}) {
	changed = make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters == nil {
		b.waiters = &waiters{make(map[chan struct{}]struct{}), NewGate(b.clock)}
	}
	b.waiters.woken[changed] = struct{}{}
	return changed
}

func (b *CircuitBreaker) quit(changed chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiters.woken, changed)
}

// wake has those who wait for the breaker look again. b.mu must be held.
func (b *CircuitBreaker) wake() {
	if b.waiters == nil {
		return
	}
	for changed := range b.waiters.woken {
		select {
		case changed <- struct{}{}:
		default: // it is about to look
		}
	}
}

// blocked tells how long calls are rejected from now on, unless changed receives
// before. known is false if that may come at any time.
func (b *CircuitBreaker) blocked(changed <-chan struct{}) (left time.Duration, known, blocked bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-changed: // before this look
	default:
	}
	p, now := b.current.Load(), now(b.clock)
	if p.open != nil {
		left = p.open.left(b.clock)
		return left, !p.open.forced, left > 0
	}
	if h := p.halfOpen; h != nil {
		if h.expire(now, b.probeTimeout); h.full(b.probes) {
			return h.timeLeft(now, b.probeTimeout), false, true
		}
	}
	return 0, true, false
}

// Waiting returns how many calls wait for the breaker to let them pass, as they
// do with [Config.WaitWhenOpen]. When it closes they go one by one, and those who
// have not gone yet count too. It is 0 for a breaker that only observes.
func (b *CircuitBreaker) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters == nil {
		return 0
	}
	return len(b.waiters.woken)
}

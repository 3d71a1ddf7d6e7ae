package retry

import (
	"context"
	"sync"
	"sync/atomic"
)

// Allow asks for a permit for one call, whose result must be reported with
// [Permit.Done]. It returns an [*OpenError] if there is none.
func (b *CircuitBreaker) Allow() (Permit, error) {
	p, rejection := b.enter(context.Background(), nil)
	if rejection != nil {
		return Permit{}, rejection
	}
	t := tickets.Get().(*ticket)
	t.breaker, t.pass = b, p
	return Permit{t, t.turn.Load()}, nil
}

// Permit is the permit of one call that [CircuitBreaker.Allow] gave.
type Permit struct {
	ticket *ticket
	turn   uint64
}

// Done reports the call's result. Only the first report counts, whatever the
// number of copies of the Permit. On a zero Permit it does nothing. The breaker
// does not know the call's context here: mark an error that came of the caller's
// own cancel, and does not say so, with [Neutral].
func (p Permit) Done(err error) {
	if p.ticket == nil || !p.ticket.turn.CompareAndSwap(p.turn, p.turn+1) {
		return
	}
	b, admitted := p.ticket.breaker, p.ticket.pass
	p.ticket.breaker, p.ticket.pass = nil, pass{}
	tickets.Put(p.ticket)
	b.report(context.Background(), nil, admitted, err)
}

// ticket makes a Permit count once without an allocation for each: it serves
// one permit after the other, and its turn tells them apart.
type ticket struct {
	turn    atomic.Uint64
	breaker *CircuitBreaker
	pass    pass
}

var tickets = sync.Pool{New: func() any { return new(ticket) }}

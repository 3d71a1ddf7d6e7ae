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
	shared := permits.Get().(*pooledPermit)
	shared.breaker, shared.pass = b, p
	return Permit{shared, shared.uses.Load()}, nil
}

// Permit is the permit of one call that [CircuitBreaker.Allow] gave.
type Permit struct {
	pooled *pooledPermit
	use    uint64 // the pooled one's, that is this permit
}

// Done reports the call's result. Only the first report counts, whatever the
// number of copies of the Permit. On a zero Permit it does nothing. The breaker
// does not know the call's context here: mark an error that came of the caller's
// own cancel, and does not say so, with [Neutral].
func (p Permit) Done(err error) {
	if p.pooled == nil || !p.pooled.uses.CompareAndSwap(p.use, p.use+1) {
		return
	}
	b, admitted := p.pooled.breaker, p.pooled.pass
	p.pooled.breaker, p.pooled.pass = nil, pass{}
	permits.Put(p.pooled)
	b.report(context.Background(), nil, admitted, err)
}

// pooledPermit makes a Permit count once, whatever the number of its copies,
// without an allocation of 48 bytes for each: it serves one after the other, and
// tells them apart by the number of its uses.
type pooledPermit struct {
	uses    atomic.Uint64
	breaker *CircuitBreaker
	pass    pass
}

var permits = sync.Pool{New: func() any { return new(pooledPermit) }}

package retry

import (
	"context"
	"sync"
	"sync/atomic"
)

// Allow asks for a permit for one call, and returns an [*OpenError] if there is
// none. With a permit, the result of the call must be reported by [Permit.Done],
// also if the call panics. Where a function can be passed, [CircuitBreaker.Do] sees
// to all of that.
func (b *CircuitBreaker) Allow() (Permit, error) {
	p, rejection := b.enter(context.Background(), nil)
	if rejection != nil {
		return Permit{}, rejection
	}
	shared := permits.Get().(*pooledPermit)
	shared.breaker, shared.pass = b, p
	return Permit{shared, shared.uses.Load()}, nil
}

// Permit is the permit of one call, as [CircuitBreaker.Allow] gives it. Call Done
// exactly once, when the call is over. Until then the breaker takes the call to be in
// flight: a probe keeps its place until ProbeTimeout, and a call that is watched for
// being slow counts as slow in the end.
//
// The zero value is the permit of no call, and its Done does nothing. A Permit may be
// copied, and is safe for concurrent use.
type Permit struct {
	pooled *pooledPermit
	use    uint64 // the pooled one's, that is this permit
}

// Done reports the call's result, nil for a success. The first report of a permit
// counts, and any further one, of a copy too, does nothing. The breaker does not know
// the call's context here: an error that came of the caller's own cancel, but is no
// [context.Canceled], is to be marked with [Neutral].
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

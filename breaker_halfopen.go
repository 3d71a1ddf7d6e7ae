package retry

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/retryutils/retry/internal/clock"
)

// probe is a call that was let through to see whether others may follow.
type probe struct {
	period *period
	since  time.Time
	over   atomic.Bool // its result has come
}

// probes are the probes that hold a place, in order of their start. The breaker's
// mu guards them.
type probes []*probe

// expire frees the places of the probes whose time is over. They may still succeed.
func (p *probes) expire(now time.Time, timeout time.Duration) {
	for _, probe := range *p {
		if probe.since.After(now) { // the clock was set back
			probe.since = now
		}
	}
	for len(*p) > 0 && p.left(now, timeout) <= 0 {
		*p = (*p)[1:]
	}
}

// left is how long the oldest probe may still keep its place.
func (p probes) left(now time.Time, timeout time.Duration) time.Duration {
	return p[0].since.Add(timeout).Sub(now)
}

// admitProbe lets a call pass as a probe if there is a place. b.mu must be held.
func (b *CircuitBreaker) admitProbe(p *period) (permit, error) {
	now := clock.Now(b.cfg.Clock)
	p.probes.expire(now, b.cfg.ProbeTimeout)
	if len(*p.probes) >= b.cfg.HalfOpenProbes {
		return permit{}, b.reject(p, 0)
	}
	probe := &probe{period: p, since: now}
	*p.probes = append(*p.probes, probe)
	p.requests.Add(1)
	return permit{period: p, probe: probe}, nil
}

// settleProbe counts a probe's result. One that has lost its place counts if it
// succeeded, for the dependency works, if slowly; its failure is stale. b.mu must
// be held.
func (b *CircuitBreaker) settleProbe(probe *probe, r result) {
	p, now := probe.period, clock.Now(b.cfg.Clock)
	p.probes.expire(now, b.cfg.ProbeTimeout)
	place := slices.Index(*p.probes, probe)
	if place >= 0 {
		*p.probes = slices.Delete(*p.probes, place, place+1)
	}
	slow := b.cfg.SlowCallRate > 0 && now.Sub(probe.since) >= b.cfg.SlowCallDuration
	switch {
	case r.verdict == neutral:
	case slow, r.verdict == failure && place >= 0:
		if r.verdict == failure {
			b.lastFailure = r.err
		}
		b.openTime += min(b.openTime, b.cfg.MaxRecoveryTimeout-b.openTime)
		b.trip("probe failed", r.err, r.stretch)
		return
	case r.verdict == success:
		if p.successes.Add(1) >= int64(b.cfg.SuccessThreshold) {
			b.transition(b.closedPeriod(), "probe succeeded", nil)
			return
		}
	}
	b.wake()
}

// probeKey marks all that happens inside a probe. Without the mark, a call
// through the same breaker there would wait for the place that its own probe
// holds.
type probeKey struct{ breaker *CircuitBreaker }

// context returns the context to make the call with.
func (p permit) context(ctx context.Context, b *CircuitBreaker) context.Context {
	if p.probe == nil {
		return ctx
	}
	return context.WithValue(ctx, probeKey{b}, p.probe)
}

// isWithinProbe reports whether ctx comes from a probe of this period that is still
// in flight.
func (b *CircuitBreaker) isWithinProbe(ctx context.Context, p *period) bool {
	probe, _ := ctx.Value(probeKey{b}).(*probe)
	return probe != nil && probe.period == p && !probe.over.Load()
}

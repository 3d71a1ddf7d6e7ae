package retry

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// halfOpenPeriod is what only a half-open period has; the breaker's mu guards it.
type halfOpenPeriod struct {
	probes     []*probe // that hold a place, in order of their start
	count      int64    // of probes so far
	rejections int64
	rejection  *OpenError // shared by all who are rejected
}

// probe is a call that was let through to see whether others may follow.
type probe struct {
	period *period
	since  time.Time
	over   atomic.Bool // it has come back
}

// expire takes the places of the probes whose time is over. They may still come
// back, and succeed.
func (h *halfOpenPeriod) expire(now time.Time, timeout time.Duration) {
	for _, probe := range h.probes {
		if probe.since.After(now) { // the clock was set back
			probe.since = now
		}
	}
	for len(h.probes) > 0 && h.timeLeft(now, timeout) <= 0 {
		h.probes = h.probes[1:]
	}
}

// timeLeft is how long the oldest probe may still keep its place.
func (h *halfOpenPeriod) timeLeft(now time.Time, timeout time.Duration) time.Duration {
	return h.probes[0].since.Add(timeout).Sub(now)
}

// full reports whether all places are taken; expire comes before it.
func (h *halfOpenPeriod) full(places int32) bool { return len(h.probes) >= int(places) }

// admitProbe lets a call pass as a probe if there is a place. b.mu must be held.
func (b *CircuitBreaker) admitProbe(p *period, now time.Time) (pass, error) {
	h := p.halfOpen
	h.expire(now, b.probeTimeout)
	if !h.full(b.probes) {
		probe := &probe{period: p, since: now}
		h.count++
		h.probes = append(h.probes, probe)
		return pass{period: p, probe: probe}, nil
	}
	h.rejections++
	if b.observeOnly {
		return pass{}, nil
	}
	if h.rejection == nil {
		h.rejection = &OpenError{Name: b.name, State: StateHalfOpen, Err: b.last}
	}
	return pass{}, h.rejection
}

// settleProbe counts a probe's result. One that has lost its place is heard if
// it succeeded: the dependency works, if slowly. That it failed is no news of
// now. b.mu must be held.
func (b *CircuitBreaker) settleProbe(probe *probe, r result) {
	p, now := probe.period, now(b.clock)
	h := p.halfOpen
	h.expire(now, b.probeTimeout)
	i := slices.Index(h.probes, probe)
	if i >= 0 {
		h.probes = slices.Delete(h.probes, i, i+1)
	}
	slow := b.window != nil && b.window.slow != nil && now.Sub(probe.since) >= b.window.slow.after
	switch {
	case r.verdict == neutral:
		p.neutrals++
	case slow, r.verdict == failure && i >= 0:
		if r.verdict == failure {
			b.last = r.err
		}
		b.reopened = min(b.reopened+1, maxDoublings)
		b.trip(r, "probe failed")
		return
	case r.verdict == success:
		if p.successes.Add(1) >= int64(b.successes) {
			b.reopened = 0
			b.transition(b.closed(), "probe succeeded", nil, now)
			return
		}
	}
	b.wake()
}

// probeContext marks all that happens inside a probe. Without the mark, a call
// through the same breaker there would wait for the place that its own probe
// holds.
type probeContext struct {
	context.Context
	breaker *CircuitBreaker
	probe   *probe
}

type probeKey struct{ breaker *CircuitBreaker }

func (c *probeContext) Value(key any) any {
	if key == (probeKey{c.breaker}) {
		return c.probe
	}
	return c.Context.Value(key)
}

// context returns the context to make the call with.
func (p pass) context(ctx context.Context, b *CircuitBreaker) context.Context {
	if p.probe == nil {
		return ctx
	}
	return &probeContext{ctx, b, p.probe}
}

// within reports whether ctx comes from a probe of this period that is still
// under way.
func (b *CircuitBreaker) within(ctx context.Context, p *period) bool {
	probe, _ := ctx.Value(probeKey{b}).(*probe)
	return probe != nil && probe.period == p && !probe.over.Load()
}

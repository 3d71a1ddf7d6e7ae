package main

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const trials = 20

// The figures of the literature, by the library's own Config.Delay.
func TestContention(t *testing.T) {
	f := &findings{occSizes: []int{100, 200}}
	t.Run("all", func(t *testing.T) { f.contention(t, 1, trials) })
	assert.InDelta(t, 0.33, f.ratio("Full", "None", 100, true), 0.02)
	assert.InDelta(t, 0.43, f.ratio("Full", "Exponential", 100, true), 0.02)
	assert.InDelta(t, 1.9, f.ratio("±20 %", "Full", 100, false), 0.2)
	assert.InDelta(t, 1.35, f.ratio("Equal", "Full", 100, false), 0.1)
	assert.InDelta(t, 1.26, f.ratio("Decorrelated", "Full", 100, true), 0.05)
	assert.InDelta(t, 3.64, f.contentionOf("None", 200).calls/f.contentionOf("None", 100).calls, 0.1)
}

func TestOutage(t *testing.T) {
	var open, alone, long []outcome
	policies := only(openPolicies(), "no retry", "fixed 1s, 5 retries", "Config{}: ±20 %", "budget 10 %, burst 1", "breaker 5 / 5s", "budget 10 % + breaker 5s")
	t.Run("all", func(t *testing.T) {
		each(t, &open, policies, func(p policy) outcome { return outage(20, 60).run(p, 1) })
		each(t, &alone, only(policies, "budget 10 %, burst 1"), func(p policy) outcome { return outage(1000, 60).run(p, 1) })
		each(t, &long, longPolicies(), func(p policy) outcome { return outage(1000, 300).run(p, 1) })
	})
	amplification := func(name string) float64 { return find(open, name).amplification }
	assert.InDelta(t, 1, amplification("no retry"), 0.005)
	assert.Greater(t, amplification("fixed 1s, 5 retries"), 5.0)
	assert.Greater(t, amplification("Config{}: ±20 %"), 5.0, "backoff does not help against independent arrivals")
	// A call in ten, and for each process the one it had saved up and one a minute.
	bound := func(processes, minutes float64) float64 { return 1.1 + processes*(1+minutes)/(200*60*minutes) }
	assert.LessOrEqual(t, amplification("budget 10 %, burst 1"), bound(20, 1))
	assert.LessOrEqual(t, find(alone, "budget 10 %, burst 1").amplification, bound(1000, 1))
	assert.LessOrEqual(t, long[0].amplification, bound(1000, 5))
	assert.Greater(t, long[0].amplification, 1.15, "what accrues is used")
	assert.LessOrEqual(t, amplification("breaker 5 / 5s"), 0.05)
	assert.LessOrEqual(t, amplification("budget 10 % + breaker 5s"), 0.05)
	for i, p := range policies {
		if p.recommended {
			assert.LessOrEqual(t, float64(open[i].perSecond), 1.25*capacity, p.name)
			assert.LessOrEqual(t, open[i].recovered, 6.0, p.name)
		}
	}
}

// A single plain retry keeps the overload going for ever, once it has begun.
func TestMetastableFailure(t *testing.T) {
	var hot []outcome
	t.Run("all", func(t *testing.T) {
		each(t, &hot, only(hotPolicies(), "one plain retry", "budget 10 % + breaker 5s"), func(p policy) outcome { return hotOS(280).run(p, 1) })
	})
	retried := find(hot, "one plain retry")
	assert.True(t, math.IsInf(retried.recovered, 1))
	assert.InDelta(t, 560, retried.offered, 20)
	assert.LessOrEqual(t, find(hot, "budget 10 % + breaker 5s").recovered, 10.0)
}

// Wherever in the breaker's open time the outage ends, a thousand workers are
// done soon after, and do not bring the server down again.
func TestWaitingWorkers(t *testing.T) {
	policies := closedPolicies()
	p := policies[len(policies)-1]
	require.True(t, p.recommended)
	var outcomes []outcome
	var gate outcome
	t.Run("all", func(t *testing.T) {
		each(t, &outcomes, []float64{58, 60, 61}, func(lasts float64) outcome { return soon(closedOutage(lasts)).run(p, 1) })
		bubble(t, func() { gate = hinted(1) })
	})
	for _, o := range append(outcomes, gate) {
		assert.LessOrEqual(t, o.quantile(1, 1000), 10.0, o.policy)
		assert.LessOrEqual(t, float64(o.perSecond), 1.25*capacity, o.policy)
		assert.Zero(t, o.shed, o.policy)
	}
	assert.LessOrEqual(t, gate.quantile(1, 1000), 7.0, "it was 7.4 when newcomers first had to wait in line")
}

func TestThrottled(t *testing.T) {
	var outcomes []throttledOutcome
	for _, s := range throttledServers() {
		t.Run("all", func(t *testing.T) {
			each(t, &outcomes, throttledPolicies(), func(p throttledPolicy) throttledOutcome { return s.run(p, 1) })
		})
		own, joined, known := outcomes[0], outcomes[3], outcomes[4]
		assert.Less(t, joined.refused, own.refused, s.name)
		switch s.name {
		case "NCBI, 16 x 8", "gnomAD, 4 x 8": // the first rounds alone are a tenth of the jobs
		default:
			assert.LessOrEqual(t, joined.refused, 250.0, s.name)
		}
		if s.name != "NCBI, 16 x 8" { // a share of less than one call in a window cannot be kept without a common clock
			assert.LessOrEqual(t, known.refused, 1.0, s.name)
		}
	}
}

// The same seed gives the same world, down to every call.
func TestDeterministic(t *testing.T) {
	policies := closedPolicies()
	for _, p := range policies[len(policies)-2:] {
		var first, second outcome
		synctest.Test(t, func(*testing.T) { first = soon(closedOutage(10)).run(p, 7) })
		synctest.Test(t, func(*testing.T) { second = soon(closedOutage(10)).run(p, 7) })
		require.Equal(t, first, second)
	}
	// Experiments that ran side by side once drew from each other's randomness.
	one, two := &findings{occSizes: []int{20, 50}}, &findings{occSizes: []int{20, 50}}
	t.Run("all", func(t *testing.T) { one.contention(t, 1, trials) })
	t.Run("all", func(t *testing.T) { two.contention(t, 1, trials) })
	require.Equal(t, one.occ, two.occ)
}

// soon is a workload that ends soon after the outage.
func soon(l closedLoad) closedLoad {
	l.end = l.down.to + 20
	return l
}

func only(policies []policy, names ...string) (found []policy) {
	for _, p := range policies {
		if slices.Contains(names, p.name) {
			found = append(found, p)
		}
	}
	return found
}

package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/hedge"
)

// hedgedFor compares a load with and without hedges.
func hedgedFor(t *testing.T, seed uint64, phases ...phase) (without, with hedgedOutcome) {
	synctest.Test(t, func(*testing.T) { without = hedgedLoad(withoutHedges, phases, seed) })
	synctest.Test(t, func(*testing.T) { with = hedgedLoad(ourHedges(hedge.Config{}), phases, seed) })
	return without, with
}

// A server that is not busy: the tail is cut for 5 % more requests at the most.
func TestHedgingCutsTheTail(t *testing.T) {
	for _, c := range []struct{ load, p99, p999, extra float64 }{
		{0.3, 35, 50, 0.05}, {0.5, 36, 50, 0.05}, {0.7, 48, 100, 0.05}, {0.8, 80, 250, 0.06},
	} {
		without, with := hedgedFor(t, 1, phase{c.load, 30 * time.Second})
		t.Logf("%.1f: %.0f/%.0f ms without, %.0f/%.0f with, %.2f %% more", c.load, without.p99, without.p999, with.p99, with.p999, 100*with.extra)
		assert.Greater(t, without.p99, 180.0, c.load)
		assert.LessOrEqual(t, with.p99, c.p99, c.load)
		assert.LessOrEqual(t, with.p999, c.p999, c.load)
		assert.LessOrEqual(t, with.extra, c.extra, c.load)
	}
}

// A server that has as much to do as it can, or more: hedging makes nothing worse. At a
// load of 0.95 and 1 it was up to 1.17 times as bad, as hedges were still sent, and won,
// while the queue grew.
func TestHedgingUnderOverload(t *testing.T) {
	for load, limit := range map[float64]float64{0.9: 1.1, 0.95: 1.1, 1: 1.1, 1.2: 1.1} {
		for seed := range uint64(2) {
			without, with := hedgedFor(t, seed, phase{load, 30 * time.Second})
			t.Logf("%.2f: %.0f/%.0f ms without, %.0f/%.0f with, %.2f %% more", load, without.p99, without.p999, with.p99, with.p999, 100*with.extra)
			assert.LessOrEqual(t, with.p99, limit*without.p99, load)
			assert.LessOrEqual(t, with.p999, limit*without.p999, load)
		}
	}
}

// After an overload all is well again as soon as without hedges, and hedges are made again.
func TestHedgingAfterAnOverload(t *testing.T) {
	phases := []phase{{0.7, 10 * time.Second}, {1.5, 10 * time.Second}, {0.7, time.Minute}}
	without, with := hedgedFor(t, 1, phases...)
	t.Logf("recovered after %.0f s without, %.0f s with, %.2f %% more", without.recovered, with.recovered, 100*with.extra)
	assert.LessOrEqual(t, with.recovered, 1.1*without.recovered)
	assert.Greater(t, with.extra, 0.01)
}

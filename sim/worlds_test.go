package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Whatever a server refuses calls for, a gate costs its client no more than some times as
// long, and in nine worlds of ten next to nothing: the first 30 of each kind of RESULTS.md.
// The last kind has no bound, and says so there.
func TestGateInWorldsDrawnByChance(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	all := drawWorlds(t, 30)
	for i, d := range all[:len(all)-1] {
		assert.LessOrEqual(t, quantile(d.times, 0.5), 1.05, kinds()[i].name)
		assert.LessOrEqual(t, quantile(d.times, 0.9), 2.2, kinds()[i].name)
		assert.LessOrEqual(t, quantile(d.times, 1), 7.5, kinds()[i].name)
		assert.LessOrEqual(t, quantile(d.refused, 0.5), 1.0, kinds()[i].name)
	}
}

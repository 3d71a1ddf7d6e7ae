package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// reachedHarm is where the goal of a situation is not reached, or by few seeds only:
// how long it may take in the median, and in the worst seed. RESULTS.md has 20 seeds.
var reachedHarm = map[string][2]float64{
	"four calls of 30s at once":      {1.2, 1.3},
	"by chance, 30 %, 1s":            {1.2, 2},
	"by chance, 50 %, 100ms":         {1.15, 2},
	"by chance, 50 %, 1s":            {1.15, 2},
	"by chance, 70 %, 1s":            {1.2, 4},
	"shared with another client":     {2, 4.5},
	"stray refusal":                  {1.01, 1.02},
	"nginx, 100/s, burst 20; 1 x 50": {1.15, 1.2},
	"nginx, no burst; 1 x 50":        {1.85, 2.1},
	"gnomAD, 4 x 8":                  {1.15, 1.4},
	"NCBI, 16 x 8":                   {1.3, 1.6},
}

// A gate makes no client worse than it would be without: five seeds of the table of
// RESULTS.md. It took up to 325 times as long where calls are refused by chance, and
// 50 times where one backend of ten is down.
func TestGateDoesNoHarm(t *testing.T) {
	for _, c := range compare(t, append(harmless(), useful()...), []peer{peers()[theGate], peers()[noGate]}, 5) {
		median, worst := c.times(0, 1)
		limit := [2]float64{c.goal, c.worst}
		if reached, ok := reachedHarm[c.name]; ok {
			limit = reached
		}
		assert.LessOrEqual(t, median, limit[0], c.name)
		assert.LessOrEqual(t, worst, limit[1], c.name)
		if c.refused > 0 {
			some, _ := c.of(0, refused)
			assert.LessOrEqual(t, some, 1.4*c.refused, c.name)
		}
		for seed, trial := range c.trials[0] {
			assert.LessOrEqual(t, trial.lost, c.trials[1][seed].lost, "%s: jobs lost", c.name)
		}
	}
}

package main

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// 2,000 jobs by 50 goroutines at nginx's limit_req: how long it takes, in
// multiples of the least possible, and how many of 1,000 are refused. Without a gate it
// takes 1.51 at 180/s, and 1.98 at worst.
func TestPaceAtNginx(t *testing.T) {
	for _, c := range []struct{ rate, burst, atMost float64 }{
		{100, 20, 1.2}, {100, 0, 2.1}, {70, 20, 1.15}, {130, 20, 1.25}, {180, 20, 1.6}, {400, 50, 2.1}, {30, 5, 1.15},
	} {
		refused := 0.0
		median, worst := tenSeeds(t, func(seed uint64) float64 {
			w := newWorld()
			s := &bucketServer{world: w, rate: c.rate, burst: c.burst, retryAfter: time.Second}
			drive(w, s, []*group{newGroup(w, 50, 0)}, 2000, 0, seed)
			refused = max(refused, float64(s.refused)/2)
			return w.since() / ((2000 - c.burst - 1) / c.rate)
		})
		t.Logf("%v/s, burst %v: %.3f, worst %.3f; at worst %.1f of 1,000 refused", c.rate, c.burst, median, worst, refused)
		assert.LessOrEqual(t, worst, c.atMost)
		assert.LessOrEqual(t, refused, 200.0) // 180/s: up to a fifth is accepted without a pace
	}
}

// The most that the rows below may take in the worst of ten seeds, and, the time alone, in
// all but four of forty, and be refused of 1,000 in the median and in the worst, with joined
// gates, and a margin. A process of a fleet once took the refusals that others cause for
// ones that no rate explains, and raised its pace: 1,004 were refused in the worst of forty
// seeds of NCBI, 16 x 8. The worst of ten is chance at gnomAD: it was 1.19, and then 1.25,
// by a change that moved no quantile of 400 seeds.
var reached = map[string]struct{ time, most, refused, worst float64 }{
	"Ensembl, 4 x 8":      {1.3, 1.2, 55, 65},
	"Ensembl, 4 x 32":     {1.35, 1.2, 95, 120},
	"decimals, 4 x 8":     {1.15, 1.06, 55, 70},
	"NCBI, 4 x 8":         {1.15, 1.1, 60, 75},
	"NCBI, 16 x 8":        {1.45, 1.32, 215, 250},
	"gnomAD, 4 x 8":       {1.3, 1.19, 290, 330},
	"hour quota, 4 x 8":   {1.1, 1.06, 10, 10},
	"one process, 1 x 32": {1.2, 1.19, 40, 45},
}

// The rows of the table of RESULTS.md, with ten seeds. Where one reduction that was of no
// use was enough to raise a pace, processes that are not joined were refused 757 of 1,000
// calls in place of 61 at NCBI, 4 x 8.
func TestPaceAtWindows(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	for _, s := range throttledServers() {
		for _, p := range throttledPolicies()[2:4] {
			var refused []float64
			median, worst := tenSeeds(t, func(seed uint64) float64 {
				o := s.run(p, seed)
				refused = append(refused, o.refused)
				return o.makespan
			})
			slices.Sort(refused)
			t.Logf("%s, %s: %.2f, worst %.2f; %.0f of 1,000 refused, worst %.0f", s.name, p.name, median, worst, refused[5], refused[9])
			switch most := reached[s.name]; {
			case p.name == "Gates joined by OnPause":
				var took []float64
				for seed := range uint64(40) {
					synctest.Test(t, func(*testing.T) { took = append(took, s.run(p, seed).makespan) })
				}
				slices.Sort(took)
				assert.LessOrEqual(t, took[35], most.most, s.name)
				assert.LessOrEqual(t, worst, most.time, s.name)
				assert.LessOrEqual(t, refused[5], most.refused, s.name)
				assert.LessOrEqual(t, refused[9], most.worst, s.name)
			case s.limit >= s.processes && s.name != "gnomAD, 4 x 8": // by themselves, four find the limit too
				assert.LessOrEqual(t, refused[5], 1.5*most.refused, s.name)
			}
		}
	}
}

package main

import (
	"cmp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// tenSeeds runs a world with ten seeds, and returns the outcomes in order.
func tenSeeds(t *testing.T, run func(seed uint64) float64) (median, worst float64) {
	var all []float64
	for seed := range uint64(10) {
		synctest.Test(t, func(*testing.T) { all = append(all, run(seed)) })
	}
	slices.Sort(all)
	return all[5], all[9]
}

// The limit changes in the middle of a run: how much of the new one is used from
// ten to twenty seconds later.
func TestPaceFollowsTheLimit(t *testing.T) {
	for name, to := range map[string]float64{"halves": 50, "doubles": 200, "vanishes": 0} {
		for _, after := range []time.Duration{time.Second, 100 * time.Millisecond} {
			for _, wait := range []float64{10, 40} {
				median, worst := tenSeeds(t, func(seed uint64) float64 {
					w := newWorld()
					s := &bucketServer{world: w, rate: 100, burst: 20, retryAfter: after, latency: 100 * time.Millisecond}
					g := newGroup(w, 50, 0)
					w.after(30*time.Second, func() { s.rate = to })
					drive(w, s, []*group{g}, 0, 50+wait, seed)
					return -g.rateIn(interval{30 + wait, 50 + wait})
				})
				if after < time.Second || to == 0 { // else a probe that fails costs too much
					assert.InDelta(t, cmp.Or(to, 500), -worst, 0.1*cmp.Or(to, 500))
				}
				t.Logf("%s, Retry-After %v, %v s later: %.1f/s, worst %.1f/s", name, after, wait, -median, -worst)
			}
		}
	}
}

// A server that answers one stray 429 at 300 calls a second without a limit.
func TestPaceAfterAStrayRefusal(t *testing.T) {
	median, worst := tenSeeds(t, func(seed uint64) float64 {
		w := newWorld()
		s := &bucketServer{world: w, retryAfter: time.Second, stray: 30, latency: 150 * time.Millisecond}
		g := newGroup(w, 50, 0)
		drive(w, s, []*group{g}, 0, 91, seed)
		return 1 - g.rateIn(interval{31, 91})/g.rateIn(interval{20, 30})
	})
	t.Logf("lost %.1f %% of the minute after the pause, worst %.1f %%", 100*median, 100*worst)
	assert.Less(t, worst, 0.05)
}

// Two processes of the same demand, started 10s apart.
func TestPaceIsFair(t *testing.T) {
	for _, burst := range []float64{20, 1} {
		median, worst := tenSeeds(t, func(seed uint64) float64 {
			w := newWorld()
			s := &bucketServer{world: w, rate: 100, burst: burst, retryAfter: time.Second}
			a, b := newGroup(w, 25, 0), newGroup(w, 25, 10)
			drive(w, s, []*group{a, b}, 0, 70, seed)
			x, y := a.rateIn(interval{40, 70}), b.rateIn(interval{40, 70})
			return max(x, y)/(x+y) - 0.5
		})
		t.Logf("burst %v: off by %.0f %% of half, worst %.0f %%", burst, 200*median, 200*worst)
	}
}

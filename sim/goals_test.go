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

// The limit changes at some moment of a run: how much of the new one is used in the
// 20 seconds from 10 or 40 later. With a Retry-After of 1s a probe is too dear to be
// made within 10.
func TestPaceFollowsTheLimit(t *testing.T) {
	for name, to := range map[string]float64{"halves": 50, "doubles": 200, "vanishes": 0} {
		for _, after := range []time.Duration{time.Second, 100 * time.Millisecond} {
			for _, wait := range []float64{10, 40} {
				median, worst := tenSeeds(t, func(seed uint64) float64 {
					w := newWorld()
					s := &bucketServer{world: w, rate: 100, burst: 20, retryAfter: after, latency: 100 * time.Millisecond}
					g := newGroup(w, 50, 0)
					from := 30 + 1.3*float64(seed)
					w.after(seconds(from), func() { s.rate = to })
					drive(w, s, []*group{g}, 0, from+20+wait, seed)
					return -g.rateIn(interval{from + wait, from + 20 + wait})
				})
				if after < time.Second || wait > 10 {
					assert.InEpsilon(t, cmp.Or(to, 500), -worst, max(0.1, 0.15*after.Seconds()))
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

// Refusals are quicker than the answers to those who were accepted: those come
// through nginx, from the server behind it. They were not counted when the pause
// had begun, the burst was taken for next to nothing, and 8 pauses were needed to
// find the rate: 27s for work of 19.8s at a real nginx.
func TestPaceWhenRefusalsAreQuicker(t *testing.T) {
	for _, behind := range []time.Duration{0, 2 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		median, worst := tenSeeds(t, func(seed uint64) float64 {
			w := newWorld()
			s := &bucketServer{world: w, rate: 100, burst: 20, retryAfter: time.Second, behind: behind}
			drive(w, s, []*group{newGroup(w, 50, 0)}, 2000, 0, seed)
			return w.since() / 19.79
		})
		t.Logf("answers %v after refusals: %.3f, worst %.3f", behind, median, worst)
		assert.LessOrEqual(t, worst, 1.25)
	}
}

// A process that has made 30 calls a second for long has more work all of a
// sudden: it is not known what its server takes at once. The first two pauses show it.
func TestPaceAfterARise(t *testing.T) {
	for _, c := range []struct {
		burst  float64
		after  time.Duration
		atMost float64
	}{{20, 100 * time.Millisecond, 1.05}, {20, time.Second, 1.25}, {5, time.Second, 1.75}, {100, time.Second, 1.1}} {
		var refused []float64
		median, worst := tenSeeds(t, func(seed uint64) float64 {
			w := newWorld()
			s := &bucketServer{world: w, rate: 100, burst: c.burst, retryAfter: c.after}
			few, many := newGroup(w, 3, 0), newGroup(w, 50, 30)
			few.end, few.rest, many.cfg.Gate = 30, 0.1, few.cfg.Gate
			drive(w, s, []*group{few, many}, 0, 50, seed)
			refused = append(refused, 1000*float64(s.refused)/float64(len(many.done)))
			return 100 / many.rateIn(interval{30, 50})
		})
		slices.Sort(refused)
		t.Logf("burst %v, Retry-After %v: %.2f, worst %.2f; %.0f of 1,000 refused, worst %.0f", c.burst, c.after, median, worst, refused[5], refused[9])
		assert.LessOrEqual(t, worst, c.atMost)
	}
}

// A demand a little above the limit: a burst that fills slowly lets refusals come
// seconds apart, and each pause was forgotten after one, so that nothing was learned
// and a third of the time was spent in pauses.
func TestPaceOfADemandJustAboveTheLimit(t *testing.T) {
	for _, demand := range []float64{105, 110, 130, 200} {
		median, worst := tenSeeds(t, func(seed uint64) float64 {
			w := newWorld()
			s := &bucketServer{world: w, rate: 100, burst: 20, retryAfter: time.Second}
			g := newGroup(w, 50, 0)
			g.rest = 50/demand - 0.002
			drive(w, s, []*group{g}, 0, 70, seed)
			return 1 - g.rateIn(interval{10, 70})/100
		})
		t.Logf("demand %v: %.1f %% of the limit lost, worst %.1f %%", demand, 100*median, 100*worst)
		assert.LessOrEqual(t, worst, 0.17)
	}
}

// A Limiter and the pace do not add up: with one a tenth too high it is the pace
// that holds the calls back (it took 1.37 times the least when the gate counted
// those who waited for the limiter as sent), and with one that is right there is
// no refusal.
func TestPaceBesideALimiter(t *testing.T) {
	for perSecond, atMost := range map[float64]float64{110: 1.45, 98: 1.04, 50: 2.03} {
		var refused []float64
		median, worst := tenSeeds(t, func(seed uint64) float64 {
			w := newWorld()
			s := &bucketServer{world: w, rate: 100, burst: 20, retryAfter: time.Second}
			g := newGroup(w, 50, 0)
			g.cfg.Limiter = newPace(w, perSecond)
			drive(w, s, []*group{g}, 2000, 0, seed)
			refused = append(refused, float64(s.refused)/2)
			return w.since() / 19.79
		})
		slices.Sort(refused)
		t.Logf("limiter %v: %.2f, worst %.2f; %.1f of 1,000 refused", perSecond, median, worst, refused[9])
		assert.LessOrEqual(t, worst, atMost)
		if perSecond < 100 {
			assert.Zero(t, refused[9])
		}
	}
}

// Sixteen processes with a Limiter below the limit, whose calls stand in line for
// that: those that are sent are counted, and not those who may go to the limiter. It
// took three times the least when the few refusals there were set a pace by these.
func TestPaceOfManyBesideALimiter(t *testing.T) {
	for _, share := range []float64{0.7, 0.85} {
		median, worst := tenSeeds(t, func(seed uint64) float64 { return throttledServers()[4].run(atShare(share), seed).makespan })
		t.Logf("limiter at %v of the rate: %.2f, worst %.2f", share, median, worst)
		assert.LessOrEqual(t, median, 2.0)
		assert.LessOrEqual(t, worst, 3.5)
	}
}

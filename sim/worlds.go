package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// scenery is what is drawn of a world that servers of all kinds have in common.
type scenery struct {
	*rand.Rand
	workers int
	offered float64 // calls per second, if none is refused
	work    time.Duration
	after   time.Duration // that a refused call is asked to wait; 0: it is not
}

// between draws a number from a to b, its logarithm uniformly.
func (s scenery) between(a, b float64) float64 { return a * math.Pow(b/a, s.Float64()) }

// kind is a kind of server. serve sets the service and the number of jobs, which take
// about a minute.
type kind struct {
	name  string
	serve func(s scenery, l *load)
}

// kinds are what a client may meet, whether a rate explains its refusals or not. Nothing was
// tuned on them.
func kinds() []kind {
	return []kind{
		{"0.1 to 60 % refused by chance", func(s scenery, l *load) {
			share := s.between(0.001, 0.6)
			l.jobs = int(s.offered * 60)
			l.service = func(_ *world, random *rand.Rand) service {
				return func(int) (time.Duration, error) {
					if random.Float64() < share {
						return 0, refuse(429, s.after)
					}
					return s.work, nil
				}
			}
		}},
		{"a bucket for 5 to 150 % of the demand", func(s scenery, l *load) {
			rate, burst := s.offered*s.between(0.05, 1.5), s.between(1, 50)
			l.jobs = int(rate * 60)
			l.service = func(w *world, _ *rand.Rand) service {
				bucket := &bucketServer{world: w, rate: rate, burst: burst, retryAfter: s.after}
				return func(int) (time.Duration, error) { return s.work, bucket.admit() }
			}
		}},
		{"a window of 1, 10 or 60 s for 5 to 120 % of it", func(s scenery, l *load) {
			length := []float64{1, 10, 60}[s.IntN(3)]
			most, precise := math.Ceil(s.offered*length*s.between(0.05, 1.2)), s.IntN(2) == 0
			l.jobs = int(most * max(3, 60/length))
			l.service = func(w *world, _ *rand.Rand) service {
				current, used := -1.0, 0.0
				return func(int) (time.Duration, error) {
					at := math.Floor(w.since() / length)
					if at != current {
						current, used = at, 0
					}
					if used++; used <= most {
						return s.work, nil
					}
					if precise {
						return 0, refuse(429, seconds((at+1)*length-w.since()))
					}
					return 0, refuse(429, s.after)
				}
			}
		}},
		{"some calls at once", func(s scenery, l *load) {
			most := 1 + s.IntN(s.workers)
			l.jobs = int(float64(most) / s.work.Seconds() * 60)
			l.service = func(w *world, _ *rand.Rand) service {
				busy := 0
				return func(int) (time.Duration, error) {
					if busy >= most {
						return 0, refuse(429, s.after)
					}
					busy++
					w.after(s.work, func() { busy-- })
					return s.work, nil
				}
			}
		}},
		{"one of 2 to 11 backends down now and then", func(s scenery, l *load) {
			n, up, down := 2+s.IntN(10), s.between(1, 60), s.between(1, 60)
			l.jobs = int(s.offered * 60)
			l.service = func(w *world, random *rand.Rand) service {
				return func(int) (time.Duration, error) {
					if random.IntN(n) == 0 && math.Mod(w.since(), up+down) > up {
						return 0, refuse(503, s.after)
					}
					return s.work, nil
				}
			}
		}},
		{"another endpoint limited, which up to half of the workers call", func(s scenery, l *load) { anotherEndpoint(s, l, 0, 0.5) }},
		{"the same, which most workers call", func(s scenery, l *load) { anotherEndpoint(s, l, 0.5, 0.9) }},
	}
}

// anotherEndpoint is one for 1 to 30 % of the demand, which a share of the workers calls;
// what is measured are the others.
func anotherEndpoint(s scenery, l *load, least, most float64) {
	rate := s.offered * s.between(0.01, 0.3)
	there := min(s.workers-1, int(math.Ceil((least+(most-least)*s.Float64())*float64(s.workers))))
	l.measured = func(worker int) bool { return worker >= there }
	l.jobs = int(s.offered * float64(s.workers-there) / float64(s.workers) * 60)
	l.service = func(w *world, _ *rand.Rand) service {
		bucket := &bucketServer{world: w, rate: rate, burst: 1, retryAfter: s.after}
		return func(worker int) (time.Duration, error) {
			if worker < there {
				return s.work, bucket.admit()
			}
			return s.work, nil
		}
	}
}

// draw makes a world of the kind.
func (k kind) draw(seed uint64) load {
	s := scenery{Rand: rand.New(rand.NewPCG(seed, 77))}
	s.workers = int(s.between(2, 100))
	latency := s.between(0.002, 0.3)
	s.work = seconds(s.between(0.001, 0.5))
	s.after = []time.Duration{0, 100 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second}[s.IntN(5)]
	s.offered = float64(s.workers) / (latency + s.work.Seconds())
	l := load{workers: s.workers, latency: latency}
	k.serve(s, &l)
	l.jobs = min(max(l.jobs, 20), 12_000)
	return l
}

// drawn is what came of many worlds of a kind: how long a gate took in multiples of the
// same client without one, and how many calls more per 1,000 were refused, in order.
type drawn struct{ times, refused []float64 }

// quantile is what all but a share have at most; they are in order.
func quantile(all []float64, share float64) float64 {
	return all[min(len(all)-1, int(share*float64(len(all))))]
}

// worldsDrawn is how many of each kind RESULTS.md has.
const worldsDrawn = 200

// drawWorlds runs n worlds of each kind.
func drawWorlds(t *testing.T, n int) []drawn {
	all := make([]drawn, len(kinds()))
	t.Run("worlds", func(t *testing.T) {
		for i, k := range kinds() {
			all[i].times, all[i].refused = make([]float64, n), make([]float64, n)
			for seed := range n {
				bubble(t, func() {
					gate, none := k.draw(uint64(seed)).run(peers()[theGate], 1), k.draw(uint64(seed)).run(peers()[noGate], 1)
					all[i].times[seed] = gate.took / none.took
					all[i].refused[seed] = gate.refused - none.refused
				})
			}
		}
	})
	for _, d := range all {
		slices.Sort(d.times)
		slices.Sort(d.refused)
	}
	return all
}

func worldsTable(p func(string, ...any), all []drawn) {
	p("| server | median | 9 of 10 | 99 of 100 | worst | refused | worst |\n| --- | --- | --- | --- | --- | --- | --- |")
	for i, d := range all {
		p("| %s | %.2f | %.2f | %.2f | %.2f | %+.0f | %+.0f |", kinds()[i].name, quantile(d.times, 0.5), quantile(d.times, 0.9),
			quantile(d.times, 0.99), quantile(d.times, 1), quantile(d.refused, 0.5), quantile(d.refused, 1))
	}
}

package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/retryutils/retry"
)

// trial is what came of a situation: seconds, refusals per 1,000 jobs, and jobs that
// were lost.
type trial struct{ took, refused, lost float64 }

// situation is one in which a gate must not do harm, or be of use.
type situation struct {
	name string
	run  func(p peer, seed uint64) trial
	// ideal are the least seconds possible; 0: what it takes without a gate.
	ideal float64
	// goal is how much it may be in the median, worst in the worst seed.
	goal, worst float64
	refused     float64 // the goal per 1,000; 0: any number
	apart       bool    // nothing was tuned on it
}

// service answers a call of a worker: how long it works on it, or a refusal.
type service func(worker int) (work time.Duration, refusal error)

// load is workers who work jobs off at a service.
type load struct {
	workers, jobs int
	limited       bool // to the default number of retries; else none is ever lost
	rest          func(w *world, random *rand.Rand) time.Duration
	latency       float64 // to the service and back, on average; 0: 4ms
	measured      func(worker int) bool
	service       func(w *world, random *rand.Rand) service
}

func (l load) run(p peer, seed uint64) (t trial) {
	w := newWorld()
	random := rand.New(rand.NewPCG(seed, 3))
	answer := l.service(w, random)
	cfg := retry.Config{Clock: clock{w}, Rand: newEnv(w, seed).random.Float64, MaxRetries: retry.Unlimited, MaxRetryAfter: time.Hour}
	if l.limited {
		cfg.MaxRetries = 0
	}
	p.join(w, &cfg)
	latency := l.latency
	if latency == 0 {
		latency = 0.004
	}
	left, counted := l.jobs, l.measured
	if counted == nil {
		counted = func(int) bool { return true }
	}
	refusals := 0
	for worker := range l.workers {
		w.after(seconds(0.005*random.Float64()), func() {
			go func() {
				for left > 0 {
					if counted(worker) {
						left--
					}
					err := retry.Run(context.Background(), cfg, func(context.Context) error {
						oneWay := seconds(latency / 2 * (0.5 + random.Float64()))
						w.sleep(oneWay)
						work, refusal := answer(worker)
						if refusal != nil && counted(worker) {
							refusals++
						}
						w.sleep(work + oneWay)
						return refusal
					})
					if counted(worker) {
						t.took = w.since()
						if err != nil {
							t.lost++
						}
					}
					if l.rest != nil {
						w.sleep(l.rest(w, random))
					}
				}
			}()
		})
	}
	w.run()
	t.refused = 1000 * float64(refusals) / float64(l.jobs)
	t.took *= float64(l.jobs) / (float64(l.jobs) - t.lost)
	return t
}

func refuse(status int, after time.Duration) error {
	return &retry.StatusError{StatusCode: status, RetryAfter: after}
}

// byChance refuses a share of all calls, whatever the rate.
func byChance(share float64, after time.Duration) situation {
	return situation{run: load{workers: 10, jobs: 3000, service: func(_ *world, random *rand.Rand) service {
		return func(int) (time.Duration, error) {
			if random.Float64() < share {
				return 0, refuse(429, after)
			}
			return 100 * time.Millisecond, nil
		}
	}}.run, goal: 1.15, worst: 1.3}
}

// oneDown is ten backends by turns or at random, of which one is down.
func oneDown(after time.Duration, jobs int) situation {
	return situation{run: load{workers: 10, jobs: jobs, service: func(_ *world, random *rand.Rand) service {
		return func(int) (time.Duration, error) {
			if random.IntN(10) == 0 {
				return 0, refuse(503, after)
			}
			return 100 * time.Millisecond, nil
		}
	}}.run, goal: 1.2, worst: 1.4}
}

// oneEndpoint is one process that calls two endpoints, one of which takes a call a
// second; what is measured is the other.
func oneEndpoint() situation {
	return situation{run: load{workers: 20, jobs: 4000, measured: func(worker int) bool { return worker%2 == 0 }, service: func(w *world, _ *rand.Rand) service {
		bucket := &bucketServer{world: w, rate: 1, burst: 1, retryAfter: time.Second}
		return func(worker int) (time.Duration, error) {
			if worker%2 == 1 {
				return 0, bucket.admit()
			}
			return 45 * time.Millisecond, nil
		}
	}}.run, goal: 1.15, worst: 1.3}
}

// tokens is 60,000 tokens a minute, of which a call takes from 200 to 4,000, and is
// informed when there will be as many.
func tokens() situation {
	return situation{run: load{workers: 20, jobs: 800, service: func(w *world, random *rand.Rand) service {
		level, last, costs := 60_000.0, epoch, map[int]float64{}
		return func(worker int) (time.Duration, error) {
			level, last = min(60_000, level+1000*w.now.Sub(last).Seconds()), w.now
			cost := costs[worker]
			if cost == 0 {
				cost = 200 * math.Exp(3*random.Float64())
				costs[worker] = cost
			}
			if level < cost {
				return 0, refuse(429, seconds((cost-level)/1000))
			}
			level -= cost
			delete(costs, worker)
			return seconds(0.3 + cost/4000), nil
		}
	}}.run, goal: 1.08, worst: 1.2}
}

// slots is four calls of 30s at once, and a 429 without a hint for more.
func slots() situation {
	return situation{run: load{workers: 10, jobs: 200, limited: true, service: func(w *world, _ *rand.Rand) service {
		busy := 0
		return func(int) (time.Duration, error) {
			if busy >= 4 {
				return 0, refuse(429, 0)
			}
			busy++
			w.after(30*time.Second, func() { busy-- })
			return 30 * time.Second, nil
		}
	}}.run, goal: 1.05, worst: 1.1}
}

// unhinted is 1,000 workers at a server for 100 calls a second that does not say
// when to come back.
func unhinted() situation {
	return situation{run: load{workers: 1000, jobs: 5000, limited: true, service: func(w *world, _ *rand.Rand) service {
		bucket := &bucketServer{world: w, rate: 100, burst: 20}
		return func(int) (time.Duration, error) { return 20 * time.Millisecond, bucket.admit() }
	}}.run, ideal: 50, goal: 1.3, worst: 1.5}
}

// precise says exactly when a call will be accepted: at some rate, with a burst of
// as many as come in a second or two. Refused are those after half an hour.
func precise(perSecond float64) situation {
	return situation{run: func(p peer, seed uint64) trial {
		refused, calls := 0.0, 0.0
		t := load{workers: 10, jobs: int(perSecond * 60 * 36), service: func(w *world, _ *rand.Rand) service {
			interval, next := seconds(1/perSecond), epoch
			return func(int) (time.Duration, error) {
				late := w.since() > 30*60
				if late {
					calls++
				}
				if early := next.Sub(w.now) - 2*interval; early > 0 {
					if late {
						refused++
					}
					return 0, refuse(429, early)
				}
				next = later(next, w.now).Add(interval)
				return 10 * time.Millisecond, nil
			}
		}}.run(p, seed)
		t.refused = 1000 * refused / calls
		return t
	}, ideal: 36 * 60, goal: 1.15, worst: 1.2, refused: 30}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// atLimit is 2,000 jobs at nginx.
func atLimit(burst, goal, worst, refused float64) situation {
	return situation{run: func(p peer, seed uint64) trial {
		w := newWorld()
		s := &bucketServer{world: w, rate: 100, burst: burst, retryAfter: time.Second}
		g := &group{workers: 50}
		p.join(w, &g.cfg)
		drive(w, s, []*group{g}, 2000, 0, seed)
		return trial{took: w.since(), refused: float64(s.refused) / 2}
	}, ideal: (2000 - burst - 1) / 100, goal: goal, worst: worst, refused: refused}
}

// atWindows is a workload of throttled; gates of several processes are joined.
func atWindows(s throttled, goal, worst, refused float64) situation {
	return situation{run: func(p peer, seed uint64) trial {
		o := s.run(throttledPolicy{p.name, func(e *env, t throttled) (cfgs []retry.Config) {
			for range t.processes {
				cfg := retry.Config{MaxRetryAfter: time.Hour}
				p.join(e.world, &cfg)
				cfgs = append(cfgs, cfg)
			}
			if cfgs[0].Gate != nil && t.processes > 1 {
				join(e, cfgs)
			}
			return cfgs
		}}, seed)
		return trial{took: o.makespan, refused: o.refused}
	}, ideal: 1, goal: goal, worst: worst, refused: refused}
}

// changed is a limit of 100 a second that becomes another (0: none): how much of
// that is used from 10 to 30 seconds later.
func changed(to, goal, worst float64) situation {
	return situation{run: func(p peer, seed uint64) trial {
		w := newWorld()
		s := &bucketServer{world: w, rate: 100, burst: 20, retryAfter: time.Second, latency: 100 * time.Millisecond}
		g := &group{workers: 50}
		p.join(w, &g.cfg)
		from := 30 + 1.3*float64(seed)
		w.after(seconds(from), func() { s.rate = to })
		drive(w, s, []*group{g}, 0, from+30, seed)
		most := to
		if to == 0 {
			most = 500
		}
		used := g.rateIn(interval{from + 10, from + 30})
		return trial{took: most / max(1e-3, used), refused: 1000 * float64(s.refused) / float64(len(g.done))}
	}, ideal: 1, goal: goal, worst: worst}
}

// stray is a server that refuses one call out of thousands: what is lost of the
// minute after.
func stray() situation {
	return situation{run: func(p peer, seed uint64) trial {
		w := newWorld()
		s := &bucketServer{world: w, retryAfter: time.Second, stray: 30, latency: 150 * time.Millisecond}
		g := &group{workers: 50}
		p.join(w, &g.cfg)
		drive(w, s, []*group{g}, 0, 91, seed)
		return trial{took: g.rateIn(interval{20, 30}) / g.rateIn(interval{31, 91})}
	}, ideal: 1, goal: 1.005, worst: 1.01}
}

// slidingBursts is a log of the last second with 100 calls in it, and a demand that
// comes in bursts.
func slidingBursts() situation {
	return situation{run: load{workers: 60, jobs: 4000, rest: func(w *world, random *rand.Rand) time.Duration {
		return seconds(math.Ceil(w.since()/2)*2 - w.since() + 0.2*random.Float64()) // until the next even second
	}, service: func(w *world, _ *rand.Rand) service {
		var log []time.Time
		return func(int) (time.Duration, error) {
			log = slices.DeleteFunc(log, func(at time.Time) bool { return w.now.Sub(at) >= time.Second })
			if len(log) >= 40 {
				return 0, refuse(429, time.Second)
			}
			log = append(log, w.now)
			return 10 * time.Millisecond, nil
		}
	}}.run, goal: 1.15, worst: 1.3, apart: true}
}

// withForeigner is a bucket that another client takes calls from, in bursts.
func withForeigner() situation {
	return situation{run: load{workers: 30, jobs: 4000, service: func(w *world, random *rand.Rand) service {
		bucket := &bucketServer{world: w, rate: 100, burst: 20, retryAfter: time.Second}
		var foreign func()
		calls := 0
		foreign = func() {
			if calls++; calls > 30_000 { // the world must come to an end
				return
			}
			bucket.admit()
			pause := 0.01
			if int(w.since()/5)%3 == 0 {
				pause = 0.1
			}
			w.after(seconds(2*pause*random.Float64()), foreign)
		}
		foreign()
		return func(int) (time.Duration, error) { return 10 * time.Millisecond, bucket.admit() }
	}}.run, goal: 1.15, worst: 1.3, apart: true}
}

func named(name string, s situation) situation { s.name = name; return s }

// harmless are the situations in which a gate is compared with none.
func harmless() []situation {
	ms, second := 100*time.Millisecond, time.Second
	apart := byChance(0.05, 5*time.Second)
	apart.apart = true
	return []situation{
		named("by chance, 0.2 %, 100ms", byChance(0.002, ms)),
		named("by chance, 0.2 %, 1s", byChance(0.002, second)),
		named("by chance, 2 %, 100ms", byChance(0.02, ms)),
		named("by chance, 2 %, 1s", byChance(0.02, second)),
		named("by chance, 10 %, 100ms", byChance(0.1, ms)),
		named("by chance, 10 %, 1s", byChance(0.1, second)),
		named("by chance, 30 %, 1s", byChance(0.3, second)),
		named("by chance, 50 %, 100ms", byChance(0.5, ms)),
		named("by chance, 50 %, 1s", byChance(0.5, second)),
		named("by chance, 70 %, 1s", byChance(0.7, second)),
		named("one of ten backends down, 1s", oneDown(second, 1000)),
		named("one of ten backends down, 30s", oneDown(30*second, 1500)),
		named("another endpoint limited", oneEndpoint()),
		named("tokens a minute", tokens()),
		named("four calls of 30s at once", slots()),
		named("1,000 workers, no hint", unhinted()),
		named("stray refusal", stray()),
		named("by chance, 5 %, 5s", apart),
		named("sliding log, bursts of demand", slidingBursts()),
		named("shared with another client", withForeigner()),
	}
}

// useful are those in which it is compared with the ideal.
func useful() []situation {
	servers := throttledServers()
	return []situation{
		named("nginx, 100/s, burst 20; 1 x 50", atLimit(20, 1.12, 1.2, 25)),
		named("nginx, no burst; 1 x 50", atLimit(0, 1.5, 1.6, 30)),
		named("one process, 1 x 32", atWindows(servers[7], 1.18, 1.25, 35)),
		named("Ensembl, 4 x 8", atWindows(servers[0], 1.2, 1.35, 60)),
		named("Ensembl, 4 x 32", atWindows(servers[1], 1.28, 1.45, 90)),
		named("decimals, 4 x 8", atWindows(servers[2], 1.05, 1.2, 90)),
		named("NCBI, 4 x 8", atWindows(servers[3], 1.18, 1.3, 70)),
		named("NCBI, 16 x 8", atWindows(servers[4], 1.25, 1.6, 150)),
		named("gnomAD, 4 x 8", atWindows(servers[5], 1.12, 1.4, 250)),
		named("hour quota, 4 x 8", atWindows(servers[6], 1.05, 1.1, 10)),
		named("limit halves", changed(50, 1.1, 1.25)),
		named("limit doubles", changed(200, 1.25, 1.5)),
		named("limit vanishes", changed(0, 1.05, 1.2)),
		named("precise wait, 2/s", precise(2)),
		named("precise wait, 10/s", precise(10)),
	}
}

// comparison is a situation with each peer: what came of it by seed.
type comparison struct {
	situation
	trials [][]trial // by peer and seed
}

// compare runs situations with peers and seeds.
func compare(t *testing.T, situations []situation, who []peer, seeds int) []*comparison {
	var all []*comparison
	t.Run("compare", func(t *testing.T) {
		for _, s := range situations {
			c := &comparison{situation: s, trials: make([][]trial, len(who))}
			all = append(all, c)
			for i, p := range who {
				c.trials[i] = make([]trial, seeds)
				for seed := range c.trials[i] {
					bubble(t, func() { c.trials[i][seed] = s.run(p, uint64(seed)) })
				}
			}
		}
	})
	return all
}

// of returns the median and the largest of what a peer's trials have, and the most.
func (c *comparison) of(peer int, what func(trial) float64) (median, most float64) {
	var all []float64
	for _, t := range c.trials[peer] {
		all = append(all, what(t))
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}

func took(t trial) float64    { return t.took }
func refused(t trial) float64 { return t.refused }
func lost(t trial) float64    { return t.lost }

// times is how long a peer took, in multiples of the ideal, or of the median without
// a gate, which is the peer none.
func (c *comparison) times(peer, none int) (median, worst float64) {
	unit := c.ideal
	if unit == 0 {
		unit, _ = c.of(none, took)
	}
	median, worst = c.of(peer, took)
	return median / unit, worst / unit
}

// harmTable is what all peers do in all situations.
func harmTable(p func(string, ...any), all []*comparison) {
	p("| situation | gate | refused | lost | pause alone | no gate | AWS adaptive | AIMD | goal |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, c := range all {
		row := "| " + c.name
		if c.apart {
			row += " (apart)"
		}
		for i := range c.trials {
			median, worst := c.times(i, noGate)
			row += fmt.Sprintf(" | %.2f (%.2f)", median, worst)
			if i == theGate {
				some, most := c.of(i, refused)
				_, gone := c.of(i, lost)
				row += fmt.Sprintf(" | %.0f (%.0f) | %.0f", some, most, gone)
			} else if _, gone := c.of(i, lost); gone > 0 {
				row += fmt.Sprintf(", %.0f lost", gone)
			}
		}
		goal := fmt.Sprintf("%.2f (%.2f)", c.goal, c.worst)
		if c.refused > 0 {
			goal += fmt.Sprintf(", %.0f", c.refused)
		}
		p("%s | %s |", row, goal)
	}
}

// cells are how long the gate takes in situations in which it is of use, and how many of
// 1,000 calls are refused: the median (and the worst) of 20 seeds.
func cells(t *testing.T, names []string) string {
	var all []string
	for _, name := range names {
		i := slices.IndexFunc(useful(), func(s situation) bool { return s.name == name })
		if i < 0 {
			t.Fatalf("no situation is named %q", name)
		}
		c := compare(t, useful()[i:i+1], []peer{peers()[theGate]}, 20)[0]
		median, worst := c.times(0, 0)
		some, most := c.of(0, refused)
		all = append(all, fmt.Sprintf("%.2f (%.2f) / %.0f (%.0f)", median, worst, some, most))
	}
	return strings.Join(all, " | ")
}

// brief is one line for a build of the library: the mean and the worst of the times
// where a gate may do harm, and the means where it is of use.
func brief(all []*comparison) string {
	var harm, worst, use, many float64
	n, m := 0.0, 0.0
	for _, c := range all {
		median, most := c.times(0, 1)
		switch {
		case c.apart:
		case c.ideal == 0:
			harm, worst = harm+math.Log(median), max(worst, most)
			n++
		default:
			some, _ := c.of(0, refused)
			use, many = use+math.Log(median), many+some
			m++
		}
	}
	return fmt.Sprintf("%.2f | %.2f | %.2f | %.0f", math.Exp(harm/n), worst, math.Exp(use/m), many/m)
}

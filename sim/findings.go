package main

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retryutils/retry"
)

// findings are the outcomes of everything, in the order of the tables.
type findings struct {
	occ       [][]occResult // by strategy and number of clients
	occSizes  []int
	open      []outcome // 20 processes
	alone     []outcome // 1,000 processes
	long      []outcome // the same, with a budget, in an outage of five minutes
	closed    []outcome // 1,000 workers of one process
	fleet     []outcome // the same of 20 processes
	hot       []outcome
	hint      outcome     // 1,000 workers at one gate
	recovery  [][]outcome // by breaker and length of the outage
	throttled [][]throttledOutcome
	paced     pacing
	hedged    *hedging
	harm      []*comparison
	worlds    []drawn
}

var outages = []float64{10, 30, 45, 61, 90}

// simulate runs everything, on all processors.
func simulate(t *testing.T, seed uint64, trials int) *findings {
	f := &findings{occSizes: []int{10, 20, 50, 100, 150, 200}}
	t.Run("all", func(t *testing.T) {
		f.contention(t, seed, trials)
		each(t, &f.open, openPolicies(), func(p policy) outcome { return outage(20, 60).run(p, seed) })
		each(t, &f.alone, openPolicies(), func(p policy) outcome { return outage(1000, 60).run(p, seed) })
		each(t, &f.long, longPolicies(), func(p policy) outcome { return outage(1000, 300).run(p, seed) })
		each(t, &f.closed, closedPolicies(), func(p policy) outcome { return closedOutage(60).run(p, seed) })
		each(t, &f.fleet, fleetPolicies(), func(p policy) outcome {
			l := closedOutage(60)
			l.processes, l.workers = 20, 50
			return l.run(p, seed)
		})
		each(t, &f.hot, hotPolicies(), func(p policy) outcome { return hotOS(280).run(p, seed) })
		f.recovery = make([][]outcome, len(breakers()))
		for i, b := range breakers() {
			each(t, &f.recovery[i], outages, func(lasts float64) outcome {
				return outage(20, lasts).run(withBreaker(b.name, b.config), seed)
			})
		}
		f.throttled = make([][]throttledOutcome, len(throttledServers()))
		for i, s := range throttledServers() {
			each(t, &f.throttled[i], throttledPolicies(), func(p throttledPolicy) throttledOutcome { return s.run(p, seed) })
		}
		f.pacing(t)
		f.hedged = simulateHedging(t, 20, time.Minute)
		bubble(t, func() { f.hint = hinted(seed) })
	})
	f.harm = compare(t, append(harmless(), useful()...), peers(), 20)
	f.worlds = drawWorlds(t, worldsDrawn)
	return f
}

func (f *findings) contention(t *testing.T, seed uint64, trials int) {
	f.occ = make([][]occResult, len(occStrategies()))
	for i, s := range occStrategies() {
		f.occ[i] = make([]occResult, len(f.occSizes))
		for j, n := range f.occSizes {
			bubble(t, func() { f.occ[i][j] = occ(s, n, trials, seed) })
		}
	}
}

// each runs one world for each of the inputs, whose results are in their order.
func each[I, O any](t *testing.T, into *[]O, inputs []I, run func(I) O) {
	*into = make([]O, len(inputs))
	for i, in := range inputs {
		bubble(t, func() { (*into)[i] = run(in) })
	}
}

func bubble(t *testing.T, f func()) {
	t.Run("", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(*testing.T) { f() })
	})
}

// outage is the open workload: 200 calls a second, a server that is down.
func outage(processes int, lasts float64) openLoad {
	return openLoad{rate: 200, processes: processes, down: interval{30, 30 + lasts}, end: 30 + lasts + 100}
}

func longPolicies() []policy { return []policy{withBudget("budget 10 %, burst 1", 0.1, 1)} }

func closedOutage(lasts float64) closedLoad {
	return closedLoad{processes: 1, workers: 1000, queue: 500 * time.Millisecond, down: interval{1, 1 + lasts}, end: 1 + lasts + 200}
}

// hotOS is the workload of "Metastable Failures in Distributed Systems".
func hotOS(rate float64) openLoad {
	return openLoad{rate: rate, processes: 20, held: true, down: interval{20, 30}, end: 330}
}

// hinted is the closed workload with a server that says when it will be back.
func hinted(seed uint64) outcome {
	l := closedOutage(60)
	l.hint = true
	return l.run(policy{name: "Gate, 503 with Retry-After", config: func(e *env) retry.Config {
		return retry.Config{MaxRetries: retry.Unlimited, Gate: retry.NewGate(clock{e.world})}
	}}, seed)
}

func hotPolicies() []policy {
	return []policy{
		plain("no retry", retry.Config{MaxRetries: retry.NoRetries}),
		plain("one plain retry", retry.Config{MaxRetries: 1, Backoff: retry.ConstantBackoff(0)}),
		plain("Config{}", retry.Config{}),
		withBudget("budget 10 %, burst 1", 0.1, 1),
		withBreaker("breaker 5 / 5s +20 %", spread),
		{"budget 10 % + breaker 5s", true, recommended},
	}
}

type namedBreaker struct {
	name   string
	config retry.BreakerConfig
}

func breakers() []namedBreaker {
	return []namedBreaker{
		{"60s, unlimited probes (Python original)", original},
		{"60s (default)", retry.BreakerConfig{}},
		{"5s", fiveSeconds},
		{"5s +20 %", spread},
		{"5s +20 %, growing to 60s", growing},
		{"5s +20 %, growing to 10s", retry.BreakerConfig{RecoveryTimeout: 5 * time.Second, RecoveryJitter: 0.2, MaxRecoveryTimeout: 10 * time.Second}},
	}
}

func closedPolicies() []policy {
	ever := retry.Config{MaxRetries: retry.Unlimited}
	jitter := func(j retry.Jitter) retry.Config { c := ever; c.Jitter = j; return c }
	fixed := ever
	fixed.Backoff, fixed.Jitter = retry.ConstantBackoff(time.Second), retry.NoJitter
	policies := []policy{
		plain("fixed 1s", fixed),
		plain("exponential, no jitter", jitter(retry.NoJitter)),
		plain("Config{}: ±20 %", ever),
		plain("full jitter", jitter(retry.FullJitter)),
	}
	for _, b := range slices.Concat(breakers(), []namedBreaker{{patientName, patient}}) {
		policies = append(policies, policy{"breaker " + b.name, b.name == patientName, func(e *env) retry.Config {
			cfg := retry.Config{MaxRetries: retry.Unlimited, WaitWhenOpen: true, Breaker: e.breaker(b.config), Gate: retry.NewGate(clock{e.world})}
			if b.name == patientName {
				cfg.MaxDelay = 4 * time.Second
			}
			return cfg
		}})
	}
	return policies
}

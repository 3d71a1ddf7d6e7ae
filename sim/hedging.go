package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	failsafebudget "github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"

	"github.com/retryutils/retry/hedge"
)

// pool is a server of 16 workers with one queue, first come first served. It learns of a
// cancelled request too late: it serves it all the same, which is the worst case for
// hedging. Its time is that of the bubble.
type pool struct {
	seed uint64

	mu       sync.Mutex // guards the fields below
	free     [16]time.Time
	requests int
}

// mean is what a request takes of a worker on average: log-normal with a median of 10 ms,
// and 2 % take 100 to 300 ms.
var mean = 0.98*0.010*math.Exp(sigma*sigma/2) + 0.02*0.200

const sigma = 0.4

// takes is what a request takes: the same for a call and its number, whatever the policy.
func (p *pool) takes(call, number int) time.Duration {
	random := rand.New(rand.NewPCG(p.seed, uint64(call)<<3+uint64(number)))
	if random.Float64() < 0.02 {
		return seconds(0.1 + 0.2*random.Float64())
	}
	return seconds(0.010 * math.Exp(sigma*random.NormFloat64()))
}

// serve returns when the request is done, or cancelled.
func (p *pool) serve(ctx context.Context, call, number int) error {
	p.mu.Lock()
	p.requests++
	worker := 0
	for i, at := range p.free {
		if at.Before(p.free[worker]) {
			worker = i
		}
	}
	now := time.Now()
	if p.free[worker].Before(now) {
		p.free[worker] = now
	}
	p.free[worker] = p.free[worker].Add(p.takes(call, number))
	end := p.free[worker]
	p.mu.Unlock()
	timer := time.NewTimer(end.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// phase is how long a load lasts; 1 is what the server can do at most.
type phase struct {
	load  float64
	lasts time.Duration
}

// hedgedOutcome is what came of a run.
type hedgedOutcome struct {
	p50, p99, p999, extra float64 // milliseconds; extra requests for each call
	recovered             float64 // seconds from the begin of the last phase to the last call of those that find a long queue
}

// hedgingPolicy makes calls of a pool.
type hedgingPolicy struct {
	name string
	call func(*pool) func(call int)
}

func withoutHedges(p *pool) func(int) {
	return func(call int) { p.serve(context.Background(), call, 0) }
}

// ourHedges is the Transport of package hedge over the pool.
func ourHedges(cfg hedge.Config) func(*pool) func(int) {
	return func(p *pool) func(int) {
		h, err := hedge.New(cfg)
		if err != nil {
			panic(err)
		}
		rt := h.Transport(pooled{p})
		return func(call int) {
			ctx := context.WithValue(context.Background(), callKey{}, call)
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://pool/", nil)
			rt.RoundTrip(req)
		}
	}
}

type callKey struct{}

type pooled struct{ *pool }

func (p pooled) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := p.serve(ctx, ctx.Value(callKey{}).(int), hedge.Count(ctx)); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// failsafeHedges is the policy of failsafe-go at the same quantile, with or without a
// budget of its own kind: the share of the requests in flight that are hedges.
func failsafeHedges(maxRate float64) func(*pool) func(int) {
	return func(p *pool) func(int) {
		builder := hedgepolicy.NewBuilderWithDelayQuantile[any](0.95, 1000, 100)
		if maxRate > 0 {
			builder = builder.WithBudget(failsafebudget.NewBuilder().WithMaxRate(maxRate).Build())
		}
		policy := builder.Build()
		return func(call int) {
			failsafe.With(policy).WithContext(context.Background()).GetWithExecution(func(e failsafe.Execution[any]) (any, error) {
				number := 0
				if e.IsHedge() {
					number = 1
				}
				return nil, p.serve(e.Context(), call, number)
			})
		}
	}
}

func hedgingPolicies() []hedgingPolicy {
	return []hedgingPolicy{
		{"none", withoutHedges},
		{"hedge.Config{}", ourHedges(hedge.Config{})},
		{"failsafe-go, p95", failsafeHedges(0)},
		{"failsafe-go, p95, budget 20 %", failsafeHedges(0.2)},
		{"failsafe-go, p95, budget 5 %", failsafeHedges(0.05)},
	}
}

// hedgedLoad runs a policy through phases of open arrivals. What counts for the quantiles is
// what begins after the first tenth.
func hedgedLoad(policy func(*pool) func(int), phases []phase, seed uint64) hedgedOutcome {
	p := &pool{seed: seed}
	call := policy(p)
	random := rand.New(rand.NewPCG(seed, 1))
	var total time.Duration
	for _, ph := range phases {
		total += ph.lasts
	}
	type result struct{ began, took time.Duration }
	var wg sync.WaitGroup
	var results []*result
	start := time.Now()
	at, from := time.Duration(0), time.Duration(0)
	for _, ph := range phases {
		for rate := ph.load * float64(len(p.free)) / mean; ; {
			at += seconds(random.ExpFloat64() / rate)
			if at > from+ph.lasts {
				break
			}
			time.Sleep(at - time.Since(start))
			r := &result{began: at}
			results = append(results, r)
			n := len(results)
			wg.Go(func() {
				call(n)
				r.took = time.Since(start) - r.began
			})
		}
		from += ph.lasts
		at = from
	}
	wg.Wait()
	var took []float64
	for _, r := range results {
		if r.began > total/10 {
			took = append(took, r.took.Seconds()*1000)
		}
	}
	slices.Sort(took)
	quantile := func(q float64) float64 { return took[int(q*float64(len(took)-1))] }
	o := hedgedOutcome{
		p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999),
		extra: float64(p.requests)/float64(len(results)) - 1,
	}
	last := total - phases[len(phases)-1].lasts
	for _, r := range results { // a request alone takes 310 ms at most
		if r.began > last && r.took > 400*time.Millisecond {
			o.recovered = (r.began - last).Seconds()
		}
	}
	return o
}

// hedging is what RESULTS.md says of hedging.
type hedging struct {
	byLoad [][][]hedgedOutcome // by load, policy and seed
	after  [][]hedgedOutcome   // an overload, by policy, without and with our hedges, and seed
	lasts  time.Duration
}

var hedgingLoads = []float64{0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.2}

// passing is an overload that passes.
var passing = []phase{{0.7, 30 * time.Second}, {1.5, time.Minute}, {0.7, 3 * time.Minute}}

// fewSeeds are for what the goals say nothing of.
const fewSeeds = 3

func simulateHedging(t *testing.T, seeds int, lasts time.Duration) *hedging {
	run := func(policy hedgingPolicy, seeds int, phases ...phase) []hedgedOutcome {
		outcomes := make([]hedgedOutcome, seeds)
		for seed := range seeds {
			bubble(t, func() { outcomes[seed] = hedgedLoad(policy.call, phases, uint64(seed)) })
		}
		return outcomes
	}
	h := &hedging{lasts: lasts}
	for _, load := range hedgingLoads {
		var row [][]hedgedOutcome
		for i, policy := range hedgingPolicies() {
			n := fewSeeds
			if i < 2 {
				n = seeds
			}
			row = append(row, run(policy, n, phase{load, lasts}))
		}
		h.byLoad = append(h.byLoad, row)
	}
	for _, policy := range hedgingPolicies()[:2] {
		h.after = append(h.after, run(policy, fewSeeds, passing...))
	}
	return h
}

// medians are those of each figure.
func medians(all []hedgedOutcome) (m hedgedOutcome) {
	of := func(figure func(*hedgedOutcome) *float64) {
		var values []float64
		for i := range all {
			values = append(values, *figure(&all[i]))
		}
		slices.Sort(values)
		*figure(&m) = values[len(values)/2]
	}
	of(func(o *hedgedOutcome) *float64 { return &o.p50 })
	of(func(o *hedgedOutcome) *float64 { return &o.p99 })
	of(func(o *hedgedOutcome) *float64 { return &o.p999 })
	of(func(o *hedgedOutcome) *float64 { return &o.extra })
	of(func(o *hedgedOutcome) *float64 { return &o.recovered })
	return m
}

func (h *hedging) markdown(p func(string, ...any)) {
	p("\n## Hedging\n\nA server of 16 workers with one queue, and open arrivals for %v: a request takes 10 ms in the median (log-normal), and 2 %% take 100 to 300 ms. What was cancelled it serves all the same. p99 / p99.9 in milliseconds, and the requests beside the calls; medians of %d seeds, for failsafe-go of %d. The last column is the p99 with `hedge.Config{}` against that without hedges, in the median and in the worst of the seeds.\n", h.lasts, len(h.byLoad[0][0]), fewSeeds)
	head, line := "| load |", "| --- |"
	for _, policy := range hedgingPolicies() {
		head += " " + policy.name + " |"
		line += " --- |"
	}
	p("%s against none |\n%s --- |", head, line)
	for i, row := range h.byLoad {
		text := fmt.Sprintf("| %.1f |", hedgingLoads[i])
		for j, outcomes := range row {
			m := medians(outcomes)
			text += fmt.Sprintf(" %.0f / %.0f", m.p99, m.p999)
			if j > 0 {
				text += fmt.Sprintf(", %.1f %%", 100*m.extra)
			}
			text += " |"
		}
		var against []float64
		for seed, o := range row[1] {
			against = append(against, o.p99/row[0][seed].p99)
		}
		slices.Sort(against)
		p("%s %.2f, %.2f |", text, against[len(against)/2], against[len(against)-1])
	}
	p("\nA load of 1.5 for a minute, then 0.7 again: the last call that takes more than 400 ms begins so long after, and the requests beside the calls.\n")
	p("| policy | recovered after | extra |\n| --- | --- | --- |")
	for i, outcomes := range h.after {
		m := medians(outcomes)
		p("| %s | %.0f s | %.1f %% |", hedgingPolicies()[i].name, m.recovered, 100*m.extra)
	}
}

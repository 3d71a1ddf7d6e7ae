package main

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/retryutils/retry"
)

// throttled is a workload of jobs against a server that answers 429 when more
// than limit calls come in a window. The windows are fixed, as those of public
// APIs mostly are.
type throttled struct {
	name               string
	processes, workers int // workers in each process
	jobs               int
	limit              int
	window             time.Duration
	refusedCount       bool // against the limit as well
	retryAfter         hint
}

// hint is what a 429 says of when to come back.
type hint int

const (
	wholeSeconds hint = iota // Retry-After, rounded up, and a second more, as Ensembl
	exactly                  // Retry-After with decimals
	nothing                  // then the client takes one window for it
)

// throttledOutcome is what came of a workload of jobs.
type throttledOutcome struct {
	refused  float64 // 429s per 1,000 jobs
	makespan float64 // until the last job was done, in multiples of the least possible
	tries    int     // jobs that took more than six
}

// throttledPolicy is how the processes are configured, and joined.
type throttledPolicy struct {
	name string
	// fleet makes the Config of each process.
	fleet func(e *env, t throttled) []retry.Config
}

func throttledPolicies() []throttledPolicy {
	gates := func(e *env, t throttled) (cfgs []retry.Config) {
		for range t.processes {
			cfgs = append(cfgs, retry.Config{Gate: retry.NewGate(clock{e.world}), MaxRetryAfter: time.Hour})
		}
		return cfgs
	}
	return []throttledPolicy{
		{"each call on its own", func(_ *env, t throttled) []retry.Config {
			return slices.Repeat([]retry.Config{{MaxRetryAfter: time.Hour}}, t.processes)
		}},
		{"each on its own, full jitter", func(_ *env, t throttled) []retry.Config {
			return slices.Repeat([]retry.Config{{Jitter: retry.FullJitter, MaxRetryAfter: time.Hour}}, t.processes)
		}},
		{"a Gate in each process", gates},
		{"Gates joined by OnPause", func(e *env, t throttled) []retry.Config {
			cfgs := gates(e, t)
			join(e, cfgs)
			return cfgs
		}},
		{"a Limiter at the known rate", func(e *env, t throttled) (cfgs []retry.Config) {
			for range t.processes {
				cfgs = append(cfgs, retry.Config{Limiter: newPace(e.world, t.share(0.85)), MaxRetryAfter: time.Hour})
			}
			return cfgs
		}},
		throttledFleet,
	}
}

// join passes the pauses of each gate on to the others, 5ms later. Who is paused by
// another goes on at a moment of its own, within a turn of its pace: all who did
// at the same moment would be too many again.
func join(e *env, cfgs []retry.Config) {
	passing := false
	for i := range cfgs {
		cfgs[i].Gate.OnPause(func(until time.Time) {
			if passing {
				return
			}
			e.world.after(oneWay, func() {
				passing = true
				defer func() { passing = false }()
				for j, other := range cfgs {
					if j != i {
						turn := float64(len(cfgs)) * oneWay.Seconds()
						if perSecond, paced := other.Gate.Pace(); paced {
							turn = max(turn, min(1/perSecond, 5))
						}
						other.Gate.Refused(until.Add(seconds(turn * e.random.Float64())).Sub(e.world.now))
					}
				}
			})
		})
	}
}

// pace is a rate.Limiter on the world's clock.
type pace struct {
	world   *world
	limiter *rate.Limiter
}

func newPace(w *world, perSecond float64) *pace {
	return &pace{w, rate.NewLimiter(rate.Limit(perSecond), 1)}
}

// share is a part of the server's rate, for one process.
func (t throttled) share(part float64) float64 {
	return part * float64(t.limit) / t.window.Seconds() / float64(t.processes)
}

func (p *pace) Wait(context.Context) error {
	if d := p.limiter.ReserveN(p.world.now, 1).DelayFrom(p.world.now); d > 0 {
		p.world.sleep(d)
	}
	return nil
}

func (t throttled) run(p throttledPolicy, seed uint64) throttledOutcome {
	w := newWorld()
	e := newEnv(w, seed)
	r := &throttledRun{throttled: t, world: w, left: t.jobs, random: rand.New(rand.NewPCG(seed, 15))}
	for _, cfg := range p.fleet(e, t) {
		cfg.Clock, cfg.Rand, cfg.MaxRetries = clock{w}, e.random.Float64, retry.Unlimited
		start := seconds(r.random.Float64() * max(1, float64(t.processes)/float64(t.limit)*1.2) * t.window.Seconds())
		for range t.workers {
			w.after(start+seconds(0.05*r.random.Float64()), func() { go r.work(cfg) })
		}
	}
	w.run()
	windows := (t.jobs - 1) / t.limit // that must be over before the last job
	ideal := float64(windows) * t.window.Seconds()
	return throttledOutcome{
		refused:  1000 * float64(r.refused) / float64(t.jobs),
		makespan: w.since() / ideal,
		tries:    r.tries,
	}
}

// throttledRun is such a workload under way.
type throttledRun struct {
	throttled
	world   *world
	random  *rand.Rand
	left    int // jobs that have not begun
	window  int64
	used    int
	refused int
	tries   int
}

func (r *throttledRun) work(cfg retry.Config) {
	for r.left > 0 {
		r.left--
		tries := 0
		cfg := cfg
		if err := retry.Run(context.Background(), cfg, func(context.Context) error {
			tries++
			return r.call()
		}); err != nil {
			panic(err) // with unlimited retries there is no other way out
		}
		if tries > 6 {
			r.tries++
		}
	}
}

// call takes 100ms on average, half of them until it arrives.
func (r *throttledRun) call() error {
	oneWay := seconds(0.025 + 0.05*r.random.Float64())
	r.world.sleep(oneWay)
	err := r.answer()
	r.world.sleep(oneWay)
	return err
}

func (r *throttledRun) answer() error {
	now := r.world.now.Sub(epoch)
	window := int64(now / r.throttled.window)
	if window != r.window {
		r.window, r.used = window, 0
	}
	if r.used < r.limit {
		r.used++
		return nil
	}
	r.refused++
	left := (r.throttled.window - now%r.throttled.window).Seconds()
	err := &retry.StatusError{StatusCode: 429}
	switch r.retryAfter {
	case wholeSeconds:
		err.RetryAfter = seconds(math.Ceil(left) + 1)
	case exactly:
		err.RetryAfter = seconds(left)
	case nothing:
		if r.refusedCount {
			r.used++
		}
		return retry.RetryAfter(err, r.throttled.window)
	}
	return err
}

func throttledServers() []throttled {
	second := time.Second
	return []throttled{
		{"Ensembl, 4 x 8", 4, 8, 3000, 15, second, false, wholeSeconds},
		{"Ensembl, 4 x 32", 4, 32, 3000, 15, second, false, wholeSeconds},
		{"decimals, 4 x 8", 4, 8, 3000, 15, second, false, exactly},
		{"NCBI, 4 x 8", 4, 8, 3000, 10, second, false, nothing},
		{"NCBI, 16 x 8", 16, 8, 3000, 10, second, false, nothing},
		{"gnomAD, 4 x 8", 4, 8, 400, 10, time.Minute, true, nothing},
		{"hour quota, 4 x 8", 4, 8, 6000, 2000, 10 * time.Minute, false, exactly},
		{"one process, 1 x 32", 1, 32, 3000, 15, second, false, wholeSeconds},
	}
}

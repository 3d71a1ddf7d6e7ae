package main

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/retryutils/retry"
)

// bucketServer is nginx's limit_req: a leaky bucket in milliseconds, a 429 with
// Retry-After for who finds it full, and nothing counted of who is refused.
type bucketServer struct {
	world      *world
	rate       float64 // calls per second
	burst      float64
	retryAfter time.Duration
	latency    time.Duration // of a call, on average; 0: 2ms
	behind     time.Duration // what a call that is accepted takes longer
	stray      float64       // the second in which one call is refused without a reason; 0: none

	excess  float64
	last    time.Time
	refused int
}

func (s *bucketServer) answer() error {
	if err := s.admit(); err != nil {
		return err
	}
	s.world.sleep(s.behind)
	return nil
}

// admit is answer without the time that it takes.
func (s *bucketServer) admit() error {
	now := s.world.now
	if s.stray > 0 && s.world.since() >= s.stray {
		s.stray = 0
		return s.refuse()
	}
	excess := max(0, s.excess-s.rate*now.Sub(s.last).Seconds()+1)
	if s.last.IsZero() {
		excess = 0
	}
	if s.rate > 0 && excess > s.burst+1e-9 {
		return s.refuse()
	}
	s.excess, s.last = excess, now
	return nil
}

func (s *bucketServer) refuse() error {
	s.refused++
	return &retry.StatusError{StatusCode: 429, RetryAfter: s.retryAfter}
}

// group is a process of some workers that call one after the other.
type group struct {
	workers    int
	start, end float64 // seconds; an end of 0: when the work is done
	rest       float64 // seconds between the calls of a worker
	cfg        retry.Config
	done       []float64 // when each of its calls succeeded
}

// drive has the groups work off jobs (0: until end) at a server, whose answers
// take some time.
func drive(w *world, s *bucketServer, groups []*group, jobs int, end float64, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 100))
	e := newEnv(w, seed)
	left := jobs
	for _, g := range groups {
		g.cfg.Clock, g.cfg.Rand, g.cfg.MaxRetries = clock{w}, e.random.Float64, retry.Unlimited
		for range g.workers {
			w.after(seconds(g.start+0.005*random.Float64()), func() {
				go func() {
					for until := cmp.Or(g.end, end); (jobs == 0 || left > 0) && (until == 0 || w.since() < until); {
						left--
						g.work(w, s, random)
						w.sleep(seconds(g.rest))
					}
				}()
			})
		}
	}
	w.run()
}

func (g *group) work(w *world, s *bucketServer, random *rand.Rand) {
	latency := cmp.Or(s.latency, 2*time.Millisecond)
	oneWay := seconds(latency.Seconds() * (0.25 + 0.5*random.Float64()))
	err := retry.Run(context.Background(), g.cfg, func(context.Context) error {
		w.sleep(oneWay)
		err := s.answer()
		w.sleep(oneWay)
		return err
	})
	if err != nil {
		panic(err) // with unlimited retries there is no other way out
	}
	g.done = append(g.done, w.since())
}

// rateIn is how many calls a second succeeded in an interval.
func (g *group) rateIn(i interval) (n float64) {
	for _, at := range g.done {
		if i.holds(at) {
			n++
		}
	}
	return n / (i.to - i.from)
}

func newGroup(w *world, workers int, start float64) *group {
	return &group{workers: workers, start: start, cfg: retry.Config{Gate: retry.NewGate(clock{w})}}
}

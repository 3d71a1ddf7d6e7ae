package main

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/retryutils/retry"
)

const capacity = 300.0 // of every server, calls per second

// outcome is what a policy did to a server in trouble.
type outcome struct {
	policy        string
	amplification float64   // attempts per call, while it was down
	dead          int       // attempts while it was down
	perSecond     int       // the most attempts in a second of the minute after
	per100ms      int       // the same for 100ms
	shed          int       // 503s for a full queue
	recovered     float64   // seconds, +Inf for never
	ok            float64   // share of the calls of the minute after that succeeded
	offered       float64   // attempts per second in the last 20s
	done          []float64 // closed workload: when each worker was done, in seconds after the outage, in order
	trace         *trace
}

// openLoad is a workload of calls that come whatever becomes of those before.
type openLoad struct {
	rate      float64 // calls per second, of all processes together
	processes int
	queue     time.Duration
	held      bool
	down      interval
	end       float64
}

func (l openLoad) run(p policy, seed uint64) outcome {
	w := newWorld()
	e := newEnv(w, seed)
	t := newTrace(l.end + 1)
	s := &server{world: w, capacity: capacity, queue: l.queue, down: l.down, held: l.held, end: l.end, trace: t}
	processes := make([]retry.Config, l.processes)
	for i := range processes {
		processes[i] = e.configure(p)
	}
	arrivals := rand.New(rand.NewPCG(seed, 60))
	var arrive func()
	arrive = func() {
		if w.since() >= l.end {
			return
		}
		cfg := processes[arrivals.IntN(len(processes))]
		w.spawn(func() { call(t, w, cfg, s) })
		w.after(seconds(arrivals.ExpFloat64()/l.rate), arrive)
	}
	w.after(seconds(arrivals.ExpFloat64()/l.rate), arrive)
	w.run()
	return l.outcome(p, t)
}

func (l openLoad) outcome(p policy, t *trace) outcome {
	after := interval{l.down.to, l.down.to + 60}
	return outcome{
		policy:        p.name,
		amplification: float64(total(t.attempts, l.down)) / float64(total(t.calls, l.down)),
		dead:          total(t.attempts, l.down),
		perSecond:     peak(t.attempts, after, binsPerSecond),
		per100ms:      peak(t.attempts, after, 1),
		shed:          t.shed,
		recovered:     t.recovered(l.down.to, l.end),
		ok:            t.okShare(after),
		offered:       float64(total(t.attempts, interval{l.end - 20, l.end})) / 20,
		trace:         t,
	}
}

func call(t *trace, w *world, cfg retry.Config, s *server) error {
	began := w.since()
	t.called(began)
	err := retry.Run(context.Background(), cfg, func(ctx context.Context) error {
		return s.call(retry.RetryCount(ctx) == 0)
	})
	t.done(began, err)
	return err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// closedLoad is a workload of serial workers. Each has a call under way when the
// outage begins, must bring it to an end, and goes on calling after a while.
type closedLoad struct {
	processes, workers int // workers in each process
	queue              time.Duration
	hint               bool
	down               interval
	end                float64
}

func (l closedLoad) run(p policy, seed uint64) outcome {
	w := newWorld()
	e := newEnv(w, seed)
	t := newTrace(l.end + 1)
	s := &server{world: w, capacity: capacity, queue: l.queue, down: l.down, hint: l.hint, end: l.end, trace: t}
	people := rand.New(rand.NewPCG(seed, 1000))
	var done []float64
	for range l.processes {
		cfg := e.configure(p)
		for range l.workers {
			w.at(epoch.Add(seconds(l.down.from+0.05*people.Float64())), func() {
				go func() {
					if call(t, w, cfg, s) == nil {
						done = append(done, w.since()-l.down.to)
					}
					for w.since() < l.end {
						w.sleep(seconds(5 * people.ExpFloat64()))
						call(t, w, cfg, s)
					}
				}()
			})
		}
	}
	w.run()
	slices.Sort(done)
	o := openLoad{down: l.down, end: l.end}.outcome(p, t)
	o.amplification = float64(o.dead) / float64(l.processes*l.workers)
	o.done = done
	return o
}

// quantile is the time by which a share of the workers was done, +Inf if they
// never were.
func (o outcome) quantile(share float64, workers int) float64 {
	i := int(math.Ceil(share*float64(workers))) - 1
	if i >= len(o.done) {
		return math.Inf(1)
	}
	return o.done[i]
}

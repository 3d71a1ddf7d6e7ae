package main

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/retryutils/retry"
)

// The contention experiment of "Exponential Backoff and Jitter" (Marc Brooker,
// AWS Architecture Blog, 2015): n clients read and then write one row, with
// optimistic locking. Each stops after its first success, and waits as
// Config.Delay says after each failure.

// occResult is the mean of several trials.
type occResult struct {
	calls float64 // writes, of all clients together
	time  float64 // until the last one is done, in ms
}

type occStrategy struct {
	name  string
	delay func(retry int, previous time.Duration, random func() float64) time.Duration
}

// occStrategies are the experiment's five, base 5ms and cap 2s, whose first
// delay is 10ms, and the library's defaults.
func occStrategies() []occStrategy {
	exponential := func(j retry.Jitter) occStrategy {
		return occDelay(retry.Config{InitialDelay: 10 * time.Millisecond, MaxDelay: 2 * time.Second, Jitter: j})
	}
	decorrelated := retry.DecorrelatedBackoff(5 * time.Millisecond)
	named := func(name string, s occStrategy) occStrategy { s.name = name; return s }
	return []occStrategy{
		named("None", occDelay(retry.Config{Backoff: retry.ConstantBackoff(0)})),
		named("Exponential", exponential(retry.NoJitter)),
		named("±20 %", exponential(retry.Jitter{})),
		named("Equal", exponential(retry.EqualJitter)),
		named("Full", exponential(retry.FullJitter)),
		{"Decorrelated", func(n int, previous time.Duration, random func() float64) time.Duration {
			// A Do hands the wait before to the curve; Config.Delay by itself
			// can only make one up.
			curve := func(int, time.Duration, func() float64) time.Duration {
				return decorrelated(n, max(previous, 5*time.Millisecond), random)
			}
			return retry.Config{Backoff: curve, Jitter: retry.NoJitter, MaxDelay: 2 * time.Second, Rand: random}.Delay(1)
		}},
	}
}

func occDelay(cfg retry.Config) occStrategy {
	return occStrategy{delay: func(n int, _ time.Duration, random func() float64) time.Duration {
		own := cfg // experiments run side by side
		own.Rand = random
		return own.Delay(n)
	}}
}

func occ(s occStrategy, clients, trials int, seed uint64) occResult {
	var sum occResult
	for trial := range trials {
		calls, end := occTrial(s, clients, rand.New(rand.NewPCG(seed, uint64(clients)<<32|uint64(trial))))
		sum.calls += float64(calls)
		sum.time += float64(end) / float64(time.Millisecond)
	}
	return occResult{sum.calls / float64(trials), sum.time / float64(trials)}
}

// occTrial lets all clients start at once, and returns how many writes it took
// them to succeed, and how long.
func occTrial(s occStrategy, clients int, random *rand.Rand) (calls int, end time.Duration) {
	network := func() time.Duration {
		return time.Duration(max(0, random.NormFloat64()*2+10) * float64(time.Millisecond))
	}
	var queue messages
	for range clients {
		heap.Push(&queue, message{at: network(), from: new(occClient)})
	}
	version := 0
	for len(queue) > 0 {
		m := heap.Pop(&queue).(message)
		switch {
		case !m.write: // the answer travels back, then the write travels here
			heap.Push(&queue, message{m.at + network() + network(), true, version, m.from})
			continue
		case m.version == version:
			version++
			calls++
			end = m.at + network()
			continue
		}
		calls++
		c := m.from
		c.failures++
		c.waited = s.delay(c.failures, c.waited, random.Float64)
		heap.Push(&queue, message{at: m.at + network() + c.waited + network(), from: c})
	}
	return calls, end
}

type occClient struct {
	failures int
	waited   time.Duration
}

type message struct {
	at      time.Duration // when it arrives
	write   bool
	version int
	from    *occClient
}

type messages []message

func (q messages) Len() int           { return len(q) }
func (q messages) Less(i, j int) bool { return q[i].at < q[j].at }
func (q messages) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *messages) Push(x any)        { *q = append(*q, x.(message)) }
func (q *messages) Pop() any {
	last := len(*q) - 1
	m := (*q)[last]
	*q = (*q)[:last]
	return m
}

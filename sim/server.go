package main

import (
	"errors"
	"math"
	"time"

	"github.com/retryutils/retry"
)

// server works through one queue, first come first served, at a fixed rate.
type server struct {
	world    *world
	capacity float64       // calls per second
	queue    time.Duration // the longest queue it accepts, with a 503 beyond; 0: any, and it works for clients that have gone
	down     interval
	held     bool    // down means that the network holds calls back, and delivers them when it is over
	hint     bool    // down means that it answers 503, with the rest of it as Retry-After
	end      float64 // no client makes further attempts after this
	busy     time.Time
	trace    *trace
}

// interval is a time from a second to another, both since the world began.
type interval struct{ from, to float64 }

func (i interval) holds(t float64) bool { return t >= i.from && t < i.to }

const (
	oneWay  = 5 * time.Millisecond // through the network
	timeout = time.Second          // of a client's attempt
)

var (
	errTimeout = errors.New("timeout")
	errRefused = errors.New("connection refused")
	errOver    = errors.New("the simulation is over")
)

// call is one attempt, made by a goroutine of the world. What comes of it is
// known as soon as it is sent, since nothing overtakes anything.
func (s *server) call(first bool) error {
	if s.world.since() > s.end {
		return retry.Permanent(errOver)
	}
	s.trace.sent(s.world.since(), first)
	took, err := s.answer()
	s.world.sleep(took)
	if err == nil {
		s.trace.ok(s.world.since())
	}
	return err
}

func (s *server) answer() (time.Duration, error) {
	arrival := s.world.now.Add(oneWay)
	if at := arrival.Sub(epoch).Seconds(); s.down.holds(at) {
		switch left := time.Duration((s.down.to - at) * float64(time.Second)); {
		case s.hint:
			return 2 * oneWay, &retry.StatusError{StatusCode: 503, RetryAfter: left}
		case !s.held:
			return 2 * oneWay, errRefused
		default:
			arrival = arrival.Add(left)
		}
	}
	start := arrival
	if s.busy.After(start) {
		start = s.busy
	}
	if s.queue > 0 && start.Sub(arrival) > s.queue {
		s.trace.shed++
		return 2 * oneWay, &retry.StatusError{StatusCode: 503}
	}
	s.busy = start.Add(time.Duration(float64(time.Second) / s.capacity))
	if took := s.busy.Add(oneWay).Sub(s.world.now); took < timeout {
		return took, nil
	}
	return timeout, errTimeout
}

// trace is what happened, in bins of 100ms, and in seconds made of them.
type trace struct {
	attempts, firsts, oks, calls []int
	shed                         int // 503s for a full queue
	started, succeeded           map[int]int
}

const binsPerSecond = 10

func newTrace(seconds float64) *trace {
	n := int(seconds*binsPerSecond) + 1
	return &trace{
		attempts: make([]int, n), firsts: make([]int, n), oks: make([]int, n), calls: make([]int, n),
		started: map[int]int{}, succeeded: map[int]int{},
	}
}

func (t *trace) sent(at float64, first bool) {
	count(t.attempts, at)
	if first {
		count(t.firsts, at)
	}
}

func (t *trace) ok(at float64) { count(t.oks, at) }

// called is the beginning of a call, which may not even make a first attempt.
func (t *trace) called(at float64) {
	count(t.calls, at)
	t.started[int(at)]++
}

// done is the end of a call that began at the given time.
func (t *trace) done(began float64, err error) {
	if err == nil {
		t.succeeded[int(began)]++
	}
}

func count(bins []int, at float64) {
	if i := int(at * binsPerSecond); i < len(bins) {
		bins[i]++
	}
}

func total(bins []int, i interval) (n int) {
	from, to := int(math.Round(i.from*binsPerSecond)), int(math.Round(i.to*binsPerSecond))
	for _, v := range bins[min(from, len(bins)):min(to, len(bins))] {
		n += v
	}
	return n
}

// peak is the largest sum of width bins, one such group after the other.
func peak(bins []int, i interval, width int) (most int) {
	for b := int(i.from * binsPerSecond); b+width <= min(int(i.to*binsPerSecond), len(bins)); b += width {
		n := 0
		for _, v := range bins[b : b+width] {
			n += v
		}
		most = max(most, n)
	}
	return most
}

// perSecond are the sums of each second.
func perSecond(bins []int) []float64 {
	var sums []float64
	for b := 0; b+binsPerSecond <= len(bins); b += binsPerSecond {
		n := 0
		for _, v := range bins[b : b+binsPerSecond] {
			n += v
		}
		sums = append(sums, float64(n))
	}
	return sums
}

// okShare is the share of the calls begun in i that succeeded in the end.
func (t *trace) okShare(i interval) float64 {
	calls, oks := 0, 0
	for s := int(i.from); s < int(i.to); s++ {
		calls += t.started[s]
		oks += t.succeeded[s]
	}
	return float64(oks) / float64(max(1, calls))
}

// recovered is how many seconds after the given time all was well: in the five
// seconds from there, successes were at least 95 % of the calls, and attempts
// at most 1.25 times them. It is infinite if that never happened.
func (t *trace) recovered(after, end float64) float64 {
	for at := after; at+5 <= end; at++ {
		five := interval{at, at + 5}
		calls := float64(total(t.calls, five))
		if float64(total(t.oks, five)) >= 0.95*calls && float64(total(t.attempts, five)) <= 1.25*calls {
			return at - after
		}
	}
	return math.Inf(1)
}

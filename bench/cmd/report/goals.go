package main

import (
	"fmt"
	"math"
)

// goal is something that this library is to reach, and what was measured.
type goal struct {
	path, want, got string
	reached         bool
}

// judge computes the goals from the figures.
func judge(res *results) []goal {
	j := &judgement{res: res}
	j.loop()
	j.breaker()
	j.memory()
	j.loopback()
	j.heap()
	return j.goals
}

type judgement struct {
	res   *results
	goals []goal
}

// add notes a goal. A figure that is missing reaches nothing.
func (j *judgement) add(path, want, got string, reached bool) {
	j.goals = append(j.goals, goal{path, want, got, reached})
}

// atMost wants a row to take at most so many times as long as another.
func (j *judgement) atMost(path string, limit float64, a, b *row, what string) {
	x := times(a, b)
	j.add(path, fmt.Sprintf("at most %s × %s", plain(limit), what), fmt.Sprintf("%.2f ×", x), x <= limit)
}

// faster wants a row to be so many times as fast as another.
func (j *judgement) faster(path string, by float64, a, b *row) {
	x := times(b, a)
	if b == nil {
		j.add(path, "faster than the peer", "not measured", false)
		return
	}
	want := fmt.Sprintf("at least %s × faster than %s", plain(by), b.name)
	j.add(path, want, fmt.Sprintf("%.1f × faster", x), x >= by)
}

func (j *judgement) allocs(path string, limit float64, a *row) {
	n := a.median("allocs/op")
	j.add(path, plain(limit)+" allocations", plain(n), n <= limit)
}

// ahead wants a row to be faster than every peer of its form.
func (j *judgement) ahead(path string, a *row) {
	if a == nil {
		j.add(path, "faster than every peer", "not measured", false)
		return
	}
	best := j.res.bestPeer(a.group, a.name, a.procs)
	if best == nil {
		j.add(path, "faster than every peer", "no peer was measured", false)
		return
	}
	x := times(a, best)
	j.add(path, "faster than every peer", fmt.Sprintf("%.2f × %s", x, best.name), x < 1)
}

func (j *judgement) loop() {
	hand := j.res.row("LoopSuccess", floor, "hand-written loop", 0)
	for _, name := range []string{"Do, zero Config", "Do, filled Config"} {
		do, path := j.res.row("LoopSuccess", ours, name, 0), "success, "+name
		j.allocs(path, 0, do)
		j.atMost(path, 3, do, hand, "the hand-written loop")
		for _, p := range []string{"backoff v7", "backoff v7, options made once", "sethvargo go-retry", "failsafe-go, made once for one context"} {
			j.faster(path, 10, do, j.res.row("LoopSuccess", peer, p, 0))
		}
	}
	const path = "three failures, then success, waits of 1 ns"
	do := j.res.row("LoopThreeFailures", ours, "Do", 0)
	timer := j.res.row("LoopThreeFailures", floor, "hand-written loop with time.NewTimer", 0)
	j.atMost(path, 1, do, timer, "the hand-written loop with time.NewTimer")
	a, b := do.median("allocs/op"), timer.median("allocs/op")
	j.add(path, "at most half its allocations", fmt.Sprintf("%s of %s", plain(a), plain(b)), a <= b/2)
	j.ahead(path, do)
	j.ahead("giving up after three", j.res.row("LoopGiveUp", ours, "Do", 0))
}

func (j *judgement) breaker() {
	const path = "breaker closed, by failures in a row"
	do := j.res.row("BreakerClosed", ours, "Do", 0)
	j.allocs(path, 0, do)
	j.atMost(path, 3, do, j.res.row("BreakerClosed", floor, "one atomic load", 0), "one atomic load")
	j.faster(path, 10, do, j.res.row("BreakerClosed", peer, "gobreaker Execute", 0))

	one, two := j.res.row("BreakerClosedParallel", ours, "Do", 1), j.res.row("BreakerClosedParallel", ours, "Do", 2)
	j.atMost("the same, 2 processors in parallel", 1, two, one, "that on 1 processor, per call")

	const windowed = "breaker closed, with a window and a rate"
	do = j.res.row("BreakerWindow", ours, "Do", 0)
	j.allocs(windowed, 0, do)
	j.ahead(windowed, do)
	j.atMost(windowed, 1.2, do, j.res.row("BreakerWindow", floor, "mutex, clock and bucket", 0), "mutex, clock and bucket")

	const open = "breaker open, rejection by Allow"
	allow := j.res.row("BreakerOpen", ours, "Allow and Done", 0)
	load := j.res.row("BreakerOpen", floor, "one atomic load", 0).median("ns/op")
	both := j.res.row("BreakerOpen", floor, "atomic load and clock", 0).median("ns/op")
	j.allocs(open, 0, allow)
	limit := 3*load + (both - load)
	j.add(open, "at most 3 × one atomic load, plus one clock reading",
		fmt.Sprintf("%s of %s ns", number(allow.median("ns/op")), number(limit)), allow.median("ns/op") <= limit)
}

func (j *judgement) memory() {
	for _, m := range []struct {
		group, path string
		more        float64
		allocs      float64
	}{
		{"MemoryGet", "GET, in memory", 1.20, 3},
		{"MemoryPost", "POST of 1 KiB, in memory", 1.25, 6},
	} {
		base := j.res.row(m.group, floor, "plain http.Client", 0)
		for _, name := range []string{"client: RetryableClient", "round tripper: Transport"} {
			r, path := j.res.row(m.group, ours, name, 0), m.path+", "+name
			j.atMost(path, m.more, r, base, "plain http.Client")
			extra := r.median("allocs/op") - base.median("allocs/op")
			j.add(path, fmt.Sprintf("at most %s allocations more", plain(m.allocs)), plain(extra), extra <= m.allocs)
			j.ahead(path, r)
		}
	}
	for _, name := range []string{"client: RetryableClient", "round tripper: Transport"} {
		j.ahead("503, 503, 200, in memory, "+name, j.res.row("MemoryRetry", ours, name, 0))
	}
}

// loopback compares the median call of each client with the plain one's, of the
// same round. The noise is three times as far as a second plain client usually
// got from the first: some two standard deviations.
func (j *judgement) loopback() {
	for _, method := range []string{"GET", "POST"} {
		r := j.res.row("LoopbackPaired", "", method, 0)
		apart := ratios(r, r, "control-ns", "plain-ns")
		for i, x := range apart {
			apart[i] = math.Abs(x - 1)
		}
		noise := 3 * median(apart)
		for _, c := range []struct{ unit, name string }{{"client-ns", "RetryableClient"}, {"tripper-ns", "Transport"}} {
			x := ratio(r, r, c.unit, "plain-ns") - 1
			j.add(method+", loopback, "+c.name, "no measurable difference from plain http.Client",
				fmt.Sprintf("%+.1f %%, noise ± %.1f %%", 100*x, 100*noise), x <= noise)
		}
	}
}

func (j *judgement) heap() {
	for _, h := range []struct {
		group, name, path string
		limit             float64
	}{
		{"IdleBreaker", "CircuitBreaker", "idle breaker", 240},
		{"IdleBreakerWindow", "CircuitBreaker", "idle breaker with a window", 464},
		{"IdleGate", "Gate", "idle gate", 96},
		{"IdleBudget", "Budget", "idle budget", 64},
	} {
		bytes := j.res.row(h.group, ours, h.name, 0).median("B/instance")
		j.add(h.path, fmt.Sprintf("at most %s bytes", plain(h.limit)), plain(math.Round(bytes)), bytes <= h.limit+0.5)
	}
}

package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// section is what RESULTS.md says about a group.
type section struct {
	group, title string
	base         string // the floor that the others are compared to
	note         string
	procs        []int // nil: as many as there are
}

var sections = []section{
	{"LoopSuccess", "Retry loop: success at the first attempt", "hand-written loop",
		"Nothing fails, nothing waits: what a retry loop costs when it is not needed. “Made once for one context” is what can be had where all calls share a context.", nil},
	{"LoopThreeFailures", "Retry loop: three failures, then success, waits of 1 ns", "hand-written loop with time.NewTimer",
		"Each wait goes through a timer. “Hand-written loop” does not wait at all.", nil},
	{"LoopThreeFailuresNoDelay", "Retry loop: three failures, then success, no waits", "hand-written loop",
		"With a delay of 0. Most peers start a timer all the same.", nil},
	{"LoopGiveUp", "Retry loop: giving up after three attempts", "hand-written loop with time.NewTimer",
		"Two waits of 1 ns, then an error.", nil},
	{"BreakerClosed", "Circuit breaker: closed", "one atomic load",
		"Successful calls; all would open after 5 failures in a row. The floors are functions of their own, called as the breakers are.", nil},
	{"BreakerClosedParallel", "Circuit breaker: closed, in parallel", "one atomic load",
		"The time per call of all processors together: half of it on two is perfect, more on two than on one means that they wait for each other.", []int{1, 2}},
	{"BreakerOpen", "Circuit breaker: open", "atomic load and clock",
		"Every call is rejected. A breaker without a goroutine or a timer must read the clock to know when to probe; eapache and resty have them.", nil},
	{"BreakerOpenParallel", "Circuit breaker: open, in parallel", "atomic load and clock", "", []int{1, 2}},
	{"BreakerWindow", "Circuit breaker: closed, with a window and a failure rate", "mutex, clock and bucket",
		"Successful calls; all would open when half of at least 20 calls in 10 s failed. eapache has no such thing.", nil},
	{"BreakerWindowParallel", "Circuit breaker: closed, with a window and a failure rate, in parallel", "mutex, clock and bucket", "", []int{1, 2}},
	{"MemoryGet", "HTTP in memory: GET", "plain http.Client",
		"Against a RoundTripper that answers at once, making the request and reading the answer included. A client is compared to clients, a round tripper to round trippers.", nil},
	{"MemoryPost", "HTTP in memory: POST of 1 KiB", "plain http.Client",
		"`RetryableClient` sends an Idempotency-Key: the second floor does too.", nil},
	{"MemoryRetry", "HTTP in memory: GET answered by 503, 503, 200", "hand-written loop over http.Client with time.NewTimer",
		"Waits of 1 ns. Ours share no pause (`NoSharedPause`), as no peer does: by default the gate would space the calls by milliseconds, since the server refuses most of them. failsafehttp leaves the bodies of refused answers open, two for each call here, which spares it work and costs a connection each: its figures are flattered.", nil},
	{"LoopbackGet", "HTTP over loopback: GET", "plain http.Client",
		"Against a server in the same process, which takes part in the figures. Differences of some percent are noise; the calls by turns below show more.", nil},
	{"LoopbackPost", "HTTP over loopback: POST of 1 KiB", "plain http.Client", "", nil},
	{"LoopbackRetry", "HTTP over loopback: GET answered by 503, 503, 200", "hand-written loop over http.Client with time.NewTimer",
		"Without failsafehttp: it leaves refused bodies open, each holds its connection, and they run out.", nil},
	{"Hedge", "Hedging: calls that are answered in time", "goroutine, channel, timer and context",
		"Against a RoundTripper that answers at once. A POST is not eligible: it is passed on. A transport makes a request of its own besides, since two may be under way.", nil},
	{"IdleBreaker", "Heap of an idle breaker", "", "", nil},
	{"IdleBreakerWindow", "Heap of an idle breaker with a window", "", "", nil},
	{"IdleGate", "Heap of an idle gate", "", "No peer has one.", nil},
	{"IdleBudget", "Heap of an idle budget", "", "", nil},
	{"IdleHost", "Heap of a host that a client remembers", "", "Its settings, its gate and its place among the hosts.", nil},
}

// document returns RESULTS.md.
func document(res *results, about setting) []byte {
	var d bytes.Buffer
	d.WriteString("# Benchmark results\n\nWritten by `go run ./cmd/report`")
	fmt.Fprintf(&d, "; %d rounds", about.rounds)
	if about.benchtime != "" {
		fmt.Fprintf(&d, " of %s for each benchmark, %s in all", about.benchtime, about.took)
	}
	fmt.Fprintf(&d, ". %s.\n\n", about.machine)
	d.WriteString(`The figures are medians of the rounds; ± is half of what the middle half of them
spans. All candidates take their turn in each round, and ratios are taken within
a round, then their median. Trust allocations first: times swing with the
machine. **Bold** is this library, *italic* a floor: the least that the work
costs when it is written by hand. Everything is set up alike: no logging, the same
attempts, the same waits. Each benchmark checks how many calls were made.

`)
	writeSummary(&d, res)
	for _, s := range sections {
		writeSection(&d, res, s)
		if s.group == "LoopbackRetry" {
			writePaired(&d, res)
		}
	}
	d.WriteString("## Versions\n\n")
	for _, v := range about.versions {
		fmt.Fprintf(&d, "- %s\n", v)
	}
	d.WriteString("\nNot measured: cep21/circuit v4 and mercari's retry packages, whose modules were not\nto be had where this was run.\n")
	return d.Bytes()
}

func writeSection(d *bytes.Buffer, res *results, s section) {
	if len(res.group(s.group, 0)) == 0 {
		return
	}
	fmt.Fprintf(d, "## %s\n\n![%s](results/%s)\n\n", s.title, s.title, s.file())
	if s.note != "" {
		fmt.Fprintf(d, "%s\n\n", s.note)
	}
	switch {
	case res.group(s.group, 0)[0].unit() == "B/instance":
		writeHeap(d, res, s)
	case s.procs != nil:
		writeParallel(d, res, s)
	default:
		writeTimes(d, res, s)
	}
	d.WriteString("\n")
}

func writeTimes(d *bytes.Buffer, res *results, s section) {
	leaky := s.group == "MemoryRetry"
	d.WriteString("| | ns | | allocations | bytes | × floor | × best peer |")
	if leaky {
		d.WriteString(" bodies left open |")
	}
	d.WriteString("\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
	if leaky {
		d.WriteString(" ---: |")
	}
	base := res.row(s.group, floor, s.base, 0)
	for _, r := range res.group(s.group, 0) {
		fmt.Fprintf(d, "\n| %s | %s | ± %.0f %% | %s | %s | %.2f | %s |", r.label(), number(r.main()), 100*r.spread(),
			plain(math.Round(r.median("allocs/op"))), plain(math.Round(r.median("B/op"))), times(r, base), toBest(res, r))
		if leaky {
			fmt.Fprintf(d, " %s |", plain(math.Round(r.median("open-bodies/op"))))
		}
	}
	d.WriteString("\n")
}

func writeParallel(d *bytes.Buffer, res *results, s section) {
	d.WriteString("| | ns on 1 | ns on 2 | 2 to 1 | allocations | × floor on 2 | × best peer on 2 |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	base := res.row(s.group, floor, s.base, 2)
	for _, r := range res.group(s.group, 2) {
		one := res.row(s.group, r.kind, r.name, 1)
		fmt.Fprintf(d, "| %s | %s | %s | %.2f | %s | %.2f | %s |\n", r.label(), number(one.median("ns/op")), number(r.main()),
			times(r, one), plain(math.Round(r.median("allocs/op"))), times(r, base), toBest(res, r))
	}
}

func writeHeap(d *bytes.Buffer, res *results, s section) {
	d.WriteString("| | bytes |\n| --- | ---: |\n")
	for _, r := range res.group(s.group, 0) {
		fmt.Fprintf(d, "| %s | %s |\n", r.label(), plain(math.Round(r.main())))
	}
}

// writePaired writes the times of clients that take turns call by call.
func writePaired(d *bytes.Buffer, res *results) {
	d.WriteString(`## HTTP over loopback: by turns

Each client makes one call, then the next, over and over: medians in
microseconds. The second plain client is there to show the noise, the third one sends
an Idempotency-Key.

| | plain http.Client | the same again | with a key | RetryableClient | Transport |
| --- | ---: | ---: | ---: | ---: | ---: |
`)
	for _, r := range res.rows {
		if r.group != "LoopbackPaired" {
			continue
		}
		fmt.Fprintf(d, "| %s", r.name)
		for _, unit := range []string{"plain-ns", "control-ns", "keyed-ns", "client-ns", "tripper-ns"} {
			fmt.Fprintf(d, " | %.1f", r.median(unit)/1000)
		}
		d.WriteString(" |\n")
	}
	d.WriteString("\n")
}

func toBest(res *results, r *row) string {
	best := res.bestPeer(r.group, r.name, r.procs)
	if r.kind != ours || best == nil {
		return ""
	}
	return fmt.Sprintf("%.2f", times(r, best))
}

func (r *row) label() string {
	switch r.kind {
	case ours:
		return "**" + r.name + "**"
	case floor:
		return "*" + r.name + "*"
	}
	return r.name
}

// file is the name of the group's chart: "LoopGiveUp" makes "loop-give-up.svg".
func (s section) file() string {
	var name strings.Builder
	for i, c := range s.group {
		if i > 0 && c >= 'A' && c <= 'Z' {
			name.WriteByte('-')
		}
		name.WriteRune(c)
	}
	return strings.ToLower(name.String()) + ".svg"
}

// number writes a figure with three digits or so, and a comma in thousands.
func number(x float64) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case x < 10:
		return fmt.Sprintf("%.1f", x)
	case x < 1000:
		return fmt.Sprintf("%.0f", x)
	}
	n := int64(math.Round(x))
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// plain writes a figure with no more digits than it has.
func plain(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

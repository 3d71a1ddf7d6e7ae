package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
)

// path is a line of the summary: something that callers do, and what it takes.
type path struct {
	title  string
	group  string
	ours   string   // the name of this library's row
	floor  string   // the floor that it is compared to; "" where there is none
	unlike []string // peers that do less, and are no measure of what this could take
	why    string   // why a peer that is faster is
}

var paths = []path{
	{"`Do`, success at the first attempt", "LoopSuccess", "Do, zero Config", "hand-written loop",
		[]string{"eapache retrier", "retry-go v5, made once for one context", "failsafe-go, made once for one context"},
		"eapache takes a list of waits that was made before, and retry-go a context that it was made with: neither looks at a Config, a deadline or the number of an outer attempt in each call."},
	{"`Do`, three retries after 1 ns", "LoopThreeFailures", "Do", "hand-written loop with time.NewTimer",
		[]string{"eapache retrier", "retry-go v5, made once for one context", "failsafe-go, made once for one context"},
		"They make a timer for each wait and no more; `Do` judges each error by its whole tree, and looks at the deadline before each wait."},
	{"`Do`, giving up after three attempts", "LoopGiveUp", "Do", "hand-written loop with time.NewTimer",
		[]string{"eapache retrier", "retry-go v5, made once for one context", "failsafe-go, made once for one context"},
		"The same, and they return the last error as it is, without an error around it that says why."},
	{"breaker, closed", "BreakerClosed", "Do", "one atomic load", []string{"eapache Run"},
		"eapache counts no call that succeeds while it is closed, and has no counts to show."},
	{"breaker, closed, with a window and a rate", "BreakerWindow", "Do", "mutex, clock and bucket", nil, ""},
	{"breaker, open", "BreakerOpen", "Allow and Done", "atomic load and clock", []string{"eapache Run", "resty Allow and ApplyPolicies"},
		"A goroutine or a timer of theirs ends the open time, so that a call need not read the clock."},
	{"GET in memory, client", "MemoryGet", "client: RetryableClient", "plain http.Client", []string{"client: failsafehttp Request"}, whyHTTP},
	{"GET in memory, round tripper", "MemoryGet", "round tripper: Transport", "plain http.Client", []string{"round tripper: failsafehttp"}, whyHTTP},
	{"POST in memory, client", "MemoryPost", "client: RetryableClient", "plain http.Client with an Idempotency-Key", []string{"client: failsafehttp Request"},
		"retryablehttp sends a POST again without a key that makes that safe. " + whyHTTP},
	{"POST in memory, round tripper", "MemoryPost", "round tripper: Transport", "plain http.Client", []string{"round tripper: failsafehttp"},
		"retryablehttp sends a POST again whatever became of it; `Transport` traces whether the server can have acted on it. " + whyHTTP},
	{"GET answered by 503, 503, 200, client", "MemoryRetry", "client: RetryableClient", "hand-written loop over http.Client with time.NewTimer", []string{"client: failsafehttp Request"}, whyRetry},
	{"GET answered by 503, 503, 200, round tripper", "MemoryRetry", "round tripper: Transport", "hand-written loop over http.Client with time.NewTimer", []string{"round tripper: failsafehttp"}, whyRetry},
	{"heap of an idle breaker", "IdleBreaker", "CircuitBreaker", "", nil, "They count no slow calls."},
	{"heap of an idle breaker with a window", "IdleBreakerWindow", "CircuitBreaker", "", nil, "They count no slow calls."},
	{"heap of an idle budget", "IdleBudget", "Budget", "", nil, ""},
}

const (
	whyHTTP  = "retryablehttp sends the caller's own request, where an attempt here is a copy with a context of its own, and has passed the host's gate."
	whyRetry = "retryablehttp reads a refused answer in the caller's goroutine, where a body whose Close does not end a Read holds the call for ever; here it is read in another, unless it is one of net/http's, and its header and body are kept for the error."
)

// writeSummary writes what each path takes, beside its floor and the best peer that does
// the same, and who is faster.
func writeSummary(d *bytes.Buffer, res *results) {
	d.WriteString(`## Summary

What this library takes on each path, the floor, and the fastest peer that does the
same work; × is how many times as long this library takes. Peers that leave out some of
the work are no measure of it, and are named where they are faster.

| path | ours | floor | best peer | faster, and why |
| --- | ---: | --- | --- | --- |
`)
	for _, p := range paths {
		own := res.row(p.group, ours, p.ours, 0)
		if own == nil {
			continue
		}
		var peers, faster []*row
		for _, r := range res.group(p.group, own.procs) {
			if r.kind != peer || form(r.name) != form(p.ours) {
				continue
			}
			if !slices.Contains(p.unlike, r.name) {
				peers = append(peers, r)
			}
			if times(own, r) > 1 {
				faster = append(faster, r)
			}
		}
		fmt.Fprintf(d, "| %s | %s | %s | ", p.title, amount(own), beside(own, res.row(p.group, floor, p.floor, own.procs)))
		if len(peers) > 0 {
			d.WriteString(beside(own, peers[0]))
		}
		d.WriteString(" | ")
		for i, r := range faster {
			if i > 0 {
				d.WriteString(", ")
			}
			fmt.Fprintf(d, "%s (%s)", r.bare(), amount(r))
		}
		if len(faster) > 0 && p.why != "" {
			fmt.Fprintf(d, ". %s", p.why)
		}
		d.WriteString(" |\n")
	}
	d.WriteString("\n")
	writeOverhead(d, res)
}

// beside names a row, and how many times as long another takes.
func beside(own, other *row) string {
	if other == nil {
		return ""
	}
	return fmt.Sprintf("%s: %s, × %.2f", other.bare(), amount(other), times(own, other))
}

// bare is the name of a row without its form.
func (r *row) bare() string { return strings.TrimPrefix(r.name, form(r.name)+": ") }

// amount is the figure of a row, with its unit.
func amount(r *row) string {
	if r.unit() == "B/instance" {
		return plain(math.Round(r.main())) + " B"
	}
	return number(r.main()) + " ns"
}

// writeOverhead says what a client adds to the plain one's call over loopback. The noise
// is three times as far as a second plain client usually got from the first: some two
// standard deviations.
func writeOverhead(d *bytes.Buffer, res *results) {
	for _, method := range []string{"GET", "POST"} {
		r := res.row("LoopbackPaired", "", method, 0)
		if r == nil {
			continue
		}
		apart := ratios(r, r, "control-ns", "plain-ns")
		for i, x := range apart {
			apart[i] = math.Abs(x - 1)
		}
		more := func(unit string) float64 { return 100 * (ratio(r, r, unit, "plain-ns") - 1) }
		fmt.Fprintf(d, "Over loopback, by turns, a %s takes a `RetryableClient` %+.1f %%, a `Transport` %+.1f %% of the plain client's time; the noise is ± %.1f %%.",
			method, more("client-ns"), more("tripper-ns"), 300*median(apart))
		if method == "POST" {
			fmt.Fprintf(d, " A plain client that sends an Idempotency-Key takes %+.1f %%.", more("keyed-ns"))
		}
		d.WriteString("\n")
	}
	d.WriteString("\n")
}

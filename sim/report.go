package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// markdown is RESULTS.md.
func (f *findings) markdown(seed uint64) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Under load\n\nWritten by `go run ./sim` (seed %d). Every figure is the library itself at work, in virtual time, where nothing else is said.\n", seed)
	p("## The outage\n\n![calls per second during and after an outage](results/outage.svg)\n")
	p("A server for 300 calls/s gets 200, and is down for 60 s. Its queue is unbounded: it works for clients that have given up after their 1 s. Attempts count against calls during the outage; the peak is in the minute after it. \"In a fleet\" is a model of package fleet, with its decisions, defaults and measured delays.\n")
	p("### 20 processes\n")
	openTable(p, f.open)
	p("\n### 1,000 processes\n\nWhat a process knows is nearly nothing, so a budget's burst and a breaker's threshold are paid 1,000 times.\n")
	openTable(p, f.alone)
	p("\n### 1,000 workers who wait for each other's findings\n\nEach has a call under way when the outage begins, and does not give up. They share one `CircuitBreaker` with `WaitWhenOpen`, or nothing. The queue is bounded: beyond 0.5 s the server answers 503.\n")
	closedTable(p, append(f.closed, f.hint))
	p("\nThe same 1,000 workers in 20 processes, with a breaker for each, and with these in a fleet:\n")
	closedTable(p, f.fleet)
	p("\n## Metastable failure\n\n280 calls/s for the same server, and 10 s in which the network holds all calls back (Bronson et al., HotOS 2021).\n")
	p("| policy | attempts/s in the end | recovered after |\n| --- | --- | --- |")
	for _, o := range f.hot {
		p("| %s | %.0f | %s |", o.policy, o.offered, sec(o.recovered))
	}
	p("\n## Contention\n\n![calls and time against clients](results/contention.svg)\n\nThe experiment of the AWS Architecture Blog (2015): writes of all clients / ms until the last is done.\n")
	f.occTable(p)
	p("\n## An API that answers 429\n\n![429s per 1,000 jobs](results/throttled.svg)\n\n429s per 1,000 jobs (time, in multiples of the least possible). `4 x 8` is 4 processes of 8 workers.\n")
	f.throttledTable(p)
	p("\n### The pace that a gate learns\n\nMedian and worst of %d seeds; time in multiples of the least possible.\n", paceSeeds)
	f.pacingTable(p)
	p("\n![time by the share of the rate that is used](results/pacing.svg)\n")
	f.limits(p)
	p("\n## A gate that does no harm\n\nTime in the median of 20 seeds (and the worst): above the line of the stray refusal in multiples of the same client without a gate, below it of the least possible; refusals per 1,000 jobs; jobs lost at most. Three rows are set apart: nothing was tuned on them. AWS adaptive is CUBIC (beta 0.7, scale 0.4, smoothing 0.8); AIMD takes 15 %% off at a refusal and adds 3 %% a second.\n")
	harmTable(p, f.harm)
	p("\n### Servers drawn by chance\n\n%d of each kind, with 2 to 100 workers, answers within 3 ms to 0.8 s, and Retry-After from none to 30 s: time in multiples of the same client without a gate, and how many calls more of 1,000 were refused. Nothing was tuned on them. A client whose calls go mostly to an endpoint with a limit of its own takes that for the limit of the host, which all share: there a HostKey is needed that tells endpoints apart.\n", worldsDrawn)
	worldsTable(p, f.worlds)
	f.hedged.markdown(p)
	p("\n## The breaker's open time\n\nCalls sent to the dead server / seconds until all was well again, by the length of the outage; 20 processes, no retry budget.\n")
	f.recoveryTable(p)
	f.verdicts(p)
	return b.String()
}

func openTable(p func(string, ...any), outcomes []outcome) {
	p("| policy | attempts/calls | to the dead server | peak/s | recovered after | ok in the minute after |\n| --- | --- | --- | --- | --- | --- |")
	for _, o := range outcomes {
		p("| %s | %.3f | %d | %d | %s | %.1f %% |", o.policy, o.amplification, o.dead, o.perSecond, sec(o.recovered), 100*o.ok)
	}
}

func closedTable(p func(string, ...any), outcomes []outcome) {
	p("| policy | attempts per worker in the outage | peak/s | peak/100 ms | 503s | half done | 99 %% | last |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, o := range outcomes {
		p("| %s | %.2f | %d | %d | %d | %s | %s | %s |", o.policy, o.amplification, o.perSecond, o.per100ms, o.shed,
			sec(o.quantile(0.5, 1000)), sec(o.quantile(0.99, 1000)), sec(o.quantile(1, 1000)))
	}
}

func sec(s float64) string {
	if math.IsInf(s, 1) {
		return "never"
	}
	return fmt.Sprintf("%.1f s", s)
}

func (f *findings) occTable(p func(string, ...any)) {
	head, line := "| strategy |", "| --- |"
	for _, n := range f.occSizes {
		head += fmt.Sprintf(" %d clients |", n)
		line += " --- |"
	}
	p("%s\n%s", head, line)
	for i, s := range occStrategies() {
		row := "| " + s.name + " |"
		for _, r := range f.occ[i] {
			row += fmt.Sprintf(" %.0f / %.0f |", r.calls, r.time)
		}
		p("%s", row)
	}
}

func (f *findings) throttledTable(p func(string, ...any)) {
	head, line := "| server |", "| --- |"
	for _, policy := range throttledPolicies() {
		head += " " + policy.name + " |"
		line += " --- |"
	}
	p("%s\n%s", head, line)
	for i, s := range throttledServers() {
		row := "| " + s.name + " |"
		for _, o := range f.throttled[i] {
			row += fmt.Sprintf(" %.0f (%.2f) |", o.refused, o.makespan)
		}
		p("%s", row)
	}
}

func (f *findings) recoveryTable(p func(string, ...any)) {
	head, line := "| open time |", "| --- |"
	for _, lasts := range outages {
		head += fmt.Sprintf(" %.0f s |", lasts)
		line += " --- |"
	}
	p("%s\n%s", head, line)
	for i, b := range breakers() {
		row := "| " + b.name + " |"
		for _, o := range f.recovery[i] {
			row += fmt.Sprintf(" %d / %s |", o.dead, sec(o.recovered))
		}
		p("%s", row)
	}
}

// write puts the report and its pictures into the folder.
func (f *findings) write(folder, report string) error {
	if err := os.MkdirAll(filepath.Join(folder, "results"), 0o755); err != nil {
		return err
	}
	if err := f.plot(filepath.Join(folder, "results")); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "RESULTS.md"), []byte(report), 0o644)
}

func find(outcomes []outcome, policy string) outcome {
	for _, o := range outcomes {
		if o.policy == policy {
			return o
		}
	}
	panic("no policy " + policy)
}

// verdicts say what the figures mean for each default.
func (f *findings) verdicts(p func(string, ...any)) {
	alone := func(name string) float64 { return find(f.alone, name).amplification }
	p("\n## What this says about the defaults\n")
	p("- **Jitter {0.8, 1.2}**: at 100 clients it costs %.0f %% more calls than full jitter, and %.1f times the time. In an outage with open arrivals no jitter matters. `FullJitter` is the better default for many clients that fail together; ±20 %% keeps what the Python original promised.",
		100*(f.ratio("±20 %", "Full", 100, true)-1), f.ratio("±20 %", "Full", 100, false))
	p("- **Budget**: with 1,000 processes and a ratio of 10 %%, a burst of 1 makes %.2f attempts per call, 3 make %.2f, 10 make %.2f. With 20 processes the burst hardly counts. One is enough, and 2 or 3 too many for a large fleet. The retry that accrues each minute is one for 12 calls there: an outage of five minutes makes %.2f attempts per call.",
		alone("budget 10 %, burst 1"), alone("budget 10 %, burst 3"), alone("budget 10 %, burst 10"), f.long[0].amplification)
	p("- **RecoveryTimeout**: it is what bounds recovery. The default of 60 s, with or without the original's unlimited probes, prolongs most outages by up to a minute; 5 s costs a few calls a process and recovers within 6 s.")
	p("- **MaxRecoveryTimeout**: growth to 60 s saves calls that hardly matter, and prolongs long outages as much as an open time of 60 s does. No growth is the right default.")
	exact, jittered := find(f.fleet, "breaker 5s"), find(f.fleet, "breaker 5s +20 %")
	p("- **RecoveryJitter**: the breakers of a fleet that opened together probe together. With 20 of them and 0 jitter, %d calls come within 100 ms and the server sheds %d; with a fifth, %d and %d. Set it where there is more than one process.",
		exact.per100ms, exact.shed, jittered.per100ms, jittered.shed)
	joined, apart := find(f.alone, "budget 10 % + breaker 5s, in a fleet"), find(f.alone, "budget 10 % + breaker 5s")
	crowd := find(f.fleet, "breaker 5s +20 %, in a fleet")
	p("- **A fleet**: with 1,000 processes it makes %.3f attempts per call where each for itself makes %.3f, and all is well after %s. Processes in which calls wait take turns when a probe has succeeded: the last of 1,000 workers is done after %s, with %d 503s, and after %s where each breaker closes for itself.",
		joined.amplification, apart.amplification, sec(joined.recovered), sec(crowd.quantile(1, 1000)), crowd.shed, sec(jittered.quantile(1, 1000)))
	single := f.throttled[len(f.throttled)-1][2]
	p("- **The gate's pace**: 1,000 waiters take 5 s at 5 ms each, which a server for 300 calls/s sustains without a 503. Once a fifth of the calls are refused, the gate keeps just below what the server accepts; one process alone takes %.2f times the least possible, with %.0f refusals per 1,000 jobs. Processes that share a limit without a common clock do worse, and worst where the share of each is below one call a second (NCBI 16 x 8, gnomAD): use a `Limiter` there, at a known rate. Joined gates end a pause that came from another at a random moment within a turn of their own pace.",
		single.makespan, single.refused)
}

// limits say what stands against a better pace.
func (f *findings) limits(p func(string, ...any)) {
	p("What stands against more:\n")
	p("- **The first crowd.** Of 50 workers who start together at nginx, 29 are refused before the limit can be known: 14.5 per 1,000 of 2,000 jobs. Of 128 at NCBI it is 39 per 1,000, of 32 at gnomAD 55.")
	p("- **The margin.** The curves are of a Limiter that knows the rate from the beginning, with joined gates; the dots are what a gate reaches that has to find it. One process can use 95 %% of a server's window. Several that do not know each other's phase are refused together at more than 90 %%, and lose it in pauses.")
	p("- **The probe.** A probe that fails costs two or three refusals, and one that is not made finds nothing: with a Retry-After of 1 s, a limit that doubles at a random moment is used after %.0f s in the median, %.0f s at worst.",
		f.paced.doubled[paceSeeds/2], f.paced.doubled[paceSeeds-1])
	p("- **Time and refusals.** Less of one is more of the other: [constants.md](results/constants.md) has rows of both for other values of what they depend on most.")
}

// ratio compares two strategies at a number of clients, by calls or by time.
func (f *findings) ratio(a, b string, clients int, calls bool) float64 {
	x, y := f.contentionOf(a, clients), f.contentionOf(b, clients)
	if calls {
		return x.calls / y.calls
	}
	return x.time / y.time
}

func (f *findings) contentionOf(strategy string, clients int) occResult {
	for i, s := range occStrategies() {
		for j, n := range f.occSizes {
			if s.name == strategy && n == clients {
				return f.occ[i][j]
			}
		}
	}
	panic("no such contention: " + strategy)
}

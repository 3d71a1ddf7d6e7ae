package statusz

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/retryutils/retry"
)

// finding is a sentence for an operator, with what to do about it.
type finding struct {
	Severe bool   `json:"severe"` // calls end badly, or cannot go on
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// meanings say what the labels of [retry.Outcome] mean, and where to look.
var meanings = map[string]string{
	"ok":                   "No error.",
	"permanent":            "An error that another attempt cannot change, such as a 404, a failed login or a bad argument. Fix the request or the credentials: see the last failure.",
	"canceled":             "The caller cancelled: its own client went away, or an outer time limit ended it.",
	"deadline":             "The caller's deadline left no time for the attempt or the wait. Compare it with how long attempts take and with the delays in the settings.",
	"max_retries":          "All attempts failed. The dependency is down or refuses: see what attempts fail with.",
	"max_elapsed":          "max_elapsed left no time for another attempt: see what attempts fail with.",
	"budget":               "The retry budget is empty: too many calls fail. Do not raise it, it keeps load off the dependency.",
	"circuit_open":         "The circuit breaker rejects calls. It probes by itself: see its cause and last failure.",
	"paused":               "The server asked for a pause that is longer than the call may wait.",
	"retry_after_too_long": "The server asks for a longer wait than max_retry_after.",
	"body_not_replayable":  "The request's body could not be sent again: give it a GetBody or a larger replay buffer.",
	"not_idempotent":       "The request may have been carried out, and must not be sent twice: check on the server.",
	"draining":             "The process is shutting down.",
	"limiter":              "The limiter of this process refused: more calls than it allows.",
	"invalid":              "A setting or an argument is wrong: see the last failure.",
	"abandoned":            "The function panicked or ended its goroutine.",
}

func (e *entry) severity() int {
	n := 0
	for _, f := range e.Findings {
		n = max(n, 1)
		if f.Severe {
			n = 2
		}
	}
	return n
}

// findings are what stands out, the worst first.
func (e *entry) findings() (all []finding) {
	add := func(severe bool, hint, format string, args ...any) {
		all = append(all, finding{severe, fmt.Sprintf(format, args...), hint})
	}
	if b := e.Breaker; b != nil && b.State != retry.StateClosed {
		text := "The circuit breaker is " + b.State.String()
		if b.Left > 0 {
			text += " for another " + b.Left.String()
		}
		if b.Cause != "" {
			text += ": " + b.Cause
		}
		if b.LastFailure != "" {
			text += "; last failure: " + b.LastFailure
		}
		hint := "Calls are rejected at once. It probes by itself and closes when the dependency answers again: find out why it fails."
		if b.State == retry.StateHalfOpen {
			hint = "It lets a probe through to see whether the dependency answers again."
		}
		add(b.State == retry.StateOpen, hint, "%s.", text)
	}
	if g := e.Gate; g != nil && g.Left > 0 {
		add(true, "The server asked to be left alone, and all calls to it wait. Lower the demand, or ask for a larger quota.",
			"Paused for another %v%s.", g.Left, g.why())
	} else if g != nil && g.Pace > 0 {
		add(false, "The server refused calls beyond this rate; it is raised again by itself.",
			"Calls go out at %.3g a second at most%s.", g.Pace, g.why())
	}
	for _, w := range e.Waiting {
		add(false, "", "%s for %s, the longest for %v.", callsWait(w.Calls), w.For, w.Longest)
	}
	if b := e.Budget; b != nil && b.Balance < 1 && b.Refusals > 0 {
		add(true, meanings["budget"], "The retry budget is empty: %d retries were refused so far.", b.Refusals)
	}
	recent := e.Last["5m"]
	for _, o := range labels(recent.Outcomes) {
		if o.Label != "ok" {
			add(o.Label != "canceled" && o.Label != "draining" && o.N*100 >= recent.Calls, meanings[o.Label],
				"%d of %d calls in 5m ended with %s.", o.N, recent.Calls, o.Label)
		}
	}
	if failed := sum(recent.Failures); failed > 0 {
		var kinds []string
		for _, k := range labels(recent.Failures) {
			kinds = append(kinds, fmt.Sprintf("%s (%d)", k.Label, k.N))
		}
		hint := ""
		if failed*20 >= recent.Attempts && recent.Outcomes["ok"]*10 >= recent.Calls*9 {
			hint = "Retries hide it: most other attempts succeed. It may be one of several backends, or the load is close to a limit."
		}
		add(false, hint, "%d of %d attempts in 5m failed with %s.", failed, recent.Attempts, strings.Join(kinds, ", "))
	}
	slices.SortStableFunc(all, func(a, b finding) int { return rank(a) - rank(b) })
	return all
}

// why names the refusals that led to a pause or a pace.
func (g *gate) why() (text string) {
	if g.Cause != "" {
		text = ": " + g.Cause
	}
	if g.LastRefusal != "" {
		text += "; last refusal: " + g.LastRefusal
	}
	return text
}

// Level, NotOK, WaitingCalls and Windows are for the page.
func (e entry) Level() int { return e.severity() }

func (e entry) NotOK() int64 { return e.Last["5m"].Calls - e.Last["5m"].Outcomes["ok"] }

func (e entry) WaitingCalls() (n int) {
	for _, w := range e.Waiting {
		n += w.Calls
	}
	return n
}

func (e entry) Windows() []window { return e.windows }

func rank(f finding) int {
	if f.Severe {
		return 0
	}
	return 1
}

func callsWait(n int) string {
	if n == 1 {
		return "1 call waits"
	}
	return fmt.Sprintf("%d calls wait", n)
}

type labelled struct {
	Label string
	N     int64
}

// labels lists counts by label, the largest first.
func labels(m map[string]int64) (all []labelled) {
	for label, n := range m {
		all = append(all, labelled{label, n})
	}
	slices.SortFunc(all, func(a, b labelled) int { return cmp.Or(cmp.Compare(b.N, a.N), strings.Compare(a.Label, b.Label)) })
	return all
}

func sum(m map[string]int64) (n int64) {
	for _, each := range m {
		n += each
	}
	return n
}

// chart is a plot of the steps of a window: bars of calls that ended well and otherwise,
// and above them the retries.
type chart struct {
	Width, Height float64
	Bars          []bar
	Title         string
}

type bar struct {
	Kind                string // "ok", "bad" or "retry"
	X, Y, Width, Height float64
}

func plot(w window) chart {
	c := chart{Width: 180, Height: 36}
	c.Title = fmt.Sprintf("last %s: %d calls, %d not ok, %d retries", w.Name, w.Counts.Calls, w.Counts.Calls-w.Counts.Outcomes["ok"], w.Counts.Retries)
	highest := int64(1)
	for _, s := range w.steps {
		highest = max(highest, s.Calls+s.Retries)
	}
	width := c.Width / float64(len(w.steps))
	for i, s := range w.steps {
		y := c.Height
		for _, part := range []struct {
			kind string
			n    int64
		}{{"ok", s.Outcomes["ok"]}, {"bad", s.Calls - s.Outcomes["ok"]}, {"retry", s.Retries}} {
			if part.n > 0 {
				height := max(1, c.Height*float64(part.n)/float64(highest))
				y -= height
				c.Bars = append(c.Bars, bar{part.kind, float64(i) * width, max(0, y), width * 0.8, height})
			}
		}
	}
	return c
}

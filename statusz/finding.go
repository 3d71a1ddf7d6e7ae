package statusz

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

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
	"deadline":             "The caller's deadline left no time for the attempt or the wait. Compare it with how long answers take and with the delays in the settings.",
	"max_retries":          "All attempts failed. The dependency is down or refuses: see what attempts fail with.",
	"max_elapsed":          "max_elapsed left no time for another attempt: see what attempts fail with.",
	"budget":               "The retry budget is empty: too many calls fail. Do not raise it, it keeps load off the dependency.",
	"circuit_open":         "The circuit breaker rejected them. It probes by itself: see its cause and last failure.",
	"paused":               "They were not sent: the server asked for a pause that is longer than they may wait.",
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

// findings are what stands out, the worst first, and causes before what they lead to.
func (e *entry) findings() (all []finding) {
	add := func(severe bool, hint, format string, args ...any) {
		if slices.ContainsFunc(all, func(f finding) bool { return f.Hint == hint }) {
			hint = "" // once is enough
		}
		all = append(all, finding{severe, fmt.Sprintf(format, args...), hint})
	}
	recent := e.Last["5m"]
	felt := (recent.Calls-recent.Outcomes["ok"]-recent.Outcomes["canceled"]-recent.Outcomes["draining"])*100 >= max(1, recent.Calls)
	if b := e.Breaker; b != nil && b.State != retry.StateClosed {
		text, hint := "The circuit breaker is open", "It rejects calls at once. It probes by itself and closes when the dependency answers again: see why attempts fail."
		if b.Left > 0 {
			text += " for another " + b.Left.String()
		}
		if b.State == retry.StateHalfOpen {
			text, hint = "The circuit breaker is half-open: the next call is a probe. What happened last", "It closes when a probe succeeds: see why attempts fail."
		}
		if b.Cause != "" {
			text += ": " + b.Cause
		}
		if b.LastFailure != "" {
			text += "; last failure: " + b.LastFailure
		}
		add(b.State == retry.StateOpen || felt, hint, "%s.", text)
	}
	if g := e.Gate; g != nil && g.Left > 0 {
		add(true, "The server asked for it. Calls that may wait so long do, the others end at once. It ends by itself; a restart only makes it worse. Lower the demand, or ask for a larger quota.",
			"Paused for another %v, until %s%s.", g.Left, clockTime(*g.Until), g.why())
	} else if g != nil && g.Pace > 0 {
		add(false, "The server refused calls beyond this rate; it is raised again by itself.",
			"Calls go out at %.3g a second at most%s.", g.Pace, g.why())
	}
	if failed := sum(recent.Failures); failed > 0 {
		var kinds []string
		for _, k := range labels(recent.Failures) {
			kinds = append(kinds, fmt.Sprintf("%s (%d, after %v)", k.Label, k.N, recent.Took[k.Label].mean()))
		}
		text := fmt.Sprintf("%d of %d attempts in 5m failed with %s", failed, recent.Attempts, strings.Join(kinds, ", "))
		if answers := recent.Took["ok"]; answers.n > 0 {
			text += fmt.Sprintf("; %d were answered, after %v", answers.n, answers)
		}
		add(felt, e.whyAttemptsFail(failed), "%s.", text)
	}
	if b := e.Budget; b != nil && b.Balance < 1 && b.Refusals > 0 {
		add(true, meanings["budget"], "The retry budget is empty: %d retries were refused so far.", b.Refusals)
	}
	for _, o := range labels(recent.Outcomes) {
		if o.Label == "ok" {
			continue
		}
		text := fmt.Sprintf("%d of %d calls in 5m ended with %s", o.N, recent.Calls, o.Label)
		if o.Label == "deadline" && recent.Allowed.n > 0 {
			text += fmt.Sprintf(": their callers had allowed %v", recent.Allowed)
		}
		add(o.Label != "canceled" && o.Label != "draining" && o.N*100 >= recent.Calls, meanings[o.Label], "%s.", text)
	}
	for _, w := range e.Waiting {
		add(false, "", "%s for %s, the longest for %v.", callsWait(w.Calls), w.For, w.Longest)
	}
	slices.SortStableFunc(all, func(a, b finding) int { return rank(a) - rank(b) })
	return all
}

// whyAttemptsFail is what their most frequent failure suggests.
func (e *entry) whyAttemptsFail(failed int64) string {
	recent := e.Last["5m"]
	switch kind := labels(recent.Failures)[0].Label; kind {
	case "deadline":
		return "The deadlines of their callers cut them off. If answers take that long when all is well, the deadline is too short: was it changed? If not, the dependency is slower than usual."
	case "timeout":
		return "A limit of this service cut them off: attempt_timeout in the settings below, or the client's timeout. If answers take that long when all is well, it is too short: was it changed? If not, the dependency is slower than usual."
	case "connect":
		return "No connection was made: the dependency is down or cannot be reached, or its address is wrong."
	case "429":
		return "The server refuses calls beyond its limit: lower the demand, or ask for a larger quota."
	case "401", "403":
		return "The server refuses the credentials, or locked the service out."
	}
	if answered := recent.Took["ok"].n; answered > failed && e.mixed() {
		return "Between them, most attempts succeed, all the time: it is not down. One of several backends behind the host may be bad, or the load is near a limit."
	}
	return ""
}

// mixed reports whether attempts fail and succeed side by side, and not by turns.
func (e *entry) mixed() bool {
	failing, both := 0, 0
	for _, w := range e.windows {
		if w.Name != "5m" {
			continue
		}
		for _, step := range w.steps {
			if len(step.Failures) > 0 {
				failing++
				if step.Took["ok"].n > 0 {
					both++
				}
			}
		}
	}
	return both*5 >= failing*4
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

// Age is for the page, and so is Any.
func (s *status) Age() duration { return duration(s.Time.Sub(s.Since).Round(time.Second)) }

func (t took) Any() bool { return t.n > 0 }

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

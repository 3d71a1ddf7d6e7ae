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
	"budget":               "Too many calls fail: see what attempts fail with. Do not raise the retry budget, it keeps load off the dependency.",
	"circuit_open":         "The circuit breaker rejected them, and probes by itself: see what attempts fail with.",
	"paused":               "They were not sent: max_retry_after or their deadline is shorter than the pause.",
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
	open := e.Breaker != nil && e.Breaker.State == retry.StateOpen
	felt := open || (recent.Calls-recent.Outcomes["ok"]-recent.Outcomes["canceled"]-recent.Outcomes["draining"])*100 >= max(1, recent.Calls)
	if g := e.Gate; g != nil && g.Left > 0 {
		ends, by := "Calls wait for its end, as far as their deadlines and max_retry_after allow.", ""
		if recent.Outcomes["paused"]+recent.Outcomes["retry_after_too_long"] > 0 {
			ends = "Calls that may not wait so long end at once: their deadline, or max_retry_after in the settings, is shorter."
		}
		if a := e.asked; !a.end().Before(g.Until.Add(-time.Second)) {
			by = fmt.Sprintf(" (the server asked for %v at %s)", duration(a.wait), clockTime(a.at))
		}
		add(true, ends+" The pause ends by itself; a restart only makes it worse. "+e.quota(),
			"Paused for another %v, until %s%s%s.", g.Left, clockTime(*g.Until), by, g.why())
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
			text += fmt.Sprintf("; %d were answered, after %s", answers.n, recent.Answers())
		}
		add(felt, e.whyAttemptsFail(failed), "%s.", text)
	}
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
		add(felt, hint, "%s.", text)
	}
	if b := e.Budget; b != nil && b.Balance < 1 && b.Refusals > 0 {
		add(true, meanings["budget"], "The retry budget has less than one retry left: %d were refused so far.", b.Refusals)
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
		if !e.answered {
			return "No connection was made, and it has not answered since this process started: the dependency is down or cannot be reached, or its address is wrong."
		}
		return "No connection was made: the dependency is down or cannot be reached."
	case "429":
		if e.Gate != nil && e.Gate.Left > 0 { // which says it
			return ""
		}
		return "The server refuses calls beyond its limit. " + e.quota()
	case "401", "403":
		return "The server refuses the credentials, or locked the service out."
	}
	if answers := recent.Took["ok"]; answers.n > failed && e.mixed() {
		backend := "One of several backends behind the host may be bad, or the load is near a limit."
		quick := recent.Took[labels(recent.Failures)[0].Label].mean() < max(duration(5*time.Millisecond), answers.mean()/10)
		if quick && recent.RetriesFailed*10 < recent.Retries && !e.rose() {
			backend = "One of several backends behind the host is probably bad."
		}
		return "Between them, most attempts succeed, all the time: it is not down. " + backend
	}
	return ""
}

// quota is what to do about refusals beyond one.
func (e *entry) quota() string {
	if e.rose() {
		return "More is asked for than before: lower the demand, or ask for a larger quota."
	}
	return "Something else may use the same quota: find it, or ask for a larger one."
}

// rose reports whether many more calls were made in the last five minutes than before.
func (e *entry) rose() bool {
	before, minutes := int64(0), int64(0)
	for _, step := range e.steps("60m") {
		if minutes > 0 || step.Calls > 0 {
			before, minutes = before+step.Calls, minutes+1
		}
	}
	now := e.Last["5m"].Calls
	before, minutes = before-now, minutes-6 // of which the first and the last are not whole
	return minutes > 3 && (now+int64(e.UnderWay)-10)*minutes*2 > before*5*3
}

// mixed reports whether attempts fail and succeed side by side, and not by turns. Failures
// are counted, not steps: the last step has only begun, and may hold one failure alone.
func (e *entry) mixed() bool {
	all, besideAnswers := int64(0), int64(0)
	for _, step := range e.steps("5m") {
		n := sum(step.Failures)
		all += n
		if step.Took["ok"].n > 0 {
			besideAnswers += n
		}
	}
	return besideAnswers*5 >= all*4
}

func (e *entry) steps(window string) []counts {
	for _, w := range e.windows {
		if w.Name == window {
			return w.steps
		}
	}
	return nil
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

// Age is for the page.
func (s *status) Age() duration { return duration(s.Time.Sub(s.Since).Round(time.Second)) }

// Answers says after how long they came. One that a limit let through at the last moment
// would seem to be beyond it, so that the slowest is of no use there.
func (c counts) Answers() string {
	answers := c.Took["ok"]
	switch {
	case answers.n == 0:
		return ""
	case c.Failures["deadline"]+c.Failures["timeout"] > 0:
		return fmt.Sprintf("%v on average (only those within the limit are counted)", answers.mean())
	}
	return answers.String()
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

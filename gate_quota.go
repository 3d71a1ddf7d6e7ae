package retry

import (
	"net/http"
	"strings"
	"time"
)

// allowance is what a server says is left of a window of its own.
type allowance struct {
	left  float64 // calls
	reset time.Duration
	limit float64 // calls in a window; 0: not told
}

// scarce reports whether it is nearly used up: a tenth is left, or, where
// the whole is not told, ten calls.
func (q allowance) scarce() bool {
	if q.limit > 0 {
		return q.left <= q.limit/10
	}
	return q.left <= 10
}

// readAllowance returns the scarcest allowance of a response's header, as the IETF draft
// writes it, or the X-RateLimit family. Most responses have none, and cost four
// look-ups.
func readAllowance(h http.Header, clock func() time.Time) (best allowance, found bool) {
	hints := rateHints{}
	for _, remaining := range [...]string{"X-Ratelimit-Remaining", "X-Rate-Limit-Remaining", "Ratelimit-Remaining"} {
		value := h[remaining]
		if value == nil {
			continue
		}
		family := strings.TrimSuffix(remaining, "Remaining")
		left, ok := parseDecimal(strings.TrimSpace(value[0]), time.Second)
		reset, known := hints.parseReset(strings.TrimSpace(h.Get(family+"Reset")), clock())
		if !ok || !known {
			continue
		}
		q := allowance{left: left.Seconds(), reset: reset}
		if limit, ok := parseDecimal(strings.TrimSpace(h.Get(family+"Limit")), time.Second); ok {
			q.limit = limit.Seconds()
		}
		best, found = q, true
	}
	if field := h["Ratelimit"]; field != nil && h["Age"] == nil {
		for item := range strings.SplitSeq(strings.Join(field, ","), ",") {
			if q, ok := readPolicy(item); ok && (!found || q.left < best.left) {
				best, found = q, true
			}
		}
	}
	return best, found
}

// readPolicy reads one item of the field RateLimit: "name";r=3;t=20.
func readPolicy(item string) (q allowance, ok bool) {
	seen := 0
	for _, part := range strings.Split(item, ";")[1:] {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		d, valid := parseDecimal(value, time.Second)
		switch {
		case !valid:
		case key == "r":
			q.left = d.Seconds()
			seen |= 1
		case key == "t":
			q.reset = d
			seen |= 2
		}
	}
	return q, seen == 3
}

// heed spreads what is left of a server's quota over its time, before it refuses:
// with nothing left, that is a pause.
func (g *Gate) heed(h http.Header) {
	q, ok := readAllowance(h, func() time.Time { return now(g.clock) })
	if !ok || !q.scarce() || q.reset <= 0 || q.reset > maxPause {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.line().ration(q)
}

// ration makes the turns from now on as long as a quota wants them, until its
// window ends.
func (q *queue) ration(left allowance) {
	q.ends = q.seen.Add(left.reset)
	if left.left < 1 {
		q.share = left.reset
		q.next = later(q.next, q.ends)
	} else {
		q.share = time.Duration(float64(left.reset) / left.left)
		q.next = later(q.next, q.went.Add(q.share))
	}
}

// step is the time between two turns.
func (q *queue) step() time.Duration {
	step := q.pace.step()
	if q.seen.Before(q.ends) {
		step = max(step, min(q.share, q.ends.Sub(q.seen)))
	}
	return step
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/retryutils/retry"
)

// report is what is shown in the end, as text or as a page.
type report struct {
	Symbols  []string
	APIs     []*api
	Lookups  []*lookup
	Breakers map[string]*retry.CircuitBreaker
	Timeline *timeline
	End      time.Time
}

// answered counts the lookups that have an answer, be it that nothing is known.
func (r *report) answered() (n int) {
	for _, l := range r.Lookups {
		if l.err == nil || errors.Is(l.err, errUnknown) {
			n++
		}
	}
	return n
}

func (r *report) attempts() (n int) {
	for _, l := range r.Lookups {
		n += len(l.attempts)
	}
	return n
}

// unanswered returns the genes that no API could say anything about.
func (r *report) unanswered() (symbols []string) {
	for _, symbol := range r.Symbols {
		if !slices.ContainsFunc(r.Lookups, func(l *lookup) bool {
			return l.Symbol == symbol && (l.err == nil || errors.Is(l.err, errUnknown))
		}) {
			symbols = append(symbols, symbol)
		}
	}
	return symbols
}

func (r *report) lookup(api, symbol string) *lookup {
	for _, l := range r.Lookups {
		if l.API == api && l.Symbol == symbol {
			return l
		}
	}
	return new(lookup)
}

// outcome is the answer, or why there is none.
func (l *lookup) outcome() string {
	switch {
	case l.err == nil:
		return l.Answer
	case errors.Is(l.err, errUnknown):
		return "unknown"
	case errors.Is(l.err, errNotBegun):
		return "not begun"
	case errors.Is(l.err, retry.ErrCircuitOpen):
		return brief(l.err)
	case errors.Is(l.err, context.Canceled):
		return "stopped"
	}
	return strings.ReplaceAll(retry.Outcome(l.err), "_", " ") + ": " + brief(l.err)
}

// allWaits are those before each attempt, and those that no attempt followed.
func (l *lookup) allWaits() (all []wait) {
	for _, a := range l.attempts {
		all = append(all, a.Waits...)
	}
	return append(all, l.waits...)
}

// notSent reports whether it ended before an attempt that was due.
func (l *lookup) notSent() bool { return len(l.attempts) == 0 || len(l.waits) > 0 }

// text writes a table per gene, and what happened at each API.
func (r *report) text(w io.Writer) error {
	var b strings.Builder
	for _, symbol := range r.Symbols {
		fmt.Fprintln(&b, symbol)
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, a := range r.APIs {
			fmt.Fprintf(table, "  %s\t%s\n", a.name, r.lookup(a.name, symbol).outcome())
		}
		table.Flush()
		fmt.Fprintln(&b)
	}
	for _, a := range r.APIs {
		fmt.Fprintf(&b, "%s, breaker %v\n", a.name, r.Breakers[a.name].State())
		for _, line := range r.lines(a.name) {
			fmt.Fprintf(&b, "  %6.2fs  %s\n", line.at.Sub(r.Timeline.start).Seconds(), line.text)
		}
		fmt.Fprintln(&b)
	}
	fmt.Fprintln(&b, r.summary())
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) summary() string {
	took := r.End.Sub(r.Timeline.start).Seconds()
	waited := make(map[retry.Why]time.Duration)
	for _, l := range r.Lookups {
		for _, w := range l.allWaits() {
			waited[w.Why] += w.For
		}
	}
	text := fmt.Sprintf("%d of %d lookups answered, with %d attempts in %.1fs", r.answered(), len(r.Lookups), r.attempts(), took)
	var parts []string
	for _, why := range []retry.Why{retry.WaitBackoff, retry.WaitRetryAfter, retry.WaitPause, retry.WaitBreaker, retry.WaitLimiter} {
		if d := waited[why]; d > 0 {
			parts = append(parts, fmt.Sprintf("%s %.1fs", why, d.Seconds()))
		}
	}
	if parts != nil {
		text += "; waits, side by side: " + strings.Join(parts, ", ")
	}
	return text
}

type line struct {
	at   time.Time
	text string
}

// lines are what happened at an API, in order.
func (r *report) lines(api string) (all []line) {
	for _, l := range r.Lookups {
		if l.API != api {
			continue
		}
		waits := func(waits []wait) {
			for _, w := range waits {
				all = append(all, line{w.At, fmt.Sprintf("%-7s waits %.2fs: %s", l.Symbol, w.For.Seconds(), w.Why)})
			}
		}
		for _, a := range l.attempts {
			waits(a.Waits)
			all = append(all, line{a.At, fmt.Sprintf("%-7s attempt %d, %.2fs: %s", l.Symbol, a.Number, a.Took.Seconds(), a.result())})
		}
		waits(l.waits)
		if l.notSent() {
			all = append(all, line{l.ended, fmt.Sprintf("%-7s not sent: %s", l.Symbol, l.outcome())})
		}
	}
	for _, e := range r.Timeline.of(api) {
		all = append(all, line{e.At, "-- " + e.String()})
	}
	slices.SortStableFunc(all, func(a, b line) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	return all
}

func (e event) String() string {
	if e.pause() {
		return fmt.Sprintf("all calls pause for %.2fs", e.Until.Sub(e.At).Seconds())
	}
	text := fmt.Sprintf("breaker %v -> %v", e.From, e.To)
	if e.Err != nil {
		text += ": " + brief(e.Err)
	}
	return text
}

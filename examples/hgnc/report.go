package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/retryutils/retry"
)

// report is all that is printed; with -json, in this very shape.
type report struct {
	Service string    `json:"service"`
	Lookups []*lookup `json:"lookups"`
	Totals  totals    `json:"totals"`

	start time.Time
}

type lookup struct {
	Symbol string  `json:"symbol"`
	Gene   *gene   `json:"gene"` // null if it is unknown, or the lookup failed
	Error  string  `json:"error,omitempty"`
	Took   seconds `json:"took_seconds"`
	trace

	err error
}

type totals struct {
	Lookups  int                `json:"lookups"`
	Found    int                `json:"found"`
	Unknown  int                `json:"unknown"`
	Failed   int                `json:"failed"`
	Attempts int                `json:"attempts"`
	Retries  int                `json:"retries"`
	Waited   map[string]seconds `json:"waited_seconds"` // by reason
	Elapsed  seconds            `json:"elapsed_seconds"`
}

func newReport(service string, symbols []string) report {
	r := report{Service: service, start: time.Now()}
	for _, symbol := range symbols {
		r.Lookups = append(r.Lookups, &lookup{Symbol: symbol})
	}
	return r
}

// end notes the outcome of a lookup.
func (l *lookup) end() {
	l.Took = inSeconds(time.Since(l.start))
	if l.err != nil {
		l.Error = brief(l.err)
	}
}

// failure says what was tried, and why that was all.
func (l *lookup) failure(service string) error {
	reason := errors.New("a retry cannot help")
	var given *retry.Error
	if errors.As(l.err, &given) {
		reason = given.Reason
	}
	took := time.Since(l.start).Round(time.Millisecond)
	return fmt.Errorf("looking up %s at %s failed after %s in %v: %w: %s",
		l.Symbol, service, count(len(l.Attempts), "attempt"), took, reason, l.Error)
}

// done counts the lookups that were answered.
func (r *report) done() int { return r.Totals.Found + r.Totals.Unknown }

func (r *report) finish() {
	t := totals{Lookups: len(r.Lookups), Waited: make(map[string]seconds), Elapsed: inSeconds(time.Since(r.start))}
	for _, l := range r.Lookups {
		switch {
		case l.err != nil:
			t.Failed++
		case l.Gene == nil:
			t.Unknown++
		default:
			t.Found++
		}
		t.Attempts += len(l.Attempts)
		t.Retries += max(0, len(l.Attempts)-1)
		for _, a := range l.Attempts {
			for _, w := range a.Waits {
				t.Waited[w.Why] += w.Seconds
			}
		}
	}
	r.Totals = t
}

// write prints the report. If not even one lookup was answered, people get
// nothing but the error.
func (r *report) write(w io.Writer, opts options) error {
	var b bytes.Buffer
	switch {
	case opts.json:
		encoder := json.NewEncoder(&b)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(r); err != nil {
			return err
		}
	case r.done() > 0:
		r.table(&b)
		fmt.Fprintf(&b, "\nAsked %s", r.Service)
		if !opts.live {
			fmt.Fprintf(&b, ", which misbehaves on purpose (-seed %d)", opts.seed)
		}
		fmt.Fprintln(&b, ":")
		for _, l := range r.Lookups {
			l.attempts(&b)
		}
		r.Totals.print(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r *report) table(b *bytes.Buffer) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SYMBOL\tHGNC ID\tNAME\tLOCATION")
	for _, l := range r.Lookups {
		switch {
		case l.Error == stopped:
			fmt.Fprintf(t, "%s\t-\t(stopped)\t-\n", l.Symbol)
		case l.err != nil:
			fmt.Fprintf(t, "%s\t-\t(failed: %s)\t-\n", l.Symbol, l.Error)
		case l.Gene == nil:
			fmt.Fprintf(t, "%s\t-\t(unknown to the HGNC)\t-\n", l.Symbol)
		default:
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Gene.Symbol, l.Gene.ID, l.Gene.Name, l.Gene.Location)
		}
	}
	t.Flush()
}

// attempts prints a line for each attempt, and one for each wait.
func (l *lookup) attempts(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n%s: %s in %v\n", l.Symbol, count(len(l.Attempts), "attempt"), l.Took)
	for _, a := range l.Attempts {
		for _, w := range a.Waits {
			fmt.Fprintf(b, "           waited %v: %s\n", w.Seconds, w)
		}
		fmt.Fprintf(b, "  %7v  attempt %d: %s\n", a.At, a.Number, a)
	}
}

func (a *attempt) String() string {
	switch {
	case a.Status == 0 && a.Error == timedOut:
		return fmt.Sprintf("no answer within %v", a.Took)
	case a.Status == 0:
		return a.Error
	}
	text := fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	if a.Error != "" && a.Error != text {
		text += ", but " + a.Error
	}
	return text
}

func (w wait) String() string {
	switch w.Why {
	case retryAfter:
		return fmt.Sprintf("%s of %v", w.Why, w.Asked)
	case sharedPause:
		return w.Why + ", the server asked another lookup to wait"
	case rateLimit:
		return fmt.Sprintf("%s of %d requests per second", w.Why, maxRate)
	}
	return w.Why
}

func (t *totals) print(b *bytes.Buffer) {
	fmt.Fprintf(b, "\nTotal: %s, %s, %s in %v\n", count(t.Lookups, "lookup"),
		count(t.Attempts, "attempt"), counted(t.Retries, "retry", "retries"), t.Elapsed)
	var sum seconds
	var parts string
	for _, why := range []string{ownBackoff, retryAfter, sharedPause, rateLimit} {
		if d := t.Waited[why]; d > 0 {
			sum += d
			parts += fmt.Sprintf(", %s %v", why, d)
		}
	}
	if sum > 0 {
		fmt.Fprintf(b, "Waited %v, all lookups together: %s\n", sum, parts[2:])
	}
}

func count(n int, noun string) string { return counted(n, noun, noun+"s") }

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

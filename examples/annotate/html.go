package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"

	"github.com/retryutils/retry"
)

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Parse(pageHTML))

// The page is drawn from these: all places are in percent of the time axis.
type (
	pageData struct {
		Title, Summary string
		APIs           []pageAPI
		Genes          []pageGene
		Ticks          []tick
	}
	pageGene struct {
		Symbol  string
		Answers []pageAnswer
	}
	pageAnswer struct {
		Text string
		OK   bool
	}
	pageAPI struct {
		Name, State string
		Rows        []row
	}
	row struct {
		At, Who, Number, Waited, Result string
		Kind                            string // attempt, event or refused
		OK                              bool
		Bars                            []bar
	}
	bar struct {
		Left, Width string
		Class, Tip  string
	}
	tick struct{ Left, Text string }
)

// html writes the report as one page, which needs nothing else.
func (r *report) html(w io.Writer) error {
	data := pageData{Title: "annotate " + strings.Join(r.Symbols, " "), Summary: r.summary(), Ticks: r.ticks()}
	for _, symbol := range r.Symbols {
		gene := pageGene{Symbol: symbol}
		for _, a := range r.APIs {
			l := r.lookup(a.name, symbol)
			gene.Answers = append(gene.Answers, pageAnswer{l.outcome(), l.err == nil})
		}
		data.Genes = append(data.Genes, gene)
	}
	for _, a := range r.APIs {
		data.APIs = append(data.APIs, pageAPI{a.name, r.Breakers[a.name].State().String(), r.rows(a.name)})
	}
	return page.Execute(w, data)
}

// rows are the attempts at an API, what concerned all of them, and the lookups
// that came to nothing without an attempt.
func (r *report) rows(api string) (rows []row) {
	for _, e := range r.Timeline.of(api) {
		b := bar{Left: r.left(e.At), Width: r.width(e.At, r.End), Class: "state-" + e.To.String(), Tip: e.String()}
		if e.pause() {
			b.Class, b.Width = "pause", r.width(e.At, e.Until)
		} else if e.To == retry.StateClosed {
			b.Width = "0.3"
		}
		rows = append(rows, row{At: r.since(e.At), Who: "all", Result: e.String(), Kind: "event", OK: e.To != retry.StateOpen, Bars: []bar{b}})
	}
	for _, l := range r.Lookups {
		if l.API != api {
			continue
		}
		for _, a := range l.attempts {
			rows = append(rows, r.attempt(l, a))
		}
		if l.notSent() {
			waited, bars := r.waits(l.waits)
			rows = append(rows, row{r.since(l.ended), l.Symbol, "–", waited, l.outcome(), "refused", false, bars})
		}
	}
	return rows
}

func (r *report) attempt(l *lookup, a *attempt) row {
	waited, bars := r.waits(a.Waits)
	good := a.Err == nil && a.Status < 400
	class := "good"
	if !good {
		class = "bad"
	}
	bars = append(bars, bar{r.left(a.At), r.width(a.At, a.At.Add(a.Took)), class, a.result()})
	return row{r.since(a.At), l.Symbol, fmt.Sprint(a.Number), waited, a.result(), "attempt", good, bars}
}

func (r *report) waits(waits []wait) (text string, bars []bar) {
	var all []string
	for _, w := range waits {
		text := fmt.Sprintf("%.2fs %s", w.For.Seconds(), w.Why)
		all = append(all, text)
		bars = append(bars, bar{r.left(w.At), r.width(w.At, w.At.Add(w.For)), "wait " + string(w.Why), text})
	}
	return strings.Join(all, ", "), bars
}

func (r *report) since(t time.Time) string {
	return fmt.Sprintf("%.2fs", t.Sub(r.Timeline.start).Seconds())
}

func (r *report) share(d time.Duration) float64 {
	return 100 * max(0, min(1, d.Seconds()/max(0.001, r.End.Sub(r.Timeline.start).Seconds())))
}

func (r *report) left(t time.Time) string {
	return fmt.Sprintf("%.2f", min(99.5, r.share(t.Sub(r.Timeline.start))))
}

func (r *report) width(from, to time.Time) string {
	return fmt.Sprintf("%.2f", max(0.4, min(r.share(to.Sub(from)), 100-r.share(from.Sub(r.Timeline.start)))))
}

// ticks are about six, at round seconds.
func (r *report) ticks() (all []tick) {
	seconds := r.End.Sub(r.Timeline.start).Seconds()
	step := math.Pow(10, math.Floor(math.Log10(max(seconds, 0.01)/3)))
	for _, factor := range []float64{1, 2, 5} {
		if seconds/(step*factor) <= 7 {
			step *= factor
			break
		}
	}
	for at := 0.0; at < seconds*0.97; at += step {
		all = append(all, tick{r.left(r.Timeline.start.Add(time.Duration(at * float64(time.Second)))), fmt.Sprintf("%gs", math.Round(at*100)/100)})
	}
	return all
}

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// tally counts how calls ended since it was printed last.
type tally struct {
	mu    sync.Mutex
	ended map[string]int
}

func (t *tally) add(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended == nil {
		t.ended = make(map[string]int)
	}
	t.ended[outcome]++
}

// print writes a line three times in each of the service's moods, until ctx is done.
func (t *tally) print(ctx context.Context, w io.Writer, duration time.Duration) {
	began, mood := time.Now(), max(3, duration/time.Duration(len(moods)))
	lines := time.NewTicker(mood / 3)
	defer lines.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-lines.C:
		}
		t.mu.Lock()
		var parts []string
		for _, outcome := range slices.Sorted(maps.Keys(t.ended)) {
			parts = append(parts, fmt.Sprintf("%d %s", t.ended[outcome], outcome))
		}
		t.ended = nil
		t.mu.Unlock()
		n := (time.Since(began) - mood/6) / mood // the line is about the time before it
		fmt.Fprintf(w, "  %-28s calls: %s\n", moods[min(int(n), len(moods)-1)], strings.Join(parts, ", "))
	}
}

// printMetrics prints what the registry has: of a histogram the number of
// observations and their mean.
func printMetrics(w io.Writer, registry *prometheus.Registry) error {
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "retry_") {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", family.GetName())
		for _, m := range family.GetMetric() {
			fmt.Fprintf(w, "  %-60s %s\n", labels(m), value(m))
		}
	}
	return nil
}

func labels(m *dto.Metric) string {
	var parts []string
	for _, l := range m.GetLabel() {
		parts = append(parts, strings.TrimPrefix(l.GetName(), "retry_")+"="+l.GetValue())
	}
	return strings.Join(parts, " ")
}

func value(m *dto.Metric) string {
	switch {
	case m.Histogram != nil:
		return fmt.Sprintf("%d, %.4g on average", m.Histogram.GetSampleCount(), m.Histogram.GetSampleSum()/float64(m.Histogram.GetSampleCount()))
	case m.Counter != nil:
		return fmt.Sprintf("%.4g", m.Counter.GetValue())
	}
	return fmt.Sprintf("%.4g", m.Gauge.GetValue())
}

// sample is a SpanProcessor that keeps one call of three attempts, as an example.
type sample struct {
	mu    sync.Mutex
	open  map[oteltrace.TraceID][]trace.ReadOnlySpan
	found []trace.ReadOnlySpan
}

// The rest of what a SpanProcessor must do.
func (s *sample) OnStart(context.Context, trace.ReadWriteSpan) {}
func (s *sample) Shutdown(context.Context) error               { return nil }
func (s *sample) ForceFlush(context.Context) error             { return nil }

// OnEnd keeps the spans of a trace until that of the call has ended.
func (s *sample) OnEnd(span trace.ReadOnlySpan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[oteltrace.TraceID][]trace.ReadOnlySpan)
	}
	id := span.SpanContext().TraceID()
	s.open[id] = append(s.open[id], span)
	if span.Parent().IsValid() {
		return
	}
	if len(s.found) == 0 && len(s.open[id]) == 4 {
		s.found = s.open[id]
	}
	delete(s.open, id)
}

func (s *sample) print(w io.Writer) {
	sort.Slice(s.found, func(i, j int) bool { return s.found[i].StartTime().Before(s.found[j].StartTime()) })
	for i, span := range s.found {
		if i == 0 {
			fmt.Fprint(w, "\nOne of the calls:\n")
		}
		fmt.Fprintf(w, "  %9v %-16s %s\n", span.StartTime().Sub(s.found[0].StartTime()).Round(100_000), span.Name(), attributes(span.Attributes()))
		for _, event := range span.Events() {
			fmt.Fprintf(w, "  %9v - %-14s %s\n", event.Time.Sub(s.found[0].StartTime()).Round(100_000), event.Name, attributes(event.Attributes))
		}
	}
}

func attributes(all []attribute.KeyValue) string {
	var parts []string
	for _, a := range all {
		parts = append(parts, string(a.Key)+"="+a.Value.String())
	}
	return strings.Join(parts, " ")
}

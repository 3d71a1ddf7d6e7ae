package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/retryutils/retry"
)

// metrics counts calls by outcome, attempts, and seconds of waiting by reason. It
// is a page in the text format of Prometheus; package otelretry reports the same
// to OpenTelemetry.
type metrics struct {
	mu       sync.Mutex // guards the fields below
	values   map[string]float64
	breakers map[string]*retry.CircuitBreaker
}

func newMetrics() *metrics {
	return &metrics{values: make(map[string]float64), breakers: make(map[string]*retry.CircuitBreaker)}
}

func (m *metrics) add(n float64, name string, labels ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for i := 0; i+1 < len(labels); i += 2 {
		all = append(all, fmt.Sprintf("%s=%q", labels[i], labels[i+1]))
	}
	m.values[name+"{"+strings.Join(all, ",")+"}"] += n
}

// onWait counts what is announced. What it really took is in the timeline: a wait
// may end early, and one that becomes longer is announced again.
func (m *metrics) onWait(_ context.Context, e retry.Event) {
	m.add(e.Delay.Seconds(), "retry_wait_seconds_total", "api", e.Name, "why", string(e.Why))
}

func (m *metrics) onDone(_ context.Context, e retry.Event) {
	m.add(1, "retry_calls_total", "api", e.Name, "outcome", retry.Outcome(e.Err))
	m.add(float64(e.Attempt), "retry_attempts_total", "api", e.Name)
}

func (m *metrics) watch(api string, b *retry.CircuitBreaker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.breakers[api] = b
}

// page is a snapshot in the text format.
func (m *metrics) page() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var page strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m.values)) {
		fmt.Fprintf(&page, "%s %g\n", key, m.values[key])
	}
	for _, api := range slices.Sorted(maps.Keys(m.breakers)) {
		fmt.Fprintf(&page, "retry_breaker_state{api=%q,state=%q} 1\n", api, m.breakers[api].State())
	}
	return page.String()
}

func (m *metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	fmt.Fprint(w, m.page())
}

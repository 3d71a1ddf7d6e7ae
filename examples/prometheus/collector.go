// Package prometheus is an example: the metrics of package retry for Prometheus, without
// OpenTelemetry, over hooks and [retry.RetryableClient.Hosts]. Names and labels are those
// that package otelretry has in Prometheus, so that its dashboard and alerts fit.
package prometheus

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/retryutils/retry"
)

// Collector counts the calls of a Config, and shows the hosts of a client.
type Collector struct {
	client *retry.RetryableClient
	calls  *prometheus.CounterVec
	waits  *prometheus.HistogramVec
}

// Describe is empty: what there is depends on the hosts met so far.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// New returns cfg with hooks that count, beside those that it has.
func New(cfg retry.Config) (*Collector, retry.Config) {
	c := &Collector{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "retry_calls_total"}, []string{"name", "host", "retry_outcome"}),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "retry_wait_duration_seconds", Buckets: []float64{.1, 1, 10, 60, 300},
		}, []string{"name", "host", "retry_wait_reason"}),
	}
	onDone, onWait := cfg.OnDone, cfg.OnWait
	cfg.OnDone = func(ctx context.Context, e retry.Event) {
		c.calls.WithLabelValues(e.Name, e.Host, retry.Outcome(e.Err)).Inc()
		if onDone != nil {
			onDone(ctx, e)
		}
	}
	cfg.OnWait = func(ctx context.Context, e retry.Event) {
		c.waits.WithLabelValues(e.Name, e.Host, string(e.Why)).Observe(e.Delay.Seconds())
		if onWait != nil {
			onWait(ctx, e)
		}
	}
	return c, cfg
}

// Watch shows the hosts of a client. Call it before the Collector is registered.
func (c *Collector) Watch(client *retry.RetryableClient) { c.client = client }

// Collect sends the counts, and the state of each host at this moment.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	c.calls.Collect(out)
	c.waits.Collect(out)
	if c.client == nil {
		return
	}
	for host, cfg := range c.client.Hosts() {
		gauge := func(metric string, value float64, labels prometheus.Labels) {
			labels["name"], labels["host"] = cfg.Name, host
			out <- prometheus.MustNewConstMetric(prometheus.NewDesc(metric, "", nil, labels), prometheus.GaugeValue, value)
		}
		if b := cfg.Breaker; b != nil {
			is := map[retry.State]float64{b.State(): 1}
			for state, label := range map[retry.State]string{retry.StateClosed: "closed", retry.StateOpen: "open", retry.StateHalfOpen: "half_open"} {
				gauge("retry_breaker_state", is[state], prometheus.Labels{"retry_breaker_state": label})
			}
		}
		if g := cfg.Gate; g != nil {
			gauge("retry_gate_pause_remaining_seconds", max(0, time.Until(g.Snapshot().PausedUntil).Seconds()), prometheus.Labels{})
		}
		if b := cfg.Budget; b != nil {
			gauge("retry_budget_balance", b.Balance(), prometheus.Labels{})
		}
	}
}

// Package prometheus is an example: the metrics of package retry for Prometheus, without
// OpenTelemetry, over hooks and [retry.RetryableClient.Hosts]. Names and labels are those
// that package otelretry has in Prometheus, so that its alerts fit.
package prometheus

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/retryutils/retry"
)

// Collector counts the calls of a Config, and shows the hosts of a client.
type Collector struct {
	client *retry.RetryableClient

	calls, retries  *prometheus.CounterVec
	duration, waits *prometheus.HistogramVec
}

// Describe is empty: what there is depends on the hosts met so far.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// New returns cfg with hooks that count, beside those that it has.
func New(cfg retry.Config) (*Collector, retry.Config) {
	counter := func(name, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, []string{"name", "host", label})
	}
	histogram := func(name, label string, bounds ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Buckets: bounds}, []string{"name", "host", label})
	}
	c := &Collector{
		calls:    counter("retry_calls_total", "retry_outcome"),
		retries:  counter("retry_retries_total", "error_type"),
		duration: histogram("retry_call_duration_seconds", "retry_outcome", .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60),
		waits:    histogram("retry_wait_duration_seconds", "retry_wait_reason", .1, 1, 10, 60, 300),
	}
	onRetry, onWait, onDone := cfg.OnRetry, cfg.OnWait, cfg.OnDone
	cfg.OnRetry = func(ctx context.Context, e retry.Event) {
		c.retries.WithLabelValues(e.Name, e.Host, errorType(e.Err)).Inc()
		if onRetry != nil {
			onRetry(ctx, e)
		}
	}
	cfg.OnWait = func(ctx context.Context, e retry.Event) {
		c.waits.WithLabelValues(e.Name, e.Host, string(e.Why)).Observe(e.Delay.Seconds())
		if onWait != nil {
			onWait(ctx, e)
		}
	}
	cfg.OnDone = func(ctx context.Context, e retry.Event) {
		outcome := retry.Outcome(e.Err)
		c.calls.WithLabelValues(e.Name, e.Host, outcome).Inc()
		c.duration.WithLabelValues(e.Name, e.Host, outcome).Observe(e.Elapsed.Seconds())
		if onDone != nil {
			onDone(ctx, e)
		}
	}
	return c, cfg
}

// errorType has few values, those of package statusz, and none of them is a text.
func errorType(err error) string {
	var status *retry.StatusError
	var lookup *net.DNSError
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &status):
		return strconv.Itoa(status.StatusCode)
	case (errors.As(err, &lookup) || errors.As(err, &op) && op.Op == "dial") && !errors.Is(err, context.Canceled):
		return "connect"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case retry.Outcome(err) != "permanent":
		return retry.Outcome(err)
	}
	return "error"
}

// Watch shows the hosts of a client. Call it before the Collector is registered.
func (c *Collector) Watch(client *retry.RetryableClient) { c.client = client }

// Collect sends the counts, and the state of each host at this moment.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	for _, counts := range []prometheus.Collector{c.calls, c.retries, c.duration, c.waits} {
		counts.Collect(out)
	}
	if c.client == nil {
		return
	}
	for host, cfg := range c.client.Hosts() {
		send := func(kind prometheus.ValueType, metric string, value float64, more prometheus.Labels) {
			labels := prometheus.Labels{"name": cfg.Name, "host": host}
			for label, v := range more {
				labels[label] = v
			}
			out <- prometheus.MustNewConstMetric(prometheus.NewDesc(metric, "", nil, labels), kind, value)
		}
		if b := cfg.Breaker; b != nil {
			is := map[retry.State]float64{b.State(): 1}
			for state, label := range map[retry.State]string{retry.StateClosed: "closed", retry.StateOpen: "open", retry.StateHalfOpen: "half_open"} {
				send(prometheus.GaugeValue, "retry_breaker_state", is[state], prometheus.Labels{"retry_breaker_state": label})
			}
			send(prometheus.CounterValue, "retry_breaker_rejections_total", float64(b.Rejections()), nil)
		}
		if g := cfg.Gate; g != nil {
			s := g.Snapshot()
			send(prometheus.GaugeValue, "retry_gate_pause_remaining_seconds", max(0, time.Until(s.PausedUntil).Seconds()), nil)
			if s.PacePerSecond > 0 {
				send(prometheus.GaugeValue, "retry_gate_pace_per_second", s.PacePerSecond, nil)
			}
		}
		if b := cfg.Budget; b != nil {
			send(prometheus.GaugeValue, "retry_budget_balance", b.Balance(), nil)
			send(prometheus.CounterValue, "retry_budget_refusals_total", float64(b.Refusals()), nil)
		}
	}
}

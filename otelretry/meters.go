package otelretry

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/retryutils/retry"
)

// Keys of the attributes.
const (
	keyName         = attribute.Key("name")
	keyHost         = attribute.Key("host")
	keyOutcome      = attribute.Key("retry.outcome")
	keyAttempts     = attribute.Key("retry.attempts")
	keyAttempt      = attribute.Key("retry.attempt")
	keyReason       = attribute.Key("retry.wait.reason")
	keyDelay        = attribute.Key("retry.wait.duration")
	keyRetryAfter   = attribute.Key("retry.retry_after")
	keyBreakerState = attribute.Key("retry.breaker.state")
)

// meters are the instruments of one MeterProvider, and what they watch.
type meters struct {
	calls    metric.Int64Counter
	active   metric.Int64UpDownCounter
	duration metric.Float64Histogram
	attempts metric.Int64Histogram
	retries  metric.Int64Counter
	waits    metric.Float64Histogram
	changes  metric.Int64Counter
	pauses   metric.Int64Counter
	requests metric.Float64Histogram

	state      metric.Int64ObservableUpDownCounter
	rejections metric.Int64ObservableCounter
	paused     metric.Float64ObservableCounter
	remaining  metric.Float64ObservableGauge
	pace       metric.Float64ObservableGauge
	balance    metric.Float64ObservableGauge
	refusals   metric.Int64ObservableCounter

	provider metric.MeterProvider
	watched  watched

	servers sync.Map // of server, as far as they have time series of their own

	mu          sync.Mutex                         // of those who add a series or a server
	byLabels    atomic.Pointer[map[labels]*series] // never changed, only replaced
	serverCount int
}

// known has the instruments of each provider, so that one breaker in several
// Configs is watched once. It keeps none of them in memory: a provider does, by its
// callback, and the Configs that report to it.
var known struct {
	sync.Mutex
	meters []weak.Pointer[meters]
}

func metersOf(p metric.MeterProvider) (*meters, error) {
	if !reflect.ValueOf(p).Comparable() {
		return newMeters(p)
	}
	known.Lock()
	defer known.Unlock()
	known.meters = slices.DeleteFunc(known.meters, func(w weak.Pointer[meters]) bool { return w.Value() == nil })
	for _, w := range known.meters {
		if m := w.Value(); m != nil && m.provider == p {
			return m, nil
		}
	}
	m, err := newMeters(p)
	if err != nil {
		return nil, err
	}
	known.meters = append(known.meters, weak.Make(m))
	return m, nil
}

// Bounds of the histograms' buckets. Those of seconds are the ones that the
// semantic conventions advise for HTTP, and longer ones, as calls wait.
var (
	requestBounds = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	callBounds    = append(requestBounds[:len(requestBounds):len(requestBounds)], 30, 60, 120, 300)
	attemptBounds = []float64{1, 2, 3, 4, 5, 6, 8, 10, 15, 25}
)

func newMeters(p metric.MeterProvider) (*meters, error) {
	m := &meters{provider: p}
	meter := p.Meter(scope)
	err := errors.Join(m.makeCallInstruments(meter), m.makeObservables(meter))
	if err != nil {
		return nil, err
	}
	_, err = meter.RegisterCallback(m.watch, m.state, m.rejections, m.paused, m.remaining, m.pace, m.balance, m.refusals)
	return m, err
}

func (m *meters) makeCallInstruments(meter metric.Meter) error {
	var errs [9]error
	m.calls, errs[0] = meter.Int64Counter("retry.calls",
		metric.WithUnit("{call}"), metric.WithDescription("Calls that ended, by how they ended."))
	m.active, errs[1] = meter.Int64UpDownCounter("retry.active_calls",
		metric.WithUnit("{call}"), metric.WithDescription("Calls under way, waiting or in an attempt."))
	m.duration, errs[2] = meter.Float64Histogram("retry.call.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of calls, all attempts and waits together."), metric.WithExplicitBucketBoundaries(callBounds...))
	m.attempts, errs[3] = meter.Int64Histogram("retry.call.attempts", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts per call."), metric.WithExplicitBucketBoundaries(attemptBounds...))
	m.retries, errs[4] = meter.Int64Counter("retry.retries",
		metric.WithUnit("{retry}"), metric.WithDescription("Retries that calls decided on, by the failure before them."))
	m.waits, errs[5] = meter.Float64Histogram("retry.wait.duration", metric.WithUnit("s"),
		metric.WithDescription("Waits of calls, as announced."), metric.WithExplicitBucketBoundaries(callBounds...))
	m.changes, errs[6] = meter.Int64Counter("retry.breaker.changes",
		metric.WithUnit("{change}"), metric.WithDescription("Changes of a circuit breaker, by the new state."))
	m.pauses, errs[7] = meter.Int64Counter("retry.gate.pauses",
		metric.WithUnit("{pause}"), metric.WithDescription("Pauses of a gate."))
	m.requests, errs[8] = meter.Float64Histogram("http.client.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP client requests."), metric.WithExplicitBucketBoundaries(requestBounds...))
	return errors.Join(errs[:]...)
}

func (m *meters) makeObservables(meter metric.Meter) error {
	var errs [7]error
	m.state, errs[0] = meter.Int64ObservableUpDownCounter("retry.breaker.state",
		metric.WithUnit("{breaker}"), metric.WithDescription("Circuit breakers in each state: 1 for the one that it is in, 0 for the others."))
	m.rejections, errs[1] = meter.Int64ObservableCounter("retry.breaker.rejections",
		metric.WithUnit("{rejection}"), metric.WithDescription("Calls that a circuit breaker rejected."))
	m.paused, errs[2] = meter.Float64ObservableCounter("retry.gate.pause.duration",
		metric.WithUnit("s"), metric.WithDescription("Time that a gate was paused."))
	m.remaining, errs[3] = meter.Float64ObservableGauge("retry.gate.pause.remaining",
		metric.WithUnit("s"), metric.WithDescription("What is left of a gate's pause; 0 if there is none."))
	m.pace, errs[4] = meter.Float64ObservableGauge("retry.gate.pace",
		metric.WithUnit("{call}/s"), metric.WithDescription("Calls per second that a gate lets through, while it limits them."))
	m.balance, errs[5] = meter.Float64ObservableGauge("retry.budget.balance",
		metric.WithUnit("{retry}"), metric.WithDescription("Retries that a budget has left."))
	m.refusals, errs[6] = meter.Int64ObservableCounter("retry.budget.refusals",
		metric.WithUnit("{refusal}"), metric.WithDescription("Retries that a budget refused."))
	return errors.Join(errs[:]...)
}

// maxSeries is how many names and hosts have time series of their own.
const maxSeries = 1000

// otherName is what the semantic conventions call the rest.
const otherName = "_OTHER"

// labels are what every metric and span has: the name of a Config, and the host of a
// request.
type labels struct{ name, host string }

// with returns them as attributes, with others.
func (l labels) with(others ...attribute.KeyValue) []attribute.KeyValue {
	attrs := append(make([]attribute.KeyValue, 0, 2+len(others)), keyName.String(l.name))
	if l.host != "" {
		attrs = append(attrs, keyHost.String(l.host))
	}
	return append(attrs, others...)
}

func (l labels) set(others ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(l.with(others...)...))
}

// series are the options of all that is recorded under one name and host, made once:
// each set of attributes would be some allocations at every call.
type series struct {
	labels
	add      []metric.AddOption
	record   []metric.RecordOption
	start    []trace.SpanStartOption
	outcomes map[string]*recording
	reasons  map[retry.Why][]metric.RecordOption
}

type recording struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

var outcomes = []string{
	"ok", "permanent", "canceled", "deadline", "max_retries", "max_elapsed", "budget", "circuit_open", "paused",
	"retry_after_too_long", "body_not_replayable", "not_idempotent", "draining", "limiter", "invalid", "abandoned",
}

var reasons = []retry.Why{retry.WaitBackoff, retry.WaitRetryAfter, retry.WaitPause, retry.WaitBreaker, retry.WaitLimiter}

// series finds the options for a name and host, or makes them.
func (m *meters) series(l labels) *series {
	if all := m.byLabels.Load(); all != nil {
		if s := (*all)[l]; s != nil {
			return s
		}
		if len(*all) > maxSeries {
			return (*all)[labels{name: otherName}]
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[labels]*series)
	if old := m.byLabels.Load(); old != nil {
		if s := (*old)[l]; s != nil {
			return s
		}
		maps.Copy(all, *old)
	}
	if len(all) >= maxSeries {
		if l = (labels{name: otherName}); all[l] != nil {
			return all[l]
		}
	}
	s := newSeries(l)
	all[l] = s
	m.byLabels.Store(&all)
	return s
}

func newSeries(l labels) *series {
	set := l.set()
	s := &series{
		labels: l,
		add:    []metric.AddOption{set},
		record: []metric.RecordOption{set},
		start:  []trace.SpanStartOption{trace.WithAttributes(l.with()...)},

		outcomes: make(map[string]*recording),
		reasons:  make(map[retry.Why][]metric.RecordOption),
	}
	for _, outcome := range outcomes {
		s.outcomes[outcome] = s.newRecording(outcome)
	}
	for _, why := range reasons {
		s.reasons[why] = []metric.RecordOption{l.set(keyReason.String(string(why)))}
	}
	return s
}

// outcome also knows labels that a later version of package retry may add.
func (s *series) outcome(label string) *recording {
	if r := s.outcomes[label]; r != nil {
		return r
	}
	return s.newRecording(label)
}

func (s *series) newRecording(outcome string) *recording {
	set := s.set(keyOutcome.String(outcome))
	return &recording{[]metric.AddOption{set}, []metric.RecordOption{set}}
}

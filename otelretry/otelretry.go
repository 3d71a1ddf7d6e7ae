// Package otelretry reports to OpenTelemetry what package retry does: metrics, traces,
// and logs that find their trace.
//
//	cfg, err := otelretry.Instrument(retry.Config{Name: "ensembl"})
//	gene, err := retry.Do(ctx, cfg, fetch)
//
//	client, err := otelretry.NewClient(base, retry.Config{Name: "ensembl"})
//
// Set the global providers of OpenTelemetry first, or name others with
// [WithMeterProvider] and [WithTracerProvider]. Without any, nothing is recorded.
//
// # Metrics
//
//	retry.calls                  counter    {call}      retry.outcome
//	retry.active_calls           up-down    {call}
//	retry.call.duration          histogram  s           retry.outcome
//	retry.call.attempts          histogram  {attempt}
//	retry.retries                counter    {retry}     error.type
//	retry.wait.duration          histogram  s           retry.wait.reason
//	retry.breaker.state          up-down    {breaker}   retry.breaker.state
//	retry.breaker.changes        counter    {change}    retry.breaker.state
//	retry.breaker.rejections     counter    {rejection}
//	retry.gate.pauses            counter    {pause}
//	retry.gate.pause.duration    counter    s
//	retry.gate.pause.remaining   gauge      s
//	retry.gate.pace              gauge      {call}/s
//	retry.budget.balance         gauge      {retry}
//	retry.budget.refusals        counter    {refusal}
//	http.client.request.duration histogram  s           of each attempt, see [NewTransport]
//
// All have name, that of the Config, and about a client's requests host, as
// "https://rest.ensembl.org". A breaker, gate or budget that is not one host's has the
// name that it was observed under. error.type is the status, "connect", "timeout", what
// [retry.Outcome] says of a call inside, or else the type of the failure that led to the
// retry.
//
// retry.outcome is what [retry.Outcome] says, retry.wait.reason a [retry.Why].
// retry.breaker.state is "closed", "open" or "half_open": the state that there
// is counts 1, the others 0; in retry.breaker.changes it is the new state. A wait
// is recorded when it is announced, in its full length, though a context may cut
// it short; one that becomes longer is announced again, with what is left of it.
// A pause that is lengthened is still one pause. retry.gate.pace is there only
// while a gate limits calls. Breakers, gates and budgets with the same name and host are
// added up: retry.breaker.state counts them; but of pauses that remain the longest
// is shown, and of paces the slowest.
//
// Beyond a thousand names and hosts the rest share the name "_OTHER", and so with
// server.address.
//
// # Traces
//
// Each call has a span, named after the Config, with the outcome and the number
// of attempts, and an event for each retry and each wait. Each attempt of a
// [retry.Do] has a child span; in a client each attempt has the span of an HTTP
// client, with http.request.resend_count, and retry.hedge where it is the hedge of an
// attempt. See [NewTransport], also for otelhttp.
//
// Texts of errors go into spans as package retry writes them, without the
// secrets of URLs.
package otelretry

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/jonboulle/clockwork"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/retryutils/retry"
)

const scope = "github.com/retryutils/retry/otelretry"

// Option says where to report to.
type Option func(*settings)

type settings struct {
	meters     metric.MeterProvider
	tracers    trace.TracerProvider
	propagator propagation.TextMapPropagator
	clock      clockwork.Clock
	noAttempts bool
}

// WithMeterProvider reports metrics to p; the default is the global provider.
func WithMeterProvider(p metric.MeterProvider) Option { return func(s *settings) { s.meters = p } }

// WithTracerProvider reports spans to p; the default is the global provider.
func WithTracerProvider(p trace.TracerProvider) Option { return func(s *settings) { s.tracers = p } }

// WithPropagator sends the trace along with requests as p does; the default is
// the global propagator.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(s *settings) { s.propagator = p }
}

// WithClock is for [ObserveGate], and for a gate on another clock than the real
// one: pauses are measured by it.
func WithClock(clock clockwork.Clock) Option { return func(s *settings) { s.clock = clock } }

// WithoutAttemptSpans makes no spans for attempts: for functions and clients
// that make their own, as with otelhttp.
func WithoutAttemptSpans() Option { return func(s *settings) { s.noAttempts = true } }

func settingsOf(opts []Option) settings {
	var s settings
	for _, option := range opts {
		if option != nil {
			option(&s)
		}
	}
	if s.meters == nil {
		s.meters = otel.GetMeterProvider()
	}
	if s.tracers == nil {
		s.tracers = otel.GetTracerProvider()
	}
	if s.propagator == nil {
		s.propagator = otel.GetTextMapPropagator()
	}
	return s
}

// Instrument returns cfg with hooks that report its calls, added to those that
// are there, and observes its Breaker, Gate and Budget, those under its Name. A
// Config that is instrumented already gets no second set of hooks.
//
// Instrument last, after your own hooks and after Watch of package statusz. A hook that is
// assigned afterwards replaces Instrument's: calls are not counted, or the number of active
// calls never falls. To instrument such a Config again is an error, and in a client with
// [Options] it is reported to the error handler of OpenTelemetry. The other error is that of the meter, if it cannot make an instrument.
func Instrument(cfg retry.Config, opts ...Option) (retry.Config, error) {
	s := settingsOf(opts)
	m, err := metersOf(s.meters)
	if err != nil {
		return cfg, err
	}
	if cfg.Clock != nil && s.clock == nil {
		s.clock = cfg.Clock
	}
	m.observe(labels{name: cfg.Name}, cfg, s.clock)
	switch whole, some := instrumented(cfg); {
	case whole:
		return cfg, nil
	case some:
		return cfg, errReplaced
	}
	h := &hooks{m: m, tracer: s.tracers.Tracer(scope), noAttempts: s.noAttempts, inner: cfg, own: m.series(labels{name: cfg.Name})}
	cfg.OnStart, cfg.OnDone = h.onStart, h.onDone
	cfg.OnRetry, cfg.OnWait = h.onRetry, h.onWait
	cfg.OnAttempt, cfg.OnAttemptDone = h.onAttempt, h.onAttemptDone
	return cfg, nil
}

var errReplaced = errors.New("otelretry: hooks were set after Instrument, in the place of its own: calls would be counted in part; instrument last")

// instrumented reports whether all hooks of cfg, or some, are those of Instrument.
func instrumented(cfg retry.Config) (whole, some bool) {
	h, whole := (*hooks)(nil), true
	for _, hook := range [][2]any{
		{cfg.OnStart, h.onStart}, {cfg.OnDone, h.onDone}, {cfg.OnRetry, h.onRetry},
		{cfg.OnWait, h.onWait}, {cfg.OnAttempt, h.onAttempt}, {cfg.OnAttemptDone, h.onAttemptDone},
	} {
		is := ours(hook[0], hook[1])
		whole, some = whole && is, some || is
	}
	return whole, some
}

// ours distinguishes our hooks from others by their code: it is one for all Configs.
func ours(hook, own any) bool {
	return reflect.ValueOf(hook).Pointer() == reflect.ValueOf(own).Pointer()
}

// Options are for a client whose Config is instrumented: they observe the
// Breaker, the Gate and the Budget of each host under the host's name, and put
// [NewTransport] beneath the retries, unless [WithoutAttemptSpans] is given. Both
// are options of package retry; others, such as PerHost, go beside them. To
// requests that share nothing, by a [retry.HostKey] of "", they give a second
// span for each attempt, named attempt, around that of the transport.
//
// What the meter refuses to make is reported to the error handler of OpenTelemetry.
func Options(opts ...Option) []retry.Option {
	s := settingsOf(opts)
	m, err := metersOf(s.meters)
	if err != nil {
		otel.Handle(err)
		return nil
	}
	options := []retry.Option{retry.PerHost(m.markRequests), retry.OnHost(func(host string, cfg retry.Config) {
		clock := s.clock
		if cfg.Clock != nil {
			clock = cfg.Clock
		}
		m.observe(labels{cfg.Name, host}, cfg, clock)
	})}
	if !s.noAttempts {
		options = append(options, retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
			return newTransport(base, s, m)
		}))
	}
	return options
}

// NewClient is [retry.NewRetryableClient] with a Config that is instrumented and with
// [Options], both for the global providers of OpenTelemetry. The base and its Timeout, 30s
// for each attempt without one, are as there.
func NewClient(base *http.Client, cfg retry.Config, opts ...retry.Option) (*retry.RetryableClient, error) {
	cfg, err := Instrument(cfg)
	if err != nil {
		return nil, err
	}
	return retry.NewRetryableClient(base, cfg, append(Options(), opts...)...)
}

// ObserveClient reports the breakers, gates and budgets of the hosts of c, under the
// name and the host of each: of a client without [Options]. Hosts that it meets later are
// found when metrics are collected. To be observed does not keep it in memory.
func ObserveClient(c *retry.RetryableClient, opts ...Option) error {
	return observeWith(opts, func(m *meters, clock clockwork.Clock) { m.watched.client(c, clock) })
}

// ObserveBreaker reports the state, the changes and the rejections of b, under
// its name. To be observed does not keep it in memory. One that is observed
// already is not observed twice.
func ObserveBreaker(b *retry.CircuitBreaker, opts ...Option) error {
	return observeWith(opts, func(m *meters, _ clockwork.Clock) { m.observeBreaker(b, labels{name: b.Name()}) })
}

// ObserveGate reports the pauses and the pace of g. It is otherwise as [ObserveBreaker].
func ObserveGate(name string, g *retry.Gate, opts ...Option) error {
	return observeWith(opts, func(m *meters, clock clockwork.Clock) { m.observeGate(g, labels{name: name}, clock) })
}

// ObserveBudget reports what is left of b, and what it refused. It is otherwise
// as [ObserveBreaker].
func ObserveBudget(name string, b *retry.Budget, opts ...Option) error {
	return observeWith(opts, func(m *meters, _ clockwork.Clock) { m.observeBudget(b, labels{name: name}) })
}

func observeWith(opts []Option, observe func(*meters, clockwork.Clock)) error {
	s := settingsOf(opts)
	m, err := metersOf(s.meters)
	if err == nil {
		observe(m, s.clock)
	}
	return err
}

// orElse is ctx, or what else where a hook returned none.
func orElse(ctx, otherwise context.Context) context.Context {
	if ctx == nil {
		return otherwise
	}
	return ctx
}

package otelretry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	metricsdk "go.opentelemetry.io/otel/sdk/metric"
	tracesdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
)

type providers struct {
	meters  metric.MeterProvider
	tracers trace.TracerProvider
}

func allProviders() map[string]providers {
	sdk := func() metric.MeterProvider {
		return metricsdk.NewMeterProvider(metricsdk.WithReader(metricsdk.NewManualReader()))
	}
	return map[string]providers{
		"nothing recorded":        {metricnoop.NewMeterProvider(), tracenoop.NewTracerProvider()},
		"metrics":                 {sdk(), tracenoop.NewTracerProvider()},
		"metrics, sampled out":    {sdk(), tracesdk.NewTracerProvider(tracesdk.WithSampler(tracesdk.NeverSample()))},
		"metrics and both spans":  {sdk(), tracesdk.NewTracerProvider()},
		"sampled out, no metrics": {metricnoop.NewMeterProvider(), tracesdk.NewTracerProvider(tracesdk.WithSampler(tracesdk.NeverSample()))},
	}
}

func (p providers) instrument(t testing.TB, cfg retry.Config) retry.Config {
	cfg, err := otelretry.Instrument(cfg, otelretry.WithMeterProvider(p.meters), otelretry.WithTracerProvider(p.tracers))
	require.NoError(t, err)
	return cfg
}

// byHand makes the calls of OpenTelemetry that a successful Do makes, with all
// options made beforehand, around the function itself.
func (p providers) byHand(t testing.TB) func(context.Context, func(context.Context) error) {
	meter, tracer := p.meters.Meter("by hand"), p.tracers.Tracer("by hand")
	calls, err := meter.Int64Counter("calls")
	require.NoError(t, err)
	active, err := meter.Int64UpDownCounter("active")
	require.NoError(t, err)
	duration, err := meter.Float64Histogram("duration")
	require.NoError(t, err)
	attempts, err := meter.Int64Histogram("attempts")
	require.NoError(t, err)
	set := metric.WithAttributeSet(attribute.NewSet(attribute.String("name", "x")))
	add, record := []metric.AddOption{set}, []metric.RecordOption{set}
	start := []trace.SpanStartOption{trace.WithAttributes(attribute.String("name", "x"))}
	return func(ctx context.Context, fn func(context.Context) error) {
		began := time.Now()
		active.Add(ctx, 1, add...)
		ctx, span := tracer.Start(ctx, "x", start...)
		if span.IsRecording() {
			inner, attempt := tracer.Start(ctx, "attempt", trace.WithAttributes(attribute.Int("attempt", 1)))
			_ = fn(inner)
			attempt.End()
		} else {
			_ = fn(ctx)
		}
		active.Add(ctx, -1, add...)
		calls.Add(ctx, 1, add...)
		duration.Record(ctx, time.Since(began).Seconds(), record...)
		attempts.Record(ctx, 1, record...)
		if span.IsRecording() {
			span.SetAttributes(attribute.String("outcome", "ok"), attribute.Int("attempts", 1))
			span.End()
		}
	}
}

// A successful call allocates what the calls of OpenTelemetry do, and nothing
// more.
func TestSuccessAllocatesWhatOpenTelemetryDoes(t *testing.T) {
	ctx := context.Background()
	fn := func(context.Context) error { return nil }
	for name, p := range allProviders() {
		cfg, hand := p.instrument(t, retry.Config{Name: "x"}), p.byHand(t)
		want := testing.AllocsPerRun(200, func() { hand(ctx, fn) })
		got := testing.AllocsPerRun(200, func() { _ = retry.Run(ctx, cfg, fn) })
		t.Logf("%s: %v, by hand %v", name, got, want)
		assert.LessOrEqual(t, got, want, name)
	}
}

func BenchmarkSuccess(b *testing.B) {
	ctx := context.Background()
	fn := func(context.Context) error { return nil }
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = retry.Run(ctx, retry.Config{Name: "x"}, fn)
		}
	})
	for name, p := range allProviders() {
		cfg, hand := p.instrument(b, retry.Config{Name: "x"}), p.byHand(b)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = retry.Run(ctx, cfg, fn)
			}
		})
		b.Run(name+", by hand", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				hand(ctx, fn)
			}
		})
	}
}

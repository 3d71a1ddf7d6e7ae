package otelretry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
)

func ExampleInstrument() {
	reader := metric.NewManualReader() // a service has an exporter, and otel.SetMeterProvider
	meters := metric.NewMeterProvider(metric.WithReader(reader))

	cfg, err := otelretry.Instrument(retry.Config{Name: "ensembl", InitialDelay: time.Millisecond}, otelretry.WithMeterProvider(meters))
	if err != nil {
		fmt.Println(err)
		return
	}
	failures := 2
	_ = retry.Run(context.Background(), cfg, func(context.Context) error {
		if failures--; failures >= 0 {
			return errors.New("not yet")
		}
		return nil
	})

	var all metricdata.ResourceMetrics
	_ = reader.Collect(context.Background(), &all)
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name == "retry.calls" || m.Name == "retry.retries" {
			point := m.Data.(metricdata.Sum[int64]).DataPoints[0]
			fmt.Println(m.Name, point.Attributes.Encoded(attribute.DefaultEncoder()), point.Value)
		}
	}
	// Output:
	// retry.calls name=ensembl,retry.outcome=ok 1
	// retry.retries error.type=*errors.errorString,name=ensembl 2
}

func ExampleOptions() {
	spans := tracetest.NewSpanRecorder() // a service has an exporter, and otel.SetTracerProvider
	report := otelretry.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))

	cfg, err := otelretry.Instrument(retry.Config{Name: "ensembl", InitialDelay: time.Millisecond}, report)
	if err != nil {
		fmt.Println(err)
		return
	}
	service := &answers{statuses: []int{503, 200}} // instead of the network
	client, err := retry.NewRetryableClient(&http.Client{Transport: service}, cfg, otelretry.Options(report)...)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Get(context.Background(), "https://rest.ensembl.org/info/ping")
	if err == nil {
		resp.Body.Close()
	}
	for _, span := range spans.Ended() {
		fmt.Print(span.Name(), ":")
		for _, a := range span.Attributes() {
			switch a.Key {
			case "http.response.status_code", "http.request.resend_count", "retry.attempts":
				fmt.Printf(" %s=%s", a.Key, a.Value.String())
			}
		}
		fmt.Println()
	}
	// Output:
	// GET: http.response.status_code=503
	// GET: http.request.resend_count=1 http.response.status_code=200
	// ensembl: retry.attempts=2
}

func ExampleLogHandler() {
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey, "delay", "elapsed", "waited", "why":
			return slog.Attr{}
		case "trace_id", "span_id":
			return slog.Int("digits of "+a.Key, len(a.Value.String())) // they are random
		}
		return a
	}})
	cfg, err := otelretry.Instrument(
		retry.Config{Name: "ensembl", InitialDelay: time.Millisecond, Logger: slog.New(otelretry.LogHandler(handler))},
		otelretry.WithTracerProvider(trace.NewTracerProvider()))
	if err != nil {
		fmt.Println(err)
		return
	}
	var once sync.Once
	_ = retry.Run(context.Background(), cfg, func(context.Context) (err error) {
		once.Do(func() { err = errors.New("not yet") })
		return err
	})
	// Output:
	// level=WARN msg=retrying attempt=1 name=ensembl error="not yet" "digits of trace_id"=32 "digits of span_id"=16
	// level=INFO msg=succeeded attempt=2 name=ensembl "digits of trace_id"=32 "digits of span_id"=16
}

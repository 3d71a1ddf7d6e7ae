package otelretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
)

var errFault = errors.New("fault")

// probe records what is reported.
type probe struct {
	t      *testing.T
	reader *metric.ManualReader
	spans  *tracetest.SpanRecorder
	opts   []otelretry.Option
	meters *metric.MeterProvider
	tracer *trace.TracerProvider
}

func newProbe(t *testing.T) *probe {
	p := &probe{t: t, reader: metric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	p.meters = metric.NewMeterProvider(metric.WithReader(p.reader))
	p.tracer = trace.NewTracerProvider(trace.WithSpanProcessor(p.spans))
	p.opts = []otelretry.Option{
		otelretry.WithMeterProvider(p.meters), otelretry.WithTracerProvider(p.tracer),
		otelretry.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})),
	}
	return p
}

func (p *probe) instrument(cfg retry.Config) retry.Config {
	p.t.Helper()
	cfg, err := otelretry.Instrument(cfg, p.opts...)
	require.NoError(p.t, err)
	return cfg
}

// metrics are all values, by instrument and attributes: "retry.calls{ok,x}": 1.
// Of a histogram the sum, and the count under the name with "#" before it. The
// durations of HTTP requests are left out.
func (p *probe) metrics() map[string]float64 {
	p.t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(p.t, p.reader.Collect(context.Background(), &all))
	values := make(map[string]float64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, d := range data.DataPoints {
					values[key(m.Name, d.Attributes)] += float64(d.Value)
				}
			case metricdata.Sum[float64]:
				for _, d := range data.DataPoints {
					values[key(m.Name, d.Attributes)] += d.Value
				}
			case metricdata.Gauge[float64]:
				for _, d := range data.DataPoints {
					values[key(m.Name, d.Attributes)] += d.Value
				}
			case metricdata.Histogram[int64]:
				for _, d := range data.DataPoints {
					values[key(m.Name, d.Attributes)] += float64(d.Sum)
					values["#"+key(m.Name, d.Attributes)] += float64(d.Count)
				}
			case metricdata.Histogram[float64]:
				for _, d := range data.DataPoints {
					if m.Name == "http.client.request.duration" {
						values["#"+key(m.Name, d.Attributes)] += float64(d.Count)
						continue
					}
					values[key(m.Name, d.Attributes)] += d.Sum
					values["#"+key(m.Name, d.Attributes)] += float64(d.Count)
				}
			default:
				p.t.Fatalf("%s: unexpected %T", m.Name, data)
			}
		}
	}
	return values
}

func key(name string, set attribute.Set) string {
	var parts []string
	for _, a := range set.ToSlice() {
		if k := string(a.Key); k == "server.address" || k == "server.port" || k == "host" || k == "name" && name == "http.client.request.duration" || k == "error.type" && name == "retry.retries" {
			continue
		}
		parts = append(parts, a.Value.String())
	}
	return name + "{" + strings.Join(parts, ",") + "}"
}

// tree writes the ended spans, each indented beneath its parent, with status and
// the attributes that tests are about, in the order in which they began.
func (p *probe) tree() string {
	ended := p.spans.Ended()
	sort.SliceStable(ended, func(i, j int) bool { return ended[i].StartTime().Before(ended[j].StartTime()) })
	started := p.spans.Started()
	require.Len(p.t, ended, len(started), "every span is ended, once")
	var b strings.Builder
	var write func(parent string, indent int)
	write = func(parent string, indent int) {
		for _, s := range started {
			if id := s.Parent().SpanID(); parent == "" && id.IsValid() || parent != "" && id.String() != parent {
				continue
			}
			fmt.Fprintf(&b, "%s%s %s%s\n", strings.Repeat("  ", indent), s.Name(), s.Status().Code, attrs(s.Attributes()))
			for _, e := range s.Events() {
				fmt.Fprintf(&b, "%s- %s%s\n", strings.Repeat("  ", indent+1), e.Name, attrs(e.Attributes))
			}
			write(s.SpanContext().SpanID().String(), indent+1)
		}
	}
	write("", 0)
	return b.String()
}

func attrs(all []attribute.KeyValue) string {
	var b strings.Builder
	for _, a := range all {
		switch k := string(a.Key); k {
		case "name", "host", "server.address", "server.port", "url.full", "http.request.method", "network.protocol.version":
		default:
			fmt.Fprintf(&b, " %s=%s", k[strings.LastIndex(k, ".")+1:], a.Value.String())
		}
	}
	return b.String()
}

// answers is a base transport that answers with one status after the other, the
// last one for ever; 0 breaks the connection.
type answers struct {
	statuses []int
	header   http.Header
	seen     []http.Header
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	status := a.statuses[min(len(a.seen), len(a.statuses)-1)]
	a.seen = append(a.seen, req.Header)
	if status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{
		StatusCode: status, Header: a.header.Clone(), Request: req, ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(`{"a":1}`)),
	}, nil
}

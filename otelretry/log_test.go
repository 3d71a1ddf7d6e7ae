package otelretry_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/retryutils/retry/otelretry"
)

// The ids are added to what has attributes of its own too, and nothing where
// there is no span.
func TestLogHandler(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(otelretry.LogHandler(slog.NewTextHandler(&out, nil))).With("a", 1)
	log.InfoContext(context.Background(), "x")
	assert.NotContains(t, out.String(), "trace_id")
	ctx, span := sdk.NewTracerProvider().Tracer("t").Start(context.Background(), "s")
	log.WithGroup("g").InfoContext(ctx, "x", "b", 2)
	assert.Contains(t, out.String(), "a=1 g.b=2")
	assert.Contains(t, out.String(), "trace_id="+span.SpanContext().TraceID().String())
	assert.Contains(t, out.String(), "span_id="+span.SpanContext().SpanID().String())
}

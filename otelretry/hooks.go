package otelretry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/retryutils/retry"
)

// hooks report the calls of one Config. They keep nothing about a call: its span
// is in its context, and so is that of an attempt.
type hooks struct {
	m          *meters
	tracer     trace.Tracer
	noAttempts bool
	inner      retry.Config // for the hooks that were there before
	own        *series      // of the Config's own name, without a host
}

// series is that of an event; a client has one for each host.
func (h *hooks) series(e retry.Event) *series {
	if e.Name == h.inner.Name && e.Host == "" {
		return h.own
	}
	return h.m.series(labels{e.Name, e.Host})
}

// onStart begins the call's span within what hooks of the caller's put into the
// context.
func (h *hooks) onStart(ctx context.Context, e retry.Event) context.Context {
	if isRequest(ctx) { // a call within a request is not that request
		ctx = context.WithValue(ctx, requestKey{}, (*request)(nil))
	}
	if h.inner.OnStart != nil {
		ctx = orElse(h.inner.OnStart(ctx, e), ctx)
	}
	s := h.series(e)
	h.m.active.Add(ctx, 1, s.add...)
	name := s.name
	if name == "" {
		name = "retry"
	}
	ctx, _ = h.tracer.Start(ctx, name, s.start...)
	return ctx
}

func (h *hooks) onDone(ctx context.Context, e retry.Event) {
	outcome := retry.Outcome(e.Err)
	s := h.series(e)
	r := s.outcome(outcome)
	h.m.active.Add(ctx, -1, s.add...)
	h.m.calls.Add(ctx, 1, r.add...)
	h.m.duration.Record(ctx, e.Elapsed.Seconds(), r.record...)
	h.m.attempts.Record(ctx, int64(e.Attempt), s.record...)
	if span := trace.SpanFromContext(ctx); span.IsRecording() { // or else it is sampled out
		span.SetAttributes(keyOutcome.String(outcome), keyAttempts.Int(e.Attempt))
		defer end(span, e.Err, outcome) // even if the hook panics, which may add to it
	}
	if h.inner.OnDone != nil {
		h.inner.OnDone(ctx, e)
	}
}

// end ends the span of a call or of an attempt.
func end(span trace.Span, err error, errorType string) {
	if err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType))
		span.SetStatus(codes.Error, textOf(err))
	}
	span.End()
}

func (h *hooks) onRetry(ctx context.Context, e retry.Event) {
	failure := semconv.ErrorTypeKey.String(errorType(e.Err))
	h.m.retries.Add(ctx, 1, h.series(e).set(failure))
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		attrs := []attribute.KeyValue{
			keyAttempt.Int(e.Attempt), keyReason.String(string(e.Why)), keyDelay.Float64(e.Delay.Seconds()),
			failure,
		}
		var status *retry.StatusError
		if errors.As(e.Err, &status) && status.RetryAfter > 0 {
			attrs = append(attrs, keyRetryAfter.Float64(status.RetryAfter.Seconds()))
		}
		span.AddEvent("retry", trace.WithAttributes(attrs...))
	}
	if h.inner.OnRetry != nil {
		h.inner.OnRetry(ctx, e)
	}
}

func (h *hooks) onWait(ctx context.Context, e retry.Event) {
	s := h.series(e)
	h.m.waits.Record(ctx, e.Delay.Seconds(), s.reasons[e.Why]...)
	if e.Why != retry.WaitBackoff && e.Why != retry.WaitRetryAfter { // the retry was reported
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			span.AddEvent("wait", trace.WithAttributes(keyReason.String(string(e.Why)), keyDelay.Float64(e.Delay.Seconds())))
		}
	}
	if h.inner.OnWait != nil {
		h.inner.OnWait(ctx, e)
	}
}

// requestKey leads to the request that a call is: of a client with our Options.
type requestKey struct{}

// request is a call that is a request. The next one in a chain of redirects goes on
// counting.
type request struct {
	*series
	sent     atomic.Int64 // so far, over all retries and redirects
	inFlight atomic.Bool  // what begins meanwhile is another request
}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

func isRequest(ctx context.Context) bool { return requestOf(ctx) != nil }

// markRequests has the calls of a host known as requests, whether the Config is
// instrumented already or will be.
func (m *meters) markRequests(_ string, cfg *retry.Config) error {
	if ours(cfg.OnStart, (*hooks)(nil).onStart) != ours(cfg.OnDone, (*hooks)(nil).onDone) {
		otel.Handle(errReplaced)
	}
	start := cfg.OnStart
	cfg.OnStart = func(ctx context.Context, e retry.Event) context.Context {
		r := &request{series: m.series(labels{e.Name, e.Host})}
		if before := requestOf(ctx); before != nil && !before.inFlight.Load() {
			r.sent.Store(before.sent.Load())
		}
		if start != nil {
			ctx = orElse(start(ctx, e), ctx)
		}
		return context.WithValue(ctx, requestKey{}, r)
	}
	return nil
}

// traced reports whether the attempt has a span here: that of a request is made
// by the transport beneath.
func (h *hooks) traced(ctx context.Context) bool {
	return !h.noAttempts && trace.SpanFromContext(ctx).IsRecording() && !isRequest(ctx)
}

func (h *hooks) onAttempt(ctx context.Context, e retry.Event) context.Context {
	if h.inner.OnAttempt != nil {
		ctx = orElse(h.inner.OnAttempt(ctx, e), ctx)
	}
	if h.traced(ctx) {
		ctx, _ = h.tracer.Start(ctx, "attempt", trace.WithAttributes(keyAttempt.Int(e.Attempt)))
	}
	return ctx
}

func (h *hooks) onAttemptDone(ctx context.Context, e retry.Event) {
	if h.traced(ctx) {
		defer end(trace.SpanFromContext(ctx), e.Err, errorType(e.Err))
	}
	if h.inner.OnAttemptDone != nil {
		h.inner.OnAttemptDone(ctx, e)
	}
}

// textOf is the text of an error without the secrets of URLs: as an *Error writes
// it, less what that adds.
func textOf(err error) string {
	if e, ok := err.(*retry.Error); ok {
		return e.Error()
	}
	return strings.TrimPrefix((&retry.Error{Err: err}).Error(), new(retry.Error).Error()+": ")
}

// errorType is the value of error.type: few values, and none of them a text.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	var status *retry.StatusError
	var gaveUp *retry.Error
	var lookup *net.DNSError
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &status):
		return strconv.Itoa(status.StatusCode)
	case (errors.As(err, &lookup) || errors.As(err, &op) && op.Op == "dial") && !errors.Is(err, context.Canceled):
		return "connect"
	case errors.As(err, &gaveUp):
		return retry.Outcome(err)
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case retry.Outcome(err) != "permanent":
		return retry.Outcome(err)
	}
	return fmt.Sprintf("%T", bare(err))
}

// bare takes off what only wraps an error: the marks of package retry, those of
// fmt and errors, and the URL.
func bare(err error) error {
	for {
		inner := errors.Unwrap(err)
		t := reflect.TypeOf(err)
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.PkgPath() {
		case "github.com/retryutils/retry", "fmt", "errors", "net/url":
			if inner == nil {
				return err
			}
		default:
			return err
		}
		err = inner
	}
}

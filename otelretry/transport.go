package otelretry

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/hedge"
)

// transport makes the span of each attempt, and measures it.
type transport struct {
	base       http.RoundTripper
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	m          *meters
}

// NewTransport returns a RoundTripper over base that reports each request by the
// semantic conventions for HTTP clients: a span, with http.request.resend_count
// for a retry or a hedge, retry.hedge for a hedge, and http.client.request.duration. It sends the trace and the
// baggage along. It belongs beneath the retries, where [Options] puts it, and beneath the
// hedges: a WrapTransport of package hedge comes after those options. nil is
// http.DefaultTransport.
//
// URLs have neither user information nor the values of the query. A span ends
// when the response's header is there.
//
// With otelhttp beneath the retries, give [Options] WithoutAttemptSpans and put
// [ResendCount] beneath otelhttp: its spans are those of the attempts then.
func NewTransport(base http.RoundTripper, opts ...Option) (http.RoundTripper, error) {
	s := settingsOf(opts)
	m, err := metersOf(s.meters)
	if err != nil {
		return nil, err
	}
	return newTransport(base, s, m), nil
}

func newTransport(base http.RoundTripper, s settings, m *meters) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	inner := base
	if wrapper, ok := base.(interface{ Unwrap() http.RoundTripper }); ok { // as WrapTransport has it
		inner = wrapper.Unwrap()
	}
	if already, ok := inner.(*transport); ok && already.m == m {
		return base
	}
	return &transport{base: base, tracer: s.tracers.Tracer(scope), propagator: s.propagator, m: m}
}

// RoundTrip sends req; see NewTransport.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	method, original := knownMethod(req.Method)
	name := method
	if original != "" {
		name = "HTTP"
	}
	ctx, span := t.tracer.Start(req.Context(), name, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()                 // a panic of base included
	call := requestOf(req.Context()) // nil outside of one
	resent := retry.RetryCount(req.Context()) + hedge.Count(req.Context())
	if call != nil {
		resent = int(call.sent.Add(1)) - 1
		call.inFlight.Store(true)
		defer call.inFlight.Store(false)
	}
	if span.IsRecording() {
		span.SetAttributes(requestAttributes(req, method, original)...)
		if call != nil {
			span.SetAttributes(call.with()...)
		}
		if resent > 0 {
			span.SetAttributes(semconv.HTTPRequestResendCount(resent))
		}
	}
	sent := req.WithContext(ctx)
	if len(t.propagator.Fields()) > 0 {
		sent.Header = req.Header.Clone()
		if sent.Header == nil {
			sent.Header = make(http.Header)
		}
		t.propagator.Inject(ctx, propagation.HeaderCarrier(sent.Header))
	}
	began := time.Now()
	resp, err := t.base.RoundTrip(sent)
	took := time.Since(began)
	if span.IsRecording() {
		setResult(span, resp, err)
	}
	attrs := append(make([]attribute.KeyValue, 0, 6), semconv.HTTPRequestMethodKey.String(method))
	attrs = append(attrs, serverAttributes(t.m.server(req.URL))...)
	attrs = append(attrs, resultAttributes(resp, err)...)
	if call != nil {
		attrs = call.with(attrs...)
	}
	if n := hedge.Count(req.Context()); n > 0 {
		attrs = append(attrs, hedgeKey.Int(n))
	}
	t.m.requests.Record(ctx, took.Seconds(), metric.WithAttributeSet(attribute.NewSet(attrs...)))
	return resp, err
}

// CloseIdleConnections closes those of the base transport.
func (t *transport) CloseIdleConnections() { closeIdle(t.base) }

func closeIdle(base http.RoundTripper) {
	if c, ok := base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// knownMethod is the value of http.request.method, and of its original where
// that is not the same.
func knownMethod(method string) (known, original string) {
	switch method {
	case "":
		return http.MethodGet, ""
	case http.MethodConnect, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPatch, http.MethodPost, http.MethodPut, http.MethodTrace, "QUERY":
		return method, ""
	}
	return otherName, method
}

func requestAttributes(req *http.Request, method, original string) []attribute.KeyValue {
	attrs := append(make([]attribute.KeyValue, 0, 7), semconv.HTTPRequestMethodKey.String(method))
	if original != "" {
		attrs = append(attrs, semconv.HTTPRequestMethodOriginal(original))
	}
	attrs = append(attrs, semconv.URLFull(safeURL(req.URL)))
	attrs = append(attrs, serverAttributes(serverOf(req.URL))...)
	if n := hedge.Count(req.Context()); n > 0 {
		attrs = append(attrs, hedgeKey.Int(n))
	}
	return attrs
}

// hedgeKey is the number of the hedge of package hedge that a request is.
const hedgeKey = attribute.Key("retry.hedge")

// server is who a request goes to.
type server struct {
	address string
	port    int
}

func serverOf(u *url.URL) server {
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		port = map[string]int{"http": 80, "https": 443}[u.Scheme]
	}
	return server{u.Hostname(), port}
}

// server is serverOf for the attributes of metrics: of a bounded number.
func (m *meters) server(u *url.URL) server {
	s := serverOf(u)
	if _, known := m.servers.Load(s); known {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.serverCount >= maxSeries-1 {
		return server{address: otherName}
	}
	if _, known := m.servers.LoadOrStore(s, nil); !known {
		m.serverCount++
	}
	return s
}

func serverAttributes(s server) []attribute.KeyValue {
	return []attribute.KeyValue{semconv.ServerAddress(s.address), semconv.ServerPort(s.port)}
}

func resultAttributes(resp *http.Response, err error) []attribute.KeyValue {
	switch {
	case err != nil:
		return []attribute.KeyValue{semconv.ErrorTypeKey.String(errorType(err))}
	case resp == nil:
		return nil
	case resp.StatusCode >= 400:
		return []attribute.KeyValue{
			semconv.HTTPResponseStatusCode(resp.StatusCode), semconv.ErrorTypeKey.String(strconv.Itoa(resp.StatusCode)),
		}
	}
	return []attribute.KeyValue{semconv.HTTPResponseStatusCode(resp.StatusCode)}
}

func protocolVersion(resp *http.Response) string {
	if resp.ProtoMajor >= 2 {
		return strconv.Itoa(resp.ProtoMajor)
	}
	return fmt.Sprintf("%d.%d", resp.ProtoMajor, resp.ProtoMinor)
}

// setResult gives the span its end. The status of a client's span is an error
// from 400 on, without a text, because the status says it.
func setResult(span trace.Span, resp *http.Response, err error) {
	span.SetAttributes(resultAttributes(resp, err)...)
	if resp != nil {
		span.SetAttributes(semconv.NetworkProtocolVersion(protocolVersion(resp)))
	}
	switch {
	case err != nil:
		span.SetStatus(codes.Error, textOf(err))
	case resp != nil && resp.StatusCode >= 400:
		span.SetStatus(codes.Error, "")
	}
}

// safeURL is u without user information, query values and fragment.
func safeURL(u *url.URL) string {
	if u.Opaque != "" {
		return u.Scheme + ":" + hidden
	}
	safe := *u
	if safe.User != nil {
		safe.User = url.UserPassword(hidden, hidden)
	}
	safe.Fragment, safe.RawFragment = "", ""
	if safe.RawQuery != "" {
		pairs := strings.Split(safe.RawQuery, "&")
		for i, pair := range pairs {
			if name, _, ok := strings.Cut(pair, "="); ok {
				pairs[i] = name + "=" + hidden
			} else if pair != "" {
				pairs[i] = hidden
			}
		}
		safe.RawQuery = strings.Join(pairs, "&")
	}
	return safe.String()
}

// hidden is what the semantic conventions want in the place of secrets.
const hidden = "REDACTED"

// ResendCount returns a RoundTripper that adds http.request.resend_count to the
// span that each retry or hedge finds itself in, and retry.hedge to that of a hedge. It
// belongs beneath a transport that makes spans, such as otelhttp. nil is
// http.DefaultTransport.
func ResendCount(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return resendCount{base}
}

type resendCount struct{ base http.RoundTripper }

func (t resendCount) RoundTrip(req *http.Request) (*http.Response, error) {
	span, hedges := trace.SpanFromContext(req.Context()), hedge.Count(req.Context())
	if n := retry.RetryCount(req.Context()) + hedges; n > 0 {
		span.SetAttributes(semconv.HTTPRequestResendCount(n))
	}
	if hedges > 0 {
		span.SetAttributes(hedgeKey.Int(hedges))
	}
	return t.base.RoundTrip(req)
}

func (t resendCount) CloseIdleConnections() { closeIdle(t.base) }

package otelretry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
)

func urlError() error {
	return &url.Error{Op: "Get", URL: "https://user:secret@a.test/?key=secret", Err: errFault}
}

const target = "https://user:secret@a.test/path?key=secret&flag#secret"

// A request through each door: spans and numbers are the same.
func TestRequestsThroughEveryDoor(t *testing.T) {
	type body struct{ A int }
	doors := map[string]func(*testing.T, http.RoundTripper, retry.Config, []retry.Option) error{
		"RetryableClient": func(t *testing.T, base http.RoundTripper, cfg retry.Config, opts []retry.Option) error {
			client, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg, opts...)
			require.NoError(t, err)
			resp, err := client.Get(context.Background(), target)
			if err == nil {
				resp.Body.Close()
			}
			return err
		},
		"Transport": func(t *testing.T, base http.RoundTripper, cfg retry.Config, opts []retry.Option) error {
			transport, err := retry.NewTransport(base, cfg, opts...)
			require.NoError(t, err)
			resp, err := (&http.Client{Transport: transport}).Get(target)
			if err == nil {
				resp.Body.Close()
				err = retry.CheckStatus(resp)
			}
			return err
		},
		"Fetch": func(t *testing.T, base http.RoundTripper, cfg retry.Config, opts []retry.Option) error {
			client, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg, opts...)
			require.NoError(t, err)
			_, err = retry.GetJSON[body](context.Background(), client, target)
			return err
		},
	}
	for name, door := range doors {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProbe(t)
				cfg := p.instrument(retry.Config{InitialDelay: time.Second, MaxRetries: 2, Jitter: retry.NoJitter})
				base := &answers{statuses: []int{503, 0, 200}}
				require.NoError(t, door(t, base, cfg, otelretry.Options(p.opts...)))
				assert.Equal(t, `https://a.test Unset outcome=ok attempts=3
  - retry attempt=1 reason=backoff duration=1 type=503
  - retry attempt=2 reason=backoff duration=2 type=*errors.errorString
  GET Error status_code=503 type=503
  GET Error resend_count=1 type=*errors.errorString
  GET Unset resend_count=2 status_code=200
`, p.tree())
				got := p.metrics()
				assert.Equal(t, 1.0, got["retry.calls{https://a.test,ok}"])
				assert.Equal(t, 2.0, got["retry.retries{https://a.test}"])
				assert.Equal(t, 3.0, got["retry.wait.duration{https://a.test,backoff}"])
				assert.Equal(t, 1.0, got["#http.client.request.duration{GET,200}"])
				assert.Equal(t, 1.0, got["#http.client.request.duration{503,GET,503}"], got)
				for i, s := range p.spans.Ended()[:3] {
					for _, a := range s.Attributes() {
						assert.NotContains(t, a.Value.String(), "secret")
						if a.Key == "url.full" {
							assert.Equal(t, "https://REDACTED:REDACTED@a.test/path?key=REDACTED&REDACTED", a.Value.AsString())
						}
					}
					assert.Contains(t, base.seen[i].Get("Traceparent"), s.SpanContext().SpanID().String(), "the attempt's own span goes along")
				}

				p = newProbe(t)
				cfg = p.instrument(retry.Config{InitialDelay: time.Second, MaxRetries: 1, Jitter: retry.NoJitter})
				require.Error(t, door(t, &answers{statuses: []int{500}}, cfg, otelretry.Options(p.opts...)))
				assert.Equal(t, 1.0, p.metrics()["retry.calls{https://a.test,max_retries}"])
				assert.Equal(t, 2.0, p.metrics()["retry.call.attempts{https://a.test}"])
			})
		})
	}
}

// A host's gate and breaker are observed under the client's name and its own, before their first
// change; a 429 with a Retry-After is a pause.
func TestHostsAreObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		cfg := p.instrument(retry.Config{Name: "client", InitialDelay: time.Second, Jitter: retry.NoJitter})
		opts := append(otelretry.Options(p.opts...), retry.HostBreaker(retry.BreakerConfig{}))
		client, err := retry.NewRetryableClient(
			&http.Client{Transport: &answers{statuses: []int{429, 200}, header: http.Header{"Retry-After": {"7"}}}}, cfg, opts...)
		require.NoError(t, err)
		resp, err := client.Get(context.Background(), "http://a.test/")
		require.NoError(t, err)
		resp.Body.Close()
		got := p.metrics()
		assert.Equal(t, 1.0, got["retry.gate.pauses{client}"])
		assert.InDelta(t, 7, got["retry.gate.pause.duration{client}"], 1e-9)
		assert.Equal(t, 1.0, got["retry.breaker.state{client,closed}"])
		assert.Equal(t, 7.0, got["retry.wait.duration{client,retry-after}"])
		client.CloseIdleConnections()
	})
}

// NewClient instruments the Config and observes the hosts, beside the caller's options;
// wrong settings and replaced hooks are errors.
func TestNewClient(t *testing.T) {
	p := newProbe(t)
	before, tracers := otel.GetMeterProvider(), otel.GetTracerProvider()
	defer func() { otel.SetMeterProvider(before); otel.SetTracerProvider(tracers) }()
	otel.SetMeterProvider(p.meters)
	otel.SetTracerProvider(p.tracer)
	client, err := otelretry.NewClient(&http.Client{Transport: &answers{statuses: []int{503, 200}}},
		retry.Config{Name: "client", InitialDelay: 1}, retry.HostBreaker(retry.BreakerConfig{}))
	require.NoError(t, err)
	resp, err := client.Get(context.Background(), "http://a.test/")
	require.NoError(t, err)
	resp.Body.Close()
	got := p.metrics()
	assert.Equal(t, 1.0, got["retry.calls{client,ok}"])
	assert.Equal(t, 1.0, got["retry.breaker.state{client,closed}"])

	_, err = otelretry.NewClient(nil, retry.Config{MaxRetries: -2})
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	replaced := p.instrument(retry.Config{})
	replaced.OnDone = func(context.Context, retry.Event) {}
	_, err = otelretry.NewClient(nil, replaced)
	assert.Error(t, err)
}

// What a call is, its own context says, and not the one around it: a Do that a
// request makes on its way (for a token, say) has spans for its attempts, and a
// request within a Do has those of its transport.
func TestCallsWithinCalls(t *testing.T) {
	p := newProbe(t)
	cfg := p.instrument(retry.Config{Name: "x", InitialDelay: time.Microsecond, Jitter: retry.NoJitter})
	token := cfg
	token.Name = "token"
	signing := roundTrip(func(req *http.Request) (*http.Response, error) {
		if err := retry.Run(req.Context(), token, failing(1, errFault)); err != nil {
			return nil, err
		}
		return (&answers{statuses: []int{200}}).RoundTrip(req)
	})
	client, err := retry.NewRetryableClient(&http.Client{Transport: signing}, cfg, otelretry.Options(p.opts...)...)
	require.NoError(t, err)
	require.NoError(t, retry.Run(context.Background(), cfg, func(ctx context.Context) error {
		resp, err := client.Get(ctx, "http://a.test/")
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}))
	assert.Equal(t, `x Unset outcome=ok attempts=1
  attempt Unset attempt=1
    x Unset outcome=ok attempts=1
      GET Unset status_code=200
        token Unset outcome=ok attempts=2
          - retry attempt=1 reason=backoff duration=1e-06 type=*errors.errorString
          attempt Error attempt=1 type=*errors.errorString
          attempt Unset attempt=2
`, p.tree())
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// An attempt has one span, in whatever order a client is put together, and
// whatever spans the caller's own hooks make; also where there is no transport
// of ours.
func TestAttemptHasOneSpan(t *testing.T) {
	for name, test := range map[string]struct {
		build func(*probe) (retry.Config, []retry.Option)
		want  string
	}{
		"hosts instrumented before Options": {func(p *probe) (retry.Config, []retry.Option) {
			return retry.Config{}, append([]retry.Option{perHost(p)}, otelretry.Options(p.opts...)...)
		}, "http://a.test Unset outcome=ok attempts=1\n  GET Unset status_code=200\n"},
		"hosts instrumented after Options": {func(p *probe) (retry.Config, []retry.Option) {
			return retry.Config{}, append(otelretry.Options(p.opts...), perHost(p))
		}, "http://a.test Unset outcome=ok attempts=1\n  GET Unset status_code=200\n"},
		"the caller's spans": {func(p *probe) (retry.Config, []retry.Option) {
			own := func(name string) func(context.Context, retry.Event) context.Context {
				return func(ctx context.Context, _ retry.Event) context.Context {
					ctx, _ = p.tracer.Tracer("own").Start(ctx, name)
					return ctx
				}
			}
			end := func(ctx context.Context, _ retry.Event) { oteltrace.SpanFromContext(ctx).End() }
			cfg := retry.Config{OnAttempt: own("own"), OnAttemptDone: end}
			return p.instrument(cfg), otelretry.Options(p.opts...)
		}, "http://a.test Unset outcome=ok attempts=1\n  own Unset\n    GET Unset status_code=200\n"},
		"no Options": {func(p *probe) (retry.Config, []retry.Option) {
			return p.instrument(retry.Config{}), nil
		}, "http://a.test Unset outcome=ok attempts=1\n  attempt Unset attempt=1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProbe(t)
			cfg, opts := test.build(p)
			client, err := retry.NewRetryableClient(&http.Client{Transport: &answers{statuses: []int{200}}}, cfg, opts...)
			require.NoError(t, err)
			resp, err := client.Get(context.Background(), "http://a.test/")
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, test.want, p.tree())
		})
	}
}

func perHost(p *probe) retry.Option {
	return retry.PerHost(func(_ string, cfg *retry.Config) (err error) {
		*cfg, err = otelretry.Instrument(*cfg, p.opts...)
		return err
	})
}

// With otelhttp inside, its spans are the attempts', and know their number: as the base of
// the client, and around it.
func TestOtelHTTPInside(t *testing.T) {
	for _, around := range []bool{false, true} {
		t.Run(fmt.Sprint("around ", around), func(t *testing.T) { testOtelHTTPInside(t, around) })
	}
}

func testOtelHTTPInside(t *testing.T, around bool) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		opts := append(p.opts, otelretry.WithoutAttemptSpans())
		spans := func(base http.RoundTripper) http.RoundTripper {
			return otelhttp.NewTransport(otelretry.ResendCount(base), otelhttp.WithTracerProvider(p.tracer), otelhttp.WithMeterProvider(metric.NewMeterProvider()))
		}
		var base http.RoundTripper = &answers{statuses: []int{503, 200}}
		options := otelretry.Options(opts...)
		if around {
			options = append(options, retry.WrapTransport(spans))
		} else {
			base = spans(base)
		}
		cfg, err := otelretry.Instrument(retry.Config{Name: "x", InitialDelay: time.Second, Jitter: retry.NoJitter}, opts...)
		require.NoError(t, err)
		client, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg, options...)
		require.NoError(t, err)
		resp, err := client.Get(context.Background(), "http://a.test/")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		tree := strings.Split(strings.TrimSpace(p.tree()), "\n")
		require.Len(t, tree, 4, "%q", tree) // the call, its retry, two attempts
		assert.Contains(t, tree[2], "  HTTP GET")
		assert.NotContains(t, tree[2], "resend_count")
		assert.Contains(t, tree[3], "resend_count=1")
	})
}

// Baggage reaches the server with every attempt, also where nothing is sampled:
// then there is no span, and the trace goes along as one that is not sampled.
func TestContextIsPropagated(t *testing.T) {
	member, err := baggage.NewMember("tenant", "7")
	require.NoError(t, err)
	bag, err := baggage.New(member)
	require.NoError(t, err)
	for flags, sampler := range map[string]trace.Sampler{"-00": trace.NeverSample(), "-01": trace.AlwaysSample()} {
		p := newProbe(t)
		opts := append(p.opts, otelretry.WithTracerProvider(trace.NewTracerProvider(trace.WithSampler(sampler), trace.WithSpanProcessor(p.spans))))
		cfg, err := otelretry.Instrument(retry.Config{Name: "x", InitialDelay: time.Nanosecond}, opts...)
		require.NoError(t, err)
		base := &answers{statuses: []int{503, 200}}
		client, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg, otelretry.Options(opts...)...)
		require.NoError(t, err)
		resp, err := client.Get(baggage.ContextWithBaggage(context.Background(), bag), "http://a.test/")
		require.NoError(t, err)
		resp.Body.Close()
		require.Len(t, base.seen, 2)
		for _, header := range base.seen {
			assert.Equal(t, "tenant=7", header.Get("Baggage"))
			assert.True(t, strings.HasSuffix(header.Get("Traceparent"), flags), header)
		}
		if flags == "-00" {
			assert.Empty(t, p.spans.Ended())
		}
	}
}

// A crawler meets more servers than there should be time series.
func TestServersAreBounded(t *testing.T) {
	p := newProbe(t)
	transport, err := otelretry.NewTransport(&answers{statuses: []int{200}}, p.opts...)
	require.NoError(t, err)
	for range 2 {
		for i := range 1100 {
			req, _ := http.NewRequest("GET", fmt.Sprintf("http://host%d.test/", i), nil)
			_, err = transport.RoundTrip(req)
			require.NoError(t, err)
		}
	}
	var all metricdata.ResourceMetrics
	require.NoError(t, p.reader.Collect(context.Background(), &all))
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name == "http.client.request.duration" {
			points := m.Data.(metricdata.Histogram[float64]).DataPoints
			assert.Len(t, points, 1000)
			for _, point := range points {
				if address, _ := point.Attributes.Value("server.address"); address.AsString() == "_OTHER" {
					assert.EqualValues(t, 2*101, point.Count)
				}
			}
		}
	}
}

// Options over a base that has our transport already do not report twice.
func TestTransportIsThereOnce(t *testing.T) {
	p := newProbe(t)
	base, err := otelretry.NewTransport(&answers{statuses: []int{200}}, p.opts...)
	require.NoError(t, err)
	opts := append(otelretry.Options(p.opts...), otelretry.Options(p.opts...)...)
	client, err := retry.NewRetryableClient(&http.Client{Transport: base}, p.instrument(retry.Config{Name: "x"}), opts...)
	require.NoError(t, err)
	resp, err := client.Get(context.Background(), "http://a.test/")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "x Unset outcome=ok attempts=1\n  GET Unset status_code=200\n", p.tree())
	assert.Equal(t, 1.0, p.metrics()["#http.client.request.duration{GET,200}"])
}

// A RoundTripper must not change its request.
func TestTransportLeavesRequestAlone(t *testing.T) {
	p := newProbe(t)
	transport, err := otelretry.NewTransport(&answers{statuses: []int{200}}, p.opts...)
	require.NoError(t, err)
	for _, header := range []http.Header{nil, {"X": {"y"}}} {
		req, _ := http.NewRequest("BREW", "http://a.test/", nil)
		req.Header = header
		_, err = transport.RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, header, req.Header)
	}
	assert.Contains(t, p.tree(), "HTTP Unset method_original=BREW status_code=200\n")
}

// An error of the network comes back as it is, and without secrets in the span.
func TestTransportPassesErrorsOn(t *testing.T) {
	p := newProbe(t)
	transport, err := otelretry.NewTransport(failingTransport{urlError()}, append(p.opts, otelretry.WithPropagator(propagation.TraceContext{}))...)
	require.NoError(t, err)
	req, _ := http.NewRequest("GET", "http://a.test/", nil)
	_, err = transport.RoundTrip(req)
	assert.True(t, errors.Is(err, errFault))
	span := p.spans.Ended()[0]
	assert.NotContains(t, span.Status().Description, "secret")
	assert.Contains(t, span.Status().Description, "fault")
}

type failingTransport struct{ err error }

func (f failingTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// A body that cannot be sent again, and a base transport that panics, are
// reported as what they are; a Config that is wrong makes no call.
func TestRequestsThatEndOtherwise(t *testing.T) {
	p := newProbe(t)
	cfg := p.instrument(retry.Config{Name: "x", InitialDelay: time.Microsecond})
	client, err := retry.NewRetryableClient(&http.Client{Transport: readsBody{&answers{statuses: []int{503}}}}, cfg,
		append(otelretry.Options(p.opts...), retry.ReplayBuffer(0))...)
	require.NoError(t, err)
	_, err = client.Post(context.Background(), "http://a.test/", "text/plain", io.LimitReader(strings.NewReader("body"), 4))
	require.ErrorIs(t, err, retry.ErrBodyNotReplayable)
	assert.Equal(t, 1.0, p.metrics()["retry.calls{x,body_not_replayable}"])

	client, err = retry.NewRetryableClient(&http.Client{Transport: panicking{}}, cfg, otelretry.Options(p.opts...)...)
	require.NoError(t, err)
	assert.PanicsWithValue(t, "x", func() { _, _ = client.Get(context.Background(), "http://a.test/") })
	assert.Equal(t, 1.0, p.metrics()["retry.calls{x,abandoned}"])
	assert.Equal(t, 0.0, p.metrics()["retry.active_calls{x}"])
	p.tree() // every span has ended

	wrong := cfg
	wrong.MaxRetries = -7
	require.ErrorIs(t, retry.Run(context.Background(), wrong, failing(0, nil)), retry.ErrInvalidConfig)
	assert.Equal(t, 2.0, p.metrics()["#retry.call.attempts{x}"])
}

type readsBody struct{ base http.RoundTripper }

func (r readsBody) RoundTrip(req *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, req.Body)
	req.Body.Close()
	return r.base.RoundTrip(req)
}

type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("x") }

package otelretry_test

import (
	"context"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
	"github.com/retryutils/retry/retrytest"
	"github.com/retryutils/retry/statusz"
)

// sets are the attributes of all data points, by metric.
func (p *probe) sets() map[string][]attribute.Set {
	var all metricdata.ResourceMetrics
	require.NoError(p.t, p.reader.Collect(context.Background(), &all))
	sets := make(map[string][]attribute.Set)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			points := reflect.ValueOf(m.Data).FieldByName("DataPoints")
			for i := range points.Len() {
				sets[m.Name] = append(sets[m.Name], points.Index(i).FieldByName("Attributes").Interface().(attribute.Set))
			}
		}
	}
	return sets
}

func value(set attribute.Set, key attribute.Key) string {
	v, _ := set.Value(key)
	return v.AsString()
}

// A dashboard that filters by name and host must not lose half of its panels: each metric
// and each span of a request has both, a renamed host's breaker, gate and budget too. No
// key of a host, which may be a secret, is among them.
func TestEveryMetricAndSpanHasNameAndHost(t *testing.T) {
	for _, renamed := range []bool{false, true} {
		for _, observe := range []string{"options", "client"} {
			synctest.Test(t, func(t *testing.T) {
				p := newProbe(t)
				cfg := p.instrument(retry.Config{Name: "annotate", InitialDelay: time.Second})
				script := retrytest.NewScript(t, retrytest.Status(500, ""), retrytest.TooManyRequests(time.Second), retrytest.Status(200, ""), retrytest.Status(200, ""))
				opts := []retry.Option{retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 9}), retry.PerHost(func(_ string, cfg *retry.Config) (err error) {
					if renamed {
						cfg.Name = "hgnc"
					}
					cfg.Budget, err = retry.NewBudget(0.1, 5)
					return err
				})}
				if renamed {
					opts = append(opts, retry.HostKey(func(req *http.Request) string { return "secret" + req.URL.Host }))
				}
				if observe == "options" {
					opts = append(opts, otelretry.Options(p.opts...)...)
				}
				client, err := retry.NewRetryableClient(&http.Client{Transport: script}, cfg, opts...)
				require.NoError(t, err)
				if observe == "client" {
					require.NoError(t, otelretry.ObserveClient(client, p.opts...))
				}
				for _, url := range []string{"https://rest.test:443/x", "http://other.test:8080/"} {
					resp, err := client.Get(t.Context(), url)
					require.NoError(t, err)
					resp.Body.Close()
				}
				name, sets := "annotate", p.sets()
				if renamed {
					name = "hgnc"
				}
				for _, metric := range []string{"retry.calls", "retry.active_calls", "retry.call.duration", "retry.breaker.state", "retry.gate.pause.remaining", "retry.budget.balance"} {
					var hosts []string
					for _, set := range sets[metric] {
						if host := value(set, "host"); !slices.Contains(hosts, host) {
							hosts = append(hosts, host)
						}
					}
					assert.ElementsMatch(t, []string{"https://rest.test", "http://other.test:8080"}, hosts, metric)
				}
				var failures []string
				for metric, points := range sets {
					for _, set := range points {
						assert.Equal(t, name, value(set, "name"), metric)
						assert.NotEmpty(t, value(set, "host"), metric)
						if metric == "retry.retries" {
							failures = append(failures, value(set, "error.type"))
						}
					}
				}
				assert.ElementsMatch(t, []string{"500", "429"}, failures)
				for _, span := range p.spans.Ended() {
					set := attribute.NewSet(span.Attributes()...)
					if observe == "options" || span.Name() == name {
						assert.Equal(t, name, value(set, "name"))
						assert.NotEmpty(t, value(set, "host"))
					}
				}
				client.CloseIdleConnections()
			})
		}
	}
}

// Each test, and each reload of a plugin, makes a provider of its own. When it has been
// shut down nothing keeps it, though breakers that it observed live on.
func TestProvidersAreFreed(t *testing.T) {
	const providers = 50
	freed := make(chan struct{}, providers)
	for range providers {
		p := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))
		runtime.AddCleanup(p, func(freed chan struct{}) { freed <- struct{}{} }, freed)
		for range 2 {
			cfg, err := otelretry.Instrument(retry.Config{Name: "x"}, otelretry.WithMeterProvider(p))
			require.NoError(t, err)
			require.NoError(t, retry.Run(t.Context(), cfg, failing(0, nil)))
		}
		require.NoError(t, p.Shutdown(t.Context()))
	}
	require.Eventually(t, func() bool { runtime.GC(); return len(freed) >= providers-1 }, 10*time.Second, time.Millisecond)
}

// Hooks that were set after Instrument leave calls under way for ever. Instrumented
// again, such a Config is refused; one with further hooks around is not.
func TestReplacedHooksAreRefused(t *testing.T) {
	p := newProbe(t)
	cfg := p.instrument(retry.Config{Name: "x"})
	_, err := otelretry.Instrument(cfg, p.opts...)
	require.NoError(t, err)
	for hook, replace := range map[string]func(*retry.Config){
		"OnStart":       func(cfg *retry.Config) { cfg.OnStart = nil },
		"OnDone":        func(cfg *retry.Config) { cfg.OnDone = func(context.Context, retry.Event) {} },
		"OnRetry":       func(cfg *retry.Config) { cfg.OnRetry = func(context.Context, retry.Event) {} },
		"OnWait":        func(cfg *retry.Config) { cfg.OnWait = nil },
		"OnAttempt":     func(cfg *retry.Config) { cfg.OnAttempt = nil },
		"OnAttemptDone": func(cfg *retry.Config) { cfg.OnAttemptDone = func(context.Context, retry.Event) {} },
	} {
		replaced := cfg
		replace(&replaced)
		_, err = otelretry.Instrument(replaced, p.opts...)
		assert.ErrorContains(t, err, "instrument last", hook)
	}
}

// Where it is not instrumented again, the first request of a client shows it.
func TestReplacedHooksAreReported(t *testing.T) {
	before := otel.GetErrorHandler()
	t.Cleanup(func() { otel.SetErrorHandler(before) })
	var reported []error
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { reported = append(reported, err) }))
	p := newProbe(t)
	check := func(cfg retry.Config) {
		client, err := retry.NewRetryableClient(nil, cfg, otelretry.Options(p.opts...)...)
		require.NoError(t, err)
		require.NoError(t, client.Check("https://a.test/"))
	}
	cfg := p.instrument(retry.Config{Name: "x"})
	check(cfg)
	check(statusz.New().Watch(cfg))
	assert.Empty(t, reported)
	cfg.OnDone = func(context.Context, retry.Event) {}
	check(cfg)
	require.Len(t, reported, 1)
	assert.ErrorContains(t, reported[0], "instrument last")
}

// A redirect is no new trace, and what is sent again is counted over the whole chain, by
// the conventions: "for any reason, including redirects".
func TestRedirectsAreOneTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		cfg := p.instrument(retry.Config{Name: "x", InitialDelay: time.Second})
		script := retrytest.NewScript(t, retrytest.Status(503, ""), retrytest.Status(302, "").With("Location", "https://b.test/"),
			retrytest.Status(302, "").With("Location", "https://c.test/"), retrytest.Status(500, ""), retrytest.Status(200, ""), retrytest.Status(200, ""))
		client, err := retry.NewRetryableClient(&http.Client{Transport: script}, cfg, otelretry.Options(p.opts...)...)
		require.NoError(t, err)
		for _, url := range []string{"https://a.test/", "https://a.test/again"} {
			resp, err := client.Get(t.Context(), url)
			require.NoError(t, err)
			resp.Body.Close()
		}
		traces := make(map[string]bool)
		var counts []string
		for _, span := range p.spans.Ended() {
			traces[span.SpanContext().TraceID().String()] = true
			if span.Name() == "GET" {
				set := attribute.NewSet(span.Attributes()...)
				n, _ := set.Value("http.request.resend_count")
				counts = append(counts, n.String())
				assert.Equal(t, "1.1", value(set, "network.protocol.version"))
			}
		}
		assert.Len(t, traces, 2, "one for each call of the user")
		assert.Equal(t, " 1 2 3 4 ", strings.Join(counts, " "))
		client.CloseIdleConnections()
	})
}

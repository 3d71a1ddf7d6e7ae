package prometheus_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/examples/prometheus"
	"github.com/retryutils/retry/retrytest"
	"github.com/retryutils/retry/statusz"
)

// A failure has the name that it has on the page of package statusz.
func TestErrorTypesAreThoseOfThePage(t *testing.T) {
	for want, answer := range map[string]retrytest.Answer{
		"connect": retrytest.Refused(), "timeout": retrytest.Status(200, "").After(time.Minute),
		"502": retrytest.Status(502, ""), "error": retrytest.Fail(errors.New("other")),
	} {
		page := statusz.New()
		collector, cfg := prometheus.New(page.Watch(retry.Config{Name: "annotate", InitialDelay: time.Millisecond, MaxRetries: 1, AttemptTimeout: 20 * time.Millisecond}))
		script := retrytest.NewScriptFunc(t, func(retrytest.Request) retrytest.Answer { return answer })
		c, err := retry.NewRetryableClient(&http.Client{Transport: script}, cfg)
		require.NoError(t, err)
		_, err = c.Get(t.Context(), "https://hgnc.test/x")
		require.Error(t, err)
		registry := client.NewPedanticRegistry()
		require.NoError(t, registry.Register(collector))
		w := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		assert.Contains(t, w.Body.String(), `retry_retries_total{error_type="`+want+`",`)
		w = httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		assert.Contains(t, w.Body.String(), "failed with "+want+" (2,")
	}
}

func TestCollector(t *testing.T) {
	budget, err := retry.NewBudget(0, 1)
	require.NoError(t, err)
	var hooks []string
	note := func(_ context.Context, e retry.Event) { hooks = append(hooks, e.Host) }
	collector, cfg := prometheus.New(retry.Config{
		Name: "annotate", InitialDelay: time.Millisecond, MaxRetries: 1, Budget: budget, OnRetry: note, OnWait: note, OnDone: note,
	})
	script := retrytest.NewScript(t, retrytest.Status(500, ""), retrytest.Status(200, ""), retrytest.TooManyRequests(time.Hour), retrytest.Status(503, ""))
	c, err := retry.NewRetryableClient(&http.Client{Transport: script}, cfg, retry.HostBreaker(retry.BreakerConfig{}))
	require.NoError(t, err)
	collector.Watch(c)
	registry := client.NewPedanticRegistry()
	require.NoError(t, registry.Register(collector))

	resp, err := c.Get(t.Context(), "https://hgnc.test:443/x")
	require.NoError(t, err)
	resp.Body.Close()
	_, err = c.Get(t.Context(), "https://ensembl.test/x?key=hidden")
	require.ErrorIs(t, err, retry.ErrRetryAfterTooLong)
	_, err = c.Get(t.Context(), "https://hgnc.test/x")
	require.ErrorIs(t, err, retry.ErrBudgetExhausted)
	assert.Len(t, hooks, 5, "those that were there are called too")

	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	page := w.Body.String()
	require.Equal(t, http.StatusOK, w.Code, page)
	for _, want := range []string{
		`retry_calls_total{host="https://hgnc.test",name="annotate",retry_outcome="ok"} 1`,
		`retry_calls_total{host="https://ensembl.test",name="annotate",retry_outcome="retry_after_too_long"} 1`,
		`retry_wait_duration_seconds_count{host="https://hgnc.test",name="annotate",retry_wait_reason="backoff"} 1`,
		`retry_breaker_state{host="https://ensembl.test",name="annotate",retry_breaker_state="closed"} 1`,
		`retry_breaker_state{host="https://ensembl.test",name="annotate",retry_breaker_state="open"} 0`,
		`retry_gate_pause_remaining_seconds{host="https://ensembl.test",name="annotate"} 35`, // and some digits
		`retry_gate_pause_remaining_seconds{host="https://hgnc.test",name="annotate"} 0`,
		`retry_calls_total{host="https://hgnc.test",name="annotate",retry_outcome="budget"} 1`,
		`retry_call_duration_seconds_count{host="https://hgnc.test",name="annotate",retry_outcome="ok"} 1`,
		`retry_retries_total{error_type="500",host="https://hgnc.test",name="annotate"} 1`,
		`retry_budget_balance{host="https://hgnc.test",name="annotate"} 0`,
		`retry_budget_refusals_total{host="https://hgnc.test",name="annotate"} 1`,
		`retry_breaker_rejections_total{host="https://hgnc.test",name="annotate"} 0`,
	} {
		assert.Contains(t, page, want)
	}
	assert.False(t, strings.Contains(page, "hidden"))
}

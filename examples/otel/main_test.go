package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
)

// A short run says how calls end, prints what it reported, and nothing of a query's values.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), &out, 500*time.Millisecond, "127.0.0.1:0", prometheus.NewRegistry()))
	for _, want := range []string{" calls: ", "retry_calls_total\n", " name=genes outcome=ok", "retry_breaker_state\n", "retry_budget_balance\n"} {
		assert.Contains(t, out.String(), want)
	}
	assert.NotContains(t, out.String(), "secret")
}

// What cannot work is reported in one line, before anything is asked.
func TestBadInput(t *testing.T) {
	for want, c := range map[string]struct {
		code int
		args []string
	}{
		"flag provided but not defined: -frob (-h explains)": {2, []string{"-frob"}},
		`unexpected argument "10m" (-h explains)`:            {2, []string{"10m"}},
		"-for is 0s, want 1s or more (-h explains)":          {2, []string{"-for", "0"}},
		"listen tcp: address nowhere: missing port":          {1, []string{"-listen", "nowhere"}},
	} {
		var out, errs bytes.Buffer
		assert.Equal(t, c.code, start(t.Context(), c.args, &out, &errs), want)
		assert.Empty(t, out.String())
		assert.True(t, strings.HasPrefix(errs.String(), "otel: "+want), errs.String())
		assert.Equal(t, 1, strings.Count(errs.String(), "\n"), errs.String())
	}
	var out, errs bytes.Buffer
	assert.Zero(t, start(t.Context(), []string{"-h"}, &out, &errs))
	assert.Contains(t, out.String(), "Usage: otel")
	assert.Empty(t, errs.String())
}

// Ctrl-C: what there is is shown, and the exit code says so.
func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer interrupt()
	var out, errs bytes.Buffer
	assert.Equal(t, 130, start(ctx, []string{"-for", "1h"}, &out, &errs))
	assert.Contains(t, out.String(), "retry_calls_total\n")
	assert.Equal(t, "otel: interrupted; the figures are those of a part\n", errs.String())
}

// reported makes something of every kind happen, and returns the names of the
// metrics and labels that Prometheus is served.
func reported(t *testing.T) map[string]bool {
	registry := prometheus.NewRegistry()
	require.NoError(t, newTelemetry(registry, new(sample)))
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "b"})
	require.NoError(t, err)
	budget, err := retry.NewBudget(0, 1)
	require.NoError(t, err)
	cfg, err := otelretry.Instrument(retry.Config{
		Name: "x", InitialDelay: time.Microsecond, Breaker: breaker, Budget: budget, Gate: retry.NewGate(nil),
	})
	require.NoError(t, err)
	_ = retry.Run(context.Background(), cfg, func(context.Context) error { return errors.New("fault") })
	cfg.Gate.Pause(time.Minute) // holds back while the metrics are gathered
	breaker.ForceOpen()

	service := newService(time.Hour)
	defer service.Close()
	client, err := newClient(time.Hour)
	require.NoError(t, err)
	_, _ = client.Get(context.Background(), service.URL) // for http.client.request.duration
	names := make(map[string]bool)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		name := family.GetName()
		names[name] = true
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				names[label.GetName()] = true
			}
		}
		if family.GetType() == dto.MetricType_HISTOGRAM {
			names[name+"_bucket"], names[name+"_count"], names[name+"_sum"] = true, true, true
		}
	}
	runtime.KeepAlive(cfg)
	return names
}

var identifier = regexp.MustCompile(`\b(?:retry|http)_[a-z_]+\b`)

// The dashboard and the alerts ask for nothing that is not reported: a renamed
// metric would leave them silent.
func TestDocsUseReportedNames(t *testing.T) {
	names := reported(t)
	used := make(map[string]bool)
	for _, file := range []string{"../../docs/grafana-dashboard.json", "../../docs/alerts.yml", "../../docs/observability.md"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		found := identifier.FindAllString(string(text), -1)
		require.NotEmpty(t, found, file)
		for _, name := range found {
			if strings.HasPrefix(name, "retry_after") { // a value
				continue
			}
			used[name] = true
			assert.True(t, names[name], "%s: %s is not reported", file, name)
		}
	}
	for _, name := range []string{
		"retry_calls_total", "retry_active_calls", "retry_call_duration_seconds_bucket", "retry_call_attempts_sum", "retry_retries_total",
		"retry_wait_duration_seconds_sum", "retry_breaker_state", "retry_breaker_changes_total", "retry_breaker_rejections_total",
		"retry_gate_pauses_total", "retry_gate_pause_duration_seconds_total", "retry_gate_pause_remaining_seconds",
		"retry_gate_pace_per_second",
		"retry_budget_balance", "retry_budget_refusals_total", "http_client_request_duration_seconds_bucket",
	} {
		assert.True(t, used[name], "%s is shown nowhere", name)
		assert.True(t, names[name], "%s is not reported", name)
	}
}

// Grafana takes a dashboard whose panels have an id, a place and queries.
func TestDashboardIsWhole(t *testing.T) {
	text, err := os.ReadFile("../../docs/grafana-dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Title         string
		SchemaVersion int
		Panels        []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr, RefID string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	assert.NotEmpty(t, dashboard.Title)
	assert.NotZero(t, dashboard.SchemaVersion)
	ids := make(map[int]bool)
	for _, p := range dashboard.Panels {
		assert.False(t, ids[p.ID], "panel %d is there twice", p.ID)
		ids[p.ID] = true
		assert.NotEmpty(t, p.Title)
		assert.NotEmpty(t, p.Type, p.Title)
		assert.True(t, p.GridPos.W > 0 && p.GridPos.H > 0 && p.GridPos.X+p.GridPos.W <= 24, p.Title)
		assert.NotEmpty(t, p.Targets, p.Title)
	}
}

// Prometheus takes the rules, and they fire when they should and not before. Its
// promtool also parses each query of the dashboard, written as a rule.
func TestRulesWithPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("promtool is missing")
		}
		t.Skip("promtool is not installed: it comes with Prometheus")
	}
	check := func(args ...string) {
		t.Helper()
		out, err := exec.Command(promtool, args...).CombinedOutput()
		assert.NoError(t, err, "promtool %v\n%s", args, out)
	}
	check("check", "rules", "../../docs/alerts.yml")
	check("test", "rules", "testdata/alerts_test.yml")

	text, err := os.ReadFile("../../docs/grafana-dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$name", "x").Replace(target.Expr)
			rules = append(rules, rule{"panel:" + string(rune('a'+len(rules))), expr})
		}
	}
	require.NotEmpty(t, rules)
	file := t.TempDir() + "/dashboard.yml" // JSON is YAML
	all, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, all, 0o600))
	check("check", "rules", file)
}

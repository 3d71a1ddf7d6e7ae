package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A first attempt fails and the retry succeeds; the page and the metrics show it. When the
// service stops, one request waits for a retry and another for its answer: the wait ends,
// the answer arrives, and both callers get a response before run returns.
func TestService(t *testing.T) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Setenv("HGNC_INITIAL_DELAY", "1ms")
	first, slow, finish := true, make(chan struct{}), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/BRCA1") && first:
			first = false
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasSuffix(r.URL.Path, "/PKD1"):
			w.Header().Set("Retry-After", "10")
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasSuffix(r.URL.Path, "/TTN"):
			close(slow)
			<-finish
			io.WriteString(w, `{"symbol": "TTN"}`)
		default:
			io.WriteString(w, `{"symbol": "BRCA1"}`)
		}
	}))
	defer api.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, listener, api.URL) }()
	get := func(path string) string {
		resp, err := http.Get("http://" + listener.Addr().String() + path)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err.Error()
		}
		return resp.Status + " " + string(body)
	}
	assert.Equal(t, `200 OK {"symbol": "BRCA1"}`, get("/gene/BRCA1"))
	assert.Contains(t, get("/debug/retry"), "hgnc")
	metrics := get("/metrics")
	assert.Regexp(t, `retry_calls_total\{.*name="hgnc".*retry_outcome="ok"\} 1`, metrics)
	assert.Contains(t, metrics, "retry_budget_balance")

	answer, failure := make(chan string, 1), make(chan string, 1)
	go func() { answer <- get("/gene/TTN") }()
	<-slow
	go func() { failure <- get("/gene/PKD1") }()
	waiting := regexp.MustCompile(`"for": *"retry-after"`)
	require.Eventually(t, func() bool {
		return waiting.MatchString(get("/debug/retry?format=json"))
	}, 5*time.Second, time.Millisecond)
	stop()
	assert.Contains(t, <-failure, "502 Bad Gateway")
	close(finish)
	assert.Equal(t, `200 OK {"symbol": "TTN"}`, <-answer)
	assert.NoError(t, <-ended)
}

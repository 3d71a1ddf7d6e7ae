// Command minimal is a service with one dependency, with what production needs: one
// client with a breaker for the API, a retry budget, metrics, a status page, settings
// from the environment (HGNC_MAX_RETRIES=3), and a shutdown that finishes its requests.
//
//	go run ./examples/minimal 127.0.0.1:8080 https://rest.genenames.org
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
	"github.com/retryutils/retry/statusz"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: minimal address api-url")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	if err := run(ctx, listener, os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx is done, and then finishes the requests in flight.
func run(ctx context.Context, listener net.Listener, api string) error {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return err
	}
	otel.SetMeterProvider(sdk.NewMeterProvider(sdk.WithReader(exporter)))
	page := statusz.New()
	client, err := newClient("hgnc", api, ctx.Done(), page)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /debug/retry", page) // for operators: keep these two off the public address
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /gene/{symbol}", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 15*time.Second) // not the ctx of run: requests in flight finish
		defer cancel()
		gene, err := retry.GetJSON[json.RawMessage](ctx, client, api+"/fetch/symbol/"+url.PathEscape(r.PathValue("symbol")))
		if err != nil {
			slog.WarnContext(ctx, "lookup failed", "outcome", retry.Outcome(err), "error", err)
			http.Error(w, "the gene service does not answer", http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(gene)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	shutdown := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		shutdown <- server.Shutdown(grace)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-shutdown
}

// newClient makes the one client for an API: the whole program shares it. A program that
// uses several APIs has one client for all: see examples/shop.
func newClient(name, api string, drain <-chan struct{}, page *statusz.Page) (*retry.RetryableClient, error) {
	budget, err := retry.NewBudget(0.1, 10) // a retry for ten calls, and ten at the start
	if err != nil {
		return nil, err
	}
	cfg, err := retry.Config{Name: name, MaxRetries: 2, Budget: budget, Drain: drain, Logger: slog.Default()}.WithEnv(strings.ToUpper(name))
	if err != nil {
		return nil, err
	}
	client, err := otelretry.NewClient(&http.Client{Timeout: 10 * time.Second}, page.Watch(cfg),
		retry.HostBreaker(retry.BreakerConfig{RecoveryTimeout: 5 * time.Second, RecoveryJitter: 0.2}))
	if err != nil {
		return nil, err
	}
	page.Client(name, client)
	return client, client.Check(api) // a wrong address shows now, not with the first request
}

// Command shop is a service over three APIs of other teams: an order looks up the price
// and the stock, and makes one payment. All three are hosts of one client: each has a
// breaker, a budget, a pause and a timeout of its own.
//
//	go run ./examples/shop 127.0.0.1:8080 http://catalog http://stock http://payments
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
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
	if len(os.Args) != 5 {
		log.Fatal("usage: shop address catalog-url stock-url payments-url")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	if err := run(ctx, listener, os.Args[2], os.Args[3], os.Args[4]); err != nil {
		log.Fatal(err)
	}
}

// orderTime is how long an order may take: all of its calls, with their retries and waits.
const orderTime = 15 * time.Second

// run serves until ctx is done, and then finishes the orders in flight.
func run(ctx context.Context, listener net.Listener, catalog, stock, payments string) error {
	hosts := map[string]struct {
		name    string
		timeout time.Duration // of an attempt
	}{catalog: {"catalog", 2 * time.Second}, stock: {"stock", time.Second}, payments: {"payments", 5 * time.Second}}
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return err
	}
	otel.SetMeterProvider(sdk.NewMeterProvider(sdk.WithReader(exporter)))
	page := statusz.New()
	cfg := retry.Config{MaxRetries: 2, InitialDelay: 100 * time.Millisecond, Drain: ctx.Done(), Logger: slog.Default()}
	client, err := otelretry.NewClient(nil, page.Watch(cfg),
		retry.HostBreaker(retry.BreakerConfig{RecoveryTimeout: 5 * time.Second, RecoveryJitter: 0.2}),
		retry.PerHost(func(host string, cfg *retry.Config) (err error) {
			own, ok := hosts[host]
			if !ok { // Check reports it
				return fmt.Errorf("no settings for %s: a key of them is scheme://host, without a path and the scheme's own port", host)
			}
			cfg.Name, cfg.AttemptTimeout = own.name, own.timeout
			cfg.Budget, err = retry.NewBudget(0.1, 10) // a retry for ten calls, and ten at the start
			return err
		}))
	if err != nil {
		return err
	}
	page.Client("shop", client)
	if err := client.Check(catalog, stock, payments); err != nil { // a wrong setting shows now
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /debug/retry", page) // for operators: keep these two off the public address
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("POST /order/{item}", &shop{client, catalog, stock, payments})

	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), orderTime+time.Second)
		defer cancel()
		ended <- server.Shutdown(grace)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

type shop struct {
	client                   *retry.RetryableClient
	catalog, stock, payments string
}

type item struct{ Price, Left int }

// ServeHTTP makes one order. Its context is the request's, not the one of the signal.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), orderTime)
	defer cancel()
	priced, err := retry.GetJSON[item](ctx, s.client, s.catalog+"/items/"+r.PathValue("item"))
	stocked, err2 := retry.GetJSON[item](ctx, s.client, s.stock+"/stock/"+r.PathValue("item"))
	if err := errors.Join(err, err2); err != nil || stocked.Left == 0 {
		slog.WarnContext(ctx, "no order", "left", stocked.Left, "error", err)
		http.Error(w, "not available, nothing was paid", http.StatusServiceUnavailable)
		return
	}
	// A payment is not repeated where it may have been made.
	receipt, err := retry.PostJSON[json.RawMessage](retry.WithIdempotent(ctx, false), s.client, s.payments+"/payments", priced)
	var status *retry.StatusError
	switch {
	case err == nil:
		w.Write(receipt)
	case errors.As(err, &status) && status.StatusCode == http.StatusPaymentRequired:
		http.Error(w, "the card was declined", http.StatusPaymentRequired)
	case retry.MayHaveActed(err):
		slog.ErrorContext(ctx, "to be checked: paid or not", "outcome", retry.Outcome(err), "error", err)
		w.WriteHeader(http.StatusAccepted)
		w.Write([]byte("we check if it was paid"))
	default:
		slog.WarnContext(ctx, "no payment", "outcome", retry.Outcome(err), "error", err)
		http.Error(w, "nothing was paid, try again later", http.StatusServiceUnavailable)
	}
}

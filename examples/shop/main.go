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
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
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
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return err
	}
	otel.SetMeterProvider(sdk.NewMeterProvider(sdk.WithReader(exporter)))
	page := statusz.New()
	shop, err := newShop(nil, page.Watch(retry.Config{Drain: ctx.Done(), Logger: slog.Default()}), catalog, stock, payments)
	if err != nil {
		return err
	}
	page.Client("shop", shop.client)
	mux := http.NewServeMux()
	mux.Handle("GET /debug/retry", page) // for operators: keep these two off the public address
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("POST /order/{item}", shop)

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

// newShop makes the client of all three APIs, with the settings of each.
func newShop(base *http.Client, cfg retry.Config, catalog, stock, payments string) (*shop, error) {
	hosts := map[string]struct {
		name    string
		timeout time.Duration // of an attempt
	}{catalog: {"catalog", 2 * time.Second}, stock: {"stock", time.Second}, payments: {"payments", 5 * time.Second}}
	cfg.MaxRetries, cfg.InitialDelay = 2, 100*time.Millisecond
	client, err := otelretry.NewClient(base, cfg,
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
		return nil, err
	}
	return &shop{client, catalog, stock, payments}, client.Check(catalog, stock, payments) // a wrong setting shows now
}

// ServeHTTP makes one order. Its context is the request's, not the one of the signal.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), orderTime)
	defer cancel()
	priced, err := retry.GetJSON[item](ctx, s.client, s.catalog+"/items/"+r.PathValue("item"))
	stocked, err2 := retry.GetJSON[item](ctx, s.client, s.stock+"/stock/"+r.PathValue("item"))
	if err := errors.Join(err, err2); err != nil || stocked.Left == 0 {
		slog.WarnContext(ctx, "no order", "left", stocked.Left, "error", err)
		unavailable(w, "not available, nothing was paid", err)
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
	case errors.As(err, &status) && slices.Contains([]int{400, 401, 403, 404, 422}, status.StatusCode):
		// The payment API answers so before it acts. Its key or our request is wrong: an alert.
		slog.ErrorContext(ctx, "payments are refused", "status", status.StatusCode, "error", err)
		http.Error(w, "nothing was paid, the fault is ours", http.StatusInternalServerError)
	case retry.MayHaveActed(err):
		slog.ErrorContext(ctx, "to be checked: paid or not", "outcome", retry.Outcome(err), "error", err)
		w.WriteHeader(http.StatusAccepted)
		w.Write([]byte("we check if it was paid"))
	default:
		slog.WarnContext(ctx, "no payment", "outcome", retry.Outcome(err), "error", err)
		unavailable(w, "nothing was paid, try again later", err)
	}
}

// unavailable answers 503, with a Retry-After where err says when to come again.
func unavailable(w http.ResponseWriter, text string, err error) {
	var open *retry.OpenError
	var paused *retry.PauseError
	var status *retry.StatusError
	var wait time.Duration
	switch {
	case errors.As(err, &open):
		wait = open.RetryAfter
	case errors.As(err, &paused):
		wait = paused.RetryAfter
	case errors.As(err, &status):
		wait = status.RetryAfter
	}
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	http.Error(w, text, http.StatusServiceUnavailable)
}

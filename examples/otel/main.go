// Command otel shows what package otelretry reports: it calls a service of its
// own, on loopback, that misbehaves on purpose for half a minute, and prints the
// metrics and the trace of one call. Meanwhile it serves the metrics as
// Prometheus wants them:
//
//	go run ./examples/otel
//	go run ./examples/otel -for 10m -listen 127.0.0.1:9464
//
// Meanwhile it says how calls end. What there is to learn is in newClient and in
// newTelemetry.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
)

const parallel = 4 // callers at a time

const usage = `Calls a service of its own, on loopback, that misbehaves on purpose, serves the
metrics of that to Prometheus, and prints them in the end.

Usage: otel [-for duration] [-listen address]

`

type options struct {
	duration time.Duration
	listen   string
}

// parse reads the arguments.
func parse(args []string, help io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("otel", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.DurationVar(&o.duration, "for", 30*time.Second, "how long to run, at least 1s")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:0", "`address` to serve the metrics at")
	err = flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(help, usage)
		flags.SetOutput(help)
		flags.PrintDefaults()
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.duration < time.Second:
		err = fmt.Errorf("-for is %v, want 1s or more", o.duration)
	}
	return o, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := start(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// start returns the exit code.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := func(code int, format string, args ...any) int {
		fmt.Fprintf(stderr, "otel: "+format+"\n", args...)
		return code
	}
	opts, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return fail(2, "%v (-h explains)", err)
	}
	if err := run(ctx, stdout, opts.duration, opts.listen, prometheus.NewRegistry()); err != nil {
		return fail(1, "%v", err)
	}
	if ctx.Err() != nil {
		return fail(130, "interrupted; the figures are those of a part")
	}
	return 0
}

func run(ctx context.Context, w io.Writer, duration time.Duration, listen string, registry *prometheus.Registry) error {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var sample sample
	if err := newTelemetry(registry, &sample); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	defer server.Close()
	fmt.Fprintf(w, "Metrics at http://%s/ for %v.\n", listener.Addr(), duration)

	service := newService(duration)
	defer service.Close()
	client, err := newClient(duration)
	if err != nil {
		return err
	}
	var tally tally
	var callers sync.WaitGroup
	for range parallel {
		callers.Go(func() { call(ctx, client, service.URL, &tally) })
	}
	tally.print(ctx, w, duration)
	callers.Wait()
	err = printMetrics(w, registry)
	runtime.KeepAlive(client) // what is observed is not kept by those who observe it
	if err != nil {
		return err
	}
	sample.print(w)
	return nil
}

// newTelemetry sets the providers of the process, as a service does in main.
func newTelemetry(registry *prometheus.Registry, spans trace.SpanProcessor) error {
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return err
	}
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(exporter)))
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	return nil
}

// newClient returns a client that reports all it does. Its times fit a service
// that changes its mood every few seconds.
func newClient(duration time.Duration) (*retry.RetryableClient, error) {
	budget, err := retry.NewBudget(0.3, 5)
	if err != nil {
		return nil, err
	}
	cfg, err := otelretry.Instrument(retry.Config{
		Name:         "genes",
		MaxRetries:   3,
		InitialDelay: duration / 1000,
		MaxDelay:     duration / 100,
		Budget:       budget,
	})
	if err != nil {
		return nil, err
	}
	breakers := retry.HostBreaker(retry.BreakerConfig{RecoveryTimeout: duration / 20})
	return retry.NewRetryableClient(&http.Client{Timeout: time.Second}, cfg, append(otelretry.Options(), breakers)...)
}

// call asks for genes until ctx is done.
func call(ctx context.Context, client *retry.RetryableClient, url string, tally *tally) {
	for ctx.Err() == nil {
		resp, err := client.Get(ctx, url+"/BRCA1?key=secret")
		if err == nil {
			resp.Body.Close()
		}
		tally.add(retry.Outcome(err))
		select { // a pace that a person can watch
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

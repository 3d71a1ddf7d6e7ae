// Command annotate is a service in miniature: it collects what six public APIs
// know of human genes, each with its own limits and its own way to say that it
// had enough, and shows what that took.
//
//	go run ./examples/annotate
//	go run ./examples/annotate -html timeline.html BRCA1 PKD1
//	go run ./examples/annotate -serve 127.0.0.1:8080
//
// By default it asks stand-ins on loopback, one of which is down and one of which
// throttles; -live asks the real ones. What a service of your own would have is
// in apis.go (the table of APIs), service.go (the service) and serve.go (its server, which
// shuts down without losing a request); timeline.go listens to the hooks of package
// retry; service_test.go tests it all without waiting.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"github.com/retryutils/retry/statusz"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// grace is how long lookups under way may take to end after an interrupt.
const grace = 2 * time.Second

// errInterrupted ends a run by signal; its text names what was not done.
type errInterrupted struct{ left []string }

func (e *errInterrupted) Error() string {
	return "interrupted; not done: " + strings.Join(e.left, ", ")
}

// errUsage is a mistake in the arguments or the environment.
type errUsage struct{ error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		err = errUsage{fmt.Errorf("%w (-h explains)", err)}
	} else {
		err = annotateAll(ctx, opts, stdout, stderr)
	}
	var interrupted *errInterrupted
	switch {
	case err == nil:
		return 0
	case errors.As(err, &interrupted):
		fmt.Fprintln(stderr, "annotate:", err)
		return 130
	}
	fmt.Fprintln(stderr, "annotate:", strings.ReplaceAll(err.Error(), "\n", "; "))
	if errors.As(err, new(errUsage)) {
		return 2
	}
	return 1
}

func annotateAll(ctx context.Context, opts options, stdout, stderr io.Writer) (err error) {
	deps, err := configure(opts, stderr)
	if err != nil {
		return errUsage{err}
	}
	if err := writable(opts.html); err != nil {
		return err
	}
	switch {
	case len(opts.at) > 0:
		deps.apis = opts.at
	case opts.live:
		deps.apis = apis()
	default:
		servers, table, err := startStandIns()
		if err != nil {
			return fmt.Errorf("cannot start the stand-ins: %w", err)
		}
		defer servers.stop()
		deps.apis = table
	}
	if opts.serve != "" {
		deps.page, deps.cfg.Drain = statusz.New(), ctx.Done()
	}
	service, err := newAnnotator(deps)
	if err != nil {
		return errUsage{err}
	}
	defer service.client.CloseIdleConnections()
	if opts.serve != "" {
		return serve(ctx, opts, service, deps, stderr)
	}
	stop, err := serveMetrics(opts.listen, service.metrics)
	if err != nil {
		return err
	}
	defer stop()
	bar := progress(opts, len(opts.symbols)*len(deps.apis), stderr)
	lookups := service.annotate(ctx, opts.symbols, grace, func() { bar.Add(1) })
	bar.Finish()
	r := &report{opts.symbols, deps.apis, lookups, service.breakers, deps.timeline, time.Now()}
	return r.deliver(ctx, opts, service.metrics, stdout)
}

// configure lays the environment over the code's own settings.
func configure(opts options, stderr io.Writer) (dependencies, error) {
	cfg, breaker := settings()
	cfg, err := cfg.WithEnv("RETRY")
	if err != nil {
		return dependencies{}, err
	}
	if breaker, err = breaker.WithEnv("RETRY_BREAKER"); err != nil {
		return dependencies{}, err
	}
	d := dependencies{cfg: cfg, breaker: breaker, transport: http.DefaultTransport, timeline: newTimeline()}
	if opts.verbose {
		d.logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	return d, nil
}

// deliver prints the report, and says what is wrong with it.
func (r *report) deliver(ctx context.Context, opts options, metrics prometheus.Gatherer, stdout io.Writer) error {
	left := notDone(r.Lookups)
	if ctx.Err() == nil && r.answered() == 0 {
		return fmt.Errorf("no answer from any service, the first one: %s", brief(r.Lookups[0].err))
	}
	if err := r.text(stdout); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if opts.metrics {
		if err := writeMetrics(stdout, metrics); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	if opts.html != "" {
		if err := r.writePage(opts.html); err != nil {
			return fmt.Errorf("cannot write %s: %w", opts.html, err)
		}
	}
	if ctx.Err() != nil && len(left) > 0 {
		return &errInterrupted{left}
	}
	if missing := r.unanswered(); len(missing) > 0 {
		return fmt.Errorf("no service had an answer for %s", strings.Join(missing, ", "))
	}
	return nil
}

// writable reports before the work whether its result can be written. It leaves
// nothing behind.
func writable(name string) error {
	if name == "" {
		return nil
	}
	_, missing := os.Stat(name)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, errors.Unwrap(err))
	}
	file.Close()
	if missing != nil {
		return os.Remove(name)
	}
	return nil
}

func (r *report) writePage(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return errors.Unwrap(err)
	}
	return errors.Join(r.html(file), file.Close())
}

// serveMetrics serves them until stop is called.
func serveMetrics(address string, metrics prometheus.Gatherer) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot serve metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	return func() { server.Close() }, nil
}

// writeMetrics writes them in the text format of Prometheus.
func writeMetrics(w io.Writer, metrics prometheus.Gatherer) error {
	families, err := metrics.Gather()
	for _, family := range families {
		if _, writing := expfmt.MetricFamilyToText(w, family); writing != nil {
			return writing
		}
	}
	return err
}

// progress shows a bar on a terminal, and nothing anywhere else.
func progress(opts options, total int, stderr io.Writer) *progressbar.ProgressBar {
	if file, ok := stderr.(*os.File); !ok || opts.verbose || !term.IsTerminal(int(file.Fd())) {
		return progressbar.DefaultSilent(int64(total))
	}
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(stderr), progressbar.OptionSetDescription("looking up"),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt ends it at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

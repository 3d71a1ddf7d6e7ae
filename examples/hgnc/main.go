// Command hgnc looks up human genes by their symbols at the HGNC, the committee
// that names them, and shows what each lookup took:
//
//	go run ./examples/hgnc BRCA1 PKD1 TTN
//
// By default it asks a server of its own, on loopback, that misbehaves on
// purpose. What there is to learn about package retry is in this file;
// flags.go, trace.go and report.go are about showing it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/retryutils/retry"
	"golang.org/x/time/rate"
)

// liveService is the real thing. Its users are asked to send no more than ten
// requests per second, and are locked out if they do.
var liveService = "https://rest.genenames.org"

const (
	maxRate     = 9 // requests per second
	maxParallel = 3 // lookups at a time
)

// newClient returns a client that retries, and reports what it does to the trace
// in the context of each request.
func newClient(live bool) (*retry.RetryableClient, error) {
	// The embedded server is near, and forgets its grudges soon.
	cfg := retry.Config{
		InitialDelay:   100 * time.Millisecond,
		MaxDelay:       250 * time.Millisecond,
		AttemptTimeout: time.Second,
	}
	if live {
		cfg = retry.Config{
			MaxRetries:     3,
			InitialDelay:   300 * time.Millisecond,
			MaxDelay:       900 * time.Millisecond,
			AttemptTimeout: 5 * time.Second,
			MaxElapsed:     15 * time.Second,
		}
	}
	// A client gives each host a gate by itself; this one has a listener.
	cfg.Gate = retry.NewGate(nil)
	tr := &tracer{base: http.DefaultTransport, limiter: rate.NewLimiter(maxRate, 1)}
	cfg.Gate.OnPause(tr.onPause)
	cfg.Limiter, cfg.OnRetry, cfg.OnDone = tr, tr.onRetry, tr.onDone
	return retry.NewRetryableClient(&http.Client{Transport: tr}, cfg)
}

// gene is what is wanted of the answer to /fetch/symbol/.
type gene struct {
	Symbol   string `json:"symbol"`
	ID       string `json:"hgnc_id"`
	Name     string `json:"name"`
	Location string `json:"location"`
}

// lookUp returns nil for a gene that the HGNC does not know.
func lookUp(ctx context.Context, client *retry.RetryableClient, service, symbol string) (*gene, error) {
	type answer struct {
		Response struct{ Docs []gene }
	}
	a, err := retry.GetJSON[answer](ctx, client, service+"/fetch/symbol/"+url.PathEscape(symbol))
	if err != nil || len(a.Response.Docs) == 0 {
		return nil, err
	}
	return &a.Response.Docs[0], nil
}

// lookUpAll looks up a few genes at a time. The first failure stops all others:
// what failed in spite of its retries is better left alone.
func lookUpAll(ctx context.Context, client *retry.RetryableClient, service string, symbols []string) (report, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := newReport(service, symbols)
	slots := make(chan struct{}, maxParallel)
	var all sync.WaitGroup
	var first sync.Once
	var failure error
	for _, l := range r.Lookups {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			l.begin()
			l.Gene, l.err = lookUp(withTrace(ctx, &l.trace), client, service, l.Symbol)
			l.end()
			if l.err != nil {
				first.Do(func() { failure = l.failure(service) })
				stop()
			}
		})
	}
	all.Wait()
	r.finish()
	return r, failure
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := func(code int, format string, args ...any) int {
		fmt.Fprintf(stderr, "hgnc: "+format+"\n", args...)
		return code
	}
	opts, err := parse(args, stdout)
	switch {
	case errors.Is(err, errHelp):
		return 0
	case err != nil:
		return fail(2, "%v (-h explains)", err)
	}
	service := liveService
	if !opts.live {
		server, err := startServer(opts.seed)
		if err != nil {
			return fail(1, "cannot start the embedded server: %v", err)
		}
		defer server.stop()
		service = server.url
	}
	client, err := newClient(opts.live)
	if err != nil {
		return fail(1, "%v", err)
	}
	r, err := lookUpAll(ctx, client, service, opts.symbols)
	if err != nil && ctx.Err() != nil {
		if opts.json { // a program may have use for what there is
			if werr := r.write(stdout, opts); werr != nil {
				return fail(1, "writing: %v", werr)
			}
		}
		return fail(130, "interrupted, with %d of %d lookups done", r.done(), len(r.Lookups))
	}
	if werr := r.write(stdout, opts); werr != nil {
		return fail(1, "writing: %v", werr)
	}
	if err != nil {
		return fail(1, "%v", err)
	}
	return 0
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// shutdownTime is how long requests under way may take once a signal has come.
const shutdownTime = 20 * time.Second

// serve answers GET /gene/SYMBOL, and shows on /debug/retry what that takes, until ctx
// is done. ctx is also the Drain of the service's Config: from then on no lookup waits or
// is retried, requests under way are answered with what there is, and no new one is
// accepted.
func serve(ctx context.Context, opts options, s *annotator, deps dependencies, log io.Writer) error {
	s.network.abort = func(error) {} // one request that reaches nothing is not all of them
	deps.page.Client("annotate", s.client)
	var urls []string
	for _, a := range s.apis {
		urls = append(urls, a.url)
	}
	if err := s.client.Check(urls...); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", opts.serve)
	if err != nil {
		return fmt.Errorf("cannot serve: %w", err)
	}
	fmt.Fprintf(log, "annotate: try http://%[1]v/gene/BRCA1, and look at http://%[1]v/debug/retry\n", listener.Addr())
	if deps.logger != nil {
		deps.logger.Info("serving", "address", listener.Addr(), "timeout", opts.timeout)
		for host, cfg := range s.client.Hosts() {
			deps.logger.Info("settings", "host", host, "settings", cfg)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/retry", deps.page)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
	mux.Handle("GET /gene/{symbol}", s.gene(opts.timeout))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
		return fmt.Errorf("requests were cut short: %w", err)
	}
	return nil
}

// gene asks all APIs at once. A request's own context is not that of the signal: what is
// under way finishes.
func (s *annotator) gene(timeout time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		symbol := r.PathValue("symbol")
		if !symbolPattern.MatchString(symbol) {
			http.Error(w, "not a gene symbol", http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		answers := make(map[string]string)
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, a := range s.apis {
			all.Go(func() {
				answer, err := a.ask(ctx, s.client, a.url, symbol)
				if err != nil {
					answer = brief(err)
				}
				mu.Lock()
				defer mu.Unlock()
				answers[a.name] = cmp.Or(answer, "nothing")
			})
		}
		all.Wait()
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answers)
	}
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/retryutils/retry"
	metrics "github.com/retryutils/retry/examples/prometheus"
	"github.com/retryutils/retry/statusz"
	"golang.org/x/time/rate"
)

// settings are what the code wants unless the environment says otherwise:
// RETRY_MAX_RETRIES=2 for all services, RETRY_GNOMAD_MAX_RETRIES=1 for one,
// RETRY_BREAKER_RECOVERY_TIMEOUT=1m for the breakers.
func settings() (retry.Config, retry.BreakerConfig) {
	return retry.Config{
			MaxRetries:     4,
			InitialDelay:   500 * time.Millisecond,
			MaxDelay:       20 * time.Second,
			AttemptTimeout: 15 * time.Second,
			MaxElapsed:     5 * time.Minute,
			Jitter:         retry.FullJitter,
		}, retry.BreakerConfig{
			RecoveryTimeout: 30 * time.Second,
			RecoveryJitter:  0.2,
		}
}

// annotator is the service. Everything it uses comes from outside: the table of
// APIs, the transport, the settings, and what takes notes.
type annotator struct {
	client   *retry.RetryableClient
	apis     []*api
	breakers map[string]*retry.CircuitBreaker
	timeline *timeline
	network  *network
	metrics  *prometheus.Registry
}

type dependencies struct {
	apis      []*api
	transport http.RoundTripper
	cfg       retry.Config
	breaker   retry.BreakerConfig
	logger    *slog.Logger
	timeline  *timeline
	page      *statusz.Page // nil if there is none
}

func newAnnotator(d dependencies) (*annotator, error) {
	s := &annotator{apis: d.apis, breakers: make(map[string]*retry.CircuitBreaker), timeline: d.timeline, network: &network{apis: len(d.apis)}}
	d.cfg.Logger = d.logger
	d.cfg.OnWait, d.cfg.OnRetry, d.cfg.OnDone = d.timeline.onWait, d.timeline.onRetry, d.timeline.onDone
	var collector *metrics.Collector
	collector, d.cfg = metrics.New(d.cfg)
	if d.page != nil {
		d.cfg = d.page.Watch(d.cfg)
	}

	byHost := make(map[string]*api) // as in a request's URL
	hosts := make(map[string]retry.Config)
	for _, a := range d.apis {
		cfg, err := s.configure(a, d)
		if err != nil {
			return nil, err
		}
		hosts[a.name] = cfg
		byHost[hostOf(a.url)] = a
	}
	name := func(req *http.Request) string {
		if a := byHost[req.URL.Host]; a != nil {
			return a.name
		}
		return "" // a redirect to another host
	}
	base := &http.Client{Transport: &watched{d.transport, d.timeline, s.network, name}}
	var err error
	s.client, err = retry.NewRetryableClient(base, d.cfg,
		retry.HostKey(name),
		retry.PerHost(func(name string, cfg *retry.Config) error {
			*cfg = hosts[name]
			return nil
		}),
		retry.CheckResponse(func(resp *http.Response) error {
			if a := byHost[resp.Request.URL.Host]; a != nil && a.check != nil {
				return a.check(resp)
			}
			return nil
		}),
		retry.DecodeLimit(8<<20))
	if err != nil {
		return nil, err
	}
	collector.Watch(s.client)
	s.metrics = prometheus.NewRegistry()
	return s, s.metrics.Register(collector)
}

// configure gives an API its own breaker, gate and limiter.
func (s *annotator) configure(a *api, d dependencies) (retry.Config, error) {
	cfg, err := d.cfg.WithEnv("RETRY_" + a.name)
	if err != nil {
		return cfg, err
	}
	breaker := d.breaker
	breaker.Name, breaker.Clock = a.name, cfg.Clock
	breaker.OnStateChange = d.timeline.onStateChange
	cfg.Breaker, err = retry.NewCircuitBreaker(breaker)
	if err != nil {
		return cfg, err
	}
	s.breakers[a.name] = cfg.Breaker
	cfg.Name = a.name
	cfg.Gate = retry.NewGate(cfg.Clock)
	cfg.Gate.OnPause(func(until time.Time) { d.timeline.onPause(a.name, until) })
	if cfg.Budget, err = retry.BudgetFromEnv("RETRY_"+a.name, 0.1, 10); err != nil {
		return cfg, err
	}
	if a.perSecond != rate.Inf {
		cfg.Limiter = rate.NewLimiter(a.perSecond, 1)
	}
	return cfg, nil
}

// errNotBegun is the outcome of a lookup for which there was no time.
var errNotBegun = errors.New("not begun")

// annotate looks up all genes at all APIs. When ctx is done it begins no lookup
// any more, but gives those under way the grace time to end. When no API can be
// reached it ends at once.
func (s *annotator) annotate(ctx context.Context, symbols []string, grace time.Duration, progress func()) []*lookup {
	work, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	s.network.abort = abort
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			abort(nil)
		case <-work.Done():
		}
	})()

	var lookups []*lookup
	var all sync.WaitGroup
	for _, a := range s.apis {
		places := make(chan struct{}, parallel)
		for _, symbol := range symbols {
			l := &lookup{API: a.name, Symbol: symbol, err: errNotBegun}
			lookups = append(lookups, l)
			all.Go(func() {
				defer func() { l.ended = cmp.Or(l.ended, time.Now()); progress() }()
				select {
				case places <- struct{}{}:
				case <-ctx.Done():
					return
				}
				defer func() { <-places }()
				if ctx.Err() == nil {
					s.lookUp(work, a, l)
				}
			})
		}
	}
	all.Wait()
	return lookups
}

// parallel is how many lookups are under way at one API.
const parallel = 3

func (s *annotator) lookUp(ctx context.Context, a *api, l *lookup) {
	s.timeline.begin(l)
	l.Answer, l.err = a.ask(withLookup(ctx, l), s.client, a.url, l.Symbol)
	s.timeline.end(l)
	if l.err == nil {
		return
	}
	l.Answer = ""
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) { // no API can be reached
		l.err = cause
	}
}

// notDone names what was not finished, because of an interrupt.
func notDone(lookups []*lookup) (names []string) {
	for _, l := range lookups {
		if errors.Is(l.err, errNotBegun) || errors.Is(l.err, context.Canceled) {
			names = append(names, fmt.Sprintf("%s at %s", l.Symbol, l.API))
		}
	}
	return names
}

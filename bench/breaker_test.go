package bench

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	eapache "github.com/eapache/go-resiliency/breaker"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/retryutils/retry"
	"github.com/sony/gobreaker/v2"
	"resty.dev/v3"
)

// All breakers open after 5 failures in a row, or, those with a window, when
// half of at least 20 calls of the last 10 seconds failed, and stay so for a
// minute.
const (
	threshold = 5
	rate      = 0.5
	minCalls  = 20
	window    = 10 * time.Second
	openTime  = time.Minute
)

var (
	closed   = expect{calls: 1}
	rejected = expect{calls: 0, errs: 1}
)

func BenchmarkBreakerClosed(b *testing.B) { measure(b, closed, breakers(byCount)) }
func BenchmarkBreakerOpen(b *testing.B)   { measure(b, rejected, opened(breakers(byCount))) }
func BenchmarkBreakerWindow(b *testing.B) { measure(b, closed, breakers(byRate)) }

func BenchmarkBreakerClosedParallel(b *testing.B) { measureParallel(b, closed, breakers(byCount)) }
func BenchmarkBreakerOpenParallel(b *testing.B) {
	measureParallel(b, rejected, opened(breakers(byCount)))
}
func BenchmarkBreakerWindowParallel(b *testing.B) { measureParallel(b, closed, breakers(byRate)) }

type kind int

const (
	byCount kind = iota
	byRate
)

func breakers(k kind) []candidate {
	all := []candidate{
		{floor, "plain call", func() loop { return plainCall }},
		{floor, "one atomic load", floorLoad},
		{floor, "atomic load and add", floorAdd},
		{floor, "atomic load and clock", floorClock},
		{floor, "mutex before and after", floorMutex},
		{ours, "Do", func() loop { return ourBreakerDo(k) }},
		{ours, "Allow and Done", func() loop { return ourBreakerAllow(k) }},
		{peer, "gobreaker Execute", func() loop { return gobreakerExecute(k) }},
		{peer, "gobreaker two-step", func() loop { return gobreakerTwoStep(k) }},
		{peer, "failsafe-go executor", func() loop { return failsafeBreakerExecutor(k) }},
		{peer, "failsafe-go TryAcquirePermit and Record", func() loop { return failsafeBreakerPermit(k) }},
		{peer, "resty Allow and ApplyPolicies", func() loop { return restyBreaker(k) }},
	}
	if k == byRate {
		return append(all, candidate{floor, "mutex, clock and bucket", floorBucket})
	}
	return append(all, candidate{peer, "eapache Run", eapacheBreaker})
}

// opened makes the candidates fail until they reject.
func opened(group []candidate) []candidate {
	for i, c := range group {
		group[i].build = func() loop {
			run := c.build()
			run(2*threshold, &work{failures: always})
			return run
		}
	}
	// A call that is made whatever comes of it is no floor here.
	return append(group[:0:0], group[1:]...)
}

var errOpen = errors.New("open")

// The floors are breakers reduced to one thing each. They are methods that are
// not inlined, as no breaker is that does more.

// switcher opens after enough failures, and has just enough state for that.
type switcher struct {
	open     atomic.Int32
	failures atomic.Int32
	calls    atomic.Int64
}

func (s *switcher) fail() {
	if s.failures.Add(1) >= threshold {
		s.open.Store(1)
	}
}

//go:noinline
func (s *switcher) load(ctx context.Context, fn func(context.Context) error) error {
	if s.open.Load() != 0 {
		return errOpen
	}
	err := fn(ctx)
	if err != nil {
		s.fail()
	}
	return err
}

//go:noinline
func (s *switcher) loadAndAdd(ctx context.Context, fn func(context.Context) error) error {
	if s.open.Load() != 0 {
		return errOpen
	}
	s.calls.Add(1)
	err := fn(ctx)
	if err != nil {
		s.fail()
	}
	return err
}

// loadAndClock is what an open breaker must do at least to know when to close.
//
//go:noinline
func (s *switcher) loadAndClock(ctx context.Context, fn func(context.Context) error) error {
	open := s.open.Load() != 0
	if time.Since(started) < openTime*1_000_000 && open {
		return errOpen
	}
	err := fn(ctx)
	if err != nil {
		s.fail()
	}
	return err
}

type lockedSwitcher struct {
	mu       sync.Mutex
	open     bool
	failures int
	buckets  [10]struct{ number, calls, failures int64 }
}

//go:noinline
func (s *lockedSwitcher) twice(ctx context.Context, fn func(context.Context) error) error {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	if open {
		return errOpen
	}
	err := fn(ctx)
	s.mu.Lock()
	if err == nil {
		s.failures = 0
	} else if s.failures++; s.failures >= threshold {
		s.open = true
	}
	s.mu.Unlock()
	return err
}

// bucket counts calls in that part of a ring that the time falls into.
//
//go:noinline
func (s *lockedSwitcher) bucket(ctx context.Context, fn func(context.Context) error) error {
	err := fn(ctx)
	s.mu.Lock()
	number := int64(time.Since(started) / (window / 10))
	bucket := &s.buckets[number%10]
	if bucket.number != number {
		bucket.number, bucket.calls, bucket.failures = number, 0, 0
	}
	bucket.calls++
	if err != nil {
		bucket.failures++
	}
	s.mu.Unlock()
	return err
}

func floorLoad() loop {
	s := new(switcher)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			w.note(s.load(background, fn))
		}
	}
}

func floorAdd() loop {
	s := new(switcher)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			w.note(s.loadAndAdd(background, fn))
		}
	}
}

func floorClock() loop {
	s := new(switcher)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			w.note(s.loadAndClock(background, fn))
		}
	}
}

func floorMutex() loop {
	s := new(lockedSwitcher)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			w.note(s.twice(background, fn))
		}
	}
}

func floorBucket() loop {
	s := new(lockedSwitcher)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			w.note(s.bucket(background, fn))
		}
	}
}

func ourBreaker(k kind) *retry.CircuitBreaker {
	cfg := retry.BreakerConfig{FailureThreshold: threshold, RecoveryTimeout: openTime}
	if k == byRate {
		cfg = retry.BreakerConfig{FailureThreshold: -1, FailureRate: rate, Window: window, MinCalls: minCalls, RecoveryTimeout: openTime}
	}
	b, err := retry.NewCircuitBreaker(cfg)
	if err != nil {
		panic(err)
	}
	return b
}

func ourBreakerDo(k kind) loop {
	b := ourBreaker(k)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			w.note(b.Do(background, fn))
		}
	}
}

func ourBreakerAllow(k kind) loop {
	b := ourBreaker(k)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			permit, err := b.Allow()
			if err == nil {
				err = fn(background)
				permit.Done(err)
			}
			w.note(err)
		}
	}
}

func gobreakerSettings(k kind) gobreaker.Settings {
	if k == byRate {
		return gobreaker.Settings{Interval: window, BucketPeriod: window / 10, Timeout: openTime,
			ReadyToTrip: func(c gobreaker.Counts) bool {
				return c.Requests >= minCalls && float64(c.TotalFailures) >= rate*float64(c.Requests)
			}}
	}
	return gobreaker.Settings{Timeout: openTime,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= threshold }}
}

func gobreakerExecute(k kind) loop {
	b := gobreaker.NewCircuitBreaker[int](gobreakerSettings(k))
	return func(n int, w *work) {
		fn := w.value
		for range n {
			_, err := b.Execute(fn)
			w.note(err)
		}
	}
}

func gobreakerTwoStep(k kind) loop {
	b := gobreaker.NewTwoStepCircuitBreaker[int](gobreakerSettings(k))
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			done, err := b.Allow()
			if err == nil {
				err = fn(background)
				done(err)
			}
			w.note(err)
		}
	}
}

func failsafeBreaker(k kind) circuitbreaker.CircuitBreaker[int] {
	b := circuitbreaker.NewBuilder[int]().WithDelay(openTime).WithSuccessThreshold(1)
	if k == byRate {
		return b.WithFailureRateThreshold(rate, minCalls, window).Build()
	}
	return b.WithFailureThreshold(threshold).Build()
}

func failsafeBreakerExecutor(k kind) loop {
	executor := failsafe.With(failsafeBreaker(k))
	return func(n int, w *work) {
		fn := w.value
		for range n {
			_, err := executor.Get(fn)
			w.note(err)
		}
	}
}

func failsafeBreakerPermit(k kind) loop {
	b := failsafeBreaker(k)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			if !b.TryAcquirePermit() {
				w.note(circuitbreaker.ErrOpen)
				continue
			}
			err := fn(background)
			if err != nil {
				b.RecordError(err)
			} else {
				b.RecordSuccess()
			}
			w.note(err)
		}
	}
}

// restyBreaker uses resty's breaker by itself: it judges responses, so it is
// given one of two that were made before.
func restyBreaker(k kind) loop {
	var b resty.CircuitBreaker = resty.NewCircuitBreakerCount(threshold, 1, openTime)
	if k == byRate {
		b = resty.NewCircuitBreakerRatio(rate, minCalls, window) // its window is its open time
	}
	good := &resty.Response{RawResponse: &http.Response{StatusCode: http.StatusOK}}
	bad := &resty.Response{RawResponse: &http.Response{StatusCode: http.StatusServiceUnavailable}}
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			err := b.Allow()
			if err == nil {
				if err = fn(background); err == nil {
					b.ApplyPolicies(good)
				} else {
					b.ApplyPolicies(bad)
				}
			}
			w.note(err)
		}
	}
}

func eapacheBreaker() loop {
	b := eapache.New(threshold, 1, openTime)
	return func(n int, w *work) {
		fn := w.run
		for range n {
			w.note(b.Run(fn))
		}
	}
}

package bench

import (
	"fmt"
	"net/http"
	"runtime"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	eapache "github.com/eapache/go-resiliency/breaker"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/retryutils/retry"
	"github.com/sony/gobreaker/v2"
	"resty.dev/v3"
)

// object is a thing of which a program may hold many.
type object struct {
	kind, name string
	make       func() any
}

func BenchmarkIdleBreaker(b *testing.B) {
	weigh(b, []object{
		{ours, "CircuitBreaker", func() any { return usedBreaker(byCount) }},
		{peer, "gobreaker", func() any { return gobreaker.NewCircuitBreaker[int](gobreakerSettings(byCount)) }},
		{peer, "failsafe-go", func() any { return failsafeBreaker(byCount) }},
		{peer, "resty", func() any { return resty.NewCircuitBreakerCount(threshold, 1, openTime) }},
		{peer, "eapache", func() any { return eapache.New(threshold, 1, openTime) }},
	})
}

func BenchmarkIdleBreakerWindow(b *testing.B) {
	weigh(b, []object{
		{ours, "CircuitBreaker", func() any { return usedBreaker(byRate) }},
		{peer, "gobreaker", func() any { return gobreaker.NewCircuitBreaker[int](gobreakerSettings(byRate)) }},
		{peer, "failsafe-go", func() any { return failsafeBreaker(byRate) }},
		{peer, "resty", func() any { return resty.NewCircuitBreakerRatio(rate, minCalls, window) }},
	})
}

// usedBreaker returns a breaker that has let a call pass, so that what it makes
// for the first one counts.
func usedBreaker(k kind) *retry.CircuitBreaker {
	b := ourBreaker(k)
	if err := b.Do(background, new(work).runCtx); err != nil {
		panic(err)
	}
	return b
}

func BenchmarkIdleGate(b *testing.B) {
	weigh(b, []object{{ours, "Gate", func() any {
		g := retry.NewGate(nil)
		if err := g.Wait(background); err != nil {
			panic(err)
		}
		return g
	}}})
}

func BenchmarkIdleBudget(b *testing.B) {
	weigh(b, []object{
		{ours, "Budget", func() any {
			budget, err := retry.NewBudget(0.1, 3)
			if err != nil {
				panic(err)
			}
			return budget
		}},
		{peer, "failsafe-go", func() any { return budget.NewBuilder().Build() }},
		{peer, "AWS SDK token bucket", func() any { return ratelimit.NewTokenRateLimit(500) }},
	})
}

// BenchmarkIdleHost weighs what a client remembers of each host that it has
// sent a request to: its settings, its gate, and its breaker if it has one.
func BenchmarkIdleHost(b *testing.B) {
	weighHosts(b, "host")
	weighHosts(b, "host with its own breaker",
		retry.PerHost(func(_ string, cfg *retry.Config) error { cfg.Breaker = ourBreaker(byCount); return nil }))
}

func weighHosts(b *testing.B, name string, options ...retry.Option) {
	const hosts = 1000 // as many as are remembered
	var client *retry.RetryableClient
	next := 0
	begin := func() {
		c, err := retry.NewRetryableClient(&http.Client{Transport: &memory{exchange: get}}, retry.Config{}, options...)
		if err != nil {
			panic(err)
		}
		client = c
	}
	visit := func() any {
		next = (next + 1) % hosts
		resp, err := client.Get(background, fmt.Sprintf("http://host-%d.example/", next))
		if err != nil {
			panic(err)
		}
		resp.Body.Close()
		return nil
	}
	weighSome(b, object{ours, name, visit}, hosts, begin)
	runtime.KeepAlive(client)
}

func weigh(b *testing.B, group []object) {
	for _, o := range group {
		weighSome(b, o, 10_000, func() {})
	}
}

// weighSome reports how many bytes of heap each of n objects holds.
func weighSome(b *testing.B, o object, n int, begin func()) {
	b.Run(o.kind+"/"+o.name, func(b *testing.B) {
		total := 0.0
		for range b.N {
			all := make([]any, n)
			begin()
			before := heap()
			for i := range all {
				all[i] = o.make()
			}
			total += float64(heap()-before) / float64(n)
			runtime.KeepAlive(all)
		}
		b.ReportMetric(total/float64(b.N), "B/instance")
	})
}

// heap returns the bytes in use. The second collection empties the pools.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

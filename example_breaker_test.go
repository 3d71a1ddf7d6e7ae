package retry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
)

func ExampleCircuitBreaker() {
	clock := clockwork.NewFakeClock()
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{
		Name:             "payments",
		FailureThreshold: 3,
		RecoveryTimeout:  30 * time.Second,
		Clock:            clock,
		OnStateChange:    func(c retry.StateChange) { fmt.Println(c.From, "->", c.To) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	down := func(context.Context) error { return errors.New("down") }
	up := func(context.Context) error { return nil }

	for range 3 {
		breaker.Do(ctx, down)
	}
	fmt.Println(breaker.Do(ctx, up))
	clock.Advance(30 * time.Second)
	fmt.Println(breaker.Do(ctx, up))
	// Output:
	// closed -> open
	// circuit breaker payments open for another 30s (last failure: down)
	// open -> half-open
	// half-open -> closed
	// <nil>
}

// Where a function does not fit, a permit does.
func ExampleCircuitBreaker_Allow() {
	var breaker retry.CircuitBreaker // with the default settings

	permit, err := breaker.Allow()
	if err != nil {
		fmt.Println(err)
		return
	}
	// … the call …
	permit.Done(nil)
	fmt.Println(breaker.Snapshot().Successes)
	// Output: 1
}

// A rejection says when the breaker will let calls through again, which is what
// a service's own Retry-After should say.
func ExampleOpenError() {
	breaker, _ := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "search", Clock: clockwork.NewFakeClock()})
	breaker.Trip(10 * time.Second)

	err := breaker.Do(context.Background(), func(context.Context) error { return nil })
	var open *retry.OpenError
	if errors.As(err, &open) {
		fmt.Println("Retry-After:", open.RetryAfter.Seconds())
	}
	// Output: Retry-After: 10
}

// Half of the calls of ten seconds, and not fewer than four of them.
func ExampleBreakerConfig() {
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureRate: 0.5, MinCalls: 4, Window: 10 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, err := range []error{nil, errors.New("down"), nil, errors.New("down")} {
		breaker.Do(context.Background(), func(context.Context) error { return err })
	}
	fmt.Println(breaker.State())
	// Output: open
}

func ExampleBreakerConfig_Validate() {
	fmt.Println(retry.BreakerConfig{FailureRate: 2}.Validate() != nil)
	// Output: true
}

func ExampleBreakerConfig_WithEnv() {
	os.Setenv("STRING_BREAKER_RECOVERY_TIMEOUT", "5s")
	cfg, err := retry.BreakerConfig{Name: "string"}.WithEnv("STRING_BREAKER")
	fmt.Println(cfg.Name, cfg.RecoveryTimeout, err)
	// Output: string 5s <nil>
}

// One consistent copy of what it knows.
func ExampleCircuitBreaker_Snapshot() {
	breaker, _ := retry.NewCircuitBreaker(retry.BreakerConfig{Clock: clockwork.NewFakeClock()})
	breaker.Do(context.Background(), func(context.Context) error { return nil })
	breaker.Do(context.Background(), func(context.Context) error { return errors.New("down") })

	s := breaker.Snapshot()
	fmt.Println(s.State, s.Requests, s.Successes, s.Failures, s.LastFailure)
	// Output: closed 2 1 1 down
}

// By hand: for an operator, or because another process says so.
func ExampleCircuitBreaker_Trip() {
	clock := clockwork.NewFakeClock()
	breaker, _ := retry.NewCircuitBreaker(retry.BreakerConfig{Clock: clock})
	breaker.Trip(time.Minute)
	fmt.Println(breaker.State())
	clock.Advance(time.Minute)
	fmt.Println(breaker.State())
	breaker.ForceOpen()
	clock.Advance(24 * time.Hour)
	fmt.Println(breaker.State())
	breaker.Reset()
	fmt.Println(breaker.State())
	// Output:
	// open
	// half-open
	// open
	// closed
}

// Listeners may call the breaker: they run outside of its lock.
func ExampleStateChange() {
	breaker, _ := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "search", FailureThreshold: 1, Clock: clockwork.NewFakeClock()})
	breaker.OnStateChange(func(c retry.StateChange) {
		fmt.Println(c.Name, c.From, "->", c.To, "because of", c.Err, "now", breaker.State())
	})
	breaker.Do(context.Background(), func(context.Context) error { return errors.New("down") })
	// Output: search closed -> open because of down now open
}

func ExampleState() {
	text, _ := retry.StateHalfOpen.MarshalText()
	fmt.Println(retry.StateClosed, string(text))
	// Output: closed half-open
}

// What a breaker counts: the server's failures, not the caller's.
func ExampleIsFailure() {
	fmt.Println(retry.IsFailure(&retry.StatusError{StatusCode: 503}))
	fmt.Println(retry.IsFailure(&retry.StatusError{StatusCode: 404}))
	fmt.Println(retry.IsFailure(context.Canceled))
	// Output:
	// true
	// false
	// false
}

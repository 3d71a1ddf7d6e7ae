package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

func ExampleBackoff() {
	for _, curve := range []retry.Backoff{
		retry.ExponentialBackoff(time.Second, 3),
		retry.ConstantBackoff(time.Second),
		retry.LinearBackoff(time.Second),
		retry.FibonacciBackoff(time.Second),
		func(n int, previous time.Duration, random func() float64) time.Duration {
			return time.Duration(n*n) * time.Second
		},
	} {
		cfg := retry.Config{Backoff: curve, Jitter: retry.NoJitter}
		fmt.Println(cfg.Delay(1), cfg.Delay(2), cfg.Delay(3), cfg.Delay(4), cfg.Delay(5))
	}
	// Output:
	// 1s 3s 9s 27s 1m0s
	// 1s 1s 1s 1s 1s
	// 1s 2s 3s 4s 5s
	// 1s 1s 2s 3s 5s
	// 1s 4s 9s 16s 25s
}

// A draw between the base and three times the wait before.
func ExampleDecorrelatedBackoff() {
	cfg := retry.Config{Backoff: retry.DecorrelatedBackoff(time.Second), Jitter: retry.NoJitter, MaxDelay: 10 * time.Second}
	d := cfg.Delay(3)
	fmt.Println(d >= time.Second, d <= 10*time.Second)
	// Output: true true
}

func ExampleJitter() {
	half := func() float64 { return 0.5 } // the draw
	for _, jitter := range []retry.Jitter{{}, retry.FullJitter, retry.EqualJitter, retry.NoJitter} {
		fmt.Println(retry.Config{Jitter: jitter, InitialDelay: 10 * time.Second, Rand: half}.Delay(1))
	}
	// Output:
	// 10s
	// 5s
	// 7.5s
	// 10s
}

// Anything that waits for a turn: a *rate.Limiter, or this.
type turns chan struct{}

func (t turns) Wait(ctx context.Context) error {
	select {
	case <-t:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func ExampleLimiter() {
	limiter := make(turns, 2)
	limiter <- struct{}{}
	limiter <- struct{}{}
	cfg := quick
	cfg.Limiter = limiter
	attempts := 0
	err := retry.Run(context.Background(), cfg, func(context.Context) error {
		if attempts++; attempts == 1 {
			return errors.New("down")
		}
		return nil
	})
	fmt.Println(err, "turns left:", len(limiter))
	// Output: <nil> turns left: 0
}

// All who share a gate wait together, whoever was told to.
func ExampleGate() {
	clock := retrytest.NewClock(exampleT{})
	gate := retry.NewGate(clock)
	gate.OnPause(func(until time.Time) { fmt.Println("paused for", until.Sub(clock.Now())) })

	gate.Pause(10 * time.Second)
	_, paused := gate.PausedUntil()
	fmt.Println(paused)
	start := clock.Now()
	fmt.Println(gate.Wait(context.Background()), "after", clock.Since(start))
	// Output:
	// paused for 10s
	// true
	// <nil> after 10s
}

// A call that cannot wait for the end of a pause fails at once, and says what the
// pause is for.
func ExamplePauseError() {
	clock := clockwork.NewFakeClock()
	gate := retry.NewGate(clock)
	gate.Pause(10 * time.Minute) // more than MaxRetryAfter

	cfg := retry.Config{Name: "gnomad", Gate: gate, Clock: clock}
	err := retry.Run(context.Background(), cfg, func(context.Context) error { return nil })
	var pause *retry.PauseError
	if errors.As(err, &pause) {
		fmt.Println(pause.Name, "pauses for another", pause.RetryAfter)
	}
	fmt.Println(errors.Is(err, retry.ErrRetryAfterTooLong), retry.Outcome(err))
	// Output:
	// gnomad pauses for another 10m0s
	// true paused
}

// A tenth of a retry for each call, and no more than two saved up: however many
// calls fail, the load stays near 1.1 times their number.
func ExampleBudget() {
	budget, err := retry.NewBudget(0.1, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := quick
	cfg.Budget = budget

	attempts := 0
	for range 100 {
		retry.Run(context.Background(), cfg, func(context.Context) error {
			attempts++
			return errors.New("down")
		})
	}
	fmt.Println(attempts, "attempts for 100 calls")
	// Output: 111 attempts for 100 calls
}

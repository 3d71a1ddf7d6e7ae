// Package usage uses the library, wrongly and well.
package usage

import (
	"context"
	"net/http"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/retryutils/retry"
)

var shared, _ = retry.NewBudget(0.1, 10)

func f(ctx context.Context) error { return ctx.Err() }

func unchecked() (*retry.CircuitBreaker, error) {
	b, _ := retry.NewCircuitBreaker(retry.BreakerConfig{}) // want `the error of NewCircuitBreaker is discarded.*\(unchecked\)`
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	return b, err
}

func perCall(ctx context.Context) error {
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	if err != nil {
		return err
	}
	cfg := retry.Config{Breaker: b, Budget: shared} // want `this breaker is made anew for each call.*\(per-call\)`
	return retry.Run(ctx, cfg, f)
}

func gatePerCall(ctx context.Context) error {
	return retry.Run(ctx, retry.Config{Gate: retry.NewGate(nil)}, f) // want `this gate.*\(per-call\)`
}

func shareds(ctx context.Context) (func() error, error) {
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	if err != nil {
		return nil, err
	}
	return func() error { return retry.Run(ctx, retry.Config{Breaker: b}, f) }, nil
}

func many(ctx context.Context) error {
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	for err == nil {
		err = retry.Run(ctx, retry.Config{Breaker: b}, f)
	}
	return err
}

func nested(ctx context.Context, c *retry.RetryableClient, cfg retry.Config) error {
	return retry.Run(ctx, cfg, func(ctx context.Context) error {
		if _, err := retry.GetJSON[int](ctx, c, "https://example.org"); err != nil { // want `GetJSON retries within a Run.*\(nested\)`
			return err
		}
		if _, err := c.Get(ctx, "https://example.org"); err != nil { // want `Get retries within a Run.*\(nested\)`
			return err
		}
		return retry.Run(ctx, cfg, f) // want `Run retries within a Run.*\(nested\)`
	})
}

func oneAfterTheOther(ctx context.Context, cfg retry.Config) error {
	if err := retry.Run(ctx, cfg, f); err != nil {
		return err
	}
	return retry.Run(ctx, cfg, f)
}

func clients() {
	bare := &http.Client{}
	limited := &http.Client{}
	limited.Timeout = time.Second
	for range 2 {
		use(retry.NewRetryableClient(http.DefaultClient, retry.Config{})) // want `no time limit.*\(no-timeout\)`
		use(retry.NewRetryableClient(bare, retry.Config{MaxRetries: 2}))  // want `\(no-timeout\)`
		use(retry.NewRetryableClient(&http.Client{}, retry.Config{}))     // want `\(no-timeout\)`
		use(retry.NewRetryableClient(limited, retry.Config{}))
		use(retry.NewRetryableClient(nil, retry.Config{}))
		use(retry.NewRetryableClient(bare, retry.Config{AttemptTimeout: time.Second}))
		use(retry.NewRetryableClient(&http.Client{Timeout: time.Second}, retry.Config{}))
	}
}

func use(*retry.RetryableClient, error) {}

func clocks(clock *clockwork.FakeClock) []retry.Config {
	real, err1 := retry.NewCircuitBreaker(retry.BreakerConfig{})
	fake, err2 := retry.NewCircuitBreaker(retry.BreakerConfig{Clock: clock})
	if err1 != nil || err2 != nil {
		return nil
	}
	return []retry.Config{
		{Clock: clock, Breaker: real}, // want `its clock is not the one of this Config \(clock\)`
		{Clock: clock, Breaker: fake},
		{Clock: clock, Gate: retry.NewGate(nil)}, // want `\(clock\)`
		{Clock: clock, Gate: retry.NewGate(clock)},
		{Breaker: real},
	}
}

// Package usage uses the library, wrongly and well.
package usage

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
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
	cfg := retry.Config{Breaker: b, Budget: shared} // want `this breaker is made for each call.*\(per-call\)`
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
		if _, err := retry.GetJSON[int](ctx, c, "https://example.org"); err != nil { // want `GetJSON retries by itself, and the Run around it.*\(nested\)`
			return err
		}
		if _, err := c.Get(ctx, "https://example.org"); err != nil { // want `Get retries by itself, and the Run around it.*\(nested\)`
			return err
		}
		return retry.Run(ctx, cfg, f) // want `Run retries by itself, and the Run around it.*\(nested\)`
	})
}

func nestedAlone(ctx context.Context, c *retry.RetryableClient, cfg retry.Config) (int, error) {
	return retry.Do(ctx, cfg, func(ctx context.Context) (int, error) {
		return retry.GetJSON[int](ctx, c, "https://example.org") // want `GetJSON retries by itself.*: remove the Do \(nested\)`
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

type service struct{ client *retry.RetryableClient }

func (s *service) clientPerCall(ctx context.Context, url string) (int, error) {
	client, err := retry.NewRetryableClient(nil, retry.Config{}) // want `this client is made for each call.*\(per-call\)`
	if err != nil {
		return 0, err
	}
	return retry.GetJSON[int](ctx, client, url)
}

func handler(w http.ResponseWriter, r *http.Request) {
	client, err := retry.NewRetryableClient(nil, retry.Config{}) // want `\(per-call\)`
	if err != nil {
		return
	}
	resp, err := client.Get(r.Context(), "https://example.org")
	if err == nil {
		resp.Body.Close()
	}
}

func NewService() (*service, error) {
	client, err := retry.NewRetryableClient(nil, retry.Config{})
	if err != nil {
		return nil, err
	}
	if _, err := client.Get(context.Background(), "https://example.org"); err != nil {
		return nil, err
	}
	return &service{client}, nil
}

func (s *service) forManyCalls(ctx context.Context, urls []string) error {
	client, err := retry.NewRetryableClient(nil, retry.Config{})
	if err != nil {
		return err
	}
	for _, url := range urls {
		if _, err := retry.GetJSON[int](ctx, client, url); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) breakerPerCall(ctx context.Context) error {
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	if err != nil {
		return err
	}
	return b.Do(ctx, f) // want `this breaker is made for each call.*\(per-call\)`
}

func outer(ctx context.Context, cfg retry.Config, b *retry.CircuitBreaker) error {
	err := retry.Run(ctx, cfg, func(context.Context) error {
		return f(ctx) // want `not the context of the attempt.*reach f;.*\(outer-context\)`
	})
	err = errors.Join(err, b.Do(ctx, func(attempt context.Context) error {
		slog.InfoContext(ctx, "calling")
		return f(ctx) // want `\(outer-context\)`
	}))
	err = errors.Join(err, retry.Run(ctx, cfg, func(attempt context.Context) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return f(context.WithoutCancel(ctx))
	}))
	other := context.Background()
	return errors.Join(err, retry.Run(ctx, cfg, func(ctx context.Context) error {
		return errors.Join(f(ctx), f(other))
	}))
}

var errBusy = errors.New("busy")

var configs = []retry.Config{
	{RetryIf: func(error) bool { return true }},                                       // want `\(retry-if\)`
	{RetryIf: func(err error) bool { return !errors.Is(err, errBusy) }},               // want `\(retry-if\)`
	{RetryIf: func(err error) bool { return err != nil && !errors.Is(err, errBusy) }}, // want `\(retry-if\)`
	{RetryIf: func(err error) bool { return errors.Is(err, errBusy) }},
	{RetryIf: func(err error) bool { return retry.Retryable(err) && !errors.Is(err, errBusy) }},
	{RetryIf: retry.Retryable},
}

func bodies(c *retry.RetryableClient, req *http.Request) (err error) {
	resp, err := retry.Fetch(c, req, func(resp *http.Response) (*http.Response, error) {
		return resp, nil // want `\(used-body\)`
	})
	body, err := retry.Fetch(c, req, func(resp *http.Response) (io.Reader, error) {
		return bufio.NewReader(resp.Body), nil // want `\(used-body\)`
	})
	var kept *http.Response
	_, err = retry.Fetch(c, req, func(resp *http.Response) (int, error) {
		kept = resp // want `\(used-body\)`
		return resp.StatusCode, nil
	})
	all, err := retry.Fetch(c, req, func(resp *http.Response) ([]byte, error) {
		return io.ReadAll(resp.Body)
	})
	_, _, _, _ = resp, body, kept, all
	return err
}

func loopAroundRetry(ctx context.Context, cfg retry.Config) error {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around retry.Run, which retries by itself: remove the loop` `no-wait`
		if err := retry.Run(ctx, cfg, f); err == nil { // want `retry-all`
			return nil
		}
	}
	return errBusy // want `last-error`
}

package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

type limiterFunc func(context.Context) error

func (f limiterFunc) Wait(ctx context.Context) error { return f(ctx) }

// full is a limiter without a free place: it waits until its context is done.
var full = limiterFunc(func(ctx context.Context) error {
	<-ctx.Done()
	return errors.New("no place")
})

// eager is like a *rate.Limiter: it refuses at once where the deadline is too near.
func eager(wait time.Duration) limiterFunc {
	return func(ctx context.Context) error {
		deadline, ok := ctx.Deadline()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case ok && time.Until(deadline) < wait:
			return errors.New("would exceed the deadline")
		case wait == 0:
			return nil
		}
		select {
		case <-time.After(wait):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func openBreaker(t testing.TB, open func(*retry.CircuitBreaker)) *retry.CircuitBreaker {
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Hour})
	require.NoError(t, err)
	open(b)
	return b
}

// occupied is half-open, and its only probe does not come back.
func occupied(t testing.TB) *retry.CircuitBreaker {
	b := openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Nanosecond) })
	time.Sleep(time.Nanosecond)
	permit(t, b)
	return b
}

// A service that shuts down cannot wait for a backoff of minutes: whatever a call waits
// for, the wait ends when Drain is closed, or does not begin where it is closed already.
func TestDrainEndsEveryWait(t *testing.T) {
	first := func(set func(*testing.T, *retry.Config)) func(*testing.T, *retry.Config) []error {
		return func(t *testing.T, cfg *retry.Config) []error { set(t, cfg); return nil }
	}
	for name, prepare := range map[string]func(*testing.T, *retry.Config) []error{
		"backoff": func(_ *testing.T, cfg *retry.Config) []error {
			cfg.InitialDelay = time.Minute
			return []error{errDown}
		},
		"Retry-After": func(*testing.T, *retry.Config) []error { return []error{askFor(time.Minute)} },
		"own pause": func(_ *testing.T, cfg *retry.Config) []error {
			cfg.Gate = retry.NewGate(nil)
			return []error{askFor(time.Minute)}
		},
		"pause":         first(func(_ *testing.T, cfg *retry.Config) { cfg.Gate = pausedFor(time.Minute) }),
		"full limiter":  first(func(_ *testing.T, cfg *retry.Config) { cfg.Limiter = full }),
		"eager limiter": first(func(_ *testing.T, cfg *retry.Config) { cfg.Limiter = eager(time.Minute) }),
		"limiter and MaxElapsed": first(func(_ *testing.T, cfg *retry.Config) {
			cfg.Limiter, cfg.MaxElapsed = eager(time.Minute), time.Hour
		}),
		"open breaker": first(func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker, cfg.WaitWhenOpen = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Minute) }), true
		}),
		"forced breaker": first(func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker, cfg.WaitWhenOpen = openBreaker(t, (*retry.CircuitBreaker).ForceOpen), true
		}),
		"probe of another call": first(func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker, cfg.WaitWhenOpen = occupied(t), true
		}),
		"pause behind an open breaker": first(func(t *testing.T, cfg *retry.Config) {
			cfg.Gate = pausedFor(time.Minute)
			cfg.Breaker, cfg.WaitWhenOpen = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Second) }), true
		}),
	} {
		for when, delay := range map[string]time.Duration{"during": time.Second, "before": 0} {
			bubble(t, name+" "+when, func(t *testing.T) {
				drain, log := make(chan struct{}), new(bytes.Buffer)
				cfg := retry.Config{Jitter: retry.NoJitter, Drain: drain, Budget: budget(t, 0, 3)}
				cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
				var done []retry.Event
				cfg.OnDone = func(_ context.Context, e retry.Event) { done = append(done, e) }
				failures := prepare(t, &cfg)
				fn, calls := script(append(failures, nil)...)
				if delay == 0 {
					close(drain)
				} else {
					time.AfterFunc(delay, func() { close(drain) })
				}
				start := time.Now()
				e := gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrDraining)
				assert.LessOrEqual(t, time.Since(start), delay+100*time.Millisecond)
				assert.Equal(t, len(failures), *calls)
				assert.Equal(t, len(failures), e.Attempts)
				assert.Equal(t, retry.ErrDraining, e.Reason)
				for _, failure := range failures {
					assert.ErrorIs(t, e, failure)
				}
				assert.Equal(t, "draining", retry.Outcome(e))
				assert.False(t, retry.Retryable(e), "an outer Do does not retry it")
				assert.False(t, retry.Retryable(fmt.Errorf("stream: %w", retry.ErrDraining)))
				assert.False(t, e.Timeout())
				assert.Equal(t, 3.0, cfg.Budget.Balance(), "what was withdrawn for a retry comes back")
				require.Len(t, done, 1)
				assert.Equal(t, e, done[0].Err)
				lines := strings.Split(strings.TrimSpace(log.String()), "\n")
				assert.Contains(t, lines[len(lines)-1], `level=INFO msg="giving up"`, "a shutdown is no error")
				assert.Contains(t, lines[len(lines)-1], "reason=draining")
				if cfg.Gate != nil {
					assert.NotPanics(t, func() { cfg.Gate.Pause(time.Second) })
				}
				if cfg.Breaker != nil {
					assert.Zero(t, cfg.Breaker.Waiting(), "nothing is left in line")
				}
			})
		}
	}
}

// A handler that is finishing may need one more call, and the attempt in flight is not
// cut short: its result counts, even where the limits are asked on its way.
func TestDrainLetsFirstAttemptsPass(t *testing.T) {
	for name, set := range map[string]func(*testing.T, *retry.Config){
		"plain":      func(*testing.T, *retry.Config) {},
		"gate":       func(_ *testing.T, cfg *retry.Config) { cfg.Gate = retry.NewGate(nil) },
		"past pause": func(_ *testing.T, cfg *retry.Config) { cfg.Gate = pausedFor(time.Second); time.Sleep(time.Second) },
		"limiter":    func(_ *testing.T, cfg *retry.Config) { cfg.Limiter = eager(0) },
		"limiter, MaxElapsed and deadline": func(_ *testing.T, cfg *retry.Config) {
			cfg.Limiter, cfg.MaxElapsed = eager(0), time.Hour
		},
		"breaker": func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker, cfg.WaitWhenOpen = openBreaker(t, func(*retry.CircuitBreaker) {}), true
		},
		"probe": func(t *testing.T, cfg *retry.Config) {
			cfg.Breaker = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Second) })
			time.Sleep(time.Second)
		},
		"OnStart": func(_ *testing.T, cfg *retry.Config) {
			cfg.OnStart = func(ctx context.Context, _ retry.Event) context.Context { return ctx }
		},
	} {
		bubble(t, name, func(t *testing.T) {
			drain := make(chan struct{})
			close(drain)
			cfg := retry.Config{Drain: drain}
			set(t, &cfg)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			require.NoError(t, retry.Run(ctx, cfg, none))
			time.Sleep(time.Second)
			fn, calls := script(errDown)
			gaveUp(t, retry.Run(ctx, cfg, fn), retry.ErrDraining)
			assert.Equal(t, 1, *calls, "no retry begins")
		})
	}
	bubble(t, "in flight", func(t *testing.T) {
		drain := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(drain) })
		value, err := retry.Do(t.Context(), retry.Config{Drain: drain, AttemptTimeout: time.Minute}, func(ctx context.Context) (int, error) {
			time.Sleep(2 * time.Second)
			return 7, ctx.Err()
		})
		require.NoError(t, err)
		assert.Equal(t, 7, value)
	})
}

// What would have ended the call anyway keeps its name.
func TestDrainHidesNoOtherEnd(t *testing.T) { synctest.Test(t, testDrainHidesNoOtherEnd) }

func testDrainHidesNoOtherEnd(t *testing.T) {
	drain := make(chan struct{})
	close(drain)
	ctx, cancel := context.WithCancel(t.Context())
	for outcome, call := range map[string]func(retry.Config) error{
		"permanent": func(cfg retry.Config) error {
			return retry.Run(ctx, cfg, func(context.Context) error { return retry.Permanent(errDown) })
		},
		"max_retries": func(cfg retry.Config) error {
			cfg.MaxRetries = retry.NoRetries
			return retry.Run(ctx, cfg, func(context.Context) error { return errDown })
		},
		"limiter": func(cfg retry.Config) error {
			cfg.Limiter = limiterFunc(func(context.Context) error { return errDown })
			return retry.Run(ctx, cfg, none)
		},
		"circuit_open": func(cfg retry.Config) error {
			cfg.Breaker = openBreaker(t, func(b *retry.CircuitBreaker) { b.Trip(time.Hour) })
			return retry.Run(ctx, cfg, none)
		},
		"canceled": func(cfg retry.Config) error {
			ctx, cancel := context.WithCancel(ctx)
			return retry.Run(ctx, cfg, func(context.Context) error { cancel(); return errDown })
		},
	} {
		assert.Equal(t, outcome, retry.Outcome(call(retry.Config{Drain: drain})))
	}
	cancel()
}

// A hook that is called before a wait may be what closes Drain.
func TestDrainClosedByAHook(t *testing.T) {
	for name, hook := range map[string]func(*retry.Config, func(context.Context, retry.Event)){
		"OnRetry": func(cfg *retry.Config, f func(context.Context, retry.Event)) { cfg.OnRetry = f },
		"OnWait":  func(cfg *retry.Config, f func(context.Context, retry.Event)) { cfg.OnWait = f },
	} {
		bubble(t, name, func(t *testing.T) {
			drain := make(chan struct{})
			cfg := retry.Config{Drain: drain}
			hook(&cfg, func(context.Context, retry.Event) { close(drain) })
			fn, calls := script(errDown)
			start := time.Now()
			gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrDraining)
			assert.Equal(t, 1, *calls)
			assert.Zero(t, time.Since(start))
		})
	}
}

// A crowd at a gate leaves it at once.
func TestDrainEmptiesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := make(chan struct{})
		gate := pausedFor(time.Minute)
		finished := make(chan error, 100)
		for range cap(finished) {
			go func() { finished <- retry.Run(t.Context(), retry.Config{Gate: gate, Drain: drain}, none) }()
		}
		synctest.Wait()
		start := time.Now()
		close(drain)
		for range cap(finished) {
			assert.ErrorIs(t, <-finished, retry.ErrDraining)
		}
		assert.Zero(t, time.Since(start))
	})
}

// A Transport keeps the contract of net/http: the response that would have been retried
// is returned, its body unread; a client returns the error with the status inside.
func TestDrainOfRequests(t *testing.T) {
	drain := make(chan struct{})
	close(drain)
	script := retrytest.NewScript(t, retrytest.Status(503, "busy"), retrytest.Status(503, "busy"), retrytest.Status(200, "ok"))
	cfg := retry.Config{Drain: drain}
	transport, err := retry.NewTransport(script, cfg)
	require.NoError(t, err)
	resp, err := (&http.Client{Transport: transport}).Get("http://genes.test/")
	require.NoError(t, err)
	assert.Equal(t, 503, resp.StatusCode)
	resp.Body.Close()
	client, err := retry.NewRetryableClient(&http.Client{Transport: script}, cfg)
	require.NoError(t, err)
	_, err = client.Get(t.Context(), "http://genes.test/")
	gaveUp(t, err, retry.ErrDraining)
	var status *retry.StatusError
	require.ErrorAs(t, err, &status)
	resp, err = client.Get(t.Context(), "http://other.test/") // the first host is paused
	require.NoError(t, err, "first attempts are still made")
	resp.Body.Close()
}

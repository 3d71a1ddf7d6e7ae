package retry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// bare is a context written by hand, which never has an error.
type bare struct {
	context.Context
	ch chan struct{}
}

func (b bare) Done() <-chan struct{} { return b.ch }
func (b bare) Err() error            { return nil }

// A context that ended during an attempt with a timeout, and had no error, killed
// the process: package context panics then, in a goroutine of its own.
func TestContextEndsWithoutAnErrorDuringAnAttempt(t *testing.T) {
	for name, cfg := range map[string]retry.Config{
		"timeout": {AttemptTimeout: time.Hour}, "bounded limiter": {MaxElapsed: time.Hour, Limiter: hungLimiter{}},
	} {
		bubble(t, name, func(t *testing.T) {
			ctx := bare{context.Background(), make(chan struct{})}
			time.AfterFunc(time.Second, func() { close(ctx.ch) })
			err := retry.Run(ctx, cfg, func(ctx context.Context) error {
				assert.NoError(t, ctx.Err())
				inner := retry.Config{AttemptTimeout: time.Minute, MaxRetries: retry.NoRetries}
				return retry.Run(ctx, inner, func(ctx context.Context) error {
					<-ctx.Done()
					assert.ErrorIs(t, ctx.Err(), context.Canceled)
					return errors.Join(errDown, ctx.Err())
				})
			})
			assert.ErrorIs(t, err, context.Canceled)
			assert.Equal(t, "canceled", retry.Outcome(err))
		})
	}
}

// The timeout of an attempt follows the caller's context, of whatever make, and
// leaves nothing behind there.
func TestAttemptContextFollowsTheCallers(t *testing.T) {
	type key struct{}
	for name, derive := range map[string]func(context.Context) context.Context{
		"itself":  func(ctx context.Context) context.Context { return ctx },
		"value":   func(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, 1) },
		"foreign": func(ctx context.Context) context.Context { return struct{ context.Context }{ctx} },
	} {
		bubble(t, name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(errCause) })
			err := retry.Run(derive(ctx), retry.Config{AttemptTimeout: time.Hour}, func(ctx context.Context) error {
				<-ctx.Done()
				assert.ErrorIs(t, ctx.Err(), context.Canceled)
				assert.ErrorIs(t, context.Cause(ctx), errCause)
				return ctx.Err()
			})
			gaveUp(t, err, errCause)
		})
	}
}

// stuck is done, and has no error: a context written by hand, between two lines.
type stuck struct{ context.Context }

func (stuck) Done() <-chan struct{} { ch := make(chan struct{}); close(ch); return ch }

func (stuck) Err() error { return nil }

// Run used to loop a million times on such a context, because no reason to stop
// was found.
func TestContextThatIsDoneWithoutAnErrorCountsAsCancelled(t *testing.T) {
	ctx := stuck{context.Background()}
	for _, cfg := range []retry.Config{{}, {Gate: retry.NewGate(nil)}, {Breaker: new(retry.CircuitBreaker)}, {OnDone: func(context.Context, retry.Event) {}}} {
		fn, calls := script(errDown)
		gaveUp(t, retry.Run(ctx, cfg, fn), context.Canceled)
		assert.Zero(t, *calls)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, context.Canceled, retry.NewGate(nil).Wait(cancelled), "itself, for those who compare")
	assert.ErrorIs(t, retry.NewGate(nil).Wait(ctx), context.Canceled)
	assert.ErrorIs(t, new(retry.CircuitBreaker).Do(ctx, func(context.Context) error { t.Error("called"); return nil }), context.Canceled)
}

// An attempt that ran into its own time limit read as one that the caller's deadline
// had ended: "context deadline exceeded". It names the limit, wherever it is shown.
func TestAttemptTimeoutSaysSo(t *testing.T) {
	const want = "no answer within 1s (AttemptTimeout)"
	for text, fn := range map[string]func(context.Context) error{
		want:             func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"query: " + want: func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("query: %w", ctx.Err()) },
		want + ": down":  func(ctx context.Context) error { <-ctx.Done(); return errDown },
		want + ": signal: killed": func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("signal: killed")
		},
	} {
		bubble(t, text, func(t *testing.T) {
			breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
			require.NoError(t, err)
			var seen []string
			note := func(_ context.Context, e retry.Event) { seen = append(seen, e.Err.Error()) }
			log, logger := newLog()
			cfg := retry.Config{MaxRetries: 1, AttemptTimeout: time.Second, Breaker: breaker, OnRetry: note, OnAttemptDone: note, Logger: logger}
			var own error
			e := gaveUp(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error { own = fn(ctx); return own }), retry.ErrMaxRetries)
			assert.Equal(t, text, e.Err.Error())
			assert.ErrorIs(t, e, own)
			assert.Equal(t, errors.Is(own, context.DeadlineExceeded), errors.Is(e, context.DeadlineExceeded))
			assert.True(t, e.Timeout())
			assert.Equal(t, []string{text, text, text}, seen)
			assert.Equal(t, text, breaker.Snapshot().LastFailure.Error())
			assert.Contains(t, log.String(), want)

			cfg.RetryIf = func(error) bool { return false }
			assert.Equal(t, own, retry.Run(t.Context(), cfg, func(context.Context) error { time.Sleep(2 * time.Second); return own }), "as it was")
		})
	}
}

// AttemptTimeout began before OnAttempt in a Do and after it in a request: a slow hook
// took of the time of the one and not of the other. The hook is not limited now, and its context
// ends with the caller's: what a hook starts with it does not end with the attempt.
func TestAttemptTimeoutBeginsAfterOnAttempt(t *testing.T) {
	cfg := retry.Config{MaxRetries: retry.NoRetries, AttemptTimeout: time.Second}
	slow := func(ctx context.Context, _ retry.Event) context.Context { time.Sleep(2 * time.Second); return ctx }
	answer := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(900 * time.Millisecond):
			return nil
		}
	}
	for name, run := range map[string]func(*testing.T, retry.Config) error{
		"Do": func(t *testing.T, cfg retry.Config) error { return retry.Run(t.Context(), cfg, answer) },
		"a request": func(t *testing.T, cfg retry.Config) error {
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				if err := answer(req.Context()); err != nil {
					return nil, err
				}
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})
			return getting(t, &http.Client{Transport: base}, "http://api.example")(cfg)
		},
	} {
		bubble(t, name, func(t *testing.T) {
			cfg := cfg
			cfg.OnAttempt = slow
			cfg.OnAttemptDone = func(ctx context.Context, _ retry.Event) {
				_, limited := ctx.Deadline()
				assert.False(t, limited)
			}
			assert.NoError(t, run(t, cfg))
		})
	}
}

// What a server answered, and what the caller's own context ended, is not said to be
// the attempt's limit.
func TestAttemptTimeoutIsNotBlamedForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{MaxRetries: retry.NoRetries, AttemptTimeout: 2 * time.Second}
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.NotContains(t, retry.Run(ctx, cfg, hang).Error(), "AttemptTimeout")
		answered := func(ctx context.Context) error { <-ctx.Done(); return &retry.StatusError{StatusCode: 503} }
		assert.NotContains(t, retry.Run(t.Context(), cfg, answered).Error(), "AttemptTimeout")
		assert.NotContains(t, retry.Run(t.Context(), cfg, func(context.Context) error { return context.DeadlineExceeded }).Error(), "AttemptTimeout")
	})
}

// A nil pointer that is an error is no answer of a server.
func TestAttemptTimeoutSaysSoBesideANilPointer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{MaxRetries: retry.NoRetries, AttemptTimeout: time.Second}
		err := retry.Run(t.Context(), cfg, func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("%w: %w", ctx.Err(), (*retry.StatusError)(nil))
		})
		assert.ErrorContains(t, err, "AttemptTimeout")
	})
}

// The caller's deadline read as any other: "context deadline exceeded". A cause that the
// caller gave it says what it is by itself.
func TestCallersDeadlineSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logger := newLog()
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := retry.Run(ctx, retry.Config{Logger: logger}, hang)
		assert.EqualError(t, err, "retry: context deadline exceeded (the caller's) after 1 attempt in 1s: context deadline exceeded")
		assert.Contains(t, log.String(), `reason="context deadline exceeded (the caller's)" elapsed=1s`)
		ctx, cancel = context.WithTimeoutCause(t.Context(), time.Second, errors.New("page limit"))
		defer cancel()
		err = retry.Run(ctx, retry.Config{}, hang)
		assert.ErrorContains(t, err, "retry: page limit after 1 attempt")
	})
}

// A request names which of its two limits it was, in its headers or in its body.
func TestRequestTimeoutSaysWhich(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	cut := func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`"BR`))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	for name, answer := range map[string]http.HandlerFunc{"headers": hang, "body": cut} {
		for setting, limits := range map[string][2]time.Duration{
			"AttemptTimeout":             {time.Second, time.Minute},
			"Timeout of the http.Client": {time.Minute, time.Second},
		} {
			bubble(t, name+" "+setting, func(t *testing.T) {
				server, base := newPiped(t, answer)
				base.Timeout = limits[1]
				cfg := soon
				cfg.MaxRetries, cfg.AttemptTimeout = retry.NoRetries, limits[0]
				_, err := retry.GetJSON[string](t.Context(), outcomeClient(t, base, cfg), server.URL)
				assert.ErrorContains(t, err, "no answer within 1s ("+setting+")")
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.NotContains(t, err.Error(), "context deadline exceeded")
			})
		}
	}
}

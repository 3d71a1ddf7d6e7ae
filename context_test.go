package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

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
	assert.ErrorIs(t, retry.NewGate(nil).Wait(ctx), context.Canceled)
	assert.ErrorIs(t, new(retry.CircuitBreaker).Do(ctx, func(context.Context) error { t.Error("called"); return nil }), context.Canceled)
}

package retry

import "context"

// withHooks calls fn as guarded does, and OnAttempt and OnAttemptDone around it.
// The hooks are called inside of guarded, so that the breaker's pass is given back
// if one panics.
func (c *call) withHooks(ctx context.Context, cfg *Config, p permit, fn func(context.Context) error) error {
	return c.guarded(ctx, cfg, p, func(ctx context.Context) (err error) {
		event := c.event(cfg, "", 0)
		timeout, _ := ctx.(*timeoutContext) // the attempt's, where it has a limit
		if cfg.OnAttempt != nil {
			ctx = orElse(cfg.OnAttempt(ctx, event), ctx)
		}
		if cfg.OnAttemptDone != nil {
			err = errAbandoned // until fn has returned
			defer func() {
				event.Elapsed, event.Err = c.elapsed(cfg), unmarked(err)
				cfg.OnAttemptDone(ctx, event)
			}()
		}
		if err = fn(ctx); cfg.AttemptTimeout > 0 {
			err = timeout.explain(err, cfg.AttemptTimeout, "AttemptTimeout")
		}
		return err
	})
}

func orElse(ctx, otherwise context.Context) context.Context {
	if ctx == nil || isNil(ctx) {
		return otherwise
	}
	return ctx
}

// RetryCount returns the number of the retry that ctx was given to: 0 in the first
// attempt of a [Do] or a request, 1 in the first retry. Outside of any it is 0. It is
// what OpenTelemetry calls http.request.resend_count.
func RetryCount(ctx context.Context) int {
	if ctx == nil {
		return 0
	}
	retry, _ := ctx.Value(retryKey{}).(int)
	return retry
}

type retryKey struct{}

// retryContext tells a retry its number.
type retryContext struct {
	context.Context
	retry int
}

func (c *retryContext) Value(key any) any {
	if key == (retryKey{}) {
		return c.retry
	}
	return c.Context.Value(key)
}

// retryContexts hands out the contexts of a call's retries. They are made a few
// at a time, to spare a call with several retries some allocations, and never
// reused: the function may keep one.
type retryContexts struct{ spare []retryContext }

func (r *retryContexts) next(ctx context.Context, retry int) context.Context {
	if len(r.spare) == 0 {
		r.spare = make([]retryContext, 4)
	}
	c := &r.spare[0]
	r.spare = r.spare[1:]
	c.Context, c.retry = ctx, retry
	return c
}

package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	avast "github.com/avast/retry-go/v5"
	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	aws "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go/middleware"
	"github.com/cenkalti/backoff/v7"
	"github.com/eapache/go-resiliency/retrier"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/retryutils/retry"
	sethvargo "github.com/sethvargo/go-retry"
)

// Waits of a nanosecond have every candidate go through its timer; waits of
// none show what is left without it, for those who know the difference.
const tick = time.Nanosecond

func BenchmarkLoopSuccess(b *testing.B)              { measure(b, succeed, loopSuccess()) }
func BenchmarkLoopThreeFailures(b *testing.B)        { measure(b, recover3, loopThreeFailures(tick)) }
func BenchmarkLoopThreeFailuresNoDelay(b *testing.B) { measure(b, recover3, loopThreeFailures(0)) }
func BenchmarkLoopGiveUp(b *testing.B)               { measure(b, giveUp, loopGiveUp()) }

var (
	succeed  = expect{failures: 0, calls: 1}
	recover3 = expect{failures: 3, calls: 4}
	giveUp   = expect{failures: always, calls: 3, errs: 1}
)

func loopSuccess() []candidate {
	return append(loops(5, tick),
		candidate{floor, "plain call", func() loop { return plainCall }},
		candidate{ours, "Do, zero Config", func() loop { return ourDo(retry.Config{}) }},
		candidate{ours, "Do, filled Config", func() loop { return ourDo(filled(5, tick)) }},
		candidate{ours, "Run, zero Config", func() loop { return ourRun(retry.Config{}) }})
}

func loopThreeFailures(delay time.Duration) []candidate {
	group := append(loops(3, delay), candidate{ours, "Do", func() loop { return ourDo(plain(3, delay)) }})
	if delay > 0 {
		group = append(group, candidate{ours, "Do, filled Config", func() loop { return ourDo(filled(3, delay)) }})
	}
	return group
}

func loopGiveUp() []candidate {
	return append(loops(2, tick), candidate{ours, "Do", func() loop { return ourDo(plain(2, tick)) }})
}

// plain is as much of a Config as every peer has.
func plain(retries int, delay time.Duration) retry.Config {
	return retry.Config{MaxRetries: retries, Backoff: retry.ConstantBackoff(delay), Jitter: retry.NoJitter}
}

// filled has what a careful user adds. The budget is large enough for a run.
func filled(retries int, delay time.Duration) retry.Config {
	budget, err := retry.NewBudget(0.1, 1_000_000_000)
	if err != nil {
		panic(err)
	}
	return retry.Config{
		Name:         "inventory",
		MaxRetries:   retries,
		InitialDelay: delay,
		MaxDelay:     time.Minute,
		Jitter:       retry.Jitter{Min: 1, Max: 1.5}, // never less than delay: no wait may be left out
		RetryIf:      func(err error) bool { return err == errBusy },
		Budget:       budget,
	}
}

func ourDo(cfg retry.Config) loop {
	return func(n int, w *work) {
		fn := w.valueCtx
		for range n {
			_, err := retry.Do(background, cfg, fn)
			w.note(err)
		}
	}
}

func ourRun(cfg retry.Config) loop {
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			w.note(retry.Run(background, cfg, fn))
		}
	}
}

// loops are the floors and the peers, with so many retries after waits of delay.
func loops(retries int, delay time.Duration) []candidate {
	return []candidate{
		{floor, "hand-written loop", func() loop { return handWritten(retries) }},
		{floor, "hand-written loop with time.NewTimer", func() loop { return handWrittenTimer(retries, delay) }},
		{peer, "backoff v7", func() loop { return backoffLoop(retries, delay) }},
		{peer, "backoff v7, options made once", func() loop { return backoffLoopOnce(retries, delay) }},
		{peer, "retry-go v5, made per call", func() loop { return avastPerCall(retries, delay) }},
		{peer, "retry-go v5, made once for one context", func() loop { return avastOnce(retries, delay) }},
		{peer, "sethvargo go-retry", func() loop { return sethvargoLoop(retries, delay) }},
		{peer, "failsafe-go, context per call", func() loop { return failsafeLoop(retries, delay) }},
		{peer, "failsafe-go, made once for one context", func() loop { return failsafeOnce(retries, delay) }},
		{peer, "eapache retrier", func() loop { return eapacheLoop(retries, delay) }},
		{peer, "AWS SDK retry middleware", func() loop { return awsLoop(retries, delay) }},
	}
}

func plainCall(n int, w *work) {
	fn := w.valueCtx
	for range n {
		_, err := fn(background)
		w.note(err)
	}
}

func handWritten(retries int) loop {
	return func(n int, w *work) {
		fn := w.valueCtx
		for range n {
			_, err := byHand(background, retries, fn)
			w.note(err)
		}
	}
}

// byHand is the loop that people write: it looks at the context before each
// attempt, and does not wait.
func byHand(ctx context.Context, retries int, fn func(context.Context) (int, error)) (v int, err error) {
	for range retries + 1 {
		if err := ctx.Err(); err != nil {
			return v, err
		}
		if v, err = fn(ctx); err == nil {
			return v, nil
		}
	}
	return v, &gaveUp{retries + 1, err}
}

type gaveUp struct {
	attempts int
	err      error
}

func (e *gaveUp) Error() string { return fmt.Sprintf("after %d attempts: %v", e.attempts, e.err) }
func (e *gaveUp) Unwrap() error { return e.err }

func handWrittenTimer(retries int, delay time.Duration) loop {
	return func(n int, w *work) {
		fn := w.valueCtx
		for range n {
			_, err := byHandTimer(background, retries, delay, fn)
			w.note(err)
		}
	}
}

// byHandTimer also waits, with a timer of its own for each wait.
func byHandTimer(ctx context.Context, retries int, delay time.Duration, fn func(context.Context) (int, error)) (v int, err error) {
	for attempt := 0; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return v, err
		}
		if v, err = fn(ctx); err == nil {
			return v, nil
		}
		if attempt == retries {
			return v, &gaveUp{retries + 1, err}
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func backoffLoop(retries int, delay time.Duration) loop {
	return func(n int, w *work) {
		fn := w.value
		for range n {
			_, err := backoff.Retry(background, fn, backoff.WithBackOff(backoff.NewConstantBackOff(delay)),
				backoff.WithMaxTries(uint(retries)+1), backoff.WithMaxElapsedTime(0))
			w.note(err)
		}
	}
}

// backoffLoopOnce is what can be had by sharing the options, which only a
// constant backoff allows.
func backoffLoopOnce(retries int, delay time.Duration) loop {
	options := []backoff.RetryOption{backoff.WithBackOff(backoff.NewConstantBackOff(delay)),
		backoff.WithMaxTries(uint(retries) + 1), backoff.WithMaxElapsedTime(0)}
	return func(n int, w *work) {
		fn := w.value
		for range n {
			_, err := backoff.Retry(background, fn, options...)
			w.note(err)
		}
	}
}

func avastRetrier(retries int, delay time.Duration) *avast.RetrierWithData[int] {
	return avast.NewWithData[int](avast.Attempts(uint(retries)+1), avast.Delay(delay),
		avast.DelayType(avast.FixedDelay), avast.LastErrorOnly(true), avast.Context(background))
}

// avastPerCall is the way to give each call its context.
func avastPerCall(retries int, delay time.Duration) loop {
	return func(n int, w *work) {
		fn := w.value
		for range n {
			_, err := avastRetrier(retries, delay).Do(fn)
			w.note(err)
		}
	}
}

func avastOnce(retries int, delay time.Duration) loop {
	retrier := avastRetrier(retries, delay)
	return func(n int, w *work) {
		fn := w.value
		for range n {
			_, err := retrier.Do(fn)
			w.note(err)
		}
	}
}

// sethvargoLoop makes a Backoff for each call, since it counts the retries, and
// marks the errors, since it retries no others.
func sethvargoLoop(retries int, delay time.Duration) loop {
	constant := sethvargo.BackoffFunc(func() (time.Duration, bool) { return delay, false })
	return func(n int, w *work) {
		fn := func(context.Context) (int, error) {
			err := w.run()
			return w.calls, sethvargo.RetryableError(err)
		}
		for range n {
			_, err := sethvargo.DoValue(background, sethvargo.WithMaxRetries(uint64(retries), constant), fn)
			w.note(err)
		}
	}
}

func failsafeExecutor(retries int, delay time.Duration) failsafe.Executor[int] {
	policy := retrypolicy.NewBuilder[int]().WithMaxRetries(retries).ReturnLastFailure()
	if delay > 0 {
		policy = policy.WithDelay(delay)
	}
	return failsafe.With(policy.Build())
}

func failsafeLoop(retries int, delay time.Duration) loop {
	executor := failsafeExecutor(retries, delay)
	return func(n int, w *work) {
		fn := w.value
		for range n {
			_, err := executor.WithContext(background).Get(fn)
			w.note(err)
		}
	}
}

func failsafeOnce(retries int, delay time.Duration) loop {
	executor := failsafeExecutor(retries, delay).WithContext(background)
	return func(n int, w *work) {
		fn := w.value
		for range n {
			_, err := executor.Get(fn)
			w.note(err)
		}
	}
}

func eapacheLoop(retries int, delay time.Duration) loop {
	r := retrier.New(retrier.ConstantBackoff(retries, delay), nil)
	return func(n int, w *work) {
		fn := w.runCtx
		for range n {
			w.note(r.RunCtx(background, fn))
		}
	}
}

// awsAttempts is the SDK's retry middleware without its allowance of retries,
// which would run out.
func awsAttempts(retries int, delay time.Duration, retryable func(error) bool, clone func(any) any) *aws.Attempt {
	standard := aws.NewStandard(func(o *aws.StandardOptions) {
		o.MaxAttempts = retries + 1
		o.RateLimiter = ratelimit.None
		o.Backoff = aws.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return delay, nil })
		o.Retryables = []aws.IsErrorRetryable{aws.IsErrorRetryableFunc(func(err error) sdk.Ternary {
			return sdk.BoolTernary(retryable(err))
		})}
	})
	return aws.NewAttemptMiddleware(standard, clone)
}

func awsLoop(retries int, delay time.Duration) loop {
	attempts := awsAttempts(retries, delay, func(err error) bool { return err == errBusy }, func(r any) any { return r })
	return func(n int, w *work) {
		fn := middleware.FinalizeHandlerFunc(func(ctx context.Context, _ middleware.FinalizeInput) (
			middleware.FinalizeOutput, middleware.Metadata, error) {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, w.runCtx(ctx)
		})
		for range n {
			_, _, err := attempts.HandleFinalize(background, middleware.FinalizeInput{}, fn)
			w.note(err)
		}
	}
}

// Package retry calls things that fail, throttle and go down: again where that
// can help, after a wait that spares them, and not at all where it cannot.
//
// [Do] runs a function under a [Config], whose zero value is a sound default.
// [NewRetryableClient] does the same for an *http.Client, with the rules of HTTP.
// What keeps many callers polite is shared by pointer: a [CircuitBreaker], a
// [Gate] that pauses all calls when a server says so, a [Budget] of retries.
//
// An error says whether another attempt can help: by its type, see [Retryable], or
// by the mark of [Permanent] or [RetryAfter]; that of [Neutral] keeps it out of a
// breaker's count. A call that gives up returns an [*Error]; a response that is an error
// is a [*StatusError]; [Outcome] makes a label of either for metrics.
//
// A long answer is continued where it broke off: package download does that for files,
// package sse for streams of events, and [Resume] for anything else.
//
// All waiting goes by [Config.Clock], or the clock of a testing/synctest bubble, so
// that it can be tested without waiting; package retrytest plays the server.
//
// The package keeps no global state, and prints nothing unless it is given a Logger. It
// starts no goroutine that outlives a call, but for one case: a call drops a response, and
// a Read of its body goes on though the body was closed. A body of an *http.Transport never
// does that, one of another RoundTripper may.
//
// # Settings by task
//
//	how often, for how long      MaxRetries, MaxElapsed, AttemptTimeout, the context's deadline
//	how long to wait             InitialDelay, Multiplier, MaxDelay, Jitter, Backoff, MaxRetryAfter
//	which errors                 RetryIf, RetryStatusCodes, Permanent, RetryAfter; in HTTP CheckResponse
//	which POSTs                  IdempotentOnly, WithIdempotent; MayHaveActed of the error
//	a dependency that is down    Breaker, WaitWhenOpen, Budget; in a client HostBreaker
//	a dependency that throttles  Gate, Limiter; NoSharedPause
//	each host of a client        PerHost, OnHost, HostKey
//	logs and metrics             Name, Logger, OnDone, OnRetry, OnWait, Outcome
//	traces                       OnStart, OnAttempt, OnAttemptDone, WrapTransport
//	shutdown                     Drain
//	the environment              WithEnv, ConfigFromEnv
//	tests                        Clock, Rand, package retrytest
package retry

import (
	"context"
	"time"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/pace"
	"github.com/retryutils/retry/internal/valid"
)

// Do calls fn until it succeeds, fails with an error that a retry cannot help,
// or a limit of cfg or ctx is reached. It returns what the last call returned:
// the value in any case, and the error unchanged, except that
//
//   - an error that would have been retried, but for a limit, comes in an
//     [*Error] that says which,
//   - the mark of [Permanent] is taken off.
//
// The first call is made at once. fn is not called when ctx is done or cfg is
// invalid. No wait is begun that would not end before the deadline of ctx or
// MaxElapsed. A panic of fn reaches the caller unchanged.
//
// fn gets ctx, with the attempt's timeout and number ([RetryCount]). Do waits
// for fn to return; fn must obey its context for a timeout to have an effect.
//
// A Do inside of fn that gives up is not repeated by the outer one: its [*Error]
// is not retryable. Attempts add up that way, and do not multiply.
func Do[T any](ctx context.Context, cfg Config, fn func(context.Context) (T, error)) (T, error) {
	if fn == nil {
		var zero T
		return zero, invalid("Do: fn is nil")
	}
	if cfg.plain(ctx) {
		// The first attempt is made right here: most calls need no other.
		if cfg.Budget != nil {
			cfg.Budget.Deposit()
		}
		value, err := fn(ctx)
		if err == nil {
			return value, nil
		}
		return do(ctx, &cfg, fn, call{attempts: 1, last: err}, value)
	}
	var zero T
	if err := cfg.check(ctx); err != nil {
		return zero, err
	}
	return do(ctx, &cfg, fn, call{}, zero)
}

// do runs the loop for a call that may have made its first attempt already: value
// is what that returned.
func do[T any](ctx context.Context, cfg *Config, fn func(context.Context) (T, error), c call, value T) (T, error) {
	err := c.run(ctx, cfg, func(ctx context.Context) (err error) {
		value, err = fn(ctx)
		return err
	}, nil)
	return value, err
}

// Run is [Do] for a function without a value.
func Run(ctx context.Context, cfg Config, fn func(context.Context) error) error {
	if fn == nil {
		return invalid("Run: fn is nil")
	}
	var c call
	if cfg.plain(ctx) {
		if cfg.Budget != nil {
			cfg.Budget.Deposit()
		}
		if c.last = fn(ctx); c.last == nil {
			return nil
		}
		c.attempts = 1
	} else if err := cfg.check(ctx); err != nil {
		return err
	}
	return c.run(ctx, &cfg, fn, nil)
}

// Wrap returns a function that calls fn under cfg, as [Do] does.
func Wrap[A, T any](cfg Config, fn func(context.Context, A) (T, error)) func(context.Context, A) (T, error) {
	return func(ctx context.Context, arg A) (T, error) {
		if fn == nil {
			var zero T
			return zero, invalid("Wrap: fn is nil")
		}
		return Do(ctx, cfg, func(ctx context.Context) (T, error) { return fn(ctx, arg) })
	}
}

// call is one call of Do under way. The Config is handed from method to method
// and not kept here, so that it can stay on the caller's stack.
type call struct {
	start    time.Time // zero until it is needed
	late     bool      // start is the end of the first attempt
	attempts int
	last     error         // what the last attempt returned
	found    findings      // what is to be found in it
	waited   time.Duration // in all, where there is a Logger
	backoff  time.Duration // the last one, jitter included; a server's wait may have been longer
	veto     outcome       // why it must not be called again after the last attempt, if so
	taken    bool          // from the budget, for a retry that has not begun yet
	ended    bool          // finish has run
	outcome  outcome       // why it ended, or is about to
	contexts retryContexts
	timeout  *clock.Timeout // of the attempt under way; nil if it has no limit, or its function took it over
	ticket   pace.Call      // of the Gate, for the last attempt
	refused  uint64         // the number of the last one that was refused
	alarm    clock.Alarm

	// Of Resume; empty otherwise.
	progressed bool              // the last attempt did
	before     int               // attempts before the last one that progressed
	elsewhere  bool              // the last attempt failed at another host than the Config's
	least      time.Duration     // the shortest wait before a retry
	onHost     func(error) error // what an attempt's error says about the host; nil: all of it

	// Of a request; empty otherwise.
	method, host string
	started      context.Context // what OnStart returned, for the next hop
	hopTimeout   time.Duration   // of the base client: another limit of each attempt
	cancellable  bool            // an attempt needs a timeout, to be cancelled, though it has no limit
	harmless     int             // attempts that are known not to have been carried out
	status       int             // of the last attempt's response; 0 if there was none
}

// run is the loop; cfg must be valid. discard closes what a failed attempt left
// open, before a wait; nil if there is nothing.
func (c *call) run(ctx context.Context, cfg *Config, fn func(context.Context) error, discard func()) error {
	if cfg.timed() && c.start.IsZero() {
		c.start = cfg.now()
	}
	if cfg.OnStart != nil {
		ctx = orElse(cfg.OnStart(ctx, Event{Name: cfg.Name, Host: c.host}), ctx)
		c.started = ctx
	}
	defer c.close(ctx, cfg)
	for {
		var wait time.Duration
		if c.attempts > 0 {
			var stop bool
			if wait, stop = c.decide(ctx, cfg); stop {
				return c.giveUp(ctx, cfg)
			}
			if discard != nil {
				discard()
			}
			if c.announce(ctx, cfg, wait) {
				return c.giveUp(ctx, cfg)
			}
		}
		permit, stop := c.await(ctx, cfg, wait)
		if stop {
			return c.giveUp(ctx, cfg)
		}
		if c.last = c.attempt(ctx, cfg, permit, fn); c.last == nil {
			c.accepted(ctx, cfg)
			return c.finish(ctx, cfg, nil)
		}
	}
}

// check returns what makes a call impossible.
func (c *Config) check(ctx context.Context) error {
	switch {
	case ctx == nil:
		return invalid("ctx is nil")
	case valid.IsNil(ctx):
		return invalid("ctx is a nil %T", ctx)
	case c.RetryStatusCodes == nil && c.Limiter == nil && c.Clock == nil && c.Logger == nil && c.Gate == nil && c.validNumbers():
		return nil
	}
	return c.problems().Join(ErrInvalidConfig, valid.Of("Config"))
}

// plain reports whether a first attempt is no more than a call of the function
// with ctx: cfg is valid, and wants nothing done before or after it. A Config with
// RetryStatusCodes may be just as plain, but is left to check, which looks at each
// of them; and inside an attempt of another Do, RetryCount must begin again.
func (c *Config) plain(ctx context.Context) bool {
	if ctx == nil || c.Gate != nil || c.Limiter != nil || c.Breaker != nil || c.RetryStatusCodes != nil ||
		c.timed() || !c.validNumbers() {
		return false
	}
	return !done(ctx) && ctx.Value(retryKey{}) == nil
}

// timed reports whether Elapsed must count from the very start.
func (c *Config) timed() bool {
	return c.MaxElapsed > 0 || c.AttemptTimeout > 0 || c.Clock != nil ||
		c.OnRetry != nil || c.OnDone != nil || c.OnWait != nil || c.Logger != nil ||
		c.OnStart != nil || c.OnAttempt != nil || c.OnAttemptDone != nil
}

// attempt calls fn once, with the attempt's own context, and reports the result to
// the breaker.
func (c *call) attempt(ctx context.Context, cfg *Config, p permit, fn func(context.Context) error) error {
	c.attempts++
	c.taken = false
	if c.attempts > 1 {
		ctx = c.contexts.next(ctx, c.attempts-1)
	} else {
		if cfg.Budget != nil {
			cfg.Budget.Deposit()
		}
		if RetryCount(ctx) != 0 { // of a Do around this one
			ctx = c.contexts.next(ctx, 0)
		}
	}
	if cfg.Breaker != nil {
		return c.guarded(ctx, cfg, p, fn)
	}
	return c.withHooks(ctx, cfg, fn)
}

// guarded calls fn, and reports to the breaker what came of it, also if fn panics or
// calls runtime.Goexit.
func (c *call) guarded(ctx context.Context, cfg *Config, p permit, fn func(context.Context) error) error {
	err := errAbandoned // until fn has returned
	defer func() {
		if c.onHost == nil || err == nil || err == errAbandoned {
			c.found = cfg.Breaker.report(ctx, cfg, p, err)
			return
		}
		cfg.Breaker.report(ctx, cfg, p, c.onHost(err))
		c.found = examine(err, cfg.RetryStatusCodes)
	}()
	err = c.withHooks(p.context(ctx, cfg.Breaker), cfg, fn)
	return err
}

// withHooks calls fn, with OnAttempt and OnAttemptDone around it.
func (c *call) withHooks(ctx context.Context, cfg *Config, fn func(context.Context) error) (err error) {
	if cfg.OnAttempt == nil && cfg.OnAttemptDone == nil {
		return c.withTimeout(ctx, cfg, fn)
	}
	event := c.event(cfg, "", 0)
	if cfg.OnAttempt != nil {
		ctx = orElse(cfg.OnAttempt(ctx, event), ctx)
	}
	if cfg.OnAttemptDone != nil {
		err = errAbandoned // until fn has returned
		defer func() {
			event.Elapsed = c.elapsed(cfg)
			event.Err, _ = unmarked(err)
			cfg.OnAttemptDone(ctx, event)
		}()
	}
	err = c.withTimeout(ctx, cfg, fn)
	return err
}

// withTimeout calls fn under the attempt's timeout, which ends when fn returns, unless fn
// took it over, as a hop does for the body of its response.
func (c *call) withTimeout(ctx context.Context, cfg *Config, fn func(context.Context) error) error {
	limit, _ := c.limit(cfg)
	if limit == 0 && !c.cancellable {
		return fn(ctx)
	}
	c.timeout = clock.WithTimeout(ctx, cfg.Clock, limit)
	defer func() {
		if c.timeout != nil {
			c.timeout.Cancel()
			c.timeout = nil
		}
	}()
	err := fn(c.timeout)
	return c.explain(cfg, c.timeout, err)
}

// limit returns the time limit of an attempt, 0 for none, and the setting that it comes
// from.
func (c *call) limit(cfg *Config) (limit time.Duration, setting string) {
	if c.hopTimeout > 0 && (c.hopTimeout < cfg.AttemptTimeout || cfg.AttemptTimeout == 0) {
		return c.hopTimeout, "Timeout of the http.Client"
	}
	return cfg.AttemptTimeout, "AttemptTimeout"
}

// explain has the error of an attempt say that its time limit was reached. What a server
// answered in spite of that says more. An attempt that was not limited, or whose function
// took its timeout over, has none.
func (c *call) explain(cfg *Config, timeout *clock.Timeout, err error) error {
	if err == nil || timeout == nil || !timeout.Expired() || hasStatus(err) {
		return err
	}
	limit, setting := c.limit(cfg)
	return &limitError{err, limit, setting}
}

func orElse(ctx, otherwise context.Context) context.Context {
	if ctx == nil || valid.IsNil(ctx) {
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

// retryContext has the number of a retry.
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

// Package retry calls things that fail, throttle and go down: again where that
// can help, after a wait that spares them, and not at all where it cannot.
//
// [Do] runs a function under a [Config], whose zero value is a sound default.
// [NewRetryableClient] does the same for an *http.Client, with the rules of HTTP.
// What keeps many callers polite is shared by pointer: a [CircuitBreaker], a
// [Gate] that pauses everybody when a server says so, a [Budget] of retries.
// All waiting goes by [Config.Clock], so that it can be tested without waiting.
//
// The package starts no goroutine that outlives a call, keeps no global state,
// and prints nothing unless it is given a Logger.
package retry

import (
	"context"
	"errors"
	"log/slog"
	"time"
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
		// Nothing to wait for, to count or to time: most calls end right here.
		if cfg.Budget != nil {
			cfg.Budget.deposit()
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

// do goes on with a call, whose last attempt returned value.
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
			cfg.Budget.deposit()
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
	start    time.Time // zero until somebody may ask for it
	attempts int
	last     error         // what the last attempt returned
	backoff  time.Duration // the last one, as the curve drew it
	taken    bool          // from the budget, for a retry that has not begun yet
	contexts retryContexts
	alarm    alarm
}

// run is the loop; cfg must be valid. discard lets go of what a failed attempt
// left open, before a wait; nil if there is nothing.
func (c *call) run(ctx context.Context, cfg *Config, fn func(context.Context) error, discard func()) error {
	if cfg.timed() {
		c.start = cfg.now()
	}
	defer c.leave(cfg)
	for {
		if c.attempts > 0 {
			wait, stop := c.judge(ctx, cfg)
			if stop.reason != nil {
				return c.giveUp(ctx, cfg, stop)
			}
			if discard != nil {
				discard()
			}
			c.pause(ctx, cfg, wait)
		}
		pass, stop := c.enter(ctx, cfg)
		if stop.reason != nil {
			return c.giveUp(ctx, cfg, stop)
		}
		if c.last = c.attempt(ctx, cfg, pass, fn); c.last == nil {
			return c.finish(ctx, cfg, nil)
		}
	}
}

// check returns what makes a call impossible.
func (c *Config) check(ctx context.Context) error {
	switch {
	case ctx == nil:
		return invalid("ctx is nil")
	case !c.valid():
		return c.Validate()
	}
	return nil
}

// plain reports whether a first attempt is no more than a call of the function
// with ctx: cfg is valid, and wants nothing done before or after it.
func (c *Config) plain(ctx context.Context) bool {
	if ctx == nil || c.Gate != nil || c.Limiter != nil || c.Breaker != nil || c.RetryStatusCodes != nil ||
		c.timed() || !c.validNumbers() {
		return false
	}
	return !done(ctx) && ctx.Value(retryKey{}) == nil
}

// timed reports whether Elapsed must count from the very start.
func (c *Config) timed() bool {
	return c.MaxElapsed|c.AttemptTimeout > 0 || c.Clock != nil ||
		c.OnRetry != nil || c.OnDone != nil || c.Logger != nil
}

// enter waits until an attempt may begin: for the gate, then for the limiter,
// then, or not at all, for the breaker, whose pass it returns. No pass is held
// while waiting.
func (c *call) enter(ctx context.Context, cfg *Config) (pass, halt) {
	if done(ctx) {
		return pass{}, haltOf(ctx)
	}
	if cfg.Gate != nil {
		if stop := c.waitAt(ctx, cfg, cfg.Gate); stop.reason != nil {
			return pass{}, stop
		}
	}
	if cfg.Limiter != nil {
		if stop := c.limited(ctx, cfg); stop.reason != nil {
			return pass{}, stop
		}
	}
	if cfg.Breaker != nil {
		return c.admitted(ctx, cfg)
	}
	return pass{}, halt{}
}

// limited waits for the limiter. If the gate closes meanwhile it waits for that,
// and for the limiter anew: what it had been granted was for an earlier time.
func (c *call) limited(ctx context.Context, cfg *Config) halt {
	for {
		if err := cfg.Limiter.Wait(ctx); err != nil && !done(ctx) {
			return halt{reason: err}
		}
		if stop := c.fits(ctx, cfg, 0); stop.reason != nil || cfg.Gate == nil || cfg.Gate.left() == 0 {
			return stop
		}
		if stop := c.waitAt(ctx, cfg, cfg.Gate); stop.reason != nil {
			return stop
		}
	}
}

// admitted returns the breaker's pass.
func (c *call) admitted(ctx context.Context, cfg *Config) (pass, halt) {
	for {
		pass, rejection := cfg.Breaker.enter(cfg.Logger)
		if rejection == nil {
			return pass, halt{}
		}
		if !cfg.WaitWhenOpen {
			return pass, halt{ErrCircuitOpen, rejection}
		}
		if stop := c.waitFor(ctx, cfg, cfg.Breaker); stop.reason != nil {
			return pass, stop.dueTo(rejection)
		}
		if cfg.Gate != nil && cfg.Gate.left() > 0 { // closed meanwhile
			if stop := c.waitAt(ctx, cfg, cfg.Gate); stop.reason != nil {
				return pass, stop
			}
		}
	}
}

// waitAt waits until the gate lets the call through.
func (c *call) waitAt(ctx context.Context, cfg *Config, g *Gate) (stop halt) {
	g.wait(ctx, func(ctx context.Context, wait time.Duration) error {
		stop = c.fits(ctx, cfg, wait)
		return stop.reason
	})
	return stop
}

// waitFor waits until the breaker may let an attempt pass: exactly until its
// open time is over, or until the probe in flight has come back. Those who
// waited together for it to close go on one by one.
func (c *call) waitFor(ctx context.Context, cfg *Config, b *CircuitBreaker) halt {
	for {
		left, known, changed := b.blocked()
		need := time.Duration(0)
		if known {
			need = left
		}
		if stop := c.fits(ctx, cfg, need); stop.reason != nil {
			return stop
		}
		if changed == nil {
			return c.waitAt(ctx, cfg, b.herd)
		}
		if limit := cfg.MaxElapsed; limit > 0 {
			left = min(left, limit-c.elapsed(cfg))
		}
		select {
		case <-c.alarm.set(cfg.Clock, left):
		case <-changed:
			c.alarm.stop()
		case <-ctx.Done():
			c.alarm.stop()
		}
	}
}

// attempt calls fn once, under the attempt's context and the breaker's eyes.
func (c *call) attempt(ctx context.Context, cfg *Config, p pass, fn func(context.Context) error) error {
	c.attempts++
	c.taken = false
	if c.attempts > 1 {
		ctx = c.contexts.next(ctx, c.attempts-1)
	} else {
		if cfg.Budget != nil {
			cfg.Budget.deposit()
		}
		if RetryCount(ctx) != 0 { // of a Do around this one
			ctx = c.contexts.next(ctx, 0)
		}
	}
	if cfg.Breaker == nil && cfg.AttemptTimeout == 0 {
		return fn(ctx)
	}
	return guarded(ctx, cfg, p, fn)
}

func guarded(ctx context.Context, cfg *Config, p pass, fn func(context.Context) error) (err error) {
	if b := cfg.Breaker; b != nil {
		caller := ctx
		err = errAbandoned // what the breaker sees of a panic or Goexit
		defer func() { b.leave(p, judgeCall(b, caller, err), err, cfg.Logger) }()
	}
	if cfg.AttemptTimeout > 0 {
		timeout := withTimeout(ctx, cfg.Clock, cfg.AttemptTimeout)
		defer timeout.cancel()
		ctx = timeout
	}
	err = fn(ctx)
	return err
}

// judge decides what follows a failed attempt: a retry after a wait, or why not.
func (c *call) judge(ctx context.Context, cfg *Config) (time.Duration, halt) {
	if c.start.IsZero() {
		c.start = cfg.now()
	}
	found := examine(c.last)
	hint := found.hint()
	if cfg.Gate != nil && hint > 0 && found.throttled() {
		cfg.Gate.pause(min(hint, cfg.maxRetryAfter()), cfg.Logger)
	}
	switch {
	case !cfg.retryable(c.last, &found):
		return 0, halt{reason: errAsIs}
	case done(ctx):
		return 0, haltOf(ctx)
	case c.attempts > cfg.maxRetries():
		return 0, halt{reason: ErrMaxRetries}
	case hint > cfg.maxRetryAfter():
		return 0, halt{reason: ErrRetryAfterTooLong}
	}
	c.backoff = cfg.delay(c.attempts, c.backoff)
	wait := c.backoff
	if hint > wait {
		wait = cfg.lengthen(hint)
	}
	if stop := c.pays(ctx, cfg, wait); stop.reason != nil {
		return 0, stop
	}
	if cfg.Budget != nil {
		if !cfg.Budget.withdraw() {
			return 0, halt{reason: ErrBudgetExhausted}
		}
		c.taken = true
	}
	return wait, halt{}
}

// retryable judges an error by its marks, then by RetryIf.
func (c *Config) retryable(err error, found *findings) bool {
	if c.RetryIf == nil || found.permanent || found.marked != nil && !found.ended {
		return found.retryable(c.RetryStatusCodes)
	}
	return c.RetryIf(err)
}

// pays tells why a wait would be in vain: there is no time for it, or the gate or
// the breaker will certainly still hold the attempt back when there is no time
// any more.
func (c *call) pays(ctx context.Context, cfg *Config, wait time.Duration) halt {
	need := wait
	if cfg.Gate != nil {
		need = max(wait, cfg.Gate.left())
	}
	if stop := c.inTime(ctx, cfg, need); stop.reason != nil || cfg.Breaker == nil {
		return stop
	}
	b := cfg.Breaker
	p, left := b.rejects(wait)
	switch {
	case p == nil:
		return halt{}
	case !cfg.WaitWhenOpen:
		_, rejection := b.rejectOpen(p, left)
		return halt{ErrCircuitOpen, rejection}
	case p.open.forced: // nobody knows for how long
		return halt{}
	}
	return c.inTime(ctx, cfg, left).dueTo(b.rejection(p.open, left))
}

// fits tells why a wait that begins now cannot pay: ctx is done, or the wait does
// not end in time.
func (c *call) fits(ctx context.Context, cfg *Config, wait time.Duration) halt {
	if done(ctx) {
		return haltOf(ctx)
	}
	return c.inTime(ctx, cfg, wait)
}

// inTime tells whether a wait ends before the deadline and MaxElapsed.
func (c *call) inTime(ctx context.Context, cfg *Config, wait time.Duration) halt {
	deadline, ok := ctx.Deadline()
	if !ok && cfg.MaxElapsed == 0 {
		return halt{}
	}
	now := cfg.now()
	if ok && wait >= deadline.Sub(now) {
		return halt{reason: ErrDeadline}
	}
	if limit := cfg.MaxElapsed; limit > 0 && wait >= limit-now.Sub(c.start) {
		return halt{reason: ErrMaxElapsed}
	}
	return halt{}
}

// pause tells of the retry to come, and waits.
func (c *call) pause(ctx context.Context, cfg *Config, wait time.Duration) {
	if cfg.Logger != nil {
		why := "backoff"
		if wait > c.backoff {
			why = "retry-after"
		}
		cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "retrying",
			c.attrs(cfg, slog.Duration("delay", wait), slog.String("why", why))...)
	}
	if cfg.OnRetry != nil {
		cfg.OnRetry(ctx, Event{cfg.Name, c.attempts, wait, c.elapsed(cfg), c.last})
	}
	if wait > 0 {
		c.sleep(ctx, cfg, wait)
	}
}

func (c *call) sleep(ctx context.Context, cfg *Config, wait time.Duration) {
	select {
	case <-c.alarm.set(cfg.Clock, wait):
	case <-ctx.Done():
		c.alarm.stop()
	}
}

// giveUp returns the last error as it is, or in an Error that tells the reason.
func (c *call) giveUp(ctx context.Context, cfg *Config, stop halt) error {
	if stop.reason == errAsIs {
		if marked, ok := c.last.(*permanentError); ok {
			return c.finish(ctx, cfg, marked.err)
		}
		return c.finish(ctx, cfg, c.last)
	}
	err := c.error(cfg, stop, c.last)
	if cfg.Logger != nil {
		cfg.Logger.LogAttrs(ctx, slog.LevelError, "giving up",
			c.attrs(cfg, slog.String("reason", redacted(stop.reason)), slog.Duration("elapsed", err.Elapsed))...)
	}
	return c.finish(ctx, cfg, err)
}

func (c *call) error(cfg *Config, stop halt, last error) *Error {
	return &Error{Attempts: c.attempts, Elapsed: c.elapsed(cfg), Reason: stop.reason, Err: last, name: cfg.Name, detail: stop.detail}
}

func (c *call) finish(ctx context.Context, cfg *Config, err error) error {
	if cfg.OnDone != nil {
		cfg.OnDone(ctx, Event{Name: cfg.Name, Attempt: c.attempts, Elapsed: c.elapsed(cfg), Err: err})
	}
	return err
}

// leave is the end of a call, however it came about.
func (c *call) leave(cfg *Config) {
	if c.taken {
		cfg.Budget.refund()
	}
}

func (c *call) elapsed(cfg *Config) time.Duration {
	if c.start.IsZero() {
		return 0
	}
	return since(cfg.Clock, c.start)
}

func (c *call) attrs(cfg *Config, more ...slog.Attr) []slog.Attr {
	attrs := append(make([]slog.Attr, 0, 6), slog.Int("attempt", c.attempts))
	if cfg.Name != "" {
		attrs = append(attrs, slog.String("name", cfg.Name))
	}
	if attrs = append(attrs, more...); c.last != nil {
		attrs = append(attrs, slog.String("error", redacted(c.last)))
	}
	return attrs
}

// halt is a decision not to make another attempt, for the fields of an Error.
// Its zero value decides nothing.
type halt struct {
	reason error
	detail error
}

// dueTo adds the rejection that made time too short.
func (h halt) dueTo(rejection error) halt {
	if h.reason == ErrDeadline || h.reason == ErrMaxElapsed {
		h.detail = rejection
	}
	return h
}

// errAsIs is the reason for returning an error as it came.
var errAsIs = errors.New("not retryable")

// haltOf tells why ctx is done; it must be.
func haltOf(ctx context.Context) halt {
	cause, err := context.Cause(ctx), ctx.Err()
	if errors.Is(cause, err) {
		return halt{reason: cause}
	}
	return halt{cause, err}
}

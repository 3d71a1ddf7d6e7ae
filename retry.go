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
	var value T
	if fn == nil {
		return value, invalid("Do: fn is nil")
	}
	c := call{cfg: &cfg}
	err := c.run(ctx, func(ctx context.Context) (err error) {
		value, err = fn(ctx)
		return err
	})
	return value, err
}

// Run is [Do] for a function without a value.
func Run(ctx context.Context, cfg Config, fn func(context.Context) error) error {
	if fn == nil {
		return invalid("Run: fn is nil")
	}
	c := call{cfg: &cfg}
	return c.run(ctx, fn)
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

// call is one call of Do under way.
type call struct {
	cfg      *Config
	discard  func()    // lets go of what the failed attempt left open, before a wait
	start    time.Time // zero until somebody may ask for it
	attempts int
	last     error         // what the last attempt returned
	backoff  time.Duration // the last one, as the curve drew it
	taken    bool          // from the budget, for a retry that has not begun yet
	contexts retryContexts
	alarm    alarm
}

// run is the loop.
func (c *call) run(ctx context.Context, fn func(context.Context) error) error {
	if ctx == nil {
		return invalid("ctx is nil")
	}
	if !c.cfg.valid() {
		return c.cfg.Validate()
	}
	if c.cfg.timed() {
		c.start = c.cfg.now()
	}
	defer c.leave()
	for {
		pass, stop := c.enter(ctx)
		if stop != nil {
			return c.giveUp(ctx, stop)
		}
		if c.last = c.attempt(ctx, pass, fn); c.last == nil {
			return c.finish(ctx, nil)
		}
		wait, stop := c.judge(ctx)
		if stop != nil {
			return c.giveUp(ctx, stop)
		}
		c.pause(ctx, wait)
	}
}

// timed reports whether Elapsed must count from the very start.
func (c *Config) timed() bool {
	return c.MaxElapsed > 0 || c.AttemptTimeout > 0 || c.Clock != nil ||
		c.OnRetry != nil || c.OnDone != nil || c.Logger != nil
}

// enter waits until an attempt may begin: for the gate, then for the limiter,
// then, or not at all, for the breaker, whose pass it returns. No pass is held
// while waiting.
func (c *call) enter(ctx context.Context) (pass, error) {
	if done(ctx) {
		return pass{}, ctxStop(ctx)
	}
	cfg := c.cfg
	if cfg.Gate == nil && cfg.Limiter == nil && cfg.Breaker == nil {
		return pass{}, nil
	}
	if cfg.Gate != nil {
		if err := cfg.Gate.wait(ctx, c.fits); err != nil {
			return pass{}, err
		}
	}
	if cfg.Limiter != nil {
		if err := cfg.Limiter.Wait(ctx); err != nil && !done(ctx) {
			return pass{}, &halt{reason: err}
		}
		if err := c.fits(ctx, 0); err != nil {
			return pass{}, err
		}
	}
	if cfg.Breaker == nil {
		return pass{}, nil
	}
	for {
		pass, rejection := cfg.Breaker.enter(cfg.Logger)
		if rejection == nil {
			return pass, nil
		}
		if !cfg.WaitWhenOpen {
			return pass, &halt{ErrCircuitOpen, rejection}
		}
		if err := c.waitFor(ctx, cfg.Breaker); err != nil {
			return pass, err
		}
	}
}

// waitFor waits until the breaker may let an attempt pass: exactly until its
// open time is over, or until the probe in flight has come back. Those who
// waited together for it to close go on one by one.
func (c *call) waitFor(ctx context.Context, b *CircuitBreaker) error {
	for {
		left, known, changed := b.blocked()
		if changed == nil {
			break
		}
		need := time.Duration(0)
		if known {
			need = left
		}
		if err := c.fits(ctx, need); err != nil {
			return err
		}
		if limit := c.cfg.MaxElapsed; limit > 0 {
			left = min(left, limit-c.elapsed())
		}
		select {
		case <-c.alarm.set(c.cfg.Clock, left):
		case <-changed:
			c.alarm.stop()
		case <-ctx.Done():
			c.alarm.stop()
		}
	}
	return b.herd.wait(ctx, c.fits)
}

// attempt calls fn once, under the attempt's context and the breaker's eyes.
func (c *call) attempt(ctx context.Context, p pass, fn func(context.Context) error) (err error) {
	c.attempts++
	c.taken = false
	cfg := c.cfg
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
	return c.guarded(ctx, p, fn)
}

func (c *call) guarded(ctx context.Context, p pass, fn func(context.Context) error) (err error) {
	caller := ctx
	if c.cfg.Breaker != nil {
		err = errAbandoned // what the breaker sees of a panic or Goexit
		defer func() { c.cfg.Breaker.leave(p, judgeCall(c.cfg.Breaker, caller, err), err, c.cfg.Logger) }()
	}
	if c.cfg.AttemptTimeout > 0 {
		timeout := withTimeout(ctx, c.cfg.Clock, c.cfg.AttemptTimeout)
		defer timeout.cancel()
		ctx = timeout
	}
	err = fn(ctx)
	return err
}

// judge decides what follows a failed attempt: a retry after a wait, or why not.
func (c *call) judge(ctx context.Context) (time.Duration, error) {
	cfg := c.cfg
	if c.start.IsZero() {
		c.start = cfg.now()
	}
	found := examine(c.last)
	hint := found.hint()
	if cfg.Gate != nil && hint > 0 && found.throttled() {
		cfg.Gate.pause(min(hint, cfg.maxRetryAfter()), cfg.Logger)
	}
	if !cfg.retryable(c.last, &found) {
		return 0, &halt{reason: errAsIs}
	}
	switch {
	case done(ctx):
		return 0, ctxStop(ctx)
	case c.attempts > cfg.maxRetries():
		return 0, &halt{reason: ErrMaxRetries}
	case hint > cfg.maxRetryAfter():
		return 0, &halt{reason: ErrRetryAfterTooLong}
	}
	c.backoff = cfg.delay(c.attempts, c.backoff)
	wait := c.backoff
	if hint > wait {
		wait = cfg.lengthen(hint)
	}
	if err := c.fits(ctx, wait); err != nil {
		return 0, err
	}
	if cfg.Breaker != nil && !cfg.WaitWhenOpen {
		if rejection := cfg.Breaker.rejects(wait); rejection != nil {
			return 0, &halt{ErrCircuitOpen, rejection}
		}
	}
	if cfg.Budget != nil {
		if !cfg.Budget.withdraw() {
			return 0, &halt{reason: ErrBudgetExhausted}
		}
		c.taken = true
	}
	return wait, nil
}

// retryable judges an error by its marks, then by RetryIf.
func (c *Config) retryable(err error, found *findings) bool {
	if c.RetryIf == nil || found.permanent || found.marked != nil {
		return found.retryable(c.RetryStatusCodes)
	}
	return c.RetryIf(err)
}

// fits reports why a wait that begins now cannot pay: it does not end before
// the deadline or MaxElapsed. It also looks whether ctx is done already.
func (c *call) fits(ctx context.Context, wait time.Duration) error {
	if done(ctx) {
		return ctxStop(ctx)
	}
	deadline, ok := ctx.Deadline()
	if !ok && c.cfg.MaxElapsed == 0 {
		return nil
	}
	now := c.cfg.now()
	if ok && wait >= deadline.Sub(now) {
		return &halt{reason: ErrDeadline}
	}
	if limit := c.cfg.MaxElapsed; limit > 0 && wait >= limit-now.Sub(c.start) {
		return &halt{reason: ErrMaxElapsed}
	}
	return nil
}

// pause tells of the retry to come, lets go of the failed attempt, and waits.
func (c *call) pause(ctx context.Context, wait time.Duration) {
	if c.discard != nil {
		c.discard()
	}
	if c.cfg.Logger != nil {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "retrying", c.attrs(c.last,
			slog.Duration("delay", wait), slog.String("why", c.why(wait)))...)
	}
	if c.cfg.OnRetry != nil {
		c.cfg.OnRetry(ctx, Event{c.cfg.Name, c.attempts, wait, c.elapsed(), c.last})
	}
	if wait > 0 && !done(ctx) {
		c.sleep(ctx, wait)
	}
}

func (c *call) sleep(ctx context.Context, wait time.Duration) {
	select {
	case <-c.alarm.set(c.cfg.Clock, wait):
	case <-ctx.Done():
		c.alarm.stop()
	}
}

func (c *call) why(wait time.Duration) string {
	if wait > c.backoff {
		return "retry-after"
	}
	return "backoff"
}

// giveUp returns the last error as it is, or in an Error that tells the reason.
func (c *call) giveUp(ctx context.Context, why error) error {
	s := why.(*halt)
	if s.reason == errAsIs {
		if marked, ok := c.last.(*permanentError); ok {
			return c.finish(ctx, marked.err)
		}
		return c.finish(ctx, c.last)
	}
	err := &Error{Attempts: c.attempts, Elapsed: c.elapsed(), Reason: s.reason, Err: c.last, name: c.cfg.Name, detail: s.detail}
	if c.cfg.Logger != nil {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "giving up", c.attrs(c.last,
			slog.String("reason", redacted(s.reason)), slog.Duration("elapsed", err.Elapsed))...)
	}
	return c.finish(ctx, err)
}

func (c *call) finish(ctx context.Context, err error) error {
	if c.cfg.OnDone != nil {
		c.cfg.OnDone(ctx, Event{Name: c.cfg.Name, Attempt: c.attempts, Elapsed: c.elapsed(), Err: err})
	}
	return err
}

// leave is the end of a call, however it came about.
func (c *call) leave() {
	c.alarm.stop()
	if c.taken {
		c.cfg.Budget.refund()
	}
}

func (c *call) elapsed() time.Duration {
	if c.start.IsZero() {
		return 0
	}
	return c.cfg.now().Sub(c.start)
}

func (c *call) attrs(err error, more ...slog.Attr) []slog.Attr {
	attrs := append(make([]slog.Attr, 0, 6), slog.Int("attempt", c.attempts))
	if c.cfg.Name != "" {
		attrs = append(attrs, slog.String("name", c.cfg.Name))
	}
	if attrs = append(attrs, more...); err != nil {
		attrs = append(attrs, slog.String("error", redacted(err)))
	}
	return attrs
}

func (c *Config) lengthen(hint time.Duration) time.Duration {
	random := c.Rand
	if random == nil {
		random = randomFloat
	}
	return c.jitter().lengthen(hint, random)
}

// halt is a decision not to make another attempt, for Error's fields.
type halt struct {
	reason error
	detail error
}

func (s *halt) Error() string { return s.reason.Error() }

// errAsIs is the reason for returning an error as it came.
var errAsIs = errors.New("not retryable")

// ctxStop must only be called when ctx is done.
func ctxStop(ctx context.Context) *halt {
	cause, err := context.Cause(ctx), ctx.Err()
	if errors.Is(cause, err) {
		return &halt{reason: cause}
	}
	return &halt{cause, err}
}

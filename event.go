package retry

import (
	"context"
	"log/slog"
	"time"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/redact"
)

// Event is what the hooks of a [Config] receive.
type Event struct {
	Name    string
	Host    string        // of a request, as scheme://host, or scheme://host:port if it is not the scheme's own; empty otherwise
	Attempt int           // attempts so far; 0 if none was made
	Delay   time.Duration // the wait; 0 in OnDone
	Elapsed time.Duration // since the call began
	Why     Why           // what the wait is for; empty in OnDone
	Err     error         // the last failure; in OnDone what the call returns
}

// Why says what a call waits for.
type Why string

// The reasons of waits.
const (
	WaitBackoff    Why = "backoff"     // the Config's own wait before a retry
	WaitRetryAfter Why = "retry-after" // the server's, which was longer
	WaitPause      Why = "pause"       // the Gate
	WaitBreaker    Why = "breaker"     // the Breaker, with WaitWhenOpen
	WaitLimiter    Why = "limiter"     // the Limiter
)

// announce reports the retry to come, and the wait before it. What it calls
// takes time, so it looks whether there is still time for the wait.
func (c *call) announce(ctx context.Context, cfg *Config, wait time.Duration) bool {
	if !cfg.reportsWaits() && cfg.OnRetry == nil {
		return false
	}
	why := WaitBackoff
	if wait > c.backoff {
		why = WaitRetryAfter
	}
	if cfg.Logger != nil {
		c.log(ctx, cfg, slog.LevelWarn, "retrying", c.last, readable("delay", wait), slog.String("why", string(why)))
	}
	if cfg.OnRetry != nil {
		cfg.OnRetry(ctx, c.event(cfg, why, wait))
	}
	if wait > 0 {
		c.reportWait(ctx, cfg, why, wait)
	}
	return c.stopIfOver(ctx, cfg, wait)
}

// reportsWaits reports whether a hook or the log wants waits.
func (c *Config) reportsWaits() bool { return c.OnWait != nil || c.Logger != nil }

// reportLonger reports a wait that ends later than was reported, and returns whether it
// did. One whose length is not known is 0, and is reported once.
func (c *call) reportLonger(ctx context.Context, cfg *Config, why Why, wait time.Duration, reported *time.Time) bool {
	if !cfg.reportsWaits() || wait <= 0 && !reported.IsZero() {
		return false
	}
	until := cfg.now().Add(wait)
	if !until.After(*reported) {
		return false
	}
	*reported = until
	c.reportWait(ctx, cfg, why, wait)
	return true
}

// reportWait reports a wait that begins, or, a limiter's, that is over.
func (c *call) reportWait(ctx context.Context, cfg *Config, why Why, wait time.Duration) {
	if cfg.Logger != nil && why != WaitBackoff && why != WaitRetryAfter { // the line of the retry has it
		level, cause := slog.LevelDebug, error(nil)
		if why == WaitBreaker || why == WaitPause && cfg.Gate.left() > 0 {
			level = slog.LevelInfo
		}
		if why == WaitPause {
			cause = cfg.Gate.cause()
		}
		c.log(ctx, cfg, level, "waiting", cause, readable("delay", wait), slog.String("why", string(why)))
	}
	if cfg.OnWait != nil {
		cfg.OnWait(ctx, c.event(cfg, why, wait))
	}
}

// finish ends the call with err.
func (c *call) finish(ctx context.Context, cfg *Config, err error) error {
	c.ended = true
	if cfg.Logger != nil {
		c.logEnd(ctx, cfg, err)
	}
	if cfg.OnDone != nil {
		cfg.OnDone(ctx, Event{Name: cfg.Name, Host: c.host, Attempt: c.attempts, Elapsed: c.elapsed(cfg), Err: err})
	}
	return err
}

// close ends what is still open when a call is left, however that came about:
// finish has not run if something panicked or called runtime.Goexit.
func (c *call) close(ctx context.Context, cfg *Config) {
	if c.taken {
		cfg.Budget.Refund()
	}
	if !c.ended {
		c.finish(ctx, cfg, errAbandoned)
	}
}

// logEnd logs the end of a call that retried or gave up.
func (c *call) logEnd(ctx context.Context, cfg *Config, err error) {
	level, text, reason := slog.LevelError, "giving up", ""
	e, gaveUp := err.(*Error)
	gaveUp = gaveUp && err != c.last
	switch {
	case gaveUp && e.Reason == ErrCircuitOpen:
		level, reason = e.level(), ErrCircuitOpen.Error()
	case gaveUp:
		level, reason = e.level(), e.reasonText()
	case c.attempts <= 1: // nothing was said before
		return
	case err == nil:
		level, text = slog.LevelInfo, "succeeded"
	case err == errAbandoned:
		reason = err.Error()
	default:
		reason = "not retryable"
		if cancelled(ctx) && !hasStatus(err) { // RetryIf knows what becomes of a cancel
			level = slog.LevelDebug
		}
	}
	attrs := make([]slog.Attr, 0, 3)
	if err != nil {
		attrs = append(attrs, slog.String("reason", reason))
	}
	attrs = append(attrs, readable("elapsed", c.elapsed(cfg)))
	if c.waited >= 10*time.Millisecond {
		attrs = append(attrs, readable("waited", c.waited))
	}
	c.log(ctx, cfg, level, text, c.last, attrs...)
}

// level is how much a call's end matters to those who read logs.
func (e *Error) level() slog.Level {
	switch Outcome(e) {
	case "not_idempotent": // only the caller can find out what became of it
		return slog.LevelWarn
	case "draining": // as intended, and what is lost is in the line
		return slog.LevelInfo
	case "canceled":
		return slog.LevelDebug
	case "paused", "circuit_open":
		if e.Attempts == 0 {
			return slog.LevelDebug
		}
	}
	return slog.LevelError
}

// log writes a line about the call, in the form that all of them have.
func (c *call) log(ctx context.Context, cfg *Config, level slog.Level, text string, err error, more ...slog.Attr) {
	attrs := append(make([]slog.Attr, 0, 9), slog.Int("attempt", c.attempts))
	if cfg.Name != "" {
		attrs = append(attrs, slog.String("name", cfg.Name))
	}
	if c.host != "" {
		attrs = append(attrs, slog.String("method", c.method), slog.String("host", c.host))
	}
	if c.status != 0 {
		attrs = append(attrs, slog.Int("status", c.status))
	}
	if attrs = append(attrs, more...); err != nil {
		attrs = append(attrs, slog.String("error", redact.Error(err)))
	}
	cfg.Logger.LogAttrs(ctx, level, text, attrs...)
}

// readable writes a duration as a person would: handlers for JSON write a
// number of nanoseconds.
func readable(key string, d time.Duration) slog.Attr { return slog.String(key, roughly(d).String()) }

func (c *call) event(cfg *Config, why Why, delay time.Duration) Event {
	return Event{Name: cfg.Name, Host: c.host, Attempt: c.attempts, Delay: delay, Elapsed: c.elapsed(cfg), Why: why, Err: c.last}
}

func (c *call) elapsed(cfg *Config) time.Duration {
	if c.start.IsZero() {
		return 0
	}
	return clock.Since(cfg.Clock, c.start)
}

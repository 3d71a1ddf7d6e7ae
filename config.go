package retry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/redact"
	"github.com/retryutils/retry/internal/valid"
)

// Values of [Config.MaxRetries] that no count expresses.
const (
	NoRetries = -1          // one attempt, whatever its result; for a POST see PerHost
	Unlimited = math.MaxInt // as many as the other limits allow
)

// Defaults of the fields of [Config] that are left zero.
const (
	DefaultMaxRetries    = 5
	DefaultInitialDelay  = time.Second
	DefaultMaxDelay      = time.Minute
	DefaultMultiplier    = 2.0
	DefaultMaxRetryAfter = 5 * time.Minute
)

// Config says how often a call is retried, how long it waits in between, and
// what it shares with other calls.
//
// The zero value is ready to use: five retries after waits of about 1, 2, 4, 8
// and 16 seconds. A Config is a plain value without state: copy it, change the
// copy, use one from any number of goroutines at once. Its functions must then be
// safe for concurrent use. It has one hook of each kind: one that is assigned replaces
// the one before, such as that of package statusz, so call that from the new one.
type Config struct {
	// Name stands in errors, log lines and events. In a client all hosts have it, and
	// are distinguished by [Event.Host]; where it is empty, each has its own address
	// as name, such as https://rest.ensembl.org. [PerHost] may set another for a host.
	// It does not name the breakers of [HostBreaker]: those have the host's address.
	Name string

	// MaxRetries is how many attempts may follow the first one. 0 means
	// [DefaultMaxRetries]; there are also [NoRetries] and [Unlimited].
	MaxRetries int

	// InitialDelay is the backoff before the first retry. 0 means 1s, or
	// MaxDelay if that is less.
	InitialDelay time.Duration

	// MaxDelay is the ceiling of the backoff, jitter included. 0 means 60s.
	// A server's Retry-After may ask for more, see MaxRetryAfter.
	MaxDelay time.Duration

	// Multiplier is how much longer each backoff is than the one before, at
	// least 1. 0 means 2.
	Multiplier float64

	// Jitter spreads the backoff, so that clients that failed together do not
	// come back together. The zero value means {0.8, 1.2}. A wait that a server asked
	// for is only lengthened: by up to a tenth of it, or by up to Max - Min where that
	// is less. With [NoJitter] it is exact.
	Jitter Jitter

	// Backoff replaces the exponential curve that InitialDelay and Multiplier
	// describe. Jitter and MaxDelay apply to it as well.
	Backoff Backoff

	// MaxElapsed bounds attempts and waits together: no retry begins at or
	// after it, and no wait that would reach it. It does not cut an attempt
	// short; AttemptTimeout or the context's deadline do that. 0 means no limit.
	MaxElapsed time.Duration

	// AttemptTimeout bounds one attempt, through the context that the function
	// is given. An attempt that runs into it is retried. 0 means none. In a
	// [RetryableClient] the Timeout of its base client bounds each attempt, too; without
	// a base client that is 30s.
	AttemptTimeout time.Duration

	// MaxRetryAfter is the longest wait that a server may ask for. One that
	// asks for more ends the call with [ErrRetryAfterTooLong]. 0 means 5m.
	MaxRetryAfter time.Duration

	// RetryIf decides which errors are worth another attempt; nil means
	// [Retryable], with RetryStatusCodes. The marks of [Permanent] and
	// [RetryAfter] are obeyed without asking it.
	//
	// It replaces the default, so call that inside for all other errors:
	//
	//	RetryIf: func(err error) bool { return !errors.Is(err, errLocked) && retry.Retryable(err) }
	//
	// RetryStatusCodes retries nothing then: Retryable goes by the default ones.
	RetryIf func(error) bool

	// RetryStatusCodes are the statuses of a [*StatusError] that are worth another
	// attempt. Nil means [DefaultRetryStatusCodes]: 408, 425, 429, 500, 502, 503 and
	// 504. Where RetryIf is set, that decides alone, and the list says only which
	// statuses below 400 are errors.
	//
	// A status of 5xx that is not registered, such as 520 or 529, is treated as a 500
	// (RFC 9110, section 15), and a 403 or 413 that says when to come back as a 429:
	// some servers mark their limits so. A server's X-Should-Retry or
	// Stripe-Should-Retry on a status of 400 or above is obeyed whatever the status.
	//
	// A status below 400 that is listed here is an error as well: a 202, say, to
	// wait for a result. Redirects are followed all the same, and a 101 is a
	// connection handed over.
	RetryStatusCodes []int

	// Drain, once closed, ends waits and begins no retry, with [ErrDraining]: for a
	// graceful shutdown, or as the Done of a context that says so. Attempts in flight
	// finish. A first attempt is still made where it need not wait, since the work
	// that is finishing may depend on it. Nil means never. The example "Config (Drain)"
	// shuts a server down.
	Drain <-chan struct{}

	// Breaker is passed by every attempt. While it is open the call ends at
	// once with [ErrCircuitOpen], or waits, if WaitWhenOpen is set.
	Breaker *CircuitBreaker

	// WaitWhenOpen waits for an open Breaker to let calls through again, as
	// far as the context and MaxElapsed allow. It uses up no attempt. Calls
	// that waited are let through one by one when the breaker has closed.
	WaitWhenOpen bool

	// Budget is asked for every retry; first attempts are free. A retry that a server asked
	// for by a Retry-After counts as well, since it is load on a server in trouble: where
	// calls are often throttled, give it a ratio near 1, or none, as the Gate keeps calls
	// back there. NewBudget says how to choose.
	Budget *Budget

	// Gate is waited at by every attempt, and learns from those that the server
	// refuses: by a 429 or 503, a 403 that names a wait, or an error marked
	// [RetryAfter]. It says which of the calls that share it pause then.
	// A [RetryableClient] gives each host a Gate of its own; one that is set here
	// couples all hosts. For listeners on the hosts' own, see [PerHost].
	Gate *Gate

	// Limiter is waited for by every attempt: a *rate.Limiter, for example.
	Limiter Limiter

	// OnStart is called when a call with a valid Config begins, before anything
	// else. The context it returns, unless nil, is the call's from then on: for
	// its waits, its attempts and the other hooks. It must be derived from the
	// one given. It is the place for the span of a trace: the next request of a chain
	// of redirects is a call of its own, whose OnStart finds the values of this
	// context. If it panics, the call has not begun, and OnDone is not called.
	OnStart func(context.Context, Event) context.Context

	// OnAttempt is called when an attempt begins, after all that it waits for:
	// Event.Attempt is its number, 1 for the first, Event.Err the failure before
	// it. The context it returns, unless nil, is the attempt's; it must be
	// derived from the one given. AttemptTimeout begins after it.
	OnAttempt func(context.Context, Event) context.Context

	// OnAttemptDone is called when an attempt has ended, also if the function
	// panicked or called runtime.Goexit, with the context that OnAttempt
	// returned: Event.Err is what came of it, nil for a success.
	OnAttemptDone func(context.Context, Event)

	// OnRetry is called after each failed attempt that another one follows,
	// before the wait: Event.Attempt is the number of the failed attempt,
	// Event.Delay the wait, Event.Err the failure. It may cancel the context.
	OnRetry func(context.Context, Event)

	// OnDone is called once at the end of every call that had a valid Config,
	// also if the function panicked or called runtime.Goexit: Event.Attempt is
	// the number of attempts made, Event.Err what the call returns.
	OnDone func(context.Context, Event)

	// OnWait is called before every wait of a call: Event.Why says what for,
	// Event.Delay how long, or 0 if that is not known. A wait that becomes longer
	// is reported again. How long a Limiter waits is known afterwards only, so that
	// OnWait is called after that wait, if it took 1ms or more. It may cancel the
	// context.
	OnWait func(context.Context, Event)

	// Logger receives the retries and the end of a call; nil means silence. A call
	// whose only attempt succeeds, or fails with an error that is not retryable,
	// is not mentioned. Each line has the keys attempt, name and error, and of a request
	// method, host and status, as far as there are such. The others are
	//
	//	message        level   keys             when
	//	retrying       WARN    delay, why       a retry follows after a wait
	//	waiting        INFO    delay, why       for Breaker, or for a pause of Gate
	//	               DEBUG                    for Limiter, or in the queue of Gate
	//	pausing        INFO    delay, until     an error paused Gate
	//	pacing at …/s, no pace, …
	//	               INFO                     Gate set its pace, doubled or halved it, or
	//	                                        gave it up; the message has the reason
	//	succeeded      INFO    elapsed, waited  after retries; waited is all of its waits
	//	giving up      ERROR   reason, elapsed, after retries, or because of a limit
	//	                       waited
	//	               WARN                     a request that may have been carried out,
	//	                                        and is not idempotent
	//	               INFO                     draining
	//	               DEBUG                    cancelled; or paused, or rejected by
	//	                                        Breaker, before any attempt
	//	circuit breaker changed state
	//	               WARN    from, to, cause  this call opened Breaker; until says when
	//	                                        it will let a probe through; name is the
	//	                                        Breaker's, of a request the Config's, and
	//	                                        breaker then the Breaker's
	//	               INFO                     it changed Breaker otherwise
	Logger *slog.Logger

	// Clock times everything: waits, attempt timeouts, Elapsed, and the
	// distance to the context's deadline. Nil means the real clock. Where it is
	// set, Breaker and Gate must be on the same one.
	//
	// Tests are simpler in a bubble of testing/synctest, which needs no Clock.
	// A real listener does not work there; package retrytest plays a server. With
	// a fake clock, mind that its BlockUntil counts AttemptTimeout's timers too. The
	// examples "Config (Synctest)" and "Config (Clock)" show both.
	Clock clockwork.Clock

	// Rand draws from [0, 1) for the jitter. Nil means math/rand/v2.
	Rand func() float64

	host string // of a client, for lines of what does not know the call
}

// Limiter is what [Config.Limiter] must do: wait until one more attempt is due,
// or return an error if that cannot be before ctx is done. A *rate.Limiter of
// golang.org/x/time/rate is one.
type Limiter interface {
	Wait(context.Context) error
}

// Validate reports every field that cannot be used, one joined error each,
// naming the field, its value and what is wanted. All match [ErrInvalidConfig].
// [Do] and the constructors call it; calling it first is for failing early.
func (c Config) Validate() error {
	return c.problems().Join(ErrInvalidConfig, valid.Of("Config"))
}

// LogValue is a group of the settings as they take effect: defaults filled in, what
// is not set left out or "none", and of functions only that they are there. String is
// the same as text.
func (c Config) LogValue() slog.Value { return slog.GroupValue(c.settings()...) }

// String is the settings of LogValue, as key=value each.
func (c Config) String() string {
	var b strings.Builder
	for i, a := range c.settings() {
		if i > 0 {
			b.WriteByte(' ')
		}
		text := a.Value.String()
		if strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || r == '"' || !unicode.IsPrint(r) }) {
			text = strconv.Quote(text)
		}
		b.WriteString(a.Key + "=" + text)
	}
	return b.String()
}

func (c *Config) settings() (attrs []slog.Attr) {
	add := func(key string, value any) { attrs = append(attrs, slog.Any(key, value)) }
	limit := func(key string, d time.Duration) {
		if d > 0 {
			add(key, d.String())
		} else {
			add(key, "none")
		}
	}
	if c.Name != "" {
		add("name", redact.Text(c.Name))
	}
	if n := c.maxRetries(); n == Unlimited {
		add("max_retries", "unlimited")
	} else {
		add("max_retries", n)
	}
	if c.Backoff != nil {
		add("backoff", "custom")
	} else {
		limit("initial_delay", min(cmp.Or(c.InitialDelay, DefaultInitialDelay), c.maxDelay()))
		add("multiplier", cmp.Or(c.Multiplier, DefaultMultiplier))
	}
	limit("max_delay", c.maxDelay())
	add("jitter", c.jitter().String())
	limit("max_elapsed", c.MaxElapsed)
	limit("attempt_timeout", c.AttemptTimeout)
	limit("max_retry_after", c.maxRetryAfter())
	if c.RetryIf != nil {
		add("retry_if", "custom")
	} else {
		codes := c.RetryStatusCodes
		if codes == nil {
			codes = defaultStatusCodes
		}
		list := strings.ReplaceAll(strings.Trim(fmt.Sprint(codes), "[]"), " ", ",") // as the environment has it
		add("retry_status_codes", cmp.Or(list, "none"))
	}
	if c.Breaker != nil {
		add("breaker", c.Breaker.settings())
		add("wait_when_open", c.WaitWhenOpen)
	}
	if c.Budget != nil {
		add("budget", c.Budget.settings())
	}
	if c.Gate != nil {
		add("gate", "set")
	}
	if c.Limiter != nil {
		add("limiter", fmt.Sprintf("%T", c.Limiter))
	}
	if c.Drain != nil {
		add("drain", "set")
	}
	if c.Clock != nil {
		add("clock", fmt.Sprintf("%T", c.Clock))
	}
	return attrs
}

func (c *Config) problems() (p valid.Problems) {
	valid.Require(&p, c.MaxRetries >= NoRetries, "MaxRetries", c.MaxRetries, "a count, 0 for the default, NoRetries or Unlimited")
	p.NotNegative("InitialDelay", c.InitialDelay)
	p.NotNegative("MaxDelay", c.MaxDelay)
	valid.RequireOther(&p, c.MaxDelay < 0 || c.InitialDelay <= c.maxDelay(), "InitialDelay", c.InitialDelay, "at most", "MaxDelay", c.maxDelay())
	valid.Require(&p, validMultiplier(c.Multiplier), "Multiplier", c.Multiplier, "a finite number of at least 1"+valid.OrDefault)
	valid.Require(&p, c.Jitter.valid(), "Jitter", c.Jitter, "0 <= Min <= Max, both finite")
	p.NotNegative("MaxElapsed", c.MaxElapsed)
	p.NotNegative("AttemptTimeout", c.AttemptTimeout)
	p.NotNegative("MaxRetryAfter", c.MaxRetryAfter)
	for _, code := range c.RetryStatusCodes {
		valid.Require(&p, validStatus(code), "RetryStatusCodes", code, "statuses from 100 to 999")
	}
	p.NotNil("Limiter", c.Limiter)
	p.NotNil("Clock", c.Clock)
	if c.Logger != nil {
		handler := c.Logger.Handler()
		valid.Require(&p, handler != nil, "Logger", "without a handler", "one that slog.New made")
		p.NotNil("Logger's handler", handler)
	}
	if c.Gate != nil {
		p.NotNil("Gate's clock", c.Gate.clock)
	}
	valid.Require(&p, c.Clock == nil || c.Breaker == nil || clock.Same(c.Clock, c.Breaker.clock()), "Breaker", "on another clock", "Clock in its BreakerConfig, too")
	valid.Require(&p, c.Clock == nil || c.Gate == nil || clock.Same(c.Clock, c.Gate.clock), "Gate", "on another clock", "one of NewGate(Clock)")
	return p
}

// validNumbers is what is left to judge where nothing but numbers is set.
func (c *Config) validNumbers() bool {
	// Where any of them is negative, so is their union.
	return c.InitialDelay|c.MaxDelay|c.MaxElapsed|c.AttemptTimeout|c.MaxRetryAfter >= 0 && c.MaxRetries >= NoRetries &&
		c.InitialDelay <= c.maxDelay() && validMultiplier(c.Multiplier) && c.Jitter.valid()
}

func validMultiplier(m float64) bool { return m == 0 || m >= 1 && m <= math.MaxFloat64 }

func validStatus(code int) bool { return code >= 100 && code <= 999 }

func (c *Config) maxRetries() int {
	switch c.MaxRetries {
	case 0:
		return DefaultMaxRetries
	case NoRetries:
		return 0
	}
	return c.MaxRetries
}

func (c *Config) maxRetryAfter() time.Duration {
	if c.MaxRetryAfter == 0 {
		return DefaultMaxRetryAfter
	}
	return c.MaxRetryAfter
}

func (c *Config) now() time.Time { return clock.Now(c.Clock) }

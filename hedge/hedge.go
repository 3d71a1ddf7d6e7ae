// Package hedge cuts the slow tail of calls: where the answer to a request is late, it
// sends the request once more, and the first usable answer wins. The delay is learned,
// for each host, as a quantile of the times that its answers took.
//
//	h, err := hedge.New(hedge.Config{})
//	client, err := retry.NewRetryableClient(base, cfg, retry.WrapTransport(h.Transport))
//
// A second request multiplies load exactly when a server is slow. So each one withdraws
// from a [retry.Budget], that of the retries where the Config of the client has one;
// none is sent to a host whose breaker is not closed or whose gate pauses or paces, past
// a Limiter that does not allow it at once; nor while answers wait for each other, as many
// take longer than nearly all did when the server was calm. And hedges that do not win earn
// no others: where all requests are equally late, hedging stops, but for one call in two
// thousand that finds out whether it helps again.
//
// It works inside an attempt of the retry loop, whose breaker and gate see one attempt.
// A hedge is no retry: [retry.RetryCount] is that of the attempt, and [Count]
// distinguishes the two.
package hedge

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/valid"
)

// Config says when to hedge. The zero value is a good one.
type Config struct {
	// Delay is how late an answer must be. 0: learned. None is sent until a hundred
	// answers or so are known; 30 seconds and 200 calls after times have changed, the
	// old ones count no longer.
	Delay time.Duration
	// Quantile of the times of answers that the learned delay is, in (0, 1). 0: 0.95.
	// About 1 - Quantile of the calls are late: a smaller one wants a larger Budget.
	Quantile float64
	// MaxHedges of one call, each a delay after the one before. 0: 1.
	MaxHedges int
	// Budget that each hedge withdraws from. Calls deposit into it, unless it is that of
	// the request's own Config, into which the retry loop does. nil: that of the
	// request's Config, or, where there is none, one of its own, of 5 % of the calls.
	Budget *retry.Budget
	// Eligible reports whether a request may be sent twice at the same time; it is asked
	// unless [retry.WithIdempotent] has decided. nil: GET, HEAD, OPTIONS and QUERY. A PUT
	// or DELETE is none of them, because two that race are no repetition; nor is one with
	// an Idempotency-Key, which servers may answer with a 409 while the first is at work.
	Eligible func(*http.Request) bool
	// Clock, nil: that of the request's Config, or the real one.
	Clock clockwork.Clock
}

const (
	defaultQuantile = 0.95
	ownRatio        = 0.05 // of the budget where none is given
	ownBurst        = 10
	ownReserve      = 3
)

// validate reports what is wrong with the settings, with errors that match
// [retry.ErrInvalidConfig].
func (c Config) validate() error {
	var p valid.Problems
	p.NotNegative("Delay", c.Delay)
	valid.Require(&p, c.Quantile >= 0 && c.Quantile < 1, "Quantile", c.Quantile, "between 0 and 1"+valid.OrDefault)
	valid.Require(&p, c.MaxHedges >= 0, "MaxHedges", c.MaxHedges, "0 or more")
	p.NotNil("Clock", c.Clock)
	return p.Join(retry.ErrInvalidConfig, valid.Of("hedge.Config"))
}

// Hedge is what the calls that hedge share. It is safe for concurrent use.
type Hedge struct {
	cfg    Config
	budget *retry.Budget // its own

	calls, hedges, won, refused atomic.Int64
	recent                      atomic.Pointer[target] // of the last call
	functions                   *target                // of Do

	mu    sync.Mutex // guards hosts
	hosts map[address]*target
}

// New returns a Hedge. An error matches [retry.ErrInvalidConfig].
func New(cfg Config) (*Hedge, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Quantile == 0 {
		cfg.Quantile = defaultQuantile
	}
	if cfg.MaxHedges == 0 {
		cfg.MaxHedges = 1
	}
	budget, err := retry.NewBudget(ownRatio, ownBurst)
	if err != nil {
		return nil, err
	}
	h := &Hedge{cfg: cfg, budget: budget, hosts: make(map[address]*target)}
	if h.functions, err = newTarget(cfg.Quantile); err != nil {
		return nil, err
	}
	return h, nil
}

// Snapshot is what has become of the calls so far.
type Snapshot struct {
	Calls   int64         // all, eligible or not
	Hedges  int64         // requests beside them
	Won     int64         // hedges that answered first
	Refused int64         // calls that were late, and not hedged when they were: for the budget, a breaker, a gate, a crowd at the server, or because hedges do not win
	Delay   time.Duration // the given one, or what is learned of the host of the last call; 0: not enough is known
}

// Snapshot returns a copy of the counts.
func (h *Hedge) Snapshot() Snapshot {
	s := Snapshot{Calls: h.calls.Load(), Hedges: h.hedges.Load(), Won: h.won.Load(), Refused: h.refused.Load()}
	if t := h.recent.Load(); t != nil {
		s.Delay = h.delay(t)
	} else {
		s.Delay = h.cfg.Delay
	}
	return s
}

// delay is how late a call to the target must be; 0: there is nothing to go by.
func (h *Hedge) delay(t *target) time.Duration {
	if h.cfg.Delay > 0 {
		return h.cfg.Delay
	}
	return t.times.quantile()
}

// Do calls fn, and once more beside itself where the first is late; what succeeds first is
// returned. fn must be idempotent, and safe for concurrent use. An error that
// [retry.Retryable] says no to ends the call as a success does; another one waits for what
// else is under way. The context of the call that lost ends at once, and that of the one
// that won when Do returns, or, if its value is an *http.Response, when that is closed. A
// value that lost is closed if it has a method Close.
//
// The delay is learned from all calls of Do by h. A Budget that is given gets the deposits
// of these calls: where an attempt of a [retry.Do] with the same Budget calls this Do, those
// of both, and so 1 + 2 × ratio is the bound of the load.
func Do[T any](ctx context.Context, h *Hedge, fn func(context.Context) (T, error)) (T, error) {
	h.calls.Add(1)
	terms := h.terms(ctx)
	delay := h.begin(h.functions, &terms)
	if delay > 0 {
		return run(ctx, h, h.functions, &terms, delay, function[T](fn))
	}
	began := terms.clock.Now()
	value, err := fn(ctx)
	if err == nil || done(ctx) {
		h.learn(h.functions, &terms, began)
	}
	return value, err
}

// function is the contest of Do.
type function[T any] func(context.Context) (T, error)

func (fn function[T]) enter(ctx context.Context, _ int) func() (T, error) {
	return func() (T, error) { return fn(ctx) }
}

func (fn function[T]) usable(_ T, err error) bool { return err == nil || !retry.Retryable(err) }

func (fn function[T]) hand(value T, end func()) T {
	if resp, ok := any(value).(*http.Response); ok && resp != nil {
		handOver(resp, end)
	} else {
		end()
	}
	return value
}

func (fn function[T]) drop(value T, err error) {
	switch v := any(value).(type) {
	case *http.Response:
		discard(v)
	case io.Closer:
		if err == nil {
			v.Close()
		}
	}
}

// Count returns the number of the hedge that ctx was given to: 0 in the first request of
// an attempt, and outside of any, 1 in its hedge.
func Count(ctx context.Context) int {
	if ctx == nil {
		return 0
	}
	n, _ := ctx.Value(countKey{}).(int)
	return n
}

type countKey struct{}

// entryContext has the number of a request.
type entryContext struct {
	context.Context
	n int
}

func (c *entryContext) Value(key any) any {
	if key == (countKey{}) {
		return c.n
	}
	return c.Context.Value(key)
}

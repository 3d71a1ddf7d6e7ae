package hedge

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
)

// terms are those on which a call may be hedged: the settings of the request's Config, as
// far as there is one, under those of the Hedge.
type terms struct {
	clock   clockwork.Clock
	budget  *retry.Budget
	own     bool // it is the Hedge's own
	deposit bool // into it, by us
	breaker *retry.CircuitBreaker
	gate    *retry.Gate
	limiter retry.Limiter
	drain   <-chan struct{}

	// Of the log line.
	logger *slog.Logger
	name   string
	req    *http.Request // nil for a function
}

func (h *Hedge) terms(ctx context.Context) terms {
	t := terms{clock: h.cfg.Clock, budget: h.cfg.Budget}
	cfg, found := retry.ConfigOf(ctx)
	if found {
		t.breaker, t.gate, t.limiter, t.drain = cfg.Breaker, cfg.Gate, cfg.Limiter, cfg.Drain
		t.logger, t.name = cfg.Logger, cfg.Name
		if t.clock == nil {
			t.clock = cfg.Clock
		}
		if t.budget == nil {
			t.budget = cfg.Budget
		}
	}
	if t.clock == nil {
		t.clock = realClock
	}
	if t.budget == nil {
		t.budget, t.own = h.budget, true
	}
	t.deposit = (!found || t.budget != cfg.Budget) && retry.RetryCount(ctx) == 0
	return t
}

var realClock = clockwork.NewRealClock()

// allow takes a hedge out of the budget, if there may be one now. A call that asks for the
// first time leaves a part of what is saved up to those that ask again: of the calls that
// are late, those that are still under way a little later are helped most.
func (t *terms) allow(to *target, first bool) bool {
	select {
	case <-t.drain: // nothing begins that need not
		return false
	default:
	}
	if t.breaker != nil && t.breaker.State() != retry.StateClosed {
		return false
	}
	if t.gate != nil {
		if _, paused := t.gate.PausedUntil(); paused {
			return false
		}
		if _, paced := t.gate.Pace(); paced {
			return false
		}
	}
	if to.times.crowded() {
		return false
	}
	if first && (to.worth.Balance() < 1+worthReserve || t.own && t.budget.Balance() < 1+ownReserve) {
		return false
	}
	if !to.worth.Withdraw() {
		return false
	}
	if !t.budget.Withdraw() {
		to.worth.Refund()
		return false
	}
	if t.limiter != nil { // as that of golang.org/x/time/rate
		if l, ok := t.limiter.(interface{ Allow() bool }); !ok || !l.Allow() {
			t.giveBack(to)
			return false
		}
	}
	return true
}

// giveBack returns what allow took.
func (t *terms) giveBack(to *target) {
	to.worth.Refund()
	t.budget.Refund()
}

// begin notes that a call is made, and returns how late its answer must be for a hedge; 0:
// there is none.
func (h *Hedge) begin(to *target, t *terms) time.Duration {
	h.recent.Store(to)
	to.worth.Deposit()
	if t.deposit {
		t.budget.Deposit()
	}
	return h.delay(to)
}

// learn notes how long an answer took, or that there was none by now. What failed by itself
// says nothing of how long answers take.
func (h *Hedge) learn(to *target, t *terms, began time.Time) {
	if h.cfg.Delay == 0 {
		now := t.clock.Now()
		to.times.add(now, now.Sub(began))
	}
}

// contest is what is hedged: requests, or a function.
type contest[T any] interface {
	// enter prepares the request with the number n, on the goroutine of the caller, and
	// returns what sends it; nil if it cannot be sent once more.
	enter(ctx context.Context, n int) func() (T, error)
	// usable reports whether an outcome ends the call, though another may come.
	usable(value T, err error) bool
	// hand gives an outcome to the caller, and calls end when its context may end.
	hand(value T, end func()) T
	// drop closes what the caller does not get.
	drop(value T, err error)
}

// outcome is what came of one request.
type outcome[T any] struct {
	n        int
	value    T
	err      error
	panicked any
	exited   bool // by runtime.Goexit
}

// race is a call with the requests that are under way for it.
type race[T any] struct {
	contest  contest[T]
	outcomes chan outcome[T]      // unbuffered: one is taken, or dropped where it arises
	over     chan struct{}        // closed when no other is taken
	ends     []context.CancelFunc // of the requests' contexts; nil: not ours to call
	two      [2]context.CancelFunc
	underway int
}

// run makes a call to a target, and sends further requests when it is later than delay.
func run[T any](ctx context.Context, h *Hedge, to *target, t *terms, delay time.Duration, c contest[T]) (T, error) {
	r := &race[T]{contest: c, outcomes: make(chan outcome[T]), over: make(chan struct{})}
	r.ends = r.two[:0]
	defer r.end()
	began := t.clock.Now()
	r.start(ctx, 0)
	timer := t.clock.NewTimer(delay)
	defer timer.Stop()

	late := timer.Chan()
	pause, refused := max(delay/4, time.Millisecond), false
	first := true        // is under way
	var best *outcome[T] // so far, while others are under way
	for {
		select {
		case <-late:
			switch {
			case done(ctx):
				late = nil
			case !t.allow(to, !refused):
				if !refused {
					refused = true
					h.refused.Add(1)
				}
				timer.Reset(pause)
				pause *= 2
			case !r.start(ctx, len(r.ends)):
				t.giveBack(to)
				late = nil
			default:
				h.hedges.Add(1)
				if len(r.ends) > h.cfg.MaxHedges {
					late = nil
				} else {
					timer.Reset(delay)
				}
			}

		case o := <-r.outcomes:
			r.underway--
			usable := c.usable(o.value, o.err)
			answered := usable && o.err == nil
			if o.panicked != nil || o.exited {
				r.drop(best)
				o.leave()
			}
			if first && (answered || o.n > 0 && usable || done(ctx)) {
				h.learn(to, t, began)
			}
			first = first && o.n > 0
			switch {
			case best == nil:
				best = &o
			case usable || best.err != nil && o.err == nil: // a response says more than an error
				r.drop(best)
				best = &o
			default:
				r.drop(&o)
			}
			if !usable && r.underway > 0 && !done(ctx) {
				break
			}
			won := answered && o.n > 0
			if won {
				h.won.Add(1)
				to.worth.Refund()
				if !to.times.crowded() {
					to.worth.Refund()
				}
			}
			if hedges := len(r.ends) - 1; hedges > 0 && t.logger != nil {
				t.log(ctx, delay, hedges, won)
			}
			end := r.ends[best.n]
			r.ends[best.n] = nil
			return c.hand(best.value, end), best.err
		}
	}
}

// start sends the request with the number n, and reports whether it can be sent.
func (r *race[T]) start(ctx context.Context, n int) bool {
	ctx, end := context.WithCancel(ctx)
	r.ends = append(r.ends, end)
	send := r.contest.enter(&entryContext{ctx, n}, n)
	if send == nil {
		r.ends = r.ends[:n]
		end()
		return false
	}
	r.underway++
	go func() {
		o := outcome[T]{n: n, exited: true}
		defer func() {
			if o.exited {
				o.panicked = recover()
			}
			select {
			case r.outcomes <- o:
			case <-r.over: // a panic of one that lost has no caller to go to
				r.contest.drop(o.value, o.err)
			}
		}()
		o.value, o.err = send()
		o.exited = false
	}()
	return true
}

// end ends all requests but the one that was handed to the caller.
func (r *race[T]) end() {
	close(r.over)
	for _, end := range r.ends {
		if end != nil {
			end()
		}
	}
}

// drop closes an outcome that the caller does not get. Its context ends afterwards, so
// that what is left of a response can be read, and its connection used again.
func (r *race[T]) drop(o *outcome[T]) {
	if o == nil || o.err != nil {
		return
	}
	end := r.ends[o.n]
	r.ends[o.n] = nil
	go func() {
		defer end()
		r.contest.drop(o.value, o.err)
	}()
}

// leave leaves the goroutine of the caller as the request's was left.
func (o *outcome[T]) leave() {
	if o.panicked != nil {
		panic(o.panicked)
	}
	runtime.Goexit()
}

// log writes the line about a call that was hedged.
func (t *terms) log(ctx context.Context, delay time.Duration, hedges int, won bool) {
	attrs := append(make([]slog.Attr, 0, 6), slog.String("delay", delay.String()), slog.Int("hedges", hedges), slog.Bool("won", won))
	if t.name != "" {
		attrs = append(attrs, slog.String("name", t.name))
	}
	if t.req != nil {
		host := t.req.URL.Scheme + "://" + t.req.URL.Host // without user information
		attrs = append(attrs, slog.String("method", cmp.Or(t.req.Method, http.MethodGet)), slog.String("host", host))
	}
	t.logger.LogAttrs(ctx, slog.LevelInfo, "hedged", attrs...)
}

// done reports whether ctx is done, by its channel: the Err of some contexts blocks until
// they are.
func done(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

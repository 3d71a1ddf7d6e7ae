package retry

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/valid"
)

// Budget is an allowance of retries that many calls share, so that a fleet of
// clients does not multiply its load on a dependency that is down. Each call
// deposits a share of a retry, each retry withdraws a whole one. Besides, where
// burst is 1 or more, one retry a minute accrues, so that a job that runs once an
// hour has one. When all calls fail, the load is at most 1 + ratio + burst/calls
// times the calls, and one a minute for each process. First attempts are never
// refused.
//
// A retry after a Retry-After is withdrawn like any other, because it is load as well: a
// server that fails may send the header with every answer. What it asks of the other
// calls is kept by the [Gate], which takes nothing from the budget.
//
// The idea is Finagle's RetryBudget, and of Google's "Site Reliability
// Engineering", chapter 21.
//
// A Budget is safe for concurrent use. The zero value allows no retry.
type Budget struct {
	balance atomic.Int64 // in units
	perCall int64
	limit   int64 // a balance that high takes no more
	accrues bool  // with time, too

	refusals atomic.Int64

	mu    sync.Mutex // guards the fields below
	clock clockwork.Clock
	since time.Time // on clock: up to when time was paid out
}

// A retry accrues in a minute, in so many steps: all of them together are exactly one.
const (
	stepsPerRetry = 20
	accrualStep   = time.Minute / stepsPerRetry
)

// unit is what part of a retry a budget counts in.
const unit = 1_000_000_000

// NewBudget returns a budget of ratio retries for each call, 0.1 for one in ten,
// of which burst may be saved up, and are there from the start. With a burst of
// 0 it starts empty and saves up at most one retry, or, with a ratio above 1, at most what
// one call deposits. A fraction of a retry may be saved besides, so that every ratio is
// reached on average.
//
// A burst of 10 lets a few calls that fail together, or soon after the start, be
// retried. The dependency sees the sum of what all processes have saved up: from about
// a hundred processes on, take 1.
func NewBudget(ratio float64, burst int) (*Budget, error) {
	if err := (budgetValues{ratio, burst}).problems().Join(ErrInvalidConfig, valid.Of("NewBudget")); err != nil {
		return nil, err
	}
	// Rounded up, so that three deposits of a third make one.
	b := &Budget{perCall: int64(math.Ceil(ratio * unit)), limit: int64(burst) * unit, accrues: burst > 0}
	b.balance.Store(b.limit)
	if ratio > 0 {
		b.limit = max(b.limit, unit)
	}
	return b, nil
}

const maxBudget = 1_000_000_000

// budgetValues are the arguments of NewBudget.
type budgetValues struct {
	ratio float64
	burst int
}

func (v budgetValues) problems() (p valid.Problems) {
	valid.Require(&p, v.ratio >= 0 && v.ratio <= maxBudget, "ratio", v.ratio, "a finite number of 0 or more")
	valid.Require(&p, v.burst >= 0 && v.burst <= maxBudget, "burst", v.burst, "0 or more, and no more than a billion")
	return p
}

// Deposit notes that a call was made. [Do] and requests do so for their own calls:
// it is for attempts outside of them, as are Withdraw and Refund.
func (b *Budget) Deposit() { b.add(b.perCall) }

// Withdraw takes a retry, and reports whether there was one. Time counts by the real
// clock.
func (b *Budget) Withdraw() bool { return b.withdraw(nil) }

// Refund gives back what Withdraw took for an attempt that was not made after all.
func (b *Budget) Refund() { b.add(unit) }

// add adds all of n to a balance below the limit, also what goes beyond it: without
// that fraction of the next retry, a ratio of 0.75 would come to 0.5 on average.
func (b *Budget) add(n int64) {
	for {
		old := b.balance.Load()
		if old >= b.limit || n == 0 || b.balance.CompareAndSwap(old, old+n) {
			return
		}
	}
}

// Balance returns how many retries are left, with the fraction that is on its
// way to the next one. What accrues with time is added when a retry is asked for.
func (b *Budget) Balance() float64 { return float64(b.balance.Load()) / unit }

// Refusals returns how many retries were refused so far.
func (b *Budget) Refusals() int64 { return b.refusals.Load() }

// withdraw takes a retry, if there is one.
func (b *Budget) withdraw(on clockwork.Clock) bool {
	if b.accrues {
		b.accrue(on)
	}
	for {
		old := b.balance.Load()
		if old < unit {
			b.refusals.Add(1)
			return false
		}
		if b.balance.CompareAndSwap(old, old-unit) {
			return true
		}
	}
}

// accrue adds what is due for the time since the last time, as far as there is room; a
// full balance saves up no time. The time of another clock, or of one that was set
// back, begins to count now.
func (b *Budget) accrue(on clockwork.Clock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := clock.Now(on)
	if !clock.Same(on, b.clock) || at.Before(b.since) {
		b.clock, b.since = on, at
		return
	}
	steps := at.Sub(b.since) / accrualStep
	earned, room := int64(steps)*(unit/stepsPerRetry), max(0, b.limit-b.balance.Load())
	if earned >= room {
		earned, b.since = room, at
	} else {
		b.since = b.since.Add(steps * accrualStep)
	}
	b.balance.Add(earned)
}

// settings names what the budget was made with.
func (b *Budget) settings() string {
	burst := int64(0)
	if b.accrues {
		burst = b.limit / unit
	}
	return fmt.Sprintf("ratio %.4g, burst %d", float64(b.perCall)/unit, burst)
}

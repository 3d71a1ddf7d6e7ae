// Package retrytest helps to test code that uses package retry, without waiting
// and without a network.
//
// A [Script] plays a server: it gives the answers of its script, also those that a
// real one gives only when it is in trouble, and remembers what it was asked. [Never]
// is a function that must not be called, and [NoLeaks] sees to it that nothing is
// left behind.
//
// For the time, take the first of these that fits:
//
//   - [Run], where the code under test is given its Config: it makes one call on a
//     fake clock, and returns its waits.
//   - [Bubble], where calls are made side by side, or time comes from elsewhere too,
//     such as a time.Sleep, the deadline of a context or a rate.Limiter: the same in
//     a bubble of testing/synctest. No real network there: ask a Script.
//   - [Record], where a test has a bubble or clock of its own: it notes the waits, and
//     leaves the time alone.
//   - [Clock], where neither will do: a fake clock that moves on by itself whenever
//     a call waits for it.
//
// To run all tests of a service with every first attempt failing, see [FailFirst]. To
// test what it shows while a breaker is open, open it by [retry.CircuitBreaker.Trip]:
// the example "Package (OpenBreaker)".
//
// Wrong use fails the test: a request that the script has no answer for, and an
// answer that was not asked for.
package retrytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retryutils/retry"
)

// Waits are the waits of one or more calls, in the order in which they were
// passed to Config.OnWait.
type Waits []retry.Event

// Total is how long they are together.
func (w Waits) Total() time.Duration {
	var total time.Duration
	for _, wait := range w {
		total += wait.Delay
	}
	return total
}

// String lists the waits with their reasons: "1s backoff, 5s retry-after". Without any
// it is "no waits", where a test would otherwise show an empty string.
func (w Waits) String() string {
	if len(w) == 0 {
		return "no waits"
	}
	var all []string
	for _, wait := range w {
		all = append(all, fmt.Sprintf("%v %s", wait.Delay, wait.Why))
	}
	return strings.Join(all, ", ")
}

// Record returns cfg with an OnWait that notes each wait and then calls the one
// of cfg, and a function that returns what was noted so far. It is for calls
// that neither [Run] nor [Bubble] can make, such as several at once in a bubble
// of the test's own. Both are safe for concurrent use.
func Record(cfg retry.Config) (retry.Config, func() Waits) {
	var mu sync.Mutex
	var waits Waits
	next := cfg.OnWait
	cfg.OnWait = func(ctx context.Context, e retry.Event) {
		mu.Lock()
		waits = append(waits, e)
		mu.Unlock()
		if next != nil {
			next(ctx, e)
		}
	}
	return cfg, func() Waits {
		mu.Lock()
		defer mu.Unlock()
		return append(Waits(nil), waits...)
	}
}

// Run makes a call on a fake clock and returns its waits and its error. call is
// given cfg with a [Clock], unless it has a clock already, and with an OnWait
// that takes notes: one that is assigned in its place must call it. A Breaker or Gate of
// cfg must be on the same clock: make one with [NewClock], and give it to all of them. The
// slow answers of a [Script] go by it without that.
func Run(t testing.TB, cfg retry.Config, call func(retry.Config) error) (Waits, error) {
	t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = NewClock(t)
	}
	cfg, waits := Record(cfg)
	err := call(cfg)
	return waits(), err
}

// Bubble makes a call in a bubble of testing/synctest, where the clock stands still
// while any goroutine of the bubble can run, and returns its waits and its error. What
// the call uses must be made within it, a Drain above all: the bubble's time stands still
// while a call waits for a channel from outside. Goroutines that outlive the call fail the
// test. A test that fails logs both.
//
// Unlike [Run] it is good for limiters, for calls that are made side by side, and
// for contexts with a deadline.
func Bubble(t *testing.T, cfg retry.Config, call func(*testing.T, retry.Config) error) (waits Waits, err error) {
	t.Helper()
	if drain := cfg.Drain; drain != nil {
		select {
		case <-drain:
		default:
			t.Fatal("retrytest: Bubble: Config.Drain is a channel from outside of the bubble, whose time would stand still: set it within the call")
		}
	}
	cfg, noted := Record(cfg)
	place := caller()
	result := errNotReturned
	t.Cleanup(func() { // after what the test checks when this has returned
		if t.Failed() {
			t.Logf("retrytest: Bubble of %s: waits: %v; error: %v", place, noted(), result)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		err = call(t, cfg)
		result, waits = err, noted()
	})
	return waits, err
}

// errNotReturned is logged for a call that ended its test, by require or t.Fatal.
var errNotReturned = errors.New("unknown, since the call did not return")

// errNever is permanent, so that it is not tried again.
var errNever = retry.Permanent(errors.New("retrytest: this must not be called"))

// Never returns a function that fails the test if it is called. For requests
// that must not be sent there is a [Script] without answers.
func Never(t testing.TB) func(context.Context) error {
	place := caller()
	return func(context.Context) error {
		t.Helper()
		t.Errorf("%v (Never of %s)", errNever, place)
		return errNever
	}
}

package retry_test

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

// attempts makes n calls that all fail, in no time, and counts the attempts.
func attempts(t testing.TB, b *retry.Budget, n int) int {
	cfg := retry.Config{Backoff: retry.ConstantBackoff(0), Budget: b, MaxRetries: retry.Unlimited, Clock: clockwork.NewFakeClock()}
	total := 0
	for range n {
		fn, calls := script(errDown)
		gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrBudgetExhausted)
		total += *calls
	}
	return total
}

func TestBudgetBoundsTheLoadAtTotalFailure(t *testing.T) {
	for _, c := range []struct {
		ratio float64
		burst int
	}{{0, 0}, {0, 3}, {0.1, 0}, {0.1, 3}, {0.2, 10}, {0.3, 2}, {1.0 / 3, 1}, {1, 5}, {2.5, 100}} {
		for _, calls := range []int{1, 10, 1000} {
			got := attempts(t, budget(t, c.ratio, c.burst), calls)
			assert.GreaterOrEqual(t, got, calls, "first attempts are free")
			assert.LessOrEqual(t, float64(got), float64(calls)*(1+c.ratio)+float64(c.burst)+1e-6, "%v", c)
			if c.burst > 0 { // and what is allowed can be had; it is full before the first call
				assert.GreaterOrEqual(t, float64(got), float64(calls)+float64(calls-1)*c.ratio+float64(c.burst)-1.001, "%v", c)
			}
		}
	}
}

// Check and take are one step: 200 goroutines share exactly what is there.
func TestWithdrawIsOneStep(t *testing.T) {
	for burst, ratio := range []float64{0, 0, 0.1} {
		cfg := retry.Config{Backoff: retry.ConstantBackoff(0), Budget: budget(t, ratio, 10*burst), MaxRetries: retry.Unlimited}
		var calls atomic.Int64
		rush(200, func() bool {
			return retry.Run(t.Context(), cfg, func(context.Context) error { calls.Add(1); return errDown }) == nil
		})
		assert.LessOrEqual(t, calls.Load(), 200+int64(10*burst)+int64(200*ratio))
		if ratio == 0 {
			assert.Equal(t, 200+int64(10*burst), calls.Load())
		}
	}
}

func TestWhatDrainsAndRefillsABudget(t *testing.T) {
	b := budget(t, 0.5, 2)
	succeed := retry.Config{Budget: b}
	for range 100 { // saves up no more than the burst
		assert.NoError(t, retry.Run(t.Context(), succeed, func(context.Context) error { return nil }))
	}
	assert.Equal(t, 1+2, attempts(t, b, 1))
	for range 4 { // an error that is not retried takes nothing, and each call deposits
		_ = retry.Run(t.Context(), succeed, func(context.Context) error { return retry.Permanent(errDown) })
	}
	assert.Equal(t, 1+2, attempts(t, b, 1))
}

// In no time, calls alone deposit.
func TestCallsDeposit(t *testing.T) {
	b := budget(t, 0, 1)
	assert.Equal(t, 2, attempts(t, b, 1))
	assert.Equal(t, 5, attempts(t, b, 5))
	assert.Equal(t, 3, attempts(t, new(retry.Budget), 3), "the zero value allows no retry")
}

// A job that ran once an hour, and met one hiccup each time, failed in 10 of 12
// runs: with the recommended budget its calls earn a retry in ten hours.
func TestBudgetOfAJobThatRunsOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{Budget: budget(t, 0.1, 1)}
		for range 12 {
			fn, _ := script(errDown, nil)
			assert.NoError(t, retry.Run(t.Context(), cfg, fn))
			fn, _ = script(errDown, nil)
			gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrBudgetExhausted)
			time.Sleep(time.Hour)
		}
	})
}

// One retry a minute accrues, never more than the burst, and nothing for the time in
// which it was full; without a burst there is none.
func TestBudgetAccruesOneAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, three, none := budget(t, 0, 1), budget(t, 0, 3), budget(t, 0, 0)
		withdraw := func(b *retry.Budget) (n int) {
			for b.Withdraw() {
				n++
			}
			return n
		}
		time.Sleep(90 * time.Second) // full: the half minute does not count
		assert.Equal(t, []int{1, 3, 0}, []int{withdraw(one), withdraw(three), withdraw(none)})
		for _, c := range []struct {
			sleep time.Duration
			want  []int
		}{
			{time.Minute - 1, []int{0, 0, 0}},
			{1, []int{1, 1, 0}},
			{90 * time.Second, []int{1, 1, 0}},
			{30 * time.Second, []int{0, 1, 0}},
			{24 * time.Hour, []int{1, 3, 0}},
			{62 * time.Second, []int{1, 1, 0}},
			{58 * time.Second, []int{0, 1, 0}}, // the one was full for 2 seconds
		} {
			time.Sleep(c.sleep)
			assert.Equal(t, c.want, []int{withdraw(one), withdraw(three), withdraw(none)}, c.sleep)
		}
	})
}

// Time counts by the clock of the Config that asks. What another clock says, or one
// that was set back, is no time that has passed.
func TestBudgetAccruesByTheClockThatAsks(t *testing.T) {
	wall := &wallClock{FakeClock: clockwork.NewFakeClockAt(time.Date(1984, 4, 4, 0, 0, 0, 0, time.UTC))}
	b := budget(t, 0, 1)
	asks := func(clock clockwork.Clock) error {
		fn, _ := script(errDown, nil)
		return retry.Run(t.Context(), retry.Config{Budget: b, Clock: clock, Backoff: retry.ConstantBackoff(0)}, fn)
	}
	assert.NoError(t, asks(wall))
	wall.Advance(time.Minute)
	assert.NoError(t, asks(wall))
	for range 3 {
		assert.False(t, b.Withdraw(), "years away")
		assert.ErrorIs(t, asks(wall), retry.ErrBudgetExhausted)
	}
	wall.step(-time.Hour)
	assert.ErrorIs(t, asks(wall), retry.ErrBudgetExhausted)
	wall.Advance(time.Minute)
	assert.NoError(t, asks(wall), "and not an hour later")
}

// Attempts outside of the loop keep the same books.
func TestBudgetForAttemptsOutsideOfTheLoop(t *testing.T) {
	b := budget(t, 0.5, 1)
	assert.True(t, b.Withdraw())
	assert.False(t, b.Withdraw())
	b.Deposit()
	b.Deposit()
	assert.True(t, b.Withdraw())
	b.Refund()
	assert.Equal(t, 1.0, b.Balance())
	assert.EqualValues(t, 1, b.Refusals())
}

// Every ratio is reached on average. With a ratio of 0.75 and a burst of 1, it was
// 0.5: what a call deposited above the limit was lost.
func TestBudgetLosesNoFraction(t *testing.T) {
	assert.InDelta(t, 17_500, attempts(t, budget(t, 0.75, 1), 10_000), 1)
	const calls = 300
	for _, burst := range []int{0, 1, 2, 10} {
		for ratio := 0.01; ratio <= 5; ratio += 0.0837 {
			got := float64(attempts(t, budget(t, ratio, burst), calls) - calls - burst)
			assert.InDelta(t, ratio*calls, got, max(1, 0.01*ratio*calls), "ratio %v, burst %v", ratio, burst)
		}
	}
}

// With a burst of 0 it starts empty and saves up one.
func TestBudgetWithoutABurst(t *testing.T) {
	b := budget(t, 0.5, 0)
	assert.Equal(t, 1, attempts(t, b, 1))
	assert.Equal(t, 2, attempts(t, b, 1))
	for range 10 {
		assert.NoError(t, retry.Run(t.Context(), retry.Config{Budget: b}, func(context.Context) error { return nil }))
	}
	assert.Equal(t, 2, attempts(t, b, 1))
	assert.Equal(t, 1, attempts(t, new(retry.Budget), 1), "the zero value has none")

	synctest.Test(t, func(t *testing.T) {
		b := budget(t, 0.5, 0)
		assert.False(t, b.Withdraw())
		time.Sleep(time.Hour)
		assert.False(t, b.Withdraw(), "nothing accrues")
		none := budget(t, 0, 0)
		none.Refund()
		assert.False(t, none.Withdraw(), "it has room for none")
	})
}

func TestImpossibleBudgets(t *testing.T) {
	for want, c := range map[string]struct {
		ratio float64
		burst int
	}{
		"ratio is -0.1": {-0.1, 1}, "ratio is NaN": {math.NaN(), 1}, "ratio is +Inf": {math.Inf(1), 1},
		"ratio is 1e+10": {1e10, 1}, "burst is -1": {0.1, -1}, fmt.Sprintf("burst is %d", math.MaxInt): {0.1, math.MaxInt},
	} {
		b, err := retry.NewBudget(c.ratio, c.burst)
		assert.Nil(t, b)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, want)
	}
	b := budget(t, 1e9, 1e9) // the largest there is does not overflow
	fn, _ := script(errDown)
	_ = retry.Run(t.Context(), retry.Config{Budget: b, Backoff: retry.ConstantBackoff(0)}, fn)
}

package retry_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A call became slow in flight, when there were not enough calls to judge; a fast
// one made them enough; and when the slow one ended nobody judged any more.
func TestSlowShareIsJudgedAtTheEndOfEachSlowCall(t *testing.T) {
	for name, look := range map[string]bool{"noticed in flight": true, "noticed at its end": false} {
		for result, want := range map[error]retry.State{
			nil:                                 retry.StateOpen,
			errDown:                             retry.StateOpen,
			&retry.StatusError{StatusCode: 404}: retry.StateOpen,
			context.Canceled:                    retry.StateClosed,
		} {
			b, clock := newBreaker(t, slowFromOneSecond)
			slow := permit(t, b)
			if look {
				clock.Advance(time.Second)
				report(t, b, 1, nil)
			} else {
				report(t, b, 1, nil)
				clock.Advance(time.Second)
			}
			assert.Equal(t, retry.StateClosed, b.State())
			slow.Done(result)
			assert.Equal(t, want, b.State(), "%s %v", name, result)
		}
	}
}

// Many slow calls ended one by one after they had been noticed together, too few
// of them to judge by then.
func TestSlowCallsThatEndLater(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { slowFromOneSecond(c); c.MinCalls = 10 })
	var slow []retry.Permit
	for range 5 {
		slow = append(slow, permit(t, b))
	}
	clock.Advance(2 * time.Second)
	report(t, b, 4, nil)
	slow[0].Done(nil)
	assert.Equal(t, retry.StateClosed, b.State(), "9 calls")
	report(t, b, 1, nil)
	assert.Equal(t, retry.StateClosed, b.State(), "a fast success opens nothing")
	slow[1].Done(nil)
	assert.Equal(t, retry.StateOpen, b.State(), "5 of 10")
}

// With FailureRate: 0.5, a fifth of failures at random opened a breaker: five of
// them came in a row, and nobody had asked for that.
func TestRateAloneDoesNotCountInARow(t *testing.T) {
	rate := func(c *retry.BreakerConfig) { c.FailureRate = 0.5 }
	slow := func(c *retry.BreakerConfig) { c.SlowCallRate, c.SlowCallDuration = 0.5, time.Second }
	for name, c := range map[string]struct {
		set       []func(*retry.BreakerConfig)
		threshold int
		opens     bool
	}{
		"no rate, 0":          {nil, 0, true},
		"failure rate, 0":     {[]func(*retry.BreakerConfig){rate}, 0, false},
		"slow rate, 0":        {[]func(*retry.BreakerConfig){slow}, 0, false},
		"both, 0":             {[]func(*retry.BreakerConfig){rate, slow}, 0, false},
		"failure rate, minus": {[]func(*retry.BreakerConfig){rate}, -1, false},
		"failure rate and 5":  {[]func(*retry.BreakerConfig){rate}, 5, true},
		"slow rate and 5":     {[]func(*retry.BreakerConfig){slow}, 5, true},
	} {
		b, _ := newBreaker(t, func(cfg *retry.BreakerConfig) {
			cfg.FailureThreshold, cfg.MinCalls = c.threshold, 100
			for _, set := range c.set {
				set(cfg)
			}
		})
		report(t, b, 90, nil)
		report(t, b, 4, errDown)
		assert.Equal(t, retry.StateClosed, b.State(), name)
		report(t, b, 1, errDown)
		assert.Equal(t, c.opens, b.State() == retry.StateOpen, name)
	}
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold, c.FailureRate = 0, 0.5 })
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		var result error
		if random.Float64() < 0.2 {
			result = errDown
		}
		report(t, b, 1, result)
		clock.Advance(10 * time.Millisecond)
	}
	assert.Equal(t, retry.StateClosed, b.State())
}

func byRate(c *retry.BreakerConfig) { c.FailureThreshold, c.FailureRate, c.MinCalls = -1, 0.5, 10 }

func TestB25_RateIsJudgedFromMinCallsOnAndAtFailures(t *testing.T) {
	b, _ := newBreaker(t, byRate)
	report(t, b, 9, errDown)
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, nil) // the tenth call, and the rate is over: but a success opens nothing
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
}

// 0.55 times 100 is a little more than 55 in floating point, so 55 failures of
// 100 did not reach a rate of 0.55.
func TestB25_RateIsReachedExactly(t *testing.T) {
	for percent := 1; percent <= 100; percent++ {
		b, _ := newBreaker(t, func(c *retry.BreakerConfig) {
			c.FailureThreshold, c.FailureRate, c.MinCalls = -1, float64(percent)/100, 100
		})
		report(t, b, 100-percent, nil)
		report(t, b, percent-1, errDown)
		require.Equal(t, retry.StateClosed, b.State(), percent)
		report(t, b, 1, errDown)
		require.Equal(t, retry.StateOpen, b.State(), percent)
	}
}

func TestB26_EventOnABucketEdgeBelongsToTheNewBucket(t *testing.T) {
	b, clock := newBreaker(t, byRate) // 10 buckets of 1s
	report(t, b, 1, errDown)          // bucket 0
	clock.Advance(time.Second)
	report(t, b, 1, nil) // bucket 1
	for range 25 {       // round the ring, several times over
		clock.Advance(9*time.Second - 1)
		assert.Equal(t, 1, b.Snapshot().Failures)
		clock.Advance(1) // the edge
		assert.Zero(t, b.Snapshot().Failures)
		assert.Equal(t, 1, b.Snapshot().Successes)
		report(t, b, 1, errDown)
		clock.Advance(time.Second)
		assert.Zero(t, b.Snapshot().Successes)
		report(t, b, 1, nil)
		assert.Equal(t, 2, b.Snapshot().Requests)
	}
}

func TestB28_WindowIdleForAYearForgets(t *testing.T) {
	b, clock := newBreaker(t, byRate)
	report(t, b, 9, errDown)
	clock.Advance(365 * 24 * time.Hour)
	assert.Zero(t, b.Snapshot().Requests)
	report(t, b, 9, errDown)
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
	clock.Advance(365 * 24 * time.Hour)
	assert.Equal(t, retry.StateHalfOpen, b.State())
}

func TestB29_WindowSlides(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.FailureThreshold, c.FailureRate, c.MinCalls = -1, 1, 8
	})
	report(t, b, 1, nil) // begins the window's time
	clock.Advance(9900 * time.Millisecond)
	report(t, b, 7, errDown)
	clock.Advance(200 * time.Millisecond)
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
}

func TestB31_ClockSetBackWithARunningWindow(t *testing.T) {
	b, wall := newWallBreaker(t, byRate)
	report(t, b, 5, errDown)
	wall.Advance(5 * time.Second)
	assert.Equal(t, 5, b.Snapshot().Failures) // sees the clock, before it is set back
	wall.step(-time.Hour)
	assert.Equal(t, 5, b.Snapshot().Failures, "not emptied")
	report(t, b, 1, nil)
	wall.Advance(5 * time.Second)
	assert.Equal(t, 1, b.Snapshot().Requests, "not frozen")
	wall.step(time.Hour)
	assert.Zero(t, b.Snapshot().Requests)
}

// There is no window of a number of calls; consecutive failures are the count.
func TestB34_ExactlyTheLastFailuresDecide(t *testing.T) {
	b, _ := newBreaker(t, nil)
	report(t, b, 2, errDown)
	report(t, b, 1, nil)
	report(t, b, 2, errDown)
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, context.Canceled) // says nothing either way
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
}

func slowCalls(c *retry.BreakerConfig) {
	c.SlowCallDuration, c.SlowCallRate, c.MinCalls = time.Second, 0.5, 4
}

func TestB36_SlowSuccessIsASuccessWithARateOfItsOwn(t *testing.T) {
	b, clock := newBreaker(t, slowCalls)
	for n := range 4 {
		require.Equal(t, retry.StateClosed, b.State(), n)
		require.NoError(t, b.Do(context.Background(), func(context.Context) error {
			clock.Advance(time.Second)
			return nil
		}))
	}
	assert.Equal(t, retry.StateOpen, b.State())
	assert.Nil(t, b.Snapshot().LastFailure)
}

func TestB37_CallsInFlightCountWhenTheyBecomeSlow(t *testing.T) {
	b, clock := newBreaker(t, slowCalls)
	permits := []retry.Permit{permit(t, b), permit(t, b), permit(t, b)}
	clock.Advance(time.Second - 1)
	assert.Zero(t, b.Snapshot().SlowCalls)
	clock.Advance(1)
	assert.Equal(t, 3, b.Snapshot().SlowCalls, "counted by looking, though nothing happened")
	assert.Equal(t, 3, b.Snapshot().SlowCalls, "once")
	permits[0].Done(nil)
	s := b.Snapshot()
	assert.Equal(t, 3, s.SlowCalls, "once")
	assert.Equal(t, 3, s.Requests)
	assert.Equal(t, retry.StateClosed, s.State)
}

// A look at the snapshot must not use up the occasion to open.
func TestB37_SlowCallsInFlightOpenTheBreaker(t *testing.T) {
	b, clock := newBreaker(t, slowCalls)
	for range 4 {
		permit(t, b)
	}
	clock.Advance(time.Second)
	assert.Equal(t, 4, b.Snapshot().SlowCalls)
	refused(t, b)
	assert.Equal(t, retry.StateOpen, b.State())
}

// A call that hangs for longer than the window is as slow as ever.
func TestB37_HungCallsAreNotForgotten(t *testing.T) {
	b, clock := newBreaker(t, slowCalls)
	for range 2 {
		permit(t, b)
	}
	clock.Advance(time.Minute)
	report(t, b, 1, nil)
	assert.Equal(t, 2, b.Snapshot().SlowCalls)
	report(t, b, 1, context.Canceled)
	third := permit(t, b)
	clock.Advance(time.Second)
	third.Done(context.Canceled)
	assert.Equal(t, 2, b.Snapshot().SlowCalls, "a cancel says nothing")
	assert.Equal(t, retry.StateClosed, b.State())
}

package retry_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

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

package pace_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/pace"
)

// client sends calls to a server that accepts them or not, at the pace, or at a rate
// of its own where there is none. Outcomes are known at once.
type client struct {
	pace   pace.Pace
	now    time.Time
	number uint64
	demand float64 // calls per second
	causes []string
}

func newClient(demand float64) *client {
	return &client{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), demand: demand}
}

// run sends calls for a time, and returns the shares that were accepted and refused.
func (c *client) run(d time.Duration, accepts func(time.Time) bool) (accepted, refused float64) {
	for end := c.now.Add(d); c.now.Before(end); {
		rate := c.demand
		if paced := c.pace.Rate(); paced > 0 && paced < rate {
			rate = paced
			c.pace.Waited()
		}
		c.now = c.now.Add(time.Duration(float64(time.Second) / rate))
		c.number++
		call := pace.Call{Number: c.number, Sent: c.now}
		if accepts(c.now) {
			accepted++
			c.pace.Accepted(call, call, false)
			continue
		}
		refused++
		if cause := c.pace.Refused(call, call, time.Second, c.demand, false); cause != "" {
			c.causes = append(c.causes, cause)
		}
	}
	return accepted, refused
}

// bucket accepts so many calls a second, and a few at once.
func bucket(rate, burst float64) func(time.Time) bool {
	var last time.Time
	tokens := burst
	return func(now time.Time) bool {
		if !last.IsZero() {
			tokens = min(burst, tokens+rate*now.Sub(last).Seconds())
		}
		last = now
		if tokens < 1 {
			return false
		}
		tokens--
		return true
	}
}

// A limit below the demand is found, used, and hardly touched.
func TestFindsARate(t *testing.T) {
	for _, rate := range []float64{5, 30, 100, 700} {
		c := newClient(3 * rate)
		server := bucket(rate, 5)
		c.run(time.Minute, server)
		accepted, refused := c.run(time.Minute, server)
		assert.InDelta(t, rate, accepted/60, 0.1*rate)
		assert.Less(t, refused/(accepted+refused), 0.03)
		assert.NotEmpty(t, c.causes)
	}
}

// Refusals that no rate explains lead to no pace, or to one that is given up.
func TestGivesUpWhatDoesNotHelp(t *testing.T) {
	for _, share := range []float64{0.01, 0.1, 0.3, 0.5} {
		random := rand.New(rand.NewPCG(1, 2))
		c := newClient(100)
		accepted, refused := c.run(10*time.Minute, func(time.Time) bool { return random.Float64() >= share })
		assert.Greater(t, accepted+refused, 0.6*100*600, "of the demand, where %v is refused", share)
	}
}

// A limit that is raised or lifted is found by probes.
func TestProbesUpwards(t *testing.T) {
	c := newClient(400)
	c.run(30*time.Second, bucket(100, 5))
	assert.InDelta(t, 100, c.pace.Rate(), 15)
	c.run(10*time.Second, func(time.Time) bool { return true })
	assert.Greater(t, c.pace.Rate(), 200.0)
}

// A few refusals, and none, set no pace.
func TestAFewRefusalsAreBorne(t *testing.T) {
	c, n := newClient(100), 0
	c.run(time.Minute, func(time.Time) bool { n++; return n%10 != 0 })
	assert.Zero(t, c.pace.Rate())
	assert.Empty(t, c.causes)
}

// Whatever is reported, in whatever order, the pace is a number of calls a second.
func FuzzPace(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 100, 255, 0, 7})
	f.Fuzz(func(t *testing.T, script []byte) {
		c := newClient(50)
		for i, b := range script {
			c.now = c.now.Add(time.Duration(b%32) * time.Millisecond * 17)
			c.number += uint64(b % 3)
			next := pace.Call{Number: c.number, Sent: c.now}
			call := pace.Call{Number: max(c.number, uint64(b%8)) - uint64(b%8), Sent: c.now.Add(-time.Duration(b%8) * time.Millisecond)}
			switch b >> 5 {
			case 0, 1, 2:
				c.pace.Accepted(call, next, false)
			case 3, 4, 5:
				c.pace.Refused(call, next, time.Duration(b)*time.Second, float64(1+i%300), false)
			case 6:
				if c.pace.Waited(); b%32 == 0 {
					c.pace.Join()
				}
			default:
				c.pace.Paused(c.now, c.now.Add(time.Duration(b)*time.Millisecond))
			}
			rate := c.pace.Rate()
			if !(rate == 0 || rate >= 1.0/3600 && rate <= 1e6) {
				t.Fatalf("a pace of %v", rate)
			}
		}
	})
}

package retry

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Backoff is a curve of waits: it returns how long to wait before the given retry,
// 1 for the first. previous is the last backoff, jitter included, for curves that
// build on it, and 0 at the first retry; random draws from [0, 1). [Config.Jitter]
// and [Config.MaxDelay] are applied to what it returns; a negative result counts
// as 0. It must not keep state, because one [Config] serves many calls at once.
type Backoff func(retry int, previous time.Duration, random func() float64) time.Duration

// ExponentialBackoff waits initial, initial·multiplier, initial·multiplier², …
// A multiplier below 1, or not a number, counts as 1.
func ExponentialBackoff(initial time.Duration, multiplier float64) Backoff {
	if !(multiplier >= 1) {
		multiplier = 1
	}
	return func(retry int, _ time.Duration, _ func() float64) time.Duration {
		return exponential(initial, multiplier, retry)
	}
}

func exponential(initial time.Duration, multiplier float64, retry int) time.Duration {
	if retry <= 1 {
		return max(0, initial)
	}
	return saturate(float64(initial) * math.Pow(multiplier, float64(retry-1)))
}

// ConstantBackoff waits d each time.
func ConstantBackoff(d time.Duration) Backoff {
	return func(int, time.Duration, func() float64) time.Duration { return max(0, d) }
}

// LinearBackoff waits step, 2·step, 3·step, …
func LinearBackoff(step time.Duration) Backoff {
	return func(retry int, _ time.Duration, _ func() float64) time.Duration {
		if exact := step * time.Duration(retry); retry > 0 && exact/time.Duration(retry) == step {
			return max(0, exact)
		}
		return saturate(float64(step) * float64(retry))
	}
}

// FibonacciBackoff waits initial times 1, 1, 2, 3, 5, 8, …
func FibonacciBackoff(initial time.Duration) Backoff {
	return func(retry int, _ time.Duration, _ func() float64) time.Duration {
		a, b := 0.0, 1.0
		for n := 1; n < min(retry, 100); n++ { // the 93rd is past an int64
			a, b = b, a+b
		}
		return saturate(float64(initial) * b)
	}
}

// DecorrelatedBackoff waits a random time between base and three times the wait
// before, as in "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
// It brings its own spread: use it with [NoJitter] to have exactly that.
func DecorrelatedBackoff(base time.Duration) Backoff {
	base = max(0, base)
	return func(_ int, previous time.Duration, random func() float64) time.Duration {
		low, high := float64(base), 3*float64(max(base, previous))
		return saturate(low + (high-low)*inUnit(random()))
	}
}

// saturate makes a duration of a number of nanoseconds that may be beyond any.
func saturate(ns float64) time.Duration {
	switch {
	case !(ns > 0): // NaN as well
		return 0
	case ns >= math.MaxInt64:
		return math.MaxInt64
	}
	return time.Duration(ns)
}

// Jitter spreads waits: each is multiplied by a uniform draw from [Min, Max].
// At the ceiling, [Config.MaxDelay], the draw is from that part of the range
// that stays below it, so that waits are spread there as well. Of a wait that a server
// asked for, see [Config.Jitter].
type Jitter struct{ Min, Max float64 }

// The jitters of the literature: with [FullJitter] a wait is anything up to the
// backoff, with [EqualJitter] at least half of it, with [NoJitter] exactly it.
var (
	FullJitter  = Jitter{0, 1}
	EqualJitter = Jitter{0.5, 1}
	NoJitter    = Jitter{1, 1}
)

// String returns "0.8,1.2", the form that [ConfigFromEnv] reads.
func (j Jitter) String() string { return fmt.Sprintf("%v,%v", j.Min, j.Max) }

func (j Jitter) valid() bool { return 0 <= j.Min && j.Min <= j.Max && j.Max <= math.MaxFloat64 }

// apply spreads d, and keeps it in [0, ceiling].
func (j Jitter) apply(d, ceiling time.Duration, random func() float64) time.Duration {
	d = min(max(0, d), ceiling)
	if d == 0 || j == NoJitter {
		return d
	}
	limit := float64(ceiling)
	high := min(float64(d)*j.Max, limit)
	low := float64(d) * j.Min
	if j.Min >= 1 { // the range lies above the ceiling: keep its width below it
		low = min(low, limit*(j.Min/j.Max))
	}
	return min(saturate(low+(high-low)*inUnit(random())), ceiling)
}

// lengthen spreads a server's wait by up to a tenth, upwards only, as far as
// the jitter is wide: callers that were asked to wait 10 seconds together do not
// come back together, and none comes back early.
func (j Jitter) lengthen(d time.Duration, random func() float64) time.Duration {
	width := min(0.1, j.Max-j.Min)
	if width <= 0 {
		return d
	}
	return max(d, saturate(float64(d)*(1+width*inUnit(random()))))
}

// inUnit keeps a draw in [0, 1), whatever the user's Rand returns.
func inUnit(draw float64) float64 {
	if !(draw > 0) { // NaN as well
		return 0
	}
	return min(draw, math.Nextafter(1, 0))
}

func randomFloat() float64 { return rand.Float64() }

var defaultJitter = Jitter{0.8, 1.2}

// Delay returns the wait before the given retry, 1 for the first: what a call
// waits if no server asks for more. It is for looking at a schedule, and draws
// from Rand as a call does. A retry below 1 has no wait.
func (c Config) Delay(retry int) time.Duration {
	if retry < 1 {
		return 0
	}
	var d time.Duration
	if c.Backoff != nil {
		// A curve may build on the wait before. A few dozen steps settle any
		// that does, so the work is bounded however large retry is.
		for n := max(1, retry-64); n < retry; n++ {
			d = c.delay(n, d)
		}
	}
	return c.delay(retry, d)
}

// delay is the wait before the given retry, when the one before took previous.
func (c *Config) delay(retry int, previous time.Duration) time.Duration {
	random := c.Rand
	if random == nil {
		random = randomFloat
	}
	var d time.Duration
	if c.Backoff != nil {
		d = c.Backoff(retry, previous, random)
	} else {
		initial, multiplier := c.InitialDelay, c.Multiplier
		if initial == 0 {
			initial = DefaultInitialDelay
		}
		if multiplier == 0 {
			multiplier = DefaultMultiplier
		}
		d = exponential(initial, multiplier, retry)
	}
	return c.jitter().apply(d, c.maxDelay(), random)
}

func (c *Config) lengthen(hint time.Duration) time.Duration {
	random := c.Rand
	if random == nil {
		random = randomFloat
	}
	return c.jitter().lengthen(hint, random)
}

func (c *Config) jitter() Jitter {
	if c.Jitter == (Jitter{}) {
		return defaultJitter
	}
	return c.Jitter
}

func (c *Config) maxDelay() time.Duration {
	if c.MaxDelay == 0 {
		return DefaultMaxDelay
	}
	return c.MaxDelay
}

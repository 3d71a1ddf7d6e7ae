package retry_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

func draw(f float64) func() float64 { return func() float64 { return f } }

// schedule returns the first n waits of a Config without jitter.
func schedule(c retry.Config, n int) (waits []time.Duration) {
	if c.Jitter == (retry.Jitter{}) {
		c.Jitter = retry.NoJitter
	}
	for i := range n {
		waits = append(waits, c.Delay(i+1))
	}
	return waits
}

func seconds(s ...float64) (d []time.Duration) {
	for _, s := range s {
		d = append(d, time.Duration(s*float64(time.Second)))
	}
	return d
}

func TestCurves(t *testing.T) {
	for name, c := range map[string]struct {
		curve retry.Backoff
		want  []time.Duration
	}{
		"default":        {nil, seconds(1, 2, 4, 8, 16, 32, 60, 60)},
		"exponential":    {retry.ExponentialBackoff(time.Second, 3), seconds(1, 3, 9, 27, 60, 60)},
		"multiplier 0":   {retry.ExponentialBackoff(time.Second, 0), seconds(1, 1, 1)},
		"multiplier nan": {retry.ExponentialBackoff(time.Second, math.NaN()), seconds(1, 1, 1)},
		"negative":       {retry.ExponentialBackoff(-time.Second, 2), seconds(0, 0, 0)},
		"constant":       {retry.ConstantBackoff(3 * time.Second), seconds(3, 3, 3)},
		"constant -":     {retry.ConstantBackoff(-1), seconds(0, 0)},
		"linear":         {retry.LinearBackoff(2 * time.Second), seconds(2, 4, 6, 8)},
		"linear -":       {retry.LinearBackoff(-2 * time.Second), seconds(0, 0)},
		"fibonacci":      {retry.FibonacciBackoff(time.Second), seconds(1, 1, 2, 3, 5, 8, 13)},
		"decorrelated":   {retry.DecorrelatedBackoff(time.Second), seconds(2, 3.5, 5.75)},
	} {
		got := schedule(retry.Config{Backoff: c.curve, Rand: draw(0.5)}, len(c.want))
		assert.Equal(t, c.want, got, name)
	}
}

// Where nothing is multiplied, a wait is exactly what it was set to, however long: a
// float64 is exact to a nanosecond for a hundred days only. And 2⁶³ ns is the first that
// is too long.
func TestLongWaitsAreExact(t *testing.T) {
	const long = time.Duration(1<<60 + 1)
	assert.Equal(t, long, retry.ExponentialBackoff(long, 2)(1, 0, nil))
	assert.Equal(t, long, retry.ExponentialBackoff(long, 2)(0, 0, nil), "a number that Do does not use")
	assert.Equal(t, long, retry.Config{InitialDelay: long, MaxDelay: math.MaxInt64, Jitter: retry.NoJitter}.Delay(1))
	assert.Equal(t, time.Duration(1<<62), retry.ExponentialBackoff(1, 2)(63, 0, nil))
	assert.Equal(t, time.Duration(math.MaxInt64), retry.ExponentialBackoff(1, 2)(64, 0, nil))
	const asked = time.Duration(1<<60 - 1) // which a float64 rounds up
	cfg := retry.Config{Jitter: retry.NoJitter, MaxRetryAfter: math.MaxInt64}
	waits, err := retrytest.Run(t, cfg, calling(t, retry.RetryAfter(errDown, asked), nil))
	require.NoError(t, err)
	assert.Equal(t, asked, waits.Total())
}

func TestHugeRetryNumbersCostNothing(t *testing.T) {
	for _, curve := range []retry.Backoff{
		nil, retry.ExponentialBackoff(time.Hour, math.MaxFloat64), retry.ConstantBackoff(math.MaxInt64),
		retry.LinearBackoff(time.Hour), retry.FibonacciBackoff(time.Hour), retry.DecorrelatedBackoff(math.MaxInt64),
	} {
		for _, n := range []int{100, 1_000_000, math.MaxInt} {
			assert.Equal(t, time.Minute, retry.Config{Backoff: curve, Jitter: retry.NoJitter}.Delay(n))
			got := retry.Config{Backoff: curve, Jitter: retry.NoJitter, MaxDelay: math.MaxInt64}.Delay(n)
			assert.GreaterOrEqual(t, got, time.Hour)
		}
	}
	assert.Zero(t, retry.Config{}.Delay(0))
	assert.Zero(t, retry.Config{}.Delay(math.MinInt))
	// The curves themselves, at numbers that Do does not use.
	assert.Zero(t, retry.LinearBackoff(time.Second)(-3, 0, nil))
	assert.Zero(t, retry.LinearBackoff(time.Second)(0, 0, nil))
	assert.Equal(t, time.Duration(math.MaxInt64), retry.FibonacciBackoff(1)(math.MaxInt, 0, nil))
}

func TestJitterStaysInBounds(t *testing.T) {
	for _, j := range []retry.Jitter{{}, retry.FullJitter, retry.EqualJitter, retry.NoJitter, {Min: 0, Max: 5}, {Min: 3, Max: 4}, {Min: 2, Max: math.MaxFloat64}} {
		for _, random := range []float64{0, 0.5, 1 - 1e-16, 1, 7, -7, math.NaN(), math.Inf(1)} {
			for retryNumber := range 12 {
				d := retry.Config{Jitter: j, Rand: draw(random)}.Delay(retryNumber)
				assert.True(t, d >= 0 && d <= time.Minute, "%v %v: %v", j, random, d)
			}
		}
	}
	// Below the ceiling it is a plain product.
	assert.Equal(t, 800*time.Millisecond, retry.Config{Rand: draw(0)}.Delay(1))
	assert.Equal(t, time.Second, retry.Config{Rand: draw(0.5)}.Delay(1))
	assert.Zero(t, retry.Config{Jitter: retry.FullJitter, Rand: draw(0)}.Delay(3))
	assert.Equal(t, 3*time.Second, retry.Config{Jitter: retry.EqualJitter, Rand: draw(0.5)}.Delay(3))
}

func TestStillSpreadAtTheCeiling(t *testing.T) {
	for _, j := range []retry.Jitter{{}, retry.FullJitter, retry.EqualJitter, {Min: 1, Max: 1.5}, {Min: 2, Max: 3}} {
		var waits []time.Duration
		c := retry.Config{Jitter: j}
		for range 200 {
			waits = append(waits, c.Delay(50))
		}
		slices.Sort(waits)
		assert.LessOrEqual(t, waits[199], time.Minute, j)
		assert.Greater(t, waits[199]-waits[0], 8*time.Second, j)
		assert.Greater(t, len(slices.Compact(waits)), 190, j)
	}
}

func TestZeroAndNegativeDelaysMeanNoWait(t *testing.T) {
	for _, d := range []time.Duration{0, -1, -time.Hour, math.MinInt64} {
		c := retry.Config{Backoff: func(int, time.Duration, func() float64) time.Duration { return d }}
		assert.Zero(t, c.Delay(1), d)
		assert.Zero(t, c.Delay(5), d)
		fn, calls := script(errDown, errDown, nil)
		assert.NoError(t, retry.Run(t.Context(), c, fn))
		assert.Equal(t, 3, *calls)
	}
}

// A curve sees the wait before, as it was waited, and the retry's number.
func TestCurveGetsTheWaitBefore(t *testing.T) {
	type seen struct {
		retry    int
		previous time.Duration
	}
	var got []seen
	c := retry.Config{MaxDelay: 3, InitialDelay: 1, Jitter: retry.NoJitter, MaxRetries: 4,
		Backoff: func(n int, previous time.Duration, random func() float64) time.Duration {
			got = append(got, seen{n, previous})
			random() // there is always one to draw from
			return time.Duration(2 * n)
		}}
	want := []seen{{1, 0}, {2, 2}, {3, 3}, {4, 3}}
	fn, _ := script(errDown)
	_ = retry.Run(t.Context(), c, fn)
	assert.Equal(t, want, got)
	got = nil
	assert.EqualValues(t, 3, c.Delay(4))
	assert.Equal(t, want, got, "and Delay is the same schedule")
}

func TestJitterText(t *testing.T) {
	assert.Equal(t, "0.5,1", retry.EqualJitter.String())
}

// A source of random numbers outside of [0, 1) made waits longer than the
// jitter allows, up to the ceiling.
func TestRandOutOfRangeStaysInTheJittersRange(t *testing.T) {
	for _, random := range []float64{-1, -0.1, 1, 1.5, 100, math.Inf(1), math.Inf(-1), math.NaN()} {
		for name, cfg := range map[string]retry.Config{
			"default":      {},
			"full":         {Jitter: retry.FullJitter},
			"at ceiling":   {InitialDelay: time.Minute},
			"decorrelated": {Backoff: retry.DecorrelatedBackoff(time.Second), Jitter: retry.NoJitter},
		} {
			cfg.Rand = draw(0)
			low := cfg.Delay(1)
			cfg.Rand = draw(math.Nextafter(1, 0))
			high := cfg.Delay(1)
			cfg.Rand = draw(random)
			assert.GreaterOrEqual(t, cfg.Delay(1), low, "%s %v", name, random)
			assert.LessOrEqual(t, cfg.Delay(1), high, "%s %v", name, random)
		}
		waits, err := retrytest.Run(t, retry.Config{Rand: draw(random)}, calling(t, retry.RetryAfter(errDown, 100*time.Second), nil))
		require.NoError(t, err)
		assert.GreaterOrEqual(t, waits.Total(), 100*time.Second)
		assert.LessOrEqual(t, waits.Total(), 110*time.Second)
	}
}

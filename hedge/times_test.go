package hedge

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// distributions of the times of answers, each given a uniform draw.
var distributions = map[string]func(u float64) time.Duration{
	"constant":    func(float64) time.Duration { return 100 * time.Millisecond },
	"on an edge":  func(float64) time.Duration { return 256 << 15 }, // of a bucket
	"uniform":     func(u float64) time.Duration { return time.Duration(1e6 + u*1e8) },
	"exponential": func(u float64) time.Duration { return time.Duration(-1e7 * math.Log(1-u)) },
	"microseconds": func(u float64) time.Duration {
		return time.Duration(20e3 + u*1e3)
	},
	"minutes": func(u float64) time.Duration { return time.Duration((1 + u) * 3e10) },
	"with a slow mode": func(u float64) time.Duration {
		if u > 0.98 {
			return time.Duration(1e8 + (u-0.98)*1e10)
		}
		return time.Duration(1e7 * math.Exp(0.4*normal(u/0.98)))
	},
}

func normal(u float64) float64 { return math.Sqrt2 * math.Erfinv(2*min(max(u, 1e-9), 1-1e-9)-1) }

func newTimes(q float64) *times {
	t := new(times)
	t.init(q)
	return t
}

func right(t *testing.T, want, got time.Duration, what ...any) {
	t.Helper()
	assert.InEpsilon(t, float64(want), float64(got), 0.05, what...)
}

// 200 calls are enough for the quantile of those 200, whatever the distribution; none is
// there before a hundred.
func TestQuantileOf200(t *testing.T) {
	for name, draw := range distributions {
		random := rand.New(rand.NewPCG(1, 2))
		learned, now := newTimes(0.95), time.Unix(1, 0)
		var all []time.Duration
		for i := range 200 {
			d := draw(random.Float64())
			all = append(all, d)
			learned.add(now.Add(time.Duration(i)*50*time.Millisecond), d)
			assert.Equal(t, i >= 99, learned.quantile() > 0, name)
		}
		slices.Sort(all)
		right(t, all[189], learned.quantile(), name)
	}
}

// Evenly drawn, they are right within 5 % of the true quantile, for other quantiles, too.
func TestQuantiles(t *testing.T) {
	for name, draw := range distributions {
		for _, q := range []float64{0.5, 0.75, 0.9, 0.95, 0.99} {
			learned := newTimes(q)
			order := rand.New(rand.NewPCG(3, 4)).Perm(1000)
			for _, i := range order {
				learned.add(time.Unix(1, 0), draw((float64(i)+0.5)/1000))
			}
			right(t, draw(q), learned.quantile(), name, q)
		}
	}
}

// The times change, to ten times as long, or a tenth: 30 seconds later, with 200 calls in
// them or with 1,000, what was before counts no longer, at whatever moment it changed.
func TestQuantileAfterAChange(t *testing.T) {
	for name, draw := range distributions {
		for _, calls := range []int{200, 1000} {
			for _, factor := range []time.Duration{10, 1} {
				for moment := range 5 {
					learned, now, u := newTimes(0.95), time.Unix(1, 0), 0.5
					call := func(factor time.Duration) {
						now = now.Add(30 * time.Second / time.Duration(calls))
						_, u = math.Modf(u + math.Phi) // evenly over any stretch of calls
						learned.add(now, factor*draw(u))
					}
					for range calls + moment*calls/5 {
						call(11 - factor)
					}
					for range calls {
						call(factor)
					}
					right(t, factor*draw(0.95), learned.quantile(), name, calls, factor, moment)
				}
			}
		}
	}
}

// What requests that lost against a hedge had taken by then counts: left out, they would make
// the quantile shorter, and hedges more.
func TestQuantileWithHedging(t *testing.T) {
	draw := distributions["with a slow mode"]
	random := rand.New(rand.NewPCG(7, 8))
	learned, now := newTimes(0.95), time.Unix(1, 0)
	hedges := 0
	const calls = 30000
	for range calls {
		now = now.Add(time.Millisecond)
		first, second := draw(random.Float64()), draw(random.Float64())
		delay := learned.quantile()
		if delay == 0 || first <= delay {
			learned.add(now, first)
			continue
		}
		hedges++
		learned.add(now, min(first, delay+second))
	}
	right(t, draw(0.95), learned.quantile())
	assert.InDelta(t, 0.05, float64(hedges)/calls, 0.005)
}

// The times become three times as long while every late call is hedged, so that most of the
// first requests are cancelled.
func TestQuantileAfterAChangeWithHedging(t *testing.T) {
	draw := distributions["with a slow mode"]
	random := rand.New(rand.NewPCG(9, 10))
	learned, now := newTimes(0.95), time.Unix(1, 0)
	for i := range 40000 {
		factor := time.Duration(1)
		if i >= 10000 {
			factor = 3
		}
		now = now.Add(time.Millisecond)
		first, second := factor*draw(random.Float64()), factor*draw(random.Float64())
		delay := learned.quantile()
		if delay == 0 || first <= delay {
			learned.add(now, first)
			continue
		}
		learned.add(now, min(first, delay+second))
	}
	assert.InEpsilon(t, float64(3*draw(0.95)), float64(learned.quantile()), 0.06)
}

// The buckets are 3 % wide at the most, from 10µs to 15 minutes, and none lies outside.
func TestBuckets(t *testing.T) {
	for d := 10 * time.Microsecond; d < 15*time.Minute; d += d / 100 {
		right(t, d, middle(bucket(d)))
	}
	assert.Zero(t, bucket(-1))
	assert.Equal(t, buckets-1, bucket(math.MaxInt64))
	for i := range buckets {
		assert.Equal(t, i, bucket(middle(i)))
	}
}

// Answers that wait for each other are all late, not a few: hedges were sent then, won
// against requests that were worse off, and made the queue longer. A server that is slower
// for good is hedged again.
func TestCrowdedWhileAnswersWaitForEachOther(t *testing.T) {
	random, learned, now := rand.New(rand.NewPCG(1, 2)), newTimes(0.95), time.Unix(1, 0)
	run := func(calls int, factor float64) (crowded int) {
		for range calls {
			now = now.Add(10 * time.Millisecond)
			learned.add(now, time.Duration(factor*float64(distributions["with a slow mode"](random.Float64()))))
			if learned.crowded() {
				crowded++
			}
		}
		return crowded
	}
	assert.Less(t, run(6000, 1), 60, "calm")
	run(100, 5)
	assert.Equal(t, 1000, run(1000, 5), "a queue of 10 s")
	run(100, 1)
	assert.Less(t, run(6000, 1), 60, "calm again")
	run(6000, 5)
	assert.Less(t, run(6000, 5), 60, "slower for good, after a minute")
}

// Answers that came before anything was learned are not slow. With a high quantile there
// are two hundred of them, and the first hedge would wait until they are forgotten.
func TestCrowded_NotBeforeAQuantileIsKnown(t *testing.T) {
	for _, q := range []float64{0.5, 0.9, 0.99} {
		learned, now := newTimes(q), time.Unix(1, 0)
		for learned.quantile() == 0 {
			assert.False(t, learned.crowded(), "%v", q)
			learned.add(now, time.Second)
		}
		assert.False(t, learned.crowded(), "%v", q)
	}
}

// A period ends when it has had calls enough and time enough, with the call that makes
// both so; what was learned in the one before it is forgotten then.
func TestPeriods(t *testing.T) {
	start := time.Unix(1, 0)
	for _, c := range []struct {
		first int           // calls of a second in the first period; it needs 100
		after time.Duration // until 100 calls of 10ms; and again until one more
		want  time.Duration
	}{
		{100, periodTime, 10 * time.Millisecond},
		{100, periodTime - 1, time.Second}, // all are of one period, which ends with the last call
		{99, periodTime, time.Second},
	} {
		learned := newTimes(0.95)
		for range c.first {
			learned.add(start, time.Second)
		}
		for range 100 {
			learned.add(start.Add(c.after), 10*time.Millisecond)
		}
		learned.add(start.Add(2*c.after), 10*time.Millisecond)
		right(t, c.want, learned.quantile(), c)
	}
}

// Calls are crowded when three times as many of the last ones are late as the quantile
// says, and no longer when that is over.
func TestCrowded(t *testing.T) {
	learned, now := newTimes(0.95), time.Unix(1, 0)
	quick := middle(bucket(10 * time.Millisecond))
	add := func(n int, d time.Duration) (crowded int) {
		for range n {
			learned.add(now, d)
			if learned.crowded() {
				crowded++
			}
		}
		return crowded
	}
	add(1000, quick)
	assert.False(t, learned.crowded(), "those exactly at the quantile are not late")
	assert.Equal(t, 1, add(11, time.Second), "the eleventh in succession")
	assert.Equal(t, 3, add(200, quick))
	for range 50 { // one late call of ten is no crowd
		assert.Zero(t, add(1, time.Second)+add(9, quick))
	}
}

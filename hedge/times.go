package hedge

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// times learns a quantile of the times that answers take. It counts them in a histogram
// of buckets 3 % wide at the most, for two periods: the current one and the one before,
// so that what was learned before a change is forgotten as a whole, in 28 seconds where
// there are calls enough, and is never less than a period that was long enough.
//
// A request that lost against its hedge, or was cancelled by its caller, counts with the
// time that it had taken by then. Left out, it would make answers look quicker than they
// are, and the delay shorter with every hedge. As it was later than the delay, and is counted
// so, the share of times beyond the delay is right, and the delay settles where it belongs.
type times struct {
	learned atomic.Int64 // a duration; 0: not enough is known

	mu       sync.Mutex // guards the fields below
	q        float64
	enough   int // times that make a quantile
	current  period
	previous period
	fresh    int       // times since learned was found
	calm     float64   // the lowest quantile learned so far, in nanoseconds, doubled in each calmDoubles; before one is, +Inf
	calmAt   time.Time // when calm was found
	late     float64   // the share of the last calls that took longer than learned
	slow     float64   // and that of those that took longer than calm
}

type period struct {
	began     time.Time
	n         int
	low, high int // the buckets in use
	counts    [buckets]uint32
}

const (
	recent     = 64 // calls
	periodTime = 14 * time.Second
	// calmDoubles is how long it takes until twice the time counts as calm: a server that
	// is eight times as slow for good is hedged again within a minute.
	calmDoubles = 20 * time.Second

	// Times are counted in units of 256 ns, with steps of a unit up to 32 of them, and
	// 32 steps for each doubling from there, up to 18 minutes.
	unitBits  = 8
	stepBits  = 5
	steps     = 1 << stepBits
	doublings = 27
	buckets   = (doublings + 1) * steps
)

func (t *times) init(q float64) {
	t.q, t.calm = q, math.Inf(1)
	t.enough = int(math.Round(min(max(5/(1-q), 20), 200))) // of which five are beyond the quantile
}

// quantile returns what is learned, 0 if that is not enough.
func (t *times) quantile() time.Duration { return time.Duration(t.learned.Load()) }

// add notes that an answer took d, or that there was none by then.
func (t *times) add(now time.Time, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.began.IsZero() {
		t.current.began = now
	}
	if t.current.n >= t.enough && now.Sub(t.current.began) >= periodTime {
		t.previous, t.current = t.current, period{began: now}
		t.fresh = t.previous.n // look at once
	}
	p, i := &t.current, bucket(d)
	if p.n == 0 {
		p.low, p.high = i, i
	}
	p.low, p.high = min(p.low, i), max(p.high, i)
	p.counts[i]++
	p.n++
	t.fresh++
	t.late -= t.late / recent
	if learned := t.quantile(); learned > 0 && d > learned {
		t.late += 1.0 / recent
	}
	t.slow -= t.slow / recent
	if float64(d) > t.calm {
		t.slow += 1.0 / recent
	}
	if n := p.n + t.previous.n; n >= t.enough && t.fresh > n/256 {
		t.fresh = 0
		learned := t.find(n)
		t.learned.Store(int64(learned))
		grown := math.Exp2(float64(now.Sub(t.calmAt)) / float64(calmDoubles))
		t.calm, t.calmAt = min(float64(learned), t.calm*grown), now
	}
}

// crowded reports whether calls wait for each other, so that a hedge would wait with them
// and keep others waiting: far more of the last ones were late than the quantile says, or
// two in five took longer than the quantile was when the server was calm.
func (t *times) crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.late > 3*(1-t.q) || t.slow > 0.4
}

// find returns the quantile of n times.
func (t *times) find(n int) time.Duration {
	from, to := t.current.low, t.current.high
	if t.previous.n > 0 {
		from, to = min(from, t.previous.low), max(to, t.previous.high)
	}
	rank := int(math.Ceil(t.q*float64(n) - 1e-9))
	for i := from; i < to; i++ {
		if rank -= int(t.current.counts[i] + t.previous.counts[i]); rank <= 0 {
			return middle(i)
		}
	}
	return middle(to)
}

func bucket(d time.Duration) int {
	v := uint64(max(d, 0)) >> unitBits
	if v < steps {
		return int(v)
	}
	doubling := bits.Len64(v) - stepBits - 1
	return min(doubling*steps+int(v>>doubling), buckets-1)
}

// middle is the time in the middle of a bucket.
func middle(i int) time.Duration {
	doubling := max(i/steps-1, 0)
	v := (2*uint64(i-doubling*steps) + 1) << doubling
	return time.Duration(v << (unitBits - 1))
}

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
// Of a request that lost against its hedge, it is only known that it would have taken
// longer. Left out, it would make answers look quicker than they are, and the delay
// shorter with every hedge. It counts as what it is (Kaplan and Meier, 1958).
type times struct {
	learned atomic.Int64 // a duration; 0: not enough is known

	mu       sync.Mutex // guards the fields below
	q        float64
	enough   int // times that make a quantile
	current  period
	previous period
	fresh    int     // times since learned was found
	late     float64 // the share of the last calls that took longer
}

type period struct {
	began     time.Time
	n         int
	low, high int // the buckets in use
	buckets   [buckets]struct{ answered, cut uint32 }
}

const (
	lateCalls  = 64
	periodTime = 14 * time.Second

	// Times are counted in units of 256 ns, with steps of a unit up to 32 of them, and
	// 32 steps for each doubling from there, up to 18 minutes.
	unitBits  = 8
	stepBits  = 5
	steps     = 1 << stepBits
	doublings = 27
	buckets   = (doublings + 1) * steps
)

func (t *times) init(q float64) {
	t.q = q
	t.enough = int(math.Round(min(max(5/(1-q), 20), 200))) // of which five are beyond the quantile
}

// quantile returns what is learned, 0 if that is not enough.
func (t *times) quantile() time.Duration { return time.Duration(t.learned.Load()) }

// add notes that an answer took d, or, if it was cut, that it would have taken longer.
func (t *times) add(now time.Time, d time.Duration, cut bool) {
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
	if b := &p.buckets[i]; cut {
		b.cut++
	} else {
		b.answered++
	}
	p.n++
	t.fresh++
	if d > t.quantile() {
		t.late += (1 - t.late) / lateCalls
	} else {
		t.late -= t.late / lateCalls
	}
	if n := p.n + t.previous.n; n >= t.enough && t.fresh > n/256 {
		t.fresh = 0
		t.learned.Store(int64(t.find(n)))
	}
}

// crowded reports whether far more of the last calls were late than the quantile says: they
// wait for each other.
func (t *times) crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.late > 3*(1-t.q)
}

// find returns the quantile of n times: the time after which the product of the shares
// that were still without an answer, among those of which it is known, is 1 - q.
func (t *times) find(n int) time.Duration {
	from, to := t.current.low, t.current.high
	if t.previous.n > 0 {
		from, to = min(from, t.previous.low), max(to, t.previous.high)
	}
	waiting, last := 1.0, 0
	for i := from; i <= to; i++ {
		a, b := &t.current.buckets[i], &t.previous.buckets[i]
		answered, cut := int(a.answered+b.answered), int(a.cut+b.cut)
		if answered+cut == 0 {
			continue
		}
		last = i
		if waiting *= 1 - float64(answered)/float64(n); waiting <= 1-t.q+1e-9 {
			break
		}
		n -= answered + cut
	}
	return middle(last)
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

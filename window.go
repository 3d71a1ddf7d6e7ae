package retry

import (
	"cmp"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"
)

// window counts the results of the last while, in a ring of buckets, and
// watches calls in flight for being slow. The breaker's mu guards it.
type window struct {
	failureRate float64
	slowRate    float64
	minCalls    int
	slow        time.Duration // 0: nobody is watched
	width       time.Duration // of a bucket

	base    time.Time     // when the first bucket began
	now     time.Duration // since base, as of the last look at the clock
	skew    time.Duration // by how much the clock was set back since
	newest  int64         // number of the bucket that now falls into
	buckets [10]bucket
	sum     bucket

	inFlight []watched // in order of their start
	started  uint64
	overdue  int // how many of them, from the first on, were found to be slow
}

// bucket counts the results of a tenth of the window; slow are the successes
// and failures that took long.
type bucket struct{ successes, failures, neutrals, slow int32 }

type watched struct {
	id    uint64
	since time.Duration
}

func newWindow(cfg BreakerConfig) *window {
	w := &window{
		failureRate: cfg.FailureRate,
		slowRate:    cfg.SlowCallRate,
		minCalls:    cmp.Or(cfg.MinCalls, defaultMinCalls),
		slow:        cfg.SlowCallDuration,
		width:       cmp.Or(cfg.Window, defaultWindow),
	}
	w.width = (w.width + time.Duration(len(w.buckets)) - 1) / time.Duration(len(w.buckets))
	return w
}

// clear forgets everything: calls in flight belong to a period that is over.
func (w *window) clear() {
	w.buckets, w.sum = [len(w.buckets)]bucket{}, bucket{}
	w.inFlight, w.overdue = nil, 0
}

// advance looks at the clock and drops the buckets that are out of the window.
func (w *window) advance(clock clockwork.Clock) {
	if w.base.IsZero() {
		w.base = now(clock)
	}
	elapsed := since(clock, w.base) + w.skew
	if elapsed < w.now { // a clock without monotonic time, set back: go on from where it was
		w.skew += w.now - elapsed
		elapsed = w.now
	}
	w.now = elapsed
	number := int64(elapsed / w.width)
	if number == w.newest {
		return
	}
	for n := max(w.newest+1, number-int64(len(w.buckets))+1); n <= number; n++ {
		old := &w.buckets[n%int64(len(w.buckets))]
		w.sum.successes -= old.successes
		w.sum.failures -= old.failures
		w.sum.neutrals -= old.neutrals
		w.sum.slow -= old.slow
		*old = bucket{}
	}
	w.newest = number
}

func (w *window) bucket() *bucket { return &w.buckets[w.newest%int64(len(w.buckets))] }

func (w *window) count(v verdict) {
	b := w.bucket()
	switch v {
	case success:
		b.successes++
		w.sum.successes++
	case failure:
		b.failures++
		w.sum.failures++
	case neutral:
		b.neutrals++
		w.sum.neutrals++
	}
}

// start begins to watch a call and returns its number.
func (w *window) start() uint64 {
	w.started++
	w.inFlight = append(w.inFlight, watched{id: w.started, since: w.now})
	return w.started
}

// finish ends the watch on a call, and looks which of the others have become
// slow. It reports whether that brings the share of slow calls over the limit:
// of the calls that ended within the window, and those in flight that are slow
// already.
func (w *window) finish(id uint64, v verdict) bool {
	if w.slow == 0 {
		return false
	}
	before := w.overdue
	w.overdue = w.late()
	found := w.overdue - before
	i, ok := slices.BinarySearchFunc(w.inFlight, id, func(c watched, id uint64) int { return cmp.Compare(c.id, id) })
	if ok {
		w.inFlight = slices.Delete(w.inFlight, i, i+1)
	}
	if ok && i < w.overdue {
		w.overdue--
		if v != neutral {
			w.bucket().slow++
			w.sum.slow++
		} else if i >= before {
			found--
		}
	}
	calls := int(w.sum.successes+w.sum.failures) + w.overdue
	return found > 0 && calls >= w.minCalls && share(int(w.sum.slow)+w.overdue, calls) >= w.slowRate
}

// late is how many of the calls in flight are slow by now.
func (w *window) late() int {
	n := w.overdue
	for n < len(w.inFlight) && w.now-w.inFlight[n].since >= w.slow {
		n++
	}
	return n
}

// failing reports whether the share of failures is over the limit.
func (w *window) failing() bool {
	calls := int(w.sum.successes + w.sum.failures)
	return w.failureRate > 0 && calls >= w.minCalls && share(int(w.sum.failures), calls) >= w.failureRate
}

// share is a quotient and compared with a rate as such: 55 of 100 is exactly
// 0.55, while 0.55 times 100 is more than 55.
func share(part, whole int) float64 { return float64(part) / float64(whole) }

func (w *window) report(s *Snapshot) {
	s.Successes, s.Failures, s.SlowCalls = int(w.sum.successes), int(w.sum.failures), int(w.sum.slow)+w.late()
	s.Requests = s.Successes + s.Failures + int(w.sum.neutrals)
}

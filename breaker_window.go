package retry

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/retryutils/retry/internal/clock"
)

// window counts the results of the last while, in a ring of buckets. The
// breaker's mu guards it.
type window struct {
	cfg   *BreakerConfig // the breaker's
	width time.Duration  // of a bucket

	base    time.Time     // when the first bucket began
	now     time.Duration // since base, as of the last reading of the clock
	end     time.Duration // of the newest bucket, since base
	newest  int64         // number of the bucket that now falls into
	buckets [buckets]bucket
	slow    *slowness // nil without SlowCallRate
}

const buckets = 10

// bucket counts the results of a tenth of the window.
type bucket struct{ successes, failures, neutrals int64 }

// slowness watches calls in flight for being slow, and counts those that were.
type slowness struct {
	ended    [buckets]int64 // successes and failures that took long
	inFlight []watched      // in order of their start
	started  uint64
	overdue  int // how many of them, from the first on, were found to be slow
}

type watched struct {
	id    uint64
	since time.Duration
}

func newWindow(cfg *BreakerConfig) *window {
	w := &window{cfg: cfg, width: (cfg.Window + buckets - 1) / buckets, base: clock.Now(cfg.Clock)}
	if cfg.SlowCallRate > 0 {
		w.slow = new(slowness)
	}
	return w
}

// clear forgets everything: calls in flight belong to a period that is over.
func (w *window) clear() {
	w.buckets = [buckets]bucket{}
	if w.slow != nil {
		*w.slow = slowness{started: w.slow.started}
	}
}

// watch begins to watch a call for being slow and returns its number, or what opens the
// breaker instead: enough calls in flight have become slow.
func (w *window) watch() (id uint64, cause string) {
	w.advance()
	if w.becameSlow() {
		if cause = w.tooSlow(); cause != "" {
			return 0, cause
		}
	}
	s := w.slow
	s.started++
	s.inFlight = append(s.inFlight, watched{id: s.started, since: w.now})
	return s.started, ""
}

// record counts a result, and returns what opens the breaker, "" if nothing does. id
// is the call's number, if it is watched.
func (w *window) record(id uint64, v verdict) (cause string) {
	w.advance()
	switch bucket := w.bucket(); v {
	case success:
		bucket.successes++
	case failure:
		bucket.failures++
	case neutral:
		bucket.neutrals++
	}
	if w.slow != nil {
		if ended, found := w.unwatch(id, v), w.becameSlow(); ended || found {
			cause = w.tooSlow()
		}
	}
	if cause == "" && v == failure {
		all := w.sum()
		cause = w.excess(all.failures, all.successes+all.failures, w.cfg.FailureRate, "failed")
	}
	return cause
}

// unwatch ends the watch on a call of this period. It reports whether that was slow,
// and counts as such: a neutral one does not.
func (w *window) unwatch(id uint64, v verdict) bool {
	s := w.slow
	i, _ := slices.BinarySearchFunc(s.inFlight, id, func(c watched, id uint64) int { return cmp.Compare(c.id, id) })
	slow := w.now-s.inFlight[i].since >= w.cfg.SlowCallDuration
	s.inFlight = slices.Delete(s.inFlight, i, i+1)
	if i < s.overdue {
		s.overdue--
	}
	if !slow || v == neutral {
		return false
	}
	s.ended[w.newest%buckets]++
	return true
}

// advance reads the clock and drops the buckets that are out of the window.
func (w *window) advance() {
	elapsed := clock.Since(w.cfg.Clock, w.base)
	if back := w.now - elapsed; back > 0 { // a clock without monotonic time, set back: go on from where it was
		w.base = w.base.Add(-back)
		elapsed = w.now
	}
	if w.now = elapsed; elapsed < w.end {
		return
	}
	number := int64(w.now / w.width)
	w.end = time.Duration(number+1) * w.width
	for n := max(w.newest+1, number-buckets+1); n <= number; n++ {
		w.buckets[n%buckets] = bucket{}
		if w.slow != nil {
			w.slow.ended[n%buckets] = 0
		}
	}
	w.newest = number
}

// bucket returns the newest bucket.
func (w *window) bucket() *bucket { return &w.buckets[uint64(w.newest)%buckets] }

// sum adds up the window.
func (w *window) sum() (all bucket) {
	for i := range w.buckets {
		b := &w.buckets[i]
		all.successes += b.successes
		all.failures += b.failures
		all.neutrals += b.neutrals
	}
	return all
}

// excess returns a text if part is too much of all calls, and "" if it is not. A rate
// of 0 is off. The share is a quotient and compared as such: 55 of 100 is exactly 0.55,
// while 0.55 times 100 is more than 55.
func (w *window) excess(part, calls int64, rate float64, what string) string {
	if rate == 0 || calls < int64(w.cfg.MinCalls) || float64(part)/float64(calls) < rate {
		return ""
	}
	return fmt.Sprintf("%d of %d calls %s", part, calls, what)
}

// tooSlow returns what opens the breaker if the share of slow calls is over the limit:
// of those that ended within the window, and those in flight that are slow already.
func (w *window) tooSlow() (cause string) {
	all := w.sum()
	return w.excess(w.slowCalls(), all.successes+all.failures+int64(w.slow.overdue), w.cfg.SlowCallRate, "slow")
}

// becameSlow reports whether calls in flight have become slow that were not
// before.
func (w *window) becameSlow() bool {
	before := w.slow.overdue
	w.slow.overdue = w.late()
	return w.slow.overdue > before
}

// late is how many of the calls in flight are slow by now.
func (w *window) late() int {
	n := w.slow.overdue
	for n < len(w.slow.inFlight) && w.now-w.slow.inFlight[n].since >= w.cfg.SlowCallDuration {
		n++
	}
	return n
}

func (w *window) slowCalls() int64 {
	n := int64(w.late())
	for _, ended := range w.slow.ended {
		n += ended
	}
	return n
}

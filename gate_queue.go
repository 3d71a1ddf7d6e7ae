package retry

import (
	"fmt"
	"math"
	"time"

	"github.com/retryutils/retry/internal/pace"
)

// queue has the waiters of a gate: first come, first served. Each sleeps until about
// the time of its position by itself; the head is woken if that is too long. The gate's mu
// guards it.
type queue struct {
	seen     time.Time // the clock, as last read
	until    time.Time // the end of the pause
	firm     time.Time // the end of that part of it that evidence does not end
	known    time.Time // the end that all waiters have
	next     time.Time // when the head may pass
	notified time.Time // the end that the listeners have

	pace   pace.Pace
	from   time.Time // of a crowd, which goes ever faster: the end of the pause, and later after a stall
	wanted time.Time // when a call last had to wait
	reason string    // of the last pause or pace
	logged float64   // the pace that the log has

	calls     int     // of which share is known, up to gateRecent
	share     float64 // of the recent calls that were refused
	odds      float64 // of so many refusals in succession at that share
	suspect   uint64  // the last refused call
	proof     uint64  // the last accepted one
	refusedAt time.Time

	head, tail *waiter
	length     int
}

type waiter struct {
	prev, next *waiter
	at         time.Time     // what its timer is set to
	exact      bool          // at was counted from its position just now
	gone       bool          // out of the queue
	moved      chan struct{} // receives when at is too late
}

const (
	gateStagger = 200.0       // calls per second right after a pause: 1,000 waiters in 5s
	gateCalm    = time.Second // after a pause, until the gate stands open again
	gateIdle    = time.Minute // without a refusal, or a call that had to wait, until it forgets
	gateRecent  = 32          // calls that the share of refusals is taken from
	// gateLate is how late a timer may be without moving the positions behind it.
	// More is a stall of the process: a crowd must not make up for that.
	gateLate = 2 * time.Millisecond
)

func newQueue(at time.Time) *queue { return &queue{seen: at, odds: 1} }

// know counts calls that were accepted before.
func (q *queue) know(accepted int) {
	for range accepted {
		q.weigh(0)
	}
}

func (q *queue) weigh(refused float64) {
	q.calls = min(q.calls+1, gateRecent)
	q.share += (refused - q.share) / float64(q.calls)
}

// again reports whether others were accepted after a call was refused, of the given number.
func (q *queue) again(before uint64) bool { return before != 0 && before < q.proof }

// refused notes the refusal of a call, and reports whether all calls must pause:
// unless one that was sent after it was accepted, where most of the recent calls were
// refused, or so many in succession that it is no chance. A call that was refused
// before while others were accepted is no new evidence: it may be the only one that
// the server does not accept. Few calls say little of a share, all the more since a
// pause keeps away those that would be accepted.
func (q *queue) refused(t pace.Call, again bool) (all bool) {
	most, chance := 0.5, max(q.share, 1.0/gateRecent)
	if q.calls < gateRecent {
		most, chance = 0.65, 1.0/gateRecent
	}
	if q.calls == 0 {
		q.odds = 0
	}
	if !again {
		q.odds *= chance
		q.weigh(1)
	}
	q.suspect, q.refusedAt = max(q.suspect, t.Number), q.seen
	return t.Number >= q.proof && (q.share > most || q.odds <= 1.0/gateRecent/gateRecent)
}

// accepted notes a call that was accepted, which ends the pause if it was sent after
// the last refused one.
func (q *queue) accepted(t pace.Call) {
	q.weigh(0)
	q.odds = 1
	q.proof = max(q.proof, t.Number)
	if end := later(q.seen, q.firm); t.Number > q.suspect && q.until.After(end) {
		q.known = time.Time{}
		q.hold(end)
		q.pace.Paused(q.seen, end)
		if took := end.Sub(q.refusedAt).Seconds(); took > 0 { // those in the queue go as fast as they came, and faster
			q.from = end.Add(-gateCrowd(max(gateStagger, 2*float64(q.length)/took)))
		}
	}
}

// hold moves the first position to the end of a pause, and all others after it. Of
// thousands in flight, each refusal makes a pause a little longer. Then those in
// the queue are not woken: they find out when they check, a little too early.
func (q *queue) hold(until time.Time) {
	q.until, q.next = until, until
	q.from = until
	if later := until.Sub(q.known); later < until.Sub(q.seen)/100 {
		return
	}
	q.known = until
	n := 0.0
	for w := q.head; w != nil; w = w.next {
		w.at, w.exact = until.Add(q.spacing(n)), true
		n++
		w.wake()
	}
}

// spacing is the time between n positions.
func (q *queue) spacing(n float64) time.Duration {
	return time.Duration(min(n*float64(time.Second)/q.rate(), float64(maxLine)))
}

// rate is how many calls a second pass: the pace, or, after a pause, a crowd of calls
// spread out, and faster when that has gone on for some seconds.
func (q *queue) rate() float64 {
	if rate := q.pace.Rate(); rate > 0 {
		return rate
	}
	return min(gateStagger*math.Exp2(max(0, q.seen.Sub(q.from).Seconds()-5)/2), 1e6)
}

// gateCrowd is how long after its beginning a crowd goes at a rate: 200 a second for
// five seconds, and twice as fast every two seconds from then on.
func gateCrowd(rate float64) time.Duration {
	return time.Duration((5 + 2*math.Log2(rate/gateStagger)) * float64(time.Second))
}

// maxLine is the longest wait in the queue that is computed.
const maxLine = 1000 * time.Hour

func (w *waiter) wake() {
	select {
	case w.moved <- struct{}{}:
	default: // it has not checked since it was last woken
	}
}

// wakeHead wakes the head of the queue, unless it will check in time by itself.
func (q *queue) wakeHead() {
	if w := q.head; w != nil && w.at.After(q.next) {
		w.at = q.next
		w.wake()
	}
}

// join returns nil if a newcomer may pass right now, or else its place.
func (q *queue) join() *waiter {
	if q.open() {
		return nil
	}
	if q.head == nil && !q.next.After(q.seen) {
		q.advance(nil)
		return nil
	}
	w := &waiter{prev: q.tail, moved: make(chan struct{}, 1), exact: true}
	first := later(q.next, q.seen)
	w.at = first.Add(q.spacing(float64(q.length)))
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
	q.length++
	return w
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.gone = true
	q.length--
}

// look returns how long w has to wait at least, and when to check again; 0: it
// may pass. How many are ahead is known when it joins and when all are moved.
// Afterwards some may have left, and the least that it can be is returned. A waiter that finds the
// head overdue wakes it, as its timer does not follow a clock that was set forward,
// and checks less and less often: it is woken when it has become the head.
func (q *queue) look(w *waiter) (left, sleep time.Duration) {
	head := max(0, q.next.Sub(q.seen))
	if w == q.head {
		w.at = q.next
		return head, head
	}
	late := q.seen.Sub(q.next)
	overdue := late > gateLate
	if overdue {
		q.head.wake()
	}
	if w.exact {
		w.exact = false
		left = w.at.Sub(q.seen)
		return left, left
	}
	ahead := q.spacing(float64(q.length))
	if overdue {
		ahead = max(ahead, late)
	}
	w.exact = false
	w.at = q.seen.Add(head + ahead)
	return head + q.spacing(1), head + ahead
}

// advance uses up a position: that of w, or, if it is nil, of a call that did not
// have to wait.
func (q *queue) advance(w *waiter) {
	if late := q.seen.Sub(q.next); late > gateLate { // a stall: a crowd does not make up for it
		q.from, q.next = q.from.Add(late), q.seen
	} else if q.pace.Rate() > 0 {
		q.next = q.seen
	}
	if w != nil {
		q.wanted = q.seen
		q.pace.Waited()
	}
	q.next = q.next.Add(q.spacing(1))
}

// open reports whether the pause, its crowd and the pace are over.
func (q *queue) open() bool {
	return q.length == 0 && q.seen.Sub(q.until) >= gateCalm && q.pace.Rate() == 0
}

// forgotten reports whether the last refusal is so long ago that it does not matter
// for the next. Until then outcomes are counted.
func (q *queue) forgotten() bool {
	return q.open() && q.logged == 0 && q.seen.Sub(later(q.until, q.refusedAt)) >= gateIdle
}

// paceChange is what the log says of a pace that began, ended, or changed by half since
// it last did; cause is the refusals that led to it.
func (q *queue) paceChange(cause string) string {
	rate, before := q.pace.Rate(), q.logged
	if rate == before || math.Abs(math.Log2(rate/before)) < 1 {
		return ""
	}
	switch q.logged = rate; {
	case rate == 0:
		return "no pace: no call has to wait for it any more"
	case cause == "":
		return fmt.Sprintf("pacing at %.3g/s: the server accepts more than %.3g/s", rate, before)
	}
	return fmt.Sprintf("pacing at %.3g/s: %s", rate, cause)
}

// adjust keeps the pause in place when a clock without monotonic time is set
// back: what was left of it is still left, and not an hour more.
func (q *queue) adjust(now time.Time) {
	if back := q.seen.Sub(now); back > 0 {
		for _, t := range []*time.Time{&q.until, &q.firm, &q.known, &q.next, &q.notified, &q.from, &q.wanted, &q.refusedAt} {
			*t = t.Add(-back)
		}
		q.pace.Shift(-back)
		for w := q.head; w != nil; w = w.next {
			w.at = w.at.Add(-back)
		}
	}
	q.seen = now
	if q.length == 0 && now.Sub(later(q.until, later(q.wanted, q.refusedAt))) >= gateIdle {
		q.pace.Forget()
	}
}

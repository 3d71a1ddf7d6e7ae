package retry

import "time"

// queue is the line at a gate: first come, first served. Each waiter sleeps until
// about its turn by itself; whoever is at the head is told if that is too long.
// The gate's mu guards it.
type queue struct {
	seen  time.Time // the clock, as last seen
	until time.Time // the end of the pause
	told  time.Time // the end that all in line were told of
	next  time.Time // the turn of whoever is at the head
	went  time.Time // who passed last
	pace  pace
	ends  time.Time     // the window of a quota that is nearly used up
	share time.Duration // of a turn in it

	head, tail *waiter
	length     int
	seq        uint64 // of the last who joined
	crowd      uint64 // of the last who came before the end of the pause
}

type waiter struct {
	prev, next *waiter
	seq        uint64
	at         time.Time     // what its timer is set to
	exact      bool          // at was counted from its place in line just now
	gone       bool          // out of the line
	moved      chan struct{} // receives when at is too late
}

const (
	gateCalm = time.Second // after a pause, until the gate stands open again
	// gateRecall is how many pauses later a refusal is held against the last.
	gateRecall = 10
	// gateLate is how late a timer may be without moving the turns behind it.
	// More is a stall of the process: a crowd must not make up for that.
	gateLate = 2 * time.Millisecond
	// gateNews is by how much longer a pause must be, if it is long, for all in line
	// to be told.
	gateNews = 50 * time.Millisecond
)

func newQueue(first *burst, at time.Time) *queue { return &queue{seen: at, pace: newPace(first, at)} }

// hold moves the first turn to the end of a pause, and all others after it. Of
// thousands in flight, each refusal makes a pause a little longer. Then those in
// line are not told: they find out when they look, a little too early.
func (q *queue) hold(until time.Time) {
	q.until, q.next = until, until
	q.pace.begin(until)
	if later := until.Sub(q.told); later >= 0 && later < min(until.Sub(q.seen)/100, gateNews) {
		return
	}
	q.told = until
	n := 0.0
	for w := q.head; w != nil; w = w.next {
		w.at, w.exact = until.Add(q.turns(until, n)), true
		n++
		w.wake()
	}
}

// turns is how long n turns take from a time on. Those of a quota end with its
// window.
func (q *queue) turns(from time.Time, n float64) time.Duration {
	window := max(0, q.ends.Sub(from))
	took := min(n*float64(q.step()), float64(window)+n*float64(q.pace.step()))
	return time.Duration(min(took, float64(maxLine)))
}

// maxLine is the longest wait in line that is told of.
const maxLine = 1000 * time.Hour

func (w *waiter) wake() {
	select {
	case w.moved <- struct{}{}:
	default: // it has not looked since it was last told
	}
}

// wakeHead tells who has come to the head of the line, unless it will look in
// time by itself.
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
		q.advance(nil, false)
		return nil
	}
	q.seq++
	w := &waiter{prev: q.tail, seq: q.seq, moved: make(chan struct{}, 1), exact: true}
	first := later(q.next, q.seen)
	w.at = first.Add(q.turns(first, float64(q.length)))
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
	q.length++
	if !q.until.Before(q.seen) {
		q.crowd = q.seq
	}
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

// look tells w how long it has to wait at least, and when to look again; 0: it is
// its turn. How many are ahead is known when it joins and when all are moved.
// Afterwards some may have left, and the least that it can be is told. Who finds the
// head overdue wakes it, as its timer does not follow a clock that was set forward,
// and looks less and less often: it is told when it has become the head.
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
	if w.exact && w.at.After(q.seen) {
		w.exact = false
		left = w.at.Sub(q.seen)
		return left, left
	}
	first := later(q.next, q.seen)
	ahead := q.turns(first, float64(w.seq-q.head.seq))
	if overdue {
		ahead = max(ahead, late)
	}
	w.exact = false
	w.at = q.seen.Add(head + ahead)
	return head + q.turns(first, 1), head + ahead
}

// advance uses up a turn: that of w, or, if it is nil, of somebody who did not
// have to wait. held tells that it will be held back for longer elsewhere.
func (q *queue) advance(w *waiter, held bool) {
	if late := q.seen.Sub(q.next); late > gateLate || q.pace.learned && q.pace.burst < fewCalls {
		q.next = q.seen
	}
	q.pace.passed(q.seen, w != nil && !held, w != nil && w.seq <= q.crowd)
	q.went = q.seen
	q.next = q.next.Add(q.step())
}

// refused notes a refusal that asks for a pause of d. A pause that begins when
// the last one is forgotten says nothing of the pace, nor does one after a handful
// of calls that the gate did not hold back.
func (q *queue) refused(d time.Duration, own bool) {
	again := !q.until.IsZero() && !q.forgotten() && (!q.open() || q.pace.count >= fewCalls)
	q.pace.refused(q.seen, q.until, d, own, again)
}

// open reports whether the pause, its crowd and the pace are over.
func (q *queue) open() bool {
	return q.length == 0 && q.seen.Sub(q.until) >= gateCalm && !q.pace.learned && !q.seen.Before(q.ends)
}

// forgotten reports whether the last pause is so long ago that it does not matter
// for the next. Until then calls are counted.
func (q *queue) forgotten() bool {
	return q.open() && q.seen.Sub(q.until) >= min(gateRecall*q.pace.pause, gateIdle)
}

// adjust keeps the pause in place when a clock without monotonic time is set
// back: what was left of it is still left, and not an hour more.
func (q *queue) adjust(now time.Time) {
	if back := q.seen.Sub(now); back > 0 {
		q.until, q.next, q.ends = q.until.Add(-back), q.next.Add(-back), q.ends.Add(-back)
		q.went, q.told = q.went.Add(-back), q.told.Add(-back)
		q.pace.shift(-back)
		for w := q.head; w != nil; w = w.next {
			w.at = w.at.Add(-back)
		}
	}
	q.seen = now
	if q.length == 0 {
		q.pace.forget(now, q.until)
	}
}

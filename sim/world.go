package main

import (
	"container/heap"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
)

// world is a little universe with a time of its own, in which goroutines that
// use the library live. One of them moves at a time, in an order that is always
// the same: events happen by their time, and at the same time in the order in
// which they were planned. Between two events all goroutines are at rest, which
// is what the synctest bubble around the world is for.
type world struct {
	now    time.Time
	events events
	seq    uint64

	mu    sync.Mutex
	woken []*timer // their goroutines woke for another reason than the clock
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld() *world { return &world{now: epoch} }

// since is the time in seconds since the world began.
func (w *world) since() float64 { return w.now.Sub(epoch).Seconds() }

// at plans f for a time, and for now if that is over.
func (w *world) at(t time.Time, f func()) {
	if t.Before(w.now) {
		t = w.now
	}
	w.seq++
	heap.Push(&w.events, event{t, w.seq, f})
}

func (w *world) after(d time.Duration, f func()) { w.at(w.now.Add(d), f) }

// spawn starts a goroutine in an event of its own, so that it moves alone.
func (w *world) spawn(f func()) { w.after(0, func() { go f() }) }

// run lets everything happen, until nothing is planned any more.
func (w *world) run() {
	for {
		synctest.Wait()
		if t := w.nextWoken(); t != nil {
			t.turn <- struct{}{}
			continue
		}
		if len(w.events) == 0 {
			return
		}
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.happen()
	}
}

// nextWoken picks one of those who woke together by the age of their timers.
func (w *world) nextWoken() *timer {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.woken) == 0 {
		return nil
	}
	first := 0
	for i, t := range w.woken {
		if t.id < w.woken[first].id {
			first = i
		}
	}
	t := w.woken[first]
	w.woken = slices.Delete(w.woken, first, first+1)
	return t
}

// sleep is for goroutines of this world.
func (w *world) sleep(d time.Duration) {
	done := make(chan struct{})
	w.after(d, func() { close(done) })
	<-done
}

type event struct {
	at     time.Time
	seq    uint64
	happen func()
}

type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e events) Less(i, j int) bool {
	if c := e[i].at.Compare(e[j].at); c != 0 {
		return c < 0
	}
	return e[i].seq < e[j].seq
}
func (e *events) Push(x any) { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}

// clock is the world's time in the form in which the library asks for it.
type clock struct{ *world }

var _ clockwork.Clock = clock{}

func (c clock) Now() time.Time                         { return c.now }
func (c clock) Since(t time.Time) time.Duration        { return c.now.Sub(t) }
func (c clock) Until(t time.Time) time.Duration        { return t.Sub(c.now) }
func (c clock) Sleep(d time.Duration)                  { c.sleep(d) }
func (c clock) After(d time.Duration) <-chan time.Time { return c.NewTimer(d).Chan() }

func (c clock) NewTimer(d time.Duration) clockwork.Timer {
	t := c.timer()
	t.Reset(d)
	return t
}

func (c clock) AfterFunc(d time.Duration, f func()) clockwork.Timer {
	t := c.timer()
	t.f = f
	t.Reset(d)
	return t
}

func (c clock) NewTicker(d time.Duration) clockwork.Ticker {
	t := c.timer()
	t.period = d
	t.Reset(d)
	return ticker{t}
}

func (c clock) timer() *timer {
	c.seq++
	return &timer{world: c.world, id: c.seq, ch: make(chan time.Time, 1), turn: make(chan struct{})}
}

type timer struct {
	world   *world
	id      uint64
	ch      chan time.Time
	f       func()        // of AfterFunc
	period  time.Duration // of NewTicker
	pending bool
	armed   int // counts Reset, so that an event of an earlier one is known
	turn    chan struct{}
}

func (t *timer) Chan() <-chan time.Time { return t.ch }

func (t *timer) Reset(d time.Duration) bool {
	was := t.pending
	t.pending = true
	t.armed++
	turn := t.armed
	t.world.after(d, func() {
		if t.pending && turn == t.armed {
			t.fire()
		}
	})
	return was
}

func (t *timer) fire() {
	if t.pending = t.period > 0; t.pending {
		t.Reset(t.period)
	}
	if t.f != nil {
		t.f()
		return
	}
	select {
	case t.ch <- t.world.now:
	default:
	}
}

// Stop reports that the goroutine that waited for this timer is up already: a
// breaker or a gate has woken it, maybe with many others. It goes on when it is
// its turn, so that even then one moves at a time.
func (t *timer) Stop() bool {
	if !t.pending {
		return false
	}
	if t.f == nil {
		t.world.mu.Lock()
		t.world.woken = append(t.world.woken, t)
		t.world.mu.Unlock()
		<-t.turn
	}
	t.pending = false
	return true
}

type ticker struct{ *timer }

func (t ticker) Reset(d time.Duration) {
	t.period = d
	t.timer.Reset(d)
}

func (t ticker) Stop() { t.pending = false }

package retry

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/pace"
)

// A clock without monotonic time is set forward, past the end of the pause. The
// timer of the first in line did not know. All who came later stood behind it, and
// looked every few milliseconds whether it had gone: for a day, if it was a day.
func TestGateOnAClockThatIsSetForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &settableClock{}
		clock.allow(200)
		g := NewGate(clock)
		passed := make(chan time.Duration, 2)
		start := time.Now()
		wait := func() {
			assert.NoError(t, g.Wait(t.Context()))
			passed <- time.Since(start)
		}
		g.Pause(24 * time.Hour)
		go wait()
		synctest.Wait()
		clock.offset.Add(int64(24 * time.Hour))
		time.Sleep(time.Second)
		go wait()
		assert.Equal(t, time.Second, <-passed, "a newcomer wakes the first")
		assert.Equal(t, time.Second+5*time.Millisecond, <-passed)
	})
}

// The first in line is held up by a hook of its own. Those behind it looked at every
// turn whether it had gone.
func TestGateBehindASlowHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &settableClock{}
		clock.allow(4000)
		g := NewGate(clock)
		g.Pause(time.Second)
		slow := Config{Clock: clock, Gate: g, OnWait: func(context.Context, Event) { time.Sleep(time.Hour) }}
		done := make(chan error, 51)
		go func() { done <- Run(t.Context(), slow, func(context.Context) error { return nil }) }()
		synctest.Wait()
		for range 50 {
			go func() { done <- g.Wait(t.Context()) }()
		}
		for range 51 {
			assert.NoError(t, <-done)
		}
	})
}

// Of a thousand calls in flight each refusal makes the pause a little longer. All
// in the queue learned of each: with 20,000 of them that took 15ms.
func TestGateTellsTheLineOfLongerPausesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &settableClock{}
		clock.allow(1e6)
		g := NewGate(clock)
		g.Pause(time.Second)
		done := make(chan error, 100)
		for range cap(done) {
			go func() { done <- g.Wait(t.Context()) }()
		}
		synctest.Wait()
		clock.allow(10_000) // and not 100,000
		for range 1000 {
			time.Sleep(100 * time.Microsecond)
			g.refused(pace.Call{Number: 1, Sent: time.Now()}, 0, time.Second, errors.New("refused"))
			synctest.Wait()
		}
		last := time.Now()
		for range cap(done) {
			assert.NoError(t, <-done)
		}
		assert.Equal(t, time.Second+99*5*time.Millisecond, time.Since(last))
	})
}

// FuzzGate does to a gate whatever can be done to one, on a clock that is also set
// back and forward, and checks after each step that
//   - the pace is a number within its limits,
//   - the clock is read no more than a few times per caller and step: a Wait
//     that spins does,
//   - what is kept does not grow,
//
// and in the end that none waits longer than the pause and its place in the queue.
func FuzzGate(f *testing.F) {
	const all = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"
	f.Add([]byte("\x01\x03\x00\x09\x00\x09\x08\x05\x01\x03\x00\x09\x00\x09\x01\x01\x08\x06"))
	f.Add([]byte("\x01\x00\x00\x01\x01\x00\x08\x00\x01\x00\x00\x01\x01\x00\x08\x03\x01\x06\x00\x00"))
	f.Add([]byte("\x02\x07\x08\x07\x02\x07\x00\x09\x08\x07\x01\x06\x06\x07\x07\x05\x00\x01\x04\x03"))
	f.Add([]byte("\x05\x03\x00\x05\x05\x0b\x01\x03\x0a\x02\x0b\x03\x0a\x00\x08\x06\x09\x04\x00\x05"))
	f.Add([]byte(all + all + all + "\x08\x05" + all + "\x08\x06" + all))
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			s := newGateFuzz(t)
			for len(steps) >= 2 {
				s.do(steps[0], int(steps[1]))
				s.check()
				steps = steps[2:]
			}
			s.end()
		})
	})
}

// gateFuzz is a gate under test, and what is known of its callers.
type gateFuzz struct {
	*testing.T
	clock   *settableClock
	gate    *Gate
	ctx     context.Context // ends all calls
	cancel  context.CancelFunc
	callers atomic.Int64 // that have not come back
	calm    atomic.Bool  // no call is refused any more
	forward time.Duration
}

func newGateFuzz(t *testing.T) *gateFuzz {
	s := &gateFuzz{T: t, clock: &settableClock{}}
	s.clock.allow(1000)
	s.gate = NewGate(s.clock)
	s.gate.OnPause(func(until time.Time) { s.gate.Pause(until.Sub(s.clock.Now())) }) // as a fleet's echo
	s.ctx, s.cancel = context.WithCancel(t.Context())
	return s
}

var (
	gateFuzzTimes = [...]time.Duration{
		1, time.Microsecond, time.Millisecond, 30 * time.Millisecond, time.Second, 5 * time.Second,
		time.Minute, time.Hour, 24 * time.Hour,
	}
	errGateFuzz = errors.New("down")
)

// do makes one step, and lets it come to rest.
func (s *gateFuzz) do(step byte, arg int) {
	d := gateFuzzTimes[arg%len(gateFuzzTimes)]
	s.clock.allow(200 * (s.callers.Load() + 100))
	switch step % 12 {
	case 0: // a crowd, each of which is refused or not after a while
		for i := range 1 + arg/8 {
			s.call(time.Duration(i%5)*time.Millisecond, 0, nil)
		}
	case 1:
		s.call(0, d, nil)
	case 2:
		s.gate.Pause(d)
	case 3:
		if s.gate.refused(s.gate.sent(), 0, d, errGateFuzz); arg == 255 {
			s.gate.Pause(math.MaxInt64) // a century
		}
	case 4: // one in flight, refused later
		s.call(gateFuzzTimes[arg%5], d, nil)
	case 5:
		s.gate.Refused(d)
	case 6:
		s.clock.offset.Add(-int64(d))
	case 7:
		s.clock.offset.Add(int64(d))
		s.forward += d
	case 8:
		s.clock.allow(1000 * (s.callers.Load() + 100)) // each looks when its timer fires
		time.Sleep(d)
	case 9:
		s.gate.release()
	case 10: // a limiter that refuses, holds back or panics
		s.call(0, d, gateFuzzLimiter(arg))
	case 11: // a caller with little time, and one that leaves
		s.wait(d)
		s.wait(time.Second)
	}
	synctest.Wait()
}

// wait waits at the gate for d at most.
func (s *gateFuzz) wait(d time.Duration) {
	ctx, cancel := context.WithTimeout(s.ctx, d)
	s.callers.Add(1)
	go func() {
		defer s.callers.Add(-1)
		defer cancel()
		_ = s.gate.Wait(ctx)
	}()
}

// call makes a call that takes a while; with a hint it is then refused.
func (s *gateFuzz) call(takes, hint time.Duration, limiter Limiter) {
	cfg := Config{Clock: s.clock, Gate: s.gate, Limiter: limiter, MaxRetries: NoRetries, MaxRetryAfter: 1 << 60}
	s.callers.Add(1)
	go func() {
		defer s.callers.Add(-1)
		defer func() { _ = recover() }() // of the limiter
		_ = Run(s.ctx, cfg, func(context.Context) error {
			time.Sleep(takes)
			if hint > 0 && !s.calm.Load() {
				return RetryAfter(errGateFuzz, hint)
			}
			return nil
		})
	}()
}

// gateFuzzLimiter does one of the things that a limiter can do.
type gateFuzzLimiter int

func (l gateFuzzLimiter) Wait(ctx context.Context) error {
	switch l % 4 {
	case 0:
		return errGateFuzz
	case 1:
		panic("limiter")
	case 2:
		select {
		case <-time.After(time.Duration(l) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// check is what must hold at any time.
func (s *gateFuzz) check() {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queue
	if q == nil {
		return
	}
	rate := q.rate()
	switch n := 0; {
	case !(rate >= 1.0/3601 && rate <= 1e6): // NaN too
		s.Fatalf("calls pass at %v a second", rate)
	case !(q.share >= 0 && q.share <= 1 && q.odds >= 0 && q.odds <= 1):
		s.Fatalf("a share of %v, at odds of %v", q.share, q.odds)
	default:
		for w := q.head; w != nil; w = w.next {
			n++
		}
		if n != q.length {
			s.Fatalf("%d in a line of %d", n, q.length)
		}
	}
}

// end lets all through that wait. From now on no call is refused.
func (s *gateFuzz) end() {
	defer func() {
		s.cancel()
		time.Sleep(10 * time.Second) // who is at the server
		synctest.Wait()
		if n := s.callers.Load(); n != 0 {
			s.Errorf("%d callers are left", n)
		}
	}()
	s.calm.Store(true)
	s.clock.allow(1e6)
	time.Sleep(200 * time.Second) // those in flight come back
	s.clock.allow(1e6)
	synctest.Wait()
	s.gate.mu.Lock()
	q := s.gate.line()
	first := max(0, q.next.Sub(q.seen))
	for w := q.head; s.forward > 0 && w != nil; w = w.next { // timers do not follow a clock that was set forward
		first = max(first, w.at.Sub(q.seen)+s.forward)
	}
	bound := first + time.Duration(q.length)*(q.turns(1)+gateLate)
	w := q.tail
	s.gate.mu.Unlock()
	if bound > 1e4*time.Hour { // a century
		return
	}
	time.Sleep(bound)
	synctest.Wait()
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if w != nil && !w.gone {
		s.Errorf("the last in line did not pass within %v", bound)
	}
}

// settableClock is the bubble's, without monotonic time. It may be looked at so
// many times.
type settableClock struct {
	clockwork.Clock
	offset atomic.Int64
	looks  atomic.Int64
}

func (c *settableClock) allow(looks int64) { c.looks.Store(looks) }

func (c *settableClock) Now() time.Time {
	if c.looks.Add(-1) == -1 { // elsewhere, as a lock may be held here
		stack := debug.Stack()
		go func() { panic("the clock is looked at again and again\n" + string(stack)) }()
	}
	return time.Now().Round(0).Add(time.Duration(c.offset.Load()))
}

func (c *settableClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
func (c *settableClock) Until(t time.Time) time.Duration { return t.Sub(c.Now()) }

func (c *settableClock) NewTimer(d time.Duration) clockwork.Timer {
	return clockwork.NewRealClock().NewTimer(d)
}

func (c *settableClock) AfterFunc(d time.Duration, f func()) clockwork.Timer {
	return clockwork.NewRealClock().AfterFunc(d, f)
}

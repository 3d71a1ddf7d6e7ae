package retry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strings"
	"sync"
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

// scriptedGate is one in a synctest bubble, which learns outcomes by a script: A of an
// accepted call, R of a refused one, a and r of one that was refused at first, each of a call
// sent an interval after the one before, that did not wait at the gate.
type scriptedGate struct {
	*Gate
	clock    settableClock // no monotonic time
	interval time.Duration
	wait     time.Duration // that a refused call is asked for
	lines    []string      // of the log, about the pace
}

func newScriptedGate(interval time.Duration) *scriptedGate {
	s := &scriptedGate{interval: interval}
	s.clock.allow(1e9)
	s.Gate = NewGate(&s.clock)
	return s
}

func (s *scriptedGate) play(times int, script string) *scriptedGate {
	for _, outcome := range strings.Repeat(script, times) {
		time.Sleep(s.interval)
		line := ""
		switch outcome {
		case 'A':
			line = s.accepted(s.sent(), 0)
		case 'a':
			line = s.accepted(s.sent(), 1)
		case 'r':
			line = s.refused(s.sent(), 1, s.wait, errGateFuzz).pace
		default:
			line = s.refused(s.sent(), 0, s.wait, errGateFuzz).pace
		}
		if line != "" {
			s.lines = append(s.lines, line)
		}
	}
	return s
}

// joins waits in a goroutine of its own, and returns the time that it took, and how it
// ended.
func (s *scriptedGate) joins(ctx context.Context) (took <-chan time.Duration, ended <-chan error) {
	passed, errs := make(chan time.Duration, 1), make(chan error, 1)
	start := time.Now()
	go func() {
		err := s.Wait(ctx)
		passed <- time.Since(start)
		errs <- err
	}()
	synctest.Wait()
	return passed, errs
}

// newPacedGate is what gives a pace of about 5 a second at 100ms between calls.
func newPacedGate(t *testing.T, interval time.Duration) *scriptedGate {
	s := newScriptedGate(interval).play(9, "R").play(11, "A").play(1, "R")
	_, paced := s.Pace()
	assert.True(t, paced)
	return s
}

// Of the calls that are refused again, and of those that are accepted at last, the pace
// learns that they were refused before.
func TestPaceKnowsWhoWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for script, paced := range map[string]bool{"aaaaaR": false, "aaaaaaR": true} {
			s := newScriptedGate(100*time.Millisecond).play(8, "R").play(11, "A").play(12, "r")
			assert.Empty(t, s.lines)
			s.play(1, script)
			assert.Equal(t, paced, len(s.lines) > 0, script)
		}
	})
}

// After a burst of refusals the host was left alone for an hour. The next refusal was
// counted with those of the burst: as "7 of 10 refused in 1h", for which the gate let a
// call pass every twenty minutes.
func TestRefusalsBeforeAQuietMinuteAreForgotten(t *testing.T) {
	for quiet, paced := range map[time.Duration]bool{time.Second: true, time.Minute: false, time.Hour: false} {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(0).play(7, "R").play(3, "A")
			time.Sleep(quiet)
			_, is := s.play(1, "R").Pace()
			assert.Equal(t, paced, is && s.Snapshot().PacePerSecond > 0, quiet)
		})
	}
}

// Where half of the calls are refused, that is enough to pause all, once as many are known
// as the share is taken of. Of a few calls it may be chance.
func TestGatePausesByTheShareOfManyCalls(t *testing.T) {
	for calls, all := range map[int]bool{5: false, 200: true} {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(time.Millisecond).play(calls, "AR")
			time.Sleep(time.Second)
			s.wait = time.Minute
			_, paused := s.play(1, "AR").PausedUntil()
			assert.Equal(t, all, paused, "half of %d", 2*calls)
		})
	}
}

// A refusal without a wait, such as that of a last attempt without a hint, pauses no call,
// and is reported to no listener.
func TestGatePauseOfNoLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScriptedGate(0)
		s.OnPause(func(time.Time) { t.Error("no pause has begun") })
		s.play(3, "R")
		s.Refused(0)
		s.Refused(-time.Hour)
		s.Pause(0)
		assert.NoError(t, s.Wait(t.Context()))
		assert.NoError(t, s.Wait(t.Context()))
		assert.Zero(t, s.Snapshot().PausedUntil)
		assert.Error(t, s.Snapshot().LastRefusal)
	})
}

// A pause that is lengthened by what it may take to pass it on to another gate and back is
// not passed on: a tenth of it, 5ms at least and 100ms at most.
func TestGateListenersOfLongerPauses(t *testing.T) {
	for _, c := range []struct {
		first, second time.Duration
		reported      bool
	}{
		{time.Minute, time.Minute + 100*time.Millisecond, false},
		{time.Minute, time.Minute + 101*time.Millisecond, true},
		{200 * time.Millisecond, 220 * time.Millisecond, false},
		{200 * time.Millisecond, 230 * time.Millisecond, true},
		{10 * time.Millisecond, 15 * time.Millisecond, false},
		{10 * time.Millisecond, 16 * time.Millisecond, true},
	} {
		g := NewGate(clockwork.NewFakeClock())
		reported := 0
		g.OnPause(func(time.Time) { reported++ })
		g.Pause(c.first)
		g.Pause(c.second)
		assert.Equal(t, c.reported, reported == 2, "%v, then %v", c.first, c.second)
	}
}

// As soon as the server is seen to accept calls, those that came meanwhile pass twice as
// fast as they came; 5ms apart if that is slower.
func TestGateCrowdAfterEvidence(t *testing.T) {
	for _, c := range []struct {
		refused, atLeast, atMost time.Duration
		callers                  int
	}{
		{4 * time.Second, 1300 * time.Millisecond, 1700 * time.Millisecond, 2000}, // 1,000 a second and faster
		{4 * time.Second, 40 * time.Millisecond, 45 * time.Millisecond, 10},
		{0, 40 * time.Millisecond, 45 * time.Millisecond, 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(0)
			s.wait = time.Minute
			s.play(1, "R")
			var out sync.WaitGroup
			for range c.callers {
				out.Go(func() { assert.NoError(t, s.Wait(t.Context())) })
			}
			synctest.Wait()
			time.Sleep(c.refused)
			start := time.Now()
			s.play(1, "A")
			out.Wait()
			took := time.Since(start)
			assert.True(t, c.atLeast <= took && took <= c.atMost, "%d within %v", c.callers, took)
		})
	}
}

// A pause that begins between a waiter's check and its turn holds it back.
func TestGatePauseBeforeTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(nil)
		g.Pause(time.Second)
		start, begun := time.Now(), false
		err := g.wait(t.Context(), nil, func(_ context.Context, wait time.Duration) error {
			if wait == 0 && !begun {
				begun = true
				g.Pause(time.Minute)
			}
			return nil
		})
		assert.NoError(t, err)
		assert.Equal(t, time.Second+time.Minute, time.Since(start))
	})
}

// Waiters leave as soon as it is known that their turn is too late for them, and no later
// one has to wait for the turns of those who left.
func TestGateWaitersLeave(t *testing.T) {
	until := func(t *testing.T, d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	t.Run("the first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(0)
			s.Pause(time.Minute)
			ctx, cancel := context.WithCancel(t.Context())
			_, ended := s.joins(ctx)
			second, _ := s.joins(t.Context())
			time.Sleep(time.Second)
			cancel()
			assert.ErrorIs(t, <-ended, context.Canceled)
			assert.Equal(t, time.Minute, <-second)
		})
	})
	t.Run("the third, of a pause that became longer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(0)
			s.Pause(10 * time.Second)
			s.joins(t.Context())
			s.joins(t.Context())
			third, ended := s.joins(until(t, 20*time.Second+7*time.Millisecond))
			time.Sleep(time.Second)
			s.Pause(19 * time.Second)
			assert.Equal(t, time.Second, <-third)
			assert.ErrorIs(t, <-ended, ErrDeadline)
			time.Sleep(time.Minute)
		})
	})
	t.Run("the second, of a pause that became a little longer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(0)
			s.Pause(100 * time.Second)
			s.joins(t.Context())
			second, ended := s.joins(until(t, 100*time.Second+498*time.Millisecond))
			s.Pause(100*time.Second + 500*time.Millisecond) // it is not woken for that
			assert.Equal(t, 100*time.Second+5*time.Millisecond, <-second, "its turn comes 505ms later")
			assert.ErrorIs(t, <-ended, ErrDeadline)
			time.Sleep(time.Minute)
		})
	})
}

// The deadline of a context is no limit for a call that need not wait, on whatever clock it
// is.
func TestGateWaitOfNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	clock := clockwork.NewFakeClockAt(time.Now().Add(24 * time.Hour))
	g := NewGate(clock)
	g.Pause(time.Second)
	assert.ErrorIs(t, g.Wait(ctx), ErrDeadline)
	clock.Advance(time.Second)
	assert.NoError(t, g.Wait(ctx))
}

// Calls that [Gate.Wait] lets through count among those that were sent.
func TestGateWaitCountsAsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScriptedGate(10*time.Millisecond).play(7, "R").play(5, "A")
		for range 10 {
			assert.NoError(t, s.Wait(t.Context()))
		}
		s.play(10, "R")
		assert.Regexp(t, `^\d+ of 2\d refused`, s.Snapshot().Cause, "5 are accepted, and 10 more were sent")
	})
}

// A gate stands open a second after its pause: until then calls pass one by one.
func TestGateStandsOpenAfterASecond(t *testing.T) {
	for after, apart := range map[time.Duration]time.Duration{time.Second - 1: 5 * time.Millisecond, time.Second: 0} {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(0)
			s.Pause(time.Minute)
			time.Sleep(time.Minute + after)
			start := time.Now()
			assert.NoError(t, s.Wait(t.Context()))
			assert.NoError(t, s.Wait(t.Context()))
			assert.Equal(t, apart, time.Since(start))
		})
	}
}

// A timer that is up to 2ms late moves no other turn of a crowd; more is a stall, which
// the crowd does not make up for. At a pace each turn is counted from the call before.
func TestGateTurnsAfterALateOne(t *testing.T) {
	for _, c := range []struct {
		late, next time.Duration
	}{{0, 5 * time.Millisecond}, {time.Millisecond, 4 * time.Millisecond}, {2 * time.Millisecond, 3 * time.Millisecond}, {2*time.Millisecond + 1, 5 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(0)
			s.Pause(time.Minute)
			time.Sleep(time.Minute + c.late)
			assert.NoError(t, s.Wait(t.Context()))
			start := time.Now()
			assert.NoError(t, s.Wait(t.Context()))
			assert.Equal(t, c.next, time.Since(start), "%v late", c.late)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := newPacedGate(t, 100*time.Millisecond)
		time.Sleep(10 * time.Second)
		assert.NoError(t, s.Wait(t.Context()))
		_, position := s.queue.next, s.queue.spacing(1)
		time.Sleep(position + time.Millisecond)
		assert.NoError(t, s.Wait(t.Context()))
		start := time.Now()
		assert.NoError(t, s.Wait(t.Context()))
		assert.Equal(t, position, time.Since(start))
	})
}

// A pace is over when no call had to wait for it for a minute, however many passed, and
// not while one does. The log has that with the next outcome.
func TestWhenAPaceIsOver(t *testing.T) {
	paced := func(s *scriptedGate) bool { _, paced := s.Pace(); return paced }
	t.Run("no call has to wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newPacedGate(t, 100*time.Millisecond)
			for range 59 {
				time.Sleep(time.Second)
				assert.NoError(t, s.Wait(t.Context()))
			}
			time.Sleep(time.Second - 1)
			assert.True(t, paced(s))
			time.Sleep(time.Nanosecond)
			assert.False(t, paced(s))
			s.play(1, "A")
			assert.Equal(t, "no pace: no call has to wait for it any more", s.lines[len(s.lines)-1])
		})
	})
	t.Run("some have to", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newPacedGate(t, 100*time.Millisecond)
			for range 6 {
				time.Sleep(30 * time.Second)
				assert.NoError(t, s.Wait(t.Context()))
				start := time.Now()
				assert.NoError(t, s.Wait(t.Context()))
				assert.Positive(t, time.Since(start))
			}
			assert.True(t, paced(s))
		})
	})
	t.Run("one waits for more than a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(900*time.Millisecond).play(1, "R").play(3, strings.Repeat("R", 99)+"A").play(1, "R")
			rate, _ := s.Pace()
			assert.Less(t, rate, 1.0/70)
			assert.NoError(t, s.Wait(t.Context()))
			passed, _ := s.joins(t.Context())
			time.Sleep(65 * time.Second)
			assert.True(t, paced(s))
			assert.InDelta(t, 1/rate, (<-passed).Seconds(), 1)
		})
	})
}

// A gate that has seen no refusal for a minute, and has no pace, costs nothing: it does not
// read the clock.
func TestGateForgets(t *testing.T) {
	for name, begin := range map[string]func(*scriptedGate){
		"a refusal":               func(s *scriptedGate) { s.play(1, "R") },
		"a pause":                 func(s *scriptedGate) { s.Pause(10 * time.Second); time.Sleep(10 * time.Second) },
		"a refusal, then a pause": func(s *scriptedGate) { s.play(1, "R"); s.Pause(10 * time.Second); time.Sleep(10 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScriptedGate(0)
				reads := func() int64 {
					before := s.clock.looks.Load()
					assert.NoError(t, s.Wait(t.Context()))
					return before - s.clock.looks.Load()
				}
				assert.Zero(t, reads(), "before the first refusal")
				begin(s)
				time.Sleep(time.Minute - 1)
				assert.Positive(t, reads())
				assert.Positive(t, reads())
				time.Sleep(time.Nanosecond)
				assert.Positive(t, reads())
				assert.Zero(t, reads())
			})
		})
	}
}

// What the gate has learned does not change when a clock without monotonic time is set
// back: not the pace, which is taken from times, nor the turn of a waiter, even one that
// has not checked its own since it was counted.
func TestGateLearnsOnAClockThatIsSetBack(t *testing.T) {
	pace := func(back time.Duration) (rate float64) {
		synctest.Test(t, func(t *testing.T) {
			s := newScriptedGate(100*time.Millisecond).play(9, "R").play(5, "A")
			s.clock.offset.Add(-int64(back))
			rate, _ = s.play(6, "A").play(1, "R").Pace()
		})
		return rate
	}
	assert.InEpsilon(t, pace(0), pace(time.Hour), 0.1, "but for the 100ms that the clock stood still")
	synctest.Test(t, func(t *testing.T) {
		s := newScriptedGate(0)
		s.Pause(time.Minute)
		s.current().join()
		second := s.current().join()
		s.clock.offset.Add(-int64(time.Hour))
		left, _ := s.current().look(second)
		assert.Equal(t, time.Minute+5*time.Millisecond, left)
	})
}

// The log has a pace when it is set, and then when it is twice or half of what was last
// logged, or over.
func TestWhatIsLoggedOfAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPacedGate(t, 100*time.Millisecond)
		assert.Len(t, s.lines, 1)
		set, _ := s.Pace()
		s.interval = time.Second
		for range 40 { // calls wait for it, and none is refused: it is probed again and again
			assert.NoError(t, s.Wait(t.Context()))
			assert.NoError(t, s.Wait(t.Context()))
			s.play(10, "A")
		}
		raised, _ := s.Pace()
		assert.Greater(t, raised, 100*set)
		before := set
		for _, line := range s.lines[1:] {
			var rate, last float64
			_, err := fmt.Sscanf(line, "pacing at %g/s: the server accepts more than %g/s", &rate, &last)
			assert.NoError(t, err, line)
			assert.InEpsilon(t, before, last, 0.01)
			assert.True(t, 1.98*last < rate && rate < 3.9*last, line)
			before = rate
		}
		assert.Less(t, before, 2.02*raised)
		assert.Greater(t, before, raised/2)
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
	q := s.gate.current()
	first := max(0, q.next.Sub(q.seen))
	for w := q.head; s.forward > 0 && w != nil; w = w.next { // timers do not follow a clock that was set forward
		first = max(first, w.at.Sub(q.seen)+s.forward)
	}
	bound := first + time.Duration(q.length)*(q.spacing(1)+gateLate)
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

// A Refused of 0 does nothing. It made the gate one of many that the server refuses, whose
// pace is lowered four times without use, and not twice, before it is raised again.
func TestRefusedForNoTimeDoesNothing(t *testing.T) {
	g := NewGate(nil)
	g.Refused(0)
	g.Refused(-time.Second)
	if g.busy.Load() || g.queue != nil {
		t.Errorf("the gate is in use: %+v", g.queue)
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

// Listeners learn of every pause that begins. They were not notified of one that ended before
// the end that they knew: after evidence had ended that one, or the clock was set back.
func TestGateListenersOfNextPause(t *testing.T) {
	for name, over := range map[string]func(*Gate, *settableClock){
		"evidence": func(g *Gate, _ *settableClock) { g.accepted(g.sent(), 0) },
		"clock set back": func(g *Gate, clock *settableClock) {
			time.Sleep(2 * time.Minute)
			g.PausedUntil()
			clock.offset.Add(-int64(time.Hour))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := &settableClock{}
				clock.allow(4000)
				g, reported := NewGate(clock), 0
				g.OnPause(func(time.Time) { reported++ })
				g.refused(g.sent(), 0, time.Minute, errGateFuzz)
				over(g, clock)
				_, paused := g.PausedUntil()
				assert.False(t, paused)
				g.Pause(30 * time.Second)
				assert.Equal(t, 2, reported)
			})
		})
	}
}

// A call that cannot wait for a pause learns what set it. Its error named the last refusal
// that the gate had seen, though that asked for less, or was long past.
func TestPauseNamesWhatSetIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cause := func() error {
			var paused *PauseError
			assert.ErrorAs(t, Run(ctx, Config{Gate: g}, func(context.Context) error { return nil }), &paused)
			return paused.Err
		}
		g.refused(g.sent(), 0, 2*time.Second, errGateFuzz)
		assert.Equal(t, errGateFuzz, cause())
		g.Refused(3 * time.Second)
		assert.Equal(t, errElsewhere, cause())
		g.Pause(time.Minute)
		g.refused(g.sent(), 0, time.Second, errGateFuzz)
		assert.NoError(t, cause())
	})
}

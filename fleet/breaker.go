package fleet

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/retryutils/retry"
)

// Breaker joins a circuit breaker to those of the same name in all processes:
// when enough of them find the dependency dead (see [Config]), all open, and when
// a probe of one succeeds, all close. A process whose own calls still succeed does
// not open on the reports of others. One that was forced open stays so. The fleet
// does not keep it alive. The error is that of a wrong name, a nil breaker, or one
// that is not on the real clock.
func (f *Fleet) Breaker(name string, breaker *retry.CircuitBreaker) error {
	if breaker == nil {
		return invalid("Breaker %.80q is nil", name)
	}
	name, err := nameOf("breaker", name)
	if err != nil {
		return err
	}
	if err := onRealClock(retry.Config{Breaker: breaker}); err != nil {
		return err
	}
	s := &sharedBreaker{fleet: f, name: name, breaker: weak.Make(breaker)}
	f.mu.Lock()
	known := slices.ContainsFunc(f.breakers[name], func(other *sharedBreaker) bool { return other.breaker == s.breaker })
	if !known {
		f.breakers[name] = append(slices.Clip(f.breakers[name]), s)
	}
	f.mu.Unlock()
	if known {
		return nil
	}
	breaker.OnStateChange(func(c retry.StateChange) {
		if f.ctx.Err() != nil {
			return
		}
		if c.From == retry.StateHalfOpen && c.To == retry.StateClosed && !s.resetting.Load() {
			s.recovered.Store(true)
		}
		f.lookDue.give()
	})
	s.ask()
	f.lookDue.give()
	return nil
}

// sharedBreaker is a breaker of this process. The goroutine that watches takes
// its state in; the one that announces sends it.
type sharedBreaker struct {
	fleet     *Fleet
	name      string
	breaker   weak.Pointer[retry.CircuitBreaker]
	resetting atomic.Bool // the fleet closes it right now
	recovered atomic.Bool // a probe of this process closed it

	mu         sync.Mutex // guards the fields below
	report     *report    // to be sent, or, with weight 0, a question; nil if none is
	closing    bool       // to be sent
	reported   report     // the newest that was put up to be sent
	reportedAt time.Time  // when it was

	episode   string    // of the fleet, "" if none is known
	openUntil time.Time // for the fleet
	tripped   time.Time // the end of an open time that is not reported: the fleet gave it, or has overruled it
	resetAt   time.Time // when the fleet closes it; zero: not
	closedAt  time.Time // when the fleet last did
	position  bool      // to be asked for
	ended     bool      // this breaker's probe ended the episode
	failures  int       // in a row, as last seen
	successes int       // as last seen
	lastGood  time.Time // when there was another one
}

const (
	openWeight  = 5
	probeSpread = 100 * time.Millisecond // between the processes that come to probe
	probesIn    = 5                      // an open time, of all processes together
	fresh       = time.Second            // a success as recent counts against the reports of others, a failure for them
	sameTime    = 20 * time.Millisecond  // two readings of the same moment
)

// ask has the fleet's view asked for, and the own one sent again.
func (s *sharedBreaker) ask() {
	s.mu.Lock()
	if s.report == nil {
		s.report = &report{}
		if s.reported.weight > 0 && time.Now().Before(s.reported.until) {
			again := s.reported
			s.report = &again
		}
	}
	s.mu.Unlock()
	s.fleet.sendDue.give()
}

// watch looks at the breakers now and then, and whenever one changes.
func (f *Fleet) watch() {
	for wait := lookEvery; f.sleep(wait, f.lookDue); {
		wait = lookEvery
		now := time.Now()
		for _, s := range f.allBreakers() {
			if next := s.look(now); !next.IsZero() {
				wait = min(wait, max(next.Sub(now), time.Millisecond))
			}
		}
		f.fallBack()
		f.lookAtBudgets()
	}
}

// look takes the breaker's state in, and returns when it must look again, if
// that is soon. A moment to close that is long over is one that this process missed
// because it was stopped: the dependency may be down again.
func (s *sharedBreaker) look(now time.Time) time.Time {
	breaker := s.breaker.Value()
	if breaker == nil {
		return time.Time{}
	}
	s.mu.Lock()
	reset := !s.resetAt.IsZero() && !now.Before(s.resetAt)
	missed := reset && since(s.resetAt) > memberTime/2
	if reset {
		s.resetAt = time.Time{}
	}
	s.mu.Unlock()
	switch {
	case missed:
		s.ask()
	case reset:
		s.reset(breaker)
	}
	snapshot := breaker.Snapshot()
	s.mu.Lock()
	adopt := s.judge(snapshot, now)
	send := s.report != nil || s.closing
	next, left := s.resetAt, s.openUntil.Sub(now)
	s.mu.Unlock()
	if send {
		s.fleet.sendDue.give()
	}
	if adopt {
		s.trip(breaker, left, left)
	}
	return next
}

// opened opens the breaker because it is open for the fleet. After a failed probe the
// next one comes sooner than an open time later: each process probes as seldom as
// it would by itself, but not all at the same time.
func (s *sharedBreaker) opened(left time.Duration, episode, by string) {
	breaker := s.breaker.Value()
	if breaker == nil || left <= 0 {
		return
	}
	left = min(left, maxTime)
	now := time.Now()
	s.look(now) // for its newest success
	snapshot := breaker.Snapshot()
	s.mu.Lock()
	first := left
	if episode == s.episode {
		first /= probesIn
	}
	s.episode, s.resetAt, s.ended = episode, time.Time{}, false
	s.openUntil = now.Add(left)
	good := snapshot.State == retry.StateClosed && snapshot.ConsecutiveFailures == 0 && now.Sub(s.lastGood) < fresh
	s.mu.Unlock()
	if good {
		s.fleet.counts.contradicted.Add(1)
		return
	}
	if by == s.fleet.id && snapshot.State == retry.StateOpen {
		return
	}
	s.trip(breaker, left, first)
}

// trip opens the breaker because it is open for the fleet as long as left, until
// the first probe is due, and a while longer, so that not all processes come to
// probe at once.
func (s *sharedBreaker) trip(breaker *retry.CircuitBreaker, left, first time.Duration) {
	snapshot := breaker.Snapshot()
	if left <= 0 || snapshot.State == retry.StateOpen && snapshot.OpenUntil.IsZero() {
		return // it was forced open
	}
	spread := min(time.Duration(s.fleet.connection.members())*probeSpread, left)
	d := first + rand.N(max(spread, 1))
	if snapshot.State == retry.StateOpen && time.Until(snapshot.OpenUntil) >= d {
		return
	}
	s.mu.Lock()
	s.reported = report{}
	s.mu.Unlock()
	s.openFor(breaker, d)
	s.fleet.counts.trips.Add(1)
	s.fleet.log.Warn("fleet: breaker opened, others agree", "breaker", s.name, "for", d.Round(time.Millisecond).String())
}

// openFor opens the breaker, which is not reported.
func (s *sharedBreaker) openFor(breaker *retry.CircuitBreaker, d time.Duration) {
	s.mu.Lock()
	s.tripped = time.Now().Add(d) // a listener may look before Trip returns
	s.mu.Unlock()
	breaker.Trip(d)
	now := breaker.Snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.State == retry.StateOpen {
		s.tripped = now.OpenUntil
	}
}

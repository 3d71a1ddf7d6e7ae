package fleet

import (
	"math/rand/v2"
	"time"

	"github.com/retryutils/retry"
)

const (
	closeSpread = time.Millisecond     // between the processes that close
	waiterTime  = 5 * time.Millisecond // between two calls that a breaker lets through when it closes
)

// closed closes the breaker, soon, because a probe of some process has succeeded.
// Processes close one after the other, and those where calls wait queue: the calls
// of all go one by one, as those of one process do. If no position can be had in
// time, a random moment takes its place.
func (s *sharedBreaker) closed(by string) {
	breaker, now := s.breaker.Value(), time.Now()
	if breaker == nil {
		return
	}
	snapshot, waiting := breaker.Snapshot(), breaker.Waiting()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.episode, s.openUntil, s.closedAt = "", time.Time{}, now
	s.reported, s.report = report{}, nil
	ended := s.ended && by == s.fleet.id
	s.ended = false
	forced := snapshot.State == retry.StateOpen && snapshot.OpenUntil.IsZero()
	if ended || forced || snapshot.State == retry.StateClosed {
		return
	}
	s.tripped = snapshot.OpenUntil // what it found before is out of date
	spread := time.Duration(s.fleet.connection.members()) * (closeSpread + time.Duration(waiting)*waiterTime)
	s.resetAt = now.Add(rand.N(max(1, min(spread, s.fleet.cfg.OpenTime))))
	if s.position = waiting > 0; s.position {
		s.resetAt = s.resetAt.Add(s.fleet.cfg.Timeout) // not before the answer
		s.fleet.sendDue.give()
	}
	s.fleet.lookDue.give()
}

func (s *sharedBreaker) reset(breaker *retry.CircuitBreaker) {
	snapshot := breaker.Snapshot()
	forced := snapshot.State == retry.StateOpen && snapshot.OpenUntil.IsZero()
	if forced || snapshot.State == retry.StateClosed {
		return
	}
	s.resetting.Store(true)
	breaker.Reset()
	s.resetting.Store(false)
	s.fleet.log.Info("fleet: breaker closed, a probe of another process succeeded", "breaker", s.name)
}

// crowd is how long the calls take that wait, one after the other.
func (s *sharedBreaker) crowd() time.Duration {
	breaker := s.breaker.Value()
	if breaker == nil {
		return 0
	}
	return min(time.Duration(breaker.Waiting())*waiterTime, s.fleet.cfg.OpenTime)
}

// takePosition asks when the calls that wait here may go. If all positions within an
// open time are taken, the random moment stands.
func (s *sharedBreaker) takePosition() error {
	f, asked := s.fleet, time.Now()
	got, err := f.run(positionScript, 1, []string{f.store.key("turn", s.name)}, []string{itoa(int(s.crowd().Milliseconds())), ms(f.cfg.OpenTime)})
	if err != nil {
		return err
	}
	left, err := got.int(0, -1, f.cfg.OpenTime.Milliseconds())
	if err != nil || left < 0 {
		return err
	}
	wait := time.Duration(left) * time.Millisecond
	at := got.at.Add(wait)
	if s.awaits(asked, time.Time{}) {
		s.hold(wait) // before it is closed
		s.awaits(asked, at)
		f.lookDue.give()
	}
	return nil
}

// awaits reports whether the breaker is still to close because of what was known
// when its position was asked for, and if so moves that to the given moment, if it
// is not zero.
func (s *sharedBreaker) awaits(asked, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resetAt.IsZero() || s.closedAt.After(asked) {
		return false
	}
	if !at.IsZero() {
		s.resetAt = at
	}
	return true
}

// hold keeps the breaker from a probe of its own before its position: its success
// would let the calls go that wait.
func (s *sharedBreaker) hold(wait time.Duration) {
	breaker := s.breaker.Value()
	if breaker == nil {
		return
	}
	snapshot := breaker.Snapshot()
	switch {
	case snapshot.State == retry.StateClosed:
	case snapshot.State == retry.StateOpen && (snapshot.OpenUntil.IsZero() || time.Until(snapshot.OpenUntil) >= wait):
	default:
		s.openFor(breaker, wait)
	}
}

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
// not open on the word of others. One that was forced open stays so. The breaker
// must be on the real clock. The fleet does not keep it alive. The error is that
// of a wrong name or a nil breaker.
func (f *Fleet) Breaker(name string, breaker *retry.CircuitBreaker) error {
	if breaker == nil {
		return invalid("Breaker %.80q is nil", name)
	}
	if err := checkName("breaker", name); err != nil {
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
// its state in; the one that announces tells it.
type sharedBreaker struct {
	fleet     *Fleet
	name      string
	breaker   weak.Pointer[retry.CircuitBreaker]
	resetting atomic.Bool // the fleet closes it right now
	recovered atomic.Bool // a probe of this process closed it

	mu      sync.Mutex // guards the fields below
	finding *finding   // to be told; nil if none is
	closing bool       // to be told
	told    finding    // the newest that was put up to be told
	at      time.Time  // when it was

	episode   string    // of the fleet, "" if none is known
	openUntil time.Time // for the fleet
	tripped   time.Time // the end of the open time that the fleet gave the breaker
	resetAt   time.Time // when the fleet closes it; zero: not
	closedAt  time.Time // when the fleet last did
	successes int       // as last seen
	lastGood  time.Time // when there was another one
}

// finding is what this process thinks of the dependency.
type finding struct {
	weight int // failures in a row, openWeight if open; 0: nothing is wrong
	open   bool
	until  time.Time
}

const (
	openWeight   = 5
	probeSpread  = 100 * time.Millisecond // between the processes that come to probe
	freshSuccess = time.Second            // a success as recent as that speaks against others
	sameTime     = 20 * time.Millisecond  // two readings of the same moment
)

// ask has the fleet's view asked for, and the own one told again.
func (s *sharedBreaker) ask() {
	s.mu.Lock()
	if s.finding == nil {
		s.finding = &finding{}
		if s.told.weight > 0 && time.Now().Before(s.told.until) {
			again := s.told
			s.finding = &again
		}
	}
	s.mu.Unlock()
	s.fleet.newsDue.give()
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
	}
}

// look takes the breaker's state in, and returns when it must look again, if
// that is soon.
func (s *sharedBreaker) look(now time.Time) time.Time {
	breaker := s.breaker.Value()
	if breaker == nil {
		return time.Time{}
	}
	s.mu.Lock()
	reset := !s.resetAt.IsZero() && !now.Before(s.resetAt)
	if reset {
		s.resetAt = time.Time{}
	}
	s.mu.Unlock()
	if reset {
		s.reset(breaker)
	}
	snapshot := breaker.Snapshot()
	s.mu.Lock()
	adopt := s.judge(snapshot, now)
	tell := s.finding != nil || s.closing
	next, left := s.resetAt, s.openUntil.Sub(now)
	s.mu.Unlock()
	if tell {
		s.fleet.newsDue.give()
	}
	if adopt {
		s.trip(breaker, left)
	}
	return next
}

// judge decides what to tell of the breaker's state, and whether it should open
// because it is open for the fleet. s.mu must be held.
func (s *sharedBreaker) judge(b retry.Snapshot, now time.Time) (adopt bool) {
	if b.Successes > s.successes && b.State == retry.StateClosed {
		s.lastGood = now
	}
	s.successes = b.Successes
	if s.recovered.Swap(false) {
		s.told, s.finding, s.closing = finding{}, nil, true
		s.openUntil = time.Time{}
	}
	found := finding{}
	switch {
	case b.State == retry.StateOpen && !b.OpenUntil.IsZero():
		if apart := b.OpenUntil.Sub(s.tripped); apart < sameTime && apart > -sameTime {
			return false // it is the fleet's own doing
		}
		found = finding{openWeight, true, b.OpenUntil}
		if until := now.Add(maxTime); found.until.After(until) {
			found.until = until
		}
	case b.State != retry.StateClosed:
		return false
	case b.ConsecutiveFailures > 0 && now.Before(s.openUntil):
		return true
	case s.fleet.cfg.Suspicion > 0 && b.ConsecutiveFailures >= s.fleet.cfg.Suspicion:
		found = finding{min(b.ConsecutiveFailures, openWeight), false, now.Add(s.fleet.cfg.OpenTime)}
	}
	if s.worthTelling(found, now) {
		s.told, s.at, s.finding = found, now, &found
	}
	return false
}

func (s *sharedBreaker) worthTelling(found finding, now time.Time) bool {
	switch {
	case found.weight == 0:
		return s.told.weight > 0 // it was, and is not any more
	case found.weight > s.told.weight || found.open != s.told.open:
		return true
	case found.open:
		return found.until.Sub(s.told.until) > slack(found.until.Sub(now))
	}
	return now.Sub(s.at) > s.fleet.cfg.OpenTime/2
}

// tell announces what is due.
func (s *sharedBreaker) tell() error {
	s.mu.Lock()
	found, closing, episode := s.finding, s.closing, s.episode
	s.finding, s.closing = nil, false
	s.mu.Unlock()
	f := s.fleet
	findings, current := f.store.key("findings", s.name), f.store.key("episode", s.name)
	if closing {
		f.counts.sent.Add(1)
		_, err := f.run(closeScript, []string{findings, current, f.store.key("seq")},
			[]string{f.id, orDash(episode), s.name, f.store.channel()})
		if err != nil {
			s.again(found, true)
			return err
		}
	}
	if found == nil {
		return nil
	}
	err := s.tellFinding(*found, []string{findings, current, f.store.key("members"), f.store.key("seq")})
	if err != nil {
		s.again(found, false)
	}
	return err
}

// again has told later what could not be told now, unless there is newer.
func (s *sharedBreaker) again(found *finding, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = s.closing || closing
	if s.finding == nil {
		s.finding = found
	}
}

func (s *sharedBreaker) tellFinding(found finding, keys []string) error {
	f, asked := s.fleet, time.Now()
	left := max(0, min(found.until.Sub(asked), maxTime))
	if left == 0 {
		found = finding{}
	}
	own := "0"
	if found.open {
		own = "1"
	}
	if found.weight > 0 {
		f.counts.sent.Add(1)
	}
	answer, err := f.run(findingScript, keys, []string{f.id, itoa(found.weight), ms(left), own,
		itoa(f.cfg.Quorum), ftoa(f.cfg.QuorumShare), ms(slack(left)), s.name, f.store.channel()})
	if err != nil || len(answer) != 2 {
		return err
	}
	there, err := answer[0].AsInt64()
	episode, err2 := answer[1].ToString()
	if err != nil || err2 != nil || there <= 0 || !validID(episode) {
		return nil
	}
	s.mu.Lock()
	until := asked.Add(time.Duration(there) * time.Millisecond)
	// A close that came in meanwhile is newer than this answer, and a message
	// that came in meanwhile has said it already.
	news := !s.closedAt.After(asked) && until.Sub(s.openUntil) > slack(time.Until(until))
	s.mu.Unlock()
	if news {
		s.opened(time.Until(until), episode, f.id)
	}
	return nil
}

// opened is told that the breaker is open for the fleet.
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
	s.episode, s.resetAt = episode, time.Time{}
	s.openUntil = now.Add(left)
	good := snapshot.State == retry.StateClosed && snapshot.ConsecutiveFailures == 0 && now.Sub(s.lastGood) < freshSuccess
	s.mu.Unlock()
	if good {
		s.fleet.counts.contradicted.Add(1)
		return
	}
	if by == s.fleet.id && snapshot.State == retry.StateOpen {
		return
	}
	s.trip(breaker, left)
}

// trip opens the breaker for what is left, and a while longer, so that not all
// processes come to probe at once.
func (s *sharedBreaker) trip(breaker *retry.CircuitBreaker, left time.Duration) {
	snapshot := breaker.Snapshot()
	if left <= 0 || snapshot.State == retry.StateOpen && snapshot.OpenUntil.IsZero() {
		return // it was forced open
	}
	spread := min(time.Duration(s.fleet.link.members())*probeSpread, left)
	d := left + rand.N(max(spread, 1))
	if snapshot.State == retry.StateOpen && time.Until(snapshot.OpenUntil) >= d {
		return
	}
	s.mu.Lock()
	s.tripped = time.Now().Add(d) // a listener may look before Trip returns
	s.told = finding{}
	s.mu.Unlock()
	breaker.Trip(d)
	s.fleet.counts.trips.Add(1)
	s.fleet.log.Warn("fleet: breaker opened, others agree", "breaker", s.name, "for", d.Round(time.Millisecond).String())
	now := breaker.Snapshot()
	s.mu.Lock()
	if now.State == retry.StateOpen {
		s.tripped = now.OpenUntil
	}
	s.mu.Unlock()
}

// closed is told that a probe of some process has succeeded. The crowd that
// waited in all of them does not come at once.
func (s *sharedBreaker) closed(by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.episode, s.openUntil, s.closedAt = "", time.Time{}, time.Now()
	s.told, s.finding = finding{}, nil
	if by == s.fleet.id {
		return
	}
	spread := min(time.Duration(s.fleet.link.members())*gateSpread, maxGateSpread)
	s.resetAt = time.Now().Add(rand.N(max(spread, 1)))
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

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

package fleet

import (
	"cmp"
	"time"

	"github.com/retryutils/retry"
)

// finding is what this process thinks of the dependency.
type finding struct {
	weight int // failures in a row, openWeight if open; 0: nothing is wrong
	open   bool
	until  time.Time     // it holds
	lasts  time.Duration // to open for, if open is false
}

// judge decides what to tell of the breaker's state, and whether it should open
// because it is open for the fleet. s.mu must be held.
func (s *sharedBreaker) judge(b retry.Snapshot, now time.Time) (adopt bool) {
	if !now.Before(s.told.until) {
		s.told = finding{}
	}
	if b.Successes > s.successes && b.State == retry.StateClosed {
		s.lastGood = now
	}
	worse := b.ConsecutiveFailures > s.failures
	s.successes, s.failures = b.Successes, b.ConsecutiveFailures
	if s.recovered.Swap(false) {
		s.told, s.finding, s.closing, s.ended = finding{}, nil, true, true
		s.openUntil, s.resetAt = time.Time{}, time.Time{}
	}
	found := finding{}
	switch {
	case b.State == retry.StateOpen && !b.OpenUntil.IsZero():
		if apart := b.OpenUntil.Sub(s.tripped); apart < sameTime && apart > -sameTime {
			return false
		}
		s.resetAt = time.Time{} // its own calls have failed since
		found = finding{openWeight, true, b.OpenUntil, 0}
		if until := now.Add(maxTime); found.until.After(until) {
			found.until = until
		}
	case b.State != retry.StateClosed:
		return false
	case b.ConsecutiveFailures > 0 && now.Before(s.openUntil):
		return true
	case b.ConsecutiveFailures > 0 && s.fleet.cfg.Suspicion > 0:
		if found = s.suspicion(b.ConsecutiveFailures, worse, now); found.weight == 0 {
			return false // what was told holds as long as it does
		}
	}
	if s.worthTelling(found, now) {
		s.told, s.at, s.finding = found, now, &found
	}
	return false
}

// suspicion is what failures in a row say while the breaker is closed. Too few
// say something only when they are fresh: in an outage all fail at once.
func (s *sharedBreaker) suspicion(failures int, worse bool, now time.Time) finding {
	open, voice := s.fleet.cfg.OpenTime, s.fleet.voice()
	switch {
	case failures >= s.fleet.cfg.Suspicion:
		return finding{max(voice, min(failures, openWeight)), false, now.Add(open), open}
	case worse:
		return finding{min(failures, voice-1), false, now.Add(fresh), open}
	}
	return finding{}
}

// voice is the weight that makes a finding count in full; less counts a third.
func (f *Fleet) voice() int {
	if f.cfg.Suspicion < 0 {
		return openWeight
	}
	return min(f.cfg.Suspicion, openWeight)
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
	turn := s.turn && !s.resetAt.IsZero()
	s.finding, s.closing, s.turn = nil, false, false
	s.mu.Unlock()
	if closing {
		if err := s.tellClosed(episode); err != nil {
			s.again(found, true)
			return err
		}
	}
	var err error
	if turn {
		err = s.takeTurn() // nobody asks twice: the moment would be over
	}
	if found != nil && err == nil {
		err = s.tellFinding(*found)
	}
	if err != nil {
		s.again(found, false)
	}
	return err
}

func (s *sharedBreaker) tellClosed(episode string) error {
	f := s.fleet
	f.counts.sent.Add(1)
	_, err := f.run(closeScript, []string{f.store.key("findings", s.name), f.store.key("episode", s.name), f.store.key("seq"), f.store.key("turn", s.name)},
		[]string{f.id, orDash(episode), s.name, f.store.channel(), itoa(int(s.crowd().Milliseconds())), ms(f.cfg.OpenTime)})
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

func (s *sharedBreaker) tellFinding(found finding) error {
	f, asked := s.fleet, time.Now()
	keys := []string{f.store.key("findings", s.name), f.store.key("episode", s.name), f.store.key("members"), f.store.key("seq")}
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
		itoa(f.cfg.Quorum), ftoa(f.cfg.QuorumShare), ms(slack(left)), s.name, f.store.channel(),
		itoa(f.voice()), ms(cmp.Or(found.lasts, left))})
	if err != nil || len(answer) != 2 {
		return err
	}
	s.takeBack(found, asked)
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

// takeBack has a finding forgotten that was on its way when all were told to
// close: it may have come after that, and would speak for opening again.
func (s *sharedBreaker) takeBack(found finding, asked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found.weight > 0 && s.finding == nil && s.closedAt.After(asked) {
		s.finding = &finding{}
		s.fleet.newsDue.give()
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

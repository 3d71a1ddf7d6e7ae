package fleet

import (
	"cmp"
	"errors"
	"time"

	"github.com/retryutils/retry"
)

// report is what this process knows of the dependency.
type report struct {
	weight  int // failures in a row, openWeight if open; 0: nothing is wrong
	open    bool
	until   time.Time     // it is valid
	openFor time.Duration // if open is false
}

// judge decides what to report of the breaker's state, and whether it should open
// because it is open for the fleet. s.mu must be held.
func (s *sharedBreaker) judge(b retry.Snapshot, now time.Time) (adopt bool) {
	if !now.Before(s.reported.until) {
		s.reported = report{}
	}
	if b.Successes > s.successes && b.State == retry.StateClosed {
		s.lastGood = now
	}
	worse := b.ConsecutiveFailures > s.failures
	s.successes, s.failures = b.Successes, b.ConsecutiveFailures
	if s.recovered.Swap(false) {
		s.reported, s.report, s.closing, s.ended = report{}, nil, true, true
		s.openUntil, s.resetAt = time.Time{}, time.Time{}
	}
	found := report{}
	switch {
	case b.State == retry.StateOpen && !b.OpenUntil.IsZero():
		if apart := b.OpenUntil.Sub(s.tripped); apart < sameTime && apart > -sameTime {
			return false
		}
		s.resetAt = time.Time{} // its own calls have failed since
		found = report{openWeight, true, b.OpenUntil, 0}
		if until := now.Add(maxTime); found.until.After(until) {
			found.until = until
		}
	case b.State != retry.StateClosed:
		return false
	case b.ConsecutiveFailures > 0 && now.Before(s.openUntil):
		return true
	case b.ConsecutiveFailures > 0 && s.fleet.cfg.Suspicion > 0:
		if found = s.suspicion(b.ConsecutiveFailures, worse, now); found.weight == 0 {
			return false // what was reported is valid as long as it says
		}
	}
	if s.isNew(found, now) {
		s.reported, s.reportedAt, s.report = found, now, &found
	}
	return false
}

// suspicion is what failures in a row mean while the breaker is closed. Too few
// mean something only when they are fresh: in an outage all fail at once.
func (s *sharedBreaker) suspicion(failures int, worse bool, now time.Time) report {
	open, vote := s.fleet.cfg.OpenTime, s.fleet.vote()
	switch {
	case failures >= s.fleet.cfg.Suspicion:
		return report{max(vote, min(failures, openWeight)), false, now.Add(open), open}
	case worse:
		return report{min(failures, vote-1), false, now.Add(fresh), open}
	}
	return report{}
}

// vote is the weight that makes a report a whole vote; less makes a third of one.
func (f *Fleet) vote() int {
	if f.cfg.Suspicion < 0 {
		return openWeight
	}
	return min(f.cfg.Suspicion, openWeight)
}

// isNew reports whether it is worth a message.
func (s *sharedBreaker) isNew(found report, now time.Time) bool {
	switch {
	case found.weight == 0:
		return s.reported.weight > 0 // it was, and is not any more
	case found.weight > s.reported.weight || found.open != s.reported.open:
		return true
	case found.open:
		return found.until.Sub(s.reported.until) > slack(found.until.Sub(now))
	}
	return now.Sub(s.reportedAt) > s.fleet.cfg.OpenTime/2
}

func (s *sharedBreaker) due() (urgent, question bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report != nil && s.report.weight > 0 || s.closing || s.position, s.report != nil
}

// send sends what is due: that a probe succeeded, the question for a position, a
// report or the question what the others found.
func (s *sharedBreaker) send() error {
	s.mu.Lock()
	found, closing, episode := s.report, s.closing, s.episode
	position := s.position && !s.resetAt.IsZero()
	s.report, s.closing, s.position = nil, false, false
	s.mu.Unlock()
	if closing {
		if err := s.sendClosed(episode); err != nil {
			s.again(found, true)
			return err
		}
	}
	var err error
	if position {
		err = s.takePosition() // it is not asked for twice: the moment would be over
	}
	if found != nil && err == nil {
		err = s.sendReport(*found)
	}
	if err != nil {
		s.again(found, false)
	}
	return err
}

func (s *sharedBreaker) sendClosed(episode string) error {
	f := s.fleet
	f.counts.sent.Add(1)
	got, err := f.run(closeScript, 1, []string{f.store.key("findings", s.name), f.store.key("episode", s.name), f.store.key("seq"), f.store.key("turn", s.name)},
		[]string{f.id, cmp.Or(episode, "-"), s.name, f.store.channel(), itoa(int(s.crowd().Milliseconds())), ms(f.cfg.OpenTime)})
	if err == nil {
		f.published(got, 0)
	}
	return err
}

// again has sent later what could not be sent now, unless there is newer.
func (s *sharedBreaker) again(found *report, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = s.closing || closing
	if s.report == nil {
		s.report = found
	}
}

func (s *sharedBreaker) sendReport(found report) error {
	f, asked := s.fleet, time.Now()
	keys := []string{f.store.key("findings", s.name), f.store.key("episode", s.name), f.store.key("members"), f.store.key("seq")}
	left := max(0, min(found.until.Sub(asked), maxTime))
	if left == 0 {
		found = report{}
	}
	own := "0"
	if found.open {
		own = "1"
	}
	if found.weight > 0 {
		f.counts.sent.Add(1)
	}
	got, err := f.run(reportScript, 3, keys, []string{f.id, itoa(found.weight), ms(left), own,
		itoa(f.cfg.Quorum), ftoa(f.cfg.QuorumShare), ms(slack(left)), s.name, f.store.channel(),
		itoa(f.vote()), ms(cmp.Or(found.openFor, left)), ms(memberTime)})
	if err != nil {
		return err
	}
	s.withdraw(found, asked)
	there, err1 := got.duration(0)
	episode, err2 := got.values[1].ToString()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	f.published(got, 2)
	if there == 0 || !validID(episode) {
		return nil
	}
	s.mu.Lock()
	until := asked.Add(there)
	// A close that came in meanwhile is newer than this answer, and a message
	// that came in meanwhile was the same.
	isNew := !s.closedAt.After(asked) && until.Sub(s.openUntil) > slack(time.Until(until))
	s.mu.Unlock()
	if isNew {
		s.opened(time.Until(until), episode, f.id)
	}
	return nil
}

// withdraw has a report removed that was on its way when all were to close: it may
// have come after that, and would count for opening again.
func (s *sharedBreaker) withdraw(found report, asked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found.weight > 0 && s.report == nil && s.closedAt.After(asked) {
		s.report = &report{}
		s.fleet.sendDue.give()
	}
}

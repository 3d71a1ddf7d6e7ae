package fleet

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
)

// Gate joins a gate to those of the same name in all processes: a pause of one
// is a pause of all. The fleet does not keep it alive: a gate that is not used
// elsewhere is forgotten. The error is that of a wrong name, a nil gate, or one
// that is not on the real clock.
func (f *Fleet) Gate(name string, gate *retry.Gate) error {
	if gate == nil {
		return invalid("Gate %.80q is nil", name)
	}
	name, err := nameOf("gate", name)
	if err != nil {
		return err
	}
	if err := onRealClock(retry.Config{Gate: gate}); err != nil {
		return err
	}
	f.mu.Lock()
	s := f.gates[name]
	if s == nil {
		s = &sharedGate{fleet: f, name: name}
		f.gates[name] = s
	}
	added := s.add(gate)
	f.mu.Unlock()
	if added {
		gate.OnPause(s.onPause)
		if until, paused := gate.PausedUntil(); paused {
			s.onPause(until)
		}
		s.ask()
	}
	return nil
}

// onRealClock is an error where cfg has a gate or breaker on another clock than
// the fleet: how long its pauses are would mean nothing to other processes.
func onRealClock(cfg retry.Config) error {
	cfg.Clock = clockwork.NewRealClock()
	if err := cfg.Validate(); err != nil {
		return invalid("want the real clock: %w", err)
	}
	return nil
}

// sharedGate is the gates of one name in this process.
type sharedGate struct {
	fleet *Fleet
	name  string

	mu       sync.Mutex // guards the fields below
	gates    []weak.Pointer[retry.Gate]
	known    time.Time   // the end of the longest pause that the fleet has
	own      time.Time   // the end of the longest that began here
	report   bool        // own is to be sent
	question bool        // the fleet's pause is to be asked for
	applying []*applying // pauses from outside that are being set right now
}

// applying is a pause that is being set. The gates report it as they report one
// of their own, ending as much later as the call took.
type applying struct{ since, until time.Time }

const (
	gateSpread    = 5 * time.Millisecond // between the processes that continue after a pause
	maxGateSpread = 5 * time.Second
)

func (s *sharedGate) add(gate *retry.Gate) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := weak.Make(gate)
	if slices.Contains(s.gates, p) {
		return false
	}
	s.gates = append(s.gates, p)
	return true
}

// prune forgets the gates that are gone, and reports whether none is left, and
// no pause that may have to be sent again.
func (s *sharedGate) prune() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates = slices.DeleteFunc(s.gates, func(p weak.Pointer[retry.Gate]) bool { return p.Value() == nil })
	return len(s.gates) == 0 && !s.own.After(time.Now())
}

// ask has the fleet's pause asked for, and the own one sent again.
func (s *sharedGate) ask() {
	s.mu.Lock()
	s.question = true
	s.mu.Unlock()
	s.fleet.sendDue.give()
}

// onPause is called by a gate that was paused.
func (s *sharedGate) onPause(until time.Time) {
	now := time.Now()
	left := min(until.Sub(now), maxTime)
	if left <= 0 || s.fleet.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	if s.isEcho(until, now) || until.Sub(s.known) <= slack(left) {
		s.mu.Unlock()
		return
	}
	s.known = now.Add(left)
	s.own, s.report = s.known, true
	s.mu.Unlock()
	s.fleet.sendDue.give()
	s.pause(now.Add(left)) // others in this process
}

func (s *sharedGate) isEcho(until, now time.Time) bool {
	return slices.ContainsFunc(s.applying, func(a *applying) bool {
		return !until.Before(a.until) && !until.After(a.until.Add(now.Sub(a.since)))
	})
}

// slack is by how much a pause must be longer to be worth a message.
func slack(left time.Duration) time.Duration {
	return min(max(left/10, 5*time.Millisecond), 100*time.Millisecond)
}

func (s *sharedGate) due() (urgent, question bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report, s.question
}

// send reports a pause that began here, or asks for one.
func (s *sharedGate) send() error {
	s.mu.Lock()
	report, question, left := s.report, s.question, min(time.Until(s.own), maxTime)
	s.report, s.question = false, false
	s.mu.Unlock()
	f, amount := s.fleet, "0"
	if left > 0 {
		amount = ms(left)
		f.counts.sent.Add(1)
	}
	got, err := f.run(pauseScript, 2, []string{f.store.key("pause", s.name), f.store.key("seq")},
		[]string{amount, ms(slack(left)), f.id, s.name, f.store.channel()})
	var there time.Duration
	if err == nil {
		there, err = got.duration(0)
	}
	if err != nil {
		s.mu.Lock()
		s.report, s.question = s.report || report, s.question || question
		s.mu.Unlock()
		return err
	}
	f.published(got, 1)
	s.mu.Lock()
	isNew := there > 0 && time.Now().Add(there).Sub(s.known) > slack(left)
	s.mu.Unlock()
	if isNew {
		s.learn(there)
	}
	return nil
}

// learn sets a pause that began elsewhere. Each process continues at a moment of
// its own.
func (s *sharedGate) learn(left time.Duration) {
	until := time.Now().Add(min(left, maxTime))
	s.mu.Lock()
	if until.After(s.known) {
		s.known = until
	}
	s.mu.Unlock()
	spread := max(time.Duration(s.fleet.connection.members())*gateSpread, s.interval())
	s.pause(until.Add(rand.N(max(min(spread, maxGateSpread), 1))))
}

// interval is the time between two calls of this process, where its gates keep a
// pace: processes that continue after a pause together within it would be refused
// together.
func (s *sharedGate) interval() (longest time.Duration) {
	s.mu.Lock()
	gates := slices.Clone(s.gates)
	s.mu.Unlock()
	for _, p := range gates {
		if gate := p.Value(); gate != nil {
			if rate, paced := gate.Pace(); paced && rate > 0 {
				longest = max(longest, time.Duration(min(1/rate, maxGateSpread.Seconds())*float64(time.Second)))
			}
		}
	}
	return longest
}

// pause pauses the gates of this process.
func (s *sharedGate) pause(until time.Time) {
	a := &applying{time.Now(), until}
	s.mu.Lock()
	gates := slices.Clone(s.gates)
	s.applying = append(s.applying, a)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.applying = slices.DeleteFunc(s.applying, func(other *applying) bool { return other == a })
	}()
	for _, p := range gates {
		gate := p.Value()
		if gate == nil {
			continue
		}
		if has, paused := gate.PausedUntil(); !paused || until.Sub(has) > time.Millisecond {
			gate.Pause(time.Until(until))
		}
	}
}

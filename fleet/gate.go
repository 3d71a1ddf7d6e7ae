package fleet

import (
	"errors"
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
		listen := func(until time.Time) { s.onPause(until, kindOf(gate)) }
		gate.OnPause(listen)
		if until, paused := gate.PausedUntil(); paused {
			listen(until)
		}
		s.ask()
	}
	return nil
}

// kind is what set a pause: the code of a process, or the refusal of a call, which
// yields to evidence wherever it is passed on to.
type kind int

const (
	firm kind = iota
	refused
	kinds
)

// kindOf is the kind of a gate's pause that it has just reported. A pause that code
// sets takes the refusal away that the gate shows.
func kindOf(gate *retry.Gate) kind {
	if gate.Snapshot().LastRefusal != nil {
		return refused
	}
	return firm
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
	pauses   [kinds]pauses
	question bool        // the fleet's pauses are to be asked for
	applying []*applying // pauses from outside that are being set right now
}

// pauses are those of one kind.
type pauses struct {
	known  time.Time // the end of the longest that the fleet has
	own    time.Time // the end of the longest that began here
	report bool      // own is to be sent
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
	now := time.Now()
	return len(s.gates) == 0 && !s.pauses[firm].own.After(now) && !s.pauses[refused].own.After(now)
}

// ask has the fleet's pause asked for, and the own one sent again.
func (s *sharedGate) ask() {
	s.mu.Lock()
	s.question = true
	s.mu.Unlock()
	s.fleet.sendDue.give()
}

// onPause is called when a gate was paused.
func (s *sharedGate) onPause(until time.Time, k kind) {
	now := time.Now()
	left := min(until.Sub(now), maxTime)
	if left <= 0 || s.fleet.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	known := s.pauses[firm].known
	if r := s.pauses[refused].known; k == refused && r.After(known) {
		known = r
	}
	if s.isEcho(until, now) || until.Sub(known) <= slack(left) {
		s.mu.Unlock()
		return
	}
	until = now.Add(left)
	s.pauses[k] = pauses{until, until, true}
	s.mu.Unlock()
	s.fleet.sendDue.give()
	s.pause(until, k) // others in this process
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
	return s.pauses[firm].report || s.pauses[refused].report, s.question
}

// send reports the pauses that began here, and asks for those of the fleet.
func (s *sharedGate) send() error {
	f := s.fleet
	var amounts, slacks [kinds]string
	s.mu.Lock()
	before, question := s.pauses, s.question
	for k := range s.pauses {
		s.pauses[k].report = false
		amounts[k], slacks[k] = "0", "0"
		if left := min(time.Until(s.pauses[k].own), maxTime); left > 0 {
			amounts[k], slacks[k] = ms(left), ms(slack(left))
		}
	}
	s.question = false
	s.mu.Unlock()
	if before[firm].report || before[refused].report {
		f.counts.sent.Add(1)
	}
	got, err := f.run(pauseScript, 3, []string{f.store.key("pause", s.name), f.store.key("refusal", s.name), f.store.key("seq")},
		[]string{amounts[firm], amounts[refused], slacks[firm], slacks[refused], f.id, s.name, f.store.channel()})
	var left [kinds]time.Duration
	if err == nil {
		var errs [kinds]error
		for k := range kinds {
			left[k], errs[k] = got.duration(int(k))
		}
		err = errors.Join(errs[:]...)
	}
	if err != nil {
		s.mu.Lock()
		for k := range s.pauses {
			s.pauses[k].report = s.pauses[k].report || before[k].report
		}
		s.question = s.question || question
		s.mu.Unlock()
		return err
	}
	f.published(got, 2)
	for k, left := range left {
		until := got.at.Add(left)
		s.mu.Lock()
		isNew := left > 0 && until.Sub(s.pauses[k].known) > slack(left)
		s.mu.Unlock()
		if isNew {
			s.learn(until, kind(k))
		}
	}
	return nil
}

// learn takes over a pause that began elsewhere. Each process continues at a moment
// of its own.
func (s *sharedGate) learn(until time.Time, k kind) {
	s.mu.Lock()
	if until.After(s.pauses[k].known) {
		s.pauses[k].known = until
	}
	s.mu.Unlock()
	spread := max(time.Duration(s.fleet.connection.members())*gateSpread, s.interval())
	s.pause(until.Add(rand.N(max(min(spread, maxGateSpread), 1))), k)
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

// pause pauses the gates of this process, which honour a refusal as far as their own
// calls do not show that the server accepts them.
func (s *sharedGate) pause(until time.Time, k kind) {
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
		has, paused := gate.PausedUntil()
		switch {
		case k == firm:
			gate.Pause(time.Until(until))
		case !paused || until.Sub(has) > time.Millisecond:
			gate.Refused(time.Until(until))
		}
	}
}

package fleet

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/retryutils/retry"
)

// Gate joins a gate to those of the same name in all processes: a pause of one
// is a pause of all. The gate must be on the real clock. The fleet does not keep
// it alive: a gate that nobody else uses is forgotten. The error is that of a
// wrong name or a nil gate.
func (f *Fleet) Gate(name string, gate *retry.Gate) error {
	if gate == nil {
		return invalid("Gate %.80q is nil", name)
	}
	if err := checkName("gate", name); err != nil {
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
		gate.OnPause(s.heard)
		if until, paused := gate.PausedUntil(); paused {
			s.heard(until)
		}
		s.ask()
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
	mine     time.Time   // the end of the longest that began here
	due      bool        // to be told, or asked for
	applying []*applying // pauses from outside that are being set right now
}

// applying is a pause that is being set. The gates report it as they report one
// of their own, ending as much later as the call took.
type applying struct{ since, until time.Time }

const (
	gateSpread    = 5 * time.Millisecond // between the processes that a pause lets go
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
// no pause that the fleet may have to be told of again.
func (s *sharedGate) prune() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates = slices.DeleteFunc(s.gates, func(p weak.Pointer[retry.Gate]) bool { return p.Value() == nil })
	return len(s.gates) == 0 && !s.mine.After(time.Now())
}

// ask has the fleet's pause asked for.
func (s *sharedGate) ask() {
	s.mu.Lock()
	s.due = true
	s.mu.Unlock()
	s.fleet.newsDue.give()
}

// heard is called by a gate that was paused.
func (s *sharedGate) heard(until time.Time) {
	now := time.Now()
	left := min(until.Sub(now), maxTime)
	if left <= 0 || s.fleet.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	if s.echo(until, now) || until.Sub(s.known) <= slack(left) {
		s.mu.Unlock()
		return
	}
	s.known = now.Add(left)
	s.mine, s.due = s.known, true
	s.mu.Unlock()
	s.fleet.newsDue.give()
	s.pause(now.Add(left)) // others in this process
}

func (s *sharedGate) echo(until, now time.Time) bool {
	return slices.ContainsFunc(s.applying, func(a *applying) bool {
		return !until.Before(a.until) && !until.After(a.until.Add(now.Sub(a.since)))
	})
}

// slack is by how much a pause must be longer to be worth telling.
func slack(left time.Duration) time.Duration {
	return min(max(left/10, 5*time.Millisecond), 100*time.Millisecond)
}

// tell announces a pause that began here, or asks for one, if that is due.
func (s *sharedGate) tell() error {
	s.mu.Lock()
	due, left := s.due, min(time.Until(s.mine), maxTime)
	s.due = false
	s.mu.Unlock()
	if !due {
		return nil
	}
	f, amount := s.fleet, "0"
	if left > 0 {
		amount = ms(left)
		f.counts.sent.Add(1)
	}
	answer, err := f.run(pauseScript, []string{f.store.key("pause", s.name), f.store.key("seq")},
		[]string{amount, ms(slack(left)), f.id, s.name, f.store.channel()})
	if err != nil || len(answer) != 1 {
		s.mu.Lock()
		s.due = true
		s.mu.Unlock()
		return err
	}
	if there, err := answer[0].AsInt64(); err == nil && there > 0 {
		s.mu.Lock()
		news := time.Now().Add(time.Duration(there)*time.Millisecond).Sub(s.known) > slack(left)
		s.mu.Unlock()
		if news {
			s.learn(time.Duration(there) * time.Millisecond)
		}
	}
	return nil
}

// learn sets a pause that began elsewhere. Each process lets its first call go
// at a moment of its own.
func (s *sharedGate) learn(left time.Duration) {
	until := time.Now().Add(min(left, maxTime))
	s.mu.Lock()
	if until.After(s.known) {
		s.known = until
	}
	s.mu.Unlock()
	spread := max(time.Duration(s.fleet.link.members())*gateSpread, s.turn())
	s.pause(until.Add(rand.N(max(min(spread, maxGateSpread), 1))))
}

// turn is the time between two calls of this process, where its gates keep a
// pace: those who come back from a pause together within it would be refused
// together.
func (s *sharedGate) turn() (longest time.Duration) {
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

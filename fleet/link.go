package fleet

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// link is what a member knows of its connection, and of the others.
type link struct {
	first     chan struct{} // closed after the first attempt to connect
	once      sync.Once
	connected atomic.Bool
	alive     atomic.Int64 // members, this one too

	mu          sync.Mutex // guards the fields below
	since       time.Time  // of connected, or of not
	subscribed  bool
	beats       bool      // the last beat was answered
	heard       time.Time // when one last was
	resubscribe func()    // ends the subscription, to make a new one
	seen        uint64    // the newest message
	published   uint64    // as of the last beat
	syncDue     time.Time // when to ask for all that is known
}

func (l *link) start() {
	l.first = make(chan struct{})
	l.since, l.heard = time.Now(), time.Now()
	l.alive.Store(1)
}

func (l *link) up() bool     { return l.connected.Load() }
func (l *link) members() int { return int(max(1, l.alive.Load())) }

// set notes a change, and tells it. The connection is up when beats are
// answered and messages come in.
func (f *Fleet) set(change func(*link), cause error) {
	l := &f.link
	l.mu.Lock()
	change(l)
	up := l.subscribed && l.beats
	was := l.connected.Swap(up)
	lasted := time.Since(l.since)
	if up != was {
		l.since = time.Now()
	}
	if up && !was {
		l.syncDue = time.Time{}
	}
	first := false
	if l.beats || cause != nil {
		l.once.Do(func() { close(l.first); first = !l.beats })
	}
	l.mu.Unlock()
	switch {
	case first && f.ctx.Err() == nil:
		f.log.Warn("fleet not reached, on our own", "error", cause)
	case up && !was:
		f.log.Info("fleet joined", "members", l.members(), "alone_for", lasted.Round(time.Millisecond).String())
		f.choresDue.give()
	case was && !up && f.ctx.Err() == nil:
		f.counts.losses.Add(1)
		f.log.Warn("fleet lost, on our own", "joined_for", lasted.Round(time.Millisecond).String(), "error", cause)
	}
}

// listen receives what others publish, and subscribes again when that ends.
func (f *Fleet) listen() {
	for f.ctx.Err() == nil {
		client, err := f.store.connected()
		if err == nil {
			ctx, cancel := context.WithCancel(f.ctx)
			f.set(func(l *link) { l.resubscribe = cancel }, nil)
			hooked := rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
				subscribed := strings.HasSuffix(s.Kind, "subscribe") && !strings.HasPrefix(s.Kind, "un")
				f.set(func(l *link) { l.subscribed = subscribed; l.syncDue = time.Time{} }, nil)
				f.choresDue.give()
			})
			err = client.Receive(hooked, client.B().Subscribe().Channel(f.store.channel()).Build(), f.receive)
			cancel()
		}
		f.set(func(l *link) { l.subscribed = false }, err)
		f.sleep(50*time.Millisecond+rand.N(50*time.Millisecond), nil)
	}
}

// receive takes one message in.
func (f *Fleet) receive(raw rueidis.PubSubMessage) {
	m, ok := parse(raw.Message)
	if !ok {
		f.counts.dropped.Add(1)
		return
	}
	f.counts.received.Add(1)
	f.link.mu.Lock()
	f.link.seen = max(f.link.seen, m.seq)
	f.link.mu.Unlock()

	f.mu.Lock()
	gate, breakers := f.gates[m.name], f.breakers[m.name]
	f.mu.Unlock()
	switch {
	case m.kind == "pause" && gate != nil && m.from != f.id:
		f.log.Info("fleet: gate paused by another process", "gate", m.name, "for", m.left.String(), "by", m.from)
		gate.learn(m.left)
	case m.kind == "open":
		for _, b := range breakers {
			b.opened(m.left, m.episode, m.from)
		}
	case m.kind == "close":
		for _, b := range breakers {
			b.closed(m.from)
		}
	}
}

// announce tells what is due to be told. What could not be told is tried again
// a little later, in the state that it then has.
func (f *Fleet) announce() {
	for wait := time.Hour; f.sleep(wait, f.newsDue); {
		wait = time.Hour
		if !f.announceAll() {
			wait = beatLost
		}
	}
}

// announceAll reports whether everything that was due was told. An answer that
// is about one key does not hold up the others.
func (f *Fleet) announceAll() bool {
	var failed error
	told := func(err error) bool {
		if err == nil {
			return true
		}
		failed = err
		_, answered := rueidis.IsRedisErr(err)
		return answered && f.link.lost() == 0
	}
	for _, s := range f.allGates() {
		if !told(s.tell()) {
			return false
		}
	}
	for _, s := range f.allBreakers() {
		if !told(s.tell()) {
			return false
		}
	}
	return failed == nil
}

func (f *Fleet) allGates() []*sharedGate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.gates))
}

func (f *Fleet) allBreakers() []*sharedBreaker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Concat(slices.Collect(maps.Values(f.breakers))...)
}

// keep gives signs of life, repairs what was lost, and renews leases.
func (f *Fleet) keep() {
	var nextBeat time.Time
	for {
		if !time.Now().Before(nextBeat) {
			wait := beatLost
			if f.beat() {
				wait = beatEvery*3/4 + rand.N(beatEvery/2)
			}
			nextBeat = time.Now().Add(wait)
		}
		f.sync()
		next := nextBeat
		for _, r := range f.allRates() {
			if due := r.renew(); !due.IsZero() && due.Before(next) {
				next = due
			}
		}
		if !f.sleep(max(time.Until(next), time.Millisecond), f.choresDue) {
			return
		}
	}
}

// beat gives a sign of life, and looks whether a message was missed: one that
// the beat before knew of must have come by now.
func (f *Fleet) beat() bool {
	answer, err := f.run(beatScript, []string{f.store.key("members"), f.store.key("seq")},
		[]string{f.id, ms(memberTime)})
	var alive, seq int64
	if err == nil && len(answer) == 2 {
		alive, _ = answer[0].AsInt64()
		seq, err = answer[1].AsInt64()
	}
	if err != nil {
		f.set(func(l *link) { l.beats = false }, err)
		return false
	}
	f.link.alive.Store(max(1, alive))
	f.set(func(l *link) {
		missed := l.published > l.seen
		flushed := uint64(seq) < l.seen
		if missed || flushed {
			l.seen, l.syncDue = uint64(seq), time.Time{}
		}
		l.published = uint64(seq)
		if !l.beats && !l.subscribed && l.resubscribe != nil {
			l.resubscribe() // it may be waiting for its turn to try again
		}
		l.beats, l.heard = true, time.Now()
	}, nil)
	return true
}

// sync has everything told and asked again, after a loss and now and then.
func (f *Fleet) sync() {
	l := &f.link
	l.mu.Lock()
	due := l.subscribed && l.beats && !time.Now().Before(l.syncDue)
	if due {
		l.syncDue = time.Now().Add(syncEvery*3/4 + rand.N(syncEvery/2))
	}
	l.mu.Unlock()
	if !due {
		return
	}
	f.counts.syncs.Add(1)
	f.mu.Lock()
	maps.DeleteFunc(f.gates, func(_ string, s *sharedGate) bool { return s.prune() })
	for name, list := range f.breakers {
		list = slices.DeleteFunc(slices.Clone(list), func(s *sharedBreaker) bool { return s.breaker.Value() == nil })
		if f.breakers[name] = list; len(list) == 0 {
			delete(f.breakers, name)
		}
	}
	f.mu.Unlock()
	for _, s := range f.allGates() {
		s.ask()
	}
	for _, s := range f.allBreakers() {
		s.ask()
	}
}

// lost is for how long beats have not been answered; 0 if they are.
func (l *link) lost() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.beats {
		return 0
	}
	return max(time.Since(l.heard), 1)
}

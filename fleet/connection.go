package fleet

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// connection is what a member knows of its connection, and of the others.
type connection struct {
	first     chan struct{} // closed after the first attempt to connect
	once      sync.Once
	connected atomic.Bool
	alive     atomic.Int64 // members, this one too

	mu                    sync.Mutex // guards the fields below
	since                 time.Time  // of connected, or of not
	subscribed            bool
	beats                 bool      // the last beat was answered
	notSubscribed, noBeat error     // why not
	logged                string    // the cause of being not connected that was logged last
	asked, answered       time.Time // when the last beat was that was answered
	serverMs              int64     // the server's clock between the two; 0: not known
	resubscribe           func()    // ends the subscription, to make a new one
	seen                  uint64    // the newest message
	published             uint64    // as of the last beat
	syncDue               time.Time // when to ask for all that is known
	most                  int       // members, at most, lately …
	mostSince             time.Time // … and when they were so many
	backSince             time.Time // when beats were answered again; zero: they always were
}

// fresh is the age up to which the durations in a message are believed.
const freshness = 250 * time.Millisecond

func (c *connection) start(expected int) {
	c.first = make(chan struct{})
	c.since, c.answered = time.Now(), time.Now()
	c.alive.Store(1)
	c.most, c.mostSince = expected, time.Now()
}

func (c *connection) up() bool     { return c.connected.Load() }
func (c *connection) members() int { return int(max(1, c.alive.Load())) }

// sharers is among how many members a rate is shared where Redis is away: as many
// as there were lately, or, before that is known, as many as are expected.
func (c *connection) sharers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.most, c.members())
}

// back is for how long beats have been answered again after a loss.
func (c *connection) back() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.backSince.IsZero() {
		return math.MaxInt64
	}
	return time.Since(c.backSince)
}

// isFresh reports whether something that was published at that time of the
// server's clock was recent for certain when it came.
func (c *connection) isFresh(published int64, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serverMs == 0 || published == 0 {
		return false
	}
	age := time.Duration(c.serverMs-published) * time.Millisecond
	return age+now.Sub(c.answered) > -freshness && age+between(c.asked, now) < freshness
}

// givesUp is when the caller of a script gives up waiting for its answer, in ms of
// the server's clock, if that is known.
func (c *connection) givesUp(sent time.Time, timeout time.Duration) (ms string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strconv.FormatInt(c.serverMs+(sent.Sub(c.asked)+timeout+freshness).Milliseconds(), 10), c.serverMs > 0
}

// forgetClock is for when Redis refused a command: because that came too late, or
// because it is another server by now, on another clock. The next beat shows it.
func (f *Fleet) forgetClock() {
	f.connection.mu.Lock()
	f.connection.serverMs = 0
	f.connection.mu.Unlock()
	f.choresDue.give()
}

func (c *connection) knowsClock() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serverMs > 0
}

// unanswered is for how long beats have not been answered; 0 if they are.
func (c *connection) unanswered() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.beats {
		return 0
	}
	return max(time.Since(c.answered), 1)
}

// update takes a change in, and logs what it means. The connection is up when
// beats are answered and messages come in. Each cause of its being down is logged
// once, whichever answer comes first.
func (f *Fleet) update(change func(*connection)) {
	c := &f.connection
	c.mu.Lock()
	change(c)
	up, cause := c.subscribed && c.beats, c.noBeat
	if cause == nil {
		cause = c.notSubscribed
	}
	was := c.connected.Swap(up)
	lasted := time.Since(c.since)
	if up != was {
		c.since = time.Now()
	}
	if up && !was {
		c.syncDue = time.Time{}
	}
	if c.beats || cause != nil {
		c.once.Do(func() { close(c.first) })
	}
	kind := causeOf(cause)
	isNew := !up && kind != "" && kind != c.logged
	if up || isNew {
		c.logged = kind
	}
	c.mu.Unlock()
	switch {
	case f.ctx.Err() != nil:
	case up && !was:
		f.log.Info("fleet: connected", "members", c.members(), "after", lasted.Round(time.Millisecond).String())
		f.choresDue.give()
	case was && !up:
		f.counts.losses.Add(1)
		f.log.Warn("fleet: connection lost", "after", lasted.Round(time.Millisecond).String(), "error", cause)
	case isNew:
		f.log.Warn("fleet: not connected", "error", cause)
	}
}

// causeOf is what two errors of one cause have in common: each answer of Redis is
// its own; all others mean that there is none.
func causeOf(err error) string {
	var answer *rueidis.RedisError
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return ""
	case errors.As(err, &answer):
		return answer.Error()
	}
	return "no answer"
}

// listen receives what others publish, and subscribes again when that ends.
func (f *Fleet) listen() {
	for f.ctx.Err() == nil {
		client, err := f.store.connect()
		if err != nil {
			f.update(func(c *connection) { c.noBeat = err })
		} else {
			f.choresDue.give() // keep waits for it
			ctx, cancel := context.WithCancel(f.ctx)
			f.update(func(c *connection) { c.resubscribe = cancel })
			hooked := rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
				subscribed := strings.HasSuffix(s.Kind, "subscribe") && !strings.HasPrefix(s.Kind, "un")
				f.update(func(c *connection) {
					subscribed = subscribed && ctx.Err() == nil // else it ends at once
					c.subscribed, c.notSubscribed, c.syncDue = subscribed, nil, time.Time{}
				})
				f.choresDue.give()
			})
			err = client.Receive(hooked, client.B().Subscribe().Channel(f.store.channel()).Build(), f.receive)
			cancel()
		}
		f.update(func(c *connection) { c.subscribed, c.notSubscribed = false, err })
		wait := 50*time.Millisecond + rand.N(50*time.Millisecond)
		if isAnswer(err) { // such as a refusal, which will not change soon
			wait *= 10
		}
		f.sleep(wait, nil)
	}
}

// receive takes one message in. What is left of a pause or an open time is as old
// as the message: where this process was stopped, or the network held it up, Redis
// is asked.
func (f *Fleet) receive(raw rueidis.PubSubMessage) {
	now := time.Now()
	m, ok := parse(raw.Message)
	if !ok {
		f.counts.dropped.Add(1)
		return
	}
	f.counts.received.Add(1)
	f.connection.mu.Lock()
	f.connection.seen = max(f.connection.seen, m.seq)
	f.connection.mu.Unlock()

	f.mu.Lock()
	gate, breakers := f.gates[m.name], f.breakers[m.name]
	f.mu.Unlock()
	fresh := f.connection.isFresh(m.published, now)
	if !fresh {
		f.counts.stale.Add(1)
	}
	switch {
	case gate != nil && m.from != f.id && (m.kind == "pause" || m.kind == "refused"):
		if !fresh {
			gate.ask()
			return
		}
		f.log.Info("fleet: gate paused by another process", "gate", m.name, "for", m.left.String(), "kind", m.kind, "by", m.from)
		k := firm
		if m.kind == "refused" {
			k = refused
		}
		gate.learn(now.Add(m.left), k)
	case m.kind == "open":
		for _, b := range breakers {
			if !fresh {
				b.ask()
				continue
			}
			b.opened(m.left-since(now), m.episode, m.from)
		}
	case m.kind == "close":
		for _, b := range breakers {
			b.closed(m.from)
		}
	}
}

// shared is a gate, breaker or budget that may have something to send.
type shared interface {
	due() (urgent, question bool)
	send() error
}

const atOnce = 64 // commands to Redis that are in flight

// announce sends what is due. What could not be sent is tried again a little
// later, in the state that it then has.
func (f *Fleet) announce() {
	for wait := time.Hour; f.sleep(wait, f.sendDue); {
		wait = time.Hour
		if !f.sendAll() {
			wait = beatLost
		}
	}
}

// sendAll reports whether everything that was due was sent. Reports go first, so
// that they do not wait for the questions of a sync; both go in batches, in which
// the client pipelines them. A refusal of one key does not hold up the others.
func (f *Fleet) sendAll() bool {
	complete := true
	tried := make(map[shared]bool)
	for f.ctx.Err() == nil {
		var reports, questions []shared
		for _, s := range f.shared() {
			switch urgent, question := s.due(); {
			case tried[s]:
			case urgent:
				reports = append(reports, s)
			case question:
				questions = append(questions, s)
			}
		}
		batch := append(reports, questions...)
		if len(batch) == 0 {
			return complete
		}
		batch = batch[:min(len(batch), atOnce)]
		errs := make([]error, len(batch))
		var tasks sync.WaitGroup
		for i, s := range batch {
			tasks.Go(func() { errs[i] = s.send() })
		}
		tasks.Wait()
		for i, err := range errs {
			if err == nil {
				continue
			}
			complete, tried[batch[i]] = false, true
			if !isAnswer(err) || f.connection.unanswered() > 0 {
				return false
			}
			f.refused(err)
		}
	}
	return complete
}

// refused logs that Redis refused a command, once per kind of answer.
func (f *Fleet) refused(err error) {
	f.mu.Lock()
	kind := causeOf(err)
	known := f.refusals[kind]
	f.refusals[kind] = len(f.refusals) < 100 // texts of Redis
	f.mu.Unlock()
	if !known {
		f.log.Warn("fleet: Redis refuses a command", "error", err)
	}
}

// published takes note of whether a script could publish its message.
func (f *Fleet) published(got answer, i int) {
	if n, err := got.int(i, 0, 1); err == nil && n == 0 {
		f.refused(errNotPublished)
	}
}

var errNotPublished = errors.New("PUBLISH is refused: other processes learn of it a second later")

// shared returns all that may have something to send.
func (f *Fleet) shared() (all []shared) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.gates {
		all = append(all, s)
	}
	for _, list := range f.breakers {
		for _, s := range list {
			all = append(all, s)
		}
	}
	for _, r := range f.rates {
		all = append(all, r)
	}
	for _, s := range f.budgets {
		all = append(all, s)
	}
	return all
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

// keep gives signs of life, repairs what was lost, and renews leases, as soon as there is
// a client.
func (f *Fleet) keep() {
	for f.store.connected() == nil && f.sleep(time.Hour, f.choresDue) {
	}
	var lastBeat, nextBeat time.Time
	for {
		if soon := lastBeat.Add(beatLost); !f.connection.knowsClock() && soon.Before(nextBeat) {
			nextBeat = soon
		}
		if !time.Now().Before(nextBeat) {
			wait := beatLost
			if f.beat() {
				wait = beatEvery*3/4 + rand.N(beatEvery/2)
			}
			lastBeat = time.Now()
			nextBeat = lastBeat.Add(wait)
		}
		f.sync()
		next := f.renewAll(nextBeat)
		if !f.sleep(max(time.Until(next), time.Millisecond), f.choresDue) {
			return
		}
	}
}

// beat gives a sign of life, and sees whether a message was missed: one that
// the beat before knew of must have come by now. Without a subscription every
// message was missed.
func (f *Fleet) beat() bool {
	sent := time.Now()
	got, err := f.run(beatScript, 3, []string{f.store.key("members"), f.store.key("seq")},
		[]string{f.id, ms(memberTime)})
	var alive, seq, now int64
	if err == nil {
		var errs [3]error
		alive, errs[0] = got.int(0, 1, 1e9)
		seq, errs[1] = got.int(1, 0, 1<<53)
		now, errs[2] = got.int(2, 1, 1<<53)
		if err = errors.Join(errs[:]...); err != nil {
			f.counts.errors.Add(1)
		}
	}
	if err != nil {
		f.update(func(c *connection) { c.beats, c.noBeat = false, err })
		return false
	}
	f.connection.alive.Store(alive)
	f.update(func(c *connection) {
		if c.answered = got.at; !c.beats { // others may come back later
			c.mostSince = c.answered
			if c.noBeat != nil {
				c.backSince = c.answered
			}
		}
		if int(alive) >= c.most || c.answered.Sub(c.mostSince) > 2*memberTime {
			c.most, c.mostSince = int(alive), c.answered
		}
		if c.serverMs == 0 {
			f.sendDue.give() // what waited for it
		}
		c.asked, c.serverMs = sent, now
		missed := c.published > c.seen || !c.subscribed && uint64(seq) != c.seen
		flushed := uint64(seq) < c.seen
		if missed || flushed {
			c.seen, c.syncDue = uint64(seq), time.Time{}
		}
		c.published = uint64(seq)
		if c.noBeat != nil && !c.subscribed && c.resubscribe != nil {
			c.resubscribe() // it may be waiting for its next attempt
		}
		c.beats, c.noBeat = true, nil
	})
	return true
}

// sync has everything sent and asked for again, after a loss and now and then.
func (f *Fleet) sync() {
	c := &f.connection
	c.mu.Lock()
	due := c.beats && !time.Now().Before(c.syncDue)
	if due {
		c.syncDue = time.Now().Add(syncEvery*3/4 + rand.N(syncEvery/2))
	}
	c.mu.Unlock()
	if !due {
		return
	}
	f.counts.syncs.Add(1)
	f.mu.Lock()
	clear(f.refusals)
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
	for _, r := range f.allRates() {
		r.ask(true)
	}
	f.sendDue.give()
}

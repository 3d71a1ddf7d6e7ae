package otelretry

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/jonboulle/clockwork"
	"go.opentelemetry.io/otel/metric"

	"github.com/retryutils/retry"
)

// watched is what is looked at whenever metrics are collected. It holds nothing
// in memory: clients forget hosts, and with them their breakers and gates.
type watched struct {
	mu       sync.Mutex
	breakers list[retry.CircuitBreaker]
	gates    list[retry.Gate]
	budgets  list[retry.Budget]
	clients  []client
}

// client is one whose hosts are found when metrics are collected.
type client struct {
	client weak.Pointer[retry.RetryableClient]
	clock  clockwork.Clock
}

func (w *watched) client(c *retry.RetryableClient, clock clockwork.Clock) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clients = append(w.clients, client{weak.Make(c), clock})
}

// observeHosts watches what the hosts of the clients share by now.
func (m *meters) observeHosts() {
	m.watched.mu.Lock()
	m.watched.clients = slices.DeleteFunc(m.watched.clients, func(c client) bool { return c.client.Value() == nil })
	clients := slices.Clone(m.watched.clients)
	m.watched.mu.Unlock()
	for _, c := range clients {
		if alive := c.client.Value(); alive != nil {
			for host, cfg := range alive.Hosts() {
				clock := c.clock
				if cfg.Clock != nil {
					clock = cfg.Clock
				}
				m.observe(labels{cfg.Name, host}, cfg, clock)
			}
		}
	}
}

// list has each object once, and sums up one of their numbers by labels: also of
// those that are gone, so that it never goes down.
type list[T any] struct {
	entries []*entry[T]
	has     map[weak.Pointer[T]]bool
	gone    map[labels]float64
}

type entry[T any] struct {
	object weak.Pointer[T]
	labels labels
	pauses *pauses // of a gate
	seen   float64 // its number, when it was last looked at
}

// add reports whether the object is new.
func (l *list[T]) add(object *T, under labels, p *pauses) bool {
	w := weak.Make(object)
	if l.has[w] {
		return false
	}
	if l.has == nil {
		l.has, l.gone = make(map[weak.Pointer[T]]bool), make(map[labels]float64)
	}
	l.has[w] = true
	l.entries = append(l.entries, &entry[T]{object: w, labels: under, pauses: p})
	return true
}

// sums returns what number returns for each object, added up by name.
func (l *list[T]) sums(number func(*T, *entry[T]) float64) map[labels]float64 {
	alive := l.entries[:0]
	for _, e := range l.entries {
		object := e.object.Value()
		if object == nil {
			delete(l.has, e.object)
			l.gone[e.labels] += e.seen
			continue
		}
		e.seen = number(object, e)
		alive = append(alive, e)
	}
	clear(l.entries[len(alive):])
	l.entries = alive
	sums := maps.Clone(l.gone)
	for _, e := range alive {
		sums[e.labels] += e.seen
	}
	return sums
}

// observe watches what a Config shares with others, under the labels of its calls. A
// breaker that is not about one host has its own name, if it has one.
func (m *meters) observe(under labels, cfg retry.Config, clock clockwork.Clock) {
	if b := cfg.Breaker; b != nil {
		own := under
		if under.host == "" && b.Name() != "" {
			own.name = b.Name()
		}
		m.observeBreaker(b, own)
	}
	if cfg.Gate != nil {
		m.observeGate(cfg.Gate, under, clock)
	}
	if cfg.Budget != nil {
		m.observeBudget(cfg.Budget, under)
	}
}

func (m *meters) observeBreaker(b *retry.CircuitBreaker, under labels) {
	under = m.series(under).labels
	m.watched.mu.Lock()
	added := m.watched.breakers.add(b, under, nil)
	m.watched.mu.Unlock()
	if !added {
		return
	}
	var changes [len(states)]metric.AddOption
	for i, state := range states {
		changes[i] = under.set(keyBreakerState.String(stateName(state)))
	}
	b.OnStateChange(func(change retry.StateChange) {
		m.changes.Add(context.Background(), 1, changes[change.To])
	})
}

var states = [...]retry.State{retry.StateClosed, retry.StateOpen, retry.StateHalfOpen}

func stateName(s retry.State) string {
	if s == retry.StateHalfOpen {
		return "half_open"
	}
	return s.String()
}

// pauses adds up the time that a gate is paused.
type pauses struct {
	clock clockwork.Clock

	mu    sync.Mutex // guards the fields below
	until time.Time
	total time.Duration // until then
}

// pause notes a pause until then, and reports whether it is a new one.
func (p *pauses) pause(until time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, begins := p.now(), true
	if p.until.After(from) {
		from, begins = p.until, false
	}
	if !until.After(from) {
		return false
	}
	p.total += until.Sub(from)
	p.until = until
	return begins
}

// sums returns the time paused so far, and what is left of the pause.
func (p *pauses) sums() (paused, left time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left = max(0, p.until.Sub(p.now()))
	return p.total - left, left
}

func (p *pauses) now() time.Time {
	if p.clock == nil {
		return time.Now()
	}
	return p.clock.Now()
}

func (m *meters) observeGate(g *retry.Gate, under labels, clock clockwork.Clock) {
	under = m.series(under).labels
	p := &pauses{clock: clock}
	m.watched.mu.Lock()
	added := m.watched.gates.add(g, under, p)
	m.watched.mu.Unlock()
	if !added {
		return
	}
	named := under.set()
	paused := func(until time.Time) {
		if p.pause(until) {
			m.pauses.Add(context.Background(), 1, named)
		}
	}
	g.OnPause(paused)
	if until, already := g.PausedUntil(); already {
		paused(until)
	}
}

func (m *meters) observeBudget(b *retry.Budget, under labels) {
	under = m.series(under).labels
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watched.budgets.add(b, under, nil)
}

// watch is called whenever metrics are collected.
func (m *meters) watch(_ context.Context, o metric.Observer) error {
	m.observeHosts()
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watchBreakers(o)
	m.watchGates(o)
	balances := make(map[labels]float64)
	refusals := m.watched.budgets.sums(func(b *retry.Budget, e *entry[retry.Budget]) float64 {
		balances[e.labels] += b.Balance()
		return float64(b.Refusals())
	})
	for under, n := range refusals {
		o.ObserveInt64(m.refusals, int64(n), under.set())
	}
	for under, n := range balances {
		o.ObserveFloat64(m.balance, n, under.set())
	}
	return nil
}

func (m *meters) watchBreakers(o metric.Observer) {
	counts := make(map[labels]*[len(states)]int64)
	rejections := m.watched.breakers.sums(func(b *retry.CircuitBreaker, e *entry[retry.CircuitBreaker]) float64 {
		if counts[e.labels] == nil {
			counts[e.labels] = new([len(states)]int64)
		}
		counts[e.labels][b.State()]++
		return float64(b.Rejections())
	})
	for under, n := range rejections {
		o.ObserveInt64(m.rejections, int64(n), under.set())
	}
	for under, count := range counts {
		for i, state := range states {
			o.ObserveInt64(m.state, count[i], under.set(keyBreakerState.String(stateName(state))))
		}
	}
}

func (m *meters) watchGates(o metric.Observer) {
	remaining, slowest := make(map[labels]time.Duration), make(map[labels]float64)
	paused := m.watched.gates.sums(func(g *retry.Gate, e *entry[retry.Gate]) float64 {
		paused, left := e.pauses.sums()
		remaining[e.labels] = max(remaining[e.labels], left)
		if pace, paced := g.Pace(); paced && (slowest[e.labels] == 0 || pace < slowest[e.labels]) {
			slowest[e.labels] = pace
		}
		return paused.Seconds()
	})
	for under, seconds := range paused {
		o.ObserveFloat64(m.paused, seconds, under.set())
	}
	for under, left := range remaining {
		o.ObserveFloat64(m.remaining, left.Seconds(), under.set())
	}
	for under, pace := range slowest {
		o.ObserveFloat64(m.pace, pace, under.set())
	}
}

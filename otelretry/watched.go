package otelretry

import (
	"context"
	"maps"
	"sync"
	"time"
	"weak"

	"github.com/jonboulle/clockwork"
	"go.opentelemetry.io/otel/attribute"
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
}

// list has each object once, and sums up one of their numbers by name: also of
// those that are gone, so that it never goes down.
type list[T any] struct {
	entries []*entry[T]
	has     map[weak.Pointer[T]]bool
	gone    map[string]float64
}

type entry[T any] struct {
	object weak.Pointer[T]
	name   string
	pauses *pauses // of a gate
	seen   float64 // its number, when it was last looked at
}

// add reports whether the object is new.
func (l *list[T]) add(object *T, name string, p *pauses) bool {
	w := weak.Make(object)
	if l.has[w] {
		return false
	}
	if l.has == nil {
		l.has, l.gone = make(map[weak.Pointer[T]]bool), make(map[string]float64)
	}
	l.has[w] = true
	l.entries = append(l.entries, &entry[T]{object: w, name: name, pauses: p})
	return true
}

// sums returns what number returns for each object, added up by name.
func (l *list[T]) sums(number func(*T, *entry[T]) float64) map[string]float64 {
	alive := l.entries[:0]
	for _, e := range l.entries {
		object := e.object.Value()
		if object == nil {
			delete(l.has, e.object)
			l.gone[e.name] += e.seen
			continue
		}
		e.seen = number(object, e)
		alive = append(alive, e)
	}
	clear(l.entries[len(alive):])
	l.entries = alive
	sums := maps.Clone(l.gone)
	for _, e := range alive {
		sums[e.name] += e.seen
	}
	return sums
}

// observe watches what a Config shares with others.
func (m *meters) observe(name string, cfg retry.Config, clock clockwork.Clock) {
	if cfg.Breaker != nil {
		breakerName := cfg.Breaker.Name()
		if breakerName == "" {
			breakerName = name
		}
		m.observeBreaker(cfg.Breaker, breakerName)
	}
	if cfg.Gate != nil {
		m.observeGate(cfg.Gate, name, clock)
	}
	if cfg.Budget != nil {
		m.observeBudget(cfg.Budget, name)
	}
}

func (m *meters) observeBreaker(b *retry.CircuitBreaker, name string) {
	name = m.series(name).name
	m.watched.mu.Lock()
	added := m.watched.breakers.add(b, name, nil)
	m.watched.mu.Unlock()
	if !added {
		return
	}
	var changes [len(states)]metric.AddOption
	for i, state := range states {
		changes[i] = metric.WithAttributeSet(attribute.NewSet(keyBreakerName.String(name), keyBreakerState.String(stateName(state))))
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

func (m *meters) observeGate(g *retry.Gate, name string, clock clockwork.Clock) {
	name = m.series(name).name
	p := &pauses{clock: clock}
	m.watched.mu.Lock()
	added := m.watched.gates.add(g, name, p)
	m.watched.mu.Unlock()
	if !added {
		return
	}
	named := metric.WithAttributeSet(attribute.NewSet(keyGateName.String(name)))
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

func (m *meters) observeBudget(b *retry.Budget, name string) {
	name = m.series(name).name
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watched.budgets.add(b, name, nil)
}

// watch is called whenever metrics are collected.
func (m *meters) watch(_ context.Context, o metric.Observer) error {
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watchBreakers(o)
	m.watchGates(o)
	balances := make(map[string]float64)
	refusals := m.watched.budgets.sums(func(b *retry.Budget, e *entry[retry.Budget]) float64 {
		balances[e.name] += b.Balance()
		return float64(b.Refusals())
	})
	for name, n := range refusals {
		o.ObserveInt64(m.refusals, int64(n), metric.WithAttributes(keyBudgetName.String(name)))
	}
	for name, n := range balances {
		o.ObserveFloat64(m.balance, n, metric.WithAttributes(keyBudgetName.String(name)))
	}
	return nil
}

func (m *meters) watchBreakers(o metric.Observer) {
	counts := make(map[string]*[len(states)]int64)
	rejections := m.watched.breakers.sums(func(b *retry.CircuitBreaker, e *entry[retry.CircuitBreaker]) float64 {
		if counts[e.name] == nil {
			counts[e.name] = new([len(states)]int64)
		}
		counts[e.name][b.State()]++
		return float64(b.Rejections())
	})
	for name, n := range rejections {
		o.ObserveInt64(m.rejections, int64(n), metric.WithAttributes(keyBreakerName.String(name)))
	}
	for name, count := range counts {
		for i, state := range states {
			o.ObserveInt64(m.state, count[i], metric.WithAttributes(keyBreakerName.String(name), keyBreakerState.String(stateName(state))))
		}
	}
}

func (m *meters) watchGates(o metric.Observer) {
	remaining, slowest := make(map[string]time.Duration), make(map[string]float64)
	paused := m.watched.gates.sums(func(g *retry.Gate, e *entry[retry.Gate]) float64 {
		paused, left := e.pauses.sums()
		remaining[e.name] = max(remaining[e.name], left)
		if pace, paced := g.Pace(); paced && (slowest[e.name] == 0 || pace < slowest[e.name]) {
			slowest[e.name] = pace
		}
		return paused.Seconds()
	})
	for name, seconds := range paused {
		o.ObserveFloat64(m.paused, seconds, metric.WithAttributes(keyGateName.String(name)))
	}
	for name, left := range remaining {
		o.ObserveFloat64(m.remaining, left.Seconds(), metric.WithAttributes(keyGateName.String(name)))
	}
	for name, pace := range slowest {
		o.ObserveFloat64(m.pace, pace, metric.WithAttributes(keyGateName.String(name)))
	}
}

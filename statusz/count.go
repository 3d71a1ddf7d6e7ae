package statusz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/redact"
)

// maxSeries bounds the names and hosts that are counted apart; the rest are counted
// together as [otherName].
const maxSeries = 1000

const otherName = "_OTHER"

type key struct{ name, host string }

// series counts the calls of one name and host.
type series struct {
	key
	clock clockwork.Clock
	parts retry.Config // of calls of functions: their breaker, gate and budget

	mu      sync.Mutex // guards the fields below
	fine    ring       // the last five minutes, in steps of 5s
	coarse  ring       // the last hour, in steps of a minute
	pending map[*call]struct{}
	last    failure
	asked   asked // the pause that ends last

	answered bool // once, or refused
}

type failure struct {
	Text string    `json:"error"`
	At   time.Time `json:"at"`
}

// asked is a wait that the server asked for.
type asked struct {
	wait time.Duration
	at   time.Time
}

func (a asked) end() time.Time { return a.at.Add(a.wait) }

// call is one call under way. Its series' mu guards it.
type call struct {
	series   *series
	attempts int
	attempt  bool // in one
	began    time.Time
	deadline time.Time // the caller's; zero if there is none
	since    time.Time // it is in its attempt, or what it waits for
	why      retry.Why // what it waits for, if that was announced
	until    time.Time // the announced end of that; zero if it is not known
	ended    bool
}

func (s *series) now() time.Time {
	if s.clock == nil {
		return time.Now()
	}
	return s.clock.Now()
}

// counts are those of a span of time.
type counts struct {
	Calls         int64            `json:"calls"`
	Attempts      int64            `json:"attempts"`
	Retries       int64            `json:"retries"`
	RetriesFailed int64            `json:"retries_failed,omitempty"`
	Outcomes      map[string]int64 `json:"outcomes,omitempty"` // of calls
	Failures      map[string]int64 `json:"failures,omitempty"` // of attempts
	Took          map[string]took  `json:"took,omitempty"`     // by attempts, under their kind of failure, or "ok"
	Allowed       took             `json:"allowed,omitzero"`   // by the deadlines of calls that ended for theirs
}

// took is how long some things took.
type took struct {
	n            int64
	sum, slowest time.Duration
}

func (t took) add(other took) took {
	return took{t.n + other.n, t.sum + other.sum, max(t.slowest, other.slowest)}
}

func (t took) mean() duration { return duration(t.sum / time.Duration(max(1, t.n))) }

func (t took) String() string {
	if mean, slowest := t.mean(), duration(t.slowest); mean.String() != slowest.String() {
		return fmt.Sprintf("%v on average, %v at most", mean, slowest)
	}
	return t.mean().String()
}

func (t took) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Mean    duration `json:"mean"`
		Slowest duration `json:"slowest"`
	}{t.mean(), duration(t.slowest)})
}

func (c *counts) took(kind string, t took) {
	if c.Took == nil {
		c.Took = make(map[string]took)
	}
	c.Took[kind] = c.Took[kind].add(t)
}

func (c *counts) add(other counts) {
	c.Calls += other.Calls
	c.Attempts += other.Attempts
	c.Retries += other.Retries
	c.RetriesFailed += other.RetriesFailed
	for label, n := range other.Outcomes {
		increase(&c.Outcomes, label, n)
	}
	for label, n := range other.Failures {
		increase(&c.Failures, label, n)
	}
	for label, t := range other.Took {
		c.took(label, t)
	}
	c.Allowed = c.Allowed.add(other.Allowed)
}

func increase(m *map[string]int64, label string, n int64) {
	if *m == nil {
		*m = make(map[string]int64)
	}
	(*m)[label] += n
}

// ring has the counts of the last steps of time, the one under way included.
type ring struct {
	step  int64 // in seconds
	at    int64 // the number of the step under way
	slots [ringSteps]counts
}

const ringSteps = 60

// current returns the slot of a time. Where the clock was set back that is the last one.
func (r *ring) current(t time.Time) *counts {
	for n := t.Unix() / r.step; r.at < n; {
		r.at = max(r.at+1, n-ringSteps+1) // what is older is cleared once
		*r.slot(r.at) = counts{}
	}
	return r.slot(r.at)
}

func (r *ring) slot(n int64) *counts { return &r.slots[(n%ringSteps+ringSteps)%ringSteps] }

// steps returns copies of the last n slots, the oldest first.
func (r *ring) steps(t time.Time, n int) []counts {
	r.current(t)
	steps := make([]counts, n)
	for i := range steps {
		steps[i] = *r.slot(r.at - int64(n-1-i))
		steps[i].Outcomes, steps[i].Failures, steps[i].Took = maps.Clone(steps[i].Outcomes), maps.Clone(steps[i].Failures), maps.Clone(steps[i].Took)
	}
	return steps
}

// Watch returns cfg with hooks that count its calls, attempts, retries, waits and
// outcomes, added to those that are there. Watch a Config after your own hooks are set, and
// before package otelretry, which adds to those that are there as well. A hook that is
// assigned afterwards replaces the page's, unless it calls that: calls are not counted, or
// the page shows them as under way for ever. A Config that is watched twice is counted once.
func (p *Page) Watch(cfg retry.Config) retry.Config {
	inner := cfg
	cfg.OnStart = func(ctx context.Context, e retry.Event) context.Context {
		if inner.OnStart != nil {
			if derived := inner.OnStart(ctx, e); derived != nil {
				ctx = derived
			}
		}
		return p.begin(ctx, e, inner)
	}
	cfg.OnAttempt = func(ctx context.Context, e retry.Event) context.Context {
		p.attempt(ctx, e)
		if inner.OnAttempt != nil {
			return inner.OnAttempt(ctx, e)
		}
		return ctx
	}
	cfg.OnAttemptDone = func(ctx context.Context, e retry.Event) {
		p.attemptDone(ctx, e)
		if inner.OnAttemptDone != nil {
			inner.OnAttemptDone(ctx, e)
		}
	}
	cfg.OnWait = func(ctx context.Context, e retry.Event) {
		p.wait(ctx, e)
		if inner.OnWait != nil {
			inner.OnWait(ctx, e)
		}
	}
	cfg.OnDone = func(ctx context.Context, e retry.Event) {
		p.done(ctx, e)
		if inner.OnDone != nil {
			inner.OnDone(ctx, e)
		}
	}
	return cfg
}

// attempt counts an attempt that begins, once where the Config is watched twice.
func (p *Page) attempt(ctx context.Context, e retry.Event) {
	p.update(ctx, func(c *call, s *series, now time.Time) {
		if e.Attempt <= c.attempts {
			return
		}
		c.attempts, c.attempt, c.since = e.Attempt, true, now
		s.count(now, func(n *counts) {
			n.Attempts++
			if e.Attempt > 1 {
				n.Retries++
			}
		})
	})
}

// attemptDone notes how an attempt ended, how long it took, and what the server asked for.
func (p *Page) attemptDone(ctx context.Context, e retry.Event) {
	p.update(ctx, func(c *call, s *series, now time.Time) {
		if !c.attempt {
			return
		}
		kind, spent := "ok", now.Sub(c.since)
		if e.Err != nil {
			kind, s.last = c.kindOf(e.Err, now), failure{redact.Error(e.Err), now}
		}
		var status *retry.StatusError
		if errors.As(e.Err, &status) && status.RetryAfter > 0 {
			if wait := (asked{status.RetryAfter, now}); wait.end().After(s.asked.end()) {
				s.asked = wait
			}
		}
		s.answered = s.answered || e.Err == nil || status != nil
		c.attempt, c.since, c.why, c.until = false, now, "", time.Time{}
		s.count(now, func(n *counts) {
			if n.took(kind, took{1, spent, spent}); e.Err != nil {
				increase(&n.Failures, kind, 1)
				if c.attempts > 1 {
					n.RetriesFailed++
				}
			}
		})
	})
}

// wait notes what a call waits for now.
func (p *Page) wait(ctx context.Context, e retry.Event) {
	p.update(ctx, func(c *call, _ *series, now time.Time) {
		if e.Why == retry.WaitLimiter { // it is over
			return
		}
		if c.why != e.Why {
			c.why, c.since = e.Why, now
		}
		if c.until = (time.Time{}); e.Delay > 0 {
			c.until = now.Add(e.Delay)
		}
	})
}

// done counts a call that has ended, by its outcome.
func (p *Page) done(ctx context.Context, e retry.Event) {
	p.update(ctx, func(c *call, s *series, now time.Time) {
		if c.ended {
			return
		}
		c.ended = true
		delete(s.pending, c)
		outcome := retry.Outcome(e.Err)
		rejected := e.Attempt == 0 && (outcome == "circuit_open" || outcome == "paused") // its cause is shown already
		if e.Err != nil && !rejected {
			s.last = failure{redact.Error(e.Err), now}
		}
		s.count(now, func(n *counts) {
			n.Calls++
			increase(&n.Outcomes, outcome, 1)
			if outcome == "deadline" && !c.deadline.IsZero() {
				allowed := c.deadline.Sub(c.began)
				n.Allowed = n.Allowed.add(took{1, allowed, allowed})
			}
		})
	})
}

// callKey is the key of a page's call in its context.
type callKey struct{ page *Page }

func (p *Page) begin(ctx context.Context, e retry.Event, cfg retry.Config) context.Context {
	s := p.seriesOf(key{e.Name, e.Host}, cfg)
	s.mu.Lock()
	defer s.mu.Unlock()
	if outer, _ := ctx.Value(callKey{p}).(*call); outer != nil && outer.series == s && outer.attempts == 0 {
		return ctx // the same call, of a Config that is watched twice
	}
	c := &call{series: s, began: s.now()}
	c.since = c.began
	c.deadline, _ = ctx.Deadline()
	s.pending[c] = struct{}{}
	return context.WithValue(ctx, callKey{p}, c)
}

func (p *Page) update(ctx context.Context, change func(*call, *series, time.Time)) {
	if c, _ := ctx.Value(callKey{p}).(*call); c != nil {
		c.series.mu.Lock()
		defer c.series.mu.Unlock()
		change(c, c.series, c.series.now())
	}
}

func (s *series) count(now time.Time, change func(*counts)) {
	change(s.fine.current(now))
	change(s.coarse.current(now))
}

func (p *Page) seriesOf(k key, cfg retry.Config) *series {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.series[k]; s != nil {
		return s
	}
	if len(p.series) >= maxSeries {
		if k = (key{name: otherName}); p.series[k] != nil {
			return p.series[k]
		}
	}
	s := &series{key: k, clock: cfg.Clock, fine: ring{step: 5}, coarse: ring{step: 60}, pending: make(map[*call]struct{})}
	if k.host == "" && k.name != otherName {
		s.parts = retry.Config{Breaker: cfg.Breaker, Gate: cfg.Gate, Budget: cfg.Budget}
	}
	p.series[k] = s
	return s
}

// waiting is how many calls wait for one thing.
type waiting struct {
	For     string   `json:"for"`
	Calls   int      `json:"calls"`
	Longest duration `json:"longest"`
}

// view is what a series has to show.
type view struct {
	underWay, inAttempts int
	waiting              []waiting
	windows              []window
	last                 *failure
	asked                asked
	answered             bool
}

// window is a span of time that ends now.
type window struct {
	Name   string
	Counts counts
	steps  []counts
}

func (s *series) view() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	v := view{underWay: len(s.pending), asked: s.asked, answered: s.answered}
	byWhy := make(map[string]*waiting)
	for c := range s.pending {
		why := c.waitsFor(now)
		switch {
		case c.attempt:
			v.inAttempts++
		case why != "":
			w := byWhy[why]
			if w == nil {
				w = &waiting{For: why}
				byWhy[why] = w
			}
			w.Calls++
			w.Longest = max(w.Longest, duration(now.Sub(c.since)))
		}
	}
	for _, why := range []retry.Why{retry.WaitBackoff, retry.WaitRetryAfter, retry.WaitPause, retry.WaitBreaker, retry.WaitLimiter} {
		if w := byWhy[string(why)]; w != nil {
			v.waiting = append(v.waiting, *w)
		}
	}
	for _, span := range []struct {
		name string
		ring *ring
		n    int
	}{{"1m", &s.fine, 12}, {"5m", &s.fine, 60}, {"60m", &s.coarse, 60}} {
		w := window{Name: span.name, steps: span.ring.steps(now, span.n)}
		for _, step := range w.steps {
			w.Counts.add(step)
		}
		v.windows = append(v.windows, w)
	}
	if s.last.Text != "" {
		last := s.last
		v.last = &last
	}
	return v
}

// waitsFor is what a call waits for that is not in an attempt. A limiter's wait is
// announced when it is over: a call is in it that waits for no other thing, and has
// done so for longer than the loop itself takes.
func (c *call) waitsFor(now time.Time) string {
	switch {
	case c.why != "" && (c.until.IsZero() || !now.After(c.until.Add(slack))):
		return string(c.why)
	case now.Sub(c.since) > slack:
		return string(retry.WaitLimiter)
	}
	return ""
}

const slack = 50 * time.Millisecond

// kindOf sorts failures of attempts into few kinds.
func (c *call) kindOf(err error, now time.Time) string {
	var status *retry.StatusError
	var timeout interface{ Timeout() bool }
	var op *net.OpError
	var lookup *net.DNSError
	switch {
	case errors.As(err, &status):
		return strconv.Itoa(status.StatusCode)
	case errors.Is(err, context.DeadlineExceeded) && !c.deadline.IsZero() && !now.Before(c.deadline):
		return "deadline"
	case (errors.As(err, &lookup) || errors.As(err, &op) && op.Op == "dial") && !errors.Is(err, context.Canceled):
		return "connect"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case retry.Outcome(err) != "permanent":
		return retry.Outcome(err)
	}
	return "error"
}

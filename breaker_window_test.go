package retry_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// Counts were 32 bits wide: after 2^32 successes they began again at 0, and the share
// of failures with them. It takes a day to get there, so this starts close to it.
func TestCountsGoBeyond32Bits(t *testing.T) {
	const many = 1<<32 - 1
	asInt := func(n int64) int { return int(min(n, math.MaxInt)) } // 32 bits on some systems
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold, c.FailureRate = 0, 0.5 })
	b.AddResults(many, 0, 0)
	report(t, b, 2, nil)
	s := b.Snapshot()
	assert.Equal(t, asInt(many+2), s.Requests)
	assert.Equal(t, asInt(many+2), s.Successes)
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateClosed, b.State(), "one failure of so many")
	b.Reset()
	b.AddResults(0, many, many)
	s = b.Snapshot()
	assert.Equal(t, asInt(many), s.Failures)
	assert.Equal(t, asInt(many), s.ConsecutiveFailures)
	assert.Equal(t, asInt(2*many), s.Requests)
	assert.Positive(t, s.Requests, "where an int has 32 bits the numbers end at the largest")
}

// A call became slow in flight, when there were not enough calls to judge; a fast
// one made them enough; and when the slow one ended the share was not judged any more.
func TestSlowShareIsJudgedAtTheEndOfEachSlowCall(t *testing.T) {
	for name, look := range map[string]bool{"noticed in flight": true, "noticed at its end": false} {
		for result, want := range map[error]retry.State{
			nil:                                 retry.StateOpen,
			errDown:                             retry.StateOpen,
			&retry.StatusError{StatusCode: 404}: retry.StateOpen,
			context.Canceled:                    retry.StateClosed,
		} {
			b, clock := newBreaker(t, slowFromOneSecond)
			slow := permit(t, b)
			if look {
				clock.Advance(time.Second)
				report(t, b, 1, nil)
			} else {
				report(t, b, 1, nil)
				clock.Advance(time.Second)
			}
			assert.Equal(t, retry.StateClosed, b.State())
			slow.Done(result)
			assert.Equal(t, want, b.State(), "%s %v", name, result)
		}
	}
}

// Many slow calls ended one by one after they had been noticed together, too few
// of them to judge by then.
func TestSlowCallsThatEndLater(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { slowFromOneSecond(c); c.MinCalls = 10 })
	var slow []retry.Permit
	for range 5 {
		slow = append(slow, permit(t, b))
	}
	clock.Advance(2 * time.Second)
	report(t, b, 4, nil)
	slow[0].Done(nil)
	assert.Equal(t, retry.StateClosed, b.State(), "9 calls")
	report(t, b, 1, nil)
	assert.Equal(t, retry.StateClosed, b.State(), "a fast success opens nothing")
	slow[1].Done(nil)
	assert.Equal(t, retry.StateOpen, b.State(), "5 of 10")
}

// With FailureRate: 0.5, a fifth of failures at random opened a breaker: five of
// them came in a row, which the caller had not asked for.
func TestRateAloneDoesNotCountInARow(t *testing.T) {
	rate := func(c *retry.BreakerConfig) { c.FailureRate = 0.5 }
	slow := func(c *retry.BreakerConfig) { c.SlowCallRate, c.SlowCallDuration = 0.5, time.Second }
	for name, c := range map[string]struct {
		set       []func(*retry.BreakerConfig)
		threshold int
		opens     bool
	}{
		"no rate, 0":          {nil, 0, true},
		"failure rate, 0":     {[]func(*retry.BreakerConfig){rate}, 0, false},
		"slow rate, 0":        {[]func(*retry.BreakerConfig){slow}, 0, false},
		"both, 0":             {[]func(*retry.BreakerConfig){rate, slow}, 0, false},
		"failure rate, minus": {[]func(*retry.BreakerConfig){rate}, -1, false},
		"failure rate and 5":  {[]func(*retry.BreakerConfig){rate}, 5, true},
		"slow rate and 5":     {[]func(*retry.BreakerConfig){slow}, 5, true},
	} {
		b, _ := newBreaker(t, func(cfg *retry.BreakerConfig) {
			cfg.FailureThreshold, cfg.MinCalls = c.threshold, 100
			for _, set := range c.set {
				set(cfg)
			}
		})
		report(t, b, 90, nil)
		report(t, b, 4, errDown)
		assert.Equal(t, retry.StateClosed, b.State(), name)
		report(t, b, 1, errDown)
		assert.Equal(t, c.opens, b.State() == retry.StateOpen, name)
	}
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold, c.FailureRate = 0, 0.5 })
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		var result error
		if random.Float64() < 0.2 {
			result = errDown
		}
		report(t, b, 1, result)
		clock.Advance(10 * time.Millisecond)
	}
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestRateIsJudgedFromMinCallsOnAndAtFailures(t *testing.T) {
	b, _ := newBreaker(t, byRate)
	report(t, b, 9, errDown)
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, nil) // the tenth call, and the rate is over: but a success opens nothing
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
}

// 0.55 times 100 is a little more than 55 in floating point, so 55 failures of
// 100 did not reach a rate of 0.55.
func TestRateIsReachedExactly(t *testing.T) {
	for percent := 1; percent <= 100; percent++ {
		b, _ := newBreaker(t, func(c *retry.BreakerConfig) {
			c.FailureThreshold, c.FailureRate, c.MinCalls = -1, float64(percent)/100, 100
		})
		report(t, b, 100-percent, nil)
		report(t, b, percent-1, errDown)
		require.Equal(t, retry.StateClosed, b.State(), percent)
		report(t, b, 1, errDown)
		require.Equal(t, retry.StateOpen, b.State(), percent)
	}
}

func TestResultOnABucketEdgeBelongsToTheNewBucket(t *testing.T) {
	b, clock := newBreaker(t, byRate) // 10 buckets of 1s
	report(t, b, 1, errDown)          // bucket 0
	clock.Advance(time.Second)
	report(t, b, 1, nil) // bucket 1
	for range 25 {       // round the ring, several times over
		clock.Advance(9*time.Second - 1)
		assert.Equal(t, 1, b.Snapshot().Failures)
		clock.Advance(1) // the edge
		assert.Zero(t, b.Snapshot().Failures)
		assert.Equal(t, 1, b.Snapshot().Successes)
		report(t, b, 1, errDown)
		clock.Advance(time.Second)
		assert.Zero(t, b.Snapshot().Successes)
		report(t, b, 1, nil)
		assert.Equal(t, 2, b.Snapshot().Requests)
	}
}

func TestWindowIdleForAYearForgets(t *testing.T) {
	b, clock := newBreaker(t, byRate)
	report(t, b, 9, errDown)
	clock.Advance(365 * 24 * time.Hour)
	assert.Zero(t, b.Snapshot().Requests)
	report(t, b, 9, errDown)
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
	clock.Advance(365 * 24 * time.Hour)
	assert.Equal(t, retry.StateHalfOpen, b.State())
}

func TestWindowSlides(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.FailureThreshold, c.FailureRate, c.MinCalls = -1, 1, 8
	})
	report(t, b, 1, nil) // begins the window's time
	clock.Advance(9900 * time.Millisecond)
	report(t, b, 7, errDown)
	clock.Advance(200 * time.Millisecond)
	report(t, b, 1, errDown)
	assert.Equal(t, retry.StateOpen, b.State())
}

func TestClockSetBackWithARunningWindow(t *testing.T) {
	b, wall := newWallBreaker(t, byRate)
	report(t, b, 5, errDown)
	wall.Advance(5 * time.Second)
	assert.Equal(t, 5, b.Snapshot().Failures) // sees the clock, before it is set back
	wall.step(-time.Hour)
	assert.Equal(t, 5, b.Snapshot().Failures, "not emptied")
	report(t, b, 1, nil)
	wall.Advance(5 * time.Second)
	assert.Equal(t, 1, b.Snapshot().Requests, "not frozen")
	wall.step(time.Hour)
	assert.Zero(t, b.Snapshot().Requests)
}

func TestSlowSuccessIsASuccess(t *testing.T) {
	b, clock := newBreaker(t, slowCalls)
	for n := range 4 {
		require.Equal(t, retry.StateClosed, b.State(), n)
		require.NoError(t, b.Do(context.Background(), func(context.Context) error {
			clock.Advance(time.Second)
			return nil
		}))
	}
	assert.Equal(t, retry.StateOpen, b.State())
	assert.Nil(t, b.Snapshot().LastFailure)
}

func TestCallsInFlightCountOnceTheyAreSlow(t *testing.T) {
	b, clock := newBreaker(t, slowCalls)
	permits := []retry.Permit{permit(t, b), permit(t, b), permit(t, b)}
	clock.Advance(time.Second - 1)
	assert.Zero(t, b.Snapshot().SlowCalls)
	clock.Advance(1)
	assert.Equal(t, 3, b.Snapshot().SlowCalls, "counted by a Snapshot, though no call began or ended")
	assert.Equal(t, 3, b.Snapshot().SlowCalls, "once")
	permits[0].Done(nil)
	s := b.Snapshot()
	assert.Equal(t, 3, s.SlowCalls, "once")
	assert.Equal(t, 3, s.Requests)
	assert.Equal(t, retry.StateClosed, s.State)
}

// A Snapshot must not use up the occasion to open.
func TestSlowCallsInFlightOpenTheBreaker(t *testing.T) {
	b, clock := newBreaker(t, slowCalls)
	for range 4 {
		permit(t, b)
	}
	clock.Advance(time.Second)
	assert.Equal(t, 4, b.Snapshot().SlowCalls)
	refused(t, b)
	assert.Equal(t, retry.StateOpen, b.State())
}

// A call that hangs for longer than the window is as slow as ever.
func TestHungCallsAreNotForgotten(t *testing.T) {
	b, clock := newBreaker(t, slowCalls)
	for range 2 {
		permit(t, b)
	}
	clock.Advance(time.Minute)
	report(t, b, 1, nil)
	assert.Equal(t, 2, b.Snapshot().SlowCalls)
	report(t, b, 1, context.Canceled)
	third := permit(t, b)
	clock.Advance(time.Second)
	third.Done(context.Canceled)
	assert.Equal(t, 2, b.Snapshot().SlowCalls, "a cancel says nothing")
	assert.Equal(t, retry.StateClosed, b.State())
}

// model is a breaker that remembers everything that ever happened, and counts
// it all again whenever it is asked. It is slow and obviously right.
type model struct {
	cfg     retry.BreakerConfig
	start   time.Time
	now     time.Duration // since start
	calls   []*modelCall  // all that were ever let through
	results int           // how many results came in
	periods []modelPeriod
	last    error // failure since the last Reset
	changes []retry.StateChange
}

type modelCall struct {
	period     int // in which it was let through
	start, end time.Duration
	order      int // of its result among all results; 0: none yet, or too late
	lost       bool
	err        error
	noticed    bool // found to be slow while it was in flight
}

type modelPeriod struct {
	state        retry.State
	since, lasts time.Duration
	forced       bool
	failed       bool // half-open, and ended by a failed probe
	cause        string
	rejections   int
}

func (m *model) period() *modelPeriod { return &m.periods[len(m.periods)-1] }

// calls of the period under way for which the condition holds.
func (m *model) count(holds func(c *modelCall) bool) (n int) {
	for _, c := range m.calls {
		if c.period == len(m.periods)-1 && holds(c) {
			n++
		}
	}
	return n
}

var (
	errNeutral   = retry.Neutral(errDown)
	errThrottled = retry.RetryAfter(errDown, time.Second) // from a server at work
)

func isNeutral(err error) bool { return err == context.Canceled || err == errNeutral }

func (c *modelCall) inFlight() bool { return c.order == 0 }

func (c *modelCall) neutral() bool { return c.order > 0 && isNeutral(c.err) }

func (c *modelCall) failed() bool {
	return c.order > 0 && c.err != nil && c.err != errThrottled && !isNeutral(c.err)
}

func (c *modelCall) succeeded() bool {
	return c.order > 0 && (c.err == nil || c.err == errThrottled)
}

func (m *model) late(c *modelCall) bool {
	return c.inFlight() && m.cfg.SlowCallDuration > 0 && m.now-c.start >= m.cfg.SlowCallDuration
}

func (m *model) slow(c *modelCall) bool {
	wasSlow := m.cfg.SlowCallDuration > 0 && c.end-c.start >= m.cfg.SlowCallDuration
	return m.late(c) || (c.succeeded() || c.failed()) && wasSlow && m.within(c)
}

// within reports whether the call's result is still in the window.
func (m *model) within(c *modelCall) bool {
	rated := m.cfg.FailureRate > 0 || m.cfg.SlowCallRate > 0
	tenth := m.cfg.Window / 10
	return !rated || m.period().state != retry.StateClosed || m.now/tenth-c.end/tenth < 10
}

// consecutive is the number of failures since the last success.
func (m *model) consecutive() (n int) {
	var ended []*modelCall
	for _, c := range m.calls {
		if c.period == len(m.periods)-1 && c.order > 0 {
			ended = append(ended, c)
		}
	}
	slices.SortFunc(ended, func(a, b *modelCall) int { return cmp.Compare(a.order, b.order) })
	for _, c := range ended {
		if c.failed() {
			n++
		} else if c.succeeded() {
			n = 0
		}
	}
	return n
}

func (m *model) snapshot() retry.Snapshot {
	p := m.period()
	s := retry.Snapshot{
		State:       p.state,
		Requests:    m.count(func(c *modelCall) bool { return c.inFlight() || m.within(c) }),
		Successes:   m.count(func(c *modelCall) bool { return c.succeeded() && m.within(c) }),
		Failures:    m.count(func(c *modelCall) bool { return c.failed() && m.within(c) }),
		Rejections:  p.rejections,
		LastFailure: m.last,
		Cause:       p.cause,
	}
	if p.state == retry.StateClosed {
		s.SlowCalls, s.ConsecutiveFailures = m.count(m.slow), m.consecutive()
	}
	if p.state == retry.StateOpen && !p.forced {
		if until := p.since + p.lasts; m.now >= until {
			s.State = retry.StateHalfOpen
		} else {
			s.OpenUntil = m.start.Add(until)
		}
	}
	return s
}

func (m *model) change(p modelPeriod, err error) {
	from := m.period().state
	if p.since = m.now; from != p.state {
		change := retry.StateChange{Name: m.cfg.Name, From: from, To: p.state, Err: err, At: m.start.Add(m.now), Cause: p.cause}
		if p.state == retry.StateOpen && !p.forced {
			change.Until = change.At.Add(p.lasts)
		}
		m.changes = append(m.changes, change)
	} else if p.state == retry.StateClosed {
		p.cause = m.period().cause
	}
	m.periods = append(m.periods, p)
}

// open lasts twice as long for each probe that failed since it was last closed.
func (m *model) open(cause string, err error) {
	lasts := m.cfg.RecoveryTimeout
	for i := len(m.periods) - 1; i >= 0 && m.periods[i].state != retry.StateClosed; i-- {
		if m.periods[i].failed {
			lasts = min(2*lasts, m.cfg.MaxRecoveryTimeout)
		}
	}
	m.change(modelPeriod{state: retry.StateOpen, lasts: lasts, cause: cause}, err)
}

// tooSlow looks for calls that were not known to be slow, and returns what opens the
// breaker, if that does.
func (m *model) tooSlow(leaving *modelCall) (cause string) {
	found := false
	for _, c := range m.calls {
		if c.period != len(m.periods)-1 {
			continue
		}
		if m.late(c) && !c.noticed || c == leaving && !c.neutral() && c.end-c.start >= m.cfg.SlowCallDuration {
			c.noticed, found = true, true
		}
	}
	calls := m.count(func(c *modelCall) bool {
		return m.late(c) || (c.succeeded() || c.failed()) && m.within(c)
	})
	slow := m.count(m.slow)
	if m.cfg.SlowCallRate == 0 || !found || calls < m.cfg.MinCalls || float64(slow)/float64(calls) < m.cfg.SlowCallRate {
		return ""
	}
	return fmt.Sprintf("%d of %d calls slow", slow, calls)
}

func (m *model) holdsPlace(c *modelCall) bool {
	return c.inFlight() && !c.lost && m.now-c.start < m.cfg.ProbeTimeout
}

// allow returns the call if it is let through.
func (m *model) allow() *modelCall {
	p := m.period()
	if p.state == retry.StateOpen && !p.forced && m.now >= p.since+p.lasts {
		m.change(modelPeriod{state: retry.StateHalfOpen, cause: "recovery time over"}, nil)
		p = m.period()
	}
	if p.state == retry.StateClosed {
		if cause := m.tooSlow(nil); cause != "" {
			m.open(cause, nil)
			p = m.period()
		}
	}
	if p.state == retry.StateOpen || p.state == retry.StateHalfOpen && m.count(m.holdsPlace) >= m.cfg.HalfOpenProbes {
		p.rejections++
		return nil
	}
	c := &modelCall{period: len(m.periods) - 1, start: m.now}
	m.calls = append(m.calls, c)
	return c
}

func (m *model) done(c *modelCall, err error) {
	p := m.period()
	if c.period != len(m.periods)-1 || !c.inFlight() {
		c.lost = true
		return
	}
	late := p.state == retry.StateHalfOpen && !m.holdsPlace(c)
	slow := m.cfg.SlowCallDuration > 0 && m.now-c.start >= m.cfg.SlowCallDuration
	m.results++
	c.order, c.end, c.err = m.results, m.now, err
	if late && c.failed() && !slow { // stale
		c.order, c.lost = 0, true
		return
	}
	if c.failed() {
		m.last = err
	} else {
		err = nil
	}
	switch {
	case p.state == retry.StateHalfOpen && (c.failed() || slow && !c.neutral()):
		p.failed = true
		m.open("probe failed", err)
	case p.state == retry.StateHalfOpen:
		if c.succeeded() && m.count((*modelCall).succeeded) >= m.cfg.SuccessThreshold {
			m.change(modelPeriod{state: retry.StateClosed, cause: "probe succeeded"}, nil)
		}
	default:
		cause := m.tooSlow(c)
		failures, successes := m.snapshot().Failures, m.snapshot().Successes
		calls := failures + successes
		if n := m.consecutive(); c.failed() && m.cfg.FailureThreshold > 0 && n >= m.cfg.FailureThreshold {
			cause = strings.Replace(fmt.Sprintf("%d failures in a row", n), "1 failures", "1 failure", 1)
		} else if cause == "" && c.failed() && m.cfg.FailureRate > 0 && calls >= m.cfg.MinCalls && float64(failures)/float64(calls) >= m.cfg.FailureRate {
			cause = fmt.Sprintf("%d of %d calls failed", failures, calls)
		}
		if cause != "" {
			m.open(cause, err)
		}
	}
}

// tape is a script as bytes, 0 when it is over.
type tape []byte

func (b *tape) next() (n int) {
	if len(*b) > 0 {
		n, *b = int((*b)[0]), (*b)[1:]
	}
	return n
}

func (b *tape) pick(choices ...int) int { return choices[b.next()%len(choices)] }

// modelConfig spells out all defaults, for the model to go by.
func modelConfig(script *tape) retry.BreakerConfig {
	cfg := retry.BreakerConfig{
		Name:             "model",
		FailureThreshold: script.pick(1, 2, 3, 5, 6),
		Window:           10 * time.Second,
		MinCalls:         script.pick(1, 2, 4, 6),
		RecoveryTimeout:  5 * time.Second,
		HalfOpenProbes:   script.pick(1, 1, 2, 3),
		SuccessThreshold: script.pick(1, 1, 2, 3),
		ProbeTimeout:     time.Duration(script.pick(2, 7)) * time.Second,
	}
	cfg.MaxRecoveryTimeout = time.Duration(script.pick(5, 13, 40)) * time.Second
	rates := script.next()
	if rates&1 != 0 {
		cfg.FailureRate = float64(1+rates>>4) / 16
	}
	if rates&2 != 0 {
		cfg.SlowCallRate, cfg.SlowCallDuration = float64(1+rates>>4)/16, 1500*time.Millisecond
	}
	if rates&3 != 0 && rates&4 != 0 {
		cfg.FailureThreshold = -(rates >> 3 & 1) // by rates only, 0 or -1
	}
	return cfg
}

// runScript plays a script on a breaker and on the model, and reports where they
// differ.
func runScript(script tape) error {
	clock := clockwork.NewFakeClock()
	m := &model{cfg: modelConfig(&script), start: clock.Now(), periods: make([]modelPeriod, 1)}
	cfg := m.cfg
	cfg.Clock = clock
	var changes []retry.StateChange
	cfg.OnStateChange = func(s retry.StateChange) { changes = append(changes, s) }
	b, err := retry.NewCircuitBreaker(cfg)
	if err != nil {
		return err
	}
	b.Snapshot() // the window begins
	type pair struct {
		permit retry.Permit
		call   *modelCall
	}
	var permits []pair // also those that were used: they may come back twice
	for step := 0; len(script) > 0; step++ {
		op := ""
		switch n := script.next(); {
		case n < 90:
			permit, err := b.Allow()
			call := m.allow()
			op = fmt.Sprintf("Allow: %v, want passed %v", err, call != nil)
			if (err == nil) != (call != nil) {
				return fmt.Errorf("step %d: %s", step, op)
			}
			if call != nil {
				permits = append(permits, pair{permit, call})
			}
		case n < 190 && len(permits) > 0:
			p := permits[len(permits)-1]
			if n&1 != 0 { // an older one: late, twice, from another period
				p = permits[script.next()%len(permits)]
			}
			result := []error{nil, nil, errors.New(fmt.Sprint("failure ", step)), errors.New("failure"), context.Canceled, errNeutral, errThrottled}[script.next()%7]
			op = fmt.Sprint("Done: ", result)
			p.permit.Done(result)
			if p.call.inFlight() && !p.call.lost {
				m.done(p.call, result)
			}
		case n < 245:
			d := []time.Duration{1, 500 * time.Millisecond, time.Second, 1500 * time.Millisecond, 5 * time.Second, 5*time.Second - 1, 20 * time.Second}[script.next()%7]
			op = fmt.Sprint("Advance: ", d)
			clock.Advance(d)
			m.now += d
		case n < 248:
			op = "Reset"
			b.Reset()
			m.last = nil
			m.change(modelPeriod{state: retry.StateClosed, cause: "reset"}, nil)
		case n < 250:
			op = "ForceOpen"
			b.ForceOpen()
			m.change(modelPeriod{state: retry.StateOpen, forced: true, cause: "forced"}, nil)
		default:
			d := time.Duration(n-250) * 2 * time.Second
			op = fmt.Sprint("Trip: ", d)
			b.Trip(d)
			if p := m.period(); d > 0 && !p.forced && (p.state != retry.StateOpen || m.now+d > p.since+p.lasts) {
				m.change(modelPeriod{state: retry.StateOpen, lasts: d, cause: "tripped"}, nil)
			}
		}
		if got, want := b.Snapshot(), m.snapshot(); got != want || b.State() != want.State {
			return fmt.Errorf("step %d, %s:\n got %+v\nwant %+v\nof %+v", step, op, got, want, m.cfg)
		}
		if !slices.Equal(changes, m.changes) {
			return fmt.Errorf("step %d, %s:\n got %+v\nwant %+v", step, op, changes, m.changes)
		}
	}
	return nil
}

// TestBreakerLikeTheModel plays random scripts. A failure names the seed that
// repeats it.
func TestBreakerLikeTheModel(t *testing.T) {
	const sequences = 3_000
	first := rand.Uint64()
	for seed := first; seed < first+sequences; seed++ {
		random := rand.New(rand.NewPCG(seed, 0))
		script := make([]byte, 20+random.IntN(100))
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		require.NoError(t, runScript(script), "seed %d", seed)
	}
}

func FuzzBreakerScript(f *testing.F) {
	f.Add([]byte("breaker"))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 100, 2, 200, 4, 1, 100, 0})
	f.Add([]byte{1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 200, 3, 1, 101, 0, 0, 246, 101, 1, 2})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			script = script[:400]
		}
		if err := runScript(script); err != nil {
			t.Fatal(err)
		}
	})
}

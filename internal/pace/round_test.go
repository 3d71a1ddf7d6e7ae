package pace_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/pace"
)

// played is a pace that learns outcomes: A of an accepted call, R of a refused one, a and r
// of one that was refused before, W that calls wait, each of a call sent an interval after
// the one before.
type played struct {
	pace.Pace
	interval time.Duration
	wait     time.Duration // that a refused call is asked for
	passing  float64
	call     pace.Call
	cause    string // of the last R that had one
	causes   int
}

func newPlayed() *played {
	return &played{interval: 100 * time.Millisecond, wait: time.Second, passing: 100, call: pace.Call{Sent: time.Unix(1e9, 0)}}
}

// play plays a script, in which a number repeats what is behind it up to a blank.
func (p *played) play(script string) *played {
	for _, part := range strings.Fields(script) {
		times := 0
		for part[0] >= '0' && part[0] <= '9' {
			times, part = 10*times+int(part[0]-'0'), part[1:]
		}
		for range max(1, times) {
			for _, outcome := range part {
				p.one(outcome)
			}
		}
	}
	return p
}

func (p *played) one(outcome rune) {
	if outcome == 'W' {
		p.Waited()
		return
	}
	p.call = pace.Call{Number: p.call.Number + 1, Sent: p.call.Sent.Add(p.interval)}
	if outcome == 'A' || outcome == 'a' {
		p.Accepted(p.call, p.call, outcome == 'a')
		return
	}
	if cause := p.Refused(p.call, p.call, p.wait, p.passing, outcome == 'r'); cause != "" {
		p.cause = cause
		p.causes++
	}
}

// paced has a pace of 5.28 a second: 96 % of the 11 that were accepted in 2s.
const paced = "R 8R 11A R "

// A pace is set when more than a fifth of the calls of a round are refused, beyond what
// chance explains, and three were accepted; a round with fewer ends with a refusal, after
// eight calls.
func TestWhenAPaceIsSet(t *testing.T) {
	for script, want := range map[string]float64{
		paced:         0.96 * 11 / 2,    // 9 are 3 + 4 + √4
		"R 7R 12A R":  0,                // 8 are fewer
		"R 16R 3A R":  0.96 * 3 / 2,     // of 20
		"R 16R 2A R":  0,                // hardly any is accepted
		"R 6A R 7R":   0.96 * 6 / 1.4,   // 8 of 14
		"R 7A R 7R":   0,                // the round of 8 calls was over
		"R R 8A R 7R": 0,                // and that of 10, with 2
		"R R 7A R 6R": 0.96 * 7.0 / 1.5, // that of 9, with 2, was not: 8 of 15
		"20A":         0,
	} {
		p := newPlayed().play(script)
		assert.InDelta(t, want, p.Rate(), 1e-9, script)
		assert.Equal(t, want > 0, p.causes == 1, script)
	}
	assert.Equal(t, "9 of 20 refused in 2s", newPlayed().play(paced).cause)
}

// Calls that were sent before a round do not count in it, whenever their outcome comes.
func TestCallsBeforeARound(t *testing.T) {
	p := newPlayed()
	early := p.call
	p.call.Number += 10
	p.play("R 16R")
	for n := range uint64(5) {
		p.Accepted(pace.Call{Number: early.Number + n, Sent: early.Sent}, p.call, false)
		p.Refused(pace.Call{Number: early.Number + n, Sent: early.Sent}, p.call, time.Second, 100, false)
	}
	assert.Zero(t, p.play("R").Rate(), "none of the round was accepted")

	// The last call that was sent when a pace was set is one of those before: the pace is
	// held for 150 calls after it.
	p = newPlayed().play("R 8R 11A")
	p.one('R')
	rate := p.Rate()
	p.Accepted(p.call, p.call, false)
	p.Refused(p.call, p.call, time.Second, 100, false)
	assert.Equal(t, rate, p.play("W 149A").Rate())
	assert.InDelta(t, 1.04*rate, p.play("A").Rate(), 1e-9)
}

// A pace is lowered where four of eight calls are refused, or two of 24 and more than 4 %,
// and three were accepted.
func TestWhenAPaceIsLowered(t *testing.T) {
	for script, lowered := range map[string]bool{
		"4R 3A R":     true,
		"4R 2A 2R":    false, // two were accepted
		"3R 3A R":     false, // of seven
		"7A R":        false,
		"2R 5A R":     false, // three
		"3R 4A R":     true,  // four
		"R 22A R":     true,  // two of 24
		"R 21A R":     false, // of 23
		"23A R":       false, // one
		"R 47A R":     true,  // 2 of 49
		"R 48A R":     false, // 2 of 50 are 4 %
		"R 48A R 24A": false,
	} {
		p := newPlayed().play(paced)
		rate := p.Rate()
		p.play(script)
		assert.Equal(t, lowered, p.causes == 2, script)
		assert.Equal(t, lowered, p.Rate() < rate, script)
	}
	p := newPlayed().play(paced)
	p.interval = 2 * time.Second // far fewer are accepted: it is halved at most
	p.play("3R 4A R")
	assert.InDelta(t, 0.96*5.28/2, p.Rate(), 1e-9)
}

// A pace is raised after 150 calls of which some waited: by 4 %, then, while that goes
// well, by twice as much each time, after 8 calls at the pace, and half the wait of the
// last refused call, up to a second.
func TestProbes(t *testing.T) {
	p := newPlayed().play(paced)
	rate := p.Rate()
	assert.Equal(t, rate, p.play("300A").Rate(), "none had to wait")
	p = newPlayed().play(paced)
	p.interval = time.Second
	want := rate
	p.play("W 149A")
	assert.InDelta(t, want, p.Rate(), 1e-9)
	for _, step := range []float64{0.04, 0.08, 0.16, 0.32, 0.64, 1, 1} {
		p.play("A")
		want *= 1 + step
		assert.InEpsilon(t, want, p.Rate(), 1e-9)
		p.play("W 7A")
		assert.InEpsilon(t, want, p.Rate(), 1e-9, "seven calls are too few")
	}

	assert.InEpsilon(t, 1.04*rate, newPlayed().play(paced+"W R 149A").Rate(), 1e-9, "a refused call is one of them")
	p = newPlayed().play(paced + "W 150A")
	p.interval = 10 * time.Millisecond
	probing := p.Rate()
	p.play("W 145A") // 8 calls at 5.49 a second are 1.457s
	assert.Equal(t, probing, p.Rate())
	assert.Greater(t, p.play("A").Rate(), probing)
}

// A fast pace is probed no faster than the server's waits let it show.
func TestProbesWaitForTheServersAnswer(t *testing.T) {
	for wait, calls := range map[time.Duration]int{0: 8, time.Second: 50, time.Minute: 100} {
		p := newPlayed()
		p.interval, p.wait = time.Millisecond, wait
		p.play(paced) // 528 a second
		p.interval = 10 * time.Millisecond
		p.play("W 150A")
		rate := p.Rate()
		assert.InDelta(t, 1.04*528, rate, 1e-6)
		p.play("W")
		for range calls - 1 {
			p.one('A')
		}
		assert.Equal(t, rate, p.Rate(), "after %d calls, with a wait of %v", calls-1, wait)
		p.one('A')
		assert.InEpsilon(t, 1.08*rate, p.Rate(), 1e-9, "after %d calls, with a wait of %v", calls, wait)
	}
}

// A probe in which more than 4 % are refused has failed: the pace is what it was a step
// before the last that went well.
func TestProbeFails(t *testing.T) {
	p := newPlayed().play(paced)
	rate := p.Rate()
	p.play("W 150A")
	assert.Equal(t, 1.04*rate, p.play("24A R").Rate(), "one of 25")
	p = newPlayed().play(paced + "W 150A 23A R")
	assert.Equal(t, rate, p.Rate(), "one of 24")
	assert.Equal(t, 1, p.causes, "which is no news")
	assert.Equal(t, rate, p.play("W 149A").Rate(), "it is held again")
	assert.InEpsilon(t, 1.04*rate, p.play("A").Rate(), 1e-9)

	p = newPlayed().play(paced)
	p.interval = time.Second
	p.play("W 150A W 8A R")
	assert.InEpsilon(t, rate, p.Rate(), 1e-9)
}

// Where all calls paused for more than a quarter of the round, what the server accepts is
// taken to lie between what it accepted and what was sent meanwhile, and is probed at once.
func TestPauseWithinARound(t *testing.T) {
	between := func(low, high float64) float64 { return 0.96 * low * math.Pow(high/low, 0.4) }
	for _, c := range []struct {
		pauses  []time.Duration // from the second call on: begin and end, after it
		passing float64
		want    float64
	}{
		{nil, 100, 5.28},
		{[]time.Duration{0, time.Second}, 100, between(5.5, 20)},
		{[]time.Duration{0, time.Second}, 10, between(5.5, 10)},
		{[]time.Duration{0, time.Second}, 1, 5.28},
		{[]time.Duration{0, 500 * time.Millisecond}, 100, 5.28}, // a quarter
		{[]time.Duration{0, 501 * time.Millisecond}, 100, between(5.5, 20/1.499)},
		{[]time.Duration{0, 300 * time.Millisecond, 400 * time.Millisecond, 700 * time.Millisecond}, 100, between(5.5, 20/1.4)},
		{[]time.Duration{0, 300 * time.Millisecond, 200 * time.Millisecond, 600 * time.Millisecond}, 100, between(5.5, 20/1.4)}, // one, lengthened
		{[]time.Duration{0, 300 * time.Millisecond, 400 * time.Millisecond, time.Hour}, 100, 5.28},                              // the last is not over
	} {
		p := newPlayed()
		p.passing = c.passing
		p.play("R")
		for i := 0; i < len(c.pauses); i += 2 {
			p.Paused(p.call.Sent.Add(c.pauses[i]), p.call.Sent.Add(c.pauses[i+1]))
		}
		p.play("8R 11A R")
		assert.InDelta(t, c.want, p.Rate(), 1e-9, "%+v", c)
		if c.want > 5.3 {
			p.interval = time.Second
			assert.InDelta(t, 1.4*c.want, p.play("W 8A").Rate(), 1e-9, "probed at once")
		}
	}
}

// A call that is refused again and again is no evidence for a pace, and none against it: a
// host with one endpoint that is limited was paced for it. Where there is a pace, it counts.
func TestRefusedAgain(t *testing.T) {
	assert.Zero(t, newPlayed().play("R 12r 11A 12r").Rate())
	assert.Zero(t, newPlayed().play("R 7R 12r 12A R").Rate(), "8 of 20 are too few")
	p := newPlayed().play("R 8R 12r 11A R")
	assert.Positive(t, p.Rate(), "9 of 20 are not")
	assert.Equal(t, "21 of 32 refused in 3.2s", p.cause)
	p = newPlayed().play("R 9R 11A r")
	assert.Equal(t, "10 of 21 refused in 2.1s", p.cause, "it may be the first that shows what was accepted")
	rate := p.Rate()
	assert.Less(t, p.play("3R 4A r").Rate(), rate)
}

// Where calls that were refused once are accepted like others, those that are refused again
// count: a limit on rate was found 8 to 19 seconds late, after up to 423 refusals in place
// of 40, because calls that are accepted at last spoke against it and those that are refused
// again did not speak for it.
func TestRefusedAgainLikeOthers(t *testing.T) {
	assert.Zero(t, newPlayed().play("R 7R 12r 5a 11A R").Rate(), "two and 1.5 for 8 and 11 others: 9.5 of 22.5")
	assert.Positive(t, newPlayed().play("R 7R 12r 6a 11A R").Rate(), "three and 2.2: 10.2 of 24.2")
	assert.Positive(t, newPlayed().play("R 7R 2r 6a 11A R").Rate(), "two were refused again: 10 of 24")
	assert.Zero(t, newPlayed().play("R 7R 1r 6a 11A R").Rate(), "one was: 9 of 23")
	assert.Zero(t, newPlayed().play("R 7R 6a 11A R").Rate())
	assert.Positive(t, newPlayed().play("R 4R 3r 5a R").Rate(), "none of the others was accepted: 8 of 10")
}

// uselessPace is one that was lowered twice without use, while a share was refused.
func uselessPace(round string) *played {
	p := newPlayed().play(paced)
	for ; p.causes < 4; p.play(round) {
		p.interval *= 2
	}
	p.interval = time.Second
	return p
}

// Where lowering a pace twice in succession lowers what is accepted, and not the share that
// is refused, it is doubled, again and again, while no more are refused than then.
func TestUseless(t *testing.T) {
	p := uselessPace("3R 4A R") // half of eight: 4 + 2√4 are tolerated
	assert.Equal(t, "it did not help to lower it, 4 of 8 refused in 6.4s", p.cause)
	rate := p.Rate()
	assert.InDelta(t, 2*0.96*0.96*5.28/4, rate, 1e-9)
	for range 3 {
		rate *= 2
		p.interval /= 2
		assert.InDelta(t, rate, p.play("W 5R 3A").Rate(), 1e-9)
	}
	assert.Equal(t, 4, p.causes)

	// A probe that fails is made again soon.
	assert.InDelta(t, rate/4, p.play("9R").Rate(), 1e-9)
	assert.InDelta(t, rate/4, p.play("W 10R 13A").Rate(), 1e-9)
	assert.InDelta(t, rate/2, p.play("A").Rate(), 1e-9)

	// So does one at which no more are accepted: a bucket that others share.
	assert.InDelta(t, rate/4, p.play("W 4R 4A").Rate(), 1e-9)

	// A smaller share is tolerated where fewer were refused.
	p = uselessPace("R 22A R")
	rate = p.Rate()
	assert.Equal(t, rate, p.play("W 7A 2R").Rate())
	assert.Less(t, p.play("R").Rate(), rate)

	// Held without more than one refusal, it tolerates no more than any.
	p = uselessPace("3R 4A R").play("9R W 24A")
	rate = p.Rate()
	assert.Less(t, p.play("R").Rate(), rate)
}

// Half of a burst is refused, no call comes for half a minute, and then there is a burst
// again: the silence was taken for what the server accepts, and the pace was a call in
// eight seconds. Each burst is a round.
func TestSilenceEndsARound(t *testing.T) {
	after := func(silence, wait time.Duration, script string) *played {
		p := newPlayed()
		p.interval, p.wait = 10*time.Millisecond, wait
		p.play("R 4R 4A")
		p.call.Sent = p.call.Sent.Add(silence - p.interval)
		return p.play(script)
	}
	assert.Zero(t, after(30*time.Second, time.Second, "4R").Rate())
	assert.Zero(t, after(30*time.Second, time.Second, "A 4R").Rate())
	assert.Zero(t, after(time.Second+1, 0, "4R").Rate())
	assert.Positive(t, after(time.Second, 0, "4R").Rate(), "as refused calls may wait")
	assert.Positive(t, after(30*time.Second, 15*time.Second, "4R").Rate())
	assert.Zero(t, after(30*time.Second+1, 15*time.Second, "4R").Rate())
	p := after(30*time.Second, time.Second, "R 8R 11A R") // a burst that is refused by itself
	assert.InDelta(t, 0.96*11/0.2, p.Rate(), 1e-9)

	p = newPlayed()
	p.interval = 10 * time.Millisecond
	p.play("R 4R 4A")
	p.Paused(p.call.Sent, p.call.Sent.Add(30*time.Second))
	p.call.Sent = p.call.Sent.Add(30 * time.Second)
	assert.Positive(t, p.play("4R").Rate(), "a pause of all is no silence")

	p = newPlayed().play(paced + "W 75A")
	rate := p.Rate()
	p.call.Sent = p.call.Sent.Add(time.Hour)
	assert.Greater(t, p.play("75A").Rate(), rate, "where there is a pace, the round goes on")
}

// A pace that was lowered six times without a clean hold in between is raised whatever came
// of it: that bounds what it costs where luck makes it seem of use. Two refusals are no
// clean hold.
func TestRaisedAfterSixReductions(t *testing.T) {
	const lower = "3R 4A R " // whose rate stays
	again := func(p *played) (n int) {
		for causes := p.causes; n < 20 && (p.causes == causes || !strings.HasPrefix(p.cause, "it did not help")); n++ {
			p.play(lower)
		}
		return n
	}
	assert.Equal(t, 6, again(newPlayed().play(paced)))
	p := newPlayed().play(paced + lower + lower)
	p.interval = time.Second
	p.play("W R 149A")
	p.interval = 100 * time.Millisecond
	p.play("23A R") // the probe fails
	assert.Equal(t, 6, again(p), "held with one refusal")
	p = newPlayed().play(paced + lower + lower)
	p.interval = time.Second
	p.play("W R 148A R")
	p.play("A")
	p.interval = 100 * time.Millisecond
	p.play("23A R")
	assert.Equal(t, 4, again(p), "held with two")
}

// A limit that other processes share is no process's own: to lower its pace changes little
// of the share that is refused, so that four reductions in succession are evidence, and not
// two; one of sixteen raised its pace again and again, and a thousand of 1,000 calls were
// refused. And what the server may accept in a pause is not for this one.
func TestPaceOfOneOfMany(t *testing.T) {
	reductions := func(p *played) (n int) {
		for p.play(paced); !strings.HasPrefix(p.cause, "it did not help"); p.play("3R 4A R") {
			n = p.causes
			p.interval *= 2
		}
		return n
	}
	joined := newPlayed()
	joined.Join()
	assert.Equal(t, 3, reductions(newPlayed()), "the first sets it")
	assert.Equal(t, 5, reductions(joined))

	pausing := func(p *played) float64 {
		p.play("R")
		p.Paused(p.call.Sent, p.call.Sent.Add(time.Second))
		return p.play("8R 11A R").Rate()
	}
	joined = newPlayed()
	joined.Join()
	assert.InDelta(t, 0.96*5.5*math.Pow(20/5.5, 0.4), pausing(newPlayed()), 1e-9)
	assert.InDelta(t, 0.96*5.5, pausing(joined), 1e-9)
}

// A pace of no use is given up when none has to wait for it any more. Twice the share that
// was refused leads to a pace again.
func TestUselessAndNotWaitedFor(t *testing.T) {
	assert.Positive(t, uselessPace("R 22A R").play("7A").Rate())
	p := uselessPace("R 22A R").play("8A")
	assert.Zero(t, p.Rate())
	p.interval = 100 * time.Millisecond
	assert.Positive(t, p.play(paced).Rate(), "a twelfth was refused")
	p = uselessPace("2R 5A R 2A R").play("8A") // 4 of 11
	p.interval = 100 * time.Millisecond
	assert.Zero(t, p.Rate())
	assert.Zero(t, p.play(paced).Rate(), "seven tenths are tolerated")
	assert.Positive(t, newPlayed().play(paced).play("300A").Rate(), "one that may be of use is kept")
}

func TestForgetAndShift(t *testing.T) {
	p := newPlayed().play("R 8R 11A")
	p.Shift(-time.Hour)
	p.call.Sent = p.call.Sent.Add(-time.Hour)
	assert.InDelta(t, 5.28, p.play("R").Rate(), 1e-9, "as if the clock had not been set back")
	p.Forget()
	assert.Zero(t, p.Rate())
	p.Shift(time.Hour)
	assert.InDelta(t, 5.28, p.play(paced).Rate(), 1e-9)
}

// A cause gives the time of its round in two or three digits.
func TestCauseIsReadable(t *testing.T) {
	for interval, want := range map[time.Duration]string{
		6172800 * time.Microsecond: "in 2m3s", 61728 * time.Microsecond: "in 1.2s", 617280 * time.Nanosecond: "in 12ms",
		617 * time.Nanosecond: "in 12.34µs", 6 * time.Nanosecond: "in 120ns", 500 * time.Millisecond: "in 10s",
	} {
		p := newPlayed()
		p.interval, p.wait = interval, interval
		assert.True(t, strings.HasSuffix(p.play(paced).cause, want), "%s, want %s", p.cause, want)
	}
}

// A lower pace that halves the share of refusals is of use, however few calls are accepted:
// it is raised again where the share was more than half of that before, twice in succession.
func TestHalfTheShareIsOfUse(t *testing.T) {
	for _, c := range []struct {
		scripts []string // at half the rate of calls each
		kept    bool
	}{
		{[]string{"3R 12A R", "3R 28A R", "3R 60A R"}, true}, // 4 of 16, of 32 and of 64
		{[]string{"3R 12A R", "3R 27A R", "3R 57A R"}, false},
	} {
		p := newPlayed().play("R 7R 8A R")
		for _, script := range c.scripts {
			p.interval *= 2
			p.play(script)
		}
		assert.Equal(t, 4, p.causes)
		assert.Equal(t, c.kept, !strings.HasPrefix(p.cause, "it did not help"), c.scripts)
	}
}

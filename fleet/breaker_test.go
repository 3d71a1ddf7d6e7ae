package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func breaker(t *testing.T, cfg retry.BreakerConfig) *retry.CircuitBreaker {
	b, err := retry.NewCircuitBreaker(cfg)
	require.NoError(t, err)
	return b
}

// call makes n calls of one result.
func call(b *retry.CircuitBreaker, n int, err error) {
	for range n {
		b.Do(context.Background(), func(context.Context) error { return err })
	}
}

var errDown = errors.New("down")

// three are the breakers of three members, who know of each other.
func three(t *testing.T, s redis, cfg Config, bc retry.BreakerConfig) (breakers [3]*retry.CircuitBreaker, fleets [3]*Fleet) {
	for i := range breakers {
		breakers[i], fleets[i] = breaker(t, bc), joined(t, s, cfg)
		require.NoError(t, fleets[i].Breaker("host", breakers[i]))
	}
	eventually(t, func() bool {
		for _, f := range fleets {
			if f.Snapshot().Members != 3 {
				return false
			}
		}
		return true
	}, "three members")
	return breakers, fleets
}

func in(b *retry.CircuitBreaker, state retry.State) func() bool {
	return func() bool { return b.State() == state }
}

// Two that find it dead are a quorum: the third opens without a failure of its
// own. A probe of one closes all.
func TestBreakerQuorum(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, f := three(t, s, Config{}, retry.BreakerConfig{RecoveryTimeout: 500 * time.Millisecond})
		call(b[0], 5, errDown)
		eventually(t, func() bool { return s.do("EXISTS", "{retry:test}:findings:host") == "1" }, "found")
		assert.Equal(t, retry.StateClosed, b[1].State(), "one alone opens no other")
		call(b[1], 5, errDown)
		eventually(t, in(b[2], retry.StateOpen), "the third follows")
		assert.EqualValues(t, 1, f[2].Snapshot().Trips)

		eventually(t, in(b[2], retry.StateHalfOpen), "its time is over")
		call(b[2], 1, nil)
		for i := range b {
			eventually(t, in(b[i], retry.StateClosed), "all are closed by one probe: "+strconv.Itoa(i))
		}
		assert.Equal(t, "0", s.do("EXISTS", "{retry:test}:findings:host", "{retry:test}:episode:host"))
	})
}

// A bad node fails and fails. No other is held up, whatever it reports.
func TestBreakerOneBadNode(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, _ := three(t, s, Config{}, retry.BreakerConfig{RecoveryTimeout: 30 * time.Millisecond})
		var opened atomic.Int64
		b[0].OnStateChange(func(c retry.StateChange) {
			if c.To == retry.StateOpen {
				opened.Add(1)
			}
		})
		eventually(t, func() bool {
			call(b[0], 1, errDown)
			call(b[1], 1, nil)
			return opened.Load() >= 10 && s.do("HLEN", "{retry:test}:findings:host") == "1"
		}, "reported again and again")
		assert.Equal(t, "0", s.do("EXISTS", "{retry:test}:episode:host"))
		for _, other := range b[1:] {
			assert.Equal(t, retry.StateClosed, other.State())
		}
	})
}

// After an outage, a bad node's failed probe prolongs the episode once, and not
// for ever: the next to prolong it must be another process.
func TestBreakerBadNodeDoesNotProlong(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, _ := three(t, s, Config{}, retry.BreakerConfig{RecoveryTimeout: 300 * time.Millisecond})
		call(b[0], 5, errDown)
		call(b[1], 5, errDown)
		eventually(t, in(b[2], retry.StateOpen), "open")
		for range 4 {
			eventually(t, in(b[0], retry.StateHalfOpen), "half-open")
			call(b[0], 1, errDown)
		}
		eventually(t, func() bool { call(b[2], 1, nil); return b[2].State() == retry.StateClosed }, "the third comes to probe")
		eventually(t, in(b[0], retry.StateClosed), "all are closed")
		eventually(t, func() bool {
			call(b[0], 5, errDown)
			return s.do("HLEN", "{retry:test}:findings:host") == "1"
		}, "reported")
		assert.Equal(t, "0", s.do("EXISTS", "{retry:test}:episode:host"))
		assert.Equal(t, retry.StateClosed, b[2].State())
	})
}

// Failures in a row of several processes are enough together, though none has
// reached its own threshold: 1,000 processes need not pay it 1,000 times.
func TestBreakerSuspicion(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, _ := three(t, s, Config{OpenTime: 700 * time.Millisecond}, retry.BreakerConfig{FailureThreshold: 100})
		call(b[0], 4, errDown)
		call(b[1], 5, errDown)
		eventually(t, func() bool { return s.do("HLEN", "{retry:test}:findings:host") == "2" }, "both reported")
		assert.Equal(t, "0", s.do("EXISTS", "{retry:test}:episode:host"), "nine failures are not enough")
		call(b[0], 1, errDown)
		for i := range b {
			eventually(t, in(b[i], retry.StateOpen), "open: "+strconv.Itoa(i))
		}

		// Without suspicion, only open breakers count.
		b, f := three(t, s, Config{Name: "careful", Suspicion: -1}, retry.BreakerConfig{FailureThreshold: 100})
		call(b[0], 50, errDown)
		call(b[1], 50, errDown)
		for _, f := range f {
			f.allBreakers()[0].look(time.Now())
			assert.Zero(t, f.Snapshot().Sent)
		}
		assert.Equal(t, retry.StateClosed, b[2].State())
	})
}

// Failures among successes are no report.
func TestBreakerSuspicionTakenBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, _ := three(t, s, Config{}, retry.BreakerConfig{FailureThreshold: 100})
		call(b[0], 9, errDown)
		eventually(t, func() bool { return s.do("HLEN", "{retry:test}:findings:host") == "1" }, "suspected")
		call(b[0], 1, nil)
		eventually(t, func() bool { return s.do("HLEN", "{retry:test}:findings:host") == "0" }, "taken back")
		call(b[1], 9, errDown)
		eventually(t, func() bool { return s.do("HLEN", "{retry:test}:findings:host") == "1" }, "suspected")
		assert.Equal(t, "0", s.do("EXISTS", "{retry:test}:episode:host"))
		assert.Equal(t, retry.StateClosed, b[2].State())
	})
}

// A process whose own calls succeed does not follow the others, until one fails.
func TestBreakerOwnSuccessesSpeakAgainst(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, f := three(t, s, Config{}, retry.BreakerConfig{RecoveryTimeout: 10 * time.Second})
		call(b[2], 10, nil)
		call(b[0], 5, errDown)
		call(b[1], 5, errDown)
		eventually(t, func() bool { return f[2].Snapshot().Contradicted > 0 }, "not believed")
		assert.Equal(t, retry.StateClosed, b[2].State())
		call(b[2], 1, errDown)
		eventually(t, in(b[2], retry.StateOpen), "one failure is enough now")
	})
}

// A late comer learns of it; one that was forced open stays so.
func TestBreakerLateComerAndForced(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, _ := three(t, s, Config{}, retry.BreakerConfig{RecoveryTimeout: time.Second})
		b[2].ForceOpen()
		call(b[0], 5, errDown)
		call(b[1], 5, errDown)
		eventually(t, func() bool { return s.do("EXISTS", "{retry:test}:episode:host") == "1" }, "agreed")
		late := breaker(t, retry.BreakerConfig{})
		require.NoError(t, joined(t, s, Config{}).Breaker("host", late))
		eventually(t, in(late, retry.StateOpen), "learns of it")

		eventually(t, in(b[0], retry.StateHalfOpen), "half-open")
		call(b[0], 1, nil)
		eventually(t, in(late, retry.StateClosed), "closed")
		assert.Equal(t, retry.StateOpen, b[2].State())
		assert.True(t, b[2].Snapshot().OpenUntil.IsZero())
	})
}

// The whole of it with real processes: an outage, few attempts, and all well
// soon after.
func TestBreakerOfManyProcesses(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	all := startProcesses(t, 20, s.addr())
	for _, p := range all {
		p.ask("calls 20")
	}
	eventually(t, func() bool { return sum(all, "attempts") > 100 }, "all is well")
	for _, p := range all {
		p.ask("down")
	}
	before, callsBefore := sum(all, "attempts"), sum(all, "called")
	calls := 0
	eventually(t, func() bool { calls = sum(all, "called") - callsBefore; return calls > 6000 }, "an outage of 6,000 calls")
	made := sum(all, "attempts") - before
	for _, p := range all {
		p.tell("well")
	}
	well := time.Now()
	eventually(t, func() bool {
		for _, p := range all {
			if p.ask("state") != "closed" {
				return false
			}
		}
		return true
	}, "closed again")
	t.Logf("%d attempts, %.3f per call; well again after %v", made, float64(made)/float64(calls), time.Since(well))
	assert.Less(t, made, calls/10)
	assert.Less(t, time.Since(well), 5*time.Second)
}

// sum asks all processes for a number.
func sum(all []*process, what string) (n int) {
	for _, p := range all {
		one, _ := strconv.Atoi(p.ask(what))
		n += one
	}
	return n
}

// An outage of a minute costs a fleet few attempts, and all is well soon after. A
// thousand members take a minute and a half of real time, too:
// FLEET_MEMBERS=1000 go test -run BreakerOfManyMembers -v .
func TestBreakerOfManyMembers(t *testing.T) {
	members := 30
	if large := os.Getenv("FLEET_MEMBERS"); large != "" {
		members, _ = strconv.Atoi(large)
	}
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		var down atomic.Bool
		var calls, attempts atomic.Int64
		breakers := make([]*retry.CircuitBreaker, members)
		for i := range breakers {
			breakers[i] = breaker(t, retry.BreakerConfig{RecoveryTimeout: 5 * time.Second})
			require.NoError(t, joined(t, s, Config{}).Breaker("host", breakers[i]))
		}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, b := range breakers {
			all.Go(func() { // a call every five seconds
				for ctx.Err() == nil {
					time.Sleep(time.Duration(rand.ExpFloat64() * float64(5*time.Second)))
					calls.Add(1)
					b.Do(ctx, func(context.Context) error {
						attempts.Add(1)
						time.Sleep(10 * time.Millisecond)
						if down.Load() {
							return errDown
						}
						return nil
					})
				}
			})
		}
		time.Sleep(10 * time.Second)
		down.Store(true)
		c, a := calls.Load(), attempts.Load()
		time.Sleep(time.Minute)
		c, a = calls.Load()-c, attempts.Load()-a
		down.Store(false)
		well := time.Now()
		eventually(t, func() bool {
			return !slices.ContainsFunc(breakers, func(b *retry.CircuitBreaker) bool { return b.State() != retry.StateClosed })
		}, "all closed")
		t.Logf("%d calls, %d attempts: %.3f per call; all well after %v", c, a, float64(a)/float64(c), time.Since(well))
		assert.LessOrEqual(t, a, int64(70+members/2), "alone each makes five, and one every five seconds")
		assert.Less(t, time.Since(well), 5*time.Second)
		stop()
		all.Wait()
	})
}

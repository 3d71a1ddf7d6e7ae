package fleet

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// times is when calls passed in all the processes, in order.
func times(all []*process) (at []time.Duration) {
	for _, p := range all {
		for _, word := range strings.Fields(strings.ReplaceAll(p.ask("times"), ".", " ")) {
			n, err := strconv.ParseInt(word, 10, 64)
			if err == nil {
				at = append(at, time.Duration(n))
			}
		}
	}
	slices.Sort(at)
	return at
}

// most is the largest number of calls in any window of the given length.
func most(at []time.Duration, window time.Duration) (largest int) {
	first := 0
	for i := range at {
		for at[i]-at[first] >= window {
			first++
		}
		largest = max(largest, i-first+1)
	}
	return largest
}

// The sum stays below the rate, whichever has the work, and none goes empty.
func TestRateOfManyProcesses(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	const perSecond = 50
	all := startProcesses(t, 16, s.addr(), "FLEET_RATE="+strconv.Itoa(perSecond))
	all[3].tell("work 8")
	eventually(t, func() bool { return len(times(all)) >= 3*perSecond }, "one has all the work")
	for _, p := range all {
		p.tell("work 8")
	}
	at := times(all)
	begin := len(at)
	require.Eventually(t, func() bool { at = times(all); return len(at) >= begin+9*perSecond }, time.Minute, 100*time.Millisecond, "nine seconds of all")
	t.Logf("%d of %d at most in any 10 s", most(at, 10*time.Second), 10*perSecond)
	assert.LessOrEqual(t, most(at, 10*time.Second), 10*perSecond*105/100)
	eventually(t, func() bool {
		return !slices.ContainsFunc(all, func(p *process) bool { return len(times([]*process{p})) <= 5 })
	}, "none goes empty")
}

// When one of 16 has all the work, it gets nearly all of the rate; when all have
// some, they use it as well, and get equal parts.
func TestRateIsUsed(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		const members, perSecond = 16, 50
		rates := make([]*Rate, members)
		for i := range rates {
			rates[i] = joined(t, s, Config{}).Rate("host", perSecond)
		}
		passed := make([]func() []time.Duration, members)
		passed[3] = passing(t, rates[3:4], 8)
		time.Sleep(2 * time.Second)
		before := len(passed[3]())
		time.Sleep(5 * time.Second)
		assert.InDelta(t, 5*perSecond*margin, len(passed[3]())-before, 5, "one has all the work")

		for i, r := range rates {
			if i != 3 {
				passed[i] = passing(t, []*Rate{r}, 8)
			}
		}
		time.Sleep(2 * time.Second)
		var counts, all [members]int
		for i := range passed {
			counts[i] = len(passed[i]())
		}
		time.Sleep(20 * time.Second)
		sum := 0
		for i := range passed {
			all[i] = len(passed[i]()) - counts[i]
			sum += all[i]
		}
		t.Log("calls in 20s: ", all)
		assert.InDelta(t, 20*perSecond*margin, sum, 20)
		assert.Greater(t, slices.Min(all[:]), sum/members/2, "equal parts")
		assert.Less(t, slices.Max(all[:]), sum/members*2)
	})
}

// A low rate is kept to the letter, and an idle member asks nothing.
func TestRateLow(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		f := joined(t, s, Config{})
		r := f.Rate("ncbi", 3)
		assert.Same(t, r, f.Rate("ncbi", 3))
		var at []time.Duration
		for start := time.Now(); time.Since(start) < 3*time.Second; {
			require.NoError(t, r.Wait(t.Context()))
			at = append(at, time.Since(start))
		}
		assert.GreaterOrEqual(t, len(at), 8)
		assert.LessOrEqual(t, len(at), 10)
		for i := range at[1:] {
			assert.Greater(t, at[i+1]-at[i], 200*time.Millisecond, "evenly")
		}
		before, start := f.Snapshot().Commands, time.Now()
		eventually(t, func() bool { return f.Snapshot().Commands-before > 4 }, "beats")
		assert.Greater(t, time.Since(start), time.Second, "beats, and no lease")
	})
}

// A busy rate costs a lease now and then, and not a command per call.
func TestRateCommands(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		f := joined(t, s, Config{})
		r := f.Rate("busy", 5000)
		count := func(d time.Duration) (calls int) {
			done, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			for ; r.Wait(done) == nil; calls++ {
			}
			return calls
		}
		count(1500 * time.Millisecond) // it asks for more and more
		before, start := f.Snapshot().Commands, time.Now()
		calls := count(time.Second)
		asked := f.Snapshot().Commands - before
		t.Logf("%d calls, %d commands", calls, asked)
		assert.Greater(t, calls, 3000)
		assert.LessOrEqual(t, float64(asked), 3+12*time.Since(start).Seconds())
	})
}

func TestRateWaitEnds(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		f := joined(t, s, Config{})
		r := f.Rate("slow", 0.01)
		require.NoError(t, r.Wait(t.Context()))

		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancel(errDown) })
		assert.ErrorIs(t, r.Wait(ctx), errDown)
		assert.ErrorIs(t, r.Wait(ctx), errDown)
		r.mu.Lock()
		assert.Empty(t, r.waiting, "nothing is left behind")
		r.mu.Unlock()

		// A turn that is given back goes to the next.
		r = f.Rate("some", 2)
		require.NoError(t, r.Wait(t.Context()))
		short, stop := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer stop()
		assert.Error(t, r.Wait(short))
		start := time.Now()
		require.NoError(t, r.Wait(t.Context()))
		assert.Less(t, time.Since(start), time.Second)

		// Closed, it goes on alone.
		require.NoError(t, f.Close())
		require.NoError(t, r.Wait(t.Context()))
		require.NoError(t, r.Wait(t.Context()))
	})
}

// A slot that is known to come too late is not waited for; it goes to the next caller.
func TestRateSlotAfterTheDeadline(t *testing.T) {
	f, err := Dial(t.Context(), options("127.0.0.1:1"), Config{Name: "test", Timeout: 10 * time.Millisecond})
	require.NoError(t, err)
	defer f.Close()
	r := f.Rate("host", 1)
	r.mu.Lock()
	r.slots = []slots{{time.Now().Add(time.Hour), time.Second, 1}}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	assert.ErrorIs(t, r.Wait(ctx), retry.ErrDeadline)
	assert.Less(t, time.Since(start), 10*time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.NotEmpty(t, r.slots)
}

func TestRateInvalid(t *testing.T) {
	f, err := Dial(t.Context(), options("127.0.0.1:1"), Config{Name: "test", Timeout: 10 * time.Millisecond})
	require.NoError(t, err)
	defer f.Close()
	f.Rate("ok", 1)
	for _, r := range []*Rate{f.Rate("", 1), f.Rate("a b", 1), f.Rate("x", 0), f.Rate("x", -1), f.Rate("x", 1e9), f.Rate("ok", 2)} {
		assert.ErrorIs(t, r.Wait(t.Context()), retry.ErrInvalidConfig)
	}
}

// passing has workers pass the rates until the test ends, and returns when they did.
func passing(t *testing.T, rates []*Rate, workers int) (passed func() []time.Duration) {
	var mu sync.Mutex
	var at []time.Duration
	start := time.Now()
	for _, r := range rates {
		for range workers {
			go func() {
				for r.Wait(t.Context()) == nil {
					mu.Lock()
					at = append(at, time.Since(start))
					mu.Unlock()
				}
			}()
		}
	}
	return func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(at)
	}
}

// Five processes that started while Redis was away took the whole rate each, 97/s
// of 20/s together. Until the others are known each takes the part that the Config
// implies; when Redis comes they go over to what they need, and not all at once.
func TestRateWithoutRedisFromTheStart(t *testing.T) {
	for _, c := range []struct{ members, least, most int }{
		{0, 3, 30},   // of 20 expected processes five are there: a quarter of 100 in 5s, and one each
		{5, 50, 105}, // all are there
	} {
		t.Run(strconv.Itoa(c.members), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, s *fakeRedis) {
				s.setAway(true)
				rates := make([]*Rate, 5)
				fleets := make([]*Fleet, len(rates))
				for i := range rates {
					f, err := Dial(t.Context(), s.options(), Config{Name: "test", Members: c.members})
					require.NoError(t, err)
					t.Cleanup(func() { f.Close() })
					fleets[i], rates[i] = f, f.Rate("host", 20)
				}
				passed := passing(t, rates, 3)
				time.Sleep(10 * time.Second)
				assert.False(t, fleets[4].Snapshot().Connected)
				alone := passed()
				assert.LessOrEqual(t, most(alone, 5*time.Second), c.most)
				assert.GreaterOrEqual(t, most(alone, 5*time.Second), c.least)

				s.setAway(false)
				eventually(t, func() bool { return fleets[0].Snapshot().Members == len(fleets) }, "connected")
				time.Sleep(rampTime + 4*time.Second)
				all := passed()[len(alone):]
				t.Logf("without Redis %d in 5s at most; then %d in 1s, %d in 3s at most", most(alone, 5*time.Second), most(all, time.Second), most(all, 3*time.Second))
				assert.LessOrEqual(t, most(all, time.Second), 28)
				assert.LessOrEqual(t, most(all, 3*time.Second), 66)
				assert.GreaterOrEqual(t, most(all, 3*time.Second), 48, "all of it in the end")
			})
		})
	}
}

// Without Redis a process goes on with the share that it had, for ten seconds, and then
// with an equal one; all together keep to the rate, whichever have the work.
func TestRateShareWithoutRedis(t *testing.T) {
	const members, perSecond = 4, 40
	for busy := 1; busy <= members; busy++ {
		t.Run(strconv.Itoa(busy), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, s *fakeRedis) {
				rates := make([]*Rate, members)
				for i := range rates {
					rates[i] = joined(t, s, Config{}).Rate("host", perSecond)
				}
				passed := passing(t, rates[:busy], 4)
				time.Sleep(20 * time.Second) // in which all learn how many they are
				s.setAway(true)
				began := len(passed())
				time.Sleep(9 * time.Second)
				held := len(passed())
				time.Sleep(4 * time.Second)
				equal := len(passed())
				time.Sleep(10 * time.Second)
				at := passed()
				t.Logf("%d at most in 1s; %d in the first 9s, %d in 10s later", most(at, time.Second), held-began, len(at)-equal)
				assert.LessOrEqual(t, most(at[began:], 5*time.Second), 5*perSecond*110/100)
				assert.Greater(t, held-began, 9*perSecond*80/100, "its share")
				assert.InDelta(t, busy*10*perSecond/members, len(at)-equal, perSecond, "an equal one")
			})
		})
	}
}

// Where Redis is slow, a process gives itself slots until the answer comes; all keep to
// the rate nevertheless.
func TestRateWithSlowRedis(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		const perSecond = 50
		network := newMemoryProxy(t, s.connect)
		var rates []*Rate
		for range 3 {
			rates = append(rates, joined(t, network, Config{}).Rate("host", perSecond))
		}
		network.setDelay(220 * time.Millisecond) // one way: an answer comes within Timeout
		passed := passing(t, rates, 8)
		time.Sleep(time.Minute)
		at := passed()
		t.Logf("%d in a minute, %d in 1s at most", len(at), most(at, time.Second))
		assert.LessOrEqual(t, most(at, time.Second), perSecond*16/10) // a second, 0.1s and Timeout
		assert.LessOrEqual(t, most(at, 10*time.Second), perSecond*106/10)
		assert.Greater(t, len(at), 60*perSecond*60/100)
	})
}

// Slots that no call took in time are lost: calls after a quiet moment pass no faster.
func TestRateSlotsAreLost(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		const perSecond = 100
		r := joined(t, s, Config{}).Rate("host", perSecond)
		for range 2 * perSecond {
			require.NoError(t, r.Wait(t.Context()))
		}
		time.Sleep(400 * time.Millisecond)
		passed := passing(t, []*Rate{r}, perSecond)
		time.Sleep(100 * time.Millisecond)
		assert.LessOrEqual(t, len(passed()), perSecond*2/10+1)
	})
}

// Two processes that name different rates for one name had twice as much together
// as either knew of. The lower one is that of all, and the other is warned, once.
func TestRateOfTwoMinds(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		var log lines
		lower := joined(t, s, Config{}).Rate("host", 10)
		higher := joined(t, s, Config{Logger: log.logger()}).Rate("host", 40)
		passed := passing(t, []*Rate{lower, higher}, 5)
		eventually(t, func() bool { return log.count("names a lower rate", "rate=host", "named=40", "lower=10") == 1 }, "warned")
		before := len(passed())
		time.Sleep(4 * time.Second)
		at := passed()[before:]
		assert.LessOrEqual(t, most(at, 3*time.Second), 33)
		assert.GreaterOrEqual(t, most(at, 3*time.Second), 24)
		assert.Equal(t, 1, log.count("level=WARN"), &log.text)

		// It is forgotten when no process names it any more.
		require.NoError(t, lower.fleet.Close())
		time.Sleep(namedTime - time.Second)
		assert.Zero(t, log.count("no other process names a lower rate"))
		time.Sleep(2 * time.Second)
		assert.Equal(t, 1, log.count("no other process names a lower rate"))
	})
}

// What others wrote where the rate is kept does not stop the calls, or slow them for
// ever.
func TestRateIsRepaired(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s, patient)
	r := f.Rate("host", 100)
	key, demand := f.store.key("rate", "host"), f.store.key("demand", "host")
	for _, spoil := range []string{"word", "-1", "0", "nan", "inf", "1e300", "0x10", ""} {
		s.do("SET", key, spoil)
		require.NoError(t, r.lease(1), spoil)
		assert.NotEqual(t, "-1", s.do("PTTL", key), spoil)
	}
	s.do("RPUSH", "list", "1")
	s.do("RENAME", "list", key)
	require.NoError(t, r.lease(1))
	s.do("DEL", demand)
	s.do("HSET", demand, "total", "1e8")
	require.NoError(t, r.lease(1))
	assert.NotEqual(t, "-1", s.do("PTTL", demand), "it ends")
}

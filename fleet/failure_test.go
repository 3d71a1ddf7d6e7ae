package fleet

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// Every way in which Redis can be away: calls go on with what the process knows,
// a rate with its share, and within a second of its return all are joined again
// and know what happened meanwhile.
func TestRedisAway(t *testing.T) {
	for _, c := range []struct {
		name       string
		away, back func(*server)
	}{
		{"refused", (*server).stop, (*server).start},
		{"hung",
			func(s *server) { s.signal(syscall.SIGSTOP) },
			func(s *server) { s.signal(syscall.SIGCONT) }},
		{"read-only, as after a failover",
			func(s *server) { s.do("REPLICAOF", "127.0.0.1", strconv.Itoa(s.port+1)) },
			func(s *server) { s.do("REPLICAOF", "NO", "ONE") }},
		{"full",
			func(s *server) { s.do("CONFIG", "SET", "maxmemory", "1") },
			func(s *server) { s.do("CONFIG", "SET", "maxmemory", "0") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := realRedis(t)
			f, other := joined(t, s, Config{}), joined(t, s, Config{})
			gate, far := gatesOf(t, f, other)
			rate := f.Rate("host", 100)
			require.NoError(t, rate.Wait(t.Context()))

			c.away(s)
			eventually(t, func() bool { return !f.Snapshot().Connected && !other.Snapshot().Connected }, "seen to be away")
			start := time.Now()
			gate.Pause(time.Minute)
			assert.Less(t, time.Since(start), f.cfg.Timeout, "nothing waits for an answer")
			for range 3 {
				require.NoError(t, rate.Wait(t.Context()), "no call is locked out")
			}

			c.back(s)
			start = time.Now()
			eventually(t, func() bool { return left(far) > 50*time.Second }, "learns of it in the end")
			t.Logf("known %v after the return", time.Since(start))
			assert.Less(t, time.Since(start), 5*time.Second)
			eventually(t, func() bool { return f.Snapshot().Connected && other.Snapshot().Connected }, "joined")
			assert.NotZero(t, f.Snapshot().Losses)
			require.NoError(t, rate.Wait(t.Context()))
		})
	}
}

// Data and scripts that are flushed are there again: the next pause is published.
func TestFlushed(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f, other := joined(t, s, Config{}), joined(t, s, Config{})
	gate, far := gatesOf(t, f, other)
	gate.Pause(30 * time.Second)
	eventually(t, func() bool { return left(far) > 20*time.Second }, "learns of it")
	s.do("FLUSHALL")
	s.do("SCRIPT", "FLUSH")
	gate.Pause(time.Minute)
	eventually(t, func() bool { return left(far) > 50*time.Second }, "learns of it again")
	eventually(t, func() bool { return f.Snapshot().Members == 2 }, "members again")

	// What was lost is kept again for late joiners, after the next look.
	s.do("FLUSHALL")
	eventually(t, func() bool { return s.do("PTTL", "{retry:test}:pause:host") != "-2" }, "kept again")
}

// Without Redis from the start, a member is a member all the same, and joins
// when it comes.
func TestStartWithoutRedis(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	s.stop()
	f, err := Dial(t.Context(), options(s.addr()), Config{Name: "test"})
	require.NoError(t, err)
	defer f.Close()
	gate := retry.NewGate(nil)
	require.NoError(t, f.Gate("host", gate))
	require.NoError(t, f.Rate("host", 100).Wait(t.Context()))
	gate.Pause(time.Minute)
	s.start()
	eventually(t, func() bool { return f.Snapshot().Connected }, "joined")
	eventually(t, func() bool { return s.do("PTTL", "{retry:test}:pause:host") != "-2" }, "learns of it")
}

// Half of the fleet is cut off: it goes on alone, and learns what it missed when
// the network is whole again.
func TestPartition(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		way := newMemoryProxy(t, s.connect)
		var fleets [20]*Fleet
		var gates [20]*retry.Gate
		for i := range gates {
			gates[i] = retry.NewGate(nil)
			fleets[i] = joined(t, map[bool]redis{true: s, false: way}[i < 10], Config{})
			require.NoError(t, fleets[i].Gate("host", gates[i]))
		}
		near, far := gates[:10], gates[10:]
		way.setCut(true)
		eventually(t, func() bool {
			return !slices.ContainsFunc(fleets[10:], func(f *Fleet) bool { return f.Snapshot().Connected })
		}, "cut off")
		near[0].Pause(time.Minute)
		for _, g := range near {
			eventually(t, func() bool { return left(g) > 50*time.Second }, "the near half knows")
		}
		far[0].Pause(2 * time.Minute)
		time.Sleep(10 * time.Second)
		assert.Zero(t, left(far[1]))
		assert.Less(t, left(near[1]), time.Minute)

		way.setCut(false)
		whole := time.Now()
		for _, g := range gates {
			eventually(t, func() bool { return left(g) > 100*time.Second }, "all know the longest")
		}
		t.Logf("all know %v after the network was whole", time.Since(whole))
		assert.Less(t, time.Since(whole), 2*time.Second)
	})
}

func paused(p *process, atLeast time.Duration) bool {
	n, _ := strconv.Atoi(p.ask("left"))
	return time.Duration(n)*time.Millisecond > atLeast
}

// A member that missed a message asks when the next sign of life shows it.
func TestMissedMessage(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s, patient)
	gate := retry.NewGate(nil)
	require.NoError(t, f.Gate("host", gate))
	eventually(t, func() bool { return len(waitingFor(f)) == 0 }, "it has asked")
	require.NoError(t, f.allGates()[0].send(), "and the answer is there: one connection, one order")
	before := f.Snapshot().Syncs
	s.do("SET", "{retry:test}:pause:host", "lost", "PX", "60000")
	s.do("INCR", "{retry:test}:seq")
	eventually(t, func() bool { return left(gate) > 50*time.Second }, "asked")
	assert.Greater(t, f.Snapshot().Syncs, before)
}

// Close leaves nothing behind, and the others know at once.
func TestClose(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f, other := joined(t, s, Config{}), joined(t, s, Config{})
	gate := retry.NewGate(nil)
	require.NoError(t, f.Gate("host", gate))
	eventually(t, func() bool { return other.Snapshot().Members == 2 }, "two")
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	gate.Pause(time.Minute)
	assert.Equal(t, "-2", s.do("PTTL", "{retry:test}:pause:host"))
	eventually(t, func() bool { return other.Snapshot().Members == 1 }, "one")
}

// The first beat ended the subscription that was just being made: a member lost its
// connection in the moment in which it had it, and logged so.
func TestNothingIsLostAtTheStart(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		var log lines
		for range 30 {
			f := joined(t, s, Config{Logger: log.logger()})
			time.Sleep(200 * time.Millisecond)
			assert.Zero(t, f.Snapshot().Losses)
		}
		assert.Zero(t, log.count("level=WARN"), &log.text)
		assert.Equal(t, 30, log.count("connected", "after=0s"), &log.text)
	})
}

// A connection that is lost, and there again, is so once each, whatever is under way
// when it returns.
func TestEachLossIsOne(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		var log lines
		f := joined(t, s, Config{Logger: log.logger()})
		for range 20 {
			s.setAway(true)
			time.Sleep(time.Second + rand.N(4*time.Second))
			s.setAway(false)
			time.Sleep(2 * time.Second)
			assert.True(t, f.Snapshot().Connected)
		}
		assert.EqualValues(t, 20, f.Snapshot().Losses)
		assert.Equal(t, 20, log.count("connection lost"), &log.text)
		assert.Equal(t, 21, log.count("fleet: connected"))
	})
}

// A command waited for the client that was just being dialed, beyond Timeout, where the
// network held that up.
func TestNoCommandWaitsForADial(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		network := newMemoryProxy(t, s.connect)
		network.setFrozen(true)
		start := time.Now()
		f, err := Dial(t.Context(), network.options(), Config{Name: "test", Timeout: 100 * time.Millisecond})
		require.NoError(t, err)
		defer f.Close()
		assert.Equal(t, 100*time.Millisecond, time.Since(start))
		assert.ErrorIs(t, f.Rate("host", 1).lease(1), errNotDialed)
		assert.Equal(t, 100*time.Millisecond, time.Since(start))
		network.setFrozen(false)
		eventually(t, func() bool { return f.Snapshot().Connected }, "joined")
	})
}

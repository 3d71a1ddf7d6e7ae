package fleet

import (
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
			f, other := joined(t, s.addr(), Config{}), joined(t, s.addr(), Config{})
			gate, far := gatesOf(t, f, other)
			rate := f.Rate("host", 100)
			require.NoError(t, rate.Wait(t.Context()))

			c.away(s)
			eventually(t, func() bool { return !f.Snapshot().Connected && !other.Snapshot().Connected }, "seen to be away")
			start := time.Now()
			gate.Pause(time.Minute)
			assert.Less(t, time.Since(start), 100*time.Millisecond, "nothing blocks")
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
	f, other := joined(t, s.addr(), Config{}), joined(t, s.addr(), Config{})
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
	t.Parallel()
	s := realRedis(t)
	net := newProxy(t, s.addr())
	near := startProcesses(t, 10, s.addr())
	var far []*process
	for range 10 {
		far = append(far, startProcess(t, net.addr()))
	}
	for _, p := range far {
		eventually(t, func() bool { return p.ask("members") == "20" }, "all know of all")
	}
	net.setCut(true)
	for _, p := range far {
		eventually(t, func() bool { return p.ask("connected") == "false" }, "cut off")
	}
	near[0].tell("pause 60000")
	for _, p := range near {
		eventually(t, func() bool { return paused(p, 50*time.Second) }, "the near half knows")
	}
	far[0].tell("pause 120000")
	eventually(t, func() bool { return paused(far[0], 90*time.Second) }, "paused")
	assert.False(t, paused(far[1], 0))
	assert.False(t, paused(near[1], 90*time.Second))

	net.setCut(false)
	whole := time.Now()
	for _, p := range append(near, far...) {
		eventually(t, func() bool { return paused(p, 90*time.Second) }, "all know the longest")
	}
	t.Logf("all know %v after the network was whole", time.Since(whole))
	assert.Less(t, time.Since(whole), 5*time.Second)
}

func paused(p *process, atLeast time.Duration) bool {
	n, _ := strconv.Atoi(p.ask("left"))
	return time.Duration(n)*time.Millisecond > atLeast
}

// A member that missed a message asks when the next sign of life shows it.
func TestMissedMessage(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s.addr(), Config{})
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
	f, other := joined(t, s.addr(), Config{}), joined(t, s.addr(), Config{})
	gate := retry.NewGate(nil)
	require.NoError(t, f.Gate("host", gate))
	eventually(t, func() bool { return other.Snapshot().Members == 2 }, "two")
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	gate.Pause(time.Minute)
	assert.Equal(t, "-2", s.do("PTTL", "{retry:test}:pause:host"))
	eventually(t, func() bool { return other.Snapshot().Members == 1 }, "one")
}

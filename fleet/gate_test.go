package fleet

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// What one process learns, all know, soon, once, and each lets its first call
// go at a moment of its own.
func TestGateOfManyProcesses(t *testing.T) {
	s := realRedis(t)
	n := 20
	if large := os.Getenv("FLEET_PROCESSES"); large != "" { // to measure, on a quiet machine
		n, _ = strconv.Atoi(large)
	}
	all := startProcesses(t, n, s.addr())
	var soon []time.Duration
	for round := range 5 {
		all[round].tell(fmt.Sprintf("pause %d", 1000*(round+1)))
		begin := pausedAt(t, all[round], round)
		for i, p := range all {
			if i != round {
				soon = append(soon, time.Duration(pausedAt(t, p, round)[0]-begin[0]))
			}
		}
	}
	slices.Sort(soon)
	t.Logf("the others know after: median %v, 95 %% %v, last %v", soon[len(soon)/2], soon[len(soon)*95/100], soon[len(soon)-1])
	assert.Less(t, soon[len(soon)/2], 100*time.Millisecond, "far above the goal of 5ms: for machines that are busy")

	var untils []int64
	for _, p := range all {
		lines := p.find("paused")
		assert.LessOrEqual(t, len(lines), 6, "each pause is received once, and nothing comes back")
		untils = append(untils, pausedAt(t, p, 4)[1])
	}
	slices.Sort(untils)
	distinct := len(slices.CompactFunc(slices.Clone(untils), func(a, b int64) bool { return a/1e6 == b/1e6 }))
	assert.Greater(t, distinct, 10, "they do not let their first call go at once")
	assert.Less(t, time.Duration(untils[n-1]-untils[0]), time.Duration(n)*gateSpread+200*time.Millisecond)
	assert.Equal(t, "5", s.do("GET", "{retry:test}:seq"), "five messages in all")
}

// pausedAt is when the process was paused for the nth time, and until when.
func pausedAt(t *testing.T, p *process, n int) []int64 {
	var at [2]int64
	require.Eventually(t, func() bool { return len(p.find("paused")) > n }, 10*time.Second, time.Millisecond)
	fmt.Sscan(p.find("paused")[n], &at[0], &at[1])
	return at[:]
}

// A member that joins later learns of a pause, and one that was away when it is back.
func TestGateLateComer(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		first := joined(t, s, Config{})
		gate := retry.NewGate(nil)
		require.NoError(t, first.Gate("host", gate))
		gate.Pause(time.Minute)
		eventually(t, func() bool { return s.do("PTTL", "{retry:test}:pause:host") != "-2" }, "kept")

		late := retry.NewGate(nil)
		require.NoError(t, joined(t, s, Config{}).Gate("host", late))
		eventually(t, func() bool { return left(late) > 59*time.Second }, "learns of it")
		assert.Less(t, left(late), 61*time.Second)

		other := retry.NewGate(nil)
		require.NoError(t, first.Gate("other", other))
		assert.Zero(t, left(other))
	})
}

func left(g *retry.Gate) time.Duration {
	until, paused := g.PausedUntil()
	if !paused {
		return 0
	}
	return time.Until(until)
}

// The longest wins, a little longer is not worth a message, and never more than
// an hour is published.
func TestGateMerge(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		a, b := retry.NewGate(nil), retry.NewGate(nil)
		fa, fb := joined(t, s, Config{}), joined(t, s, Config{})
		require.NoError(t, fa.Gate("host", a))
		require.NoError(t, fb.Gate("host", b))
		eventually(t, func() bool { return fa.Snapshot().Members == 2 && fb.Snapshot().Members == 2 }, "two members")

		a.Pause(10 * time.Second)
		eventually(t, func() bool { return left(b) > 9*time.Second }, "learns of it")
		b.Pause(5 * time.Second)
		b.Pause(10*time.Second + 20*time.Millisecond)
		b.Pause(20 * time.Second)
		eventually(t, func() bool { return left(a) > 19*time.Second }, "longer")
		a.Pause(100 * time.Hour)
		eventually(t, func() bool { return left(b) > 59*time.Minute }, "an hour")
		assert.Less(t, left(b), time.Hour+time.Second)
		assert.Equal(t, "3", s.do("GET", "{retry:test}:seq"))
		assert.Greater(t, left(a), 99*time.Hour, "its own pause is its own")
	})
}

// Gates of one name in one process need no Redis to know of each other.
func TestGateWithinOneProcess(t *testing.T) {
	f, err := Dial(t.Context(), options("127.0.0.1:1"), Config{Name: "test", Timeout: 10 * time.Millisecond})
	require.NoError(t, err)
	defer f.Close()
	a, b := retry.NewGate(nil), retry.NewGate(nil)
	require.NoError(t, f.Gate("host", a))
	require.NoError(t, f.Gate("host", b))
	require.NoError(t, f.Gate("host", b), "twice is once")
	a.Pause(time.Minute)
	assert.InDelta(t, left(a).Seconds(), left(b).Seconds(), 0.1)
}

// refuse makes a call through the gate that the server refuses.
func refuse(g *retry.Gate, wait time.Duration) {
	retry.Run(context.Background(), retry.Config{Gate: g, MaxRetries: retry.NoRetries}, func(context.Context) error {
		return retry.RetryAfter(errDown, wait)
	})
}

// underWay begins a call, which the returned function has the server accept.
func underWay(t *testing.T, g *retry.Gate) (answer func()) {
	started, answered, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- retry.Run(t.Context(), retry.Config{Gate: g}, func(context.Context) error {
			close(started)
			<-answered
			return nil
		})
	}()
	<-started
	return func() {
		close(answered)
		require.NoError(t, <-ended)
	}
}

// A refusal that one process meets pauses the others, and no more than that: where a
// call that is under way is accepted, the pause is over. Once it held all to its end.
func TestGateRefusalYieldsToEvidence(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	well, idle, first, late := retry.NewGate(nil), retry.NewGate(nil), retry.NewGate(nil), retry.NewGate(nil)
	for _, gate := range []*retry.Gate{well, idle, first} {
		require.NoError(t, joined(t, s, Config{}).Gate("host", gate))
	}
	answer := underWay(t, well)
	refuse(first, time.Minute)
	for _, gate := range []*retry.Gate{well, idle} {
		eventually(t, func() bool { return left(gate) > 50*time.Second }, "paused")
	}
	answer()
	assert.Zero(t, left(well))
	assert.Greater(t, left(idle), 50*time.Second)
	assert.Equal(t, "1", s.do("EXISTS", "{retry:test}:refusal:host"))
	assert.Equal(t, "0", s.do("EXISTS", "{retry:test}:pause:host"))

	require.NoError(t, joined(t, s, Config{}).Gate("host", late))
	eventually(t, func() bool { return left(late) > 50*time.Second }, "those who join later are as well")
	assert.Equal(t, "1", s.do("GET", "{retry:test}:seq"), "one message, and no echo")
}

// A pause that code sets stands to its end in all processes, whatever evidence they
// have.
func TestGatePauseIsFirm(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	well, own := retry.NewGate(nil), retry.NewGate(nil)
	f, other := joined(t, s, Config{}), joined(t, s, Config{})
	require.NoError(t, f.Gate("host", well))
	require.NoError(t, other.Gate("host", own))
	answer := underWay(t, well)
	refuse(own, 10*time.Second)
	eventually(t, func() bool { return s.do("EXISTS", "{retry:test}:refusal:host") == "1" }, "a refusal")
	own.Pause(30 * time.Second)
	eventually(t, func() bool { return left(well) > 20*time.Second }, "paused")
	answer()
	assert.Greater(t, left(well), 20*time.Second)
	late := retry.NewGate(nil)
	answer = underWay(t, late)
	require.NoError(t, joined(t, s, Config{}).Gate("host", late))
	eventually(t, func() bool { return left(late) > 20*time.Second }, "and those who join later")
	answer()
	assert.Greater(t, left(late), 20*time.Second)
}

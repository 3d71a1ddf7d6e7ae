package fleet

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// now is the server's clock in ms.
func (s *server) now() int64 {
	now, err := strconv.ParseInt(s.do("EVAL", "local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000)", "0"), 10, 64)
	require.NoError(s.t, err)
	return now
}

// Whatever other software wrote where positions are stored, it counts as nothing, and is
// overwritten. A word there made each close fail, for ever: no breaker of the fleet
// learned that the dependency is back.
func TestWhatIsKeptOfTurnsIsRepaired(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s, patient)
	key := f.store.key("turn", "host")
	for _, spoil := range []string{
		"SET %s x", "SET %s nan", "SET %s -nan", "SET %s inf", "SET %s -inf", "SET %s 1e300", "SET %s 1e15", "SET %s -1",
		"SET %s 0x7f", "SET %s 1.5", "RPUSH %s 1", "HSET %s 1 1",
	} {
		spoiled := func() {
			s.do("DEL", key)
			s.do(strings.Fields(strings.ReplaceAll(spoil, "%s", key))...)
		}
		spoiled()
		answer, err := f.run(positionScript, 1, []string{key}, []string{"100", "5000"})
		require.NoError(t, err, spoil)
		wait, err := answer.int(0, 0, 1e9)
		require.NoError(t, err)
		assert.Zero(t, wait, spoil)
		answer, err = f.run(positionScript, 1, []string{key}, []string{"100", "5000"})
		require.NoError(t, err)
		wait, err = answer.int(0, 0, 1e9)
		require.NoError(t, err)
		assert.InDelta(t, 100, wait, 100, "%s: the next is after it", spoil)

		spoiled()
		s.do("HSET", f.store.key("episode", "host"), "id", "e")
		_, err = f.run(closeScript, 1, []string{f.store.key("findings", "host"), f.store.key("episode", "host"), f.store.key("seq"), key},
			[]string{f.id, "-", "host", f.store.channel(), "100", "5000"})
		require.NoError(t, err, spoil)
		assert.Equal(t, "0", s.do("EXISTS", f.store.key("episode", "host")), spoil)

		s.do("DEL", key)
		s.do(strings.Fields(strings.ReplaceAll(spoil, "%s", key))...)
		answer, err = f.run(leaseScript, 4, []string{key, f.store.key("demand", "host"), f.store.key("rate", "host")}, []string{f.id, "100", "1", "500", "120000"})
		require.NoError(t, err, spoil)
		given, err := answer.int(0, 0, 1e9)
		require.NoError(t, err)
		assert.EqualValues(t, 1, given, spoil)
	}
}

// A server that hung runs all late that it received meanwhile: a close, again and
// again. Each took as many positions again, and those that came to close within minutes
// found them all taken.
func TestCloseToldTwiceTakesNoMoreTurns(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s, patient)
	key := f.store.key("turn", "host")
	for range 50 {
		_, err := f.run(closeScript, 1, []string{f.store.key("findings", "host"), f.store.key("episode", "host"), f.store.key("seq"), key},
			[]string{f.id, "-", "host", f.store.channel(), "4000", "5000"})
		require.NoError(t, err)
	}
	left, err := strconv.Atoi(s.do("PTTL", key))
	require.NoError(t, err)
	assert.LessOrEqual(t, left, 10_000)
}

// waits has calls wait for a breaker, and returns where they end.
func waits(t *testing.T, b *retry.CircuitBreaker, calls int) chan error {
	finished := make(chan error, calls)
	for range calls {
		go func() {
			finished <- retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, func(context.Context) error { return nil })
		}()
	}
	eventually(t, func() bool { return b.Waiting() == calls }, "all wait")
	return finished
}

// A breaker that was forced open does not close with the others, and one that has
// opened again does not either: they took positions nevertheless, in which no call went.
func TestNoTurnForWhoDoesNotClose(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s, patient)
	forced, again := breaker(t, retry.BreakerConfig{}), breaker(t, retry.BreakerConfig{})
	require.NoError(t, f.Breaker("forced", forced))
	require.NoError(t, f.Breaker("again", again))
	forced.ForceOpen()
	again.Trip(time.Hour)
	all := []chan error{waits(t, forced, 3), waits(t, again, 3)}
	for _, shared := range f.allBreakers() {
		shared.mu.Lock()
		shared.position = true // and not asked for yet
		shared.mu.Unlock()
		if shared.name == "again" {
			shared.opened(time.Hour, "e", "another")
		} else {
			shared.closed("another")
		}
		require.NoError(t, shared.send())
	}
	assert.Equal(t, "0", s.do("EXISTS", f.store.key("turn", "forced"), f.store.key("turn", "again")))
	assert.Equal(t, retry.StateOpen, forced.State())
	assert.Equal(t, retry.StateOpen, again.State())
	forced.Reset()
	again.Reset()
	for _, finished := range all {
		for range 3 {
			passed(t, finished)
		}
	}
}

// Thousands wait: their turns are longer than an open time, which is all that the
// others wait for them.
func TestTurnOfThousands(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		cfg := Config{OpenTime: time.Second}
		one, two := joined(t, s, cfg), joined(t, s, cfg)
		many, few := breaker(t, retry.BreakerConfig{}), breaker(t, retry.BreakerConfig{})
		require.NoError(t, one.Breaker("host", many))
		require.NoError(t, two.Breaker("host", few))
		many.Trip(time.Hour)
		few.Trip(time.Hour)
		crowd, alone := waits(t, many, 3000), waits(t, few, 1)
		for _, f := range []*Fleet{one, two} { // both are open, and so agree
			shared := f.allBreakers()[0]
			eventually(t, func() bool {
				shared.mu.Lock()
				defer shared.mu.Unlock()
				return shared.episode != ""
			}, "open for the fleet")
		}
		start := time.Now()
		_, err := one.run(closeScript, 1, []string{one.store.key("findings", "host"), one.store.key("episode", "host"), one.store.key("seq"), one.store.key("turn", "host")},
			[]string{"another", "-", "host", one.store.channel(), "0", "1000"})
		require.NoError(t, err)
		passed(t, crowd)
		passed(t, alone)
		assert.Less(t, time.Since(start), 6*time.Second)
	})
}

func passed(t *testing.T, finished <-chan error) {
	t.Helper()
	select {
	case err := <-finished:
		require.NoError(t, err)
	case <-time.After(15 * time.Second):
		require.Fail(t, "still waits")
	}
}

// A fleet is closed while its breakers wait for their turn, and Redis hangs: that
// takes no longer than an answer, leaves no goroutine behind, and the breakers are
// this process's own, which close when their time has come.
func TestCloseWhileTurnsArePending(t *testing.T) {
	s := realRedis(t)
	before := runtime.NumGoroutine()
	f, err := Dial(t.Context(), options(s.addr()), Config{Name: "test"})
	require.NoError(t, err)
	eventually(t, func() bool { return f.Snapshot().Connected }, "connected")
	var all []chan error
	for range 20 {
		b := breaker(t, retry.BreakerConfig{})
		require.NoError(t, f.Breaker("host", b))
		b.Trip(3 * time.Second)
		all = append(all, waits(t, b, 1))
	}
	s.signal(syscall.SIGSTOP)
	for _, s := range f.allBreakers() {
		s.closed("another")
	}
	start := time.Now()
	require.NoError(t, f.Close())
	assert.Less(t, time.Since(start), 4*time.Second)
	for _, finished := range all {
		passed(t, finished)
	}
	goroutinesEnd(t, before)
	s.signal(syscall.SIGCONT)
}

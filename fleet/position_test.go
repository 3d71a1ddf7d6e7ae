package fleet

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// Where calls wait in many processes, all breakers once closed within a few
// milliseconds, and each let a call go every 5ms: too many for a server that had
// just come back. They go as those of one process do.
func TestBreakerWaitersTakeTurns(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		const members, calls = 10, 20
		breakers := make([]*retry.CircuitBreaker, members)
		for i := range breakers {
			breakers[i] = breaker(t, retry.BreakerConfig{RecoveryTimeout: time.Second})
			f := joined(t, s, Config{})
			require.NoError(t, f.Breaker("host", breakers[i]))
			if i == members-1 {
				eventually(t, func() bool { return f.Snapshot().Members == members }, "all are members")
			}
		}
		call(breakers[0], 5, errDown)
		call(breakers[1], 5, errDown)
		for _, b := range breakers {
			eventually(t, in(b, retry.StateOpen), "open")
		}
		var mu sync.Mutex
		var went []time.Time
		var all sync.WaitGroup
		for _, b := range breakers {
			for range calls {
				all.Go(func() {
					retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, func(context.Context) error {
						mu.Lock()
						defer mu.Unlock()
						went = append(went, time.Now())
						return nil
					})
				})
			}
		}
		all.Wait()
		require.Len(t, went, members*calls)
		slices.SortFunc(went, time.Time.Compare)
		took := went[len(went)-1].Sub(went[0])
		most := 0 // in 100ms, in which one process lets 20 go
		for i, from := range went {
			n, _ := slices.BinarySearchFunc(went[i:], from.Add(100*time.Millisecond), time.Time.Compare)
			most = max(most, n)
		}
		t.Logf("%d calls in %v, at most %d in 100ms", len(went), took, most)
		assert.Greater(t, took, 700*time.Millisecond, "one after the other they take a second; all processes at once, a tenth of it")
		assert.LessOrEqual(t, most, 80)
	})
}

// What was found before a close is out of date. Breakers that had opened by
// themselves reported so again when they were to close, and so opened all again.
func TestBreakerLateFindings(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, f := three(t, s, Config{}, retry.BreakerConfig{RecoveryTimeout: time.Second})
		call(b[0], 5, errDown)
		call(b[1], 5, errDown)
		eventually(t, in(b[2], retry.StateOpen), "open")
		for _, bad := range b[:2] { // their own open time begins again
			eventually(t, in(bad, retry.StateHalfOpen), "half-open")
			call(bad, 1, errDown)
		}
		eventually(t, in(b[2], retry.StateHalfOpen), "half-open")
		call(b[2], 1, nil)
		for i := range b {
			eventually(t, in(b[i], retry.StateClosed), "closed: "+strconv.Itoa(i))
		}
		trips := f[2].Snapshot().Trips
		assert.Never(t, func() bool {
			return slices.ContainsFunc(b[:], func(b *retry.CircuitBreaker) bool { return b.State() != retry.StateClosed })
		}, 300*time.Millisecond, time.Millisecond)
		assert.Equal(t, trips, f[2].Snapshot().Trips)
		assert.Equal(t, "0", s.do("EXISTS", "{retry:test}:findings:host", "{retry:test}:episode:host"))
	})
}

// A finding that was on its way when all closed is taken back.
func TestBreakerFindingCrossesClose(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s, Config{})
	b := breaker(t, retry.BreakerConfig{})
	require.NoError(t, f.Breaker("host", b))
	shared := f.allBreakers()[0]
	shared.mu.Lock()
	shared.closedAt = time.Now().Add(time.Minute) // it will have come in meanwhile
	shared.mu.Unlock()
	call(b, 5, errDown)
	eventually(t, func() bool { return f.Snapshot().Sent > 0 }, "learns of it")
	eventually(t, func() bool { return s.do("EXISTS", "{retry:test}:findings:host") == "0" }, "taken back")
}

// After a failed probe the others do not wait for an open time as long as that of
// the process that made it.
func TestBreakerProbesFollow(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, f := three(t, s, Config{}, retry.BreakerConfig{RecoveryTimeout: 2 * time.Second})
		call(b[0], 5, errDown)
		call(b[1], 5, errDown)
		eventually(t, in(b[2], retry.StateOpen), "open")
		eventually(t, in(b[0], retry.StateHalfOpen), "half-open")
		before := f[2].Snapshot().Received
		call(b[0], 1, errDown)
		failed := time.Now()
		eventually(t, func() bool { return f[2].Snapshot().Received > before }, "learns of it")
		eventually(t, in(b[2], retry.StateHalfOpen), "half-open")
		assert.Less(t, time.Since(failed), 1500*time.Millisecond)
		assert.Equal(t, retry.StateOpen, b[0].State(), "whose probe failed waits as long as by itself")
	})
}

// All breakers of a name are closed, those in the process of the probe too.
func TestBreakerTwoInAProcess(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		b, f := three(t, s, Config{}, retry.BreakerConfig{RecoveryTimeout: 500 * time.Millisecond})
		second := breaker(t, retry.BreakerConfig{})
		require.NoError(t, f[0].Breaker("host", second))
		call(b[0], 5, errDown)
		call(b[1], 5, errDown)
		eventually(t, in(second, retry.StateOpen), "open")
		second.Trip(time.Minute)
		eventually(t, in(b[0], retry.StateHalfOpen), "half-open")
		call(b[0], 1, nil)
		eventually(t, in(second, retry.StateClosed), "closed")
		assert.Equal(t, retry.StateClosed, b[0].State())
	})
}

// Without an answer, and where all turns are taken, a random moment stands for a
// turn.
func TestBreakerWithoutATurn(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(s *server){
		"hung": func(s *server) { s.signal(syscall.SIGSTOP) },
		"taken": func(s *server) {
			s.do("SET", "{retry:test}:turn:host", strconv.FormatInt(s.now()+3.6e6, 10), "PX", "3600000")
		},
		"wrong": func(s *server) { s.do("CONFIG", "SET", "maxmemory", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := realRedis(t)
			f := joined(t, s, Config{})
			b := breaker(t, retry.BreakerConfig{})
			require.NoError(t, f.Breaker("host", b))
			b.Trip(time.Hour)
			finished := make(chan error, 1)
			go func() {
				finished <- retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, func(context.Context) error { return nil })
			}()
			eventually(t, func() bool { return b.Waiting() == 1 }, "waits")
			spoil(s)
			f.allBreakers()[0].closed("another")
			eventually(t, in(b, retry.StateClosed), "closed")
			require.NoError(t, <-finished)
		})
	}
}

// A process whose own open time is over before its turn does not probe: its
// success would let all go that wait there.
func TestBreakerHeldUntilItsTurn(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		f := joined(t, s, Config{Timeout: 10 * time.Second})
		b := breaker(t, retry.BreakerConfig{})
		require.NoError(t, f.Breaker("host", b))
		start := time.Now()
		b.Trip(time.Second)
		finished := make(chan time.Time, 1)
		go func() {
			retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, func(context.Context) error { return nil })
			finished <- time.Now()
		}()
		eventually(t, func() bool { return b.Waiting() == 1 }, "waits")
		s.do("SET", "{retry:test}:turn:host", strconv.FormatInt(s.now()+2500, 10), "PX", "2500")
		f.allBreakers()[0].closed("another")
		took := (<-finished).Sub(start)
		assert.Greater(t, took, 2*time.Second)
		assert.Less(t, took, 9*time.Second, "its turn, and not the moment that stands for one")
	})
}

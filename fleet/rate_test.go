package fleet

import (
	"context"
	"slices"
	"strconv"
	"strings"
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

// The sum stays below the rate, whoever has the work; when one of 16 has it all,
// it gets nearly all of it.
func TestRateOfManyProcesses(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	const perSecond = 50
	all := startProcesses(t, 16, s.addr(), "FLEET_RATE="+strconv.Itoa(perSecond))
	all[3].tell("work 8")
	time.Sleep(time.Second)
	begin := len(times(all))
	start := time.Now()
	time.Sleep(3 * time.Second)
	alone := float64(len(times(all))-begin) / time.Since(start).Seconds() / perSecond
	for _, p := range all {
		p.tell("work 8")
	}
	time.Sleep(7 * time.Second)
	at := times(all)
	t.Logf("one of 16 uses %.1f %%; %d of %d at most in any 10 s", 100*alone, most(at, 10*time.Second), 10*perSecond)
	assert.Greater(t, alone, 0.9)
	assert.LessOrEqual(t, most(at, 10*time.Second), 10*perSecond*105/100)
	together := most(at, 3*time.Second)
	assert.Greater(t, together, 3*perSecond*90/100, "together they use it as well")

	served := 0
	for _, p := range all {
		if len(times([]*process{p})) > 5 {
			served++
		}
	}
	assert.Equal(t, 16, served, "nobody goes empty")
}

// A low rate is kept to the letter, and an idle member asks nothing.
func TestRateLow(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s.addr(), Config{})
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
	before := f.Snapshot().Commands
	time.Sleep(time.Second)
	assert.LessOrEqual(t, f.Snapshot().Commands-before, uint64(4), "beats, and no lease")
}

// A busy rate costs a lease now and then, and not a command per call.
func TestRateCommands(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s.addr(), Config{})
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
}

func TestRateWaitEnds(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s.addr(), Config{})
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

package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// In an outage a fleet of 1,000 processes that each had a budget made a thousand
// times its burst, and a thousand retries a minute. Shared, both are the fleet's.
func TestBudgetIsTheFleets(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		const burst = 5
		budgets, members := make([]*retry.Budget, 20), make([]*Fleet, 20)
		for i := range budgets {
			members[i] = joined(t, s, Config{})
			b, err := members[i].Budget("host", 0.1, burst)
			require.NoError(t, err)
			budgets[i] = b
		}
		key := "{retry:test}:saved:host"
		eventually(t, func() bool { return s.do("PTTL", key) != "-2" }, "asked for")
		withdrawn := 0
		withdraw := func() bool {
			for _, b := range budgets {
				if b.Withdraw() {
					withdrawn++
				}
			}
			return withdrawn >= burst
		}
		eventually(t, withdraw, "the burst")
		eventually(t, func() bool { // else one of them might get what is granted below
			return !slices.ContainsFunc(members, func(f *Fleet) bool { return f.asksWithin(10 * time.Second) })
		}, "all know that it is used up")

		f := joined(t, s, Config{})
		grant := func() (granted int64) {
			got, err := f.run(budgetScript, 2, []string{key}, []string{itoa(burst), ms(accrualTime)})
			require.NoError(t, err)
			granted, err = got.int(0, 0, 1)
			require.NoError(t, err)
			return granted
		}
		assert.Zero(t, grant(), "it is used up")
		withdraw()
		assert.Equal(t, burst, withdrawn, "one burst for all")
		s.do("DECRBY", key, "60000") // as a minute later
		assert.EqualValues(t, 1, grant())
		assert.Zero(t, grant(), "one a minute")

		// The ratio is that of each process's own calls.
		for range 10 {
			budgets[0].Deposit()
		}
		assert.True(t, budgets[0].Withdraw())
		assert.False(t, budgets[0].Withdraw())
	})
}

// A retry of the fleet's is there before the first call that fails, so that a job
// which runs once an hour has one.
func TestBudgetHasOneInAdvance(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		f := joined(t, s, Config{})
		for name, ratio := range map[string]float64{"some": 0.1, "none": 0} {
			b, err := f.Budget(name, ratio, 1)
			require.NoError(t, err)
			eventually(t, func() bool { return b.Balance() >= 1 }, name)
			assert.True(t, b.Withdraw())
			assert.False(t, b.Withdraw())
		}
	})
}

// Without Redis a budget has what its calls deposit, and the fleet's when that is
// back.
func TestBudgetWithoutRedis(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	s.stop()
	f, err := Dial(t.Context(), options(s.addr()), Config{Name: "test", Timeout: patient.Timeout})
	require.NoError(t, err)
	defer f.Close()
	b, err := f.Budget("host", 0.5, 3)
	require.NoError(t, err)
	assert.False(t, b.Withdraw())
	b.Deposit()
	b.Deposit()
	assert.True(t, b.Withdraw())
	s.start()
	eventually(t, func() bool { return b.Balance() >= 1 }, "the fleet's")
	require.NoError(t, f.Close())
	assert.True(t, b.Withdraw())
	b.Deposit()
	b.Deposit()
	assert.True(t, b.Withdraw(), "closed, it is this process's own")
}

// What is stored of a budget is repaired, and processes that name different bursts
// do not give each other theirs.
func TestBudgetIsRepaired(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s, patient)
	key := f.store.key("saved", "host")
	for _, spoil := range []string{"word", "-1", "nan", "-inf", "1.5", "", "inf", "9e15", "99999999999999"} {
		s.do("SET", key, spoil)
		got, err := f.run(budgetScript, 2, []string{key}, []string{"1", "60000"})
		require.NoError(t, err, spoil)
		granted, err := got.int(0, 0, 1)
		require.NoError(t, err)
		assert.EqualValues(t, 1, granted, spoil)
	}
	for _, spoil := range []string{"inf", "9e15", "99999999999999"} { // of another clock: empty, as long as it is there
		s.do("SET", key, spoil, "PX", "60000")
		got, err := f.run(budgetScript, 2, []string{key}, []string{"1", "60000"})
		require.NoError(t, err, spoil)
		wait, err := got.int(1, 0, 60_000)
		require.NoError(t, err, spoil)
		assert.EqualValues(t, 60_000, wait, spoil)
	}

	s.do("DEL", key)
	granted := 0
	for range 10 {
		for _, burst := range []string{"1", "4"} {
			got, err := f.run(budgetScript, 2, []string{key}, []string{burst, "60000"})
			require.NoError(t, err)
			n, err := got.int(0, 0, 1)
			require.NoError(t, err)
			granted += int(n)
		}
	}
	assert.Equal(t, 4, granted)
}

func TestBudgetInvalid(t *testing.T) {
	f, err := Dial(t.Context(), options("127.0.0.1:1"), Config{Name: "test", Timeout: 10 * time.Millisecond})
	require.NoError(t, err)
	defer f.Close()
	b, err := f.Budget("https://x:443", 0.1, 2)
	require.NoError(t, err)
	same, err := f.Budget("https://x", 0.1, 2)
	require.NoError(t, err)
	assert.Same(t, b, same)
	assert.Equal(t, 1, f.Snapshot().Budgets)
	for _, c := range []struct {
		name  string
		ratio float64
		burst int
	}{{"", 0.1, 1}, {"a b", 0.1, 1}, {"host", -1, 1}, {"host", 0.1, -1}, {"https://x", 0.2, 2}, {"https://x", 0.1, 3}} {
		_, err := f.Budget(c.name, c.ratio, c.burst)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	}
}

// asksWithin reports whether f asks for a retry of a budget so soon.
func (f *Fleet) asksWithin(d time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.budgets {
		s.mu.Lock()
		next := s.ask
		s.mu.Unlock()
		if time.Until(next) < d {
			return true
		}
	}
	return false
}

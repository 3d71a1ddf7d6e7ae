package fleet

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/retryutils/retry"
)

// Budget returns a retry budget of this process, for [retry.Config.Budget], whose
// burst and whose retry a minute belong to the whole fleet: together 1,000 processes
// have ratio retries for each call, burst at once, and one a minute. With
// [retry.NewBudget] they would have a thousand times the latter two.
//
// Calls deposit and withdraw in memory, one retry is saved up at most, and what the
// fleet has saved is asked for in the background, whenever this process has none.
// Without Redis, and after [Fleet.Close], the ratio is all that there is. The error
// is that of a wrong name, ratio or burst, or of others for a name of this process.
func (f *Fleet) Budget(name string, ratio float64, burst int) (*retry.Budget, error) {
	shared, err := nameOf("budget", name)
	if err != nil {
		return nil, err
	}
	if _, err := retry.NewBudget(ratio, burst); err != nil {
		return nil, invalid("budget %q: %w", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.budgets[shared]; known != nil {
		if known.ratio != ratio || known.burst != burst {
			return nil, invalid("budget %q has ratio %v and burst %d already, want the same and not %v and %d",
				name, known.ratio, known.burst, ratio, burst)
		}
		return known.budget, nil
	}
	budget, err := retry.NewBudget(cmp.Or(ratio, 1e-9), 0) // with a ratio of 0 it would take nothing from the fleet
	if err != nil {
		return nil, err
	}
	f.budgets[shared] = &sharedBudget{fleet: f, name: shared, ratio: ratio, burst: burst, budget: budget}
	f.sendDue.give()
	return budget, nil
}

// sharedBudget is a budget of this process, which has what calls deposit, and one
// retry at a time of those that the fleet has saved up.
type sharedBudget struct {
	fleet  *Fleet
	name   string
	ratio  float64
	burst  int
	budget *retry.Budget

	mu  sync.Mutex
	ask time.Time // not before
}

const accrualTime = time.Minute // in which the fleet earns a retry

func (s *sharedBudget) due() (urgent, question bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return false, s.burst > 0 && s.budget.Balance() < 1 && !time.Now().Before(s.ask)
}

func (s *sharedBudget) send() error {
	f := s.fleet
	got, err := f.run(budgetScript, 2, []string{f.store.key("saved", s.name)}, []string{itoa(s.burst), ms(accrualTime)})
	var granted, next int64
	if err == nil {
		var errs [2]error
		granted, errs[0] = got.int(0, 0, 1)
		next, errs[1] = got.int(1, 0, accrualTime.Milliseconds())
		err = errors.Join(errs[:]...)
	}
	wait := beatEvery
	if err == nil {
		wait = time.Duration(next) * time.Millisecond
	}
	s.mu.Lock()
	s.ask = time.Now().Add(wait + rand.N(beatEvery+wait/4)) // not all processes at once
	s.mu.Unlock()
	if granted == 1 {
		s.budget.Refund()
	}
	return err
}

// lookAtBudgets has a retry asked for where a budget has none.
func (f *Fleet) lookAtBudgets() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.budgets {
		if _, question := s.due(); question {
			f.sendDue.give()
			return
		}
	}
}

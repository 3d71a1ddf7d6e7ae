package hedge

import (
	"sync/atomic"
	"time"

	"github.com/retryutils/retry"
)

// address is what counts as one host.
type address struct{ scheme, host string }

// target is what is known of a host, or of the functions of Do.
type target struct {
	times times
	// worth is earned by hedges that win. The budget bounds what they cost, and does not
	// see whether they help: at a server with a queue that grows, 5 % more requests are
	// 5 % of its capacity more each second, and none of them is answered any sooner.
	worth *retry.Budget
	used  atomic.Int64 // when, by its clock
}

const (
	worthBurst   = 20     // hedges that need not win
	worthReserve = 10     // of these, for calls that have been late for a while
	worthRatio   = 0.0005 // of the calls find out whether hedges win
)

func newTarget(quantile float64) (*target, error) {
	worth, err := retry.NewBudget(worthRatio, worthBurst)
	if err != nil {
		return nil, err
	}
	t := &target{worth: worth}
	t.times.init(quantile)
	return t, nil
}

// maxHosts is how many hosts times are learned of; what is known of one takes 8 KB.
const maxHosts = 256

// target returns what is known of a host. Of more than maxHosts, the one that was not used
// for longest is forgotten.
func (h *Hedge) target(a address, now time.Time) *target {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.hosts[a]
	if t == nil {
		if len(h.hosts) >= maxHosts {
			var oldest address
			var since int64
			for a, t := range h.hosts {
				if at := t.used.Load(); oldest.host == "" || at < since {
					oldest, since = a, at
				}
			}
			delete(h.hosts, oldest)
		}
		t, _ = newTarget(h.cfg.Quantile) // valid, since New has made one
		h.hosts[a] = t
	}
	t.used.Store(now.UnixNano())
	return t
}

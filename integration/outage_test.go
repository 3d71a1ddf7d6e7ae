package integration

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// outage is twenty goroutines at work through Do with one breaker, while their
// server is stopped and started. Each piece of work is done or reported, the
// breaker opens and closes once, and all is well again within one open time.
type outage struct {
	server   *process
	stop     syscall.Signal
	breaker  retry.BreakerConfig
	openTime time.Duration
	retryIf  func(error) bool
	enough   int64 // pieces of work before and after
	work     func(ctx context.Context, id int64) error

	mu      sync.Mutex
	changes []retry.StateChange

	next, done, reported atomic.Int64
	over                 atomic.Bool
}

func (o *outage) note(c retry.StateChange) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes = append(o.changes, c)
}

func (o *outage) count(to retry.State) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.changes {
		if c.To == to {
			n++
		}
	}
	return n
}

func (o *outage) config(t *testing.T) retry.Config {
	o.breaker.RecoveryTimeout, o.breaker.OnStateChange = o.openTime, o.note
	breaker, err := retry.NewCircuitBreaker(o.breaker)
	require.NoError(t, err)
	return retry.Config{
		Name: o.breaker.Name, Breaker: breaker, WaitWhenOpen: true, InitialDelay: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond,
		MaxRetries: 1000, AttemptTimeout: 2 * time.Second, MaxElapsed: time.Minute, RetryIf: o.retryIf,
	}
}

func (o *outage) worker(t *testing.T, cfg retry.Config) {
	for !o.over.Load() {
		id := o.next.Add(1)
		if err := retry.Run(t.Context(), cfg, func(ctx context.Context) error { return o.work(ctx, id) }); err != nil {
			o.reported.Add(1)
			t.Logf("%d: %v", id, err)
			continue
		}
		o.done.Add(1)
	}
}

// await waits until so much more is done.
func (o *outage) await(t *testing.T, n int64) {
	t.Helper()
	goal := o.done.Load() + n
	require.Eventually(t, func() bool { return o.done.Load() >= goal }, 30*time.Second, time.Millisecond)
}

// run returns how much was done.
func (o *outage) run(t *testing.T) int64 {
	t.Helper()
	cfg := o.config(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { o.worker(t, cfg) })
	}
	o.await(t, o.enough)
	o.server.stop(o.stop)
	require.Eventually(t, func() bool { return o.count(retry.StateOpen) > 0 }, 30*time.Second, time.Millisecond)
	o.server.start()
	up := time.Now()
	o.await(t, 20)
	recovered := time.Since(up)
	o.await(t, o.enough)
	o.over.Store(true)
	wg.Wait()
	assert.Equal(t, o.next.Load(), o.done.Load()+o.reported.Load())
	assert.Zero(t, o.reported.Load())
	assert.Equal(t, 1, o.count(retry.StateClosed), "%v", o.changes)
	assert.Less(t, recovered, o.openTime+500*time.Millisecond, "one open time, and what a busy machine adds")
	t.Logf("%d done, well again %v after the server", o.done.Load(), recovered.Round(time.Millisecond))
	return o.done.Load()
}

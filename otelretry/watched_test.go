package otelretry_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
)

// The state is there before the first change, and its number moves with it.
func TestBreakerIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "b", FailureThreshold: 1, RecoveryTimeout: time.Minute})
		require.NoError(t, err)
		require.NoError(t, otelretry.ObserveBreaker(b, p.opts...))
		require.NoError(t, otelretry.ObserveBreaker(b, p.opts...))
		p.instrument(retry.Config{Name: "x", Breaker: b}) // once more: it is still one breaker
		states := func(closed, open, half float64) {
			t.Helper()
			got := p.metrics()
			assert.Equal(t, []float64{closed, open, half}, []float64{
				got["retry.breaker.state{b,closed}"], got["retry.breaker.state{b,open}"], got["retry.breaker.state{b,half_open}"],
			})
			assert.Contains(t, got, "retry.breaker.state{b,open}")
		}
		states(1, 0, 0)
		fail := func(context.Context) error { return errFault }
		for range 4 {
			_ = b.Do(context.Background(), fail)
		}
		states(0, 1, 0)
		assert.Equal(t, 3.0, p.metrics()["retry.breaker.rejections{b}"])
		time.Sleep(time.Minute)
		states(0, 0, 1)
		require.NoError(t, b.Do(context.Background(), failing(0, nil)))
		states(1, 0, 0)
		got := p.metrics()
		assert.Equal(t, 1.0, got["retry.breaker.changes{b,open}"])
		assert.Equal(t, 1.0, got["retry.breaker.changes{b,half_open}"])
		assert.Equal(t, 1.0, got["retry.breaker.changes{b,closed}"])
		assert.Equal(t, 3.0, got["retry.breaker.rejections{b}"], "a change of state takes nothing away")
	})
}

// A pause that is lengthened is one pause, and its time counts once.
func TestGateIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		g := retry.NewGate(nil)
		g.Pause(time.Second) // before anybody looked
		require.NoError(t, otelretry.ObserveGate("g", g, p.opts...))
		check := func(pauses, paused, left float64) {
			t.Helper()
			got := p.metrics()
			assert.Equal(t, pauses, got["retry.gate.pauses{g}"])
			assert.InDelta(t, paused, got["retry.gate.pause.duration{g}"], 1e-9)
			assert.InDelta(t, left, got["retry.gate.pause.remaining{g}"], 1e-9)
			assert.Contains(t, got, "retry.gate.pause.remaining{g}")
		}
		check(1, 0, 1)
		time.Sleep(500 * time.Millisecond)
		g.Pause(2 * time.Second)
		check(1, 0.5, 2)
		g.Pause(time.Second) // shorter: nothing
		time.Sleep(10 * time.Second)
		check(1, 2.5, 0)
		g.Pause(time.Second)
		time.Sleep(time.Second)
		check(2, 3.5, 0)
	})
}

// A pace is there while a gate limits calls, and the slowest of its name is shown.
func TestGatePaceIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		once, again := retry.NewGate(nil), retry.NewGate(nil)
		require.NoError(t, otelretry.ObserveGate("g", once, p.opts...))
		require.NoError(t, otelretry.ObserveGate("g", again, p.opts...))
		assert.NotContains(t, p.metrics(), "retry.gate.pace{g}")
		for i := range 60 { // every other call is refused
			_ = retry.Run(context.Background(), retry.Config{Gate: again, MaxRetries: retry.NoRetries}, func(context.Context) error {
				time.Sleep(20 * time.Millisecond)
				if i%2 == 0 {
					return retry.RetryAfter(errFault, 100*time.Millisecond)
				}
				return nil
			})
		}
		slow, paced := again.Pace()
		require.True(t, paced)
		once.Pause(time.Second)
		fast, _ := once.Pace()
		require.Less(t, slow, fast)
		assert.Equal(t, slow, p.metrics()["retry.gate.pace{g}"])
		time.Sleep(time.Hour)
		assert.NotContains(t, p.metrics(), "retry.gate.pace{g}", "no call is held back any more")
	})
}

func TestBudgetIsObserved(t *testing.T) {
	p := newProbe(t)
	b, err := retry.NewBudget(0.5, 2)
	require.NoError(t, err)
	require.NoError(t, otelretry.ObserveBudget("b", b, p.opts...))
	assert.Equal(t, 2.0, p.metrics()["retry.budget.balance{b}"])
	cfg := retry.Config{Budget: b, InitialDelay: time.Nanosecond}
	require.ErrorIs(t, retry.Run(context.Background(), cfg, failing(9, errFault)), retry.ErrBudgetExhausted)
	got := p.metrics()
	assert.Equal(t, 0.0, got["retry.budget.balance{b}"])
	assert.Equal(t, 1.0, got["retry.budget.refusals{b}"])
}

// Clients forget hosts: what was observed of them is released, and what they
// counted stays counted.
func TestObservedIsNotKept(t *testing.T) {
	p := newProbe(t)
	freed := make(chan struct{})
	func() {
		b, _ := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "b"})
		require.NoError(t, otelretry.ObserveBreaker(b, p.opts...))
		b.ForceOpen()
		_, _ = b.Allow()
		assert.Equal(t, 1.0, p.metrics()["retry.breaker.rejections{b}"])
		runtime.AddCleanup(b, func(c chan struct{}) { close(c) }, freed)
	}()
	for gone := false; !gone; {
		runtime.GC()
		select {
		case <-freed:
			gone = true
		default:
			runtime.Gosched()
		}
	}
	got := p.metrics()
	assert.Equal(t, 1.0, got["retry.breaker.rejections{b}"])
	assert.NotContains(t, got, "retry.breaker.state{b,open}")
}

// Two breakers of one name, of two clients of a host, hide nothing of each other.
func TestSameNameAddsUp(t *testing.T) {
	p := newProbe(t)
	var breakers [2]*retry.CircuitBreaker
	for i := range breakers {
		breakers[i], _ = retry.NewCircuitBreaker(retry.BreakerConfig{Name: "b"})
		require.NoError(t, otelretry.ObserveBreaker(breakers[i], p.opts...))
	}
	breakers[0].ForceOpen()
	got := p.metrics()
	assert.Equal(t, 1.0, got["retry.breaker.state{b,open}"])
	assert.Equal(t, 1.0, got["retry.breaker.state{b,closed}"])
	runtime.KeepAlive(breakers)
}

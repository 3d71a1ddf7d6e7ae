package retry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// ledger is a listener that records the changes, and takes its time.
type ledger struct {
	mu      sync.Mutex
	changes []retry.StateChange
	busy    bool
	takes   time.Duration
}

func (l *ledger) note(t *testing.T, change retry.StateChange) {
	l.mu.Lock()
	assert.False(t, l.busy, "one at a time")
	l.busy = true
	l.changes = append(l.changes, change)
	l.mu.Unlock()
	time.Sleep(l.takes)
	l.mu.Lock()
	l.busy = false
	l.mu.Unlock()
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.changes)
}

// inOrder checks that each change follows from the one before.
func (l *ledger) inOrder(t *testing.T) {
	t.Helper()
	state := retry.StateClosed
	for n, change := range l.changes {
		require.Equal(t, state, change.From, n)
		state = change.To
	}
}

// A change waited for up to 5s until the listeners were through with the one before, so
// that a slow listener delayed every call that changed the state. No call waits for
// another one's change now: the goroutine that is delivering goes on with it.
func TestSlowListenerDelaysOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{takes: time.Second}
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: time.Millisecond,
			OnStateChange: func(s retry.StateChange) { l.note(t, s) }})
		require.NoError(t, err)
		start := time.Now()
		first := make(chan time.Duration)
		go func() { b.ForceOpen(); first <- time.Since(start) }()
		synctest.Wait()
		b.Reset()
		for range 3 { // each opens it, makes it half-open, and closes it
			assert.Equal(t, errDown, b.Do(t.Context(), func(context.Context) error { return errDown }))
			time.Sleep(time.Millisecond)
			require.NoError(t, b.Do(t.Context(), none))
		}
		assert.Equal(t, 3*time.Millisecond, time.Since(start), "no call waited")
		assert.Equal(t, 1, l.count())
		assert.Equal(t, 11*time.Second, <-first, "the one that delivers them all")
		assert.Len(t, l.changes, 11)
		l.inOrder(t)
	})
}

// A listener may change the breaker: that is delivered after it has returned, and does
// not wait for it. So may a goroutine that the listener waits for.
func TestListenerChangesTheBreaker(t *testing.T) {
	for name, run := range map[string]func(func()){
		"itself":           func(change func()) { change() },
		"deep down":        func(change func()) { deep(200, change) },
		"deferred":         func(change func()) { defer change() },
		"through a method": func(change func()) { (&runner{change}).run() },
		"on a goroutine":   leaveBy,
		"while it panics":  func(change func()) { defer func() { _ = recover() }(); defer change(); panic("bang") },
		"in a timer's place": func(change func()) {
			done := make(chan int)
			time.AfterFunc(0, func() { change(); close(done) })
			<-done
		},
	} {
		bubble(t, name, func(t *testing.T) {
			l := &ledger{}
			var b *retry.CircuitBreaker
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{OnStateChange: func(s retry.StateChange) {
				l.note(t, s)
				if len(l.changes) < 6 {
					run(func() {
						if s.To == retry.StateOpen {
							b.Reset()
						} else {
							b.Trip(time.Hour)
						}
					})
				}
			}})
			require.NoError(t, err)
			start := time.Now()
			b.Trip(time.Hour)
			assert.Len(t, l.changes, 6)
			l.inOrder(t)
			assert.Zero(t, time.Since(start), "nothing waited")
		})
	}
}

type runner struct{ fn func() }

func (r *runner) run() { r.fn() }

func deep(n int, fn func()) {
	if n == 0 {
		fn()
		return
	}
	deep(n-1, fn)
	runtime.KeepAlive(n)
}

// A listener that hangs delays no other call, and receives what it missed when it is back.
func TestListenerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var to []retry.State
		hang := make(chan struct{})
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{OnStateChange: func(s retry.StateChange) {
			if to = append(to, s.To); len(to) == 1 {
				<-hang
			}
		}})
		require.NoError(t, err)
		go b.ForceOpen()
		synctest.Wait()
		start := time.Now()
		for range 3 {
			b.Reset()
			b.ForceOpen()
		}
		assert.Zero(t, time.Since(start))
		assert.Len(t, to, 1)
		close(hang)
		synctest.Wait()
		assert.Len(t, to, 7)
	})
}

// A listener that panics or leaves by Goexit, each time it is called, loses no change,
// neither for the other listeners nor of the calls that left theirs to this one.
func TestListenerPanicsWhileOthersComeIn(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("hook") }, "Goexit": runtime.Goexit} {
		bubble(t, name, func(t *testing.T) {
			l := &ledger{takes: time.Second}
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{OnStateChange: func(s retry.StateChange) {
				l.note(t, s)
				leave()
			}})
			require.NoError(t, err)
			second := &ledger{}
			b.OnStateChange(func(s retry.StateChange) { second.note(t, s) })
			var wg sync.WaitGroup
			for n := range 6 {
				wg.Go(func() {
					time.Sleep(time.Duration(n))
					leaveBy([]func(){b.ForceOpen, b.Reset}[n%2])
				})
			}
			wg.Wait()
			assert.Len(t, l.changes, 6)
			assert.True(t, slices.Equal(l.changes, second.changes))
			l.inOrder(t)
		})
	}
}

// Under load, all changes are delivered, in order, once each, and no call hangs.
func TestStressListeners(t *testing.T) {
	l := &ledger{}
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: 1, OnStateChange: func(s retry.StateChange) { l.note(t, s) }})
	require.NoError(t, err)
	rush(50, func() bool {
		for n := range 40 {
			switch n % 4 {
			case 0:
				b.Trip(1)
			case 1:
				b.Reset()
			default:
				_ = b.Do(context.Background(), func(context.Context) error { return []error{nil, errDown}[n%2] })
			}
		}
		return true
	})
	b.Reset()
	l.inOrder(t)
	assert.Equal(t, retry.StateClosed, l.changes[len(l.changes)-1].To, "the last one too")
}

// A change is logged with the caller's context and the key name, which all lines
// have; opening is a warning, the others are for information.
func TestChangesInTheLog(t *testing.T) {
	for breaker, want := range map[string]string{"ensembl": "ensembl", "": "hgnc"} {
		var out bytes.Buffer
		synctest.Test(t, func(t *testing.T) {
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: breaker, FailureThreshold: 1, RecoveryTimeout: time.Second})
			require.NoError(t, err)
			cfg := retry.Config{Name: "hgnc", Breaker: b, MaxRetries: retry.NoRetries}
			cfg.Logger = slog.New(traced{slog.NewJSONHandler(&out, nil)})
			ctx := context.WithValue(t.Context(), traceKey{}, "abc")
			_ = retry.Run(ctx, cfg, func(context.Context) error { return errDown })
			time.Sleep(time.Second)
			require.NoError(t, retry.Run(ctx, cfg, none))
		})
		var got []string
		for text := range bytes.Lines(out.Bytes()) {
			var line map[string]any
			require.NoError(t, json.Unmarshal(text, &line))
			assert.Equal(t, "abc", line["trace"])
			if line["from"] != nil {
				assert.NotContains(t, line, "breaker")
				got = append(got, fmt.Sprint(line["level"], line["name"], line["from"], line["to"], line["cause"], line["until"], line["error"]))
			}
		}
		assert.Equal(t, []string{
			fmt.Sprint("WARN", want, "closed", "open", "1 failure in a row", "2000-01-01T00:00:01Z", "down"),
			fmt.Sprint("INFO", want, "open", "half-open", "recovery time over", nil, nil),
			fmt.Sprint("INFO", want, "half-open", "closed", "probe succeeded", nil, nil),
		}, got)
	}
}

// The caller who cancelled opened nothing: a slow call that he cancels may.
func TestStateChangeNamesNoCancel(t *testing.T) {
	for _, cancelled := range []error{context.Canceled, fmt.Errorf("query: %w", context.Canceled), retry.Neutral(errDown)} {
		var changes []retry.StateChange
		b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
			slowFromOneSecond(c)
			c.OnStateChange = func(s retry.StateChange) { changes = append(changes, s) }
		})
		permits := []retry.Permit{permit(t, b), permit(t, b), permit(t, b)}
		clock.Advance(time.Second)
		permits[0].Done(cancelled) // the others are slow in flight
		require.Len(t, changes, 1)
		assert.Equal(t, retry.StateOpen, changes[0].To)
		assert.NoError(t, changes[0].Err)
		assert.NoError(t, b.Snapshot().LastFailure)
	}
}

func TestListenerMayCallEveryMethod(t *testing.T) {
	var b *retry.CircuitBreaker
	var seen []retry.Snapshot
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.OnStateChange = func(s retry.StateChange) {
			b.State()
			seen = append(seen, b.Snapshot())
			b.OnStateChange(func(retry.StateChange) {})
			if p, err := b.Allow(); err == nil {
				p.Done(nil)
			}
			switch s.To {
			case retry.StateHalfOpen:
				b.Trip(time.Second)
			case retry.StateClosed:
				b.ForceOpen()
			}
		}
	})
	b.OnStateChange(nil)
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	report(t, b, 1, nil)
	b.Reset()
	assert.GreaterOrEqual(t, len(seen), 4)
}

// Rand was called under the lock once: a Snapshot from there hung.
func TestRandAndIsFailureMayUseTheBreaker(t *testing.T) {
	var b *retry.CircuitBreaker
	b, _ = newBreaker(t, func(c *retry.BreakerConfig) {
		c.RecoveryJitter = 0.1
		c.Rand = func() float64 { b.Snapshot(); return 0 }
		c.IsFailure = func(error) bool { b.Reset(); b.Snapshot(); return true }
	})
	report(t, b, 10, errDown)
	assert.Equal(t, retry.StateClosed, b.State(), "each was reset first")
	assert.NoError(t, b.Snapshot().LastFailure, "its period was over when it was counted")
}

func TestListenerPanicsAndNothingIsLost(t *testing.T) {
	var seen []retry.State
	panics := true
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.OnStateChange = func(retry.StateChange) {
			if panics {
				panic("hook")
			}
		}
	})
	b.OnStateChange(func(s retry.StateChange) { seen = append(seen, s.To) })
	report(t, b, 2, errDown)
	assert.PanicsWithValue(t, "hook", func() { report(t, b, 1, errDown) })
	assert.Equal(t, retry.StateOpen, b.State())
	assert.Equal(t, []retry.State{retry.StateOpen}, seen, "the others are called all the same")
	clock.Advance(10 * time.Second)
	// The call that makes it half-open had its place taken for ProbeTimeout,
	// when a listener's panic kept it from being made.
	assert.PanicsWithValue(t, "hook", func() { _, _ = b.Allow() })
	panics = false
	permit(t, b).Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
	assert.Equal(t, []retry.State{retry.StateOpen, retry.StateHalfOpen, retry.StateClosed}, seen)
}

// State is shared by reporting a trip to others: no lock is held over a call, and
// two breakers that trip each other do not go round in circles.
func TestTwoBreakersShareTheirStateByListeners(t *testing.T) {
	a, clock := newBreaker(t, nil)
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.Clock = clock })
	share := func(from, to *retry.CircuitBreaker) {
		from.OnStateChange(func(s retry.StateChange) {
			if s.To == retry.StateOpen && to.State() != retry.StateOpen {
				to.Trip(from.Snapshot().OpenUntil.Sub(s.At))
			}
		})
	}
	share(a, b)
	share(b, a)
	report(t, a, 3, errDown)
	assert.Equal(t, 10*time.Second, refused(t, b).RetryAfter)
	clock.Advance(10 * time.Second)
	permit(t, a).Done(errDown)
	assert.Equal(t, retry.StateOpen, b.State())
}

func TestStateChanges(t *testing.T) {
	var changes []retry.StateChange
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.Name = "hgnc" })
	b.OnStateChange(func(s retry.StateChange) { changes = append(changes, s) })
	start := clock.Now()
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	permit(t, b).Done(nil)
	assert.Equal(t, []retry.StateChange{
		{Name: "hgnc", From: retry.StateClosed, To: retry.StateOpen, Err: errDown, At: start, Until: start.Add(10 * time.Second), Cause: "3 failures in a row"},
		{Name: "hgnc", From: retry.StateOpen, To: retry.StateHalfOpen, At: clock.Now(), Cause: "recovery time over"},
		{Name: "hgnc", From: retry.StateHalfOpen, To: retry.StateClosed, At: clock.Now(), Cause: "probe succeeded"},
	}, changes)
}

// Each change says why, and an opening one until when; a Snapshot says the
// same. Without it, "open" in a log left open which limit was reached.
func TestStateChangeCauses(t *testing.T) {
	const minute = time.Minute
	byRate := func(c *retry.BreakerConfig) {
		c.FailureThreshold, c.FailureRate, c.MinCalls = -1, 0.6, 20
	}
	bySlowness := func(c *retry.BreakerConfig) {
		c.FailureThreshold, c.SlowCallDuration, c.SlowCallRate, c.MinCalls, c.Window = -1, time.Second, 0.7, 20, minute
	}
	type breaker = *retry.CircuitBreaker
	for want, c := range map[string]struct {
		change func(*retry.BreakerConfig)
		run    func(b breaker, advance func(time.Duration))
		opens  time.Duration // 0: it does not, or not for a known time
	}{
		"5 failures in a row": {func(c *retry.BreakerConfig) { c.FailureThreshold = 5 },
			func(b breaker, _ func(time.Duration)) { report(t, b, 5, errDown) }, 10 * time.Second},
		"1 failure in a row": {func(c *retry.BreakerConfig) { c.FailureThreshold = 1 },
			func(b breaker, _ func(time.Duration)) { report(t, b, 1, errDown) }, 10 * time.Second},
		"12 of 20 calls failed": {byRate,
			func(b breaker, _ func(time.Duration)) { report(t, b, 8, nil); report(t, b, 12, errDown) }, 10 * time.Second},
		"3 failures in a row": {func(c *retry.BreakerConfig) { byRate(c); c.FailureThreshold = 3 }, // and the rate with it
			func(b breaker, _ func(time.Duration)) { report(t, b, 2, nil); report(t, b, 3, errDown) }, 10 * time.Second},
		"14 of 20 calls slow": {bySlowness,
			func(b breaker, advance func(time.Duration)) {
				report(t, b, 6, nil)
				var slow []retry.Permit
				for range 14 {
					slow = append(slow, permit(t, b))
				}
				advance(time.Second)
				for _, p := range slow {
					p.Done(nil)
				}
			}, 10 * time.Second},
		"probe failed": {nil, func(b breaker, advance func(time.Duration)) {
			report(t, b, 3, errDown)
			advance(10 * time.Second)
			report(t, b, 1, errDown)
		}, 10 * time.Second},
		"probe succeeded": {nil, func(b breaker, advance func(time.Duration)) {
			report(t, b, 3, errDown)
			advance(10 * time.Second)
			report(t, b, 1, nil)
		}, 0},
		"recovery time over": {nil, func(b breaker, advance func(time.Duration)) {
			report(t, b, 3, errDown)
			advance(10 * time.Second)
			permit(t, b)
		}, 0},
		"tripped": {nil, func(b breaker, _ func(time.Duration)) { b.Trip(minute) }, minute},
		"forced":  {nil, func(b breaker, _ func(time.Duration)) { b.ForceOpen() }, 0},
		"reset":   {nil, func(b breaker, _ func(time.Duration)) { b.ForceOpen(); b.Reset() }, 0},
	} {
		var last retry.StateChange
		b, clock := newBreaker(t, c.change)
		assert.Empty(t, b.Snapshot().Cause)
		b.OnStateChange(func(s retry.StateChange) { last = s })
		c.run(b, func(d time.Duration) { clock.Advance(d) })
		assert.Equal(t, want, last.Cause)
		assert.Equal(t, want, b.Snapshot().Cause)
		assert.Equal(t, b.Snapshot().OpenUntil, last.Until, want)
		until := time.Time{}
		if c.opens > 0 {
			until = clock.Now().Add(c.opens)
		}
		assert.Equal(t, until, last.Until, want)
	}
}

// A breaker that is shared by the tests of a package killed the process: a
// channel that was made inside one testing/synctest bubble was closed inside the
// next.
func TestBreakerSharedByBubbles(t *testing.T) {
	for name, prepare := range map[string]func(b *retry.CircuitBreaker) func(){
		"open":   func(b *retry.CircuitBreaker) func() { b.Trip(time.Hour); return func() {} },
		"forced": func(b *retry.CircuitBreaker) func() { b.ForceOpen(); return func() {} },
		"half-open": func(b *retry.CircuitBreaker) func() {
			b.Trip(time.Second)
			time.Sleep(time.Second)
			p, _ := b.Allow()
			return func() { p.Done(context.Canceled) }
		},
	} {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Hour})
		require.NoError(t, err)
		cfg := retry.Config{Breaker: b, WaitWhenOpen: true, MaxElapsed: 100 * time.Hour}
		var release func()
		bubble(t, name+", one gives up", func(t *testing.T) {
			release = prepare(b)
			ctx, cancel := context.WithCancel(t.Context())
			finished := make(chan error)
			go func() { finished <- retry.Run(ctx, cfg, none) }()
			synctest.Wait()
			cancel()
			assert.ErrorIs(t, <-finished, context.Canceled)
		})
		bubble(t, name+", the next wakes all", func(t *testing.T) {
			release()
			b.Reset()
			assert.NoError(t, retry.Run(t.Context(), cfg, none))
			b.OnStateChange(func(retry.StateChange) {})
			b.Trip(time.Second)
			start := time.Now()
			assert.NoError(t, retry.Run(t.Context(), cfg, none))
			assert.Equal(t, time.Second, time.Since(start))
		})
		bubble(t, name+", and one more", func(t *testing.T) {
			b.Trip(time.Minute)
			finished := make(chan error, 3)
			for range cap(finished) {
				go func() { finished <- retry.Run(t.Context(), cfg, none) }()
			}
			synctest.Wait()
			b.Reset()
			for range cap(finished) {
				assert.NoError(t, <-finished)
			}
		})
	}
}

// Waiters are woken by each thing that may let them pass, none is forgotten, and
// none stays on the list.
func TestEachWaiterIsWoken(t *testing.T) {
	for name, change := range map[string]func(b *retry.CircuitBreaker, probe retry.Permit){
		"probe succeeds":      func(_ *retry.CircuitBreaker, probe retry.Permit) { probe.Done(nil) },
		"probe says nothing":  func(_ *retry.CircuitBreaker, probe retry.Permit) { probe.Done(context.Canceled) },
		"reset":               func(b *retry.CircuitBreaker, _ retry.Permit) { b.Reset() },
		"tripped for a while": func(b *retry.CircuitBreaker, _ retry.Permit) { b.Trip(time.Second) },
	} {
		bubble(t, name, func(t *testing.T) {
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Hour})
			require.NoError(t, err)
			b.Trip(time.Second)
			time.Sleep(time.Second)
			probe := permit(t, b)
			finished := make(chan error, 20)
			for range cap(finished) {
				go func() { finished <- retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, none) }()
			}
			synctest.Wait()
			start := time.Now()
			change(b, probe)
			for range cap(finished) {
				require.NoError(t, <-finished)
			}
			assert.Less(t, time.Since(start), 2*time.Second)
			assert.Equal(t, retry.StateClosed, b.State())
		})
	}
}

// Waiters that give up leave nothing behind.
func TestManyWaitersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
		require.NoError(t, err)
		b.ForceOpen()
		ctx, cancel := context.WithCancel(t.Context())
		const waiters = 2000
		finished := make(chan error, waiters)
		for range waiters {
			go func() { finished <- retry.Run(ctx, retry.Config{Breaker: b, WaitWhenOpen: true}, none) }()
		}
		synctest.Wait()
		cancel()
		for range waiters {
			assert.ErrorIs(t, <-finished, context.Canceled)
		}
		b.Reset()
		assert.NoError(t, b.Do(t.Context(), none))
	})
}

// Those in line count until they have left it.
func TestBreakerWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
		require.NoError(t, err)
		assert.Zero(t, b.Waiting())
		b.Trip(time.Hour)
		assert.ErrorIs(t, retry.Run(t.Context(), retry.Config{Breaker: b}, none), retry.ErrCircuitOpen)
		assert.Zero(t, b.Waiting(), "it did not wait")
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 4 {
			if i == 3 {
				ctx = t.Context()
			}
			go retry.Run(ctx, retry.Config{Breaker: b, WaitWhenOpen: true}, none)
		}
		for range 20 {
			go retry.Run(t.Context(), retry.Config{Breaker: b, WaitWhenOpen: true}, none)
		}
		synctest.Wait()
		assert.Equal(t, 24, b.Waiting())
		cancel()
		synctest.Wait()
		assert.Equal(t, 21, b.Waiting())
		b.Reset()
		time.Sleep(51 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 10, b.Waiting(), "one goes at once, and one every 5ms")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Zero(t, b.Waiting())
	})
}

// A call that finds others slow opens the breaker, and is rejected. With an open time
// that is over before the clock is looked at again, the same call went on to half-open,
// and the listeners were notified of that change only.
func TestShortestOpenTimeIsTold(t *testing.T) {
	var changes []string
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{
		SlowCallDuration: 1, SlowCallRate: 0.5, MinCalls: 1, RecoveryTimeout: 1,
		OnStateChange: func(c retry.StateChange) { changes = append(changes, c.From.String()+" to "+c.To.String()) },
	})
	require.NoError(t, err)
	for range 3 {
		_, err = b.Allow()
		time.Sleep(time.Microsecond)
	}
	assert.NoError(t, err, "a probe")
	assert.Equal(t, []string{"closed to open", "open to half-open"}, changes)
}

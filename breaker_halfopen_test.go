package retry_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func none(context.Context) error { return nil }

// halfOpened returns a breaker whose open time has just passed.
func halfOpened(t testing.TB, change func(*retry.BreakerConfig)) (b *retry.CircuitBreaker, advance func(time.Duration)) {
	t.Helper()
	b, clock := newBreaker(t, change)
	b.Trip(time.Second)
	clock.Advance(time.Second)
	require.Equal(t, retry.StateHalfOpen, b.State())
	return b, func(d time.Duration) { clock.Advance(d) }
}

// A dependency that was only slow kept a breaker half-open for ever: each probe
// took longer than ProbeTimeout, and its success was thrown away.
func TestLateSuccessCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, RecoveryTimeout: 5 * time.Second})
		require.NoError(t, err)
		report(t, b, 1, errDown)
		time.Sleep(5 * time.Second)
		for n := range 50 {
			assert.NoError(t, b.Do(t.Context(), func(context.Context) error { time.Sleep(6 * time.Second); return nil }))
			assert.Equal(t, retry.StateClosed, b.State(), n)
		}
		assert.Zero(t, b.Snapshot().Rejections)
	})
}

// Late successes count like others, each once, towards SuccessThreshold.
func TestLateSuccessesAddUp(t *testing.T) {
	b, advance := halfOpened(t, func(c *retry.BreakerConfig) { c.SuccessThreshold, c.ProbeTimeout = 3, time.Second })
	var late []retry.Permit
	for range 3 {
		late = append(late, permit(t, b))
		advance(time.Second)
	}
	holder := permit(t, b)
	refused(t, b)
	for n, p := range late {
		assert.Equal(t, n, b.Snapshot().Successes)
		assert.Equal(t, retry.StateHalfOpen, b.State())
		p.Done(nil)
		p.Done(nil)
	}
	assert.Equal(t, retry.StateClosed, b.State())
	holder.Done(errDown)
	assert.Zero(t, b.Snapshot().Failures)
}

// A late result frees no place: its own is taken already.
func TestLateResultFreesNoPlace(t *testing.T) {
	for _, result := range []error{nil, context.Canceled, errDown} {
		b, advance := halfOpened(t, func(c *retry.BreakerConfig) { c.SuccessThreshold, c.ProbeTimeout = 5, time.Second })
		late := permit(t, b)
		advance(time.Second)
		permit(t, b)
		late.Done(result)
		refused(t, b)
		assert.Equal(t, retry.StateHalfOpen, b.State(), result)
	}
}

// A late success of an earlier half-open period says nothing of this one.
func TestLateSuccessOfAnEarlierPeriod(t *testing.T) {
	b, advance := halfOpened(t, func(c *retry.BreakerConfig) { c.ProbeTimeout = time.Second })
	late := permit(t, b)
	advance(time.Second)
	permit(t, b).Done(errDown)
	late.Done(nil)
	assert.Equal(t, retry.StateOpen, b.State())
	advance(10 * time.Second)
	permit(t, b)
	late.Done(nil)
	assert.Equal(t, retry.StateHalfOpen, b.State())
}

func slowFromOneSecond(c *retry.BreakerConfig) {
	c.SlowCallDuration, c.SlowCallRate, c.MinCalls = time.Second, 0.5, 2
}

// A dependency that always took 10s opened a breaker for being slow, and was
// called back at full load by a probe of 10s that succeeded.
func TestSlowProbeFails(t *testing.T) {
	for name, c := range map[string]struct {
		takes  time.Duration
		result error
		want   retry.State
	}{
		"fast":           {time.Second - 1, nil, retry.StateClosed},
		"slow":           {time.Second, nil, retry.StateOpen},
		"slower":         {9 * time.Second, nil, retry.StateOpen},
		"late":           {10 * time.Second, nil, retry.StateOpen},
		"later":          {time.Hour, nil, retry.StateOpen},
		"slow not found": {2 * time.Second, &retry.StatusError{StatusCode: 404}, retry.StateOpen},
		"slow failure":   {2 * time.Second, errDown, retry.StateOpen},
		"late failure":   {time.Hour, errDown, retry.StateOpen},
		"slow cancel":    {2 * time.Second, context.Canceled, retry.StateHalfOpen},
		"slow neutral":   {2 * time.Second, retry.Neutral(errDown), retry.StateHalfOpen},
	} {
		t.Run(name, func(t *testing.T) {
			var changes []retry.StateChange
			b, advance := halfOpened(t, slowFromOneSecond)
			b.OnStateChange(func(s retry.StateChange) { changes = append(changes, s) })
			probe := permit(t, b)
			advance(c.takes)
			probe.Done(c.result)
			assert.Equal(t, c.want, b.State())
			if last := changes[len(changes)-1]; c.want == retry.StateOpen && c.result != errDown {
				assert.NoError(t, last.Err, "it did not fail")
			}
		})
	}
	b, advance := halfOpened(t, nil) // without a rate, how long a probe takes is nobody's business
	probe := permit(t, b)
	advance(9 * time.Second)
	probe.Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestSlowProbesLengthenTheOpenTime(t *testing.T) {
	b, advance := halfOpened(t, func(c *retry.BreakerConfig) { slowFromOneSecond(c); c.MaxRecoveryTimeout = time.Minute })
	for _, want := range []time.Duration{20, 40, 60, 60} {
		probe := permit(t, b)
		advance(2 * time.Second)
		probe.Done(nil)
		assert.Equal(t, want*time.Second, refused(t, b).RetryAfter)
		advance(want * time.Second)
	}
}

// 612 slow calls went through in these ten minutes, one every second or so.
func TestDependencyThatIsAlwaysSlowIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{SlowCallDuration: time.Second, SlowCallRate: 0.5, MinCalls: 2})
		require.NoError(t, err)
		end := time.Now().Add(10 * time.Minute)
		var calls atomic.Int64
		for range 10 {
			go func() {
				for time.Now().Before(end) {
					_ = b.Do(context.Background(), func(context.Context) error { calls.Add(1); time.Sleep(10 * time.Second); return nil })
					time.Sleep(time.Second)
				}
			}()
		}
		time.Sleep(11 * time.Minute)
		assert.LessOrEqual(t, calls.Load(), int64(30))
	})
}

// A breaker that was met again inside one of its own probes rejected that, which
// made the probe fail, and so on for ever.
func TestProbeMeetsItsOwnBreaker(t *testing.T) {
	type way func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error
	ways := map[string]way{
		"Do": (*retry.CircuitBreaker).Do,
		"loop": func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error {
			return retry.Run(ctx, retry.Config{Breaker: b, MaxRetries: retry.NoRetries}, fn)
		},
		"loop with a timeout": func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error {
			return retry.Run(ctx, retry.Config{Breaker: b, MaxRetries: retry.NoRetries, AttemptTimeout: time.Hour, Clock: nil}, fn)
		},
	}
	want := map[error]retry.State{nil: retry.StateClosed, errDown: retry.StateOpen, context.Canceled: retry.StateHalfOpen}
	for outer, outerWay := range ways {
		for inner, innerWay := range ways {
			for result, state := range want {
				t.Run(fmt.Sprint(inner, " in ", outer, ": ", result), func(t *testing.T) {
					b, _ := halfOpened(t, nil)
					calls := 0
					err := outerWay(b, context.Background(), func(ctx context.Context) error {
						var err error
						for range 3 {
							err = innerWay(b, ctx, func(ctx context.Context) error { calls++; return b.Do(ctx, none) })
							require.NoError(t, err)
						}
						assert.Equal(t, 1, b.Snapshot().Requests, "they are not counted")
						refused(t, b) // nor does anybody else pass
						return result
					})
					assert.ErrorIs(t, err, result)
					assert.Equal(t, 3, calls)
					assert.Equal(t, state, b.State())
				})
			}
		}
	}
}

// The mark of a probe is good for that probe only.
func TestMarkOfAProbeIsGoodForThatOnly(t *testing.T) {
	leak := func(b *retry.CircuitBreaker, result error) (leaked context.Context) {
		_ = b.Do(context.Background(), func(ctx context.Context) error { leaked = ctx; return result })
		return leaked
	}
	t.Run("after its end", func(t *testing.T) {
		b, _ := halfOpened(t, nil)
		ctx := leak(b, context.Canceled)
		permit(t, b)
		assert.ErrorIs(t, b.Do(ctx, none), retry.ErrCircuitOpen)
	})
	t.Run("in a later period", func(t *testing.T) {
		b, advance := halfOpened(t, nil)
		assert.NoError(t, b.Do(context.Background(), func(ctx context.Context) error {
			b.Trip(time.Second)
			assert.ErrorIs(t, b.Do(ctx, none), retry.ErrCircuitOpen, "it is open now")
			advance(time.Second)
			assert.NoError(t, b.Do(ctx, none), "a probe of its own, which closes it")
			assert.Equal(t, retry.StateClosed, b.State())
			assert.NoError(t, b.Do(ctx, none))
			assert.Equal(t, 1, b.Snapshot().Requests, "closed, all count")
			return nil
		}))
	})
	t.Run("of another breaker", func(t *testing.T) {
		a, _ := halfOpened(t, nil)
		b, _ := halfOpened(t, nil)
		assert.NoError(t, a.Do(context.Background(), func(ctx context.Context) error {
			return b.Do(ctx, func(ctx context.Context) error {
				assert.NoError(t, a.Do(ctx, none), "through the other's mark")
				assert.NoError(t, b.Do(ctx, none))
				return nil
			})
		}))
		assert.Equal(t, retry.StateClosed, a.State())
		assert.Equal(t, retry.StateClosed, b.State())
	})
	t.Run("late", func(t *testing.T) {
		b, advance := halfOpened(t, nil)
		assert.NoError(t, b.Do(context.Background(), func(ctx context.Context) error {
			advance(time.Minute) // its place is lost
			permit(t, b)
			return b.Do(ctx, none)
		}))
		assert.Equal(t, retry.StateClosed, b.State())
	})
}

// With WaitWhenOpen the inner call waited for the place of the outer one.
func TestProbeDoesNotWaitForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
		require.NoError(t, err)
		b.Trip(time.Second)
		cfg := retry.Config{Breaker: b, WaitWhenOpen: true}
		start := time.Now()
		assert.NoError(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error { return retry.Run(ctx, cfg, none) }))
		assert.Equal(t, time.Second, time.Since(start))
	})
}

// Without half-open probes the mark costs nothing.
func TestNestedCallsInAClosedBreakerAllocateNothing(t *testing.T) {
	b, _ := newBreaker(t, nil)
	inner := func(ctx context.Context) error { return b.Do(ctx, none) }
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = b.Do(context.Background(), inner) }))
	assert.Equal(t, 202, b.Snapshot().Requests, "both count")
}

// IsFailure and Rand are the user's. Their panic reaches the caller, and nothing
// stays behind: neither a probe's place nor a call under watch.
func TestPanicOfTheUsersFunctions(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*retry.BreakerConfig, *bool)
		after  retry.State
	}{
		"IsFailure": {func(c *retry.BreakerConfig, on *bool) {
			c.IsFailure = func(error) bool {
				if *on {
					panic("user")
				}
				return true
			}
		}, retry.StateHalfOpen},
		"Rand": {func(c *retry.BreakerConfig, on *bool) {
			c.RecoveryJitter, c.Rand = 0.5, func() float64 {
				if *on {
					panic("user")
				}
				return 0
			}
		}, retry.StateOpen}, // that the probe failed is known
	} {
		fail := func(context.Context) error { return errDown }
		for kind, call := range map[string]func(b *retry.CircuitBreaker){
			"Do":     func(b *retry.CircuitBreaker) { _ = b.Do(context.Background(), fail) },
			"Permit": func(b *retry.CircuitBreaker) { p, _ := b.Allow(); p.Done(errDown) },
			"loop": func(b *retry.CircuitBreaker) {
				_ = retry.Run(context.Background(), retry.Config{Breaker: b, MaxRetries: retry.NoRetries}, fail)
			},
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				on := false
				b, advance := halfOpened(t, func(cfg *retry.BreakerConfig) { c.change(cfg, &on) })
				on = true
				assert.PanicsWithValue(t, "user", func() { call(b) })
				on = false
				assert.Equal(t, c.after, b.State())
				advance(10 * time.Second)
				permit(t, b).Done(nil)
				assert.Equal(t, retry.StateClosed, b.State())
			})
			t.Run(name+" "+kind+", slow call", func(t *testing.T) {
				on := false
				b, clock := newBreaker(t, func(cfg *retry.BreakerConfig) {
					slowFromOneSecond(cfg)
					c.change(cfg, &on)
				})
				permit(t, b).Done(nil)
				func() {
					defer func() { assert.Equal(t, "user", recover()) }()
					_ = b.Do(context.Background(), func(context.Context) error { on = true; return errDown })
				}()
				on = false
				clock.Advance(time.Hour)
				s := b.Snapshot()
				assert.Zero(t, s.SlowCalls, "it is not in flight")
				assert.Zero(t, s.Requests-s.Successes-s.Failures)
			})
		}
	}
}

// The same breaker in a client and in the transport below it: the request takes
// the mark along.
func TestRequestMeetsItsOwnBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
		require.NoError(t, err)
		b.Trip(time.Second)
		time.Sleep(time.Second)
		cfg := retry.Config{Breaker: b, MaxRetries: retry.NoRetries}
		calls := 0
		transport, err := retry.NewTransport(roundTrip(func(req *http.Request) (*http.Response, error) {
			calls++
			return &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}), cfg)
		require.NoError(t, err)
		client, err := retry.NewRetryableClient(&http.Client{Transport: transport}, cfg)
		require.NoError(t, err)
		resp, err := client.Get(t.Context(), "http://gene.example/")
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, 1, calls)
		assert.Equal(t, retry.StateClosed, b.State())
	})
}

package retry_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A result counts in the period in which its call was let through. One that comes
// later changes nothing: neither the state, nor a count, nor a place of a probe.
func TestStaleResults(t *testing.T) {
	type breaker = *retry.CircuitBreaker
	type advance = func(time.Duration)
	fails := func(b breaker) { report(t, b, 3, errDown) }
	for name, c := range map[string]struct {
		calls  int // let through before
		run    func(b breaker, advance advance)
		want   retry.State
		places int // for probes
	}{
		"closed, then open":      {3, func(b breaker, _ advance) { fails(b) }, retry.StateOpen, 0},
		"closed, then tripped":   {3, func(b breaker, _ advance) { b.Trip(time.Hour) }, retry.StateOpen, 0},
		"closed, then forced":    {3, func(b breaker, _ advance) { b.ForceOpen() }, retry.StateOpen, 0},
		"closed, then half-open": {9, func(b breaker, advance advance) { fails(b); advance(10 * time.Second); permit(t, b) }, retry.StateHalfOpen, 1},
		"closed, then recovered": {3, func(b breaker, advance advance) { fails(b); advance(10 * time.Second); report(t, b, 2, nil) }, retry.StateClosed, 0},
		"closed, then reset":     {3, func(b breaker, _ advance) { report(t, b, 2, errDown); b.Reset() }, retry.StateClosed, 0},
		"a probe, then reopened": {-1, func(b breaker, _ advance) { report(t, b, 1, errDown) }, retry.StateOpen, 0},
		"a probe, then the next ones": {-1, func(b breaker, advance advance) {
			report(t, b, 1, errDown)
			advance(10 * time.Second)
			permit(t, b)
			permit(t, b)
		}, retry.StateHalfOpen, 0},
		"a probe, then closed":                       {-1, func(b breaker, _ advance) { report(t, b, 2, nil) }, retry.StateClosed, 0},
		"a probe, then reset":                        {-1, func(b breaker, _ advance) { b.Reset() }, retry.StateClosed, 0},
		"a probe that lost its place, then reopened": {-1, func(b breaker, advance advance) { advance(time.Minute); report(t, b, 1, errDown) }, retry.StateOpen, 0},
	} {
		for _, config := range []func(*retry.BreakerConfig){nil, func(c *retry.BreakerConfig) { c.FailureRate, c.MinCalls = 1, 3 }, slowCalls} {
			for _, result := range []error{nil, errDown, context.Canceled} {
				t.Run(fmt.Sprint(name, " ", result), func(t *testing.T) {
					changes := 0
					b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
						if c.HalfOpenProbes, c.SuccessThreshold = 2, 2; config != nil {
							config(c)
						}
						c.OnStateChange = func(retry.StateChange) { changes++ }
					})
					advance := func(d time.Duration) { clock.Advance(d) }
					if c.calls < 0 {
						fails(b)
						advance(10 * time.Second)
					}
					var stale []retry.Permit
					for range max(1, c.calls) {
						stale = append(stale, permit(t, b))
					}
					c.run(b, advance)
					before, changed := b.Snapshot(), changes
					for _, p := range stale {
						p.Done(result)
						p.Done(result)
					}
					assert.Equal(t, before, b.Snapshot())
					assert.Equal(t, changed, changes)
					assert.Equal(t, c.want, b.State())
					for range c.places {
						permit(t, b)
					}
					if c.want != retry.StateClosed {
						refused(t, b)
					}
				})
			}
		}
	}
}

// The user's IsFailure is not asked for a result that changes nothing.
func TestStaleResultIsNotJudged(t *testing.T) {
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) {
		c.IsFailure = func(error) bool { t.Error("asked"); return true }
	})
	stale := permit(t, b)
	b.Reset()
	stale.Done(errDown)
}

// A probe that has lost its place, while the breaker is still half-open, counts if it
// succeeds, and frees no place.
func TestLateProbes(t *testing.T) {
	for result, closes := range map[error]bool{nil: true, errDown: false, context.Canceled: false} {
		for _, needed := range []int{1, 5} {
			b, advance := halfOpened(t, func(c *retry.BreakerConfig) { c.SuccessThreshold = needed })
			late := permit(t, b)
			advance(10 * time.Second)
			next := permit(t, b)
			late.Done(result)
			if closes && needed == 1 {
				assert.Equal(t, retry.StateClosed, b.State())
				next.Done(errDown) // stale now
				assert.Zero(t, b.Snapshot().Failures)
				continue
			}
			assert.Equal(t, retry.StateHalfOpen, b.State(), result)
			refused(t, b)
			next.Done(nil)
			assert.Equal(t, needed == 1, b.State() == retry.StateClosed)
		}
	}
}

// A probe that panics or calls runtime.Goexit has failed, and gives its place back.
func TestProbeDoesNotReturn(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("bang") }, "Goexit": runtime.Goexit} {
		b, advance := halfOpened(t, nil)
		leaveBy(func() { _ = b.Do(context.Background(), func(context.Context) error { leave(); return nil }) })
		assert.Equal(t, retry.StateOpen, b.State(), name)
		advance(10 * time.Second)
		require.NoError(t, b.Do(context.Background(), none))
		assert.Equal(t, retry.StateClosed, b.State(), name)
	}
}

func TestProbeThatNeverReturnsLosesItsPlace(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.ProbeTimeout = 4 * time.Second })
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	lost := permit(t, b)
	clock.Advance(4*time.Second - 1)
	refused(t, b)
	clock.Advance(1)
	next := permit(t, b)
	lost.Done(errDown) // too late to say anything
	assert.Equal(t, retry.StateHalfOpen, b.State())
	next.Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
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

func TestHalfOpenAdmitsExactlyTheProbes(t *testing.T) {
	for _, probes := range []int{1, 7} {
		b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.HalfOpenProbes = probes })
		report(t, b, 3, errDown)
		clock.Advance(10 * time.Second)
		admitted := rush(1000, func() bool { _, err := b.Allow(); return err == nil })
		assert.Equal(t, probes, admitted)
		assert.Equal(t, 1000-probes, b.Snapshot().Rejections)
	}
}

func TestSuccessThresholdIsNotTheNumberOfProbes(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.SuccessThreshold = 5 })
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	for range 4 {
		p := permit(t, b)
		refused(t, b)
		p.Done(nil)
		assert.Equal(t, retry.StateHalfOpen, b.State())
	}
	report(t, b, 1, nil)
	assert.Equal(t, retry.StateClosed, b.State())
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
	b, advance := halfOpened(t, nil) // without a rate, it does not matter how long a probe takes
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
						refused(t, b) // nor does any other call pass
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

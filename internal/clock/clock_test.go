package clock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/clock"
)

func bubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// on runs a test on both clocks, with what advances them. Nothing is under way when
// advance returns.
func on(t *testing.T, test func(t *testing.T, on clockwork.Clock, advance func(time.Duration))) {
	bubble(t, "real", func(t *testing.T) {
		test(t, nil, func(d time.Duration) { time.Sleep(d); synctest.Wait() })
	})
	bubble(t, "fake", func(t *testing.T) {
		fake := clockwork.NewFakeClock()
		test(t, fake, func(d time.Duration) { fake.Advance(d); synctest.Wait() })
	})
}

func ended(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func received(ch <-chan time.Time) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// comparableClock and incomparableClock are clocks of a user's own.
type comparableClock struct {
	clockwork.Clock
	name string
}

type incomparableClock struct {
	clockwork.Clock
	ticks []int
}

func TestNowAndSince(t *testing.T) {
	on(t, func(t *testing.T, on clockwork.Clock, advance func(time.Duration)) {
		start := clock.Now(on)
		advance(time.Minute)
		assert.Equal(t, time.Minute, clock.Now(on).Sub(start))
		assert.Equal(t, time.Minute, clock.Since(on, start))
	})
}

func TestSame(t *testing.T) {
	real, fake, other := clockwork.NewRealClock(), clockwork.NewFakeClock(), clockwork.NewFakeClock()
	incomparable := incomparableClock{fake, []int{1}}
	for _, c := range []struct {
		a, b clockwork.Clock
		want bool
	}{
		{nil, nil, true}, {nil, real, true}, {real, clockwork.NewRealClock(), true},
		{nil, fake, false}, {real, fake, false},
		{fake, fake, true}, {fake, other, false}, {fake, comparableClock{fake, "a"}, false},
		{comparableClock{fake, "a"}, comparableClock{fake, "a"}, true},
		{comparableClock{fake, "a"}, comparableClock{fake, "b"}, false},
		{incomparable, incomparable, true}, // it cannot be asked
		{comparableClock{incomparable, "a"}, comparableClock{incomparable, "b"}, true},
	} {
		assert.Equal(t, c.want, clock.Same(c.a, c.b), "%v and %v", c.a, c.b)
		assert.Equal(t, c.want, clock.Same(c.b, c.a), "%v and %v", c.b, c.a)
	}
}

// One alarm serves all waits of a call, one after the other, on either clock.
func TestAlarmIsSetAgain(t *testing.T) {
	on(t, func(t *testing.T, on clockwork.Clock, advance func(time.Duration)) {
		var alarm clock.Alarm
		alarm.Stop() // it was never set
		for _, d := range []time.Duration{time.Second, time.Hour, time.Minute} {
			ch := alarm.Set(on, d)
			advance(d - 1)
			assert.False(t, received(ch))
			advance(1)
			assert.True(t, received(ch))
			assert.False(t, received(ch))
		}
	})
}

// What a timer sent before it was stopped is not taken for the end of the next wait.
func TestAlarmDiscardsWhatItSentBeforeStop(t *testing.T) {
	on(t, func(t *testing.T, on clockwork.Clock, advance func(time.Duration)) {
		var alarm clock.Alarm
		alarm.Set(on, time.Second)
		advance(time.Second)
		alarm.Stop()
		ch := alarm.Set(on, time.Minute)
		assert.False(t, received(ch))
		alarm.Stop()
		advance(time.Minute)
		assert.False(t, received(ch), "it was stopped")
	})
}

func TestTimeoutExpires(t *testing.T) {
	on(t, func(t *testing.T, on clockwork.Clock, advance func(time.Duration)) {
		ctx := clock.WithTimeout(t.Context(), on, time.Minute)
		defer ctx.Cancel()
		start := clock.Now(on)
		deadline, ok := ctx.Deadline()
		assert.True(t, ok)
		assert.Equal(t, start.Add(time.Minute), deadline)
		advance(time.Minute - 1)
		assert.False(t, ended(ctx))
		assert.NoError(t, ctx.Err())
		assert.False(t, ctx.Expired())
		advance(1)
		assert.True(t, ended(ctx))
		assert.Equal(t, context.DeadlineExceeded, ctx.Err())
		assert.True(t, ctx.Expired())
		assert.Equal(t, time.Minute, ctx.Elapsed())
		ctx.Cancel()
		assert.Equal(t, context.DeadlineExceeded, ctx.Err(), "the first reason stands")
		assert.True(t, ctx.Expired())
	})
}

// The limit is moved, earlier or later, lifted and set again: only the last counts.
func TestTimeoutIsMoved(t *testing.T) {
	on(t, func(t *testing.T, on clockwork.Clock, advance func(time.Duration)) {
		ctx := clock.WithTimeout(t.Context(), on, time.Minute)
		defer ctx.Cancel()
		for _, lifted := range []time.Duration{0, -1} {
			ctx.SetLimit(lifted)
			_, ok := ctx.Deadline()
			assert.False(t, ok)
			advance(time.Hour)
			assert.False(t, ended(ctx))
			ctx.SetLimit(time.Hour)
			advance(time.Second)
			ctx.SetLimit(time.Hour)
		}
		advance(time.Hour - 1)
		assert.False(t, ended(ctx))
		ctx.SetLimit(1)
		advance(1)
		assert.True(t, ctx.Expired())

		ctx.SetLimit(time.Hour)
		assert.Equal(t, context.DeadlineExceeded, ctx.Err(), "what has ended stays so")
	})
}

// A timer that fires while the limit is moved changes nothing: its limit is an old one.
func TestTimeoutIsMovedWhileItExpires(t *testing.T) {
	held := &heldClock{Clock: clockwork.NewFakeClock()}
	ctx := clock.WithTimeout(t.Context(), held, time.Minute)
	defer ctx.Cancel()
	ctx.SetLimit(time.Hour)
	held.fire[0]()
	assert.False(t, ended(ctx))
	assert.False(t, ctx.Expired())
	held.fire[1]()
	assert.True(t, ended(ctx))
	assert.True(t, ctx.Expired())
}

// heldClock has timers that fire when its user says so, stopped or not.
type heldClock struct {
	clockwork.Clock
	fire []func()
}

func (c *heldClock) AfterFunc(d time.Duration, f func()) clockwork.Timer {
	c.fire = append(c.fire, f)
	return c.NewTimer(d)
}

// Of two deadlines the sooner is the context's.
func TestTimeoutHasTheSoonerDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		outer, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ctx := clock.WithTimeout(outer, nil, time.Hour)
		defer ctx.Cancel()
		deadline := func() time.Duration {
			at, ok := ctx.Deadline()
			assert.True(t, ok)
			return at.Sub(start)
		}
		assert.Equal(t, time.Minute, deadline())
		ctx.SetLimit(time.Second)
		assert.Equal(t, time.Second, deadline())
		ctx.SetLimit(0)
		assert.Equal(t, time.Minute, deadline())
		time.Sleep(time.Minute)
		<-ctx.Done()
		assert.Equal(t, context.DeadlineExceeded, ctx.Err())
		assert.False(t, ctx.Expired(), "it was the caller's")
	})
}

// The context ends with the caller's, for the caller's reason, and is not said to have
// expired, even if its own timer fires later.
func TestTimeoutEndsWithTheCallers(t *testing.T) {
	errCause := errors.New("the reason")
	for name, derive := range map[string]func(context.Context) context.Context{
		"itself":  func(ctx context.Context) context.Context { return ctx },
		"foreign": func(ctx context.Context) context.Context { return struct{ context.Context }{ctx} },
		"another": func(ctx context.Context) context.Context { return clock.WithTimeout(ctx, nil, time.Hour) },
	} {
		bubble(t, name, func(t *testing.T) {
			held := &heldClock{Clock: clockwork.NewFakeClock()}
			outer, cancel := context.WithCancelCause(t.Context())
			ctx := clock.WithTimeout(derive(outer), held, time.Minute)
			defer ctx.Cancel()
			cancel(errCause)
			synctest.Wait()
			assert.True(t, ended(ctx))
			assert.Equal(t, context.Canceled, ctx.Err())
			held.fire[0]()
			assert.Equal(t, context.Canceled, ctx.Err())
			assert.False(t, ctx.Expired())
		})
	}
}

func TestTimeoutIsCancelled(t *testing.T) {
	on(t, func(t *testing.T, on clockwork.Clock, advance func(time.Duration)) {
		ctx := clock.WithTimeout(t.Context(), on, time.Minute)
		after := false
		context.AfterFunc(ctx, func() { after = true })
		derived, cancel := context.WithCancel(ctx)
		defer cancel()
		synctest.Wait()
		assert.False(t, after)
		ctx.Cancel()
		synctest.Wait()
		assert.True(t, after)
		assert.Equal(t, context.Canceled, ctx.Err())
		assert.Equal(t, context.Canceled, derived.Err())
		_, ok := ctx.Deadline()
		assert.False(t, ok)
		advance(time.Hour)
		assert.False(t, ctx.Expired())
	})
}

// A context that is detached outlives its limit and the caller's context, as the body
// of a response does.
func TestTimeoutIsDetached(t *testing.T) {
	on(t, func(t *testing.T, on clockwork.Clock, advance func(time.Duration)) {
		outer, cancel := context.WithCancel(t.Context())
		ctx := clock.WithTimeout(outer, on, time.Minute)
		ctx.Detach()
		cancel()
		advance(time.Hour)
		assert.False(t, ended(ctx))
		assert.NoError(t, ctx.Err())
		ctx.Cancel()
		assert.Equal(t, context.Canceled, ctx.Err())
	})
}

// handmade is a context that is done, or not, and never has an error.
type handmade struct {
	context.Context
	done chan struct{}
}

func (h *handmade) Done() <-chan struct{} { return h.done }
func (h *handmade) Err() error            { return nil }

func closed() chan struct{} { ch := make(chan struct{}); close(ch); return ch }

func TestCause(t *testing.T) {
	errCause := errors.New("the reason")
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	plain, stop := context.WithCancel(t.Context())
	stop()
	expired, stop := context.WithDeadline(t.Context(), time.Now())
	defer stop()
	for _, c := range []struct {
		ctx        context.Context
		cause, err error
	}{
		{cancelled, errCause, context.Canceled},
		{plain, context.Canceled, context.Canceled},
		{expired, context.DeadlineExceeded, context.DeadlineExceeded},
		{&handmade{context.Background(), closed()}, context.Canceled, context.Canceled},
	} {
		cause, err := clock.Cause(c.ctx)
		assert.Equal(t, c.cause, cause)
		assert.Equal(t, c.err, err)
	}
}

// Whether a context is done is asked of every make of them, and waits for none: the Err
// of clockwork's contexts blocks until they are.
func TestDone(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	running, cancel := context.WithCancel(t.Context())
	defer cancel()
	timed, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	over, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	fake := clockwork.NewFakeClock()
	blocking, cancel := clockwork.WithTimeout(t.Context(), fake, time.Hour)
	defer cancel()
	type key struct{}
	for _, c := range []struct {
		name string
		ctx  context.Context
		want bool
	}{
		{"background", context.Background(), false},
		{"running", running, false}, {"cancelled", cancelled, true},
		{"timed", timed, false}, {"over", over, true},
		{"blocking", blocking, false}, {"value around it", context.WithValue(blocking, key{}, 1), false},
		{"value", context.WithValue(cancelled, key{}, 1), true},
		{"handmade", &handmade{done: make(chan struct{})}, false}, {"handmade, done", &handmade{done: closed()}, true},
		{"nil", (*handmade)(nil), true},
	} {
		assert.Equal(t, c.want, clock.Done(c.ctx), c.name)
	}
}

// The values of the caller's context are there.
func TestTimeoutHasTheCallersValues(t *testing.T) {
	type key struct{}
	ctx := clock.WithTimeout(context.WithValue(t.Context(), key{}, "BRCA1"), nil, time.Hour)
	defer ctx.Cancel()
	assert.Equal(t, "BRCA1", ctx.Value(key{}))
}

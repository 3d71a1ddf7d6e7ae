package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// candidate is one way to do a group's work.
type candidate struct {
	kind, name string
	build      func() loop // sets it up; not timed
}

const (
	floor = "floor"
	ours  = "retry"
	peer  = "peer"
)

// loop does the work n times over. It has the candidate's call in its body, so
// that what is timed is that call and nothing around it.
type loop func(n int, w *work)

// work is what the candidates call. It fails so many times in a row, then
// succeeds once, over and over, and counts.
type work struct {
	failures int // in a row
	streak   int
	calls    int // of the function
	errs     int // that the candidate returned
	_        [128]byte
}

var errBusy = errors.New("busy")

func (w *work) run() error {
	w.calls++
	if w.streak < w.failures {
		w.streak++
		return errBusy
	}
	w.streak = 0
	return nil
}

// The shapes in which the candidates want it.
func (w *work) runCtx(context.Context) error          { return w.run() }
func (w *work) value() (int, error)                   { return w.calls, w.run() }
func (w *work) valueCtx(context.Context) (int, error) { return w.calls, w.run() }

// note counts what a candidate returned.
func (w *work) note(err error) {
	if err != nil {
		w.errs++
	}
}

// expect is what each round of the work must come to.
type expect struct {
	failures int // of the function, in a row, before it succeeds
	calls    int // of the function, for each call of the candidate
	errs     int // that the candidate returns: 0 or 1
}

const always = 1 << 62 // as a number of failures

func (e expect) check(tb testing.TB, w *work, n int) {
	tb.Helper()
	if w.calls != e.calls*n || w.errs != e.errs*n {
		tb.Fatalf("%d rounds made %d calls and %d errors, want %d and %d of each", n, w.calls, w.errs, e.calls, e.errs)
	}
}

// measure times each candidate of a group.
func measure(b *testing.B, e expect, group []candidate) {
	for _, c := range group {
		b.Run(c.kind+"/"+c.name, func(b *testing.B) {
			run, w := c.build(), &work{failures: e.failures}
			b.ReportAllocs()
			b.ResetTimer()
			run(b.N, w)
			b.StopTimer()
			e.check(b, w, b.N)
		})
	}
}

// measureParallel does so on all processors at once. What is shared is the
// candidate; each processor has work of its own.
func measureParallel(b *testing.B, e expect, group []candidate) {
	const chunk = 64
	for _, c := range group {
		b.Run(c.kind+"/"+c.name, func(b *testing.B) {
			run := c.build()
			var calls, errs atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				w := &work{failures: e.failures}
				n := 0
				for pb.Next() {
					if n++; n == chunk {
						run(n, w)
						n = 0
					}
				}
				run(n, w)
				calls.Add(int64(w.calls))
				errs.Add(int64(w.errs))
			})
			b.StopTimer()
			e.check(b, &work{calls: int(calls.Load()), errs: int(errs.Load())}, b.N)
		})
	}
}

// background is the context of all calls: one that can be cancelled, as that of
// a server's request can.
var background, cancel = context.WithCancel(context.Background())

func TestMain(m *testing.M) {
	defer cancel()
	m.Run()
}

// started is what the floors with a clock measure from.
var started = time.Now()

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/retryutils/retry"
)

// trace is what one lookup took. It is written by the lookup's goroutine alone.
type trace struct {
	Attempts []*attempt `json:"attempts"`

	start time.Time
	ready time.Time // when the next attempt may begin, for all that this lookup knows
	waits []wait    // since the last attempt
}

type attempt struct {
	Waits  []wait  `json:"waited_before,omitempty"`
	Number int     `json:"number"`
	At     seconds `json:"at_seconds"` // since the lookup began
	Took   seconds `json:"took_seconds"`
	Status int     `json:"status,omitempty"` // 0 if no answer came
	Error  string  `json:"error,omitempty"`

	began time.Time
}

type wait struct {
	Why     string  `json:"why"`
	Seconds seconds `json:"seconds"`
	Asked   seconds `json:"asked_seconds,omitempty"` // by the server
}

// Why an attempt had to wait.
const (
	ownBackoff  = "own backoff"
	retryAfter  = "Retry-After"
	sharedPause = "shared pause"
	rateLimit   = "rate limit"
)

type traceKey struct{}

func withTrace(ctx context.Context, t *trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

func traceOf(ctx context.Context) *trace { return ctx.Value(traceKey{}).(*trace) }

func (t *trace) begin() {
	t.start = time.Now()
	t.ready = t.start
}

// tracer is called by the client, its transport and its gate, and notes what goes on
// in the trace in the request's context.
type tracer struct {
	base    http.RoundTripper
	limiter retry.Limiter

	mu     sync.Mutex
	paused time.Time // the end of the last shared pause
}

// RoundTrip sees every attempt: the client's retries are made above it.
func (tr *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	t := traceOf(req.Context())
	a := tr.attempt(t, retry.RetryCount(req.Context())+1)
	resp, err := tr.base.RoundTrip(req)
	if err == nil {
		a.Status = resp.StatusCode
	}
	return resp, err
}

func (tr *tracer) attempt(t *trace, number int) *attempt {
	tr.heldBack(t)
	now := time.Now()
	a := &attempt{Waits: t.waits, Number: number, At: inSeconds(now.Sub(t.start)), began: now}
	t.Attempts, t.waits = append(t.Attempts, a), nil
	return a
}

// Wait is the client's Limiter.
func (tr *tracer) Wait(ctx context.Context) error {
	t := traceOf(ctx)
	tr.heldBack(t)
	now := time.Now()
	err := tr.limiter.Wait(ctx)
	t.ready = time.Now()
	t.add(rateLimit, t.ready.Sub(now))
	return err
}

// onPause is called for each pause that the gate makes for all.
func (tr *tracer) onPause(until time.Time) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.paused = until
}

// heldBack is called when the gate let a lookup through: before the limiter, and
// again before the attempt, for a pause that began meanwhile.
func (tr *tracer) heldBack(t *trace) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	held := min(time.Since(t.ready), tr.paused.Sub(t.ready)) // not what a busy machine was late
	t.add(sharedPause, held)
}

func (tr *tracer) onRetry(ctx context.Context, e retry.Event) {
	t := traceOf(ctx)
	t.ended(e.Err)
	w := wait{Why: ownBackoff, Seconds: inSeconds(e.Delay)}
	var status *retry.StatusError
	if errors.As(e.Err, &status) && status.RetryAfter > 0 {
		w.Why, w.Asked = retryAfter, inSeconds(status.RetryAfter)
	}
	t.waits = append(t.waits, w)
	t.ready = time.Now().Add(e.Delay)
}

func (tr *tracer) onDone(ctx context.Context, e retry.Event) { traceOf(ctx).ended(e.Err) }

// ended completes the last attempt, unless it was over before.
func (t *trace) ended(err error) {
	if len(t.Attempts) == 0 || len(t.waits) > 0 {
		return
	}
	a := t.Attempts[len(t.Attempts)-1]
	a.Took = inSeconds(time.Since(a.began))
	a.Error = brief(err)
}

// add leaves out what is too short to be called a wait.
func (t *trace) add(why string, d time.Duration) {
	if d >= 5*time.Millisecond {
		t.waits = append(t.waits, wait{Why: why, Seconds: inSeconds(d)})
	}
}

const (
	timedOut = "timed out"
	stopped  = "stopped"
)

// brief is what a line of the report has room for.
func brief(err error) string {
	if errors.Is(err, context.Canceled) {
		return stopped
	}
	var given *retry.Error
	if errors.As(err, &given) && given.Err != nil {
		err = given.Err
	}
	var status *retry.StatusError
	var op *net.OpError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &status):
		return fmt.Sprintf("%d %s", status.StatusCode, http.StatusText(status.StatusCode))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "body cut off: " + io.ErrUnexpectedEOF.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return timedOut
	case errors.As(err, &op) && op.Op == "dial":
		return op.Error() // names the address
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}

// seconds is a duration as people, and JSON, like to read it.
type seconds float64

func inSeconds(d time.Duration) seconds { return seconds(d.Seconds()) }

func (s seconds) String() string { return fmt.Sprintf("%.2fs", float64(s)) }

func (s seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(math.Round(float64(s)*1000) / 1000)
}

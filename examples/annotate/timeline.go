package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/retryutils/retry"
)

// timeline notes what happens: attempts and waits of lookups, pauses and changes
// of breakers. The hooks of package retry call it.
type timeline struct {
	mu     sync.Mutex // guards the fields below, and what lookups note
	start  time.Time
	events []event
}

// event is something that concerns all lookups at an API.
type event struct {
	API   string
	At    time.Time
	Until time.Time // of a pause
	From  retry.State
	To    retry.State
	Err   error
}

func (e event) pause() bool { return !e.Until.IsZero() }

// lookup is one gene at one API.
type lookup struct {
	API, Symbol string
	Answer      string
	err         error
	ended       time.Time
	attempts    []*attempt
	waits       []wait // since the last attempt; in the end, those that no attempt followed
}

type attempt struct {
	Number   int
	At       time.Time
	Took     time.Duration
	Status   int
	Err      error
	Waits    []wait
	finished bool
}

type wait struct {
	Why retry.Why
	At  time.Time
	For time.Duration
}

func newTimeline() *timeline { return &timeline{start: time.Now()} }

type lookupKey struct{}

func withLookup(ctx context.Context, l *lookup) context.Context {
	return context.WithValue(ctx, lookupKey{}, l)
}

func lookupOf(ctx context.Context) *lookup {
	l, _ := ctx.Value(lookupKey{}).(*lookup)
	return l
}

func (t *timeline) begin(l *lookup) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.err = nil
}

func (t *timeline) end(l *lookup) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.ended = time.Now()
	l.endWait(l.ended)
}

// endWait ends the wait under way, if there is one: what comes next began at the
// given time. A wait may end before the time that was announced (a line moved up,
// a breaker closed, the caller left) or after it. One of no length is
// forgotten.
func (l *lookup) endWait(at time.Time) {
	n := len(l.waits) - 1
	if n < 0 {
		return
	}
	last := &l.waits[n]
	if last.Why != retry.WaitLimiter {
		last.For = at.Sub(last.At)
	}
	if last.For < 5*time.Millisecond {
		l.waits = l.waits[:n]
	}
}

// onWait is called before a wait, and for a limiter's after it.
func (t *timeline) onWait(ctx context.Context, e retry.Event) {
	l := lookupOf(ctx)
	if l == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := wait{e.Why, time.Now(), e.Delay}
	if e.Why == retry.WaitLimiter {
		w.At = w.At.Add(-e.Delay)
	} else if n := len(l.waits); n > 0 && l.waits[n-1].Why == e.Why {
		return // it became longer, and is reported again
	}
	l.endWait(w.At)
	l.waits = append(l.waits, w)
}

func (t *timeline) onRetry(ctx context.Context, e retry.Event) { t.ended(ctx, e.Err) }

func (t *timeline) onDone(ctx context.Context, e retry.Event) { t.ended(ctx, e.Err) }

// ended completes the last attempt, unless it was over before.
func (t *timeline) ended(ctx context.Context, err error) {
	l := lookupOf(ctx)
	if l == nil || len(l.attempts) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := l.attempts[len(l.attempts)-1]
	if a.finished {
		return
	}
	a.finished, a.Took, a.Err = true, time.Since(a.At), err
}

func (t *timeline) onPause(api string, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, event{API: api, At: time.Now(), Until: until})
}

func (t *timeline) onStateChange(c retry.StateChange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, event{API: c.Name, At: time.Now(), From: c.From, To: c.To, Err: c.Err})
}

// of returns the events of one API, in order.
func (t *timeline) of(api string) (found []event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.events {
		if e.API == api {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b event) int { return a.At.Compare(b.At) })
	return found
}

// watched is the transport below the retries: it sees every attempt.
type watched struct {
	base     http.RoundTripper
	timeline *timeline
	network  *network
	api      func(*http.Request) string
}

func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	l := lookupOf(req.Context())
	if l == nil || w.api(req) != l.API {
		return w.base.RoundTrip(req)
	}
	w.timeline.mu.Lock()
	now := time.Now()
	l.endWait(now)
	a := &attempt{Number: retry.RetryCount(req.Context()) + 1, At: now, Waits: l.waits}
	l.attempts, l.waits = append(l.attempts, a), nil
	w.timeline.mu.Unlock()
	resp, err := w.base.RoundTrip(req)
	w.network.tried(l.API, err)
	if err == nil {
		w.timeline.mu.Lock()
		a.Status = resp.StatusCode
		w.timeline.mu.Unlock()
	}
	return resp, err
}

// CloseIdleConnections lets a client close those of the real transport.
func (w *watched) CloseIdleConnections() {
	if base, ok := w.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// result says in a few words what came of an attempt.
func (a *attempt) result() string {
	status := ""
	if a.Status != 0 {
		status = fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	}
	var answered *retry.StatusError
	if a.Err == nil || errors.As(a.Err, &answered) {
		return status
	}
	why := brief(a.Err)
	if status == "" {
		return why
	}
	return status + ": " + why
}

// brief is what a line has room for: the failure without the request's story.
func brief(err error) string {
	var open *retry.OpenError
	var pause *retry.PauseError
	var given *retry.Error
	var transport *url.Error
	var op *net.OpError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &open):
		return fmt.Sprintf("breaker %v for another %v (%s)", open.State, open.RetryAfter.Round(100*time.Millisecond), brief(open.Err))
	case errors.As(err, &pause):
		return fmt.Sprintf("pause for another %v (%s)", pause.RetryAfter.Round(100*time.Millisecond), brief(pause.Err))
	case errors.As(err, &given) && given.Err != nil:
		return brief(given.Err)
	case errors.As(err, &transport):
		return brief(transport.Err)
	case errors.As(err, &op) && op.Op != "dial": // a dial names the address
		return brief(op.Err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "body cut off"
	case errors.Is(err, context.Canceled):
		return "stopped"
	}
	var status *retry.StatusError
	if errors.As(err, &status) {
		return fmt.Sprintf("%d %s", status.StatusCode, http.StatusText(status.StatusCode))
	}
	return err.Error()
}

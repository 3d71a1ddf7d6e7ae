package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/retryutils/retry"
)

// books are what calls, events and servers say of the same things, so that they can be
// compared.
type books struct {
	started, ended, attempts, attemptsEnded, retries, waits, failed atomic.Int64
	httpAttempts, trips                                             atomic.Int64
	posts                                                           atomic.Int64

	mu    sync.Mutex // guards the fields below
	wrong []error
	jobs  map[string]*job // since the last check
}

// job is a POST: what its caller knows of it, and what the server did.
type job struct {
	acted int
	keys  map[string]bool
	good  bool
}

func newBooks() *books { return &books{jobs: make(map[string]*job)} }

func (b *books) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.wrong) < 20 {
		b.wrong = append(b.wrong, fmt.Errorf(format, args...))
	}
}

// job changes what is known of a job.
func (b *books) job(id string, change func(*job)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.jobs[id]
	if j == nil {
		j = &job{keys: make(map[string]bool)}
		b.jobs[id] = j
	}
	change(j)
}

// tally counts the events of one call.
type tally struct {
	mu                               sync.Mutex
	attempts, attemptsEnded, retries int
	done                             bool
}

type tallyKey struct{}

// watch adds hooks to a Config that count its calls' events.
func (b *books) watch(cfg retry.Config, isHTTP bool) retry.Config {
	with := func(ctx context.Context, what string, count func(*tally)) {
		t, ok := ctx.Value(tallyKey{}).(*tally)
		if !ok {
			b.note("%s without the context of OnStart", what)
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.done {
			b.note("%s after OnDone", what)
		}
		count(t)
	}
	cfg.OnStart = func(ctx context.Context, e retry.Event) context.Context {
		b.started.Add(1)
		return context.WithValue(ctx, tallyKey{}, new(tally))
	}
	cfg.OnAttempt = func(ctx context.Context, e retry.Event) context.Context {
		b.attempts.Add(1)
		if isHTTP {
			b.httpAttempts.Add(1)
		}
		with(ctx, "OnAttempt", func(t *tally) { t.attempts++ })
		return ctx
	}
	cfg.OnAttemptDone = func(ctx context.Context, e retry.Event) {
		b.attemptsEnded.Add(1)
		with(ctx, "OnAttemptDone", func(t *tally) { t.attemptsEnded++ })
	}
	cfg.OnRetry = func(ctx context.Context, e retry.Event) {
		b.retries.Add(1)
		with(ctx, "OnRetry", func(t *tally) { t.retries++ })
	}
	cfg.OnWait = func(ctx context.Context, e retry.Event) {
		b.waits.Add(1)
		with(ctx, "OnWait", func(*tally) {})
	}
	cfg.OnDone = func(ctx context.Context, e retry.Event) {
		b.ended.Add(1)
		if e.Err != nil {
			b.failed.Add(1)
		}
		with(ctx, "OnDone", func(t *tally) {
			t.done = true
			if t.attempts != t.attemptsEnded || t.attempts != e.Attempt || t.retries < t.attempts-1 || t.retries > max(t.attempts, 0) {
				b.note("a call ended with %d attempts by OnDone, %d OnAttempt, %d OnAttemptDone, %d OnRetry: %v",
					e.Attempt, t.attempts, t.attemptsEnded, t.retries, e.Err)
			}
		})
	}
	return cfg
}

// transport counts the requests that leave the library.
type transport struct {
	books *books
	base  *http.Transport
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.books.trips.Add(1)
	return t.base.RoundTrip(req)
}

func (t *transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// check compares the books when no call is under way, and begins new ones for the jobs.
func (b *books) check(hedges int64) error {
	if s, e := b.started.Load(), b.ended.Load(); s != e {
		b.note("%d calls started, and %d ended", s, e)
	}
	if s, e := b.attempts.Load(), b.attemptsEnded.Load(); s != e {
		b.note("%d attempts started, and %d ended", s, e)
	}
	if sent, attempts := b.trips.Load(), b.httpAttempts.Load(); sent != attempts+hedges {
		b.note("%d requests were sent for %d attempts and %d hedges", sent, attempts, hedges)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, j := range b.jobs {
		switch {
		case j.acted > 1:
			b.wrong = append(b.wrong, fmt.Errorf("job %s was carried out %d times", id, j.acted))
		case j.good && j.acted == 0:
			b.wrong = append(b.wrong, fmt.Errorf("job %s was reported as done, and never carried out", id))
		case len(j.keys) > 1:
			b.wrong = append(b.wrong, fmt.Errorf("job %s was sent with %d keys", id, len(j.keys)))
		}
	}
	b.jobs = make(map[string]*job) // clear would keep the room of the busiest minute
	return errors.Join(b.wrong...)
}

func (b *books) String() string {
	return fmt.Sprintf("%8d %8d %8d %8d %8d %6d %8d", b.ended.Load(), b.attempts.Load(), b.retries.Load(), b.waits.Load(),
		b.failed.Load(), b.trips.Load()-b.httpAttempts.Load(), b.posts.Load())
}

func readAll(resp *http.Response) error {
	defer resp.Body.Close()
	_, err := io.Copy(io.Discard, resp.Body)
	return err
}

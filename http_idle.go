package retry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// IdleTimeout limits how long a Read of a response's body may block: a server or a
// network that falls silent in the middle of an answer would otherwise hold the caller
// until the kernel gives the connection up, which may be never. In [Fetch], [GetJSON],
// [PostJSON] and [Resume] the attempt has failed then, and is retried like one whose
// connection broke; in a body that was handed on, Read returns a timeout error. The
// time goes by Config.Clock, and passes only while a Read is under way: a slow reader
// is not interrupted. The default, 0, is no limit.
func IdleTimeout(d time.Duration) Option { return func(o *options) { o.idleTimeout = d } }

// limitIdle puts the response's body under the client's IdleTimeout.
func (h *hop) limitIdle(resp *http.Response) {
	limit := h.t.core.idleTimeout
	if limit <= 0 || resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	body := &idleBody{ReadCloser: resp.Body, clock: h.cfg.Clock, limit: limit, began: now(h.cfg.Clock)}
	if h.timeout != nil {
		body.cancel = h.timeout.cancel
	}
	h.idle, resp.Body = body, body
}

// idleBody ends a Read that blocks for too long. One timer serves all Reads: it is not
// set again for each, which would cost more than the Reads themselves, but when it
// fires, for what is left to the Read that is under way then.
type idleBody struct {
	io.ReadCloser
	clock  clockwork.Clock
	limit  time.Duration
	began  time.Time          // the origin of reading
	cancel context.CancelFunc // of the attempt's context, for bodies whose Close does not end a Read

	reading atomic.Int64 // when the Read under way began, since began and plus one; 0: none is
	armed   atomic.Bool  // the timer runs
	expired atomic.Bool

	closing sync.Once
	closed  error // what Close returned

	mu    sync.Mutex // guards the fields below
	timer interface{ Stop() bool }
	ended bool
}

func (b *idleBody) Read(p []byte) (int, error) {
	b.reading.Store(int64(since(b.clock, b.began)) + 1)
	if !b.armed.Load() {
		b.arm(b.limit)
	}
	n, err := b.ReadCloser.Read(p)
	b.reading.Store(0)
	if b.expired.Load() && (n == 0 || err != nil) {
		return n, &idleError{b.limit}
	}
	if err != nil {
		b.stop()
	}
	return n, err
}

// Close closes the body, once.
func (b *idleBody) Close() error {
	b.stop()
	b.closing.Do(func() { b.closed = b.ReadCloser.Close() })
	return b.closed
}

func (b *idleBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if b.timer != nil {
		b.timer.Stop()
	}
}

func (b *idleBody) arm(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.armed.Swap(true) { // by the other of Read and check
		return
	}
	if b.clock == nil {
		b.timer = time.AfterFunc(d, b.check)
	} else {
		b.timer = b.clock.AfterFunc(d, b.check)
	}
}

// check runs when the timer fires: it ends a Read that has blocked for too long, and
// waits for the rest of the time of one that has not. Where no Read is under way, the
// next one sets the timer.
func (b *idleBody) check() {
	b.armed.Store(false)
	began := b.reading.Load()
	if began == 0 {
		return
	}
	if left := b.limit - since(b.clock, b.began) + time.Duration(began-1); left > 0 {
		b.arm(left)
		return
	}
	if b.expired.Store(true); b.reading.Load() != began { // it came back just now
		b.expired.Store(false)
		return
	}
	if b.cancel != nil {
		b.cancel()
	}
	b.Close()
}

// idleError is what a Read fails with that took longer than IdleTimeout.
type idleError struct{ limit time.Duration }

func (e *idleError) Error() string {
	return fmt.Sprintf("no byte of the body within %v (IdleTimeout)", e.limit)
}

// Timeout and Temporary make it a net.Error.
func (e *idleError) Timeout() bool { return true }

// Temporary is true: another attempt may do better.
func (e *idleError) Temporary() bool { return true }

// Is makes it match what contexts and connections report of their own time limits.
func (e *idleError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

package retry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/valid"
)

// drainTime is how long it may take to read up to drainBytes of a body that is not wanted.
const drainTime = 50 * time.Millisecond

// errorBodyTime is how long the body of an error may take that no retry follows, and the
// end of an answer to a POST that may be empty, which decides whether one does.
const errorBodyTime = time.Second

// closeResponse closes a response that is not wanted, after reading what little
// may be left of it: only then can an HTTP/1 connection be used again.
func (h *hop) closeResponse(resp *http.Response) {
	if h.t.resumed == nil && resp.ProtoMajor < 2 && !resp.Close && resp.ContentLength != 0 && resp.ContentLength <= drainBytes {
		h.readSome(resp, drainTime, nil)
		return
	}
	resp.Body.Close()
}

// readSome reads up to 64 KiB of a body within a time, into text unless it is nil,
// and closes it. The time is real, whatever the clock: a guard against a peer that
// drips. Closing is what ends a Read that hangs; only of net/http's own bodies is
// that certain, so that others, also of a wrapper, are read in a goroutine.
func (h *hop) readSome(resp *http.Response, limit time.Duration, text *[]byte) {
	body := resp.Body
	if body == http.NoBody {
		return
	}
	length := int64(-1) // to be thrown away
	if text != nil {
		length = max(0, resp.ContentLength)
	}
	if h.t.core.std != nil && h.t.core.wrap == nil || memoryReader(body) != nil {
		guard := time.AfterFunc(limit, func() { body.Close() })
		some := readUpTo(&io.LimitedReader{R: body, N: drainBytes}, length)
		guard.Stop()
		body.Close()
		if text != nil {
			*text = some
		}
		return
	}
	if h.reader == nil {
		h.reader = new(guardedRead)
	}
	if !h.reader.read(body, limit, length) {
		h.reader = nil // it is reading still
	} else if text != nil {
		*text = h.reader.text
	}
}

// closeTime is how long a Read may take to notice that its body was closed.
const closeTime = 10 * time.Millisecond

// guardedRead reads in a goroutine, which it leaves behind if neither the body's end
// nor its Close ends the Read: to wait for that could take for ever.
type guardedRead struct {
	some   io.LimitedReader
	length int64
	text   []byte
	met    atomic.Bool   // the reader is done, or its caller waits: the second to come sees the first
	done   chan struct{} // made by a caller that has to wait
}

// read closes the body when it is done, or the time is up, and reports whether it
// is done then.
func (g *guardedRead) read(body io.ReadCloser, limit time.Duration, length int64) bool {
	g.some, g.length = io.LimitedReader{R: body, N: drainBytes}, length
	g.met.Store(false)
	go g.run()
	runtime.Gosched() // most bodies are there already
	done := g.met.Load()
	if !done {
		g.done = make(chan struct{}, 1)
		done = g.met.Swap(true) || g.within(limit)
	}
	body.Close()
	return done || g.within(closeTime)
}

func (g *guardedRead) within(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-g.done:
		return true
	case <-timer.C:
		return false
	}
}

func (g *guardedRead) run() {
	g.text = readUpTo(&g.some, g.length)
	if g.met.Swap(true) {
		g.done <- struct{}{}
	}
}

// isComplete reports whether a body of which n bytes came, and then its end, cannot
// have been cut off: its length was announced, or its end was marked. Where the end
// of the connection is that of the body, this cannot be known: another request does no
// harm, but one with a method that is not idempotent might, and the status says that the
// request was carried out.
func isComplete(resp *http.Response, n int64) bool {
	switch {
	case resp.ContentLength == n, resp.ProtoMajor >= 2, len(resp.TransferEncoding) > 0:
		return true
	case resp.Uncompressed && !resp.Close: // net/http drops the length of what it unpacks
		return true
	}
	req := resp.Request
	return req != nil && (req.Method == http.MethodHead || !idempotentMethod(req.Method))
}

// damage reads the rest of a body that net/http unpacks, behind what was wanted of
// it: only at the end is its checksum. It gives up on one that goes on for long, or
// whose end does not come within a time.
func damage(resp *http.Response, limit time.Duration) error {
	if !resp.Uncompressed {
		return nil
	}
	guard := time.AfterFunc(limit, func() { resp.Body.Close() })
	_, err := io.CopyN(io.Discard, resp.Body, drainBytes)
	if !guard.Stop() || err == io.EOF {
		return nil
	}
	return err
}

// decodedBody is the body of a response while it is decoded.
type decodedBody struct {
	io.ReadCloser
	n      atomic.Int64 // bytes read
	ended  atomic.Bool  // its end was seen
	closed atomic.Bool
}

func (b *decodedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

func (b *decodedBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// readUpTo reads the beginning of a body of that length, 0 if it is not known. It
// returns what there is of it, unless the length is negative.
func readUpTo(some *io.LimitedReader, length int64) (text []byte) {
	switch {
	case length < 0:
		io.Copy(io.Discard, some)
	case length == 0 || length > drainBytes:
		text, _ = io.ReadAll(some)
	default:
		text = make([]byte, length+1) // room to see the end
		n, _ := io.ReadFull(some, text)
		text = text[:n]
	}
	return text
}

// relax gives what is left of the time limits to a response whose beginning is
// good: the base client's Timeout covers the body, AttemptTimeout does not.
func (h *hop) relax() {
	if h.timeout == nil {
		return
	}
	left := time.Duration(0)
	if h.t.timeout > 0 && h.t.resumed == nil {
		left = max(1, h.t.timeout-h.timeout.Elapsed())
	}
	h.timeout.SetLimit(left)
}

// handOver gives a response to the caller, with what ends when its body does.
func (h *hop) handOver(resp *http.Response) {
	timeout, cancel := h.timeout, h.cancel
	if timeout == nil && cancel == nil || resp.Body == http.NoBody || h.req.Method == http.MethodHead { // close ends them
		return
	}
	h.timeout, h.cancel = nil, nil
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &endingBody{resp.Body, timeout, cancel}
	} else if timeout != nil { // the connection is the caller's now
		timeout.Detach()
	}
}

// hasNoBody reports whether a response is over with its header, so that its body need
// not be read or closed. Over HTTP/2 a length of 0, or a status without a body, does not say
// so: the end may come later. net/http has a type without a field for the body of one.
func (h *hop) hasNoBody(resp *http.Response) bool {
	return resp.Body == nil || valid.IsNil(resp.Body) || h.t.core.std != nil && resp.ContentLength == 0 && reflect.TypeOf(resp.Body).Size() == 0
}

// endingBody ends an attempt's time limits, and its context, with its body.
type endingBody struct {
	io.ReadCloser
	timeout *clock.Timeout
	cancel  context.CancelFunc
}

func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end()
	}
	return n, err
}

func (b *endingBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

func (b *endingBody) end() {
	if b.timeout != nil {
		b.timeout.Cancel()
	}
	if b.cancel != nil {
		b.cancel()
	}
}

// givenUp carries the loop's error past http.Client to the RetryableClient.
type givenUp struct {
	io.ReadCloser
	err error
}

// limitIdle puts the response's body under the client's IdleTimeout.
func (h *hop) limitIdle(resp *http.Response) {
	limit := h.t.core.idleTimeout
	if limit <= 0 || resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	body := &idleBody{ReadCloser: resp.Body, close: sync.OnceValue(resp.Body.Close), clock: h.cfg.Clock, limit: limit}
	if body.clock == nil {
		body.clock = clockwork.NewRealClock()
	}
	if h.timeout != nil {
		body.cancel = h.timeout.Cancel
	}
	h.idle, resp.Body = body, body
}

// idleBody ends a Read that blocks for too long.
type idleBody struct {
	io.ReadCloser
	close   func() error // of the body, once
	clock   clockwork.Clock
	limit   time.Duration
	cancel  context.CancelFunc // of the attempt's context, for bodies whose Close does not end a Read
	begin   sync.Once          // of the first Read: there may be two at once
	timer   clockwork.Timer    // runs while a Read is under way
	expired atomic.Bool
}

func (b *idleBody) Read(p []byte) (int, error) {
	b.begin.Do(func() { b.timer = b.clock.AfterFunc(b.limit, b.expire) })
	b.timer.Reset(b.limit)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if b.expired.Load() && (n == 0 || err != nil) {
		return n, &idleError{b.limit}
	}
	return n, err
}

func (b *idleBody) expire() {
	b.expired.Store(true)
	if b.cancel != nil {
		b.cancel()
	}
	b.close()
}

func (b *idleBody) Close() error { return b.close() }

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

package retry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
)

// outgoing is one attempt at a request on its way: the request with its context
// and URL, in one allocation.
type outgoing struct {
	context.Context // the attempt's
	method          string
	url             url.URL
	request         http.Request
}

type outgoingKey struct{}

// Value lets a Transport inside of this one see that the request is cared for.
func (o *outgoing) Value(key any) any {
	if key == (outgoingKey{}) {
		return o
	}
	return o.Context.Value(key)
}

// caredFor reports whether req is an attempt of a Transport around this one.
func caredFor(req *http.Request) bool {
	o, ok := req.Context().Value(outgoingKey{}).(*outgoing)
	return ok && o.method == req.Method && o.url.Path == req.URL.Path && o.url.RawQuery == req.URL.RawQuery
}

// upload is the body of one attempt, watched.
type upload struct {
	body   io.ReadCloser
	length int64 // as declared; 0 or less if unknown
	fresh  func() (io.ReadCloser, error)

	read    atomic.Int64 // bytes
	touched atomic.Bool  // somebody began to read
	closed  atomic.Bool
	ended   atomic.Bool           // the body's end was seen
	failure atomic.Pointer[error] // what the body itself failed with
}

// Read reads the body and notes what became of it.
func (u *upload) Read(p []byte) (int, error) {
	u.touched.Store(true)
	n, err := u.body.Read(p)
	u.read.Add(int64(n))
	switch {
	case err == io.EOF:
		u.ended.Store(true)
	case err != nil && !u.closed.Load():
		failure := err // a copy, so that err itself can stay on the stack
		u.failure.Store(&failure)
	}
	return n, err
}

// Close closes the body, once, however often net/http does.
func (u *upload) Close() error {
	if u.closed.Swap(true) {
		return nil
	}
	return u.body.Close()
}

// reopen is GetBody for net/http, which may send an attempt anew by itself. What
// it sends then counts as read.
func (u *upload) reopen() (io.ReadCloser, error) {
	body, err := u.fresh()
	if err != nil {
		return nil, err
	}
	return &reopened{body, u}, nil
}

type reopened struct {
	io.ReadCloser
	of *upload
}

func (r *reopened) Read(p []byte) (int, error) {
	r.of.touched.Store(true)
	return r.ReadCloser.Read(p)
}

// fault is what is wrong with the body itself, and would be again: reading it
// failed, or it is not as long as was declared.
func (u *upload) fault(err error) error {
	if failure := u.failure.Load(); failure != nil {
		if !is(err, *failure) { // net/http mostly returns it itself
			err = errors.Join(err, *failure)
		}
		return &bodyError{err}
	}
	if n := u.read.Load(); u.length > 0 && (n > u.length || u.ended.Load() && n < u.length) {
		return &bodyError{err}
	}
	return nil
}

// bodyError marks an error as the caller's own: it says nothing about the host.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// replayer gives a body that can be read only once to each of several attempts:
// it remembers what was read while it streams, up to a limit. Nothing is read
// ahead of the attempt that sends it.
//
// net/http may still be reading for an attempt that is over when the next one
// begins; what it reads then is remembered for the next.
type replayer struct {
	source io.ReadCloser

	mu      sync.Mutex // guards the fields below
	turn    sync.Cond  // one reads from source, others wait
	reading bool
	chunks  [][]byte
	total   int64 // bytes read from source
	limit   int64
	lost    bool  // more than limit was read, and is not remembered
	err     error // what source ended with
	last    *replay
	final   bool // no other attempt will come
	closed  bool
}

func newReplayer(req *http.Request, limit int64) *replayer {
	if req.ContentLength > limit {
		limit = 0 // it would be in vain
	}
	r := &replayer{source: req.Body, limit: limit}
	r.turn.L = &r.mu
	return r
}

// open returns the body for the next attempt, from its beginning: out of file, if
// it is one. Those before it are at their end.
func (r *replayer) open(file io.Reader) io.ReadCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &replay{r: r, file: file}
	r.turn.Broadcast()
	return r.last
}

func (r *replayer) replayable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.lost
}

// finish says that no other attempt will come.
func (r *replayer) finish() {
	r.mu.Lock()
	r.final = true
	closing := !r.closed && (r.last == nil || r.last.closed)
	r.closed = r.closed || closing
	r.mu.Unlock()
	if closing {
		r.source.Close()
	}
}

// keep remembers p. r.mu must be held.
func (r *replayer) keep(p []byte) {
	r.total += int64(len(p))
	if r.total > r.limit {
		r.lost, r.chunks = true, nil
	}
	for !r.lost && len(p) > 0 {
		last := len(r.chunks) - 1
		if last < 0 || len(r.chunks[last]) == cap(r.chunks[last]) {
			// Small bodies get a small chunk; none is longer than what is left.
			size := min(max(512, r.total), 32<<10, r.limit-(r.total-int64(len(p))))
			r.chunks = append(r.chunks, make([]byte, 0, size))
			last++
		}
		c := r.chunks[last]
		n := min(len(p), cap(c)-len(c))
		r.chunks[last] = append(c, p[:n]...)
		p = p[n:]
	}
}

// replay is one attempt's view of a replayer, or that of net/http when it sends an
// attempt anew by itself.
type replay struct {
	r      *replayer
	file   io.Reader // to read from, if there is one
	closed bool      // guarded by r.mu
	chunk  int       // the next byte to read is at [chunk][at]
	at     int
	pos    int64
}

func (v *replay) Read(p []byte) (int, error) {
	r := v.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case v != r.last || v.closed:
			return 0, http.ErrBodyReadAfterClose
		case v.file != nil:
			return v.file.Read(p)
		case v.pos < r.total && r.lost:
			return 0, ErrBodyNotReplayable
		case v.pos < r.total:
			return v.remembered(p), nil
		case r.err != nil:
			return 0, r.err
		case !r.reading:
			return v.further(p)
		}
		r.turn.Wait()
	}
}

func (v *replay) remembered(p []byte) int {
	for v.at == len(v.r.chunks[v.chunk]) {
		v.chunk, v.at = v.chunk+1, 0
	}
	n := copy(p, v.r.chunks[v.chunk][v.at:])
	v.at += n
	v.pos += int64(n)
	return n
}

// further reads from the source, with r.mu released meanwhile.
func (v *replay) further(p []byte) (int, error) {
	r := v.r
	r.reading = true
	r.mu.Unlock()
	n, err := r.source.Read(p)
	r.mu.Lock()
	r.reading = false
	r.keep(p[:n])
	r.err = err
	r.turn.Broadcast()
	v.pos += int64(n)
	if !r.lost && n > 0 { // behind what is remembered now
		v.chunk = len(r.chunks) - 1
		v.at = len(r.chunks[v.chunk])
	}
	return n, err
}

// Close closes the source as well, if no other attempt will come.
func (v *replay) Close() error {
	r := v.r
	r.mu.Lock()
	v.closed = true
	r.turn.Broadcast()
	closing := r.final && !r.closed && v == r.last
	r.closed = r.closed || closing
	r.mu.Unlock()
	if closing {
		return r.source.Close()
	}
	return nil
}

// section is a file's rest, from where it stands now, as a body that each
// attempt can read from the start. A file has no GetBody of its own, and
// without its length net/http would send it in chunks, which some servers
// refuse.
func section(file *os.File) (open func() io.Reader, size int64, ok bool) {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, 0, false
	}
	offset, err := file.Seek(0, io.SeekCurrent)
	if err != nil || offset > info.Size() {
		return nil, 0, false
	}
	size = info.Size() - offset
	return func() io.Reader { return io.NewSectionReader(file, offset, size) }, size, true
}

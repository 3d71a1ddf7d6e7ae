package retry

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/retryutils/retry/internal/valid"
)

// upload is the body of one attempt, watched.
type upload struct {
	body   io.ReadCloser
	length int64 // as declared; 0 or less if unknown
	fresh  func() (io.ReadCloser, error)

	read    atomic.Int64 // bytes
	closed  atomic.Bool
	ended   atomic.Bool           // the body's end was seen
	failure atomic.Pointer[error] // what the body itself failed with
}

// Read reads the body and notes what became of it.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.body.Read(p)
	u.read.Add(int64(n))
	switch {
	case err == io.EOF:
		u.ended.Store(true)
	case err != nil:
		u.note(err)
	}
	return n, err
}

func (u *upload) note(err error) {
	if !u.closed.Load() {
		failure := err // a copy, so that err itself can stay on the stack
		u.failure.Store(&failure)
	}
}

// Close closes the body, once, however often net/http does.
func (u *upload) Close() error {
	if u.closed.Swap(true) {
		return nil
	}
	return u.body.Close()
}

// reopen is GetBody for net/http, which may send an attempt again by itself.
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
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		r.of.note(err)
	}
	return n, err
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

var errNoBody = errors.New("GetBody returned neither a body nor an error")

// freshBody asks a request for its body again.
func freshBody(getBody func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	body, err := getBody()
	if err == nil && (body == nil || valid.IsNil(body)) {
		err = errNoBody
	}
	return body, err
}

// checkRequest reports what keeps a request from being sent that has a nil in it.
func checkRequest(req *http.Request) error {
	inside := withoutNopCloser(req.Body)
	switch {
	case req.URL == nil:
		return invalid("request URL is nil")
	case valid.IsNil(req.Context()):
		return invalid("request context is a nil %T", req.Context())
	case valid.IsNil(req.Body):
		return invalid("request body is a nil %T", req.Body)
	case valid.IsNil(inside):
		return invalid("request body is a nil %T", inside)
	}
	return nil
}

// inMemory reports whether the body is what http.NewRequest makes of a buffer or a
// string, and as long as declared. Such a body can be read again and cannot fail, and
// closing it does nothing, so that it need not be watched; and net/http sends such a
// body, and none that is wrapped, in one write with the header.
func inMemory(req *http.Request) bool {
	if req.GetBody == nil {
		return false
	}
	r := memoryReader(req.Body)
	return r != nil && (req.ContentLength <= 0 || int64(r.Len()) == req.ContentLength)
}

func memoryReader(body io.ReadCloser) interface{ Len() int } {
	switch r := withoutNopCloser(body).(type) {
	case *bytes.Reader, *strings.Reader, *bytes.Buffer:
		return r.(interface{ Len() int })
	}
	return nil
}

// withoutNopCloser looks into what io.NopCloser makes of a reader. A body of any
// other type is nil.
func withoutNopCloser(body io.ReadCloser) io.Reader {
	switch reflect.TypeOf(body) {
	case typeNopCloser, typeNopCloserWriterTo:
		r, _ := reflect.ValueOf(body).Field(0).Interface().(io.Reader)
		return r
	}
	return nil
}

var (
	typeNopCloser         = reflect.TypeOf(io.NopCloser(struct{ io.Reader }{}))
	typeNopCloserWriterTo = reflect.TypeOf(io.NopCloser(strings.NewReader("")))
)

func closeBody(req *http.Request) {
	if req.Body != nil && !valid.IsNil(req.Body) {
		req.Body.Close()
	}
}

// replayer gives a body that has no GetBody to each of several attempts, and of
// several hops. What can be read at any place is read again; of others it
// records what was read while it streams, up to a limit. Nothing is read ahead
// of the attempt that sends it.
//
// net/http may still be reading for an attempt that is over when the next one
// begins; what it reads then is recorded for the next.
type replayer struct {
	source io.Reader
	close  func() error     // of the source, once
	file   func() io.Reader // to read from, if it can be read at any place
	length int64            // of the file's rest; negative if unknown

	mu      sync.Mutex // guards the fields below
	changed sync.Cond  // one reads from source, others wait
	reading bool
	chunks  [][]byte // what was read from source; all but the last one of chunkSize
	total   int64    // bytes read from source
	limit   int64
	lost    bool  // more than limit was read, and is not recorded
	err     error // what source ended with
	last    *replay
	final   bool // no other attempt will come
}

// bodyOf returns the replayer of a request's body, which records up to limit, or nil if
// it needs none. The request of a hop that another one led to may bring it along.
func bodyOf(req *http.Request, limit int64) *replayer {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil {
		return nil
	}
	r := &replayer{source: req.Body, close: sync.OnceValue(req.Body.Close), length: -1, limit: limit}
	r.changed.L = &r.mu
	if req.ContentLength > r.limit {
		r.limit = 0 // it would be useless
	}
	if file := readerAt(req.Body); file != nil {
		r.file, r.length = section(file)
	}
	return r
}

// attach makes the body of req one that http.Client can read again, for redirects.
func (r *replayer) attach(req *http.Request) {
	if r.declare(req) {
		return
	}
	req.Body = r.open(false)
	req.GetBody = func() (io.ReadCloser, error) { return r.reopen(false) }
}

// declare sets the length of a file, without which net/http would send it in
// chunks, which some servers refuse. Only in chunks can a trailer be sent. It reports
// whether there is nothing to send.
func (r *replayer) declare(req *http.Request) (empty bool) {
	if r.length > 0 && req.ContentLength <= 0 && len(req.TransferEncoding) == 0 && len(req.Trailer) == 0 {
		req.ContentLength = r.length
	}
	if empty = r.length == 0 && req.ContentLength <= 0 && len(req.Trailer) == 0; empty {
		req.Body, req.GetBody = http.NoBody, nil
	}
	return empty
}

// open returns the body from its beginning, for an attempt, or for http.Client,
// which may not use it. Those before it are at their end.
func (r *replayer) open(attempt bool) *replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &replay{r: r, blank: !attempt}
	if r.file != nil {
		r.last.file = r.file()
	}
	r.changed.Broadcast()
	return r.last
}

// reopen is open, if all that was read is still there.
func (r *replayer) reopen(attempt bool) (io.ReadCloser, error) {
	if !r.replayable() {
		return nil, ErrBodyNotReplayable
	}
	return r.open(attempt), nil
}

func (r *replayer) replayable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.lost
}

// once says that there will be one attempt: nothing need be recorded.
func (r *replayer) once() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total == 0 {
		r.limit = 0
	}
}

// finish says that no other attempt will come. What is recorded is released
// as soon as the last one has read it.
func (r *replayer) finish() {
	r.mu.Lock()
	r.final = true
	over := r.last == nil || r.last.closed || r.last.blank
	if over || r.last.pos == r.total {
		r.forget()
	}
	r.mu.Unlock()
	if over {
		r.close()
	}
}

// forget releases what was recorded. r.mu must be held.
func (r *replayer) forget() { r.limit, r.chunks, r.lost = 0, nil, true }

const chunkSize = 32 << 10

// record keeps p for the next attempt. r.mu must be held.
func (r *replayer) record(p []byte) {
	r.total += int64(len(p))
	if r.total > r.limit {
		r.lost, r.chunks = true, nil
	}
	for !r.lost && len(p) > 0 {
		last := len(r.chunks) - 1
		if last < 0 || len(r.chunks[last]) == chunkSize {
			r.chunks = append(r.chunks, make([]byte, 0, min(r.total, chunkSize))) // a small one for a small body
			last++
		}
		n := min(len(p), chunkSize-len(r.chunks[last]))
		r.chunks[last] = append(r.chunks[last], p[:n]...)
		p = p[n:]
	}
}

// replay is one attempt's view of a replayer, or that of net/http when it sends an
// attempt again by itself.
type replay struct {
	r      *replayer
	file   io.Reader // to read from, if there is one
	blank  bool      // no attempt's: http.Client may not send it
	closed bool      // guarded by r.mu
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
			return v.recorded(p), nil
		case r.err != nil:
			return 0, r.err
		case !r.reading:
			return v.further(p)
		}
		r.changed.Wait()
	}
}

func (v *replay) recorded(p []byte) int {
	n := copy(p, v.r.chunks[v.pos/chunkSize][v.pos%chunkSize:])
	v.pos += int64(n)
	if v.r.final && v.pos == v.r.total {
		v.r.forget()
	}
	return n
}

// further reads from the source, with r.mu released meanwhile, even if that panics.
func (v *replay) further(p []byte) (n int, err error) {
	r := v.r
	r.reading = true
	func() {
		r.mu.Unlock()
		defer func() {
			r.mu.Lock()
			r.reading = false
			r.changed.Broadcast()
		}()
		n, err = r.source.Read(p)
	}()
	r.record(p[:n])
	r.err = err
	v.pos += int64(n)
	return n, err
}

// Close closes the source as well, if no other attempt will come.
func (v *replay) Close() error {
	r := v.r
	r.mu.Lock()
	v.closed = true
	r.changed.Broadcast()
	over := r.final && v == r.last
	if over {
		r.forget()
	}
	r.mu.Unlock()
	if over {
		return r.close()
	}
	return nil
}

// seekerAt is what can be read from any place, by several at once.
type seekerAt interface {
	io.ReaderAt
	io.Seeker
}

// readerAt returns the body as such, or as what is inside of an io.NopCloser. A file that is none
// on a disk is read only once, and so is a struct that embeds one, whose Read may be its own.
func readerAt(body io.ReadCloser) seekerAt {
	file, ok := body.(seekerAt)
	if !ok {
		file, ok = withoutNopCloser(body).(seekerAt)
	}
	if f, regular := file.(*os.File); regular {
		info, err := f.Stat()
		ok = err == nil && info.Mode().IsRegular()
	}
	if !ok || embedsFile(reflect.Indirect(reflect.ValueOf(file)).Type()) {
		return nil
	}
	return file
}

// embedsFile reports whether a struct has its ReadAt from a field that it embeds. The files
// of mime/multipart do not count: they read as that field does.
func embedsFile(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool {
		return f.Anonymous && f.Type.Implements(reflect.TypeFor[io.ReaderAt]()) && f.Type != reflect.TypeFor[*io.SectionReader]()
	})
}

// section is a file's rest, from where it stands now, as a body that each
// attempt can read from the start. Its length is known if the file really ends
// where it says: one that grows does not, nor do those of /proc and /sys. They
// are sent up to where they end.
func section(file seekerAt) (open func() io.Reader, length int64) {
	offset, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, -1
	}
	end, err := file.Seek(0, io.SeekEnd)
	if _, back := file.Seek(offset, io.SeekStart); back != nil {
		return nil, -1
	}
	length = end - offset
	if err != nil || length < 0 || !endsAt(file, offset, end) {
		return func() io.Reader { return io.NewSectionReader(file, offset, math.MaxInt64) }, -1
	}
	return func() io.Reader { return io.NewSectionReader(file, offset, length) }, length
}

// endsAt reports whether the byte before end is the last one.
func endsAt(file io.ReaderAt, offset, end int64) bool {
	last := max(offset, end-1)
	n, err := file.ReadAt(make([]byte, 2), last)
	return int64(n) == end-last && err == io.EOF
}

package retry

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
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

// reopen is GetBody for net/http, which may send an attempt anew by itself.
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

// bodyError marks an error as the caller's own: it says nothing about the host.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

var errNoBody = errors.New("GetBody returned neither a body nor an error")

// anew asks a request for its body once more.
func anew(getBody func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	body, err := getBody()
	if err == nil && (body == nil || isNil(body)) {
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
	case isNil(req.Context()):
		return invalid("request context is a nil %T", req.Context())
	case isNil(req.Body):
		return invalid("request body is a nil %T", req.Body)
	case isNil(inside):
		return invalid("request body is a nil %T", inside)
	}
	return nil
}

// inMemory returns the reader of a body that is what http.NewRequest makes of a
// buffer or a string, or else nil. Such a body can be had anew, cannot fail, and
// closing it does nothing, so that nobody need watch it; and net/http sends such
// a body, and none that is wrapped, in one write with the header.
func inMemory(req *http.Request) interface{ Len() int } {
	if req.GetBody == nil {
		return nil
	}
	return memoryReader(req.Body)
}

func memoryReader(body io.ReadCloser) interface{ Len() int } {
	switch r := withoutNopCloser(body).(type) {
	case *bytes.Reader:
		return r
	case *strings.Reader:
		return r
	case *bytes.Buffer:
		return r
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
	if req.Body != nil && !isNil(req.Body) {
		req.Body.Close()
	}
}

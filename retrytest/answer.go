package retrytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jonboulle/clockwork"
)

// Answer is what a [Script] answers to one request. It is a plain value: With
// and After return a changed copy.
type Answer struct {
	status int
	header http.Header
	body   string
	cut    int           // bytes of the body before it breaks off; less than 0: all of it
	delay  time.Duration // before the answer
	hang   bool
	err    error
	what   string

	carriedOut, cutOff bool // by Faults: the request is sent, and its answer lost or cut off
}

// Status is an answer with a status and a body, which may be empty.
func Status(code int, body string) Answer {
	return Answer{status: code, body: body, cut: -1, what: strings.TrimSpace(fmt.Sprint(code, " ", http.StatusText(code)))}
}

// JSON is an answer with status 200 and v as JSON. It panics if v cannot be
// written as JSON.
func JSON(v any) Answer {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("retrytest: JSON: %v", err))
	}
	return Status(http.StatusOK, string(body)).With("Content-Type", "application/json")
}

// TooManyRequests is a 429 with a Retry-After, in seconds, with decimals if need
// be.
func TooManyRequests(after time.Duration) Answer {
	seconds := strconv.FormatFloat(after.Seconds(), 'f', -1, 64)
	return Status(http.StatusTooManyRequests, "").With("Retry-After", seconds)
}

// Cut is an answer with status 200 whose body breaks off after n bytes.
func Cut(body string, n int) Answer {
	a := Status(http.StatusOK, body)
	a.cut = max(0, min(n, len(body)))
	a.what = fmt.Sprintf("200 OK, cut off after %d bytes", a.cut)
	return a
}

// Reset is a connection that breaks before an answer: the server may or may not
// have done what it was asked for.
func Reset() Answer {
	return Answer{what: "connection reset", err: &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}}
}

// Refused is a connection that does not come about: the server cannot have done
// anything.
func Refused() Answer {
	return Answer{what: "connection refused", err: &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}}
}

// Fail is any other error of the connection.
func Fail(err error) Answer { return Answer{what: err.Error(), err: err} }

// Hang is no answer: the request ends when its context does.
func Hang() Answer { return Answer{what: "no answer", hang: true} }

// With adds a header.
func (a Answer) With(key, value string) Answer {
	a.header = a.header.Clone()
	if a.header == nil {
		a.header = make(http.Header)
	}
	a.header.Add(key, value)
	return a
}

// After makes the answer take so long.
func (a Answer) After(d time.Duration) Answer {
	a.delay = d
	return a
}

// String says in a few words what the answer is.
func (a Answer) String() string {
	if a.delay > 0 {
		return fmt.Sprintf("%s after %v", a.what, a.delay)
	}
	return a.what
}

// response is the answer to req, if it is no error.
func (a Answer) response(req *http.Request) *http.Response {
	resp := &http.Response{
		StatusCode: a.status, Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), ContentLength: int64(len(a.body)), Request: req, Body: http.NoBody,
	}
	if resp.Header == nil {
		resp.Header = make(http.Header)
	}
	if req.Method == http.MethodHead || a.body == "" {
		return resp
	}
	var reader io.Reader = strings.NewReader(a.body)
	if a.cut >= 0 {
		reader = &cutReader{strings.NewReader(a.body[:a.cut])}
	}
	resp.Body = io.NopCloser(reader)
	return resp
}

// wait lets the answer's time pass. It ends with ctx.
func (a Answer) wait(ctx context.Context, clock clockwork.Clock) error {
	if clock, ok := clock.(*Clock); ok {
		return a.passOn(ctx, clock)
	}
	if a.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if a.delay <= 0 {
		return ctx.Err()
	}
	timer := clock.NewTimer(a.delay)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// passOn moves the clock on: to the end of the delay, or to that of ctx.
func (a Answer) passOn(ctx context.Context, clock *Clock) error {
	if deadline, ok := ctx.Deadline(); ok {
		if left := clock.Until(deadline); a.hang || left <= a.delay {
			clock.Sleep(left)
			<-ctx.Done()
			return ctx.Err()
		}
	}
	if a.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	clock.Sleep(a.delay)
	return ctx.Err()
}

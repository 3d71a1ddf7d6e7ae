// Package sse reads streams of server-sent events, and goes on with them where they
// broke off.
//
//	for event, err := range sse.Stream(client, req) {
//		if err != nil {
//			return err
//		}
//		handle(event)
//	}
//
// The client's rules hold for each connection that is made: its Gate, Breaker, Budget
// and hooks, and its Config's limits. MaxRetries counts from the last event or comment
// on, so that a feed goes on for ever as long as its server is there; MaxElapsed and
// the deadline of the request's context bound the whole, and a feed without an end
// leaves them unset.
//
// The client's Timeout and AttemptTimeout bound a connection until its headers have
// arrived. What guards the time after that is [retry.IdleTimeout]: without it, a
// connection whose other end has vanished is waited for as long as the operating system
// likes.
//
// # Feeds
//
// A GET is a feed: one that was cut, or that the server ended, is asked for again with
// the Last-Event-ID of the last event, after the longer of the server's reconnection
// time (its "retry" field) and the Config's backoff. Where the server honours the id,
// nothing is lost, and nothing comes twice. A reconnection time of more than
// Config.MaxRetryAfter ends the stream, and so does the status 204, without an error.
//
// # Answers
//
// A POST, as the APIs of language models have it, is a question with one answer. It is
// repeated until the first event was handed on, and not afterwards, whatever
// [retry.WithIdempotent] says: a second answer would be another one. An answer that is
// cut off then ends with an error that matches [retry.ErrNotIdempotent]; one whose
// server ends it, without an error. What such APIs report in the first event, such as
// an overload, can be judged before it is handed on by a [retry.CheckResponse]: it may
// read the body's beginning, and what it returns is retried as everywhere.
//
// # Sources
//
// The format is that of the HTML standard, section 9.2, "Server-sent events"
// (https://html.spec.whatwg.org/multipage/server-sent-events.html), with the rules for
// parsing of 9.2.5 and 9.2.6. There are two differences: text that is no UTF-8 is passed
// on as it came, and statuses are judged by the client's rules, so that a 503 is retried.
package sse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/redact"
)

// Event is one event of a stream.
type Event struct {
	ID   string // the last one that the server sent, with this event or before
	Type string // "message" where the server names none
	Data []byte // its lines, separated by line feeds; the caller's to keep
}

// Option changes how [Stream] works.
type Option func(*options)

type options struct{ maxEvent int64 }

// MaxEvent sets how large an event may be: its data, type and ID together. A larger one
// ends the stream with an error. The default is 16 MiB; 0 means no limit.
func MaxEvent(bytes int64) Option { return func(o *options) { o.maxEvent = bytes } }

// Stream sends req and returns the events of its response, as they arrive. An error
// comes last. Breaking out of the loop closes the connection. See the package's
// comment for what is sent again.
//
// The events are read by the goroutine that ranges over them; while it is busy with
// one, nothing is read. The loop may be run again, for a new stream, where the request
// has no body or a GetBody. The request's own Last-Event-ID, if it has one, is where
// the feed begins.
func Stream(c *retry.RetryableClient, req *http.Request, opts ...Option) iter.Seq2[Event, error] {
	sent := new(atomic.Bool) // the request's body
	return func(yield func(Event, error) bool) {
		o := options{maxEvent: 16 << 20}
		for _, option := range opts {
			if option != nil {
				option(&o)
			}
		}
		var err error
		switch {
		case c == nil || req == nil:
			err = fmt.Errorf("%w: sse.Stream: client or request is nil", retry.ErrInvalidConfig)
		case o.maxEvent < 0:
			err = fmt.Errorf("%w: sse.MaxEvent is %d, want 0 or more", retry.ErrInvalidConfig, o.maxEvent)
		default:
			s := &stream{req: req, sent: sent, yield: yield, limit: o.maxEvent, id: req.Header.Get("Last-Event-ID")}
			s.sendID = s.id
			err = retry.Resume(req.Context(), c, s.next, s.read)
			if s.left {
				return
			}
		}
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// stream is one run of the loop.
type stream struct {
	req   *http.Request
	sent  *atomic.Bool
	yield func(Event, error) bool
	limit int64

	id     string        // of the last event
	sendID string        // the last one that a header can carry
	retry  time.Duration // the server's reconnection time; 0: none was sent
	handed bool          // an event was handed on
	left   bool          // the caller broke out of the loop
}

// feed reports whether the stream is one that goes on, and not one answer.
func (s *stream) feed() bool {
	return s.req.Method == "" || s.req.Method == http.MethodGet || s.req.Method == "QUERY"
}

// next makes the request of one connection.
func (s *stream) next(ctx context.Context) (*http.Request, error) {
	req := s.req.Clone(ctx)
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	for name, value := range map[string]string{
		"Accept":          "text/event-stream",
		"Accept-Encoding": "identity", // compression holds events back
		"Cache-Control":   "no-cache",
	} {
		if len(req.Header.Values(name)) == 0 {
			req.Header.Set(name, value)
		}
	}
	req.Header.Del("Last-Event-ID")
	if s.sendID != "" {
		req.Header.Set("Last-Event-ID", s.sendID)
	}
	if req.Body == nil || req.Body == http.NoBody || !s.sent.Swap(true) {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, retry.Permanent(fmt.Errorf("%w: it has no GetBody", retry.ErrBodyNotReplayable))
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, retry.Permanent(err)
	}
	req.Body = body
	return req, nil
}

// read hands on the events of one response.
func (s *stream) read(resp *http.Response) (progressed bool, err error) {
	if resp.StatusCode == http.StatusNoContent {
		return false, nil
	}
	if err := s.check(resp); err != nil {
		return false, retry.Permanent(s.at(resp, err))
	}
	p := &parser{limit: s.limit, id: s.id, lastID: s.id, retry: s.retry}
	buffer := make([]byte, 32<<10)
	for !s.left {
		n, err := resp.Body.Read(buffer)
		if fault := p.parse(buffer[:n], s.hand); fault != nil {
			return p.progressed, retry.Permanent(s.at(resp, fault))
		}
		if err != nil && !s.left {
			return s.end(resp, p, err)
		}
	}
	return true, nil
}

// hand gives an event to the caller's loop, and reports whether that goes on.
func (s *stream) hand(event Event) bool {
	s.handed = true
	s.left = !s.yield(event, nil)
	return !s.left
}

// check reports what keeps a response from being a stream of events.
func (s *stream) check(resp *http.Response) error {
	kind := resp.Header.Get("Content-Type")
	essence, _, _ := strings.Cut(kind, ";")
	coding := resp.Header.Get("Content-Encoding")
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("status is %d, want 200", resp.StatusCode)
	case !strings.EqualFold(strings.TrimSpace(essence), "text/event-stream"):
		if media, _, err := mime.ParseMediaType(kind); err == nil {
			kind = media
		}
		return fmt.Errorf("content type is %.80q, want \"text/event-stream\"", kind)
	case coding != "" && !strings.EqualFold(coding, "identity") && !resp.Uncompressed:
		return fmt.Errorf("content encoding is %.80q, want none", coding)
	}
	return nil
}

// end says what the end of a response means, at which reading gave err.
func (s *stream) end(resp *http.Response, p *parser, err error) (progressed bool, _ error) {
	s.id, s.retry = p.lastID, p.retry
	if inHeader(s.id) {
		s.sendID = s.id
	}
	ctx := resp.Request.Context()
	select {
	case <-ctx.Done():
		return p.progressed, err
	default:
	}
	clean := err == io.EOF
	if clean {
		err = errEnded
	}
	err = s.at(resp, fmt.Errorf("event stream at byte %d: %w", p.pos, err))
	switch {
	case s.feed():
		if s.retry > 0 {
			err = retry.Neutral(retry.RetryAfter(err, s.retry))
		}
		return clean || p.progressed, err
	case clean:
		return false, nil
	case s.handed:
		return false, retry.Permanent(&retry.Error{Attempts: retry.RetryCount(ctx) + 1, Reason: retry.ErrNotIdempotent, Err: err})
	}
	return false, err
}

var errEnded = errors.New("the server ended it")

// at puts the URL into an error, without its secrets.
func (s *stream) at(resp *http.Response, err error) error {
	method := resp.Request.Method
	if method == "" {
		method = http.MethodGet
	}
	return &url.Error{Op: method[:1] + strings.ToLower(method[1:]), URL: redact.Bare(resp.Request.URL), Err: err}
}

// inHeader reports whether net/http sends a text in a header: a control character
// would fail the request. The standard lets an ID have any but NUL, CR and LF.
func inHeader(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) < 0
}

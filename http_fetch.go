package retry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/retryutils/retry/internal/valid"
)

// Fetch sends req and decodes the response. Decoding is part of the attempt: if it
// fails with an error that [Do] would retry, such as that of a body that was cut
// off, the request is sent again and decode is called again. So decode must begin
// from the start each time, say with an empty file. Mark an error of decode that no
// retry can help as [Permanent]. Only responses below 400 are decoded. Fetch
// closes the body.
func Fetch[T any](c *RetryableClient, req *http.Request, decode func(*http.Response) (T, error)) (T, error) {
	var value, zero T
	if c == nil || req == nil || decode == nil {
		if req != nil {
			closeBody(req)
		}
		return zero, invalid("Fetch: client, request or decode is nil")
	}
	decoded := false
	inAttempt := func(resp *http.Response) (err error) {
		if limit := c.core.decodeLimit; limit > 0 {
			resp.Body = http.MaxBytesReader(nil, resp.Body, limit)
		}
		value, err = decode(resp)
		decoded = err == nil
		return err
	}
	resp, err := c.do(req, func(t *Transport) { t.decode = inAttempt })
	if err != nil {
		return zero, err
	}
	defer resp.Body.Close()
	if !decoded { // a redirect that the client does not follow
		if err := inAttempt(resp); err != nil {
			err, _ = unmarked(err)
			return zero, err
		}
	}
	return value, nil
}

// GetJSON sends a GET request and decodes the response as [DecodeJSON] does. A
// body that was cut off is retried, one that is no JSON or does not fit T is
// not.
func GetJSON[T any](ctx context.Context, c *RetryableClient, url string) (T, error) {
	return sendJSON[T](ctx, c, http.MethodGet, url, nil)
}

// PostJSON sends a POST request with the value in as JSON, nil as null, and decodes
// the response as [GetJSON] does. It is repeated as a [RetryableClient] repeats any POST,
// with an Idempotency-Key; [WithIdempotent] of ctx forbids that.
func PostJSON[T any](ctx context.Context, c *RetryableClient, url string, in any) (T, error) {
	if in == nil {
		in = json.RawMessage("null")
	}
	return sendJSON[T](ctx, c, http.MethodPost, url, in)
}

func sendJSON[T any](ctx context.Context, c *RetryableClient, method, url string, in any) (T, error) {
	req, err := NewJSONRequest(ctx, method, url, in)
	if err != nil {
		var zero T
		return zero, err
	}
	return Fetch(c, req, DecodeJSON[T])
}

// NewJSONRequest returns a request that accepts JSON, and whose body is the value in
// as JSON; it has none if in is nil. Add headers to it, and send it by [Fetch] with
// [DecodeJSON]. If in cannot be written as JSON, or method or URL are malformed, the
// error matches [ErrInvalidConfig].
func NewJSONRequest(ctx context.Context, method, url string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, invalid("request body: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := newRequest(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// DecodeJSON decodes a response into a T. It is meant for [Fetch], and [GetJSON]
// uses it. A complete answer with an empty body, as of a 202 or 204, gives a zero T.
// It reads no further than the JSON goes, since a server may leave the connection
// open, and skips a byte order mark. It does not close the body.
//
// A response of 300 or above is not decoded, and its error is a [*StatusError]. A
// body that was cut off gives [io.ErrUnexpectedEOF] or the error of reading it, and
// is retried; so is one that was sent compressed, if its checksum is wrong. Where only
// the end of the connection shows that of the body, an empty answer counts as complete
// for POST, PATCH and the like, which must not be repeated, and else as cut off. For
// what is no JSON, or does not fit T, the error is marked [Permanent], and says what
// came instead.
func DecodeJSON[T any](resp *http.Response) (T, error) {
	var value, zero T
	switch {
	case resp == nil:
		return zero, invalid("DecodeJSON: response is nil")
	case resp.StatusCode >= 400:
		return zero, CheckStatus(resp)
	case resp.StatusCode >= 300:
		return zero, statusOf(resp)
	case resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusResetContent, resp.Body == nil, valid.IsNil(resp.Body):
		return zero, nil
	}
	body := &jsonBody{r: resp.Body}
	decoder := json.NewDecoder(body)
	err := decoder.Decode(&value)
	if err == nil {
		if rest, _ := io.ReadAll(decoder.Buffered()); len(bytes.TrimLeft(rest, " \t\r\n")) > 0 {
			err = errTrailing
		} else if body.err = damage(resp, errorBodyTime); body.err == nil {
			return value, nil
		}
	}
	switch {
	case body.err != nil: // the body was cut off, or damaged
	case err == io.EOF && isComplete(resp, body.n):
		return zero, nil
	case err == io.EOF, err == io.ErrUnexpectedEOF: // so was the JSON
		body.err = io.ErrUnexpectedEOF
	default:
		return zero, Permanent(fmt.Errorf("decoding JSON: %w (%s)", err, body.origin(resp, err)))
	}
	return zero, body.err
}

var errTrailing = errors.New("more than one value")

// jsonBody skips a byte order mark, ends where the JSON does, and keeps an error of
// reading, to distinguish it from one of decoding, and how the body began.
type jsonBody struct {
	r     io.Reader
	n     int64  // bytes read
	start []byte // the first ones, behind the mark
	err   error

	kind    byte // the first byte of the value
	left    int  // bytes, of a literal
	escaped bool // inside of a string
	ended   bool // the string or literal
}

const byteOrderMark = "\xef\xbb\xbf"

func (b *jsonBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	n, err := b.r.Read(p)
	if b.n == 0 {
		for more := 0; err == nil && n < len(byteOrderMark) && string(p[:n]) == byteOrderMark[:n]; n += more {
			more, err = b.r.Read(p[n:])
		}
		b.n = int64(n)
		if mark := min(n, len(byteOrderMark)); string(p[:mark]) == byteOrderMark[:mark] {
			if n = copy(p, p[mark:n]); mark > 0 && mark < len(byteOrderMark) && err == io.EOF {
				err = io.ErrUnexpectedEOF // cut off inside of it
			}
		}
	} else {
		b.n += int64(n)
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	if room := 80 - len(b.start); room > 0 {
		b.start = append(b.start, p[:min(n, room)]...)
	}
	b.follow(p[:n])
	return n, err
}

// follow looks for the end of a string or literal. A Decoder sees by itself where
// an object or array ends, but waits for the byte after anything else. Where a
// number ends cannot be seen.
func (b *jsonBody) follow(p []byte) {
	for _, c := range p {
		switch {
		case b.kind == 0 && strings.IndexByte(" \t\r\n", c) >= 0:
		case b.kind == 0:
			b.kind, b.left = c, map[byte]int{'t': 3, 'f': 4, 'n': 3}[c]
		case b.kind == '"' && b.escaped:
			b.escaped = false
		case b.kind == '"' && c == '\\':
			b.escaped = true
		case b.kind == '"' && c == '"':
			b.ended = true
			return
		case b.left > 1:
			b.left--
		case b.left == 1:
			b.ended = true
			return
		case b.kind != '"':
			return
		}
	}
}

// origin says what came in the place of JSON: the status, the content type, and
// how it began, unless it was JSON after all.
func (b *jsonBody) origin(resp *http.Response, err error) string {
	text := strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	if kind := resp.Header.Get("Content-Type"); kind != "" {
		text += ", " + oneLine([]byte(kind), 80)
	}
	if _, ok := err.(*json.SyntaxError); ok || err == errTrailing {
		text += fmt.Sprintf(": %q", oneLine(b.start, 80))
	}
	return text
}

// Resume runs the loop of [Do] for an answer that can be continued where it broke
// off: a long file, a stream of events, a list in pages. Packages download and sse
// stand on it.
//
// next makes the request of each attempt, say with a Range or a Last-Event-ID for
// what is still missing, with the context that it is given. read consumes the
// response: any below 400, or a 416. Resume closes its body. A nil error of read ends
// the call; any other is judged as in Do. So is one of next. A wait that read asks for
// by [RetryAfter] is the shortest before any retry until the next response is read.
//
// An attempt that progressed, as read reports, though it failed, sets the number of
// retries and the backoff back to the beginning: the next retry is the first one
// again, and costs no [Budget]; to a breaker it is no failure. Attempts and
// [RetryCount] count on, NoRetries still means none, and MaxElapsed and the deadline
// bound the whole. An attempt without progress counts as everywhere.
//
// Each attempt begins with the request of next and follows the redirects again, so
// that an address that has expired is resolved again. The hooks, the budget and the
// limits are those of the first request's host, and see one call; the gate, limiter and
// breaker of each host it passes guard it as usual. A POST or PATCH has one
// Idempotency-Key in all attempts.
//
// The base client's Timeout and AttemptTimeout end when the headers have arrived; what
// comes after is guarded by [IdleTimeout].
func Resume(ctx context.Context, c *RetryableClient, next func(context.Context) (*http.Request, error), read func(*http.Response) (progressed bool, err error)) error {
	if c == nil || next == nil || read == nil {
		return invalid("Resume: client, next or read is nil")
	}
	whole := c.core.cfg
	if err := whole.check(ctx); err != nil {
		return err
	}
	r := &resumption{c: c, next: next, read: read, ctx: &retryContext{ctx, RetryCount(ctx)}, cfg: &whole}
	defer func() {
		if r.first != nil { // it was not sent
			closeBody(r.first)
		}
	}()
	r.call.start = r.cfg.now()
	if !done(ctx) { // the first request says by whose settings the call goes
		if r.first, r.err = r.request(r.ctx); r.err == nil {
			host, err := c.core.hosts.get(c.core, r.first)
			if err != nil {
				return err
			}
			defer host.inUse.Add(-1)
			r.hostKey = c.core.key(r.first)
			whole = host.cfg
			r.call.method, r.call.host = methodOf(r.first), hostName(r.first)
		}
	}
	r.call.onHost = r.onHost
	whole.AttemptTimeout = 0 // each hop has its own
	err := r.call.run(ctx, r.cfg, r.attempt, nil)
	if fault, ok := err.(*bodyError); ok {
		return fault.err
	}
	return err
}

// resumption is a call of Resume: the loop around http.Client, whose hops make one
// attempt each.
type resumption struct {
	c       *RetryableClient
	next    func(context.Context) (*http.Request, error)
	read    func(*http.Response) (bool, error)
	ctx     context.Context // of the first request, as a pointer: the caller's may not be comparable
	first   *http.Request   // until it is sent
	err     error           // of next, in its place
	hostKey string          // of the first request
	cfg     *Config
	call    call

	// Of the attempt under way.
	asked    bool  // the host, by a hop
	consumed bool  // a response was consumed
	failure  error // of the last hop, with its marks, which http.Client would hide

	// What the hops of one attempt leave for those of the next.
	key string // Idempotency-Key that the library adds
	history
}

// request has next make a request.
func (r *resumption) request(ctx context.Context) (*http.Request, error) {
	req, err := r.next(ctx)
	switch {
	case err != nil:
		return nil, err
	case req == nil:
		return nil, invalid("Resume: next returned no request")
	}
	if err = checkRequest(req); err != nil {
		closeBody(req)
		return nil, err
	}
	return req, nil
}

// attempt sends one request, with its redirects, and has the response read.
func (r *resumption) attempt(ctx context.Context) error {
	r.asked, r.consumed, r.failure = false, false, nil
	r.call.progressed, r.call.elsewhere, r.call.veto, r.call.status = false, false, outcome{}, 0
	req, err := r.first, r.err
	if r.first, r.err = nil, nil; req == nil && err == nil {
		req, err = r.request(ctx)
	}
	if err != nil {
		return err
	}
	if req.Context() == r.ctx { // it was made before the attempt had its own
		req = req.WithContext(ctx)
	}
	resp, err := r.c.do(req, func(t *Transport) { t.resumed, t.decode = r, r.consume })
	switch {
	case r.failure != nil:
		return r.failure
	case err != nil: // of http.Client itself: a redirect that it must not follow
		return Permanent(err)
	}
	defer resp.Body.Close()
	if !r.consumed { // a redirect that the client does not follow
		return r.consume(resp)
	}
	return nil
}

// consume has a response read.
func (r *resumption) consume(resp *http.Response) (err error) {
	r.consumed = true
	r.call.progressed, err = r.read(resp)
	r.call.least = 0
	if found := examine(err, nil); found.has(delayed) {
		r.call.least = found.delay
	}
	return err
}

// send makes the one attempt of a hop. The loop has passed the gate, the limiter and
// the breaker of the first host already, for the first request to it; any other request
// passes those of its host here.
func (r *resumption) send(ctx context.Context, h *hop) error {
	if h.key != "" {
		r.key = cmp.Or(r.key, h.key)
		h.key = r.key
	}
	h.history = r.history
	h.call.start, h.call.before = r.call.start, 1-r.call.failed()
	var err error
	if !r.asked && hostName(h.req) == r.call.host && r.c.core.key(h.req) == r.hostKey {
		r.asked = true
		h.call.attempts = 1
		err = h.call.withTimeout(ctx, h.cfg, h.attempt)
	} else {
		h.cfg = r.oneAttempt(h.cfg)
		err = h.call.run(ctx, h.cfg, h.attempt, h.discard)
		if r.call.elsewhere = true; err != nil && h.call.attempts > 0 {
			err = h.call.last // with its marks
		}
	}
	r.call.veto, r.call.status = h.call.veto, h.call.status
	if r.failure = err; err != nil {
		h.discard()
	}
	r.history = h.history
	return err
}

// oneAttempt is the Config for a request that the loop around it repeats, and whose
// hooks report it.
func (r *resumption) oneAttempt(cfg *Config) *Config {
	c := withoutRetries(cfg)
	c.OnStart, c.OnAttempt, c.OnAttemptDone, c.OnRetry, c.OnDone, c.Budget = nil, nil, nil, nil, nil, nil
	c.MaxElapsed = r.cfg.MaxElapsed // counted from the start of the whole
	return c
}

// onHost is what an attempt's error says about the first request's host.
func (r *resumption) onHost(err error) error {
	switch {
	case r.call.progressed, r.call.elsewhere && r.asked: // it answered
		return nil
	case r.call.elsewhere:
		return Neutral(err)
	}
	return err
}

package retry

import (
	"context"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

// hop is one request on its way through a Transport, with all its attempts.
// With redirects, one request of a client's user is several hops.
type hop struct {
	t       *Transport
	host    *host
	req     *http.Request
	decode  func(*http.Response) error // belongs to the attempt; nil but for Fetch
	key     string                     // Idempotency-Key that is ours; "" if none is
	keeper  *replayer                  // of a body that can be read only once
	file    func() io.Reader           // of a body that is a file
	length  int64                      // the body's, if it was found out here
	url     string                     // without its secrets, once it is needed
	call    call
	ctx     context.Context // of the attempt under way
	resp    *http.Response  // the last attempt's, while it is in hand
	timeout *timeoutContext // its time limits, if there are any
	sent    *upload         // the last attempt's body, if it is watched

	misdirected bool // a 421 has been answered by another connection
	cookies     bool // the jar got new ones from a failed attempt
}

// RoundTrip sends req until a response can be returned; see Transport.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || caredFor(req) {
		return t.core.base.RoundTrip(req)
	}
	host, err := t.core.hosts.get(t.core, req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	defer host.inUse.Add(-1)
	h := hop{t: t, host: host, req: req}
	h.call.method = methodOf(req)
	h.prepare()
	ctx, cancel := withLegacyCancel(req)
	defer cancel()
	defer h.finish()
	if err = h.call.run(ctx, &host.cfg, h.attempt, h.discard); err != nil {
		return h.failed(ctx, err)
	}
	if t.client && isRedirect(h.resp) {
		if err := h.beforeRedirect(ctx); err != nil {
			h.discard()
			return nil, err
		}
	}
	return h.resp, nil
}

// prepare finds out how the body can be sent more than once, and how Fetch
// wants it decoded.
func (h *hop) prepare() {
	req := h.req
	if h.t.client {
		h.decode, _ = req.Context().Value(decodeKey{}).(func(*http.Response) error)
		h.key = h.ownKey()
	}
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil {
		return
	}
	h.keeper = newReplayer(req, h.t.core.replayBuffer)
	if file, ok := req.Body.(*os.File); ok {
		h.file, h.length, _ = section(file)
	}
}

// ownKey returns the Idempotency-Key that makes a POST or PATCH safe to repeat:
// one for the whole request, redirects included. What the caller decided stands.
func (h *hop) ownKey() string {
	req := h.req
	if h.t.core.idempotentOnly || req.Method != http.MethodPost && req.Method != http.MethodPatch || hasKey(req.Header) {
		return ""
	}
	if _, decided := req.Context().Value(idempotentKey{}).(bool); decided {
		return ""
	}
	if req.Response != nil && req.Response.Request != nil { // the hop that led here
		if key := req.Response.Request.Header.Get("Idempotency-Key"); key != "" {
			return key
		}
	}
	return newKey()
}

// attempt sends the request once and says what came of it, as an error that the
// loop can judge. A response stays in hand until it is discarded or returned.
func (h *hop) attempt(ctx context.Context) (err error) {
	h.ctx, h.resp, h.timeout = ctx, nil, nil
	settled := false
	defer func() {
		if !settled { // a panic
			h.abandon()
		} else if h.resp == nil {
			h.release()
		}
	}()
	req, err := h.next(ctx)
	if err != nil {
		settled = true
		return err
	}
	resp, err := h.t.core.base.RoundTrip(req)
	switch {
	case err != nil:
		if resp != nil {
			closeResponse(resp)
		}
		err = h.judgeError(safe(err))
	case resp == nil:
		err = Permanent(errNoResponse)
	default:
		h.accept(resp, req)
		err = h.judgeResponse()
	}
	settled = true
	return err
}

// next makes the attempt's request: a copy that shares nothing with the
// caller's that anybody could change, unless nobody will.
func (h *hop) next(ctx context.Context) (*http.Request, error) {
	h.sent = nil
	if h.asItIs() {
		return h.req, nil
	}
	o := &outgoing{method: h.req.Method, url: *h.req.URL}
	if limit := h.limit(); limit > 0 {
		h.timeout = withTimeout(ctx, h.host.cfg.Clock, limit)
		ctx = h.timeout
	}
	o.Context = ctx
	o.request = *h.req.WithContext(o)
	req := &o.request
	req.URL = &o.url
	req.Header = h.header()
	if req.Trailer != nil {
		req.Trailer = req.Trailer.Clone()
	}
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return req, nil
	case h.inMemory():
		return req, h.attachMemory(req)
	}
	return req, h.attachBody(req)
}

// asItIs reports whether the attempt can do with the caller's own request: it is
// the first, nothing is to be added, and it goes to net/http's own transport,
// which changes nothing and sends it anew itself when it must.
func (h *hop) asItIs() bool {
	req := h.req
	if h.host.cfg.OnStart != nil || h.host.cfg.OnAttempt != nil { // its context is another
		return false
	}
	return h.t.core.std != nil && h.call.attempts == 1 && h.limit() == 0 && RetryCount(req.Context()) == 0 &&
		req.Header != nil && !h.adds() && (req.Body == nil || req.Body == http.NoBody || h.inMemory())
}

// inMemory reports whether the body is what http.NewRequest makes of a buffer
// or a string. It can be had anew, cannot fail, and closing it does nothing, so
// that nobody need watch it; and net/http sends such a body, and none that is
// wrapped, in one write with the header.
func (h *hop) inMemory() bool {
	return h.req.GetBody != nil && reflect.TypeOf(h.req.Body) == typeInMemory
}

var typeInMemory = reflect.TypeOf(io.NopCloser(strings.NewReader("")))

// attachMemory gives a retry its own copy of such a body.
func (h *hop) attachMemory(req *http.Request) (err error) {
	if h.call.attempts > 1 {
		req.Body, err = h.anew()
	}
	return err
}

// anew asks GetBody for the body of a retry. If it fails, so does the call, by
// no fault of the host.
func (h *hop) anew() (io.ReadCloser, error) {
	body, err := h.req.GetBody()
	if err != nil {
		given := h.call.error(&h.host.cfg, halt{reason: &bodyError{err}}, h.call.last)
		given.Attempts-- // this one has not begun
		return nil, Permanent(given)
	}
	return body, nil
}

// limit is the time an attempt has until its headers arrive.
func (h *hop) limit() time.Duration {
	whole, headers := h.t.timeout, h.host.attemptTimeout
	if whole > 0 && headers > 0 {
		return min(whole, headers)
	}
	return max(whole, headers)
}

// adds reports whether the attempt's header is more than the caller's.
func (h *hop) adds() bool { return h.key != "" || h.cookies || h.marked() }

// marked reports whether net/http is to be told that it may repeat the request.
func (h *hop) marked() bool {
	return h.key == "" && h.t.core.std != nil && !stdReplays(h.req) && h.idempotent()
}

// header copies the caller's, and adds what is ours.
func (h *hop) header() http.Header {
	if len(h.req.Header) == 0 && !h.adds() {
		return make(http.Header)
	}
	n := 1
	for _, values := range h.req.Header {
		n += len(values)
	}
	header := make(http.Header, len(h.req.Header)+1)
	values := make([]string, n)
	for name, old := range h.req.Header {
		if old == nil {
			header[name] = nil
			continue
		}
		n := copy(values, old)
		header[name] = values[:n:n]
		values = values[n:]
	}
	if h.key != "" {
		values[0] = h.key
		header["Idempotency-Key"] = values[:1:1]
	} else if h.marked() {
		// Tells net/http, and nobody else, that it may repeat a PUT or DELETE
		// that met a connection just closed, as it does with a GET: a key
		// without a value is not sent (see the doc of http.Transport).
		header["X-Idempotency-Key"] = []string{}
	}
	if h.cookies {
		h.refreshCookies(header)
	}
	return header
}

// refreshCookies has the jar's newest cookies take the place of older ones.
func (h *hop) refreshCookies(header http.Header) {
	fresh := h.t.jar.Cookies(h.req.URL)
	req := http.Request{Header: header}
	old := req.Cookies()
	header.Del("Cookie")
	for _, cookie := range old {
		if !slices.ContainsFunc(fresh, func(f *http.Cookie) bool { return f.Name == cookie.Name }) {
			req.AddCookie(cookie)
		}
	}
	for _, cookie := range fresh {
		req.AddCookie(cookie)
	}
}

// attachBody gives the attempt a fresh reader.
func (h *hop) attachBody(req *http.Request) error {
	u := &upload{length: req.ContentLength}
	h.sent, req.Body = u, u
	switch {
	case h.keeper == nil:
		u.body, u.fresh = h.req.Body, h.req.GetBody
		if h.call.attempts > 1 {
			body, err := h.anew()
			if err != nil {
				return err
			}
			u.body = body
		}
		if h.idempotent() {
			return nil // net/http may use the caller's GetBody itself: nobody need watch
		}
	case h.file != nil:
		keeper, file := h.keeper, h.file // closures over h itself would put it on the heap for every request
		u.body = keeper.open(file())
		u.fresh = func() (io.ReadCloser, error) { return keeper.open(file()), nil }
		if h.length == 0 {
			req.Body, req.GetBody = http.NoBody, nil
			return u.Close()
		}
		if req.ContentLength <= 0 && len(req.TransferEncoding) == 0 {
			req.ContentLength, u.length = h.length, h.length
		}
	default:
		keeper := h.keeper
		u.body = keeper.open(nil)
		u.fresh = func() (io.ReadCloser, error) {
			if !keeper.replayable() {
				return nil, ErrBodyNotReplayable
			}
			return keeper.open(nil), nil
		}
	}
	req.GetBody = u.reopen
	return nil
}

// accept takes a response in hand.
func (h *hop) accept(resp *http.Response, sent *http.Request) {
	h.resp = resp
	h.host.proto.Store(int32(max(1, resp.ProtoMajor)))
	resp.Request = h.req
	if h.key != "" && isRedirect(resp) {
		resp.Request = sent // carries the key to the next hop
	}
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	if h.timeout == nil || h.decode != nil && h.final() {
		return
	}
	left := time.Duration(0)
	if h.t.timeout > 0 {
		left = max(1, h.t.timeout-h.timeout.elapsed())
	}
	h.timeout.setLimit(left)
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		h.timeout.setLimit(0)
		h.timeout.unlink()
		h.timeout = nil // the connection is the caller's now
	case resp.Body != http.NoBody:
		resp.Body = &timedBody{resp.Body, h.timeout}
	}
}

// final reports whether the response is what Fetch is waiting for.
func (h *hop) final() bool { return h.resp.StatusCode < 400 && !isRedirect(h.resp) }

// judgeResponse says what the response means: nil for a good one.
func (h *hop) judgeResponse() error {
	resp := h.resp
	var err error
	if check := h.t.core.check; check != nil && !isRedirect(resp) {
		err = runCheck(check, resp)
	}
	if err == nil && (resp.StatusCode >= 400 || h.host.cfg.lists(resp)) {
		if h.url == "" {
			h.url = safeURL(h.req.URL)
		}
		status := newStatusError(resp, methodOf(h.req), h.url, h.host.cfg.Clock)
		err = status
		if resp.StatusCode == http.StatusMisdirectedRequest && !h.misdirected && h.host.cfg.RetryStatusCodes == nil {
			h.misdirected = true
			err = RetryAfter(status, 0) // once, over another connection
		}
	}
	if err == nil && h.decode != nil && h.final() {
		if err = h.decode(resp); err == nil {
			closeResponse(resp)
			resp.Body = http.NoBody
			h.release()
			return nil
		}
		closeResponse(resp)
		h.resp = nil
	}
	if err == nil {
		return nil
	}
	return h.ifRepeatable(err, resp)
}

// failed is what RoundTrip returns when the loop ended in an error: the last
// response, if it is in hand, or else the error.
func (h *hop) failed(ctx context.Context, err error) (*http.Response, error) {
	if h.resp == nil || done(ctx) {
		h.discard()
		if fault, ok := err.(*bodyError); ok {
			err = fault.err
		}
		return nil, err
	}
	if h.t.client {
		h.resp.Body = &givenUp{h.resp.Body, err}
	}
	return h.resp, nil
}

// discard lets go of the response in hand, and reads a little of it so that its
// connection can be used again.
func (h *hop) discard() {
	if h.resp == nil {
		return
	}
	if jar := h.t.jar; jar != nil && h.t.client {
		if cookies := h.resp.Cookies(); len(cookies) > 0 {
			jar.SetCookies(h.req.URL, cookies)
			h.cookies = true
		}
	}
	closeResponse(h.resp)
	if h.resp.StatusCode == http.StatusMisdirectedRequest {
		h.t.CloseIdleConnections()
	}
	h.resp = nil
	h.release()
}

// release ends the attempt's time limits.
func (h *hop) release() {
	if h.timeout != nil {
		h.timeout.cancel()
		h.timeout = nil
	}
}

// abandon lets go of an attempt that panicked.
func (h *hop) abandon() {
	if h.resp != nil {
		h.resp.Body.Close()
	}
	if h.sent != nil {
		h.sent.Close()
	}
	h.release()
}

// finish lets go of the body.
func (h *hop) finish() {
	if h.keeper != nil {
		h.keeper.finish()
	} else if h.call.attempts == 0 {
		closeBody(h.req)
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// withLegacyCancel returns the request's context, ended by its Cancel channel
// as well. The returned function must be called.
func withLegacyCancel(req *http.Request) (context.Context, func()) {
	//lint:ignore SA1019 callers may still use it, and a wait must end with it
	legacy := req.Cancel
	if legacy == nil {
		return req.Context(), func() {}
	}
	ctx, cancel := context.WithCancel(req.Context())
	over := make(chan struct{})
	go func() {
		select {
		case <-legacy:
			cancel()
		case <-over:
		}
	}()
	// The context must outlive the call: the response's body hangs on it.
	return ctx, func() { close(over) }
}

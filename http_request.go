package retry

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"

	"github.com/retryutils/retry/internal/attempt"
	"github.com/retryutils/retry/internal/clock"
)

// hop is one request on its way through a Transport, with all its attempts.
// With redirects, one request of a client's user is several hops.
type hop struct {
	t      *Transport
	host   *host
	cfg    *Config
	req    *http.Request
	url    string // without its secrets, once it is needed
	traits attempt.Traits
	key    string    // Idempotency-Key that the library adds; "" if none
	body   *replayer // of a body without GetBody
	owner  bool      // of body
	memory bool      // the body is one in memory
	call   call
	cancel context.CancelFunc // of a context that ends by the request's Cancel channel
	reader *guardedRead       // for bodies whose Read may hang

	history
	exchange
}

// history is what one attempt at a request leaves for those after it.
type history struct {
	lost        bool // an attempt that may have been carried out had no answer
	misdirected bool // a 421 has been answered by another connection
	stale       bool // the connection may be dead
}

// exchange is one attempt: the request as sent, and its response.
type exchange struct {
	ctx      context.Context // without its time limits
	out      *outgoing       // nil if it is the caller's own request
	sent     *upload         // its body, if it is watched
	inBase   bool            // the base transport was called, and has not returned
	resp     *http.Response  // while it is pending
	answered bool            // there was a response, pending or not
	timeout  *clock.Timeout  // its time limits, if there are any
	idle     *idleBody       // the body of the pending response, if IdleTimeout limits it
}

// outgoing is one attempt at a request on its way: the request with its context
// and URL, in one allocation.
type outgoing struct {
	context.Context // the attempt's
	url             url.URL
	request         http.Request

	cfg    *Config // in effect
	traits attempt.Traits

	// For the base transport alone, beneath the wrappers; see wire.
	traced        bool // it is to report what it does
	mayRepeat     bool // net/http may repeat it
	mustNotRepeat bool // net/http must not repeat it
	ownConn       bool // over a connection of its own

	seen   traces // what net/http reports of the attempt, where that is asked for
	played attempt.Played
}

type outgoingKey struct{}

// Value lets a Transport inside of this one see that the request is retried already,
// and hides what WithIdempotent said of it from other requests made during the attempt.
func (o *outgoing) Value(key any) any {
	switch key {
	case outgoingKey{}:
		return o
	case attempt.Key{}:
		return &o.traits
	case attempt.PlayedKey{}:
		return &o.played
	case attempt.IdempotentKey{}:
		return nil
	}
	return o.Context.Value(key)
}

// ConfigOf returns the Config in effect for the request whose attempt ctx was given to,
// with what [PerHost] and [HostBreaker] made of it for the host: for transports given to
// [WrapTransport], which can spare a host in trouble, or count by its name. It is false
// for a context that no attempt of a request was given.
func ConfigOf(ctx context.Context) (Config, bool) {
	if ctx == nil {
		return Config{}, false
	}
	o, ok := ctx.Value(outgoingKey{}).(*outgoing)
	if !ok {
		return Config{}, false
	}
	return *o.cfg, true
}

// attemptOf returns the attempt of a Transport around this one that req is, nil if
// it is none, but another request that is made on its way, with its context. The
// query may differ: some services want a signature or a key in it.
func attemptOf(req *http.Request) *outgoing {
	o, ok := req.Context().Value(outgoingKey{}).(*outgoing)
	if ok && o.request.Method == req.Method && o.url.Scheme == req.URL.Scheme && o.url.Host == req.URL.Host &&
		o.url.Opaque == req.URL.Opaque && o.url.Path == req.URL.Path {
		return o
	}
	return nil
}

// next makes the attempt's request: a copy that shares nothing with the
// caller's that could be changed, unless nothing will change it.
func (h *hop) next(ctx context.Context) (*http.Request, error) {
	// Evidence may be needed where the request may not be repeated blindly, or changes
	// something, see MayHaveActed, where nothing is known of the host, and over HTTP/2,
	// where net/http may refuse a request.
	traced := !h.idempotent() || h.t.core.std != nil && (h.host.proto.Load() != 1 || !safeMethod(h.req.Method))
	var cookies []*http.Cookie
	if h.t.jar != nil {
		cookies = h.t.jar.Cookies(cookieURL(h.req))
	}
	if !traced && len(cookies) == 0 && h.asItIs() {
		return h.req, nil
	}
	o := &outgoing{Context: ctx, url: *h.req.URL, cfg: h.cfg, traits: h.traits}
	if o.traced = traced && h.t.core.wrap != nil; traced && !o.traced {
		o.Context = httptrace.WithClientTrace(ctx, o.seen.trace())
	}
	h.out, o.mayRepeat, o.mustNotRepeat = o, h.netMayRepeat(), h.netMustNotRepeat()
	o.request = *h.req.WithContext(o)
	req := &o.request
	req.URL = &o.url
	if req.Header = h.req.Header.Clone(); req.Header == nil {
		req.Header = make(http.Header)
	}
	if h.key != "" {
		req.Header["Idempotency-Key"] = []string{h.key}
	}
	for _, cookie := range cookies {
		req.AddCookie(cookie)
	}
	if h.stale {
		h.stale = false
		h.t.CloseIdleConnections()
		o.ownConn = true
	}
	return req, h.attachBody(req)
}

// asItIs reports whether the attempt can do with the caller's own request: it is
// the first, nothing is to be added, and it goes to net/http's own transport,
// which changes nothing and sends it again itself when it must. A wrapper
// may add a header, and may ask for ConfigOf.
func (h *hop) asItIs() bool {
	req := h.req
	if h.cfg.OnStart != nil || h.cfg.OnAttempt != nil { // its context is another
		return false
	}
	return h.t.core.std != nil && h.t.core.wrap == nil && h.call.attempts == 1 && h.timeout == nil && RetryCount(req.Context()) == 0 &&
		req.Header != nil && !h.traits.Decided && h.key == "" && !h.netMayRepeat() && (h.memory || req.Body == nil || req.Body == http.NoBody)
}

// attachBody gives the attempt a fresh reader.
func (h *hop) attachBody(req *http.Request) error {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	if body := h.body; body != nil { // a closure over h itself would put it on the heap for every request
		if body.declare(req) {
			return nil
		}
		h.sent = &upload{body: body.open(true), length: req.ContentLength, fresh: func() (io.ReadCloser, error) { return body.reopen(true) }}
		req.Body, req.GetBody = h.sent, h.sent.reopen
		return nil
	}
	body, getBody := req.Body, req.GetBody
	if h.call.attempts > 1 {
		var err error
		if body, err = freshBody(getBody); err != nil { // by no fault of the host
			given := h.call.error(h.cfg, &bodyError{err}, nil, h.call.last)
			given.Attempts-- // this one has not begun
			return Permanent(given)
		}
	}
	if h.memory {
		req.Body = body
		return nil
	}
	h.sent = &upload{body: body, length: req.ContentLength, fresh: func() (io.ReadCloser, error) { return freshBody(getBody) }}
	req.Body, req.GetBody = h.sent, h.sent.reopen
	return nil
}

// urlError has the form of those of http.Client.
func urlError(method, safeURL string, err error) error {
	return &url.Error{Op: method[:1] + strings.ToLower(method[1:]), URL: safeURL, Err: err}
}

// netMayRepeat reports whether net/http must learn from a mark that it may repeat the
// request.
func (h *hop) netMayRepeat() bool {
	return h.key == "" && h.t.core.std != nil && !idempotentForStd(h.req.Method) && !keyForStd(h.req.Header) && h.idempotent()
}

// netMustNotRepeat reports whether net/http must be kept from repeating a request of which the
// caller said that it is not idempotent. Over HTTP/2 it repeats none that may have been
// carried out.
func (h *hop) netMustNotRepeat() bool {
	return h.traits.Decided && !h.traits.Idempotent && h.t.core.std != nil && h.host.proto.Load() != 2
}

// cookieURL is what http.Client asks the jar with.
func cookieURL(req *http.Request) *url.URL {
	if req.Host == "" {
		return req.URL
	}
	u := *req.URL
	u.Host = req.Host
	return &u
}

// noCookies takes the place of the jar in the http.Client of a RetryableClient, whose
// Transport applies the jar to each attempt: with a jar, http.Client drops a Cookie of
// the caller's from the requests that follow a redirect which sets the same one.
type noCookies struct{}

func (noCookies) Cookies(*url.URL) []*http.Cookie     { return nil }
func (noCookies) SetCookies(*url.URL, []*http.Cookie) {}

// wire is the base transport as the wrappers of WrapTransport get it. What is meant for
// net/http alone is added here, beneath them: they see what is sent, no more.
type wire struct{ http.RoundTripper }

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	o := attemptOf(req)
	if o == nil || !o.traced && !o.mayRepeat && !o.mustNotRepeat && !o.ownConn {
		return w.RoundTripper.RoundTrip(req)
	}
	ctx := req.Context()
	if o.traced {
		ctx = httptrace.WithClientTrace(ctx, o.seen.trace())
	}
	sent := req.WithContext(ctx)
	sent.Close = req.Close || o.ownConn
	if o.mayRepeat && req.Header != nil && !hasKey(req.Header) {
		// A key without a value is not sent. It lets net/http repeat a PUT or DELETE
		// that met a connection just closed, as it does with a GET (see the doc of
		// http.Transport).
		sent.Header = maps.Clone(req.Header)
		sent.Header["X-Idempotency-Key"] = []string{}
	}
	if o.mustNotRepeat {
		keepFromRepeating(sent)
	}
	return w.RoundTripper.RoundTrip(sent)
}

// keepFromRepeating changes what net/http goes by when a connection that others had used
// breaks with the request on it: the method, where the body can be read again, and a key
// in its canonical spelling. What is sent stays the same.
func keepFromRepeating(req *http.Request) {
	if idempotentForStd(req.Method) && req.Method != http.MethodTrace { // that one would be sent with an empty body
		req.GetBody = nil
		if req.Body == nil || req.Body == http.NoBody {
			req.Body = io.NopCloser(strings.NewReader("")) // which net/http does not know to be empty
		}
	}
	if keyForStd(req.Header) {
		req.Header = maps.Clone(req.Header)
		for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
			if values, ok := req.Header[name]; ok {
				delete(req.Header, name)
				req.Header[strings.ToLower(name)] = values
			}
		}
	}
}

// Unwrap returns the transport that it adds to, for wrappers that go by
// its type.
func (w *wire) Unwrap() http.RoundTripper { return w.RoundTripper }

// CloseIdleConnections lets a transport of WrapTransport pass the call on.
func (w *wire) CloseIdleConnections() {
	(&http.Client{Transport: w.RoundTripper}).CloseIdleConnections()
}

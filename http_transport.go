package retry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/retryutils/retry/internal/attempt"
	"github.com/retryutils/retry/internal/redact"
	"github.com/retryutils/retry/internal/valid"
)

// Transport is an http.RoundTripper that retries, for code that brings its own
// *http.Client. It keeps the contract of net/http: when it gives up on a status,
// it returns that response, its body unread, without an error. Config.OnDone
// reports the reason.
//
// Requests with an idempotent method are retried as by a [RetryableClient]. POST
// and PATCH, whose senders may know nothing of a repetition, are retried only if
// they have an Idempotency-Key or X-Idempotency-Key header, if [WithIdempotent]
// says so, or if the server cannot have acted on them: no connection came about,
// the HTTP/2 stream was refused, or the status is 421, 425, 429, or 503 with a
// Retry-After header. One that is not repeated for this reason is logged as a warning,
// since it may have been carried out, and OnDone gets [ErrNotIdempotent].
//
// It works on one request at a time: redirects and cookies are the client's, and
// so is a Timeout, which bounds all attempts together. The caller's request is
// not changed. It is safe for concurrent use. [NewTransport] has an example.
type Transport struct {
	core    *core
	client  bool                       // on behalf of a RetryableClient
	decode  func(*http.Response) error // belongs to the attempt; nil but for Fetch and Resume
	resumed *resumption                // nil but for Resume
	timeout time.Duration              // of the base client
	jar     http.CookieJar             // of the base client; applied to each attempt
}

// core is what a client and its transports share.
type core struct {
	base  http.RoundTripper
	inner http.RoundTripper // base, without what WrapTransport puts around it
	std   *http.Transport   // inner, if it is net/http's own
	cfg   Config
	options
	hosts hosts
}

// NewTransport returns a transport over base; nil means http.DefaultTransport,
// without a time limit. What [NewRetryableClient] says of a base that retries
// already holds here too.
func NewTransport(base http.RoundTripper, cfg Config, opts ...Option) (*Transport, error) {
	core, limit, err := newCore(base, cfg, opts)
	if err != nil {
		return nil, err
	}
	return &Transport{core: core, timeout: limit}, nil
}

// newCore also returns the time limit per attempt of a base of this package.
func newCore(base http.RoundTripper, cfg Config, opts []Option) (*core, time.Duration, error) {
	c := &core{inner: base, cfg: cfg}
	c.replayBuffer, c.decodeLimit = 1<<20, 64<<20
	limit := time.Duration(0)
	if inner, ok := base.(*Transport); ok && inner != nil { // attempts must not multiply
		c.inner, c.options, limit = inner.core.inner, inner.core.options, inner.timeout
	}
	if c.inner == nil {
		c.inner = http.DefaultTransport
	}
	if valid.IsNil(c.inner) {
		return nil, 0, errors.Join(cfg.Validate(), invalid("base transport is a nil %T", c.inner))
	}
	c.std, _ = c.inner.(*http.Transport)
	for _, option := range opts {
		if option != nil {
			option(&c.options)
		}
	}
	var p valid.Problems
	c.base = &wire{c.inner}
	if c.wrap != nil {
		c.base = c.wrap(c.base)
		valid.Require(&p, c.base != nil && !valid.IsNil(c.base), "WrapTransport", fmt.Sprintf("<nil> (%T)", c.base), "a RoundTripper")
	}
	valid.Require(&p, c.replayBuffer >= 0, "ReplayBuffer", c.replayBuffer, "0 or more")
	valid.Require(&p, c.decodeLimit >= 0, "DecodeLimit", c.decodeLimit, "0 or more")
	valid.Require(&p, c.idleTimeout >= 0, "IdleTimeout", c.idleTimeout, "0 or more")
	errs := []error{cfg.Validate(), p.Join(ErrInvalidConfig, valid.Of("Option"))}
	if c.breaker != nil {
		errs = append(errs, c.breaker.Validate())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, 0, err
	}
	return c, limit, nil
}

// shorter returns the shorter of two time limits, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a > 0 && b > 0 {
		return min(a, b)
	}
	return max(a, b)
}

// CloseIdleConnections closes the base transport's idle connections.
func (t *Transport) CloseIdleConnections() {
	base := t.core.base
	if _, ok := base.(interface{ CloseIdleConnections() }); !ok { // a wrapper need not know of it
		base = t.core.inner
	}
	(&http.Client{Transport: base}).CloseIdleConnections()
}

// RoundTrip sends req until a response can be returned; see Transport.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.client { // its own Do has looked
		if err := checkRequest(req); err != nil {
			closeBody(req)
			return nil, err
		}
	}
	h := hop{t: t, req: req}
	defer h.close()
	if view, ok := req.Body.(*replay); ok { // from RetryableClient.Do
		h.body = view.r
	} else if h.memory = inMemory(req); !h.memory {
		h.body, h.owner = bodyOf(req, t.core.replayBuffer), true
	}
	var err error
	if h.host, err = t.core.hosts.get(t.core, req); err != nil {
		return nil, err
	}
	h.cfg = &h.host.cfg
	h.call.method, h.call.host = methodOf(req), h.host.name
	h.call.hopTimeout, h.call.cancellable = t.timeout, t.core.idleTimeout > 0
	if t.core.hostKey != nil { // one of several that share a key
		h.call.host = hostName(req)
	}
	if !t.client && attemptOf(req) != nil {
		h.cfg = withoutRetries(h.cfg)
	}
	h.traits.Idempotent, h.traits.Decided = req.Context().Value(attempt.IdempotentKey{}).(bool)
	h.traits.Recorded = h.body != nil
	if t.client {
		h.key = h.ownKey()
	} else if h.body != nil && h.cfg.maxRetries() == 0 {
		h.body.once()
	}

	if req.Response != nil || t.resumed != nil || RetryCount(req.Context()) > 0 {
		h.call.harmless = -1 // what went before may have been carried out
	}

	ctx, unwatch := h.context()
	defer unwatch()
	h.call.start = h.cfg.now()
	if err := h.waitForRedirect(ctx); err != nil {
		return nil, err
	}
	if t.resumed != nil {
		return h.outcome(ctx, t.resumed.send(ctx, &h))
	}
	return h.outcome(ctx, h.call.run(ctx, h.cfg, h.attempt, h.discard))
}

// withoutRetries is the Config of a Transport inside of another one that retries
// the same request already: all the rest of it holds.
func withoutRetries(cfg *Config) *Config {
	c := *cfg
	c.MaxRetries = NoRetries
	c.RetryIf = func(error) bool { return false }
	return &c
}

// context returns the context of the waits and hooks: the request's, without
// what WithIdempotent said of this request alone, and ended by its Cancel channel as well.
// The returned function must be called.
func (h *hop) context() (context.Context, func()) {
	ctx := h.req.Context()
	if h.traits.Decided {
		ctx = context.WithValue(ctx, attempt.IdempotentKey{}, nil)
	}
	if before := redirectedBy(h.req); before != nil && before.ctx != nil {
		ctx = following{ctx, before.ctx}
	}
	//lint:ignore SA1019 callers may still use it, and a wait must end with it
	legacy := h.req.Cancel
	if legacy == nil {
		return ctx, func() {}
	}
	ctx, h.cancel = context.WithCancel(ctx)
	return ctx, watch(legacy, h.cancel)
}

// following has, beside its own values, those that OnStart gave to the hop before, so
// that a trace that begins with a request goes on when it is redirected.
type following struct {
	context.Context
	before context.Context
}

func (c following) Value(key any) any {
	if own := c.Context.Value(key); own != nil {
		return own
	}
	return c.before.Value(key)
}

// attempt sends the request once and says what came of it, as an error that the
// loop can judge. A response is pending until it is discarded or returned.
func (h *hop) attempt(ctx context.Context) error {
	h.exchange = exchange{ctx: ctx, timeout: h.call.timeout}
	if h.call.timeout = nil; h.timeout != nil {
		h.ctx = h.timeout.Context
	}
	h.call.veto, h.call.status = outcome{}, 0
	h.call.harmless++ // as long as nothing is sent
	req, err := h.next(ctx)
	if err != nil {
		return err
	}
	h.call.harmless--
	h.inBase = true
	resp, err := h.t.core.base.RoundTrip(req)
	h.inBase = false
	switch {
	case err != nil:
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		err = h.judgeError(redact.Wrap(err))
	case resp == nil:
		err = Permanent(errNoResponse)
	default:
		h.resp, h.answered, h.call.status = resp, true, resp.StatusCode
		h.host.proto.Store(int32(max(1, resp.ProtoMajor)))
		resp.Request = h.req
		if jar := h.t.jar; jar != nil {
			if cookies := resp.Cookies(); len(cookies) > 0 {
				jar.SetCookies(cookieURL(h.req), cookies)
			}
		}
		if h.hasNoBody(resp) {
			resp.Body = http.NoBody
		}
		h.limitIdle(resp)
		err = h.explained(h.judgeResponse())
	}
	if err != nil && h.notCarriedOut(err) {
		h.call.harmless++
		if status, ok := err.(*StatusError); ok {
			status.harmless = h.call.harmless == h.call.attempts
		}
	}
	if h.resp == nil {
		h.release()
	}
	return err
}

var errNoResponse = errors.New("round tripper returned neither a response nor an error")

// outcome is what RoundTrip returns when the loop is over: the last response, if
// it is pending, or else the error.
func (h *hop) outcome(ctx context.Context, err error) (*http.Response, error) {
	if err != nil && (h.resp == nil || done(ctx) && (is(err, ctx.Err()) || is(err, context.Cause(ctx)))) {
		return nil, h.failure(err)
	}
	resp := h.resp
	if h.t.client && isRedirect(resp) && err == nil { // what http.Client would say of one that it cannot follow has the URL in it
		if _, err := url.Parse(resp.Header.Get("Location")); err != nil {
			return nil, &url.Error{Op: "parse", URL: redact.URL(resp.Header.Get("Location")), Err: errors.New("malformed Location")}
		}
	}
	h.resp = nil // it is the caller's now
	h.handOver(resp)
	if h.t.client && err != nil {
		resp.Body = &givenUp{resp.Body, h.failure(err)}
	} else if h.t.client && isRedirect(resp) {
		resp.Body = h.redirect(resp)
	}
	return resp, nil
}

// failure is the error to return: a Transport's without the URL, which the
// http.Client around it adds.
func (h *hop) failure(err error) error {
	if fault, ok := err.(*bodyError); ok {
		err = fault.err
	}
	if e, ok := err.(*Error); ok && e.Reason == ErrMaxRetries && h.cfg != &h.host.cfg {
		err = e.Err // for the Transport around this one to judge
	}
	if h.t.client {
		if e, ok := err.(*url.Error); ok && h.call.harmless == h.call.attempts {
			return &url.Error{Op: e.Op, URL: e.URL, Err: &harmlessError{e.Err}}
		}
		return err
	}
	switch e := err.(type) {
	case *url.Error:
		return e.Err
	case *Error:
		if inner, ok := e.Err.(*url.Error); ok {
			bare := *e // others may have been shown the error
			bare.Err = inner.Err
			return &bare
		}
	}
	return err
}

// discard releases the pending response, and reads a little of it so that its
// connection can be used again.
func (h *hop) discard() {
	if h.resp == nil {
		return
	}
	h.closeResponse(h.resp)
	if h.resp.StatusCode == http.StatusMisdirectedRequest {
		h.t.CloseIdleConnections()
	}
	h.resp = nil
	h.release()
}

// release ends the attempt's time limits.
func (h *hop) release() {
	if h.timeout != nil {
		h.timeout.Cancel()
		h.timeout = nil
	}
}

// explained names the limit in the error of an attempt that reached its time limit.
func (h *hop) explained(err error) error {
	if named, ok := err.(*url.Error); ok {
		return &url.Error{Op: named.Op, URL: named.URL, Err: h.explained(named.Err)}
	}
	return h.call.explain(h.cfg, h.timeout, err)
}

// close releases what the hop still has, whatever way RoundTrip is left: by its
// end, by a panic of a caller's function, or by runtime.Goexit.
func (h *hop) close() {
	if h.resp != nil {
		h.resp.Body.Close()
	}
	h.release()
	if h.cancel != nil {
		h.cancel()
	}
	if h.inBase && h.sent != nil {
		h.sent.Close()
	}
	if h.host != nil {
		h.host.inUse.Add(-1)
	}
	switch {
	case h.body != nil && h.owner:
		h.body.finish()
	case h.call.attempts == 0:
		closeBody(h.req)
	}
}

package retry

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Transport is an http.RoundTripper that retries, for code that brings its own
// *http.Client. It keeps the contract of net/http: when it gives up on a status,
// it returns that response, its body unread, without an error. Config.OnDone
// tells how it came about.
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
// not changed. It is safe for concurrent use.
type Transport struct {
	core    *core
	client  bool                       // on behalf of a RetryableClient
	decode  func(*http.Response) error // belongs to the attempt; nil but for Fetch and Resume
	resumed *resumption                // nil but for Resume
	timeout time.Duration              // of the base client
	jar     http.CookieJar             // of the base client
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
	if isNil(c.inner) {
		return nil, 0, errors.Join(cfg.Validate(), invalid("base transport is a nil %T", c.inner))
	}
	c.std, _ = c.inner.(*http.Transport)
	for _, option := range opts {
		if option != nil {
			option(&c.options)
		}
	}
	var p problems
	c.base = &wire{c.inner}
	if c.wrap != nil {
		c.base = c.wrap(c.base)
		p.require(c.base != nil && !isNil(c.base), "WrapTransport", fmt.Sprintf("<nil> (%T)", c.base), "a RoundTripper")
	}
	p.require(c.replayBuffer >= 0, "ReplayBuffer", c.replayBuffer, "0 or more")
	p.require(c.decodeLimit >= 0, "DecodeLimit", c.decodeLimit, "0 or more")
	p.require(c.idleTimeout >= 0, "IdleTimeout", c.idleTimeout, "0 or more")
	errs := []error{cfg.Validate(), p.join(of("Option"))}
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
	type closer interface{ CloseIdleConnections() }
	base, ok := t.core.base.(closer)
	if !ok { // a wrapper need not know of it
		base, ok = t.core.inner.(closer)
	}
	if ok {
		base.CloseIdleConnections()
	}
}

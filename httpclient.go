package retry

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// RetryableClient is an *http.Client that retries: requests that failed on the
// way, and responses with a status that says so. A nil error means a usable
// response.
//
// A final status of 400 or above is an error: a [*StatusError] as it is for a
// status that is not retried, and inside an [*Error] for one that was given up
// on. It carries the header and the first 64 KiB of the body.
//
// Every request with a method that is idempotent (GET, HEAD, OPTIONS, TRACE,
// QUERY, PUT, DELETE) is retried, and POST and PATCH too: those are sent with an
// Idempotency-Key, one for all attempts and redirects of a request, unless they
// have one. A server that does not know that header may carry out a POST twice
// if a connection breaks; [WithIdempotent] and [IdempotentOnly] forbid it.
//
// A body that can be had anew (GetBody, as http.NewRequest sets it for the usual
// readers), or is a file, is sent anew. Others are remembered while they are
// sent, up to 1 MiB ([ReplayBuffer]); a longer one is not sent again, and the
// reason is [ErrBodyNotReplayable]. Nothing is read ahead of being sent.
//
// The wait before a retry is the longest of the backoff and what the server asks
// for ([ParseRetryAfter]). A 429, 503 or 403 that asks for a wait pauses all
// requests of the client to that host, see [Gate]. With [PerHost] each host has
// its own breaker, limiter and the like.
//
// Redirects are followed by net/http as ever. The retries are made beneath them,
// so that an earlier request of a chain is never repeated; each request of a
// chain may use all of its retries. Cookies that a failed attempt set go out
// with the next one. net/http also repeats some requests by itself, on
// connections that turn out to be closed: a server may see more requests than
// there were attempts.
//
// The Timeout of the base client bounds each attempt, its body included;
// Config.AttemptTimeout only the time until the headers arrive, or, in [Fetch],
// [GetJSON] and [PostJSON], until the response is decoded. To bound the whole
// call, use its context or Config.MaxElapsed.
//
// What a proxy answers to CONNECT is not retried, because net/http reports it
// without a type, a wrong password like an overload. An OnProxyConnectResponse
// that returns [CheckStatus] of it makes the difference.
//
// URLs in its errors and log lines have neither user information nor the values
// of the query. The client is safe for concurrent use.
type RetryableClient struct {
	client *http.Client
	core   *core
}

// Transport is an http.RoundTripper that retries, for code that brings its own
// *http.Client. It keeps the contract of net/http: when it gives up on a status,
// it returns that response, its body unread, without an error. Config.OnDone
// tells how it came about.
//
// Requests with an idempotent method are retried as by a [RetryableClient]. POST
// and PATCH, whose senders may know nothing of a repetition, are retried only if
// they have an Idempotency-Key or X-Idempotency-Key header, if [WithIdempotent]
// says so, or if the server cannot have acted on them: no connection came about,
// the HTTP/2 stream was refused, or the status is 421, 425, 429 or 503.
//
// It works on one request at a time: redirects and cookies are the client's, and
// so is a Timeout, which bounds all attempts together. The caller's request is
// not changed. It is safe for concurrent use.
type Transport struct {
	core    *core
	client  bool           // on behalf of a RetryableClient
	timeout time.Duration  // of the base client
	jar     http.CookieJar // of the base client
}

// core is what a client and its transports share.
type core struct {
	base http.RoundTripper
	std  *http.Transport // base, if it is net/http's own
	cfg  Config
	options
	hosts hosts
}

// Option changes how a [RetryableClient] or [Transport] works.
type Option func(*options)

type options struct {
	perHost        func(string, *Config)
	onHost         func(string, Config)
	wrap           func(http.RoundTripper) http.RoundTripper
	hostKey        func(*http.Request) string
	check          func(*http.Response) error
	replayBuffer   int64
	idempotentOnly bool
	noPause        bool
	decodeLimit    int64
}

// PerHost calls configure once for each host, with a copy of the client's
// Config to change: to give each host its own Breaker, Limiter, Budget or
// limits. The host is named as [HostKey] does. A thousand hosts are remembered;
// of more, those unused for longest are forgotten, but never one whose breaker
// is open.
func PerHost(configure func(host string, cfg *Config)) Option {
	return func(o *options) { o.perHost = configure }
}

// OnHost adds a hook that is called once for each host, with the settings that
// it was given in the end: to observe its Breaker, Gate and Budget, or to share
// their state. A host that was forgotten is told of again.
func OnHost(fn func(host string, cfg Config)) Option {
	return func(o *options) {
		if before := o.onHost; before != nil && fn != nil {
			o.onHost = func(host string, cfg Config) { before(host, cfg); fn(host, cfg) }
		} else if fn != nil {
			o.onHost = fn
		}
	}
}

// WrapTransport puts a RoundTripper of the caller's around the base transport, so
// that it sees each attempt: to sign, trace or log it. What net/http's own
// transport reports is judged as it is without. Of several, the first is the
// innermost.
func WrapTransport(wrap func(base http.RoundTripper) http.RoundTripper) Option {
	return func(o *options) {
		if before := o.wrap; before != nil && wrap != nil {
			o.wrap = func(base http.RoundTripper) http.RoundTripper { return wrap(before(base)) }
		} else if wrap != nil {
			o.wrap = wrap
		}
	}
}

// HostKey sets what counts as one host, for [PerHost] and the shared pause. The
// default is "scheme://host:port". Requests with the key "" share nothing.
func HostKey(key func(*http.Request) string) Option {
	return func(o *options) { o.hostKey = key }
}

// CheckResponse has check look at every response before its status is judged:
// for APIs that report a failure with a status of 200, or a rate limit with one
// of 400. An error is judged as in [Do]; mark it with [Permanent] or
// [RetryAfter] to decide. check may read the body, which is put back; it must
// not close it.
func CheckResponse(check func(*http.Response) error) Option {
	return func(o *options) { o.check = check }
}

// ReplayBuffer sets how much is remembered of a body that can be read only once,
// so that it can be sent again. The default is 1 MiB; 0 means nothing.
func ReplayBuffer(bytes int64) Option { return func(o *options) { o.replayBuffer = bytes } }

// IdempotentOnly makes a [RetryableClient] retry POST and PATCH only where a
// [Transport] does, and add no Idempotency-Key.
func IdempotentOnly() Option { return func(o *options) { o.idempotentOnly = true } }

// NoSharedPause lets each request wait for itself when a server asks for a wait.
func NoSharedPause() Option { return func(o *options) { o.noPause = true } }

// DecodeLimit makes [Fetch], [GetJSON] and [PostJSON] refuse a body longer than
// this, with an [*http.MaxBytesError]. The default is no limit.
func DecodeLimit(bytes int64) Option { return func(o *options) { o.decodeLimit = bytes } }

// WithIdempotent says for the requests made with the returned context whether
// they may be repeated after they may have been carried out: the caller knows
// better than the method tells.
func WithIdempotent(ctx context.Context, idempotent bool) context.Context {
	return context.WithValue(ctx, idempotentKey{}, idempotent)
}

type idempotentKey struct{}

// NewRetryableClient returns a client that works as base does, and retries. The
// base client is not changed; nil means http.DefaultClient. If it retries by
// this package already, cfg takes the place of its own.
func NewRetryableClient(base *http.Client, cfg Config, opts ...Option) (*RetryableClient, error) {
	if base == nil {
		base = http.DefaultClient
	}
	core, err := newCore(base.Transport, cfg, opts)
	if err != nil {
		return nil, err
	}
	client := *base
	client.Timeout = 0 // see to it per attempt
	client.Transport = &Transport{core: core, client: true, timeout: base.Timeout, jar: base.Jar}
	return &RetryableClient{&client, core}, nil
}

// NewTransport returns a transport over base; nil means http.DefaultTransport.
func NewTransport(base http.RoundTripper, cfg Config, opts ...Option) (*Transport, error) {
	core, err := newCore(base, cfg, opts)
	if err != nil {
		return nil, err
	}
	return &Transport{core: core}, nil
}

func newCore(base http.RoundTripper, cfg Config, opts []Option) (*core, error) {
	if inner, ok := base.(*Transport); ok && inner != nil {
		base = inner.core.base // attempts must not multiply
	}
	if base == nil {
		base = http.DefaultTransport
	}
	c := &core{base: base, cfg: cfg}
	c.std, _ = base.(*http.Transport)
	c.replayBuffer = 1 << 20
	for _, option := range opts {
		if option != nil {
			option(&c.options)
		}
	}
	var p problems
	if c.wrap != nil {
		c.base = c.wrap(c.base)
		p.require(c.base != nil, "WrapTransport", c.base, "a RoundTripper")
	}
	p.require(c.replayBuffer >= 0, "ReplayBuffer", c.replayBuffer, "0 or more")
	p.require(c.decodeLimit >= 0, "DecodeLimit", c.decodeLimit, "0 or more")
	if err := errors.Join(cfg.Validate(), p.join(of("Option"))); err != nil {
		return nil, err
	}
	return c, nil
}

// Do sends req; see the type. The caller must close the response's body. With
// an error, there is no response.
func (c *RetryableClient) Do(req *http.Request) (*http.Response, error) {
	if req == nil || req.URL == nil {
		if req != nil {
			closeBody(req)
		}
		return nil, invalid("RetryableClient.Do: request or its URL is nil")
	}
	if c.client.Jar != nil { // http.Client adds the jar's cookies to the request it is given
		clone := *req
		clone.Header = req.Header.Clone()
		req = clone.WithContext(req.Context())
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, unwrapURL(err)
	}
	up, ok := resp.Body.(*givenUp)
	if !ok {
		return resp, nil
	}
	return nil, up.close(resp)
}

// close reads the beginning of an error's body into it, and returns the error.
func (g *givenUp) close(resp *http.Response) error {
	defer g.Close()
	var status *StatusError
	if errors.As(g.err, &status) {
		guard := time.AfterFunc(errorBodyTime, func() { g.Close() })
		defer guard.Stop()
		status.Body, _ = io.ReadAll(io.LimitReader(g, maxErrorBody)) // what there is of it
	}
	return g.err
}

// errorBodyTime is how long the body of a final error may take.
const errorBodyTime = 250 * time.Millisecond

// unwrapURL puts the *url.Error that http.Client makes into its place: inside of
// the [*Error] that it wraps, if there is one, around the last attempt's error.
// The URL loses its secrets, which net/http leaves in.
func unwrapURL(err error) error {
	outer, ok := err.(*url.Error)
	if !ok {
		return err
	}
	if status, ok := outer.Err.(*StatusError); ok { // of a decode; it names the URL itself
		return status
	}
	clean := &url.Error{Op: outer.Op, URL: redactURL(outer.URL), Err: safe(outer.Err)}
	given, ok := outer.Err.(*Error)
	if !ok {
		return clean
	}
	e := *given
	if _, isStatus := e.Err.(*StatusError); e.Err != nil && !isStatus {
		clean.Err = safe(e.Err)
		e.Err = clean
	}
	return &e
}

// Get sends a GET request.
func (c *RetryableClient) Get(ctx context.Context, url string) (*http.Response, error) {
	return c.send(ctx, http.MethodGet, url, nil, "")
}

// Head sends a HEAD request.
func (c *RetryableClient) Head(ctx context.Context, url string) (*http.Response, error) {
	return c.send(ctx, http.MethodHead, url, nil, "")
}

// Post sends a POST request. If body can be closed, it is.
func (c *RetryableClient) Post(ctx context.Context, url, contentType string, body io.Reader) (*http.Response, error) {
	return c.send(ctx, http.MethodPost, url, body, contentType)
}

// PostForm sends a POST request with the data as its body.
func (c *RetryableClient) PostForm(ctx context.Context, url string, data url.Values) (*http.Response, error) {
	return c.send(ctx, http.MethodPost, url, strings.NewReader(data.Encode()), "application/x-www-form-urlencoded")
}

func (c *RetryableClient) send(ctx context.Context, method, url string, body io.Reader, contentType string) (*http.Response, error) {
	req, err := newRequest(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return c.Do(req)
}

func newRequest(ctx context.Context, method, rawURL string, body io.Reader) (*http.Request, error) {
	if ctx == nil {
		return nil, invalid("ctx is nil")
	}
	req, err := http.NewRequestWithContext(ctx, method, rawURL, body)
	if err != nil {
		if closer, ok := body.(io.Closer); ok {
			closer.Close()
		}
		return nil, fmt.Errorf("%w: url: %w", ErrInvalidConfig, safe(err))
	}
	return req, nil
}

// StandardClient returns an *http.Client for code that wants one. It shares this
// client's hosts and their state, and follows the rules of [Transport], because
// that code does not know that its requests may be repeated. The base client's
// Timeout bounds each attempt; set the returned client's own to bound the whole.
func (c *RetryableClient) StandardClient() *http.Client {
	client := *c.client
	transport := *client.Transport.(*Transport)
	transport.client, transport.jar = false, nil
	client.Transport = &transport
	return &client
}

// CloseIdleConnections closes the base client's idle connections.
func (c *RetryableClient) CloseIdleConnections() { c.client.CloseIdleConnections() }

// CloseIdleConnections closes the base transport's idle connections.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.core.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// runCheck calls check and puts back what it read of the body.
func runCheck(check func(*http.Response) error, resp *http.Response) error {
	var seen bytes.Buffer
	body := resp.Body
	resp.Body = &rereader{io.TeeReader(body, &seen), io.NopCloser(nil)}
	defer func() {
		resp.Body = body
		if seen.Len() > 0 {
			resp.Body = &rereader{io.MultiReader(&seen, body), body}
		}
	}()
	return check(resp)
}

// newKey returns 128 random bits for an Idempotency-Key. Go's generator is
// seeded by the operating system; the key is no secret.
func newKey() string {
	var b [16]byte
	for i := 0; i < len(b); i += 8 {
		n := rand.Uint64()
		for j := range 8 {
			b[i+j] = byte(n >> (8 * j))
		}
	}
	var text [32]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/retryutils/retry/internal/attempt"
	"github.com/retryutils/retry/internal/redact"
	"github.com/retryutils/retry/internal/valid"
)

// RetryableClient is an *http.Client that retries: requests that failed on the
// way, and responses with a status that says so. A nil error means a usable
// response. Make one, for one API or for several with [HostBreaker] and [PerHost], and
// share it: it is safe for concurrent use.
//
// # Errors
//
// A final status of 400 or above is an error: a [*StatusError] as it is for a
// status that is not retried, and inside an [*Error] for one that was given up
// on. It carries the header and the first 64 KiB of the body, as far as they come
// within a second, or within 50 ms where a retry is to follow.
//
// URLs in errors and log lines have neither user information nor the values of the
// query.
//
// # Which requests are repeated
//
// Every request with a method that is idempotent (GET, HEAD, OPTIONS, TRACE,
// QUERY, PUT, DELETE) is retried, and POST and PATCH too: those are sent with an
// Idempotency-Key, one for all attempts and redirects of a request, unless they
// have one. A server that does not know that header may carry out a POST twice
// if a connection breaks; [WithIdempotent] and [IdempotentOnly] forbid it, and with
// [NoRetries] there is no key. [MayHaveActed] reports whether a call that failed may have
// been carried out.
//
// The body of a request with GetBody, which http.NewRequest sets for the usual
// readers, is read again for each attempt, and so is a file. Others are recorded
// while they are sent, up to 1 MiB ([ReplayBuffer]); a longer one is not sent again,
// and the reason is [ErrBodyNotReplayable]. Nothing is read ahead of being sent.
//
// # Waits and hosts
//
// The wait before a retry is the longest of the backoff and what the server asks
// for ([ParseRetryAfter]). A 429, a 503, or a 403 that asks for a wait, pauses all
// requests of the client to that host where nothing shows that the host accepts
// others, see [Gate]. A Breaker, Budget or Limiter of the Config is one for all hosts;
// by [HostBreaker] and [PerHost] each has its own.
//
// # Redirects and proxies
//
// Redirects are followed by net/http as usual. The retries are made beneath them,
// so that an earlier request of a chain is never repeated; each request of a
// chain may use all of its retries. Cookies that a failed attempt set go out
// with the next one. net/http also repeats some requests by itself, on
// connections that turn out to be closed: a server may see more requests than
// there were attempts.
//
// What a proxy answers to CONNECT is not retried: net/http reports it without a
// type, so that an overload looks like a wrong password. To have it judged by its
// status, set an OnProxyConnectResponse in the base transport that returns
// [CheckStatus] of the response.
//
// # Time limits
//
// The Timeout of the base client bounds each attempt, its body included;
// Config.AttemptTimeout only the time until the headers arrive, or, in [Fetch],
// [GetJSON] and [PostJSON], until the response is decoded. To bound the whole
// call, use its context or Config.MaxElapsed.
type RetryableClient struct {
	client    *http.Client
	transport *Transport // the client's
	core      *core
}

// Option changes how a [RetryableClient] or [Transport] works.
type Option func(*options)

type options struct {
	perHost        []func(string, *Config) error
	breaker        *BreakerConfig
	onHost         []func(string, Config)
	wrap           func(http.RoundTripper) http.RoundTripper
	hostKey        func(*http.Request) string
	check          func(*http.Response) error
	replayBuffer   int64
	idempotentOnly bool
	noPause        bool
	decodeLimit    int64
	idleTimeout    time.Duration
}

// PerHost calls configure once for each host, with a copy of the client's
// Config to change: to give each host its own Breaker, Limiter, Budget or
// limits. The Gate of the copy, and with [HostBreaker] the Breaker, are the
// host's own already: this is the place to add listeners to them, or to give a host
// another breaker than the others:
//
//	cfg.Breaker, err = retry.NewCircuitBreaker(retry.BreakerConfig{Name: host, FailureThreshold: 2, Clock: cfg.Clock})
//
// host is the key of [HostKey], such as "https://rest.ensembl.org": the index of a map of
// settings.
//
// With MaxRetries [NoRetries] a client repeats nothing to the host. It adds no
// Idempotency-Key then, because net/http by itself sends a POST that has one again when a
// connection breaks. To repeat a POST only where the server cannot have acted, see [IdempotentOnly].
//
// An error, or a Config that is not valid, fails the request that asked, with an
// error that matches [ErrInvalidConfig]; the next request tries again. Requests
// to the host that begin meanwhile wait. configure must not send any itself.
//
// A thousand hosts are remembered; of more, those unused for longest are
// forgotten, but never one whose breaker is open or whose gate is paused.
//
// Of several PerHost, each is given the Config as the one before has left it.
// [RetryableClient.Check] calls it at start, for hosts that are known.
func PerHost(configure func(host string, cfg *Config) error) Option {
	return func(o *options) {
		if configure != nil {
			o.perHost = append(slices.Clip(o.perHost), configure) // a client over this one may add others
		}
	}
}

// OnHost adds a hook that is called once for each host, named scheme://host,
// after every [PerHost], with the settings that it has in the end: to observe its
// Breaker, Gate and Budget, or to share their state. Requests to the host that
// begin meanwhile wait. A host that was forgotten is reported again. It is not
// called for requests that share nothing, see [HostKey].
func OnHost(fn func(host string, cfg Config)) Option {
	return func(o *options) {
		if fn != nil {
			o.onHost = append(slices.Clip(o.onHost), fn)
		}
	}
}

// WrapTransport puts a RoundTripper around the base transport, so
// that it sees each attempt: to sign, trace or log it. It must send by base, with
// the context of the request, and at most once. wrap is called by the constructor;
// if it returns nil, that fails. base is not the client's own, but has it as the
// result of a method Unwrap() http.RoundTripper. Errors of net/http's own transport are judged as
// they are without the wrapper. So is what was sent, for [MayHaveActed]: another transport
// in the place of the base leaves less known. Of several, the first is the innermost.
func WrapTransport(wrap func(base http.RoundTripper) http.RoundTripper) Option {
	return func(o *options) {
		if before := o.wrap; before != nil && wrap != nil {
			o.wrap = func(base http.RoundTripper) http.RoundTripper { return wrap(before(base)) }
		} else if wrap != nil {
			o.wrap = wrap
		}
	}
}

// HostBreaker gives each host a [CircuitBreaker] of its own, with the settings of
// cfg; its Name is the host's, as "scheme://host". Without a Clock it goes
// by that of the Config. Settings that are wrong fail the constructor. A host that
// needs others gets its breaker by [PerHost].
func HostBreaker(cfg BreakerConfig) Option {
	return func(o *options) { o.breaker = &cfg }
}

// HostKey sets what counts as one host, for [PerHost], [HostBreaker] and the
// shared pause. The default is "scheme://host", in lower case, with
// the port if it is not the scheme's own: "https://rest.ensembl.org",
// "http://127.0.0.1:8080", "http://[::1]:8080". It has no path, no user and no slash at
// the end, and goes by the request's URL, not by its Host. [RetryableClient.Check] of a
// URL makes its host, and [RetryableClient.Hosts] then shows its name.
//
// Requests with the key "" share nothing, and PerHost is not called for them. A key may
// be a secret: it is shown nowhere.
func HostKey(key func(*http.Request) string) Option {
	return func(o *options) { o.hostKey = key }
}

// CheckResponse has check look at every response before its status is judged,
// except for redirects and a 101: for APIs that report a failure with a status of 200,
// or a rate limit with one of 400. An error is judged as in [Do]; mark it with
// [Permanent] or [RetryAfter] to decide. A *StatusError inside of it is judged by its status:
// to have a 404 retried, return an error without one. check may read the beginning of the
// body, which is put back: after 1 MiB it sees the end. It must not close it.
// Config.AttemptTimeout covers it.
func CheckResponse(check func(*http.Response) error) Option {
	return func(o *options) { o.check = check }
}

// ReplayBuffer sets how much is recorded of a body that can be read only once,
// so that it can be sent again. The default is 1 MiB; 0 means nothing.
func ReplayBuffer(bytes int64) Option { return func(o *options) { o.replayBuffer = bytes } }

// IdempotentOnly makes a [RetryableClient] retry POST and PATCH only where a
// [Transport] does, and add no Idempotency-Key: with a key of the request's own, or
// where the server cannot have acted. Else the call ends with [ErrNotIdempotent].
//
// It holds for a client, [WithIdempotent] for a request. For one host of several, use
// WithIdempotent in the function that calls it, or a client of its own. [PerHost] with
// [NoRetries] forbids more: neither a GET is repeated, nor what the server refused.
func IdempotentOnly() Option { return func(o *options) { o.idempotentOnly = true } }

// NoSharedPause lets each request wait for itself when a server asks for a wait.
func NoSharedPause() Option { return func(o *options) { o.noPause = true } }

// DecodeLimit makes [Fetch], [GetJSON] and [PostJSON] refuse a body longer than
// this, with an [*http.MaxBytesError]. The default is 64 MiB; 0 means no limit.
func DecodeLimit(bytes int64) Option { return func(o *options) { o.decodeLimit = bytes } }

// IdleTimeout limits how long a Read of a response's body may block: a server or a
// network that falls silent in the middle of an answer would otherwise hold the caller
// until the kernel gives the connection up, which may be never. In [Fetch], [GetJSON],
// [PostJSON] and [Resume] the attempt has failed then, and is retried like one whose
// connection broke; in a body that was handed on, Read returns a timeout error. The
// time goes by Config.Clock, and passes only while a Read is under way: a slow reader
// is not interrupted. The default, 0, is no limit.
func IdleTimeout(d time.Duration) Option { return func(o *options) { o.idleTimeout = d } }

// WithIdempotent returns a context that says of a request whether it may be repeated
// though the server may have carried it out already. That replaces what the method and an
// Idempotency-Key say. It does not reach requests that the base transport or a hook makes
// during the attempt, with the context that it is given.
func WithIdempotent(ctx context.Context, idempotent bool) context.Context {
	return context.WithValue(ctx, attempt.IdempotentKey{}, idempotent)
}

// NewRetryableClient returns a client that works as base does, and retries. The
// base client is not changed; nil means one over http.DefaultTransport with a
// Timeout of 30 seconds, for each attempt. If base retries by this package
// already, cfg takes the place of its Config, and opts add to its options; its
// time limit per attempt stays. [RetryableClient] has an example.
func NewRetryableClient(base *http.Client, cfg Config, opts ...Option) (*RetryableClient, error) {
	if base == nil {
		base = &http.Client{Timeout: defaultTimeout}
	}
	core, limit, err := newCore(base.Transport, cfg, opts)
	if valid.IsNil(base.Jar) {
		err = errors.Join(err, invalid("Client.Jar is a nil %T", base.Jar))
	}
	if err != nil {
		return nil, err
	}
	client := *base
	client.Timeout = 0 // it is applied per attempt
	transport := &Transport{core: core, client: true, timeout: shorter(base.Timeout, limit), jar: base.Jar}
	client.Transport = transport
	if base.Jar != nil {
		client.Jar = noCookies{}
	}
	return &RetryableClient{&client, transport, core}, nil
}

// defaultTimeout is that of the base client where the caller gave none.
const defaultTimeout = 30 * time.Second

// Do sends req; see the type. The caller must close the response's body. With
// an error, there is no response.
func (c *RetryableClient) Do(req *http.Request) (*http.Response, error) {
	return c.do(req, nil)
}

// do sends by a copy of the transport that adapt has changed, if it is not nil.
func (c *RetryableClient) do(req *http.Request, adapt func(*Transport)) (*http.Response, error) {
	if req == nil {
		return nil, invalid("RetryableClient.Do: request is nil")
	}
	if err := checkRequest(req); err != nil {
		closeBody(req)
		return nil, err
	}
	transport := c.transport
	if adapt != nil {
		own := *transport
		adapt(&own)
		transport = &own
	}
	sent := req
	if body := bodyOf(req, c.core.replayBuffer); body != nil {
		sent = req.WithContext(req.Context()) // a copy
		defer body.finish()
		body.attach(sent)
	}
	resp, err := follow(c.client, transport, sent)
	if err != nil {
		return nil, err
	}
	if resp.Request == sent {
		resp.Request = req
	}
	switch ended := resp.Body.(type) {
	case *redirectBody: // not followed
		resp.Body = ended.ReadCloser
	case *givenUp:
		ended.Close()
		return nil, ended.err
	}
	return resp, nil
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
	switch {
	case ctx == nil:
		return nil, invalid("ctx is nil")
	case valid.IsNil(ctx):
		return nil, invalid("ctx is a nil %T", ctx)
	case valid.IsNil(body): // http.NewRequest asks some readers for their length
		return nil, invalid("body is a nil %T", body)
	}
	req, err := http.NewRequestWithContext(ctx, method, rawURL, body)
	if err != nil {
		if closer, ok := body.(io.Closer); ok {
			closer.Close()
		}
		return nil, fmt.Errorf("%w: url: %w", ErrInvalidConfig, redact.Wrap(err))
	}
	return req, nil
}

// StandardClient returns an *http.Client for code that wants one. It shares this
// client's hosts and their state, and follows the rules of [Transport], because
// that code does not know that its requests may be repeated. The base client's
// Timeout bounds each attempt; set the returned client's own to bound the whole.
func (c *RetryableClient) StandardClient() *http.Client {
	client, transport := *c.client, *c.transport
	client.Jar = transport.jar
	transport.client, transport.jar = false, nil
	client.Transport = &transport
	return &client
}

// Hosts returns the hosts that the client remembers, in the order of their names, each
// with its settings in effect: its breaker, gate, budget and limits. A host is named as
// the default [HostKey] does. Hosts that share a key are listed once, by the name of the
// first; a host with several keys is listed once for each. A host is listed after the
// first request of the client or its StandardClient to it, or after a Check.
func (c *RetryableClient) Hosts() iter.Seq2[string, Config] {
	return func(yield func(string, Config) bool) {
		for _, h := range c.core.hosts.all() {
			if !yield(h.name, h.cfg) {
				return
			}
		}
	}
}

// Check makes the settings of the hosts of these URLs, without a request to any, so that
// what [PerHost] gets wrong shows when the program starts and not with the first
// request. A [HostKey] gets a GET of the URL. It returns one joined error for each
// wrong one; all match [ErrInvalidConfig].
func (c *RetryableClient) Check(urls ...string) error {
	var errs []error
	for _, address := range urls {
		req, err := newRequest(context.Background(), http.MethodGet, address, nil)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case req.URL.Scheme == "" || req.URL.Host == "":
			errs = append(errs, invalid("url %q has no scheme or no host", redact.URL(address)))
			continue
		}
		h, err := c.core.hosts.get(c.core, req)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		h.inUse.Add(-1)
	}
	return errors.Join(errs...)
}

// CloseIdleConnections closes the base client's idle connections.
func (c *RetryableClient) CloseIdleConnections() { c.client.CloseIdleConnections() }

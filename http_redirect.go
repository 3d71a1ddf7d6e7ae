package retry

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/redact"
)

// http.Client follows redirects, each of them a request of its own to the Transport. What
// is here is what it takes over from the first hop, and what one hop leaves to the next.

// follow sends a request and follows its redirects. http.Client prepares for these before
// it sends, and most requests are not redirected: so it takes over where the first hop is
// answered by a redirect, or where it refuses the request or adds to it.
func follow(by *http.Client, t *Transport, req *http.Request) (*http.Response, error) {
	var first *http.Response
	if req.RequestURI == "" && req.URL.User == nil && req.Header != nil {
		resp, err := t.RoundTrip(req)
		switch {
		case err != nil && !hasURL(err):
			return nil, urlError(methodOf(req), redact.ParsedURL(req.URL), redact.Wrap(err))
		case err != nil || !isRedirect(resp):
			return resp, err
		}
		first = resp
	}
	client := *by
	client.Transport = &redirected{t, first}
	resp, err := client.Do(req)
	switch outer, ok := err.(*url.Error); {
	case !ok:
		return resp, err
	case hasURL(outer.Err): // and http.Client has put another around it
		return nil, outer.Err
	default: // of http.Client itself
		return nil, &url.Error{Op: outer.Op, URL: redact.URL(outer.URL), Err: redact.Wrap(outer.Err)}
	}
}

// hasURL reports whether an error that a hop returned names its request: it does, without
// the secrets in its URL, where there was an attempt.
func hasURL(err error) bool {
	switch err.(type) {
	case *Error, *url.Error, *StatusError:
		return true
	}
	return false
}

// redirected is the transport of a client that takes over after the first hop.
type redirected struct {
	*Transport
	first *http.Response // nil once it was returned
}

func (r *redirected) RoundTrip(req *http.Request) (*http.Response, error) {
	if resp := r.first; resp != nil {
		r.first = nil
		return resp, nil
	}
	return r.Transport.RoundTrip(req)
}

// redirectBody is the body of a redirect. It carries what the next hop must
// know, if http.Client decides to follow.
type redirectBody struct {
	io.ReadCloser
	ctx   context.Context // of the call, as OnStart left it; nil without one
	key   string          // Idempotency-Key that the library adds
	wait  time.Duration   // that the redirect asks for
	since time.Time
}

func (h *hop) redirect(resp *http.Response) *redirectBody {
	b := &redirectBody{ReadCloser: resp.Body, ctx: h.call.started, key: h.key}
	if len(resp.Header["Retry-After"]) > 0 {
		b.since = h.cfg.now()
		b.wait, _ = ParseRetryAfter(resp.Header, b.since)
	}
	return b
}

// redirectedBy returns what the hop before left for this one.
func redirectedBy(req *http.Request) *redirectBody {
	if req.Response == nil {
		return nil
	}
	before, _ := req.Response.Body.(*redirectBody)
	return before
}

// waitForRedirect waits as long as the redirect that led here asked to (RFC 9110, section
// 10.2.3). Its connection is free meanwhile.
func (h *hop) waitForRedirect(ctx context.Context) error {
	before := redirectedBy(h.req)
	if !h.t.client || before == nil || before.wait <= 0 {
		return nil
	}
	cfg, wait := h.cfg, before.wait-clock.Since(h.cfg.Clock, before.since)
	switch {
	case before.wait > cfg.maxRetryAfter():
		h.call.stopFor(ErrRetryAfterTooLong, &tooLongError{before.wait, cfg.maxRetryAfter()})
	case h.call.stopIfOver(ctx, cfg, max(0, wait)):
	case wait <= 0:
		return nil
	default:
		h.call.reportWait(ctx, cfg, WaitRetryAfter, wait)
		h.call.sleep(ctx, cfg, wait, nil)
		if !h.call.stopIfOver(ctx, cfg, 0) {
			return nil
		}
	}
	return h.call.giveUp(ctx, cfg)
}

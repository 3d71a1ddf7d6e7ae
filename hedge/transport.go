package hedge

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/retryutils/retry/internal/attempt"
)

// Transport returns a RoundTripper over base that hedges; nil is http.DefaultTransport. It
// belongs beneath the retries, where [retry.WrapTransport] puts it, and above what signs or
// traces each request.
//
// A request is hedged only if Config.Eligible says so, and its body, if it has one, can be
// had once more by GetBody. Responses with a status of 500 or above, or 429, lose to
// another one while that is under way. The request that lost is cancelled at once: over
// HTTP/1 its connection is given up, over HTTP/2 it is kept.
func (h *Hedge) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{h, base}
}

type transport struct {
	h    *Hedge
	base http.RoundTripper
}

// RoundTrip sends req, and once more where the answer is late.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	h := t.h
	h.calls.Add(1)
	if !h.eligible(req) {
		return t.base.RoundTrip(req)
	}
	ctx := req.Context()
	terms := h.terms(ctx)
	terms.req = req
	to := h.target(address{req.URL.Scheme, req.URL.Host}, terms.clock.Now())
	delay := h.begin(to, &terms)
	if delay > 0 {
		return run(ctx, h, to, &terms, delay, requests{t.base, req})
	}
	began := terms.clock.Now()
	resp, err := t.base.RoundTrip(req)
	if usable(resp, err) || done(ctx) {
		h.learn(to, &terms, began)
	}
	return resp, err
}

// CloseIdleConnections closes those of the base transport.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// eligible reports whether a request may be sent twice at the same time.
func (h *Hedge) eligible(req *http.Request) bool {
	traits := attempt.Of(req.Context())
	switch {
	case traits.Decided:
		if !traits.Idempotent {
			return false
		}
	case h.cfg.Eligible != nil:
		if !h.cfg.Eligible(req) {
			return false
		}
	default:
		switch req.Method {
		case "", http.MethodGet, http.MethodHead, http.MethodOptions, "QUERY":
		default:
			return false
		}
	}
	if req.Body != nil && req.Body != http.NoBody && (req.GetBody == nil || traits.Recorded) {
		return false
	}
	return req.URL != nil && len(req.Header["Upgrade"]) == 0 // a connection of its own
}

func usable(resp *http.Response, err error) bool {
	return err == nil && resp != nil && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests
}

// requests is the contest of a request.
type requests struct {
	base http.RoundTripper
	req  *http.Request
}

// enter makes a request of its own of the caller's: transports beneath that add to a header
// or a URL, though they should not, would do so from two goroutines.
func (r requests) enter(ctx context.Context, n int) func() (*http.Response, error) {
	own := r.req.Clone(ctx)
	if n > 0 && own.Body != nil && own.Body != http.NoBody {
		body, err := r.req.GetBody()
		if err != nil || body == nil {
			return nil
		}
		own.Body = body
	}
	return func() (*http.Response, error) { return r.base.RoundTrip(own) }
}

func (r requests) usable(resp *http.Response, err error) bool { return usable(resp, err) }

func (r requests) hand(resp *http.Response, end func()) *http.Response {
	if resp == nil {
		end()
		return nil
	}
	resp.Request = r.req
	handOver(resp, end)
	return resp
}

func (r requests) drop(resp *http.Response, _ error) { discard(resp) }

// handOver has the context of a response end with its body.
func handOver(resp *http.Response, end func()) {
	if resp.Body == nil || resp.Body == http.NoBody {
		end()
		return
	}
	resp.Body = &body{resp.Body, end}
}

type body struct {
	io.ReadCloser
	end func()
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end()
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

const (
	drainBytes = 64 << 10
	drainTime  = 50 * time.Millisecond
)

// discard reads a little of a response that the caller does not get, and closes it, however
// long its body hangs.
func discard(resp *http.Response) {
	if resp == nil || resp.Body == nil {
		return
	}
	hangs := time.AfterFunc(drainTime, func() { resp.Body.Close() })
	io.CopyN(io.Discard, resp.Body, drainBytes)
	if hangs.Stop() {
		resp.Body.Close()
	}
}

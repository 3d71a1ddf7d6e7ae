package retry

import (
	"cmp"
	"context"
	"net/http"
)

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
// breaker of each host on the way guard it as ever. A POST or PATCH has one
// Idempotency-Key in all attempts.
//
// The base client's Timeout and AttemptTimeout end when the headers have arrived; what
// comes after is guarded by [IdleTimeout].
func Resume(ctx context.Context, c *RetryableClient, next func(context.Context) (*http.Request, error), read func(*http.Response) (progressed bool, err error)) error {
	switch {
	case ctx == nil:
		return invalid("ctx is nil")
	case isNil(ctx):
		return invalid("ctx is a nil %T", ctx)
	case c == nil || next == nil || read == nil:
		return invalid("Resume: client, next or read is nil")
	}
	r := &resumption{c: c, next: next, read: read, ctx: ctx, cfg: &c.core.cfg}
	r.call.start = r.cfg.now()
	if !done(ctx) { // the first request says by whose settings the call goes
		if r.first, r.err = r.request(ctx); r.err == nil {
			host, err := c.core.hosts.get(c.core, r.first)
			if err != nil {
				closeBody(r.first)
				return err
			}
			defer host.inUse.Add(-1)
			r.host, r.cfg, r.hostKey = host, &host.cfg, c.core.key(r.first)
			r.call.method, r.call.host = methodOf(r.first), hostName(r.first)
		}
	}
	defer func() {
		if r.first != nil { // it was not sent
			closeBody(r.first)
		}
	}()
	r.call.onHost = r.onHost
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
	ctx     context.Context // of the first request
	first   *http.Request   // until it is sent
	err     error           // of next, in its place
	host    *host           // of the first request; nil if there is none
	hostKey string
	cfg     *Config
	call    call

	// Of the attempt under way.
	asked    bool  // the host, by a hop
	consumed bool  // a response was consumed
	failure  error // of the last hop, with its marks, which http.Client would hide

	// What the hops of one attempt leave for those of the next.
	key                      string // Idempotency-Key that is ours
	lost, misdirected, stale bool
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
	r.call.progressed, r.call.elsewhere, r.call.veto, r.call.status = false, false, ending{}, 0
	req, err := r.first, r.err
	if r.first, r.err = nil, nil; req == nil && err == nil {
		req, err = r.request(ctx)
	}
	if err != nil {
		return err
	}
	if req.Context() == r.ctx && ctx != r.ctx { // it was made before the attempt had its own
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
	h.lost, h.misdirected, h.stale = r.lost, r.misdirected, r.stale
	h.call.start, h.call.before = r.call.start, 1-r.call.failed()
	var err error
	if !r.asked && r.host != nil && hostName(h.req) == r.call.host && r.c.core.key(h.req) == r.hostKey {
		r.asked = true
		h.call.attempts = 1
		err = h.attempt(ctx)
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
	r.lost, r.misdirected, r.stale = h.lost, h.misdirected, h.stale
	return err
}

// oneAttempt is the Config for a request that the loop around it repeats, and whose
// hooks report it.
func (r *resumption) oneAttempt(cfg *Config) *Config {
	c := withoutRetries(cfg)
	c.OnStart, c.OnAttempt, c.OnAttemptDone, c.OnRetry, c.OnDone, c.Budget = nil, nil, nil, nil, nil, nil
	if c.MaxElapsed = r.cfg.MaxElapsed; c.MaxElapsed > 0 {
		c.MaxElapsed = max(1, c.MaxElapsed-r.call.elapsed(r.cfg))
	}
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

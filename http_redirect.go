package retry

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/retryutils/retry/internal/clock"
)

// http.Client follows redirects, each of them a request of its own to the Transport. What
// is here is what one hop leaves to the next.

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
	if !h.t.client {
		return nil
	}
	before := redirectedBy(h.req)
	if before == nil || before.wait <= 0 {
		return nil
	}
	cfg, stop := h.cfg, false
	if before.wait > cfg.maxRetryAfter() {
		stop = h.call.stopFor(ErrRetryAfterTooLong, &tooLongError{before.wait, cfg.maxRetryAfter()})
	} else {
		wait := before.wait - clock.Since(cfg.Clock, before.since)
		stop = h.call.stopIfOver(ctx, cfg, max(0, wait))
		if !stop && wait > 0 {
			h.call.reportWait(ctx, cfg, WaitRetryAfter, wait)
			h.call.sleep(ctx, cfg, wait)
			h.call.alarm.Stop()
			stop = h.call.stopIfOver(ctx, cfg, 0)
		}
	}
	if !stop {
		return nil
	}
	return h.call.giveUp(ctx, cfg)
}

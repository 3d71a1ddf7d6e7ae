package retry

import (
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
)

// mayBeLast reports whether it looks as if no retry follows. It changes nothing,
// and asks nobody who would take it for the decision: what RetryIf will say is not
// known, and counts as a no.
func (h *hop) mayBeLast(err error) bool {
	found := examine(err)
	hint := found.hint()
	budget := h.cfg.Budget
	return h.cfg.RetryIf != nil || budget != nil && budget.Balance() < 1 ||
		h.call.attempts > h.cfg.maxRetries() || !found.retryable(h.cfg.RetryStatusCodes) ||
		hint > h.cfg.maxRetryAfter() || h.call.tooLate(h.ctx, h.cfg, max(hint, h.cfg.InitialDelay)) != nil
}

// ifRepeatable passes on an error that would be retried only if the request may
// be sent again.
func (h *hop) ifRepeatable(err error) error {
	unsafe := !h.idempotent() && !h.refused() && !h.unsent(err)
	lost := h.body != nil && !h.body.replayable()
	if !unsafe && !lost {
		return err
	}
	if found := examine(err); !h.cfg.retryable(err, &found) || done(h.ctx) {
		return err
	}
	if unsafe {
		if h.cfg.Logger != nil {
			h.call.log(h.ctx, h.cfg, slog.LevelDebug, "not repeated", err, slog.String("method", methodOf(h.req)),
				slog.String("reason", "the server may have acted, and the request is not idempotent"))
		}
		return Permanent(err)
	}
	return Permanent(h.call.error(h.cfg, ErrBodyNotReplayable, nil, err))
}

// idempotent reports whether the request may be repeated though it may have
// been carried out (RFC 9110, section 9.2.2; RFC 10008 for QUERY).
func (h *hop) idempotent() bool {
	if h.hasOverride {
		return h.override
	}
	switch h.req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "QUERY", http.MethodPut, http.MethodDelete:
		return true
	}
	return h.key != "" || hasKey(h.req.Header)
}

// hasKey goes by the names alone, as net/http does: a key without a value is
// the way to say so without sending one. Names that are not in their canonical
// form, which are sent all the same, count too.
func hasKey(header http.Header) bool {
	for name := range header {
		if len(name) == len("Idempotency-Key") && strings.EqualFold(name, "Idempotency-Key") ||
			len(name) == len("X-Idempotency-Key") && strings.EqualFold(name, "X-Idempotency-Key") {
			return true
		}
	}
	return false
}

// stdReplays reports whether net/http itself takes the request for idempotent.
func stdReplays(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, ok := req.Header["Idempotency-Key"]
	_, okX := req.Header["X-Idempotency-Key"]
	return ok || okX
}

// refused reports whether the status in hand says that the server did not act.
func (h *hop) refused() bool {
	if h.resp == nil {
		return false
	}
	switch h.resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusTooEarly, http.StatusMisdirectedRequest:
		return true
	}
	return false
}

// isDial reports whether err is of a type that only a connection to be made has.
func isDial(err error) bool {
	return !walk(err, func(err error) bool {
		switch e := err.(type) {
		case *net.OpError:
			return e.Op != "dial" && e.Op != "proxyconnect" && !strings.HasPrefix(e.Op, "socks")
		case *net.DNSError:
			return false
		}
		return true
	})
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

// ownKey returns the Idempotency-Key that makes a POST or PATCH safe to repeat:
// one for the whole request, redirects included. What the caller decided stands.
func (h *hop) ownKey() string {
	req := h.req
	if h.t.core.idempotentOnly || req.Method != http.MethodPost && req.Method != http.MethodPatch ||
		h.hasOverride || hasKey(req.Header) {
		return ""
	}
	if before := redirectedBy(req); before != nil && before.key != "" {
		return before.key
	}
	return newKey()
}

package retry

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// judgeError says what a failure of the transport means.
func (h *hop) judgeError(err error) error {
	if done(h.ctx) {
		return err // the caller's doing: the loop sees to it
	}
	if h.sent != nil {
		if fault := h.sent.fault(err); fault != nil {
			return Permanent(fault)
		}
	}
	if h.inMemory() && !h.asLongAsDeclared() {
		return Permanent(&bodyError{err})
	}
	if h.hopeless(err) {
		return Permanent(err)
	}
	var stream http2Error
	if as(err, &stream) {
		switch stream.Code {
		case enhanceYourCalm:
			err = RetryAfter(err, time.Second)
		case http11Required:
			return Permanent(err)
		}
	}
	return h.ifRepeatable(err, nil)
}

// ifRepeatable passes on an error that would be retried only if the request may
// be sent again.
func (h *hop) ifRepeatable(err error, resp *http.Response) error {
	unsafe := !h.idempotent() && !refused(resp) && !h.unsent(err)
	lost := h.keeper != nil && h.file == nil && !h.keeper.replayable()
	if !unsafe && !lost {
		return err
	}
	if found := examine(err); !h.host.cfg.retryable(err, &found) || done(h.ctx) {
		return err
	}
	if unsafe {
		return Permanent(err)
	}
	return Permanent(h.call.error(&h.host.cfg, halt{reason: ErrBodyNotReplayable}, err))
}

// idempotent reports whether the request may be repeated though it may have
// been carried out (RFC 9110, section 9.2.2; RFC 10008 for QUERY).
func (h *hop) idempotent() bool {
	if decided, ok := h.req.Context().Value(idempotentKey{}).(bool); ok {
		return decided
	}
	switch h.req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "QUERY", http.MethodPut, http.MethodDelete:
		return true
	}
	return h.key != "" || hasKey(h.req.Header)
}

// hasKey goes by the names alone, as net/http does: a key without a value is
// the way to say so without sending one.
func hasKey(header http.Header) bool {
	_, ok := header["Idempotency-Key"]
	_, okX := header["X-Idempotency-Key"]
	return ok || okX
}

// stdReplays reports whether net/http itself takes the request for idempotent.
func stdReplays(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return hasKey(req.Header)
}

// refused reports whether the status says that the server did not act.
func refused(resp *http.Response) bool {
	if resp == nil {
		return false
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusTooEarly, http.StatusMisdirectedRequest:
		return true
	}
	return false
}

// unsent reports whether the server cannot have seen the request: there was no
// connection, the stream was refused, or its body was never asked for.
func (h *hop) unsent(err error) bool {
	if h.resp != nil {
		return false
	}
	var stream http2Error
	if as(err, &stream) {
		return stream.Code == refusedStream
	}
	if h.t.core.std != nil {
		var proxy *StatusError // a proxy's, from OnProxyConnectResponse
		if as(err, &proxy) || isHandshakeTimeout(err) {
			return true
		}
	}
	// HTTP/1 sends nothing before it has begun to read the body.
	if h.sent != nil && h.sent.length != 0 && !h.sent.touched.Load() && h.host.proto.Load() < 2 {
		return true
	}
	return !walk(err, func(err error) bool {
		switch e := err.(type) {
		case *net.OpError:
			return e == nil || e.Op != "dial" && e.Op != "proxyconnect"
		case *net.DNSError:
			return false
		}
		return true
	})
}

// isHandshakeTimeout tells the one timeout of http.Transport that is neither of
// the network nor of a context.
func isHandshakeTimeout(err error) bool {
	var timeout net.Error
	var op *net.OpError
	return as(err, &timeout) && timeout.Timeout() && !as(err, &op) && !is(err, context.DeadlineExceeded)
}

// asLongAsDeclared measures a body in memory, after something went wrong.
func (h *hop) asLongAsDeclared() bool {
	body, err := h.req.GetBody()
	if err != nil || h.req.ContentLength <= 0 {
		return true
	}
	defer body.Close()
	n, _ := io.Copy(io.Discard, body)
	return n == h.req.ContentLength
}

// hopeless reports whether the next attempt would fail in the same way. Some
// errors of net/http have no type to tell by: a malformed request is looked at
// instead; and a peer that has never answered, and then fails in a way that no
// network does, does not speak HTTP, or is a proxy that lets nobody through.
func (h *hop) hopeless(err error) bool {
	std := h.t.core.std
	if std == nil {
		return false
	}
	if malformed(h.req) {
		return true
	}
	if h.host.proto.Load() != 0 || ofNetwork(err) {
		return false
	}
	if found := examine(err); found.status != nil || found.marked != nil { // from OnProxyConnectResponse
		return false
	}
	if h.req.URL.Scheme == "https" { // a verified peer behind no proxy can be trusted to speak HTTP
		if std.Proxy == nil {
			return false
		}
		proxy, _ := std.Proxy(h.req)
		return proxy != nil
	}
	return true
}

// ofNetwork reports whether err is of a type that connections fail with.
func ofNetwork(err error) bool {
	var stream http2Error
	return as(err, &stream) || !walk(err, func(err error) bool {
		switch err.(type) {
		case net.Error, textproto.ProtocolError: // the latter: cut inside a header line
			return false
		}
		return err != io.EOF && err != io.ErrUnexpectedEOF && err != net.ErrClosed && err != context.Canceled
	})
}

// malformed reports whether net/http will never send req.
func malformed(req *http.Request) bool {
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" || !isToken(methodOf(req)) {
		return true
	}
	for _, header := range []http.Header{req.Header, req.Trailer} {
		for name, values := range header {
			if !isToken(name) || slices.ContainsFunc(values, hasControls) {
				return true
			}
		}
	}
	return false
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	}) < 0
}

func hasControls(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0
}

// http2Error is what net/http's HTTP/2 stream errors turn into when asked by
// errors.As: the way to see them without importing golang.org/x/net/http2.
type http2Error struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e http2Error) Error() string { return "http2 stream error" }

// Codes of RFC 9113, section 7.
const (
	refusedStream   = 0x7
	enhanceYourCalm = 0xb
	http11Required  = 0xd
)

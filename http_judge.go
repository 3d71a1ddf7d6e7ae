package retry

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/retryutils/retry/internal/redact"
)

// judgeError says what a failure of the transport means.
func (h *hop) judgeError(err error) error {
	if done(h.ctx) {
		return err // the caller cancelled: the loop decides
	}
	if h.sent != nil {
		if fault := h.sent.fault(err); fault != nil {
			return Permanent(fault)
		}
	}
	err = h.explained(err)
	named := h.named(err)
	if isMalformed(h.req) || h.refusedByNet(err) || !overHTTP(h.req) && h.cannotSucceed(err) { // no host has part in it
		return Permanent(&bodyError{named})
	}
	if h.cannotSucceed(err) {
		return Permanent(named)
	}
	if h.host.proto.Load() != 0 {
		named = h.named(transientTLS(err))
	}
	if h.timeout != nil && h.timeout.Err() != nil && h.host.proto.Load() == 2 {
		h.stale = true
	}
	switch code, _ := streamCode(err); code {
	case enhanceYourCalm:
		named = RetryAfter(named, time.Second)
	case http11Required:
		return Permanent(named)
	}
	h.limitRepeats(named)
	return named
}

// named puts the URL into an error, without its secrets, as http.Client does; but
// not one whose scheme would have it classified as permanent.
func (h *hop) named(err error) error {
	if !overHTTP(h.req) {
		return err
	}
	return urlError(methodOf(h.req), h.safeURL(), err)
}

func (h *hop) safeURL() string {
	if h.url == "" {
		h.url = redact.ParsedURL(h.req.URL)
	}
	return h.url
}

// judgeResponse says what the response means: nil for a good one.
func (h *hop) judgeResponse() error {
	resp := h.resp
	if check := h.t.core.check; check != nil && !isRedirect(resp) && resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Request = h.ofAttempt()
		err := runCheck(check, resp)
		resp.Request = h.req
		if err != nil {
			return h.failedResponse(err)
		}
	}
	if resp.StatusCode >= 400 && !(h.t.resumed != nil && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable) || h.cfg.lists(resp) {
		status := newStatusError(resp, methodOf(h.req), h.safeURL(), h.cfg.Clock)
		if !h.t.client { // the response may become its caller's, who may change it
			status.Header = resp.Header.Clone()
		}
		return h.failedResponse(status)
	}
	if h.t.decode == nil || isRedirect(resp) {
		h.relax()
		return nil
	}
	return h.decoded(resp)
}

// lists reports whether a status that is no error in itself was declared one.
func (c *Config) lists(resp *http.Response) bool {
	return c.RetryStatusCodes != nil && slices.Contains(c.RetryStatusCodes, resp.StatusCode) &&
		resp.StatusCode != http.StatusSwitchingProtocols && !isRedirect(resp)
}

// ofAttempt is the request as checks and decoders see it: the caller's, with the
// context of the attempt, which says how many there were.
func (h *hop) ofAttempt() *http.Request { return h.req.WithContext(h.ctx) }

// decoded has the response decoded, as part of the attempt.
func (h *hop) decoded(resp *http.Response) error {
	if h.t.resumed != nil {
		h.relax()
	}
	body := &decodedBody{ReadCloser: resp.Body}
	body.ended.Store(resp.Body == http.NoBody)
	resp.Body, resp.Request = body, h.ofAttempt()
	err := h.t.decode(resp)
	resp.Body, resp.Request = body, h.req
	switch {
	case err == nil && !body.closed.Load() && h.t.resumed == nil:
		err = damage(resp, drainTime)
	case err != nil && !idempotentMethod(resp.Request.Method) && body.n.Load() == 0:
		if !body.ended.Load() { // not seen: the decoder may have read nothing
			h.readSome(resp, errorBodyTime, nil) // to do it twice would cost more than to wait
		}
		if body.ended.Load() && body.n.Load() == 0 && !examine(err, nil).has(delayed) {
			err = Permanent(err) // the answer is there, and says that it was done
		}
	}
	if err == nil {
		h.closeResponse(resp)
		resp.Body = http.NoBody
		h.release()
		return nil
	}
	if h.idle != nil && h.idle.expired.Load() && resp.ProtoMajor == 2 {
		h.stale = true // what was silent may be the connection
	}
	h.closeResponse(resp)
	h.resp = nil
	h.limitRepeats(err)
	return h.brokenOff(err)
}

// brokenOff puts the URL into the error of a body that could not be read to its
// end: by itself, "unexpected EOF" does not say of what.
func (h *hop) brokenOff(err error) error {
	_, network := err.(net.Error)
	_, stream := streamCode(err)
	if _, named := err.(*url.Error); named || done(h.ctx) || !network && !stream &&
		err != io.ErrUnexpectedEOF && err != io.EOF && err != gzip.ErrChecksum && err != gzip.ErrHeader {
		return err
	}
	return h.named(err)
}

// failedResponse says what a response means that is an error. A client's error
// has its body before any other code sees it.
func (h *hop) failedResponse(err error) error {
	status, _ := err.(*StatusError)
	resp := h.resp
	if status != nil && resp.StatusCode == http.StatusMisdirectedRequest && !h.misdirected && !status.said {
		h.misdirected = true
		err = RetryAfter(status, 0) // once, over another connection
	}
	if status != nil {
		status.atWork = h.atWork()
	}
	h.limitRepeats(err)
	if !h.t.client {
		h.relax()
		return err
	}
	limit := drainTime
	if h.mayBeLast(err) {
		limit = errorBodyTime
	}
	if status != nil && (limit > drainTime || resp.ContentLength <= drainBytes) {
		h.readSome(resp, limit, &status.Body)
	} else {
		h.closeResponse(resp)
	}
	resp.Body = http.NoBody
	h.release()
	return err
}

// mayBeLast reports whether it looks as if no retry follows. It changes nothing,
// and calls nothing that could take it for the decision: what RetryIf will say is
// not known, and counts as a no.
func (h *hop) mayBeLast(err error) bool {
	found := examine(err, h.cfg.RetryStatusCodes)
	hint := found.delay
	budget := h.cfg.Budget
	return h.cfg.RetryIf != nil || h.call.veto.reason != nil || budget != nil && budget.Balance() < 1 ||
		h.call.failed() > h.cfg.maxRetries() || !found.retryable() ||
		hint > h.cfg.maxRetryAfter() || h.call.tooLate(h.ctx, h.cfg, max(hint, h.cfg.InitialDelay)).reason != nil
}

// cannotSucceed reports whether the next attempt would fail in the same way. Some
// errors of net/http have no type to go by. Of a host that has answered before
// they are taken for a transport error. Of another, where a connection was got,
// they mean that the peer does not speak HTTP; where none was got, that a proxy
// lets no request through, or that the scheme is unsupported.
func (h *hop) cannotSucceed(err error) bool {
	if h.host.proto.Load() != 0 || ofNetwork(err) {
		return false
	}
	if !overHTTP(h.req) {
		return true
	}
	std, seen := h.t.core.std, h.evidence()
	if std == nil || !seen.asked {
		return false
	}
	if !seen.connected {
		if h.req.URL.Scheme != "https" || std.Proxy == nil {
			return false // what the caller's own dialer says
		}
		proxy, _ := std.Proxy(h.req)
		return proxy != nil
	}
	plain2 := std.Protocols != nil && std.Protocols.UnencryptedHTTP2() && !std.Protocols.HTTP1() // how its connections end has no type either
	return h.req.URL.Scheme == "http" && !plain2 && !cutOff(err)
}

// cutOff reports whether what the peer sent began as HTTP does. net/http takes a status
// line that was cut off for a whole one, and has no type of error for what it cannot
// parse: a connection that broke, which is retried, and a peer that does not speak HTTP,
// which is not, differ in the bytes alone. It quotes those, a line, a version or a status
// code, and they are all that is read of its text.
func cutOff(err error) bool {
	_, quoted, _ := strings.Cut(err.Error(), `"`)
	line, err := strconv.Unquote(`"` + quoted)
	return err == nil && (strings.HasPrefix("HTTP/1.1", line) || strings.HasPrefix(line, "HTTP/1.") ||
		len(line) < 3 && strings.Trim(line, "0123456789") == "")
}

// ofNetwork reports whether err shows that a connection failed, or what kept it from
// being made, or is an answer, from OnProxyConnectResponse.
func ofNetwork(err error) bool { return examine(err, nil).has(network | local | answered) }

// refusedByNet reports whether net/http had a connection for the request and sent
// nothing of it, though nothing was wrong with the connection: it will not send
// it over any. A connection that others had used may just have been closed; then
// the request must look like one that HTTP/2 refuses.
func (h *hop) refusedByNet(err error) bool {
	e := h.evidence()
	return h.t.core.std != nil && e.connected && !e.begun && !ofNetwork(err) && (!e.reused || unfitForHTTP2(h.req))
}

// unfitForHTTP2 reports whether a request has a header about the connection, which
// HTTP/2 has not, or one so long that a peer may not accept it.
func unfitForHTTP2(req *http.Request) bool {
	size := 0
	for name, values := range req.Header {
		switch http.CanonicalHeaderKey(name) {
		case "Upgrade", "Te", "Connection", "Transfer-Encoding", "Proxy-Connection", "Keep-Alive":
			return true
		}
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	return size > 2<<10
}

// isMalformed reports whether no transport will ever send req.
func isMalformed(req *http.Request) bool {
	if overHTTP(req) && req.URL.Host == "" || !isToken(methodOf(req)) || req.Body == nil && req.ContentLength > 0 ||
		hasControls(req.URL.Opaque) || hasControls(req.URL.RawQuery) {
		return true
	}
	for name := range req.Trailer {
		switch http.CanonicalHeaderKey(name) {
		case "Transfer-Encoding", "Trailer", "Content-Length":
			return true
		}
	}
	for _, header := range []http.Header{req.Header, req.Trailer} {
		for name, values := range header {
			if !isToken(name) || slices.ContainsFunc(values, func(value string) bool { return hasControls(strings.ReplaceAll(value, "\t", "")) }) {
				return true
			}
		}
	}
	return false
}

func overHTTP(req *http.Request) bool { return req.URL.Scheme == "http" || req.URL.Scheme == "https" }

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	}) < 0
}

func hasControls(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

// transientTLS hides a TLS alert, or a record that is none, from the classification
// as permanent where the host has answered before.
func transientTLS(err error) error {
	var record tls.RecordHeaderError
	var op *net.OpError
	if errors.As(err, &record) || errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") {
		return &transientError{err}
	}
	return err
}

// transientError has what is inside of it found by errors.Is and errors.As alone.
type transientError struct{ err error }

func (e *transientError) Error() string { return e.err.Error() }

func (e *transientError) Is(target error) bool { return is(e.err, target) }

func (e *transientError) As(target any) bool { return errors.As(e.err, target) }

// Timeout and Temporary make it an error of the network.
func (e *transientError) Timeout() bool { return false }

// Temporary is true: the host has answered before.
func (e *transientError) Temporary() bool { return true }

// maxCheck is how much of a body a caller's check gets to see.
const maxCheck = 1 << 20

// runCheck calls check and puts back what it read of the body.
func runCheck(check func(*http.Response) error, resp *http.Response) error {
	var seen bytes.Buffer
	body := resp.Body
	resp.Body = &rereader{io.TeeReader(io.LimitReader(body, maxCheck), &seen), io.NopCloser(nil)}
	defer func() {
		resp.Body = body
		if seen.Len() > 0 {
			resp.Body = &rereader{io.MultiReader(&seen, body), body}
		}
	}()
	return check(resp)
}

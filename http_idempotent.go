package retry

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
)

// idempotent reports whether the request may be repeated though it may have
// been carried out (RFC 9110, section 9.2.2; RFC 10008 for QUERY).
func (h *hop) idempotent() bool {
	if h.traits.Decided {
		return h.traits.Idempotent
	}
	return idempotentMethod(h.req.Method) || h.key != "" || hasKey(h.req.Header)
}

func idempotentMethod(method string) bool {
	switch method {
	case "QUERY", http.MethodPut, http.MethodDelete:
		return true
	}
	return idempotentForStd(method)
}

// hasKey goes by the names alone, as net/http does: a key without a value is
// the way to say so without sending one. Names that are not in their canonical
// form, which are sent all the same, count too.
func hasKey(header http.Header) bool {
	for name := range header {
		if isKeyName(name) {
			return true
		}
	}
	return false
}

// hasKeyValue reports whether a key is sent.
func hasKeyValue(header http.Header) bool {
	for name, values := range header {
		if len(values) > 0 && isKeyName(name) {
			return true
		}
	}
	return false
}

func isKeyName(name string) bool {
	switch len(name) {
	case len("Idempotency-Key"):
		return strings.EqualFold(name, "Idempotency-Key")
	case len("X-Idempotency-Key"):
		return strings.EqualFold(name, "X-Idempotency-Key")
	}
	return false
}

// idempotentForStd reports whether net/http itself takes a method for idempotent.
func idempotentForStd(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// keyForStd reports whether net/http sees a key: it knows only these spellings.
func keyForStd(header http.Header) bool {
	_, ok := header["Idempotency-Key"]
	_, okX := header["X-Idempotency-Key"]
	return ok || okX
}

// newKey returns a random UUID (RFC 9562, version 4) for an Idempotency-Key, which
// some servers validate. Go's generator is seeded by the operating system; the key
// is no secret.
func newKey() string {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	b[6] = b[6]&0x0f | 0x40 // version
	b[8] = b[8]&0x3f | 0x80 // variant
	var text [36]byte
	hex.Encode(text[:], b[:4])
	hex.Encode(text[9:], b[4:6])
	hex.Encode(text[14:], b[6:8])
	hex.Encode(text[19:], b[8:10])
	hex.Encode(text[24:], b[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// ownKey returns the Idempotency-Key that makes a POST or PATCH safe to repeat:
// one for the whole request, redirects included. What the caller decided stands.
func (h *hop) ownKey() string {
	req := h.req
	if h.t.core.idempotentOnly || req.Method != http.MethodPost && req.Method != http.MethodPatch ||
		h.traits.Decided || hasKey(req.Header) {
		return ""
	}
	if before := redirectedBy(req); before != nil && before.key != "" {
		return before.key
	}
	return newKey()
}

// limitRepeats notes, of an attempt that ended with err, what forbids to send the
// request again, if anything does. Whether err is worth a retry is the loop's to say.
func (h *hop) limitRepeats(err error) {
	acted := !h.serverRefused() && !h.unsent(err)
	h.lost = h.lost || acted && !h.finalAnswer()
	if h.body != nil && !h.body.replayable() {
		h.call.veto.reason = ErrBodyNotReplayable
	}
	if acted && !h.idempotent() {
		h.call.veto = outcome{reason: ErrNotIdempotent, cause: h.call.veto.reason}
	}
}

// finalAnswer reports whether the pending response is the server's own word on the
// request. A gateway says 502, 503, 504, or a status that is not registered, such as
// 524, when it had none from the server.
func (h *hop) finalAnswer() bool {
	if h.resp == nil {
		return false
	}
	switch code := h.resp.StatusCode; code {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	default:
		return code < 500 || http.StatusText(code) != ""
	}
}

// atWork reports whether the pending 409 means that the server is still busy with
// an earlier attempt: one whose answer was lost, and which had the same key.
func (h *hop) atWork() bool {
	return h.lost && h.resp.StatusCode == http.StatusConflict && (h.key != "" || hasKeyValue(h.req.Header))
}

// serverRefused reports whether the pending response says that the server did not act. A
// 503 does if it names a wait: without one, it may come from a proxy whose
// connection to the server broke with the request already on it.
func (h *hop) serverRefused() bool {
	if h.resp == nil {
		return false
	}
	switch h.resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusTooEarly, http.StatusMisdirectedRequest:
		return true
	case http.StatusServiceUnavailable:
		return h.resp.Header.Get("Retry-After") != ""
	}
	return false
}

// isDial reports whether err is of a type that only a connection to be made has.
func isDial(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || strings.HasPrefix(op.Op, "socks")) || errors.As(err, &dns)
}

// evidence is what net/http reports of the connections for an attempt: the only
// answer to whether the server can have seen the request. No type of error is one.
type evidence struct {
	asked     bool // for a connection
	connected bool // and got one
	reused    bool // which others had used before
	begun     bool // and the header was written to it
}

// traces are the evidence of an attempt: of each request that was made beneath the
// wrappers, which may have sent theirs more than once.
type traces struct {
	mu   sync.Mutex // guards last, and all that can be reached from there
	last *connTrace
}

// connTrace is the evidence of one request.
type connTrace struct {
	of     *traces
	before *connTrace
	evidence
	address  string
	answered bool
	other    bool // the connection asked for last is of another request
}

// trace returns one that collects evidence for the attempt. net/http asks for a
// second connection only if it could write nothing to the first one, so that the
// last one counts. A connection to another address, or one after an answer, is of a
// request that a base transport unknown to us makes during the attempt.
func (t *traces) trace() *httptrace.ClientTrace {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &connTrace{of: t, before: t.last}
	t.last = w
	return &httptrace.ClientTrace{
		GetConn: func(address string) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if w.other = w.answered || w.asked && address != w.address; !w.other {
				w.address, w.evidence = address, evidence{asked: true}
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			w.note(func() { w.connected, w.reused = true, info.Reused })
		},
		WroteHeaders:         func() { w.note(func() { w.begun = true }) },
		GotFirstResponseByte: func() { w.note(func() { w.answered = true }) },
	}
}

func (w *connTrace) note(change func()) {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	if !w.other {
		change()
	}
}

// evidence returns that of the attempt that is over.
func (h *hop) evidence() (all evidence) {
	if h.out == nil || h.out.seen == nil {
		return all
	}
	h.out.seen.mu.Lock()
	defer h.out.seen.mu.Unlock()
	for w := h.out.seen.last; w != nil; w = w.before {
		all.asked = all.asked || w.asked
		all.connected = all.connected || w.connected
		all.reused = all.reused || w.reused
		all.begun = all.begun || w.begun
	}
	return all
}

// unsent reports whether the server cannot have seen the request: no connection
// was got for it, or its HTTP/2 stream was refused.
func (h *hop) unsent(err error) bool {
	if h.answered {
		return false
	}
	if code, ok := streamCode(err); ok {
		return code == refusedStream
	}
	if e := h.evidence(); e.asked || e.connected {
		return !e.connected
	}
	return isDial(err) // of a base that does not trace
}

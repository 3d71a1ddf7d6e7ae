package retry

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"

	"github.com/retryutils/retry/internal/attempt"
	"github.com/retryutils/retry/internal/valid"
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

// sendsKey reports whether a key has a value, and so is sent.
func sendsKey(header http.Header) bool {
	for name, values := range header {
		if len(values) > 0 && isKeyName(name) {
			return true
		}
	}
	return false
}

func isKeyName(name string) bool {
	return strings.EqualFold(name, "Idempotency-Key") || strings.EqualFold(name, "X-Idempotency-Key")
}

// idempotentForStd reports whether net/http itself takes a method for idempotent.
func idempotentForStd(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// safeMethod reports whether a method asks for no change (RFC 9110, section 9.2.1).
func safeMethod(method string) bool { return method == "QUERY" || idempotentForStd(method) }

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
	text := hex.AppendEncode(make([]byte, 0, 36), b[:4])
	for _, part := range [][]byte{b[4:6], b[6:8], b[8:10], b[10:]} {
		text = hex.AppendEncode(append(text, '-'), part)
	}
	return string(text)
}

// ownKey returns the Idempotency-Key that makes a POST or PATCH safe to repeat:
// one for the whole request, redirects included. What the caller decided stands. Without
// retries there is none: for it net/http would repeat the request by itself.
func (h *hop) ownKey() string {
	req := h.req
	if h.t.core.idempotentOnly || h.cfg.maxRetries() == 0 || req.Method != http.MethodPost && req.Method != http.MethodPatch ||
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
	return h.lost && h.resp.StatusCode == http.StatusConflict && (h.key != "" || sendsKey(h.req.Header))
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
		wait := h.resp.Header["Retry-After"]
		return len(wait) > 0 && wait[0] != ""
	}
	return false
}

// evidence is what net/http reports of the connections for an attempt: the only
// answer to whether the server can have seen the request. No type of error is one.
type evidence struct {
	asked     bool // for a connection
	connected bool // and got one
	reused    bool // which others had used before
	begun     bool // and the header was written to it
	sent      int  // how often a header was written, to this connection and to those before
}

// traces are the evidence of an attempt: of each request that was made beneath the
// wrappers, which may have sent theirs more than once.
type traces struct {
	mu   sync.Mutex // guards last, and all that can be reached from there
	last *connTrace
}

// connTrace is the evidence of one request.
type connTrace struct {
	hooks  httptrace.ClientTrace // that collect it
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
	w.hooks = httptrace.ClientTrace{
		GetConn: func(address string) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if w.other = w.answered || w.asked && address != w.address; !w.other {
				w.address, w.evidence = address, evidence{asked: true, sent: w.sent}
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			w.note(func() { w.connected, w.reused = true, info.Reused })
		},
		WroteHeaders:         func() { w.note(func() { w.begun, w.sent = true, w.sent+1 }) },
		GotFirstResponseByte: func() { w.note(func() { w.answered = true }) },
	}
	return &w.hooks
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
	if h.out == nil {
		return all
	}
	h.out.seen.mu.Lock()
	defer h.out.seen.mu.Unlock()
	all.sent = int(h.out.played.Sent.Load())
	for w := h.out.seen.last; w != nil; w = w.before {
		all.asked = all.asked || w.asked
		all.connected = all.connected || w.connected
		all.reused = all.reused || w.reused
		all.begun = all.begun || w.begun
		all.sent += w.sent
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
	if e := h.evidence(); e.asked {
		return !e.connected
	}
	return attempt.IsDial(err) // of a base that does not trace
}

// notCarriedOut reports whether the attempt, which ended with err, is known not to have
// been carried out. What net/http sent more than once may have been, whatever the last
// answer: it repeats a request with a key by itself, when a connection breaks.
func (h *hop) notCarriedOut(err error) bool {
	known := h.out != nil && (h.out.traced || h.out.seen.last != nil || h.out.played.Calls.Load() > 0)
	if !known && !safeMethod(h.req.Method) {
		return false // by a base that may be net/http inside
	}
	if h.answered {
		return h.serverRefused() && h.evidence().sent <= 1
	}
	most := 0
	if _, refused := streamCode(err); refused {
		most = 1
	}
	return h.evidence().sent <= most && h.unsent(err)
}

// MayHaveActed reports whether a request, whose call ended with err, may have been
// carried out by the server: what to ask before a payment that failed is made again, or
// reported as not made. It is false only if no attempt can have been carried out: none was
// made, none got a connection, or the server refused each by a 421, 425 or 429, or by a 503
// with a Retry-After. After those answers a POST is repeated even if it must not be carried
// out twice. Else it is true, also where nothing is known:
//
//   - for any other answer. Most APIs send a 4xx before they act, but not all do, and a
//     409 may be about an earlier attempt. A caller who knows which of them the API sends
//     before it acts looks at the [*StatusError] first;
//   - for an answer that did not come, or not to its end, or was not understood;
//   - after a redirect, and in a retry of a [Do] around the request;
//   - for a function that [Do] called, and for an error of another package. Of several
//     errors that are joined those count that are known;
//   - for a request with an Idempotency-Key, or a PUT or DELETE, once a base transport other
//     than net/http's own was given it: that may repeat it by itself. [WrapTransport] leaves
//     it known, and so does a retrytest.Script, which says what it did.
//
// [ErrNotIdempotent] says the same of a request that is not repeated for this reason.
func MayHaveActed(err error) bool {
	known, harmless := isHarmless(err)
	return !known || !harmless
}

// isHarmless reports whether err is known to say if something was carried out, and that
// nothing was.
func isHarmless(err error) (known, harmless bool) {
	if valid.IsNil(err) {
		return false, false
	}
	switch e := err.(type) {
	case *Error:
		return true, e.harmless
	case *StatusError:
		return true, e.harmless
	case *harmlessError:
		return true, true
	case interface{ Unwrap() error }:
		return isHarmless(e.Unwrap())
	case interface{ Unwrap() []error }:
		harmless = true
		for _, branch := range e.Unwrap() {
			if k, h := isHarmless(branch); k {
				known, harmless = true, harmless && h
			}
		}
	}
	return known, harmless
}

// harmlessError is inside the error of a request that was not carried out. It shows
// nothing else of itself.
type harmlessError struct{ err error }

func (e *harmlessError) Error() string { return e.err.Error() }

func (e *harmlessError) Unwrap() error { return e.err }

// Timeout is for the *url.Error around it, which asks for it.
func (e *harmlessError) Timeout() bool {
	t, ok := e.err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

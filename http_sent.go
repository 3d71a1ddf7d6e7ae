package retry

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// evidence is what became of an attempt, as net/http tells it: the only answer to
// whether the server can have seen the request. No type of error is one.
type evidence struct {
	trace     httptrace.ClientTrace
	asked     atomic.Bool // for a connection
	connected atomic.Bool // and got one
	reused    atomic.Bool // which others had used before
	begun     atomic.Bool // and the header was written to it
}

// traceKey is the key under which net/http looks for a trace in a context. Who
// never looks, as a base transport that is not over net/http, costs nothing.
var traceKey = func() any {
	var catcher keyCatcher
	httptrace.ContextClientTrace(&catcher)
	return catcher.key
}()

type keyCatcher struct {
	context.Context
	key any
}

func (c *keyCatcher) Value(key any) any { c.key = key; return nil }

// traced returns the trace that keeps the attempt's evidence, besides that of the
// caller's own.
func (o *outgoing) traced() *httptrace.ClientTrace {
	if e := o.evidence.Load(); e != nil {
		return &e.trace
	}
	e := new(evidence)
	e.trace.GetConn = func(string) { e.asked.Store(true) }
	e.trace.GotConn = func(info httptrace.GotConnInfo) {
		e.reused.Store(info.Reused)
		e.connected.Store(true)
	}
	e.trace.WroteHeaders = func() { e.begun.Store(true) }
	httptrace.WithClientTrace(o.Context, &e.trace) // adds the caller's
	if !o.evidence.CompareAndSwap(nil, e) {
		e = o.evidence.Load()
	}
	return &e.trace
}

// seen is the evidence of the attempt that is over, nil if there is none.
func (h *hop) seen() *evidence {
	if h.out == nil {
		return nil
	}
	return h.out.evidence.Load()
}

// looks reports whether evidence may be needed: where the request may not be
// repeated blindly, where nothing is known of the host, and where net/http may
// find something wrong with the request that cannot be seen in it. Elsewhere it
// would cost more than it is worth.
func (h *hop) looks() bool {
	if !h.idempotent() {
		return true
	}
	return h.t.core.std != nil && (h.host.proto.Load() != 1 || unusual(h.req))
}

// unusual reports whether a request has something that net/http may refuse.
func unusual(req *http.Request) bool {
	return len(req.Trailer) > 0 || req.URL.Opaque != "" || req.ContentLength > 0 && req.Body == nil ||
		req.Host != "" && req.Host != req.URL.Host
}

// unusual2 is the same for HTTP/2, which has no headers about the connection, and
// whose peers say how long a header they accept.
func unusual2(req *http.Request) bool {
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

// unsent reports whether the server cannot have seen the request: no connection
// was got for it, or its HTTP/2 stream was refused.
func (h *hop) unsent(err error) bool {
	if h.answered {
		return false
	}
	if code, ok := streamCode(err); ok {
		return code == refusedStream
	}
	if e := h.seen(); e != nil && (e.asked.Load() || e.connected.Load()) {
		return !e.connected.Load()
	}
	return isDial(err) // of a base that does not tell
}

// refusedByNet reports whether net/http had a connection for the request and sent
// nothing of it, though nothing was wrong with the connection: it will not send
// it over any. A connection that others had used may just have been closed; then
// the request must look like one that is refused.
func (h *hop) refusedByNet(err error) bool {
	e := h.seen()
	return e != nil && h.t.core.std != nil && e.connected.Load() && !e.begun.Load() && !ofNetwork(err) &&
		(!e.reused.Load() || unusual(h.req) || unusual2(h.req))
}

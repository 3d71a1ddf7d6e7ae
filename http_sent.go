package retry

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
)

// wire is the base transport as those of WrapTransport get it. What is meant for
// net/http alone is added here, beneath them: they see what is sent, no more.
type wire struct{ http.RoundTripper }

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	o := attemptOf(req)
	if o == nil || !o.look && !o.mark && !o.once && !o.fresh {
		return w.RoundTripper.RoundTrip(req)
	}
	ctx := req.Context()
	if o.look {
		ctx = httptrace.WithClientTrace(ctx, o.trace())
	}
	sent := req.WithContext(ctx)
	sent.Close = req.Close || o.fresh
	if o.mark && req.Header != nil && !hasKey(req.Header) {
		// A key without a value is not sent. It lets net/http repeat a PUT or DELETE
		// that met a connection just closed, as it does with a GET (see the doc of
		// http.Transport).
		sent.Header = maps.Clone(req.Header)
		sent.Header["X-Idempotency-Key"] = []string{}
	}
	if o.once {
		keepFromRepeating(sent)
	}
	return w.RoundTripper.RoundTrip(sent)
}

// keepFromRepeating changes what net/http goes by when a connection that others had used
// breaks with the request on it: the method, where the body can be had again, and a key
// in its canonical spelling. What is sent stays the same.
func keepFromRepeating(req *http.Request) {
	if idempotentForStd(req.Method) && req.Method != http.MethodTrace { // that one would be sent with an empty body
		req.GetBody = nil
		if req.Body == nil || req.Body == http.NoBody {
			req.Body = io.NopCloser(strings.NewReader("")) // which net/http does not know to be empty
		}
	}
	if keyForStd(req.Header) {
		req.Header = maps.Clone(req.Header)
		for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
			if values, ok := req.Header[name]; ok {
				delete(req.Header, name)
				req.Header[strings.ToLower(name)] = values
			}
		}
	}
}

// Unwrap returns the transport that it adds to, for those of WrapTransport that go by
// its type.
func (w *wire) Unwrap() http.RoundTripper { return w.RoundTripper }

// CloseIdleConnections lets a transport of WrapTransport pass the call on.
func (w *wire) CloseIdleConnections() {
	if closer, ok := w.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// evidence is what net/http reports of the connections for an attempt: the only
// answer to whether the server can have seen the request. No type of error is one.
type evidence struct {
	asked     bool // for a connection
	connected bool // and got one
	reused    bool // which others had used before
	begun     bool // and the header was written to it
}

// connTrace collects the evidence of one request beneath the user's transports.
type connTrace struct {
	mu sync.Mutex // guards the fields below
	evidence
	address  string
	answered bool
	other    bool // the connection asked for last is of another request
}

// trace returns one that collects evidence for the attempt. net/http asks for a
// second connection only if it could write nothing to the first one, so that the
// last one counts. A connection to another address, or one after an answer, is of a
// request that a base transport unknown to us makes on the way.
func (o *outgoing) trace() *httptrace.ClientTrace {
	w := new(connTrace)
	o.mu.Lock()
	o.traces = append(o.traces, w)
	o.mu.Unlock()
	note := func(change func()) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.other {
			change()
		}
	}
	return &httptrace.ClientTrace{
		GetConn: func(address string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.other = w.answered || w.asked && address != w.address; !w.other {
				w.address, w.evidence = address, evidence{asked: true}
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			note(func() { w.connected, w.reused = true, info.Reused })
		},
		WroteHeaders:         func() { note(func() { w.begun = true }) },
		GotFirstResponseByte: func() { note(func() { w.answered = true }) },
	}
}

// seen is the evidence of the attempt that is over. A transport of the user's may
// have sent its request more than once.
func (h *hop) seen() (all evidence) {
	if h.out == nil {
		return all
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	for _, w := range h.out.traces {
		w.mu.Lock()
		all.asked = all.asked || w.asked
		all.connected = all.connected || w.connected
		all.reused = all.reused || w.reused
		all.begun = all.begun || w.begun
		w.mu.Unlock()
	}
	return all
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
	if e := h.seen(); e.asked || e.connected {
		return !e.connected
	}
	return isDial(err) // of a base that does not tell
}

// refusedByNet reports whether net/http had a connection for the request and sent
// nothing of it, though nothing was wrong with the connection: it will not send
// it over any. A connection that others had used may just have been closed; then
// the request must look like one that is refused.
func (h *hop) refusedByNet(err error) bool {
	e := h.seen()
	return h.t.core.std != nil && e.connected && !e.begun && !ofNetwork(err) &&
		(!e.reused || unusual(h.req) || unusual2(h.req))
}

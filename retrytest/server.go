package retrytest

import (
	"io"
	"net"
	"net/http"
	"strconv"
)

// serveHTTP gives an answer over a real connection.
func (s *Script) serveHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away; nothing was asked
	}
	clock := s.clock(r.Context())
	a, _, err := s.next(Request{
		Method: r.Method, URL: "http://" + r.Host + r.URL.String(), Header: r.Header.Clone(), Body: body,
	}, clock)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotImplemented) // not retried
		return
	}
	if a.wait(r.Context(), clock) != nil {
		return
	}
	if a.err != nil {
		s.breakOff(w, a)
		return
	}
	for key, values := range a.header {
		w.Header()[key] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body))) // net/http leaves it out where the status has no body
	w.WriteHeader(a.status)
	if a.cut < 0 {
		io.WriteString(w, a.body)
		return
	}
	io.WriteString(w, a.body[:a.cut])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// breakOff resets the connection. Another failure cannot be had from a server
// that was reached.
func (s *Script) breakOff(w http.ResponseWriter, a Answer) {
	if a.what != Reset().what && !a.carriedOut {
		s.t.Errorf("retrytest: a server that was reached cannot answer with %q; use the Script as an http.RoundTripper (script of %s)", a.what, s.place)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.t.Errorf("retrytest: resetting the connection: %v", err)
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // a reset, and not an end
	}
	conn.Close()
}

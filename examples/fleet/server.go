package main

import (
	"io"
	"net/http"
	"sync/atomic"
)

// server answers calls, and counts them. It can be made to refuse calls, and to
// fail.
type server struct {
	busy  atomic.Bool // each call gets a 429
	down  atomic.Bool
	calls atomic.Int64
}

func (s *server) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.calls.Add(1)
	switch {
	case s.down.Load():
		w.WriteHeader(http.StatusInternalServerError)
	case s.busy.Load():
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusTooManyRequests)
	default:
		io.WriteString(w, "ok")
	}
}

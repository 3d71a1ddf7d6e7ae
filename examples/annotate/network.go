package main

import (
	"context"
	"errors"
	"net"
	"sync"
)

// network ends a run that reaches no API: when the first attempt at each API got
// no connection, more attempts, and queues before limiters, only keep the user
// waiting for the same line. As soon as one of them answered it does nothing more.
type network struct {
	apis  int
	abort context.CancelCauseFunc

	mu          sync.Mutex // guards the fields below
	reached     bool
	unreachable map[string]bool
	first       error
}

// tried notes what came of an attempt at an API.
func (n *network) tried(api string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !unreachable(err) {
		n.reached = true
	}
	if n.reached || n.unreachable[api] {
		return
	}
	if n.first == nil {
		n.first, n.unreachable = err, make(map[string]bool)
	}
	n.unreachable[api] = true
	if len(n.unreachable) == n.apis {
		n.abort(n.first)
	}
}

// unreachable reports whether there was no connection, or nothing came over it.
func unreachable(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

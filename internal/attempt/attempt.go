// Package attempt is what a context says of the request that it was given to, for the
// packages of this module alone: what a caller said of the request must not reach other
// requests that are made during the attempt, so that no other package may have its key.
package attempt

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
)

// IdempotentKey is that of what retry.WithIdempotent says, a bool.
type IdempotentKey struct{}

// Key is that of the *Traits of an attempt under way.
type Key struct{}

// Traits are what cannot be seen in the attempt's request.
type Traits struct {
	Decided    bool // WithIdempotent was called for the request …
	Idempotent bool // … and said this
	Recorded   bool // GetBody plays back what the body in use has recorded: one reader at a time
}

// Of returns the traits of the attempt that ctx was given to, or of a request outside
// of any, from its caller's context.
func Of(ctx context.Context) Traits {
	if t, ok := ctx.Value(Key{}).(*Traits); ok {
		return *t
	}
	idempotent, decided := ctx.Value(IdempotentKey{}).(bool)
	return Traits{Decided: decided, Idempotent: idempotent}
}

// PlayedKey is that of the *Played of an attempt.
type PlayedKey struct{}

// Played is what RoundTrippers that play a server have done with the attempt's request.
// net/http reports the same to a httptrace.ClientTrace.
type Played struct{ Calls, Sent atomic.Int32 }

// Play notes for the attempt that ctx was given to, if there is one, that a RoundTripper
// that plays a server got its request, and answers with err, nil for a response.
func Play(ctx context.Context, err error) {
	p, ok := ctx.Value(PlayedKey{}).(*Played)
	if !ok {
		return
	}
	p.Calls.Add(1)
	if !IsDial(err) {
		p.Sent.Add(1)
	}
}

// IsDial reports whether err is of a type that only a connection to be made has.
func IsDial(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || strings.HasPrefix(op.Op, "socks")) || errors.As(err, &dns)
}

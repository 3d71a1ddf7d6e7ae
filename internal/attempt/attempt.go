// Package attempt is what a context says of the request that it was given to, for the
// packages of this module alone: what a caller said of the request must not reach other
// requests that are made during the attempt, so that no other package may have its key.
package attempt

import "context"

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

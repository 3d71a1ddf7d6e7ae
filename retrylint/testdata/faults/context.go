package faults

import (
	"errors"
	"time"
)

// A Context of another library than the standard one.
type Context interface {
	Done() chan int
	Err() error
}

func step(ctx Context) error { return nil }

// What is done of it may be the error that ends the loop.
func steps(ctx Context, busy func(error) bool) error {
	for { // want `\(loop\)`
		err := step(ctx)
		if err == nil {
			return nil
		}
		if !busy(err) {
			return errors.Join(err, ctx.Err())
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

type noContext struct{}

func stepOf(n noContext) error { return nil }

// What it is given may have a context that cannot be seen.
func stepsOf(n noContext, busy func(error) bool) error {
	for { // want `\(loop\)`
		err := stepOf(n)
		if err == nil {
			return nil
		}
		if !busy(err) {
			return err
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

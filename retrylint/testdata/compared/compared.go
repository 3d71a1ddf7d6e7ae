// Package compared has callers that compare the errors of loops: a rewrite must return
// the very same.
package compared

import (
	"context"
	"errors"
	"time"
)

var ErrBusy = errors.New("busy")

func open() error { return ErrBusy }

func load() (err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		if err = open(); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

func caller() bool { return load() == ErrBusy }

// The library's error would carry that of the context, and not be it: no rewrite.
func wait(ctx context.Context) error {
	for { // want `hand-written`
		if err := open(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func through(ctx context.Context) error { return wait(ctx) }

func gaveUp(err error) bool { return err == context.Canceled }

func other(ctx context.Context) bool {
	err := through(ctx)
	return gaveUp(err)
}

// Package compared has a caller that compares the error of a loop: the library
// would wrap it, so there is no rewrite.
package compared

import (
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

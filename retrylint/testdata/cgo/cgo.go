// Package cgo has retry loops in a file that imports "C": the analyzer is given
// what cgo makes of it.
package cgo

// static int start(int n) { return n > 3; }
import "C"

import (
	"errors"
	"time"
)

func start() error {
	if C.start(1) == 0 {
		return errors.New("not started")
	}
	return nil
}

func counted() (err error) {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around start`
		if err = start(); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

func direct() (err error) {
	for { // want `hand-written retry loop around C.start`
		if _, err = C.start(2); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
}

func silenced() (err error) {
	for { //nolint:retrylint
		if err = start(); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
}

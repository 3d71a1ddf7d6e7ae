// Package tests has a test that declares the name of package retry.
package tests

import (
	"os"
	"time"
)

func open(name string) (f *os.File, err error) {
	for range 3 { // want `hand-written`
		if f, err = os.Open(name); err == nil {
			return f, nil
		}
		time.Sleep(time.Millisecond)
	}
	return f, err
}

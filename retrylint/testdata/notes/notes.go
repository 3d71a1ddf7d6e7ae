// Package notes has loops whose faults are notes of one finding.
package notes

import "time"

func g() error { return nil }

func many() {
	for { // want `hand-written retry loop around g: .*; faults: unbounded, retry-all, context, jitter \(loop\)`
		if err := g(); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

//retrylint:ignore the whole function
func ignored() {
	println("before")
	for {
		if err := g(); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// Below it is a function that is not ignored.
//
//nolint:retrylint // the whole function
func ignoredToo() {
	println("before")
	for {
		if err := g(); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func reported() {
	for { // want `\(loop\)`
		if err := g(); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

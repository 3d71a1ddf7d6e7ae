// Package silence has loops that a comment silences, and some that it does not.
package silence

import "time"

func g() error { return nil }

func nolint() {
	for { //nolint:retrylint
		if err := g(); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func nolintAbove() {
	//nolint:errcheck,retrylint // the server comes up in the end
	for {
		if err := g(); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func nolintAll() {
	for { //nolint
		if err := g(); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func reason() {
	//retrylint:ignore the child process is ours, and always comes up
	for {
		if err := g(); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func oneOnly() {
	for { // want `\(loop\)` `\(unbounded\)`
		if err := g(); err == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(time.Second) //retrylint:ignore a second is short
	}
}

func noReason() {
	//retrylint:ignore
	for { // want `\(loop\)` `\(unbounded\)`
		if err := g(); err == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

func another() {
	for { //nolint:errcheck // want `\(loop\)` `\(unbounded\)`
		if err := g(); err == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

// Package script plays what loops try: failures in an order that was written before.
package script

import (
	"errors"
	"io/fs"
	"net"
	"time"
)

var (
	ErrBusy  = errors.New("busy")
	ErrFinal = errors.New("final")
	ErrFile  = &fs.PathError{Op: "open", Path: "ready", Err: fs.ErrNotExist}
	ErrStop  = errors.New("stopped")
	ErrHost  = &net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}
)

// A Script is what the attempts return, one after the other, and the last again and
// again. It notes when they were made.
type Script struct {
	Errs  []error
	Times []time.Time
	Log   []string
	Stop  chan struct{} // closed to stop loops
}

// Try is an attempt.
func (s *Script) Try() error {
	s.Times = append(s.Times, time.Now())
	return s.Errs[min(len(s.Times), len(s.Errs))-1]
}

// Get is an attempt with a value.
func (s *Script) Get() (string, error) {
	if err := s.Try(); err != nil {
		return "", err
	}
	return "value", nil
}

// State is an attempt whose first answers are not all that is wanted.
func (s *Script) State() (string, error) {
	if err := s.Try(); err != nil {
		return "", err
	}
	if len(s.Times) < 3 {
		return "pending", nil
	}
	return "ready", nil
}

// Logf is a line of a log.
func (s *Script) Logf(format string, args ...any) { s.Log = append(s.Log, format) }

package shapes

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"time"
)

// Loops whose answer, and not an error, says that what was tried could not be done.

type fileLock struct{}

func (fileLock) TryLock() (bool, error) { return false, nil }

// What is only tried answers that it was not possible; an error ends the loop.
func acquire(ctx context.Context, l fileLock) error {
	for { // want `hand-written retry loop around l.TryLock`
		got, err := l.TryLock()
		switch {
		case err != nil:
			return err
		case !got:
			fmt.Println("locked by another")
		default:
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type transfer struct {
	done bool
	last error
}

func send(t *transfer) error { return nil }

// The call reports through its argument, and the loop counts attempts.
func upload(t *transfer, maxTries int) error {
	var last error
	for retry := 0; retry < maxTries; retry++ { // want `hand-written retry loop around send`
		if err := send(t); err != nil {
			return err
		}
		if t.done {
			return nil
		}
		last = t.last
	}
	return last
}

func codeOf(reply any) int { return 0 }

// The reply of a call holds a code that a helper reads.
func throttled(ctx context.Context, reply any, invoke func(context.Context, any) error) error {
	var last error
	for attempt := 0; attempt < 5; attempt++ { // want `hand-written retry loop around invoke`
		last = invoke(ctx, reply)
		code := codeOf(reply)
		if code == 8 {
			continue
		}
		return last
	}
	return last
}

type conn struct{ peers []string }

func dialPeer(addr string) (*conn, error) { return nil, nil }

func shuffled(s []string) []string {
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

func best(c *conn) (string, error) { return "", nil }

// Each attempt is a walk through the same addresses, and what one of them answers does
// not outlive it.
func discover(addrs []string, maxAttempts int) (*conn, error) {
	attempt := 0
	var last error
	for attempt < maxAttempts { // want `hand-written retry loop around dialPeer`
		attempt++
		for _, addr := range addrs {
			c, err := dialPeer(addr)
			if err != nil {
				last = err
				continue
			}
			c.peers = shuffled(c.peers)
			if _, err = best(c); err != nil {
				last = err
				continue
			}
			return c, nil
		}
		time.Sleep(time.Second)
	}
	return nil, last
}

type store struct{}

func (store) PutNextBatch(ctx context.Context, token string) error { return nil }

// "Next" names what is stored, and is no other thing to store in each round.
func save(ctx context.Context, s store, token string) error {
	for { // want `hand-written retry loop around s.PutNextBatch`
		err := s.PutNextBatch(ctx, token)
		if err != nil {
			if strings.Contains(err.Error(), "locked") {
				fmt.Println("retrying")
				continue
			}
			return err
		}
		return nil
	}
}

type permit struct{}

func tryReserve() *permit { return nil }

// What is only tried needs no error to say no.
func reserve(ctx context.Context) (*permit, error) {
	for { // want `hand-written retry loop around tryReserve`
		if p := tryReserve(); p != nil {
			return p, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type row struct{}

func (row) Scan(...any) error { return nil }

func query() row { return row{} }

// The row of a database is read by Scan, and the wait is a function that came as a value.
func insert(wait func(int), busy func(error) bool) (id int, err error) {
	for i := range 20 { // want `hand-written retry loop around row.Scan`
		row := query()
		if err = row.Scan(&id); err == nil {
			break
		}
		if !busy(err) {
			return 0, err
		}
		wait(i)
	}
	return id, err
}

// A value that is received says whether what was started failed.
func handshake(start func(chan error), temporary func(error) bool) error {
	for { // want `hand-written retry loop around start2`
		done := make(chan error, 1)
		var err error
		err = start2(start, done)
		if err != nil {
			return err
		}
		err = <-done
		if err != nil {
			if temporary(err) {
				time.Sleep(time.Second)
				continue
			}
			return err
		}
		return nil
	}
}

func start2(start func(chan error), done chan error) error { return nil }

type tracker struct{}

func (tracker) complete() (bool, error) { return false, nil }

type policy struct{ SleepBetweenRetries time.Duration }

// The time between two rounds is named for retries.
func scan(t tracker, p policy) error {
	interval := p.SleepBetweenRetries
	for { // want `hand-written retry loop around t.complete`
		done, err := t.complete()
		if done || err != nil {
			return err
		}
		time.Sleep(interval)
	}
}

type health struct{}

type state struct{ Status string }

const serving = "SERVING"

func (health) Check(ctx context.Context) (*state, error) { return nil, nil }

// It waits until what it asks says that it is ready.
func ready(ctx context.Context, h health) error {
	for { // want `hand-written retry loop around h.Check`
		s, err := h.Check(ctx)
		if err != nil {
			return err
		}
		if s.Status == serving {
			return nil
		}
		time.Sleep(time.Second)
	}
}

// The function is named for retries.
func retryWithSleep(d time.Duration, f func() (bool, error)) error {
	for { // want `hand-written retry loop around f`
		done, err := f()
		if done || err != nil {
			return err
		}
		time.Sleep(d)
	}
}

type worker struct{ commands chan chan error }

// Another goroutine makes the attempt, and sends its error.
func (w *worker) reconnect(maxAttempts int) {
	for attempts := 1; ; attempts++ { // want `hand-written retry loop around a call`
		answer := make(chan error, 1)
		w.commands <- answer
		err := <-answer
		if err == nil {
			return
		}
		if attempts >= maxAttempts {
			return
		}
		time.Sleep(time.Second)
	}
}

// Only the log says that it is tried again.
func discovered(discover func() ([]string, error), deadline time.Time) ([]string, error) {
	for { // want `hand-written retry loop around discover`
		nodes, err := discover()
		if err != nil || len(nodes) > 0 {
			return nodes, err
		}
		if time.Now().After(deadline) {
			return nil, errors.New("there are none")
		}
		println("none is registered yet, retrying")
		time.Sleep(time.Second)
	}
}

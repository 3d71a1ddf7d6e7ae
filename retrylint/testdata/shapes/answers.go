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


// Package shapes has one loop of each shape that real code has.
package shapes

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"math/rand"
	"net/http"
	"time"
)

type conn struct{}

func dial(addr string) (*conn, error)        { return nil, errors.New(addr) }
func ping(ctx context.Context) error         { return ctx.Err() }
func temporary(err error) bool               { return errors.Is(err, io.ErrUnexpectedEOF) }
func pause(ctx context.Context, attempt int) {}
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func counted(db *sql.DB) (err error) {
	for i := 0; i < 5; i++ { // want `hand-written retry loop around db.Ping: use retry.Do`
		err = db.Ping()
		if err == nil {
			break
		}
		time.Sleep(time.Second)
	}
	return err
}

func rangeInt(ctx context.Context) (err error) {
	for attempt := range 3 { // want `hand-written retry loop around ping`
		if err = ping(ctx); err == nil {
			return nil
		}
		pause(ctx, attempt)
	}
	return err
}

func rangeDelays(ctx context.Context, delays []time.Duration) (err error) {
	for _, d := range delays { // want `hand-written retry loop around ping`
		if err = ping(ctx); err == nil {
			return nil
		}
		time.Sleep(d)
	}
	return err
}

func endless(addr string) *conn {
	for { // want `hand-written retry loop around dial`
		c, err := dial(addr)
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		return c
	}
}

func condition(ctx context.Context) {
	err := ping(ctx)
	for err != nil { // want `hand-written retry loop around ping`
		<-time.After(time.Second)
		err = ping(ctx)
	}
}

func gotoLabel(addr string) (*conn, error) {
	tries := 0
retry: // want `hand-written retry goto around dial`
	c, err := dial(addr)
	if err != nil && tries < 3 {
		tries++
		goto retry
	}
	return c, err
}

func recursive(addr string, attempt int) (*conn, error) {
	c, err := dial(addr)
	if err != nil {
		if attempt > 5 {
			return nil, err
		}
		time.Sleep(time.Second)
		return recursive(addr, attempt+1) // want `hand-written retry recursion around recursive`
	}
	return c, nil
}

func listen(ctx context.Context, failed chan error) {
	select {
	case <-ctx.Done():
	case <-failed:
		time.Sleep(time.Second)
		listen(ctx, failed) // want `hand-written retry recursion around listen`
	}
}

func ticker(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for { // want `hand-written retry loop around ping`
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			if err := ping(ctx); err == nil {
				return nil
			}
		}
	}
}

func rangeTicker(ctx context.Context) {
	for range time.Tick(time.Second) { // want `hand-written retry loop around ping`
		if ping(ctx) == nil {
			return
		}
	}
}

func selectAfter(ctx context.Context) error {
	backoff := time.Second
	for { // want `hand-written retry loop around ping`
		err := ping(ctx)
		if err == nil || !temporary(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoff + time.Duration(rand.Int63n(int64(backoff)))):
		}
		backoff = min(2*backoff, time.Minute)
	}
}

func helper(ctx context.Context) error {
	for { // want `hand-written retry loop around ping`
		if err := ping(ctx); !temporary(err) {
			return err
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

func statuses(client *http.Client, req *http.Request) (*http.Response, error) {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around client.Do: use a retry.RetryableClient`
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			resp.Body.Close()
			time.Sleep(time.Second)
			continue
		}
		return resp, nil
	}
	return nil, errors.New("unavailable")
}

func typed(ctx context.Context) error {
	for tries := 0; ; tries++ { // want `hand-written retry loop around ping`
		err := ping(ctx)
		var t interface{ Temporary() bool }
		if errors.As(err, &t) && t.Temporary() && tries < 4 {
			continue
		}
		return err
	}
}

func poll(interval time.Duration, condition func() (bool, error)) error { return nil }

func PollImmediate(interval, timeout time.Duration, condition func() (bool, error)) error { return nil }

func polled(ctx context.Context) error {
	return PollImmediate(time.Second, time.Minute, func() (bool, error) { // want `hand-written retry polling around ping`
		if err := ping(ctx); err != nil {
			return false, nil
		}
		return true, nil
	})
}

func nested(addrs []string) (*conn, error) {
	var last error
	for i := 0; i < 3; i++ { // want `hand-written retry loop around dial`
		for _, addr := range addrs {
			c, err := dial(addr)
			if err == nil {
				return c, nil
			}
			last = err
		}
		time.Sleep(time.Second)
	}
	return nil, last
}

type stack[T any] struct{ load func() (T, error) }

func (s stack[T]) generic() (v T, err error) {
	for try := 0; try < 3; try++ { // want `hand-written retry loop around s.load`
		v, err = s.load()
		if err == nil {
			return v, nil
		}
	}
	return v, err
}

func closure(ctx context.Context) {
	go func() {
		for { // want `hand-written retry loop around a function`
			err := func() error { return ping(ctx) }()
			if err == nil {
				return
			}
			time.Sleep(time.Second)
		}
	}()
}

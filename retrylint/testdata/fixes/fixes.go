// The program runs loops that can be rewritten for certain, and some that cannot.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const attempts = 4

type thing struct{ name string }

var calls int

func fails(n int) error {
	if calls++; calls < n {
		return fmt.Errorf("call %d", calls)
	}
	return nil
}

func load(ctx context.Context, n int) (*thing, error) {
	if err := fails(n); err != nil {
		return nil, err
	}
	return &thing{"it"}, ctx.Err()
}

func broken(n int) error {
	var err error
	for i := 0; i < 3; i++ { // want `hand-written`
		err = fails(n)
		if err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

func returned(ctx context.Context, n int) (*thing, error) {
	var last error
	for range attempts { // want `hand-written`
		v, err := load(ctx, n)
		if err == nil {
			return v, nil
		}
		last = err
		time.Sleep(2 * time.Millisecond)
	}
	return nil, fmt.Errorf("gave up: %w", last)
}

func initialized(n int) (err error) {
	for range attempts { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.Join(err)
}

func both(ctx context.Context, n int) string {
	var v *thing
	var err error
	for i := 0; i < attempts; i++ { // want `hand-written`
		if v, err = load(ctx, n); err == nil {
			return v.name
		}
		time.Sleep(time.Millisecond)
	}
	return "failed"
}

// The number is used by the wait alone.
func numbered(n int) (err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Duration(i+1) * time.Millisecond)
	}
	return err
}

// There is no context that could be done.
func cleanUp(n int) (err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// The name of the package is taken.
func taken(n int) (err error) {
	retry := 3
	for i := 0; i < 3; i++ { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("%d: %w", retry, err)
}

// How often is not known.
func variable(n, times int) (err error) {
	for i := 0; i < times; i++ { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// The context may be done, and then the library would make no attempt: no rewrite.
func stop(ctx context.Context, n int) (v *thing, err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		if v, err = load(ctx, n); err == nil {
			return v, nil
		}
		time.Sleep(time.Millisecond)
	}
	return v, err
}

// What is deferred in the loop would be done after each attempt: no rewrite.
func deferred(n int) (err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		defer fmt.Print()
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// The lock is taken again behind the wait, not before it: no rewrite.
func locked(mu sync.Locker, n int) (err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
	}
	return err
}

// The wait stands before the attempt, and what it depends on is no counter of the loop:
// no rewrite.
func before(n int) (err error) {
	tries := 0
	for tries < 4 { // want `hand-written`
		if tries > 0 {
			time.Sleep(time.Millisecond)
		}
		tries++
		if err = fails(n); err == nil {
			return nil
		}
	}
	return err
}

// A round without a failure may be followed by another: what follows the loop gets what the
// last one left.
func notYet(n int) (v *thing, err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		v, err = load(context.Background(), n)
		if err == nil && v.name == "it" {
			return v, nil
		}
		time.Sleep(time.Millisecond)
	}
	return v, err
}

// A flag and a function stand for the error: these are left as they are.
func flagged(n int) bool {
	for i := 0; i < 3; i++ { // want `hand-written`
		err := fails(n)
		good := err == nil
		if good {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

func works(n int) bool { return fails(n) == nil }

func asked(n int) bool {
	for i := 0; i < 3; i++ { // want `hand-written`
		if works(n) {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

func cancellableSleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// The attempts get another context than the wait, whose end only makes the waits shorter: no
// rewrite.
func detached(ctx context.Context, n int) (v *thing, err error) {
	detached := context.WithoutCancel(ctx)
	for i := 0; i < 3; i++ { // want `hand-written`
		if v, err = load(detached, n); err == nil {
			break
		}
		cancellableSleep(ctx, time.Millisecond)
	}
	return v, err
}

func main() {
	ctx := context.Background()
	show := func(name string, ok bool) {
		fmt.Println(name, calls, ok)
		calls = 0
	}
	for _, n := range []int{1, 2, 3, 4, 5, 100} {
		show("broken", broken(n) == nil)
		show("flagged", flagged(n))
		show("asked", asked(n))
		v, err := returned(ctx, n)
		show("returned", err == nil && v.name == "it")
		show("initialized", initialized(n) == nil)
		show("both", both(ctx, n) == "it")
		show("numbered", numbered(n) == nil)
		show("cleanUp", cleanUp(n) == nil)
		show("taken", taken(n) == nil)
		show("variable", variable(n, 2) == nil)
	}
	fmt.Println("ok")
}

// The program runs loops that can be rewritten for certain, and some that cannot.
package main

import (
	"context"
	"errors"
	"fmt"
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

// The number is used: no rewrite.
func numbered(n int) (err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Duration(i+1) * time.Millisecond)
	}
	return err
}

// The context may be done: no rewrite.
func cleanUp(n int) (err error) {
	for i := 0; i < 3; i++ { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// The name is taken: no rewrite.
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

// How often is not known: no rewrite.
func variable(n, times int) (err error) {
	for i := 0; i < times; i++ { // want `hand-written`
		if err = fails(n); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

func main() {
	ctx := context.Background()
	show := func(name string, ok bool) {
		fmt.Println(name, calls, ok)
		calls = 0
	}
	for _, n := range []int{1, 2, 3, 4, 5, 100} {
		show("broken", broken(n) == nil)
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

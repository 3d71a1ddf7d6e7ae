// Package faults has each fault, and beside it code without it.
package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"net/http"
	"time"
)

var errGaveUp = errors.New("gave up")

func f(ctx context.Context) error { return ctx.Err() }
func g() error                    { return nil }
func closed() bool                { return false }

func deaf(ctx context.Context, d time.Duration) {
	for { // want `\(unbounded\)` `\(loop\)`
		if err := g(); err == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(d) // want `a cancelled ctx does not end this wait.*\(context\)` `no jitter.*\(jitter\)`
	}
}

func hears(ctx context.Context, d time.Duration) error {
	for { // want `\(loop\)`
		err := f(ctx)
		if err == nil || errors.Is(err, io.EOF) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d/2 + rand.N(d)):
		}
	}
}

func flag(d time.Duration) {
	for { // want `\(loop\)`
		if err := g(); err == nil { // want `\(retry-all\)`
			return
		}
		if closed() {
			return
		}
		time.Sleep(d + rand.N(d)) // want `\(context\)`
	}
}

func lastSleep(n int) error {
	var err error
	for i := 0; i < n; i++ { // want `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Second) // want `\(context\)` `waits once more after the last attempt.*\(last-sleep\)` `\(jitter\)`
	}
	return err
}

func noLastSleep(n int) error {
	var err error
	for i := 0; i < n; i++ { // want `\(loop\)`
		if i > 0 {
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
		}
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
	}
	return err
}

// A count in the body may be tested by another way before the wait.
func lastSleepInTheMiddle(n int) error {
	for tries := 0; ; { // want `\(loop\)`
		err := g()
		if err == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
		if tries++; tries > n {
			return err
		}
	}
}

func noWait() error {
	var err error
	for i := 0; i < 3; i++ { // want `retried at once.*\(no-wait\)` `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
	}
	return err
}

func shift() error {
	for attempt := 0; attempt < 40; attempt++ { // want `\(loop\)`
		if g() == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Second << attempt) // want `\(context\)` `\(last-sleep\)` `\(jitter\)` `grows without a ceiling.*\(overflow\)`
	}
	return errGaveUp // want `error of the last attempt is lost.*\(last-error\)`
}

func pow() error {
	for attempt := range 20 { // want `\(loop\)`
		if g() == nil { // want `\(retry-all\)`
			return nil
		}
		d := time.Duration(math.Pow(2, float64(attempt))) * time.Second // want `\(overflow\)`
		time.Sleep(d)                                                   // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return fmt.Errorf("gave up after %d attempts", 20) // want `\(last-error\)`
}

func product() {
	d := time.Second
	for { // want `\(unbounded\)` `\(loop\)`
		if g() == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(d) // want `\(context\)` `\(jitter\)`
		d *= 2        // want `\(overflow\)`
	}
}

func capped() {
	d := time.Second
	for { // want `\(unbounded\)` `\(loop\)`
		if g() == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(d) // want `\(context\)` `\(jitter\)`
		d *= 2
		if d > time.Minute {
			d = time.Minute
		}
	}
}

func few() error {
	var err error
	for i := range 4 { // want `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Second << i) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return fmt.Errorf("gave up: %w", err)
}

func unit() {
	for { // want `\(unbounded\)` `\(loop\)`
		if g() == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(5000) // want `\(context\)` `\(jitter\)` `a delay of 5000 without a unit is 5000 nanoseconds.*\(unit\)`
	}
}

func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func throughHelper() {
	for { // want `\(unbounded\)` `\(loop\)`
		if g() == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(jittered(time.Second)) // want `\(context\)`
	}
}

func bodyReuse(client *http.Client, url string, data []byte) (*http.Response, error) {
	req, err := http.NewRequest("POST", url, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var resp *http.Response
	for i := 0; i < 3; i++ { // want `\(no-wait\)` `\(loop\)`
		req.Header.Add("X-Try", "1") // want `\(header-add\)`
		resp, err = client.Do(req)   // want `first attempt reads this body.*\(body-reuse\)`
		if err == nil {              // want `\(retry-all\)`
			return resp, nil
		}
	}
	return nil, err
}

func bodyAnew(client *http.Client, url string, data []byte) (*http.Response, error) {
	var resp *http.Response
	var err error
	for i := 0; i < 3; i++ { // want `\(no-wait\)` `\(loop\)`
		var req *http.Request
		req, err = http.NewRequest("POST", url, bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		req.Header.Add("X-Try", "1")
		resp, err = client.Do(req)
		if err == nil { // want `\(retry-all\)`
			return resp, nil
		}
	}
	return nil, err
}

func reader(url string, body io.Reader) (resp *http.Response, err error) {
	for i := 0; i < 3; i++ { // want `\(no-wait\)` `\(loop\)`
		resp, err = http.Post(url, "text/plain", body) // want `\(body-reuse\)`
		if err == nil {                                // want `\(retry-all\)`
			return resp, nil
		}
	}
	return nil, err
}

func open(client *http.Client, req *http.Request) (*http.Response, error) {
	for { // want `\(unbounded\)` `\(loop\)`
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 500 { // want `not closed before the next attempt.*\(body-close\)` `\(retry-after\)`
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
			continue
		}
		return resp, nil
	}
}

func deferred(client *http.Client, req *http.Request) ([]byte, error) {
	for { // want `\(unbounded\)` `\(loop\)`
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()     // want `a deferred Close.*\(body-close\)`
		if resp.StatusCode == 429 { // want `\(retry-after\)`
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
			continue
		}
		return io.ReadAll(resp.Body)
	}
}

func asked(client *http.Client, req *http.Request) (*http.Response, error) {
	for { // want `\(unbounded\)` `\(loop\)`
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == 429 {
			resp.Body.Close()
			d, _ := time.ParseDuration(resp.Header.Get("Retry-After") + "s")
			time.Sleep(d) // want `\(context\)`
			continue
		}
		return resp, nil
	}
}

func breakSelect(ctx context.Context) {
	for { // want `\(loop\)`
		if err := g(); err == nil { // want `\(retry-all\)`
			return
		}
		select {
		case <-ctx.Done():
			break // want `leaves only the select.*\(break-select\)`
		case <-time.After(rand.N(time.Second)):
		}
	}
}

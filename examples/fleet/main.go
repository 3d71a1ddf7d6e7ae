// Command fleet shows what a fleet of processes makes of a server that throttles
// and then goes down, with and without package fleet:
//
//	go run ./examples/fleet
//
// It starts a redis-server if there is one in PATH, or else an embedded one, 20
// processes (this program, run again), and a server. Line by line it prints who paused or opened its breaker when. What
// there is to learn about package fleet is in this file.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/redis/rueidis"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/fleet"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintf(os.Stderr, "fleet: takes no arguments, and got %q: go run ./examples/fleet\n", os.Args[1])
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if os.Getenv(roleVariable) != "" {
		err = work(ctx, os.Stdout)
	} else {
		err = show(ctx, os.Stdout, startRedis)
	}
	switch {
	case ctx.Err() != nil && os.Getenv(roleVariable) != "": // one of the 20: the first process tells
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "fleet: interrupted; the figures are those of a part")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

// work is one of the 20 processes: it calls the server all the time, and tells
// what happens to its gate and its breaker.
func work(ctx context.Context, out io.Writer) error {
	gate := retry.NewGate(nil)
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Second})
	if err != nil {
		return err
	}
	gate.OnPause(func(until time.Time) { tell(out, "paused", time.Until(until)) })
	breaker.OnStateChange(func(c retry.StateChange) { tell(out, c.To.String(), 0) })

	// All that makes a process a member of a fleet:
	if redis := os.Getenv(redisVariable); redis != "" {
		f, err := fleet.Dial(ctx, rueidis.ClientOption{
			InitAddress: []string{redis},
			AlwaysRESP2: true, // for miniredis; a Redis needs no such thing
		}, fleet.Config{
			Name:     "example",
			OpenTime: time.Second, // as the breakers have it
		})
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Gate("server", gate); err != nil {
			return err
		}
		if err := f.Breaker("server", breaker); err != nil {
			return err
		}
	}

	client, err := retry.NewRetryableClient(&http.Client{Timeout: time.Second}, retry.Config{
		MaxRetries:   retry.NoRetries,
		Gate:         gate,
		Breaker:      breaker,
		WaitWhenOpen: true,
	})
	if err != nil {
		return err
	}
	tell(out, "ready", 0)
	for ctx.Err() == nil && pause(ctx, 100*time.Millisecond) {
		resp, err := client.Get(ctx, os.Getenv(roleVariable))
		if err == nil {
			resp.Body.Close()
		}
	}
	return nil
}

// pause waits, unless ctx is done.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

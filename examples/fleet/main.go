// Command fleet shows what a fleet of processes makes of a server that throttles
// and then goes down, with and without package fleet:
//
//	go run ./examples/fleet
//
// It starts a redis-server if there is one in PATH, or else an embedded one, 20
// processes (this program, run again), and a server, and prints how many calls went to
// the server while it was down. With -v it prints line by line which process paused or
// opened its breaker when. What there is to learn about package fleet is in join.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/fleet"
)

func main() {
	// Also "| head" is no reason to leave a Redis behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	code := start(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// start returns the exit code.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	process := os.Getenv(roleVariable) != "" // one of the 20
	verbose := len(args) == 1 && args[0] == "-v"
	var err error
	switch {
	case process:
		var redis *rueidis.ClientOption
		if address := os.Getenv(redisVariable); address != "" {
			redis = &rueidis.ClientOption{
				InitAddress: []string{address},
				AlwaysRESP2: true, // for miniredis; a Redis needs no such thing
			}
		}
		err = work(ctx, stdout, &http.Client{Timeout: time.Second}, os.Getenv(roleVariable), redis)
	case len(args) > 0 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]):
		fmt.Fprint(stdout, "Shows what a fleet of processes makes of a bad server, with and without package fleet.\n\nUsage: fleet [-v]\n\n  -v  what each process does, and when\n")
		return 0
	case len(args) > 0 && !verbose:
		fmt.Fprintf(stderr, "fleet: takes -v or nothing, and got %q (-h explains)\n", args)
		return 2
	default:
		err = show(ctx, stdout, verbose, startRedis)
	}
	switch {
	case ctx.Err() != nil:
		if !process { // those leave the report to the first one
			fmt.Fprintln(stderr, "fleet: interrupted; the figures are those of a part")
		}
		return 130
	case err != nil:
		fmt.Fprintln(stderr, "fleet:", err)
		return 1
	}
	return 0
}

// work is one of the 20 processes: it calls the server all the time, and prints
// what happens to its gate and its breaker. Without redis it is alone.
func work(ctx context.Context, out io.Writer, plain *http.Client, server string, redis *rueidis.ClientOption) error {
	gate := retry.NewGate(nil)
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Second})
	if err != nil {
		return err
	}
	gate.OnPause(func(until time.Time) { report(out, "paused", time.Until(until)) })
	breaker.OnStateChange(func(c retry.StateChange) { report(out, c.To.String(), 0) })
	if redis != nil {
		f, err := join(ctx, *redis, gate, breaker)
		if err != nil {
			return err
		}
		defer f.Close()
		connecting, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for !f.Snapshot().Connected && pause(connecting, 10*time.Millisecond) { // the show begins when all hear each other
		}
	}
	client, err := retry.NewRetryableClient(plain, retry.Config{
		MaxRetries:   retry.NoRetries,
		Gate:         gate,
		Breaker:      breaker,
		WaitWhenOpen: true,
	})
	if err != nil {
		return err
	}
	report(out, "ready", 0)
	for ctx.Err() == nil && pause(ctx, rand.N(400*time.Millisecond)) {
		resp, err := client.Get(ctx, server)
		if err == nil {
			resp.Body.Close()
		}
	}
	return nil
}

// join is all that makes a process a member of a fleet.
func join(ctx context.Context, redis rueidis.ClientOption, gate *retry.Gate, breaker *retry.CircuitBreaker) (*fleet.Fleet, error) {
	f, err := fleet.Dial(ctx, redis, fleet.Config{
		Name:     "example",
		OpenTime: time.Second, // as the breakers have it
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Gate("server", gate), f.Breaker("server", breaker)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
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

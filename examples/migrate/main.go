// Command migrate shows how programs move to package retry: each subdirectory has one
// that uses another library (before.go) and the same with this one (after.go), which
// docs/migrating.md explains. It plays the same failures to both, and prints what the
// server saw and what the caller got:
//
//	go run ./examples/migrate
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	peer "github.com/sony/gobreaker/v2"

	"github.com/retryutils/retry"

	"github.com/retryutils/retry/examples/migrate/backoff4"
	"github.com/retryutils/retry/examples/migrate/backoff5"
	"github.com/retryutils/retry/examples/migrate/backoff7"
	"github.com/retryutils/retry/examples/migrate/failsafe"
	"github.com/retryutils/retry/examples/migrate/gobreaker"
	"github.com/retryutils/retry/examples/migrate/resty"
	"github.com/retryutils/retry/examples/migrate/retryablehttp"
	"github.com/retryutils/retry/examples/migrate/retrygo"
)

type find = func(ctx context.Context, url string) (string, error)

// program is a pair of programs that do the same, and the failures that are played to them.
type program struct {
	name   string // of the subdirectory
	before func(*http.Client, *slog.Logger) find
	after  func(*http.Client, *slog.Logger) (find, error)
	cases  []string
}

var loops = []string{"recovers", "rate limit", "reset", "no such gene", "down", "cancelled", "deadline", "an hour"}

var programs = []program{
	{"retryablehttp", retryablehttp.Before, retryablehttp.After, append([]string{"locked", "timeout", "507"}, loops...)},
	{"backoff4", backoff4.Before, backoff4.After, loops},
	{"backoff5", backoff5.Before, backoff5.After, loops},
	{"backoff7", backoff7.Before, backoff7.After, loops},
	{"retrygo", retrygo.Before, retrygo.After, loops},
	{"gobreaker", gobreaker.Before, gobreaker.After, []string{"half of the calls", "outage", "no such genes"}},
	{"failsafe", failsafe.Before, failsafe.After, append([]string{"timeout", "507", "outage"}, loops...)},
	{"resty", resty.Before, resty.After, append([]string{"timeout", "507"}, loops...)},
}

// scenario is what a server answers, and when it is asked.
type scenario struct {
	answers  []answer        // the last one for all further requests
	calls    []time.Duration // when they are made; nil: one, now
	cancel   time.Duration   // when its caller cancels; 0: not
	deadline time.Duration   // of each call; 0: none
}

type answer struct {
	status int // 0: the connection breaks
	after  int // seconds in Retry-After
}

var scenarios = map[string]scenario{
	"recovers":          {answers: []answer{{503, 0}, {503, 0}, {200, 0}}},
	"rate limit":        {answers: []answer{{429, 1}, {200, 0}}},
	"reset":             {answers: []answer{{0, 0}, {200, 0}}},
	"locked":            {answers: []answer{{423, 0}, {200, 0}}},
	"timeout":           {answers: []answer{{408, 0}, {200, 0}}},
	"507":               {answers: []answer{{507, 0}, {200, 0}}},
	"no such gene":      {answers: []answer{{404, 0}}},
	"down":              {answers: []answer{{503, 0}}},
	"cancelled":         {answers: []answer{{503, 0}}, cancel: 40 * time.Millisecond},
	"deadline":          {answers: []answer{{503, 0}}, deadline: 150 * time.Millisecond},
	"an hour":           {answers: []answer{{429, 3600}}, deadline: 2700 * time.Millisecond},
	"half of the calls": {answers: []answer{{200, 0}, {200, 0}, {500, 0}, {200, 0}, {500, 0}, {500, 0}, {200, 0}, {500, 0}, {200, 0}, {500, 0}}, calls: every(50*time.Millisecond, 12)},
	"outage":            {answers: []answer{{500, 0}, {500, 0}, {500, 0}, {500, 0}, {500, 0}, {200, 0}}, calls: append(every(500*time.Millisecond, 7), 8*time.Second, 9*time.Second)},
	"no such genes":     {answers: []answer{{404, 0}}, calls: every(50*time.Millisecond, 6)},
}

func every(d time.Duration, n int) (times []time.Duration) {
	for i := range n {
		times = append(times, time.Duration(i)*d)
	}
	return times
}

// standIn plays the server, as a RoundTripper, and takes notes.
type standIn struct {
	scenario scenario
	begin    time.Time
	seen     []string
}

func (s *standIn) RoundTrip(req *http.Request) (*http.Response, error) {
	a := s.scenario.answers[min(len(s.seen), len(s.scenario.answers)-1)]
	s.seen = append(s.seen, since(s.begin))
	if a.status == 0 {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	resp := &http.Response{StatusCode: a.status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader("BRCA1")), Request: req}
	if a.after > 0 {
		resp.Header.Set("Retry-After", fmt.Sprint(a.after))
	}
	return resp, nil
}

// since is exact to a hundredth of a second.
func since(begin time.Time) string {
	return fmt.Sprintf("%.4g", time.Since(begin).Truncate(10*time.Millisecond).Seconds())
}

// play returns what the server saw, and what each caller got, with the times in seconds.
func play(s scenario, make func(*http.Client) (find, error)) (string, error) {
	server := &standIn{scenario: s, begin: time.Now()}
	ask, err := make(&http.Client{Transport: server})
	if err != nil {
		return "", err
	}
	var got []string
	for _, at := range append(s.calls, every(0, max(0, 1-len(s.calls)))...) {
		time.Sleep(time.Until(server.begin.Add(at)))
		got = append(got, call(s, ask)+" at "+since(server.begin))
	}
	return fmt.Sprintf("asked at %s; %s", strings.Join(server.seen, " "), strings.Join(got, ", ")), nil
}

func call(s scenario, ask find) string {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, s.deadline)
		defer cancel()
	}
	if s.cancel > 0 {
		defer time.AfterFunc(s.cancel, cancel).Stop()
	}
	text, err := ask(ctx, "https://genes.example/BRCA1")
	switch {
	case err == nil && text == "BRCA1":
		return "found"
	case err == nil:
		return "nothing"
	case errors.Is(err, retry.ErrCircuitOpen), errors.Is(err, peer.ErrOpenState), errors.Is(err, circuitbreaker.ErrOpen):
		return "rejected"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline"
	}
	return "error"
}

// compare plays one of a program's cases to both.
func compare(p program, name string, beforeLog, afterLog *slog.Logger) (before, after string, err error) {
	before, _ = play(scenarios[name], func(c *http.Client) (find, error) { return p.before(c, beforeLog), nil })
	after, err = play(scenarios[name], func(c *http.Client) (find, error) { return p.after(c, afterLog) })
	return before, after, err
}

func main() {
	silent := slog.New(slog.DiscardHandler)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	lines := make(map[string]string)
	failed := false
	var mu sync.Mutex // guards lines and failed
	var all sync.WaitGroup
	for _, p := range programs {
		for _, name := range p.cases {
			all.Go(func() {
				before, after, err := compare(p, name, silent, silent)
				line := fmt.Sprintf("%s\t%s\tbefore\t%s\n\t\tafter\t%s\n", p.name, name, before, after)
				if err != nil {
					line = fmt.Sprintf("%s\t%s\t\t%v\n", p.name, name, err)
				}
				mu.Lock()
				failed = failed || err != nil
				lines[p.name+name] = line
				mu.Unlock()
			})
		}
	}
	all.Wait()
	for _, p := range programs {
		for _, name := range p.cases {
			fmt.Fprint(out, lines[p.name+name])
		}
	}
	out.Flush()
	if failed {
		os.Exit(1)
	}
}

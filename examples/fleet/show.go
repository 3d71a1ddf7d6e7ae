package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/retryutils/retry"
)

const (
	processes     = 20
	roleVariable  = "EXAMPLE_FLEET_SERVER" // the server's URL, in the processes
	redisVariable = "EXAMPLE_FLEET_REDIS"
)

// report prints a line that [log.watch] reads.
func report(out io.Writer, what string, d time.Duration) {
	fmt.Fprintln(out, time.Now().UnixMicro(), what, d.Milliseconds())
}

// show runs the processes without the fleet and with it.
func show(ctx context.Context, out io.Writer, verbose bool, start func() (address, name string, stop func(), err error)) error {
	redis, name, stop, err := start()
	if err != nil {
		return err
	}
	defer stop()
	details := out
	if !verbose {
		details = io.Discard
	}
	fmt.Fprintf(details, "Redis: %s\n", name)
	var calls [2]int64
	for i, with := range []bool{false, true} {
		title, address := "WITHOUT the fleet: each process learns for itself", ""
		if with {
			title, address = "WITH the fleet: what one learns, all know", redis
		}
		fmt.Fprintf(details, "\n%s\n", title)
		s := new(server)
		there := httptest.NewServer(s)
		calls[i], err = scene(ctx, details, s, startProcess(there.URL, address))
		there.Close()
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(details, "\n")
	fmt.Fprintf(out, "%d processes sent %d calls to a dead server without the fleet, and %d with it\n", processes, calls[0], calls[1])
	return nil
}

// startRedis starts the redis-server in PATH, or an embedded one.
func startRedis() (address, name string, stop func(), err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return startEmbedded()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", nil, err
	}
	address = l.Addr().String()
	l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return "", "", nil, err
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stop = func() { cmd.Process.Kill(); <-ended }
	if err := reach(address, ended); err != nil {
		stop()
		return "", "", nil, fmt.Errorf("%s does not start: %w", path, err)
	}
	return address, path, stop, nil
}

// reach waits until a server accepts connections, unless it ended.
func reach(address string, ended <-chan struct{}) error {
	cfg := retry.Config{MaxRetries: retry.Unlimited, Backoff: retry.ConstantBackoff(20 * time.Millisecond), MaxElapsed: 5 * time.Second}
	return retry.Run(context.Background(), cfg, func(context.Context) error {
		select {
		case <-ended:
			return retry.Permanent(errors.New("it ended at once"))
		default:
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func startEmbedded() (address, name string, stop func(), err error) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		return "", "", nil, err
	}
	return m.Addr(), "none in PATH, so an embedded one (miniredis)", m.Close, nil
}

// starter starts one of the processes, which ends with ctx. It returns what that
// prints, and what waits for its end.
type starter func(ctx context.Context) (lines io.Reader, wait func() error, err error)

func startProcess(server, redis string) starter {
	return func(ctx context.Context) (io.Reader, func() error, error) {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), roleVariable+"="+server, redisVariable+"="+redis)
		lines, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		return lines, cmd.Wait, err
	}
}

// scene is: all is well; the server answers 429 for two seconds; all is well; the
// server is down for three seconds; all is well. It returns how many calls went to
// the server while it was down.
func scene(ctx context.Context, out io.Writer, server *server, start starter) (calls int64, err error) {
	log := &log{out: out}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range processes {
		lines, wait, err := start(ctx)
		if err != nil {
			return 0, err
		}
		wg.Go(func() { log.watch(i+1, lines); wait() })
	}
	for log.count("ready") < processes && pause(ctx, 10*time.Millisecond) {
	}
	pause(ctx, 1500*time.Millisecond)

	log.begin("the server asks all calls to come back in 2s")
	before := server.calls.Load()
	server.busy.Store(true)
	pause(ctx, 2*time.Second)
	server.busy.Store(false)
	refused := server.calls.Load() - before
	pause(ctx, 2*time.Second)
	log.end(fmt.Sprintf("%d calls refused until all were paused", refused))

	log.begin("the server is down for 3s")
	before = server.calls.Load()
	server.down.Store(true)
	pause(ctx, 3*time.Second)
	calls = server.calls.Load() - before
	server.down.Store(false)
	pause(ctx, 3*time.Second)
	log.end(fmt.Sprintf("%d calls sent to a dead server", calls))
	return calls, ctx.Err()
}

// log prints what the processes report, from the beginning of a part of the scene
// on, as long as that is not too much.
type log struct {
	out io.Writer

	mu      sync.Mutex
	start   time.Time
	seen    map[string]map[int]bool // what, by process
	printed int
}

const mostLines = 24 // of a part

func (l *log) begin(title string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start, l.seen, l.printed = time.Now(), nil, 0
	fmt.Fprintf(l.out, "  %s\n", title)
}

func (l *log) end(result string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if more := l.printed - mostLines; more > 0 {
		fmt.Fprintf(l.out, "    … and %d lines more\n", more)
	}
	l.start = time.Time{}
	fmt.Fprintf(l.out, "  = %s\n", result)
}

// count is how many processes reported this since the part began: one that pauses
// for longer reports it again.
func (l *log) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen[what])
}

func (l *log) watch(process int, lines io.Reader) {
	for scan := bufio.NewScanner(lines); scan.Scan(); {
		field := strings.Fields(scan.Text())
		if len(field) != 3 {
			continue
		}
		us, _ := strconv.ParseInt(field[0], 10, 64)
		l.line(process, time.UnixMicro(us), field[1], field[2])
	}
}

func (l *log) line(process int, at time.Time, what, ms string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = make(map[string]map[int]bool)
	}
	if l.seen[what] == nil {
		l.seen[what] = make(map[int]bool)
	}
	l.seen[what][process] = true
	if l.start.IsZero() {
		return
	}
	if l.printed++; l.printed > mostLines {
		return
	}
	switch what {
	case "paused":
		what = "pauses for " + ms + " ms"
	case "open", "closed", "half-open":
		what = "breaker " + what
	}
	after := float64(at.Sub(l.start).Microseconds()) / 1000
	fmt.Fprintf(l.out, "    %9.1f ms  process %2d  %s\n", after, process, what)
}

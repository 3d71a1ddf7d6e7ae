package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program finds an installed program. Where it cannot be had the test is
// skipped, except in CI, where all of them are installed.
func program(t testing.TB, name string, places ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, pattern := range places {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed, and CI must not skip", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// process is a server that the test starts and ends, maybe several times.
type process struct {
	t       testing.TB
	command func() *exec.Cmd
	ready   func(context.Context) error

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan error
	log  *bytes.Buffer
}

// start runs the server until the test ends; ready reports when it can be used.
func start(t testing.TB, command func() *exec.Cmd, ready func(context.Context) error) *process {
	t.Helper()
	p := &process{t: t, command: command, ready: ready}
	t.Cleanup(func() { p.stop(syscall.SIGKILL) })
	p.start()
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.mu.Lock()
	p.cmd, p.log, p.done = p.command(), new(bytes.Buffer), make(chan error, 1)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = attributes(p.cmd.SysProcAttr)
	require.NoError(p.t, p.cmd.Start())
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	go func() { done <- cmd.Wait() }()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		if p.ready(ctx) == nil {
			return
		}
		select {
		case err := <-done:
			p.t.Fatalf("%s ended before it was ready: %v\n%s", cmd.Path, err, p.log)
		case <-ctx.Done():
			p.t.Fatalf("%s is not ready after 30 s", cmd.Path)
		case <-time.After(10 * time.Millisecond): // between two looks
		}
	}
}

// stop ends the server and waits for its end.
func (p *process) stop(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, signal)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
	p.cmd = nil
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// attributes puts a server into a process group of its own, so that its
// children end with it.
func attributes(a *syscall.SysProcAttr) *syscall.SysProcAttr {
	if a == nil {
		a = new(syscall.SysProcAttr)
	}
	a.Setpgid = true
	if runtime.GOOS == "linux" {
		a.Pdeathsig = syscall.SIGKILL
	}
	return a
}

// freePort is one without a listener.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// listening is the readiness of a server that accepts connections.
func listening(port int) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address(port))
		if err == nil {
			conn.Close()
		}
		return err
	}
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// resources is what a test must leave as it found it.
type resources struct{ goroutines, descriptors int }

func count(t testing.TB) resources {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		fds = nil
	}
	return resources{goroutines(), len(fds)}
}

// goroutines counts those of this process, but for the links of toxiproxy, which
// runs in it: some of them wait for ever for each other after a connection was reset.
func goroutines() (n int) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if !bytes.Contains(stack, []byte("toxiproxy/v2")) {
			n++
		}
	}
	return n
}

// settled waits until no more is in use than before.
func settled(t testing.TB, before resources, slack int) {
	t.Helper()
	if !assert.Eventually(t, func() bool {
		now := count(t)
		return now.goroutines <= before.goroutines+slack && now.descriptors <= before.descriptors+slack
	}, 15*time.Second, 20*time.Millisecond) {
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		require.FailNow(t, "something is left", "before %+v, now %+v", before, count(t))
	}
}

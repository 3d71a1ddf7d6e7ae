package fleet

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/retryutils/retry"
	"github.com/stretchr/testify/require"
)

// program is the server that is tested with: FLEET_SERVER=valkey-server go test
var program = cmp.Or(os.Getenv("FLEET_SERVER"), "redis-server")

// server is a real server of the test's own.
type server struct {
	t    testing.TB
	port int
	dir  string
	cmd  *exec.Cmd
}

// realRedis starts one. Without the program the test is skipped, but not where
// everything must be tested.
func realRedis(t testing.TB) *server {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not in PATH", program)
		}
		t.Skipf("%s is not in PATH: apt-get install redis-server", program)
	}
	s := &server{t: t, port: freePort(t), dir: t.TempDir()}
	s.start()
	t.Cleanup(s.stop)
	return s
}

// lastPort is below those that the system gives out, and each is used once: a server
// that is killed finds its port free when it starts again.
var lastPort atomic.Int32

func freePort(t testing.TB) int {
	lastPort.CompareAndSwap(0, int32(10_000+os.Getpid()%20_000))
	for range 1000 {
		port := int(lastPort.Add(1))
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *server) start() {
	s.cmd = exec.Command(program, "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", s.dir+"/log")
	require.NoError(s.t, s.cmd.Start())
	require.Eventually(s.t, func() bool {
		c, err := net.Dial("tcp", s.addr())
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond, "redis-server does not listen")
}

func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGCONT)
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}

func (s *server) signal(sig syscall.Signal) { require.NoError(s.t, s.cmd.Process.Signal(sig)) }

func (s *server) options() rueidis.ClientOption { return options(s.addr()) }

// do runs one command on it.
func (s *server) do(args ...string) string {
	s.t.Helper()
	answer, err := s.try(args...)
	require.NoError(s.t, err)
	return answer
}

func (s *server) try(args ...string) (string, error) {
	s.t.Helper()
	return try(s.t, rueidis.ClientOption{InitAddress: []string{s.addr()}, DisableCache: true, ForceSingleClient: true}, args...)
}

func try(t testing.TB, option rueidis.ClientOption, args ...string) (string, error) {
	t.Helper()
	client, err := rueidis.NewClient(option)
	require.NoError(t, err)
	defer client.Close()
	answer := client.Do(context.Background(), client.B().Arbitrary(args...).Build())
	text, _ := answer.ToAny()
	return fmt.Sprint(text), answer.Error()
}

func options(addr string) rueidis.ClientOption {
	return rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true, ConnWriteTimeout: 2 * time.Second}
}

// patient is for what a test asks itself, on a machine that may be busy.
var patient = Config{Timeout: 10 * time.Second}

// redis is a server, a proxy before it, or one in fake time.
type redis interface{ options() rueidis.ClientOption }

// joined is a member that is connected.
func joined(t *testing.T, s redis, cfg Config) *Fleet {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	c, err := rueidis.NewClient(s.options())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	f, err := Join(t.Context(), c, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	eventually(t, func() bool { return f.Snapshot().Connected }, "connected")
	return f
}

// eventually is for what happens soon on an idle machine, and late on a busy one.
func eventually(t *testing.T, what func() bool, text string) {
	t.Helper()
	require.Eventually(t, what, 15*time.Second, 2*time.Millisecond, text)
}

// goroutinesEnd fails the test unless there are no more goroutines than before within 20s.
func goroutinesEnd(t *testing.T, before int) {
	t.Helper()
	require.Eventually(t, func() bool { return runtime.NumGoroutine()-1 <= before }, // one runs this function
		20*time.Second, 5*time.Millisecond, "goroutines left")
}

// proxy is a network between members and Redis that can be cut, or hold up all
// that is sent.
type proxy struct {
	listener net.Listener // nil: in memory

	mu     sync.Mutex
	delay  time.Duration // one way
	dial   func() (net.Conn, error)
	dials  int // different ones so far
	cut    bool
	frozen chan struct{} // closed when it is not
	conns  map[net.Conn]bool
}

func newProxy(t testing.TB, target string) *proxy { return newSlowProxy(t, target, 0) }

func newSlowProxy(t testing.TB, target string, delay time.Duration) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := newMemoryProxy(t, dialer(target))
	p.listener, p.delay = l, delay
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func dialer(addr string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial("tcp", addr) }
}

// newMemoryProxy needs no network, and so may be in fake time.
func newMemoryProxy(t testing.TB, dial func() (net.Conn, error)) *proxy {
	p := &proxy{dial: dial, frozen: make(chan struct{}), conns: make(map[net.Conn]bool)}
	close(p.frozen)
	t.Cleanup(func() { p.setCut(true); p.setFrozen(false) })
	return p
}

// connect is a new connection through a proxy in memory.
func (p *proxy) connect() (net.Conn, error) {
	near, far := net.Pipe()
	go p.serve(far)
	return near, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) options() rueidis.ClientOption {
	if p.listener == nil {
		return memoryOptions(p.connect)
	}
	return options(p.addr())
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	cut, dial, dials := p.cut, p.dial, p.dials
	p.mu.Unlock()
	if cut {
		return
	}
	up, err := dial()
	if err != nil {
		return
	}
	defer up.Close()
	p.mu.Lock()
	changed := p.cut || p.dials != dials
	p.conns[c], p.conns[up] = true, true
	p.mu.Unlock()
	if changed {
		return
	}
	go func() { p.copy(up, c); up.Close() }()
	p.copy(c, up)
}

// copy copies from one side to the other, each piece after the delay.
func (p *proxy) copy(to, from net.Conn) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1000)
	go func() {
		defer close(pieces)
		for {
			data := make([]byte, 4096)
			n, err := from.Read(data)
			if n > 0 {
				p.mu.Lock()
				due := time.Now().Add(p.delay)
				p.mu.Unlock()
				pieces <- piece{data[:n], due}
			}
			if err != nil {
				return
			}
		}
	}()
	for piece := range pieces {
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		<-frozen
		time.Sleep(time.Until(piece.due))
		if _, err := to.Write(piece.data); err != nil {
			from.Close()
		}
	}
}

// setDelay is for what is sent from now on.
func (p *proxy) setDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// setFrozen holds up all that is sent, or lets it through again.
func (p *proxy) setFrozen(frozen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
		if frozen {
			p.frozen = make(chan struct{})
		}
	default:
		if !frozen {
			close(p.frozen)
		}
	}
}

// setCut ends all connections and refuses new ones, or lets them through again.
func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for c := range p.conns {
			c.Close()
		}
		p.conns = make(map[net.Conn]bool)
	}
}

// setTarget ends all connections, and leads new ones elsewhere.
func (p *proxy) setTarget(dial func() (net.Conn, error)) {
	p.mu.Lock()
	p.dial = dial
	p.dials++
	cut := p.cut
	p.mu.Unlock()
	p.setCut(true)
	p.setCut(cut)
}

// process is a member in a process of its own: this test binary, run again.
type process struct {
	t   *testing.T
	in  io.WriteCloser
	cmd *exec.Cmd

	mu     sync.Mutex
	lines  []string
	events []string // lines that begin with @
}

func startProcess(t *testing.T, addr string, env ...string) *process {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), "FLEET_MEMBER="+addr, "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := newProcess(t, in, out)
	p.cmd = cmd
	t.Cleanup(func() {
		p.in.Close() // ends it
		p.cmd.Wait()
	})
	return p
}

// newProcess takes in what a process prints.
func newProcess(t *testing.T, in io.WriteCloser, out io.Reader) *process {
	p := &process{t: t, in: in}
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			p.mu.Lock()
			if event, ok := strings.CutPrefix(scan.Text(), "@"); ok {
				p.events = append(p.events, event)
			} else {
				p.lines = append(p.lines, scan.Text())
			}
			p.mu.Unlock()
		}
	}()
	return p
}

func startProcesses(t *testing.T, n int, addr string, env ...string) []*process {
	all := make([]*process, n)
	for i := range all {
		all[i] = startProcess(t, addr, env...)
	}
	for _, p := range all {
		p.await("ready")
	}
	eventually(t, func() bool {
		for _, p := range all {
			if p.ask("members") != strconv.Itoa(n) {
				return false
			}
		}
		return true
	}, "all know of all")
	return all
}

func (p *process) tell(command string) { fmt.Fprintln(p.in, command) }

// find returns the lines that begin with a word, without it.
func (p *process) find(word string) (found []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		if rest, ok := strings.CutPrefix(line, word+" "); ok {
			found = append(found, rest)
		}
	}
	return found
}

func (p *process) await(word string) string {
	p.t.Helper()
	var found []string
	require.Eventually(p.t, func() bool { found = p.find(word); return len(found) > 0 }, 30*time.Second, time.Millisecond, word)
	return found[len(found)-1]
}

var asked atomic.Int64

// ask sends a command and returns the answer to it.
func (p *process) ask(command string) string {
	p.t.Helper()
	tag := fmt.Sprintf("answer%d", asked.Add(1))
	p.tell(tag + " " + command)
	return p.await(tag)
}

// gatesOf are a gate in each of two members, for one host.
func gatesOf(t *testing.T, f, other *Fleet) (gate, far *retry.Gate) {
	t.Helper()
	gate, far = retry.NewGate(nil), retry.NewGate(nil)
	require.NoError(t, f.Gate("host", gate))
	require.NoError(t, other.Gate("host", far))
	return gate, far
}

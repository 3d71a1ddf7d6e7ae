package fleet

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// lines is a log that a test can read.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// count is how many lines contain all these.
func (l *lines) count(words ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for line := range strings.Lines(l.text.String()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue next
			}
		}
		n++
	}
	return n
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// A process that was stopped reads messages that are as old as the stop was. It
// paused for the whole time again that the message named, and opened its breaker.
func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	all := startProcesses(t, 4, s.addr())
	stopped := all[3]
	require.NoError(t, stopped.cmd.Process.Signal(syscall.SIGSTOP))
	all[0].tell("pause 10000")
	start := time.Now()
	for _, p := range all[:2] {
		p.ask("down")
		for range 5 {
			p.ask("call")
		}
	}
	eventually(t, func() bool { return all[2].ask("state") == "open" }, "the fleet has opened")
	for _, p := range all[:2] {
		p.ask("well")
	}
	time.Sleep(time.Until(start.Add(4 * time.Second))) // as long as it is stopped
	require.NoError(t, stopped.cmd.Process.Signal(syscall.SIGCONT))
	eventually(t, func() bool { return paused(stopped, 0) }, "it learns of the pause")
	late := time.Until(start.Add(10 * time.Second))
	assert.False(t, paused(stopped, late+1500*time.Millisecond), "for what is left of it")
	for _, line := range stopped.find("breaker") {
		assert.NotContains(t, line, "open", "the open time was over before it went on")
	}
}

// A network that holds messages up makes them old as well, though the process
// never stopped.
func TestMessagesHeldUp(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		network := newMemoryProxy(t, s.connect)
		f, far := joined(t, s, Config{}), joined(t, network, Config{})
		near, gate := retry.NewGate(nil), retry.NewGate(nil)
		require.NoError(t, f.Gate("host", near))
		require.NoError(t, far.Gate("host", gate))
		time.Sleep(time.Second)
		network.setFrozen(true)
		near.Pause(10 * time.Second)
		time.Sleep(1500 * time.Millisecond)
		network.setFrozen(false)
		eventually(t, func() bool { return left(gate) > 0 }, "paused")
		assert.Less(t, left(gate), left(near)+2*gateSpread)
	})
}

// A command that a hung server runs when its caller has given up long since has no
// effect: the caller repeats it, with what is left then. Where it did not know the
// server's clock, as after a slow beat, the pause lasted longer by as long as the
// server hung, and only for some.
func TestLateCommands(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint("clock known: ", known), func(t *testing.T) {
			t.Parallel()
			s := realRedis(t)
			f, other := joined(t, s, Config{}), joined(t, s, Config{})
			gate, far := gatesOf(t, f, other)
			far.Pause(200 * time.Millisecond)
			eventually(t, func() bool { return left(gate) > 0 }, "both are at work")
			eventually(t, func() bool { return left(gate) == 0 && left(far) == 0 }, "over")
			s.signal(syscall.SIGSTOP)
			if !known {
				f.forgetClock()
			}
			gate.Pause(12 * time.Second)
			end := time.Now().Add(12 * time.Second)
			time.Sleep(3 * time.Second) // as long as it hangs
			s.signal(syscall.SIGCONT)
			eventually(t, func() bool { return left(far) > 0 }, "sent again")
			assert.Less(t, left(far), time.Until(end)+1500*time.Millisecond)
		})
	}
}

// restricted returns options of a user with these rules.
func restricted(s *server, rules ...string) rueidis.ClientOption {
	if _, err := s.try("ACL", "SETUSER", "unused", "&channel"); err != nil {
		s.t.Skip("no rights of channels, as before Redis 6.2: ", err)
	}
	s.do(append([]string{"ACL", "SETUSER", "limited", "on", ">secret"}, rules...)...)
	option := options(s.addr())
	option.Username, option.Password = "limited", "secret"
	return option
}

// A new user of Redis 7 may use no channel. Such members were not connected and
// logged nothing, and did not ask for pauses either; what they published was lost.
func TestUserWithoutChannels(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	var log lines
	limited, err := Dial(t.Context(), restricted(s, "~*", "+@all"), Config{Name: "test", Logger: log.logger(), Timeout: patient.Timeout})
	require.NoError(t, err)
	defer limited.Close()
	gate, far := retry.NewGate(nil), retry.NewGate(nil)
	require.NoError(t, limited.Gate("host", gate))
	require.NoError(t, joined(t, s, Config{}).Gate("host", far))

	eventually(t, func() bool { return log.count("not connected", "NOPERM") == 1 }, "logged")
	assert.False(t, limited.Snapshot().Connected)
	far.Pause(time.Minute)
	eventually(t, func() bool { return left(gate) > 50*time.Second }, "asked at each beat")
	gate.Pause(2 * time.Minute)
	eventually(t, func() bool { return left(far) > 110*time.Second }, "the others see that there was a message")
	assert.Equal(t, 1, log.count("not connected"), "once: %s", &log.text)
	eventually(t, func() bool { return log.count("PUBLISH is refused") == 1 }, "that is logged as well")

	s.do("ACL", "SETUSER", "limited", "allchannels")
	eventually(t, func() bool { return log.count("fleet: connected") == 1 }, "connected in the end")
	assert.True(t, limited.Snapshot().Connected)
}

// Each cause is logged once, in whatever order they come.
func TestCausesAreLogged(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	var log lines
	option := restricted(s, "~*", "&*", "+@all", "-evalsha", "-eval")
	s.stop()
	f, err := Dial(t.Context(), option, Config{Name: "test", Logger: log.logger()})
	require.NoError(t, err)
	defer f.Close()
	eventually(t, func() bool { return log.count("not connected", "refused") == 1 }, "no server")
	s.start()
	eventually(t, func() bool { return log.count("not connected", "WRONGPASS") == 1 }, "its users are gone")
	restricted(s, "~*", "&*", "+@all", "-evalsha", "-eval")
	eventually(t, func() bool { return log.count("not connected", "NOPERM", "evalsha") == 1 }, "no scripts")
	restricted(s, "+@all", "resetchannels")
	eventually(t, func() bool { return log.count("not connected", "NOPERM", "channel") == 1 }, "no channels")
	restricted(s, "&*")
	eventually(t, func() bool { return log.count("fleet: connected") == 1 }, "connected")
	s.signal(syscall.SIGSTOP)
	eventually(t, func() bool { return log.count("connection lost", "no answer") == 1 }, "hung")
	time.Sleep(time.Second)
	s.signal(syscall.SIGCONT)
	eventually(t, func() bool { return log.count("fleet: connected") == 2 }, "again")
	assert.LessOrEqual(t, log.count("level=WARN"), 6, &log.text)
}

// The rights that the package comment lists are enough.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	var log lines
	f, err := Dial(t.Context(), restricted(s, "~{retry:test}:*", "&{retry:test}:news",
		"+@connection", "+@scripting", "+@pubsub", "+@read", "+@write", "+@fast", "+info"), Config{Name: "test", Logger: log.logger(), Timeout: patient.Timeout})
	require.NoError(t, err)
	gate, b := retry.NewGate(nil), breaker(t, retry.BreakerConfig{RecoveryTimeout: 100 * time.Millisecond})
	require.NoError(t, f.Gate("host", gate))
	require.NoError(t, f.Breaker("host", b))
	require.NoError(t, f.Rate("host", 100).Wait(t.Context()))
	gate.Pause(time.Second)
	eventually(t, func() bool { call(b, 5, errDown); return f.Snapshot().Sent >= 2 }, "reported")
	eventually(t, in(b, retry.StateHalfOpen), "half-open")
	call(b, 1, nil)
	eventually(t, func() bool { return f.Snapshot().Sent >= 3 && s.do("EXISTS", "{retry:test}:findings:host") == "0" }, "sent")
	require.NoError(t, f.Close())
	assert.Zero(t, f.Snapshot().Errors)
	assert.Zero(t, log.count("level=WARN"), &log.text)
	assert.Equal(t, "0", s.do("ZCARD", "{retry:test}:members"))
}

// Gates and breakers on another clock were accepted, and what their times mean to
// themselves became pauses of all.
func TestOtherClock(t *testing.T) {
	f, err := Dial(t.Context(), options("127.0.0.1:1"), Config{Name: "test", Timeout: 10 * time.Millisecond})
	require.NoError(t, err)
	defer f.Close()
	ahead := clockwork.NewFakeClockAt(time.Now().Add(30 * time.Minute))
	assert.ErrorIs(t, f.Gate("host", retry.NewGate(ahead)), retry.ErrInvalidConfig)
	assert.ErrorIs(t, f.Breaker("host", breaker(t, retry.BreakerConfig{Clock: ahead})), retry.ErrInvalidConfig)
	assert.ErrorIs(t, f.Host("host", &retry.Config{Clock: ahead}), retry.ErrInvalidConfig)
	assert.Equal(t, [2]int{}, [2]int{f.Snapshot().Gates, f.Snapshot().Breakers})
	assert.NoError(t, f.Gate("host", retry.NewGate(clockwork.NewRealClock())))
	assert.NoError(t, f.Gate("host", new(retry.Gate)))
	assert.NoError(t, f.Breaker("host", breaker(t, retry.BreakerConfig{Clock: clockwork.NewRealClock()})))
}

// With 1,000 gates and a round trip of 2ms a pause waited 1.4s behind the questions
// of the regular sync.
func TestReportsGoFirst(t *testing.T) {
	inFakeTime(t, func(t *testing.T, s *fakeRedis) {
		other := joined(t, s, Config{})
		network := newMemoryProxy(t, s.connect)
		network.delay = time.Millisecond
		f := joined(t, network, Config{})
		gates := make([]*retry.Gate, 1000)
		for i := range gates {
			gates[i] = retry.NewGate(nil)
			require.NoError(t, f.Gate(fmt.Sprint("host", i), gates[i]))
		}
		far := retry.NewGate(nil)
		require.NoError(t, other.Gate("host500", far))
		eventually(t, func() bool { return len(waitingFor(f)) == 0 }, "all is asked for")

		start := time.Now()
		for _, s := range f.allGates() {
			s.ask()
		}
		gates[500].Pause(time.Minute)
		eventually(t, func() bool { return left(far) > 0 }, "paused")
		first := time.Since(start)
		eventually(t, func() bool { return len(waitingFor(f)) == 0 }, "all is asked for")
		all := time.Since(start)
		t.Logf("the pause after %v, the sync of 1,000 gates after %v", first, all)
		assert.Less(t, first, 10*time.Millisecond)
		assert.Less(t, all, 200*time.Millisecond, "and the sync is pipelined: one after the other they take 2s")
	})
}

func waitingFor(f *Fleet) (due []shared) {
	for _, s := range f.shared() {
		if urgent, question := s.due(); urgent || question {
			due = append(due, s)
		}
	}
	return due
}

// What others wrote to the fleet's own keys is repaired. With a word as the number
// of messages a member counted as connected and lost all pauses, for ever: each beat
// kept the key alive.
func TestKeysAreRepaired(t *testing.T) {
	t.Parallel()
	for _, spoil := range [][]string{
		{"SET", "{retry:test}:seq", "word"}, {"SET", "{retry:test}:seq", "-1"}, {"SET", "{retry:test}:seq", "1.5"}, {"SET", "{retry:test}:seq", ""},
		{"SET", "{retry:test}:seq", "9223372036854775807"}, {"RPUSH", "{retry:test}:seq", "1"},
		{"SET", "{retry:test}:members", "1"}, {"ZADD", "{retry:test}:members", "inf", "ghost"}, {"ZADD", "{retry:test}:members", "9e15", "ghost"},
		{"HSET", "{retry:test}:pause:host", "a", "b"}, {"SET", "{retry:test}:pause:host", "a", "PX", "100000000000"},
	} {
		t.Run(strings.Join(spoil, " "), func(t *testing.T) {
			t.Parallel()
			s := realRedis(t)
			f, other := joined(t, s, Config{}), joined(t, s, Config{})
			gate, far := gatesOf(t, f, other)
			eventually(t, func() bool { return len(waitingFor(f)) == 0 }, "asked")
			s.do("DEL", spoil[1])
			s.do(spoil...)
			gate.Pause(30 * time.Second)
			if spoil[len(spoil)-1] != "100000000000" { // that is a pause of an hour, at most
				eventually(t, func() bool { return left(far) > 20*time.Second }, "paused")
			}
			eventually(t, func() bool {
				members, err := s.try("ZRANGE", "{retry:test}:members", "0", "-1")
				return err == nil && len(strings.Fields(members)) == 2 && !strings.Contains(members, "ghost") && f.Snapshot().Connected && f.Snapshot().Members == 2 && other.Snapshot().Members == 2
			}, "two members")
			pttl := s.do("PTTL", "{retry:test}:pause:host")
			assert.LessOrEqual(t, len(pttl), 7, "an hour at most: %s ms", pttl)
		})
	}
}

// Ghosts among the members made a quorum too large to reach.
func TestGhostsAreNoQuorum(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	b, _ := three(t, s, Config{}, retry.BreakerConfig{})
	for i := range 100 {
		s.do("ZADD", "{retry:test}:members", "inf", fmt.Sprint("ghost", i))
	}
	call(b[0], 5, errDown)
	call(b[1], 5, errDown)
	eventually(t, in(b[2], retry.StateOpen), "two of three agree")
}

// answers is a server that answers every command with the same.
func answers(t testing.TB, text string) string {
	return answersWith(t, func() string { return text })
}

func answersWith(t testing.TB, text func() string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buffer := make([]byte, 65536)
				for {
					n, err := c.Read(buffer)
					if err != nil {
						return
					}
					for range bytes.Count(buffer[:n], []byte("*")) {
						c.Write([]byte(text()))
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// An answer that is no answer to the question is no success.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"*0\r\n", "*1\r\n:1\r\n", "*3\r\n:0\r\n:0\r\n:0\r\n", "*3\r\n:1\r\n:-1\r\n:5\r\n", "*3\r\n$1\r\nx\r\n:1\r\n:1\r\n", ":1\r\n", "$-1\r\n", "*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n"} {
		t.Run(fmt.Sprintf("%q", text), func(t *testing.T) {
			t.Parallel()
			var log lines
			option := options(answers(t, text))
			option.AlwaysRESP2, option.ClientSetInfo = true, rueidis.DisableClientSetInfo
			f, err := Dial(t.Context(), option, Config{Name: "test", Logger: log.logger()})
			require.NoError(t, err)
			defer f.Close()
			eventually(t, func() bool { return log.count("not connected") > 0 }, "logged")
			assert.False(t, f.Snapshot().Connected)
			assert.Equal(t, 1, f.Snapshot().Members)
		})
	}
}

// Close took as long as a dial that hung, 3.5s. It takes a second at most, whatever
// Redis does, and however long an answer may take.
func TestCloseWhenRedisHangs(t *testing.T) {
	t.Parallel()
	hung := func(t *testing.T) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		return l.Addr().String() // accepts connections, and says nothing
	}
	for name, join := range map[string]func(t *testing.T) *Fleet{
		"never reached": func(t *testing.T) *Fleet {
			f, err := Dial(t.Context(), options(hung(t)), Config{Name: "test"})
			require.NoError(t, err)
			return f
		},
		"never reached, a long timeout": func(t *testing.T) *Fleet {
			option := options(hung(t))
			option.ConnWriteTimeout, option.Dialer.Timeout = 30*time.Second, 30*time.Second
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			f, err := Dial(ctx, option, Config{Name: "test", Timeout: time.Minute})
			require.NoError(t, err)
			return f
		},
		"hung later": func(t *testing.T) *Fleet {
			s := realRedis(t)
			f, err := Dial(t.Context(), options(s.addr()), Config{Name: "test", Timeout: time.Minute})
			require.NoError(t, err)
			eventually(t, func() bool { return f.Snapshot().Connected }, "connected")
			s.signal(syscall.SIGSTOP)
			return f
		},
		"hung later, and noticed": func(t *testing.T) *Fleet {
			s := realRedis(t)
			f, err := Dial(t.Context(), options(s.addr()), Config{Name: "test"})
			require.NoError(t, err)
			eventually(t, func() bool { return f.Snapshot().Connected }, "connected")
			s.signal(syscall.SIGSTOP)
			eventually(t, func() bool { return !f.Snapshot().Connected }, "lost")
			return f
		},
		"hung later, a client of the caller's": func(t *testing.T) *Fleet {
			s := realRedis(t)
			c, err := rueidis.NewClient(options(s.addr()))
			require.NoError(t, err)
			t.Cleanup(func() { go c.Close() })
			f, err := Join(t.Context(), c, Config{Name: "test", Timeout: time.Minute})
			require.NoError(t, err)
			eventually(t, func() bool { return f.Snapshot().Connected }, "connected")
			s.signal(syscall.SIGSTOP)
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := join(t)
			time.Sleep(300 * time.Millisecond)
			start := time.Now()
			require.NoError(t, f.Close())
			assert.Less(t, time.Since(start), time.Second)
			start = time.Now()
			require.NoError(t, f.Close(), "twice")
			assert.Less(t, time.Since(start), time.Second)
		})
	}
}

// What a Close leaves behind when Redis hangs ends with the client's timeouts.
func TestCloseLeavesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	before := runtime.NumGoroutine()
	for range 10 {
		f, err := Dial(t.Context(), options(l.Addr().String()), Config{Name: "test", Timeout: 10 * time.Millisecond})
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	goroutinesEnd(t, before)
}

// A host is one, however it is spelt: versions of package retry name it with and
// without its port.
func TestNamesOfHosts(t *testing.T) {
	for name, want := range map[string]string{
		"https://x":               "https://x",
		"https://x:443":           "https://x",
		"HTTPS://X:443":           "https://x",
		"https://x.:443/":         "https://x",
		"http://x:80":             "http://x",
		"http://x:443":            "http://x:443",
		"https://x:8443":          "https://x:8443",
		"https://x:":              "https://x",
		"wss://x:443":             "wss://x",
		"http://[::1]:80":         "http://[::1]",
		"http://[::1]":            "http://[::1]",
		"http://[::1]:81":         "http://[::1]:81",
		"https://x/path":          "https://x/path",
		"https://x?key=1":         "https://x?key=1",
		"https://user@x":          "https://user@x",
		"ncbi":                    "ncbi",
		"api.example.org:443":     "api.example.org:443",
		"mailto:x":                "mailto:x",
		"NCBI":                    "NCBI",
		"https://api.EXAMPLE.org": "https://api.example.org",
	} {
		got, err := nameOf("gate", name)
		require.NoError(t, err)
		assert.Equal(t, want, got, name)
	}
	s := realRedis(t)
	f, other := joined(t, s, Config{}), joined(t, s, Config{})
	gate, far := retry.NewGate(nil), retry.NewGate(nil)
	require.NoError(t, f.Gate("https://x:443", gate))
	require.NoError(t, other.Gate("https://X", far))
	gate.Pause(time.Minute)
	eventually(t, func() bool { return left(far) > 0 }, "one gate")
	assert.Equal(t, "1", s.do("EXISTS", "{retry:test}:pause:https://x"))
	assert.Same(t, f.Rate("https://x", 5), f.Rate("https://x:443", 5))

	// As an older version names it in a message.
	s.do("PUBLISH", "{retry:test}:news", fmt.Sprintf("2 5 pause a 120000 - https://x:443 %d", s.now()))
	eventually(t, func() bool { return left(far) > 100*time.Second }, "the same gate")
}

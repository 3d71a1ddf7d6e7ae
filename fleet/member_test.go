package fleet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/retryutils/retry"
)

func TestMain(m *testing.M) {
	switch addr, which := os.Getenv("FLEET_MEMBER"), os.Getenv("FLEET_HISTORY"); {
	case which != "":
		runHistory(context.Background(), options(addr), which, os.Stdin, os.Stdout)
	case addr != "":
		runMember(addr)
	default:
		os.Exit(m.Run())
	}
}

// member is the other side of a process: it does what it reads on its standard
// input, and ends with it.
type member struct {
	in               io.Reader
	out              io.Writer
	fleet            *Fleet
	gate             *retry.Gate
	breaker          *retry.CircuitBreaker
	rate             *Rate
	down             atomic.Bool // whether the breaker's calls fail
	called, attempts atomic.Int64

	mu    sync.Mutex
	times []string // when calls passed the rate
}

func runMember(addr string) {
	m := &member{in: os.Stdin, out: os.Stdout, gate: retry.NewGate(nil)}
	m.breaker, _ = retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Second})
	var err error
	m.fleet, err = Dial(context.Background(), options(addr), Config{Name: "test"})
	if err != nil {
		panic(err)
	}
	defer m.fleet.Close()
	m.gate.OnPause(func(until time.Time) { fmt.Println("paused", time.Now().UnixNano(), until.UnixNano()) })
	m.breaker.OnStateChange(func(c retry.StateChange) { fmt.Println("breaker", c.To, time.Now().UnixNano()) })
	m.fleet.Gate("host", m.gate)
	m.fleet.Breaker("host", m.breaker)
	per, _ := strconv.ParseFloat(os.Getenv("FLEET_RATE"), 64)
	m.rate = m.fleet.Rate("host", max(per, 1))
	fmt.Println("ready", os.Getpid())
	m.obey()
}

// obey does what its input says, as long as there is one.
func (m *member) obey() {
	for scan := bufio.NewScanner(m.in); scan.Scan(); {
		words := strings.Fields(scan.Text())
		if strings.HasPrefix(words[0], "answer") {
			fmt.Fprintln(m.out, words[0], m.do(words[1:]))
		} else {
			m.do(words)
		}
	}
}

func (m *member) do(words []string) string {
	number := 0
	if len(words) > 1 {
		number, _ = strconv.Atoi(words[1])
	}
	switch words[0] {
	case "members":
		return itoa(m.fleet.Snapshot().Members)
	case "snapshot":
		return fmt.Sprintf("%+v", m.fleet.Snapshot())
	case "close":
		start := time.Now()
		m.fleet.Close()
		return itoa(int(time.Since(start).Milliseconds()))
	case "equal": // what must be so in all members
		s, end := m.fleet.Snapshot(), int64(0)
		if until, paused := m.gate.PausedUntil(); paused {
			end = until.UnixMilli()
		}
		return fmt.Sprint(s.Connected, " ", s.Members, " ", m.breaker.State(), " paused ", end)
	case "connected":
		return fmt.Sprint(m.fleet.Snapshot().Connected)
	case "pause":
		m.gate.Pause(time.Duration(number) * time.Millisecond)
	case "left":
		until, _ := m.gate.PausedUntil()
		return itoa(int(max(0, time.Until(until).Milliseconds())))
	case "state":
		return m.breaker.State().String()
	case "down":
		m.down.Store(true)
	case "well":
		m.down.Store(false)
	case "attempts":
		return itoa(int(m.attempts.Load()))
	case "called":
		return itoa(int(m.called.Load()))
	case "call": // one through the breaker
		m.call()
	case "calls": // one every so many ms
		go every(context.Background(), time.Duration(number)*time.Millisecond, m.call)
	case "work": // as fast as the rate lets it, with so many workers
		for range number {
			go every(context.Background(), 0, m.pass)
		}
	case "times":
		m.mu.Lock()
		defer m.mu.Unlock()
		return strings.Join(append(m.times, "."), " ")
	}
	return "done"
}

func every(ctx context.Context, d time.Duration, do func()) {
	for ctx.Err() == nil {
		time.Sleep(d)
		do()
	}
}

func (m *member) call() {
	m.called.Add(1)
	m.breaker.Do(context.Background(), func(context.Context) error {
		m.attempts.Add(1)
		if m.down.Load() {
			return errors.New("down")
		}
		return nil
	})
}

func (m *member) pass() {
	if m.rate.Wait(context.Background()) == nil {
		m.mu.Lock()
		m.times = append(m.times, strconv.FormatInt(time.Now().UnixNano(), 10))
		m.mu.Unlock()
	}
}

package fleet

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/retryutils/retry"
)

// event is what a member of a history prints: "@", the time in ns, a word, and what
// belongs to it. See [history] for what is made of it.
type event func(words ...any)

func eventTo(out io.Writer) event {
	return func(words ...any) {
		fmt.Fprintln(out, append([]any{"@" + strconv.FormatInt(time.Now().UnixNano(), 10)}, words...)...)
	}
}

// recorder is a client that prints each script that it runs: "call" with a number,
// the keys and arguments, and "return" with the number and the answer. One without an
// answer may have been carried out.
type recorder struct {
	rueidis.Client
	event event
}

var recorded atomic.Int64

func (r recorder) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	words := cmd.Commands()
	if !strings.HasPrefix(words[0], "EVAL") {
		return r.Client.Do(ctx, cmd)
	}
	text := strings.Join(words[2:], " ") // cmd is recycled
	n := recorded.Add(1)
	r.event("call", n, text)
	answer := r.Client.Do(ctx, cmd)
	values, err := answer.ToArray()
	if err != nil {
		if isAnswer(err) {
			r.event("refused", n) // and so without effect
		}
		return answer
	}
	returned := []any{"return", n}
	for _, value := range values {
		text, err := value.ToString()
		if err != nil {
			number, _ := value.AsInt64()
			text = itoa(int(number))
		}
		returned = append(returned, text)
	}
	r.event(returned...)
	return answer
}

// historyRate is what all members of a history share.
const historyRate = 40

// runHistory makes calls of all kinds, as the seed says, from the moment that the
// test names until its input or ctx ends.
func runHistory(ctx context.Context, option rueidis.ClientOption, which string, in io.Reader, out io.Writer) {
	var seed, index uint64
	var begin, end int64
	fmt.Sscan(which, &seed, &index, &begin, &end)
	random := rand.New(rand.NewPCG(seed, index))
	m := &member{in: in, out: out, gate: retry.NewGate(nil)}
	m.breaker, _ = retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: time.Second})
	event := eventTo(out)
	var err error
	m.fleet, err = join(context.Background(), func() (rueidis.Client, error) {
		client, err := rueidis.NewClient(option)
		return recorder{client, event}, err
	}, Config{Name: "test", OpenTime: time.Second})
	if err != nil {
		panic(err)
	}
	m.fleet.store.owned = true
	defer m.fleet.Close()
	event("id", m.fleet.id)
	m.gate.OnPause(func(until time.Time) { event("paused", until.UnixNano()) })
	m.breaker.OnStateChange(func(c retry.StateChange) { event("breaker", c.To) })
	m.fleet.Gate("host", m.gate)
	m.fleet.Breaker("host", m.breaker)
	m.rate = m.fleet.Rate("host", historyRate)
	budget, err := m.fleet.Budget("host", 0, 3)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(out, "ready", os.Getpid())

	outages := outagesOf(seed)
	time.Sleep(time.Until(time.Unix(0, begin)))
	go every(ctx, 100*time.Millisecond, func() {
		if m.gate.Wait(ctx) == nil {
			event("passed gate")
		}
	})
	for range 2 {
		go every(ctx, 50*time.Millisecond, func() {
			retry.Run(ctx, retry.Config{Breaker: m.breaker, WaitWhenOpen: true, MaxRetries: retry.NoRetries}, func(context.Context) error {
				if outages.is(time.Since(time.Unix(0, begin))) {
					return errDown
				}
				return nil
			})
		})
		go every(ctx, 0, func() {
			if m.rate.Wait(ctx) == nil {
				event("passed rate")
			}
		})
	}
	go every(ctx, 100*time.Millisecond, func() {
		if budget.Withdraw() {
			event("withdrew")
		}
	})
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(random.ExpFloat64() * float64(12*time.Second))):
			}
			d := 100*time.Millisecond + time.Duration(random.Int64N(int64(4*time.Second)))
			if time.Now().Add(d).UnixNano() > end {
				return
			}
			event("pauses", d.Nanoseconds())
			m.gate.Pause(d)
		}
	}()
	m.obey()
}

// spans are times since the beginning of a history.
type spans [][2]time.Duration

func (all spans) is(at time.Duration) bool {
	for _, s := range all {
		if s[0] <= at && at < s[1] {
			return true
		}
	}
	return false
}

// outagesOf is when the dependency of a history is down.
func outagesOf(seed uint64) spans {
	random := rand.New(rand.NewPCG(seed, 1<<32))
	first := 3*time.Second + time.Duration(random.Int64N(int64(4*time.Second)))
	second := 13*time.Second + time.Duration(random.Int64N(int64(4*time.Second)))
	return spans{{first, first + 3*time.Second}, {second, second + 5*time.Second}}
}

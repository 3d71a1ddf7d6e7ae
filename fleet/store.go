package fleet

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// The scripts are all that the fleet sends to Redis, besides SUBSCRIBE and, when
// it is closed, ZREM. Each runs at once or not at all, and repeated does no harm.
var (
	//go:embed *.lua
	texts embed.FS

	beatScript     = script("beat")
	pauseScript    = script("pause")
	reportScript   = script("report")
	closeScript    = script("close")
	positionScript = script("position")
	leaseScript    = script("lease")
	budgetScript   = script("budget")
)

func script(name string) *rueidis.Lua {
	prelude, err1 := texts.ReadFile("prelude.lua")
	text, err2 := texts.ReadFile(name + ".lua")
	if err := errors.Join(err1, err2); err != nil {
		panic(err) // it is embedded
	}
	return rueidis.NewLuaScript(string(prelude) + string(text))
}

// store is Redis as the fleet uses it.
type store struct {
	prefix string // with a hash tag, so that a cluster keeps all keys together
	dial   func() (rueidis.Client, error)
	owned  bool

	mu     sync.Mutex // guards client
	client rueidis.Client
}

// connect returns the client, and dials it the first time. Only [Fleet.listen] does so:
// it may take long, and no command waits for it.
func (s *store) connect() (rueidis.Client, error) {
	if client := s.connected(); client != nil {
		return client, nil
	}
	client, err := s.dial()
	if err == nil {
		s.mu.Lock()
		s.client = client
		s.mu.Unlock()
	}
	return client, err
}

// connected returns the client, or nil if it is not dialed yet.
func (s *store) connected() rueidis.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// close signs off, so that the others need not wait until this member is missed.
func (s *store) close(f *Fleet) {
	client := s.connected()
	if client == nil {
		return
	}
	if f.connection.unanswered() == 0 {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		defer time.AfterFunc(closeTime/2, cancel).Stop()
		client.Do(ctx, client.B().Zrem().Key(s.key("members")).Member(f.id).Build())
	}
	if s.owned {
		client.Close()
	}
}

func (s *store) key(parts ...string) string {
	key := s.prefix
	for i, part := range parts {
		if i > 0 {
			key += ":"
		}
		key += part
	}
	return key
}

func (s *store) channel() string { return s.key("news") }

// answer is what a script returned, values of the expected number, and when.
type answer struct {
	values []rueidis.RedisMessage
	at     time.Time
}

// int returns a value as an integer, which is within the limits.
func (a answer) int(i int, least, most int64) (int64, error) {
	n, err := a.values[i].AsInt64()
	if err == nil && (n < least || n > most) {
		err = fmt.Errorf("fleet: Redis answered %d, want %d to %d", n, least, most)
	}
	return n, err
}

// duration returns a value in milliseconds, and an hour at most.
func (a answer) duration(i int) (time.Duration, error) {
	n, err := a.int(i, 0, 1<<53)
	return time.Duration(min(n, maxTime.Milliseconds())) * time.Millisecond, err
}

// run runs a script, and returns its answer of so many values. It fails where the
// answer comes too late to believe the durations in it: when Redis hung, or this
// process was stopped meanwhile.
func (f *Fleet) run(script *rueidis.Lua, values int, keys, args []string) (answer, error) {
	client := f.store.connected()
	if client == nil {
		return answer{}, errNotDialed
	}
	// A deadline would make rueidis read synchronously, and not notice Close.
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	defer time.AfterFunc(f.cfg.Timeout, cancel).Stop()
	sent, givesUp := time.Now(), "0"
	if script != beatScript { // a late one does no harm, and shows the server's clock
		var ok bool
		if givesUp, ok = f.connection.givesUp(sent, f.cfg.Timeout); !ok {
			return answer{}, errNoClock
		}
	}
	f.counts.commands.Add(1)
	got, err := script.Exec(ctx, client, keys, append(args, givesUp)).ToArray()
	now := time.Now()
	switch {
	case f.ctx.Err() != nil:
		return answer{}, context.Cause(f.ctx)
	case err != nil && ctx.Err() != nil, err == nil && between(sent, now) > f.cfg.Timeout:
		err = fmt.Errorf("fleet: no answer within %v: %w", f.cfg.Timeout, context.DeadlineExceeded)
	case err == nil && len(got) != values:
		err = fmt.Errorf("fleet: Redis answered with %d values, want %d", len(got), values)
	}
	if err != nil {
		f.counts.errors.Add(1)
		if isAnswer(err) {
			f.forgetClock()
		}
		return answer{}, err
	}
	return answer{got, now}, nil
}

var (
	// errNoClock is for a moment: until the first beat, and after a command was refused.
	errNoClock   = errors.New("fleet: the clock of Redis is not known yet")
	errNotDialed = errors.New("fleet: there is no connection yet")
)

// since is the time since t by the monotonic clock or the wall clock, whichever
// went on for longer: the former stands still while a laptop sleeps.
func since(t time.Time) time.Duration { return between(t, time.Now()) }

func between(t, now time.Time) time.Duration {
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// isAnswer reports whether Redis answered with an error, which is about one
// command, and says nothing about the connection.
func isAnswer(err error) bool {
	var answer *rueidis.RedisError
	return errors.As(err, &answer)
}

// ms is d in whole milliseconds, and at least 1.
func ms(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Round(time.Millisecond).Milliseconds()), 10)
}

func itoa(n int) string     { return strconv.Itoa(n) }
func ftoa(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

package fleet

import (
	"context"
	_ "embed"
	"errors"
	"sync"

	"github.com/redis/rueidis"
)

// The scripts are all that the fleet asks of Redis, besides PUBLISH's other
// end. Each runs at once or not at all, and repeated does no harm.
var (
	//go:embed beat.lua
	beatText string
	//go:embed pause.lua
	pauseText string
	//go:embed finding.lua
	findingText string
	//go:embed close.lua
	closeText string
	//go:embed turn.lua
	turnText string
	//go:embed lease.lua
	leaseText string

	beatScript    = rueidis.NewLuaScript(beatText)
	pauseScript   = rueidis.NewLuaScript(pauseText)
	findingScript = rueidis.NewLuaScript(findingText)
	closeScript   = rueidis.NewLuaScript(closeText)
	turnScript    = rueidis.NewLuaScript(turnText)
	leaseScript   = rueidis.NewLuaScript(leaseText)
)

// store is Redis as the fleet uses it.
type store struct {
	prefix string // with a hash tag, so that a cluster keeps all keys together
	dial   func() (rueidis.Client, error)
	owned  bool

	mu     sync.Mutex // guards client; held while it is dialed
	client rueidis.Client
}

// connected returns the client, and dials it the first time.
func (s *store) connected() (rueidis.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	client, err := s.dial()
	if err == nil {
		s.client = client
	}
	return client, err
}

// close says goodbye, so that the others need not wait to miss this member.
func (s *store) close(f *Fleet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return
	}
	if f.link.lost() == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), f.cfg.Timeout)
		defer cancel()
		s.client.Do(ctx, s.client.B().Zrem().Key(s.key("members")).Member(f.id).Build())
	}
	if s.owned {
		s.client.Close()
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

// run runs a script, and returns its answer's integers and strings.
func (f *Fleet) run(script *rueidis.Lua, keys, args []string) ([]rueidis.RedisMessage, error) {
	client, err := f.store.connected()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(f.ctx, f.cfg.Timeout)
	defer cancel()
	f.counts.commands.Add(1)
	answer, err := script.Exec(ctx, client, keys, args).ToArray()
	if err != nil && !errors.Is(f.ctx.Err(), context.Canceled) {
		f.counts.errors.Add(1)
	}
	return answer, err
}

package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
)

// fakeRedis is a Redis in memory, in a bubble of fake time, which runs the same
// scripts. What a test counts per second it counts there: on a busy machine a second
// of a real Redis has no fixed number of anything.
type fakeRedis struct {
	*miniredis.Miniredis
	t testing.TB

	mu    sync.Mutex
	away  bool
	conns []net.Conn
}

func inFakeTime(t *testing.T, test func(*testing.T, *fakeRedis)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeRedis{Miniredis: miniredis.NewMiniRedis(), t: t}
		t.Cleanup(func() {
			s.Close()
			time.Sleep(time.Minute) // until the clients' timers are through
		})
		s.ClockTTL(true)
		test(t, s)
	})
}

func (s *fakeRedis) connect() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errors.New("refused")
	}
	c, err := s.Dial()
	s.conns = append(s.conns, c)
	return c, err
}

// setAway ends all connections and refuses new ones, or accepts them again.
func (s *fakeRedis) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *fakeRedis) options() rueidis.ClientOption { return memoryOptions(s.connect) }

func memoryOptions(connect func() (net.Conn, error)) rueidis.ClientOption {
	option := options("fake:6379")
	option.AlwaysRESP2 = true // a subscribed connection of RESP3 runs no scripts in miniredis
	option.DialCtxFn = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) { return connect() }
	return option
}

// do runs one command on it.
func (s *fakeRedis) do(args ...string) string {
	s.t.Helper()
	answer, err := try(s.t, s.options(), args...)
	require.NoError(s.t, err)
	return answer
}

// now is its clock in ms.
func (s *fakeRedis) now() int64 { return time.Now().UnixMilli() }

package integration

import (
	"context"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func redisServer(t testing.TB, more ...string) (*process, string) {
	t.Helper()
	path := program(t, "redis-server")
	dir, port := t.TempDir(), freePort(t)
	args := append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--save", ""}, more...)
	p := start(t, func() *exec.Cmd { return exec.Command(path, args...) }, func(ctx context.Context) error {
		c := redis.NewClient(&redis.Options{Addr: address(port), MaxRetries: -1})
		defer c.Close()
		return c.Ping(ctx).Err()
	})
	return p, address(port)
}

// Twenty goroutines work through Do with one breaker, the server is stopped and
// started: see TestPostgresOutage. go-redis, after as many failed dials as its
// pool has places, answers with the last dial's error and tries again by itself
// once a second: with a PoolSize below what the breaker lets through in an
// outage, recovery takes up to a second more than the breaker's open time.
func TestRedisOutage(t *testing.T) {
	server, addr := redisServer(t)
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, PoolSize: 100, DialTimeout: time.Second, ContextTimeoutEnabled: true})
	defer client.Close()
	before := count(t)
	var seen outage
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{
		Name: "redis", RecoveryTimeout: 500 * time.Millisecond, OnStateChange: seen.note, IsFailure: RedisFailure,
	})
	require.NoError(t, err)
	cfg := retry.Config{
		Name: "redis", Breaker: breaker, WaitWhenOpen: true, InitialDelay: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond,
		MaxRetries: 1000, AttemptTimeout: 2 * time.Second, MaxElapsed: time.Minute, RetryIf: RedisRetryable,
	}
	var done, next, reported atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for !stop.Load() {
				id := strconv.FormatInt(next.Add(1), 10)
				err := retry.Run(t.Context(), cfg, func(ctx context.Context) error { return client.SAdd(ctx, "done", id).Err() })
				if err != nil {
					reported.Add(1)
					t.Logf("%s: %v", id, err)
					continue
				}
				done.Add(1)
			}
		})
	}
	at := func(n int64) {
		t.Helper()
		goal := done.Load() + n
		require.Eventually(t, func() bool { return done.Load() >= goal }, 30*time.Second, time.Millisecond)
	}
	at(2000)
	server.stop(syscall.SIGTERM)
	require.Eventually(t, func() bool { return seen.count(retry.StateOpen) > 0 }, 30*time.Second, time.Millisecond)
	server.start()
	up := time.Now()
	at(20)
	recovered := time.Since(up)
	at(2000)
	stop.Store(true)
	wg.Wait()

	n, err := client.SCard(t.Context(), "done").Result()
	require.NoError(t, err)
	assert.Equal(t, done.Load(), n)
	assert.Equal(t, next.Load(), done.Load()+reported.Load())
	assert.Zero(t, reported.Load())
	assert.Equal(t, 1, seen.count(retry.StateClosed), "%v", seen.changes)
	assert.Less(t, recovered, 800*time.Millisecond, "one open time, and a little")
	t.Logf("%d done, recovered %v after the server", done.Load(), recovered.Round(time.Millisecond))
	client.Close()
	settled(t, before, 2)
}

// Answers are no outages: redis.Nil, a wrong type, a script's error.
func TestRedisAnswersAreNoFailures(t *testing.T) {
	_, addr := redisServer(t)
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer client.Close()
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, IsFailure: RedisFailure})
	require.NoError(t, err)
	cfg := recipeConfig
	cfg.Breaker, cfg.RetryIf = breaker, RedisRetryable
	require.NoError(t, client.Set(t.Context(), "text", "x", 0).Err())
	for name, call := range map[string]func(context.Context) error{
		"nil":    func(ctx context.Context) error { return client.Get(ctx, "nobody").Err() },
		"type":   func(ctx context.Context) error { return client.LPush(ctx, "text", 1).Err() },
		"script": func(ctx context.Context) error { return client.Eval(ctx, "return redis.error_reply('no')", nil).Err() },
	} {
		attempts := 0
		assert.Error(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error { attempts++; return call(ctx) }), name)
		assert.Equal(t, 1, attempts, name)
		assert.Equal(t, retry.StateClosed, breaker.State(), name)
	}
}

// A server that is full says so, and is asked again.
func TestRedisReadOnlyIsAskedAgain(t *testing.T) {
	_, addr := redisServer(t)
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer client.Close()
	require.NoError(t, client.ReplicaOf(t.Context(), "127.0.0.1", strconv.Itoa(freePort(t))).Err()) // a replica is read-only
	cfg := recipeConfig
	cfg.RetryIf = RedisRetryable
	attempts := 0
	require.NoError(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error {
		if attempts++; attempts == 2 {
			assert.NoError(t, client.ReplicaOf(ctx, "no", "one").Err())
		}
		return client.Set(ctx, "k", "v", 0).Err()
	}))
	assert.Equal(t, 2, attempts)
}

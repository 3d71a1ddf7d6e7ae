package integration

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
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

// Each member is there once: see outage. go-redis, after as many failed dials as its
// pool has places, answers with the last dial's error and tries again by itself
// once a second: with a PoolSize below what the breaker lets through in an
// outage, recovery takes up to a second more than the breaker's open time.
func TestRedisOutage(t *testing.T) {
	server, addr := redisServer(t)
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, PoolSize: 100, DialTimeout: time.Second, ContextTimeoutEnabled: true})
	defer client.Close()
	before := count(t)
	through := outage{
		server: server, stop: syscall.SIGTERM, openTime: 500 * time.Millisecond, enough: 2000,
		breaker: retry.BreakerConfig{Name: "redis", IsFailure: RedisFailure}, retryIf: RedisRetryable,
		work: func(ctx context.Context, id int64) error { return client.SAdd(ctx, "done", id).Err() },
	}
	done := through.run(t)
	n, err := client.SCard(t.Context(), "done").Result()
	require.NoError(t, err)
	assert.Equal(t, done, n)
	client.Close()
	settled(t, before, 2)
}

// Answers are no outages: redis.Nil, a wrong type, a script's error. Nor is what the
// program does wrong.
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
		"nil":      func(ctx context.Context) error { return client.Get(ctx, "nobody").Err() },
		"type":     func(ctx context.Context) error { return client.LPush(ctx, "text", 1).Err() },
		"script":   func(ctx context.Context) error { return client.Eval(ctx, "return redis.error_reply('no')", nil).Err() },
		"scan":     func(ctx context.Context) error { _, err := client.Get(ctx, "text").Int(); return err },
		"argument": func(ctx context.Context) error { return client.Set(ctx, "k", struct{}{}, 0).Err() },
		"bug":      func(context.Context) error { return errors.New("balance is negative") },
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

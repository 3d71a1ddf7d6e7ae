package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/retryutils/retry"
)

// A transaction is repeated as a whole, from its first statement: what it read
// may have changed.
func Example_postgres() {
	var pool *pgxpool.Pool // pgxpool.New(ctx, url)
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "postgres", IsFailure: PostgresFailure, RecoveryTimeout: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := retry.Config{
		Name: "postgres", RetryIf: PostgresRetryable, Breaker: breaker,
		InitialDelay: 20 * time.Millisecond, MaxDelay: time.Second, MaxElapsed: 30 * time.Second, Jitter: retry.FullJitter,
	}
	transfer := func(ctx context.Context, from, to, amount int) error {
		return retry.Run(ctx, cfg, func(ctx context.Context) error {
			return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "update account set balance = balance - $2 where id = $1", from, amount); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "update account set balance = balance + $2 where id = $1", to, amount)
				return err
			})
		})
	}
	_ = transfer
}

// A miss is an answer: final, and neither for nor against the server.
func Example_redis() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", MaxRetries: -1, PoolSize: 100})
	defer client.Close()
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "redis", IsFailure: RedisFailure, RecoveryTimeout: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := retry.Config{Name: "redis", RetryIf: RedisRetryable, Breaker: breaker, InitialDelay: 20 * time.Millisecond, AttemptTimeout: time.Second}
	get := retry.Wrap(cfg, func(ctx context.Context, key string) (string, error) {
		value, err := client.Get(ctx, key).Result()
		if errors.Is(err, redis.Nil) {
			return "", retry.Neutral(retry.Permanent(err))
		}
		return value, err
	})
	_ = get
}

// A unary call: the codes are distinguished by [GRPC], and gRPC's own retries are
// off (grpc.WithDisableRetry), lest the two multiply.
func Example_gRPC() {
	var client healthpb.HealthClient // healthpb.NewHealthClient(conn)
	cfg := retry.Config{Name: "health", InitialDelay: 50 * time.Millisecond, AttemptTimeout: 5 * time.Second}
	check := retry.Wrap(cfg, func(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
		out, err := client.Check(ctx, in)
		return out, GRPC(err)
	})
	_ = check
}

// The tokens' transport is the base of the library's, so that each attempt has a
// token that is valid; a refusal by the tokens' server is final.
func Example_oauth2() {
	ctx := context.Background()
	tokens := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t"})
	base := oauth2.NewClient(ctx, tokens)
	base.Timeout = 10 * time.Second
	client, err := retry.NewRetryableClient(base, retry.Config{RetryIf: OAuth2Retryable})
	if err != nil {
		fmt.Println(err)
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.example.org/me", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = func() (*http.Response, error) { return client.Do(req) }
}

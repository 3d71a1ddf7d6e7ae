package integration

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/retryutils/retry"
)

// PostgresRetryable is a [retry.Config.RetryIf] for pgx. Worth another attempt
// are a serialization failure and a deadlock, with the whole transaction (class
// 40); a server that is out of connections or shutting down (53300, 57P01 to
// 57P03); and a connection that broke, or could not be made. A commit whose answer
// was lost may have been carried out (08007, or no code at all): repeat only what may
// be carried out twice, such as an insert with a key of its own and "on conflict do
// nothing". For other statements use [pgconn.SafeToRetry] alone. What else is no
// answer of the server comes from the program, such as a scan into a wrong type.
func PostgresRetryable(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return retry.Retryable(err) && isConnectionError(err)
	}
	switch answer.Code {
	case "53300", "57P01", "57P02", "57P03":
		return true
	}
	return strings.HasPrefix(answer.Code, "40") || strings.HasPrefix(answer.Code, "08")
}

// PostgresFailure is a [retry.BreakerConfig.IsFailure] for pgx. The default knows which
// answers are about a statement; a statement that was cancelled is too (57014). What
// comes from the program is no failure of the server.
func PostgresFailure(err error) bool {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return retry.IsFailure(err) && answer.Code != "57014"
	}
	return retry.IsFailure(err) && isConnectionError(err)
}

// isConnectionError reports whether an error is about the connection to the server.
func isConnectionError(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// RedisRetryable is a [retry.Config.RetryIf] for go-redis, whose own retries are
// off (MaxRetries: -1). redis.Nil is an answer. Of the server's errors only
// those that pass are worth another attempt, and of others those of the connection
// and its pool: the rest comes from the program, such as a scan into a wrong type.
func RedisRetryable(err error) bool {
	var answer redis.Error
	if errors.As(err, &answer) {
		return redis.IsLoadingError(err) || redis.IsReadOnlyError(err) || redis.IsClusterDownError(err) ||
			redis.IsTryAgainError(err) || redis.IsMasterDownError(err) || redis.IsMaxClientsError(err)
	}
	return retry.Retryable(err) && (isConnectionError(err) || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted))
}

// RedisFailure is a [retry.BreakerConfig.IsFailure] for go-redis.
func RedisFailure(err error) bool { return retry.IsFailure(err) && RedisRetryable(err) }

// GRPC marks the error of a unary call for [retry.Do]: Unavailable is retried,
// ResourceExhausted and others only where the server says when to come back
// (google.rpc.RetryInfo), and what is the caller's own fault is no failure of
// the server.
func GRPC(err error) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok && info.GetRetryDelay() != nil {
			return retry.RetryAfter(err, info.GetRetryDelay().AsDuration())
		}
	}
	switch s.Code() {
	case codes.Unavailable:
		return err
	case codes.Canceled: // by the caller, whom Do knows, or by a proxy
		return retry.Neutral(err)
	case codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.DataLoss, codes.ResourceExhausted:
		return retry.Permanent(err)
	}
	return retry.Neutral(retry.Permanent(err))
}

// OAuth2Retryable is a [retry.Config.RetryIf] for a client whose transport
// fetches tokens: a refusal by the token's server, such as invalid_grant, is
// final, and asking again would lock the account at some of them.
func OAuth2Retryable(err error) bool {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < 500 && refused.Response.StatusCode != 429 {
		return false
	}
	return retry.Retryable(err)
}

// Defaults of the examples.
var recipeConfig = retry.Config{InitialDelay: 50 * time.Millisecond, MaxElapsed: 30 * time.Second, AttemptTimeout: 5 * time.Second}

// do is a unary call under the library.
func do[Q, A any](ctx context.Context, cfg retry.Config, in Q, call func(context.Context, Q) (A, error)) (A, error) {
	return retry.Do(ctx, cfg, func(ctx context.Context) (A, error) {
		out, err := call(ctx, in)
		return out, GRPC(err)
	})
}

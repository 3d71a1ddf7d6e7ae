package main

import (
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

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

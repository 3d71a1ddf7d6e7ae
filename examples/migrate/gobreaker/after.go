package gobreaker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/retryutils/retry"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// After asks through a CircuitBreaker. A cancel is excluded without a setting.
func After(base *http.Client, log *slog.Logger) (func(ctx context.Context, url string) (string, error), error) {
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{
		Name:             "genes",
		FailureRate:      0.5,
		MinCalls:         10, // 0 is 20
		FailureThreshold: 5,  // beside a rate, 0 is: not by count
		Window:           10 * time.Second,
		RecoveryTimeout:  5 * time.Second,
		HalfOpenProbes:   2, // at a time
		SuccessThreshold: 2, // that close it
		IsFailure: func(err error) bool {
			var status *genes.StatusError
			return retry.IsFailure(err) && !(errors.As(err, &status) && status.Final())
		},
		OnStateChange: func(c retry.StateChange) {
			log.Warn("breaker", "name", c.Name, "from", c.From, "to", c.To, "cause", c.Cause)
		},
	})
	if err != nil {
		return nil, err
	}
	cfg := retry.Config{MaxRetries: retry.NoRetries, Breaker: breaker} // or with retries, in the same place
	return func(ctx context.Context, url string) (string, error) {
		return retry.Do(ctx, cfg, func(ctx context.Context) (string, error) { return genes.Fetch(ctx, base, url) })
	}, nil
}

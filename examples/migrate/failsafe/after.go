package failsafe

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/retryutils/retry"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// After asks with a Transport: the breaker is part of the loop.
func After(base *http.Client, log *slog.Logger) (func(ctx context.Context, url string) (string, error), error) {
	cfg := retry.Config{
		MaxRetries: 3, InitialDelay: 100 * time.Millisecond, MaxDelay: time.Second, Jitter: retry.NoJitter,
		MaxElapsed: 2 * time.Second,
		OnRetry: func(ctx context.Context, e retry.Event) {
			log.WarnContext(ctx, "retry", "attempt", e.Attempt, "delay", e.Delay)
		},
	}
	transport, err := retry.NewTransport(base.Transport, cfg, retry.HostBreaker(retry.BreakerConfig{
		FailureThreshold: 5,
		RecoveryTimeout:  5 * time.Second,
		OnStateChange: func(c retry.StateChange) {
			log.Warn("breaker", "from", c.From, "to", c.To, "cause", c.Cause)
		},
	}))
	if err != nil {
		return nil, err
	}
	client := *base
	client.Transport = transport
	return func(ctx context.Context, url string) (string, error) { return genes.Fetch(ctx, &client, url) }, nil
}

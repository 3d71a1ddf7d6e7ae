package retry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A call that succeeds at once, and a breaker in its way, allocate nothing.
func TestSuccessAllocatesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	budget, err := retry.NewBudget(0.1, 2)
	require.NoError(t, err)
	counting, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	rating, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureRate: 0.5})
	require.NoError(t, err)
	open, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	open.Trip(time.Hour)
	filled := retry.Config{
		Name: "x", MaxRetries: 3, InitialDelay: time.Millisecond, MaxDelay: time.Second,
		Jitter: retry.FullJitter, RetryIf: retry.Retryable, Budget: budget,
	}
	value := func(context.Context) (int, error) { return 1, nil }
	none := func(context.Context) error { return nil }

	for name, call := range map[string]func(){
		"Do, zero Config":   func() { retry.Do(ctx, retry.Config{}, value) },
		"Do, filled Config": func() { retry.Do(ctx, filled, value) },
		"Do with a breaker": func() { retry.Do(ctx, retry.Config{Breaker: counting}, value) },
		"Run":               func() { retry.Run(ctx, retry.Config{}, none) },
		"breaker by count":  func() { counting.Do(ctx, none) },
		"breaker by rate":   func() { rating.Do(ctx, none) },
		"permit": func() {
			permit, _ := counting.Allow()
			permit.Done(nil)
		},
		"rejection": func() { open.Allow() },
	} {
		assert.Zero(t, testing.AllocsPerRun(200, call), name)
	}
}

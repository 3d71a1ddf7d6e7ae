package gobreaker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// Before asks through a breaker of gobreaker, which opens when half of at least ten
// calls failed, and at five failures in a row.
func Before(base *http.Client, log *slog.Logger) func(ctx context.Context, url string) (string, error) {
	breaker := gobreaker.NewCircuitBreaker[string](gobreaker.Settings{
		Name:        "genes",
		MaxRequests: 2,
		Interval:    10 * time.Second,
		Timeout:     5 * time.Second,
		ReadyToTrip: func(counts gobreaker.Counts) bool {
			return counts.Requests >= 10 && float64(counts.TotalFailures)/float64(counts.Requests) >= 0.5 ||
				counts.ConsecutiveFailures >= 5
		},
		IsSuccessful: func(err error) bool {
			var status *genes.StatusError
			return err == nil || errors.As(err, &status) && status.Final()
		},
		IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(name string, from, to gobreaker.State) {
			log.Warn("breaker", "name", name, "from", from, "to", to)
		},
	})
	return func(ctx context.Context, url string) (string, error) {
		return breaker.Execute(func() (string, error) { return genes.Fetch(ctx, base, url) })
	}
}

package failsafe

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"

	"github.com/retryutils/retry/examples/migrate/genes"
)

// Before asks with a RoundTripper of failsafe-go: a retry policy around a breaker.
func Before(base *http.Client, log *slog.Logger) func(ctx context.Context, url string) (string, error) {
	retries := failsafehttp.NewRetryPolicyBuilder().
		WithMaxRetries(3).
		WithBackoff(100*time.Millisecond, time.Second).
		WithMaxDuration(2 * time.Second).
		AbortOnErrors(circuitbreaker.ErrOpen).
		ReturnLastFailure().
		OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[*http.Response]) {
			log.Warn("retry", "attempt", e.Attempts(), "delay", e.Delay)
		}).
		Build()
	breaker := circuitbreaker.NewBuilder[*http.Response]().
		HandleIf(func(resp *http.Response, err error) bool { return err != nil || resp.StatusCode >= 500 }).
		WithFailureThreshold(5).
		WithDelay(5 * time.Second).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			log.Warn("breaker", "from", e.OldState, "to", e.NewState)
		}).
		Build()
	client := *base
	client.Transport = failsafehttp.NewRoundTripper(base.Transport, retries, breaker)
	return func(ctx context.Context, url string) (string, error) { return genes.Fetch(ctx, &client, url) }
}

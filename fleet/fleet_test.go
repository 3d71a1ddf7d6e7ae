package fleet

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// Calls that pass cost Redis nothing, however many they are.
func TestNoCommandPerCall(t *testing.T) {
	s := realRedis(t)
	f := joined(t, s, Config{})
	cfg := retry.Config{Gate: retry.NewGate(nil), Breaker: breaker(t, retry.BreakerConfig{})}
	require.NoError(t, f.Gate("host", cfg.Gate))
	require.NoError(t, f.Breaker("host", cfg.Breaker))
	start, before := time.Now(), f.Snapshot().Commands
	for range 100_000 {
		require.NoError(t, retry.Run(t.Context(), cfg, func(context.Context) error { return nil }))
	}
	asked := f.Snapshot().Commands - before
	assert.LessOrEqual(t, float64(asked), 4+2*time.Since(start).Seconds(), "signs of life only")
}

// What an HTTP client of one member learns from the server, the others honour, host by
// host.
func TestHost(t *testing.T) {
	s := realRedis(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer server.Close()
	one, other := joined(t, s, Config{}), joined(t, s, Config{})
	var cfg retry.Config
	require.NoError(t, other.Host(server.URL, &cfg))
	client, err := retry.NewRetryableClient(nil, retry.Config{MaxRetries: retry.NoRetries},
		retry.HostBreaker(retry.BreakerConfig{}), retry.PerHost(one.Host))
	require.NoError(t, err)
	_, err = client.Get(t.Context(), server.URL)
	require.Error(t, err)
	assert.Equal(t, [2]int{1, 1}, [2]int{one.Snapshot().Gates, one.Snapshot().Breakers})
	eventually(t, func() bool { return left(cfg.Gate) > 20*time.Second }, "the other is paused")
}

func TestJoinInvalid(t *testing.T) {
	f, err := Dial(t.Context(), options("127.0.0.1:1"), Config{Name: "test", Timeout: 10 * time.Millisecond})
	require.NoError(t, err)
	defer f.Close()
	for _, err := range []error{
		f.Gate("host", nil), f.Gate("", retry.NewGate(nil)), f.Gate("a b", retry.NewGate(nil)),
		f.Breaker("host", nil), f.Breaker("a\nb", breaker(t, retry.BreakerConfig{})),
		f.Host("", &retry.Config{}),
	} {
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	}
}

// What a call that passes costs with and without the fleet. Both in turns, and
// the best of each: the difference is much smaller than a busy machine's moods.
func BenchmarkCall(b *testing.B) {
	f, err := Dial(b.Context(), options(realRedis(b).addr()), Config{Name: "bench"})
	require.NoError(b, err)
	defer f.Close()
	var configs [2]retry.Config // alone, joined
	for i := range configs {
		breaker, _ := retry.NewCircuitBreaker(retry.BreakerConfig{})
		configs[i] = retry.Config{Gate: retry.NewGate(nil), Breaker: breaker}
	}
	require.NoError(b, f.Gate("host", configs[1].Gate))
	require.NoError(b, f.Breaker("host", configs[1].Breaker))
	const batch = 10_000
	fn := func(context.Context) error { return nil }
	best := [2]time.Duration{time.Hour, time.Hour}
	before, calls := f.Snapshot().Commands, 0
	for b.Loop() {
		for i := range configs {
			start := time.Now()
			for range batch {
				retry.Run(b.Context(), configs[i], fn)
			}
			best[i] = min(best[i], time.Since(start))
		}
		calls += batch
	}
	b.ReportMetric(float64(best[0].Nanoseconds())/batch, "alone-ns/call")
	b.ReportMetric(float64(best[1].Nanoseconds())/batch, "joined-ns/call")
	b.ReportMetric(float64(f.Snapshot().Commands-before)/float64(calls), "commands/call")
}

package retry

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Counts were 32 bits wide: after 2^32 successes they began anew, and the share
// of failures with them. It takes a day to get there, so this starts close to it.
func TestCountsGoBeyond32Bits(t *testing.T) {
	const many = 1<<32 - 1
	b, err := NewCircuitBreaker(BreakerConfig{FailureRate: 0.5})
	require.NoError(t, err)
	p := b.period()
	p.requests.Store(many)
	p.successes.Store(many)
	b.window.buckets[0].successes = many
	for range 2 {
		require.NoError(t, b.Do(context.Background(), func(context.Context) error { return nil }))
	}
	s := b.Snapshot()
	assert.Equal(t, asInt(many+2), s.Requests)
	assert.Equal(t, asInt(many+2), s.Successes)
	require.Error(t, b.Do(context.Background(), func(context.Context) error { return errAbandoned }))
	assert.Equal(t, StateClosed, b.State(), "one failure of so many")
	b.Reset()
	p = b.period()
	p.failures, p.neutrals = many, many
	p.consecutive.Store(many)
	p.requests.Store(2 * many)
	b.window.buckets[b.window.newest%buckets] = bucket{failures: many, neutrals: many}
	s = b.Snapshot()
	assert.Equal(t, asInt(many), s.Failures)
	assert.Equal(t, asInt(many), s.ConsecutiveFailures)
	assert.Equal(t, asInt(2*many), s.Requests)
	assert.Positive(t, s.Requests, "where an int has 32 bits the numbers end at the largest")
}

package retry_test

import (
	"context"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func TestBreakerConfigRefusesImpossibleWindows(t *testing.T) {
	for _, window := range []time.Duration{5, -1, time.Millisecond - 1, math.MaxInt64, math.MinInt64} {
		_, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureRate: 0.5, Window: window})
		require.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, "Window is "+window.String())
	}
	for _, window := range []time.Duration{0, time.Millisecond, 365 * 24 * time.Hour} {
		assert.NoError(t, retry.BreakerConfig{FailureRate: 0.5, Window: window}.Validate())
	}
}

func TestBreakerConfigRefusesImpossibleValues(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for field, c := range map[string]retry.BreakerConfig{
		"FailureThreshold":   {FailureThreshold: -1},
		"FailureRate":        {FailureRate: nan},
		"FailureRate is 1.5": {FailureRate: 1.5},
		"FailureRate is -":   {FailureRate: -0.1},
		"SlowCallRate":       {SlowCallRate: inf, SlowCallDuration: 1},
		"SlowCallRate is 0":  {SlowCallDuration: 1},
		"SlowCallDuration":   {SlowCallRate: 0.5},
		"SlowCallDuration i": {SlowCallRate: 0.5, SlowCallDuration: -1},
		"MinCalls":           {MinCalls: -1},
		"RecoveryTimeout":    {RecoveryTimeout: -1},
		"MaxRecoveryTimeout": {RecoveryTimeout: 2, MaxRecoveryTimeout: 1},
		"MaxRecoveryTimeou":  {MaxRecoveryTimeout: time.Second},
		"RecoveryJitter":     {RecoveryJitter: nan},
		"RecoveryJitter is ": {RecoveryJitter: 1.1},
		"HalfOpenProbes":     {HalfOpenProbes: -1},
		"HalfOpenProbes is ": {HalfOpenProbes: math.MaxInt},
		"SuccessThreshold":   {SuccessThreshold: -1},
		"ProbeTimeout":       {ProbeTimeout: -1},
	} {
		if strconv.IntSize == 32 && c.HalfOpenProbes == math.MaxInt { // the largest there is, and not too large
			continue
		}
		b, err := retry.NewCircuitBreaker(c)
		assert.Nil(t, b)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, "BreakerConfig."+field)
	}
	err := retry.BreakerConfig{MinCalls: -1, ProbeTimeout: -1}.Validate()
	assert.ErrorContains(t, err, "MinCalls")
	assert.ErrorContains(t, err, "ProbeTimeout", "all of them at once")
	assert.NoError(t, retry.BreakerConfig{FailureThreshold: math.MaxInt}.Validate())
	assert.NoError(t, retry.BreakerConfig{SuccessThreshold: math.MaxInt32, MinCalls: math.MaxInt32}.Validate())
}

func TestZeroBreakerHasTheDefaults(t *testing.T) {
	var b retry.CircuitBreaker
	rush(50, func() bool { return b.Do(context.Background(), func(context.Context) error { return nil }) == nil })
	assert.Equal(t, 50, b.Snapshot().Successes)
	report(t, &b, 4, errDown)
	assert.Equal(t, retry.StateClosed, b.State())
	report(t, &b, 1, errDown)
	left := refused(t, &b).RetryAfter
	assert.True(t, left > 59*time.Second && left <= time.Minute)
}

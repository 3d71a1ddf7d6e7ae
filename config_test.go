package retry_test

import (
	"context"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func TestR23_ImpossibleSettingsAreNamed(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for want, c := range map[string]retry.Config{
		"MaxRetries is -2":        {MaxRetries: -2},
		"InitialDelay is -1ns":    {InitialDelay: -1},
		"MaxDelay is -1ns":        {MaxDelay: -1},
		"InitialDelay is 2s":      {InitialDelay: 2 * time.Second, MaxDelay: time.Second},
		"InitialDelay is 1m0.":    {InitialDelay: time.Minute + time.Millisecond},
		"Multiplier is NaN":       {Multiplier: nan},
		"Multiplier is +Inf":      {Multiplier: inf},
		"Multiplier is -Inf":      {Multiplier: -inf},
		"Multiplier is 0.9":       {Multiplier: 0.9},
		"Multiplier is -2":        {Multiplier: -2},
		"Jitter is NaN,1":         {Jitter: retry.Jitter{Min: nan, Max: 1}},
		"Jitter is 0,NaN":         {Jitter: retry.Jitter{Max: nan}},
		"Jitter is 0,+Inf":        {Jitter: retry.Jitter{Max: inf}},
		"Jitter is 1,0.5":         {Jitter: retry.Jitter{Min: 1, Max: 0.5}},
		"Jitter is -0.1,1":        {Jitter: retry.Jitter{Min: -0.1, Max: 1}},
		"MaxElapsed is -1ns":      {MaxElapsed: -1},
		"AttemptTimeout is -1ns":  {AttemptTimeout: -1},
		"MaxRetryAfter is -1ns":   {MaxRetryAfter: -1},
		"RetryStatusCodes is 99":  {RetryStatusCodes: []int{503, 99}},
		"RetryStatusCodes is 100": {RetryStatusCodes: []int{1000}},
	} {
		err := c.Validate()
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, "Config."+want)
		ran := retry.Run(t.Context(), c, func(context.Context) error { t.Error("called"); return nil })
		assert.EqualError(t, ran, err.Error(), "and nothing runs")
	}
	err := retry.Config{MaxRetries: -5, Multiplier: nan, MaxElapsed: -1}.Validate()
	for _, field := range []string{"MaxRetries", "Multiplier", "MaxElapsed"} {
		assert.ErrorContains(t, err, field)
	}
	assert.False(t, retry.Retryable(err))
}

func TestGoodSettings(t *testing.T) {
	for _, c := range []retry.Config{
		{}, {MaxRetries: retry.NoRetries}, {MaxRetries: retry.Unlimited}, {Multiplier: 1}, {Jitter: retry.FullJitter},
		{MaxDelay: time.Millisecond}, {InitialDelay: time.Minute}, {RetryStatusCodes: []int{100, 999}}, {RetryStatusCodes: []int{}},
		{MaxDelay: math.MaxInt64, InitialDelay: math.MaxInt64, Multiplier: math.MaxFloat64, MaxElapsed: math.MaxInt64},
	} {
		assert.NoError(t, c.Validate())
	}
	assert.Equal(t, time.Millisecond, retry.Config{MaxDelay: time.Millisecond, Jitter: retry.NoJitter}.Delay(1),
		"the default first delay gives way to a lower ceiling")
}

// Delay must not depend on, or change, what others see.
func TestDelayIsPure(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := retry.Config{Rand: draw(0.3), Backoff: retry.DecorrelatedBackoff(time.Second)}
	for range 100 {
		n := 1 + random.IntN(20)
		assert.Equal(t, c.Delay(n), c.Delay(n))
	}
}

func TestConfigFromEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"NAME": "hgnc", "MAX_RETRIES": "7", "INITIAL_DELAY": "0.5", "MAX_DELAY": "2m", "MULTIPLIER": "1.5", "JITTER": "full",
		"MAX_ELAPSED": "90", "ATTEMPT_TIMEOUT": " 1.5s ", "MAX_RETRY_AFTER": "1h", "RETRY_STATUS_CODES": "429, 503", "WAIT_WHEN_OPEN": "true",
	} {
		t.Setenv("HGNC_"+name, value)
	}
	want := retry.Config{
		Name: "hgnc", MaxRetries: 7, InitialDelay: 500 * time.Millisecond, MaxDelay: 2 * time.Minute, Multiplier: 1.5,
		Jitter: retry.FullJitter, MaxElapsed: 90 * time.Second, AttemptTimeout: 1500 * time.Millisecond,
		MaxRetryAfter: time.Hour, RetryStatusCodes: []int{429, 503}, WaitWhenOpen: true,
	}
	for _, prefix := range []string{"HGNC", "HGNC_"} {
		got, err := retry.ConfigFromEnv(prefix)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	got, err := retry.ConfigFromEnv("NOBODY_SETS_THIS")
	assert.NoError(t, err)
	assert.True(t, reflect.DeepEqual(retry.Config{}, got))
}

func TestConfigFromEnvironmentForms(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        retry.Config
	}{
		{"MAX_RETRIES", "0", retry.Config{MaxRetries: retry.NoRetries}},
		{"MAX_RETRIES", "Unlimited", retry.Config{MaxRetries: retry.Unlimited}},
		{"JITTER", "none", retry.Config{Jitter: retry.NoJitter}},
		{"JITTER", "Equal", retry.Config{Jitter: retry.EqualJitter}},
		{"JITTER", "0.7, 1.3", retry.Config{Jitter: retry.Jitter{Min: 0.7, Max: 1.3}}},
		{"MAX_ELAPSED", "1e3", retry.Config{MaxElapsed: 1000 * time.Second}},
		{"MAX_ELAPSED", "  ", retry.Config{}},
	} {
		t.Run(c.name+c.value, func(t *testing.T) {
			t.Setenv("X_"+c.name, c.value)
			got, err := retry.ConfigFromEnv("X")
			assert.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestConfigFromEnvironmentReportsEachVariable(t *testing.T) {
	bad := map[string]string{
		"MAX_RETRIES": "many", "INITIAL_DELAY": "soon", "MAX_DELAY": "NaN", "MULTIPLIER": "two", "JITTER": "some",
		"MAX_ELAPSED": "1e300", "RETRY_STATUS_CODES": "429,abc", "WAIT_WHEN_OPEN": "perhaps", "ATTEMPT_TIMEOUT": "-3s",
	}
	for name, value := range bad {
		t.Setenv("BAD_"+name, value)
	}
	got, err := retry.ConfigFromEnv("BAD")
	assert.Equal(t, retry.Config{}, got)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	for name, value := range bad {
		if name == "ATTEMPT_TIMEOUT" { // readable, but of no use
			assert.ErrorContains(t, err, "BAD_ATTEMPT_TIMEOUT is "+value)
		} else {
			assert.ErrorContains(t, err, "BAD_"+name+` is "`+value+`"`)
		}
	}
	t.Setenv("JIT_JITTER", "1,x")
	_, err = retry.ConfigFromEnv("JIT")
	assert.Error(t, err)
}

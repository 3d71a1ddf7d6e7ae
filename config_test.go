package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"testing"
	"time"

	"github.com/jonboulle/clockwork"
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

// A breaker or gate on the real clock in a Config with a fake one stays shut
// through a fake hour, and Validate was silent about it.
func TestValidateWantsOneClock(t *testing.T) {
	fake, other := clockwork.NewFakeClock(), clockwork.NewFakeClock()
	breaker := func(clock clockwork.Clock) *retry.CircuitBreaker {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{Clock: clock})
		require.NoError(t, err)
		return b
	}
	for _, c := range []struct {
		cfg  retry.Config
		want string
	}{
		{retry.Config{Clock: fake, Breaker: breaker(nil)}, "Config.Breaker"},
		{retry.Config{Clock: fake, Breaker: breaker(other)}, "Config.Breaker"},
		{retry.Config{Clock: fake, Breaker: new(retry.CircuitBreaker)}, "Config.Breaker"},
		{retry.Config{Clock: fake, Gate: retry.NewGate(nil)}, "Config.Gate"}, //retrylint:ignore that it is refused is tested
		{retry.Config{Clock: fake, Gate: new(retry.Gate)}, "Config.Gate"},
		{retry.Config{Clock: fake, Gate: retry.NewGate(other), Breaker: breaker(fake)}, "Config.Gate"},
		{retry.Config{Clock: clockwork.NewRealClock(), Gate: retry.NewGate(fake)}, "Config.Gate"}, //retrylint:ignore that it is refused is tested
		{retry.Config{Clock: fake, Breaker: breaker(fake), Gate: retry.NewGate(fake)}, ""},
		{retry.Config{Clock: clockwork.NewRealClock(), Breaker: breaker(nil), Gate: retry.NewGate(clockwork.NewRealClock())}, ""},
		{retry.Config{Breaker: breaker(fake), Gate: retry.NewGate(nil)}, ""},
		{retry.Config{Clock: oddClock{fake, nil}, Gate: retry.NewGate(oddClock{fake, nil})}, ""},
	} {
		err := c.cfg.Validate()
		fn, calls := script(nil)
		ran := retry.Run(t.Context(), c.cfg, fn)
		if c.want == "" {
			assert.NoError(t, err)
			assert.NoError(t, ran)
			continue
		}
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, c.want)
		assert.Equal(t, err, ran)
		assert.Zero(t, *calls)
	}
}

// oddClock cannot be compared.
type oddClock struct {
	clockwork.Clock
	_ []int
}

// What is in effect can be logged at start: the defaults too, and nothing secret.
func TestConfigShowsItsSettings(t *testing.T) {
	assert.Equal(t, "max_retries=5 initial_delay=1s multiplier=2 max_delay=1m0s jitter=0.8,1.2 max_elapsed=none attempt_timeout=none "+
		"max_retry_after=5m0s retry_status_codes=408,425,429,500,502,503,504", retry.Config{}.String())

	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "genes"})
	require.NoError(t, err)
	cfg := retry.Config{
		Name: "https://user:SECRET@h.example/?key=SECRET", MaxRetries: retry.NoRetries, MaxDelay: 500 * time.Millisecond, Jitter: retry.NoJitter,
		MaxElapsed: time.Hour, AttemptTimeout: 2 * time.Second, RetryStatusCodes: []int{}, Breaker: breaker, WaitWhenOpen: true,
		Budget: budget(t, 0.1, 1), Gate: retry.NewGate(nil), Limiter: slowLimiter{err: errors.New("SECRET")},
	}
	text := cfg.String()
	assert.Equal(t, `name=https://xxxxx@h.example/?key=xxxxx max_retries=0 initial_delay=500ms multiplier=2 max_delay=500ms jitter=1,1 max_elapsed=1h0m0s attempt_timeout=2s `+
		`max_retry_after=5m0s retry_status_codes=none breaker=genes wait_when_open=true budget="ratio 0.1, burst 1" gate=set limiter=retry_test.slowLimiter`, text)
	for _, verb := range []string{"%v", "%+v", "%s"} {
		assert.Equal(t, text, fmt.Sprintf(verb, cfg))
	}
	log, logger := newLog()
	logger.Info("start", "retry", cfg)
	assert.Contains(t, log.String(), "max_delay")
	assert.Contains(t, log.String(), "500ms")
	assert.NotContains(t, log.String(), "SECRET")

	custom := retry.Config{Name: "two words", MaxRetries: retry.Unlimited, RetryIf: retry.Retryable, Backoff: retry.ConstantBackoff(1), Clock: clockwork.NewFakeClock()}
	assert.Equal(t, `name="two words" max_retries=unlimited backoff=custom max_delay=1m0s jitter=0.8,1.2 max_elapsed=none attempt_timeout=none `+
		"max_retry_after=5m0s retry_if=custom clock=*clockwork.FakeClock", custom.String())
}

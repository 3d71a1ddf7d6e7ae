package main

import (
	"errors"
	"testing"
	"time"

	retrygo "github.com/avast/retry-go/v5"
	backoff4 "github.com/cenkalti/backoff/v4"
	backoff5 "github.com/cenkalti/backoff/v5"
	backoff7 "github.com/cenkalti/backoff/v7"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/go-resty/resty/v2"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/assert"
)

// The table of defaults in docs/migrating.md is that of the versions in go.mod.
func TestDefaultsOfPeers(t *testing.T) {
	httpClient := retryablehttp.NewClient()
	assert.Equal(t, []any{4, time.Second, 30 * time.Second}, []any{httpClient.RetryMax, httpClient.RetryWaitMin, httpClient.RetryWaitMax})
	client := resty.New()
	assert.Equal(t, []any{0, 100 * time.Millisecond, 2 * time.Second}, []any{client.RetryCount, client.RetryWaitTime, client.RetryMaxWaitTime})

	v4, v5, v7 := backoff4.NewExponentialBackOff(), backoff5.NewExponentialBackOff(), backoff7.NewExponentialBackOff()
	curve := []any{500 * time.Millisecond, 1.5, 0.5, time.Minute}
	assert.Equal(t, curve, []any{v4.InitialInterval, v4.Multiplier, v4.RandomizationFactor, v4.MaxInterval})
	assert.Equal(t, curve, []any{v5.InitialInterval, v5.Multiplier, v5.RandomizationFactor, v5.MaxInterval})
	assert.Equal(t, curve, []any{v7.InitialInterval, v7.Multiplier, v7.RandomizationFactor, v7.MaxInterval})
	assert.Equal(t, 15*time.Minute, v4.MaxElapsedTime)
	assert.Equal(t, 15*time.Minute, time.Duration(backoff5.DefaultMaxElapsedTime))
	assert.Equal(t, 15*time.Minute, time.Duration(backoff7.DefaultMaxElapsedTime))

	down := errors.New("down")
	attempts := 0
	retrygo.New(retrygo.Delay(0), retrygo.MaxJitter(0)).Do(func() error { attempts++; return down })
	assert.Equal(t, 10, attempts, "retry-go")
	attempts = 0
	failsafe.With(retrypolicy.NewWithDefaults[any]()).Run(func() error { attempts++; return down })
	assert.Equal(t, 3, attempts, "failsafe-go")
	breaker := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{})
	for attempts = 0; breaker.State() == gobreaker.StateClosed; attempts++ {
		breaker.Execute(func() (int, error) { return 0, down })
	}
	assert.Equal(t, 6, attempts, "gobreaker")
}

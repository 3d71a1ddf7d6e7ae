package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func TestImpossibleSettingsAreNamed(t *testing.T) {
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
		{}, {MaxRetries: retry.NoRetries}, {MaxRetries: retry.Unlimited}, {Multiplier: 1}, {Jitter: retry.FullJitter}, {Jitter: retry.Jitter{Min: 2, Max: math.MaxFloat64}},
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
	for _, c := range []retry.Config{{Rand: draw(0.3)}, {Rand: draw(0.3), Backoff: retry.DecorrelatedBackoff(time.Second)}} {
		for range 100 {
			n := 1 + random.IntN(5)
			assert.Equal(t, c.Delay(n), c.Delay(n))
		}
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
		`max_retry_after=5m0s retry_status_codes=none breaker="genes: 5 failures in a row, open for 1m0s" wait_when_open=true budget="ratio 0.1, burst 1" gate=set limiter=retry_test.slowLimiter`, text)
	for _, verb := range []string{"%v", "%+v", "%s"} {
		assert.Equal(t, text, fmt.Sprintf(verb, cfg))
	}
	for want, cfg := range map[string]retry.BreakerConfig{
		"5 failures in a row, open for 1m0s":                                                  {},
		"failure rate 0.5, window 10s, at least 20 calls, open for 1m0s":                      {FailureRate: 0.5},
		"https://xxxxx@h.example: 1 failure in a row, open for 5s, at most 1m0s":              {Name: "https://SECRET@h.example", FailureThreshold: 1, RecoveryTimeout: 5 * time.Second, MaxRecoveryTimeout: time.Minute},
		"rate 0.2 of 2s or longer, window 1m0s, at least 1 call, open for 1m0s, observe only": {SlowCallRate: 0.2, SlowCallDuration: 2 * time.Second, Window: time.Minute, MinCalls: 1, ObserveOnly: true},
	} {
		breaker, err := retry.NewCircuitBreaker(cfg)
		require.NoError(t, err)
		assert.Contains(t, retry.Config{Breaker: breaker}.String(), ` breaker="`+want+`" `)
	}
	assert.Contains(t, retry.Config{Breaker: new(retry.CircuitBreaker)}.String(), ` breaker="5 failures in a row, open for 1m0s" `)
	log, logger := newLog()
	logger.Info("start", "retry", cfg)
	assert.Contains(t, log.String(), "max_delay")
	assert.Contains(t, log.String(), "500ms")
	assert.NotContains(t, log.String(), "SECRET")

	custom := retry.Config{Name: "two words", MaxRetries: retry.Unlimited, RetryIf: retry.Retryable, Backoff: retry.ConstantBackoff(1), Clock: clockwork.NewFakeClock()}
	assert.Equal(t, `name="two words" max_retries=unlimited backoff=custom max_delay=1m0s jitter=0.8,1.2 max_elapsed=none attempt_timeout=none `+
		"max_retry_after=5m0s retry_if=custom clock=*clockwork.FakeClock", custom.String())
}

// pacer is a limiter like *rate.Limiter: its methods need one that is there.
type pacer struct{ granted int }

func (p *pacer) Wait(context.Context) error { p.granted++; return nil }

type limitFunc func(context.Context) error

func (f limitFunc) Wait(ctx context.Context) error { return f(ctx) }

// ownContext is a context of a framework's: a pointer with another one inside.
type ownContext struct{ context.Context }

func (c *ownContext) Done() <-chan struct{} { return c.Context.Done() }

// An interface that holds a nil pointer is not nil. It passed Validate, and panicked in the
// middle of a call. It is a wrong setting, which names the field and the type.
func TestInterfacesThatHoldNil(t *testing.T) {
	for want, cfg := range map[string]retry.Config{
		"Config.Limiter is a nil *retry_test.pacer":          {Limiter: (*pacer)(nil)},
		"Config.Limiter is a nil retry_test.limitFunc":       {Limiter: limitFunc(nil)},
		"Config.Clock is a nil *clockwork.FakeClock":         {Clock: (*clockwork.FakeClock)(nil)},
		"Config.Logger's handler is a nil *slog.JSONHandler": {Logger: slog.New((*slog.JSONHandler)(nil))},
		"Config.Logger is without a handler":                 {Logger: new(slog.Logger)},
		"Config.Gate's clock is a nil *clockwork.FakeClock":  {Gate: retry.NewGate((*clockwork.FakeClock)(nil))},
	} {
		wrong := func(err error) {
			t.Helper()
			assert.ErrorIs(t, err, retry.ErrInvalidConfig)
			assert.ErrorContains(t, err, want)
		}
		wrong(cfg.Validate())
		wrong(retry.Run(t.Context(), cfg, func(context.Context) error { t.Error("called"); return nil }))
		_, err := retry.NewRetryableClient(nil, cfg)
		wrong(err)
		_, err = retry.NewTransport(nil, cfg)
		wrong(err)
		client, err := retry.NewRetryableClient(nil, retry.Config{}, retry.PerHost(func(_ string, c *retry.Config) error {
			c.Limiter, c.Clock, c.Logger = cfg.Limiter, cfg.Clock, cfg.Logger
			if cfg.Gate != nil {
				c.Gate = cfg.Gate
			}
			return nil
		}))
		require.NoError(t, err)
		_, err = client.Get(t.Context(), "http://host.example/")
		wrong(err)
	}
	breaker := retry.BreakerConfig{Clock: (*clockwork.FakeClock)(nil)}
	assert.ErrorContains(t, breaker.Validate(), "BreakerConfig.Clock is a nil *clockwork.FakeClock")
	_, err := retry.NewCircuitBreaker(breaker)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
}

func TestContextsThatHoldNil(t *testing.T) {
	ctx := context.Context((*ownContext)(nil))
	b, _ := newBreaker(t, nil)
	client, err := retry.NewRetryableClient(nil, retry.Config{})
	require.NoError(t, err)
	call := func(context.Context) error { t.Error("called"); return nil }
	for name, err := range map[string]error{
		"plain":   retry.Run(ctx, retry.Config{}, call),
		"timed":   retry.Run(ctx, retry.Config{MaxElapsed: time.Hour, AttemptTimeout: time.Second}, call),
		"breaker": b.Do(ctx, call),
		"gate":    retry.NewGate(nil).Wait(ctx),
		"client":  func() error { _, err := client.Get(ctx, "http://host.example/"); return err }(),
		"request": func() error {
			req, err := http.NewRequestWithContext(ctx, "GET", "http://host.example/", nil)
			require.NoError(t, err)
			_, err = client.Do(req)
			return err
		}(),
	} {
		assert.ErrorIs(t, err, retry.ErrInvalidConfig, name)
		assert.ErrorContains(t, err, "a nil *retry_test.ownContext", name)
	}
	none := func(ctx context.Context, _ retry.Event) context.Context { return (*ownContext)(nil) }
	assert.NoError(t, retry.Run(t.Context(), retry.Config{OnStart: none, OnAttempt: none}, func(ctx context.Context) error { return ctx.Err() }),
		"a hook that returns none keeps the call's")
}

// file is a body like *os.File: its methods need one that is there.
type file struct{ content []byte }

func (f *file) Read(p []byte) (int, error) { return copy(p, f.content), io.EOF }
func (f *file) Close() error               { f.content = nil; return nil }

func TestHTTPWithInterfacesThatHoldNil(t *testing.T) {
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: (*file)(nil), Request: req}, nil
	})
	for want, make := range map[string]func() error{
		"base transport is a nil *http.Transport": func() error {
			_, err := retry.NewTransport((*http.Transport)(nil), retry.Config{})
			return err
		},
		"base transport is a nil *retry.Transport": func() error {
			_, err := retry.NewTransport((*retry.Transport)(nil), retry.Config{})
			return err
		},
		"base transport is a nil retry_test.roundTrip": func() error {
			_, err := retry.NewRetryableClient(&http.Client{Transport: roundTrip(nil)}, retry.Config{})
			return err
		},
		"Client.Jar is a nil *cookiejar.Jar": func() error {
			_, err := retry.NewRetryableClient(&http.Client{Jar: (*cookiejar.Jar)(nil)}, retry.Config{})
			return err
		},
		"WrapTransport is <nil> (*http.Transport)": func() error {
			_, err := retry.NewTransport(base, retry.Config{}, retry.WrapTransport(func(http.RoundTripper) http.RoundTripper { return (*http.Transport)(nil) }))
			return err
		},
	} {
		err := make()
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, want)
	}

	client, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{})
	require.NoError(t, err)
	for _, body := range []io.Reader{(*bytes.Buffer)(nil), (*bytes.Reader)(nil), (*strings.Reader)(nil), (*os.File)(nil), (*file)(nil)} {
		_, err := client.Post(t.Context(), "http://host.example/", "text/plain", body)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, "body is a nil *")
	}
	transport, err := retry.NewTransport(base, retry.Config{})
	require.NoError(t, err)
	for _, send := range []func(*http.Request) (*http.Response, error){client.Do, transport.RoundTrip} {
		for _, body := range []io.ReadCloser{(*file)(nil), io.NopCloser((*bytes.Buffer)(nil))} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://host.example/", nil)
			require.NoError(t, err)
			req.Body = body
			_, err = send(req)
			assert.ErrorIs(t, err, retry.ErrInvalidConfig)
			assert.ErrorContains(t, err, "body is a nil *")
		}
	}
	unavailable, err := retry.NewRetryableClient(&http.Client{Transport: answering(503)}, retry.Config{Backoff: retry.ConstantBackoff(0)})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://host.example/", &file{[]byte("x")})
	require.NoError(t, err)
	req.GetBody = func() (io.ReadCloser, error) { return (*file)(nil), nil }
	_, err = unavailable.Do(req)
	assert.ErrorContains(t, err, "GetBody returned neither", "for the second attempt")
	// A transport's response without a body is one with an empty body.
	resp, err := client.Get(t.Context(), "http://host.example/")
	require.NoError(t, err)
	content, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.Empty(t, content)
	assert.NoError(t, resp.Body.Close())
	assert.Error(t, retry.CheckStatus(&http.Response{StatusCode: 500, Body: (*file)(nil)}))
}

// looseClock, looseError and looseContext cannot be compared: == panics, though the type of
// two of them looks as if it could.
type looseClock struct {
	clockwork.Clock
	notes any
}

type looseError struct{ details any }

func (e looseError) Error() string { return "loose" }

type looseLimiter []int

func (l looseLimiter) Wait(context.Context) error { return nil }

type looseContext struct {
	context.Context
	cause any
}

func (c looseContext) Err() error {
	if c.Context.Err() == nil {
		return nil
	}
	return looseError{[]int{1}}
}

// The library compared what its users hand in with ==, which panics for values that cannot be
// compared. That a type can be compared does not help: a field of type any may hold a slice.
func TestValuesThatCannotBeCompared(t *testing.T) {
	fake := clockwork.NewFakeClock()
	for _, clock := range []clockwork.Clock{looseClock{fake, []int{1}}, struct {
		clockwork.Clock
		marks []int
	}{fake, nil}} {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{Clock: clock})
		require.NoError(t, err)
		cfg := retry.Config{Clock: clock, Breaker: b, Gate: retry.NewGate(clock), Limiter: looseLimiter{}}
		assert.NoError(t, cfg.Validate())
		assert.NoError(t, retry.Run(t.Context(), cfg, none))
		client, err := retry.NewRetryableClient(&http.Client{Transport: answering(200)}, retry.Config{Clock: clock},
			retry.PerHost(func(_ string, c *retry.Config) error { c.Limiter = looseLimiter{}; return nil }))
		require.NoError(t, err)
		resp, err := client.Get(t.Context(), "http://host.example/")
		require.NoError(t, err)
		resp.Body.Close()
	}

	loose := looseError{[]int{1}}
	for _, err := range []error{loose, retry.Permanent(loose), retry.RetryAfter(loose, 1), errors.Join(loose, errDown), retry.Neutral(loose)} {
		calls := 0
		got := retry.Run(t.Context(), retry.Config{MaxRetries: 1, Backoff: retry.ConstantBackoff(0), Gate: retry.NewGate(nil)},
			func(context.Context) error { calls++; return err })
		assert.Error(t, got)
		retry.Outcome(got)
		retry.IsFailure(got)
	}
	for _, cause := range []error{loose, errDown} {
		inner, cancel := context.WithCancelCause(context.Background())
		ctx := looseContext{inner, []int{1}}
		client, err := retry.NewRetryableClient(&http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			cancel(cause)
			return nil, loose
		})}, retry.Config{})
		require.NoError(t, err)
		_, err = client.Get(ctx, "http://host.example/")
		assert.Error(t, err)
		assert.Error(t, retry.Run(ctx, retry.Config{}, none))
		b, _ := newBreaker(t, nil)
		assert.Error(t, b.Do(ctx, none))
		assert.Error(t, retry.NewGate(nil).Wait(ctx))
	}
}

// answering is a transport that gives each request this status.
func answering(status int) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}
}

// A ceiling below a second is the first wait, too, where none is set.
func TestInitialDelayUnderALowCeiling(t *testing.T) {
	assert.Equal(t, time.Second, retry.Config{Jitter: retry.NoJitter}.Delay(1))
	assert.Equal(t, 100*time.Millisecond, retry.Config{Jitter: retry.NoJitter, MaxDelay: 100 * time.Millisecond}.Delay(1))
}

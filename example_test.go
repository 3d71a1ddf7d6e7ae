package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
)

// flaky returns a server that answers with the given statuses, one after the
// other, and then with a gene.
func flaky(statuses ...int) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(statuses) > 0 {
			status := statuses[0]
			statuses = statuses[1:]
			w.WriteHeader(status)
			return
		}
		io.WriteString(w, `{"symbol": "BRCA1", "location": "17q21.31"}`)
	}))
}

// quick keeps the examples short; the zero Config waits for seconds.
var quick = retry.Config{InitialDelay: time.Millisecond}

type Gene struct{ Symbol, Location string }

func ExampleDo() {
	attempts := 0
	fetch := func(ctx context.Context) (Gene, error) {
		if attempts++; attempts < 3 {
			return Gene{}, errors.New("connection reset")
		}
		return Gene{"BRCA1", "17q21.31"}, nil
	}

	gene, err := retry.Do(context.Background(), quick, fetch)
	fmt.Println(gene.Symbol, err, "after", attempts, "attempts")
	// Output: BRCA1 <nil> after 3 attempts
}

// An error that was given up on comes in an *Error, which says why.
func ExampleDo_givingUp() {
	errDown := errors.New("down")
	cfg := quick
	cfg.MaxRetries = 2

	_, err := retry.Do(context.Background(), cfg, func(context.Context) (Gene, error) {
		return Gene{}, errDown
	})

	var given *retry.Error
	if errors.As(err, &given) {
		fmt.Println(given.Attempts, "attempts:", given.Reason)
	}
	fmt.Println(errors.Is(err, retry.ErrMaxRetries), errors.Is(err, errDown))
	// Output:
	// 3 attempts: no retries left
	// true true
}

// A plain *http.Client becomes retryable with CheckStatus.
func ExampleDo_http() {
	server := flaky(503, 429)
	defer server.Close()

	body, err := retry.Do(context.Background(), quick, func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if err := retry.CheckStatus(resp); err != nil {
			return nil, err
		}
		return io.ReadAll(resp.Body)
	})
	fmt.Println(string(body), err)
	// Output: {"symbol": "BRCA1", "location": "17q21.31"} <nil>
}

func ExampleWrap() {
	attempts := 0
	fetch := retry.Wrap(quick, func(ctx context.Context, symbol string) (Gene, error) {
		if attempts++; attempts == 1 {
			return Gene{}, errors.New("connection reset")
		}
		return Gene{Symbol: symbol}, nil
	})

	gene, err := fetch(context.Background(), "PKD1")
	fmt.Println(gene.Symbol, err)
	// Output: PKD1 <nil>
}

func ExamplePermanent() {
	attempts := 0
	err := retry.Run(context.Background(), quick, func(context.Context) error {
		attempts++
		return retry.Permanent(errors.New("no such gene"))
	})
	fmt.Println(err, "after", attempts, "attempt")
	// Output: no such gene after 1 attempt
}

// A server that reports a rate limit in its own way: the error says how long to
// wait, and the Gate holds back everybody else who shares it.
func ExampleRetryAfter() {
	clock := clockwork.NewFakeClock()
	gate := retry.NewGate(clock)
	ctx, cancel := context.WithCancel(context.Background())
	cfg := retry.Config{Clock: clock, Gate: gate, Jitter: retry.NoJitter}
	cfg.OnRetry = func(_ context.Context, e retry.Event) {
		_, paused := gate.PausedUntil()
		fmt.Println("waiting", e.Delay, "- gate paused:", paused)
		cancel() // enough for an example
	}

	retry.Run(ctx, cfg, func(context.Context) error {
		return retry.RetryAfter(errors.New("query rate limit exceeded"), 30*time.Second)
	})
	// Output: waiting 30s - gate paused: true
}

// The default schedule, without its jitter.
func ExampleConfig_Delay() {
	cfg := retry.Config{Jitter: retry.NoJitter}
	for n := 1; n <= 8; n++ {
		fmt.Print(cfg.Delay(n), " ")
	}
	// Output: 1s 2s 4s 8s 16s 32s 1m0s 1m0s
}

func ExampleConfig_Validate() {
	err := retry.Config{InitialDelay: -time.Second, Multiplier: 0.5}.Validate()
	fmt.Println(err)
	fmt.Println(errors.Is(err, retry.ErrInvalidConfig))
	// Output:
	// retry: invalid: Config.InitialDelay is -1s, want 0 or more
	// retry: invalid: Config.Multiplier is 0.5, want a finite number of at least 1, or 0 for the default
	// true
}

func ExampleConfigFromEnv() {
	os.Setenv("HGNC_MAX_RETRIES", "10")
	os.Setenv("HGNC_INITIAL_DELAY", "1.5")
	os.Setenv("HGNC_JITTER", "full")

	cfg, err := retry.ConfigFromEnv("HGNC")
	fmt.Println(cfg.MaxRetries, cfg.InitialDelay, cfg.Jitter, err)
	// Output: 10 1.5s 0,1 <nil>
}

// A test of code that retries for a minute, and takes no time: the clock is
// moved on whenever the code has come to wait.
func ExampleConfig_clock() {
	clock := clockwork.NewFakeClock()
	cfg := retry.Config{Clock: clock, Jitter: retry.NoJitter}
	start := clock.Now()

	done := make(chan error)
	go func() {
		done <- retry.Run(context.Background(), cfg, func(context.Context) error {
			return errors.New("down")
		})
	}()
	for range 5 {
		clock.BlockUntilContext(context.Background(), 1)
		clock.Advance(16 * time.Second)
	}
	err := <-done
	fmt.Println(errors.Is(err, retry.ErrMaxRetries), "after", clock.Since(start))
	// Output: true after 1m20s
}

// The log says what was retried, when, and why.
func ExampleConfig_logger() {
	cfg := retry.Config{
		MaxRetries: 1,
		Backoff:    retry.ConstantBackoff(time.Millisecond),
		Jitter:     retry.NoJitter,
		Logger: slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == "elapsed" {
					return slog.Attr{}
				}
				return a
			},
		})),
	}
	retry.Run(context.Background(), cfg, func(context.Context) error { return errors.New("down") })
	// Output:
	// level=WARN msg=retrying attempt=1 delay=1ms why=backoff error=down
	// level=ERROR msg="giving up" attempt=2 reason="no retries left" error=down
}

func ExampleCircuitBreaker() {
	clock := clockwork.NewFakeClock()
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{
		Name:             "payments",
		FailureThreshold: 3,
		RecoveryTimeout:  30 * time.Second,
		Clock:            clock,
		OnStateChange:    func(c retry.StateChange) { fmt.Println(c.From, "->", c.To) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	down := func(context.Context) error { return errors.New("down") }
	up := func(context.Context) error { return nil }

	for range 3 {
		breaker.Do(ctx, down)
	}
	fmt.Println(breaker.Do(ctx, up))
	clock.Advance(30 * time.Second)
	fmt.Println(breaker.Do(ctx, up))
	// Output:
	// closed -> open
	// circuit breaker payments open for another 30s (last failure: down)
	// open -> half-open
	// half-open -> closed
	// <nil>
}

// Where a function does not fit, a permit does.
func ExampleCircuitBreaker_Allow() {
	var breaker retry.CircuitBreaker // with the default settings

	permit, err := breaker.Allow()
	if err != nil {
		fmt.Println(err)
		return
	}
	// … the call …
	permit.Done(nil)
	fmt.Println(breaker.Snapshot().Successes)
	// Output: 1
}

// A rejection says when the breaker will let calls through again, which is what
// a service's own Retry-After should say.
func ExampleOpenError() {
	breaker, _ := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "search", Clock: clockwork.NewFakeClock()})
	breaker.Trip(10 * time.Second)

	err := breaker.Do(context.Background(), func(context.Context) error { return nil })
	var open *retry.OpenError
	if errors.As(err, &open) {
		fmt.Println("Retry-After:", open.RetryAfter.Seconds())
	}
	// Output: Retry-After: 10
}

// A tenth of a retry for each call, and no more than two saved up: however many
// calls fail, the load stays near 1.1 times their number.
func ExampleBudget() {
	budget, err := retry.NewBudget(0.1, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := quick
	cfg.Budget = budget

	attempts := 0
	for range 100 {
		retry.Run(context.Background(), cfg, func(context.Context) error {
			attempts++
			return errors.New("down")
		})
	}
	fmt.Println(attempts, "attempts for 100 calls")
	// Output: 111 attempts for 100 calls
}

func ExampleRetryableClient() {
	server := flaky(503, 502)
	defer server.Close()

	client, err := retry.NewRetryableClient(http.DefaultClient, quick)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Get(context.Background(), server.URL+"/fetch/symbol/BRCA1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// An error status is an error, with all that is known of it.
func ExampleStatusError() {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()

	client, _ := retry.NewRetryableClient(nil, quick)
	_, err := client.Get(context.Background(), server.URL+"/gene?api_key=secret")

	var status *retry.StatusError
	if errors.As(err, &status) {
		fmt.Printf("%d %q\n", status.StatusCode, status.Body)
	}
	// Output: 404 "404 page not found\n"
}

func ExampleGetJSON() {
	server := flaky(429)
	defer server.Close()

	client, _ := retry.NewRetryableClient(nil, quick)
	gene, err := retry.GetJSON[Gene](context.Background(), client, server.URL)
	fmt.Println(gene.Symbol, gene.Location, err)
	// Output: BRCA1 17q21.31 <nil>
}

// Each host gets its own breaker, and one of them fewer retries.
func ExamplePerHost() {
	client, err := retry.NewRetryableClient(nil, retry.Config{},
		retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 10}),
		retry.PerHost(func(host string, cfg *retry.Config) error {
			if host == "https://slow.example:443" {
				cfg.MaxRetries = 1
			}
			cfg.Gate.OnPause(func(until time.Time) { fmt.Println(host, "pauses until", until) })
			return nil
		}))
	fmt.Println(client != nil, err)
	// Output: true <nil>
}

// For code that brings its own *http.Client.
func ExampleNewTransport() {
	server := flaky(503)
	defer server.Close()

	transport, err := retry.NewTransport(nil, quick)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	// Output: 200
}

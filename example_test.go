package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// quick keeps the examples short; the zero Config waits for seconds.
var quick = retry.Config{InitialDelay: time.Millisecond}

type Gene struct{ Symbol, Location string }

// One client for an API, and a server that throttles the first request.
func Example() {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		w.Header().Set("Retry-After", "0.2")
		w.WriteHeader([]int{429, 200}[requests-1])
		fmt.Fprint(w, `{"symbol": "BRCA1", "location": "17q21.31"}`)
	}))
	defer server.Close()
	budget, err := retry.NewBudget(0.1, 10) // a retry for ten calls, and ten at the start
	if err != nil {
		log.Fatal(err)
	}
	client, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second}, // for each attempt
		retry.Config{Name: "hgnc", MaxRetries: 2, InitialDelay: 100 * time.Millisecond, Budget: budget},
		retry.HostBreaker(retry.BreakerConfig{RecoveryTimeout: 5 * time.Second, RecoveryJitter: 0.2}))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	gene, err := retry.GetJSON[Gene](ctx, client, server.URL+"/gene/BRCA1")
	if err != nil {
		log.Fatal(err) // says how often it was tried, for how long, and why no longer
	}
	fmt.Println(gene.Symbol, gene.Location, "after", requests, "requests")
	// Output: BRCA1 17q21.31 after 2 requests
}

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
// wait, and the Gate holds back all other calls that share it.
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
				if a.Key == slog.TimeKey || a.Key == "elapsed" || a.Key == "waited" {
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

func ExampleRun() {
	attempts := 0
	err := retry.Run(context.Background(), quick, func(context.Context) error {
		if attempts++; attempts < 3 {
			return errors.New("down")
		}
		return nil
	})
	fmt.Println(err, "after", attempts, "attempts")
	// Output: <nil> after 3 attempts
}

// "Not yet" is worth another attempt, and no failure of the dependency.
func ExampleNeutral() {
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := retry.Config{Breaker: breaker, Backoff: retry.ConstantBackoff(time.Millisecond)}
	polls := 0
	err = retry.Run(context.Background(), cfg, func(context.Context) error {
		if polls++; polls < 3 {
			return retry.Neutral(errors.New("not done yet"))
		}
		return nil
	})
	fmt.Println(err, polls, "polls, breaker", breaker.State())
	// Output: <nil> 3 polls, breaker closed
}

// What is retried by default.
func ExampleRetryable_default() {
	for _, err := range []error{
		io.ErrUnexpectedEOF,
		&retry.StatusError{StatusCode: 503},
		&retry.StatusError{StatusCode: 404},
		retry.Permanent(io.ErrUnexpectedEOF),
	} {
		fmt.Println(retry.Retryable(err))
	}
	// Output:
	// true
	// true
	// false
	// false
}

// The attempt's number, for a trace or a log line.
func ExampleRetryCount() {
	retry.Run(context.Background(), quick, func(ctx context.Context) error {
		fmt.Println("retry", retry.RetryCount(ctx))
		if retry.RetryCount(ctx) < 2 {
			return errors.New("down")
		}
		return nil
	})
	// Output:
	// retry 0
	// retry 1
	// retry 2
}

// Calls counted by how they ended.
func ExampleOutcome() {
	calls := map[string]int{}
	cfg := retry.Config{MaxRetries: 1, InitialDelay: time.Millisecond}
	cfg.OnDone = func(_ context.Context, e retry.Event) { calls[retry.Outcome(e.Err)]++ }

	for _, err := range []error{nil, errors.New("down"), retry.Permanent(errors.New("no such gene"))} {
		retry.Run(context.Background(), cfg, func(context.Context) error { return err })
	}
	fmt.Println(calls)
	// Output: map[max_retries:1 ok:1 permanent:1]
}

// Seconds of waiting by reason, as a metric.
func ExampleEvent() {
	waited := map[retry.Why]time.Duration{}
	cfg := retry.Config{MaxRetries: 2, Jitter: retry.NoJitter}
	cfg.OnWait = func(_ context.Context, e retry.Event) { waited[e.Why] += e.Delay }

	synctest.Test(new(testing.T), func(*testing.T) { // the test's own t
		attempts := 0
		retry.Run(context.Background(), cfg, func(context.Context) error {
			if attempts++; attempts == 1 {
				return retry.RetryAfter(errors.New("throttled"), 5*time.Second)
			}
			return errors.New("down")
		})
	})
	fmt.Println(waited)
	// Output: map[backoff:2s retry-after:5s]
}

// A service of one's own, as one writes them.
type weather struct {
	fetch func(context.Context, string) (string, error)
}

func (w weather) today(ctx context.Context, city string) (string, error) {
	return retry.Do(ctx, retry.Config{}, func(ctx context.Context) (string, error) { return w.fetch(ctx, city) })
}

// Its test runs in a bubble of testing/synctest: half a minute of waiting takes no
// time, and the service need not know of a clock.
func ExampleConfig_synctest() {
	synctest.Test(new(testing.T), func(*testing.T) { // the test's own t
		start := time.Now()
		attempts := 0
		w := weather{func(context.Context, string) (string, error) {
			if attempts++; attempts < 5 {
				return "", errors.New("down")
			}
			return "sunny", nil
		}}
		today, err := w.today(context.Background(), "Bern")
		took := time.Since(start)
		fmt.Println(today, err, "after 12 to 18 seconds:", took >= 12*time.Second && took <= 18*time.Second)
	})
	// Output: sunny <nil> after 12 to 18 seconds: true
}

// The environment over the code's own settings.
func ExampleConfig_WithEnv() {
	os.Setenv("UNIPROT_MAX_RETRIES", "2")
	cfg := retry.Config{MaxRetries: 8, MaxElapsed: time.Minute}

	cfg, err := cfg.WithEnv("UNIPROT")
	fmt.Println(cfg.MaxRetries, cfg.MaxElapsed, err)

	os.Setenv("UNIPROT_MAX_RETRIES", "many")
	_, err = cfg.WithEnv("UNIPROT")
	fmt.Println(errors.Is(err, retry.ErrInvalidConfig))
	// Output:
	// 2 1m0s <nil>
	// true
}

// Five minutes for all of it; without this and a deadline, Unlimited is for ever.
func ExampleConfig_unlimited() {
	clock := retrytest.NewClock(exampleT{})
	start := clock.Now()
	cfg := retry.Config{MaxRetries: retry.Unlimited, MaxElapsed: 5 * time.Minute, Clock: clock, Jitter: retry.NoJitter}
	err := retry.Run(context.Background(), cfg, func(context.Context) error { return errors.New("down") })
	fmt.Println(errors.Is(err, retry.ErrMaxElapsed), "after", clock.Since(start))
	// Output: true after 4m3s
}

// exampleT stands for the test's *testing.T.
type exampleT struct{ testing.TB }

func (exampleT) Helper()                           {}
func (exampleT) Cleanup(func())                    {}
func (exampleT) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// Why a call was given up, and on what.
func ExampleError() {
	err := retry.Run(context.Background(), retry.Config{Name: "search", MaxRetries: retry.NoRetries}, func(context.Context) error {
		return io.ErrUnexpectedEOF
	})
	var given *retry.Error
	if errors.As(err, &given) {
		fmt.Println(given.Attempts, given.Reason, "-", given.Err)
	}
	// Output: 1 no retries left - unexpected EOF
}

// Some APIs say only in the body that a retry cannot help. CheckResponse sees the
// response before the status is judged.
func ExampleCheckResponse() {
	attempts := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attempts++
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"error": {"code": "insufficient_quota"}}`)
	}))
	defer server.Close()

	quota := retry.CheckResponse(func(resp *http.Response) error {
		var answer struct{ Error struct{ Code string } }
		failure := retry.CheckStatus(resp) // nil below 400
		var status *retry.StatusError
		if errors.As(failure, &status) && json.Unmarshal(status.Body, &answer) == nil && answer.Error.Code == "insufficient_quota" {
			return retry.Permanent(failure)
		}
		return nil // judged by its status
	})
	client, err := retry.NewRetryableClient(nil, retry.Config{}, quota)
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Get(context.Background(), server.URL)
	var status *retry.StatusError
	fmt.Println(errors.As(err, &status), status.StatusCode, attempts)
	// Output: true 429 1
}

// retrieveError has the shape of golang.org/x/oauth2's *RetrieveError, which comes
// out of a client whose transport fetches a token.
type retrieveError struct {
	Response  *http.Response
	ErrorCode string
}

func (e *retrieveError) Error() string { return "oauth2: " + e.ErrorCode }

// A token that was revoked does not come back by asking again; a token server that
// is overloaded may.
func ExampleRetryable() {
	cfg := retry.Config{
		InitialDelay: time.Millisecond,
		RetryIf: func(err error) bool {
			var token *retrieveError // *oauth2.RetrieveError
			if errors.As(err, &token) {
				return token.Response.StatusCode >= 500
			}
			return retry.Retryable(err)
		},
	}
	attempts := 0
	err := retry.Run(context.Background(), cfg, func(context.Context) error {
		attempts++
		return &retrieveError{&http.Response{StatusCode: 400}, "invalid_grant"}
	})
	fmt.Println(err, attempts)
	// Output: oauth2: invalid_grant 1
}

// A request with headers of one's own, and JSON both ways.
func ExampleNewJSONRequest() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"symbol":"BRCA1","as":%q}`, r.Header.Get("X-User"))
	}))
	defer server.Close()

	client, err := retry.NewRetryableClient(nil, retry.Config{})
	if err != nil {
		log.Fatal(err)
	}
	req, err := retry.NewJSONRequest(context.Background(), http.MethodPut, server.URL, map[string]string{"symbol": "BRCA1"})
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("X-User", "curator")
	gene, err := retry.Fetch(client, req, retry.DecodeJSON[map[string]string])
	fmt.Println(gene["symbol"], gene["as"], err)
	// Output: BRCA1 curator <nil>
}

// What the client made for each host, to be shown on a page or to an operator.
func ExampleOnHost() {
	breakers := make(map[string]*retry.CircuitBreaker) // guard it, where requests go out side by side
	script := retrytest.NewScriptFunc(exampleT{}, func(retrytest.Request) retrytest.Answer { return retrytest.Status(503, "") })
	client, err := retry.NewRetryableClient(script.Client(), quick,
		retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 2}),
		retry.OnHost(func(host string, cfg retry.Config) { breakers[host] = cfg.Breaker }))
	if err != nil {
		fmt.Println(err)
		return
	}
	client.Get(context.Background(), "https://genes.example/BRCA1")
	for host, breaker := range breakers {
		fmt.Println(host, breaker.State())
	}
	// Output: https://genes.example open
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A signature that is valid for a moment is made for each attempt.
func ExampleWrapTransport() {
	script := retrytest.NewScript(exampleT{}, retrytest.Status(503, ""), retrytest.Status(204, ""))
	signed := 0
	sign := func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			signed++
			req = req.Clone(req.Context()) // it is the caller's
			req.Header.Set("X-Signature", fmt.Sprint("signature ", signed))
			return base.RoundTrip(req)
		})
	}
	client, err := retry.NewRetryableClient(script.Client(), quick, retry.WrapTransport(sign))
	if err != nil {
		fmt.Println(err)
		return
	}
	client.Get(context.Background(), "https://genes.example/BRCA1")
	for _, r := range script.Requests() {
		fmt.Println(r.Header.Get("X-Signature"))
	}
	// Output:
	// signature 1
	// signature 2
}

func ExampleBackoff() {
	for _, curve := range []retry.Backoff{
		retry.ExponentialBackoff(time.Second, 3),
		retry.ConstantBackoff(time.Second),
		retry.LinearBackoff(time.Second),
		retry.FibonacciBackoff(time.Second),
		func(n int, previous time.Duration, random func() float64) time.Duration {
			return time.Duration(n*n) * time.Second
		},
	} {
		cfg := retry.Config{Backoff: curve, Jitter: retry.NoJitter}
		fmt.Println(cfg.Delay(1), cfg.Delay(2), cfg.Delay(3), cfg.Delay(4), cfg.Delay(5))
	}
	// Output:
	// 1s 3s 9s 27s 1m0s
	// 1s 1s 1s 1s 1s
	// 1s 2s 3s 4s 5s
	// 1s 1s 2s 3s 5s
	// 1s 4s 9s 16s 25s
}

// A draw between the base and three times the wait before.
func ExampleDecorrelatedBackoff() {
	cfg := retry.Config{Backoff: retry.DecorrelatedBackoff(time.Second), Jitter: retry.NoJitter, MaxDelay: 10 * time.Second}
	d := cfg.Delay(3)
	fmt.Println(d >= time.Second, d <= 10*time.Second)
	// Output: true true
}

func ExampleJitter() {
	half := func() float64 { return 0.5 } // the draw
	for _, jitter := range []retry.Jitter{{}, retry.FullJitter, retry.EqualJitter, retry.NoJitter} {
		fmt.Println(retry.Config{Jitter: jitter, InitialDelay: 10 * time.Second, Rand: half}.Delay(1))
	}
	// Output:
	// 10s
	// 5s
	// 7.5s
	// 10s
}

// Anything that waits for a turn: a *rate.Limiter, or this.
type turns chan struct{}

func (t turns) Wait(ctx context.Context) error {
	select {
	case <-t:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func ExampleLimiter() {
	limiter := make(turns, 2)
	limiter <- struct{}{}
	limiter <- struct{}{}
	cfg := quick
	cfg.Limiter = limiter
	attempts := 0
	err := retry.Run(context.Background(), cfg, func(context.Context) error {
		if attempts++; attempts == 1 {
			return errors.New("down")
		}
		return nil
	})
	fmt.Println(err, "turns left:", len(limiter))
	// Output: <nil> turns left: 0
}

// All calls that share a gate wait together, whichever was asked to.
func ExampleGate() {
	clock := retrytest.NewClock(exampleT{})
	gate := retry.NewGate(clock)
	gate.OnPause(func(until time.Time) { fmt.Println("paused for", until.Sub(clock.Now())) })

	gate.Pause(10 * time.Second)
	_, paused := gate.PausedUntil()
	fmt.Println(paused)
	start := clock.Now()
	fmt.Println(gate.Wait(context.Background()), "after", clock.Since(start))
	// Output:
	// paused for 10s
	// true
	// <nil> after 10s
}

// A call that cannot wait for the end of a pause fails at once, and says what the
// pause is for.
func ExamplePauseError() {
	clock := clockwork.NewFakeClock()
	gate := retry.NewGate(clock)
	gate.Pause(10 * time.Minute) // more than MaxRetryAfter

	cfg := retry.Config{Name: "gnomad", Gate: gate, Clock: clock}
	err := retry.Run(context.Background(), cfg, func(context.Context) error { return nil })
	var pause *retry.PauseError
	if errors.As(err, &pause) {
		fmt.Println(pause.Name, "pauses for another", pause.RetryAfter)
	}
	fmt.Println(errors.Is(err, retry.ErrRetryAfterTooLong), retry.Outcome(err))
	// Output:
	// gnomad pauses for another 10m0s
	// true paused
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

package retrytest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// In a test, t is the *testing.T that it is given. An example is given none.
type example struct{ testing.TB }

func (example) Helper()                   {}
func (example) Cleanup(func())            {}
func (example) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }

func (example) Error(args ...any) { fmt.Println(args...) }

var t = example{}

// Genes is a service as one writes them: the client comes from outside.
type Genes struct{ Client *retry.RetryableClient }

type Gene struct{ Symbol string }

func (g Genes) Find(ctx context.Context, symbol string) (Gene, error) {
	return retry.GetJSON[Gene](ctx, g.Client, "https://genes.example/"+symbol)
}

// A service is tested with a server in trouble, and with all its waits, in no
// time.
func Example() {
	script := retrytest.NewScript(t,
		retrytest.TooManyRequests(5*time.Second),
		retrytest.Reset(),
		retrytest.Cut(`{"Symbol": "BRCA1"}`, 7),
		retrytest.JSON(Gene{"BRCA1"}),
	)
	waits, err := retrytest.Run(t, retry.Config{Jitter: retry.NoJitter}, func(cfg retry.Config) error {
		client, err := retry.NewRetryableClient(script.Client(), cfg)
		if err != nil {
			return err
		}
		gene, err := Genes{client}.Find(context.Background(), "BRCA1")
		fmt.Println("found", gene.Symbol)
		return err
	})
	fmt.Println(waits, err)
	for _, r := range script.Requests() {
		fmt.Println(r.Attempt, r.Method, r.URL)
	}
	// Output:
	// found BRCA1
	// 5s retry-after, 2s backoff, 4s backoff <nil>
	// 1 GET https://genes.example/BRCA1
	// 2 GET https://genes.example/BRCA1
	// 3 GET https://genes.example/BRCA1
	// 4 GET https://genes.example/BRCA1
}

func ExampleRun() {
	waits, err := retrytest.Run(t, retry.Config{Jitter: retry.NoJitter}, func(cfg retry.Config) error {
		return retry.Run(context.Background(), cfg, func(context.Context) error { return errors.New("down") })
	})
	fmt.Println(waits, "=", waits.Total())
	fmt.Println(retry.Outcome(err))
	// Output:
	// 1s backoff, 2s backoff, 4s backoff, 8s backoff, 16s backoff = 31s
	// max_retries
}

// In a bubble several calls may wait side by side.
func ExampleRecord() {
	synctest.Test(new(testing.T), func(*testing.T) { // the test's own t
		cfg, waits := retrytest.Record(retry.Config{MaxRetries: 1, Jitter: retry.NoJitter})
		start := time.Now()
		done := make(chan error)
		for range 3 {
			go func() {
				done <- retry.Run(context.Background(), cfg, func(context.Context) error { return errors.New("down") })
			}()
		}
		for range 3 {
			<-done
		}
		fmt.Println(waits(), "in", time.Since(start))
	})
	// Output: 1s backoff, 1s backoff, 1s backoff in 1s
}

// What users see while a breaker is open: nothing has to fail for that, and no request
// may be made.
func Example_openBreaker() {
	script := retrytest.NewScript(t)
	client, err := retry.NewRetryableClient(script.Client(), retry.Config{}, retry.HostBreaker(retry.BreakerConfig{}))
	if err != nil {
		fmt.Println(err)
		return
	}
	client.Check("https://genes.example")
	for _, cfg := range client.Hosts() {
		cfg.Breaker.Trip(time.Minute)
	}
	page := httptest.NewRecorder()
	genePage(client).ServeHTTP(page, httptest.NewRequest("GET", "/BRCA1", nil))
	fmt.Print(page.Code, " after ", page.Header().Get("Retry-After"), "s: ", page.Body)
	// Output: 503 after 60s: genes are back soon
}

func genePage(client *retry.RetryableClient) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gene, err := retry.GetJSON[Gene](r.Context(), client, "https://genes.example"+r.URL.Path)
		var open *retry.OpenError
		switch {
		case errors.As(err, &open):
			w.Header().Set("Retry-After", fmt.Sprintf("%.0f", math.Ceil(open.RetryAfter.Seconds())))
			http.Error(w, "genes are back soon", http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, "genes cannot be had", http.StatusBadGateway)
		default:
			fmt.Fprintln(w, gene.Symbol)
		}
	})
}

// A request that must not be sent: the breaker is open.
func ExampleNever() {
	clock := retrytest.NewClock(t)
	breaker, _ := retry.NewCircuitBreaker(retry.BreakerConfig{Clock: clock})
	breaker.Trip(time.Minute)
	fmt.Println(breaker.Do(context.Background(), retrytest.Never(t)))
	// Output: circuit breaker open for another 1m0s
}

// An attempt that hangs runs into its timeout, and the clock with it.
func ExampleClock() {
	clock := retrytest.NewClock(t)
	script := retrytest.NewScript(t, retrytest.Hang(), retrytest.Status(200, ""))
	script.Clock = clock
	start := clock.Now()

	cfg := retry.Config{Clock: clock, AttemptTimeout: 10 * time.Second, Jitter: retry.NoJitter}
	client, _ := retry.NewRetryableClient(script.Client(), cfg)
	resp, err := client.Get(context.Background(), "https://genes.example/BRCA1")
	fmt.Println(resp.Status, err, "after", clock.Since(start))
	// Output: 200 OK <nil> after 11s
}

// A function decides on each answer, here by the attempt.
func ExampleNewScriptFunc() {
	script := retrytest.NewScriptFunc(t, func(r retrytest.Request) retrytest.Answer {
		if r.Attempt == 1 {
			return retrytest.Status(503, "")
		}
		return retrytest.Status(200, r.Method+" "+string(r.Body))
	})
	retrytest.Run(t, retry.Config{}, func(cfg retry.Config) error {
		client, _ := retry.NewRetryableClient(script.Client(), cfg)
		body, err := retry.PostJSON[string](context.Background(), client, "https://genes.example/", "PKD1")
		fmt.Println(body, err != nil)
		return err
	})
	fmt.Println(len(script.Requests()), "requests")
	// Output:
	//  true
	// 2 requests
}

// A service that asks several others has one script for all of them: one of them fails,
// and the others answer.
func ExampleScript_On() {
	script := retrytest.NewScriptFunc(t, func(retrytest.Request) retrytest.Answer { return retrytest.JSON("as usual") })
	script.On("payments.example/", retrytest.Status(503, ""), retrytest.JSON("paid"))
	script.On("DELETE /", retrytest.Status(403, ""))

	waits, err := retrytest.Run(t, retry.Config{Jitter: retry.NoJitter}, func(cfg retry.Config) error {
		client, err := retry.NewRetryableClient(script.Client(), cfg)
		if err != nil {
			return err
		}
		for _, url := range []string{"https://genes.example/BRCA1", "https://payments.example/7", "https://mail.example/9"} {
			body, err := retry.GetJSON[string](context.Background(), client, url)
			if err != nil {
				return err
			}
			fmt.Println(body)
		}
		req, err := http.NewRequest(http.MethodDelete, "https://mail.example/9", nil)
		if err != nil {
			return err
		}
		_, err = client.Do(req)
		return err
	})
	fmt.Println(waits, "and", err)
	// Output:
	// as usual
	// paid
	// as usual
	// 1s backoff and DELETE https://mail.example/9: 403 Forbidden
}

// The same script over a real connection, for code that brings its own client.
func ExampleScript_Serve() {
	script := retrytest.NewScript(t, retrytest.Reset(), retrytest.Status(200, "here"))
	url := script.Serve() + "/gene/BRCA1"

	transport, _ := retry.NewTransport(nil, retry.Config{InitialDelay: time.Millisecond})
	resp, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, "after", len(script.Requests()), "requests")
	// Output: 200 OK after 2 requests
}

// Answers are values: headers and a delay make another one of each.
func ExampleAnswer() {
	for _, answer := range []retrytest.Answer{
		retrytest.JSON(Gene{"BRCA1"}).With("X-RateLimit-Remaining", "0").With("X-RateLimit-Reset", "30"),
		retrytest.TooManyRequests(700 * time.Millisecond),
		retrytest.Status(503, "").After(2 * time.Second),
		retrytest.Cut(`{"Symbol": "BRCA1"}`, 7),
		retrytest.Refused(),
		retrytest.Hang(),
	} {
		fmt.Println(answer)
	}
	// Output:
	// 200 OK
	// 429 Too Many Requests
	// 503 Service Unavailable after 2s
	// 200 OK, cut off after 7 bytes
	// connection refused
	// no answer
}

// Two lookups side by side, and a limiter, a breaker or a context's deadline may have
// a part in it: in a bubble everything goes by the same time.
func ExampleBubble() {
	script := retrytest.NewScriptFunc(t, func(r retrytest.Request) retrytest.Answer {
		if r.Attempt == 1 {
			return retrytest.Status(500, "").After(time.Second)
		}
		return retrytest.JSON(Gene{"BRCA1"})
	})
	waits, err := retrytest.Bubble(new(testing.T), retry.Config{Jitter: retry.NoJitter}, func(_ *testing.T, cfg retry.Config) error {
		client, err := retry.NewRetryableClient(script.Client(), cfg)
		if err != nil {
			return err
		}
		start, results := time.Now(), make(chan error)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for range 2 {
			go func() {
				_, err := Genes{client}.Find(ctx, "BRCA1")
				results <- err
			}()
		}
		err = errors.Join(<-results, <-results)
		fmt.Println("took", time.Since(start))
		return err
	})
	fmt.Println(waits, err)
	// Output:
	// took 2s
	// 1s backoff, 1s backoff <nil>
}

package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	avast "github.com/avast/retry-go/v5"
	"github.com/cenkalti/backoff/v7"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/retryutils/retry"
	"github.com/sony/gobreaker/v2"
	"resty.dev/v3"
)

// fault is what users of another library have reported, with what can be observed of it
// today: there, in other libraries that do the same work, and here.
type fault struct {
	what    string
	reports []string // owner/repository/issues/number
	see     func(t *testing.T) map[string]string
	note    string // what the observations do not say
}

// Names of the libraries, in the order of the table.
const (
	libRetry     = "retry"
	libRetryable = "retryablehttp"
	libBackoff   = "backoff"
	libGobreaker = "gobreaker"
	libFailsafe  = "failsafe-go"
	libAvast     = "retry-go"
	libResty     = "resty"
)

var faults = []fault{
	{
		what:    "A server asks for an hour by `Retry-After`, though the longest wait is set to ten seconds.",
		reports: []string{"hashicorp/go-retryablehttp/issues/247", "hashicorp/go-retryablehttp/issues/295"},
		see: func(t *testing.T) map[string]string {
			return byClient(t, func(c faultClient) string {
				answers := answered(compareAnswer(429, "", "Retry-After", "3600"), compareAnswer(200, ""))
				start := time.Now()
				c(answers).get(context.Background())
				return fmt.Sprintf("%s in %v", times(answers.n), time.Since(start))
			})
		},
		note: "Here the call ends with `ErrRetryAfterTooLong`, which has the wait; coming back sooner than asked would be refused again.",
	},
	{
		what:    "`Retry-After: 9223372037` overflows a duration.",
		reports: []string{"go-resty/resty/pull/1178"},
		see: func(t *testing.T) map[string]string {
			return byClient(t, func(c faultClient) string {
				answers := answered(compareAnswer(429, "", "Retry-After", "9223372037"))
				ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
				defer cancel()
				start := time.Now()
				c(answers).get(ctx)
				return fmt.Sprintf("%s in %v", times(answers.n), time.Since(start))
			})
		},
		note: "Fixed in resty, which waits as long as it can; the deadline of the test is a day.",
	},
	{
		what:    "The deadline is a second away, and the next attempt would be in ten.",
		reports: []string{"hashicorp/go-retryablehttp/issues/272"},
		see: func(t *testing.T) map[string]string {
			return byLoop(t, func(loop faultLoop) string {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				start := time.Now()
				loop(ctx, func() error { return errCompare })
				return fmt.Sprintf("returns after %v", time.Since(start))
			})
		},
	},
	{
		what:    "The context is cancelled before the call: is the function called?",
		reports: []string{"cenkalti/backoff/issues/68"},
		see: func(t *testing.T) map[string]string {
			seen := byLoop(t, func(loop faultLoop) string {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				calls := 0
				loop(ctx, func() error { calls++; return errCompare })
				return "called " + times(calls)
			})
			delete(seen, libRetryable) // net/http sees to it there
			delete(seen, libResty)
			return seen
		},
	},
	{
		what:    "The context is cancelled during a wait: is the last failure in the error?",
		reports: []string{"avast/retry-go/issues/63", "avast/retry-go/issues/122", "cenkalti/backoff/pull/182"},
		see: func(t *testing.T) map[string]string {
			seen := byLoop(t, func(loop faultLoop) string {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(time.Second, cancel)
				return bothIn(loop(ctx, func() error { return errCompare }))
			})
			synctest.Test(t, func(*testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(time.Second, cancel)
				err := avast.New(avast.Context(ctx), avast.LastErrorOnly(true), avast.Delay(10*time.Second)).Do(func() error { return errCompare })
				seen[libAvast] += "; with LastErrorOnly, " + bothIn(err)
			})
			delete(seen, libResty) // the failure is a response there
			return seen
		},
		note: "Fixed in backoff, and in retry-go but for that setting.",
	},
	{
		what:    "The wait that an operation asks for is longer than the time limit of all: what does the error say?",
		reports: []string{"cenkalti/backoff/issues/159"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			synctest.Test(t, func(*testing.T) {
				_, err := backoff.Retry(context.Background(), func() (int, error) { return 0, backoff.RetryAfter(30*time.Minute, errCompare) })
				seen[libBackoff] = err.Error()
				err = retry.Run(context.Background(), retry.Config{MaxElapsed: 15 * time.Minute, MaxRetryAfter: time.Hour, Jitter: retry.NoJitter}, func(context.Context) error {
					return retry.RetryAfter(errCompare, 30*time.Minute)
				})
				seen[libRetry] = err.Error()
			})
			return seen
		},
		note: "backoff has a limit of 15 minutes unless it is changed; here there is none unless it is set, as in the test.",
	},
	{
		what:    "An operation asks for a wait, and then there is no attempt left: is its error still there?",
		reports: []string{"cenkalti/backoff/issues/184"},
		see: func(t *testing.T) map[string]string {
			_, theirs := backoff.Retry(context.Background(), func() (int, error) { return 0, backoff.RetryAfter(time.Minute, errCompare) }, backoff.WithMaxTries(1))
			ours := retry.Run(context.Background(), retry.Config{MaxRetries: retry.NoRetries}, func(context.Context) error {
				return retry.RetryAfter(errCompare, time.Minute)
			})
			return map[string]string{libBackoff: yes(errors.Is(theirs, errCompare)), libRetry: yes(errors.Is(ours, errCompare))}
		},
		note: "Fixed in backoff v7.",
	},
	{
		what:    "The first attempt takes longer than the time limit of all, and then fails: how many are made?",
		reports: []string{"cenkalti/backoff/issues/188"},
		see: func(t *testing.T) map[string]string {
			slow := func(calls *int) error {
				if *calls++; *calls == 1 {
					time.Sleep(2 * time.Minute)
				}
				return errCompare
			}
			seen := make(map[string]string)
			synctest.Test(t, func(*testing.T) {
				calls := 0
				backoff.Retry(context.Background(), func() (int, error) { return 0, slow(&calls) }, backoff.WithMaxElapsedTime(time.Minute))
				seen[libBackoff] = "called " + times(calls)
			})
			synctest.Test(t, func(*testing.T) {
				calls := 0
				failsafe.With(retrypolicy.NewBuilder[any]().WithMaxDuration(time.Minute).Build()).Run(func() error { return slow(&calls) })
				seen[libFailsafe] = "called " + times(calls)
			})
			synctest.Test(t, func(*testing.T) {
				calls := 0
				retry.Run(context.Background(), retry.Config{MaxElapsed: time.Minute}, func(context.Context) error { return slow(&calls) })
				seen[libRetry] = "called " + times(calls)
			})
			return seen
		},
		note: "The same here, on purpose: the limit is for the whole. For attempts that may be long there is `Resume`, which counts from the last progress.",
	},
	{
		what:    "Waits are longer than the longest that is set, because jitter comes on top.",
		reports: []string{"cenkalti/backoff/issues/139", "cenkalti/backoff/issues/117"},
		see: func(t *testing.T) map[string]string {
			const limit = 10 * time.Second
			jittered := map[string]faultLoop{
				libRetry: func(ctx context.Context, fn func() error) error {
					return retry.Run(ctx, retry.Config{MaxRetries: 60, MaxDelay: limit, Jitter: retry.Jitter{Min: 0.5, Max: 1.5}}, func(context.Context) error { return fn() })
				},
				libBackoff: func(ctx context.Context, fn func() error) error {
					b := backoff.NewExponentialBackOff()
					b.MaxInterval = limit
					_, err := backoff.Retry(ctx, func() (int, error) { return 0, fn() }, backoff.WithBackOff(b), backoff.WithMaxTries(60))
					return err
				},
				libFailsafe: func(ctx context.Context, fn func() error) error {
					policy := retrypolicy.NewBuilder[any]().WithMaxRetries(60).WithBackoff(time.Second, limit).WithJitterFactor(0.5).Build()
					return failsafe.With(policy).WithContext(ctx).Run(fn)
				},
				libAvast: func(ctx context.Context, fn func() error) error {
					return avast.New(avast.Context(ctx), avast.Attempts(60), avast.Delay(time.Second), avast.MaxDelay(limit), avast.MaxJitter(limit/2)).Do(fn)
				},
			}
			return inEachBubble(t, jittered, func(loop faultLoop) string {
				var last time.Time
				longest := time.Duration(0)
				loop(context.Background(), func() error {
					if !last.IsZero() {
						longest = max(longest, time.Since(last))
					}
					last = time.Now()
					return errCompare
				})
				if longest > limit {
					return "longer"
				}
				return "not longer"
			})
		},
		note: "Documented in backoff.",
	},
	{
		what:    "Two calls share their settings: the second one begins while the first waits. How long is the first one's third wait, after one second and two?",
		reports: []string{"cenkalti/backoff/issues/183", "cenkalti/backoff/issues/65"},
		see: func(t *testing.T) map[string]string {
			b := backoff.NewExponentialBackOff()
			b.InitialInterval, b.Multiplier, b.RandomizationFactor = time.Second, 2, 0
			policy := retrypolicy.NewBuilder[any]().WithMaxRetries(4).WithBackoff(time.Second, time.Hour).Build()
			retrier := avast.New(avast.Attempts(5), avast.Delay(time.Second), avast.DelayType(avast.BackOffDelay), avast.MaxDelay(time.Hour))
			cfg := retry.Config{Jitter: retry.NoJitter}
			shared := map[string]faultLoop{
				libRetry: func(ctx context.Context, fn func() error) error {
					return retry.Run(ctx, cfg, func(context.Context) error { return fn() })
				},
				libBackoff: func(ctx context.Context, fn func() error) error {
					_, err := backoff.Retry(ctx, func() (int, error) { return 0, fn() }, backoff.WithBackOff(b), backoff.WithMaxTries(5))
					return err
				},
				libFailsafe: func(_ context.Context, fn func() error) error { return failsafe.With(policy).Run(fn) },
				libAvast:    func(_ context.Context, fn func() error) error { return retrier.Do(fn) },
			}
			return inEachBubble(t, shared, func(loop faultLoop) string {
				var first []time.Time
				done := make(chan struct{})
				go func() {
					defer close(done)
					loop(context.Background(), func() error { first = append(first, time.Now()); return errCompare })
				}()
				time.Sleep(2500 * time.Millisecond)
				calls := 0
				loop(context.Background(), func() error { // fails once
					if calls++; calls == 1 {
						return errCompare
					}
					return nil
				})
				<-done
				return first[3].Sub(first[2]).String()
			})
		},
		note: "Documented in backoff: not for concurrent use. Here a Config has no state.",
	},
	{
		what:    "Attempts without a limit: how many errors are kept after ten thousand failures?",
		reports: []string{"avast/retry-go/issues/118"},
		see: func(t *testing.T) map[string]string {
			endless := map[string]faultLoop{
				libRetry: func(ctx context.Context, fn func() error) error {
					return retry.Run(ctx, retry.Config{MaxRetries: retry.Unlimited, Backoff: retry.ConstantBackoff(time.Second)}, func(context.Context) error { return fn() })
				},
				libAvast: func(ctx context.Context, fn func() error) error {
					return avast.New(avast.Context(ctx), avast.Attempts(math.MaxUint), avast.Delay(time.Second), avast.DelayType(avast.FixedDelay)).Do(fn)
				},
				libBackoff: func(ctx context.Context, fn func() error) error {
					_, err := backoff.Retry(ctx, func() (int, error) { return 0, fn() }, backoff.WithBackOff(backoff.NewConstantBackOff(time.Second)), backoff.WithMaxElapsedTime(0))
					return err
				},
			}
			return inEachBubble(t, endless, func(loop faultLoop) string {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				calls := 0
				err := loop(ctx, func() error {
					if calls++; calls == 10_000 {
						cancel()
					}
					return errCompare
				})
				kept := 0
				count(err, func(err error) {
					if err == errCompare {
						kept++
					}
				})
				return fmt.Sprint(kept)
			})
		},
		note: "retry-go keeps one with `Attempts(0)`. Who wants all of them has them there; here `OnRetry` gets each.",
	},
	{
		what:    "An unlimited number of attempts, and an error that no retry can help.",
		reports: []string{"avast/retry-go/issues/110"},
		see: func(t *testing.T) map[string]string {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			theirs, ours := 0, 0
			avast.New(avast.Context(ctx), avast.Attempts(0)).Do(func() error { theirs++; return avast.Unrecoverable(errCompare) })
			retry.Run(ctx, retry.Config{MaxRetries: retry.Unlimited}, func(context.Context) error { ours++; return retry.Permanent(errCompare) })
			return map[string]string{libAvast: "called " + times(theirs), libRetry: "called " + times(ours)}
		},
		note: "Fixed in retry-go.",
	},
	{
		what:    "Three attempts fail: how often is the hook for retries called?",
		reports: []string{"avast/retry-go/issues/31"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			hook := func(name string, call func(hook func())) {
				synctest.Test(t, func(*testing.T) {
					n := 0
					call(func() { n++ })
					seen[name] = times(n)
				})
			}
			hook(libRetry, func(hook func()) {
				cfg := retry.Config{MaxRetries: 2, OnRetry: func(context.Context, retry.Event) { hook() }}
				retry.Run(context.Background(), cfg, func(context.Context) error { return errCompare })
			})
			hook(libAvast, func(hook func()) {
				avast.New(avast.Attempts(3), avast.OnRetry(func(uint, error) { hook() })).Do(func() error { return errCompare })
			})
			hook(libBackoff, func(hook func()) {
				backoff.Retry(context.Background(), func() (int, error) { return 0, errCompare }, backoff.WithMaxTries(3), backoff.WithNotify(func(error, time.Duration) { hook() }))
			})
			hook(libFailsafe, func(hook func()) {
				failsafe.With(retrypolicy.NewBuilder[any]().WithMaxRetries(2).OnRetry(func(failsafe.ExecutionEvent[any]) { hook() }).Build()).Run(func() error { return errCompare })
			})
			hook(libResty, func(hook func()) {
				c := restyOf(answered(compareAnswer(503, ""))).SetRetryCount(2).AddRetryHooks(func(*resty.Response, error) { hook() })
				c.R().Get("http://service.example")
			})
			return seen
		},
	},
	{
		what:    "One retry ten seconds later fails as well: when does the call return?",
		reports: []string{"go-resty/resty/issues/443"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			for name, once := range map[string]func(http.RoundTripper) getter{
				libRetry: func(base http.RoundTripper) getter {
					return oursOf(base, retry.Config{MaxRetries: 1, Backoff: retry.ConstantBackoff(10 * time.Second), Jitter: retry.NoJitter})
				},
				libRetryable: func(base http.RoundTripper) getter { return hashicorpOf(base, 1) },
				libResty:     func(base http.RoundTripper) getter { return restyGetter(restyOf(base).SetRetryCount(1)) },
			} {
				synctest.Test(t, func(*testing.T) {
					start := time.Now()
					once(answered(compareAnswer(503, ""))).get(context.Background())
					seen[name] = fmt.Sprintf("after %v", time.Since(start))
				})
			}
			return seen
		},
		note: "Fixed in resty.",
	},
	{
		what:    "The server answers 503 to the end: can the caller read what it said?",
		reports: []string{"hashicorp/go-retryablehttp/issues/212", "hashicorp/go-retryablehttp/issues/46"},
		see: func(t *testing.T) map[string]string {
			return byClient(t, func(c faultClient) string {
				resp, err := c(answered(compareAnswer(503, "maintenance"))).get(context.Background())
				var status *retry.StatusError
				if errors.As(err, &status) {
					return yes(string(status.Body) == "maintenance") + ", in the error"
				}
				var exceeded retrypolicy.ExceededError
				if errors.As(err, &exceeded) {
					resp, _ = exceeded.LastResult.(*http.Response)
				}
				if resp == nil {
					return "no"
				}
				body, _ := io.ReadAll(resp.Body)
				if err != nil {
					return yes(string(body) == "maintenance") + ", in the error"
				}
				return yes(string(body) == "maintenance") + ", in the response"
			})
		},
		note: "retryablehttp has an `ErrorHandler` for it.",
	},
	{
		what:    "A token in the query, and no server: does the error show it?",
		reports: []string{"hashicorp/go-retryablehttp/issues/206"},
		see: func(t *testing.T) map[string]string {
			return byClient(t, func(c faultClient) string {
				req, err := http.NewRequest(http.MethodGet, "http://service.example/?token=SECRET", nil)
				if err != nil {
					return err.Error()
				}
				_, err = c(roundTrip(func(*http.Request) (*http.Response, error) { return nil, errCompare }))(req)
				return yes(strings.Contains(err.Error(), "SECRET"))
			})
		},
		note: "net/http itself shows it in its errors, and so does what passes them on.",
	},
	{
		what:    "The connection breaks under a POST: how often is it sent?",
		reports: []string{"hashicorp/go-retryablehttp/issues/169", "go-resty/resty/issues/777"},
		see: func(t *testing.T) map[string]string {
			post := func(get getter, n *int, keys map[string]bool) string {
				req, err := http.NewRequest(http.MethodPost, "http://service.example", strings.NewReader("order"))
				if err != nil {
					return err.Error()
				}
				get(req)
				if delete(keys, ""); len(keys) > 0 {
					return fmt.Sprintf("%s, with %d Idempotency-Key", times(*n), len(keys))
				}
				return times(*n)
			}
			seen := byClient(t, func(c faultClient) string {
				n, keys := 0, make(map[string]bool)
				return post(c(breaking(&n, keys)), &n, keys)
			})
			synctest.Test(t, func(t *testing.T) {
				n, keys := 0, make(map[string]bool)
				transport, err := retry.NewTransport(breaking(&n, keys), retry.Config{})
				if err != nil {
					t.Fatal(err)
				}
				seen[libRetry] += "; by a Transport " + post((&http.Client{Transport: transport}).Do, &n, keys)
			})
			return seen
		},
		note: "Fixed in resty v3, which is more careful than the `RetryableClient` here: a server that ignores the key acts again, unless `IdempotentOnly` is set.",
	},
	{
		what:    "A POST is repeated after a 503: does the second attempt have the body?",
		reports: []string{"go-resty/resty/issues/47"},
		see: func(t *testing.T) map[string]string {
			clients := faultClients(10 * time.Second)
			clients[libResty] = func(base http.RoundTripper) getter {
				return restyGetter(restyOf(base).SetRetryAllowNonIdempotent(true))
			}
			return inEachBubble(t, clients, func(c faultClient) string {
				var bodies []string
				base := roundTrip(func(req *http.Request) (*http.Response, error) {
					body, err := io.ReadAll(req.Body)
					req.Body.Close()
					if bodies = append(bodies, string(body)); err != nil || len(bodies) > 1 {
						return compareAnswer(200, ""), err
					}
					return compareAnswer(503, "", "Retry-After", "1"), nil
				})
				req, err := http.NewRequest(http.MethodPost, "http://service.example", strings.NewReader("order"))
				if err != nil {
					return err.Error()
				}
				c(base)(req)
				if len(bodies) < 2 {
					return "there is none"
				}
				return yes(bodies[1] == "order")
			})
		},
		note: "Fixed in resty, with `SetRetryAllowNonIdempotent`.",
	},
	{
		what:    "A body of 8 MiB that can be read only once: how much of it is in memory when the first attempt begins, and how often is it sent after a 503?",
		reports: []string{"hashicorp/go-retryablehttp/issues/145", "hashicorp/go-retryablehttp/issues/244", "go-resty/resty/issues/495"},
		see: func(t *testing.T) map[string]string {
			return byClient(t, func(c faultClient) string {
				source := &countingReader{left: 8 << 20}
				first, n := int64(-1), 0
				base := roundTrip(func(req *http.Request) (*http.Response, error) {
					if n++; first < 0 {
						first = source.read
					}
					if req.Body != nil {
						io.Copy(io.Discard, req.Body)
						req.Body.Close()
					}
					return compareAnswer(503, ""), nil
				})
				req, err := http.NewRequest(http.MethodPut, "http://service.example", source)
				if err != nil {
					return err.Error()
				}
				c(base)(req)
				return fmt.Sprintf("%d MiB, %s", first>>20, times(n))
			})
		},
		note: "Here up to 1 MiB of such a body is recorded while it is sent (`ReplayBuffer`), and a longer one is sent once: the others repeat it, for the price of the memory.",
	},
	{
		what:    "The server's certificate is signed by an unknown authority: how many attempts?",
		reports: []string{"hashicorp/go-retryablehttp/issues/201", "hashicorp/go-retryablehttp/issues/176"},
		see: func(t *testing.T) map[string]string {
			server := httptest.NewTLSServer(http.NotFoundHandler())
			defer server.Close()
			server.Config.ErrorLog = nil
			seen := make(map[string]string)
			for _, name := range clientNames {
				transport := &http.Transport{TLSClientConfig: new(tls.Config)}
				n := 0
				base := roundTrip(func(req *http.Request) (*http.Response, error) { n++; return transport.RoundTrip(req) })
				req, err := http.NewRequest(http.MethodGet, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				faultClients(time.Millisecond)[name](base)(req)
				transport.CloseIdleConnections()
				seen[name] = fmt.Sprint(n)
			}
			return seen
		},
		note: "Fixed in retryablehttp (pull request 210).",
	},
	{
		what:    "The body of a 200 is cut off: does the caller get the value?",
		reports: []string{"hashicorp/go-retryablehttp/issues/238"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			cut := func() *sequence {
				short := compareAnswer(200, `{"symbol": "BR`, "Content-Type", "application/json")
				short.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"symbol": "BR`), failing{io.ErrUnexpectedEOF}))
				short.ContentLength = 19
				return answered(short, compareAnswer(200, `{"symbol": "BRCA1"}`, "Content-Type", "application/json"))
			}
			type gene struct{ Symbol string }
			synctest.Test(t, func(t *testing.T) {
				answers := cut()
				client, err := retry.NewRetryableClient(&http.Client{Transport: answers}, retry.Config{})
				if err != nil {
					t.Fatal(err)
				}
				value, err := retry.GetJSON[gene](context.Background(), client, "http://service.example")
				seen[libRetry] = fmt.Sprintf("%s, %s", yes(err == nil && value.Symbol == "BRCA1"), times(answers.n))
			})
			synctest.Test(t, func(*testing.T) {
				answers := cut()
				resp, err := hashicorpOf(answers, 3).get(context.Background())
				if err == nil {
					_, err = io.ReadAll(resp.Body)
				}
				seen[libRetryable] = fmt.Sprintf("%s, %s", yes(err == nil), times(answers.n))
			})
			synctest.Test(t, func(t *testing.T) {
				answers := cut()
				c := retryablehttp.NewClient()
				c.HTTPClient, c.Logger, c.RetryMax = &http.Client{Transport: answers}, nil, 3
				req, err := retryablehttp.NewRequest(http.MethodGet, "http://service.example", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.SetResponseHandler(func(resp *http.Response) error {
					_, err := io.ReadAll(resp.Body)
					return err
				})
				_, err = c.Do(req)
				seen[libRetryable] += fmt.Sprintf("; with a response handler %s, %s", yes(err == nil), times(answers.n))
			})
			synctest.Test(t, func(*testing.T) {
				answers := cut()
				var value gene
				_, err := restyOf(answers).R().SetResult(&value).Get("http://service.example")
				seen[libResty] = fmt.Sprintf("%s, %s", yes(err == nil && value.Symbol == "BRCA1"), times(answers.n))
			})
			return seen
		},
		note: "Here by `GetJSON`, `PostJSON` and `Fetch`; `Do` hands on the body, and cannot know.",
	},
	{
		what:    "Each attempt has a minute, and the body comes after the header: can it be read?",
		reports: []string{"failsafe-go/failsafe-go/issues/123"},
		see: func(t *testing.T) map[string]string {
			return withTimeout(t, func(get func(http.RoundTripper) getter) string {
				resp, err := get(roundTrip(func(req *http.Request) (*http.Response, error) {
					resp := compareAnswer(200, "")
					resp.ContentLength = -1
					resp.Body = io.NopCloser(&lateBody{req.Context(), strings.NewReader("whole")})
					return resp, nil
				})).get(context.Background())
				if err != nil {
					return "no: " + err.Error()
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				return yes(err == nil && string(body) == "whole")
			})
		},
		note: "Not seen at this version of failsafe-go.",
	},
	{
		what:    "The first attempt runs into its time limit: does the second one have the body?",
		reports: []string{"failsafe-go/failsafe-go/issues/73"},
		see: func(t *testing.T) map[string]string {
			return withTimeout(t, func(get func(http.RoundTripper) getter) string {
				var bodies []string
				base := roundTrip(func(req *http.Request) (*http.Response, error) {
					body, err := io.ReadAll(req.Body)
					req.Body.Close()
					if bodies = append(bodies, string(body)); len(bodies) == 1 {
						<-req.Context().Done()
						return nil, req.Context().Err()
					}
					return compareAnswer(200, ""), err
				})
				req, err := http.NewRequest(http.MethodPut, "http://service.example", strings.NewReader("order"))
				if err != nil {
					return err.Error()
				}
				get(base)(req)
				if len(bodies) < 2 {
					return "there is none"
				}
				return yes(bodies[1] == "order")
			})
		},
		note: "Fixed in failsafe-go.",
	},
	{
		what:    "A listener asks the breaker that notified it for its state.",
		reports: []string{"sony/gobreaker/pull/119"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			for name, returns := range comparisons["a listener may call the breaker that notified it"](t) {
				seen[name] = map[bool]string{true: "gets it", false: "hangs for ever"}[returns]
			}
			return seen
		},
	},
	{
		what:    "Six callers cancel their calls: does the breaker open?",
		reports: []string{"sony/gobreaker/issues/105"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			for name, stays := range comparisons["callers who cancel do not open a breaker"](t) {
				seen[name] = yes(!stays)
			}
			excluded := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) }})
			for range 6 {
				excluded.Execute(func() (int, error) { return 0, context.Canceled })
			}
			seen[libGobreaker] += "; with IsExcluded " + yes(excluded.State() == gobreaker.StateOpen)
			return seen
		},
		note: "gobreaker has had `IsExcluded` since the report; failsafe-go has `HandleIf`. Here it is the default, and goes by the caller's context, not by the error.",
	},
	{
		what:    "Three successes are to close the breaker: how many probes does it let through at once?",
		reports: []string{"sony/gobreaker/issues/53", "sony/gobreaker/issues/63"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			synctest.Test(t, func(t *testing.T) {
				gb := gobreaker.NewTwoStepCircuitBreaker[int](gobreaker.Settings{MaxRequests: 3, Timeout: time.Minute})
				for range 6 {
					done, err := gb.Allow()
					if err != nil {
						t.Fatal(err)
					}
					done(errCompare)
				}
				time.Sleep(time.Minute + time.Second)
				n := 0
				for _, err := gb.Allow(); err == nil; _, err = gb.Allow() {
					n++
				}
				seen[libGobreaker] = fmt.Sprint(n)
			})
			synctest.Test(t, func(*testing.T) {
				fs := circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).WithSuccessThreshold(3).WithDelay(time.Minute).Build()
				for range 5 {
					fs.RecordFailure()
				}
				time.Sleep(time.Minute + time.Second)
				n := 0
				for fs.TryAcquirePermit() {
					n++
				}
				seen[libFailsafe] = fmt.Sprint(n)
			})
			synctest.Test(t, func(t *testing.T) {
				ours, err := retry.NewCircuitBreaker(retry.BreakerConfig{SuccessThreshold: 3})
				if err != nil {
					t.Fatal(err)
				}
				ours.Trip(time.Minute)
				time.Sleep(time.Minute + time.Second)
				n := 0
				for _, err := ours.Allow(); err == nil; _, err = ours.Allow() {
					n++
				}
				seen[libRetry] = fmt.Sprint(n)
			})
			return seen
		},
		note: "Here `HalfOpenProbes` is another setting than `SuccessThreshold`.",
	},
	{
		what:    "Five failures in a row, three seconds apart, with a window of ten seconds: does a breaker for five in a row open?",
		reports: []string{"SolaceProducts/solace-broker-mcp/pull/296"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			synctest.Test(t, func(*testing.T) {
				gb := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{Interval: 10 * time.Second, ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 }})
				fs := circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).Build()
				ours, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 5, FailureRate: 0.9, Window: 10 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				for range 5 {
					gb.Execute(func() (int, error) { return 0, errCompare })
					failsafe.With(fs).Run(func() error { return errCompare })
					ours.Do(context.Background(), func(context.Context) error { return errCompare })
					time.Sleep(3 * time.Second)
				}
				seen[libGobreaker] = yes(gb.State() == gobreaker.StateOpen)
				seen[libFailsafe] = yes(fs.IsOpen())
				seen[libRetry] = yes(ours.State() == retry.StateOpen)
			})
			return seen
		},
		note: "A report of a user of gobreaker, whose `Interval` clears that count, too; failsafe-go has no window beside this count.",
	},
	{
		what:    "The open time of a breaker is over, and no call comes: what is its state?",
		reports: []string{"failsafe-go/failsafe-go/issues/97"},
		see: func(t *testing.T) map[string]string {
			seen := make(map[string]string)
			synctest.Test(t, func(*testing.T) {
				gb := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{Timeout: time.Minute})
				fs := circuitbreaker.NewBuilder[any]().WithDelay(time.Minute).Build()
				ours := new(retry.CircuitBreaker)
				for range 6 {
					gb.Execute(func() (int, error) { return 0, errCompare })
				}
				fs.Open()
				ours.Trip(time.Minute)
				time.Sleep(time.Hour)
				seen[libGobreaker], seen[libFailsafe], seen[libRetry] = gb.State().String(), fs.State().String(), ours.State().String()
			})
			return seen
		},
	},
}

type (
	faultLoop   = func(context.Context, func() error) error
	faultClient = func(http.RoundTripper) getter
)

var clientNames = []string{libRetry, libRetryable, libFailsafe, libResty}

// faultClients make up to three retries, after the given wait or what a server asks for,
// as far as a setting for the longest wait, of the same length, allows.
func faultClients(wait time.Duration) map[string]faultClient {
	return map[string]faultClient{
		libRetry: func(base http.RoundTripper) getter {
			return oursOf(base, retry.Config{MaxRetries: 3, Backoff: retry.ConstantBackoff(wait), Jitter: retry.NoJitter, MaxDelay: wait, MaxRetryAfter: wait})
		},
		libRetryable: func(base http.RoundTripper) getter {
			return hashicorpOf(base, 3, wait)
		},
		libFailsafe: func(base http.RoundTripper) getter {
			policy := failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(3).WithDelay(wait).Build()
			return (&http.Client{Transport: failsafehttp.NewRoundTripper(base, policy)}).Do
		},
		libResty: func(base http.RoundTripper) getter {
			return restyGetter(restyOf(base).SetRetryWaitTime(wait).SetRetryMaxWaitTime(wait))
		},
	}
}

func oursOf(base http.RoundTripper, cfg retry.Config, opts ...retry.Option) getter {
	c, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg, opts...)
	if err != nil {
		panic(err)
	}
	return c.Do
}

func hashicorpOf(base http.RoundTripper, retries int, wait ...time.Duration) getter {
	c := retryablehttp.NewClient()
	c.HTTPClient, c.Logger, c.RetryMax = &http.Client{Transport: base}, nil, retries
	c.RetryWaitMin, c.RetryWaitMax = 10*time.Second, 10*time.Second
	if len(wait) > 0 {
		c.RetryWaitMin, c.RetryWaitMax = wait[0], wait[0]
	}
	return func(req *http.Request) (*http.Response, error) {
		r, err := retryablehttp.FromRequest(req)
		if err != nil {
			return nil, err
		}
		return c.Do(r)
	}
}

// restyOf retries 429 and 5xx, which resty does where conditions are added.
func restyOf(base http.RoundTripper) *resty.Client {
	return resty.NewWithClient(&http.Client{Transport: base}).
		SetRetryCount(3).SetRetryWaitTime(10*time.Second).SetRetryMaxWaitTime(10*time.Second).
		AddRetryConditions(resty.RetryConditionStatus5XX, resty.RetryConditionStatusTooManyRequests)
}

func restyGetter(c *resty.Client) getter {
	return func(req *http.Request) (*http.Response, error) {
		r := c.R().SetContext(req.Context())
		if req.GetBody != nil { // as a user of resty gives it
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			r.SetBody(body)
		} else if req.Body != nil {
			r.SetBody(req.Body)
		}
		resp, err := r.Execute(req.Method, req.URL.String())
		if err != nil {
			return nil, err
		}
		raw := *resp.RawResponse
		raw.Body = io.NopCloser(bytes.NewReader(resp.Bytes()))
		return &raw, nil
	}
}

// withTimeout tries the clients that have a limit for each attempt, of a minute.
func withTimeout(t *testing.T, does func(func(http.RoundTripper) getter) string) map[string]string {
	return inEachBubble(t, map[string]faultClient{
		libRetry: func(base http.RoundTripper) getter {
			return oursOf(base, retry.Config{AttemptTimeout: time.Minute})
		},
		libFailsafe: func(base http.RoundTripper) getter {
			policy := failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(3).Build()
			return (&http.Client{Transport: failsafehttp.NewRoundTripper(base, policy, timeout.New[*http.Response](time.Minute))}).Do
		},
		libResty: func(base http.RoundTripper) getter { return restyGetter(restyOf(base).SetTimeout(time.Minute)) },
	}, does)
}

// byClient tries each client in a bubble, with waits of ten seconds.
func byClient(t *testing.T, does func(faultClient) string) map[string]string {
	return inEachBubble(t, faultClients(10*time.Second), does)
}

// byLoop tries each loop, with three retries ten seconds apart.
func byLoop(t *testing.T, does func(faultLoop) string) map[string]string {
	loops := maps.Clone(compareLoops)
	loops[libAvast] = func(ctx context.Context, fn func() error) error {
		return avast.New(avast.Context(ctx), avast.Attempts(4), avast.Delay(10*time.Second), avast.DelayType(avast.FixedDelay)).Do(fn)
	}
	loops[libResty] = func(ctx context.Context, fn func() error) error {
		_, err := restyOf(roundTrip(func(*http.Request) (*http.Response, error) {
			if fn() != nil {
				return compareAnswer(503, ""), nil
			}
			return compareAnswer(200, ""), nil
		})).R().SetContext(ctx).Get("http://service.example")
		return err
	}
	return inEachBubble(t, loops, does)
}

func inEachBubble[C any](t *testing.T, candidates map[string]C, does func(C) string) map[string]string {
	seen := make(map[string]string)
	for name, candidate := range candidates {
		synctest.Test(t, func(*testing.T) { seen[name] = does(candidate) })
	}
	return seen
}

// sequence gives its answers one after the other, the last one again and again.
type sequence struct {
	answers []*http.Response
	n       int
}

func answered(answers ...*http.Response) *sequence { return &sequence{answers: answers} }

func (s *sequence) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	resp := *s.answers[min(s.n, len(s.answers)-1)]
	s.n++
	resp.Request = req
	if s.n >= len(s.answers) { // it may be given again
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		s.answers[len(s.answers)-1].Body = io.NopCloser(bytes.NewReader(body))
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	return &resp, nil
}

// breaking is a connection that breaks when the request was sent.
func breaking(n *int, keys map[string]bool) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		*n++
		keys[req.Header.Get("Idempotency-Key")] = true
		if req.Body != nil {
			io.Copy(io.Discard, req.Body)
			req.Body.Close()
		}
		return nil, io.ErrUnexpectedEOF
	})
}

type countingReader struct{ left, read int64 }

func (r *countingReader) Read(p []byte) (int, error) {
	n := min(int64(len(p)), r.left)
	if n == 0 {
		return 0, io.EOF
	}
	r.left, r.read = r.left-n, r.read+n
	return int(n), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// lateBody comes a second after its header, unless its request's context has ended.
type lateBody struct {
	ctx context.Context
	r   io.Reader
}

func (b *lateBody) Read(p []byte) (int, error) {
	select {
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-time.After(time.Second):
		return b.r.Read(p)
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func yes(is bool) string { return map[bool]string{true: "yes", false: "no"}[is] }

func bothIn(err error) string {
	if !errors.Is(err, context.Canceled) {
		return "no cancel in it"
	}
	return yes(errors.Is(err, errCompare))
}

// count calls fn for each error in the tree of err.
func count(err error, fn func(error)) {
	if err == nil {
		return
	}
	fn(err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		count(e.Unwrap(), fn)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			count(inner, fn)
		}
	}
}

// The second table of docs/claims.md has what each library does at the versions of
// go.mod.
func TestFaults(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- faults -->\n\nAt " + versions(t) + ":\n\n| what was reported | there | here | |\n| --- | --- | --- | --- |\n")
	for _, f := range faults {
		var seen map[string]string
		t.Run(f.what, func(t *testing.T) { seen = f.see(t) })
		var there []string
		for _, name := range []string{libRetryable, libBackoff, libGobreaker, libFailsafe, libAvast, libResty} {
			if is, ok := seen[name]; ok {
				there = append(there, name+": "+is)
			}
		}
		if seen[libRetry] == "" || len(there) == 0 {
			t.Errorf("%s: nothing was seen here or there: %v", f.what, seen)
		}
		var links []string
		for _, report := range f.reports {
			parts := strings.Split(report, "/")
			links = append(links, fmt.Sprintf("[%s#%s](https://github.com/%s)", parts[1], parts[3], report))
		}
		fmt.Fprintf(&b, "| %s %s | %s | %s | %s |\n", f.what, strings.Join(links, ", "), strings.Join(there, "<br>"), seen[libRetry], f.note)
	}
	b.WriteString("\n<!-- end of faults -->")
	text, err := os.ReadFile("../docs/claims.md")
	if err != nil {
		t.Fatal(err)
	}
	part := regexp.MustCompile(`(?s)<!-- faults -->.*?<!-- end of faults -->`)
	if os.Getenv("WRITE") != "" {
		text = []byte(part.ReplaceAllLiteralString(string(text), b.String()))
		if err := os.WriteFile("../docs/claims.md", text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if page := part.FindString(string(text)); page != b.String() {
		t.Errorf("docs/claims.md does not say what was seen (WRITE=1 go test -run TestFaults): it says\n%s\nand not\n%s", page, b.String())
	}
}

// versions are those of the libraries in the table.
func versions(t *testing.T) string {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range []string{
		"github.com/hashicorp/go-retryablehttp", "github.com/cenkalti/backoff/v7", "github.com/sony/gobreaker/v2",
		"github.com/failsafe-go/failsafe-go", "github.com/avast/retry-go/v5", "resty.dev/v3",
	} {
		version := regexp.MustCompile(regexp.QuoteMeta(path) + ` (v\S+)`).FindSubmatch(text)
		if version == nil {
			t.Fatalf("go.mod has no %s", path)
		}
		found = append(found, fmt.Sprintf("%s %s", path, version[1]))
	}
	return strings.Join(found, ", ")
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v7"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/retryutils/retry"
	"github.com/sony/gobreaker/v2"
)

// The cases behind the comparison in the README: what each library does with its
// defaults, or with nothing but what the case is about.

var errCompare = errors.New("down")

// loops call fn again after ten seconds, up to three times.
var compareLoops = map[string]func(context.Context, func() error) error{
	"retry": func(ctx context.Context, fn func() error) error {
		cfg := retry.Config{MaxRetries: 3, Backoff: retry.ConstantBackoff(10 * time.Second), Jitter: retry.NoJitter}
		return retry.Run(ctx, cfg, func(context.Context) error { return fn() })
	},
	"retryablehttp": func(ctx context.Context, fn func() error) error {
		_, err := compareRetryable(roundTrip(func(*http.Request) (*http.Response, error) { return nil, fn() })).get(ctx)
		return err
	},
	"backoff": func(ctx context.Context, fn func() error) error {
		_, err := backoff.Retry(ctx, func() (int, error) { return 0, fn() }, backoff.WithMaxTries(4), backoff.WithBackOff(backoff.NewConstantBackOff(10*time.Second)))
		return err
	},
	"failsafe-go": func(ctx context.Context, fn func() error) error {
		policy := retrypolicy.NewBuilder[any]().WithMaxRetries(3).WithDelay(10 * time.Second).Build()
		return failsafe.With(policy).WithContext(ctx).Run(fn)
	},
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type getter func(*http.Request) (*http.Response, error)

func (g getter) get(ctx context.Context) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://service.example", nil)
	if err != nil {
		return nil, err
	}
	return g(req)
}

func compareRetryable(base http.RoundTripper) getter {
	c := retryablehttp.NewClient()
	c.HTTPClient, c.Logger, c.RetryMax = &http.Client{Transport: base}, nil, 3
	c.RetryWaitMin, c.RetryWaitMax = 10*time.Second, 10*time.Second
	return func(req *http.Request) (*http.Response, error) {
		r, err := retryablehttp.FromRequest(req)
		if err != nil {
			return nil, err
		}
		return c.Do(r)
	}
}

// clients make three retries, ten seconds apart.
func compareClients(base http.RoundTripper) map[string]getter {
	cfg := retry.Config{MaxRetries: 3, Backoff: retry.ConstantBackoff(10 * time.Second), Jitter: retry.NoJitter}
	ours, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg)
	if err != nil {
		panic(err)
	}
	policy := failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(3).Build()
	return map[string]getter{
		"retry":         ours.Do,
		"retryablehttp": compareRetryable(base),
		"failsafe-go":   (&http.Client{Transport: failsafehttp.NewRoundTripper(base, policy)}).Do,
	}
}

func compareAnswer(status int, body string, header ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
	for i := 0; i+1 < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// comparisons say, for each row of the table, which libraries do it. Those that
// are not named have no such thing.
var comparisons = map[string]func(t *testing.T) map[string]bool{
	// Ten seconds do not fit into a deadline that is one second away.
	"a wait that would outlast the deadline is not begun": func(t *testing.T) map[string]bool {
		return inBubbles(t, compareLoops, func(_ *testing.T, loop func(context.Context, func() error) error) bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			start := time.Now()
			loop(ctx, func() error { return errCompare })
			return time.Since(start) == 0
		})
	},
	// The caller cancels during a wait.
	"the error of a cancelled call has the last failure, too": func(t *testing.T) map[string]bool {
		return inBubbles(t, compareLoops, func(_ *testing.T, loop func(context.Context, func() error) error) bool {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Second, cancel)
			err := loop(ctx, func() error { return errCompare })
			return errors.Is(err, errCompare) && errors.Is(err, context.Canceled)
		})
	},
	// Retry-After: 3600, and nothing else was said.
	"a Retry-After of an hour does not keep the caller for an hour": func(t *testing.T) map[string]bool {
		return compareHTTP(t, func(client func(http.RoundTripper) getter) bool {
			start := time.Now()
			client(roundTrip(func(*http.Request) (*http.Response, error) {
				return compareAnswer(429, "", "Retry-After", "3600"), nil
			})).get(context.Background())
			return time.Since(start) < time.Hour
		})
	},
	// 503 to the end: can the caller read why?
	"the last response can be read after giving up": func(t *testing.T) map[string]bool {
		return compareHTTP(t, func(client func(http.RoundTripper) getter) bool {
			resp, err := client(roundTrip(func(*http.Request) (*http.Response, error) {
				return compareAnswer(503, "maintenance"), nil
			})).get(context.Background())
			var status *retry.StatusError
			if errors.As(err, &status) {
				return string(status.Body) == "maintenance"
			}
			var exceeded retrypolicy.ExceededError
			if errors.As(err, &exceeded) {
				resp, _ = exceeded.LastResult.(*http.Response)
			}
			if resp == nil {
				return false
			}
			body, err := io.ReadAll(resp.Body)
			return err == nil && string(body) == "maintenance"
		})
	},
	// One call is asked to wait for half a minute; does the next one know?
	"a 429 to one call holds back the others": func(t *testing.T) map[string]bool {
		return compareHTTP(t, func(client func(http.RoundTripper) getter) bool {
			start := time.Now()
			var asked []time.Duration
			c := client(roundTrip(func(*http.Request) (*http.Response, error) {
				if asked = append(asked, time.Since(start)); len(asked) == 1 {
					return compareAnswer(429, "", "Retry-After", "30"), nil
				}
				return compareAnswer(200, ""), nil
			}))
			done := make(chan struct{})
			go func() { defer close(done); c.get(context.Background()) }()
			time.Sleep(time.Second)
			c.get(context.Background())
			<-done
			return asked[1] >= 30*time.Second
		})
	},
	// Six callers give up on calls that are under way.
	"callers who cancel do not open a breaker": func(t *testing.T) map[string]bool {
		return compareBreakers(t, func(call func(context.Context, func() error) error, open func() bool, _ *func()) bool {
			for range 6 {
				ctx, cancel := context.WithCancel(context.Background())
				call(ctx, func() error { cancel(); return ctx.Err() })
			}
			return !open()
		})
	},
	// The listener logs the breaker's state.
	"a listener may call the breaker that notified it": func(t *testing.T) map[string]bool {
		return compareBreakers(t, func(call func(context.Context, func() error) error, open func() bool, listener *func()) bool {
			*listener = func() { open() }
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range 6 {
					call(context.Background(), func() error { return errCompare })
				}
			}()
			select {
			case <-done:
				return true
			case <-time.After(time.Second): // it hangs for good
				return false
			}
		})
	},
}

func inBubbles[C any](t *testing.T, candidates map[string]C, does func(*testing.T, C) bool) map[string]bool {
	result := make(map[string]bool)
	for name, candidate := range candidates {
		synctest.Test(t, func(t *testing.T) { result[name] = does(t, candidate) })
	}
	return result
}

func compareHTTP(t *testing.T, does func(func(http.RoundTripper) getter) bool) map[string]bool {
	result := make(map[string]bool)
	for _, name := range []string{"retry", "retryablehttp", "failsafe-go"} {
		synctest.Test(t, func(t *testing.T) {
			result[name] = does(func(base http.RoundTripper) getter { return compareClients(base)[name] })
		})
	}
	return result
}

func compareBreakers(t *testing.T, does func(func(context.Context, func() error) error, func() bool, *func()) bool) map[string]bool {
	listeners := make([]func(), 3)
	for i := range listeners {
		listeners[i] = func() {}
	}
	ours, err := retry.NewCircuitBreaker(retry.BreakerConfig{OnStateChange: func(retry.StateChange) { listeners[0]() }})
	if err != nil {
		t.Fatal(err)
	}
	gb := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{OnStateChange: func(string, gobreaker.State, gobreaker.State) { listeners[1]() }})
	fs := circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).OnStateChanged(func(circuitbreaker.StateChangedEvent) { listeners[2]() }).Build()
	return map[string]bool{
		"retry": does(func(ctx context.Context, fn func() error) error {
			return ours.Do(ctx, func(context.Context) error { return fn() })
		}, func() bool { return ours.State() == retry.StateOpen }, &listeners[0]),
		"gobreaker": does(func(_ context.Context, fn func() error) error {
			_, err := gb.Execute(func() (int, error) { return 0, fn() })
			return err
		}, func() bool { return gb.State() == gobreaker.StateOpen }, &listeners[1]),
		"failsafe-go": does(func(ctx context.Context, fn func() error) error {
			return failsafe.With(fs).WithContext(ctx).Run(fn)
		}, fs.IsOpen, &listeners[2]),
	}
}

// caseLink is where the README links to, for a row.
func caseLink(t *testing.T, row string) string {
	source, err := os.ReadFile("compare_test.go")
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(source), fmt.Sprintf("\n\t%q: func", row))
	if !ok {
		t.Fatalf("no case %q", row)
	}
	return fmt.Sprintf("bench/compare_test.go#L%d", strings.Count(before, "\n")+2)
}

// The README's table says of each library what its case shows.
func TestComparison(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Compared\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var columns []string
	seen := make(map[string]bool)
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = regexp.MustCompile(`\]\([^)]*\)|\[`).ReplaceAllString(strings.TrimSpace(cells[i]), "")
		}
		switch row := cells[0]; {
		case len(cells) > 2 && columns == nil:
			columns = cells
		case len(cells) > 2 && comparisons[row] != nil:
			seen[row] = true
			for _, link := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(line, -1) {
				if want := caseLink(t, row); link[1] != want {
					t.Errorf("%s: the README links to %s, the case is at %s", row, link[1], want)
				}
			}
			does := comparisons[row](t)
			for i, cell := range cells[1:] {
				want := "–"
				if value, ok := does[strings.Fields(columns[i+1])[0]]; ok {
					want = map[bool]string{true: "yes", false: "no"}[value]
				}
				if cell != want {
					t.Errorf("%s, %s: the README says %s, the case %s", row, columns[i+1], cell, want)
				}
			}
		}
	}
	if rows := slices.Sorted(maps.Keys(comparisons)); len(seen) != len(rows) {
		t.Errorf("of the cases the README shows %d:\n%s", len(seen), strings.Join(rows, "\n"))
	}
	if t.Failed() {
		for row, case_ := range comparisons {
			fmt.Println(row, case_(t))
		}
	}
}

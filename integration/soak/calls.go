package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/download"
	"github.com/retryutils/retry/hedge"
	"github.com/retryutils/retry/sse"
	"github.com/retryutils/retry/statusz"
)

var quiet = log.New(io.Discard, "", 0)

// calls are the clients of a service that uses all of the library.
type calls struct {
	books   *books
	servers *servers
	dir     string
	number  atomic.Int64

	base     *transport
	client   *retry.RetryableClient
	patient  *retry.RetryableClient // waits for an open breaker
	watched  *retry.RetryableClient // on the page
	watch    func() error           // makes another one, with another page
	library  *http.Client           // for code that knows nothing of the library
	function retry.Config
	hedge    *hedge.Hedge
	page     *statusz.Page
}

func newCalls(b *books, s *servers, dir string) (c *calls, err error) {
	c = &calls{books: b, servers: s, dir: dir}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = &tls.Config{RootCAs: s.hosts[0].Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	base.MaxIdleConnsPerHost = 20
	c.base = &transport{b, base}
	if c.hedge, err = hedge.New(hedge.Config{}); err != nil {
		return nil, err
	}
	budget, err := retry.NewBudget(0.5, 20)
	if err != nil {
		return nil, err
	}
	breaker := retry.BreakerConfig{
		FailureThreshold: 8, FailureRate: 0.7, SlowCallDuration: 400 * time.Millisecond, SlowCallRate: 0.8, Window: 2 * time.Second,
		RecoveryTimeout: 100 * time.Millisecond, MaxRecoveryTimeout: 400 * time.Millisecond, RecoveryJitter: 0.3, HalfOpenProbes: 2, SuccessThreshold: 2,
	}
	cfg := b.watch(retry.Config{
		Name: "soak", InitialDelay: 5 * time.Millisecond, MaxDelay: 100 * time.Millisecond, MaxElapsed: 3 * time.Second,
		AttemptTimeout: 300 * time.Millisecond, MaxRetryAfter: time.Second, Budget: budget,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, true)
	perHost := retry.PerHost(func(_ string, cfg *retry.Config) error {
		cfg.Limiter = &limiter{gap: 2 * time.Millisecond}
		return nil
	})
	check := retry.CheckResponse(func(resp *http.Response) error {
		if resp.Header.Get("Content-Type") == "" && resp.ContentLength > 0 {
			return errors.New("an answer without a type")
		}
		return nil
	})
	client := &http.Client{Transport: c.base}
	options := []retry.Option{retry.HostBreaker(breaker), perHost, retry.IdleTimeout(300 * time.Millisecond), retry.WrapTransport(c.hedge.Transport)}
	if c.client, err = retry.NewRetryableClient(client, cfg, append(options, check)...); err != nil {
		return nil, err
	}
	c.watch = func() (err error) {
		c.page = statusz.New()
		if c.watched, err = retry.NewRetryableClient(client, c.page.Watch(cfg), options...); err != nil {
			return err
		}
		c.page.Client("soak", c.watched)
		c.page.Gate("functions", c.function.Gate)
		c.page.Breaker(c.function.Breaker)
		c.page.Budget("soak", budget)
		return nil
	}
	patient := cfg
	patient.WaitWhenOpen = true
	if c.patient, err = retry.NewRetryableClient(client, patient, retry.HostBreaker(breaker), retry.IdleTimeout(300*time.Millisecond)); err != nil {
		return nil, err
	}
	c.library = c.client.StandardClient()

	shared, err := retry.NewCircuitBreaker(breaker)
	if err != nil {
		return nil, err
	}
	c.function = b.watch(retry.Config{
		Breaker: shared, WaitWhenOpen: true, Gate: retry.NewGate(nil), Limiter: &limiter{gap: time.Millisecond}, Budget: budget,
		InitialDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond, Jitter: retry.FullJitter, MaxElapsed: time.Second,
	}, false)
	return c, c.watch()
}

// hedged returns how many hedges were sent.
func (c *calls) hedged() int64 { return c.hedge.Snapshot().Hedges }

// settle leaves nothing open that a program may keep between calls. The page and its client
// end here, and others follow: a page has a history of an hour, which grows until then.
func (c *calls) settle() error {
	request := httptest.NewRequest(http.MethodGet, "/?format=json", nil)
	answer := httptest.NewRecorder()
	if c.page.ServeHTTP(answer, request); answer.Code != http.StatusOK || answer.Body.Len() == 0 {
		c.books.note("the status page answers %d", answer.Code)
	}
	c.client.CloseIdleConnections()
	c.patient.CloseIdleConnections()
	if left, _ := filepath.Glob(filepath.Join(c.dir, "*")); len(left) > 0 {
		for _, path := range left {
			os.Remove(path) // the parts of downloads that failed
		}
	}
	return c.watch()
}

// meddle does what operators and other processes do.
func (c *calls) meddle(random *rand.Rand) {
	switch random.IntN(20) {
	case 0:
		c.function.Breaker.Trip(50 * time.Millisecond)
	case 1:
		c.function.Breaker.ForceOpen()
		time.AfterFunc(100*time.Millisecond, c.function.Breaker.Reset)
	case 2:
		c.function.Gate.Pause(50 * time.Millisecond)
	case 3:
		c.function.Gate.Refused(100 * time.Millisecond)
	}
}

// limiter lets calls pass with a gap between them.
type limiter struct {
	gap  time.Duration
	mu   sync.Mutex
	next time.Time
}

// Allow is what a hedge asks, which does not wait.
func (l *limiter) Allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); !l.next.After(now) {
		l.next = now.Add(l.gap)
		return true
	}
	return false
}

func (l *limiter) Wait(ctx context.Context) error {
	l.mu.Lock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	wait := l.next.Sub(now)
	l.next = l.next.Add(l.gap)
	l.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *calls) url(random *rand.Rand, path string) string {
	return c.servers.hosts[random.IntN(len(c.servers.hosts))].URL + path
}

func (c *calls) either(random *rand.Rand) *retry.RetryableClient {
	return []*retry.RetryableClient{c.client, c.patient, c.watched}[random.IntN(3)]
}

// post sends a job, and notes what its caller knows.
func (c *calls) post(ctx context.Context, random *rand.Rand, body io.Reader, send func(*http.Request) error) {
	c.books.posts.Add(1)
	id := strconv.FormatInt(c.number.Add(1), 10)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(random, "/job"), body)
	if err != nil {
		c.books.note("%v", err)
		return
	}
	req.Header.Set("Job", id)
	if err := send(req); err == nil {
		c.books.job(id, func(j *job) { j.good = true })
	}
}

type answer struct{ Length int }

// kinds are the calls that a service makes.
var kinds = []func(ctx context.Context, c *calls, random *rand.Rand){
	func(ctx context.Context, c *calls, random *rand.Rand) { // JSON
		_, _ = retry.GetJSON[answer](ctx, c.either(random), c.url(random, "/gene"))
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a redirect
		if resp, err := c.either(random).Get(ctx, c.url(random, "/moved")); err == nil {
			_ = readAll(resp)
		}
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a body that is recorded
		body := struct{ io.Reader }{strings.NewReader(strings.Repeat("y", 20_000))}
		req, _ := http.NewRequestWithContext(ctx, http.MethodPut, c.url(random, "/put"), body)
		if resp, err := c.either(random).Do(req); err == nil {
			_ = readAll(resp)
		}
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a caller who leaves
		ctx, cancel := context.WithTimeout(ctx, time.Duration(1+random.IntN(50))*time.Millisecond)
		defer cancel()
		_, _ = retry.GetJSON[answer](ctx, c.either(random), c.url(random, "/gene"))
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a POST with a key
		c.post(ctx, random, strings.NewReader("job"), func(req *http.Request) error {
			_, err := retry.Fetch(c.either(random), req, retry.DecodeJSON[answer])
			return err
		})
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a POST that is streamed, and its caller may leave
		if random.IntN(2) == 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(1+random.IntN(200))*time.Millisecond)
			defer cancel()
		}
		c.post(ctx, random, struct{ io.Reader }{strings.NewReader(strings.Repeat("z", 5_000))}, func(req *http.Request) error {
			resp, err := c.either(random).Do(req)
			if err != nil {
				return err
			}
			return readAll(resp)
		})
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a POST without a key: only repeated where the server cannot have acted
		c.post(ctx, random, strings.NewReader("job"), func(req *http.Request) error {
			resp, err := c.library.Do(req)
			if err != nil {
				return err
			}
			if err := readAll(resp); err != nil || resp.StatusCode >= 300 {
				return fmt.Errorf("%s: %w", resp.Status, err)
			}
			return nil
		})
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // the same, by the client's own word
		c.post(retry.WithIdempotent(ctx, false), random, strings.NewReader("job"), func(req *http.Request) error {
			_, err := retry.Fetch(c.either(random), req, retry.DecodeJSON[answer])
			return err
		})
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a long file
		path := filepath.Join(c.dir, strconv.FormatInt(c.number.Add(1), 10))
		if _, err := download.File(ctx, c.client, c.url(random, "/file"), path, download.Checksum(sha256.New(), c.servers.sum[:])); err == nil {
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, c.servers.file) {
				c.books.note("a download that succeeded is wrong: %v", err)
			}
			os.Remove(path)
		} else if errors.Is(err, download.ErrChecksum) {
			c.books.note("%v", err)
		}
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a feed
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, c.url(random, "/events"), nil)
		var ids []string
		for event, err := range sse.Stream(c.client, req) {
			if err != nil {
				break
			}
			ids = append(ids, event.ID)
		}
		for n, id := range ids {
			if id != strconv.Itoa(n+1) {
				c.books.note("a feed lost or repeated an event: %v", slices.Clip(ids))
				break
			}
		}
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a function
		_, _ = retry.Do(ctx, c.function, func(context.Context) (int, error) {
			switch rand.IntN(12) {
			case 0:
				return 0, retry.RetryAfter(errors.New("refused"), 10*time.Millisecond)
			case 1, 2:
				return 0, errors.New("failed")
			case 3:
				return 0, retry.Permanent(errors.New("no such gene"))
			}
			return 1, nil
		})
	},
	func(ctx context.Context, c *calls, random *rand.Rand) { // a function that panics
		defer func() {
			if recover() == nil {
				c.books.note("a panic was swallowed")
			}
		}()
		cfg := c.function
		cfg.Breaker, cfg.Gate, cfg.Limiter = nil, nil, nil
		_ = retry.Run(ctx, cfg, func(context.Context) error { panic("broken") })
	},
}

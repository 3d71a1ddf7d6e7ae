package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

var (
	soakFor  = flag.Duration("soak", 0, "how long the soak test runs; 0: 5s, in CI 60s")
	soakSeed = flag.Uint64("seed", 0, "of the soak test's faults; 0: by chance")
)

// weather is a server whose faults change all the time.
type weather struct {
	mode     atomic.Int32
	requests atomic.Int64
	mu       sync.Mutex
	acted    map[string]int
}

const modes = 7

func (s *weather) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch mode := s.mode.Load(); {
	case mode == 1 && rand.IntN(2) == 0:
		answering(503)(w, r)
	case mode == 2 && rand.IntN(2) == 0:
		answering(429, "Retry-After-Ms", "50")(w, r)
	case mode == 3 && rand.IntN(3) == 0:
		resetting(w, r)
	case mode == 4 && rand.IntN(3) == 0:
		cutting(w, r)
	case mode == 5:
		answering(503, "Retry-After-Ms", "30")(w, r)
	case mode == 6 && rand.IntN(20) == 0: // longer than an attempt may take
		<-r.Context().Done()
	default:
		s.mu.Lock()
		s.acted[r.Header.Get("Job")]++
		s.mu.Unlock()
		fmt.Fprintf(w, `{"job":%q,"length":%d}`, r.Header.Get("Job"), len(body))
	}
}

// A mixed load with faults that change at random: at the end nothing is left,
// and the books balance.
func TestSoak(t *testing.T) {
	length, seed := *soakFor, *soakSeed
	if length == 0 {
		if length = 5 * time.Second; os.Getenv("CI") != "" {
			length = time.Minute
		}
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))

	sky := &weather{acted: make(map[string]int)}
	server := httptest.NewServer(sky)
	defer server.Close()
	var b books
	client := b.client(t)
	warm(t, client, server.URL)
	before, heap := count(t), heapInUse()

	var wg sync.WaitGroup
	end := time.Now().Add(length)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pace := time.NewTicker(3 * time.Millisecond) // a few hundred calls a second
	defer pace.Stop()
	faults := time.NewTicker(200 * time.Millisecond)
	defer faults.Stop()
	for job := 0; time.Now().Before(end); {
		select {
		case <-faults.C:
			sky.mode.Store(int32(random.IntN(modes)))
		case <-pace.C:
			if b.inFlight.Load() > 300 {
				continue
			}
			job++
			id, kind := fmt.Sprint(job), random.IntN(5)
			b.calls.Add(1)
			wg.Go(func() { b.done(t, id, b.call(ctx, client, server.URL, id, kind)) })
		}
	}
	sky.mode.Store(0)
	wg.Wait()
	client.CloseIdleConnections()

	t.Logf("%d calls: %d good, %d errors, %d cancelled; %d requests; waits %v; outcomes %v",
		b.calls.Load(), b.good.Load(), b.failed.Load(), b.cancelled.Load(), sky.requests.Load(), b.waits(), b.outcomes())
	assert.Equal(t, b.calls.Load(), b.good.Load()+b.failed.Load())
	assert.Equal(t, b.calls.Load(), b.ends.Load(), "OnDone, once a call")
	assert.Equal(t, b.attempts.Load(), b.trips.Load(), "what OnDone counted is what the transport was asked for")
	assert.LessOrEqual(t, sky.requests.Load(), b.sent.Load()+warmCalls, "net/http sends some again by itself; no more is sent")
	assert.Positive(t, b.good.Load())
	settled(t, before, 4)
	runtime.GC()
	assert.Less(t, heapInUse(), heap+32<<20, "bytes of heap")
}

// books is what the calls of the soak test add up to.
type books struct {
	calls, good, failed, cancelled, ends, attempts, trips, sent, inFlight atomic.Int64

	mu    sync.Mutex
	why   map[retry.Why]int
	label map[string]int
}

func (b *books) RoundTrip(req *http.Request) (*http.Response, error) {
	b.trips.Add(1)
	trace := &httptrace.ClientTrace{WroteHeaders: func() { b.sent.Add(1) }}
	return http.DefaultTransport.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] looks for.
func (b *books) CloseIdleConnections() {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func (b *books) client(t testing.TB) *retry.RetryableClient {
	b.why, b.label = make(map[retry.Why]int), make(map[string]int)
	budget, err := retry.NewBudget(0.5, 50)
	require.NoError(t, err)
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{RecoveryTimeout: 50 * time.Millisecond, FailureThreshold: 20})
	require.NoError(t, err)
	cfg := retry.Config{
		Breaker: breaker, InitialDelay: 5 * time.Millisecond, MaxDelay: 100 * time.Millisecond, MaxElapsed: 2 * time.Second, Budget: budget,
		OnWait: func(_ context.Context, e retry.Event) {
			b.mu.Lock()
			b.why[e.Why]++
			b.mu.Unlock()
		},
		OnDone: func(_ context.Context, e retry.Event) {
			b.ends.Add(1)
			b.attempts.Add(int64(e.Attempt))
		},
	}
	client, err := retry.NewRetryableClient(&http.Client{Transport: b, Timeout: 500 * time.Millisecond}, cfg)
	require.NoError(t, err)
	return client
}

func (b *books) waits() string    { b.mu.Lock(); defer b.mu.Unlock(); return fmt.Sprint(b.why) }
func (b *books) outcomes() string { b.mu.Lock(); defer b.mu.Unlock(); return fmt.Sprint(b.label) }

// call is one of the kinds of calls that services make.
func (b *books) call(ctx context.Context, client *retry.RetryableClient, url, id string, kind int) error {
	b.inFlight.Add(1)
	defer b.inFlight.Add(-1)
	if kind == 4 { // a caller who loses patience
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(1+rand.IntN(40))*time.Millisecond)
		defer cancel()
	}
	method, body := http.MethodGet, io.Reader(nil)
	switch kind {
	case 1:
		method, body = http.MethodPost, strings.NewReader(strings.Repeat("x", 10_000))
	case 2:
		method, body = http.MethodPut, struct{ io.Reader }{strings.NewReader(strings.Repeat("y", 50_000))}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Job", id)
	if kind == 3 {
		_, err := retry.Fetch(client, req, func(resp *http.Response) ([]byte, error) { return io.ReadAll(resp.Body) })
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // may be cut: then it is the caller's
	return nil
}

func (b *books) done(t testing.TB, id string, err error) {
	b.mu.Lock()
	b.label[retry.Outcome(err)]++
	b.mu.Unlock()
	if err == nil {
		b.good.Add(1)
		return
	}
	b.failed.Add(1)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		b.cancelled.Add(1)
	}
	var e *retry.Error
	if !errors.As(err, &e) && retry.Outcome(err) == "permanent" {
		t.Errorf("job %s: %v", id, err)
	}
}

const warmCalls = 1

func warm(t testing.TB, client *retry.RetryableClient, url string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

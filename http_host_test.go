package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// everywhere answers for any host, so that a thousand can be asked.
type everywhere struct{}

func (everywhere) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// newEverywhere returns a client for any host, in both of its forms.
func newEverywhere(t *testing.T, opts ...retry.Option) (*retry.RetryableClient, *http.Client) {
	t.Helper()
	client, err := retry.NewRetryableClient(&http.Client{Transport: everywhere{}}, retry.Config{}, opts...)
	require.NoError(t, err)
	return client, client.StandardClient()
}

func get(t *testing.T, client *http.Client, url string) {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	resp.Body.Close()
}

// A client that meets ever new hosts keeps a bounded number of them, forgets
// those unused for longest, and never one whose breaker is open or whose gate is
// paused: that would let all calls through again.
func TestHostsAreBounded(t *testing.T) {
	shared := map[string]retry.Config{}
	client, std := newEverywhere(t, retry.HostBreaker(retry.BreakerConfig{}), retry.PerHost(func(host string, cfg *retry.Config) error {
		shared[host] = *cfg
		return nil
	}))

	get(t, std, "http://open.test/")
	shared["http://open.test"].Breaker.Trip(time.Hour)
	get(t, std, "http://paused.test/")
	shared["http://paused.test"].Gate.Pause(time.Hour)
	get(t, std, "http://failing.test/")
	permit, err := shared["http://failing.test"].Breaker.Allow()
	require.NoError(t, err)
	permit.Done(io.ErrUnexpectedEOF)
	for n := range 2 * retry.MaxHosts {
		get(t, std, fmt.Sprintf("http://host%d.test/", n))
	}

	hosts := maps.Collect(client.Hosts())
	assert.Len(t, hosts, 1000, "as the documentation says")
	assert.LessOrEqual(t, client.Spellings(), 2*retry.MaxHosts)
	for _, kept := range []string{"open", "paused", fmt.Sprintf("host%d", 2*retry.MaxHosts-1)} {
		assert.Contains(t, hosts, "http://"+kept+".test")
	}
	assert.NotContains(t, hosts, "http://host0.test")
	assert.NotContains(t, hosts, "http://failing.test", "one failure long ago is nothing to keep")
}

// When nothing may be forgotten, a new host goes without a memory of its own.
func TestHostsAllWorthKeeping(t *testing.T) {
	client, std := newEverywhere(t, retry.HostBreaker(retry.BreakerConfig{}))
	for n := range retry.MaxHosts {
		get(t, std, fmt.Sprintf("http://host%d.test/", n))
	}
	assert.Equal(t, retry.MaxHosts, client.Spellings(), "each is found by what stands in its URL")
	for _, cfg := range client.Hosts() {
		cfg.Breaker.ForceOpen()
	}
	get(t, std, "http://one-more.test/")
	hosts := maps.Collect(client.Hosts())
	assert.Len(t, hosts, retry.MaxHosts)
	assert.NotContains(t, hosts, "http://one-more.test")
}

// The host that was not used for longest is forgotten, and configured again when it is next
// used; one that all requests go to but a few is not, though it is found without a lock.
func TestWhichHostIsForgotten(t *testing.T) {
	made := map[string]int{}
	client, std := newEverywhere(t, retry.OnHost(func(host string, _ retry.Config) { made[host]++ }))
	get(t, std, "http://first.test/")
	get(t, std, "http://often.test/")
	get(t, std, "http://often.test/")
	for n := range retry.MaxHosts {
		get(t, std, fmt.Sprintf("http://host%d.test/", n))
		get(t, std, "http://often.test/")
	}
	get(t, std, "http://first.test/")
	assert.Equal(t, 1, made["http://often.test"])
	assert.Equal(t, 2, made["http://first.test"])
	assert.Contains(t, maps.Collect(client.Hosts()), "http://first.test")
}

// The host that was used last is forgotten, too, where it is the only one that no request
// is under way to.
func TestLastHostIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := map[string]int{}
		end := make(chan struct{})
		client := outcomeClient(t, &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			if strings.HasPrefix(req.URL.Host, "busy") {
				<-end
			}
			return answerOf(200, "")(req)
		})}, retry.Config{}, retry.OnHost(func(host string, _ retry.Config) { made[host]++ }))
		get := func(url string) {
			resp, err := client.Get(t.Context(), url)
			read(t, resp, err)
		}
		get("http://last.test/")
		get("http://last.test/")
		for n := range retry.MaxHosts - 1 {
			go get(fmt.Sprintf("http://busy%d.test/", n))
			synctest.Wait()
		}
		get("http://another.test/")
		get("http://last.test/")
		assert.Equal(t, 2, made["http://last.test"])
		close(end)
		synctest.Wait()
	})
}

// A gate and a breaker that all hosts share keep none of them from being forgotten, whatever
// their state is.
func TestHostsAreForgottenWithWhatAllShare(t *testing.T) {
	for name, cfg := range map[string]retry.Config{
		"breaker": {Breaker: openBreaker(t, (*retry.CircuitBreaker).ForceOpen)},
		"gate":    {Gate: pausedFor(time.Hour), MaxElapsed: time.Second},
	} {
		client := outcomeClient(t, &http.Client{Transport: everywhere{}}, cfg)
		for n := range retry.MaxHosts + 1 {
			_, err := client.Get(t.Context(), fmt.Sprintf("http://host%d.test/", n))
			require.Error(t, err)
		}
		hosts := maps.Collect(client.Hosts())
		assert.NotContains(t, hosts, "http://host0.test", name)
		assert.Contains(t, hosts, fmt.Sprintf("http://host%d.test", retry.MaxHosts), name)
	}
}

// Spellings of one address are one host; HostKey may draw the line elsewhere.
func TestHostKeys(t *testing.T) {
	var seen []string
	note := retry.PerHost(func(host string, _ *retry.Config) error { seen = append(seen, host); return nil })
	transport, err := retry.NewTransport(everywhere{}, retry.Config{}, note)
	require.NoError(t, err)
	client := &http.Client{Transport: transport}
	for _, address := range []string{
		"https://a.test/", "https://A.test:443/x", "https://a.TEST/", "http://a.test/", "http://a.test:8080/", "http://[::1]/",
	} {
		get(t, client, address)
		get(t, client, address)
	}
	assert.Equal(t, []string{"https://a.test", "http://a.test", "http://a.test:8080", "http://[::1]"}, seen)

	seen = nil
	transport, err = retry.NewTransport(everywhere{}, retry.Config{}, note, retry.HostKey(func(req *http.Request) string {
		return req.Header.Get("Tenant")
	}))
	require.NoError(t, err)
	for _, tenant := range []string{"one", "two", "one", ""} {
		req := httptest.NewRequest(http.MethodGet, "http://a.test/", nil)
		req.Header.Set("Tenant", tenant)
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
	}
	assert.Equal(t, []string{"one", "two"}, seen)
}

// Settings that PerHost gets wrong are reported by the request, each time, and
// its body is closed.
func TestPerHostInvalid(t *testing.T) {
	client, err := retry.NewRetryableClient(&http.Client{Transport: everywhere{}}, retry.Config{}, retry.PerHost(func(_ string, cfg *retry.Config) error {
		cfg.MaxRetries = -7
		return nil
	}))
	require.NoError(t, err)
	for range 2 {
		_, err := client.Get(t.Context(), "http://a.test/")
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, "MaxRetries is -7")
	}
}

// The short forms send what their names say.
func TestClientShortForms(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, strings.Join([]string{r.Method, r.Header.Get("Content-Type"), r.Header.Get("Accept"), string(body)}, "|"))
		io.WriteString(w, "[1]")
	}))
	defer server.Close()
	client, err := retry.NewRetryableClient(server.Client(), retry.Config{})
	require.NoError(t, err)

	for _, send := range []func() (*http.Response, error){
		func() (*http.Response, error) { return client.Get(t.Context(), server.URL) },
		func() (*http.Response, error) { return client.Head(t.Context(), server.URL) },
		func() (*http.Response, error) {
			return client.PostForm(t.Context(), server.URL, url.Values{"a": {"1 2"}})
		},
		func() (*http.Response, error) {
			return client.Post(t.Context(), server.URL, "text/plain", strings.NewReader("hi"))
		},
	} {
		resp, err := send()
		require.NoError(t, err)
		resp.Body.Close()
	}
	list, err := retry.PostJSON[[]int](t.Context(), client, server.URL, map[string]int{"n": 2})
	require.NoError(t, err)
	assert.Equal(t, []int{1}, list)
	assert.Equal(t, []string{
		"GET|||", "HEAD|||", "POST|application/x-www-form-urlencoded||a=1+2", "POST|text/plain||hi",
		`POST|application/json|application/json|{"n":2}`,
	}, got)

	_, err = retry.PostJSON[[]int](t.Context(), client, server.URL, func() {})
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	_, err = client.Get(t.Context(), "http://[::1/?sig=SECRET")
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	assert.NotContains(t, err.Error(), "SECRET")
	assert.Len(t, got, 5)
}

// After the first 429 no request reaches the host before the pause ends, except those that
// were sent already. Then one by one.
func TestPauseIsSharedByTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 300 * time.Millisecond
		var mu sync.Mutex
		var first time.Time
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if first.IsZero() {
				first = time.Now()
			}
			if time.Since(first) < pause {
				status(429, "Retry-After-Ms", "300")(w, r)
			}
		})
		client := outcomeClient(t, base, soon)
		var all sync.WaitGroup
		request := func() {
			resp, err := client.Get(t.Context(), server.URL)
			if assert.NoError(t, err) {
				resp.Body.Close()
			}
		}
		all.Go(request)
		synctest.Wait() // the first is answered before the others begin: none of them is in flight
		for range 19 {
			all.Go(request)
		}
		all.Wait()

		seen := server.requests()
		require.Len(t, seen, 21, "one was refused")
		for _, r := range seen[1:] {
			assert.GreaterOrEqual(t, r.at.Sub(first), pause)
		}
		assert.GreaterOrEqual(t, seen[20].at.Sub(seen[1].at), 50*time.Millisecond, "staggered")
	})
}

func TestPauseLeavesOtherHostsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var throttled atomic.Int32
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}
			if req.URL.Host == "throttled.example" && throttled.Add(1) == 1 {
				resp.StatusCode = 429
				resp.Header.Set("Retry-After", "60")
			}
			return resp, nil
		})
		client := outcomeClient(t, &http.Client{Transport: base}, retry.Config{Jitter: retry.NoJitter})
		get := func(host string) {
			resp, err := client.Get(t.Context(), "http://"+host)
			read(t, resp, err)
		}
		start := time.Now()
		var all sync.WaitGroup
		for range 2 { // a first attempt waits too
			all.Go(func() { get("throttled.example") })
			synctest.Wait()
		}
		get("free.example")
		assert.Zero(t, time.Since(start))
		assert.EqualValues(t, 1, throttled.Load())
		all.Wait()
		assert.EqualValues(t, 3, throttled.Load())
		assert.GreaterOrEqual(t, time.Since(start), time.Minute)
	})
}

func TestWaiterWithTooLittleTime(t *testing.T) {
	server := newStand(t, status(429, "Retry-After", "60"))
	cfg, tr := track(soon)
	cfg.MaxRetries = retry.NoRetries
	client := outcomeClient(t, nil, cfg)
	_, err := client.Get(t.Context(), server.URL)
	assert.Error(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	body := &countedClose{Reader: strings.NewReader("x")}
	_, err = client.Do(newRequest(t, "PUT", server.URL, body).WithContext(ctx))
	assert.ErrorIs(t, err, retry.ErrDeadline)
	assert.NoError(t, ctx.Err())
	var given *retry.Error
	require.ErrorAs(t, err, &given)
	assert.Zero(t, given.Attempts)
	assert.Zero(t, tr.last().Attempt)
	assert.Equal(t, 1, server.hits())
	assert.EqualValues(t, 1, body.closed.Load())
}

func TestLongestPauseWins(t *testing.T) {
	clock := clockwork.NewFakeClockAt(noon)
	server := newStand(t, status(429, "Retry-After", "10"), status(429, "Retry-After", "2"), status(429, "Retry-After", "20"), status(200))
	gates := map[string]*retry.Gate{}
	cfg := retry.Config{Clock: clock, MaxRetries: retry.NoRetries}
	client := outcomeClient(t, nil, cfg, retry.PerHost(func(host string, cfg *retry.Config) error {
		gates[host] = retry.NewGate(clock)
		cfg.Gate = gates[host]
		return nil
	}))
	gate := func() *retry.Gate { return gates[server.URL] }
	// The second and third are in flight while the pause is on.
	for i, want := range []time.Duration{10 * time.Second, 10 * time.Second, 20 * time.Second} {
		open := client
		if i > 0 { // past the gate
			cfg := cfg
			cfg.Gate = nil
			open = outcomeClient(t, nil, cfg, retry.CheckResponse(func(resp *http.Response) error {
				d, _ := retry.ParseRetryAfter(resp.Header, clock.Now())
				gate().Pause(d)
				return nil
			}), retry.NoSharedPause())
		}
		_, err := open.Get(t.Context(), server.URL)
		require.Error(t, err)
		until, paused := gate().PausedUntil()
		assert.True(t, paused)
		assert.Equal(t, noon.Add(want), until.UTC())
	}
	assert.Len(t, gates, 1)
}

// Without the shared pause each waits for itself.
func TestNoSharedPause(t *testing.T) {
	clock := clockwork.NewFakeClockAt(noon)
	server := newStand(t, status(429, "Retry-After", "60"), status(200))
	client := outcomeClient(t, nil, retry.Config{Clock: clock, MaxRetries: retry.NoRetries}, retry.NoSharedPause())
	_, err := client.Get(t.Context(), server.URL)
	assert.Error(t, err)
	resp, err := client.Get(t.Context(), server.URL)
	read(t, resp, err)
}

// In a total outage the budget keeps the load near that of the calls alone.
func TestHTTPBudget(t *testing.T) {
	server := newStand(t, status(503))
	budget, err := retry.NewBudget(0.1, 10)
	require.NoError(t, err)
	cfg := soon
	cfg.Budget = budget
	client := outcomeClient(t, nil, cfg)
	exhausted := 0
	for range 200 {
		_, err := client.Get(t.Context(), server.URL)
		var given *retry.Error
		require.ErrorAs(t, err, &given)
		if given.Reason == retry.ErrBudgetExhausted {
			exhausted++
		}
	}
	assert.LessOrEqual(t, server.hits(), 231)
	assert.Greater(t, exhausted, 150)
}

// A Gate in the client's Config couples all its hosts, as its field says: one that
// asks for a rest gives it to all.
func TestOneGateCouplesHosts(t *testing.T) {
	busy, free := newStand(t, status(429, "Retry-After", "60")), newStand(t, status(200))
	for _, coupled := range []bool{true, false} {
		cfg := soon
		cfg.MaxRetries = retry.NoRetries
		if coupled {
			cfg.Gate = retry.NewGate(nil)
		}
		client := outcomeClient(t, nil, cfg)
		_, err := client.Get(t.Context(), busy.URL)
		require.Error(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resp, err := client.Get(ctx, free.URL)
		if !coupled {
			read(t, resp, err)
			continue
		}
		var pause *retry.PauseError
		require.ErrorAs(t, err, &pause)
		assert.ErrorContains(t, pause.Err, busy.URL)
	}
	assert.Equal(t, 1, free.hits())
}

// A call that cannot wait for a pause learns how long it lasts, and what the limit is.
func TestPauseThatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, status(429, "Retry-After", "1800"))
		log, logger := newLog()
		cfg := soon
		cfg.Logger, cfg.MaxRetryAfter = logger, 10*time.Minute
		client := outcomeClient(t, base, cfg)
		for _, want := range []string{"a wait of 30m0s, and MaxRetryAfter is 10m0s", "MaxRetryAfter of 10m0s (" + server.URL + " paused for another 30m0s"} {
			_, err := client.Get(t.Context(), server.URL)
			gaveUp(t, err, retry.ErrRetryAfterTooLong)
			assert.ErrorContains(t, err, want)
			assert.Contains(t, log.String(), want)
		}
		assert.Equal(t, 1, server.hits())
	})
}

// A failure is reported once. It stood twice in the same line where a call's own failure
// opened the breaker, or was the same as the one that set a pause.
func TestFailureIsReportedOnce(t *testing.T) {
	server := newStand(t, status(503))
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "genes", FailureThreshold: 1})
	require.NoError(t, err)
	cfg := soon
	cfg.Name, cfg.Breaker = "", breaker
	_, err = outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
	e := gaveUp(t, err, retry.ErrCircuitOpen)
	assert.Equal(t, 1, strings.Count(err.Error(), "503 Service Unavailable"), err)
	assert.NotContains(t, err.Error(), "last failure")
	var open *retry.OpenError
	require.ErrorAs(t, e, &open)
	assert.ErrorContains(t, open, "last failure: GET "+server.URL, "the error alone names it")

	_, err = outcomeClient(t, nil, cfg).Get(t.Context(), server.URL) // the failure of another call is named
	gaveUp(t, err, retry.ErrCircuitOpen)
	assert.ErrorContains(t, err, "last failure: GET "+server.URL+": 503 Service Unavailable")
}

// A wrong setting of one host among many was found by its first request, at three in
// the morning. Check makes the settings of all hosts that are known, and sends nothing.
func TestCheckFindsWrongSettingsAtStart(t *testing.T) {
	errSecretMissing := errors.New("no token for the host")
	client, err := retry.NewRetryableClient(&http.Client{Transport: retrytest.NewScript(t)}, retry.Config{},
		retry.HostBreaker(retry.BreakerConfig{}), retry.PerHost(func(host string, cfg *retry.Config) error {
			switch host {
			case "https://hgnc.test":
				cfg.AttemptTimeout = time.Second
			case "https://wrong.test":
				cfg.MaxRetries = -7
			case "https://missing.test:8443":
				return errSecretMissing
			}
			return nil
		}))
	require.NoError(t, err)
	require.NoError(t, client.Check())
	require.NoError(t, client.Check("https://hgnc.test/fetch", "https://HGNC.test:443", "http://[::1]:80/x"))
	hosts := maps.Collect(client.Hosts())
	require.Len(t, hosts, 2, "each host once, however its URL is spelled")
	assert.Equal(t, time.Second, hosts["https://hgnc.test"].AttemptTimeout, "as PerHost left it")
	assert.NotNil(t, hosts["https://hgnc.test"].Gate)
	assert.Equal(t, "https://hgnc.test", hosts["https://hgnc.test"].Breaker.Name())
	assert.Contains(t, hosts, "http://[::1]")

	err = client.Check("https://wrong.test", "https://fine.test", "https://missing.test:8443/a", "rest.ensembl.org/x",
		"localhost:80", "127.0.0.1:80", "/x", "", "https://user:pw@%zz/?key=hidden")
	require.ErrorIs(t, err, retry.ErrInvalidConfig)
	assert.ErrorIs(t, err, errSecretMissing)
	for _, text := range []string{"host https://wrong.test", "MaxRetries is -7", "host https://missing.test:8443", `"rest.ensembl.org/x"`, `"/x"`} {
		assert.ErrorContains(t, err, text)
	}
	joined := err.(interface{ Unwrap() []error }).Unwrap()
	assert.Len(t, joined, 8)
	for _, each := range joined {
		assert.ErrorIs(t, each, retry.ErrInvalidConfig)
	}
	assert.NotContains(t, err.Error(), "hidden")
	assert.NotContains(t, err.Error(), "pw")
	assert.Contains(t, maps.Collect(client.Hosts()), "https://fine.test")
	assert.NotContains(t, maps.Collect(client.Hosts()), "https://wrong.test")
}

// Hosts are listed in order, in whatever order they were met, and a loop over them may end early and
// may use the client.
func TestHostsOfAClient(t *testing.T) {
	client, err := retry.NewRetryableClient(&http.Client{Transport: retrytest.NewScriptFunc(t, func(retrytest.Request) retrytest.Answer {
		return retrytest.Status(200, "")
	})}, retry.Config{}, retry.HostKey(func(req *http.Request) string { return req.Header.Get("Tenant") + req.URL.Query().Get("secret") }))
	require.NoError(t, err)
	for range client.Hosts() {
		t.Error("there is none yet")
	}
	resp, err := client.StandardClient().Get("https://b.test/?secret=s1")
	require.NoError(t, err)
	resp.Body.Close()
	require.NoError(t, client.Check("https://c.test:444/?secret=s2", "https://a.test/?secret=s3", "https://a.test/?secret=s4", "https://d.test/"))
	var names []string
	for name, cfg := range client.Hosts() {
		names = append(names, name)
		assert.Equal(t, name, cfg.Name)
		require.NoError(t, client.Check("https://late.test/?secret=s5"))
	}
	assert.Equal(t, []string{"https://a.test", "https://a.test", "https://b.test", "https://c.test:444"}, names, "a key is shown nowhere, and a host without one is not remembered")
	for range client.Hosts() {
		break
	}
}

// What a host has of its own goes by the clock of its Config, also where PerHost sets that,
// unless the breaker's settings name one.
func TestHostsOwnGoesByItsClock(t *testing.T) {
	fake, other := clockwork.NewFakeClock(), clockwork.NewFakeClock()
	perHost := retry.PerHost(func(_ string, cfg *retry.Config) error { cfg.Clock = fake; return nil })
	for name, c := range map[string]struct {
		cfg     retry.Config
		breaker retry.BreakerConfig
		opts    []retry.Option
		clock   *clockwork.FakeClock // that ends the breaker's open time
	}{
		"of the Config":  {retry.Config{Clock: fake}, retry.BreakerConfig{}, nil, fake},
		"of PerHost":     {retry.Config{}, retry.BreakerConfig{}, []retry.Option{perHost}, fake},
		"of the breaker": {retry.Config{}, retry.BreakerConfig{Clock: other}, nil, other},
	} {
		client := outcomeClient(t, nil, c.cfg, append(c.opts, retry.HostBreaker(c.breaker))...)
		require.NoError(t, client.Check("http://gene.example/"), name)
		for _, cfg := range client.Hosts() {
			cfg.Breaker.Trip(time.Hour)
			assert.Equal(t, retry.StateOpen, cfg.Breaker.State(), name)
			c.clock.Advance(time.Hour)
			assert.Equal(t, retry.StateHalfOpen, cfg.Breaker.State(), name)
			if c.clock == fake {
				cfg.Gate.Pause(time.Hour)
				fake.Advance(time.Hour)
				_, paused := cfg.Gate.PausedUntil()
				assert.False(t, paused, name)
			}
		}
	}
}

// Each of several PerHost gets the Config as the one before has left it; one that fails is
// the last, and nil is none.
func TestSeveralPerHost(t *testing.T) {
	var seen []int
	add := func(fail error) retry.Option {
		return retry.PerHost(func(_ string, cfg *retry.Config) error {
			seen = append(seen, cfg.MaxRetries)
			cfg.MaxRetries++
			return fail
		})
	}
	client := outcomeClient(t, nil, retry.Config{MaxRetries: 1}, add(nil), retry.PerHost(nil), add(nil))
	require.NoError(t, client.Check("http://gene.example/"))
	for _, cfg := range client.Hosts() {
		assert.Equal(t, 3, cfg.MaxRetries)
	}
	assert.Equal(t, []int{1, 2}, seen)
	seen = nil
	client = outcomeClient(t, nil, retry.Config{MaxRetries: 1}, retry.PerHost(nil), add(errDown), add(nil))
	assert.ErrorIs(t, client.Check("http://gene.example/"), errDown)
	assert.Equal(t, []int{1}, seen)
}

// Clients over the transport of another add a PerHost each to those that it has, and not to
// each other's.
func TestPerHostOfClientsOverAnother(t *testing.T) {
	var seen []string
	note := func(name string) retry.Option {
		return retry.PerHost(func(string, *retry.Config) error { seen = append(seen, name); return nil })
	}
	transport, err := retry.NewTransport(everywhere{}, retry.Config{}, note("1"), note("2"), note("3"))
	require.NoError(t, err)
	over := &http.Client{Transport: transport}
	a, b := outcomeClient(t, over, retry.Config{}, note("a")), outcomeClient(t, over, retry.Config{}, note("b"))
	require.NoError(t, a.Check("http://gene.example/"))
	require.NoError(t, b.Check("http://gene.example/"))
	assert.Equal(t, []string{"1", "2", "3", "a", "1", "2", "3", "b"}, seen)
}

// Hosts that share a key are named each by its own name.
func TestHostsOfOneKeyHaveTheirNames(t *testing.T) {
	base := &stages{answers: []func(*http.Request) (*http.Response, error){answerOf(200, "")}}
	var names []string
	cfg := retry.Config{OnDone: func(_ context.Context, e retry.Event) { names = append(names, e.Host) }}
	client := outcomeClient(t, &http.Client{Transport: base}, cfg, retry.HostKey(func(*http.Request) string { return "all" }))
	for _, url := range []string{"http://a.example/", "http://b.example/"} {
		resp, err := client.Get(t.Context(), url)
		require.NoError(t, err)
		resp.Body.Close()
	}
	assert.Equal(t, []string{"http://a.example", "http://b.example"}, names)
}

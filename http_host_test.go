package retry

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everywhere answers for any host, so that a thousand can be asked.
type everywhere struct{}

func (everywhere) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

func get(t *testing.T, client *http.Client, url string) {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	resp.Body.Close()
}

// A client that meets ever new hosts keeps a bounded number of them, forgets
// those unused for longest, and never one whose breaker is open or whose gate is
// paused: that would let everybody through again.
func TestHostsAreBounded(t *testing.T) {
	breakers := map[string]*CircuitBreaker{}
	transport, err := NewTransport(everywhere{}, Config{}, HostBreaker(BreakerConfig{}), PerHost(func(host string, cfg *Config) error {
		breakers[host] = cfg.Breaker
		return nil
	}))
	require.NoError(t, err)
	client := &http.Client{Transport: transport}
	hosts := &transport.core.hosts

	get(t, client, "http://open.test/")
	breakers["http://open.test"].Trip(time.Hour)
	get(t, client, "http://paused.test/")
	hosts.byKey["http://paused.test"].cfg.Gate.Pause(time.Hour)
	get(t, client, "http://failing.test/")
	permit, err := breakers["http://failing.test"].Allow()
	require.NoError(t, err)
	permit.Done(io.ErrUnexpectedEOF)
	for n := range 2 * maxHosts {
		get(t, client, fmt.Sprintf("http://host%d.test/", n))
	}

	assert.Len(t, hosts.byKey, maxHosts)
	assert.LessOrEqual(t, len(hosts.bySrc), 2*maxHosts)
	for _, kept := range []string{"open", "paused", fmt.Sprintf("host%d", 2*maxHosts-1)} {
		assert.Contains(t, hosts.byKey, "http://"+kept+".test")
	}
	assert.NotContains(t, hosts.byKey, "http://host0.test")
	assert.NotContains(t, hosts.byKey, "http://failing.test", "one failure long ago is nothing to keep")
}

// When nothing may be forgotten, a new host goes without a memory of its own.
func TestHostsAllWorthKeeping(t *testing.T) {
	transport, err := NewTransport(everywhere{}, Config{}, HostBreaker(BreakerConfig{}))
	require.NoError(t, err)
	client := &http.Client{Transport: transport}
	for n := range maxHosts {
		get(t, client, fmt.Sprintf("http://host%d.test/", n))
	}
	for _, h := range transport.core.hosts.byKey {
		h.cfg.Breaker.ForceOpen()
	}
	get(t, client, "http://one-more.test/")
	assert.Len(t, transport.core.hosts.byKey, maxHosts)
	assert.NotContains(t, transport.core.hosts.byKey, "http://one-more.test")
}

// Spellings of one address are one host; HostKey may draw the line elsewhere.
func TestHostKeys(t *testing.T) {
	var seen []string
	note := PerHost(func(host string, _ *Config) error { seen = append(seen, host); return nil })
	transport, err := NewTransport(everywhere{}, Config{}, note)
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
	transport, err = NewTransport(everywhere{}, Config{}, note, HostKey(func(req *http.Request) string {
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
	client, err := NewRetryableClient(&http.Client{Transport: everywhere{}}, Config{}, PerHost(func(_ string, cfg *Config) error {
		cfg.MaxRetries = -7
		return nil
	}))
	require.NoError(t, err)
	for range 2 {
		_, err := client.Get(t.Context(), "http://a.test/")
		assert.ErrorIs(t, err, ErrInvalidConfig)
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
	client, err := NewRetryableClient(server.Client(), Config{})
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
	list, err := PostJSON[[]int](t.Context(), client, server.URL, map[string]int{"n": 2})
	require.NoError(t, err)
	assert.Equal(t, []int{1}, list)
	assert.Equal(t, []string{
		"GET|||", "HEAD|||", "POST|application/x-www-form-urlencoded||a=1+2", "POST|text/plain||hi",
		`POST|application/json|application/json|{"n":2}`,
	}, got)

	_, err = PostJSON[[]int](t.Context(), client, server.URL, func() {})
	assert.ErrorIs(t, err, ErrInvalidConfig)
	_, err = client.Get(t.Context(), "http://[::1/?sig=SECRET")
	assert.ErrorIs(t, err, ErrInvalidConfig)
	assert.NotContains(t, err.Error(), "SECRET")
	assert.Len(t, got, 5)
}

package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func decode64(t testing.TB, text string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return data
}

// proxied is a server behind a toxiproxy, whose dialer can be switched from the
// poisoned proxy to a clean way: the proxy itself may hang in a reset while data
// is on its way.
type proxied struct {
	server *httptest.Server
	proxy  *toxiproxy.Proxy
	clean  atomic.Bool
	hits   atomic.Int64
}

var payload = bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16)

func newProxied(t testing.TB) *proxied {
	p := new(proxied)
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.hits.Add(1)
		switch r.Method {
		case http.MethodGet:
			_, _ = w.Write(payload)
		default:
			sum := sha256.New()
			_, _ = io.Copy(sum, r.Body)
			_, _ = w.Write(sum.Sum(nil))
		}
	}))
	t.Cleanup(p.server.Close)
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p.proxy = toxiproxy.NewProxy(api, "p", "127.0.0.1:0", strings.TrimPrefix(p.server.URL, "http://"))
	require.NoError(t, p.proxy.Start())
	t.Cleanup(p.proxy.Stop)
	return p
}

func (p *proxied) poison(t testing.TB, toxic string) {
	t.Helper()
	_, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
	require.NoError(t, err)
}

// client makes connections through the proxy until it is to go the clean
// way, which it is after so many failed attempts.
func (p *proxied) client(t testing.TB, failures int64) *retry.RetryableClient {
	t.Helper()
	base := &http.Transport{
		MaxIdleConnsPerHost: 4,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			to := p.proxy.Listen
			if p.clean.Load() {
				to = strings.TrimPrefix(p.server.URL, "http://")
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	}
	t.Cleanup(base.CloseIdleConnections)
	cfg := retry.Config{
		InitialDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond, MaxRetries: 10,
		OnRetry: func(_ context.Context, e retry.Event) {
			if int64(e.Attempt) >= failures {
				p.clean.Store(true)
				base.CloseIdleConnections()
			}
		},
	}
	client, err := retry.NewRetryableClient(&http.Client{Transport: base, Timeout: 3 * time.Second}, cfg)
	require.NoError(t, err)
	return client
}

// Each kind of bad network: what gets through is whole, to the byte, and what
// does not is tried again until it does.
func TestToxiproxy(t *testing.T) {
	for name, c := range map[string]struct {
		toxic string
		fails bool // until the way is clean
	}{
		"latency":        {`{"type":"latency","attributes":{"latency":50,"jitter":20}}`, false},
		"bandwidth":      {`{"type":"bandwidth","attributes":{"rate":20000}}`, false},
		"slow close":     {`{"type":"slow_close","attributes":{"delay":50}}`, false},
		"slicer":         {`{"type":"slicer","attributes":{"average_size":20000,"size_variation":1000,"delay":10}}`, false},
		"timeout":        {`{"type":"timeout","attributes":{"timeout":50}}`, true},
		"reset":          {`{"type":"reset_peer","attributes":{"timeout":0}}`, true},
		"data limit":     {`{"type":"limit_data","attributes":{"bytes":100000}}`, true},
		"data limit, up": {`{"type":"limit_data","stream":"upstream","attributes":{"bytes":50}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("download", func(t *testing.T) {
				p := newProxied(t)
				p.poison(t, c.toxic)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.server.URL, nil)
				require.NoError(t, err)
				got, err := retry.Fetch(p.client(t, 2), req, func(resp *http.Response) ([]byte, error) { return io.ReadAll(resp.Body) })
				require.NoError(t, err)
				assert.True(t, bytes.Equal(payload, got), "%d bytes", len(got))
				assert.Equal(t, c.fails, p.clean.Load())
			})
			t.Run("upload", func(t *testing.T) {
				p := newProxied(t)
				p.poison(t, c.toxic)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.server.URL, bytes.NewReader(payload))
				require.NoError(t, err)
				got, err := retry.Fetch(p.client(t, 2), req, func(resp *http.Response) ([]byte, error) { return io.ReadAll(resp.Body) })
				require.NoError(t, err)
				sum := sha256.Sum256(payload)
				assert.Equal(t, sum[:], got)
			})
		})
	}
}

// Refused, and back again.
func TestToxiproxyRefusedAndBack(t *testing.T) {
	p := newProxied(t)
	listen := p.proxy.Listen
	p.proxy.Stop()
	base := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, listen)
	}}
	defer base.CloseIdleConnections()
	attempts := 0
	cfg := retry.Config{InitialDelay: time.Millisecond, OnRetry: func(context.Context, retry.Event) {
		if attempts++; attempts == 3 {
			p.proxy.Listen = listen
			assert.NoError(t, p.proxy.Start())
		}
	}}
	client, err := retry.NewRetryableClient(&http.Client{Transport: base, Timeout: 5 * time.Second}, cfg)
	require.NoError(t, err)
	resp, err := client.Post(t.Context(), p.server.URL, "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	resp.Body.Close()
	assert.EqualValues(t, 1, p.hits.Load())
	assert.Equal(t, 3, attempts)
}

// Nothing is left of a hundred requests over a bad network, but for what the
// proxy keeps itself.
func TestToxiproxyLeavesNothing(t *testing.T) {
	p := newProxied(t)
	p.poison(t, `{"type":"reset_peer","attributes":{"timeout":1},"toxicity":0.5}`)
	base := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, p.proxy.Listen)
	}}
	client, err := retry.NewRetryableClient(&http.Client{Transport: base, Timeout: time.Second},
		retry.Config{InitialDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond, MaxRetries: 3})
	require.NoError(t, err)
	before := count(t)
	for range 100 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.server.URL, nil)
		require.NoError(t, err)
		_, err = retry.Fetch(client, req, func(resp *http.Response) (int64, error) { return io.Copy(io.Discard, resp.Body) })
		var given *retry.Error
		assert.True(t, err == nil || errors.As(err, &given), "%v", err)
	}
	client.CloseIdleConnections()
	p.proxy.Stop()
	p.server.CloseClientConnections()
	settled(t, before, 4)
}

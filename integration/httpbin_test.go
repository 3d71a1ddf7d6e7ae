package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mccutchen/go-httpbin/v2/httpbin"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func newHTTPBin(t testing.TB) *httptest.Server {
	app := httpbin.New(httpbin.WithMaxBodySize(32<<20), httpbin.WithMaxDuration(5*time.Second))
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)
	return server
}

var quick = retry.Config{InitialDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond}

// What a client over the library gets from each address of the menu is, byte
// for byte, what a plain client gets.
func TestHTTPBinMenu(t *testing.T) {
	server := newHTTPBin(t)
	transport, err := retry.NewTransport(http.DefaultTransport, quick)
	require.NoError(t, err)
	retrying, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second}, quick)
	require.NoError(t, err)
	for _, path := range []string{
		"/get?a=1&b=%20", "/headers", "/user-agent", "/ip", "/encoding/utf8", "/html", "/json", "/xml", "/robots.txt", "/deny",
		"/gzip", "/deflate", "/base64/aGVsbG8gd29ybGQ=", "/bytes/100000?seed=7", "/stream-bytes/100000?seed=7&chunk_size=1000",
		"/range/100000", "/stream/20", "/drip?duration=100ms&numbytes=50&delay=10ms", "/links/5/2", "/image/png", "/image/svg",
		"/image/jpeg", "/cache", "/etag/abc", "/response-headers?X-One=1&X-Two=2", "/status/204", "/status/200", "/redirect/3",
		"/relative-redirect/2", "/absolute-redirect/2", "/redirect-to?url=/get", "/cookies", "/cookies/set?a=b", "/basic-auth/u/p",
		"/delay/0.05", "/anything/a/b?c=d", "/hidden-basic-auth/u/p", "/bearer", "/digest-auth/auth/u/p/MD5", "/dump/request", "/sse?count=3&duration=50ms&delay=0s",
		"/trailers?trailer1=value1", "/status/404", "/status/418", "/status/500", "/unstable?failure_rate=0", "/problem", "/hostname",
	} {
		t.Run(path, func(t *testing.T) {
			want := fetch(t, &http.Client{}, server.URL+path)
			assert.Equal(t, want, fetch(t, &http.Client{Transport: transport}, server.URL+path), "Transport")
			assert.Equal(t, want, fetch(t, retrying.StandardClient(), server.URL+path), "StandardClient")
		})
	}
}

type answer struct {
	status  int
	length  int64
	body    string
	headers http.Header
	trailer http.Header
	cookies []string
}

func fetch(t testing.TB, client *http.Client, url string) (a answer) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	copied := *client
	copied.Jar = jar
	resp, err := copied.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	// What differs between two requests by the same client does not count.
	a = answer{resp.StatusCode, resp.ContentLength, scrub(string(body)), resp.Header.Clone(), resp.Trailer, nil}
	for _, name := range []string{"Date", "Last-Modified", "Etag", "Www-Authenticate", "Set-Cookie", "Server-Timing"} {
		a.headers.Del(name)
		a.trailer.Del(name)
	}
	for _, c := range jar.Cookies(resp.Request.URL) {
		a.cookies = append(a.cookies, c.Name)
	}
	return a
}

// scrub blanks the port that a request came from, ids and times in answers.
func scrub(body string) string {
	var fields map[string]any
	if json.Unmarshal([]byte(body), &fields) == nil {
		delete(fields, "id")
		if text, err := json.Marshal(fields); err == nil {
			return string(text)
		}
	}
	if strings.HasPrefix(body, "event: ping") { // has timestamps
		return fmt.Sprint(strings.Count(body, "event: ping"))
	}
	return body
}

// Bodies of ten MiB come back as they went, whatever the reader, through
// /anything and with a failure before.
func TestHTTPBinUploads(t *testing.T) {
	server := newHTTPBin(t)
	client, err := retry.NewRetryableClient(&http.Client{Timeout: 30 * time.Second}, quick, retry.ReplayBuffer(16<<20))
	require.NoError(t, err)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16)
	sum := sha256.Sum256(payload)
	for name, body := range map[string]io.Reader{
		"bytes":     bytes.NewReader(payload),
		"one shot":  io.MultiReader(bytes.NewReader(payload)),
		"pipe-like": struct{ io.Reader }{bytes.NewReader(payload)},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := client.Post(t.Context(), server.URL+"/post", "application/octet-stream", body)
			require.NoError(t, err)
			defer resp.Body.Close()
			var echoed struct {
				Data    string              `json:"data"`
				Headers map[string][]string `json:"headers"`
			}
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&echoed))
			got, ok := strings.CutPrefix(echoed.Data, "data:application/octet-stream;base64,")
			require.True(t, ok)
			assert.Equal(t, sum, sha256.Sum256(decode64(t, got)))
			assert.Len(t, echoed.Headers["Idempotency-Key"], 1)
		})
	}
}

// A server that fails half of the time fails no caller that may try ten times.
func TestHTTPBinUnstable(t *testing.T) {
	server := newHTTPBin(t)
	cfg := quick
	cfg.MaxRetries = 40
	client, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second}, cfg)
	require.NoError(t, err)
	for n := range 50 {
		resp, err := client.Get(context.Background(), fmt.Sprintf("%s/unstable?failure_rate=0.5&seed=%d%d", server.URL, n, time.Now().UnixNano()%1000))
		if err != nil { // the seed decides for all attempts of a request
			assert.Equal(t, "max_retries", retry.Outcome(err))
			continue
		}
		resp.Body.Close()
		assert.Equal(t, 200, resp.StatusCode)
	}
}

package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// haproxy starts one before a server; backend are lines of its backend section.
func haproxy(t testing.TB, upstream, backend string) string {
	t.Helper()
	return startHAProxy(t, fmt.Sprintf("%s\n\tserver s %s maxconn 2", backend, strings.TrimPrefix(upstream, "http://")))
}

// startHAProxy starts one with the lines of its backend section, servers included.
func startHAProxy(t testing.TB, backend string) string {
	t.Helper()
	path := program(t, "haproxy", "/usr/sbin/haproxy")
	port := freePort(t)
	conf := write(t, filepath.Join(t.TempDir(), "haproxy.cfg"), fmt.Sprintf(`
global
	maxconn 256
defaults
	mode http
	timeout connect 2s
	timeout client 10s
	timeout server 10s
	retries 0
frontend front
	bind 127.0.0.1:%d
	default_backend back
backend back
	%s
`, port, backend))
	start(t, func() *exec.Cmd { return exec.Command(path, "-db", "-f", conf) }, listening(port))
	return "http://" + address(port)
}

// A balancer with two connections to its server queues what is more, and answers
// 503 to what waits in the queue for too long: those come again, and all jobs
// are done, each once.
func TestHAProxyQueue(t *testing.T) {
	const n = 200
	var arrived jobs
	hold := make(chan struct{}, 1)
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(10 * time.Millisecond) // what the work takes
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-hold:
		}
		arrived.ServeHTTP(w, r)
	}))
	defer behind.Close()
	url := haproxy(t, behind.URL, "timeout queue 30ms")
	client, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second},
		retry.Config{InitialDelay: 20 * time.Millisecond, MaxDelay: 200 * time.Millisecond, MaxRetries: 100, Jitter: retry.FullJitter})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	assert.Zero(t, work(t.Context(), t, client, url, n, 40))
	arrived.once(t, n)
}

// A balancer that drops one connection in three without an answer (silent-drop
// is for attackers; reject closes), and says 503 with a Retry-After to another.
func TestHAProxyDropsAndRefuses(t *testing.T) {
	const n = 90
	var arrived jobs
	behind := httptest.NewServer(&arrived)
	defer behind.Close()
	url := haproxy(t, behind.URL, `http-request reject if { rand(3) eq 0 }
	http-request return status 503 content-type text/plain string later hdr Retry-After 0 if { rand(3) eq 0 }`)
	for name, post := range map[string]bool{"GET": false, "POST": true} {
		t.Run(name, func(t *testing.T) {
			arrived = jobs{}
			client, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second},
				retry.Config{InitialDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond, MaxRetries: 60})
			require.NoError(t, err)
			defer client.CloseIdleConnections()
			if !post {
				assert.Zero(t, work(t.Context(), t, client, url, n, 10))
				arrived.once(t, n)
				return
			}
			var failed atomic.Int64
			for job := range n {
				resp, err := client.Post(t.Context(), fmt.Sprintf("%s/?job=%d", url, job), "text/plain", strings.NewReader("x"))
				if err != nil {
					failed.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			assert.Zero(t, failed.Load())
			arrived.once(t, n)
		})
	}
}

// No server is up: HAProxy itself answers 503, and the client gives up in time.
func TestHAProxyWithoutAServer(t *testing.T) {
	url := haproxy(t, "http://"+address(freePort(t)), "")
	client, err := retry.NewRetryableClient(&http.Client{Timeout: time.Second}, quick)
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	_, err = client.Get(t.Context(), url)
	assert.Equal(t, "max_retries", retry.Outcome(err))
	var status *retry.StatusError
	require.ErrorAs(t, err, &status)
	assert.Equal(t, 503, status.StatusCode)
}

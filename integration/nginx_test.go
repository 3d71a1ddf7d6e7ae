package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// jobs counts each job's arrivals at the server behind the proxy.
type jobs struct {
	mu   sync.Mutex
	seen map[string]int
}

func (j *jobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	j.mu.Lock()
	if j.seen == nil {
		j.seen = make(map[string]int)
	}
	j.seen[r.URL.Query().Get("job")]++
	j.mu.Unlock()
	fmt.Fprintf(w, "done %s", r.URL.Query().Get("job"))
}

// once checks that each of n jobs arrived, and none twice.
func (j *jobs) once(t testing.TB, n int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	assert.Len(t, j.seen, n, "jobs that arrived")
	for job, times := range j.seen {
		assert.Equal(t, 1, times, "job %s", job)
	}
}

// nginx starts one before a server, with the given lines in its location.
func nginx(t testing.TB, upstream, zone, location string) (*process, string) {
	t.Helper()
	path := program(t, "nginx", "/usr/sbin/nginx")
	dir, port := t.TempDir(), freePort(t)
	for _, d := range []string{"body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	conf := write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
daemon off;
master_process on;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log crit;
%[6]s
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	%[4]s
	upstream behind { server %[3]s; keepalive 32; }
	server {
		listen 127.0.0.1:%[2]d;
		error_page 429 = @limited;
		location @limited { internal; add_header Retry-After 1 always; return 429 "slow down"; }
		location / {
			%[5]s
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_pass http://behind;
		}
	}
}
`, dir, port, strings.TrimPrefix(upstream, "http://"), zone, location, asRoot()))
	p := start(t, func() *exec.Cmd { return exec.Command(path, "-p", dir, "-c", conf) }, listening(port))
	return p, "http://" + address(port)
}

// asRoot keeps nginx's workers able to read the test's directory.
func asRoot() string {
	if os.Geteuid() == 0 {
		return "user root;"
	}
	return ""
}

// work does n jobs by so many goroutines through client, and counts the
// refusals that the client met.
func work(ctx context.Context, t testing.TB, client *retry.RetryableClient, url string, n, goroutines int) (failed int64) {
	t.Helper()
	var next, lost atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for {
				job := next.Add(1)
				if job > int64(n) {
					return
				}
				resp, err := client.Get(ctx, url+"/?job="+strconv.FormatInt(job, 10))
				if err != nil {
					lost.Add(1)
					t.Logf("job %d: %v", job, err)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	return lost.Load()
}

// A real limiter that the client does not know of: 100 a second. All jobs are
// done, none is lost or doubled, and with the shared pause they take little
// longer than they must.
func TestNginxLimit(t *testing.T) {
	const n, rate, burst = 2000, 100, 20
	least := time.Duration(float64(n-burst)/rate*1000) * time.Millisecond
	for name, c := range map[string]struct {
		opts []retry.Option
		most float64
	}{
		"with the shared pause":    {nil, 1.3},
		"without the shared pause": {[]retry.Option{retry.NoSharedPause()}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var arrived jobs
			behind := httptest.NewServer(&arrived)
			defer behind.Close()
			_, url := nginx(t, behind.URL, "limit_req_zone $binary_remote_addr zone=all:1m rate=100r/s;",
				fmt.Sprintf("limit_req zone=all burst=%d nodelay; limit_req_status 429;", burst))
			var refusals atomic.Int64
			cfg := retry.Config{MaxRetries: 100, OnRetry: func(context.Context, retry.Event) { refusals.Add(1) }}
			client, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second}, cfg, c.opts...)
			require.NoError(t, err)
			defer client.CloseIdleConnections()
			before := time.Now()
			assert.Zero(t, work(t.Context(), t, client, url, n, 50))
			took := time.Since(before)
			t.Logf("%d jobs at %d/s: %v of at least %v (%.2f x), %d refusals (%.0f per 1,000)",
				n, rate, took.Round(10*time.Millisecond), least, took.Seconds()/least.Seconds(), refusals.Load(), float64(refusals.Load())*1000/n)
			arrived.once(t, n)
			if c.most > 0 {
				assert.LessOrEqual(t, took.Seconds(), c.most*least.Seconds())
			}
		})
	}
}

// A reload under load loses nothing: connections are closed, and requests that
// cannot have been carried out are sent again.
func TestNginxReload(t *testing.T) {
	const n = 20000
	var arrived jobs
	behind := httptest.NewServer(&arrived)
	defer behind.Close()
	p, url := nginx(t, behind.URL, "", "")
	client, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second}, retry.Config{InitialDelay: 10 * time.Millisecond})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		assert.Zero(t, work(t.Context(), t, client, url, n, 20))
	}()
	reloads := 0
	for running := true; running; {
		select {
		case <-finished:
			running = false
		case <-time.After(100 * time.Millisecond): // several reloads within the load
			p.signal(syscall.SIGHUP)
			reloads++
		}
	}
	t.Logf("%d reloads", reloads)
	arrived.mu.Lock()
	defer arrived.mu.Unlock()
	assert.Len(t, arrived.seen, n)
}

// The server behind nginx goes away and comes back: what is answered with 502
// meanwhile is sent again, and no job is lost.
func TestNginxUpstreamRestart(t *testing.T) {
	const n = 8000
	var arrived jobs
	port := freePort(t)
	serve := func() *http.Server {
		s := &http.Server{Addr: address(port), Handler: &arrived}
		ready := make(chan struct{})
		go func() { close(ready); _ = s.ListenAndServe() }()
		<-ready
		return s
	}
	server := serve()
	_, url := nginx(t, "http://"+address(port), "", "")
	client, err := retry.NewRetryableClient(&http.Client{Timeout: 10 * time.Second}, retry.Config{InitialDelay: 50 * time.Millisecond, MaxRetries: 20})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	var done atomic.Bool
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		defer done.Store(true)
		assert.Zero(t, work(t.Context(), t, client, url, n, 10))
	}()
	for !done.Load() {
		require.NoError(t, server.Close())
		select {
		case <-finished:
		case <-time.After(100 * time.Millisecond): // an outage
		}
		server = serve()
		select {
		case <-finished:
		case <-time.After(200 * time.Millisecond): // and work
		}
	}
	require.NoError(t, server.Close())
	arrived.mu.Lock()
	defer arrived.mu.Unlock()
	assert.Len(t, arrived.seen, n)
}

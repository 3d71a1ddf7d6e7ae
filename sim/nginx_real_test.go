package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// nginx starts a real one that lets 100 calls a second through, with a burst or
// without, and returns its URL. It is skipped where there is none.
func nginx(t *testing.T, burst string) string {
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("there is no nginx")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	prefix := t.TempDir()
	config := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log crit;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 1000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	limit_req_zone $server_name zone=all:1m rate=100r/s;
	limit_req_status 429;
	server {
		listen %[2]s;
		server_name localhost;
		error_page 429 = @refused;
		location @refused { add_header Retry-After 1 always; return 429; }
		location / { limit_req zone=all %[3]s; try_files /file =404; root %[1]s; }
	}
}
`, prefix, address, burst)
	require.NoError(t, os.WriteFile(filepath.Join(prefix, "conf"), []byte(config), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(prefix, "file"), []byte("ok"), 0o644))
	cmd := exec.Command(program, "-p", prefix, "-c", filepath.Join(prefix, "conf"))
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, 5*time.Second, 10*time.Millisecond)
	return "http://" + address + "/"
}

// refusals counts the 429s of a transport.
type refusals struct {
	base  http.RoundTripper
	count atomic.Int64
}

func (r *refusals) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.base.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusTooManyRequests {
		r.count.Add(1)
	}
	return resp, err
}

// 2,000 jobs by 50 goroutines through one client, at a real nginx:
//
//	REAL_NGINX=1 go test -v -run TestRealNginx ./sim
func TestRealNginx(t *testing.T) {
	if os.Getenv("REAL_NGINX") == "" {
		t.Skip("takes a minute of real time: set REAL_NGINX=1")
	}
	for name, burst := range map[string]string{"burst 20": "burst=20 nodelay", "no burst": ""} {
		t.Run(name, func(t *testing.T) {
			url := nginx(t, burst)
			base := http.DefaultTransport.(*http.Transport).Clone()
			base.MaxIdleConnsPerHost = 100
			counted := &refusals{base: base}
			client, err := retry.NewRetryableClient(&http.Client{Transport: counted}, retry.Config{MaxRetries: 20})
			require.NoError(t, err)
			var left, failed atomic.Int64
			left.Store(2000)
			var wg sync.WaitGroup
			start := time.Now()
			for range 50 {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						resp, err := client.Get(t.Context(), url)
						if err != nil {
							failed.Add(1)
							continue
						}
						resp.Body.Close()
					}
				})
			}
			wg.Wait()
			t.Logf("%.1f s, %d refused, %d failed", time.Since(start).Seconds(), counted.count.Load(), failed.Load())
			require.Zero(t, failed.Load())
		})
	}
}

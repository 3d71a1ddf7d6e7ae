package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/download"
	"github.com/retryutils/retry/sse"
)

// release is a long file, as those that genomics services publish.
func release() []byte {
	data := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{27}).Read(data)
	return data
}

// nginxFiles starts one that serves a directory.
func nginxFiles(t testing.TB, root string) string {
	t.Helper()
	path := program(t, "nginx", "/usr/sbin/nginx")
	dir, port := t.TempDir(), freePort(t)
	conf := write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log crit;
%[4]s
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s;
	proxy_temp_path %[1]s;
	fastcgi_temp_path %[1]s;
	uwsgi_temp_path %[1]s;
	scgi_temp_path %[1]s;
	gzip on;
	gzip_types *;
	server { listen 127.0.0.1:%[2]d; root %[3]s; }
}
`, dir, port, root, asRoot()))
	start(t, func() *exec.Cmd { return exec.Command(path, "-p", dir, "-c", conf) }, listening(port))
	return "http://" + address(port)
}

// brokenWay is a client whose every connection goes through a toxiproxy that ends it
// after so many bytes.
func brokenWay(t testing.TB, url string, bytes int, retried func(error)) *retry.RetryableClient {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(api, "way", "127.0.0.1:0", strings.TrimPrefix(url, "http://"))
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	_, err := proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"type":"limit_data","attributes":{"bytes":%d}}`, bytes)))
	require.NoError(t, err)
	base := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, proxy.Listen)
	}}
	cfg := retry.Config{
		InitialDelay: 5 * time.Millisecond, MaxDelay: 50 * time.Millisecond, MaxRetries: 3,
		OnRetry: func(_ context.Context, e retry.Event) { retried(e.Err) },
	}
	client, err := retry.NewRetryableClient(&http.Client{Transport: base, Timeout: 10 * time.Second}, cfg, retry.IdleTimeout(5*time.Second))
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// arrives downloads a URL over a way that breaks every 700 kB, and checks what came.
func arrives(t *testing.T, server, url string, data []byte) {
	t.Helper()
	var retries atomic.Int64
	client := brokenWay(t, server, 700_000, func(error) { retries.Add(1) })
	path := filepath.Join(t.TempDir(), "release")
	sum := sha256.Sum256(data)
	began := time.Now()
	result, err := download.File(t.Context(), client, url, path, download.Checksum(sha256.New(), sum[:]))
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, got))
	assert.EqualValues(t, len(data), result.Bytes)
	assert.GreaterOrEqual(t, retries.Load(), int64(len(data)/700_000))
	assert.LessOrEqual(t, retries.Load(), int64(len(data)/690_000)+1, "it goes on where it was")
	t.Logf("%d bytes over %d breaks in %v", result.Bytes, retries.Load(), time.Since(began).Round(time.Millisecond))
}

// A file of nginx's, which would compress it if it was let, arrives over a way that
// breaks again and again; a change on the server begins it again.
func TestDownloadNginx(t *testing.T) {
	root, data := t.TempDir(), release()
	require.NoError(t, os.Chmod(root, 0o755))
	file := write(t, filepath.Join(root, "release.txt"), string(data))
	require.NoError(t, os.Chmod(file, 0o644))
	url := nginxFiles(t, root)
	arrives(t, url, url+"/release.txt", data)

	var retries atomic.Int64
	newer := data[1<<20 : 4<<20]
	client := brokenWay(t, url, 700_000, func(err error) {
		if retries.Add(1) == 3 {
			assert.NoError(t, os.Remove(file))
			assert.NoError(t, os.WriteFile(file, newer, 0o644))
		}
		if retries.Load() == 4 {
			assert.ErrorIs(t, err, download.ErrChanged)
		}
	})
	path := filepath.Join(t.TempDir(), "release")
	_, err := download.File(t.Context(), client, url+"/release.txt", path)
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(newer, got), "%d bytes", len(got))
}

// The same with HAProxy between.
func TestDownloadHAProxy(t *testing.T) {
	root, data := t.TempDir(), release()
	require.NoError(t, os.Chmod(root, 0o755))
	require.NoError(t, os.Chmod(write(t, filepath.Join(root, "release.txt"), string(data)), 0o644))
	url := haproxy(t, nginxFiles(t, root), "")
	arrives(t, url, url+"/release.txt", data)
}

// A presigned URL of MinIO's, behind a redirect: each address is good for a moment, and
// resolved again.
func TestDownloadMinIO(t *testing.T) {
	path := filepath.Join(os.Getenv("HOME"), "go", "bin", "minio")
	if _, err := os.Stat(path); err != nil && os.Getenv("NEED_MINIO") == "" {
		t.Skip("no MinIO, which takes many minutes to build: the nightly workflow has it")
	}
	port := freePort(t)
	dir := t.TempDir()
	start(t, func() *exec.Cmd {
		cmd := exec.Command(path, "server", dir, "--address", address(port), "--quiet")
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER=root-user", "MINIO_ROOT_PASSWORD=root-password", "MINIO_BROWSER=off")
		return cmd
	}, func(ctx context.Context) error { // it listens long before it can store anything
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address(port)+"/minio/health/cluster", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return retry.CheckStatus(resp)
	})
	store, err := minio.New(address(port), &minio.Options{Creds: miniocreds.NewStaticV4("root-user", "root-password", ""), Region: "us-east-1"})
	require.NoError(t, err)
	require.NoError(t, store.MakeBucket(t.Context(), "releases", minio.MakeBucketOptions{}))
	data := release()
	_, err = store.PutObject(t.Context(), "releases", "release.txt", bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
	require.NoError(t, err)

	presigned, err := store.PresignedGetObject(t.Context(), "releases", "release.txt", time.Minute, nil)
	require.NoError(t, err)
	server := "http://" + address(port)
	arrives(t, server, presigned.String(), data)

	var issued atomic.Int64
	origin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := store.PresignedGetObject(r.Context(), "releases", "release.txt", time.Duration(1+issued.Add(1))*time.Second, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, u.String(), http.StatusFound)
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = origin.Serve(listener) }()
	t.Cleanup(func() { _ = origin.Close() })
	var retries atomic.Int64
	client, err := retry.NewRetryableClient(&http.Client{Transport: &cutEvery{base: http.DefaultTransport, bytes: 700_000, from: server}, Timeout: 10 * time.Second},
		retry.Config{InitialDelay: time.Millisecond, OnRetry: func(context.Context, retry.Event) { retries.Add(1) }})
	require.NoError(t, err)
	target := filepath.Join(t.TempDir(), "release")
	_, err = download.File(t.Context(), client, "http://"+listener.Addr().String(), target)
	require.NoError(t, err)
	got, err := os.ReadFile(target)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, got))
	assert.Equal(t, retries.Load()+1, issued.Load(), "each attempt has an address of its own")
	assert.Positive(t, retries.Load())
}

// cutEvery cuts the bodies of one server.
type cutEvery struct {
	base  http.RoundTripper
	bytes int64
	from  string
}

func (c *cutEvery) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(req)
	if err == nil && strings.HasPrefix(req.URL.String(), c.from) {
		resp.Body = &cutBody{resp.Body, c.bytes}
	}
	return resp, err
}

// A feed of events through HAProxy, which ends each connection after a second, and over
// a way that breaks: nothing is lost, and nothing comes twice.
func TestStreamHAProxy(t *testing.T) {
	const events = 2000
	var connections atomic.Int64
	feed := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections.Add(1)
		last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		if last == events {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for id := last + 1; id <= events; id++ {
			fmt.Fprintf(w, "id: %d\ndata: %s\n\n", id, strings.Repeat("x", 100))
			if id%50 == 0 {
				w.(http.Flusher).Flush()
			}
		}
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = feed.Serve(listener) }()
	t.Cleanup(func() { _ = feed.Close() })
	url := haproxy(t, "http://"+listener.Addr().String(), "")
	var retries atomic.Int64
	client := brokenWay(t, url, 20_000, func(error) { retries.Add(1) })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	next := 1
	for event, err := range sse.Stream(client, req) {
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(next), event.ID)
		next++
	}
	assert.Equal(t, events+1, next)
	t.Logf("%d events over %d connections, %d retries", next-1, connections.Load(), retries.Load())
}

// cutBody breaks off after so many bytes.
type cutBody struct {
	io.ReadCloser
	left int64
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

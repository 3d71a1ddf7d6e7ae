package download_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/download"
)

var downloads = flag.Int("downloads", 150, "how many downloads TestDownloads makes")

// fickle is a server with one file for each download, and faults at random bytes.
type fickle struct {
	random  *rand.Rand
	data    []byte
	version int
	changes int // that may still happen
	faults  int // that may still happen
	wrong   int
	sent    int64
	changed bool
}

func (f *fickle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.changes > 0 && f.random.IntN(10) == 0 {
		f.changes--
		f.changed = true
		f.version++
		f.data = random(f.random.IntN(200_000), f.random.Uint64())
	}
	tag := fmt.Sprintf(`"%d"`, f.version)
	w.Header().Set("ETag", tag)
	start, end := 0, len(f.data)
	status := http.StatusOK
	if text := r.Header.Get("Range"); text != "" && r.Header.Get("If-Range") == tag {
		fmt.Sscanf(text, "bytes=%d-", &start)
		if start >= end {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", end))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		status = http.StatusPartialContent
	}
	fault := 0
	if f.faults > 0 {
		fault = f.random.IntN(8)
		f.faults--
	}
	first := start
	if fault == 1 && status == http.StatusPartialContent && f.wrong < 3 { // after four the whole is asked for
		f.wrong++
		first = max(0, start-1-f.random.IntN(100))
	}
	if status == http.StatusPartialContent {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, end-1, end))
	}
	body := f.data[first:end]
	if fault != 2 { // else in chunks
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	if fault == 3 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(status)
	cut := len(body)
	if fault >= 4 || fault == 2 {
		cut = f.random.IntN(len(body) + 1)
	}
	n, _ := w.Write(body[:cut])
	f.sent += int64(n)
	if fault < 4 && fault != 2 {
		return
	}
	w.(http.Flusher).Flush()
	switch fault {
	case 5: // a reset
		if hijacker, ok := w.(http.Hijacker); ok {
			conn, _, _ := hijacker.Hijack()
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			return
		}
	case 6: // a stall
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	}
	panic(http.ErrAbortHandler)
}

// Downloads of random sizes through cuts, resets, stalls, wrong ranges, refusals and
// files that change, all at random: each ends with the file, to the byte, or with an
// error and no file. Where the file did not change, nothing that was received is asked for
// again: no more is sent than the file, and what was in flight at the cuts. Run it with -downloads 10000 for the proof.
func TestDownloads(t *testing.T) {
	const workers = 8
	var failed, changedFiles, size, sent, flight, cuts atomic.Int64
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for worker := range workers {
		wg.Go(func() {
			var mu sync.Mutex
			var current *fickle
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				current.ServeHTTP(w, r)
			}))
			defer server.Close()
			cfg := soon
			cfg.MaxRetries = 8
			cfg.OnRetry = func(_ context.Context, e retry.Event) { cuts.Add(1) }
			received := new(atomic.Int64)
			client := clientOf(t, nil, cfg, retry.IdleTimeout(50*time.Millisecond), retry.NoSharedPause(),
				retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
					return roundTrip(func(req *http.Request) (*http.Response, error) {
						resp, err := base.RoundTrip(req)
						if err == nil {
							resp.Body = &counted{resp.Body, received}
						}
						return resp, err
					})
				}))
			dir := t.TempDir()
			for {
				n := next.Add(1)
				if n > int64(*downloads) {
					return
				}
				source := rand.New(rand.NewPCG(uint64(n), 27))
				f := &fickle{random: rand.New(rand.NewPCG(uint64(n), 28)), faults: source.IntN(12), changes: max(0, source.IntN(6)-4)}
				f.data = random(source.IntN(1<<source.IntN(21)), uint64(n))
				mu.Lock()
				current = f
				mu.Unlock()
				path := filepath.Join(dir, fmt.Sprint("file", n))
				// Some give up on the way, and come again, as another process would.
				var err error
				received.Store(0)
				asked := int64(1)
				for range 20 {
					ctx, cancel := context.WithCancel(t.Context())
					if source.IntN(4) == 0 {
						time.AfterFunc(time.Duration(source.IntN(10))*time.Millisecond, cancel)
					}
					_, err = download.File(ctx, client, fmt.Sprint(server.URL, "/", n), path)
					cancel()
					if !errors.Is(err, context.Canceled) {
						break
					}
					asked++
				}
				mu.Lock()
				got, readErr := os.ReadFile(path)
				if err == nil {
					assert.NoError(t, readErr)
					assert.True(t, bytes.Equal(f.data, got), "download %d: %d bytes, want %d", n, len(got), len(f.data))
					if !f.changed {
						size.Add(int64(len(f.data)))
						sent.Add(f.sent)
						got := received.Load()
						flight.Add(f.sent - got)
						// Of a part that is whole, its last byte is asked for.
						assert.LessOrEqual(t, float64(got), 1.02*float64(len(f.data))+float64(asked), "download %d: bytes received", n)
					} else {
						changedFiles.Add(1)
					}
				} else {
					failed.Add(1)
					assert.ErrorIs(t, readErr, os.ErrNotExist, "download %d", n)
				}
				mu.Unlock()
				if t.Failed() {
					t.Logf("worker %d stops", worker)
					return
				}
				for _, suffix := range []string{"", ".part", ".part.json"} {
					os.Remove(path + suffix)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d downloads in %v: %d failed, %d changed; %d retries; of the others %d bytes sent for %d (%.4f), of which in flight at cuts %d, received %.4f",
		*downloads, time.Since(began).Round(time.Millisecond), failed.Load(), changedFiles.Load(), cuts.Load(), sent.Load(), size.Load(),
		float64(sent.Load())/float64(max(1, size.Load())), flight.Load(), float64(sent.Load()-flight.Load())/float64(max(1, size.Load())))
}

// Throughput over the loopback, to a file, beside io.Copy.
func BenchmarkDownload(b *testing.B) {
	const size = 256 << 20
	data := random(1<<20, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for range size / len(data) {
			w.Write(data)
		}
	}))
	defer server.Close()
	client := clientOf(b, nil, soon)
	path := filepath.Join(b.TempDir(), "file")
	b.Run("io.Copy", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			resp, err := client.Get(b.Context(), server.URL)
			require.NoError(b, err)
			file, err := os.Create(path)
			require.NoError(b, err)
			_, err = io.Copy(file, resp.Body)
			require.NoError(b, err)
			resp.Body.Close()
			require.NoError(b, file.Sync())
			require.NoError(b, file.Close())
		}
	})
	b.Run("download", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			_, err := download.File(b.Context(), client, server.URL, path)
			require.NoError(b, err)
		}
	})
	b.Run("download and SHA-256", func(b *testing.B) {
		sum := sha256.New()
		for range size / len(data) {
			sum.Write(data)
		}
		want := sum.Sum(nil)
		b.SetBytes(size)
		for b.Loop() {
			_, err := download.File(b.Context(), client, server.URL, path, download.Checksum(sha256.New(), want))
			require.NoError(b, err)
		}
	})
}

// counted counts what is read of a body.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

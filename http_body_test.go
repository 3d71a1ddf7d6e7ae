package retry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func TestEmptyRequestBodies(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"nil": nil, "NoBody": http.NoBody, "bytes": bytes.NewReader(nil), "string": strings.NewReader(""), "buffer": new(bytes.Buffer),
	} {
		for _, method := range []string{"POST", "PUT"} {
			t.Run(name+method, func(t *testing.T) {
				refusal := status(503, "Retry-After", "0")
				server := newStand(t, refusal, refusal, status(200))
				resp, err := outcomeTransport(t, soon).Do(newRequest(t, method, server.URL, body))
				read(t, resp, err)
				for _, r := range server.requests() {
					assert.Zero(t, r.length)
					assert.Empty(t, r.encoding)
				}
				assert.Equal(t, 3, server.hits())
			})
		}
	}
}

// tempFile is an open file, from whose fourth byte on it holds body.
func tempFile(t testing.TB, body string) *os.File {
	file, err := os.Create(filepath.Join(t.TempDir(), "body"))
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	_, err = file.WriteString("skip" + body)
	require.NoError(t, err)
	_, err = file.Seek(4, io.SeekStart)
	require.NoError(t, err)
	return file
}

// Every attempt gets the same bytes with the same length, whatever they come from.
func TestEveryAttemptSendsTheSameBytes(t *testing.T) {
	want := strings.Repeat("gene ", 5000)
	for _, test := range []struct {
		name   string
		body   io.Reader
		length int64
	}{
		{"bytes", bytes.NewReader([]byte(want)), int64(len(want))},
		{"string", strings.NewReader(want), int64(len(want))},
		{"buffer", bytes.NewBufferString(want), int64(len(want))},
		{"file from its offset", tempFile(t, want), int64(len(want))},
		{"one-shot", io.LimitReader(strings.NewReader(want), 1<<20), -1},
		{"one-shot, small reads", &oneByte{strings.NewReader(want)}, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newStand(t, status(503), reset, status(429), status(200))
			resp, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "text/plain", test.body)
			read(t, resp, err)
			seen := server.requests()
			require.Len(t, seen, 4)
			for i, r := range seen {
				assert.True(t, want == r.body, "attempt %d: %d bytes, not the %d", i, len(r.body), len(want))
				assert.Equal(t, test.length, r.length)
				assert.Equal(t, "text/plain", r.header.Get("Content-Type"))
			}
		})
	}
}

type oneByte struct{ r io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(7, len(p))]) }

// A body that can be read again is not copied: retries of a large one cost no more
// memory than those of a small one.
func TestRequestBodyIsNotCopied(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(503)
	}))
	defer server.Close()
	body := make([]byte, 8<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, "", bytes.NewReader(body))
	runtime.ReadMemStats(&after)
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<20))
}

func TestRequestBodyIsClosedExactlyOnce(t *testing.T) {
	open, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	open.ForceOpen()
	paused := retry.NewGate(nil)
	paused.Pause(1 << 40)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	with := func(change func(*retry.Config)) retry.Config { cfg := soon; change(&cfg); return cfg }

	for _, test := range []struct {
		name   string
		cfg    retry.Config
		ctx    context.Context
		answer http.HandlerFunc
	}{
		{"success", soon, t.Context(), status(200)},
		{"give-up on a status", soon, t.Context(), status(503)},
		{"give-up on an error", soon, t.Context(), reset},
		{"not retried", soon, t.Context(), status(404)},
		{"breaker", with(func(c *retry.Config) { c.Breaker = open }), t.Context(), status(200)},
		{"gate", with(func(c *retry.Config) { c.Gate, c.MaxElapsed = paused, 1 }), t.Context(), status(200)},
		{"limiter", with(func(c *retry.Config) { c.Limiter = stubborn{} }), t.Context(), status(200)},
		{"done", soon, cancelled, status(200)},
	} {
		for _, getBody := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				server := newStand(t, test.answer)
				both(t, &http.Client{Transport: &http.Transport{}}, test.cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
					var bodies []*countedClose
					fresh := func() (io.ReadCloser, error) {
						bodies = append(bodies, &countedClose{Reader: strings.NewReader("body")})
						return bodies[len(bodies)-1], nil
					}
					first, _ := fresh()
					req := newRequest(t, "PUT", server.URL, first).WithContext(test.ctx)
					if getBody {
						req.GetBody, req.ContentLength = fresh, 4
					}
					if resp, err := do(req); err == nil {
						resp.Body.Close()
					}
					for _, body := range bodies {
						assertClosed(t, body)
					}
				})
			})
		}
	}
}

type stubborn struct{}

func (stubborn) Wait(context.Context) error { return errors.New("no") }

// A body longer than the replay buffer is sent once, in as little memory as it
// takes, and the answer to it is there to read.
func TestOneShotBodyBeyondTheBuffer(t *testing.T) {
	var wrong atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, _ := io.Copy(io.Discard, r.Body); n != 16<<20 {
			wrong.Store(true)
		}
		w.WriteHeader(503)
		io.WriteString(w, "down")
	}))
	defer server.Close()
	cfg, tr := track(soon)
	client := outcomeTransport(t, cfg)
	read(t, must(client.Post(server.URL, "", io.LimitReader(endless{}, 16<<20))), nil) // warm up

	var peak uint64
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	body := &watchedHeap{Reader: io.LimitReader(endless{}, 16<<20), base: before.HeapAlloc, peak: &peak}
	got, text := read(t, must(client.Post(server.URL, "", body)), nil)
	assert.Equal(t, 503, got)
	assert.Equal(t, "down", text)
	assert.ErrorIs(t, tr.last().Err, retry.ErrBodyNotReplayable)
	assert.Equal(t, 1, tr.last().Attempt)
	assert.False(t, wrong.Load())
	assert.LessOrEqual(t, peak, uint64(1<<20+64<<10), "live heap")
}

// watchedHeap looks now and then at what is alive on the heap.
type watchedHeap struct {
	io.Reader
	base  uint64
	peak  *uint64
	total int
	seen  int
}

func (w *watchedHeap) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if w.total += n; w.total>>22 > w.seen {
		w.seen = w.total >> 22
		var now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&now)
		if now.HeapAlloc > w.base {
			*w.peak = max(*w.peak, now.HeapAlloc-w.base)
		}
	}
	return n, err
}

// Nothing is read ahead: what is written to a pipe arrives, and is answered, while
// the rest is still to be written.
func TestBodyFromAPipe(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		io.Copy(flushing{w}, r.Body)
	}))
	defer server.Close()
	both(t, &http.Client{Transport: &http.Transport{}}, soon, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
		in, out := io.Pipe()
		resp, err := do(newRequest(t, "POST", server.URL, in))
		require.NoError(t, err)
		defer resp.Body.Close()
		for _, word := range []string{"one", "two"} {
			_, err = io.WriteString(out, word)
			require.NoError(t, err)
			got := make([]byte, 3)
			_, err = io.ReadFull(resp.Body, got)
			require.NoError(t, err)
			assert.Equal(t, word, string(got))
		}
		out.Close()
		rest, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		assert.Empty(t, rest)
	})
}

type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.w.(http.Flusher).Flush()
	return n, err
}

// A server that refuses before it has seen the body costs nothing of it: even one
// longer than can be remembered may be sent then.
func TestExpectContinue(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.Header().Set("Connection", "close")
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(503)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		if n != 2<<20 {
			w.WriteHeader(400)
		}
	}))
	defer server.Close()
	base := &http.Transport{ExpectContinueTimeout: 1 << 40}
	transport, err := retry.NewTransport(base, soon)
	require.NoError(t, err)
	body := &countedClose{Reader: io.LimitReader(endless{}, 2<<20)}
	req := newRequest(t, "POST", server.URL, body)
	req.Header.Set("Expect", "100-continue")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	got, _ := read(t, resp, err)
	assert.Equal(t, 200, got)
	assert.EqualValues(t, 2, requests.Load())
	assertClosed(t, body)

	refusing := newStand417(t)
	req = newRequest(t, "POST", refusing, &countedClose{Reader: strings.NewReader("x")})
	req.Header.Set("Expect", "100-continue")
	resp, err = (&http.Client{Transport: transport}).Do(req)
	got, _ = read(t, resp, err)
	assert.Equal(t, 417, got)
}

func newStand417(t testing.TB) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(417)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A GetBody that fails ends the call; what had failed before is still there to
// find. In the Transport's form, there is an error and no response.
func TestGetBodyFails(t *testing.T) {
	errAgain := errors.New("cannot be read again")
	for name, body := range map[string]func() io.ReadCloser{
		"in memory": func() io.ReadCloser { return io.NopCloser(strings.NewReader("x")) },
		"other":     func() io.ReadCloser { return &countedClose{Reader: strings.NewReader("x")} },
	} {
		t.Run(name, func(t *testing.T) {
			breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 2})
			require.NoError(t, err)
			cfg := soon
			cfg.Breaker = breaker
			server := newStand(t, status(503))
			both(t, &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}, cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
				breaker.Reset()
				before := server.hits()
				first := body()
				req := newRequest(t, "PUT", server.URL, first)
				req.ContentLength = 1
				req.GetBody = func() (io.ReadCloser, error) { return nil, errAgain }
				resp, err := do(req)
				assert.Nil(t, resp)
				assert.ErrorIs(t, err, errAgain)
				var found *retry.StatusError
				require.ErrorAs(t, err, &found)
				assert.Equal(t, 503, found.StatusCode)
				var gave *retry.Error
				require.ErrorAs(t, err, &gave)
				assert.Equal(t, 1, gave.Attempts)
				assert.Equal(t, before+1, server.hits())
				assert.Equal(t, retry.StateClosed, breaker.State(), "no fault of the host")
				if counted, ok := first.(*countedClose); ok {
					assert.EqualValues(t, 1, counted.closed.Load())
				}
			})
			resp, err := (&http.Client{Transport: &http.Transport{}}).Get(server.URL)
			read(t, resp, err)
		})
	}
}

func TestEveryAttemptSendsTheWholeRequest(t *testing.T) {
	type key struct{}
	var values []any
	var mu sync.Mutex
	server := newStand(t, status(503), status(503), status(200))
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		values = append(values, req.Context().Value(key{}))
		mu.Unlock()
		return http.DefaultTransport.RoundTrip(req)
	})
	both(t, &http.Client{Transport: base}, soon, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
		req := newRequest(t, "DELETE", server.URL+"/a%2Fb?q=1", strings.NewReader("payload"))
		req = req.WithContext(context.WithValue(req.Context(), key{}, "value"))
		req.Host = "other.example"
		req.ContentLength = -1
		req.TransferEncoding = []string{"chunked"}
		req.Trailer = http.Header{"Sum": {"42"}}
		req.Header.Set("Accept", "x")
		snapshot := *req
		header, address := req.Header.Clone(), req.URL.String()
		resp, err := do(req)
		read(t, resp, err)

		for _, r := range server.requests() {
			assert.Equal(t, "DELETE", r.method)
			assert.Equal(t, "payload", r.body)
			assert.Equal(t, []string{"chunked"}, r.encoding)
			assert.Equal(t, "42", r.trailer.Get("Sum"))
			assert.Equal(t, "x", r.header.Get("Accept"))
		}
		assert.NotContains(t, values, nil)
		assert.Equal(t, header, req.Header)
		assert.Equal(t, address, req.URL.String())
		assert.Equal(t, snapshot.Body, req.Body)
		assert.Equal(t, snapshot.ContentLength, req.ContentLength)
		assert.Equal(t, http.Header{"Sum": {"42"}}, req.Trailer)
	})
	assert.Equal(t, 4, server.hits())
}

func TestMultipartBody(t *testing.T) {
	build := func() (io.Reader, string) {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, _ := form.CreateFormFile("file", "genes.tsv")
		io.Copy(part, tempFile(t, "BRCA1\tTP53\n"))
		form.WriteField("species", "human")
		form.Close()
		return &body, form.FormDataContentType()
	}
	for _, oneShot := range []bool{false, true} {
		var forms []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			file, _, err := r.FormFile("file")
			if err != nil {
				w.WriteHeader(400)
				return
			}
			text, _ := io.ReadAll(file)
			forms = append(forms, string(text)+r.FormValue("species"))
			if len(forms) < 3 {
				w.WriteHeader(503)
			}
		}))
		body, contentType := build()
		if oneShot { // as a form written to a pipe is
			in, out := io.Pipe()
			buffered := body
			go func() { io.Copy(out, buffered); out.Close() }()
			body = in
		}
		resp, err := outcomeClient(t, nil, soon).Post(t.Context(), server.URL, contentType, body)
		read(t, resp, err)
		server.Close()
		const want = "BRCA1\tTP53\nhuman"
		assert.Equal(t, []string{want, want, want}, forms)
	}
}

// A server that answers while the upload still runs, over and over, under the race
// detector: what still reads for an old attempt must not take from the new one.
func TestEarlyAnswerDuringUpload(t *testing.T) {
	t.Parallel() // net/http's server waits for half a second before it closes such a connection
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1)%3 != 0 {
			w.WriteHeader(503)
			return
		}
		if got, _ := io.ReadAll(r.Body); !bytes.Equal(got, want) {
			w.WriteHeader(400)
		}
	}))
	defer server.Close()
	client := outcomeClient(t, nil, soon)
	for range 5 {
		body := &countedClose{Reader: &oneShot{bytes.NewReader(want)}}
		resp, err := client.Post(t.Context(), server.URL, "", body)
		read(t, resp, err)
		assertClosed(t, body)
	}
}

// oneShot hides what else a reader can do.
type oneShot struct{ r io.Reader }

func (o *oneShot) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1024)]) }

// A file is no body in memory for being in an io.NopCloser with a GetBody: nothing
// reads 64 MiB to find out how long they are.
func TestLargeBodyWithGetBody(t *testing.T) {
	const size = 16 << 20
	path := filepath.Join(t.TempDir(), "upload")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, size))
	attempts := 0
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		if attempts++; attempts == 1 {
			return nil, io.ErrUnexpectedEOF
		}
		n, err := io.Copy(io.Discard, req.Body)
		assert.EqualValues(t, size, n)
		return &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}, err
	})
	for name, do := range map[string]func(*http.Request) (*http.Response, error){
		"client": outcomeClient(t, &http.Client{Transport: base}, soon).Do, "wrapped": outcomeClient(t, &http.Client{Transport: roundTrip(base.RoundTrip)}, soon).Do,
	} {
		var read atomic.Int64
		opened := 0
		open := func() (io.ReadCloser, error) {
			opened++
			file, err := os.Open(path)
			t.Cleanup(func() { file.Close() })
			return io.NopCloser(&counted{file, &read}), err
		}
		attempts = 0
		req := newRequest(t, "PUT", "http://gene.example/", nil)
		req.Body, _ = open()
		req.GetBody, req.ContentLength = open, size
		resp, err := do(req)
		require.NoError(t, err, name)
		resp.Body.Close()
		assert.EqualValues(t, size, read.Load(), name)
		assert.Equal(t, 2, opened, name)
	}
}

type counted struct {
	*os.File
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// What can never be sent again is not recorded, whatever the buffer allows: no
// retries, or a length declared that does not fit.
func TestNothingIsRecordedThatCannotBeSentAgain(t *testing.T) {
	server := outcomeServer(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	once := soon
	once.MaxRetries = retry.NoRetries
	for name, test := range map[string]struct {
		do       func(*http.Request) (*http.Response, error)
		declared int64
		want     uint64
	}{
		"no retries":          {outcomeTransport(t, once, retry.ReplayBuffer(64<<20)).Do, -1, 0},
		"too long, Transport": {outcomeTransport(t, soon).Do, 16 << 20, 0},
		"too long, client":    {outcomeClient(t, nil, soon).Do, 16 << 20, 0},
		"recorded":            {outcomeTransport(t, soon, retry.ReplayBuffer(64<<20)).Do, -1, 16 << 20},
	} {
		req := newRequest(t, "PUT", server.URL, io.LimitReader(endless{}, 16<<20))
		req.ContentLength = test.declared
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := test.do(req)
		runtime.ReadMemStats(&after)
		read(t, resp, err)
		got := after.TotalAlloc - before.TotalAlloc
		assert.True(t, test.want <= got && got < test.want+2<<20, "%s: %d KiB", name, got>>10)
	}
}

// A body that can be read at any place lost its trailer: the length was declared,
// and only what is sent in chunks has one.
func TestTrailerOfAFile(t *testing.T) {
	for _, text := range []string{"genes", ""} {
		server := newStand(t, status(503), status(200))
		for name, do := range map[string]func(*http.Request) (*http.Response, error){
			"client": outcomeClient(t, nil, soon).Do, "transport": outcomeTransport(t, soon).Do,
		} {
			req := newRequest(t, "PUT", server.URL, nil)
			req.Body = io.NopCloser(strings.NewReader(text))
			req.Trailer = http.Header{"X-Sum": {"42"}}
			if text != "" && name == "client" {
				req.TransferEncoding = []string{"chunked"}
			}
			resp, err := do(req)
			read(t, resp, err)
			for _, r := range server.requests() {
				assert.Equal(t, text, r.body, name)
				assert.Equal(t, "42", r.trailer.Get("X-Sum"), name)
			}
		}
	}
}

// A body that was sent to its end, and is as long as was declared, is not what is wrong
// with an attempt that breaks: it is sent again, also where net/http has done so by itself
// before.
func TestWholeBodyIsNoFault(t *testing.T) {
	for name, answers := range map[string][]func(uint32) []byte{
		"broken":               {rst(2), ok200},
		"repeated, and broken": {rst(7), rst(2), ok200},
	} {
		for _, declared := range []int64{0, 5} {
			server, base := newFrames(t, answers...)
			body := func() (io.ReadCloser, error) {
				return io.NopCloser(struct{ io.Reader }{strings.NewReader("genes")}), nil
			}
			req := newRequest(t, "PUT", server.url, nil)
			req.Body, _ = body()
			req.GetBody, req.ContentLength = body, declared
			resp, err := outcomeClient(t, base, soon).Do(req)
			require.NoError(t, err, "%s, declared as %d", name, declared)
			resp.Body.Close()
			assert.EqualValues(t, len(answers), server.streams.Load(), name)
		}
	}
}

// A body that is exactly as long as the buffer is sent again; one byte more is not.
func TestBodyAsLongAsTheBuffer(t *testing.T) {
	for _, declared := range []int64{-1, 5} {
		for buffer, want := range map[int64]int{5: 2, 4: 1} {
			server := newStand(t, status(503), status(200))
			req := newRequest(t, "PUT", server.URL, struct{ io.Reader }{strings.NewReader("genes")})
			req.ContentLength = declared
			resp, err := outcomeTransport(t, soon, retry.ReplayBuffer(buffer)).Do(req)
			read(t, resp, err)
			assert.Equal(t, want, server.hits(), "declared as %d, with a buffer of %d", declared, buffer)
		}
	}
}

// What is recorded is the same in pieces of any size, which fit the chunks of the record or
// not.
func TestBodyInPieces(t *testing.T) {
	text := make([]byte, 200_000)
	for i := range text {
		text[i] = byte(i % 251)
	}
	for _, piece := range []int{7_000, 32 << 10, 50_000} {
		server := newStand(t, status(503), status(200))
		body := &inPieces{left: text, size: piece}
		resp, err := outcomeClient(t, nil, soon).Do(newRequest(t, "PUT", server.URL, body))
		read(t, resp, err)
		require.Len(t, server.requests(), 2)
		for _, r := range server.requests() {
			assert.True(t, string(text) == r.body, "in pieces of %d", piece)
		}
	}
}

// inPieces gives what is left in pieces of a size.
type inPieces struct {
	left []byte
	size int
}

func (r *inPieces) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.left[:min(r.size, len(r.left))])
	r.left = r.left[n:]
	return n, nil
}

// A file that does not end where it says is sent from where it stands to where it ends.
func TestFileOfUnknownLength(t *testing.T) {
	server := newStand(t, status(503), status(200))
	file := growing{section("BRCA1 and BRCA2")}
	_, err := file.Seek(6, io.SeekStart)
	require.NoError(t, err)
	resp, err := outcomeClient(t, nil, soon).Do(newRequest(t, "PUT", server.URL, file))
	read(t, resp, err)
	for _, r := range server.requests() {
		assert.Equal(t, "and BRCA2", r.body)
	}
	assert.Equal(t, 2, server.hits())
}

// growing says that it ends sooner than it does.
type growing struct{ *io.SectionReader }

func section(text string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
}

func (g growing) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		offset -= 3
	}
	return g.SectionReader.Seek(offset, whence)
}

// A file that says it is empty, and is not, is sent all the same. One that cannot be read
// is an error, which no retry follows, and not an empty body.
func TestFileThatSaysItIsEmpty(t *testing.T) {
	closed := tempFile(t, "genes")
	require.NoError(t, closed.Close())
	for name, c := range map[string]struct {
		file io.Reader
		want error
	}{
		"with a byte":    {misleading{section(""), 1, io.EOF}, nil},
		"with a failure": {misleading{section(""), 0, errDown}, errDown},
		"closed":         {closed, os.ErrClosed},
	} {
		server := newStand(t, status(200))
		resp, err := outcomeClient(t, nil, soon).Do(newRequest(t, "PUT", server.URL, c.file))
		if c.want != nil {
			assert.ErrorIs(t, err, c.want, name)
			assert.Equal(t, "permanent", retry.Outcome(err), name)
			continue
		}
		read(t, resp, err)
		assert.Equal(t, "x", server.requests()[0].body, name)
	}
}

// misleading is a file of no bytes, which has some at its beginning.
type misleading struct {
	*io.SectionReader
	n   int
	err error
}

func (m misleading) ReadAt(p []byte, at int64) (int, error) {
	if at > 0 {
		return 0, io.EOF
	}
	return copy(p, "x"[:m.n]), m.err
}

// net/http sends an attempt again by itself, with a body from GetBody. Where that one cannot
// be read, it is the body's own fault, as of the first; where it was read to its end, it is
// not what the attempt failed with.
func TestBodyThatNetHTTPReadsAgain(t *testing.T) {
	for _, bad := range []error{nil, errCause} {
		attempts := 0
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			attempts++
			again, err := req.GetBody()
			require.NoError(t, err)
			_, _ = io.ReadAll(again)
			return nil, errDown
		})
		body := func() (io.ReadCloser, error) {
			if bad != nil {
				return io.NopCloser(failingReader{bad}), nil
			}
			return io.NopCloser(struct{ io.Reader }{strings.NewReader("genes")}), nil
		}
		req := newRequest(t, "PUT", "http://host.example/", nil)
		req.Body, _ = body()
		req.GetBody = body
		_, err := outcomeClient(t, &http.Client{Transport: base}, soon).Do(req)
		assert.ErrorIs(t, err, errDown)
		if bad == nil {
			gaveUp(t, err, retry.ErrMaxRetries)
		} else {
			assert.ErrorIs(t, err, bad)
			assert.Equal(t, 1, attempts)
		}
	}
}

// The last attempt reads what was recorded to its end, also when its response is there
// already, and whatever an earlier attempt, which net/http has not let go of, does
// meanwhile; then the source is closed, and gives nothing more.
func TestLateReadersOfARecordedBody(t *testing.T) {
	source := &countedClose{Reader: strings.NewReader("genes and proteins")}
	var bodies []io.ReadCloser
	var last *http.Request
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		bodies, last = append(bodies, req.Body), req
		begin := make([]byte, 5)
		_, err := io.ReadFull(req.Body, begin)
		require.NoError(t, err)
		assert.Equal(t, "genes", string(begin))
		code := 503
		if len(bodies) == 1 {
			_, err = io.ReadAll(req.Body)
			require.NoError(t, err)
		} else {
			_, err = bodies[0].Read(begin)
			assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
			code = 200
		}
		return &http.Response{StatusCode: code, ProtoMajor: 1, Body: http.NoBody, Request: req}, nil
	})
	transport, err := retry.NewTransport(base, soon)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(newRequest(t, "PUT", "http://gene.example/", source))
	require.NoError(t, err)
	resp.Body.Close()
	require.Len(t, bodies, 2)
	bodies[0].Close()
	assert.Zero(t, source.closed.Load(), "the last one reads still")
	rest, err := io.ReadAll(iotest.OneByteReader(bodies[1]))
	assert.NoError(t, err)
	assert.Equal(t, " and proteins", string(rest))
	bodies[1].Close()
	assert.EqualValues(t, 1, source.closed.Load())
	_, err = bodies[1].Read(make([]byte, 1))
	assert.Error(t, err)
	if last.GetBody != nil {
		_, err = last.GetBody()
		assert.ErrorIs(t, err, retry.ErrBodyNotReplayable)
	}
}

// A body in memory that is not as long as declared cannot be sent over any connection:
// it was tried again, with all waits, and a breaker counted it against the host.
func TestDeclaredLengthOfABodyInMemory(t *testing.T) {
	server := newStand(t, status(200))
	for _, declared := range []int64{3, 5} {
		cfg, tr := track(soon)
		req := newRequest(t, "PUT", server.URL, strings.NewReader("GENE"))
		req.ContentLength = declared
		resp, err := outcomeClient(t, &http.Client{Transport: &http.Transport{}}, cfg).Do(req)
		if err == nil { // the server may answer before net/http sees the end
			resp.Body.Close()
			continue
		}
		assert.Equal(t, 1, tr.last().Attempt, "declared as %d: %v", declared, err)
		assert.False(t, retry.IsFailure(tr.last().Err))
	}
}

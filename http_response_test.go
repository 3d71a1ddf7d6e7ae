package retry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func TestDrainedForTheNextAttempt(t *testing.T) {
	for _, size := range []int{0, 100, 4096, 5000, 60_000} {
		for _, length := range []string{strconv.Itoa(size), ""} { // declared, or chunked
			var pairs []string
			if length != "" {
				pairs = []string{"Content-Length", length}
			}
			server := newStand(t, bodied(503, size, pairs...), bodied(503, size, pairs...), bodied(503, size, pairs...), status(200))
			resp, err := outcomeClient(t, &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}, soon).Get(t.Context(), server.URL)
			read(t, resp, err)
			assert.Equal(t, 4, server.hits())
			assert.Equal(t, 1, server.connections(), "%d bytes", size)
		}
	}
	// Too long to be drained: closed, also before the wait.
	server := newStand(t, bodied(503, 100_000), bodied(503, 100_000), status(200))
	resp, err := outcomeClient(t, &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}, soon).Get(t.Context(), server.URL)
	read(t, resp, err)
	assert.Equal(t, 3, server.hits())
}

// tally counts what is read through a client's connections.
func tally(client *http.Client, total *atomic.Int64) {
	base := client.Transport.(*http.Transport)
	dial := base.DialContext
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return talliedConn{conn, total}, err
	}
}

type talliedConn struct {
	net.Conn
	total *atomic.Int64
}

func (c talliedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.total.Add(int64(n))
	return n, err
}

// What is not wanted costs at most the limits, per attempt.
func TestUnwantedBodies(t *testing.T) {
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	io.CopyN(zip, endless{}, 8<<20)
	zip.Close()
	for name, answer := range map[string]http.HandlerFunc{
		"declared huge": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10000000000")
			w.WriteHeader(503)
			io.Copy(w, endless{})
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			io.Copy(w, endless{})
		},
		"gzip bomb": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(503)
			w.Write(bomb.Bytes())
		},
		"silent": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		bubble(t, name, func(t *testing.T) {
			server, base := newPiped(t, answer, answer, status(200))
			var wire atomic.Int64
			tally(base, &wire)
			cfg, tr := track(soon)
			begin := time.Now()
			resp, err := outcomeClient(t, base, cfg).Get(t.Context(), server.URL)
			read(t, resp, err)
			assert.Less(t, time.Since(begin), 2*time.Second)
			limit := int64(64<<10 + 16<<10)
			if name == "declared huge" { // known to be useless: nothing but what came with the header
				limit = 8 << 10
			}
			assert.LessOrEqual(t, wire.Load(), 2*limit, "bytes read")
			assert.Equal(t, 3, tr.last().Attempt)

			// The last one's beginning is kept.
			forGood, base := newPiped(t, answer)
			cfg.MaxRetries = retry.NoRetries
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = outcomeClient(t, base, cfg).Get(t.Context(), forGood.URL)
			runtime.ReadMemStats(&after)
			var found *retry.StatusError
			require.ErrorAs(t, err, &found)
			assert.LessOrEqual(t, len(found.Body), 64<<10)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
		})
	}
}

func TestCancelWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			w.(http.Flusher).Flush()
			time.AfterFunc(5*time.Millisecond, cancel)
			<-r.Context().Done()
		})
		_, err := outcomeClient(t, base, retry.Config{}).Get(ctx, server.URL)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 1, server.hits())
	})
}

// Where a connection is not to be used again, or closing ends one stream of many,
// there is nothing to drain.
func TestBodiesThatAreNotDrained(t *testing.T) {
	huge := bodied(503, 60_000)
	server := unstarted(t, huge, huge, status(200))
	server.EnableHTTP2 = true
	server.StartTLS()
	resp, err := outcomeClient(t, server.Client(), soon).Get(t.Context(), server.URL)
	read(t, resp, err)
	assert.Equal(t, 2, resp.ProtoMajor)
	assert.Equal(t, 1, server.connections())

	closing := newStand(t, bodied(503, 60_000, "Connection", "close"), status(200))
	resp, err = outcomeClient(t, nil, soon).Get(t.Context(), closing.URL)
	read(t, resp, err)
	assert.Equal(t, 2, closing.connections())
}

// The body is closed before the wait, not after it.
func TestClosedBeforeTheWait(t *testing.T) {
	body := &countedClose{Reader: endless{}}
	cfg := soon
	var closed int32
	cfg.OnRetry = func(context.Context, retry.Event) { closed = body.closed.Load() }
	calls := 0
	transport, err := retry.NewTransport(roundTrip(func(req *http.Request) (*http.Response, error) {
		if calls++; calls == 1 {
			return &http.Response{StatusCode: 503, ProtoMajor: 1, ContentLength: -1, Body: body}, nil
		}
		return &http.Response{StatusCode: 200}, nil
	}), cfg)
	require.NoError(t, err)
	_, err = transport.RoundTrip(newRequest(t, "GET", "http://gene.example/", nil))
	require.NoError(t, err)
	assert.EqualValues(t, 1, closed)
}

func TestIdleConnections(t *testing.T) {
	closing := func(s *stand) *atomic.Int32 {
		closed := new(atomic.Int32)
		count := s.Config.ConnState
		s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
			count(conn, state)
			if state == http.StateClosed {
				closed.Add(1)
			}
		}
		s.Start()
		return closed
	}
	other, down := unstarted(t, status(200)), unstarted(t, status(503))
	closed := closing(other)
	closing(down)
	client := outcomeClient(t, nil, soon)
	for range 2 { // the other host's connection outlives a give-up
		resp, err := client.Get(t.Context(), other.URL)
		read(t, resp, err)
		_, err = client.Get(t.Context(), down.URL)
		assert.ErrorIs(t, err, retry.ErrMaxRetries)
	}
	assert.Equal(t, 1, other.connections())
	assert.Zero(t, closed.Load())
	for i, end := range []func(){client.CloseIdleConnections, client.StandardClient().CloseIdleConnections} {
		resp, err := client.Get(t.Context(), other.URL)
		read(t, resp, err)
		end()
		assert.Eventually(t, func() bool { return int(closed.Load()) == i+1 }, 5*time.Second, time.Millisecond)
	}
}

// Whatever becomes of the requests, no goroutine and no descriptor is left.
func TestNoGoroutineIsLeft(t *testing.T) {
	descriptors := func() int {
		entries, _ := os.ReadDir("/proc/self/fd")
		return len(entries)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if retryable := r.URL.Path == "/down" || r.Header.Get("X-Attempt") == "0"; retryable {
			bodied(503, 100_000)(w, r)
		}
	}))
	base := &http.Transport{}
	cfg := soon
	cfg.AttemptTimeout = time.Minute
	client := outcomeClient(t, &http.Client{Transport: counting{base}}, cfg)
	run := func() {
		for range 8 {
			resp, err := client.Get(t.Context(), server.URL)
			read(t, resp, err)
			_, err = client.Get(t.Context(), server.URL+"/down")
			assert.Error(t, err)
		}
		base.CloseIdleConnections()
	}
	run()
	server.CloseClientConnections()
	goroutines, files := runtime.NumGoroutine(), descriptors()
	run()
	server.CloseClientConnections()
	assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+2 && descriptors() <= files+2 },
		5*time.Second, time.Millisecond, "goroutines: %d before", goroutines)
	server.Close()
}

// The response that is returned is net/http's, streamed.
func TestFinalResponseIsUntouched(t *testing.T) {
	more := make(chan struct{})
	server := newStand(t, status(503), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		io.WriteString(w, "first ")
		w.(http.Flusher).Flush()
		<-more
		io.WriteString(w, "second")
		w.Header().Set("Sum", "42")
	})
	resp, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	first := make([]byte, 6)
	_, err = io.ReadFull(resp.Body, first)
	require.NoError(t, err)
	close(more)
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "first second", string(first)+string(rest))
	assert.Equal(t, "42", resp.Trailer.Get("Sum"))
	assert.EqualValues(t, -1, resp.ContentLength)

	large := newStand(t, bodied(200, 1000, "Content-Length", "1000"))
	resp, err = outcomeClient(t, nil, soon).Get(t.Context(), large.URL)
	read(t, resp, err)
	assert.EqualValues(t, 1000, resp.ContentLength)
}

func TestLastResponseOfATransport(t *testing.T) {
	server := newStand(t, status(503, "X-Why", "maintenance"))
	cfg, tr := track(soon)
	resp, err := outcomeTransport(t, cfg).Get(server.URL)
	got, body := read(t, resp, err)
	assert.Equal(t, 503, got)
	assert.Equal(t, "503", body)
	assert.Equal(t, "maintenance", resp.Header.Get("X-Why"))
	assert.ErrorIs(t, tr.last().Err, retry.ErrMaxRetries)
	assert.Equal(t, 4, server.hits())
}

func TestErrorOnGiveUp(t *testing.T) {
	server := newStand(t, bodied(503, 100_000, "Retry-After-Ms", "2", "X-Why", "maintenance"))
	_, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL+"/gene?key=SECRET")
	var given *retry.Error
	var found *retry.StatusError
	require.ErrorAs(t, err, &given)
	require.ErrorAs(t, err, &found)
	assert.Equal(t, 4, given.Attempts)
	assert.Positive(t, given.Elapsed)
	assert.Equal(t, 503, found.StatusCode)
	assert.Equal(t, "GET", found.Method)
	assert.Equal(t, server.URL+"/gene?key=xxxxx", found.URL)
	assert.Equal(t, "maintenance", found.Header.Get("X-Why"))
	assert.Len(t, found.Body, 64<<10)
	assert.Equal(t, 2*time.Millisecond, found.RetryAfter)
	assert.NotContains(t, err.Error(), "SECRET")
}

// An error at last is the last attempt's; what came before is reported to OnRetry.
func TestStatusesThenReset(t *testing.T) {
	server := newStand(t, status(503), status(502), reset)
	cfg, tr := track(soon)
	cfg.MaxRetries = 2
	both(t, &http.Client{Transport: &http.Transport{}}, cfg, func(t *testing.T, do func(*http.Request) (*http.Response, error)) {
		if server.hits() > 0 {
			t.Skip("one pass through the script")
		}
		resp, err := do(newRequest(t, "GET", server.URL, nil))
		assert.Nil(t, resp)
		assert.ErrorIs(t, err, syscall.ECONNRESET)
		require.Len(t, tr.errs, 2)
		for i, code := range []int{503, 502} {
			var found *retry.StatusError
			require.ErrorAs(t, tr.errs[i], &found)
			assert.Equal(t, code, found.StatusCode)
		}
		assert.Equal(t, 3, tr.last().Attempt)
	})
}

func TestAttemptsOfASuccess(t *testing.T) {
	server := newStand(t, status(503), status(503), status(200))
	cfg, tr := track(soon)
	resp, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
	read(t, resp, err)
	assert.Equal(t, 3, tr.last().Attempt)
	assert.NoError(t, tr.last().Err)
	assert.GreaterOrEqual(t, tr.last().Elapsed, 2*time.Millisecond)
}

// A response that is cut off is the caller's to see: nothing is spliced.
func TestTruncatedBody(t *testing.T) {
	address, requests := countedConversation(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n7 bytes")
	resp, err := outcomeClient(t, nil, soon).Get(t.Context(), address)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, "7 bytes", string(body))
	assert.EqualValues(t, 1, requests.Load())
}

func TestFetchAgainAfterATruncatedBody(t *testing.T) {
	cut := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	decode := func(resp *http.Response) (string, error) {
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	server := newStand(t, cut, cut, status(200))
	value, err := retry.Fetch(outcomeClient(t, nil, soon), newRequest(t, "GET", server.URL, nil), decode)
	require.NoError(t, err)
	assert.Equal(t, "200", value)
	assert.Equal(t, 3, server.hits())

	server = newStand(t, cut)
	_, err = retry.Fetch(outcomeClient(t, nil, soon, retry.IdempotentOnly()), newRequest(t, "POST", server.URL, nil), decode)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, 1, server.hits(), "the POST was carried out")

	errFormat := errors.New("format")
	server = newStand(t, status(200))
	_, err = retry.Fetch(outcomeClient(t, nil, soon), newRequest(t, "GET", server.URL, nil), func(*http.Response) (int, error) {
		return 7, retry.Permanent(errFormat)
	})
	assert.Equal(t, 1, server.hits())
	assert.Same(t, errFormat, errors.Unwrap(err), "%#v", err)
}

// An attempt of Fetch lasts until its response is decoded, its timeout too.
func TestFetchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `"BR`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `"BRCA1"`) })
		cfg := soon
		cfg.AttemptTimeout = 50 * time.Millisecond
		gene, err := retry.GetJSON[string](t.Context(), outcomeClient(t, base, cfg), server.URL)
		require.NoError(t, err)
		assert.Equal(t, "BRCA1", gene)
	})
}

func TestFetchJSON(t *testing.T) {
	type gene struct{ Symbol string }
	for _, test := range []struct {
		name, body string
		code, hits int
		want       gene
		wrong      bool
	}{
		{"whole", `{"Symbol":"BRCA1"}` + "\n", 200, 1, gene{"BRCA1"}, false},
		{"no content", "", 204, 1, gene{}, false},
		{"empty, and declared so", "", 200, 1, gene{}, false},
		{"cut off", `{"Symbol":"BR`, 200, 4, gene{}, true},
		{"another type", `{"Symbol":5}`, 200, 1, gene{}, true},
		{"not JSON", `<html>`, 200, 1, gene{}, true},
		{"something behind", `{"Symbol":"BRCA1"}{}`, 200, 1, gene{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(test.code)
				io.WriteString(w, test.body)
			})
			got, err := retry.PostJSON[gene](t.Context(), outcomeClient(t, nil, soon), server.URL, gene{"asked"})
			assert.Equal(t, test.wrong, err != nil, "%v", err)
			assert.Equal(t, test.want, got)
			require.Equal(t, test.hits, server.hits())
			sent := server.requests()[0]
			assert.JSONEq(t, `{"Symbol":"asked"}`, sent.body)
			assert.Equal(t, "application/json", sent.header.Get("Content-Type"))
			assert.NotEmpty(t, sent.header.Get("Idempotency-Key"))
		})
	}

	server := newStand(t, status(404))
	_, err := retry.GetJSON[gene](t.Context(), outcomeClient(t, nil, soon), server.URL)
	var found *retry.StatusError
	assert.ErrorAs(t, err, &found)

	endlessly := newStand(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `"`); io.Copy(w, spaces{}) })
	_, err = retry.GetJSON[string](t.Context(), outcomeClient(t, nil, soon, retry.DecodeLimit(10_000)), endlessly.URL)
	var tooLong *http.MaxBytesError
	require.ErrorAs(t, err, &tooLong)
	assert.EqualValues(t, 10_000, tooLong.Limit)
	assert.Equal(t, 1, endlessly.hits())
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) { return copy(p, strings.Repeat(" ", len(p))), nil }

// A body that is broken does not matter when it is thrown away.
func TestTruncatedErrorBody(t *testing.T) {
	for _, head := range []string{"Content-Length: 100\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\n5\r\npa", "Content-Encoding: gzip\r\n\r\nnonsense"} {
		answers := make(chan string, 2)
		answers <- "HTTP/1.1 503 Busy\r\n" + head
		answers <- "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, <-answers)
			conn.Close()
		})
		log, logger := newLog()
		cfg := soon
		cfg.Logger = logger
		resp, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
		_, body := read(t, resp, err)
		assert.Equal(t, "ok", body)
		assert.NotContains(t, log.String(), "EOF")
		assert.NotContains(t, log.String(), "level=ERROR")
	}
}

func TestNoBodyAllowed(t *testing.T) {
	for _, code := range []int{204, 304} {
		head := "HTTP/1.1 " + strconv.Itoa(code) + " X\r\n\r\n"
		address := conversation(t, head+"stray bytes", head)
		client := outcomeClient(t, nil, soon)
		for range 2 {
			resp, err := client.Get(t.Context(), address)
			got, body := read(t, resp, err)
			assert.Equal(t, code, got)
			assert.Empty(t, body)
		}
	}
}

// An upgraded connection is the caller's: no time limit of the attempt's ends it, and no
// CheckResponse reads from it. One that did waited for the server to speak first, and the
// body that was put back could no longer be written to.
func TestSwitchingProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, status(503), func(w http.ResponseWriter, r *http.Request) {
			conn, buf, _ := w.(http.Hijacker).Hijack()
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.CopyN(conn, buf, 4)
		})
		cfg := soon
		cfg.AttemptTimeout = 50 * time.Millisecond
		req := newRequest(t, "GET", server.URL, nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		base.Timeout = 60 * time.Millisecond
		reads := retry.CheckResponse(func(resp *http.Response) error {
			_, err := io.CopyN(io.Discard, resp.Body, 1)
			return err
		})
		resp, err := outcomeClient(t, base, cfg, reads).Do(req)
		require.NoError(t, err)
		assert.Equal(t, 101, resp.StatusCode)
		conn, ok := resp.Body.(io.ReadWriteCloser)
		require.True(t, ok)
		defer conn.Close()
		time.AfterFunc(2*cfg.AttemptTimeout, func() { io.WriteString(conn, "ping") })
		echo, err := io.ReadAll(conn)
		assert.NoError(t, err)
		assert.Equal(t, "ping", string(echo))
	})
}

func TestTransparentGzip(t *testing.T) {
	zipped := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(code)
			zip := gzip.NewWriter(w)
			io.WriteString(zip, "text")
			zip.Close()
		}
	}
	server := newStand(t, zipped(503), zipped(503), zipped(200))
	resp, err := outcomeClient(t, nil, soon).Get(t.Context(), server.URL)
	_, body := read(t, resp, err)
	assert.Equal(t, "text", body)
	assert.True(t, resp.Uncompressed)
	for _, r := range server.requests() {
		assert.Equal(t, []string{"gzip"}, r.header["Accept-Encoding"])
	}
	server = newStand(t, zipped(404))
	_, err = outcomeClient(t, nil, soon).Get(t.Context(), server.URL)
	var found *retry.StatusError
	require.ErrorAs(t, err, &found)
	assert.Equal(t, "text", string(found.Body))
}

// The body of an error is there before the error is returned or reported, and does not
// change any more; though it came late.
func TestErrorsAreWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			w.(http.Flusher).Flush()
			time.Sleep(400 * time.Millisecond)
			io.WriteString(w, "what is wrong")
		})
		cfg := soon
		bodies := []string{}
		note := func(err error) {
			var status *retry.StatusError
			if errors.As(err, &status) {
				bodies = append(bodies, string(status.Body))
				status.Header.Get("Date")
			}
		}
		cfg.OnDone = func(_ context.Context, e retry.Event) { note(e.Err) }
		cfg.RetryIf = func(err error) bool { note(err); return false }
		_, err := outcomeClient(t, base, cfg).Get(t.Context(), server.URL)
		note(err)
		for _, body := range bodies {
			assert.Equal(t, "what is wrong", body)
		}
		assert.GreaterOrEqual(t, len(bodies), 3)
	})
}

// Parts of an HTTP/2 response to a stream. The literals of HPACK name the header by its
// place in the static table.
func headers2(flags byte, extra ...string) func(uint32) []byte {
	block := append([]byte{0x88}, strings.Join(extra, "")...) // :status 200
	return func(stream uint32) []byte { return frame(1, 4|flags, stream, block...) }
}

func data2(flags byte, text ...byte) func(uint32) []byte {
	return func(stream uint32) []byte { return frame(0, flags, stream, text...) }
}

func trailers2(stream uint32) []byte { return frame(1, 5, stream, []byte("\x00\x05x-sum\x017")...) }

func dies2(stream uint32) []byte { return goAway(stream, 2) }

const (
	ends    = 1 // END_STREAM
	length5 = "\x0f\x0d\x015"
	length0 = "\x0f\x0d\x010"
	gzip2   = "\x0f\x0b\x04gzip"
)

func answer2(parts ...func(uint32) []byte) func(uint32) []byte {
	return func(stream uint32) (answer []byte) {
		for _, part := range parts {
			answer = append(answer, part(stream)...)
		}
		return answer
	}
}

// fetches are the ways to have the answer to a request decoded.
var fetches = map[string]func(*retry.RetryableClient, *http.Request) (map[string]string, error){
	"DecodeJSON": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, retry.DecodeJSON[map[string]string])
	},
	"own decoder": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, func(resp *http.Response) (value map[string]string, err error) {
			return value, json.NewDecoder(resp.Body).Decode(&value)
		})
	},
	"own decoder that reads all": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, func(resp *http.Response) (value map[string]string, err error) {
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, err
			}
			return value, json.Unmarshal(text, &value)
		})
	},
	"own decoder that closes": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, func(resp *http.Response) (value map[string]string, err error) {
			defer resp.Body.Close()
			return value, json.NewDecoder(resp.Body).Decode(&value)
		})
	},
	"own decoder that reads nothing": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, func(*http.Response) (map[string]string, error) {
			return nil, errors.New("not what I expect")
		})
	},
}

// senders are the methods of which no second request may follow an answer, and the
// ways to send them.
var senders = []struct {
	method string
	opts   []retry.Option
}{{"POST", nil}, {"POST", []retry.Option{retry.IdempotentOnly()}}, {"PATCH", nil}, {"LOCK", nil}}

// HTTP/2 marks the end of every body: an answer that is empty and complete is the
// server's word that the request was carried out, however its end is written, and
// whatever the decoder makes of it.
func TestEmptyAnswerOverHTTP2(t *testing.T) {
	for name, answer := range map[string]func(uint32) []byte{
		"end in the header":       headers2(ends),
		"length 0":                headers2(ends, length0),
		"empty DATA":              answer2(headers2(0), data2(ends)),
		"two empty DATA":          answer2(headers2(0), data2(0), data2(ends)),
		"length 0, empty DATA":    answer2(headers2(0, length0), data2(ends)),
		"trailers":                answer2(headers2(0), trailers2),
		"empty DATA and trailers": answer2(headers2(0), data2(0), trailers2),
		"padding alone":           answer2(headers2(0), data2(8|ends, 2, 0, 0)),
		"gzip of nothing":         answer2(headers2(0, gzip2), data2(ends, zipped("")...)),
		"gzip, and trailers":      answer2(headers2(0, gzip2), data2(0, zipped("")...), trailers2),
		"gzip, but empty":         answer2(headers2(0, gzip2), data2(ends)),
		"gzip, empty, trailers":   answer2(headers2(0, gzip2), trailers2),
		"gzip, end in the header": headers2(ends, gzip2),
		"reset after the end":     answer2(headers2(ends), rst(0)),
		"GOAWAY after the end":    answer2(headers2(0), data2(ends), dies2),
	} {
		for how, fetch := range fetches {
			for _, sender := range senders {
				t.Run(name+", "+how+", "+sender.method, func(t *testing.T) {
					server, base := newPlainFrames(t, answer, ok200)
					_, err := fetch(outcomeClient(t, base, soon, sender.opts...), newRequest(t, sender.method, server.url, strings.NewReader("x")))
					if how == "DecodeJSON" {
						assert.NoError(t, err)
					}
					assert.EqualValues(t, 1, server.streams.Load(), "%v", err)
				})
			}
		}
	}
}

// Over HTTP/2 the end of a response may come after a header that says that there is no body,
// and trailers with it. The attempt's context was ended with the header, as if that were all:
// reading the body failed with a cancel, and the trailers were lost.
func TestEndAfterTheHeaderOverHTTP2(t *testing.T) {
	over := make(chan struct{}, 1)
	server, base := newH2(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-over
		w.Header().Set("X-Sum", "7")
	})
	for _, opts := range [][]retry.Option{nil, {retry.IdleTimeout(time.Minute)}} {
		client := outcomeClient(t, &http.Client{Transport: base, Timeout: time.Minute}, soon, opts...)
		resp, err := client.Get(t.Context(), server.URL)
		over <- struct{}{}
		_, text := read(t, resp, err)
		assert.Empty(t, text)
		assert.Equal(t, "7", resp.Trailer.Get("X-Sum"))
	}
}

// dots is a body without a field and without an end.
type dots struct{}

func (dots) Read(p []byte) (int, error) { return copy(p, "..."), nil }
func (dots) Close() error               { return nil }

// A type without a field is that of net/http's empty body; one of another transport, which
// need not fill in ContentLength, may have something to say.
func TestBodyWithoutAFieldOfAnotherTransport(t *testing.T) {
	client := outcomeClient(t, &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: dots{}}, nil
	})}, soon)
	resp, err := client.Get(t.Context(), "http://h.test")
	require.NoError(t, err)
	defer resp.Body.Close()
	text := make([]byte, 6)
	_, err = io.ReadFull(resp.Body, text)
	require.NoError(t, err)
	assert.Equal(t, "......", string(text))
}

// What broke off is no success: asked for again where that does no harm, and else the
// error says that the request may have been carried out.
func TestCutAnswerOverHTTP2(t *testing.T) {
	good := zipped(`{"a":"b"}`)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-6] ^= 0xff
	whole := answer2(headers2(0), data2(ends, []byte(`{"a":"b"}`)...))
	for name, answer := range map[string]func(uint32) []byte{
		"reset without a body":      answer2(headers2(0), rst(2)),
		"reset, no error":           answer2(headers2(0), rst(0)),
		"cancelled in the body":     answer2(headers2(0), data2(0, '{'), rst(8)),
		"reset in the body":         answer2(headers2(0), data2(0, '{'), rst(2)),
		"refused in the body":       answer2(headers2(0), data2(0, '{'), rst(7)),
		"shorter than its length":   answer2(headers2(0, length5), data2(ends)),
		"shorter, with trailers":    answer2(headers2(0, length5), data2(0, '{'), trailers2),
		"no end":                    answer2(headers2(0), dies2),
		"no end in the body":        answer2(headers2(0), data2(0, '{'), dies2),
		"end within the JSON":       answer2(headers2(0), data2(ends, '{')),
		"trailers within the JSON":  answer2(headers2(0), data2(0, '{'), trailers2),
		"gzip, cut":                 answer2(headers2(0, gzip2), data2(ends, good[:len(good)-12]...)),
		"gzip, cut in its checksum": answer2(headers2(0, gzip2), data2(ends, good[:len(good)-2]...)),
		"gzip, cut, with trailers":  answer2(headers2(0, gzip2), data2(0, good[:len(good)-2]...), trailers2),
		"gzip, wrong checksum":      answer2(headers2(0, gzip2), data2(ends, damaged...)),
		"gzip, header alone":        answer2(headers2(0, gzip2), data2(ends, good[:10]...)),
		"gzip that is none":         answer2(headers2(0, gzip2), data2(ends, []byte("no gzip at all")...)),
		"gzip, reset":               answer2(headers2(0, gzip2), data2(0, good[:len(good)-2]...), rst(2)),
	} {
		for _, how := range []string{"DecodeJSON", "own decoder", "own decoder that reads all"} {
			for _, sender := range append(slices.Clone(senders), struct {
				method string
				opts   []retry.Option
			}{"GET", nil}) {
				t.Run(name+", "+how+", "+sender.method, func(t *testing.T) {
					server, base := newPlainFrames(t, answer, whole)
					got, err := fetches[how](outcomeClient(t, base, soon, sender.opts...), newRequest(t, sender.method, server.url, strings.NewReader("x")))
					if sender.method == "LOCK" || sender.opts != nil {
						assert.ErrorIs(t, err, retry.ErrNotIdempotent)
						assert.EqualValues(t, 1, server.streams.Load())
						return
					}
					assert.NoError(t, err)
					assert.Equal(t, map[string]string{"a": "b"}, got)
					assert.EqualValues(t, 2, server.streams.Load())
				})
			}
		}
	}
}

// A chunked body ends behind its trailers: one that breaks off within them is not
// complete, though all of its bytes may be there.
func TestCutInTheTrailers(t *testing.T) {
	whole := framed("trailers", "", []byte(`{"a":"b"}`))
	for _, body := range []string{"", `{"a":"b"}`} {
		broken := framed("trailers", "", []byte(body))
		for _, cut := range []int{2, 12, 40} { // bytes from the end
			for _, sender := range senders {
				t.Run(strings.Join([]string{body, sender.method}, " "), func(t *testing.T) {
					url, hits := newAnswers(t, broken[:len(broken)-cut], whole)
					got, err := fetches["own decoder that reads all"](outcomeClient(t, nil, soon, sender.opts...), newRequest(t, sender.method, url, nil))
					if sender.method == "LOCK" || sender.opts != nil {
						assert.ErrorIs(t, err, retry.ErrNotIdempotent)
						assert.EqualValues(t, 1, hits.Load())
						return
					}
					assert.NoError(t, err)
					assert.Equal(t, map[string]string{"a": "b"}, got)
					assert.EqualValues(t, 2, hits.Load())
				})
			}
		}
	}
}

// silentServer sends the beginning of a body, and then nothing for as long as it
// should be silent.
func silentServer(t *testing.T, http2 bool, begin, rest string, silent func() bool) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, begin)
		w.(http.Flusher).Flush()
		if silent() {
			<-r.Context().Done()
			return
		}
		io.WriteString(w, rest)
	}))
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// A server that falls silent in the middle of its answer would hold a caller for ever.
// With an IdleTimeout such an attempt of Fetch has failed, and the next one succeeds.
func TestIdleTimeout_Fetch(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var requests atomic.Int32
		server := silentServer(t, http2, `{"Symbol":`, `"BRCA1"}`, func() bool { return requests.Add(1) == 1 })
		var failures []error
		cfg := soon
		cfg.OnRetry = func(_ context.Context, e retry.Event) { failures = append(failures, e.Err) }
		client := outcomeClient(t, server.Client(), cfg, retry.IdleTimeout(100*time.Millisecond))
		gene, err := retry.GetJSON[struct{ Symbol string }](t.Context(), client, server.URL+"/?token=secret")
		require.NoError(t, err)
		assert.Equal(t, "BRCA1", gene.Symbol)
		require.Len(t, failures, 1)
		assert.EqualError(t, failures[0], `Get "`+server.URL+`/?token=xxxxx": no byte of the body within 100ms (IdleTimeout)`)
		assert.ErrorIs(t, failures[0], context.DeadlineExceeded)
		assert.True(t, retry.IsFailure(failures[0]), "an attempt that timed out is a breaker's failure")
	}
}

// In a body that was handed on, Read returns a timeout, by the client and the
// Transport, whatever protocol it came over; and again if it is asked again.
func TestIdleTimeout_HandedOn(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		server := silentServer(t, http2, "begin", "", func() bool { return true })
		transport, err := retry.NewTransport(server.Client().Transport, soon, retry.IdleTimeout(50*time.Millisecond))
		require.NoError(t, err)
		client := outcomeClient(t, server.Client(), soon, retry.IdleTimeout(50*time.Millisecond))
		for name, send := range map[string]func(*http.Request) (*http.Response, error){"client": client.Do, "transport": transport.RoundTrip} {
			resp, err := send(newRequest(t, "GET", server.URL, nil))
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			assert.Equal(t, "begin", string(text), name)
			var timeout net.Error
			require.ErrorAs(t, err, &timeout, name)
			assert.True(t, timeout.Timeout())
			_, again := resp.Body.Read(make([]byte, 1))
			assert.Equal(t, err, again)
			assert.NoError(t, resp.Body.Close())
		}
	}
}

// slowBody gives a byte after each of its pauses, and then its end. It does not
// notice Close, as some do not; its context ends it.
type slowBody struct {
	ctx    context.Context
	pauses []time.Duration
	closed atomic.Int32
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.pauses) == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(b.pauses[0]):
		b.pauses = b.pauses[1:]
		p[0] = 'x'
		return 1, nil
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

func (b *slowBody) Close() error { b.closed.Add(1); return nil }

func (b *slowBody) base() *http.Client {
	return &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		b.ctx = req.Context()
		return &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: b, Request: req}, nil
	})}
}

// The limit is that of each Read: a body may take longer, if it never falls silent for
// so long, and so may a reader between its Reads.
func TestIdleTimeout_EachRead(t *testing.T) {
	const limit = 10 * time.Second
	for _, test := range []struct {
		pauses []time.Duration
		reader time.Duration // what it takes between two Reads
		ends   time.Duration // at which time the body does
		fails  bool
	}{
		{[]time.Duration{9 * time.Second, 9 * time.Second, 9 * time.Second}, 0, 27 * time.Second, false},
		{[]time.Duration{time.Second, time.Second}, time.Minute, 122 * time.Second, false},
		{[]time.Duration{3 * time.Second, 3 * time.Second, 11 * time.Second}, 0, 16 * time.Second, true},
		{[]time.Duration{0, 0, time.Hour}, 7 * time.Second, 24 * time.Second, true},
		{[]time.Duration{time.Hour}, 0, limit, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			body := &slowBody{pauses: test.pauses}
			client := outcomeClient(t, body.base(), soon, retry.IdleTimeout(limit))
			resp, err := client.Do(newRequest(t, "GET", "http://gene.example/", nil))
			require.NoError(t, err)
			began := time.Now()
			for err == nil {
				var n int
				if n, err = resp.Body.Read(make([]byte, 8)); n > 0 {
					time.Sleep(test.reader)
				}
			}
			assert.Equal(t, test.ends, time.Since(began))
			assert.Equal(t, test.fails, err != io.EOF, "%v", err)
			assert.NoError(t, resp.Body.Close())
			assert.EqualValues(t, 1, body.closed.Load())
		})
	}
}

// The time is that of Config.Clock, and nothing is left on it.
func TestIdleTimeout_Clock(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cfg := soon
	cfg.Clock = clock
	r, _ := io.Pipe()
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: r, Request: req}, nil
	})
	client := outcomeClient(t, &http.Client{Transport: base}, cfg, retry.IdleTimeout(time.Hour))
	resp, err := client.Do(newRequest(t, "GET", "http://gene.example/", nil))
	require.NoError(t, err)
	failed := make(chan error)
	go func() {
		_, err := io.ReadAll(resp.Body)
		failed <- err
	}()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
	clock.Advance(time.Hour)
	assert.ErrorIs(t, <-failed, context.DeadlineExceeded)

	over, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Error(t, clock.BlockUntilContext(over, 1), "a timer is left on the clock")
}

// A body that is read to its end, or closed, leaves no timer behind; a connection that
// was upgraded is the caller's, and has no limit.
func TestIdleTimeout_LeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, whole := range []bool{true, false} {
			body := &slowBody{pauses: []time.Duration{time.Second, time.Second}}
			client := outcomeClient(t, body.base(), soon, retry.IdleTimeout(time.Minute))
			resp, err := client.Do(newRequest(t, "GET", "http://gene.example/", nil))
			require.NoError(t, err)
			if whole {
				_, err = io.ReadAll(resp.Body)
			} else {
				_, err = resp.Body.Read(make([]byte, 1))
				resp.Body.Close()
			}
			assert.NoError(t, err)
		}
	}) // a timer would be no goroutine, but its function would run in the bubble after its end
	_, err := retry.NewRetryableClient(nil, soon, retry.IdleTimeout(-1))
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	assert.ErrorContains(t, err, "IdleTimeout")
}

// What 1 GB over the loopback costs with an IdleTimeout, and without.
func BenchmarkIdleTimeout(b *testing.B) {
	const size = 1 << 30
	chunk := []byte(strings.Repeat("x", 1<<20))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range size / len(chunk) {
			w.Write(chunk)
		}
	}))
	defer server.Close()
	for name, limit := range map[string]time.Duration{"off": 0, "on": 30 * time.Second} {
		b.Run(name, func(b *testing.B) {
			client, err := retry.NewRetryableClient(&http.Client{Transport: &http.Transport{}}, soon, retry.IdleTimeout(limit))
			require.NoError(b, err)
			defer client.CloseIdleConnections()
			b.SetBytes(size)
			for b.Loop() {
				resp, err := client.Get(b.Context(), server.URL)
				require.NoError(b, err)
				n, err := io.Copy(io.Discard, resp.Body)
				require.NoError(b, err)
				require.EqualValues(b, size, n)
				resp.Body.Close()
			}
		})
	}
}

// The Timeout of the base client is that of the whole attempt: of what the header took,
// the body has the rest.
func TestTimeoutIsSharedByHeaderAndBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, base := newPiped(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(6 * time.Second)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		base.Timeout = 10 * time.Second
		start := time.Now()
		resp, err := outcomeClient(t, base, retry.Config{}).Get(t.Context(), server.URL)
		require.NoError(t, err)
		assert.Equal(t, 6*time.Second, time.Since(start))
		_, err = io.ReadAll(resp.Body)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 10*time.Second, time.Since(start))
		resp.Body.Close()
	})
}

// Of a response that is dropped the rest is read where that frees its connection for the
// next attempt: over HTTP/1, if it is short, and the connection stays.
func TestWhatIsReadOfADroppedResponse(t *testing.T) {
	for name, c := range map[string]struct {
		proto  int
		length int64
		close  bool
		read   bool
	}{
		"short":               {1, 5, false, true},
		"of unknown length":   {1, -1, false, true},
		"64 KiB":              {1, 64 << 10, false, true},
		"longer":              {1, 64<<10 + 1, false, false},
		"nothing":             {1, 0, false, false},
		"the connection ends": {1, 5, true, false},
		"HTTP/2":              {2, 5, false, false},
	} {
		var reads atomic.Int32
		closed := &countedClose{}
		base := &stages{answers: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			closed.Reader = readerFunc(func([]byte) (int, error) { reads.Add(1); return 0, io.EOF })
			return &http.Response{StatusCode: 503, ProtoMajor: c.proto, ContentLength: c.length, Close: c.close, Header: http.Header{}, Body: closed, Request: req}, nil
		}, answerOf(200, "")}}
		transport, err := retry.NewTransport(base, soon)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(newRequest(t, "GET", "http://gene.example/", nil))
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, c.read, reads.Load() > 0, name)
		assert.EqualValues(t, 1, closed.closed.Load(), name)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The rest of a response that Resume has no use for is not read: it may go on for ever.
func TestResume_LeavesTheRest(t *testing.T) {
	var reads atomic.Int32
	base := &stages{answers: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
		body := io.NopCloser(readerFunc(func([]byte) (int, error) { reads.Add(1); return 0, io.EOF }))
		return &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: body, Request: req}, nil
	}}}
	tries := 0
	p := &pieces{url: "http://gene.example/"}
	err := retry.Resume(t.Context(), outcomeClient(t, &http.Client{Transport: base}, soon), p.next, func(*http.Response) (bool, error) {
		if tries++; tries < 3 {
			return false, errCutOff
		}
		return false, nil
	})
	assert.NoError(t, err)
	assert.Equal(t, 3, tries)
	assert.Zero(t, reads.Load())
}

// Over HTTP/2 the end of a body is marked: an empty one is complete. Over HTTP/1, where the
// end of the connection is that of the body, it may have been cut off.
func TestEmptyBodyWithoutALength(t *testing.T) {
	for proto, complete := range map[int]bool{1: false, 2: true, 3: true} {
		req := newRequest(t, "GET", "http://gene.example/", nil)
		_, err := retry.DecodeJSON[int](&http.Response{StatusCode: 200, ProtoMajor: proto, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: req})
		if complete {
			assert.NoError(t, err, proto)
		} else {
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF, proto)
		}
	}
}

// An attempt's context lasts as long as the body of its response, and ends with a response
// that has none: net/http knows that of one over HTTP/2 by its length, of another base it
// cannot be known.
func TestContextOfAResponseWithoutABody(t *testing.T) {
	var ctx context.Context
	server, std := newH2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			io.WriteString(w, "x")
		}
	})
	noting := retry.WrapTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			ctx = req.Context()
			return next.RoundTrip(req)
		})
	})
	other := &stages{answers: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ProtoMajor: 2, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("x")), Request: req}, nil
	}}}
	cfg := soon
	cfg.AttemptTimeout = time.Hour
	for name, c := range map[string]struct {
		base http.RoundTripper
		path string
		ends bool
	}{
		"net/http": {std, "/", true}, "net/http, with a body": {std, "/body", false}, "another base": {other, "/", false},
	} {
		transport, err := retry.NewTransport(c.base, cfg, noting, retry.IdleTimeout(time.Hour))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(newRequest(t, "GET", server.URL+c.path, nil))
		require.NoError(t, err)
		assert.Equal(t, c.ends, ctx.Err() != nil, name)
		read(t, resp, err)
		assert.Error(t, ctx.Err(), name)
	}
}

// A request with a Cancel channel has its body until it is read, and a connection that it
// upgrades for as long as the caller wants it.
func TestCancelChannelOfARequest(t *testing.T) {
	var ctx context.Context
	body := func() io.ReadCloser { return io.NopCloser(strings.NewReader("genes")) }
	for _, code := range []int{200, 101} {
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			ctx = req.Context()
			return &http.Response{StatusCode: code, ProtoMajor: 1, ContentLength: 5, Header: http.Header{}, Body: body(), Request: req}, nil
		})
		transport, err := retry.NewTransport(base, soon)
		require.NoError(t, err)
		req := newRequest(t, "GET", "http://gene.example/", nil)
		//lint:ignore SA1019 callers may still use it
		req.Cancel = make(chan struct{})
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		assert.NoError(t, ctx.Err(), code)
		_, text := read(t, resp, err)
		assert.Equal(t, "genes", text)
		assert.Equal(t, code == 200, ctx.Err() != nil, code)
	}
}

// Whatever a body answers to its Close, after the time without a byte was over: Read has
// failed by that, unless the byte has come after all.
func TestIdleTimeout_WhatReadReturns(t *testing.T) {
	for _, c := range []struct {
		n     int
		err   error
		fails bool
	}{{0, errDown, true}, {0, nil, true}, {1, errDown, true}, {1, nil, false}} {
		synctest.Test(t, func(t *testing.T) {
			closed := make(chan struct{})
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				body := &rereading{func([]byte) (int, error) { <-closed; return c.n, c.err }, func() error { close(closed); return nil }}
				return &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: body, Request: req}, nil
			})
			resp, err := outcomeClient(t, &http.Client{Transport: base}, soon, retry.IdleTimeout(time.Minute)).Get(t.Context(), "http://gene.example/")
			require.NoError(t, err)
			n, err := resp.Body.Read(make([]byte, 1))
			assert.Equal(t, c.n, n)
			assert.Equal(t, c.fails, errors.Is(err, context.DeadlineExceeded), "%d, %v: %v", c.n, c.err, err)
			resp.Body.Close()
		})
	}
}

type rereading struct {
	read  func([]byte) (int, error)
	close func() error
}

func (r *rereading) Read(p []byte) (int, error) { return r.read(p) }
func (r *rereading) Close() error               { return r.close() }

// One timer serves all Reads of a body, and none is left when it is closed, read or not.
func TestIdleTimeout_Timers(t *testing.T) {
	for _, reads := range []int{0, 1, 3} {
		clock := clockwork.NewFakeClock()
		cfg := soon
		cfg.Clock = clock
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("genes")), Request: req}, nil
		})
		transport, err := retry.NewTransport(base, cfg, retry.IdleTimeout(time.Hour))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(newRequest(t, "GET", "http://gene.example/", nil))
		require.NoError(t, err)
		for range reads {
			_, err := resp.Body.Read(make([]byte, 1))
			require.NoError(t, err)
		}
		require.NoError(t, resp.Body.Close())
		assert.False(t, hasWaiters(clock), "a timer is left after %d reads", reads)
	}
}

// Where neither the time nor Close ends a Read, its goroutine is left behind, and the body is
// closed again, with another Read: the two were in a race for the timer of IdleTimeout.
func TestIdleTimeout_TwoReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			body := &rereading{func([]byte) (int, error) { <-over; return 0, io.EOF }, func() error { return nil }}
			return &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{}, Body: body, Request: req}, nil
		})
		client := outcomeClient(t, &http.Client{Transport: base}, soon, retry.IdleTimeout(time.Minute))
		req := newRequest(t, "POST", "http://gene.example/", nil)
		_, err := retry.Fetch(client, req, func(*http.Response) (int, error) { return 0, retry.Permanent(errDown) })
		assert.ErrorIs(t, err, errDown)
		close(over)
	})
}

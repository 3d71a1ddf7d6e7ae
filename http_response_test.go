package retry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// bodied answers with a status and a body of so many bytes.
func bodied(code, size int, pairs ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			w.Header().Set(pairs[i], pairs[i+1])
		}
		w.WriteHeader(code)
		io.CopyN(w, endless{}, int64(size))
	}
}

func TestHTTP_061_062_DrainedForTheNextAttempt(t *testing.T) {
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
func TestHTTP_063_064_124_UnwantedBodies(t *testing.T) {
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
			if name == "declared huge" { // known to be in vain: nothing but what came with the header
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

func TestHTTP_064_CancelWhileDraining(t *testing.T) {
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
func TestHTTP_065_NoUseInDraining(t *testing.T) {
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
func TestHTTP_066_ClosedBeforeTheWait(t *testing.T) {
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

func TestHTTP_068_IdleConnections(t *testing.T) {
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
func TestHTTP_069_NothingIsLeft(t *testing.T) {
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

// counting tells the server the attempt's number.
type counting struct{ http.RoundTripper }

func (c counting) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header.Add("X-Attempt", strconv.Itoa(retry.RetryCount(req.Context())))
	return c.RoundTripper.RoundTrip(req)
}

// The response that is returned is net/http's, streamed.
func TestHTTP_070_FinalResponse(t *testing.T) {
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

func TestHTTP_093_LastResponse(t *testing.T) {
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

func TestHTTP_094_ErrorOnGiveUp(t *testing.T) {
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

// An error at last is the last attempt's; what came before is told by OnRetry.
func TestHTTP_095_096_StatusesThenReset(t *testing.T) {
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

func TestHTTP_097_AttemptsOfASuccess(t *testing.T) {
	server := newStand(t, status(503), status(503), status(200))
	cfg, tr := track(soon)
	resp, err := outcomeClient(t, nil, cfg).Get(t.Context(), server.URL)
	read(t, resp, err)
	assert.Equal(t, 3, tr.last().Attempt)
	assert.NoError(t, tr.last().Err)
	assert.GreaterOrEqual(t, tr.last().Elapsed, 2*time.Millisecond)
}

// A response that is cut off is the caller's to see: nothing is spliced.
func TestHTTP_118_TruncatedBody(t *testing.T) {
	address, requests := countedConversation(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n7 bytes")
	resp, err := outcomeClient(t, nil, soon).Get(t.Context(), address)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, "7 bytes", string(body))
	assert.EqualValues(t, 1, requests.Load())
}

func TestHTTP_119_Fetch(t *testing.T) {
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
func TestHTTP_119_FetchTimeout(t *testing.T) {
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

func TestHTTP_119_JSON(t *testing.T) {
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

// A body that is broken matters to nobody when it is thrown away.
func TestHTTP_120_TruncatedErrorBody(t *testing.T) {
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

func TestHTTP_122_NoBodyAllowed(t *testing.T) {
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

// An upgraded connection is the caller's: no time limit of the attempt's ends it.
func TestHTTP_122_SwitchingProtocols(t *testing.T) {
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
		resp, err := outcomeClient(t, base, cfg).Do(req)
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

func TestHTTP_124_TransparentGzip(t *testing.T) {
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

// The body of an error is there before anybody is given the error, and does not
// change any more; though it came late.
func TestHTTP_ErrorsAreWhole(t *testing.T) {
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

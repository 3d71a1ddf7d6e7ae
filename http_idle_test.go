package retry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

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

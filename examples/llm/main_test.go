package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// pipes are a listener without a network, for a bubble.
type pipes struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.over) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// serve starts a server in the test's bubble, and returns a client that reaches it.
func serve(t *testing.T, handler http.Handler) *http.Client {
	listener := &pipes{conns: make(chan net.Conn), over: make(chan struct{})}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	transport := &http.Transport{DialContext: listener.dial}
	t.Cleanup(server.Close)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// Whatever the API does, each question gets one whole answer. A limit of the program's
// own spares it the refusals.
func TestRun(t *testing.T) {
	for tokens, refused := range map[float64]bool{0: true, 90: false} {
		t.Run(fmt.Sprint(tokens), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				model := newModel()
				var out strings.Builder
				began := time.Now()
				answered, err := run(t.Context(), &out, serve(t, model), "http://model.example", tokens)
				require.NoError(t, err)
				assert.Equal(t, len(questions), answered, out.String())
				for _, question := range questions {
					assert.Contains(t, out.String(), question+"\n  "+answers[question]+" (")
				}
				for _, fault := range faults {
					assert.Equal(t, 1, model.counts[fault], fault)
				}
				assert.Equal(t, refused, model.counts["429"] > 0, model.String())
				assert.Equal(t, !refused, strings.Contains(out.String(), "(limiter)"), out.String())
				assert.Less(t, time.Since(began), 20*time.Second)
			})
		})
	}
}

// What is wrong with a question is reported at once: by a status, and by the first event
// of a 200.
func TestWrongQuestion(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) {
			problem(w, http.StatusBadRequest, "invalid_request_error")
		},
		"event": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			emit(w, "error", `{"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, err := newClient(serve(t, handler), 0, func(e retry.Event) { t.Error("waits for", e.Why) })
				require.NoError(t, err)
				answer, _, err := ask(t.Context(), client, "http://model.example", questions[0])
				assert.Error(t, err)
				assert.Empty(t, answer)
			})
		})
	}
}

// An API that falls silent in the middle of an answer is not waited for, and the answer
// is continued.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		handler := func(w http.ResponseWriter, r *http.Request) {
			requests++
			w.Header().Set("Content-Type", "text/event-stream")
			if requests == 1 {
				emit(w, "content_block_delta", `{"delta": {"text": "It repairs "}, "usage": {"output_tokens": 2}}`)
				<-r.Context().Done()
				return
			}
			emit(w, "content_block_delta", `{"delta": {"text": "DNA."}, "usage": {"output_tokens": 1}}`)
			emit(w, "message_stop", `{}`)
		}
		client, err := newClient(serve(t, http.HandlerFunc(handler)), 0, func(e retry.Event) { t.Error("waits for", e.Why) })
		require.NoError(t, err)
		began := time.Now()
		answer, tokens, err := ask(t.Context(), client, "http://model.example", questions[0])
		assert.NoError(t, err)
		assert.Equal(t, "It repairs DNA.", answer)
		assert.Equal(t, 3, tokens)
		assert.Equal(t, 5*time.Second, time.Since(began), "IdleTimeout")
	})
}

package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mood is how a server misbehaves at present.
type mood int32

const (
	well mood = iota
	busy      // a plain 503 to half of the requests, to some of them after it has acted
	throttling
	resetting // before it has acted
	losing    // it acts, and the answer is lost
	cutting   // bodies break off
	slow
	silent // for longer than an attempt may take
	down   // nothing but 503
	moods
)

// servers are stand-ins: some hosts, each with a mood of its own.
type servers struct {
	books    *books
	hosts    []*host
	file     []byte
	sum      [sha256.Size]byte
	inFlight atomic.Int64
}

type host struct {
	*httptest.Server
	all  *servers
	mood atomic.Int32

	mu   sync.Mutex
	keys map[string]bool // Idempotency-Keys: true when carried out, false while it is at work
}

func newServers(b *books) *servers {
	s := &servers{books: b, file: make([]byte, 64<<10)}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(s.file)
	s.sum = sha256.Sum256(s.file)
	for n := range 5 {
		h := &host{all: s, keys: make(map[string]bool)}
		h.Server = httptest.NewUnstartedServer(h)
		h.Config.ErrorLog = quiet
		if h.EnableHTTP2 = n == 0; h.EnableHTTP2 {
			h.StartTLS()
		} else {
			h.Start()
		}
		s.hosts = append(s.hosts, h)
	}
	return s
}

func (s *servers) close() {
	for _, h := range s.hosts {
		h.Close()
	}
}

// change gives one host another mood: well half of the time.
func (s *servers) change(random *rand.Rand) {
	m := well
	if random.IntN(2) == 0 {
		m = mood(random.IntN(int(moods)))
	}
	s.hosts[random.IntN(len(s.hosts))].mood.Store(int32(m))
}

// calm waits until no request is under way, also none whose caller has left, and forgets
// the keys.
func (s *servers) calm() {
	for _, h := range s.hosts {
		h.mood.Store(int32(well))
	}
	for s.inFlight.Load() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	for _, h := range s.hosts {
		h.CloseClientConnections()
		h.mu.Lock()
		h.keys = make(map[string]bool)
		h.mu.Unlock()
	}
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.all.inFlight.Add(1)
	defer h.all.inFlight.Add(-1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m := mood(h.mood.Load())
	switch unlucky := rand.IntN(3) == 0; {
	case m == down, m == busy && unlucky:
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	case m == throttling && unlucky:
		w.Header().Set("Retry-After-Ms", strconv.Itoa(rand.IntN(100)))
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return
	case m == resetting && unlucky:
		reset(w)
	case m == slow:
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
	case m == silent && unlucky: // it goes on when its caller has left
		time.Sleep(600 * time.Millisecond)
	}
	if r.Method == http.MethodPost && !h.act(w, r) {
		return
	}
	switch unlucky := rand.IntN(3) == 0; {
	case m == losing && unlucky:
		reset(w)
	case m == busy && unlucky: // as a proxy does when the connection to its backend breaks
		http.Error(w, "bad gateway", http.StatusServiceUnavailable)
		return
	}
	h.answer(w, r, body, m == cutting && rand.IntN(2) == 0)
}

// act carries a job out, once for each key. It is false if that is under way already.
func (h *host) act(w http.ResponseWriter, r *http.Request) bool {
	key := r.Header.Get("Idempotency-Key")
	first := true
	if key != "" {
		h.mu.Lock()
		done, known := h.keys[key]
		if first = !known; first {
			h.keys[key] = false
		}
		h.mu.Unlock()
		if known && !done {
			http.Error(w, "at work", http.StatusConflict)
			return false
		}
	}
	h.all.books.job(r.Header.Get("Job"), func(j *job) {
		if j.keys[key] = true; first {
			j.acted++
		}
	})
	if key != "" {
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		h.mu.Lock()
		h.keys[key] = true
		h.mu.Unlock()
	}
	return true
}

func (h *host) answer(w http.ResponseWriter, r *http.Request, body []byte, cut bool) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/moved"):
		http.Redirect(w, r, "/here", http.StatusTemporaryRedirect)
	case r.URL.Path == "/file":
		w.Header().Set("ETag", `"one"`)
		if cut {
			w = &cutWriter{ResponseWriter: w, left: 10_000 + rand.IntN(20_000)}
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(h.all.file)))
	case r.URL.Path == "/events":
		h.events(w, r, cut)
	default:
		text := fmt.Sprintf(`{"length":%d,"text":%q}`, len(body), strings.Repeat("x", 200))
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		if cut {
			_, _ = io.WriteString(w, text[:len(text)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, text)
	}
}

// lastEvent is the number of the last event of the feed.
const lastEvent = 30

func (h *host) events(w http.ResponseWriter, r *http.Request, cut bool) {
	seen, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	if seen == lastEvent {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for n := seen + 1; n <= lastEvent; n++ {
		fmt.Fprintf(w, "retry: 1\nid: %d\ndata: %d\n\n", n, n)
		if cut && rand.IntN(10) == 0 {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
}

// cutWriter breaks the connection after some bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// reset breaks the connection, or the stream in HTTP/2.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

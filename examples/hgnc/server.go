package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// server answers as https://rest.genenames.org does, for the genes it knows, and
// misbehaves as services do. Its faults depend on the seed, the symbol and how
// often it was asked for that symbol, and so not on the weather.
type server struct {
	url   string
	http  *http.Server
	seed  uint64
	genes map[string]json.RawMessage
	limit *rate.Limiter

	mu    sync.Mutex
	asked map[string]int // by symbol
}

//go:embed genes.json
var genesJSON []byte

// Limits of the embedded server.
const (
	allowedRate = 10              // requests per second, as with the real one
	maxFaults   = 3               // per symbol; from then on it behaves
	slowness    = 3 * time.Second // more than any client of it waits
)

func newServer(seed uint64) (*server, error) {
	var docs []json.RawMessage
	if err := json.Unmarshal(genesJSON, &docs); err != nil {
		return nil, err
	}
	s := &server{
		seed:  seed,
		genes: make(map[string]json.RawMessage),
		limit: rate.NewLimiter(allowedRate, allowedRate),
		asked: make(map[string]int),
	}
	for _, doc := range docs {
		var g gene
		if err := json.Unmarshal(doc, &g); err != nil {
			return nil, err
		}
		s.genes[g.Symbol] = doc
	}
	return s, nil
}

// startServer has a new server listen on loopback.
func startServer(seed uint64) (*server, error) {
	s, err := newServer(seed)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fetch/symbol/{symbol}", s.fetch)
	s.url = "http://" + listener.Addr().String()
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	// Each request gets a connection of its own: when one that was used before
	// breaks, net/http quietly sends the request again, and there is nothing to
	// be seen.
	s.http.SetKeepAlivesEnabled(false)
	go s.http.Serve(listener)
	return s, nil
}

func (s *server) stop() { s.http.Close() }

func (s *server) fetch(w http.ResponseWriter, r *http.Request) {
	if !s.limit.Allow() {
		// The real one does not say 429 either, but locks the client out.
		http.Error(w, "Forbidden", http.StatusForbidden)
		return
	}
	symbol := r.PathValue("symbol")
	s.mu.Lock()
	s.asked[symbol]++
	n := s.asked[symbol]
	s.mu.Unlock()
	fault, wait := s.fault(symbol, n)
	fault.serve(w, r, s.answer(symbol), wait)
}

// answer is in the shape of Solr, which the real service is made of: a symbol
// that no gene has is no error.
func (s *server) answer(symbol string) []byte {
	docs := []json.RawMessage{}
	if doc, ok := s.genes[symbol]; ok {
		docs = append(docs, doc)
	}
	body, err := json.Marshal(map[string]any{
		"responseHeader": map[string]int{"status": 0, "QTime": 1},
		"response":       map[string]any{"numFound": len(docs), "start": 0, "docs": docs},
	})
	if err != nil {
		panic(err) // genes.json was read before
	}
	return body
}

// fault is a way to misbehave.
type fault int

const (
	noFault fault = iota
	throttled
	unavailable
	reset
	truncated
	slow
	faults // how many there are
)

// fault decides what the nth request for a symbol meets, and what a client that
// is throttled shall wait.
func (s *server) fault(symbol string, n int) (fault, time.Duration) {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%s %d", symbol, n)
	random := rand.New(rand.NewPCG(s.seed, hash.Sum64()))
	if n > maxFaults || random.IntN(3) == 0 {
		return noFault, 0
	}
	wait := time.Duration(3+random.IntN(4)) * 100 * time.Millisecond
	return throttled + fault(random.IntN(int(faults-throttled))), wait
}

func (f fault) serve(w http.ResponseWriter, r *http.Request, body []byte, wait time.Duration) {
	switch f {
	case throttled:
		w.Header().Set("Retry-After", strconv.FormatFloat(wait.Seconds(), 'f', 1, 64))
		http.Error(w, "Too Many Requests", http.StatusTooManyRequests)
		return
	case unavailable:
		http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
		return
	case reset:
		if err := resetConnection(w); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		return
	case slow:
		select {
		case <-time.After(slowness):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if f == truncated {
		w.Write(body[:len(body)/2])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	w.Write(body)
}

// resetConnection closes the connection so that the client sees a reset,
// and not an end.
func resetConnection(w http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.Join(errors.New("not a TCP connection"), conn.Close())
	}
	return errors.Join(tcp.SetLinger(0), tcp.Close())
}

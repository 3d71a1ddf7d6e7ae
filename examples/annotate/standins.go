package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// standIns are servers on loopback that answer as the six services do, for the
// genes they know, on a bad day: UniProt is down, Ensembl throttles, HGNC breaks
// connections, NCBI and gnomAD had enough once.
type standIns struct {
	servers []*http.Server
	genes   map[string]known
}

// known is what they know of a gene. Names and numbers of genes are real; the
// figures of ClinVar, gnomAD and STRING are made up.
type known struct {
	HGNC, Name, Location, Ensembl string
	ClinVar                       int
	PLI, LOEUF                    float64
	Partners                      []string
}

//go:embed genes.json
var genesJSON []byte

// startStandIns starts them, and returns the table of APIs with their addresses.
// They are nearer and less strict than the real ones.
func startStandIns() (*standIns, []*api, error) {
	s := new(standIns)
	if err := json.Unmarshal(genesJSON, &s.genes); err != nil {
		return nil, nil, fmt.Errorf("genes.json: %w", err)
	}
	table := apis()
	handlers := map[string]http.HandlerFunc{
		"hgnc": s.hgnc(), "ensembl": s.ensembl(), "ncbi": s.ncbi(), "gnomad": s.gnomad(), "uniprot": s.uniprot, "string": s.string,
	}
	for _, a := range table {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.stop()
			return nil, nil, err
		}
		a.url = "http://" + listener.Addr().String()
		server := &http.Server{Handler: handlers[a.name], ReadHeaderTimeout: 5 * time.Second}
		server.SetKeepAlivesEnabled(false) // net/http repeats by itself what a used connection lost
		s.servers = append(s.servers, server)
		go server.Serve(listener)
		switch a.name {
		case "gnomad":
			a.perSecond, a.check = 5, checkGnomAD(time.Second)
		case "string":
			a.perSecond = 2
		}
	}
	return s, table, nil
}

func (s *standIns) stop() {
	for _, server := range s.servers {
		server.Close()
	}
}

// counter counts requests, from 1.
type counter struct {
	mu sync.Mutex // guards n
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func (s *standIns) hgnc() http.HandlerFunc {
	var requests counter
	return func(w http.ResponseWriter, r *http.Request) {
		symbol, _ := strings.CutPrefix(r.URL.Path, "/fetch/symbol/")
		docs := []map[string]string{}
		if g, ok := s.genes[symbol]; ok {
			docs = append(docs, map[string]string{"hgnc_id": g.HGNC, "symbol": symbol, "name": g.Name, "location": g.Location})
		}
		answer := map[string]any{"response": map[string]any{"numFound": len(docs), "docs": docs}}
		switch requests.next() {
		case 2:
			resetConnection(w)
		case 4:
			body, _ := json.Marshal(answer)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body[:len(body)/2])
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			writeJSON(w, http.StatusOK, answer)
		}
	}
}

// resetConnection makes the client see a reset, and not an end.
func resetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// ensembl allows a few requests per second, and says with each answer how many
// are left.
func (s *standIns) ensembl() http.HandlerFunc {
	const limit, period = 3, time.Second
	var mu sync.Mutex
	var window time.Time
	used := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if time.Since(window) >= period {
			window, used = time.Now(), 0
		}
		used++
		left, reset := limit-used, period-time.Since(window)
		mu.Unlock()
		seconds := strconv.FormatFloat(max(reset, time.Millisecond).Seconds(), 'f', 3, 64)
		w.Header().Set("X-RateLimit-Limit", strconv.Itoa(limit))
		w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(max(0, left)))
		w.Header().Set("X-RateLimit-Reset", seconds)
		if left < 0 {
			w.Header().Set("Retry-After", seconds)
			http.Error(w, "You have exceeded the limit", http.StatusTooManyRequests)
			return
		}
		g, ok := s.genes[strings.TrimPrefix(r.URL.Path, "/lookup/symbol/homo_sapiens/")]
		if !ok {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "No valid lookup found for symbol"})
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"id": g.Ensembl, "biotype": "protein_coding"})
	}
}

func (s *standIns) ncbi() http.HandlerFunc {
	var requests counter
	return func(w http.ResponseWriter, r *http.Request) {
		if requests.next() == 3 { // another program asks from the same address
			writeJSON(w, http.StatusTooManyRequests, map[string]string{"error": "API rate limit exceeded", "count": "4", "limit": "3"})
			return
		}
		symbol := strings.TrimSuffix(r.URL.Query().Get("term"), "[gene]")
		writeJSON(w, http.StatusOK, map[string]any{"esearchresult": map[string]string{"count": strconv.Itoa(s.genes[symbol].ClinVar)}})
	}
}

func (s *standIns) gnomad() http.HandlerFunc {
	var requests counter
	return func(w http.ResponseWriter, r *http.Request) {
		var query struct{ Variables struct{ Symbol string } }
		if err := json.NewDecoder(r.Body).Decode(&query); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if requests.next() == 2 {
			writeJSON(w, http.StatusBadRequest, map[string]any{"errors": []map[string]string{
				{"message": "Query rate limit exceeded. Please try again in a few minutes."},
			}})
			return
		}
		var gene any
		if g, ok := s.genes[query.Variables.Symbol]; ok {
			gene = map[string]any{"gnomad_constraint": map[string]float64{"pli": g.PLI, "oe_lof_upper": g.LOEUF}}
		}
		writeJSON(w, http.StatusOK, map[string]any{"data": map[string]any{"gene": gene}})
	}
}

func (s *standIns) uniprot(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
}

func (s *standIns) string(w http.ResponseWriter, r *http.Request) {
	g, ok := s.genes[r.URL.Query().Get("identifiers")]
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	partners := []map[string]string{}
	for _, name := range g.Partners {
		partners = append(partners, map[string]string{"preferredName_B": name})
	}
	writeJSON(w, http.StatusOK, partners)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

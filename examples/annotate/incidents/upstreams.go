package main

import (
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// upstream is a stand-in for an API: it takes its time, and answers well until it is
// broken.
type upstream struct {
	name     string
	address  string
	from, to time.Duration // how long it takes to answer
	body     string
	server   *http.Server

	broken atomic.Pointer[http.HandlerFunc] // which returns whether it has answered
}

// upstreams of the service, as they are when all is well.
func startUpstreams() (map[string]*upstream, error) {
	all := make(map[string]*upstream)
	for _, u := range []*upstream{
		{name: "hgnc", from: 120 * time.Millisecond, to: 350 * time.Millisecond,
			body: `{"response":{"docs":[{"hgnc_id":"HGNC:1100","name":"BRCA1 DNA repair associated","location":"17q21.31"}]}}`},
		{name: "ensembl", from: 250 * time.Millisecond, to: 700 * time.Millisecond,
			body: `{"id":"ENSG00000012048","biotype":"protein_coding"}`},
		{name: "uniprot", from: 30 * time.Millisecond, to: 90 * time.Millisecond,
			body: `{"results":[{"primaryAccession":"P38398"}]}`},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return all, err
		}
		u.address = "http://" + listener.Addr().String()
		u.server = &http.Server{Handler: u, ReadHeaderTimeout: 5 * time.Second}
		go u.server.Serve(listener)
		all[u.name] = u
	}
	return all, nil
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if broken := u.broken.Load(); broken != nil {
		(*broken)(w, r)
		return
	}
	u.answer(w, r)
}

func (u *upstream) answer(w http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-time.After(u.from + rand.N(u.to-u.from)):
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(u.body))
	}
}

func (u *upstream) breakBy(handler http.HandlerFunc) { u.broken.Store(&handler) }

// pause refuses all calls until then.
func (u *upstream) pause(d time.Duration) {
	end := time.Now().Add(d)
	u.breakBy(func(w http.ResponseWriter, r *http.Request) {
		left := time.Until(end)
		if left <= 0 {
			u.answer(w, r)
			return
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(left.Seconds())+1))
		http.Error(w, "quota exceeded", http.StatusTooManyRequests)
	})
}

// breakBackend has one of several backends, which take turns, fail.
func (u *upstream) breakBackend(of uint64) {
	var turn atomic.Uint64
	u.breakBy(func(w http.ResponseWriter, r *http.Request) {
		if turn.Add(1)%of == 0 {
			http.Error(w, "bad gateway", http.StatusBadGateway)
			return
		}
		u.answer(w, r)
	})
}

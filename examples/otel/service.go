package main

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

var moods = []string{"some requests fail", "a rate limit is exceeded", "the service is down", "the service is well again"}

// newService is a server on loopback with four moods, a quarter of the duration each.
func newService(duration time.Duration) *httptest.Server {
	began := time.Now()
	quarter := duration / 4
	var mu sync.Mutex
	calls := 0
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		calls++
		limited := calls%25 == 0
		mu.Unlock()
		switch mood := time.Since(began) / max(1, quarter); {
		case mood == 0 && rand.Float64() < 0.15:
			w.WriteHeader(http.StatusBadGateway)
		case mood == 1 && limited:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case mood == 2:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
}

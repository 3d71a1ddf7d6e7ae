package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"
)

// serve starts a server with three files, whose connections break after a megabyte or
// so, as those over a long way do after minutes.
func serve() (urls []string, sums [][]byte, stop func()) {
	files := make(map[string][]byte)
	for i, name := range []string{"/hgnc_complete_set.txt", "/Homo_sapiens.GRCh38.gtf.gz", "/gnomad.exomes.sites.vcf.bgz"} {
		data := make([]byte, (i+1)*4<<20)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		files[name] = data
		sum := sha256.Sum256(data)
		urls, sums = append(urls, name), append(sums, sum[:])
	}
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, len(data)))
		if requests.Add(1)%7 == 0 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		left := 1<<20 + rand.IntN(1<<20)
		http.ServeContent(&breaking{w, left}, r, "", time.Time{}, bytes.NewReader(data))
	}))
	for i := range urls {
		urls[i] = server.URL + urls[i]
	}
	return urls, sums, server.Close
}

// breaking breaks the connection after so many bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The run that newcomers see: three files over connections that break, each verified,
// and nothing else left.
func TestDefaultRun(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"-dir", dir}, &out, &errs)
	require.Zero(t, code, errs.String())
	assert.Equal(t, 3, strings.Count(out.String(), "SHA-256 as expected"))
	assert.NotContains(t, out.String(), "\n0 connections broke")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 3)
}

// A wrong sum, and a file that is not there, are failures of their own: the other files
// arrive.
func TestFailures(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "genes")
	}))
	defer server.Close()
	right, wrong := fmt.Sprintf("%x", sha256.Sum256([]byte("genes"))), strings.Repeat("00", 32)
	dir := t.TempDir()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"-dir", dir, "-sha256", right + "," + wrong + "," + right, server.URL + "/a", server.URL + "/b", server.URL + "/missing"}, &out, &errs)
	assert.Equal(t, 1, code)
	assert.Contains(t, out.String(), filepath.Join(dir, "a")+": 5 bytes, SHA-256 as expected")
	assert.Contains(t, errs.String(), "wrong checksum: checksum is "+right+", want "+wrong)
	assert.Contains(t, errs.String(), "404 Not Found")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// Wrong usage is said before anything is fetched.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-sha256", "abc", "http://files.example/a"}, {"-sha256", strings.Repeat("00", 32)}, {"-parallel", "0"}, {"-what"}} {
		var out, errs bytes.Buffer
		assert.Equal(t, 2, run(t.Context(), args, &out, &errs))
		assert.NotEmpty(t, errs.String())
	}
	for raw, want := range map[string]string{"http://files.example/": "download", "http://files.example/a/b.gz?x=1": "b.gz", "http://files.example/..": "download", "::": "download"} {
		assert.Equal(t, want, target("", raw))
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hgnc runs the command and returns what came of it.
func hgnc(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

// live has the tests' own server stand in for the real service.
func live(t *testing.T, url string) {
	real := liveService
	liveService = url
	t.Cleanup(func() { liveService = real })
}

// The run that newcomers see meets every fault, and recovers from each.
func TestDefaultRun(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := hgnc(t.Context(), "BRCA1", "PKD1", "TTN")
	require.Zero(t, code, stderr)
	assert.Empty(t, stderr)
	for _, want := range []string{
		"BRCA1   HGNC:1100   BRCA1 DNA repair associated                                     17q21.31\n" +
			"PKD1    HGNC:9008   polycystin 1, transient receptor potential channel interacting  16p13.3\n" +
			"TTN     HGNC:12403  titin                                                           2q31.2\n",
		": 429 Too Many Requests\n",
		"s: Retry-After of 0.",
		": 503 Service Unavailable\n",
		": read: connection reset by peer\n",
		": 200 OK, but body cut off: unexpected EOF\n",
		": no answer within 1.",
		"s: own backoff\n",
		"s: shared pause, the server asked another lookup to wait\n",
		"s: rate limit of 9 requests per second\n",
		"Total: 3 lookups, 9 attempts, 6 retries in ",
	} {
		assert.Contains(t, stdout, want)
	}
	for _, lookup := range []string{"BRCA1: 2 attempts in ", "PKD1: 3 attempts in ", "TTN: 4 attempts in "} {
		_, lines, ok := strings.Cut(stdout, "\n\n"+lookup)
		require.True(t, ok, lookup)
		lines, _, _ = strings.Cut(lines, "\n\n")
		assert.True(t, strings.HasSuffix(lines, ": 200 OK"), "not recovered: %s", lines)
	}
}

// What each attempt met, as the server decides it, is what the report says:
// whatever the order in which the requests came.
func TestJSON(t *testing.T) {
	for _, args := range [][]string{{"-seed", "5", "-json", "CFTR", "TP53"}, {"UMOD", "NOSUCH", "-json", "-seed=8"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := hgnc(t.Context(), args...)
			require.Zero(t, code, stderr)
			opts, err := parse(args, nil)
			require.NoError(t, err)
			var r report
			decoder := json.NewDecoder(strings.NewReader(stdout))
			decoder.DisallowUnknownFields()
			require.NoError(t, decoder.Decode(&r))
			require.Len(t, r.Lookups, len(opts.symbols))
			attempts := 0
			for i, l := range r.Lookups {
				assert.Equal(t, opts.symbols[i], l.Symbol)
				assert.Equal(t, expected(opts.seed, l.Symbol), outcomes(l), l.Symbol)
				attempts += len(l.Attempts)
			}
			assert.Equal(t, attempts, r.Totals.Attempts)
			assert.Equal(t, attempts-len(r.Lookups), r.Totals.Retries)
			assert.Equal(t, len(r.Lookups), r.Totals.Found+r.Totals.Unknown)
		})
	}
}

// expected is what a lookup must meet.
func expected(seed uint64, symbol string) (all []fault) {
	s := server{seed: seed}
	for n := 1; len(all) == 0 || all[len(all)-1] != noFault; n++ {
		f, _ := s.fault(symbol, n)
		all = append(all, f)
	}
	return all
}

func outcomes(l *lookup) (all []fault) {
	for _, a := range l.Attempts {
		f := fault(-1)
		switch {
		case a.Status == http.StatusTooManyRequests:
			f = throttled
		case a.Status == http.StatusServiceUnavailable:
			f = unavailable
		case a.Status == 0 && strings.Contains(a.Error, "reset"):
			f = reset
		case a.Status == 0 && a.Error == timedOut:
			f = slow
		case a.Status == http.StatusOK && strings.Contains(a.Error, "EOF"):
			f = truncated
		case a.Status == http.StatusOK && a.Error == "":
			f = noFault
		}
		all = append(all, f)
	}
	return all
}

// An unknown gene is an answer like any other, and a symbol given twice is
// asked for once.
func TestUnknownGene(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := hgnc(t.Context(), "NOSUCH", "NOSUCH", "TTN")
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "\nNOSUCH  -           (unknown to the HGNC)  -\nTTN     HGNC:12403  ")
	assert.Contains(t, stdout, "Total: 2 lookups")
}

func TestHelp(t *testing.T) {
	code, stdout, stderr := hgnc(t.Context(), "-h")
	assert.Zero(t, code)
	assert.Empty(t, stderr)
	for _, want := range []string{"Usage: hgnc", "-live", "-json", "-seed", liveService} {
		assert.Contains(t, stdout, want)
	}
	s, err := newServer(1)
	require.NoError(t, err)
	for symbol := range s.genes {
		assert.Contains(t, stdout, symbol, "the help lists the genes of the embedded server")
	}
}

func TestWrongUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"no gene to look up":                   {},
		"flag provided but not defined: -frob": {"-frob", "TTN"},
		`invalid value "x" for flag -seed`:     {"TTN", "-seed", "x"},
		`"" is not a gene symbol`:              {""},
		`"../info" is not a gene symbol`:       {"TTN", "../info"},
		`"T\x1b[31mTN" is not a gene symbol`:   {"T\x1b[31mTN"},
		"flag needs an argument: -seed (-h":    {"-seed"},
	} {
		code, stdout, stderr := hgnc(t.Context(), args...)
		assert.Equal(t, 2, code)
		assert.Empty(t, stdout)
		assert.Contains(t, stderr, "hgnc: "+want)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	}
}

// Ctrl-C in the middle of a request that hangs.
func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		interrupt()
		<-r.Context().Done()
	}))
	defer server.Close()
	live(t, server.URL)
	code, stdout, stderr := hgnc(ctx, "-live", "BRCA1", "PKD1", "TTN", "UMOD")
	assert.Equal(t, 130, code)
	assert.Empty(t, stdout)
	assert.Equal(t, "hgnc: interrupted, with 0 of 4 lookups done\n", stderr)
}

// A program that reads JSON gets what there was until the interrupt.
func TestInterrupted_JSON(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	embedded, err := newServer(0)
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/BRCA1") {
			w.Write(embedded.answer("BRCA1"))
			return
		}
		if strings.HasSuffix(r.URL.Path, "/UMOD") { // the fourth begins when BRCA1 is there
			interrupt()
		}
		<-r.Context().Done()
	}))
	defer server.Close()
	live(t, server.URL)
	code, stdout, stderr := hgnc(ctx, "-live", "-json", "BRCA1", "PKD1", "TTN", "UMOD")
	assert.Equal(t, 130, code)
	assert.Equal(t, "hgnc: interrupted, with 1 of 4 lookups done\n", stderr)
	var r report
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.Len(t, r.Lookups, 4)
	assert.Equal(t, "HGNC:1100", r.Lookups[0].Gene.ID)
	assert.Equal(t, stopped, r.Lookups[3].Error)
	assert.Equal(t, 1, r.Totals.Found)
}

func TestInterruptedBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, stdout, stderr := hgnc(ctx, "BRCA1")
	assert.Equal(t, 130, code)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, "interrupted")
}

// Three lookups fail for the same reason; it is reported once.
func TestNoNetwork(t *testing.T) {
	t.Setenv("NO_PROXY", "*")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	live(t, "http://"+address)
	code, stdout, stderr := hgnc(t.Context(), "-live", "BRCA1", "PKD1", "TTN")
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.Regexp(t, `^hgnc: looking up \w+ at http://`+address+` failed after 4 attempts in [\d.]+s: no retries left: `+
		`dial tcp `+address+`: connect: connection refused\n$`, stderr)
}

// A service that locks the client out is not asked again, and what was found
// before is not lost.
func TestFailureStopsTheOthers(t *testing.T) {
	embedded, err := newServer(0)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fetch/symbol/TTN", func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "application/json", r.Header.Get("Accept"))
		w.Write(embedded.answer("TTN"))
	})
	// The fourth lookup begins when one of the first three is over.
	mux.HandleFunc("GET /fetch/symbol/WT1", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "blocked", http.StatusForbidden)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // hangs until it is stopped
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	live(t, server.URL)
	code, stdout, stderr := hgnc(t.Context(), "-live", "TTN", "EGFR", "UMOD", "WT1")
	assert.Equal(t, 1, code)
	assert.Contains(t, stdout, "\nTTN     HGNC:12403  titin ")
	assert.Contains(t, stdout, "\nEGFR    -           (stopped) ")
	assert.Contains(t, stdout, "\nWT1     -           (failed: 403 Forbidden) ")
	assert.Regexp(t, `^hgnc: looking up WT1 at .* failed after 1 attempt in .*: a retry cannot help: 403 Forbidden\n$`, stderr)
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	assert.Equal(t, 1, run(t.Context(), []string{"WT1"}, brokenWriter{}, &stderr))
	assert.Equal(t, "hgnc: writing: disk full\n", stderr.String())
}

// The embedded server locks out a client that asks too often, as the real one does.
func TestServerLimit(t *testing.T) {
	s, err := newServer(0)
	require.NoError(t, err)
	forbidden := 0
	for range 1000 {
		r := httptest.NewRequest(http.MethodGet, "/fetch/symbol/TTN", nil)
		r.SetPathValue("symbol", "TTN")
		s.asked["TTN"] = maxFaults // it behaves
		w := httptest.NewRecorder()
		s.fetch(w, r)
		if w.Code == http.StatusForbidden {
			forbidden++
		}
	}
	assert.Greater(t, forbidden, 500)
	assert.LessOrEqual(t, forbidden, 1000-allowedRate)
}

// A miss is no error in the real service, but an empty list.
func TestServerShape(t *testing.T) {
	s, err := newServer(0)
	require.NoError(t, err)
	assert.JSONEq(t, `{"responseHeader":{"status":0,"QTime":1},"response":{"numFound":0,"start":0,"docs":[]}}`,
		string(s.answer("NOSUCH")))
	assert.Contains(t, string(s.answer("TP53")), `"numFound":1`)
	assert.Contains(t, string(s.answer("TP53")), `"hgnc_id":"HGNC:11998","symbol":"TP53"`)
}

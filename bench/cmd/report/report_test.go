package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `goos: linux
cpu: Some CPU
BenchmarkBreakerClosed/floor/one_atomic_load-2 	 100	 2.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkBreakerClosed/retry/Do-2              	 100	 4.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkBreakerClosed/peer/gobreaker_Execute-2	 100	 60 ns/op	 0 B/op	 0 allocs/op
BenchmarkBreakerClosed/peer/gobreaker_two-step-2	 100	 90 ns/op	 48 B/op	 1 allocs/op
BenchmarkBreakerClosedParallel/retry/Do        	 100	 4.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkBreakerClosedParallel/retry/Do-2      	 100	 5.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkLoopbackPaired/GET-2                  	 100	 400 ns/op	 105 client-ns	 101 control-ns	 100 plain-ns	 102 tripper-ns
BenchmarkIdleGate/retry/Gate-2                 	   3	 100 ns/op	 64.00 B/instance
PASS
`

func parsed(t *testing.T, text string) *results {
	t.Helper()
	res, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestParse(t *testing.T) {
	// The second round is slower by half: ratios must not change.
	slower := strings.NewReplacer("2.0 ns/op", "3.0 ns/op", "4.0 ns/op", "6.0 ns/op", "60 ns/op", "90 ns/op")
	res := parsed(t, sample+slower.Replace(sample))
	if res.cpu != "Some CPU" || res.rounds() != 2 || len(res.rows) != 8 {
		t.Fatalf("read %d rows in %d rounds on %q", len(res.rows), res.rounds(), res.cpu)
	}
	do, load := res.row("BreakerClosed", ours, "Do", 0), res.row("BreakerClosed", floor, "one atomic load", 0)
	if do.main() != 5 || do.procs != 2 || times(do, load) != 2 {
		t.Errorf("Do takes %v ns on %d, %v × the floor", do.main(), do.procs, times(do, load))
	}
	if best := res.bestPeer("BreakerClosed", "Do", 0); best == nil || best.name != "gobreaker Execute" {
		t.Errorf("the best peer is %+v", best)
	}
	if r := res.row("BreakerClosedParallel", ours, "Do", 1); r == nil || r.main() != 5 {
		t.Errorf("a name without a number of processors was read as %+v", r)
	}
	if gate := res.row("IdleGate", ours, "Gate", 0); gate.main() != 64 {
		t.Errorf("a gate weighs %v", gate.main())
	}
}

func TestParseComplains(t *testing.T) {
	for _, bad := range []string{"", "PASS\n", "BenchmarkX/retry/y 100 3.0\n", "BenchmarkX/retry/y 100 many ns/op\n"} {
		if _, err := parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read without complaint", bad)
		}
	}
}

// Each path has its floor and its best peer. A peer that does less is no measure, and is
// named where it is faster, with the reason.
func TestSummary(t *testing.T) {
	var d bytes.Buffer
	writeSummary(&d, parsed(t, sample+"BenchmarkBreakerClosed/peer/eapache_Run-2 	 100	 3.0 ns/op\n"))
	for _, want := range []string{
		"| breaker, closed | 4.0 ns | one atomic load: 2.0 ns, × 2.00 | gobreaker Execute: 60 ns, × 0.07 | eapache Run (3.0 ns). eapache counts ",
		"a GET takes a `RetryableClient` +5.0 %, a `Transport` +2.0 % of the plain client's time; the noise is ± 3.0 %.",
	} {
		if !strings.Contains(d.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, d.String())
		}
	}
	if strings.Contains(d.String(), "MemoryGet") || strings.Contains(d.String(), "heap of an idle breaker") {
		t.Error("what was not measured is in the summary")
	}
}

// A client must not be compared to a round tripper.
func TestForms(t *testing.T) {
	res := parsed(t, `
BenchmarkMemoryGet/peer/round_tripper:_a-2 1 100 ns/op
BenchmarkMemoryGet/peer/client:_b-2 1 200 ns/op
`)
	if best := res.bestPeer("MemoryGet", "client: RetryableClient", 0); best == nil || best.name != "client: b" {
		t.Errorf("the best client is %+v", best)
	}
}

func TestDocumentAndCharts(t *testing.T) {
	res := parsed(t, sample)
	text := string(document(res, setting{rounds: 1, machine: "a machine", versions: []string{"a v1"}}))
	for _, want := range []string{"| **Do** | 4.0 |", "| 2.00 | 0.07 |", "results/breaker-closed.svg", "| **Gate** | 64 |", "- a v1"} {
		if !strings.Contains(text, want) {
			t.Errorf("the document lacks %q", want)
		}
	}
	dir := t.TempDir()
	if err := drawAll(dir, res); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "breaker-closed.svg"))
	if err != nil || !strings.Contains(string(svg), "retry: Do") || !strings.Contains(string(svg), "#007D9C") {
		t.Errorf("the chart lacks this library's bar (%v)", err)
	}
}

func TestNumbers(t *testing.T) {
	for x, want := range map[float64]string{1.66: "1.7", 23.4: "23", 999.4: "999", 1032: "1,032", 104711: "104,711"} {
		if got := number(x); got != want {
			t.Errorf("%v is written %q, want %q", x, got, want)
		}
	}
}

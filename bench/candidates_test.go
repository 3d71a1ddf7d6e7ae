package bench

import (
	"io"
	"net/http"
	"testing"

	"github.com/retryutils/retry"
)

// TestCandidates runs every candidate for a few rounds, so that one that does
// not do its work is found without running the benchmarks.
func TestCandidates(t *testing.T) {
	for group, g := range map[string]struct {
		expect     expect
		candidates []candidate
	}{
		"loop, success":              {succeed, loopSuccess()},
		"loop, 3 failures":           {recover3, loopThreeFailures(tick)},
		"loop, 3 failures, no delay": {recover3, loopThreeFailures(0)},
		"loop, give up":              {giveUp, loopGiveUp()},
		"breaker, closed":            {closed, breakers(byCount)},
		"breaker, open":              {rejected, opened(breakers(byCount))},
		"breaker, window":            {closed, breakers(byRate)},
		"hedge":                      {succeed, hedges()},
	} {
		for _, c := range g.candidates {
			t.Run(group+"/"+c.name, func(t *testing.T) {
				w := &work{failures: g.expect.failures}
				c.build()(3, w)
				g.expect.check(t, w, 3)
			})
		}
	}
}

// TestClients does so for the HTTP clients, and finds out who leaves bodies open.
func TestClients(t *testing.T) {
	for _, x := range []exchange{get, post, again} {
		for _, c := range retrying() {
			if x.refused > 0 && c.name == plainName {
				continue
			}
			t.Run(x.method+"/"+c.name, func(t *testing.T) {
				server := &memory{exchange: x}
				do, buf := c.build(server), make([]byte, 512)
				for range 3 {
					x.call(t, do, "http://bench.example/", buf)
				}
				if want := 3 * (x.refused + 1); server.requests != want {
					t.Errorf("made %d requests, want %d", server.requests, want)
				}
				if leaked := server.open > 0; leaked != (c.leaks && x.refused > 0) {
					t.Errorf("left %d bodies open", server.open)
				}
			})
		}
	}
}

// A wait that comes out as 0 starts no timer, and makes a candidate look fast:
// that happened to a filled Config whose jitter went below 1.
func TestWaitsAreNotLeftOut(t *testing.T) {
	for name, cfg := range map[string]retry.Config{"plain": plain(3, tick), "filled": filled(3, tick)} {
		for attempt := 1; attempt <= 3; attempt++ {
			if d := cfg.Delay(attempt); d < tick {
				t.Errorf("%s: the wait before retry %d is %v", name, attempt, d)
			}
		}
	}
}

// The check of the answers must be able to fail.
func TestMemoryRefusesAWrongBody(t *testing.T) {
	server := &memory{exchange: post}
	_, body, err := plainClient(server)(http.MethodPost, "http://bench.example/", payload[:100])
	if err == nil {
		io.Copy(io.Discard, body)
		t.Error("a short body was accepted")
	}
}

func TestExpectNotices(t *testing.T) {
	for _, w := range []work{{calls: 5}, {calls: 6, errs: 1}} {
		probe := new(recorder)
		expect{calls: 2}.check(probe, &w, 3)
		if !probe.failed {
			t.Errorf("%d calls and %d errors went through as 6 and 0", w.calls, w.errs)
		}
	}
}

// recorder stands in for a benchmark that fails.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.failed = true }

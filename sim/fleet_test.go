package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// constants are those of the files, by name.
func constants(t *testing.T, pattern string) map[string]string {
	found := map[string]string{}
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == len(spec.Names) {
				for i, name := range spec.Names {
					found[name.Name] = types.ExprString(spec.Values[i])
				}
			}
			return true
		})
	}
	return found
}

// The model is worth nothing where the real code has moved on.
func TestFleetConstants(t *testing.T) {
	real, model := constants(t, "../fleet/*.go"), constants(t, "fleet.go")
	source, err := os.ReadFile("../fleet/fleet.go")
	require.NoError(t, err)
	script, err := os.ReadFile("../fleet/report.lua")
	require.NoError(t, err)
	compared := 0
	for name, value := range model {
		name, ours := strings.CutPrefix(name, "fleet")
		if !ours {
			continue
		}
		compared++
		switch constant := strings.ToLower(name[:1]) + name[1:]; {
		case name == "Keep":
			assert.Equal(t, time.Minute, fleetKeep)
			assert.True(t, strings.Contains(string(script), "open + 60000"))
		case real[constant] != "":
			assert.Equal(t, real[constant], value, name)
		default: // a setting's default
			line := fmt.Sprintf("c.%s = cmp.Or(c.%s, %s)", name, name, strings.ReplaceAll(value, " ", ""))
			assert.True(t, strings.Contains(string(source), line), line)
		}
	}
	assert.Equal(t, 17, compared)
}

// gates are n gates in a fleet.
func gates(w *world, n int, seed uint64) (*fleet, []*retry.Gate) {
	e := newEnv(w, seed)
	all := make([]*retry.Gate, n)
	for i := range all {
		all[i] = retry.NewGate(clock{w})
		e.fleet().join(retry.Config{Gate: all[i]})
	}
	return e.joined, all
}

// Measured with real processes: a pause reached the last of 20 after 2 to 5ms, and
// the last of 100 after 14ms.
func TestFleetDelays(t *testing.T) {
	for n, within := range map[int][2]time.Duration{
		20:   {2 * time.Millisecond, 5 * time.Millisecond},
		100:  {10 * time.Millisecond, 15 * time.Millisecond},
		1000: {100 * time.Millisecond, 120 * time.Millisecond},
	} {
		for seed := range uint64(5) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				_, all := gates(w, n, seed)
				paused := 0
				var last time.Time
				for _, g := range all[1:] {
					g.OnPause(func(time.Time) { paused++; last = w.now })
				}
				all[0].Pause(time.Minute)
				w.run()
				assert.Equal(t, n-1, paused, "each is notified once, and none twice")
				assert.GreaterOrEqual(t, last.Sub(epoch), within[0])
				assert.LessOrEqual(t, last.Sub(epoch), within[1])
			})
		}
	}
}

// A process whose every call fails is on its own, whatever it says.
func TestFleetOneBadNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		e := newEnv(w, 1)
		failed := errors.New("failed")
		opened := 0
		for i := range 20 {
			b := e.breaker(retry.BreakerConfig{RecoveryTimeout: time.Second})
			e.fleet().join(retry.Config{Breaker: b})
			b.OnStateChange(func(c retry.StateChange) {
				if i == 0 {
					opened++
					return
				}
				t.Error("opened", i)
			})
			w.spawn(func() {
				for w.since() < 60 {
					b.Do(context.Background(), func(context.Context) error {
						w.sleep(20 * time.Millisecond)
						if i == 0 {
							return failed
						}
						return nil
					})
					w.sleep(seconds(0.2 * e.random.ExpFloat64()))
				}
			})
		}
		w.run()
		assert.Greater(t, opened, 50)
		assert.Zero(t, e.joined.sent)
	})
}

// What some found dead, no other has to, and all are well again within an open
// time of 5s. Before a failed probe brought the next one sooner, and late findings
// were ignored, two of these five took 8s with 1,000 processes.
func TestFleetOutage(t *testing.T) {
	p := only(openPolicies(), "budget 10 % + breaker 5s, in a fleet")[0]
	for n, attempts := range map[int]float64{2: 0.01, 20: 0.01, 1000: 0.035} {
		var outcomes []outcome
		t.Run("all", func(t *testing.T) {
			each(t, &outcomes, []uint64{1, 2, 3, 4, 5}, func(seed uint64) outcome {
				l := outage(n, 60)
				l.end = l.down.to + 61
				return l.run(p, seed)
			})
		})
		for _, o := range outcomes {
			t.Logf("%d processes: %.3f attempts/call, well after %.0f s, %.1f %% in the minute after", n, o.amplification, o.recovered, 100*o.ok)
			assert.LessOrEqual(t, o.amplification, attempts)
			assert.LessOrEqual(t, o.recovered, 4.0)
			assert.LessOrEqual(t, float64(o.perSecond), 1.25*capacity)
		}
	}
}

// The calls that wait in all processes go as those in one do. When all breakers
// closed within 100ms, 3,893 were answered 503, and the last was done after 49s.
func TestFleetOfWaitingWorkers(t *testing.T) {
	p := fleetPolicies()[len(fleetPolicies())-1]
	require.True(t, p.recommended)
	sizes := []int{4, 20, 100}
	var outcomes []outcome
	t.Run("all", func(t *testing.T) {
		each(t, &outcomes, sizes, func(n int) outcome {
			l := soon(closedOutage(30))
			l.processes, l.workers = n, 1000/n
			return l.run(p, 1)
		})
	})
	for i, o := range outcomes {
		t.Logf("%d processes: %d refused, half done %.1f s, last %.1f s", sizes[i], o.shed, o.quantile(0.5, 1000), o.quantile(1, 1000))
		assert.Zero(t, o.shed)
		assert.LessOrEqual(t, o.quantile(1, 1000), 7.0)
	}
}

func TestFleetThrottled(t *testing.T) {
	var outcomes []throttledOutcome
	most := []float64{150, 300, 150, 150, 600, 500, 10, 45} // of 1,000
	t.Run("all", func(t *testing.T) {
		each(t, &outcomes, throttledServers(), func(s throttled) throttledOutcome { return s.run(throttledFleet, 1) })
	})
	for i, o := range outcomes {
		assert.LessOrEqual(t, o.refused, most[i], throttledServers()[i].name)
		assert.LessOrEqual(t, o.makespan, 2.5, throttledServers()[i].name)
	}
}

// Two who are refused at the same moment have one pause, and it is reported once.
func TestFleetPausesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		f, all := gates(w, 20, 1)
		all[0].Pause(time.Minute)
		all[1].Pause(time.Minute)
		w.run()
		assert.Equal(t, 1, f.sent)
		for _, g := range all {
			until, _ := g.PausedUntil()
			assert.InDelta(t, 60, until.Sub(epoch).Seconds(), 0.12)
		}
	})
}

func TestFleetIsDeterministic(t *testing.T) {
	p := fleetPolicies()[len(fleetPolicies())-1]
	var outcomes [2]outcome
	for i := range outcomes {
		synctest.Test(t, func(*testing.T) {
			l := soon(closedOutage(10))
			l.processes, l.workers = 20, 50
			outcomes[i] = l.run(p, 7)
		})
	}
	require.Equal(t, outcomes[0], outcomes[1])
}

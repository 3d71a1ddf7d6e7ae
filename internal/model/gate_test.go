package model_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/model"
)

func gateGraph() *model.Graph[model.Gate, model.GateAction] {
	return model.Search(model.NewGate(), model.Gate.Steps)
}

// What must hold in every state that four calls can bring a gate to.
func TestGate_Invariants(t *testing.T) {
	g := gateGraph()
	t.Logf("%d states, %d ways", len(g.States), len(g.Traces()))
	empties := g.CanReach(func(s model.Gate) bool { return s.Waiting == 0 }, func(a model.GateAction) bool { return a.Name == "half" || a.Name == "turn" })
	for _, s := range g.States {
		assert.True(t, s.Waiting == 0 || s.Next > 0, "a call waits, and its turn has come: %+v", s)
		assert.LessOrEqual(t, s.Firm, max(0, s.Pause), "a pause that evidence does not end is over too soon: %+v", s)
		assert.GreaterOrEqual(t, s.Next, s.Pause, "a turn within the pause: %+v", s)
		assert.True(t, s.Used || s.Waiting == 0 && s.Pause == -model.Calm, "a gate that has seen no refusal holds a call back: %+v", s)
		assert.True(t, empties[s], "time alone does not empty the line: %+v", s)
		for _, step := range g.Steps[s] {
			switch step.Action.Name {
			case "accept": // a success makes no call wait
				assert.LessOrEqual(t, step.To.Waiting, s.Waiting)
				assert.LessOrEqual(t, step.To.Pause, s.Pause)
			case "pause", "refused", "refuse":
				assert.GreaterOrEqual(t, step.To.Pause, s.Pause, "shortened: %+v", s)
			}
		}
	}
}

var all = flag.Bool("all", false, "replay every way on the real gate, and not a tenth of them")

// The real gate does what the model does, on ways into every state, and on long walks,
// up to where calls in line came at more than 100 a second before a pause ended early.
func TestGate_Replay(t *testing.T) {
	g, seed := gateGraph(), rand.Uint64()
	t.Logf("seed %d", seed)
	traces, random := g.Traces(), rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(traces), func(i, j int) { traces[i], traces[j] = traces[j], traces[i] })
	if !*all {
		traces = traces[:len(traces)/10]
	}
	pauses := func(a model.GateAction) bool { return a.Name == "pause" || a.Name == "refused" }
	for range 300 {
		traces = append(traces, g.Walk(random, 50, pauses))
	}
	synctest.Test(t, func(t *testing.T) {
		for _, trace := range traces {
			if err := replayGate(trace); err != nil {
				t.Fatalf("%v\nafter %v", err, trace)
			}
		}
	})
}

// gateCall is a call through a real gate.
type gateCall struct {
	leave   context.CancelFunc
	outcome chan error
}

// replayGate takes a real gate one way, and compares after each step which calls are on
// their way, in which order, and how long the others are paused.
func replayGate(trace []model.GateAction) error {
	gate := retry.NewGate(nil)
	cfg := retry.Config{Gate: gate, MaxRetries: retry.NoRetries}
	var line, sent, entered []*gateCall // a step of the bubble at a time: no lock
	arrive := func() {
		ctx, cancel := context.WithCancel(context.Background())
		c := &gateCall{cancel, make(chan error)}
		line = append(line, c)
		go func() {
			_ = retry.Run(ctx, cfg, func(context.Context) error {
				entered = append(entered, c)
				return <-c.outcome
			})
			cancel()
		}()
	}
	defer func() {
		for _, c := range line {
			c.leave()
		}
		synctest.Wait()
		for _, c := range sent {
			c.outcome <- errors.New("over")
		}
	}()
	m, millisecond := model.NewGate(), time.Millisecond
	var refusedAt time.Time
	for n, a := range trace {
		before := m
		m = m.Do(a)
		if a.Name == "accept" && before.Pause > m.Pause && time.Since(refusedAt) < time.Duration(2*before.Waiting*model.Turn)*millisecond {
			return nil // those in line came quickly, and go more quickly than the model knows
		}
		switch a.Name {
		case "arrive":
			arrive()
		case "leave first":
			line[0].leave()
			line = line[1:]
		case "leave last":
			line[len(line)-1].leave()
			line = line[:len(line)-1]
		case "accept", "refuse":
			outcome := error(nil)
			if a.Name == "refuse" {
				refusedAt = time.Now()
				outcome = retry.RetryAfter(errors.New("refused"), model.PauseFor*millisecond)
			}
			sent[a.Sent].outcome <- outcome
			sent = slices.Delete(sent, a.Sent, a.Sent+1)
		case "pause":
			gate.Pause(model.PauseFor * millisecond)
		case "refused":
			gate.Refused(model.PauseFor * millisecond)
		case "turn":
			time.Sleep(model.Turn * millisecond)
		case "half":
			time.Sleep(model.PauseFor / 2 * millisecond)
		case "calm":
			time.Sleep(2 * model.Calm * millisecond)
		}
		synctest.Wait()
		if len(entered) > len(line) || !slices.Equal(entered, line[:len(entered)]) {
			return fmt.Errorf("step %d: %d calls passed, not in the order of the line", n, len(entered))
		}
		sent, line, entered = append(sent, entered...), line[len(entered):], nil
		if len(sent) != m.InUse || len(line) != m.Waiting || gate.Snapshot().Waiting != m.Waiting {
			return fmt.Errorf("step %d: %d on their way and %d in line, by the gate %d, by the model %+v", n, len(sent), len(line), gate.Snapshot().Waiting, m)
		}
		until, paused := gate.PausedUntil()
		if left := time.Until(until); paused != (m.Pause > 0) || paused && left != time.Duration(m.Pause)*millisecond {
			return fmt.Errorf("step %d: paused %v for %v, by the model for %dms", n, paused, left, m.Pause)
		}
	}
	return nil
}

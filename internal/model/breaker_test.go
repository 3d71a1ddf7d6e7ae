package model_test

import (
	"context"
	"errors"
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

func breakerGraph() *model.Graph[model.Breaker, model.BreakerAction] {
	return model.Search(model.NewBreaker(), model.Breaker.Steps)
}

// What must hold in every state that four calls can bring a breaker to.
func TestBreaker_Invariants(t *testing.T) {
	g := breakerGraph()
	t.Logf("%d states, %d ways", len(g.States), len(g.Traces()))
	works := func(a model.BreakerAction) bool { return a.Name == "allow" || a.Name == "success" || a.Name == "tick" }
	closes := g.CanReach(func(s model.Breaker) bool { return s.State == "closed" }, works)
	passes := g.CanReach(func(s model.Breaker) bool {
		for _, step := range g.Steps[s] {
			if step.Action.Name == "allow" && step.To.Calls != s.Calls {
				return true
			}
		}
		return false
	}, func(a model.BreakerAction) bool { return a.Name == "tick" })
	for _, s := range g.States {
		kinds := make(map[string]int)
		for _, c := range s.Calls {
			kinds[c.Kind]++
		}
		forced := s.State == "open" && s.Left > model.MaxRecoveryTimeout
		assert.LessOrEqual(t, kinds["probe"], model.HalfOpenProbes, "%+v", s)
		assert.True(t, kinds["counted"] == 0 || s.State == "closed", "counted outside of its period: %+v", s)
		assert.True(t, kinds["probe"]+kinds["late"] == 0 || s.State == "half-open", "a probe outside of its period: %+v", s)
		assert.True(t, s.Failures == 0 || s.State == "closed" && s.Failures < model.FailureThreshold, "%+v", s)
		assert.True(t, s.Successes == 0 || s.State == "half-open" && s.Successes < model.SuccessThreshold, "%+v", s)
		assert.True(t, s.OpenTime == model.RecoveryTimeout || s.State != "closed", "a breaker that closed forgets how long it was open: %+v", s)
		for _, step := range g.Steps[s] {
			if step.Action.Call.Kind == "stale" {
				after := step.To
				after.Calls = s.Calls
				assert.Equal(t, s, after, "a stale result changed something")
			}
			if step.Action.Name == "allow" && s.State == "open" && s.Left > 0 {
				assert.Equal(t, s, step.To, "a call passed an open breaker")
			}
		}
		// Never stuck: where the dependency works, it closes; and if no call ever
		// returns, time alone makes room for the next, if there is a caller for it.
		assert.True(t, forced || closes[s] || kinds[""] == 0, "never closes: %+v", s)
		assert.True(t, forced || passes[s] || kinds[""] == 0, "never lets a call pass: %+v", s)
	}
}

// The real breaker does what the model does, on every way into every state, and on long
// walks.
func TestBreaker_Replay(t *testing.T) {
	g, seed := breakerGraph(), rand.Uint64()
	t.Logf("seed %d", seed)
	traces, random := g.Traces(), rand.New(rand.NewPCG(seed, 0))
	byHand := func(a model.BreakerAction) bool { return a.Name == "trip" || a.Name == "force" || a.Name == "reset" }
	for range 2_000 {
		traces = append(traces, g.Walk(random, 100, byHand))
	}
	synctest.Test(t, func(t *testing.T) {
		for _, trace := range traces {
			if err := replayBreaker(breakerConfig, trace); err != nil {
				t.Fatalf("%v\nafter %v", err, trace)
			}
		}
	})
}

const tick = time.Second

var breakerConfig = retry.BreakerConfig{
	FailureThreshold: model.FailureThreshold, HalfOpenProbes: model.HalfOpenProbes, SuccessThreshold: model.SuccessThreshold,
	RecoveryTimeout: model.RecoveryTimeout * tick, MaxRecoveryTimeout: model.MaxRecoveryTimeout * tick, ProbeTimeout: model.ProbeTimeout * tick,
}

// replayBreaker takes a real breaker one way, and compares what can be seen of it after
// each step.
func replayBreaker(cfg retry.BreakerConfig, trace []model.BreakerAction) error {
	b, err := retry.NewCircuitBreaker(cfg)
	if err != nil {
		return err
	}
	m := model.NewBreaker()
	var permits [model.Callers]retry.Permit
	results := map[string]error{"failure": errors.New("down"), "neutral": context.Canceled}
	for n, a := range trace {
		caller := -1
		m, caller = m.Do(a)
		switch a.Name {
		case "allow":
			permit, err := b.Allow()
			if (err == nil) != (caller >= 0) {
				return fmt.Errorf("step %d: Allow: %v, by the model it passes: %v", n, err, caller >= 0)
			}
			if caller >= 0 {
				permits[caller] = permit
			}
		case "tick":
			time.Sleep(tick)
		case "trip":
			b.Trip(model.TripTime * tick)
		case "force":
			b.ForceOpen()
		case "reset":
			b.Reset()
		default:
			permits[caller].Done(results[a.Name])
		}
		s := b.Snapshot()
		if got, want := b.State().String(), m.Observed(); got != want || s.State.String() != want {
			return fmt.Errorf("step %d: %s, by the model %s", n, got, want)
		}
		if m.State == "closed" && s.ConsecutiveFailures != m.Failures || m.State == "half-open" && s.Successes != m.Successes {
			return fmt.Errorf("step %d: %+v, by the model %+v", n, s, m)
		}
		if left := time.Until(s.OpenUntil); m.Observed() == "open" && !s.OpenUntil.IsZero() && left != time.Duration(m.Left)*tick {
			return fmt.Errorf("step %d: open for %v, by the model for %d ticks", n, left, m.Left)
		}
	}
	return nil
}

// The replays tell a right breaker from a wrong one: each of these is wrong by one.
func TestBreaker_ReplayFindsFaults(t *testing.T) {
	traces := breakerGraph().Traces()
	for name, change := range map[string]func(*retry.BreakerConfig){
		"FailureThreshold":   func(c *retry.BreakerConfig) { c.FailureThreshold++ },
		"HalfOpenProbes":     func(c *retry.BreakerConfig) { c.HalfOpenProbes-- },
		"SuccessThreshold":   func(c *retry.BreakerConfig) { c.SuccessThreshold-- },
		"RecoveryTimeout":    func(c *retry.BreakerConfig) { c.RecoveryTimeout++ },
		"MaxRecoveryTimeout": func(c *retry.BreakerConfig) { c.MaxRecoveryTimeout -= tick },
		"ProbeTimeout":       func(c *retry.BreakerConfig) { c.ProbeTimeout++ },
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := breakerConfig
			change(&cfg)
			assert.True(t, slices.ContainsFunc(traces, func(trace []model.BreakerAction) bool { return replayBreaker(cfg, trace) != nil }), name)
		})
	}
}

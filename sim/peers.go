package main

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/retryutils/retry"
)

// peer is a way for the calls of a process to share what they learn of a server.
type peer struct {
	name string
	// join makes the Config of a process share it.
	join func(w *world, cfg *retry.Config)
}

// peers are the gate, and what it is compared with.
func peers() []peer {
	return []peer{
		{"gate", func(w *world, cfg *retry.Config) { cfg.Gate = retry.NewGate(clock{w}) }},
		{"pause alone", func(w *world, cfg *retry.Config) { observe(cfg, &pauseAlone{world: w}) }},
		{"no gate", func(*world, *retry.Config) {}},
		{"AWS adaptive", func(w *world, cfg *retry.Config) { observe(cfg, &awsAdaptive{throttle: throttle{world: w}}) }},
		{"AIMD", func(w *world, cfg *retry.Config) { observe(cfg, &aimd{throttle: throttle{world: w}}) }},
	}
}

const (
	theGate = 0
	noGate  = 2
)

// learner is a Limiter that sees what becomes of the attempts.
type learner interface {
	retry.Limiter
	saw(refused bool, after time.Duration)
}

func observe(cfg *retry.Config, l learner) {
	cfg.Limiter = l
	cfg.OnAttemptDone = func(_ context.Context, e retry.Event) {
		var status *retry.StatusError
		refused := errors.As(e.Err, &status)
		after := time.Duration(0)
		if refused {
			after = status.RetryAfter
		}
		l.saw(refused, after)
	}
}

// pauseAlone holds all calls back for as long as any refused one was asked to wait,
// and lets them go 5ms apart.
type pauseAlone struct {
	world *world
	next  time.Time
}

func (p *pauseAlone) Wait(context.Context) error {
	for p.next.After(p.world.now) {
		p.world.sleep(p.next.Sub(p.world.now))
		if !p.next.After(p.world.now) {
			p.next = p.world.now.Add(5 * time.Millisecond)
			return nil
		}
	}
	return nil
}

func (p *pauseAlone) saw(refused bool, after time.Duration) {
	if until := p.world.now.Add(after); refused && until.After(p.next) {
		p.next = until
	}
}

// throttle is a token bucket with a rate that is learned, and the rate at which
// calls were answered, in half seconds, smoothed.
type throttle struct {
	world          *world
	enabled        bool
	rate           float64
	due            time.Time // of the next token
	measured       float64
	bucket         float64 // the half second that is counted, and how many there were
	count          float64
	lastThrottled  float64
	most, cubeRoot float64
}

func (t *throttle) Wait(context.Context) error {
	if !t.enabled {
		return nil
	}
	now := t.world.now
	if oldest := now.Add(-time.Second); t.due.Before(oldest) { // a bucket of a second
		t.due = oldest
	}
	t.due = t.due.Add(seconds(1 / t.rate))
	t.world.sleep(max(0, t.due.Sub(now)))
	return nil
}

const smoothing = 0.8

func (t *throttle) measure() {
	t.count++
	if bucket := math.Floor(2*t.world.since()) / 2; bucket > t.bucket {
		t.measured = smoothing*t.count/(bucket-t.bucket) + (1-smoothing)*t.measured
		t.count, t.bucket = 0, bucket
	}
}

// awsAdaptive is the adaptive mode of the AWS SDKs: CUBIC.
type awsAdaptive struct{ throttle }

func (a *awsAdaptive) saw(refused bool, _ time.Duration) {
	const beta, scale = 0.7, 0.4
	a.measure()
	now, rate := a.world.since(), 0.0
	if refused {
		used := a.measured
		if a.enabled {
			used = min(a.measured, a.rate)
		}
		a.most, a.lastThrottled, a.enabled = used, now, true
		a.cubeRoot = math.Cbrt(a.most * (1 - beta) / scale)
		rate = used * beta
	} else {
		rate = scale*math.Pow(now-a.lastThrottled-a.cubeRoot, 3) + a.most
	}
	a.rate = max(0.5, min(rate, 2*a.measured))
}

// aimd takes 15 % off at a refusal, at most once in half a second, and adds 3 % a
// second.
type aimd struct{ throttle }

func (a *aimd) saw(refused bool, _ time.Duration) {
	a.measure()
	now := a.world.since()
	switch {
	case !refused && a.enabled:
		a.rate *= math.Pow(1.03, now-a.lastThrottled)
	case refused && !a.enabled:
		a.enabled, a.rate = true, max(0.5, 0.85*a.measured)
	case refused && now-a.cubeRoot >= 0.5:
		a.rate = max(0.01, 0.85*a.rate)
	}
	if refused && now-a.cubeRoot >= 0.5 {
		a.cubeRoot = now
	}
	a.lastThrottled = now
}

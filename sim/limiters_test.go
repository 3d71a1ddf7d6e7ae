package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

// limiter answers a call: how long it works on it, or when to come back.
type limiter func(now time.Time) (work, after time.Duration)

// overload has 50 workers do 4,000 jobs at a limiter, and returns how long they
// took, in seconds, and the refusals per 1,000.
func overload(seed uint64, gate bool, l func(*world, *rand.Rand) limiter) (took, refused float64) {
	w := newWorld()
	random := rand.New(rand.NewPCG(seed, 3))
	answer := l(w, random)
	cfg := retry.Config{Clock: clock{w}, Rand: newEnv(w, seed).random.Float64, MaxRetries: retry.Unlimited}
	if gate {
		cfg.Gate = retry.NewGate(clock{w})
	}
	left := 4000
	call := func(context.Context) error {
		w.sleep(seconds(0.001 + 0.002*random.Float64()))
		work, after := answer(w.now)
		if after > 0 {
			refused += 0.25
			w.sleep(2 * time.Millisecond)
			return &retry.StatusError{StatusCode: 429, RetryAfter: after}
		}
		w.sleep(work + 2*time.Millisecond)
		return nil
	}
	for range 50 {
		w.after(seconds(0.005*random.Float64()), func() {
			go func() {
				for left > 0 {
					left--
					if err := retry.Run(context.Background(), cfg, call); err != nil {
						panic(err)
					}
				}
			}()
		})
	}
	w.run()
	return w.since(), refused
}

const work = 10 * time.Millisecond

// concurrency lets ten be worked on at a time, for 100ms each on average.
func concurrency(w *world, random *rand.Rand) limiter {
	busy := 0
	return func(time.Time) (time.Duration, time.Duration) {
		if busy >= 10 {
			return 0, time.Second
		}
		busy++
		took := seconds(0.05 + 0.1*random.Float64())
		w.after(took, func() { busy-- })
		return took, 0
	}
}

// gcra is 100 a second with a burst of 10, and says exactly when to come back.
func gcra(*world, *rand.Rand) limiter {
	next := epoch
	return func(now time.Time) (time.Duration, time.Duration) {
		if early := next.Sub(now) - 100*time.Millisecond; early > 0 {
			return 0, early
		}
		if next.Before(now) {
			next = now
		}
		next = next.Add(10 * time.Millisecond)
		return work, 0
	}
}

// sliding is a log of the last second, with 100 in it at most.
func sliding(*world, *rand.Rand) limiter {
	var log []time.Time
	return func(now time.Time) (time.Duration, time.Duration) {
		log = slices.DeleteFunc(log, func(at time.Time) bool { return now.Sub(at) >= time.Second })
		if len(log) >= 100 {
			return 0, time.Second
		}
		log = append(log, now)
		return work, 0
	}
}

// windows are 100 in each of that length a hundredth of it long.
func windows(length time.Duration) func(*world, *rand.Rand) limiter {
	return func(*world, *rand.Rand) limiter {
		var window time.Duration
		used := 0
		return func(now time.Time) (time.Duration, time.Duration) {
			since := now.Sub(epoch)
			if since/length != window {
				window, used = since/length, 0
			}
			if used >= int(100*length.Seconds()) {
				return 0, length - since%length
			}
			used++
			return work, 0
		}
	}
}

// shared is a bucket of which others take a quarter or three quarters by turns.
func shared(*world, *rand.Rand) limiter {
	level, last := 20.0, epoch
	return func(now time.Time) (time.Duration, time.Duration) {
		rate := 25.0
		if int(now.Sub(epoch)/(7*time.Second))%2 == 0 {
			rate = 75
		}
		level, last = min(20, level+rate*now.Sub(last).Seconds()), now
		if level < 1 {
			return 0, time.Second
		}
		level--
		return work, 0
	}
}

// chance refuses one call in fifty, whatever the rate.
func chance(_ *world, random *rand.Rand) limiter {
	return func(time.Time) (time.Duration, time.Duration) {
		if random.Float64() < 0.02 {
			return 0, time.Second
		}
		return 100 * time.Millisecond, 0
	}
}

// Limiters of all kinds: a gate is no slower than calls that know nothing of each
// other, or hardly, and is refused far less. Where refusals are by chance, a pace does
// not help, and is given up: each refusal lowered it, and it took 553s for 105s.
func TestPaceAtLimitersOfAllKinds(t *testing.T) {
	for name, c := range map[string]struct {
		limiter       func(*world, *rand.Rand) limiter
		time, refused float64 // at most; the time in multiples of that without a gate
	}{
		"concurrency":        {concurrency, 1.05, 25},
		"gcra":               {gcra, 0.95, 50},
		"sliding log":        {sliding, 0.9, 55},
		"windows of 1 s":     {windows(time.Second), 0.9, 100},
		"windows of 10 s":    {windows(10 * time.Second), 1.4, 25}, // without a gate each begins with a crowd
		"shared with others": {shared, 1.4, 550},
		"by chance":          {chance, 1.15, 30},
	} {
		for seed := range uint64(3) {
			synctest.Test(t, func(t *testing.T) {
				alone, refusedAlone := overload(seed, false, c.limiter)
				took, refused := overload(seed, true, c.limiter)
				t.Logf("%s: %.1fs (%.1fs without a gate), %.0f of 1,000 refused (%.0f)", name, took, alone, refused, refusedAlone)
				assert.LessOrEqual(t, took, c.time*alone)
				assert.LessOrEqual(t, refused, c.refused)
			})
		}
	}
}

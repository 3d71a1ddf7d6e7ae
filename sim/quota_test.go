package main

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

// 60 calls a minute, all at once if no call came before: the bucket fills again by
// one a second.
func TestPaceAtABurstBucket(t *testing.T) {
	var refused, without []float64
	median, worst := tenSeeds(t, func(seed uint64) float64 {
		w := newWorld()
		s := &bucketServer{world: w, rate: 1, burst: 59, retryAfter: time.Second}
		drive(w, s, []*group{newGroup(w, 8, 0)}, 300, 0, seed)
		refused = append(refused, float64(s.refused)/0.3)
		alone := newWorld()
		s = &bucketServer{world: alone, rate: 1, burst: 59, retryAfter: time.Second}
		drive(alone, s, []*group{{workers: 8}}, 300, 0, seed)
		without = append(without, float64(s.refused)/0.3)
		return w.since() / (300 - 60)
	})
	slices.Sort(refused)
	slices.Sort(without)
	t.Logf("%.2f, worst %.2f; %.0f of 1,000 refused, worst %.0f; without a gate %.0f", median, worst, refused[5], refused[9], without[5])
	assert.LessOrEqual(t, worst, 1.1)
	assert.LessOrEqual(t, refused[5], 160.0)
	assert.Less(t, refused[9], without[0])
}

// 60 calls in each minute of the clock, and a Retry-After until the next.
func TestPaceAtAMinutesWindow(t *testing.T) {
	server := throttled{"a minute's window", 1, 16, 600, 60, time.Minute, false, exactly}
	for _, p := range throttledPolicies()[:3] {
		var refused []float64
		median, worst := tenSeeds(t, func(seed uint64) float64 {
			o := server.run(p, seed)
			refused = append(refused, o.refused)
			return o.makespan
		})
		slices.Sort(refused)
		t.Logf("%s: %.2f, worst %.2f; %.0f of 1,000 refused, worst %.0f", p.name, median, worst, refused[5], refused[9])
		if p.name == "a Gate in each process" {
			assert.LessOrEqual(t, worst, 1.15)
			assert.LessOrEqual(t, refused[9], 160.0)
		}
	}
}

// quotaServer is an API with 500 calls in an hour, that says in each answer
// what is left of them and for how long.
type quotaServer struct {
	world        *world
	window, used int
	refused      int
}

const quota = 500

func (s *quotaServer) RoundTrip(req *http.Request) (*http.Response, error) {
	s.world.sleep(25 * time.Millisecond)
	now := s.world.now.Sub(epoch)
	if window := int(now / time.Hour); window != s.window {
		s.window, s.used = window, 0
	}
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}
	reset := strconv.Itoa(int((time.Hour - now%time.Hour + time.Second - 1) / time.Second))
	if s.used++; s.used > quota {
		s.refused++
		resp.StatusCode = 429
		resp.Header.Set("Retry-After", reset)
	}
	resp.Header.Set("X-RateLimit-Limit", strconv.Itoa(quota))
	resp.Header.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, quota-s.used)))
	resp.Header.Set("X-RateLimit-Reset", reset)
	s.world.sleep(25 * time.Millisecond)
	return resp, nil
}

// A success makes no call wait: the headers foretell the end of the quota, and only
// the calls that are in flight then are refused, once an hour.
func TestPaceAtAnHoursQuota(t *testing.T) {
	refused := 0
	median, worst := tenSeeds(t, func(seed uint64) float64 {
		w := newWorld()
		s := &quotaServer{world: w}
		e := newEnv(w, seed)
		client := must(retry.NewRetryableClient(&http.Client{Transport: s}, retry.Config{
			Clock: clock{w}, Rand: e.random.Float64, MaxRetries: retry.Unlimited, MaxRetryAfter: time.Hour,
		}))
		left := 1900
		for range 8 {
			w.after(seconds(0.05*e.random.Float64()), func() {
				go func() {
					for left > 0 {
						left--
						resp := must(client.Get(context.Background(), "http://api.test/"))
						resp.Body.Close()
					}
				}()
			})
		}
		w.run()
		refused = max(refused, s.refused)
		return w.since() / (3 * time.Hour).Seconds()
	})
	t.Logf("%.3f, worst %.3f; at worst %d refused", median, worst, refused)
	assert.LessOrEqual(t, refused, 3*8)
	assert.LessOrEqual(t, worst, 1.1)
}

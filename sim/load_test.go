package main

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retryutils/retry"
)

func TestOpenX(t *testing.T) {
	for _, pr := range []int{20, 1000} {
		for _, q := range []time.Duration{0, 500 * time.Millisecond} {
			if pr == 1000 && q == 0 {
				continue
			}
			fmt.Println(pr, q)
			for _, p := range openPolicies()[6:] {
				synctest.Test(t, func(t *testing.T) {
					s := time.Now()
					_ = s
					o := openLoad{200, pr, q, false, interval{30, 90}, 210}.run(p, 1)
					fmt.Printf("%-40s amp %.3f dead %d peak %d %d shed %d rec %.0f ok %.3f off %.0f\n", o.policy, o.amplification, o.dead, o.perSecond, o.per100ms, o.shed, o.recovered, o.ok, o.offered)
				})
			}
		}
	}
}

func TestClosedX(t *testing.T) {
	for _, pr := range []int{20, 1} {
		for _, p := range closedX() {
			synctest.Test(t, func(t *testing.T) {
				o := closedLoad{pr, 1000 / pr, 500 * time.Millisecond, false, interval{1, 61}, 400}.run(p, 1)
				fmt.Printf("%d %-40s per worker %.2f peak %d %d shed %d p50 %.1f p99 %.1f last %.1f\n", pr, o.policy, o.amplification, o.perSecond, o.per100ms, o.shed, o.quantile(.5, 1000), o.quantile(.99, 1000), o.quantile(1, 1000))
			})
		}
	}
}
func TestHotX(t *testing.T) {
	for _, p := range []policy{plain("none", retry.Config{MaxRetries: -1}), plain("1", retry.Config{MaxRetries: 1, Backoff: retry.ConstantBackoff(0)}), withBudget("b", .1, 1), withBreaker("br", spread), policy{"rec", true, recommended}} {
		for _, rate := range []float64{140, 160, 280} {
			synctest.Test(t, func(t *testing.T) {
				o := openLoad{rate, 20, 0, true, interval{20, 30}, 330}.run(p, 1)
				fmt.Printf("%.0f %-40s amp %.3f dead %d peak %d %d shed %d rec %.0f ok %.3f off %.0f\n", rate, o.policy, o.amplification, o.dead, o.perSecond, o.per100ms, o.shed, o.recovered, o.ok, o.offered)
			})
		}
	}
}
func closedX() []policy {
	ps := []policy{
		plain("fixed 1s", retry.Config{MaxRetries: retry.Unlimited, Backoff: retry.ConstantBackoff(time.Second), Jitter: retry.NoJitter}),
		plain("expo no jitter", retry.Config{MaxRetries: retry.Unlimited, Jitter: retry.NoJitter}),
		plain("20 %", retry.Config{MaxRetries: retry.Unlimited}),
		plain("full", retry.Config{MaxRetries: retry.Unlimited, Jitter: retry.FullJitter}),
		plain("full, cap 20", retry.Config{MaxRetries: retry.Unlimited, Jitter: retry.FullJitter, MaxDelay: 20 * time.Second}),
		plain("20%, cap 20", retry.Config{MaxRetries: retry.Unlimited, MaxDelay: 20 * time.Second}),
	}
	for _, b := range []retry.BreakerConfig{original, fiveSeconds, spread, growing} {
		ps = append(ps, policy{fmt.Sprintf("%+v", b)[40:100], true, func(e *env) retry.Config {
			return retry.Config{MaxRetries: retry.Unlimited, WaitWhenOpen: true, Breaker: e.breaker(b)}
		}})
	}
	ps = append(ps, policy{"gate", true, func(e *env) retry.Config {
		return retry.Config{MaxRetries: retry.Unlimited, Gate: retry.NewGate(clock{e.world})}
	}})
	return ps
}

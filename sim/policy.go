package main

import (
	"math/rand/v2"
	"time"

	"github.com/retryutils/retry"
)

// policy is how the clients of a workload are configured: config is called once
// for each process, whose calls share what it makes.
type policy struct {
	name        string
	recommended bool
	config      func(*env) retry.Config
}

// env is what every configuration needs of the world.
type env struct {
	world  *world
	random *rand.Rand
	joined *fleet // if any process joined one
}

func newEnv(w *world, seed uint64) *env {
	return &env{world: w, random: rand.New(rand.NewPCG(seed, 429))}
}

// configure makes one process's Config.
func (e *env) configure(p policy) retry.Config {
	cfg := p.config(e)
	cfg.Clock = clock{e.world}
	cfg.Rand = e.random.Float64
	return cfg
}

func (e *env) breaker(cfg retry.BreakerConfig) *retry.CircuitBreaker {
	cfg.Clock = clock{e.world}
	cfg.Rand = e.random.Float64
	return must(retry.NewCircuitBreaker(cfg))
}

func budget(ratio float64, burst int) *retry.Budget { return must(retry.NewBudget(ratio, burst)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// plain is a policy that shares nothing.
func plain(name string, cfg retry.Config) policy {
	return policy{name: name, config: func(*env) retry.Config { return cfg }}
}

func withBudget(name string, ratio float64, burst int) policy {
	return policy{name: name, config: func(*env) retry.Config { return retry.Config{Budget: budget(ratio, burst)} }}
}

func withBreaker(name string, b retry.BreakerConfig) policy {
	return policy{name: name, config: func(e *env) retry.Config { return retry.Config{Breaker: e.breaker(b)} }}
}

// The breakers that the tables compare.
var (
	// original is the Python original's: 60s, and no bound on probes.
	original    = retry.BreakerConfig{HalfOpenProbes: 1_000_000}
	fiveSeconds = retry.BreakerConfig{RecoveryTimeout: 5 * time.Second}
	spread      = retry.BreakerConfig{RecoveryTimeout: 5 * time.Second, RecoveryJitter: 0.2}
	growing     = retry.BreakerConfig{RecoveryTimeout: 5 * time.Second, RecoveryJitter: 0.2, MaxRecoveryTimeout: time.Minute}
)

// patient is for workers that wait until the dependency is back.
var patient = retry.BreakerConfig{RecoveryTimeout: 4 * time.Second, RecoveryJitter: 0.1}

const patientName = "4s +10 %, backoff at most 4s"

// recommended is what the README advises for a dependency that many call.
func recommended(e *env) retry.Config {
	return retry.Config{Budget: budget(0.1, 1), Breaker: e.breaker(spread)}
}

func openPolicies() []policy {
	return []policy{
		plain("no retry", retry.Config{MaxRetries: retry.NoRetries}),
		plain("fixed 1s, 5 retries", retry.Config{Backoff: retry.ConstantBackoff(time.Second), Jitter: retry.NoJitter}),
		plain("exponential, no jitter", retry.Config{Jitter: retry.NoJitter}),
		plain("Config{}: ±20 %", retry.Config{}),
		plain("full jitter", retry.Config{Jitter: retry.FullJitter}),
		plain("full jitter, 2 retries", retry.Config{Jitter: retry.FullJitter, MaxRetries: 2}),
		withBreaker("Python original: breaker 5 / 60s", original),
		withBudget("budget 10 %, burst 1", 0.1, 1),
		withBudget("budget 10 %, burst 3", 0.1, 3),
		withBudget("budget 10 %, burst 10", 0.1, 10),
		withBudget("budget 20 %, burst 3", 0.2, 3),
		withBreaker("breaker 5 / 5s", fiveSeconds),
		withBreaker("breaker 5 / 5s +20 %", spread),
		withBreaker("breaker 5 / 5s +20 %, growing to 60s", growing),
		{"budget 10 % + breaker 5s", true, recommended},
		inFleet(policy{"budget 10 % + breaker 5s", true, recommended}),
	}
}

package model

import "slices"

// The breaker that is modelled; times are in ticks.
const (
	FailureThreshold   = 2
	RecoveryTimeout    = 2
	MaxRecoveryTimeout = 4
	HalfOpenProbes     = 3
	SuccessThreshold   = 2
	ProbeTimeout       = 2
	TripTime           = 3

	Callers = 4
	forced  = 100 // Left of a breaker that is open until Reset
)

// Breaker is the state of a breaker and of the calls through it.
type Breaker struct {
	State     string // "closed", "open" or "half-open"
	Failures  int    // in a row, while closed
	Successes int    // of probes, while half-open
	OpenTime  int    // how long it will be open next
	Left      int    // while open: until a call may pass as a probe
	Calls     [Callers]Call
}

// Call is one caller, and what became of the permit that it has.
type Call struct {
	Kind string // "" for none, "counted", "probe", "late" for a probe that lost its place, "stale"
	Age  int    // of a probe
}

// BreakerAction is what happens to a breaker: a call is the one that Done is about.
type BreakerAction struct {
	Name string // "allow", "success", "failure", "neutral", "tick", "trip", "force", "reset"
	Call Call
}

// NewBreaker is a closed breaker, with no call under way.
func NewBreaker() Breaker { return Breaker{State: "closed", OpenTime: RecoveryTimeout} }

// Steps are all that can happen next. Callers who are in the same situation are the same:
// their order is that of Sorted.
func (b Breaker) Steps() (steps []Step[Breaker, BreakerAction]) {
	try := func(a BreakerAction) {
		next, _ := b.Do(a)
		steps = append(steps, Step[Breaker, BreakerAction]{a, next.Sorted()})
	}
	for i, c := range b.Calls {
		if i > 0 && c == b.Calls[i-1] {
			continue
		}
		if c.Kind == "" {
			try(BreakerAction{"allow", c})
			continue
		}
		for _, result := range []string{"success", "failure", "neutral"} {
			try(BreakerAction{result, c})
		}
	}
	for _, name := range []string{"tick", "trip", "force", "reset"} {
		try(BreakerAction{Name: name})
	}
	return steps
}

// Sorted is the same state, with the callers in a fixed order.
func (b Breaker) Sorted() Breaker {
	slices.SortFunc(b.Calls[:], func(x, y Call) int {
		if x.Kind != y.Kind {
			if x.Kind < y.Kind {
				return -1
			}
			return 1
		}
		return x.Age - y.Age
	})
	return b
}

// Do is what the action makes of the breaker, and which caller it is about: -1 if an
// "allow" was rejected, or if it is about none.
func (b Breaker) Do(a BreakerAction) (Breaker, int) {
	switch a.Name {
	case "tick":
		return b.tick(), -1
	case "trip":
		if b.State != "open" || b.Left < TripTime {
			b = b.open(TripTime)
		}
		return b, -1
	case "force":
		return b.open(forced), -1
	case "reset":
		return b.close(), -1
	}
	i := slices.Index(b.Calls[:], a.Call)
	if a.Name == "allow" {
		kind := b.admit()
		if b.Calls[i].Kind = kind; kind == "" {
			return b, -1
		}
		if kind == "probe" {
			b.State, b.Left = "half-open", 0
		}
		return b, i
	}
	b.Calls[i] = Call{}
	switch {
	case a.Call.Kind == "stale" || a.Name == "neutral":
	case a.Call.Kind == "counted" && a.Name == "success":
		b.Failures = 0
	case a.Call.Kind == "counted":
		if b.Failures++; b.Failures == FailureThreshold {
			b = b.open(b.OpenTime)
		}
	case a.Name == "success":
		if b.Successes++; b.Successes == SuccessThreshold {
			b = b.close()
		}
	case a.Call.Kind == "probe": // the failure of a late one is stale
		b.OpenTime = min(2*b.OpenTime, MaxRecoveryTimeout)
		b = b.open(b.OpenTime)
	}
	return b, i
}

// admit is what a call passes as, "" if it is rejected.
func (b Breaker) admit() string {
	switch {
	case b.State == "closed":
		return "counted"
	case b.State == "open" && b.Left > 0 || b.Probes() == HalfOpenProbes:
		return ""
	}
	return "probe"
}

// Probes is how many hold a place.
func (b Breaker) Probes() (n int) {
	for _, c := range b.Calls {
		if c.Kind == "probe" {
			n++
		}
	}
	return n
}

// Observed is the state that a reader sees: an open breaker whose time is over is
// half-open, before a call finds it so.
func (b Breaker) Observed() string {
	if b.State == "open" && b.Left == 0 {
		return "half-open"
	}
	return b.State
}

func (b Breaker) open(ticks int) Breaker {
	return Breaker{State: "open", OpenTime: b.OpenTime, Left: ticks, Calls: b.stale()}
}

func (b Breaker) close() Breaker {
	return Breaker{State: "closed", OpenTime: RecoveryTimeout, Calls: b.stale()}
}

// stale are the calls after a change of state: their results change nothing any more.
func (b Breaker) stale() [Callers]Call {
	for i, c := range b.Calls {
		if c.Kind != "" {
			b.Calls[i] = Call{Kind: "stale"}
		}
	}
	return b.Calls
}

func (b Breaker) tick() Breaker {
	if b.Left > 0 && b.Left != forced {
		b.Left--
	}
	for i := range b.Calls {
		if c := &b.Calls[i]; c.Kind == "probe" {
			if c.Age++; c.Age == ProbeTimeout {
				*c = Call{Kind: "late"}
			}
		}
	}
	return b
}

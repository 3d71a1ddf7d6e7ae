package model

// The gate that is modelled; times are in milliseconds.
const (
	Turn     = 5    // between calls when a pause is over
	Calm     = 1000 // after a pause, until the gate stands open
	PauseFor = 100  // what each pause and each refused call asks for

	crowd      = 5 * Turn // after a pause: until then calls arrive at any turn, later when it is calm
	refusals   = 2        // so many are refused on one way: a pace begins with three
	manyEnough = 3        // accepted calls, of which more make no difference
	recent     = 32       // one of so many is the chance of a refusal, while fewer calls are known
	most       = 0.65     // a larger share of refusals pauses all calls, while fewer are known
)

// Gate is the state of a gate and of the calls through it.
type Gate struct {
	Used    bool // paused or refused before
	Pause   int  // until the pause ends, since then if negative, -Calm at most
	Firm    int  // until that part of it ends that evidence does not end
	Next    int  // until the next turn
	Waiting int  // in line
	Sent    [Callers]Sent
	InUse   int // how many of Sent

	Accepted, Refused int     // outcomes that are known
	Odds              float64 // of so many refusals in succession
}

// Sent is a call on its way. Those in Gate.Sent are in the order in which they were sent.
type Sent struct {
	Clears bool // it was sent after the last refused one: if it is accepted, the pause is over
	Counts bool // it was not sent before the last accepted one: if it is refused, that is news
}

// GateAction is what happens to a gate: Sent is which of the calls on their way it is about.
type GateAction struct {
	Name string // "arrive", "leave first", "leave last", "accept", "refuse", "pause", "refused", "turn", "half", "calm"
	Sent int
}

// NewGate is an open gate, with no call under way.
func NewGate() Gate { return Gate{Pause: -Calm, Odds: 1} }

// Steps are all that can happen next.
func (g Gate) Steps() (steps []Step[Gate, GateAction]) {
	try := func(enabled bool, a GateAction) {
		if enabled {
			steps = append(steps, Step[Gate, GateAction]{a, g.Do(a)})
		}
	}
	followed := g.Pause > -crowd
	try(g.Waiting+g.InUse < Callers && (followed || g.Pause == -Calm), GateAction{Name: "arrive"})
	try(g.Waiting > 0, GateAction{Name: "leave first"})
	try(g.Waiting > 1, GateAction{Name: "leave last"})
	for n := range g.InUse {
		try(true, GateAction{"accept", n})
		try(g.Refused < refusals, GateAction{"refuse", n})
	}
	try(true, GateAction{Name: "pause"})
	try(true, GateAction{Name: "refused"})
	try(g.Pause > 0, GateAction{Name: "half"})
	try(g.Pause <= 0 && g.Next > 0 && (followed || g.Waiting > 0), GateAction{Name: "turn"})
	try(g.Pause <= 0 && g.Pause > -Calm && g.Waiting == 0, GateAction{Name: "calm"})
	return steps
}

// Do is what the action makes of the gate.
func (g Gate) Do(a GateAction) Gate {
	switch a.Name {
	case "arrive":
		switch {
		case g.Waiting == 0 && g.Pause <= -Calm:
			g = g.send()
		case g.Waiting == 0 && g.Next == 0:
			g = g.send()
			g.Next = Turn
		default:
			g.Waiting++
		}
	case "leave first", "leave last":
		g.Waiting--
	case "accept":
		g = g.accept(a.Sent)
	case "refuse":
		g = g.refuse(a.Sent)
	case "pause":
		g.Firm = PauseFor
		g = g.pause(PauseFor)
	case "refused":
		g = g.pause(PauseFor)
	case "turn":
		g = g.advance(Turn)
	case "half":
		g = g.advance(PauseFor / 2)
	case "calm":
		g = g.advance(2 * Calm)
	}
	return g.advance(0)
}

// pause never shortens a longer one.
func (g Gate) pause(d int) Gate {
	g.Used = true
	if d > g.Pause {
		g.Pause, g.Next = d, d
	}
	return g
}

func (g Gate) send() Gate {
	g.Sent[g.InUse] = Sent{Clears: true, Counts: true}
	g.InUse++
	return g
}

func (g Gate) remove(n int) Gate {
	copy(g.Sent[n:], g.Sent[n+1:])
	g.Sent[Callers-1] = Sent{}
	g.InUse--
	return g
}

// accept ends the pause of the others, as far as it is not firm, if the call was sent
// after the last refused one.
func (g Gate) accept(n int) Gate {
	c := g.Sent[n]
	g.Accepted = min(g.Accepted+1, manyEnough)
	if g.Used {
		for older := range n {
			g.Sent[older].Counts = false
		}
		g.Odds = 1
		if end := max(0, g.Firm); c.Clears && g.Pause > end {
			g.Pause, g.Next = end, end
		}
	}
	return g.remove(n)
}

// refuse pauses all calls where nothing shows that the server accepts others: most of
// the outcomes are refusals, or so many in succession that it is no chance.
func (g Gate) refuse(n int) Gate {
	c := g.Sent[n]
	if g.Odds /= recent; g.Accepted+g.Refused == 0 {
		g.Odds = 0
	}
	g.Used = true
	g.Refused++
	for older := range n {
		g.Sent[older].Clears = false
	}
	share := float64(g.Refused) / float64(g.Accepted+g.Refused)
	if c.Counts && (share > most || g.Odds <= 1.0/recent/recent) {
		g = g.pause(PauseFor)
	}
	return g.remove(n)
}

// advance lets time pass, and those in line, one each turn.
func (g Gate) advance(d int) Gate {
	for g.Waiting > 0 && g.Next <= d {
		g.Waiting--
		g = g.send()
		g.Next += Turn
	}
	g.Next = max(0, g.Next-d)
	g.Pause = max(-Calm, g.Pause-d)
	g.Firm = max(0, g.Firm-d)
	return g
}

package fleet

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Histories of real operations: 5 to 20 processes pause a gate, call through a
// breaker, share a rate and a budget, while Redis is killed, frozen and failed over, a
// part of them is cut off for 20s, and processes are stopped and killed. What they did
// is checked against a model and against the bounds that the package comment states.
//
// Everything follows from a seed: which processes, which operations, which faults and
// when. Five seeds are tried each time, more with FLEET_SEEDS=200, and one, such as
// one that failed, with FLEET_SEED=17. Both together: so many from that one on.
func TestHistories(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 40s")
	}
	for seed := range seeds(t, 5) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, seed, newRealWorld(t))
			h.run()
			h.check()
		})
	}
}

// The same in fake time, where a history takes a second or two. No process is stopped
// in it, and what the machine does besides makes no difference.
func TestHistoriesInFakeTime(t *testing.T) {
	for seed := range seeds(t, 10) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			var h *history
			inFakeTime(t, func(t *testing.T, s *fakeRedis) {
				h = newHistory(t, seed, newFakeWorld(t, s))
				h.run()
			})
			h.t = t
			h.check() // which has an end in real time only
		})
	}
}

// seeds are n, or those that the environment names.
func seeds(t *testing.T, n uint64) iter.Seq[uint64] {
	first := uint64(1)
	if text := os.Getenv("FLEET_SEED"); text != "" {
		_, err := fmt.Sscan(text, &first)
		require.NoError(t, err)
		n = 1
	}
	if text := os.Getenv("FLEET_SEEDS"); text != "" {
		_, err := fmt.Sscan(text, &n)
		require.NoError(t, err)
	}
	return func(yield func(uint64) bool) {
		for seed := first; seed < first+n && yield(seed); seed++ {
		}
	}
}

// history is one of them.
type history struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	begin  time.Time // all times are since then
	end    time.Duration

	world   world
	members []*historyMember // the killed ones too
	steps   []step           // still to be made, in order
	faults  []*fault

	mu   sync.Mutex
	late []lateness
}

// lateness is how long this process has waited for a processor in all, up to a time.
// On a busy machine what has a bound takes as much longer.
type lateness struct{ at, sum time.Duration }

// watchLateness sees by how much later than asked a short sleep ends.
func (h *history) watchLateness() {
	const nap = 5 * time.Millisecond
	for sum := time.Duration(0); h.t.Context().Err() == nil; {
		before := time.Now()
		time.Sleep(nap)
		if late := time.Since(before) - nap; late > time.Millisecond {
			sum += late
		}
		h.mu.Lock()
		h.late = append(h.late, lateness{h.now(), sum})
		h.mu.Unlock()
	}
}

// lateBetween is how long this process has waited for a processor between two times.
func (h *history) lateBetween(from, to time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum := func(at time.Duration) time.Duration {
		i, _ := slices.BinarySearchFunc(h.late, at, func(l lateness, at time.Duration) int { return cmp.Compare(l.at, at) })
		return h.late[min(i, len(h.late)-1)].sum
	}
	return sum(to) - sum(from)
}

type historyMember struct {
	*process
	network *proxy
	killed  bool

	id     string
	events []happened
	pauses []pause // as this process knows them
}

// happened is an event that a member printed.
type happened struct {
	at    time.Duration
	words []string
}

// pause is until when a process knew at that time that it is paused.
type pause struct{ at, until time.Duration }

// fault is what was wrong for a while with Redis or with one member. It begins and
// ends while something is done about it.
type fault struct {
	what                     string
	member                   *historyMember // nil: Redis
	from, begun, ending, end time.Duration
}

// never is when a fault ends that is not over.
const never = time.Hour

const (
	historyTime   = 28 * time.Second // in which there are faults
	partitionTime = 20 * time.Second
	healedTime    = 5 * time.Second // after which all members are equal
)

func newHistory(t *testing.T, seed uint64, w world) *history {
	h := &history{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), world: w}
	n := 5 + h.random.IntN(16)
	h.begin = time.Now().Add(5 * time.Second)
	for range n {
		h.startMember()
	}
	for _, m := range h.members {
		m.await("ready")
		eventually(t, func() bool { return m.ask("members") == strconv.Itoa(n) }, "all know of all")
	}
	return h
}

func (h *history) startMember() *historyMember {
	m := new(historyMember)
	which := fmt.Sprint(h.seed, " ", len(h.members)+1, " ", h.begin.UnixNano(), " ", h.begin.Add(historyTime).UnixNano())
	m.process, m.network = h.world.start(which)
	h.members = append(h.members, m)
	return m
}

func (h *history) now() time.Duration { return time.Since(h.begin) }

// between is a random time.
func (h *history) between(least, most time.Duration) time.Duration {
	return least + time.Duration(h.random.Int64N(int64(most-least)+1))
}

// step is something that happens at a time.
type step struct {
	at time.Duration
	do func()
}

// run has it happen.
func (h *history) run() {
	h.plan()
	go h.watchLateness()
	for len(h.steps) > 0 {
		s := h.steps[0]
		h.steps = h.steps[1:]
		time.Sleep(s.at - h.now())
		s.do()
	}
	h.checkHealed()
	time.Sleep(3 * time.Second) // of calls with all well
	h.end = h.now()
	for _, m := range h.alive() {
		began := h.now()
		took, err := strconv.Atoi(m.ask("close"))
		require.NoError(h.t, err)
		assert.Less(h.t, took, 1000+int(h.lateBetween(began, h.now()).Milliseconds()), "Close, in ms")
	}
}

// check checks what happened.
func (h *history) check() {
	h.read()
	h.checkPauses()
	h.checkRate()
	h.checkBudget()
	h.checkModels()
	if h.t.Failed() {
		h.t.Logf("again: FLEET_SEED=%d go test -run TestHistories -v", h.seed)
		for _, f := range h.faults {
			h.t.Logf("%8v to %8v: %s %s", f.from.Round(time.Millisecond), f.end.Round(time.Millisecond), f.what, name(f.member))
		}
	}
}

func name(m *historyMember) string {
	if m == nil {
		return ""
	}
	return m.id
}

func (h *history) alive() (alive []*historyMember) {
	for _, m := range h.members {
		if !m.killed {
			alive = append(alive, m)
		}
	}
	return alive
}

// plan draws what goes wrong.
func (h *history) plan() {
	add := func(at time.Duration, do func()) {
		h.steps = append(h.steps, step{at, do})
		slices.SortStableFunc(h.steps, func(a, b step) int { return int(a.at - b.at) })
	}
	// wrong adds a fault, whose undo may take a while.
	wrong := func(what string, m *historyMember, from, to time.Duration, do, undo func()) {
		add(from, func() {
			f := &fault{what, m, h.now(), never, never, never}
			h.faults = append(h.faults, f)
			do()
			f.begun = h.now()
			add(to, func() {
				f.ending = h.now()
				undo()
				f.end = h.now()
			})
		})
	}

	order := h.random.Perm(len(h.members))
	some := func(n int) (members []*historyMember) {
		for _, i := range order[:n] {
			members = append(members, h.members[i])
		}
		order = order[n:]
		return members
	}

	killed, stopped, rest := some(1), some(1+h.random.IntN(2)), some(1)

	// A part of the members is cut off.
	from := h.between(3*time.Second, 6*time.Second)
	cut, what := h.random.IntN(2) == 0, "held up"
	if cut {
		what = "cut off"
	}
	part := some(1 + h.random.IntN(len(order)))
	for _, m := range part {
		set := m.network.setFrozen
		if cut {
			set = m.network.setCut
		}
		wrong(what, m, from, from+partitionTime, func() { set(true) }, func() { set(false) })
	}

	// Processes are stopped, and killed.
	for _, m := range stopped {
		if _, real := h.world.(*realWorld); !real {
			continue
		}
		from := h.between(2*time.Second, 18*time.Second)
		wrong("stopped", m, from, from+h.between(300*time.Millisecond, 7*time.Second),
			func() { require.NoError(h.t, m.cmd.Process.Signal(syscall.SIGSTOP)) },
			func() { require.NoError(h.t, m.cmd.Process.Signal(syscall.SIGCONT)) })
	}
	for _, m := range killed {
		add(h.between(2*time.Second, 18*time.Second), func() {
			m.killed = true
			h.world.kill(m.process)
			h.startMember()
		})
	}

	// Redis is killed, frozen and failed over.
	for i, kind := range h.random.Perm(4) {
		from := time.Duration(i)*6*time.Second + h.between(2*time.Second, 4*time.Second)
		to := from + h.between(200*time.Millisecond, 3*time.Second)
		switch kind {
		case 0, 1:
			wrong("Redis frozen", nil, from, to, func() { h.world.freezeRedis(true) }, func() { h.world.freezeRedis(false) })
		case 2:
			wrong("Redis killed", nil, from, to, h.world.killRedis, h.world.restartRedis)
		case 3:
			wrong("Redis failed over", nil, from, from, h.world.failOver, func() { h.world.failedOver(h.members) })
		}
	}

	// Both parts are paused when the network is whole again.
	for i, m := range []*historyMember{part[0], rest[0]} {
		end := historyTime + healedTime + time.Duration(2+i)*time.Second
		at := historyTime - h.between(6*time.Second, 8*time.Second)
		add(at, func() { m.tell(fmt.Sprintf("pause %d", (end - h.now()).Milliseconds())) })
	}
	add(historyTime, func() {})
}

// checkHealed waits until all members are equal.
func (h *history) checkHealed() {
	alive := h.alive()
	want := fmt.Sprintf("true %d closed", len(alive))
	equal := func() (problem string) {
		least, most := int64(math.MaxInt64), int64(0)
		for _, m := range alive {
			var until int64
			state := m.ask("equal")
			status, end, _ := strings.Cut(state, " paused ")
			if fmt.Sscan(end, &until); status != want {
				return fmt.Sprintf("%s, want %s", status, want)
			}
			least, most = min(least, until), max(most, until)
		}
		allowed := slack(historyTime) + time.Duration(len(alive))*gateSpread + pauseError
		if apart := time.Duration(most-least) * time.Millisecond; apart > allowed {
			return fmt.Sprintf("the ends of pauses are %v apart", apart)
		}
		return ""
	}
	problem := "not asked yet"
	for problem != "" && h.now() < historyTime+3*healedTime {
		if now := equal(); now != problem {
			h.t.Logf("%8v: %s", h.now().Round(time.Millisecond), now)
			problem = now
		}
	}
	took := h.now() - historyTime
	late := h.lateBetween(historyTime, historyTime+took)
	h.t.Logf("%d members, equal after %v; %v late", len(h.alive()), took.Round(time.Millisecond), late.Round(time.Millisecond))
	assert.Empty(h.t, problem)
	assert.Less(h.t, took, healedTime+late, "all are equal")
}

// read takes in what the members printed.
func (h *history) read() {
	for _, m := range h.members {
		m.mu.Lock()
		lines := m.process.events
		m.mu.Unlock()
		for _, line := range lines {
			words := strings.Fields(line)
			ns, err := strconv.ParseInt(words[0], 10, 64)
			require.NoError(h.t, err)
			e := happened{time.Unix(0, ns).Sub(h.begin), words[1:]}
			switch words[1] {
			case "id":
				m.id = words[2]
			case "paused":
				m.pauses = append(m.pauses, pause{e.at, h.time(words[2])})
			}
			m.events = append(m.events, e)
		}
	}
}

// time is the time in a member's word.
func (h *history) time(word string) time.Duration {
	ns, err := strconv.ParseInt(word, 10, 64)
	require.NoError(h.t, err)
	return time.Unix(0, ns).Sub(h.begin)
}

// disturbed is until when something was last wrong for the member.
func (h *history) disturbed(m *historyMember, at time.Duration) (until time.Duration) {
	for _, f := range h.faults {
		if (f.member == nil || f.member == m) && f.from <= at {
			until = max(until, min(f.end, at))
		}
	}
	return until
}

const busy = 150 * time.Millisecond // between what happens in a process and its note of it

// checkPauses: a process makes no call before the end of a pause that it knows. None
// is paused for longer than the pause and the spread. And all know what one knows, at
// most so long after both have an undisturbed network.
func (h *history) checkPauses() {
	var ends []pause // as their processes set them
	for _, m := range h.members {
		for _, e := range m.events {
			if e.words[0] == "pauses" {
				d, err := strconv.ParseInt(e.words[1], 10, 64)
				require.NoError(h.t, err)
				ends = append(ends, pause{e.at, e.at + time.Duration(d) + busy})
			}
		}
	}
	end := historyTime + healedTime + 3*time.Second
	ends = append(ends, pause{historyTime - 8*time.Second, end + busy}) // those of the plan
	spread := time.Duration(len(h.members)) * gateSpread
	passed := 0
	for _, m := range h.members {
		for _, e := range m.events {
			if e.words[0] != "passed" || e.words[1] != "gate" {
				continue
			}
			passed++
			for _, p := range m.pauses {
				if p.at+busy < e.at && e.at < p.until-time.Millisecond {
					assert.Failf(h.t, "a call in a pause", "%s at %v, which knew since %v that it is paused until %v", m.id, e.at, p.at, p.until)
				}
			}
		}
		for _, p := range m.pauses {
			longest := time.Duration(0)
			for _, end := range ends {
				if end.at <= p.at {
					longest = max(longest, end.until)
				}
			}
			assert.LessOrEqual(h.t, p.until, longest+spread+pauseError, "%s is paused longer than any process has asked for, since %v", m.id, p.at)
		}
	}
	assert.NotZero(h.t, passed)

	// How long two processes know different pauses while nothing is wrong.
	var longest time.Duration
	for at := time.Duration(0); at < end; at += 20 * time.Millisecond {
		for _, from := range h.members {
			for _, p := range from.pauses {
				if p.at > at || p.until < at+time.Second {
					continue
				}
				for _, to := range h.members {
					since := max(p.at, h.disturbed(from, at), h.disturbed(to, at), to.events[0].at)
					lag := at - since
					if lag <= longest || to.killed || from.killed {
						continue
					}
					if to.until(at) < p.until-slack(p.until-at)-spread-pauseError {
						longest = lag
						assert.Less(h.t, lag, healedTime+h.lateBetween(since, at), "at %v %s does not know that %s is paused until %v", at, to.id, from.id, p.until)
					}
				}
			}
		}
	}
	h.t.Logf("%d calls; others knew of a pause after %v at most", passed, longest)
}

// pauseError is by how much a pause may be too long for a process that learns of it
// from others: its command may be carried out so late, the message be so old, and the
// answer be so late.
const pauseError = 2*500*time.Millisecond + 2*freshness

// until is the end of the longest pause that the process knew at a time.
func (m *historyMember) until(at time.Duration) (until time.Duration) {
	for _, p := range m.pauses {
		if p.at <= at {
			until = max(until, p.until)
		}
	}
	return until
}

// checkRate: the calls of all processes keep to the rate, and to the stated burst
// where Redis or a part is away.
func (h *history) checkRate() {
	var at []time.Duration
	for _, m := range h.members {
		for _, e := range m.events {
			if e.words[0] == "passed" && e.words[1] == "rate" && e.at < h.end {
				at = append(at, e.at)
			}
		}
	}
	slices.Sort(at)
	var well, ill [2]int // the most calls in 1s and in 5s
	for i, window := range []time.Duration{time.Second, 5 * time.Second} {
		first := 0
		for last := range at {
			for at[last]-at[first] >= window {
				first++
			}
			if n := last - first + 1; h.quiet(at[first]-rampTime, at[last]) {
				well[i] = max(well[i], n)
			} else {
				ill[i] = max(ill[i], n)
			}
		}
	}
	h.t.Logf("of a rate of %d: with all well at most %d in 1s and %d in 5s; with faults %d and %d", historyRate, well[0], well[1], ill[0], ill[1])
	assert.LessOrEqual(h.t, well[0], historyRate*150/100) // a busy machine lets some pass late
	assert.LessOrEqual(h.t, well[1], 5*historyRate*110/100)
	assert.LessOrEqual(h.t, ill[0], 2*historyRate*150/100)
	assert.LessOrEqual(h.t, ill[1], 5*2*historyRate)
	assert.Greater(h.t, len(at), historyRate*5)
}

// quiet reports whether nothing is wrong between two times.
func (h *history) quiet(from, to time.Duration) bool {
	return !slices.ContainsFunc(h.faults, func(f *fault) bool { return f.from <= to && f.end >= from })
}

// checkBudget: the retries of all processes are the burst, one a minute, and as many
// again for each time that Redis lost its data. Those whose answer is lost are lost.
func (h *history) checkBudget() {
	withdrawn, lost := 0, 0
	for _, m := range h.members {
		for _, e := range m.events {
			if e.words[0] == "withdrew" {
				withdrawn++
			}
		}
	}
	for _, f := range h.faults {
		if f.what == "Redis killed" || f.what == "Redis failed over" {
			lost++
		}
	}
	assert.LessOrEqual(h.t, withdrawn, 3*(1+lost)+1)
}

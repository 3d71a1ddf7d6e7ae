package fleet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// operation is a script that a member ran, or what happened to Redis.
type operation struct {
	member     string
	keys, args []string
	call, end  time.Duration
	answer     []string // nil: not known, and maybe not carried out
	lost       string   // "killed": all data is gone; "failed over": what was written last may be
}

const (
	forever   = time.Hour
	tolerance = 5 * time.Millisecond // of whole ms, and of the server's cached clock
)

// operations returns what the members did to Redis, by object.
func (h *history) operations() map[string][]operation {
	objects := make(map[string][]operation)
	for _, m := range h.members {
		open := make(map[string]operation)
		for _, e := range m.events {
			switch e.words[0] {
			case "call":
				n, _ := strconv.Atoi(e.words[2])
				keys, args := e.words[3:3+n], e.words[3+n:]
				open[e.words[1]] = operation{member: m.id, keys: keys, args: args, call: e.at, end: forever}
			case "refused":
				delete(open, e.words[1])
			case "return":
				o := open[e.words[1]]
				o.end, o.answer = e.at, e.words[2:]
				open[e.words[1]] = o
			}
		}
		for _, o := range open {
			if o.answer == nil && h.without(m, &o) {
				continue
			}
			for _, key := range o.keys {
				switch key = strings.TrimPrefix(key, "{retry:test}:"); key {
				case "pause:host", "turns:host", "turn:host", "episode:host":
					objects[key] = append(objects[key], o)
				}
			}
		}
	}
	for key := range objects {
		for _, f := range h.faults {
			switch f.what {
			case "Redis killed":
				objects[key] = append(objects[key], operation{lost: "killed", call: f.from, end: f.begun})
			case "Redis failed over":
				objects[key] = append(objects[key], operation{lost: "failed over", call: f.from, end: f.begun})
			}
		}
	}
	return objects
}

// without reports whether an operation without an answer had no effect for certain: it
// was a question, or Redis was away as long as it could have been carried out, or its
// member was stopped for so long before it was sent that it had given up. Others are
// carried out before their caller gives up, or not at all.
func (h *history) without(m *historyMember, o *operation) bool {
	if givesUp, _ := strconv.ParseInt(o.args[len(o.args)-1], 10, 64); givesUp > 0 {
		o.end = time.UnixMilli(givesUp).Sub(h.begin) + tolerance
	}
	if o.end < o.call {
		return true
	}
	for _, f := range h.faults {
		if (f.member == nil || f.member == m) && f.what != "stopped" && f.begun <= o.call && o.end <= f.ending {
			return true
		}
		if f.what == "cut off" && f.member == m && f.begun <= o.call && o.call <= f.ending {
			return true
		}
	}
	return false
}

// A member was stopped for two seconds between the moment at which it would give up and
// its call, which then ended before it began: no order of the operations was found.
func TestCallOfAMemberThatWasStopped(t *testing.T) {
	h := &history{begin: time.UnixMilli(0)}
	assert.True(t, h.without(nil, &operation{call: 2 * time.Second, end: forever, args: []string{"0", "1000"}}))
	assert.False(t, h.without(nil, &operation{call: time.Second, end: forever, args: []string{"0", "2000"}}))
}

// checkModels: the answers that all members got are those of one object that does one
// operation after the other.
func (h *history) checkModels() {
	for object, all := range h.operations() {
		if object == "turns:host" {
			h.checkSlots(all)
			continue
		}
		model := models[object]
		history := make([]porcupine.Operation, len(all))
		unknown := 0
		for i, o := range all {
			if o.answer == nil && o.lost == "" {
				unknown++
			}
			history[i] = porcupine.Operation{ClientId: i, Input: o, Call: int64(o.call), Output: nil, Return: int64(o.end)}
		}
		result := porcupine.CheckOperationsTimeout(model.ToModel(), history, 20*time.Second)
		h.t.Logf("%s: %d operations, %d with an unknown outcome: %s", object, len(all), unknown, result)
		if result == porcupine.Illegal {
			slices.SortFunc(all, func(a, b operation) int { return int(a.call - b.call) })
			for _, o := range all {
				h.t.Logf("%v to %v: %s %v %v %s", o.call, o.end, o.member, o.args, o.answer, o.lost)
			}
		}
		require.NotEqual(h.t, porcupine.Illegal, result, object)
	}
}

// within is when something is, as far as it is known.
type within struct{ least, most time.Duration }

var longAgo = within{-forever, -forever}

func (w within) plus(d time.Duration) within {
	return within{w.least + d, w.most + d}
}

// both is what two of them have in common.
func (w within) both(other within) (within, bool) {
	both := within{max(w.least, other.least), min(w.most, other.most)}
	return both, both.least <= both.most
}

// at is when an operation was carried out, and some time later.
func (o operation) at(later time.Duration) within {
	return within{o.call + later - tolerance, min(o.end, 2*historyTime) + later + tolerance}
}

func (o operation) arg(i int, unit time.Duration) time.Duration { return number(o.args[i], unit) }

func (o operation) got(i int, unit time.Duration) time.Duration { return number(o.answer[i], unit) }

func number(text string, unit time.Duration) time.Duration {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(fmt.Sprintf("%q in a history", text))
	}
	return time.Duration(f * float64(unit))
}

var models = map[string]porcupine.NondeterministicModel{
	"pause:host":   timeModel(pauseModel),
	"turn:host":    timeModel(positionModel),
	"episode:host": {Init: func() []any { return []any{"-"} }, Step: episodeModel},
}

// timeModel is the model of an object whose state is a time.
func timeModel(step func(state within, o operation) []within) porcupine.NondeterministicModel {
	return porcupine.NondeterministicModel{
		Init: func() []any { return []any{longAgo} },
		Step: func(state, input, _ any) (next []any) {
			s, o := state.(within), input.(operation)
			switch o.lost {
			case "killed":
				return []any{longAgo}
			case "failed over":
				return []any{within{-forever, s.most}}
			}
			for _, n := range step(s, o) {
				next = append(next, n)
			}
			return next
		},
	}
}

// pauseModel is a pause that ends at the state.
func pauseModel(ends within, o operation) (next []within) {
	wanted, slack := o.arg(0, time.Millisecond), o.arg(2, time.Millisecond)
	set := func() {
		if wanted > 0 && ends.least < o.at(wanted-slack).most {
			next = append(next, o.at(wanted))
		}
	}
	if o.answer == nil {
		next = append(next, ends)
		set()
		return next
	}
	left := o.got(0, time.Millisecond)
	if left == wanted {
		set()
	}
	switch both, ok := ends.both(o.at(left)); {
	case wanted > left+slack:
	case left == 0 && ends.least <= o.at(0).most:
		next = append(next, longAgo)
	case left > 0 && ok:
		next = append(next, both)
	}
	return next
}

// checkSlots: no slot of the rate is given twice, as long as Redis keeps its data. When
// a slot was given is known as well as when the script ran.
func (h *history) checkSlots(all []operation) {
	const gap = time.Second * 100 / 97 / historyRate
	slices.SortFunc(all, func(a, b operation) int { return int(a.end - b.end) })
	var given []pause // certainly in these times
	slots := 0
	for _, o := range all {
		if o.lost != "" {
			given = nil
			continue
		}
		if o.answer == nil || o.answer[0] == "0" {
			continue
		}
		first, n := o.got(1, time.Microsecond), number(o.answer[0], 1)
		slots += int(n)
		p := pause{o.end + first, o.call + first + n*gap}
		for _, other := range given {
			common := min(p.until, other.until) - max(p.at, other.at)
			assert.Lessf(h.t, common, tolerance, "slots given twice: %v to %v and %v to %v", p.at, p.until, other.at, other.until)
		}
		given = append(given, p)
	}
	h.t.Logf("%d slots in %d leases", slots, len(all))
}

// positionModel is a queue which ends at the state: no two have a position at the same
// time.
func positionModel(free within, o operation) []within {
	if o.lost != "" {
		return nil
	}
	if len(o.keys) > 1 { // the close script: those of its own process go now
		crowd := o.arg(4, time.Millisecond)
		if o.args[4] == "0" {
			return []within{free}
		}
		least := min(max(free.least, o.at(0).least)+crowd, o.at(2*time.Second).most)
		most := min(max(free.most, o.at(0).most)+crowd, o.at(2*time.Second).most)
		if o.answer == nil {
			least = free.least
		}
		return []within{{least, max(most, least)}}
	}
	crowd, longest := o.arg(0, time.Millisecond), o.arg(1, time.Millisecond)
	switch {
	case o.answer == nil:
		return []within{{free.least, max(free.most, o.at(0).most) + crowd}}
	case o.answer[0] == "-1":
		if free.most < o.at(longest).least {
			return nil
		}
		return []within{free}
	}
	first := o.at(o.got(0, time.Millisecond))
	taken, ok := first.both(within{free.least, forever})
	if o.answer[0] != "0" {
		taken, ok = first.both(free)
	}
	if !ok {
		return nil
	}
	return []within{taken.plus(crowd)}
}

// episodeModel is an episode that some report begins, and a close ends. Without an
// answer to its first report its name is known by the end only, which is its member.
func episodeModel(state, input, _ any) []any {
	episode, o := state.(string), input.(operation)
	switch {
	case o.lost == "killed":
		return []any{"-"}
	case o.lost != "":
		return []any{"*"} // another one, or none
	case strings.HasSuffix(o.keys[2], "seq"): // the close script
		switch known := o.args[1]; {
		case o.answer == nil:
			return []any{episode, "-"}
		case known == "-" || known == episode:
			return []any{"-"}
		case episode == "*" || strings.HasPrefix(episode, "*") && strings.HasSuffix(known, episode[1:]):
			return []any{episode, "-"}
		}
		return []any{episode}
	}
	begun := o.args[1] != "0"
	if o.answer == nil {
		if episode == "-" && begun {
			return []any{episode, "*-" + o.member}
		}
		return []any{episode}
	}
	switch got := o.answer[1]; {
	case got == episode,
		episode == "-" && begun && strings.HasSuffix(got, "-"+o.member),
		strings.HasPrefix(episode, "*") && strings.HasSuffix(got, episode[1:]),
		episode == "*":
		return []any{got}
	}
	return nil
}

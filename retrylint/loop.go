package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"path"
	"regexp"
	"slices"
	"sort"

	"golang.org/x/tools/go/cfg"
)

// A loop is a hand-written retry loop.
type loop struct {
	f        *function
	shape    string // "for", "range", "goto", "recursion", "poll"
	pos      token.Pos
	end      token.Pos
	stmt     ast.Stmt // *ast.ForStmt, *ast.RangeStmt, or *ast.LabeledStmt; nil for others
	cycle    *cycle
	tests    map[*node]*test
	attempt  *test // the one that makes it a retry loop
	round    edge  // of the attempt's test: to the next round
	paced    bool  // waits somewhere, if only after a success
	calls    []*ast.CallExpr
	waits    []*wait
	counters map[types.Object]bool // what changes from round to round
}

// Words by which people name what they retry.
var retryWord = regexp.MustCompile(`(?i:retr(y|ies|iable|ied)|attempt|^try|backoff|reconnect|re_?dial)|(^|_)tries|Tries`)

// loops returns the retry loops of f that are loops in its control flow. Inner
// ones come first, and what one of them tests makes no outer one a retry loop.
func (f *function) loops() []*loop {
	g := f.graph()
	cycles := g.cycles()
	sort.SliceStable(cycles, func(i, j int) bool { return len(cycles[i].nodes) < len(cycles[j].nodes) })
	taken := map[*node]bool{}
	tried := map[*ast.CallExpr]bool{}
	var found []*loop
	for _, c := range cycles {
		if l := f.retryLoop(c, taken, tried); l != nil {
			taken[l.attempt.at] = true
			for _, call := range l.calls {
				tried[call] = true
			}
			found = append(found, l)
		}
	}
	return found
}

// retryLoop returns the retry loop that c is, or nil. What is taken or tried is that of
// loops inside of it.
func (f *function) retryLoop(c *cycle, taken map[*node]bool, tried map[*ast.CallExpr]bool) *loop {
	l := &loop{f: f, cycle: c, tests: map[*node]*test{}, counters: map[types.Object]bool{}}
	if !l.locate() {
		return nil
	}
	l.paced = len(f.waitsIn(c)) > 0
	for n := range c.nodes {
		if n.cond != nil {
			l.tests[n] = f.classify(n)
		}
	}
	l.findSaid()
	l.findCounters()
	var candidates, later []*test
	for _, k := range []kind{nilTest, statusTest, kindTest} {
		for _, t := range l.sortedTests() {
			switch {
			case t.kind != k || taken[t.at]:
			case k == nilTest && !l.back(t.failed(), func(e edge) bool { return l.otherwise(t, e) }):
				later = append(later, t) // something else decides, whether it failed or not
			default:
				candidates = append(candidates, t)
			}
		}
	}
	candidates = append(candidates, later...)
	for _, t := range l.sortedTests() {
		if (t.kind == answerTest || t.kind == otherTest) && !taken[t.at] {
			candidates = append(candidates, t)
		}
	}
	for _, t := range candidates {
		if l.names(t.at.cond, unauthorized) || !l.retries(t) {
			continue
		}
		if t.kind != answerTest && t.kind != otherTest || !slices.ContainsFunc(l.calls, func(call *ast.CallExpr) bool { return tried[call] }) {
			return l
		}
	}
	return nil
}

// locate finds the statement that c is the loop of.
func (l *loop) locate() bool {
	h := l.cycle.head
	switch s := h.stmt.(type) {
	case *ast.ForStmt:
		if h.kind != cfg.KindForLoop && h.kind != cfg.KindForBody {
			return false
		}
		l.shape, l.stmt = "for", s
	case *ast.RangeStmt:
		l.shape, l.stmt = "range", s
	case *ast.LabeledStmt:
		if l.f.beginsLoop(s) {
			return false // of which a goto is no other way than its end
		}
		l.shape, l.stmt = "goto", s
	default:
		return false
	}
	l.pos, l.end = l.stmt.Pos(), l.stmt.End()
	if l.shape == "goto" {
		for n := range l.cycle.nodes {
			for _, x := range n.list {
				l.end = max(l.end, x.End())
			}
		}
	}
	return true
}

// beginsLoop reports whether s is the first statement of a loop without a head.
func (f *function) beginsLoop(s ast.Stmt) bool {
	return mentions(f.body, func(n ast.Node) bool {
		loop, ok := n.(*ast.ForStmt)
		return ok && loop.Cond == nil && loop.Post == nil && len(loop.Body.List) > 0 && loop.Body.List[0] == s
	})
}

func (l *loop) sortedTests() []*test {
	all := make([]*test, 0, len(l.tests))
	for _, t := range l.tests {
		all = append(all, t)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].at.cond.Pos() < all[j].at.cond.Pos() })
	return all
}

// contains reports whether n is part of what the loop repeats.
func (l *loop) contains(n ast.Node) bool {
	for x := range l.cycle.nodes {
		for _, y := range x.list {
			if y.Pos() <= n.Pos() && n.End() <= y.End() {
				return true
			}
		}
	}
	return false
}

// findCounters notes the variables whose value in a round comes from that in the
// round before, and those of a range.
func (l *loop) findCounters() {
	if r, ok := l.stmt.(*ast.RangeStmt); ok {
		for _, e := range []ast.Expr{r.Key, r.Value} {
			if e != nil {
				if obj := variable(l.f.info, e); obj != nil {
					l.counters[obj] = true
				}
			}
		}
	}
	for obj, defs := range l.f.defs {
		for _, d := range defs {
			if d.varies(l.f.info, obj) && !isErrorVar(obj) && l.contains(d.at) {
				l.counters[obj] = true
			}
		}
	}
	for _, t := range l.tests {
		if (t.kind == otherTest || t.kind == answerTest && t.at == l.cycle.head) && l.mentionsCounter(t.at.cond) {
			t.kind = boundTest
		}
	}
}

// findSaid notes, in a loop that waits and whose texts speak of retries, that a call that is given
// something fails where it returns false, and nothing else, if that leads to the next round, and
// true out.
func (l *loop) findSaid() {
	if !l.paced || !slices.ContainsFunc(slices.Collect(maps.Keys(l.cycle.nodes)), l.saysRetry) {
		return
	}
	for n, t := range l.tests {
		call, ok := ast.Unparen(n.cond).(*ast.CallExpr)
		if ok && n.tag == nil && t.kind == otherTest && l.f.info.Types[call].IsValue() && len(call.Args) > 0 && resultCount(l.f.info, call) == 1 &&
			!l.cycle.nodes[n.succs[0]] && l.cycle.nodes[n.succs[1]] {
			t.kind, t.err, t.flag = nilTest, call, true
		}
	}
}

// mentionsCounter reports whether n speaks of a variable that changes.
func (l *loop) mentionsCounter(n ast.Node) bool {
	return mentions(n, func(x ast.Node) bool {
		id, ok := x.(*ast.Ident)
		return ok && l.counters[l.f.info.ObjectOf(id)]
	})
}

// back reports whether the head can be reached again through e without the
// edges that are blocked.
func (l *loop) back(e edge, blocked func(edge) bool) bool {
	if !l.cycle.nodes[e.to()] {
		return false
	}
	if e.to() == l.cycle.head {
		return true
	}
	return reach(e.to(), func(e edge) bool {
		return l.cycle.nodes[e.to()] && (blocked == nil || !blocked(e))
	})[l.cycle.head]
}

// failing reports whether e is taken because something failed, or, for kinds of
// errors and statuses, may be.
func (l *loop) failing(e edge) bool {
	t := l.tests[e.from]
	if t == nil {
		return false
	}
	switch t.kind {
	case nilTest:
		return e == t.failed()
	case kindTest:
		return e.succ == t.failure()
	case statusTest:
		failure := l.f.statusFailure(t)
		return failure < 0 || e.succ == failure
	case answerTest:
		return l.notYet(e)
	}
	return false
}

// otherwise reports whether e is taken because of a status, or of what another call
// than that of t answered.
func (l *loop) otherwise(t *test, e edge) bool {
	other := l.tests[e.from]
	return other != nil && (other.kind == statusTest || other.kind == answerTest && other.obj != t.obj) && l.failing(e)
}

// failsOther reports whether e is taken because there is another error than that of t, and
// no part or copy of it.
func (l *loop) failsOther(t *test, e edge) bool {
	other := l.tests[e.from]
	if other == nil || other.kind != nilTest || e != other.failed() || other.obj == nil || t.obj == nil || other.obj == t.obj {
		return false
	}
	for _, d := range l.f.defs[other.obj] {
		if d.rhs != nil && uses(l.f.info, d.rhs, t.obj) {
			return false
		}
	}
	return !slices.ContainsFunc(l.f.defs[t.obj], func(d def) bool { return d.rhs != nil && uses(l.f.info, d.rhs, other.obj) })
}

// failingOf is failing, but for answers of other calls than that of t.
func (l *loop) failingOf(t *test) func(edge) bool {
	return func(e edge) bool {
		other := l.tests[e.from]
		return l.failing(e) && (other.kind != answerTest || other.obj == t.obj)
	}
}

// notYet reports whether e, a way out of an answerTest, leads to the next round
// with nothing done on the way but waiting and logging: the answer was "not yet".
// Only the other way must do something else, or lead out of the loop.
func (l *loop) notYet(e edge) bool {
	other := edge{e.from, 1 - e.succ}
	if next := other.to(); next.cond != nil && next != l.cycle.head && (next.succs[0] == e.to() || next.succs[1] == e.to()) {
		for i, s := range next.succs { // the next part of the same condition: a || b
			if s == e.to() {
				return l.notYet(edge{next, i}) && !l.watches(e.from)
			}
		}
	}
	idle := func(e edge) bool {
		if !l.back(e, nil) {
			return false
		}
		if e.to() == l.cycle.head {
			return true
		}
		for n := range reach(e.to(), func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head }) {
			for _, x := range n.list {
				if l.works(x) {
					return false
				}
			}
		}
		return true
	}
	out := func(e edge) bool {
		for n := range reach(e.to(), func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head }) {
			if n != l.cycle.head && slices.ContainsFunc(n.succs, func(s *node) bool { return !l.cycle.nodes[s] }) {
				return true
			}
		}
		return false
	}
	return idle(e) && (!idle(other) || out(other) && !out(e)) && !l.watches(e.from)
}

// watches reports whether the condition of n compares an answer with another value
// than a constant: the loop waits for a change, for ever.
func (l *loop) watches(n *node) bool {
	b, ok := ast.Unparen(n.cond).(*ast.BinaryExpr)
	return ok && b.Op == token.NEQ && l.comparesVariables(n)
}

// comparesVariables reports whether the condition of n compares two values of which none is
// a constant.
func (l *loop) comparesVariables(n *node) bool {
	b, ok := ast.Unparen(n.cond).(*ast.BinaryExpr)
	return ok && n.tag == nil && l.f.info.Types[b.X].Value == nil && l.f.info.Types[b.Y].Value == nil && !l.f.isNil(b.X) && !l.f.isNil(b.Y)
}

// works reports whether statement x does more than wait, log, count or release.
func (l *loop) works(x ast.Node) bool {
	found := false
	shallow(x, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SendStmt, *ast.GoStmt:
			found = true
		case *ast.AssignStmt:
			found = found || l.f.besideError(objectOf(l.f.info, n.Lhs[0])) != nil
		case *ast.CallExpr:
			tv := l.f.info.Types[n.Fun]
			if tv.IsType() || tv.IsBuiltin() || l.f.waitCall(n) != nil || purePackages[pkgOf(l.f.info, n)] || l.f.isContextError(n, 0) {
				return true
			}
			if pkg := pkgOf(l.f.info, n); pkg == "time" || pkg == "math/rand" || pkg == "math/rand/v2" || idleName.MatchString(calleeName(n)) {
				return pkg == "time" // log.With(...).Info(...) is one
			}
			found = true
		}
		return !found
	})
	return found
}

// Names of functions that log, count or release.
var idleName = regexp.MustCompile(`(?i)^(v?(print|log|debug|info|warn|trace|error)|with|add|inc|close|stop|reset|lock|unlock|rlock|runlock|done|now|string|err)`)

// leaves reports whether, once e is taken, the loop can be left without a failure
// and without another round.
func (l *loop) leaves(e edge) bool {
	if !l.cycle.nodes[e.to()] {
		return !l.f.givesUp(e.to())
	}
	passes := func(e edge) bool {
		t := l.tests[e.from]
		return !l.failing(e) || t.kind == statusTest
	}
	for n := range reach(e.to(), func(e edge) bool {
		return l.cycle.nodes[e.to()] && e.to() != l.cycle.head && passes(e)
	}) {
		for i, s := range n.succs {
			if !l.cycle.nodes[s] && !l.f.givesUp(s) && passes(edge{n, i}) && (n != l.cycle.head || n == e.to()) {
				return true
			}
		}
	}
	return false
}

// givesUp reports whether n panics, or ends the process or test for a failure.
func (f *function) givesUp(n *node) bool {
	if len(n.succs) > 0 || len(n.list) == 0 {
		return false
	}
	s, ok := n.list[len(n.list)-1].(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := s.X.(*ast.CallExpr)
	return ok && giveUpName.MatchString(calleeName(call)) && f.neverReturns(f.info, call, 2)
}

var giveUpName = regexp.MustCompile(`(?i)^(panic|fatal|failnow|die)`)

// retries reports whether t makes l a retry loop: what t judges is done again if
// it failed, and the loop is left if it did not. It completes l.
func (l *loop) retries(t *test) bool {
	switch t.kind {
	case nilTest:
		if !l.back(t.failed(), func(e edge) bool { return l.failsOther(t, e) }) || !l.leaves(t.passed()) && !l.leavesWhenReady(t) {
			return false
		}
		if l.back(t.passed(), l.failingOf(t)) && !l.leavesWhenReady(t) && (!l.countsAttempts() || l.countsSuccesses(t)) {
			return false
		}
		l.round = t.failed()
	default:
		again, ok := l.again(t)
		if !ok || t.kind == statusTest && (l.ofNoError(t) || l.wellGoesOn()) || t.kind == kindTest && (!l.directed(t, again) || l.goesOn(t) || l.succeedsBack(t, again)) {
			return false
		}
		l.round = again
	}
	l.attempt = t
	l.waits = l.waitsBetween()
	if l.calls = l.attempts(t); t.kind == answerTest || t.kind == otherTest {
		if l.calls = l.answering(t); len(l.calls) == 0 || !l.saysOfAnswers() || l.triesOthers(t) {
			return false
		}
	}
	if t.kind == nilTest && (!l.reallyBack(t) || l.prepares(t) || l.passesBy(t)) {
		return false
	}
	return !l.passesOver(t) && l.isRetry()
}

// passesOver reports whether an error of t is passed over in silence while the loop waits for a
// value that comes without one, and nothing says that the error is retried.
func (l *loop) passesOver(t *test) bool {
	if t.kind != nilTest || l.leavesWhenReady(t) || l.counted() || l.says() ||
		!l.back(t.passed(), func(e edge) bool { return l.failing(e) && l.tests[e.from].kind != answerTest }) {
		return false
	}
	if next := t.passed().to(); next.cond != nil && next.stmt == t.at.stmt && next.kind == t.at.kind {
		return false // err == nil && ready: one condition for both
	}
	way := func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head && !l.tries(e.to()) }
	if !way(t.failed()) {
		return t.failed().to() == l.cycle.head
	}
	for n := range reach(t.failed().to(), way) {
		for _, x := range n.list {
			if n.cond == x {
				continue
			}
			if mentions(x, func(x ast.Node) bool {
				call, ok := x.(*ast.CallExpr)
				return ok && l.f.waitCall(call) == nil && pkgOf(l.f.info, call) != "time"
			}) {
				return false
			}
		}
	}
	return true
}

var readyName = regexp.MustCompile(`(?i)connected|ready|alive|healthy|established|online|joined|initiali[sz]ed|serving|reachable`)

// leavesWhenReady reports whether the success of what t tests is seen at the
// beginning of the next round: "if c.Connected() { return }", or in the loop's
// condition on what the attempt answered.
func (l *loop) leavesWhenReady(t *test) bool {
	if head := l.tests[l.cycle.head]; head != nil && head.kind == answerTest && head.obj == t.obj && l.stmt != nil &&
		l.cycle.nodes[head.at.succs[0]] != l.cycle.nodes[head.at.succs[1]] {
		return true
	}
	if l.setBySuccess(t) {
		return true
	}
	for n := range reach(l.cycle.head, func(e edge) bool { return l.cycle.nodes[e.to()] && e.from != t.at }) {
		if n.cond == nil || n == t.at || !l.names(n.cond, readyName) {
			continue
		}
		if _, compares := n.cond.(*ast.BinaryExpr); !compares && !l.cycle.nodes[n.succs[0]] && l.cycle.nodes[n.succs[1]] {
			return true
		}
	}
	return false
}

// countsSuccesses reports whether the loop counts how often what t tests did not fail: one
// success is not what it waits for.
func (l *loop) countsSuccesses(t *test) bool {
	inRound := func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head }
	if !inRound(t.passed()) {
		return false
	}
	failed := set{}
	if inRound(t.failed()) {
		failed = reach(t.failed().to(), inRound)
	}
	for n := range reach(t.passed().to(), inRound) {
		for _, x := range n.list {
			inc, ok := x.(*ast.IncDecStmt)
			if ok && !failed[n] && l.counters[objectOf(l.f.info, inc.X)] && l.outlives(objectOf(l.f.info, inc.X)) {
				return true
			}
		}
	}
	return false
}

// setBySuccess reports whether the loop's condition is about a variable that is set where
// t passed, on all ways, and only there: "for conn == nil".
func (l *loop) setBySuccess(t *test) bool { return l.setBy(t.passed(), t.failed()) }

// setBy reports whether the loop's condition is about a variable that is set behind yes, on
// all ways, and only there, and not behind no.
func (l *loop) setBy(yes, no edge) bool {
	s, ok := l.stmt.(*ast.ForStmt)
	if !ok || s.Cond == nil || l.cycle.head.cond == nil || l.cycle.nodes[l.cycle.head.succs[0]] == l.cycle.nodes[l.cycle.head.succs[1]] {
		return false
	}
	inRound := func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head }
	if !inRound(yes) {
		return false
	}
	passed, failed := reach(yes.to(), inRound), set{}
	if inRound(no) {
		failed = reach(no.to(), inRound)
	}
	v := objectOf(l.f.info, s.Cond)
	switch c := s.Cond.(type) {
	case *ast.UnaryExpr:
		v = objectOf(l.f.info, c.X)
	case *ast.BinaryExpr:
		if c.Op == token.EQL && l.f.isNil(c.Y) {
			v = objectOf(l.f.info, c.X)
		}
	}
	found, sets := false, set{}
	for _, d := range l.f.defs[v] {
		for n := range l.cycle.nodes {
			if holds(n, d.at) {
				if !passed[n] || failed[n] {
					return false
				}
				found = true
				sets[n] = true
			}
		}
	}
	unset := func(e edge) bool { return l.cycle.nodes[e.to()] && !sets[e.to()] }
	return found && (!unset(yes) || !reach(yes.to(), unset)[l.cycle.head])
}

// again returns the edge of t that goes round, if the other one leaves.
func (l *loop) again(t *test) (edge, bool) {
	for i := range 2 {
		round, leave := edge{t.at, i}, edge{t.at, 1 - i}
		if l.back(round, nil) && (!l.back(leave, l.failing) && l.leaves(leave) || t.kind == kindTest && l.setBy(leave, round)) {
			return round, true
		}
	}
	return edge{}, false
}

// goesOn reports whether the loop also goes round where the error that t asks about is
// nil, so that t is not what decides: by a way that does not lead by t. Where an error
// ends the loop, t must be of a flag beside it that is named for retries.
func (l *loop) goesOn(t *test) bool {
	first := reach(l.cycle.head, func(e edge) bool { return l.cycle.nodes[e.to()] && e.from != t.at })
	for n, other := range l.tests {
		if other.kind != nilTest || other.obj == nil || !first[n] || !l.comesFrom(t.obj, other.obj) || l.ofOthers(t, other) {
			continue
		}
		round := l.back(other.passed(), func(e edge) bool { return e.from == t.at })
		if round && (t.obj == other.obj || l.f.asFrom(t.obj) == other.obj || !l.leaves(other.passed())) || !l.back(other.failed(), nil) && !l.names(t.at.cond, retryWord) {
			return true
		}
	}
	return false
}

// succeedsBack reports whether an attempt without an error leads to another one, though t
// asks which error there is.
func (l *loop) succeedsBack(t *test, again edge) bool {
	if t.obj == nil || !isErrorVar(t.obj) || l.leavesWhenReady(t) || l.countsAttempts() {
		return false
	}
	first := reach(l.cycle.head, func(e edge) bool { return l.cycle.nodes[e.to()] && e.from != t.at })
	for n, other := range l.tests {
		if first[n] && other.kind == nilTest && other.obj != nil && l.comesFrom(t.obj, other.obj) && !l.ofOthers(t, other) {
			return false // goesOn has judged that
		}
	}
	failed := func(e edge) bool {
		return l.failing(e) || e == again && again.succ == t.failure() // isTemporary(err), and not isPermanent(err)
	}
	for _, call := range l.attempts(t) {
		for n := range l.cycle.nodes {
			for i := range n.succs {
				if e := (edge{n, i}); holds(n, call) && !failed(e) && reach(e.to(), func(e edge) bool { return l.cycle.nodes[e.to()] && !failed(e) })[n] {
					return true
				}
			}
		}
	}
	return false
}

// ofNoError reports whether t asks for the status of an error, and without an error the
// loop goes round as well.
func (l *loop) ofNoError(t *test) bool {
	found := false
	shallow(t.at.cond, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if obj := variable(l.f.info, e); ok && obj != nil && isErrorVar(obj) {
			for _, other := range l.tests {
				found = found || other.kind == nilTest && l.comesFrom(obj, other.obj) && l.back(other.passed(), func(e edge) bool { return e.from == t.at })
			}
		}
		return !found
	})
	return found
}

// wellGoesOn reports whether a status that is no failure leads to the next round: the loop
// goes on for as long as all is well.
func (l *loop) wellGoesOn() bool {
	for n, t := range l.tests {
		if t.kind != statusTest {
			continue
		}
		if failure := l.f.statusFailure(t); failure >= 0 && l.f.isGood(t) && l.back(edge{n, 1 - failure}, l.failing) {
			return true
		}
	}
	return false
}

// ofOthers reports whether t and other ask about the errors of different calls, though they
// may be kept in the same variable. What a helper made of the error is still about it.
func (l *loop) ofOthers(t, other *test) bool {
	if !uses(l.f.info, t.at.cond, t.obj) {
		return false
	}
	calls, others := l.attempts(t), l.attempts(other)
	return len(calls) > 0 && len(others) > 0 && !slices.ContainsFunc(calls, func(call *ast.CallExpr) bool { return slices.Contains(others, call) })
}

// comesFrom reports whether obj is the error err, or what a type assertion or
// errors.As makes of it.
func (l *loop) comesFrom(obj, err types.Object) bool {
	if obj == nil || obj == err {
		return obj == err
	}
	for _, d := range l.f.defs[obj] {
		if x, ok := d.rhs.(*ast.TypeAssertExpr); ok && variable(l.f.info, x.X) == err {
			return true
		}
	}
	return l.f.asFrom(obj) == err
}

// asFrom returns the error of which errors.As makes obj, or nil.
func (f *function) asFrom(obj types.Object) types.Object {
	if obj == nil {
		return nil
	}
	var err types.Object
	mentions(f.body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || calleeName(call) != "As" || len(call.Args) != 2 || path.Base(pkgOf(f.info, call)) != "errors" {
			return false
		}
		if p, ok := call.Args[1].(*ast.UnaryExpr); ok && variable(f.info, p.X) == obj {
			err = variable(f.info, call.Args[0])
		}
		return err != nil
	})
	return err
}

// prepares reports whether t asks whether a value is there yet that is got once: "if conn
// == nil { conn, _ = dial() }".
func (l *loop) prepares(t *test) bool {
	inRound := func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head }
	if isError(l.f.info, t.err) || t.at == l.cycle.head || !inRound(t.failed()) {
		return false
	}
	failed := reach(t.failed().to(), inRound)
	return !slices.ContainsFunc(l.calls, func(call *ast.CallExpr) bool {
		for n := range l.cycle.nodes {
			if holds(n, call) && (!failed[n] || reach(n, inRound)[t.at]) {
				return true
			}
		}
		return false
	})
}

// passesBy reports whether another operation's success leads to the next round without
// that of t, which is tried where that fails, or where the other is not.
func (l *loop) passesBy(t *test) bool {
	if l.countsAttempts() || l.leavesWhenReady(t) {
		return false
	}
	by := func(e edge) bool { return l.cycle.nodes[e.to()] && e.from != t.at && !l.failing(e) }
	inRound := func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head }
	first := reach(l.cycle.head, by)
	for n, other := range l.tests {
		if other.kind != nilTest || n == t.at || !first[n] || other.obj == t.obj {
			continue
		}
		if e := other.passed(); by(e) && e.to() != l.cycle.head && reach(e.to(), by)[l.cycle.head] &&
			(reach(other.failed().to(), inRound)[t.at] || !reach(e.to(), inRound)[t.at]) {
			return true
		}
	}
	return false
}

// triesOthers reports whether what t asks about is only looked at when another thing was
// tried, that is not the same in each round, and failed.
func (l *loop) triesOthers(t *test) bool {
	for n, other := range l.tests {
		if n == t.at || other.kind != nilTest && other.kind != kindTest || !l.back(edge{n, 0}, nil) && !l.back(edge{n, 1}, nil) {
			continue
		}
		if slices.ContainsFunc(l.attempts(other), func(call *ast.CallExpr) bool { return !slices.Contains(l.calls, call) && l.another(call) }) {
			return true
		}
	}
	return false
}

// waitsBetween returns the waits between a failed attempt and the next one.
func (l *loop) waitsBetween() []*wait {
	after := reach(l.round.to(), func(e edge) bool { return l.cycle.nodes[e.to()] && e.from != l.attempt.at })
	var waits []*wait
	for _, w := range l.f.waitsIn(l.cycle) {
		if after[w.at] || w.at == l.attempt.at {
			waits = append(waits, w)
		}
	}
	return waits
}

// reallyBack excludes tests that guard only the loop's own wait.
func (l *loop) reallyBack(t *test) bool {
	call, ok := ast.Unparen(t.err).(*ast.CallExpr)
	return !ok || l.f.waitCall(call) == nil
}

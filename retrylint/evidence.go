package retrylint

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"slices"
)

var permanent = regexp.MustCompile(`(?i)^EOF$|ErrNoRows|Done$|ErrUnexpectedEOF`)
var unauthorized = regexp.MustCompile(`^StatusUnauthorized$`) // for which there is a new token, not a retry
var elsewhere = regexp.MustCompile(`^Status(Unauthorized|MovedPermanently|Found|SeeOther|TemporaryRedirect|PermanentRedirect)$`)
var eintr = regexp.MustCompile(`^EINTR$`)
var interrupted = regexp.MustCompile(`^(EINTR|EAGAIN|EWOULDBLOCK|(Is|Err)?\w*Exists?|ErrShortBuffer|ERROR_INSUFFICIENT_BUFFER|ERROR_MORE_DATA|ERANGE|E2BIG|ErrTooLarge|EEXIST|ErrBufferFull|ErrShortDst)$`)

var missing = regexp.MustCompile(`NotExist$`)

// directed reports whether a test of an error's kind, whose edge again goes
// round, is one for errors that are to be retried: "if isTemporary(err)".
func (l *loop) directed(t *test, again edge) bool {
	if l.names(t.at.cond, permanent) {
		return false
	}
	return again.succ == 0 && l.f.waitOf(t.at.cond) == nil || l.hasRetryWord()
}

// names reports whether an identifier in n matches.
func (l *loop) names(n ast.Node, re *regexp.Regexp) bool {
	return mentions(n, func(x ast.Node) bool {
		id, ok := x.(*ast.Ident)
		return ok && re.MatchString(id.Name)
	})
}

// isRetry weighs what the control flow cannot show: whether each round tries the
// same, and whether the loop was meant as one of retries.
func (l *loop) isRetry() bool {
	if len(l.calls) == 0 && !l.labelledRetry() && !l.receivesFailure() || l.eventDriven() || l.swaps() {
		return false
	}
	if n, ok := l.rounds(); (ok && n <= 2 || l.once()) && len(l.waits) == 0 {
		return false // once more, after something was put right
	}
	if l.serves() || len(l.waits) == 0 && (l.attempt.kind == nilTest && !l.asksWhich() && !l.says() && (l.attempt.flag || !l.counted() && !l.countedByBody()) || l.triesChanged() || l.fallsBack()) {
		return false
	}
	others := 0 // of the calls, of which a round begins with the first
	for i, call := range slices.SortedFunc(slices.Values(l.calls), func(a, b *ast.CallExpr) int { return int(a.Pos() - b.Pos()) }) {
		if l.another(call) {
			others++
			if i == 0 || 2*others > len(l.calls) {
				return false
			}
		}
	}
	if first := l.firstCall(); len(l.waits) == 0 && first != nil && l.another(first) {
		return false
	}
	for _, t := range l.tests {
		if t.kind == statusTest && len(l.waits) == 0 && (l.names(t.at.cond, elsewhere) || l.leadsElsewhere(t)) {
			return false
		}
		if t.kind == kindTest && (l.names(t.at.cond, interrupted) && len(l.waits) == 0 && !(l.names(t.at.cond, missing) && l.countsAttempts()) || l.names(t.at.cond, eintr)) {
			return false
		}
	}
	if r, ok := l.stmt.(*ast.RangeStmt); ok {
		if _, isChan := underlying(l.f.info, r.X).(*types.Chan); isChan && len(l.waits) == 0 {
			return false
		}
	}
	return len(l.waits) > 0 || l.hasRetryWord() || l.counted()
}

// asksWhich reports whether a condition of the loop asks which error or status there is.
func (l *loop) asksWhich() bool {
	for _, t := range l.tests {
		if t.kind == kindTest || t.kind == statusTest {
			return true
		}
	}
	return false
}

// triesChanged reports whether what is given to the attempt is set on the way from a failure
// to the next round: something else is tried then.
func (l *loop) triesChanged() bool {
	given := map[types.Object]bool{}
	for _, call := range l.calls {
		for _, a := range call.Args {
			v, ok := objectOf(l.f.info, a).(*types.Var)
			if ok && !l.same(v) && !l.isTry(v) && l.outlives(v) {
				given[v] = true
			}
		}
	}
	way := func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head && !l.tries(e.to()) }
	if !way(l.round) {
		return false
	}
	for n := range reach(l.round.to(), way) {
		for _, x := range n.list {
			as, ok := x.(*ast.AssignStmt)
			if ok && as.Tok == token.ASSIGN && slices.ContainsFunc(as.Lhs, func(e ast.Expr) bool { return given[objectOf(l.f.info, e)] }) {
				return true
			}
		}
	}
	return false
}

// fallsBack reports whether the way from a failure to the next round sets to a constant, for
// good, what the loop gives to its calls or asks about: less is tried then, or something else.
func (l *loop) fallsBack() bool {
	way := func(e edge) bool {
		return l.cycle.nodes[e.to()] && e.to() != l.cycle.head && !l.tries(e.to())
	}
	if !way(l.round) {
		return false
	}
	after := reach(l.round.to(), way)
	onTheWay := func(x ast.Node) bool {
		for n := range after {
			if holds(n, x) {
				return true
			}
		}
		return false
	}
	for n := range after {
		for _, x := range n.list {
			as, ok := x.(*ast.AssignStmt)
			if !ok || as.Tok != token.ASSIGN {
				continue
			}
			for i, lhs := range as.Lhs {
				v, ok := objectOf(l.f.info, lhs).(*types.Var)
				if !ok || isFlag(v) || len(as.Lhs) != len(as.Rhs) || !l.f.isNil(as.Rhs[i]) && l.f.info.Types[as.Rhs[i]].Value == nil || l.same(v) || l.counters[v] || !l.outlives(v) ||
					slices.ContainsFunc(l.f.defs[v], func(d def) bool { return l.contains(d.at) && !onTheWay(d.at) }) {
					continue
				}
				if l.dependsOn(v, after) {
					return true
				}
			}
		}
	}
	return false
}

// dependsOn reports whether a call or a condition of the loop, but for those of nodes, uses v.
func (l *loop) dependsOn(v *types.Var, nodes set) bool {
	for n := range l.cycle.nodes {
		if nodes[n] {
			continue
		}
		if n.cond != nil && uses(l.f.info, n.cond, v) {
			return true
		}
		for _, x := range n.list {
			if mentions(x, func(x ast.Node) bool {
				call, ok := x.(*ast.CallExpr)
				return ok && returnsError(l.f.info, call) && l.canFail(call) && slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return uses(l.f.info, a, v) })
			}) {
				return true
			}
		}
	}
	return false
}

func isFlag(v *types.Var) bool { return types.Identical(v.Type().Underlying(), types.Typ[types.Bool]) }

// tries reports whether an attempt is made in n.
func (l *loop) tries(n *node) bool {
	return slices.ContainsFunc(l.calls, func(call *ast.CallExpr) bool { return holds(n, call) })
}

// firstCall returns the first call of a round that may fail with an error, or nil.
func (l *loop) firstCall() (first *ast.CallExpr) {
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			shallow(x, func(x ast.Node) bool {
				if call, ok := x.(*ast.CallExpr); ok && returnsError(l.f.info, call) && l.canFail(call) && (first == nil || call.Pos() < first.Pos()) {
					first = call
				}
				return true
			})
		}
	}
	return first
}

// serves reports whether each round begins by reading the next message from a connection.
func (l *loop) serves() bool {
	var first *ast.CallExpr
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			shallow(x, func(x ast.Node) bool {
				if call, ok := x.(*ast.CallExpr); ok && messageName.MatchString(calleeName(call)) && returnsError(l.f.info, call) && (first == nil || call.Pos() < first.Pos()) {
					first = call
				}
				return true
			})
		}
	}
	return first != nil && !slices.ContainsFunc(l.calls, func(call *ast.CallExpr) bool { return call.Pos() <= first.Pos() })
}

var messageName = regexp.MustCompile(`^([rR]ead|[rR]ecv|[rR]eceive|[aA]ccept)(Packet|Msg|Message|Frame|Request|Event|Command)?$`)

// leadsElsewhere reports whether t compares with a status that is a redirect, or asks for a
// login.
func (l *loop) leadsElsewhere(t *test) bool {
	return mentions(t.at.cond, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return false
		}
		v := l.f.info.Types[e].Value
		if v == nil || v.Kind() != constant.Int {
			return false
		}
		code, _ := constant.Int64Val(v)
		return code > 300 && code < 309 || code == 401
	})
}

// once reports whether a flag that is set on the way round keeps the loop from going
// round a second time: "if !retried { retried = true; goto again }".
func (l *loop) once() bool {
	for n, t := range l.tests {
		v, ok := objectOf(l.f.info, n.cond).(*types.Var)
		if t.kind != otherTest && t.kind != boundTest || !ok || n.tag != nil || !isFlag(v) {
			continue
		}
		set := false
		for _, d := range l.f.defs[v] {
			if d.rhs == nil || !l.contains(d.at) {
				continue
			}
			value := l.f.info.Types[d.rhs].Value
			if value == nil || !constant.BoolVal(value) {
				set = false
				break
			}
			set = true
		}
		if set && !reach(l.round.to(), func(e edge) bool { return l.cycle.nodes[e.to()] && !(e.from == n && e.succ == 1) })[l.round.from] {
			return true
		}
	}
	return false
}

// swaps reports whether each round reads, and writes if nothing has changed in between.
func (l *loop) swaps() bool {
	if swapName.MatchString(l.f.name) || slices.ContainsFunc(l.calls, l.givenVersion) || !l.paced && l.readsToWrite() {
		return true
	}
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			if mentions(x, func(x ast.Node) bool {
				call, ok := x.(*ast.CallExpr)
				return ok && swapName.MatchString(calleeName(call)) && pkgOf(l.f.info, call) != "sync/atomic"
			}) {
				return true
			}
		}
	}
	return false
}

// readsToWrite reports whether a call whose failure leads to the next round is given part of
// what the same round has read, or what it has read and changed: it writes if nothing has
// changed in between.
func (l *loop) readsToWrite() bool {
	for _, t := range l.tests {
		switch t.kind {
		case nilTest:
			if !l.back(t.failed(), nil) {
				continue
			}
		case kindTest, statusTest:
			if _, ok := l.again(t); !ok {
				continue
			}
		default:
			continue
		}
		for _, call := range l.attempts(t) {
			if slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return l.partOfRead(a, 4) }) {
				return true
			}
		}
	}
	return false
}

// partOfRead reports whether e contains a field of what the round has read, or all of it after
// the round has changed it.
func (l *loop) partOfRead(e ast.Expr, depth int) bool {
	return mentions(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			field, ok := l.f.info.ObjectOf(n.Sel).(*types.Var)
			return ok && field.IsField() && l.read(objectOf(l.f.info, n.X))
		case *ast.Ident:
			v, ok := l.f.info.ObjectOf(n).(*types.Var)
			if !ok || v.IsField() || isErrorVar(v) || isContext(v.Type()) {
				return false
			}
			changed := slices.ContainsFunc(l.f.fields[v], func(d def) bool { return l.contains(d.at) })
			return changed && l.read(v) || depth > 0 && slices.ContainsFunc(l.f.defs[v], func(d def) bool {
				_, computed := d.rhs.(*ast.CallExpr)
				return d.rhs != nil && !computed && l.contains(d.at) && l.partOfRead(d.rhs, depth-1)
			})
		}
		return false
	})
}

// read reports whether the value of obj comes from a call in the loop whose error ends it.
func (l *loop) read(obj types.Object) bool {
	return slices.ContainsFunc(l.f.defs[obj], func(d def) bool {
		call, ok := d.rhs.(*ast.CallExpr)
		if !ok || !l.contains(d.at) || resultCount(l.f.info, call) < 2 {
			return false
		}
		err := l.f.errorBeside(d)
		for _, t := range l.tests {
			if err != nil && t.kind == nilTest && t.obj == err && !l.back(t.failed(), nil) && slices.Contains(l.attempts(t), call) {
				return true
			}
		}
		return false
	})
}

// givenVersion reports whether call is given the version of what the same round has read.
func (l *loop) givenVersion(call *ast.CallExpr) bool {
	return slices.ContainsFunc(call.Args, func(a ast.Expr) bool {
		return mentions(a, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || !versionName.MatchString(sel.Sel.Name) {
				return false
			}
			root := ast.Unparen(sel.X)
			for {
				inner, ok := root.(*ast.SelectorExpr)
				if !ok {
					break
				}
				root = ast.Unparen(inner.X)
			}
			return slices.ContainsFunc(l.f.defs[objectOf(l.f.info, root)], func(d def) bool {
				_, call := d.rhs.(*ast.CallExpr)
				return call && l.contains(d.at)
			})
		})
	})
}

var versionName = regexp.MustCompile(`^(Resource)?(Version|Revision|ETag|Etag|Generation|CAS|Cas)(ID|Id)?$|^ModRevision$`)

// countsAttempts reports whether the loop counts, by the names of what it counts or of
// the limit, attempts: then a success that is not all that is wanted may go round, too.
func (l *loop) countsAttempts() bool {
	if r, ok := l.stmt.(*ast.RangeStmt); ok {
		b, ok := underlying(l.f.info, r.X).(*types.Basic)
		return ok && b.Info()&types.IsInteger != 0 && (l.names(r.X, retryWord) || r.Key != nil && l.names(r.Key, retryWord))
	}
	s, ok := l.stmt.(*ast.ForStmt)
	if !ok {
		return false
	}
	for obj := range l.counters {
		b, ok := obj.Type().Underlying().(*types.Basic)
		if !ok || b.Info()&types.IsInteger == 0 {
			continue
		}
		head := s.Post != nil && uses(l.f.info, s.Post, obj) || s.Cond != nil && uses(l.f.info, s.Cond, obj)
		if head && (retryWord.MatchString(obj.Name()) || s.Cond != nil && l.names(s.Cond, retryWord)) {
			return true
		}
	}
	return false
}

// says reports whether the code says by its names that the loop retries.
func (l *loop) says() bool {
	if l.saysOfAnswers() {
		return true
	}
	for n, t := range l.tests { // a count that the body keeps
		if t.kind == boundTest && l.mentionsCounter(n.cond) && l.names(n.cond, retryWord) && (!l.back(edge{n, 0}, nil) || !l.back(edge{n, 1}, nil)) {
			return true
		}
	}
	return false
}

// saysOfAnswers is says for a loop that an answer makes one, and no error: those that only
// count in their body, by whatever name, wait for a value: five of five in the survey, of which
// one reader took two for retries.
func (l *loop) saysOfAnswers() bool {
	if l.countsAttempts() || l.labelled() || l.triesByName() || l.waitsToRetry() || l.waitsUntilReady() || l.retriesByName() {
		return true
	}
	for n := range l.cycle.nodes {
		if len(l.waits) > 0 && l.saysRetry(n) {
			return true
		}
	}
	return false
}

// Words by which people name the time between two attempts.
var intervalWord = regexp.MustCompile(`(?i:retr(y|ies)|attempt|reconnect|re_?dial)|Tries`)

// waitsToRetry reports whether the loop waits for a time that is named for retries.
func (l *loop) waitsToRetry() bool {
	named := func(n ast.Node) bool {
		return mentions(n, func(x ast.Node) bool {
			id, ok := x.(*ast.Ident)
			return ok && intervalWord.MatchString(id.Name) && !hasWord(id.Name, "retryafter") // which servers send for polls, too
		})
	}
	for _, w := range l.waits {
		if named(w.node) || w.delay != nil && (named(w.delay) || slices.ContainsFunc(l.f.defs[variable(l.f.info, w.delay)], func(d def) bool {
			return d.rhs != nil && named(d.rhs)
		})) {
			return true
		}
	}
	return false
}

// waitsUntilReady reports whether the loop waits for an answer that says by its name that
// something is ready.
func (l *loop) waitsUntilReady() bool {
	return len(l.waits) > 0 && l.names(l.attempt.at.cond, readyName) && !l.comparesVariables(l.attempt.at)
}

// retriesByName reports whether the function, or its receiver's type, is named for retries.
func (l *loop) retriesByName() bool {
	if intervalWord.MatchString(l.f.name) || hasWord(l.f.name, "backoff") {
		return len(l.waits) > 0
	}
	decl, ok := l.f.node.(*ast.FuncDecl)
	return ok && decl.Recv != nil && len(l.waits) > 0 && waitType.MatchString(lastName(l.f.info.TypeOf(decl.Recv.List[0].Type)))
}

// labelled reports whether the loop has a label that says that it retries.
func (l *loop) labelled() bool {
	return mentions(l.f.body, func(n ast.Node) bool {
		s, ok := n.(*ast.LabeledStmt)
		return ok && (s.Stmt == l.stmt || ast.Stmt(s) == l.stmt) && retryWord.MatchString(s.Label.Name)
	})
}

// Names of functions that say that what they do may not be possible yet.
var tryName = regexp.MustCompile(`^([tT]ry|[aA]ttempt|[aA]cquire|[rR]econnect)([A-Z]|$)`)

// triesByName reports whether each call of the loop says that it only tries.
func (l *loop) triesByName() bool {
	return !slices.ContainsFunc(l.calls, func(call *ast.CallExpr) bool { return !tryName.MatchString(calleeName(call)) })
}

// receivesFailure reports whether the attempt is made elsewhere, which sends its error, and
// the loop waits and says that it retries.
func (l *loop) receivesFailure() bool {
	return len(l.waits) > 0 && l.attempt.kind == nilTest && l.hasRetryWord() && slices.ContainsFunc(l.f.defs[l.attempt.obj], func(d def) bool {
		u, ok := d.rhs.(*ast.UnaryExpr)
		return ok && u.Op == token.ARROW && l.contains(d.at)
	})
}

// labelledRetry reports whether the loop goes back to a label that says why.
func (l *loop) labelledRetry() bool {
	s, ok := l.stmt.(*ast.LabeledStmt)
	return ok && (retryWord.MatchString(s.Label.Name) || len(l.waits) > 0)
}

// eventDriven reports whether each round's attempt waits for what another goroutine
// sends, other than the time or an error.
func (l *loop) eventDriven() bool {
	sent := func(n *node) bool {
		clause, ok := n.stmt.(*ast.CommClause)
		return ok && clause.Comm != nil && len(n.list) > 0 && n.list[0] == clause.Comm &&
			l.f.waitOf(clause.Comm) == nil && !l.f.receivesError(n)
	}
	return !reach(l.cycle.head, func(e edge) bool { return l.cycle.nodes[e.to()] && !sent(e.to()) })[l.attempt.at]
}

// hasRetryWord reports whether the loop's label or one of its variables is named
// for retries.
func (l *loop) hasRetryWord() bool {
	if s, ok := l.stmt.(*ast.LabeledStmt); ok && retryWord.MatchString(s.Label.Name) {
		return true
	}
	for obj := range l.counters {
		if retryWord.MatchString(obj.Name()) {
			return true
		}
	}
	for n := range l.cycle.nodes {
		if n.cond != nil && l.names(n.cond, retryWord) || l.saysRetry(n) {
			return true
		}
	}
	if s, ok := l.stmt.(*ast.ForStmt); ok && s.Cond != nil {
		return l.names(s.Cond, retryWord)
	}
	if s, ok := l.stmt.(*ast.RangeStmt); ok {
		return l.names(s.X, retryWord)
	}
	return false
}

var retryText = regexp.MustCompile(`(?i)re-?try|retries|try again`)

// saysRetry reports whether n has a text, for a log most likely, about retries.
func (l *loop) saysRetry(n *node) bool {
	for _, x := range n.list {
		if mentions(x, func(x ast.Node) bool {
			lit, ok := x.(*ast.BasicLit)
			return ok && lit.Kind == token.STRING && retryText.MatchString(lit.Value)
		}) {
			return true
		}
	}
	return false
}

// counted reports whether the loop only counts: its variable bounds it and
// selects nothing.
func (l *loop) counted() bool {
	switch s := l.stmt.(type) {
	case *ast.RangeStmt:
		b, ok := underlying(l.f.info, s.X).(*types.Basic)
		return ok && b.Info()&types.IsInteger != 0 && !l.countUsed(s.Body)
	case *ast.ForStmt:
		b, ok := s.Cond.(*ast.BinaryExpr)
		if !ok || s.Post == nil || !l.mentionsCounter(b) {
			return false
		}
		return !l.sized(b, 1) && !l.countUsed(s.Body)
	}
	return false
}

// sized reports whether e is about how many things there are.
func (l *loop) sized(e ast.Expr, depth int) bool {
	return mentions(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			return hasWord(calleeName(n), "len", "num")
		case *ast.Ident:
			return depth > 0 && slices.ContainsFunc(l.f.defs[l.f.info.ObjectOf(n)], func(d def) bool { return d.rhs != nil && l.sized(d.rhs, depth-1) })
		}
		return false
	})
}

// countedByBody reports whether the loop's condition is a bound of a number that the body
// counts.
func (l *loop) countedByBody() bool {
	head := l.tests[l.cycle.head]
	return head != nil && head.kind == boundTest && l.mentionsCounter(head.at.cond)
}

// countUsed reports whether what is done in a round depends on its number: it is
// used, but for conditions and what is logged.
func (l *loop) countUsed(body ast.Node) bool {
	return mentions(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IndexExpr:
			return l.mentionsCounter(n.Index)
		case *ast.SliceExpr, *ast.AssignStmt, *ast.ReturnStmt:
			return l.mentionsCounter(n)
		}
		return false
	})
}

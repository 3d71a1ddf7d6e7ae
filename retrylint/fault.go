package retrylint

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"slices"
)

// finding is that there is such a loop at all.
func (l *loop) finding() Finding {
	f := Finding{Category: "loop", Pos: l.pos, End: l.head(), Span: [2]token.Pos{l.pos, l.end}, loop: l}
	what := "a call"
	if len(l.calls) > 0 {
		what = cgoName.ReplaceAllString(types.ExprString(ast.Unparen(l.calls[0].Fun)), "C.$1")
		if _, ok := ast.Unparen(l.calls[0].Fun).(*ast.FuncLit); ok {
			what = "a function"
		}
	} else if l.shape == "recursion" {
		what = l.f.name
	}
	use := "retry.Do"
	if l.http() {
		use = "a retry.RetryableClient"
	}
	shape := map[string]string{"for": "loop", "range": "loop", "goto": "goto", "recursion": "recursion", "poll": "polling"}[l.shape]
	if l.retriesItself() {
		f.Message = fmt.Sprintf("hand-written retry %s around %s, which retries by itself: remove the %[1]s and set its Config, see %s#%s", shape, what, adopting, l.pattern())
		return f
	}
	f.Message = fmt.Sprintf("hand-written retry %s around %s: use %s, see %s#%s", shape, what, use, adopting, l.pattern())
	f.Fix = l.rewrite()
	return f
}

// retriesItself reports whether what the loop repeats is a retry of the library.
func (l *loop) retriesItself() bool {
	for _, call := range l.calls {
		if f, ok := callee(l.f.info, call).(*types.Func); ok && retries(f) {
			return true
		}
	}
	return false
}

// cgoName matches what cgo makes of the name of a C function.
var cgoName = regexp.MustCompile(`^\(?_C2?func_(\w+)\)?$`)

// head returns the end of what is marked: the loop's first line.
func (l *loop) head() token.Pos {
	switch s := l.stmt.(type) {
	case *ast.ForStmt:
		return s.Body.Lbrace
	case *ast.RangeStmt:
		return s.Body.Lbrace
	case *ast.LabeledStmt:
		return s.Colon
	}
	return l.end
}

// pattern returns the anchor of the part of docs/adopting.md that shows how to
// replace such a loop.
func (l *loop) pattern() string {
	switch {
	case l.http():
		return "http"
	case l.shape == "poll":
		return "polling"
	case l.shape == "recursion" || l.shape == "goto":
		return l.shape
	case l.bounded():
		return "a-counted-loop"
	}
	return "an-endless-loop"
}

// http reports whether the attempt yields an *http.Response.
func (l *loop) http() bool {
	for _, call := range l.calls {
		if t, ok := l.f.info.TypeOf(call).(*types.Tuple); ok {
			for v := range t.Variables() {
				if isResponse(v.Type()) {
					return true
				}
			}
		}
	}
	return false
}

// faults reports what is wrong with the loop.
func (l *loop) faults(r *reporter) {
	at := func(c string, pos, end token.Pos, format string, args ...any) {
		r.add(Finding{Category: c, Pos: pos, End: end, Message: fmt.Sprintf(format, args...), loop: l})
	}
	for _, w := range l.waits {
		l.waitFaults(w, at)
	}
	if !l.bounded() {
		at("unbounded", l.pos, l.head(), "retried without end: limit the attempts or the time, or let a context end it")
	}
	if len(l.waits) == 0 && l.shape != "recursion" && !l.iterates() && !l.attemptWaits() && l.comesBackAtOnce() {
		at("no-wait", l.pos, l.head(), "retried at once: wait between the attempts")
	}
	if l.retriesAll() {
		n := l.attempt.at.cond
		at("retry-all", n.Pos(), n.End(), "every error is retried, permanent ones too: return those that another attempt cannot change")
	}
	l.breakFault(at)
	l.lastErrorFault(at)
	l.httpFaults(at)
}

// comesBackAtOnce reports whether a way from a failure to the next attempt calls nothing
// that may wait: a function that came as a value, or one that says so.
func (l *loop) comesBackAtOnce() bool {
	tries := func(n *node) bool {
		return slices.ContainsFunc(l.calls, func(call *ast.CallExpr) bool { return holds(n, call) })
	}
	way := func(e edge) bool {
		return l.cycle.nodes[e.to()] && !tries(e.from) && !slices.ContainsFunc(e.to().list, l.mayWait)
	}
	first := l.round.to()
	if first == nil || tries(first) || first == l.cycle.head && len(l.calls) == 0 {
		return true
	}
	if slices.ContainsFunc(first.list, l.mayWait) {
		return false
	}
	for n := range reach(first, way) {
		if tries(n) || len(l.calls) == 0 && n == l.cycle.head {
			return true
		}
	}
	return false
}

var hintName = regexp.MustCompile(`(?i)wait|sleep|pause|delay|back_?off|timer|throttl|limiter`)

// mayWait reports whether x has a call, other than one that is tried, that may wait.
func (l *loop) mayWait(x ast.Node) bool {
	found := false
	shallow(x, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || l.isAttempt(call) || l.f.info.Types[call.Fun].IsType() || idleName.MatchString(calleeName(call)) {
			return !found
		}
		v, value := variable(l.f.info, call.Fun).(*types.Var)
		found = found || l.names(call, hintName) || value && len(l.f.defs[v]) == 0 && resultCount(l.f.info, call) == 0
		return !found
	})
	return found
}

// iterates reports whether the loop ranges over a function or a channel, which
// may wait.
func (l *loop) iterates() bool {
	r, ok := l.stmt.(*ast.RangeStmt)
	if !ok {
		return false
	}
	switch underlying(l.f.info, r.X).(type) {
	case *types.Signature, *types.Chan:
		return true
	}
	return false
}

// attemptWaits reports whether a function that is tried, if it is at hand, is given the
// number of the attempt and waits by itself.
func (l *loop) attemptWaits() bool {
	for _, call := range l.calls {
		decl := l.f.pkg.bodyOf(l.f.info, call)
		if decl == nil || !mentions(call, func(n ast.Node) bool { id, ok := n.(*ast.Ident); return ok && l.isNumber(l.f.info.ObjectOf(id)) }) {
			continue
		}
		if mentions(decl.Body, func(n ast.Node) bool { inner, ok := n.(*ast.CallExpr); return ok && l.f.waitCall(inner) != nil }) {
			return true
		}
	}
	return false
}

// isNumber reports whether obj is the loop's counter, or a copy of it.
func (l *loop) isNumber(obj types.Object) bool {
	if l.counters[obj] {
		return true
	}
	defs := l.f.defs[obj]
	return len(defs) == 1 && defs[0].rhs != nil && l.counters[objectOf(l.f.info, defs[0].rhs)]
}

type reportFunc func(category string, pos, end token.Pos, format string, args ...any)

// waitFaults reports what is wrong with one wait.
func (l *loop) waitFaults(w *wait, at reportFunc) {
	pos, end := w.node.Pos(), w.node.End()
	if r, ok := w.node.(*ast.RangeStmt); ok {
		end = r.Body.Lbrace
	}
	if w.deaf {
		if ctx := l.f.contextVar(pos); ctx != "" {
			at("context", pos, end, "a cancelled %s does not end this wait: select on %[1]s.Done() as well", ctx)
		} else {
			at("context", pos, end, "this function takes no context that could end this wait: give it one")
		}
	}
	if l.sleepsLast(w) {
		at("last-sleep", pos, end, "waits once more after the last attempt: test the count before the wait")
	}
	if w.delay == nil {
		return
	}
	d := l.delayOf(w.delay)
	if call, ok := w.node.(*ast.CallExpr); ok && calleeName(call) != "Sleep" {
		l.traceCall(d, call, 2) // a helper, which may add to it
	}
	if d.steady() && !l.byChance(w) {
		at("jitter", pos, end, "the delay has no jitter: callers that failed together retry together")
	}
	if d.grows != nil && !l.capped(d) {
		at("overflow", d.grows.Pos(), d.grows.End(), "the delay grows without a ceiling: limit it with min")
	}
	if n, ok := l.unitless(w.delay); ok {
		at("unit", w.delay.Pos(), w.delay.End(), "a delay of %d without a unit is %[1]d nanoseconds: multiply it by one", n)
	}
}

// byChance reports whether a condition that asks for a random number decides whether w is
// waited.
func (l *loop) byChance(w *wait) bool {
	return slices.ContainsFunc(w.at.preds, func(n *node) bool { return n.cond != nil && mentionsRandom(l.f.info, n.cond) })
}

// bounded reports whether something other than the outcome of attempts can end
// the loop.
func (l *loop) bounded() bool {
	if l.shape == "poll" {
		return true
	}
	if l.shape == "recursion" {
		return l.recursionBounded()
	}
	for n := range l.cycle.nodes {
		for i, s := range n.succs {
			if !l.cycle.nodes[s] && l.bounds(edge{n, i}) {
				return true
			}
		}
	}
	return false
}

// bounds reports whether the way out e is taken for another reason than an
// outcome.
func (l *loop) bounds(e edge) bool {
	n := e.from
	if r, ok := n.stmt.(*ast.RangeStmt); ok && n == l.cycle.head && len(n.succs) == 2 && n.cond == nil {
		t := l.f.info.TypeOf(r.X)
		return t == nil || !isTimeChan(t)
	}
	t := l.tests[n]
	if t == nil {
		return true
	}
	switch t.kind {
	case nilTest:
		// Where an answer is retried, the error beside it ends the loop, also that of a limit.
		return l.waitFailed(t) || e == t.failed() && l.attempt != nil && l.attempt.kind == answerTest && l.attempt.obj == t.obj
	case statusTest, answerTest:
		return false
	}
	return true // a kind of error may be what a done context or a count leads to
}

// waitFailed reports whether t tests the error of a wait, which says that it was
// the last: a backoff with a limit of its own.
func (l *loop) waitFailed(t *test) bool {
	if call, ok := ast.Unparen(t.err).(*ast.CallExpr); ok {
		return l.f.waitCall(call) != nil
	}
	for _, d := range l.f.defs[t.obj] {
		if call, ok := d.rhs.(*ast.CallExpr); ok && l.contains(d.at) && l.f.waitCall(call) != nil {
			return true
		}
	}
	return false
}

// recursionBounded reports whether a number that each call hands on decides
// whether there is another.
func (l *loop) recursionBounded() bool {
	if len(l.counters) > 0 {
		return true
	}
	for _, t := range l.tests {
		if t.kind == contextTest || t.kind == boundTest {
			return true
		}
	}
	return mentions(l.f.body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		return ok && (calleeName(call) == "Done" && len(call.Args) == 0 || isFunc(l.f.info, call, "time", "Until"))
	})
}

// retriesAll reports whether no condition of the loop looks at the error but to
// see whether there is one.
func (l *loop) retriesAll() bool {
	if l.attempt == nil || l.attempt.kind != nilTest || l.shape == "recursion" || l.attempt.flag && l.attempt.obj == nil {
		return false
	}
	for _, t := range l.tests {
		if t.kind == kindTest || t.kind == statusTest || t.kind == answerTest && t.obj == l.attempt.obj && l.endsFailed(t.at) {
			return false
		}
		if l.setByAttempt(t.at.cond) && l.endsFailed(t.at) {
			return false
		}
		if call, ok := t.at.cond.(*ast.CallExpr); ok && len(call.Args) > 0 && againName.MatchString(calleeName(call)) {
			return false // whatever it is that it asks
		}
	}
	if l.attempt.obj != nil && !types.Implements(l.attempt.obj.Type(), errorType) {
		return false // a type of its own for what is retried
	}
	for _, call := range l.calls {
		if l.f.sortsErrors(call) {
			return false
		}
	}
	for n := range l.cycle.nodes {
		if _, ok := n.stmt.(*ast.CaseClause); ok && n.cond == nil {
			return false // a type switch, perhaps
		}
		for _, x := range n.list {
			if l.judges(x) {
				return false
			}
		}
	}
	return true
}

// setByAttempt reports whether cond asks about a variable that a function literal sets which
// is part of the attempt.
func (l *loop) setByAttempt(cond ast.Expr) bool {
	return mentions(cond, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return false
		}
		return slices.ContainsFunc(l.f.defs[objectOf(l.f.info, e)], func(d def) bool {
			return slices.ContainsFunc(l.calls, func(call *ast.CallExpr) bool {
				return call.Pos() < d.at.Pos() && d.at.End() < call.End()
			})
		})
	})
}

// endsFailed reports whether the condition of n, on what came beside an error, may end the
// loop whatever that error is: another test decides only whether n is passed at all.
func (l *loop) endsFailed(n *node) bool {
	passed := reach(l.cycle.head, func(e edge) bool { return l.cycle.nodes[e.to()] && e != l.attempt.passed() })
	return passed[n] && (!l.cycle.nodes[n.succs[0]] || !l.cycle.nodes[n.succs[1]])
}

// sortsErrors reports whether the function that call calls, if it is at hand, returns
// nil for some errors: what it returns is what is left to retry.
func (f *function) sortsErrors(call *ast.CallExpr) bool {
	body := f.bodyOf(call)
	return body != nil && mentions(body, func(n ast.Node) bool {
		list, ok := n.(*ast.BlockStmt)
		if !ok {
			return false
		}
		for i, s := range list.List {
			cond, ok := s.(*ast.IfStmt)
			if !ok || !f.asksKind(cond.Cond) {
				continue
			}
			if f.returnsNil(cond.Body.List) || i+1 < len(list.List) && f.returnsNil(list.List[i+1:i+2]) {
				return true
			}
		}
		return false
	})
}

// asksKind reports whether cond asks which error there is.
func (f *function) asksKind(cond ast.Expr) bool {
	return mentions(cond, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if isError(f.info, n) {
				return false
			}
			for _, a := range n.Args {
				if isError(f.info, a) {
					return true
				}
			}
		case *ast.TypeAssertExpr:
			return isError(f.info, n.X)
		case *ast.BinaryExpr:
			compared := n.Op == token.EQL || n.Op == token.NEQ
			return compared && isError(f.info, n.X) && isError(f.info, n.Y)
		}
		return false
	})
}

// returnsNil reports whether the last statement of list returns no error.
func (f *function) returnsNil(list []ast.Stmt) bool {
	if len(list) == 0 {
		return false
	}
	r, ok := list[len(list)-1].(*ast.ReturnStmt)
	return ok && len(r.Results) > 0 && f.isNil(r.Results[len(r.Results)-1])
}

// judges reports whether x hands the error to a function of which a result is
// used: it may decide.
func (l *loop) judges(x ast.Node) bool {
	found := false
	shallow(x, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ExprStmt:
			found = found || l.expects(n.X)
			return false
		case *ast.GoStmt, *ast.DeferStmt:
			return false
		case *ast.TypeAssertExpr:
			found = found || isError(l.f.info, n.X)
		case *ast.CallExpr:
			if isError(l.f.info, n) && !l.isAttempt(n) && !l.mayForgive(n) {
				return false // a new error of this one
			}
			for _, a := range n.Args {
				if isError(l.f.info, a) && pkgOf(l.f.info, n) != "fmt" {
					found = true
				}
			}
		}
		return !found
	})
	return found
}

// expects reports whether x calls a method of what a call that is given the error returned,
// which may end the loop: "Expect(err).To(BeTemporary())". Loggers are no such thing.
func (l *loop) expects(x ast.Expr) bool {
	call, ok := ast.Unparen(x).(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return false
	}
	given, ok := ast.Unparen(sel.X).(*ast.CallExpr)
	return ok && (l.expects(given) || !idleName.MatchString(calleeName(given)) && slices.ContainsFunc(given.Args, func(a ast.Expr) bool {
		return mentions(a, func(n ast.Node) bool { id, ok := n.(*ast.Ident); return ok && isError(l.f.info, id) })
	}))
}

// mayForgive reports whether the function that call calls, if it is at hand, returns nil
// for some of the errors that it is given.
func (l *loop) mayForgive(call *ast.CallExpr) bool {
	decl := l.f.pkg.bodyOf(l.f.info, call)
	if decl == nil {
		return false
	}
	forgives, keeps := false, false
	shallow(decl.Body, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok && len(r.Results) > 0 {
			if l.f.isNil(r.Results[len(r.Results)-1]) {
				forgives = true
			} else {
				keeps = true
			}
		}
		return true
	})
	return forgives && keeps
}

func (l *loop) isAttempt(call *ast.CallExpr) bool {
	for _, c := range l.calls {
		if c == call {
			return true
		}
	}
	return false
}

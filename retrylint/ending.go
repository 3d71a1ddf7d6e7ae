package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/cfg"
)

// sleepsLast reports whether w is waited after the last attempt too: on the way
// from a failure to the end of a loop that counts in its head, with no look at the count
// or the time in between, and no attempt after the loop.
func (l *loop) sleepsLast(w *wait) bool {
	if l.attempt == nil || w.ticker {
		return false
	}
	counts := func(n *node) bool {
		t := l.tests[n]
		return t != nil && t.kind == boundTest && l.mentionsCounter(n.cond) && !l.timed(n.cond) && l.f.waitOf(n.cond) == nil || l.rangeHead(n)
	}
	guards := func(n *node) bool {
		t := l.tests[n]
		if t == nil || t.kind != boundTest {
			return counts(n)
		}
		return counts(n) || !l.back(edge{n, 0}, nil) || !l.back(edge{n, 1}, nil)
	}
	from := l.round.to()
	if !l.cycle.nodes[from] || guards(l.round.from) ||
		!reach(from, func(e edge) bool { return l.cycle.nodes[e.to()] && !guards(e.from) })[w.at] {
		return false
	}
	// From the wait to a count that ends it all, without another attempt.
	tries := func(n *node) bool {
		return n == l.attempt.at || n != w.at && slices.ContainsFunc(l.calls, func(c *ast.CallExpr) bool { return holds(n, c) })
	}
	for n := range reach(w.at, func(e edge) bool {
		return l.cycle.nodes[e.to()] && !tries(e.from) && (e.from == w.at || !counts(e.from))
	}) {
		if n != l.cycle.head || !counts(n) || !l.countedWith(w, n) {
			continue
		}
		for _, s := range n.succs {
			if !l.cycle.nodes[s] && !l.attemptBetween(w.at, n) && !l.attemptAfter(s) {
				return true
			}
		}
	}
	return false
}

// countedWith reports whether a round in which w is waited counts for the condition of n:
// there may be failures that are not counted.
func (l *loop) countedWith(w *wait, n *node) bool {
	s, ok := l.stmt.(*ast.ForStmt)
	if !ok || s.Post != nil || n.cond == nil {
		return true
	}
	inRound := func(e edge) bool { return l.cycle.nodes[e.to()] && e.to() != l.cycle.head }
	after := reach(w.at, inRound)
	for obj := range l.counters {
		if !uses(l.f.info, n.cond, obj) {
			continue
		}
		for _, d := range l.f.defs[obj] {
			for x := range l.cycle.nodes {
				if holds(x, d.at) && (after[x] || reach(x, inRound)[w.at]) {
					return true
				}
			}
		}
	}
	return false
}

// timed reports whether cond asks about a duration: what is left of the time.
func (l *loop) timed(cond ast.Expr) bool {
	return mentions(cond, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		return ok && l.counters[l.f.info.ObjectOf(id)] && isDuration(l.f.info.TypeOf(id))
	})
}

// attemptAfter reports whether what was tried in the loop is tried once more on
// the way from n, behind the loop, before another wait.
func (l *loop) attemptAfter(n *node) bool {
	waits := func(n *node) bool {
		for _, x := range n.list {
			if l.f.waitOf(x) != nil {
				return true
			}
		}
		return false
	}
	for x := range reach(n, func(e edge) bool { return !waits(e.to()) }) {
		for _, s := range x.list {
			if mentions(s, func(y ast.Node) bool {
				call, ok := y.(*ast.CallExpr)
				if !ok {
					return false
				}
				for _, c := range l.calls {
					if c != call && types.ExprString(c.Fun) == types.ExprString(call.Fun) {
						return true
					}
				}
				return false
			}) {
				return true
			}
		}
	}
	return false
}

// attemptBetween reports whether an attempt stands in n or w themselves, after
// the wait.
func (l *loop) attemptBetween(w, n *node) bool {
	for _, call := range l.calls {
		if n != w && holds(n, call) || holds(w, call) && l.waitBefore(w, call) {
			return true
		}
	}
	return false
}

func (l *loop) waitBefore(n *node, call *ast.CallExpr) bool {
	for _, w := range l.waits {
		if w.at == n && w.node.Pos() < call.Pos() {
			return true
		}
	}
	return false
}

// rangeHead reports whether n is where a range over an integer or a slice ends.
func (l *loop) rangeHead(n *node) bool {
	return n.kind == cfg.KindRangeLoop && n == l.cycle.head && !isTimeChan(l.f.info.TypeOf(n.stmt.(*ast.RangeStmt).X))
}

// breakFault reports a break for a done context that leaves only its select.
func (l *loop) breakFault(at reportFunc) {
	if l.stmt == nil {
		return
	}
	for _, t := range l.tests {
		if t.kind == contextTest {
			return // it is noticed elsewhere
		}
	}
	shallow(l.stmt, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectStmt)
		if !ok {
			return true
		}
		for _, c := range s.Body.List {
			clause := c.(*ast.CommClause)
			if clause.Comm == nil || l.f.waitOf(clause.Comm) != nil || !l.contains(clause.Comm) && !l.goesOnAfter(s) {
				continue
			}
			if !isDone(l.f.info, clause.Comm) || len(clause.Body) == 0 {
				continue
			}
			last := clause.Body[len(clause.Body)-1]
			if b, ok := last.(*ast.BranchStmt); ok && b.Tok == token.BREAK && b.Label == nil {
				at("break-select", b.Pos(), b.End(), "this break leaves only the select, and the loop goes on: return, or break to a label")
			}
		}
		return true
	})
}

// goesOnAfter reports whether the loop goes on after s.
func (l *loop) goesOnAfter(s *ast.SelectStmt) bool {
	for n := range l.cycle.nodes {
		if n.stmt == ast.Stmt(s) && n.kind == cfg.KindSelectDone {
			return true
		}
	}
	return false
}

// isDone reports whether comm receives from a context's Done or a channel that
// carries nothing.
func isDone(info *types.Info, comm ast.Stmt) bool {
	return mentions(comm, func(n ast.Node) bool {
		u, ok := n.(*ast.UnaryExpr)
		if !ok || u.Op != token.ARROW {
			return false
		}
		c, ok := underlying(info, u.X).(*types.Chan)
		if !ok {
			return false
		}
		s, ok := c.Elem().Underlying().(*types.Struct)
		return ok && s.NumFields() == 0
	})
}

// lastErrorFault reports a return after the last attempt whose error says nothing
// of why that failed.
func (l *loop) lastErrorFault(at reportFunc) {
	if l.attempt == nil || l.attempt.kind != nilTest || l.shape == "recursion" || !l.returnsError() {
		return
	}
	for n := range l.cycle.nodes {
		for i, s := range n.succs {
			t := l.tests[n]
			if l.cycle.nodes[s] || !(t != nil && t.kind == boundTest) && !l.rangeHead(n) || !l.bounds(edge{n, i}) {
				continue
			}
			if r := straightReturn(s); r != nil && l.losesError(r) && !l.endsBefore(n) {
				at("last-error", r.Pos(), r.End(), "the error of the last attempt is lost: wrap it")
			}
		}
	}
}

// endsBefore reports whether another look at the count than that in n ends the loop, which
// may be for the last attempt.
func (l *loop) endsBefore(n *node) bool {
	for m, t := range l.tests {
		if m != n && t.kind == boundTest && l.mentionsCounter(m.cond) && !l.timed(m.cond) && slices.ContainsFunc(m.succs, func(s *node) bool { return !l.cycle.nodes[s] }) {
			return true
		}
	}
	return false
}

func (l *loop) returnsError() bool {
	results := l.f.typ.Results
	if results == nil || len(results.List) == 0 {
		return false
	}
	last := results.List[len(results.List)-1]
	return len(last.Names) == 0 && types.Identical(l.f.info.TypeOf(last.Type), types.Universe.Lookup("error").Type())
}

// straightReturn returns the return statement that follows n with nothing to
// decide on the way.
func straightReturn(n *node) *ast.ReturnStmt {
	for range 8 {
		for _, x := range n.list {
			if r, ok := x.(*ast.ReturnStmt); ok {
				return r
			}
		}
		if len(n.succs) != 1 {
			return nil
		}
		n = n.succs[0]
	}
	return nil
}

// losesError reports whether r returns a new error that wraps no other, or
// a fixed one.
func (l *loop) losesError(r *ast.ReturnStmt) bool {
	if len(r.Results) == 0 {
		return false
	}
	switch e := ast.Unparen(r.Results[len(r.Results)-1]).(type) {
	case *ast.CallExpr:
		if !isFunc(l.f.info, e, "errors", "New") && !isFunc(l.f.info, e, "fmt", "Errorf") {
			return false
		}
		for _, a := range e.Args {
			if mentions(a, func(n ast.Node) bool {
				x, ok := n.(ast.Expr)
				return ok && isError(l.f.info, x) || ok && l.wordy(x)
			}) {
				return false
			}
		}
		return true
	case *ast.Ident:
		v, ok := l.f.info.ObjectOf(e).(*types.Var)
		return ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope()
	}
	return false
}

// wordy reports whether x is a string that the loop has set: it may be the
// error's.
func (l *loop) wordy(x ast.Expr) bool {
	obj := variable(l.f.info, x)
	if obj == nil {
		return false
	}
	for _, d := range l.f.defs[obj] {
		if l.contains(d.at) {
			return true
		}
	}
	return false
}

package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
)

// recursions returns the calls of f by itself that try again what failed.
func (f *function) recursions() []*loop {
	if f.object == nil {
		return nil
	}
	calls := f.selfCalls()
	if len(calls) == 0 {
		return nil
	}
	g := newGraph(f.info, f.body)
	l := &loop{f: f, shape: "recursion", tests: map[*node]*test{}, counters: map[types.Object]bool{}}
	all := &cycle{head: g.nodes[0], nodes: set{}}
	for _, n := range g.nodes {
		all.nodes[n] = true
		if n.cond != nil {
			l.tests[n] = f.classify(n)
		}
	}
	l.cycle = all
	unfailed := reach(g.nodes[0], func(e edge) bool { return !l.failing(e) && !f.receivesError(e.to()) })
	var found []*loop
	for _, n := range g.nodes {
		for _, call := range calls {
			if unfailed[n] || !holds(n, call) {
				continue
			}
			if r := f.recursion(l, n, call); r != nil {
				found = append(found, r)
			}
		}
	}
	return found
}

// selfCalls returns the calls of f in f, other than those that start goroutines
// or are deferred, on the same receiver.
func (f *function) selfCalls() []*ast.CallExpr {
	var calls []*ast.CallExpr
	shallow(f.body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt, *ast.DeferStmt:
			return false
		case *ast.CallExpr:
			if obj, ok := callee(f.info, n).(*types.Func); ok && obj.Origin() == f.object && f.sameReceiver(n) {
				calls = append(calls, n)
			}
		}
		return true
	})
	return calls
}

func (f *function) sameReceiver(call *ast.CallExpr) bool {
	recv := f.object.Signature().Recv()
	if recv == nil {
		return true
	}
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	return ok && objectOf(f.info, sel.X) == recv
}

// receivesError reports whether n begins a select clause that receives an error.
func (f *function) receivesError(n *node) bool {
	clause, ok := n.stmt.(*ast.CommClause)
	if !ok || clause.Comm == nil || len(n.list) == 0 || n.list[0] != clause.Comm {
		return false
	}
	return mentions(clause.Comm, func(x ast.Node) bool {
		u, ok := x.(*ast.UnaryExpr)
		return ok && u.Op == token.ARROW && isError(f.info, u)
	})
}

// recursion returns the retry that call, in node n of l, is, or nil.
func (f *function) recursion(l *loop, n *node, call *ast.CallExpr) *loop {
	numbered, unchanged := f.passesOn(call)
	if !unchanged {
		return nil
	}
	r := &loop{f: f, shape: "recursion", pos: call.Pos(), end: call.End(), tests: l.tests,
		cycle: l.cycle, counters: map[types.Object]bool{}}
	for _, w := range f.waitsIn(l.cycle) {
		if reach(w.at, func(edge) bool { return true })[n] && w.node.Pos() < call.Pos() {
			r.waits = append(r.waits, w)
		}
	}
	if numbered != nil {
		r.counters[numbered] = true
	}
	named := numbered != nil && retryWord.MatchString(numbered.Name())
	if len(r.waits) == 0 && !named {
		return nil
	}
	return r
}

var sequenceName = regexp.MustCompile(`(?i)retr|attempt|tr(y|ies)|sequence|count|times|left|remaining|depth|n$|i$`)

// passesOn reports whether call hands on the parameters of f as they are, but
// for a number that counts, which it returns.
func (f *function) passesOn(call *ast.CallExpr) (numbered *types.Var, unchanged bool) {
	params := f.object.Signature().Params()
	for i, a := range call.Args {
		if i >= params.Len() {
			return nil, false
		}
		p := params.At(min(i, params.Len()-1))
		switch x := ast.Unparen(a).(type) {
		case *ast.Ident:
			if f.info.ObjectOf(x) != p && !isContext(p.Type()) {
				return nil, false
			}
		case *ast.BinaryExpr:
			if !uses(f.info, x, p) {
				return nil, false
			}
			if sequenceName.MatchString(p.Name()) && (x.Op == token.ADD || x.Op == token.SUB) {
				numbered = p
			}
		case *ast.CallExpr:
			if !uses(f.info, x, p) && !isContext(p.Type()) {
				return nil, false
			}
		default:
			return nil, false
		}
	}
	return numbered, true
}

// holds reports whether x is part of n.
func holds(n *node, x ast.Node) bool {
	for _, y := range n.list {
		if y.Pos() <= x.Pos() && x.End() <= y.End() {
			return true
		}
	}
	return false
}

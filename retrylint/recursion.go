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
	g := f.graph()
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
		for _, c := range calls {
			if unfailed[n] || !holds(n, c.at) {
				continue
			}
			if r := f.recursion(l, n, c); r != nil {
				found = append(found, r)
			}
		}
	}
	return found
}

// A selfCall is a call of a function by itself.
type selfCall struct {
	at   ast.Node // what is reported
	args []ast.Expr
	wait *wait // before it, where it is made later: by a timer, or by a goroutine that sleeps first
}

// selfCalls returns the calls of f in f, on the same receiver, other than those
// that are deferred or that start goroutines at once.
func (f *function) selfCalls() []selfCall {
	var calls []selfCall
	shallow(f.body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if lit, ok := ast.Unparen(n.Call.Fun).(*ast.FuncLit); ok {
				if call, w := f.callIn(lit), f.waitOf(lit.Body); call != nil && w != nil && w.node.End() < call.Pos() {
					calls = append(calls, selfCall{call, call.Args, w})
				}
			}
			return false
		case *ast.DeferStmt:
			return false
		case *ast.CallExpr:
			if f.isSelf(n.Fun) {
				calls = append(calls, selfCall{n, n.Args, nil})
			} else if isFunc(f.info, n, "time", "AfterFunc") && len(n.Args) == 2 {
				w := &wait{node: n, delay: n.Args[0]}
				if lit, ok := ast.Unparen(n.Args[1]).(*ast.FuncLit); ok {
					if call := f.callIn(lit); call != nil {
						calls = append(calls, selfCall{n, call.Args, w})
					}
				} else if f.isSelf(n.Args[1]) {
					calls = append(calls, selfCall{n, nil, w})
				}
			}
		}
		return true
	})
	return calls
}

// callIn returns the call of f in lit.
func (f *function) callIn(lit *ast.FuncLit) *ast.CallExpr {
	var found *ast.CallExpr
	shallow(lit.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && found == nil && f.isSelf(call.Fun) {
			found = call
		}
		return found == nil
	})
	return found
}

// isSelf reports whether fun is f itself: its name, or the method of f's receiver.
func (f *function) isSelf(fun ast.Expr) bool {
	fun = ast.Unparen(fun)
	switch x := fun.(type) {
	case *ast.IndexExpr:
		fun = x.X
	case *ast.IndexListExpr:
		fun = x.X
	}
	switch fun := fun.(type) {
	case *ast.Ident:
		return origin(f.info.ObjectOf(fun)) == f.object
	case *ast.SelectorExpr:
		return origin(f.info.ObjectOf(fun.Sel)) == f.object && f.sameReceiver(fun)
	}
	return false
}

// origin returns the generic function that obj is an instance of, or obj.
func origin(obj types.Object) types.Object {
	if fn, ok := obj.(*types.Func); ok {
		return fn.Origin()
	}
	return obj
}

func (f *function) sameReceiver(sel *ast.SelectorExpr) bool {
	fn, ok := f.object.(*types.Func)
	if !ok || fn.Signature().Recv() == nil {
		return true
	}
	return objectOf(f.info, sel.X) == fn.Signature().Recv()
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
func (f *function) recursion(l *loop, n *node, call selfCall) *loop {
	numbered, unchanged := f.passesOn(call.args)
	if !unchanged {
		return nil
	}
	r := &loop{f: f, shape: "recursion", pos: call.at.Pos(), end: call.at.End(), tests: l.tests,
		cycle: l.cycle, counters: map[types.Object]bool{}}
	if call.wait != nil {
		call.wait.at = n
		r.waits = append(r.waits, call.wait)
	}
	for _, w := range f.waitsIn(l.cycle) {
		if reach(w.at, func(edge) bool { return true })[n] && w.node.Pos() < call.at.Pos() {
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
func (f *function) passesOn(args []ast.Expr) (numbered *types.Var, unchanged bool) {
	sig, ok := f.object.Type().Underlying().(*types.Signature)
	if !ok {
		return nil, false
	}
	params := f.parameters(sig)
	for i, a := range args {
		if i >= len(params) {
			return nil, false
		}
		p := params[i]
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

// parameters returns the variables that the parameters of f are in its body.
func (f *function) parameters(sig *types.Signature) []*types.Var {
	var params []*types.Var
	for _, field := range f.typ.Params.List {
		for _, name := range field.Names {
			if v, ok := f.info.Defs[name].(*types.Var); ok {
				params = append(params, v)
			}
		}
	}
	if len(params) != sig.Params().Len() { // some have no name
		return nil
	}
	return params
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

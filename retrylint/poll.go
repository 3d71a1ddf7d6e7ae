package retrylint

import (
	"go/ast"
	"go/types"
	"regexp"
	"slices"
)

// Names of helpers that call a function until it says that it is done.
var pollName = regexp.MustCompile(`^(Must)?(Poll|Until|ExponentialBackoff|Retry|WaitFor|WaitUntil|Eventually|OnError|Loop)`)

var conflictName = regexp.MustCompile(`Conflict`)

// polls returns the calls in f of helpers such as wait.Poll with a function that
// says "not yet" for whatever error there was, and "done" for none.
func (f *function) polls() []*loop {
	var found []*loop
	shallow(f.body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !pollName.MatchString(calleeName(call)) {
			return true
		}
		for _, a := range call.Args {
			if lit, ok := ast.Unparen(a).(*ast.FuncLit); ok {
				if l := f.poll(call, lit); l != nil {
					found = append(found, l)
				}
			}
		}
		return true
	})
	return found
}

// poll returns the retry that call with lit is, or nil.
func (f *function) poll(call *ast.CallExpr, lit *ast.FuncLit) *loop {
	if !returnsDone(f.info, lit) {
		return nil
	}
	inner := &function{pass: f.pass, info: f.info, pkg: f.pkg, file: f.file, node: lit, typ: lit.Type, body: lit.Body, defs: f.defs}
	g := inner.graph()
	l := &loop{f: inner, shape: "poll", pos: call.Pos(), end: call.End(), tests: map[*node]*test{}, counters: map[types.Object]bool{},
		cycle: &cycle{head: g.nodes[0], nodes: set{}}}
	for _, n := range g.nodes {
		l.cycle.nodes[n] = true
		if n.cond != nil {
			l.tests[n] = inner.classify(n)
		}
	}
	if slices.ContainsFunc(l.sortedTests(), func(t *test) bool { return t.kind == kindTest && l.names(t.at.cond, conflictName) }) {
		return nil // it writes if nothing has changed in between
	}
	for _, t := range append(l.sortedTests(), l.returnedTests()...) {
		if !l.saysNotYet(t) {
			continue
		}
		l.attempt = t
		if l.calls = l.attempts(t); len(l.calls) > 0 {
			return l
		}
	}
	return nil
}

// saysNotYet reports whether the function that is polled says "not yet" where t fails, or for
// the kind of error that t asks about, and "done" where nothing fails.
func (l *loop) saysNotYet(t *test) bool {
	failed, passed := t.failed(), t.passed()
	switch t.kind {
	case nilTest:
		if len(t.at.succs) == 0 { // return err == nil, nil
			return true
		}
	case kindTest:
		failed, passed = edge{t.at, t.failure()}, edge{t.at, 1 - t.failure()}
		return returnsOnly(failed.to(), nil, "false", "nil") && returnsDoneOrError(passed.to())
	case statusTest:
		failure := l.f.statusFailure(t)
		if failure < 0 {
			return false
		}
		failed, passed = edge{t.at, failure}, edge{t.at, 1 - failure}
	default:
		return false
	}
	return returnsNotYet(failed.to()) && returnsOnly(passed.to(), l.failing, "true", "nil")
}

// returnedTests returns a test for each return of "err == nil, nil".
func (l *loop) returnedTests() []*test {
	var tests []*test
	for n := range l.cycle.nodes {
		for _, s := range n.list {
			r, ok := s.(*ast.ReturnStmt)
			if !ok || len(r.Results) != 2 || !l.f.isNil(r.Results[1]) {
				continue
			}
			if err, ok := l.f.nilIn(r.Results[0]); err != nil && ok == 0 {
				tests = append(tests, &test{at: n, kind: nilTest, err: err, obj: variable(l.f.info, err)})
			}
		}
	}
	slices.SortFunc(tests, func(a, b *test) int { return int(a.err.Pos() - b.err.Pos()) })
	return tests
}

// returnsDone reports whether lit returns (bool, error).
func returnsDone(info *types.Info, lit *ast.FuncLit) bool {
	sig, ok := info.TypeOf(lit).(*types.Signature)
	if !ok || sig.Results().Len() != 2 {
		return false
	}
	return types.Identical(sig.Results().At(0).Type(), types.Typ[types.Bool]) && types.Implements(sig.Results().At(1).Type(), errorType)
}

// returnsOnly reports whether what follows n returns these names and nothing
// else, except behind edges that are blocked.
func returnsOnly(n *node, blocked func(edge) bool, names ...string) bool {
	some := false
	for x := range reach(n, func(e edge) bool { return blocked == nil || !blocked(e) }) {
		for _, s := range x.list {
			r, ok := s.(*ast.ReturnStmt)
			if !ok {
				continue
			}
			if len(r.Results) != len(names) {
				return false
			}
			for i, e := range r.Results {
				if id, ok := e.(*ast.Ident); !ok || id.Name != names[i] {
					return false
				}
			}
			some = true
		}
	}
	return some
}

// returnsNotYet reports whether what follows n returns "false, nil", for some errors at least,
// and otherwise an error.
func returnsNotYet(n *node) bool {
	no, yes, ok := returned(n)
	return ok && no && !yes
}

// returnsDoneOrError reports whether what follows n returns "true, nil" for some ways at least,
// and otherwise an error.
func returnsDoneOrError(n *node) bool {
	no, yes, ok := returned(n)
	return ok && yes && !no
}

// returned reports whether what follows n returns "false, nil", or "true, nil"; ok is false if
// something else is returned that is no error.
func returned(n *node) (no, yes, ok bool) {
	for x := range reach(n, func(edge) bool { return true }) {
		for _, s := range x.list {
			r, isReturn := s.(*ast.ReturnStmt)
			if !isReturn {
				continue
			}
			if len(r.Results) != 2 {
				return false, false, false
			}
			done, _ := r.Results[0].(*ast.Ident)
			err, _ := r.Results[1].(*ast.Ident)
			switch {
			case err == nil || err.Name != "nil":
			case done != nil && done.Name == "false":
				no = true
			case done != nil && done.Name == "true":
				yes = true
			default:
				return false, false, false
			}
		}
	}
	return no, yes, true
}

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
		again, rest := returned(failed.to(), nil), returned(passed.to(), nil)
		return again == answers{no: true} && rest.yes && !rest.no && !rest.other
	case statusTest:
		failure := l.f.statusFailure(t)
		if failure < 0 {
			return false
		}
		failed, passed = edge{t.at, failure}, edge{t.at, 1 - failure}
	default:
		return false
	}
	again := returned(failed.to(), nil)
	return again.no && !again.yes && !again.other && returned(passed.to(), l.failing) == answers{yes: true}
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

// answers is what a polled function may return: "false, nil", "true, nil", an error, or what
// cannot be seen.
type answers struct{ no, yes, fails, other bool }

// returned returns what the returns that follow n say, except behind edges that are blocked.
func returned(n *node, blocked func(edge) bool) (all answers) {
	for x := range reach(n, func(e edge) bool { return blocked == nil || !blocked(e) }) {
		for _, s := range x.list {
			r, ok := s.(*ast.ReturnStmt)
			if !ok {
				continue
			}
			if len(r.Results) != 2 {
				all.other = true
				continue
			}
			done, _ := r.Results[0].(*ast.Ident)
			err, _ := r.Results[1].(*ast.Ident)
			switch {
			case err == nil || err.Name != "nil":
				all.fails = true
			case done != nil && done.Name == "false":
				all.no = true
			case done != nil && done.Name == "true":
				all.yes = true
			default:
				all.other = true
			}
		}
	}
	return all
}

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
	for _, t := range l.sortedTests() {
		if t.kind != nilTest || !returnsNotYet(t.failed().to()) || !returnsOnly(t.passed().to(), l.failing, "true", "nil") {
			continue
		}
		if slices.ContainsFunc(l.sortedTests(), func(t *test) bool { return t.kind == kindTest && l.names(t.at.cond, conflictName) }) {
			continue // it writes if nothing has changed in between
		}
		l.attempt = t
		if l.calls = l.attempts(t); len(l.calls) > 0 {
			return l
		}
	}
	return nil
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
	some := false
	for x := range reach(n, func(edge) bool { return true }) {
		for _, s := range x.list {
			r, ok := s.(*ast.ReturnStmt)
			if !ok {
				continue
			}
			if len(r.Results) != 2 {
				return false
			}
			done, _ := r.Results[0].(*ast.Ident)
			err, _ := r.Results[1].(*ast.Ident)
			if err == nil || err.Name != "nil" {
				continue
			}
			if done == nil || done.Name != "false" {
				return false
			}
			some = true
		}
	}
	return some
}

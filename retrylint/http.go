package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// httpFaults reports what goes wrong with requests and responses.
func (l *loop) httpFaults(at reportFunc) {
	if l.stmt == nil || !l.http() {
		return
	}
	l.requestFaults(at)
	l.responseFaults(at)
}

// requestFaults reports headers that are added again, and bodies sent again.
func (l *loop) requestFaults(at reportFunc) {
	info := l.f.info
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			shallow(x, func(x ast.Node) bool {
				call, ok := x.(*ast.CallExpr)
				if !ok {
					return true
				}
				if isFunc(info, call, "net/http", "Add") {
					if req := requestOf(info, call); req != nil && !l.setInside(req) {
						at("header-add", call.Pos(), call.End(), "the header is added once more in every round: use Set, or add it before the loop")
					}
				}
				if body := l.spent(call); body != nil {
					at("body-reuse", body.Pos(), body.End(), "the first attempt reads this body, and the next sends nothing of it: make the request in the loop, or take its body from GetBody")
				}
				return true
			})
		}
	}
}

// requestOf returns the variable r of a call r.Header.Add.
func requestOf(info *types.Info, call *ast.CallExpr) types.Object {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	header, ok := ast.Unparen(sel.X).(*ast.SelectorExpr)
	if !ok || header.Sel.Name != "Header" || !isRequest(info.TypeOf(header.X)) {
		return nil
	}
	return objectOf(info, header.X)
}

// setInside reports whether the loop sets obj.
func (l *loop) setInside(obj types.Object) bool {
	for _, d := range l.f.defs[obj] {
		if l.contains(d.at) {
			return true
		}
	}
	return false
}

// spent returns the argument of call by which it sends a body that the round
// before has read, or nil.
func (l *loop) spent(call *ast.CallExpr) ast.Expr {
	info := l.f.info
	if !isFunc(info, call, "net/http", "Do", "RoundTrip", "NewRequest", "NewRequestWithContext", "Post") {
		return nil
	}
	for _, a := range call.Args {
		obj := objectOf(info, a)
		if obj == nil || l.setInside(obj) || obj.Parent() == nil || l.rewound(obj) {
			continue
		}
		if isRequest(obj.Type()) && l.hasBody(obj) || isReader(obj.Type()) {
			return a
		}
	}
	return nil
}

// isReader reports whether t is an io.Reader or one of the usual ones.
func isReader(t types.Type) bool {
	return isNamed(t, "io", "Reader") || isNamed(t, "bytes", "Reader") || isNamed(t, "bytes", "Buffer") || isNamed(t, "strings", "Reader")
}

// hasBody reports whether the request was made in this function, with a body.
func (l *loop) hasBody(req types.Object) bool {
	for _, d := range l.f.defs[req] {
		call, ok := d.rhs.(*ast.CallExpr)
		if !ok || !isFunc(l.f.info, call, "net/http", "NewRequest", "NewRequestWithContext") {
			return false
		}
		body := call.Args[len(call.Args)-1]
		if sel, ok := body.(*ast.SelectorExpr); l.f.isNil(body) || ok && sel.Sel.Name == "NoBody" {
			return false
		}
	}
	return len(l.f.defs[req]) > 0
}

// rewound reports whether the loop sets the body of obj again, or may.
func (l *loop) rewound(obj types.Object) bool {
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			if mentions(x, func(x ast.Node) bool {
				switch x := x.(type) {
				case *ast.SelectorExpr:
					return (x.Sel.Name == "GetBody" || x.Sel.Name == "Seek" || x.Sel.Name == "Reset" || x.Sel.Name == "Write") && uses(l.f.info, x.X, obj)
				case *ast.AssignStmt:
					for _, lhs := range x.Lhs {
						if sel, ok := lhs.(*ast.SelectorExpr); ok && sel.Sel.Name == "Body" && uses(l.f.info, sel.X, obj) {
							return true
						}
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

// responseFaults reports responses that are dropped open, and a Retry-After that
// is not read.
func (l *loop) responseFaults(at reportFunc) {
	for _, resp := range l.responses() {
		impossible := func(e edge) bool { return l.impossible(resp, e) }
		again := func(e edge) bool { return !impossible(e) && l.back(e, impossible) }
		var retried []*test
		for _, t := range l.sortedTests() {
			about := t.kind == statusTest && (uses(l.f.info, t.at.cond, resp) || t.at.tag != nil && uses(l.f.info, t.at.tag, resp))
			if about && (again(edge{t.at, 0}) || again(edge{t.at, 1})) {
				retried = append(retried, t)
			}
		}
		if i := slices.IndexFunc(retried, func(t *test) bool { return l.asksToWait(t, again) }); i >= 0 && (!l.readsRetryAfter(resp) || l.sleepsConstant()) {
			cond := retried[i].at.cond
			at("retry-after", cond.Pos(), cond.End(), "a status is retried, and the server's Retry-After is not applied: wait as long as it asks")
		}
		if len(retried) > 0 && l.plain() && l.leftOpen(resp, retried[0]) {
			cond := retried[0].at.cond
			at("body-close", cond.Pos(), cond.End(), "the response is not closed before the next attempt: close its body on every way round")
		}
		l.deferredClose(resp, at)
	}
}

// asksToWait reports whether a status by which t leads to the next round may come with a
// Retry-After: 413, 429 or 503 (RFC 9110, sections 10.2.3 and 15.5.14, RFC 6585), or one of many.
func (l *loop) asksToWait(t *test, again func(edge) bool) bool {
	code, op := l.f.statusOf(t)
	equal := 0
	switch {
	case code == 0 || op != token.EQL && op != token.NEQ:
		return true
	case op == token.NEQ:
		equal = 1
	}
	return code == 413 || code == 429 || code == 503 || again(edge{t.at, 1 - equal}) && !again(edge{t.at, equal})
}

// impossible reports whether e is taken for another status than one, after a test of resp has
// ended the loop for any but that one.
func (l *loop) impossible(resp types.Object, e edge) bool {
	t := l.tests[e.from]
	if t == nil || t.kind != statusTest || e.succ != l.f.statusFailure(t) {
		return false
	}
	code, op := l.f.statusOf(t)
	if op != token.EQL && op != token.NEQ {
		return false
	}
	for n, other := range l.tests {
		if n == e.from || other.kind != statusTest || !uses(l.f.info, n.cond, resp) {
			continue
		}
		same, op := l.f.statusOf(other)
		if failure := l.f.statusFailure(other); same != code || op != token.EQL && op != token.NEQ || failure < 0 || l.cycle.nodes[n.succs[failure]] {
			continue
		}
		if !reach(l.cycle.head, func(e edge) bool { return l.cycle.nodes[e.to()] && e.from != n })[t.at] {
			return true
		}
	}
	return false
}

// sleepsConstant reports whether each wait of the loop is for a constant time,
// whatever the server says.
func (l *loop) sleepsConstant() bool {
	for _, w := range l.waits {
		if w.delay == nil || l.f.info.Types[w.delay].Value == nil {
			return false
		}
	}
	return len(l.waits) > 0
}

// leftOpen reports whether t, which tests the status of resp, leads to the next round, and
// nothing in the loop closes resp or gives it to a function that may: where something does,
// a way around it may still be one without a response.
func (l *loop) leftOpen(resp types.Object, t *test) bool {
	for n := range l.cycle.nodes {
		if slices.ContainsFunc(n.list, func(x ast.Node) bool { return l.handsOn(x, resp, "Close") }) {
			return false // deferredClose reports a deferred one
		}
	}
	for i := range t.at.succs {
		if l.back(edge{t.at, i}, nil) && l.f.statusFailure(t) != 1-i {
			return true
		}
	}
	return false
}

// plain reports whether the attempts are made by net/http itself, which leaves
// the closing to its caller.
func (l *loop) plain() bool {
	for _, call := range l.calls {
		if pkgOf(l.f.info, call) != "net/http" {
			return false
		}
	}
	return true
}

// responses returns the variables of the loop that hold a response.
func (l *loop) responses() []types.Object {
	var all []types.Object
	for obj, defs := range l.f.defs {
		if !isResponse(obj.Type()) {
			continue
		}
		for _, d := range defs {
			if call, ok := d.rhs.(*ast.CallExpr); ok && l.isAttempt(call) {
				all = append(all, obj)
				break
			}
		}
	}
	return all
}

// readsRetryAfter reports whether the function speaks of Retry-After, or gives
// the response to something that may.
func (l *loop) readsRetryAfter(resp types.Object) bool {
	return l.handsOn(l.stmt, resp, "") || mentions(l.f.body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			return strings.Contains(strings.ToLower(n.Value), "retry-after")
		case *ast.Ident:
			return hasWord(n.Name, "retryafter")
		}
		return false
	})
}

// handsOn reports whether x calls a method of this name on resp or its Body, or
// gives either, or the header, to a function.
func (l *loop) handsOn(x ast.Node, resp types.Object, method string) bool {
	info := l.f.info
	return mentions(x, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return false
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && method != "" && sel.Sel.Name == method && uses(info, sel.X, resp) {
			return true
		}
		if strings.HasPrefix(pkgOf(info, call), "io") || pkgOf(info, call) == "fmt" || pkgOf(info, call) == "encoding/json" {
			return false
		}
		for _, a := range call.Args {
			if objectOf(info, a) == resp {
				return true
			}
			if sel, ok := ast.Unparen(a).(*ast.SelectorExpr); ok && objectOf(info, sel.X) == resp && (sel.Sel.Name == "Header" || sel.Sel.Name == "Body") {
				return true
			}
		}
		return false
	})
}

// deferredClose reports a deferred Close after which the loop goes round.
func (l *loop) deferredClose(resp types.Object, at reportFunc) {
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			d, ok := x.(*ast.DeferStmt)
			if !ok || calleeName(d.Call) != "Close" || !uses(l.f.info, d.Call, resp) {
				continue
			}
			for i := range n.succs {
				if l.back(edge{n, i}, nil) {
					at("body-close", d.Pos(), d.End(), "a deferred Close waits for the function's end, and each attempt leaves a response open: close it in the loop")
					break
				}
			}
		}
	}
}

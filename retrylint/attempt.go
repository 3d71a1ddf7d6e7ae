package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
)

// attempts returns the calls in the loop whose failure t tests.
func (l *loop) attempts(t *test) []*ast.CallExpr {
	var calls []*ast.CallExpr
	seen := map[types.Object]bool{}
	var from func(obj types.Object)
	var add func(e ast.Expr)
	add = func(e ast.Expr) {
		switch e := ast.Unparen(e).(type) {
		case *ast.CallExpr:
			if l.canFail(e) {
				calls = append(calls, e)
				return
			}
			for _, a := range e.Args { // a call that wraps the error of an attempt
				if isError(l.f.info, a) {
					add(a)
				}
			}
		case *ast.TypeAssertExpr:
			from(variable(l.f.info, e.X))
		case *ast.SelectorExpr:
			from(variable(l.f.info, e.X))
		case *ast.Ident:
			from(variable(l.f.info, e))
		}
	}
	from = func(obj types.Object) {
		if obj == nil || seen[obj] {
			return
		}
		seen[obj] = true
		for _, d := range l.f.defs[obj] {
			if d.rhs != nil && l.contains(d.at) {
				add(d.rhs)
			}
		}
	}
	if t.kind == nilTest {
		add(t.err)
		return calls
	}
	for _, e := range t.at.about() {
		shallow(e, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				if v, ok := l.f.info.ObjectOf(id).(*types.Var); ok && !v.IsField() {
					from(v)
				}
			}
			return true
		})
	}
	return calls
}

// Packages whose functions fail the same way each time, or fail nothing.
var purePackages = map[string]bool{
	"context": true, "errors": true, "fmt": true, "strconv": true, "strings": true, "regexp": true,
	"encoding/json": true, "encoding/xml": true, "encoding/hex": true, "encoding/base64": true,
	"net/url": true, "path": true, "path/filepath": true, "html/template": true, "text/template": true,
	"go/parser": true, "math/big": true, "encoding/binary": true, "bytes": true, "bufio": true,
	"github.com/pkg/errors": true,
}

// What went wrong before; the wait for a limiter, a process, a group; what is
// meant to be spun on.
var notTried = regexp.MustCompile(`^(Err|Wait)$|(?i)compareandswap|Cas$|CAS$`)

var constructorName = regexp.MustCompile(`^New(Request|RequestWithContext)$|^(Wrap|Wrapf|Errorf|WithMessage|Join)$|^Parse`)

// canFail reports whether call may fail now and succeed later.
func (l *loop) canFail(call *ast.CallExpr) bool {
	if tv, ok := l.f.info.Types[call.Fun]; ok && (tv.IsType() || tv.IsBuiltin()) {
		return false
	}
	if purePackages[pkgOf(l.f.info, call)] || constructorName.MatchString(calleeName(call)) {
		return false
	}
	if l.f.isContextError(call, 0) || l.f.waitCall(call) != nil {
		return false
	}
	if notTried.MatchString(calleeName(call)) && len(call.Args) < 2 {
		return false
	}
	for _, a := range call.Args {
		if isError(l.f.info, a) {
			return false // it wraps or unwraps what went wrong before
		}
	}
	return true
}

// another reports whether call tries something else in each round: the next
// address, the next page, what a channel or a person brings.
func (l *loop) another(call *ast.CallExpr) bool {
	seen := map[types.Object]bool{}
	path := map[types.Object]bool{} // those whose value is being traced
	var depends func(n ast.Node) bool
	depends = func(n ast.Node) bool {
		return mentions(n, func(x ast.Node) bool {
			switch x := x.(type) {
			case *ast.UnaryExpr:
				return x.Op == token.ARROW && !isTimeChan(l.f.info.TypeOf(x.X))
			case *ast.CallExpr:
				return !l.paced && l.draws(x)
			case *ast.IndexExpr:
				return l.mentionsSet(x.Index)
			case *ast.Ident:
				obj, ok := l.f.info.ObjectOf(x).(*types.Var)
				if ok && path[obj] {
					return true // its value comes from that of the round before
				}
				if !ok || obj.IsField() || seen[obj] || l.same(obj) {
					return false
				}
				seen[obj], path[obj] = true, true
				defer delete(path, obj)
				if l.counters[obj] {
					return true
				}
				for _, d := range l.f.defs[obj] {
					if d.rhs != nil && l.contains(d.at) && depends(d.rhs) {
						return true
					}
				}
				for _, d := range l.f.fields[obj] {
					if !l.contains(d.at) {
						continue
					}
					if d.field == nil && depends(d.rhs) || d.field != nil && uses(l.f.info, d.rhs, d.field) {
						return true
					}
					delete(path, obj) // another field of it is no progress
					if d.field != nil && depends(d.rhs) {
						return true
					}
					path[obj] = true
				}
			}
			return false
		})
	}
	if _, ok := ast.Unparen(call.Fun).(*ast.FuncLit); ok || l.givenNumber(call) {
		return false
	}
	return depends(call)
}

// mentionsSet reports whether n speaks of a variable or field that the loop sets.
func (l *loop) mentionsSet(n ast.Node) bool {
	return mentions(n, func(x ast.Node) bool {
		id, ok := x.(*ast.Ident)
		if !ok {
			return false
		}
		v, ok := l.f.info.ObjectOf(id).(*types.Var)
		return ok && (l.counters[v] || l.setInside(v))
	})
}

// givenNumber reports whether call hands a function that came as a value nothing of the
// loop but the number of the round.
func (l *loop) givenNumber(call *ast.CallExpr) bool {
	v := variable(l.f.info, call.Fun)
	return v != nil && len(call.Args) == 1 && l.counters[objectOf(l.f.info, call.Args[0])]
}

// same reports whether obj, though it changes from round to round, does not make
// what is tried another: a request that is built again, the number of the attempt.
func (l *loop) same(obj *types.Var) bool {
	t := obj.Type()
	if isContext(t) || isRequest(t) || isResponse(t) || isDuration(t) || isErrorVar(obj) || isNamed(t, "time", "Time") {
		return true
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsInteger != 0 && l.counters[obj] && retryWord.MatchString(obj.Name())
}

var drawName = regexp.MustCompile(`(?i)rand|uuid|unique|next|prompt|scan|readline|passw|passphrase|stdin|userinput|^(?-i:[aA]sk)(?-i:[A-Z]|$)`)

// draws reports whether call brings something new each time.
func (l *loop) draws(call *ast.CallExpr) bool {
	pkg := pkgOf(l.f.info, call)
	return drawName.MatchString(calleeName(call)) || pkg == "math/rand" || pkg == "math/rand/v2" || pkg == "crypto/rand" || pkg == "bufio"
}

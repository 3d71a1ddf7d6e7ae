package retrylint

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
)

const retryPath = "github.com/retryutils/retry"

// importsRetry reports whether file imports the library.
func importsRetry(file *ast.File) bool {
	for _, spec := range file.Imports {
		if path, err := strconv.Unquote(spec.Path.Value); err == nil && path == retryPath {
			return true
		}
	}
	return false
}

// usage checks how a file uses the library.
type usage struct {
	r    *reporter
	info *types.Info
	file *ast.File
	test bool // of a test file only the clocks are checked: the rest is what tests try
	fn   *ast.FuncDecl
	defs map[types.Object][]def
}

func newUsage(r *reporter, file *ast.File) *usage {
	return &usage{r: r, info: r.pass.TypesInfo, file: file, test: isTest(r.pass, file)}
}

func (u *usage) at(c string, n ast.Node, format string, args ...any) {
	u.r.add(finding{category: c, pos: n.Pos(), end: n.End(), message: fmt.Sprintf(format, args...)})
}

func (u *usage) check() {
	u.defs = collectDefs(u.info, u.file)
	for _, decl := range u.file.Decls {
		u.fn, _ = decl.(*ast.FuncDecl)
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if !u.test {
					u.discarded(n)
				}
			case *ast.CallExpr:
				if !u.test {
					u.call(n)
				}
			case *ast.CompositeLit:
				if isNamed(u.info.TypeOf(n), retryPath, "Config") {
					u.clocks(n)
				}
			}
			return true
		})
	}
}

// is reports whether call calls one of the library's functions or methods.
func (u *usage) is(call *ast.CallExpr, names ...string) bool {
	return isFunc(u.info, call, retryPath, names...)
}

// discarded reports a constructor's error that goes to the blank identifier.
func (u *usage) discarded(as *ast.AssignStmt) {
	if len(as.Rhs) != 1 || len(as.Lhs) != 2 {
		return
	}
	call, ok := ast.Unparen(as.Rhs[0]).(*ast.CallExpr)
	if !ok || !u.is(call, "NewCircuitBreaker", "NewBudget", "NewRetryableClient", "NewTransport", "ConfigFromEnv", "WithEnv") {
		return
	}
	if id, ok := as.Lhs[1].(*ast.Ident); ok && id.Name == "_" {
		u.at("unchecked", id, "the error of %s is discarded: with a wrong configuration the other result is of no use", calleeName(call))
	}
}

func (u *usage) call(call *ast.CallExpr) {
	switch {
	case u.is(call, "NewRetryableClient"):
		u.timeLimit(call)
	case u.isLoop(call):
		u.nested(call)
		u.perCall(call)
	}
}

// isLoop reports whether call is one to Do or Run of the package, not to a method
// of these names.
func (u *usage) isLoop(call *ast.CallExpr) bool {
	f, ok := callee(u.info, call).(*types.Func)
	return ok && u.is(call, "Do", "Run") && f.Signature().Recv() == nil
}

// nested reports a call of the library that retries within the function that
// call retries.
func (u *usage) nested(call *ast.CallExpr) {
	if len(call.Args) != 3 {
		return
	}
	lit, ok := ast.Unparen(call.Args[2]).(*ast.FuncLit)
	if !ok {
		return
	}
	shallow(lit.Body, func(n ast.Node) bool {
		inner, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := callee(u.info, inner).(*types.Func)
		if !ok || f.Pkg() == nil || f.Pkg().Path() != retryPath {
			return true
		}
		recv := f.Signature().Recv()
		method := recv != nil && isNamed(recv.Type(), retryPath, "RetryableClient") && u.is(inner, "Do", "Get", "Head", "Post", "PostForm")
		if u.isLoop(inner) || method || u.is(inner, "Fetch", "GetJSON", "PostJSON") {
			u.at("nested", inner, "%s retries within a %s that retries: the attempts multiply", calleeName(inner), calleeName(call))
		}
		return true
	})
}

// perCall reports a breaker, budget or gate that is made by the function that
// makes the call: state that ends with it.
func (u *usage) perCall(call *ast.CallExpr) {
	cfg := u.literal(arg(call, 1))
	if cfg == nil || u.fn == nil || u.fn.Recv == nil && (u.fn.Name.Name == "main" || hasWord(u.fn.Name.Name, "test", "benchmark", "example", "fuzz")) {
		return
	}
	for _, name := range []string{"Breaker", "Budget", "Gate"} {
		made := u.made(field(cfg, name), "NewCircuitBreaker", "NewBudget", "NewGate")
		if made != nil && u.sameBlock(made, call) {
			u.at("per-call", field(cfg, name), "this %s is made anew for each call: what it learns is lost", map[string]string{"Breaker": "breaker", "Budget": "budget", "Gate": "gate"}[name])
		}
	}
}

// sameBlock reports whether made and call are executed equally often: no loop
// and no function literal is around one and not the other.
func (u *usage) sameBlock(made, call ast.Node) bool {
	around := func(n ast.Node) ast.Node {
		var inner ast.Node = u.fn
		ast.Inspect(u.fn, func(x ast.Node) bool {
			if x == nil || x.Pos() > n.Pos() || x.End() < n.End() {
				return false
			}
			switch x.(type) {
			case *ast.FuncLit, *ast.ForStmt, *ast.RangeStmt:
				inner = x
			}
			return true
		})
		return inner
	}
	return u.fn.Pos() <= made.Pos() && made.End() <= u.fn.End() && around(made) == around(call)
}

// timeLimit reports a client without one.
func (u *usage) timeLimit(call *ast.CallExpr) {
	if len(call.Args) < 2 {
		return
	}
	cfg := u.literal(call.Args[1])
	if cfg == nil || field(cfg, "AttemptTimeout") != nil || field(cfg, "MaxElapsed") != nil {
		return
	}
	base := ast.Unparen(call.Args[0])
	if sel, ok := base.(*ast.SelectorExpr); ok {
		v := u.info.ObjectOf(sel.Sel)
		if v == nil || v.Pkg() == nil || v.Pkg().Path() != "net/http" || v.Name() != "DefaultClient" {
			return
		}
	} else if lit := u.literal(base); lit == nil || !isNamed(u.info.TypeOf(lit), "net/http", "Client") || field(lit, "Timeout") != nil || field(lit, "Transport") != nil || u.fieldSet(base, "Timeout", "Transport") {
		return
	}
	u.at("no-timeout", call.Args[0], "this client has no time limit: an attempt that hangs is never retried; set its Timeout or Config.AttemptTimeout, or pass nil")
}

// fieldSet reports whether one of these fields of the variable e is assigned to.
func (u *usage) fieldSet(e ast.Expr, names ...string) bool {
	obj := objectOf(u.info, e)
	return obj != nil && mentions(u.file, func(n ast.Node) bool {
		as, ok := n.(*ast.AssignStmt)
		if !ok {
			return false
		}
		for _, l := range as.Lhs {
			if sel, ok := l.(*ast.SelectorExpr); ok && objectOf(u.info, sel.X) == obj {
				for _, name := range names {
					if sel.Sel.Name == name {
						return true
					}
				}
			}
		}
		return false
	})
}

// clocks reports a breaker or gate on another clock than its Config.
func (u *usage) clocks(cfg *ast.CompositeLit) {
	clock := field(cfg, "Clock")
	if clock == nil {
		return
	}
	for _, name := range []string{"Breaker", "Gate"} {
		value := field(cfg, name)
		made, ok := u.made(value, "NewCircuitBreaker", "NewGate").(*ast.CallExpr)
		if !ok {
			continue
		}
		other := arg(made, 0)
		if calleeName(made) == "NewCircuitBreaker" {
			lit := u.literal(other)
			if lit == nil || u.fieldSet(other, "Clock") {
				continue
			}
			other = field(lit, "Clock")
		}
		if other == nil || isNilIdent(other) || u.realClock(other) != u.realClock(clock) {
			u.at("clock", value, "its clock is not the one of this Config")
		}
	}
}

func isNilIdent(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "nil"
}

// realClock reports whether e is clockwork's real clock.
func (u *usage) realClock(e ast.Expr) bool {
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok {
		if defs := u.defs[objectOf(u.info, e)]; len(defs) == 1 && defs[0].rhs != nil {
			call, ok = ast.Unparen(defs[0].rhs).(*ast.CallExpr)
		}
	}
	return ok && calleeName(call) == "NewRealClock"
}

// made returns the call of one of these constructors that made e, if that is the
// only thing that e, a variable or the call itself, can be.
func (u *usage) made(e ast.Expr, names ...string) ast.Node {
	if e == nil {
		return nil
	}
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok {
		defs := u.defs[objectOf(u.info, e)]
		if len(defs) != 1 || defs[0].rhs == nil {
			return nil
		}
		call, ok = ast.Unparen(defs[0].rhs).(*ast.CallExpr)
	}
	if ok && u.is(call, names...) {
		return call
	}
	return nil
}

// literal returns the composite literal that e is, points to, or is a variable
// for and was set to once.
func (u *usage) literal(e ast.Expr) *ast.CompositeLit {
	for range 3 {
		switch x := ast.Unparen(e).(type) {
		case *ast.CompositeLit:
			return x
		case *ast.UnaryExpr:
			if x.Op != token.AND {
				return nil
			}
			e = x.X
		case *ast.Ident:
			defs := u.defs[u.info.ObjectOf(x)]
			if len(defs) != 1 || defs[0].rhs == nil {
				return nil
			}
			e = defs[0].rhs
		default:
			return nil
		}
	}
	return nil
}

// field returns the value of a field in lit, or nil.
func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if id, ok := kv.Key.(*ast.Ident); ok && id.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

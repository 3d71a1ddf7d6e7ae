package retrylint

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
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
	u.r.add(Finding{Category: c, Pos: n.Pos(), End: n.End(), Message: fmt.Sprintf(format, args...)})
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
					if !u.test {
						u.retryIf(n)
					}
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
		u.clientPerCall(call)
	case u.isLoop(call):
		u.nested(call)
		u.perCall(call)
		u.outerContext(call, arg(call, 0), arg(call, 2))
	case u.is(call, "Wrap"):
		u.outerContext(call, nil, arg(call, 1))
	case u.is(call, "Do") && u.method(call, "CircuitBreaker"):
		u.breakerPerCall(call)
		u.outerContext(call, arg(call, 0), arg(call, 1))
	case u.is(call, "Allow") && u.method(call, "CircuitBreaker"):
		u.breakerPerCall(call)
	case u.is(call, "Fetch"):
		u.usedBody(arg(call, 2))
	}
}

// method reports whether call is one to a method of this type of the library.
func (u *usage) method(call *ast.CallExpr, name string) bool {
	f, ok := callee(u.info, call).(*types.Func)
	return ok && f.Signature().Recv() != nil && isNamed(f.Signature().Recv().Type(), retryPath, name)
}

// isLoop reports whether call is one to Do or Run of the package, not to a method
// of these names.
func (u *usage) isLoop(call *ast.CallExpr) bool {
	f, ok := callee(u.info, call).(*types.Func)
	return ok && u.is(call, "Do", "Run") && f.Signature().Recv() == nil
}

// retries reports whether f is a function or method of the library that retries.
func retries(f *types.Func) bool {
	if f.Pkg() == nil || f.Pkg().Path() != retryPath {
		return false
	}
	recv := f.Signature().Recv()
	switch f.Name() {
	case "Do":
		return recv == nil || isNamed(recv.Type(), retryPath, "RetryableClient")
	case "Run", "Fetch", "GetJSON", "PostJSON":
		return recv == nil
	case "Get", "Head", "Post", "PostForm":
		return recv != nil && isNamed(recv.Type(), retryPath, "RetryableClient")
	}
	return false
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
		if f, ok := callee(u.info, inner).(*types.Func); ok && retries(f) {
			advice := "move it out of the "
			if len(lit.Body.List) == 1 {
				advice = "remove the "
			}
			u.at("nested", inner, "%s retries by itself, and the %s around it repeats nothing that it gave up on: %s%[2]s", calleeName(inner), calleeName(call), advice)
		}
		return true
	})
}

// perCall reports a breaker, budget or gate that is made by the function that
// makes the call: state that ends with it.
func (u *usage) perCall(call *ast.CallExpr) {
	cfg := u.literal(arg(call, 1))
	if cfg == nil || u.once() {
		return
	}
	for _, name := range []string{"Breaker", "Budget", "Gate"} {
		made := u.made(field(cfg, name), "NewCircuitBreaker", "NewBudget", "NewGate")
		if made != nil && u.sameBlock(made, call) {
			u.at("per-call", field(cfg, name), "this %s is made for each call, and what it learns is lost: make it once, beside what it guards", map[string]string{"Breaker": "breaker", "Budget": "budget", "Gate": "gate"}[name])
		}
	}
}

// once reports whether the function in work is one that a process calls once.
func (u *usage) once() bool {
	return u.fn == nil || u.fn.Recv == nil && (u.fn.Name.Name == "main" || u.fn.Name.Name == "init" || hasWord(u.fn.Name.Name, "test", "benchmark", "example", "fuzz"))
}

// breakerPerCall reports a breaker that is made by the function that calls it.
func (u *usage) breakerPerCall(call *ast.CallExpr) {
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok || u.once() {
		return
	}
	if made := u.made(sel.X, "NewCircuitBreaker"); made != nil && u.sameBlock(made, call) && u.inPackage() {
		u.at("per-call", sel.X, "this breaker is made for each call, and what it learns is lost: make it once, beside what it guards")
	}
}

// clientPerCall reports a client that is made, used for requests and dropped by
// one function, or by each round of a loop.
func (u *usage) clientPerCall(call *ast.CallExpr) {
	if u.once() {
		return
	}
	var client types.Object
	for obj, defs := range u.defs {
		if len(defs) == 1 && defs[0].rhs != nil && ast.Unparen(defs[0].rhs) == call && defs[0].index == 0 {
			client = obj
		}
	}
	if client == nil || client.Parent() == client.Pkg().Scope() {
		return
	}
	used, escapes := false, false
	known := map[*ast.Ident]bool{} // uses that keep nothing
	mentions(u.fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && u.info.ObjectOf(id) == client {
				if f, ok := u.info.ObjectOf(n.Sel).(*types.Func); ok && retries(f) {
					known[id], used = true, true
				}
			}
		case *ast.CallExpr:
			if f, ok := callee(u.info, n).(*types.Func); ok && retries(f) {
				for _, a := range n.Args {
					if id, ok := ast.Unparen(a).(*ast.Ident); ok && u.info.ObjectOf(id) == client {
						known[id], used = true, true
						if !u.sameBlock(call, n) {
							escapes = true // one client for the calls of a loop or a literal
						}
					}
				}
			}
			if sel, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr); ok && objectOf(u.info, sel.X) == client && !u.sameBlock(call, n) {
				escapes = true
			}
		case *ast.Ident:
			if u.info.Uses[n] == client && !known[n] {
				escapes = true
			}
		}
		return false
	})
	if used && !escapes && u.inPackage() {
		u.at("per-call", call, "this client is made for each call, and its breakers, gates and connections are lost: make it once, and share it")
	}
}

// inPackage reports whether the function in work may be called often: it is a
// handler or a method, or exported by a package that is no program.
func (u *usage) inPackage() bool {
	if u.fn.Recv != nil {
		return !onceName.MatchString(u.fn.Name.Name)
	}
	for _, field := range u.fn.Type.Params.List {
		if isRequest(u.info.TypeOf(field.Type)) {
			return true
		}
	}
	return u.r.pass.Pkg.Name() != "main" && !onceName.MatchString(u.fn.Name.Name)
}

// Names of functions that a process calls once.
var onceName = regexp.MustCompile(`^(?i:new|init|start|open|connect|run|setup|main|serve|listen|make|build|load|must)`)

// outerContext reports a call in the function literal fn, which call retries, that
// is given the context of the function around instead of the attempt's.
func (u *usage) outerContext(call *ast.CallExpr, ctx, fn ast.Expr) {
	lit, ok := ast.Unparen(fn).(*ast.FuncLit)
	if !ok || len(lit.Type.Params.List) == 0 {
		return
	}
	outer := objectOf(u.info, ctx)
	ast.Inspect(lit.Body, func(n ast.Node) bool {
		inner, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if pkgOf(u.info, inner) == "context" && calleeName(inner) == "WithoutCancel" || hasWord(pkgOf(u.info, inner), "log") {
			return false
		}
		for _, a := range inner.Args {
			v, ok := objectOf(u.info, a).(*types.Var)
			if !ok || !isContext(v.Type()) || lit.Pos() <= v.Pos() && v.Pos() < lit.End() {
				continue
			}
			if ctx == nil || v == outer {
				u.at("outer-context", a, "this is not the context of the attempt: AttemptTimeout and RetryCount do not reach %s; use that of the %s's function", types.ExprString(inner.Fun), calleeName(call))
			}
		}
		return true
	})
}

// retryIf reports a RetryIf that retries what it does not name.
func (u *usage) retryIf(cfg *ast.CompositeLit) {
	value := field(cfg, "RetryIf")
	lit, ok := ast.Unparen(value).(*ast.FuncLit)
	if !ok || len(lit.Body.List) == 0 || mentions(lit.Body, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		return ok && (id.Name == "Retryable" || id.Name == "Permanent")
	}) {
		return
	}
	last, ok := lit.Body.List[len(lit.Body.List)-1].(*ast.ReturnStmt)
	if !ok || len(last.Results) != 1 {
		return
	}
	if byDefault(last.Results[0]) {
		u.at("retry-if", value, "this retries every error that it does not name, permanent ones too: begin with retry.Retryable(err)")
	}
}

// byDefault reports whether e, the last result of a RetryIf, is true of an error
// that the function does not name.
func byDefault(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		return e.Name == "true"
	case *ast.UnaryExpr:
		return e.Op == token.NOT
	case *ast.BinaryExpr:
		switch e.Op {
		case token.NEQ:
			return true
		case token.LAND:
			return byDefault(e.X) && byDefault(e.Y)
		case token.LOR:
			return byDefault(e.X) || byDefault(e.Y)
		}
	}
	return false
}

// usedBody reports a decoder for Fetch that lets the response or its body out.
func (u *usage) usedBody(decode ast.Expr) {
	lit, ok := ast.Unparen(decode).(*ast.FuncLit)
	if !ok || len(lit.Type.Params.List) != 1 || len(lit.Type.Params.List[0].Names) != 1 {
		return
	}
	resp := u.info.ObjectOf(lit.Type.Params.List[0].Names[0])
	leaves := func(e ast.Expr) bool {
		e = ast.Unparen(e)
		if call, ok := e.(*ast.CallExpr); ok && len(call.Args) > 0 { // a reader around the body
			if name := calleeName(call); name != "NewReader" && name != "NewScanner" && name != "NewDecoder" && name != "NopCloser" && name != "LimitReader" && name != "TeeReader" {
				return false
			}
			e = ast.Unparen(call.Args[0])
		}
		if sel, ok := e.(*ast.SelectorExpr); ok && sel.Sel.Name == "Body" {
			e = sel.X
		}
		return resp != nil && objectOf(u.info, e) == resp
	}
	shallow(lit.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ReturnStmt:
			if len(n.Results) > 0 && leaves(n.Results[0]) {
				u.at("used-body", n.Results[0], "Fetch closes the body when this function returns: read it here, or use RetryableClient.Do")
			}
		case *ast.AssignStmt:
			for i, lhs := range n.Lhs {
				v := variable(u.info, lhs)
				if v != nil && len(n.Lhs) == len(n.Rhs) && (v.Pos() < lit.Pos() || v.Pos() > lit.End()) && leaves(n.Rhs[i]) {
					u.at("used-body", n.Rhs[i], "Fetch closes the body when this function returns: read it here, or use RetryableClient.Do")
				}
			}
		}
		return true
	})
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

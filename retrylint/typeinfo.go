package retrylint

import (
	"go/ast"
	"go/types"
	"regexp"
	"strings"

	"golang.org/x/tools/go/types/typeutil"
)

var errorType = types.Universe.Lookup("error").Type().Underlying().(*types.Interface)

var errorName = regexp.MustCompile(`^(err|.*Err|.*Error)$`)

// isError reports whether e is an error. Where types are not known, because the
// code does not compile, its name decides.
func isError(info *types.Info, e ast.Expr) bool {
	t := info.TypeOf(e)
	if t == nil || t == types.Typ[types.Invalid] {
		id, ok := e.(*ast.Ident)
		return ok && errorName.MatchString(id.Name)
	}
	if tuple, ok := t.(*types.Tuple); ok && tuple.Len() == 0 {
		return false
	}
	if b, ok := t.Underlying().(*types.Basic); ok && b.Kind() == types.UntypedNil {
		return false
	}
	return isErrorType(t)
}

var errorTypeName = regexp.MustCompile(`(Error|Err|Errno|Problem|Exception|Fault)$|^(error|err|errno|problem|exception)$`)

// isErrorType reports whether t is an error, or by its name a failure: some APIs
// return a pointer to a struct without the method Error.
func isErrorType(t types.Type) bool {
	if types.Implements(t, errorType) {
		return true
	}
	p, ok := types.Unalias(t).(*types.Pointer)
	if !ok {
		return false
	}
	n, ok := types.Unalias(p.Elem()).(*types.Named)
	return ok && errorTypeName.MatchString(n.Obj().Name())
}

// callee returns what call calls, or nil.
func callee(info *types.Info, call *ast.CallExpr) types.Object {
	return typeutil.Callee(info, call)
}

// calleeName returns the last name of the function that call calls.
func calleeName(call *ast.CallExpr) string {
	fun := ast.Unparen(call.Fun)
	switch f := fun.(type) {
	case *ast.IndexExpr:
		fun = f.X
	case *ast.IndexListExpr:
		fun = f.X
	}
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// isFunc reports whether call calls the function of a package, or method of a
// type in it, with one of these names.
func isFunc(info *types.Info, call *ast.CallExpr, pkg string, names ...string) bool {
	f, ok := callee(info, call).(*types.Func)
	if !ok || f.Pkg() == nil || f.Pkg().Path() != pkg {
		return false
	}
	for _, name := range names {
		if f.Name() == name {
			return true
		}
	}
	return false
}

// isNamed reports whether t, or what it points to, is the named type.
func isNamed(t types.Type, pkg, name string) bool {
	if t == nil {
		return false
	}
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == pkg && n.Obj().Name() == name
}

// underlying returns the underlying type of e, nil where the code does not compile.
func underlying(info *types.Info, e ast.Expr) types.Type {
	if t := info.TypeOf(e); t != nil {
		return t.Underlying()
	}
	return nil
}

func isInteger(t types.Type) bool {
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsInteger != 0
}

func isString(t types.Type) bool {
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

func isDuration(t types.Type) bool { return isNamed(t, "time", "Duration") }
func isResponse(t types.Type) bool { return isNamed(t, "net/http", "Response") }
func isRequest(t types.Type) bool  { return isNamed(t, "net/http", "Request") }

// isContext reports whether t is a context: that of the standard library, or one of the same
// name that can be done.
func isContext(t types.Type) bool {
	if isNamed(t, "context", "Context") {
		return true
	}
	if t == nil || !types.IsInterface(t) || lastName(t) != "Context" {
		return false
	}
	done, _, _ := types.LookupFieldOrMethod(t, false, nil, "Done")
	_, ok := done.(*types.Func)
	return ok
}

// isTimeChan reports whether t is a channel of times: a timer's or ticker's.
func isTimeChan(t types.Type) bool {
	if t == nil {
		return false
	}
	c, ok := t.Underlying().(*types.Chan)
	return ok && isNamed(c.Elem(), "time", "Time")
}

// objectOf returns the variable that e names, or nil.
func objectOf(info *types.Info, e ast.Expr) types.Object {
	if id, ok := ast.Unparen(e).(*ast.Ident); ok {
		return info.ObjectOf(id)
	}
	return nil
}

// mentions reports whether n contains a node for which f holds, function
// literals included.
func mentions(n ast.Node, f func(ast.Node) bool) bool {
	found := false
	if n == nil {
		return false
	}
	ast.Inspect(n, func(x ast.Node) bool {
		if x == nil || found {
			return false
		}
		if f(x) {
			found = true
		}
		return !found
	})
	return found
}

// uses reports whether n uses obj.
func uses(info *types.Info, n ast.Node, obj types.Object) bool {
	return obj != nil && mentions(n, func(x ast.Node) bool {
		id, ok := x.(*ast.Ident)
		return ok && info.ObjectOf(id) == obj
	})
}

// pkgOf returns the path of the package that defines what call calls.
func pkgOf(info *types.Info, call *ast.CallExpr) string {
	if f := callee(info, call); f != nil && f.Pkg() != nil {
		return f.Pkg().Path()
	}
	return ""
}

func hasWord(s string, words ...string) bool {
	s = strings.ToLower(s)
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// shallow walks n but not into function literals.
func shallow(n ast.Node, f func(ast.Node) bool) {
	ast.Inspect(n, func(x ast.Node) bool {
		if x == nil {
			return false
		}
		if _, ok := x.(*ast.FuncLit); ok {
			return false
		}
		return f(x)
	})
}

// isErrorVar is isError for a variable.
func isErrorVar(obj types.Object) bool {
	if obj.Type() == nil || obj.Type() == types.Typ[types.Invalid] {
		return errorName.MatchString(obj.Name())
	}
	return isErrorType(obj.Type())
}

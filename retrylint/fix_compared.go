package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
)

// compared reports whether the function compares obj, an error, outside of the loop, or
// asserts its type: the library's error would be another.
func (r *rewrite) compared(obj types.Object) bool {
	found := false
	comparisons(r.info, r.l.f.isNil, r.l.f.body, func(e ast.Expr) {
		found = found || variable(r.info, e) == obj && (e.Pos() < r.l.stmt.Pos() || e.Pos() >= r.l.stmt.End())
	})
	return found
}

// comparisons calls f with each error in n that is compared with another, or whose type
// is asserted.
func comparisons(info *types.Info, isNil func(ast.Expr) bool, n ast.Node, f func(ast.Expr)) {
	note := func(e ast.Expr) {
		if isError(info, e) && !isNil(e) {
			f(ast.Unparen(e))
		}
	}
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && !isNil(n.X) && !isNil(n.Y) {
				note(n.X)
				note(n.Y)
			}
		case *ast.TypeAssertExpr:
			note(n.X)
		case *ast.SwitchStmt:
			if n.Tag != nil {
				note(n.Tag)
			}
		}
		return true
	})
}

// comparesResult reports whether a caller in the package, be it through other functions
// that return errors, compares the error of f: then it must stay the very same. Calls
// are followed by name.
func (f *function) comparesResult() bool {
	name := functionName(f)
	if f.typ.Results == nil || name == "" {
		return false
	}
	p := f.pkg
	if p.compared == nil {
		p.compared = f.collectCompared()
	}
	names := map[string]bool{name: true}
	for grown := true; grown; {
		grown = false
		for obj, decl := range p.bodies {
			about := p.compared[obj.FullName()]
			calls := false
			for n := range names {
				if about["compares "+n] {
					return true
				}
				calls = calls || about["calls "+n]
			}
			if !calls || names[decl.Name.Name] {
				continue
			}
			if results := obj.Signature().Results(); results.Len() > 0 && isErrorType(results.At(results.Len()-1).Type()) {
				names[decl.Name.Name] = true
				grown = true
			}
		}
	}
	return false
}

func functionName(f *function) string {
	for _, d := range f.file.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Pos() <= f.node.Pos() && f.node.End() <= fn.End() {
			return fn.Name.Name
		}
	}
	return ""
}

// collectCompared notes of each function which others it calls, and whose errors it
// compares, itself or in a helper that is given the error.
func (f *function) collectCompared() map[string]map[string]bool {
	p, info := f.pkg, f.info
	helpers := map[types.Object]bool{} // functions that compare an error that they are given
	for obj, decl := range p.bodies {
		comparisons(info, f.isNil, decl.Body, func(e ast.Expr) {
			for v := range obj.Signature().Params().Variables() {
				helpers[obj] = helpers[obj] || variable(info, e) == types.Object(v)
			}
		})
	}
	all := map[string]map[string]bool{}
	for obj, decl := range p.bodies {
		about := map[string]bool{}
		all[obj.FullName()] = about
		defs := collectDefs(info, decl.Body)
		compares := func(e ast.Expr) {
			for _, d := range defs[variable(info, e)] {
				if call, ok := d.rhs.(*ast.CallExpr); ok {
					about["compares "+calleeName(call)] = true
				}
			}
			if call, ok := e.(*ast.CallExpr); ok {
				about["compares "+calleeName(call)] = true
			}
		}
		comparisons(info, f.isNil, decl.Body, compares)
		ast.Inspect(decl.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				about["calls "+calleeName(call)] = true
				if helpers[callee(info, call)] {
					for _, a := range call.Args {
						if isError(info, a) {
							compares(ast.Unparen(a))
						}
					}
				}
			}
			return true
		})
	}
	return all
}

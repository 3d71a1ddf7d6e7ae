package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"

	"golang.org/x/tools/go/analysis"
)

// A function is a declared function or a function literal that is looked at.
type function struct {
	pass   *analysis.Pass
	info   *types.Info
	pkg    *packageInfo
	file   *ast.File
	node   ast.Node // *ast.FuncDecl or *ast.FuncLit
	name   string
	typ    *ast.FuncType
	body   *ast.BlockStmt
	object types.Object // by which it can call itself: a *types.Func, or the variable of a literal
	defs   map[types.Object][]def
	fields map[types.Object][]def        // what is assigned to the fields of a variable
	outs   map[types.Object]types.Object // variables whose address is given to a call, to the error it returns
}

// A def is one place where a variable gets a value.
type def struct {
	at    ast.Node     // the statement
	rhs   ast.Expr     // nil for a mere declaration
	index int          // which result of rhs, if that has several
	field types.Object // of a field: which one
	op    token.Token
}

// varies reports whether the new value of obj comes from its old one.
func (d def) varies(info *types.Info, obj types.Object) bool {
	switch d.op {
	case token.ASSIGN, token.DEFINE:
		return uses(info, d.rhs, obj)
	case token.VAR:
		return false
	}
	return true // ++, --, += and the like
}

// variable returns the variable or field that e names, or nil.
func variable(info *types.Info, e ast.Expr) types.Object {
	if e == nil {
		return nil
	}
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		if v, ok := info.ObjectOf(e).(*types.Var); ok {
			return v
		}
	case *ast.SelectorExpr:
		if v, ok := info.ObjectOf(e.Sel).(*types.Var); ok {
			return v
		}
	}
	return nil
}

// collectDefs notes every assignment in body, function literals included: they
// may be called within a loop.
func collectDefs(info *types.Info, body ast.Node) map[types.Object][]def {
	defs := map[types.Object][]def{}
	put := func(lhs ast.Expr, d def) {
		if v := variable(info, lhs); v != nil {
			defs[v] = append(defs[v], d)
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				if len(n.Rhs) == len(n.Lhs) {
					put(l, def{at: n, rhs: n.Rhs[i], op: n.Tok})
				} else if len(n.Rhs) == 1 {
					put(l, def{at: n, rhs: n.Rhs[0], index: i, op: n.Tok})
				}
			}
		case *ast.IncDecStmt:
			put(n.X, def{at: n, rhs: n.X, op: n.Tok})
		case *ast.ValueSpec:
			for i, name := range n.Names {
				switch {
				case len(n.Values) == len(n.Names):
					put(name, def{at: n, rhs: n.Values[i], op: token.DEFINE})
				case len(n.Values) == 1:
					put(name, def{at: n, rhs: n.Values[0], index: i, op: token.DEFINE})
				default:
					put(name, def{at: n, op: token.VAR})
				}
			}
		}
		return true
	})
	return defs
}

// countName matches names of fields that count attempts or time them.
var countName = regexp.MustCompile(`(?i)retr|attempt|tries|count|fail|backoff|delay|wait|last|err`)

// collectFields notes what is assigned to the fields and elements of each variable
// in body.
func collectFields(info *types.Info, body ast.Node) map[types.Object][]def {
	fields := map[types.Object][]def{}
	ast.Inspect(body, func(n ast.Node) bool {
		if inc, ok := n.(*ast.IncDecStmt); ok {
			if x, ok := ast.Unparen(inc.X).(*ast.IndexExpr); ok {
				if obj := objectOf(info, x.X); obj != nil {
					fields[obj] = append(fields[obj], def{at: inc, rhs: inc.X, op: inc.Tok})
				}
			}
		}
		if call, ok := n.(*ast.CallExpr); ok {
			fillings(info, call, func(obj types.Object, d def) { fields[obj] = append(fields[obj], d) })
		}
		as, ok := n.(*ast.AssignStmt)
		if !ok {
			return true
		}
		for i, l := range as.Lhs {
			rhs := as.Rhs[0]
			if len(as.Rhs) == len(as.Lhs) {
				rhs = as.Rhs[i]
			}
			var of ast.Expr
			var field types.Object
			switch x := ast.Unparen(l).(type) {
			case *ast.SelectorExpr:
				if countName.MatchString(x.Sel.Name) || isDuration(info.TypeOf(x)) {
					continue // its own bookkeeping, and no other thing to try
				}
				for { // of r.URL.Host the field URL of r
					outer, ok := ast.Unparen(x.X).(*ast.SelectorExpr)
					if !ok {
						break
					}
					x = outer
				}
				of, field = x.X, info.ObjectOf(x.Sel)
			case *ast.IndexExpr:
				of = x.X
			default:
				continue
			}
			if obj := objectOf(info, of); obj != nil {
				fields[obj] = append(fields[obj], def{at: as, rhs: rhs, op: as.Tok, field: field})
			}
		}
		return true
	})
	return fields
}

var setterName = regexp.MustCompile(`^Set[A-Z]`)

// fillings notes what call puts into variables: "o.SetName(x)" into o, and
// "r.ReadAt(b[:], x)" into b.
func fillings(info *types.Info, call *ast.CallExpr, put func(types.Object, def)) {
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if ok && len(call.Args) == 1 && setterName.MatchString(sel.Sel.Name) && !countName.MatchString(sel.Sel.Name) {
		if v, ok := objectOf(info, sel.X).(*types.Var); ok {
			put(v, def{at: call, rhs: call.Args[0], op: token.ASSIGN})
		}
	}
	for i, a := range call.Args {
		part, ok := a.(*ast.SliceExpr)
		if !ok || objectOf(info, part.X) == nil || call.Ellipsis.IsValid() {
			continue // "Command(args[0], args[1:]...)" only reads them
		}
		for j, other := range call.Args {
			if i != j {
				put(objectOf(info, part.X), def{at: call, rhs: other, op: token.ASSIGN})
			}
		}
	}
}

// collectOuts notes the variables whose address is given to a call, with the error
// that the call returns.
func collectOuts(info *types.Info, body ast.Node) map[types.Object]types.Object {
	outs := map[types.Object]types.Object{}
	ast.Inspect(body, func(n ast.Node) bool {
		as, ok := n.(*ast.AssignStmt)
		if !ok || len(as.Rhs) != 1 || !isError(info, as.Lhs[len(as.Lhs)-1]) {
			return true
		}
		call, ok := as.Rhs[0].(*ast.CallExpr)
		if !ok || purePackages[pkgOf(info, call)] {
			return true
		}
		for _, a := range call.Args {
			if p, ok := a.(*ast.UnaryExpr); ok && p.Op == token.AND {
				if obj := objectOf(info, p.X); obj != nil {
					outs[obj] = variable(info, as.Lhs[len(as.Lhs)-1])
				}
			}
		}
		return true
	})
	return outs
}

// packageInfo is what the functions of a package have in common.
type packageInfo struct {
	bodies   map[*types.Func]*ast.FuncDecl
	waits    map[*types.Func]bool
	compared map[string]map[string]bool    // see comparesResult
	random   map[types.Object]bool         // fields and variables that somewhere get a random value
	fields   map[types.Object][]ast.Expr   // what fields are set to anywhere in the package
	literals map[types.Object]*ast.FuncLit // of local variables that are set once, and to a function
}

func newPackageInfo(pass *analysis.Pass) *packageInfo {
	p := &packageInfo{bodies: map[*types.Func]*ast.FuncDecl{}, waits: map[*types.Func]bool{}, random: map[types.Object]bool{}, fields: map[types.Object][]ast.Expr{},
		literals: map[types.Object]*ast.FuncLit{}}
	for _, file := range pass.Files {
		for obj, defs := range collectDefs(pass.TypesInfo, file) {
			lit, ok := defs[0].rhs.(*ast.FuncLit)
			if v, isVar := obj.(*types.Var); ok && isVar && len(defs) == 1 && !v.IsField() && v.Parent() != pass.Pkg.Scope() {
				p.literals[obj] = lit
			}
			for _, d := range defs {
				if d.rhs != nil && mentionsRandom(pass.TypesInfo, d.rhs) {
					p.random[obj] = true
				}
				if v, ok := obj.(*types.Var); ok && v.IsField() {
					p.fields[v] = append(p.fields[v], d.rhs)
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if kv, ok := n.(*ast.KeyValueExpr); ok {
				if v, ok := objectOf(pass.TypesInfo, kv.Key).(*types.Var); ok && v.IsField() {
					p.fields[v] = append(p.fields[v], kv.Value)
				}
			}
			return true
		})
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				if obj, ok := pass.TypesInfo.Defs[fn.Name].(*types.Func); ok {
					p.bodies[obj] = fn
				}
			}
		}
	}
	return p
}

// bodyOf returns the declaration of what call calls, if it is in this package.
func (p *packageInfo) bodyOf(info *types.Info, call *ast.CallExpr) *ast.FuncDecl {
	f, ok := callee(info, call).(*types.Func)
	if !ok {
		return nil
	}
	return p.bodies[f.Origin()]
}

// contextVar returns the name of a context that is in scope at pos: a parameter
// of the function or of one around it, or a variable.
func (f *function) contextVar(pos token.Pos) string {
	if f.pass.Pkg == nil {
		return ""
	}
	scope := f.pass.Pkg.Scope().Innermost(pos)
	for s := scope; s != nil && s != f.pass.Pkg.Scope(); s = s.Parent() {
		for _, name := range []string{"ctx", "c", "context", "parent"} {
			if v, ok := s.Lookup(name).(*types.Var); ok && isContext(v.Type()) && v.Pos() < pos {
				if _, got := scope.LookupParent(name, pos); got == v {
					return name
				}
			}
		}
	}
	return ""
}

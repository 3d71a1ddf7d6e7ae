package retrylint

import (
	"cmp"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"math"
	"regexp"
	"slices"
	"time"
)

// A delay is what is known of how long a loop waits.
type delay struct {
	random  bool // has a random part
	unknown bool // comes from where one cannot see
	limited bool // by min or the like
	grows   ast.Node
	factor  float64       // by which, if it is a constant other than 2
	base    time.Duration // the constant that it begins with, if there is one
	vars    map[types.Object]bool
	calls   []*ast.FuncDecl // functions of the package that compute it
}

// steady reports whether it is certain that the delay has no random part.
func (d *delay) steady() bool { return !d.random && !d.unknown }

var randomName = regexp.MustCompile(`(?i)jitter|rand|fuzz|splay`)

// delayOf finds out how e, a delay, is computed: through the variables of the
// function and the functions of the package.
func (l *loop) delayOf(e ast.Expr) *delay {
	d := &delay{vars: map[types.Object]bool{}}
	l.trace(d, e, l.f.defs, 3)
	return d
}

func (l *loop) trace(d *delay, n ast.Node, defs map[types.Object][]def, depth int) {
	info := l.f.info
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if randomName.MatchString(n.Name) {
				d.random = true
			}
			l.traceVar(d, info.ObjectOf(n), defs, depth)
		case *ast.BinaryExpr:
			for _, side := range []ast.Expr{n.X, n.Y} {
				if v := info.Types[side].Value; n.Op == token.MUL && v != nil && isDuration(info.TypeOf(side)) {
					ns, _ := constant.Int64Val(v)
					d.base = time.Duration(ns)
				}
			}
			if n.Op == token.SHL && info.Types[n.Y].Value == nil && info.Types[n].Value == nil {
				d.grows = n
			}
		case *ast.UnaryExpr:
			d.unknown = d.unknown || n.Op == token.ARROW
		case *ast.CallExpr:
			l.traceCall(d, n, depth)
		}
		return true
	})
}

// mentionsRandom reports whether n calls or names something random.
func mentionsRandom(info *types.Info, n ast.Node) bool {
	return mentions(n, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if !ok {
			return false
		}
		if randomName.MatchString(id.Name) {
			return true
		}
		f, ok := info.ObjectOf(id).(*types.Func)
		return ok && f.Pkg() != nil && (f.Pkg().Path() == "math/rand" || f.Pkg().Path() == "math/rand/v2" || f.Pkg().Path() == "crypto/rand")
	})
}

// traceVar follows obj to what it is set to.
func (l *loop) traceVar(d *delay, obj types.Object, defs map[types.Object][]def, depth int) {
	v, ok := obj.(*types.Var)
	if !ok || d.vars[v] {
		return
	}
	d.vars[v] = true
	d.random = d.random || l.f.pkg.random[v]
	if _, ok := v.Type().Underlying().(*types.Signature); ok {
		d.unknown = true
	}
	if opaque(v) {
		return
	}
	for _, x := range defs[v] {
		if x.rhs == nil {
			continue
		}
		if x.op == token.MUL_ASSIGN || x.op == token.SHL_ASSIGN || x.varies(l.f.info, v) && multiplies(x.rhs) && x.op == token.ASSIGN {
			d.grows = x.at
		}
		if call, ok := ast.Unparen(x.rhs).(*ast.CallExpr); ok && resultCount(l.f.info, call) > 1 {
			d.unknown = true
		}
		l.trace(d, x.rhs, defs, depth)
	}
}

// opaque reports whether v is of a kind that no delay is computed from.
func opaque(v *types.Var) bool {
	_, isStruct := v.Type().Underlying().(*types.Struct)
	return isErrorVar(v) || isStruct
}

// multiplies reports whether e is a product, or a sum of a thing with itself.
func multiplies(e ast.Expr) bool {
	return mentions(e, func(n ast.Node) bool {
		b, ok := n.(*ast.BinaryExpr)
		if !ok {
			return false
		}
		return b.Op == token.MUL || b.Op == token.SHL || b.Op == token.ADD && types.ExprString(b.X) == types.ExprString(b.Y)
	})
}

// traceCall judges a call in the computation of a delay.
func (l *loop) traceCall(d *delay, call *ast.CallExpr, depth int) {
	info := l.f.info
	if tv, ok := info.Types[call.Fun]; ok && tv.IsType() {
		return
	}
	name, pkg := calleeName(call), pkgOf(info, call)
	switch {
	case mentionsRandom(info, call.Fun), isFunc(info, call, "time", "Now"): // the time of day taken for a random number
		d.random = true
	case name == "Pow" || name == "Exp2" || name == "Exp":
		d.grows = call
		if name == "Pow" && len(call.Args) == 2 {
			v := info.Types[call.Args[0]].Value
			if v == nil {
				v = l.onlyValue(call.Args[0])
			}
			if v == nil {
				d.factor = math.NaN()
			} else {
				d.factor, _ = constant.Float64Val(constant.ToFloat(v))
			}
		}
	case name == "min" || name == "Min":
		d.limited = true
	case name == "max" || name == "Max" || pkg == "math" || pkg == "time" && resultCount(info, call) == 1 && name != "Until" && name != "Since":
	default:
		decl := l.f.pkg.bodyOf(info, call)
		if decl == nil || depth == 0 {
			d.unknown = true
			return
		}
		d.calls = append(d.calls, decl)
		defs := collectDefs(info, decl.Body)
		l.trace(d, decl.Body, defs, depth-1)
	}
}

// capped reports whether something keeps, or may keep, the delay from growing beyond an hour:
// a comparison or a min, a small number of rounds, or one that is not known, or the time.
func (l *loop) capped(d *delay) bool {
	if d.limited || d.unknown {
		return true
	}
	for _, decl := range d.calls {
		if mentions(decl.Body, func(n ast.Node) bool { return l.limits(n, d) }) {
			return true
		}
	}
	if mentions(l.f.body, func(n ast.Node) bool { return l.limits(n, d) }) {
		return true
	}
	n, ok := l.rounds()
	if !ok {
		return l.endsByCount()
	}
	factor := cmp.Or(d.factor, 2)
	base := cmp.Or(d.base, time.Second)
	return math.IsNaN(factor) || float64(base)*math.Pow(factor, float64(n-1)) <= float64(time.Hour)
}

// endsByCount reports whether a count, or the time, may end the loop.
func (l *loop) endsByCount() bool {
	for n := range l.cycle.nodes {
		t := l.tests[n]
		if (t != nil && t.kind == boundTest || l.rangeHead(n)) && slices.ContainsFunc(n.succs, func(s *node) bool { return !l.cycle.nodes[s] }) {
			return true
		}
	}
	return false
}

// limits reports whether n is a comparison that limits d: of the delay, of the time, or of
// the number that the delay is computed from, but for the loop's own bound.
func (l *loop) limits(n ast.Node, d *delay) bool {
	b, ok := n.(*ast.BinaryExpr)
	if !ok || b.Op != token.GTR && b.Op != token.GEQ && b.Op != token.LSS && b.Op != token.LEQ && b.Op != token.EQL {
		return false
	}
	for _, side := range []ast.Expr{b.X, b.Y} {
		if mentions(side, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return false
			}
			v, ok := l.f.info.ObjectOf(id).(*types.Var)
			return ok && d.vars[v] && (isDuration(v.Type()) || !l.counters[v] || isGrown(l.f.info, d.grows, v) || !l.inHeader(b))
		}) {
			return true
		}
	}
	return false
}

// isGrown reports whether grows, an assignment, makes v itself grow.
func isGrown(info *types.Info, grows ast.Node, v types.Object) bool {
	as, ok := grows.(*ast.AssignStmt)
	return ok && variable(info, as.Lhs[0]) == v
}

// inHeader reports whether n is in the loop's own condition.
func (l *loop) inHeader(n ast.Node) bool {
	s, ok := l.stmt.(*ast.ForStmt)
	return ok && s.Cond != nil && s.Cond.Pos() <= n.Pos() && n.End() <= s.Cond.End()
}

// rounds returns how often the loop goes round at most, if that is a constant.
func (l *loop) rounds() (int, bool) {
	var e ast.Expr
	switch s := l.stmt.(type) {
	case *ast.RangeStmt:
		e = s.X
	case *ast.ForStmt:
		if s.Cond == nil {
			return 0, false
		}
		ast.Inspect(s.Cond, func(n ast.Node) bool {
			if b, ok := n.(*ast.BinaryExpr); ok && (b.Op == token.LSS || b.Op == token.LEQ) && l.mentionsCounter(b.X) {
				e = b.Y
			}
			return true
		})
	}
	if e == nil {
		return 0, false
	}
	v := l.f.info.Types[e].Value
	if v == nil {
		v = l.onlyValue(e)
	}
	if v == nil || v.Kind() != constant.Int {
		return 0, false
	}
	n, ok := constant.Int64Val(v)
	return int(n), ok
}

// onlyValue returns the constant that the variable or unexported field e is set to, once and
// for all.
func (l *loop) onlyValue(e ast.Expr) constant.Value {
	if field, ok := variable(l.f.info, e).(*types.Var); ok && field.IsField() {
		if set := l.f.pkg.fields[field]; len(set) == 1 && !field.Exported() {
			return l.f.info.Types[set[0]].Value
		}
		return nil
	}
	defs := l.f.defs[objectOf(l.f.info, e)]
	if len(defs) != 1 || defs[0].rhs == nil {
		return nil
	}
	return l.f.info.Types[defs[0].rhs].Value
}

// unitless returns the value of e if it is a plain number.
func (l *loop) unitless(e ast.Expr) (int64, bool) {
	v := l.f.info.Types[e].Value
	if v == nil || v.Kind() != constant.Int {
		return 0, false
	}
	if mentions(e, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		return ok && (isDuration(l.f.declaredType(id)) || id.Name == "time")
	}) {
		return 0, false
	}
	n, ok := constant.Int64Val(v)
	return n, ok && n > 0 && n < int64(time.Millisecond)
}

// declaredType returns the type with which id was declared, which for an untyped
// constant is not that of its use.
func (f *function) declaredType(id *ast.Ident) types.Type {
	if obj := f.info.ObjectOf(id); obj != nil {
		return obj.Type()
	}
	return nil
}

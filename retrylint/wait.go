package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"slices"
)

// A wait is where a loop waits before it goes round again.
type wait struct {
	node   ast.Node
	at     *node
	delay  ast.Expr // nil if unknown
	deaf   bool     // nothing else can end it
	ticker bool
}

// Names of functions that wait, where their code is not at hand.
var waitName = regexp.MustCompile(`(?i)^(sleep|wait|pause|delay|back_?off)|(sleep|back_?off|delay)$`)

var sleepVerb = regexp.MustCompile(`^[sS]leep`)

// Types that are known for waiting.
var waitType = regexp.MustCompile(`(?i)back_?off|retr(y|ier)`)

// waitsIn returns the waits in the nodes of c.
func (f *function) waitsIn(c *cycle) []*wait {
	var found []*wait
	for n := range c.nodes {
		if r, ok := n.stmt.(*ast.RangeStmt); ok && n == c.head && isTimeChan(f.info.TypeOf(r.X)) {
			found = append(found, &wait{node: r, at: n, delay: f.tickOf(r.X), deaf: true, ticker: true})
		}
		for _, x := range n.list {
			w := f.waitOf(x)
			if w == nil {
				continue
			}
			w.at = n
			if clause, ok := n.stmt.(*ast.CommClause); ok && clause.Comm == x {
				w.deaf = false
			}
			found = append(found, w)
		}
	}
	return found
}

// waitOf returns the wait that statement or expression x contains, or nil.
func (f *function) waitOf(x ast.Node) *wait {
	var w *wait
	switch x.(type) {
	case *ast.GoStmt, *ast.DeferStmt:
		return nil
	}
	shallow(x, func(n ast.Node) bool {
		if w != nil {
			return false
		}
		switch n := n.(type) {
		case *ast.UnaryExpr:
			if n.Op == token.ARROW && isTimeChan(f.info.TypeOf(n.X)) {
				_, ticker := f.madeBy(n.X, "NewTicker", "Tick")
				w = &wait{node: n, delay: f.tickOf(n.X), deaf: true, ticker: ticker}
			}
		case *ast.CallExpr:
			w = f.waitCall(n)
		}
		return w == nil
	})
	return w
}

// waitCall returns the wait that call is, or nil.
func (f *function) waitCall(call *ast.CallExpr) *wait {
	if isFunc(f.info, call, "time", "Sleep") {
		return &wait{node: call, delay: arg(call, 0), deaf: true}
	}
	if lit, ok := ast.Unparen(call.Fun).(*ast.FuncLit); ok && f.onlyWaits(lit) {
		if w := f.waitOf(lit.Body); w != nil {
			w.deaf = isSleep(f.info, w.node)
			return w
		}
	}
	name := calleeName(call)
	var delay ast.Expr
	hasContext := false
	for _, a := range call.Args {
		t := f.info.TypeOf(a)
		if isDuration(t) {
			delay = a
		}
		hasContext = hasContext || isContext(t)
	}
	if name == "Sleep" {
		return &wait{node: call, delay: delay, deaf: !hasContext && delay != nil}
	}
	if decl := f.pkg.bodyOf(f.info, call); decl != nil {
		if !f.pkg.waiting(f, decl, 2) || decl == f.node {
			return nil
		}
		return &wait{node: call, delay: delay}
	}
	if !waitName.MatchString(name) && !hasWord(name, "waitfor", "waitorskip") {
		return nil
	}
	if v := objectOf(f.info, call.Fun); v != nil && delay == nil && len(call.Args) > 0 && resultCount(f.info, call) <= 1 {
		other := slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return !isContext(f.info.TypeOf(a)) && !isInteger(f.info.TypeOf(a)) })
		if _, isVar := v.(*types.Var); isVar && !other && !isDuration(f.info.TypeOf(call)) {
			return &wait{node: call} // a function that came as a value: backoff(ctx), wait(attempt)
		}
	}
	if delay != nil && (sleepVerb.MatchString(name) || !hasWord(name, "withtimeout", "new", "set", "with", "next")) && resultCount(f.info, call) <= 1 && !isDuration(f.info.TypeOf(call)) {
		return &wait{node: call, delay: delay}
	}
	if sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok && !isDuration(f.info.TypeOf(call)) {
		if t := f.info.TypeOf(sel.X); t != nil && waitType.MatchString(lastName(t)) {
			return &wait{node: call}
		}
	}
	return nil
}

// onlyWaits reports whether lit does nothing but make timers, and wait.
func (f *function) onlyWaits(lit *ast.FuncLit) bool {
	return !mentions(lit.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit, *ast.GoStmt, *ast.SendStmt:
			return true
		case *ast.CallExpr:
			t := f.info.TypeOf(n)
			return !f.info.Types[n.Fun].IsType() && !f.isContextError(n, 0) && pkgOf(f.info, n) != "time" && pkgOf(f.info, n) != "context" &&
				!isDuration(t) && !isTimeChan(t) && !timerName.MatchString(calleeName(n))
		}
		return false
	})
}

var timerName = regexp.MustCompile(`^(NewTimer|Stop|Done)$`)

func isSleep(info *types.Info, n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	return ok && isFunc(info, call, "time", "Sleep")
}

// waiting reports whether the function, or one it calls, waits by itself.
func (p *packageInfo) waiting(f *function, decl *ast.FuncDecl, depth int) bool {
	obj, _ := f.info.Defs[decl.Name].(*types.Func)
	if known, ok := p.waits[obj]; ok {
		return known
	}
	p.waits[obj] = false // for recursive ones
	if len(decl.Body.List) > 25 || !waitName.MatchString(decl.Name.Name) && len(decl.Body.List) > 8 {
		return false
	}
	loops, waits := false, false
	shallow(decl.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			loops = true
		case *ast.GoStmt, *ast.DeferStmt:
			return false
		case *ast.UnaryExpr:
			waits = waits || n.Op == token.ARROW && isTimeChan(f.info.TypeOf(n.X))
		case *ast.CallExpr:
			if isFunc(f.info, n, "time", "Sleep") {
				waits = true
			} else if inner := p.bodyOf(f.info, n); inner != nil && depth > 0 && waitName.MatchString(inner.Name.Name) {
				waits = waits || p.waiting(f, inner, depth-1)
			}
		}
		return true
	})
	p.waits[obj] = waits && (!loops || waitName.MatchString(decl.Name.Name))
	return p.waits[obj]
}

// tickOf returns the duration of the timer or ticker that ch is of: time.After(d),
// t.C where t is time.NewTimer(d). Nil if it is not known.
func (f *function) tickOf(ch ast.Expr) ast.Expr {
	d, _ := f.madeBy(ch, "After", "NewTimer", "NewTicker", "Tick")
	return d
}

// madeBy returns the first argument of the call that made ch, if it is to one
// of these functions, and whether there is one.
func (f *function) madeBy(ch ast.Expr, names ...string) (ast.Expr, bool) {
	e := ast.Unparen(ch)
	if sel, ok := e.(*ast.SelectorExpr); ok && sel.Sel.Name == "C" {
		e = sel.X
	}
	if sel, ok := e.(*ast.CallExpr); ok {
		for _, name := range names {
			if calleeName(sel) == name && len(sel.Args) > 0 {
				return sel.Args[0], true
			}
		}
		return nil, false
	}
	obj := variable(f.info, e)
	for _, d := range slices.Backward(f.defs[obj]) { // the last one is that of the loop
		if call, ok := d.rhs.(*ast.CallExpr); ok {
			for _, name := range names {
				if calleeName(call) == name && len(call.Args) > 0 {
					if reset := f.resetOf(obj); reset != nil && name != "NewTicker" {
						return reset, true
					}
					return call.Args[0], true
				}
			}
		}
	}
	return nil, false
}

// resetOf returns what the timer obj is reset to, if it is.
func (f *function) resetOf(obj types.Object) ast.Expr {
	var d ast.Expr
	ast.Inspect(f.body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || calleeName(call) != "Reset" || len(call.Args) != 1 {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && variable(f.info, sel.X) == obj {
			d = call.Args[0]
		}
		return true
	})
	return d
}

func arg(call *ast.CallExpr, i int) ast.Expr {
	if i < len(call.Args) {
		return call.Args[i]
	}
	return nil
}

func resultCount(info *types.Info, call *ast.CallExpr) int {
	switch t := info.TypeOf(call).(type) {
	case nil:
		return 0
	case *types.Tuple:
		return t.Len()
	}
	return 1
}

func lastName(t types.Type) string {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := types.Unalias(t).(*types.Named); ok {
		return n.Obj().Name()
	}
	return ""
}

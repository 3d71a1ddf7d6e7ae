package retrylint

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"time"
)

// A pause is a wait of the loop, as statements that can be taken out of it.
type pause struct {
	pos, end token.Pos
	delay    ast.Expr
	head     bool       // stands at the beginning of each round but the first
	ctx      string     // the context that ends it, as code
	leave    ast.Stmt   // what is done when the context ends it
	drain    string     // a channel that ends it when it is closed, as code
	stop     []ast.Stmt // what is done then
	after    []ast.Stmt // what a select does behind the wait
	ticker   bool       // the delay is that of a ticker
}

// sleepName matches helpers that wait for a duration, and may obey a context.
var sleepName = regexp.MustCompile(`(?i)^(ctx|context|cancel(l?able)?|interruptible|random)?(sleep|wait|pause)(for|ctx|context|with(ctx|context|jitter)|or(done|cancel))?$`)

// pauseAt returns the wait that the statements from list[i] on are, and how many they
// are; nil if they are none.
func (r *rewrite) pauseAt(list []ast.Stmt, i int) (*pause, int) {
	s := list[i]
	w := &pause{pos: s.Pos(), end: s.End()}
	switch s := s.(type) {
	case *ast.ExprStmt:
		if r.sleeps(w, s.X) && (w.ctx == "" || r.given(w.ctx)) {
			return w, 1
		}
	case *ast.IfStmt:
		if r.sleepsOrLeaves(w, s) || r.headGuard(w, s) {
			return w, 1
		}
	case *ast.SelectStmt:
		if r.selects(w, s, nil) {
			return w, 1
		}
	case *ast.AssignStmt: // timer := time.NewTimer(d)
		if i+1 == len(list) || len(s.Lhs) != 1 || len(s.Rhs) != 1 {
			return nil, 0
		}
		call, ok := s.Rhs[0].(*ast.CallExpr)
		timer := objectOf(r.info, s.Lhs[0])
		if !ok || timer == nil || !r.ofTime(call, "NewTimer") {
			return nil, 0
		}
		next, ok := list[i+1].(*ast.SelectStmt)
		if ok && r.selects(w, next, timer) {
			w.delay, w.end = call.Args[0], next.End()
			return w, 2
		}
	}
	return nil, 0
}

// sleeps reports whether e waits for a time, and for nothing else but a context.
func (r *rewrite) sleeps(w *pause, e ast.Expr) bool {
	if u, ok := ast.Unparen(e).(*ast.UnaryExpr); ok && u.Op == token.ARROW {
		e = u.X
		call, ok := ast.Unparen(e).(*ast.CallExpr)
		if !ok || !r.ofTime(call, "After") {
			return false
		}
		w.delay = call.Args[0]
		return true
	}
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok {
		return false
	}
	if r.ofTime(call, "Sleep") {
		w.delay = call.Args[0]
		return true
	}
	args := call.Args
	if !sleepName.MatchString(calleeName(call)) || len(args) != 2 || !isContext(r.info.TypeOf(args[0])) || !r.steady(args[0], false) {
		return false
	}
	w.ctx = r.source(args[0])
	w.delay = args[1]
	return isDuration(r.info.TypeOf(w.delay))
}

// given reports whether an attempt is given ctx, which so ends the loop though its waits only
// become none.
func (r *rewrite) given(ctx string) bool {
	return slices.ContainsFunc(r.l.calls, func(call *ast.CallExpr) bool {
		return slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return r.source(a) == ctx })
	})
}

// ofTime reports whether call calls the function of package time, or of one that stands
// for it and has its name.
func (r *rewrite) ofTime(call *ast.CallExpr, name string) bool {
	f := callee(r.info, call)
	return f != nil && f.Name() == name && f.Pkg() != nil && f.Pkg().Name() == "time" && len(call.Args) == 1 && isDuration(r.info.TypeOf(call.Args[0]))
}

// sleepsOrLeaves reads "if err := sleep(ctx, d); err != nil { return err }".
func (r *rewrite) sleepsOrLeaves(w *pause, s *ast.IfStmt) bool {
	init, ok := s.Init.(*ast.AssignStmt)
	cond, ok2 := s.Cond.(*ast.BinaryExpr)
	if !ok || !ok2 || s.Else != nil || len(init.Rhs) != 1 || len(init.Lhs) != 1 || cond.Op != token.NEQ || !r.l.f.isNil(cond.Y) ||
		len(s.Body.List) != 1 || !r.sleeps(w, init.Rhs[0]) || w.ctx == "" {
		return false
	}
	w.leave = s.Body.List[0]
	return r.leaves(w)
}

// headGuard reads "if attempt > 0 { time.Sleep(d) }".
func (r *rewrite) headGuard(w *pause, s *ast.IfStmt) bool {
	b := &r.bound
	cond, ok := s.Cond.(*ast.BinaryExpr)
	if !ok || b.counter == nil || s.Init != nil || s.Else != nil || objectOf(r.info, cond.X) != b.counter || len(s.Body.List) == 0 {
		return false
	}
	v := r.info.Types[cond.Y].Value
	if v == nil {
		return false
	}
	n, _ := constant.Int64Val(constant.ToInt(v))
	if !(cond.Op == token.GTR && n == b.first || cond.Op == token.GEQ && n == b.first+1 || cond.Op == token.NEQ && n == b.first) {
		return false
	}
	inner, size := r.pauseAt(s.Body.List, 0)
	if inner == nil || size != len(s.Body.List) || inner.after != nil {
		return false
	}
	*w = pause{pos: w.pos, end: w.end, delay: inner.delay, ctx: inner.ctx, leave: inner.leave, drain: inner.drain, stop: inner.stop, head: true}
	return true
}

// selects reads a select of a timer, or a channel of time.After, and the end of a
// context, or a channel that is closed to stop the loop, or both.
func (r *rewrite) selects(w *pause, s *ast.SelectStmt, timer types.Object) bool {
	if len(s.Body.List) < 2 || len(s.Body.List) > 3 {
		return false
	}
	waits := false
	// ending returns what a clause does, behind timer.Stop().
	ending := func(list []ast.Stmt) []ast.Stmt {
		if len(list) > 1 {
			if e, ok := list[0].(*ast.ExprStmt); ok && timer != nil && uses(r.info, e, timer) {
				return list[1:]
			}
		}
		return list
	}
	for _, c := range s.Body.List {
		clause := c.(*ast.CommClause)
		received, ok := clause.Comm.(*ast.ExprStmt)
		if !ok {
			return false
		}
		u, ok := received.X.(*ast.UnaryExpr)
		if !ok || u.Op != token.ARROW {
			return false
		}
		switch ch := ast.Unparen(u.X).(type) {
		case *ast.CallExpr:
			sel, ok := ch.Fun.(*ast.SelectorExpr)
			switch {
			case timer == nil && r.ofTime(ch, "After"):
				w.delay, w.after, waits = ch.Args[0], clause.Body, true
			case ok && sel.Sel.Name == "Done" && isContext(r.info.TypeOf(sel.X)) && r.steady(sel.X, false) && w.ctx == "":
				list := ending(clause.Body)
				if len(list) == 2 && r.keepsEnd(list[0]) && r.breaksLoop(list[1]) {
					list = list[1:]
				}
				if len(list) != 1 {
					return false
				}
				w.ctx, w.leave = r.source(sel.X), list[0]
			default:
				return false
			}
		case *ast.SelectorExpr:
			if ch.Sel.Name != "C" || !isTimeChan(r.info.TypeOf(ch)) {
				if !r.stops(w, ch, ending(clause.Body)) {
					return false
				}
				continue
			}
			if timer == nil && !r.ticks(w, ch) || timer != nil && objectOf(r.info, ch.X) != timer {
				return false
			}
			w.after, waits = clause.Body, true
		case *ast.Ident:
			if !r.stops(w, ch, ending(clause.Body)) {
				return false
			}
		default:
			return false
		}
	}
	return waits && (w.ctx != "" || w.drain != "") && (w.ctx == "" || r.leaves(w))
}

// stops reports whether ch is a channel without values, which the loop does not change,
// and what is done when it is closed a return, maybe behind other statements, of what
// the loop does not set either.
func (r *rewrite) stops(w *pause, ch ast.Expr, then []ast.Stmt) bool {
	c, ok := underlying(r.info, ch).(*types.Chan)
	if !ok || c.Dir() == types.SendOnly || !types.Identical(c.Elem(), types.NewStruct(nil, nil)) || w.drain != "" || !r.steady(ch, false) {
		return false
	}
	for i, s := range then {
		ret, isReturn := s.(*ast.ReturnStmt)
		call, isExpr := s.(*ast.ExprStmt)
		if !r.steady(s, false) || isReturn != (i == len(then)-1) || isReturn && len(ret.Results) != len(r.results()) || !isReturn && (!isExpr || r.l.f.waitOf(call) != nil) {
			return false
		}
	}
	w.drain, w.stop = r.source(ch), then
	return len(then) > 0
}

// ticks reports whether ch is the channel of a ticker that is made before the loop: its
// wait is as long as the time between two ticks, if the attempt in between is short.
func (r *rewrite) ticks(w *pause, ch *ast.SelectorExpr) bool {
	ticker := objectOf(r.info, ch.X)
	defs := r.l.f.defs[ticker]
	if len(defs) != 1 || !r.outside(ticker) || r.l.f.resetOf(ticker) != nil {
		return false
	}
	call, ok := defs[0].rhs.(*ast.CallExpr)
	if !ok || !r.ofTime(call, "NewTicker") {
		return false
	}
	w.delay, w.ticker = call.Args[0], true
	return true
}

// keepsEnd reports whether s makes the error of a context that of the attempt.
func (r *rewrite) keepsEnd(s ast.Stmt) bool {
	as, ok := s.(*ast.AssignStmt)
	return ok && as.Tok == token.ASSIGN && len(as.Lhs) == 1 && len(as.Rhs) == 1 && r.l.attempt.obj != nil &&
		objectOf(r.info, as.Lhs[0]) == r.l.attempt.obj && r.l.f.isContextError(as.Rhs[0], 0)
}

// breaksLoop reports whether s leaves the loop by its label.
func (r *rewrite) breaksLoop(s ast.Stmt) bool {
	b, ok := s.(*ast.BranchStmt)
	label, labelled := r.path[1].(*ast.LabeledStmt)
	return ok && labelled && b.Tok == token.BREAK && b.Label != nil && b.Label.Name == label.Label.Name
}

// leaves reports whether what is done when the context ends the wait is to leave the
// loop, or a return of the context's error, or of that of an attempt, which the
// library's carries both.
func (r *rewrite) leaves(w *pause) bool {
	ret, ok := w.leave.(*ast.ReturnStmt)
	if !ok {
		return r.breaksLoop(w.leave)
	}
	results := r.results()
	if len(results) == 0 || !isErrorType(results[len(results)-1].Type()) {
		return len(results) == 0 || len(ret.Results) == 1
	}
	if len(ret.Results) != len(results) {
		return false
	}
	return mentions(ret.Results[len(ret.Results)-1], func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		return ok && isError(r.info, e) && !r.l.f.isNil(e)
	})
}

// results returns the results of the function around the loop.
func (r *rewrite) results() []*types.Var {
	return slices.Collect(r.l.f.signature().Results().Variables())
}

// signature returns the type of f: nil where it does not compile, as that of a function
// which is declared twice.
func (f *function) signature() *types.Signature {
	var sig *types.Signature
	switch n := f.node.(type) {
	case *ast.FuncDecl:
		if obj, ok := f.info.Defs[n.Name].(*types.Func); ok {
			sig = obj.Signature()
		}
	case *ast.FuncLit:
		sig, _ = f.info.TypeOf(n).(*types.Signature)
	}
	return sig
}

// ceiling is the default of MaxDelay.
const ceiling = time.Minute

// backoff writes the fields of the Config that make the loop's waits: "" if they
// depend on what happens in an attempt.
func (r *rewrite) backoff() string {
	if len(r.waits) == 0 {
		return fmt.Sprintf("Backoff: %s.ConstantBackoff(0)", r.pkg)
	}
	first := r.waits[0]
	for _, w := range r.waits[1:] {
		if w.head != first.head || types.ExprString(w.delay) != types.ExprString(first.delay) {
			return ""
		}
	}
	d := first.delay
	code := r.source(d)
	if v := r.info.Types[d].Value; v != nil {
		n, exact := constant.Int64Val(constant.ToInt(v))
		if !exact || n < 0 {
			return ""
		}
		text := fmt.Sprintf("Backoff: %s.ConstantBackoff(%s)", r.pkg, code)
		if time.Duration(n) > ceiling {
			text += ",\nMaxDelay: " + code
		}
		return text
	}
	if r.steady(d, false) && !r.calls(d) {
		return fmt.Sprintf("Backoff: %s.ConstantBackoff(%s),\nMaxDelay: %s", r.pkg, code, code)
	}
	if !r.steady(d, true) {
		return ""
	}
	// The wait follows attempt n, or precedes retry n.
	number, start := "_", ""
	if uses(r.info, d, r.bound.counter) {
		number = r.bound.name
		if shift := r.bound.first - 1; first.head {
			start = adjust(number, shift+1)
		} else {
			start = adjust(number, shift)
		}
	}
	hour := r.imports.use("time", "time")
	return fmt.Sprintf("Backoff: func(%s int, _ %[2]s.Duration, _ func() float64) %[2]s.Duration {\n%sreturn %s\n},\nMaxDelay: %[2]s.Hour", number, hour, start, code)
}

func adjust(name string, by int64) string {
	switch by {
	case 1:
		return name + "++\n"
	case -1:
		return name + "--\n"
	}
	return ""
}

package retrylint

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// What the function around a loop returns.
type outcome int

const (
	nothing  outcome = iota
	anError          // error
	aValue           // a value and an error
	aBool            // bool
	anything         // something else
)

func (r *rewrite) outcome() outcome {
	results := r.results()
	isErr := func(v *types.Var) bool { return types.Identical(v.Type(), types.Universe.Lookup("error").Type()) }
	switch {
	case len(results) == 0:
		return nothing
	case len(results) == 1 && isErr(results[0]):
		return anError
	case len(results) == 1 && types.Identical(results[0].Type(), types.Typ[types.Bool]):
		return aBool
	case len(results) == 2 && isErr(results[1]) && !isErr(results[0]):
		return aValue
	}
	return anything
}

// closure makes the body of the loop the function that is retried: where it goes round
// it returns the error of the attempt, where it leaves nil, or a permanent error.
func (r *rewrite) closure() bool {
	b := &walk{r: r, labels: map[string]bool{}, proves: map[types.Object]types.Object{}}
	if r.bound.stop != nil {
		b.exits = append(b.exits, exit{leave, nil, &way{none: map[types.Object]bool{}}})
	}
	if end := b.block(r.bound.body.List, &way{none: map[types.Object]bool{}}, inside{top: true}); end != nil {
		b.exit(again, nil, end)
	}
	r.waits = b.pauses
	if b.failed || !r.context() {
		return false
	}
	if r.strict && slices.ContainsFunc(b.pauses, func(w *pause) bool { return w.leave != nil }) {
		return false
	}
	if slices.ContainsFunc(b.pauses, breaks) {
		b.exits = append(b.exits, exit{leave, nil, &way{none: map[types.Object]bool{}}})
	}
	c := &closure{rewrite: r, kind: r.outcome(), hoisted: map[types.Object]bool{}}
	for _, e := range b.exits {
		c.exits[e.kind] = append(c.exits[e.kind], e)
	}
	if len(c.exits[again]) == 0 || c.kind == anything && len(c.exits[back]) > 0 || r.bound.stop != nil && r.l.f.waitOf(r.bound.stop) != nil {
		return false
	}
	return c.write()
}

// breaks reports whether the end of a context that w obeys leaves the loop, and not the
// function.
func breaks(w *pause) bool {
	_, ok := w.leave.(*ast.BranchStmt)
	return ok
}

type closure struct {
	*rewrite
	kind    outcome
	exits   [3][]exit
	valued  bool         // the function that is retried returns the value too
	outer   types.Object // the error of the attempt, if it is declared outside of the loop
	mixed   bool         // the error says whether the loop is left, or the function
	invents bool         // the last error may be one that no attempt returned
	hoisted map[types.Object]bool
	nothing string // the zero value that goes before an error, with a comma
}

func (c *closure) write() bool {
	if obj := c.l.attempt.obj; c.outside(obj) && !isField(obj) {
		c.outer = obj
	}
	c.mixed = len(c.exits[leave]) > 0 && slices.ContainsFunc(c.exits[back], func(e exit) bool { return !c.fails(e) })
	if c.kind == aValue && (len(c.exits[leave]) == 0 || c.mixed) && len(c.exits[back]) > 0 {
		zero, ok := c.zero(c.results()[0].Type())
		if !ok {
			return false
		}
		c.valued, c.nothing = true, zero+", "
	}
	for _, e := range c.exits[again] {
		if !c.writeAgain(e) {
			return false
		}
	}
	for _, e := range c.exits[back] {
		if !c.writeReturn(e) {
			return false
		}
	}
	for _, e := range c.exits[leave] {
		if e.stmt != nil {
			c.replace(e.stmt.Pos(), e.stmt.End(), c.leaving(e))
		}
	}
	config, before, start := c.waiting()
	if config == "" {
		return false
	}
	number := c.bound.counter != nil && mentions(c.bound.body, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		return ok && c.info.Uses[id] == c.bound.counter && !c.removed(id)
	}) || c.bound.stop != nil && c.bound.counter != nil && uses(c.info, c.bound.stop, c.bound.counter)
	param, ok := c.param(number, c.bound.body)
	if !ok {
		return false
	}
	if number {
		start = fmt.Sprintf("%s := %s.RetryCount(%s)%s\n", c.bound.name, c.pkg, param, offset(c.bound.first)) + start
	}
	if c.bound.stop != nil {
		start += fmt.Sprintf("if %s {\n%s\n}\n", c.negated(c.bound.stop), c.leaving(c.exits[leave][0]))
	}
	return c.around(config, before, start, param)
}

// negated writes the opposite of a condition.
func (r *rewrite) negated(e ast.Expr) string {
	opposite := map[token.Token]token.Token{token.LSS: token.GEQ, token.LEQ: token.GTR, token.GTR: token.LEQ, token.GEQ: token.LSS, token.EQL: token.NEQ, token.NEQ: token.EQL}
	switch e := ast.Unparen(e).(type) {
	case *ast.UnaryExpr:
		if e.Op == token.NOT {
			return r.source(e.X)
		}
	case *ast.BinaryExpr:
		b, isBasic := underlying(r.info, e.X).(*types.Basic)
		if op, ok := opposite[e.Op]; ok && isBasic && b.Info()&types.IsFloat == 0 { // NaN is neither less nor more
			return r.source(e.X) + " " + op.String() + " " + r.source(e.Y)
		}
	case *ast.CallExpr, *ast.Ident, *ast.SelectorExpr:
		return "!" + r.source(e)
	}
	return "!(" + r.source(e) + ")"
}

func isField(obj types.Object) bool {
	v, ok := obj.(*types.Var)
	return ok && v.IsField()
}

// removed reports whether n stands in what is taken out of the loop.
func (c *closure) removed(n ast.Node) bool {
	return slices.ContainsFunc(c.waits, func(w *pause) bool {
		return w.pos <= n.Pos() && n.End() <= w.end && !within(w.after, n)
	})
}

// failure returns the name of an error that is certainly not nil at e. One that is
// declared by an if statement before e is declared before that.
func (c *closure) failure(e exit) string {
	pos := c.bound.body.Rbrace
	if e.stmt != nil {
		pos = e.stmt.Pos()
	}
	scope := c.l.f.pass.Pkg.Scope().Innermost(pos)
	name := ""
	for _, obj := range e.way.errs {
		if isField(obj) || !types.AssignableTo(obj.Type(), types.Universe.Lookup("error").Type()) {
			continue
		}
		if _, seen := scope.LookupParent(obj.Name(), pos); seen != obj {
			continue
		}
		name = obj.Name()
		if obj == c.l.attempt.obj {
			return name
		}
	}
	for _, obj := range e.way.errs {
		if name == "" && c.hoist(obj, pos) {
			name = obj.Name()
		}
	}
	return name
}

// hoist makes "if err := f(); err == nil" two statements, so that err is known at pos.
func (c *closure) hoist(obj types.Object, pos token.Pos) bool {
	if c.hoisted[obj] {
		return true
	}
	var found *ast.IfStmt
	ast.Inspect(c.bound.body, func(n ast.Node) bool {
		list, isBlock := n.(*ast.BlockStmt)
		if !isBlock || pos < list.Pos() || pos > list.End() {
			return true
		}
		for _, s := range list.List {
			if i, ok := s.(*ast.IfStmt); ok && i.Init != nil && i.Init.Pos() <= obj.Pos() && obj.Pos() < i.Init.End() {
				found = i
			}
		}
		return true
	})
	if found == nil {
		return false
	}
	c.replace(found.Pos(), found.Init.Pos(), "")
	c.replace(found.Init.End(), found.Cond.Pos(), "\nif ")
	c.hoisted[obj] = true
	return true
}

// notYet writes an error for a round that may end without one, where a caller would not
// see it, and the loop does not run for ever: "" where that is not so. What the loop keeps
// in a variable outside of it, the code behind it may see, as it is.
func (c *closure) notYet(e exit) string {
	obj := c.l.attempt.obj
	if obj == nil || c.keeps() != nil || isField(obj) || c.kind == nothing && !c.bound.counts {
		return ""
	}
	if c.outer != nil {
		if !c.mixed && !c.returns() {
			return ""
		}
		c.invents = true
	}
	text := c.imports.use("errors", "errors", "stderrors") + `.New("not yet")`
	pos := c.bound.body.Rbrace
	if e.stmt != nil {
		pos = e.stmt.Pos()
	}
	_, seen := c.l.f.pass.Pkg.Scope().Innermost(pos).LookupParent(obj.Name(), pos)
	if seen != obj || e.way.none[obj] || !types.Identical(obj.Type(), types.Universe.Lookup("error").Type()) {
		return text
	}
	return fmt.Sprintf("%s.Or(%s, %s)", c.imports.use("cmp", "cmp"), obj.Name(), text)
}

func (c *closure) writeAgain(e exit) bool {
	name := c.failure(e)
	if name == "" {
		name = c.notYet(e)
	}
	if name == "" {
		return false
	}
	text := c.bound.post + "return " + c.nothing + name
	if e.stmt != nil {
		c.replace(e.stmt.Pos(), e.stmt.End(), text)
	} else {
		c.replace(c.bound.body.Rbrace, c.bound.body.Rbrace, text+"\n")
	}
	return true
}

// fails reports whether e certainly returns an error, and the values that all do.
func (c *closure) fails(e exit) bool {
	ret := e.stmt.(*ast.ReturnStmt)
	results := c.results()
	if c.kind != anError && c.kind != aValue || len(ret.Results) != len(results) {
		return false
	}
	x := ast.Unparen(ret.Results[len(ret.Results)-1])
	if c.kind == aValue {
		first, other := types.ExprString(ret.Results[0]), types.ExprString(c.exits[back][0].stmt.(*ast.ReturnStmt).Results[0])
		if first != other || !c.steady(ret.Results[0], false) || c.calls(ret.Results[0]) {
			return false
		}
	}
	if call, ok := x.(*ast.CallExpr); ok {
		switch name := calleeName(call); {
		case !strings.HasSuffix(pkgOf(c.info, call), "errors") && pkgOf(c.info, call) != "fmt":
		case name == "New" || name == "Errorf":
			return true
		case strings.HasPrefix(name, "W") && len(call.Args) > 0: // Wrap, WithMessage
			x = ast.Unparen(call.Args[0])
		}
	}
	obj := variable(c.info, x)
	return obj != nil && slices.Contains(e.way.errs, obj)
}

// leaving writes the end of a round that leaves the loop.
func (c *closure) leaving(e exit) string {
	if c.mixed { // as if there were no retries left
		return fmt.Sprintf("return %s%s.Permanent(%[2]s.ErrMaxRetries)", c.nothing, c.pkg)
	}
	if c.outer == nil || e.way.none[c.outer] || c.returns() || c.raw() {
		return "return nil"
	}
	return fmt.Sprintf("return %s.Permanent(%s)", c.pkg, c.outer.Name())
}

// returns reports whether the function is left from within the loop.
func (c *closure) returns() bool {
	return len(c.exits[back]) > 0 || slices.ContainsFunc(c.waits, func(w *pause) bool {
		return w.leave != nil && !breaks(w) || c.justReturns(w)
	})
}

// result writes the return of an error that ended the loop before its count.
func (c *closure) result() (string, bool) {
	var ret *ast.ReturnStmt
	if len(c.exits[back]) > 0 {
		ret = c.exits[back][0].stmt.(*ast.ReturnStmt)
	}
	for _, w := range c.waits {
		if ret == nil && w.leave != nil && !breaks(w) {
			ret = w.leave.(*ast.ReturnStmt)
		}
		if ret == nil && c.justReturns(w) {
			ret = w.stop[0].(*ast.ReturnStmt)
		}
	}
	switch {
	case c.kind == anError:
		return "return err", true
	case c.kind == aValue && len(ret.Results) == 2:
		return "return " + c.source(ret.Results[0]) + ", err", c.steady(ret.Results[0], false) && !c.calls(ret.Results[0])
	}
	return c.source(ret), c.steady(ret, false)
}

// writeReturn makes the return of the function one of the function that is retried.
func (c *closure) writeReturn(e exit) bool {
	ret := e.stmt.(*ast.ReturnStmt)
	switch c.kind {
	case nothing:
		c.replace(ret.Pos(), ret.End(), "return nil")
		return true
	case aBool:
		id, ok := ret.Results[0].(*ast.Ident)
		switch {
		case !ok:
			return false
		case id.Name == "true":
			c.replace(ret.Pos(), ret.End(), "return nil")
			return true
		case id.Name != "false" || c.failure(e) == "":
			return false
		}
		c.replace(ret.Pos(), ret.End(), fmt.Sprintf("return %s.Permanent(%s)", c.pkg, c.failure(e)))
		return true
	}
	results := c.results()
	if len(ret.Results) == 0 { // named results
		var names []string
		for _, v := range results {
			names = append(names, v.Name())
		}
		if !c.valued && c.kind == aValue {
			return false
		}
		last := results[len(results)-1]
		if !e.way.none[last] {
			names[len(names)-1] = fmt.Sprintf("%s.Permanent(%s)", c.pkg, last.Name())
		}
		c.replace(ret.Pos(), ret.End(), "return "+strings.Join(names, ", "))
		return true
	}
	if len(ret.Results) != len(results) {
		return false
	}
	x := ret.Results[len(ret.Results)-1]
	obj := variable(c.info, x)
	if !c.valued && c.kind == aValue {
		c.replace(ret.Results[0].Pos(), x.Pos(), "")
	}
	if c.l.f.isNil(x) || obj != nil && e.way.none[obj] {
		return true
	}
	c.replace(x.Pos(), x.Pos(), c.pkg+".Permanent(")
	c.replace(x.End(), x.End(), ")")
	return true
}

// waiting takes the waits out of the body. It returns the Config, what stands before
// the call, and what at the beginning of each attempt.
func (c *closure) waiting() (config, before, start string) {
	fixed := c.backoff()
	heads := slices.ContainsFunc(c.waits, func(w *pause) bool { return w.head })
	missing := slices.ContainsFunc(c.exits[again], func(e exit) bool { return e.way.waited == nil })
	if missing && !heads && len(c.waits) > 0 {
		fixed = ""
	}
	name := ""
	if fixed == "" {
		if name = c.free("wait", "delay", "pause"); heads || name == "" {
			return "", "", ""
		}
		timePkg := c.imports.use("time", "time")
		before = fmt.Sprintf("var %s %s.Duration\n", name, timePkg)
		if missing {
			start = name + " = 0\n"
		}
		fixed = fmt.Sprintf("Backoff: func(int, %[1]s.Duration, func() float64) %[1]s.Duration { return %[2]s },\nMaxDelay: %[1]s.Hour", timePkg, name)
	}
	for _, w := range c.waits {
		text := ""
		if name != "" {
			text = name + " = " + c.source(w.delay)
		}
		switch {
		case len(w.after) > 0:
			if text != "" {
				text += "\n"
			}
			c.replace(w.pos, w.after[0].Pos(), text)
			c.replace(w.after[len(w.after)-1].End(), w.end, "")
		case text != "":
			c.replace(w.pos, w.end, text)
		default:
			c.cut(w.pos, w.end)
		}
	}
	return c.config(fixed), c.initial + c.bound.init + before, start
}

// free returns the first of these names that the function does not use.
func (c *closure) free(names ...string) string {
	for _, name := range names {
		if !c.mentionsName(c.l.f.node, name) && c.l.f.pass.Pkg.Scope().Lookup(name) == nil {
			return name
		}
	}
	return ""
}

// around writes what stands around the body.
func (c *closure) around(config, before, start, param string) bool {
	run, result := "Run", "error"
	if c.valued {
		t, ok := c.typeName(c.results()[0].Type())
		if !ok {
			return false
		}
		run, result = "Do", "("+t+", error)"
	}
	if start != "" {
		start = "\n" + strings.TrimSuffix(start, "\n")
	}
	head := fmt.Sprintf("%s.%s(%s, %s, func(%s %s.Context) %s {%s", c.pkg, run, c.ctx, config, param, c.imports.use("context", "context"), result, start)
	prefix, suffix, ok := c.after()
	if !ok {
		return false
	}
	if stop, differs, ok := c.stop(); differs {
		got, err := "", c.free("stopped", "runErr")
		if c.valued {
			got = c.free("got", "found")
		}
		if !ok || err == "" || c.valued && got == "" {
			return false
		}
		if c.valued {
			err = got + ", " + err
		}
		is := c.imports.use("errors", "errors", "stderrors")
		if prefix == "_ = " {
			prefix = ""
		} else {
			prefix += err
		}
		suffix = fmt.Sprintf("\nif %s.Is(%s, %s.ErrDraining) {\n%s\n}\n%s%s", is, err[strings.Index(err, " ")+1:], c.pkg, stop, prefix, suffix)
		prefix = err + " := "
	}
	c.replace(c.l.stmt.Pos(), c.bound.body.Lbrace+1, before+prefix+head)
	c.replace(c.bound.body.Rbrace, c.bound.body.Rbrace+1, "})"+suffix)
	return true
}

// justReturns reports whether w has a channel that ends it with a return of nothing, as
// any end of the retries does.
func (c *closure) justReturns(w *pause) bool {
	return w.drain != "" && c.kind == nothing && len(w.stop) == 1
}

// stop writes what is done when a channel has stopped the loop, where that is another
// thing than to return the library's error.
func (c *closure) stop() (code string, differs, ok bool) {
	ok = true
	for _, w := range c.waits {
		if w.drain == "" || c.justReturns(w) {
			continue
		}
		var lines []string
		for _, s := range w.stop {
			lines = append(lines, c.source(s))
		}
		text := strings.Join(lines, "\n")
		ok = ok && (!differs || text == code)
		code, differs = text, true
	}
	return code, differs, ok
}

// raw reports whether the errors of attempts must stay what they are.
func (c *closure) raw() bool {
	if c.strict {
		return true
	}
	kept := c.keeps()
	return c.outer != nil && c.compared(c.outer) || c.outer == nil && kept != nil && c.compared(kept)
}

// after writes what becomes of the result: what goes before the call, and what behind.
func (c *closure) after() (prefix, suffix string, ok bool) {
	next, last := c.next()
	if slices.ContainsFunc(c.waits, breaks) && (c.mixed || c.returns() && !c.returnsFailure(next)) {
		return "", "", false // what follows the loop is done when the context has ended, too
	}
	over := fmt.Sprintf("!errors.Is(err, %s.ErrMaxRetries)", c.pkg)
	is := func() { over = strings.Replace(over, "errors", c.imports.use("errors", "errors", "stderrors"), 1) }
	switch {
	case len(c.exits[leave]) > 0 && c.returns() && !c.mixed:
		result, ok := c.result()
		if !c.bound.counts {
			return "if err := ", "; err != nil {\n" + result + "\n}", ok
		}
		is()
		return "if err := ", "; err != nil && " + over + " {\n" + result + "\n}", ok
	case len(c.exits[leave]) > 0 && !c.mixed:
		kept := c.outer
		if kept == nil {
			kept = c.keeps()
		}
		switch {
		case kept == nil || c.raw() && strings.HasSuffix(c.ctx, ".Background()"):
			return "_ = ", "", true
		case c.raw():
			is()
			return "if stopped := ", fmt.Sprintf("; stopped != nil && %s {\n%s = stopped\n}", strings.Replace(over, "(err,", "(stopped,", 1), kept.Name()), true
		case c.outer != nil:
			return c.outer.Name() + " = ", "", true
		}
		return "if err := ", fmt.Sprintf("; err != nil {\n%s = err\n}", kept.Name()), true
	case len(c.exits[back]) == 0 || c.kind == anything:
		return "", "", false
	case !c.bound.counts && !c.mixed: // what follows is not reached
		switch {
		case c.kind == nothing && last:
			return "_ = ", "", true
		case c.kind == nothing:
			return "_ = ", "\nreturn", true
		case c.kind == aBool:
			return "return ", " == nil", true
		}
		return "return ", "", true
	}
	switch c.kind {
	case nothing:
		if next == nil {
			return "_ = ", "", true
		}
		is()
		return "if err := ", "; " + over + " {\nreturn\n}", true
	case aBool:
		ret, isReturn := next.(*ast.ReturnStmt)
		if !isReturn || len(ret.Results) != 1 || types.ExprString(ret.Results[0]) != "false" {
			return "", "", false
		}
		c.cut(ret.Pos(), ret.End())
		return "return ", " == nil", true
	}
	if ret, isReturn := next.(*ast.ReturnStmt); isReturn && c.bound.counts && !c.mixed && !c.strict && !c.invents && c.sameFailure(ret) {
		c.cut(ret.Pos(), ret.End())
		return "return ", "", true
	}
	is()
	if c.valued {
		value := c.free("v", "value", "result")
		if value == "" {
			return "", "", false
		}
		return "if " + value + ", err := ", "; " + over + " {\nreturn " + value + ", err\n}", true
	}
	return "if err := ", "; " + over + " {\nreturn err\n}", true
}

// returnsFailure reports whether next, behind the loop, is "if err != nil { return err }" of
// the error of the attempt: the same as is done where the function is left from within.
func (c *closure) returnsFailure(next ast.Stmt) bool {
	s, ok := next.(*ast.IfStmt)
	if !ok || s.Init != nil || c.outer == nil || len(s.Body.List) != 1 {
		return false
	}
	x, op := c.l.f.compared(&node{cond: ast.Unparen(s.Cond)}, c.l.f.isNil)
	ret, isReturn := s.Body.List[0].(*ast.ReturnStmt)
	result, ok := c.result()
	return ok && isReturn && op == token.NEQ && objectOf(c.info, x) == c.outer &&
		strings.TrimSuffix(c.source(ret), c.outer.Name()) == strings.TrimSuffix(result, "err")
}

// sameFailure reports whether ret, behind the loop, returns the last error of the loop,
// and no value.
func (c *closure) sameFailure(ret *ast.ReturnStmt) bool {
	results := c.results()
	if len(ret.Results) != len(results) {
		return false
	}
	obj := variable(c.info, ret.Results[len(results)-1])
	if obj == nil || obj != c.outer && obj != c.keeps() {
		return false
	}
	return len(results) == 1 || strings.TrimSuffix(c.nothing, ", ") == types.ExprString(ret.Results[0])
}

// keeps returns the variable outside of the loop in which it keeps the error of an
// attempt.
func (c *closure) keeps() types.Object {
	for obj, defs := range c.l.f.defs {
		if !c.outside(obj) || isField(obj) || !types.Identical(obj.Type(), types.Universe.Lookup("error").Type()) {
			continue
		}
		for _, d := range defs {
			if d.rhs != nil && variable(c.info, d.rhs) == c.l.attempt.obj && c.bound.body.Pos() <= d.at.Pos() && d.at.End() <= c.bound.body.End() {
				return obj
			}
		}
	}
	return nil
}

// next returns the statement behind the loop, nil if the block ends there, and whether
// the function ends with the loop.
func (c *closure) next() (next ast.Stmt, last bool) {
	at := 0
	if _, labelled := c.path[1].(*ast.LabeledStmt); labelled {
		at = 1
	}
	var list []ast.Stmt
	switch p := c.path[at+1].(type) {
	case *ast.BlockStmt:
		list = p.List
		last = p == c.l.f.body
	case *ast.CaseClause:
		list = p.Body
	case *ast.CommClause:
		list = p.Body
	}
	for i, s := range list {
		if ast.Node(s) == c.path[at] && i+1 < len(list) {
			return list[i+1], false
		}
	}
	return nil, last
}

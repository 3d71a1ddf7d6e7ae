package retrylint

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strings"
)

// kind is what a condition in a loop asks about.
type kind int

const (
	otherTest   kind = iota
	answerTest       // what came beside an error: a value, a state
	nilTest          // whether an error is nil
	kindTest         // which error it is
	statusTest       // the status of a response
	contextTest      // whether a context is done
	boundTest        // how often, how long
)

// A test is a condition in a loop.
type test struct {
	at   *node
	kind kind
	err  ast.Expr // of a nilTest
	ok   int      // of a nilTest: the successor for no error
	flag bool     // of a nilTest: a boolean stands for the error
	obj  types.Object
}

func (t *test) failed() edge { return edge{t.at, 1 - t.ok} }
func (t *test) passed() edge { return edge{t.at, t.ok} }

// failure returns the successor that a nil error does not take: for "is temporary"
// or "== errBusy" that of true, for "!= errBusy" that of false.
func (t *test) failure() int {
	if b, ok := ast.Unparen(t.at.cond).(*ast.BinaryExpr); ok && b.Op == token.NEQ && t.at.tag == nil {
		return 1
	}
	return 0
}

// statusFailure returns the successor that stands for a failure, where the status
// is compared with a number; -1 if that is not certain.
func (f *function) statusFailure(t *test) int {
	code, op := f.statusOf(t)
	good := code >= 200 && code < 300
	switch {
	case code < 100 || code > 600:
		return -1
	case op == token.EQL && good, op == token.NEQ && !good, op == token.LSS, op == token.LEQ:
		return 1
	case op == token.GEQ && code == 200:
		return 1
	}
	return 0
}

// isGood reports whether t asks whether the status is one, of those that are no failures.
func (f *function) isGood(t *test) bool {
	code, op := f.statusOf(t)
	return (op == token.EQL || op == token.NEQ) && code >= 200 && code < 300
}

// statusOf returns the number with which t compares a status, and how; 0 if there is none.
func (f *function) statusOf(t *test) (code int64, op token.Token) {
	op, e := token.EQL, t.at.cond
	if t.at.tag == nil {
		b, ok := ast.Unparen(t.at.cond).(*ast.BinaryExpr)
		if !ok {
			return 0, op
		}
		op, e = b.Op, b.Y
	}
	v := f.info.Types[e].Value
	if v == nil || v.Kind() != constant.Int {
		return 0, op
	}
	code, _ = constant.Int64Val(v)
	if sel, ok := ast.Unparen(e).(*ast.SelectorExpr); ok && sel.Sel.Name == "OK" && code == 0 { // of gRPC
		code = 200
	}
	return code, op
}

var statusName = regexp.MustCompile(`(?i)^(http)?_?status_?code$|^http_?status$`)

// Names of functions that make a status.
var newStatusName = regexp.MustCompile(`^(New|Error)f?$`)

// Names of results that say whether to try again.
var againName = regexp.MustCompile(`(?i)retr(y|iable)|again|continue|tempor|transient|recover`)

// classify says what the condition of n asks about.
func (f *function) classify(n *node) *test {
	t := &test{at: n}
	if x, op := f.compared(n, f.isNil); x != nil && (isError(f.info, x) || f.standsForError(x)) {
		t.err, t.obj, t.kind = x, variable(f.info, x), nilTest
		if isError(f.info, x) == (op == token.NEQ) {
			t.ok = 1
		}
		if f.isContextError(x, 2) {
			t.kind = contextTest
		}
		return t
	}
	if x, op := f.compared(n, f.isZero); x != nil && isError(f.info, x) { // an Errno
		t.err, t.obj, t.kind = x, variable(f.info, x), nilTest
		if op == token.NEQ {
			t.ok = 1
		}
		return t
	}
	if x, ok := f.flagOfError(n); x != nil {
		t.err, t.obj, t.kind, t.ok, t.flag = x, variable(f.info, x), nilTest, ok, true
		return t
	}
	if call := f.boolOfError(n); call != nil {
		t.err, t.kind, t.flag = call, nilTest, true
		return t
	}
	for _, e := range n.about() {
		if k, obj := f.about(e, 2); k > otherTest {
			if t.kind == otherTest || k == kindTest {
				t.kind, t.obj = k, obj
			}
		}
	}
	if obj := f.answers(n); t.kind == otherTest && obj != nil {
		t.kind, t.obj = answerTest, obj
	}
	return t
}

// flagOfError returns the error that the condition of n, a variable such as
// "ok := err == nil && …", says whether it is nil, and the successor for no error.
func (f *function) flagOfError(n *node) (err ast.Expr, ok int) {
	v, isVar := objectOf(f.info, n.cond).(*types.Var)
	if !isVar || n.tag != nil || v.IsField() {
		return nil, 0
	}
	for _, d := range f.defs[v] {
		if d.rhs == nil || f.info.Types[d.rhs].Value != nil {
			continue
		}
		x, i := f.nilIn(d.rhs)
		if x == nil || err != nil {
			return nil, 0
		}
		err, ok = x, i
	}
	return err, ok
}

// nilIn returns the error without which e is true (0), or with which it is (1).
func (f *function) nilIn(e ast.Expr) (err ast.Expr, ok int) {
	b, isBinary := ast.Unparen(e).(*ast.BinaryExpr)
	if !isBinary {
		return nil, 0
	}
	switch b.Op {
	case token.EQL, token.NEQ:
		if f.isNil(b.Y) && isError(f.info, b.X) {
			if b.Op == token.NEQ {
				ok = 1
			}
			return ast.Unparen(b.X), ok
		}
	case token.LAND, token.LOR:
		for _, side := range []ast.Expr{b.X, b.Y} {
			if x, i := f.nilIn(side); x != nil && (i == 0) == (b.Op == token.LAND) {
				return x, i
			}
		}
	}
	return nil, 0
}

// boolOfError returns the call that the condition of n is, or that set the variable that it
// is, if the function is at hand and returns false for an error.
func (f *function) boolOfError(n *node) *ast.CallExpr {
	if n.tag != nil {
		return nil
	}
	call, _ := ast.Unparen(n.cond).(*ast.CallExpr)
	if v, ok := objectOf(f.info, n.cond).(*types.Var); ok && !v.IsField() {
		for _, d := range f.defs[v] {
			if d.rhs == nil || f.info.Types[d.rhs].Value != nil {
				continue
			}
			c, ok := ast.Unparen(d.rhs).(*ast.CallExpr)
			if !ok || call != nil {
				return nil
			}
			call = c
		}
	}
	if call == nil || resultCount(f.info, call) != 1 || !f.falseForError(f.bodyOf(call)) ||
		slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return isError(f.info, a) }) { // which it judges
		return nil
	}
	return call
}

// bodyOf returns the body of the function that call calls, if it is at hand: declared in the
// package, a literal, or a variable that is only set to one. Nil if it is not.
func (f *function) bodyOf(call *ast.CallExpr) *ast.BlockStmt {
	if decl := f.pkg.bodyOf(f.info, call); decl != nil {
		return decl.Body
	}
	if lit, ok := ast.Unparen(call.Fun).(*ast.FuncLit); ok {
		return lit.Body
	}
	if lit := f.pkg.literals[variable(f.info, call.Fun)]; lit != nil {
		return lit.Body
	}
	return nil
}

// falseForError reports whether a function with this body returns false where a call
// in it fails, and true elsewhere.
func (f *function) falseForError(body *ast.BlockStmt) bool {
	if body == nil || len(body.List) > 12 {
		return false
	}
	returns := func(list []ast.Stmt, value string) bool {
		if len(list) == 0 {
			return false
		}
		r, ok := list[len(list)-1].(*ast.ReturnStmt)
		return ok && len(r.Results) == 1 && objectOf(f.info, r.Results[0]) == types.Universe.Lookup(value)
	}
	found := false
	for i, s := range body.List {
		switch s := s.(type) {
		case *ast.IfStmt:
			x, ok := f.nilIn(s.Cond)
			if x == nil || s.Else != nil || !f.setIn(x, body) {
				continue
			}
			if ok == 1 && returns(s.Body.List, "false") && endsInReturn(body) || ok == 0 && returns(s.Body.List, "true") && returns(body.List[i+1:], "false") {
				found = true
			} else if returns(s.Body.List, "true") || returns(s.Body.List, "false") {
				return false
			}
		case *ast.ReturnStmt:
			if len(s.Results) == 1 {
				x, ok := f.nilIn(s.Results[0])
				found = found || x != nil && ok == 0 && f.setIn(x, body)
			}
		}
	}
	return found
}

// endsInReturn reports whether the last statement of body is a return, and not a loop that it
// is left from.
func endsInReturn(body *ast.BlockStmt) bool {
	_, ok := body.List[len(body.List)-1].(*ast.ReturnStmt)
	return ok
}

// setIn reports whether the error x is the result of a call in body.
func (f *function) setIn(x ast.Expr, body *ast.BlockStmt) bool {
	if call, ok := x.(*ast.CallExpr); ok {
		return !f.isContextError(call, 0)
	}
	obj := objectOf(f.info, x)
	return obj != nil && mentions(body, func(n ast.Node) bool {
		as, ok := n.(*ast.AssignStmt)
		if !ok || len(as.Rhs) != 1 {
			return false
		}
		call, ok := as.Rhs[0].(*ast.CallExpr)
		return ok && !purePackages[pkgOf(f.info, call)] && objectOf(f.info, as.Lhs[len(as.Lhs)-1]) == obj
	})
}

// standsForError reports whether x is a value whose error is discarded by the
// call that returns both: its being nil is all that is known of a failure.
func (f *function) standsForError(x ast.Expr) bool {
	obj := objectOf(f.info, x)
	found := false
	for _, d := range f.defs[obj] {
		as, ok := d.at.(*ast.AssignStmt)
		if !ok || len(as.Rhs) != 1 || len(as.Lhs) < 2 {
			if d.rhs != nil && !f.isNil(d.rhs) {
				return false
			}
			continue
		}
		results, ok := f.info.TypeOf(as.Rhs[0]).(*types.Tuple)
		last := len(as.Lhs) - 1
		id, blank := as.Lhs[last].(*ast.Ident)
		if !ok || results.Len() != len(as.Lhs) || !types.Implements(results.At(last).Type(), errorType) || !blank || id.Name != "_" {
			return false
		}
		found = true
	}
	return found
}

// answers returns the error beside which the value came that the condition of n
// asks about, or of which that is a part, or nil.
func (f *function) answers(n *node) types.Object {
	for _, e := range n.about() {
		if err := f.answerIn(e, 2); err != nil {
			return err
		}
	}
	return nil
}

// answerIn is answers for a part of a condition.
func (f *function) answerIn(e ast.Expr, depth int) (err types.Object) {
	mentions(e, func(x ast.Node) bool {
		id, ok := x.(*ast.Ident)
		if !ok || err != nil {
			return err != nil
		}
		obj := f.info.ObjectOf(id)
		if err = f.besideError(obj); err != nil || depth == 0 {
			return err != nil
		}
		for _, d := range f.defs[obj] {
			switch part := d.rhs.(type) {
			case *ast.TypeAssertExpr, *ast.IndexExpr, *ast.SelectorExpr:
				if err == nil {
					err = f.answerIn(part, depth-1)
				}
			}
		}
		return err != nil
	})
	return err
}

// besideError returns the error that comes from the call that sets obj, be it as
// another result or through a pointer to obj. Nil if there is none.
func (f *function) besideError(obj types.Object) types.Object {
	v, ok := obj.(*types.Var)
	if !ok || v.IsField() || isErrorVar(v) {
		return nil
	}
	for _, d := range f.defs[obj] {
		if call, ok := d.rhs.(*ast.CallExpr); ok && resultCount(f.info, call) > 1 {
			if err := f.errorBeside(d); err != nil && !f.setWithoutError(call, d, v) {
				return err
			}
		}
	}
	return f.outs[obj]
}

// compared returns what the condition of n compares with an expression for which
// with holds, and how.
func (f *function) compared(n *node, with func(ast.Expr) bool) (ast.Expr, token.Token) {
	if n.tag != nil {
		if with(n.cond) {
			return n.tag, token.EQL
		}
		return nil, 0
	}
	b, ok := n.cond.(*ast.BinaryExpr)
	if !ok || b.Op != token.EQL && b.Op != token.NEQ {
		return nil, 0
	}
	if with(b.Y) {
		return ast.Unparen(b.X), b.Op
	}
	if with(b.X) {
		return ast.Unparen(b.Y), b.Op
	}
	return nil, 0
}

func (f *function) isZero(e ast.Expr) bool {
	v := f.info.Types[e].Value
	return v != nil && v.Kind() == constant.Int && constant.Sign(v) == 0
}

func (f *function) isNil(e ast.Expr) bool {
	id, ok := ast.Unparen(e).(*ast.Ident)
	if !ok || id.Name != "nil" {
		return false
	}
	obj := f.info.Uses[id]
	_, isNil := obj.(*types.Nil)
	return isNil || obj == nil
}

// isContextError reports whether e is what a context's Err or Cause returned.
func (f *function) isContextError(e ast.Expr, depth int) bool {
	if call, ok := ast.Unparen(e).(*ast.CallExpr); ok {
		if isFunc(f.info, call, "context", "Cause") {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "Err" && isContext(f.info.TypeOf(sel.X))
	}
	obj := variable(f.info, e)
	if obj == nil || depth == 0 {
		return false
	}
	all := false
	for _, d := range f.defs[obj] {
		if d.rhs == nil {
			continue
		}
		if !f.isContextError(d.rhs, depth-1) {
			return false
		}
		all = true
	}
	return all
}

// about says what e, part of a condition, speaks of.
func (f *function) about(e ast.Expr, depth int) (kind, types.Object) {
	k, obj := otherTest, types.Object(nil)
	set := func(to kind, o types.Object) {
		if k == otherTest || to == contextTest || to == statusTest && k != contextTest {
			k, obj = to, o
		}
	}
	shallow(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if newStatusName.MatchString(calleeName(n)) && strings.HasSuffix(pkgOf(f.info, n), "/status") {
				return false // a status to send, and not one that came
			}
			switch {
			case f.isContextError(n, 0):
				set(contextTest, nil)
			case isFunc(f.info, n, "time", "Since", "Now", "Until", "After", "Before"):
				set(boundTest, nil)
			case isError(f.info, n) || f.decides(n):
				set(kindTest, nil)
			}
			for _, a := range n.Args { // slices.ContainsFunc(known, func(s string) bool { return strings.Contains(err.Error(), s) })
				if lit, ok := a.(*ast.FuncLit); ok {
					if obj := f.errorIn(lit); obj != nil {
						set(kindTest, obj)
					}
				}
			}
		case *ast.SelectorExpr:
			if statusName.MatchString(n.Sel.Name) || isStatusConst(f.info, n) {
				set(statusTest, nil)
			} else if isError(f.info, n) && variable(f.info, n) != nil {
				set(kindTest, variable(f.info, n))
			}
		case *ast.Ident:
			f.aboutIdent(n, depth, set)
		}
		return true
	})
	return k, obj
}

// errorIn returns the error of the function around lit that lit, which returns a bool, asks about.
func (f *function) errorIn(lit *ast.FuncLit) types.Object {
	var err types.Object
	results := lit.Type.Results
	if results == nil || len(results.List) != 1 || !types.Identical(f.info.TypeOf(results.List[0].Type), types.Typ[types.Bool]) {
		return nil
	}
	mentions(lit.Body, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if v, isVar := f.info.ObjectOf(id).(*types.Var); ok && isVar && isErrorVar(v) && v.Pos() < lit.Pos() {
			err = v
		}
		return err != nil
	})
	return err
}

// decides reports whether call asks a helper, by its name, whether to try again,
// and gives it what an attempt returned beside its error.
func (f *function) decides(call *ast.CallExpr) bool {
	t := f.info.TypeOf(call)
	if t == nil || !types.Identical(t.Underlying(), types.Typ[types.Bool]) || !retryWord.MatchString(calleeName(call)) {
		return false
	}
	return mentions(call, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		return ok && f.besideError(f.info.ObjectOf(id)) != nil
	})
}

func (f *function) aboutIdent(id *ast.Ident, depth int, set func(kind, types.Object)) {
	obj := f.info.ObjectOf(id)
	v, ok := obj.(*types.Var)
	if !ok && obj != nil || v == nil && !isError(f.info, id) {
		return
	}
	switch {
	case isError(f.info, id):
		set(kindTest, obj)
	case v == nil:
	case statusName.MatchString(id.Name):
		set(statusTest, nil)
	case isNamed(v.Type(), "time", "Time"):
		set(boundTest, nil)
	case depth > 0 && types.Identical(v.Type().Underlying(), types.Typ[types.Bool]):
		for _, d := range f.defs[v] {
			if d.rhs == nil {
				continue
			}
			if call, ok := d.rhs.(*ast.CallExpr); ok && resultCount(f.info, call) > 1 {
				if o := f.errorBeside(d); o != nil && againName.MatchString(id.Name) && !f.setWithoutError(call, d, v) {
					set(kindTest, o)
				}
			}
			if k, o := f.about(d.rhs, depth-1); k != otherTest {
				set(k, o)
			}
		}
	}
}

// setWithoutError reports whether the function that call calls, if it is at hand, returns the
// flag v, which d sets, only without an error: something has ended then, and nothing failed.
func (f *function) setWithoutError(call *ast.CallExpr, d def, v *types.Var) bool {
	as, ok := d.at.(*ast.AssignStmt)
	body := f.bodyOf(call)
	if !ok || body == nil {
		return false
	}
	flag := slices.IndexFunc(as.Lhs, func(e ast.Expr) bool { return objectOf(f.info, e) == v })
	set, known := false, true
	shallow(body, func(n ast.Node) bool {
		r, ok := n.(*ast.ReturnStmt)
		if !ok {
			return true
		}
		if flag < 0 || flag >= len(r.Results) {
			known = false
			return true
		}
		value := f.info.Types[r.Results[flag]].Value
		switch {
		case value == nil || value.Kind() != constant.Bool:
			known = false
		case constant.BoolVal(value):
			set = true
			known = known && f.isNil(r.Results[len(r.Results)-1])
		}
		return true
	})
	return set && known
}

// errorBeside returns the error that is assigned by the same statement as d.
func (f *function) errorBeside(d def) types.Object {
	as, ok := d.at.(*ast.AssignStmt)
	if !ok {
		return nil
	}
	for _, l := range as.Lhs {
		if isError(f.info, l) {
			return variable(f.info, l)
		}
	}
	return nil
}

// isStatusConst reports whether sel is a status of net/http, or a code of gRPC.
func isStatusConst(info *types.Info, sel *ast.SelectorExpr) bool {
	c, ok := info.ObjectOf(sel.Sel).(*types.Const)
	if !ok || c.Pkg() == nil {
		return false
	}
	return c.Pkg().Path() == "net/http" && hasWord(c.Name(), "status") || c.Pkg().Path() == "google.golang.org/grpc/codes"
}

package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"regexp"
	"slices"
	"strings"
)

// attempts returns the calls in the loop whose failure t tests.
func (l *loop) attempts(t *test) []*ast.CallExpr {
	var calls []*ast.CallExpr
	seen := map[ast.Expr]bool{}
	var from func(obj types.Object, at place)
	var add func(e ast.Expr, at place)
	add = func(e ast.Expr, at place) {
		switch e := ast.Unparen(e).(type) {
		case *ast.CallExpr:
			if l.canFail(e) {
				calls = append(calls, e)
				return
			}
			if sel, ok := e.Fun.(*ast.SelectorExpr); ok && len(e.Args) == 0 && sel.Sel.Name == "Err" {
				from(objectOf(l.f.info, sel.X), at) // the error is part of what the attempt returned
			}
			for _, a := range e.Args { // a call that wraps the error of an attempt
				if isError(l.f.info, a) {
					add(a, at)
				}
			}
		case *ast.TypeAssertExpr:
			from(variable(l.f.info, e.X), at)
		case *ast.SelectorExpr:
			if field := variable(l.f.info, e); field != nil && isErrorVar(field) && l.setInside(field) {
				from(field, at)
			} else {
				from(variable(l.f.info, e.X), at)
			}
		case *ast.UnaryExpr:
			for _, sent := range l.sent(e) {
				add(sent, at)
			}
		case *ast.Ident:
			from(variable(l.f.info, e), at)
		}
	}
	from = func(obj types.Object, at place) {
		received := false
		follow := func(d def, from place) {
			if d.rhs != nil && !seen[d.rhs] {
				seen[d.rhs] = true
				u, ok := ast.Unparen(d.rhs).(*ast.UnaryExpr)
				received = received || ok && u.Op == token.ARROW
				add(d.rhs, from)
			}
		}
		if err := l.f.asFrom(obj); err != nil && isErrorVar(obj) {
			obj = err
		}
		if l.reaching(obj, at, follow); !received {
			return
		}
		for _, d := range l.f.defs[obj] { // of what is tried elsewhere, that beside it
			if l.contains(d.at) {
				follow(d, at)
			}
		}
	}
	here := place{t.at, token.NoPos}
	if t.kind == nilTest {
		add(t.err, here)
		return calls
	}
	for _, e := range t.at.about() {
		shallow(e, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				if v, ok := l.f.info.ObjectOf(id).(*types.Var); ok && !v.IsField() {
					from(v, here)
				}
			}
			return true
		})
	}
	return calls
}

// sent returns the calls whose results a goroutine that the loop starts sends to the channel
// that e receives from.
func (l *loop) sent(e *ast.UnaryExpr) []ast.Expr {
	ch := objectOf(l.f.info, e.X)
	if e.Op != token.ARROW || ch == nil {
		return nil
	}
	var values []ast.Expr
	value := func(x ast.Expr) {
		shallow(x, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				values = append(values, n)
				return false
			case *ast.Ident:
				for _, d := range l.f.defs[objectOf(l.f.info, n)] {
					if call, ok := d.rhs.(*ast.CallExpr); ok && isError(l.f.info, n) && l.contains(d.at) {
						values = append(values, call)
					}
				}
			}
			return true
		})
	}
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			if start, ok := x.(*ast.GoStmt); ok {
				ast.Inspect(start, func(n ast.Node) bool {
					if s, ok := n.(*ast.SendStmt); ok && objectOf(l.f.info, s.Chan) == ch {
						value(s.Value)
					}
					return true
				})
			}
		}
	}
	return values
}

// answering returns the calls in the loop that could have failed with an error, and whose
// answer the condition of t asks about: what came beside the error, or what they filled.
func (l *loop) answering(t *test) []*ast.CallExpr {
	var calls []*ast.CallExpr
	seen := map[types.Object]bool{}
	add := func(call *ast.CallExpr) {
		if l.maySayNo(call) && l.canFail(call) && !readName.MatchString(calleeName(call)) && !slices.Contains(calls, call) {
			calls = append(calls, call)
		}
	}
	var from func(x ast.Node, at place)
	from = func(x ast.Node, at place) {
		shallow(x, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			v, ok := l.f.info.ObjectOf(id).(*types.Var)
			if !ok || v.IsField() || seen[v] || isErrorVar(v) || isContext(v.Type()) {
				return true
			}
			seen[v] = true
			inside := false
			l.reaching(v, at, func(d def, at place) {
				if inside = true; d.rhs == nil {
					return
				}
				if call, ok := ast.Unparen(d.rhs).(*ast.CallExpr); ok && l.maySayNo(call) {
					if !types.Identical(v.Type(), types.Typ[types.Int]) { // which is how far it got
						add(call)
					}
				} else {
					from(d.rhs, at)
				}
			})
			if !inside {
				l.filling(v, add)
			}
			return true
		})
	}
	for _, e := range t.at.about() {
		from(e, place{t.at, token.NoPos})
	}
	return calls
}

// Names of functions that bring something else each time.
var readName = regexp.MustCompile(`^([rR]ead|[rR]ecv|[rR]eceive|[aA]ccept|[nN]ext|[pP]arse|[dD]ecode)([A-Z]|$)`)

// maySayNo reports whether call returns an error, or says by its name that it only tries.
func (l *loop) maySayNo(call *ast.CallExpr) bool {
	return returnsError(l.f.info, call) || tryName.MatchString(calleeName(call)) && resultCount(l.f.info, call) > 0 && !l.saysWhen(call)
}

// saysWhen reports whether call also returns how long to wait, as limiters do: it does not
// fail, it takes turns.
func (l *loop) saysWhen(call *ast.CallExpr) bool {
	results, ok := l.f.info.TypeOf(call).(*types.Tuple)
	if !ok {
		return false
	}
	for v := range results.Variables() {
		if isDuration(v.Type()) {
			return true
		}
	}
	return false
}

// filling calls add with the calls in the loop that are given obj, and may so change what
// it points to.
func (l *loop) filling(obj *types.Var, add func(*ast.CallExpr)) {
	switch obj.Type().Underlying().(type) {
	case *types.Pointer, *types.Interface, *types.Map, *types.Slice:
	default:
		return
	}
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			shallow(x, func(y ast.Node) bool {
				if call, ok := y.(*ast.CallExpr); ok && slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return objectOf(l.f.info, a) == obj }) {
					add(call)
				}
				return true
			})
		}
	}
}

// returnsError reports whether the last result of call is an error.
func returnsError(info *types.Info, call *ast.CallExpr) bool {
	t := info.TypeOf(call)
	if results, ok := t.(*types.Tuple); ok && results.Len() > 0 {
		t = results.At(results.Len() - 1).Type()
	}
	return t != nil && types.Implements(t, errorType)
}

// A place is what stands in a node before a position; all of it, if that is not valid.
type place struct {
	node   *node
	before token.Pos
}

// reaching calls f with each assignment to obj in the loop whose value obj may have at
// a place, and with the place of the assignment itself.
func (l *loop) reaching(obj types.Object, at place, f func(def, place)) {
	defs := l.f.defs[obj]
	if obj == nil || len(defs) == 0 {
		return
	}
	seen := set{}
	for todo := []place{at}; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		replaced := false
		for i := len(p.node.list) - 1; i >= 0 && !replaced; i-- {
			x := p.node.list[i]
			if p.before.IsValid() && x.Pos() >= p.before {
				continue
			}
			for _, d := range defs {
				if x.Pos() <= d.at.Pos() && d.at.End() <= x.End() {
					f(d, place{p.node, x.Pos()})
					replaced = replaced || d.at == x // and not only by a function literal
				}
			}
		}
		for _, before := range p.node.preds {
			if !replaced && l.cycle.nodes[before] && !seen[before] {
				seen[before] = true
				todo = append(todo, place{before, token.NoPos})
			}
		}
	}
}

// Packages whose functions fail the same way each time, or fail nothing.
var purePackages = map[string]bool{
	"context": true, "errors": true, "fmt": true, "strconv": true, "strings": true, "regexp": true,
	"encoding/json": true, "encoding/xml": true, "encoding/hex": true, "encoding/base64": true,
	"net/url": true, "path": true, "path/filepath": true, "html/template": true, "text/template": true,
	"go/parser": true, "math/big": true, "encoding/binary": true, "bytes": true, "bufio": true,
	"github.com/pkg/errors": true, "log/slog": true, "go.uber.org/zap": true,
}

// What went wrong before; the wait for a limiter, a process, a group; what is
// meant to be spun on.
var notTried = regexp.MustCompile(`^(Err|Wait)$`)

// What an error wraps.
var unwrapName = regexp.MustCompile(`^(Unwrap|Cause)$`)

var swapName = regexp.MustCompile(`(?i:compareandswap)|(Cas|CAS|Atomic)$`)

var constructorName = regexp.MustCompile(`^New(Request|RequestWithContext)$|^(Wrap|Wrapf|Errorf|WithMessage)$|^Parse`)

// canFail reports whether call may fail now and succeed later.
func (l *loop) canFail(call *ast.CallExpr) bool {
	if tv, ok := l.f.info.Types[call.Fun]; ok && (tv.IsType() || tv.IsBuiltin()) {
		return false
	}
	if purePackages[pkgOf(l.f.info, call)] || constructorName.MatchString(calleeName(call)) {
		return false
	}
	if l.f.isContextError(call, 0) || l.f.waitCall(call) != nil {
		return false
	}
	if name := calleeName(call); notTried.MatchString(name) && len(call.Args) < 2 || unwrapName.MatchString(name) && len(call.Args) == 0 || swapName.MatchString(name) {
		return false
	}
	if results, ok := l.f.info.TypeOf(call).(*types.Tuple); ok && results.Len() > 0 && isRequest(results.At(0).Type()) {
		return false // it only makes the request
	}
	for _, a := range call.Args {
		if isError(l.f.info, a) {
			return false // it wraps or unwraps what went wrong before
		}
	}
	return true
}

// another reports whether call tries something else in each round: the next
// address, the next page, what a channel or a person brings.
func (l *loop) another(call *ast.CallExpr) bool {
	t := &trace{loop: l, seen: map[[2]*types.Var]bool{}, path: map[types.Object]bool{}}
	if lit, ok := ast.Unparen(call.Fun).(*ast.FuncLit); ok {
		return t.closesOver(lit)
	}
	if l.givenNumber(call) {
		return l.asks(call)
	}
	return l.asks(call) || t.depends(call)
}

// A trace follows what is tried to where its parts come from.
type trace struct {
	*loop
	seen map[[2]*types.Var]bool // variables and their fields
	path map[types.Object]bool  // those whose value is being traced
	deep bool                   // in what is computed before it is tried
}

// closesOver reports whether a call in lit that may fail is given something of the loop
// that is another in each round.
func (t *trace) closesOver(lit *ast.FuncLit) bool {
	return mentions(lit.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		return ok && returnsError(t.f.info, call) && t.canFail(call) && slices.ContainsFunc(call.Args, func(a ast.Expr) bool {
			v, ok := objectOf(t.f.info, a).(*types.Var)
			return ok && (v.Pos() < lit.Pos() || v.Pos() > lit.End()) && t.variable(v, nil)
		})
	})
}

// depends reports whether n is another in each round.
func (t *trace) depends(n ast.Node) bool {
	found := false
	ast.Inspect(n, func(x ast.Node) bool {
		if found {
			return false
		}
		switch x := x.(type) {
		case *ast.UnaryExpr:
			found = x.Op == token.ARROW && !isTimeChan(t.f.info.TypeOf(x.X))
		case *ast.CallExpr:
			found = t.draws(x) || !t.paced && t.makes(x) || n != ast.Node(x) && (t.drawsInside(x) || t.computes(x)) || t.deep && (t.inTurn(x) || !t.paced && t.drawsInside(x))
		case *ast.IndexExpr:
			found = t.mentionsSet(x.Index)
		case *ast.SelectorExpr:
			field, ok := t.f.info.ObjectOf(x.Sel).(*types.Var)
			if obj, isVar := objectOf(t.f.info, x.X).(*types.Var); ok && isVar && field.IsField() {
				found = t.variable(obj, field) || t.counters[field] && isInteger(field.Type()) && !countName.MatchString(field.Name())
				return false
			}
		case *ast.Ident:
			if obj, ok := t.f.info.ObjectOf(x).(*types.Var); ok && !obj.IsField() {
				found = t.variable(obj, nil)
			}
		}
		return !found
	})
	return found
}

// computes reports whether call makes of the number of the attempt what is then tried.
func (t *trace) computes(call *ast.CallExpr) bool {
	typ := t.f.info.TypeOf(call)
	if t.f.info.Types[call.Fun].IsType() || isContext(typ) || isDuration(typ) || isRequest(typ) || purePackages[pkgOf(t.f.info, call)] {
		return false
	}
	return slices.ContainsFunc(call.Args, func(a ast.Expr) bool {
		v, ok := objectOf(t.f.info, a).(*types.Var)
		return ok && t.isTry(v)
	})
}

// variable reports whether obj, or its field if that is not nil, is another in each round.
func (t *trace) variable(obj, field *types.Var) bool {
	if t.path[obj] {
		return t.outlives(obj) // its value comes from that of the round before
	}
	if t.seen[[2]*types.Var{obj, nil}] || t.seen[[2]*types.Var{obj, field}] || t.same(obj) || !t.deep && t.isTry(obj) {
		return false
	}
	defer func(was bool) { t.deep = was }(t.deep)
	t.deep = true
	t.seen[[2]*types.Var{obj, field}] = true
	t.path[obj] = true
	defer delete(t.path, obj)
	if isRequest(obj.Type()) { // which is made again, but for where it goes
		return t.sentElsewhere(obj)
	}
	if t.counters[obj] && t.outlives(obj) {
		return true
	}
	for _, d := range t.f.defs[obj] {
		if d.rhs != nil && t.contains(d.at) && t.depends(d.rhs) {
			return true
		}
	}
	if x := t.rangedOver(obj); x != nil && t.depends(x) {
		return true
	}
	for _, d := range t.f.fields[obj] {
		if !t.contains(d.at) || field != nil && d.field != nil && d.field != field {
			continue
		}
		_, several := t.f.info.TypeOf(d.rhs).(*types.Tuple) // of which it is not all
		if d.field == nil && t.depends(d.rhs) || d.field != nil && !several && t.outlives(obj) && uses(t.f.info, d.rhs, d.field) {
			return true
		}
		delete(t.path, obj) // another field of it is no progress
		if d.field != nil && t.depends(d.rhs) {
			return true
		}
		t.path[obj] = true
	}
	return false
}

// rangedOver returns what a loop within the loop ranges over whose variable obj is.
func (l *loop) rangedOver(obj types.Object) ast.Expr {
	for n := range l.cycle.nodes {
		if r, ok := n.stmt.(*ast.RangeStmt); ok && ast.Stmt(r) != l.stmt && (r.Key != nil && objectOf(l.f.info, r.Key) == obj || r.Value != nil && objectOf(l.f.info, r.Value) == obj) {
			return r.X
		}
	}
	return nil
}

// outlives reports whether obj keeps its value from one round to the next.
func (l *loop) outlives(obj types.Object) bool {
	begin, end := l.pos, l.end
	switch s := l.stmt.(type) {
	case *ast.ForStmt:
		begin, end = s.Body.Pos(), s.Body.End()
	case *ast.RangeStmt:
		begin, end = s.Body.Pos(), s.Body.End()
	}
	return obj.Pos() < begin || obj.Pos() > end
}

// sentElsewhere reports whether the loop gives the request obj another URL in each round, or,
// where it does not wait, makes it with one.
func (t *trace) sentElsewhere(obj types.Object) bool {
	if slices.ContainsFunc(t.f.fields[obj], func(d def) bool {
		return d.field != nil && (d.field.Name() == "URL" || d.field.Name() == "Host") && t.contains(d.at) && t.depends(d.rhs)
	}) {
		return true
	}
	if !t.paced && slices.ContainsFunc(t.f.defs[obj], func(d def) bool {
		call, ok := d.rhs.(*ast.CallExpr)
		return ok && t.contains(d.at) && slices.ContainsFunc(call.Args, func(a ast.Expr) bool {
			return isString(t.f.info.TypeOf(a)) && t.depends(a)
		})
	}) {
		return true
	}
	found := false
	for n := range t.cycle.nodes {
		for _, x := range n.list {
			shallow(x, func(x ast.Node) bool {
				call, ok := x.(*ast.CallExpr)
				if !ok || !slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return objectOf(t.f.info, a) == obj }) {
					return !found
				}
				for _, a := range call.Args {
					found = found || isNamed(t.f.info.TypeOf(a), "net/url", "URL") && t.depends(a)
				}
				return !found
			})
		}
	}
	return found
}

// mentionsSet reports whether n speaks of a variable or field that the loop sets.
func (l *loop) mentionsSet(n ast.Node) bool {
	return mentions(n, func(x ast.Node) bool {
		id, ok := x.(*ast.Ident)
		if !ok {
			return false
		}
		v, ok := l.f.info.ObjectOf(id).(*types.Var)
		return ok && ((l.counters[v] || l.setInside(v)) && (v.IsField() || l.outlives(v)) || l.stores(v))
	})
}

// stores reports whether the loop calls a method of v that sets it, as atomic ones have.
func (l *loop) stores(v *types.Var) bool {
	for n := range l.cycle.nodes {
		for _, x := range n.list {
			if mentions(x, func(x ast.Node) bool {
				call, ok := x.(*ast.CallExpr)
				if !ok || !storeName.MatchString(calleeName(call)) {
					return false
				}
				sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
				return ok && variable(l.f.info, sel.X) == v
			}) {
				return true
			}
		}
	}
	return false
}

var storeName = regexp.MustCompile(`^(Store|Add|Swap|CompareAndSwap|Inc)$`)

// givenNumber reports whether call hands a function that came as a value nothing of the
// loop but the number of the round.
func (l *loop) givenNumber(call *ast.CallExpr) bool {
	v := variable(l.f.info, call.Fun)
	return v != nil && len(call.Args) == 1 && l.counters[objectOf(l.f.info, call.Args[0])]
}

// same reports whether obj, though it changes from round to round, does not make
// what is tried another.
func (l *loop) same(obj *types.Var) bool {
	t := obj.Type()
	if isContext(t) || isResponse(t) || isDuration(t) || isErrorVar(obj) || isNamed(t, "time", "Time") {
		return true
	}
	return isInteger(t) && l.counters[obj] && loadName.MatchString(obj.Name())
}

// isTry reports whether obj is by its name, or by that of its limit, the number of the attempt.
func (l *loop) isTry(obj *types.Var) bool {
	if !isInteger(obj.Type()) || !l.isNumber(obj) {
		return false
	}
	s, ok := l.stmt.(*ast.ForStmt)
	limited := ok && s.Cond != nil && uses(l.f.info, s.Cond, obj) && l.names(s.Cond, retryWord)
	return limited || retryWord.MatchString(obj.Name())
}

// Names of numbers by which the same is tried more gently.
var loadName = regexp.MustCompile(`(?i)concurren|parallel|timeout`)

var drawName = regexp.MustCompile(`(?i)rand|uuid|unique|prompt|readline|passw|passphrase|stdin|userinput|^(?-i:[aA]sk)(?-i:[A-Z]|$)`)

// Names of functions that say which is the next of several, though a wait of the same
// type may be named so.
var nextName = regexp.MustCompile(`^(get|pick|choose|select)?[nN]ext([A-Z]|$)`)

// draws reports whether call brings something new each time. Where the loop waits, what
// is random is no other thing to try.
func (l *loop) draws(call *ast.CallExpr) bool {
	name, pkg := calleeName(call), pkgOf(l.f.info, call)
	if pickName.MatchString(name) || pkg == "sync/atomic" && strings.HasPrefix(name, "Add") {
		return true
	}
	if l.paced {
		return popName.MatchString(name) || nextName.MatchString(name) && len(call.Args) == 0 && !isDuration(l.f.info.TypeOf(call))
	}
	if hasWord(name, "scan") && (pkg == "fmt" || len(call.Args) == 0) {
		return true // and not what reads the row of a database
	}
	return drawName.MatchString(name) || nextName.MatchString(name) || popName.MatchString(name) || randPackage.MatchString(path.Base(pkg)) || path.Base(path.Dir(pkg)) == "rand" || pkg == "bufio" && !strings.HasPrefix(name, "New")
}

// Names of packages that draw what is random.
var randPackage = regexp.MustCompile(`^(math|crypto)?rand(om|util)?s?$`)

// makes reports whether call calls a function of another package that is given nothing and
// returns a plain value, such as an ID.
func (l *loop) makes(call *ast.CallExpr) bool {
	f, ok := callee(l.f.info, call).(*types.Func)
	if !ok || len(call.Args) > 0 || f.Signature().Recv() != nil || isDuration(l.f.info.TypeOf(call)) {
		return false
	}
	if f.Pkg() == l.f.pass.Pkg || f.Pkg().Path() == "os" || f.Pkg().Path() == "runtime" {
		return false
	}
	switch t := l.f.info.TypeOf(call).Underlying().(type) {
	case *types.Basic:
		return t.Info()&types.IsBoolean == 0
	case *types.Array:
		return true
	}
	return false
}

var pickName = regexp.MustCompile(`(?i)random(ly)?(pick|choose|select)|(pick|choose|select)random|^(Create|Mkdir)Temp$`)

var popName = regexp.MustCompile(`^([pP]op|[dD]equeue)([A-Z]|$)`)

// Names of functions by which one of several is taken out.
var takeName = regexp.MustCompile(`^(Remove|Pop|Take|Dequeue)(Front|Back|Left|Right|First|Last)?$`)

// drawsInside reports whether the function that call calls, if it is at hand and short,
// draws, or returns one of several in turn.
func (l *loop) drawsInside(call *ast.CallExpr) bool {
	decl := l.f.pkg.bodyOf(l.f.info, call)
	if decl == nil || len(decl.Body.List) > 12 {
		return false
	}
	return l.inTurn(call) || mentions(decl.Body, func(n ast.Node) bool {
		inner, ok := n.(*ast.CallExpr)
		return ok && (l.draws(inner) || takeName.MatchString(calleeName(inner)))
	})
}

// inTurn reports whether the function that call calls, if it is at hand and short, returns
// one of several in turn: it sets the field that it uses as an index.
func (l *loop) inTurn(call *ast.CallExpr) bool {
	decl := l.f.pkg.bodyOf(l.f.info, call)
	if decl == nil || len(decl.Body.List) > 12 {
		return false
	}
	set := collectDefs(l.f.info, decl.Body)
	return mentions(decl.Body, func(n ast.Node) bool {
		index, ok := n.(*ast.IndexExpr)
		return ok && mentions(index.Index, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			return ok && len(set[variable(l.f.info, sel)]) > 0
		})
	})
}

// Names of functions that ask a person.
var promptName = regexp.MustCompile(`(?i)prompt|readline|passphrase|(get|read|ask|enter)passw|userinput|^(?-i:[aA]sk)(?-i:[A-Z]|$)`)

// asks reports whether what call calls, if it is at hand, asks a person.
func (l *loop) asks(call *ast.CallExpr) bool {
	body := l.f.bodyOf(call)
	return body != nil && mentions(body, func(n ast.Node) bool {
		inner, ok := n.(*ast.CallExpr)
		return ok && promptName.MatchString(calleeName(inner))
	})
}

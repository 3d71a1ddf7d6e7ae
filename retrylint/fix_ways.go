package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// A way is what is known on the way to a statement of the loop's body.
type way struct {
	errs   []types.Object        // error variables that are certainly not nil, the latest last
	none   map[types.Object]bool // error variables that certainly are
	waited *pause                // the wait that has been waited, if it is certain
	after  bool                  // whether one may have been
}

func (w *way) clone() *way {
	return &way{slices.Clone(w.errs), maps.Clone(w.none), w.waited, w.after}
}

func (w *way) forget(obj types.Object) {
	w.errs = slices.DeleteFunc(w.errs, func(o types.Object) bool { return o == obj })
	delete(w.none, obj)
}

func (w *way) learn(obj types.Object, failed bool) {
	w.forget(obj)
	if failed {
		w.errs = append(w.errs, obj)
	} else {
		w.none[obj] = true
	}
}

// join returns what is known after a or b; nil stands for a way that does not get there.
func join(a, b *way) *way {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	both := a.clone()
	both.errs = slices.DeleteFunc(both.errs, func(o types.Object) bool { return !slices.Contains(b.errs, o) })
	maps.DeleteFunc(both.none, func(o types.Object, _ bool) bool { return !b.none[o] })
	if a.waited != b.waited {
		both.waited = nil
	}
	both.after = a.after || b.after
	return both
}

type exitKind int

const (
	again exitKind = iota // to the next round
	leave                 // out of the loop
	back                  // out of the function
)

// An exit is where a round ends.
type exit struct {
	kind exitKind
	stmt ast.Stmt // nil for the end of the body
	way  *way
}

// A walk goes through the body of a loop and finds how its rounds end. It fails at what
// would mean something else in a function of its own.
type walk struct {
	r      *rewrite
	exits  []exit
	pauses []*pause
	failed bool
	labels map[string]bool               // of loops inside of the loop
	proves map[types.Object]types.Object // booleans that are true only if an error is not nil, to the error
}

// inside says what break and continue mean where a statement stands.
type inside struct {
	breaks *[]*way // ways that leave a statement inside of the loop; nil if break leaves the loop
	nested bool    // in another loop
	top    bool    // among the statements of the body itself
}

func (b *walk) block(list []ast.Stmt, w *way, in inside) *way {
	for i := 0; i < len(list) && w != nil && !b.failed; {
		if p, n := b.r.pauseAt(list, i); p != nil && !in.nested {
			b.pauses = append(b.pauses, p)
			switch {
			case p.head || in.top && i == 0:
				// Before each attempt: once before the first, and then between them.
				if i > 0 || !in.top || !p.head && (b.r.bound.stop != nil || !b.r.steady(p.delay, true)) {
					b.failed = true
				}
				if p.head {
					break
				}
				p.head, b.r.initial = true, b.r.first(p)
				if len(p.after) > 0 { // the select is the whole body
					var left []*way
					if end := joinAll(b.block(p.after, w, inside{breaks: &left}), left); end != nil && len(list) == n {
						return end
					} else if end == nil {
						return nil
					}
					b.failed = true
				}
			case p.ticker:
				b.failed = true
			case w.after:
				b.failed = true
			default:
				w.waited, w.after = p, true
				w = b.block(p.after, w, inside{breaks: new([]*way)})
			}
			i += n
			continue
		}
		nested := in
		nested.top = false
		w = b.statement(list[i], w, nested)
		i++
	}
	return w
}

// first writes the wait that goes before the first attempt, with the counter's first value.
func (r *rewrite) first(p *pause) string {
	edits := []analysis.TextEdit{{Pos: p.end, End: p.end, NewText: []byte("\n")}}
	if n := len(p.after); n > 0 {
		edits = append(edits, analysis.TextEdit{Pos: p.after[0].Pos(), End: p.after[n-1].End()})
	}
	ast.Inspect(r.bound.body, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && r.bound.counter != nil && r.info.Uses[id] == r.bound.counter && p.pos <= id.Pos() && id.End() <= p.end && !within(p.after, id) {
			edits = append(edits, analysis.TextEdit{Pos: id.Pos(), End: id.End(), NewText: strconv.AppendInt(nil, r.bound.first, 10)})
		}
		return true
	})
	return string(applied(r.src[p.pos-r.base:p.end-r.base], p.pos, edits))
}

// within reports whether n stands in one of list.
func within(list []ast.Stmt, n ast.Node) bool {
	return slices.ContainsFunc(list, func(s ast.Stmt) bool { return s.Pos() <= n.Pos() && n.End() <= s.End() })
}

func (b *walk) exit(kind exitKind, s ast.Stmt, w *way) *way {
	b.exits = append(b.exits, exit{kind, s, w})
	return nil
}

func (b *walk) statement(s ast.Stmt, w *way, in inside) *way {
	if w.after && b.acts(s) {
		b.failed = true // it would be done before the wait
	}
	switch s := s.(type) {
	case *ast.BlockStmt:
		return b.block(s.List, w, in)
	case *ast.IfStmt:
		return b.ifStatement(s, w, in)
	case *ast.SwitchStmt:
		return b.switchStatement(s, w, in)
	case *ast.TypeSwitchStmt:
		return b.typeSwitch(s, w, in)
	case *ast.SelectStmt:
		var ends *way
		var left []*way
		for _, c := range s.Body.List {
			clause := c.(*ast.CommClause)
			start := w.clone()
			if clause.Comm != nil {
				start = b.simple(clause.Comm, start)
			}
			if start == nil {
				continue
			}
			ends = join(ends, b.block(clause.Body, start, inside{breaks: &left, nested: in.nested}))
		}
		return joinAll(ends, left)
	case *ast.ForStmt:
		return b.inner(s, s.Body, w)
	case *ast.RangeStmt:
		return b.inner(s, s.Body, w)
	case *ast.ReturnStmt:
		return b.exit(back, s, w)
	case *ast.BranchStmt:
		return b.branch(s, w, in)
	case *ast.LabeledStmt: // a loop inside of the loop
		if _, isFor := s.Stmt.(*ast.ForStmt); isFor || isRange(s.Stmt) {
			b.labels[s.Label.Name] = true
			return b.statement(s.Stmt, w, in)
		}
		b.failed = true
		return nil
	case *ast.DeferStmt:
		b.failed = true
		return nil
	}
	return b.simple(s, w)
}

func joinAll(w *way, others []*way) *way {
	for _, o := range others {
		w = join(w, o)
	}
	return w
}

// acts reports whether s, which follows a wait, does more than change variables.
func (b *walk) acts(s ast.Stmt) bool {
	if i, ok := s.(*ast.IfStmt); ok { // the rest is looked at when its turn comes
		return b.r.calls(i.Cond) || i.Init != nil && b.r.calls(i.Init)
	}
	if _, ok := s.(*ast.ReturnStmt); ok {
		return false
	}
	return mentions(s, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.UnaryExpr:
			return n.Op == token.ARROW
		case *ast.CallExpr:
			tv := b.r.info.Types[n.Fun]
			return !tv.IsType() && !tv.IsBuiltin() && !computing[pkgOf(b.r.info, n)]
		}
		return false
	})
}

// computing are packages whose functions only compute.
var computing = map[string]bool{"math": true, "math/rand": true, "math/rand/v2": true, "strconv": true, "strings": true}

// inner walks a loop inside of the loop.
func (b *walk) inner(s ast.Stmt, body *ast.BlockStmt, w *way) *way {
	for _, obj := range append(slices.Clone(w.errs), slices.Collect(maps.Keys(w.none))...) {
		for _, d := range b.r.l.f.defs[obj] {
			if s.Pos() <= d.at.Pos() && d.at.End() <= s.End() {
				w.forget(obj)
			}
		}
	}
	b.block(body.List, w.clone(), inside{breaks: new([]*way), nested: true})
	return w
}

func isRange(s ast.Stmt) bool {
	_, ok := s.(*ast.RangeStmt)
	return ok
}

func (b *walk) branch(s *ast.BranchStmt, w *way, in inside) *way {
	own := s.Label == nil
	if !own && b.labels[s.Label.Name] && s.Tok != token.GOTO {
		return nil
	}
	if !own {
		label, ok := b.r.path[1].(*ast.LabeledStmt)
		if !ok || label.Label.Name != s.Label.Name {
			b.failed = true
			return nil
		}
	}
	switch {
	case s.Tok == token.BREAK && own && in.breaks != nil:
		*in.breaks = append(*in.breaks, w)
	case s.Tok == token.BREAK:
		return b.exit(leave, s, w)
	case s.Tok == token.CONTINUE && own && in.nested:
	case s.Tok == token.CONTINUE:
		return b.exit(again, s, w)
	default:
		b.failed = true
	}
	return nil
}

func (b *walk) ifStatement(s *ast.IfStmt, w *way, in inside) *way {
	if s.Init != nil {
		if w = b.simple(s.Init, w); w == nil {
			return nil
		}
	}
	yes, no := b.assume(s.Cond, w)
	yes = b.block(s.Body.List, yes, in)
	if s.Else != nil {
		no = b.statement(s.Else, no, in)
	}
	end := join(yes, no)
	if yes != nil && no != nil && yes.waited != no.waited && b.r.guardsLast(s.Cond) {
		end.waited = yes.waited // the library does not wait after the last attempt
	}
	return end
}

// guardsLast reports whether cond is false in the last round alone: "i < n-1".
func (r *rewrite) guardsLast(cond ast.Expr) bool {
	c, ok := cond.(*ast.BinaryExpr)
	return ok && r.bound.times != nil && (c.Op == token.LSS || c.Op == token.LEQ || c.Op == token.NEQ) &&
		uses(r.info, c.X, r.bound.counter) && strings.Contains(r.source(c.Y), r.source(r.bound.times))
}

func (b *walk) switchStatement(s *ast.SwitchStmt, w *way, in inside) *way {
	if s.Init != nil {
		if w = b.simple(s.Init, w); w == nil {
			return nil
		}
	}
	var ends *way
	var left []*way
	var other *ast.CaseClause
	in.breaks = &left
	for _, c := range s.Body.List {
		clause := c.(*ast.CaseClause)
		if clause.List == nil {
			other = clause
			continue
		}
		var start *way
		for _, e := range clause.List {
			var yes *way
			if s.Tag == nil {
				yes, w = b.assume(e, w)
			} else {
				yes, w = b.equal(s.Tag, e, w)
			}
			start = join(start, yes)
		}
		ends = join(ends, b.block(clause.Body, start, in))
	}
	if other != nil {
		w = b.block(other.Body, w, in)
	}
	return joinAll(join(ends, w), left)
}

func (b *walk) typeSwitch(s *ast.TypeSwitchStmt, w *way, in inside) *way {
	if s.Init != nil {
		if w = b.simple(s.Init, w); w == nil {
			return nil
		}
	}
	obj := variable(b.r.info, asserted(s))
	var ends *way
	var left []*way
	in.breaks = &left
	other := false
	for _, c := range s.Body.List {
		clause := c.(*ast.CaseClause)
		start := w.clone()
		isNil := len(clause.List) == 1 && b.r.l.f.isNil(clause.List[0])
		if clause.List == nil {
			other = true
		} else if obj != nil && isErrorVar(obj) && (len(clause.List) == 1 || !slices.ContainsFunc(clause.List, b.r.l.f.isNil)) {
			start.learn(obj, !isNil)
		}
		ends = join(ends, b.block(clause.Body, start, in))
	}
	if !other {
		ends = join(ends, w)
	}
	return joinAll(ends, left)
}

// assume returns what is known if cond is true, and if it is false.
func (b *walk) assume(cond ast.Expr, w *way) (yes, no *way) {
	switch c := ast.Unparen(cond).(type) {
	case *ast.UnaryExpr:
		if c.Op == token.NOT {
			no, yes = b.assume(c.X, w)
			return yes, no
		}
	case *ast.Ident:
		if obj := b.proves[b.r.info.ObjectOf(c)]; obj != nil {
			yes, no = w.clone(), w.clone()
			yes.learn(obj, true)
			return yes, no
		}
	case *ast.CallExpr:
		yes, no = w.clone(), w.clone()
		if len(c.Args) > 0 && (isFunc(b.r.info, c, "errors", "Is", "As") || len(c.Args) == 1 && isKind.MatchString(calleeName(c))) {
			if obj := variable(b.r.info, c.Args[0]); obj != nil && isErrorVar(obj) {
				yes.learn(obj, true)
			}
		}
		mentions(c, func(n ast.Node) bool { // of a nil error it would panic
			if obj := b.textOf(n); obj != nil {
				yes.learn(obj, true)
				no.learn(obj, true)
			}
			return false
		})
		return yes, no
	case *ast.BinaryExpr:
		switch c.Op {
		case token.EQL:
			return b.equal(c.X, c.Y, w)
		case token.NEQ:
			no, yes = b.equal(c.X, c.Y, w)
			return yes, no
		case token.LAND:
			yes, no = b.assume(c.X, w)
			both, second := b.assume(c.Y, yes)
			return both, join(no, second)
		case token.LOR:
			yes, no = b.assume(c.X, w)
			second, neither := b.assume(c.Y, no)
			return join(yes, second), neither
		}
	}
	return w.clone(), w.clone()
}

// isKind matches functions that say what kind of error theirs is, which nil is not.
var isKind = regexp.MustCompile(`^[iI]s[A-Z]`)

// textOf returns the error whose method Error n calls, or nil.
func (b *walk) textOf(n ast.Node) types.Object {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Error" || len(call.Args) > 0 {
		return nil
	}
	if obj := variable(b.r.info, sel.X); obj != nil && types.Identical(obj.Type(), types.Universe.Lookup("error").Type()) {
		return obj
	}
	return nil
}

// equal is assume for x == y.
func (b *walk) equal(x, y ast.Expr, w *way) (yes, no *way) {
	yes, no = w.clone(), w.clone()
	isNil := b.r.l.f.isNil
	if isNil(x) {
		x, y = y, x
	}
	obj := variable(b.r.info, x)
	if obj == nil || !isErrorVar(obj) {
		return yes, no
	}
	if isNil(y) {
		yes.learn(obj, false)
		no.learn(obj, true)
	} else if v, ok := variable(b.r.info, y).(*types.Var); ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() || b.r.info.Types[y].Value != nil {
		yes.learn(obj, true) // the error of another's package is not nil
	}
	return yes, no
}

// simple notes what a statement without others in it assigns.
func (b *walk) simple(s ast.Stmt, w *way) *way {
	if b.r.l.f.waitOf(s) != nil {
		b.failed = true
		return nil
	}
	ended := false
	shallow(s, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && b.r.l.f.neverReturns(b.r.info, call, 2) {
			ended = true
		}
		return true
	})
	if ended {
		return nil
	}
	as, ok := s.(*ast.AssignStmt)
	if !ok {
		return w
	}
	was := w.clone()
	if len(as.Rhs) == 1 && len(as.Lhs) == 2 { // e, ok := err.(*net.OpError)
		var of ast.Expr
		switch rhs := ast.Unparen(as.Rhs[0]).(type) {
		case *ast.TypeAssertExpr:
			of = rhs.X
		case *ast.CallExpr:
			if isFunc(b.r.info, rhs, "errors", "AsType") {
				of = rhs.Args[0]
			}
		}
		if obj, ok := variable(b.r.info, of), objectOf(b.r.info, as.Lhs[1]); obj != nil && ok != nil && isErrorVar(obj) {
			b.proves[ok] = obj
		}
	}
	for i, lhs := range as.Lhs {
		obj := variable(b.r.info, lhs)
		if obj == nil || !isErrorVar(obj) {
			continue
		}
		w.forget(obj)
		maps.DeleteFunc(b.proves, func(_, of types.Object) bool { return of == obj })
		if len(as.Rhs) != len(as.Lhs) {
			continue
		}
		rhs := ast.Unparen(as.Rhs[i])
		from := variable(b.r.info, rhs)
		call, isCall := rhs.(*ast.CallExpr)
		switch {
		case from != nil && slices.Contains(was.errs, from), isCall && isFunc(b.r.info, call, "errors", "New"), isCall && isFunc(b.r.info, call, "fmt", "Errorf"):
			w.learn(obj, true)
		case from != nil && was.none[from], b.r.l.f.isNil(rhs):
			w.learn(obj, false)
		}
	}
	return w
}

package retrylint

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/token"
	"go/types"
	"regexp"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// rewrite returns the fix that makes l a call of package retry, or nil if it is
// not certain that the result compiles, makes the same attempts and returns the
// same.
func (l *loop) rewrite() *analysis.SuggestedFix {
	if l.f.signature() == nil || l.stmt == nil || l.shape == "goto" || l.attempt != nil && l.attempt.flag {
		return nil
	}
	if rawName(l.f.pass.Fset, l.f.file) != sourceName(l.f.pass.Fset, l.f.file) {
		return nil // the edit would be made in what a generator wrote
	}
	for _, form := range []func(*rewrite) bool{(*rewrite).plain, (*rewrite).closure} {
		r := newRewrite(l)
		if r == nil || !form(r) {
			continue
		}
		if edits, ok := r.finish(); ok && r.compiles(edits) {
			return &analysis.SuggestedFix{Message: "Replace the loop with package retry", TextEdits: edits}
		}
	}
	return nil
}

// A rewrite is the work on one fix.
type rewrite struct {
	l       *loop
	info    *types.Info
	src     []byte // of the file
	base    token.Pos
	path    []ast.Node // from the loop to the file
	bound   bound
	imports *importer
	pkg     string // the name of package retry in the file
	edits   []analysis.TextEdit

	strict  bool   // a caller compares the error: it must be the very same
	ctx     string // what the attempts run under; "" for none
	drain   string // what ends them besides, as code; "" for nothing
	waits   []*pause
	initial string // a wait before the first attempt, as code
}

func newRewrite(l *loop) *rewrite {
	file := l.f.pass.Fset.File(l.f.file.FileStart)
	if l.f.pass.ReadFile == nil {
		return nil
	}
	src, err := l.f.pass.ReadFile(file.Name())
	if err != nil || len(src) != file.Size() {
		return nil
	}
	r := &rewrite{l: l, info: l.f.info, src: src, base: token.Pos(file.Base()), imports: &importer{l: l, ok: true}}
	r.strict = l.f.comparesResult()
	r.path = enclosing(l.f.file, l.stmt)
	r.pkg = r.imports.use(retryPath, "retry", "retryutils")
	if r.path == nil || !r.header() {
		return nil
	}
	return r
}

// enclosing returns stmt and the nodes around it, the file last.
func enclosing(file *ast.File, stmt ast.Stmt) (path []ast.Node) {
	var stack []ast.Node
	ast.Inspect(file, func(n ast.Node) bool {
		if path != nil {
			return false
		}
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		stack = append(stack, n)
		if n == ast.Node(stmt) {
			for i := len(stack) - 1; i >= 0; i-- {
				path = append(path, stack[i])
			}
			return false
		}
		return true
	})
	return path
}

// Names of functions that run when their context may be done already.
var cleanupName = regexp.MustCompile(`(?i)clean|close|stop|shutdown|teardown|rollback|release|unlock|delete|remove|unregister|destroy|dispose|drain`)

// cleansUp reports whether the code at pos may run with a finished context, which
// ends a call of the library before its first attempt: in a function that cleans up
// or is deferred, or behind a receive from Done.
func (f *function) cleansUp(pos token.Pos) bool {
	within := func(n ast.Node) bool { return n.Pos() <= pos && pos < n.End() }
	for _, d := range f.file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || !within(fn) {
			continue
		}
		found := cleanupName.MatchString(fn.Name.Name)
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return within(n) // what another goroutine receives, this code does not follow
			case *ast.CommClause:
				if len(n.Body) > 0 && !within(n) {
					_, returns := n.Body[len(n.Body)-1].(*ast.ReturnStmt)
					return !returns
				}
			case *ast.DeferStmt:
				found = found || within(n)
			case *ast.UnaryExpr:
				call, ok := n.X.(*ast.CallExpr)
				found = found || n.Op == token.ARROW && ok && calleeName(call) == "Done" && n.Pos() < pos
			}
			return !found
		})
		return found
	}
	return false
}

// context decides what the attempts run under: what the loop's own waits obey, or
// else a context in scope.
func (r *rewrite) context() bool {
	for _, w := range r.waits {
		if w.drain != "" {
			if r.drain != "" && r.drain != w.drain {
				return false
			}
			r.drain = w.drain
		}
		if w.ctx == "" {
			continue
		}
		if r.ctx != "" && r.ctx != w.ctx {
			return false
		}
		r.ctx = w.ctx
	}
	obeyed := r.ctx != ""
	if !obeyed {
		r.ctx = r.passed()
	}
	if r.ctx != "" && !r.l.f.cleansUp(r.l.pos) {
		return true
	}
	// Where the context may be done already, the loop does not depend on it.
	if obeyed || r.ctx != "" && r.mentionsName(r.bound.body, r.ctx) {
		return false
	}
	r.ctx = r.imports.use("context", "context") + ".Background()"
	return true
}

// passed returns the context that the attempt is given, or else one in scope.
func (r *rewrite) passed() string {
	for _, call := range r.l.calls {
		for _, a := range call.Args {
			switch ast.Unparen(a).(type) {
			case *ast.Ident, *ast.SelectorExpr:
				if isContext(r.info.TypeOf(a)) && r.steady(a, false) {
					return r.source(a)
				}
			}
		}
	}
	return r.l.f.contextVar(r.l.pos)
}

// param names the context parameter of the attempts' function: as the context that
// they used before, if it has a name.
func (r *rewrite) param(needed bool, in ...ast.Node) (string, bool) {
	used := false
	for _, n := range in {
		used = used || r.mentionsName(n, r.ctx)
	}
	switch {
	case used && token.IsIdentifier(r.ctx):
		return r.ctx, true
	case !needed:
		return "_", true
	case token.IsIdentifier(r.ctx):
		return r.ctx, true
	}
	for _, n := range in {
		if r.mentionsName(n, "ctx") {
			return "", false
		}
	}
	return "ctx", true
}

func (r *rewrite) mentionsName(n ast.Node, name string) bool {
	return mentions(n, func(n ast.Node) bool { id, ok := n.(*ast.Ident); return ok && id.Name == name })
}

// config writes the Config of the rewritten loop.
func (r *rewrite) config(backoff string) string {
	fields := []string{"MaxRetries: " + r.bound.retries, backoff}
	if r.drain != "" {
		fields = append(fields, "Drain: "+r.drain)
	}
	// What was retried is retried: the default would leave out errors that rarely
	// change, such as a missing file or an unknown host.
	fields = append(fields, "RetryIf: func(error) bool { return true }")
	return r.pkg + ".Config{\n" + strings.Join(fields, ",\n") + ",\n}"
}

// outside reports whether obj is declared outside of the loop's body.
func (r *rewrite) outside(obj types.Object) bool {
	return obj != nil && (obj.Pos() < r.bound.body.Pos() || obj.Pos() >= r.bound.body.End())
}

// steady reports whether e consists of what is declared outside of the loop, or is
// the loop's counter, and that the loop does not set.
func (r *rewrite) steady(e ast.Node, counter bool) bool {
	return e != nil && !mentions(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return true
		case *ast.UnaryExpr:
			return n.Op == token.ARROW
		case *ast.Ident:
			v, ok := r.info.ObjectOf(n).(*types.Var)
			if !ok {
				return false
			}
			if v == r.bound.counter {
				return !counter
			}
			if v.IsField() {
				return r.set(v)
			}
			return !r.outside(v) || r.set(v)
		}
		return false
	})
}

// set reports whether the loop assigns to v, or takes its address.
func (r *rewrite) set(v types.Object) bool {
	for _, d := range r.l.f.defs[v] {
		if d.at.Pos() >= r.l.stmt.Pos() && d.at.End() <= r.l.stmt.End() {
			return true
		}
	}
	return mentions(r.l.stmt, func(n ast.Node) bool {
		u, ok := n.(*ast.UnaryExpr)
		return ok && u.Op == token.AND && variable(r.info, u.X) == v
	})
}

// calls reports whether n calls anything but conversions and builtins.
func (r *rewrite) calls(n ast.Node) bool {
	return mentions(n, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return false
		}
		tv := r.info.Types[call.Fun]
		return !tv.IsType() && !tv.IsBuiltin()
	})
}

// source returns n as code.
func (r *rewrite) source(n ast.Node) string {
	var b bytes.Buffer
	if err := format.Node(&b, r.l.f.pass.Fset, n); err != nil {
		return ""
	}
	return b.String()
}

func (r *rewrite) replace(pos, end token.Pos, text string) {
	r.edits = append(r.edits, analysis.TextEdit{Pos: pos, End: end, NewText: []byte(text)})
}

// cut removes what stands from pos to end, with the rest of its lines if that is
// blank.
func (r *rewrite) cut(pos, end token.Pos) {
	from, to := int(pos-r.base), int(end-r.base)
	first := strings.TrimRight(string(r.src[:from]), " \t")
	rest := strings.TrimLeft(string(r.src[to:]), " \t")
	if strings.HasSuffix(first, "\n") && strings.HasPrefix(rest, "\n") {
		pos, end = r.base+token.Pos(len(first)), r.base+token.Pos(len(r.src)-len(rest)+1)
	}
	r.replace(pos, end, "")
}

// finish adds the edits of the imports, and removes the loop's label.
func (r *rewrite) finish() ([]analysis.TextEdit, bool) {
	if s, ok := r.path[1].(*ast.LabeledStmt); ok {
		r.cut(s.Pos(), s.Stmt.Pos())
	}
	if !r.imports.ok {
		return nil, false
	}
	return tidied(append(r.edits, r.imports.edits(r.edits, r.copied())...)), true
}

// copied returns what the rewritten code still mentions of what it removes.
func (r *rewrite) copied() []ast.Node {
	nodes := []ast.Node{}
	for _, e := range r.bound.kept {
		nodes = append(nodes, e)
	}
	for _, w := range r.waits {
		nodes = append(nodes, w.delay)
	}
	return nodes
}

// unspeakable matches types that another package cannot name, or only at length.
var unspeakable = regexp.MustCompile(`struct\{|interface\{|\.[a-z_]`)

// typeName writes t as the file would, if it imports what that needs.
func (r *rewrite) typeName(t types.Type) (string, bool) {
	f, ok := r.l.f, true
	name := types.TypeString(t, func(pkg *types.Package) string {
		if pkg == f.pass.Pkg {
			return ""
		}
		for _, spec := range f.file.Imports {
			if obj := f.info.PkgNameOf(spec); obj != nil && obj.Imported() == pkg && obj.Name() != "." && obj.Name() != "_" {
				_, seen := f.pass.Pkg.Scope().Innermost(r.l.pos).LookupParent(obj.Name(), r.l.pos)
				ok = ok && seen == obj
				return obj.Name()
			}
		}
		ok = false
		return pkg.Name()
	})
	return name, ok && !unspeakable.MatchString(name)
}

// zero writes the zero value of t.
func (r *rewrite) zero(t types.Type) (string, bool) {
	switch u := t.Underlying().(type) {
	case *types.Basic:
		switch {
		case u.Info()&types.IsString != 0:
			return `""`, true
		case u.Info()&types.IsBoolean != 0:
			return "false", true
		case u.Info()&types.IsNumeric != 0:
			return "0", true
		}
	case *types.Struct, *types.Array:
		name, ok := r.typeName(t)
		return name + "{}", ok
	}
	if _, generic := types.Unalias(t).(*types.TypeParam); generic {
		name, ok := r.typeName(t)
		return "*new(" + name + ")", ok
	}
	return "nil", true
}

package retrylint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/format"
	"go/token"
	"go/types"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/go/analysis"
)

// A plain loop counts to a constant, calls one function, leaves on success, and
// waits a constant time: the kind whose rewrite is certain.
type plain struct {
	assign *ast.AssignStmt
	call   *ast.CallExpr
	then   *ast.BlockStmt // what is done on success; nil for break
	keep   *ast.AssignStmt
	tries  string // how many retries there are, as code
	delay  ast.Expr
}

// rewrite returns the fix that makes l a call of package retry, or nil if it is
// not certain that the result compiles and does the same or better.
func (l *loop) rewrite() *analysis.SuggestedFix {
	if rawName(l.f.pass.Fset, l.f.file) != sourceName(l.f.pass.Fset, l.f.file) {
		return nil // the edit would be made in what a generator wrote
	}
	if l.f.cleansUp(l.pos) || l.f.pkg.comparesErrors {
		return nil
	}
	p, ok := l.plainLoop()
	if !ok || l.http() || l.commented() || !l.delayAllowed(p) || !l.errorsAllowed(p) {
		return nil
	}
	imports := &importer{l: l, ok: true}
	pkg := imports.use(retryPath, "retry")
	ctxPkg := imports.use("context", "context")
	if !imports.ok || l.f.pass.Pkg.Path() == retryPath {
		return nil
	}
	code, ok := l.replacement(p, pkg, ctxPkg)
	if !ok {
		return nil
	}
	edits := append(imports.edits(), analysis.TextEdit{Pos: l.stmt.Pos(), End: l.stmt.End(), NewText: []byte(code)})
	return &analysis.SuggestedFix{Message: "Replace the loop with package retry", TextEdits: edits}
}

// Names of functions that run when their context may be done already.
var cleanupName = regexp.MustCompile(`(?i)clean|close|stop|shutdown|teardown|rollback|release|unlock|delete|remove|unregister|destroy|dispose|drain`)

// cleansUp reports whether the code at pos may run with a finished context, which
// ends a call of the library before its first attempt: in a function that cleans up
// or is deferred, or behind a receive from Done.
func (f *function) cleansUp(pos token.Pos) bool {
	for _, d := range f.file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || pos < fn.Pos() || pos >= fn.End() {
			continue
		}
		return cleanupName.MatchString(fn.Name.Name) || mentions(fn, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.DeferStmt:
				return n.Pos() <= pos && pos < n.End()
			case *ast.UnaryExpr:
				call, ok := n.X.(*ast.CallExpr)
				return n.Op == token.ARROW && ok && calleeName(call) == "Done" && n.Pos() < pos
			}
			return false
		})
	}
	return false
}

// commented reports whether a comment in the loop's body would be lost.
func (l *loop) commented() bool {
	line := func(pos token.Pos) int { return l.f.pass.Fset.Position(pos).Line }
	for _, c := range l.f.file.Comments {
		if c.Pos() > l.pos && c.End() < l.end && line(c.Pos()) > line(l.head()) {
			return true
		}
	}
	return false
}

// plainLoop takes the loop apart.
func (l *loop) plainLoop() (*plain, bool) {
	p := &plain{}
	body, counter, ok := l.header(p)
	if !ok || counter != nil && uses(l.f.info, body, counter) {
		return nil, false
	}
	list := body.List
	if len(list) > 0 {
		if as, ok := list[0].(*ast.AssignStmt); ok {
			p.assign, list = as, list[1:]
		}
	}
	if len(list) == 0 {
		return nil, false
	}
	cond, ok := list[0].(*ast.IfStmt)
	if !ok || cond.Else != nil || (cond.Init == nil) == (p.assign == nil) {
		return nil, false
	}
	if p.assign == nil {
		p.assign, _ = cond.Init.(*ast.AssignStmt)
	}
	if list = list[1:]; len(list) == 2 {
		p.keep, _ = list[0].(*ast.AssignStmt)
		if p.keep == nil {
			return nil, false
		}
		list = list[1:]
	}
	if len(list) != 1 || !l.assigns(p) || !l.leavesBy(p, cond) || !l.keeps(p) {
		return nil, false
	}
	p.delay = l.sleep(list[0])
	return p, p.delay != nil
}

// header reads how often the loop goes round.
func (l *loop) header(p *plain) (body *ast.BlockStmt, counter types.Object, ok bool) {
	var count ast.Expr
	switch s := l.stmt.(type) {
	case *ast.RangeStmt:
		if s.Value != nil || s.Key != nil && s.Tok != token.DEFINE {
			return nil, nil, false
		}
		body, count = s.Body, s.X
		if s.Key != nil {
			counter = objectOf(l.f.info, s.Key)
		}
	case *ast.ForStmt:
		init, ok1 := s.Init.(*ast.AssignStmt)
		cond, ok2 := s.Cond.(*ast.BinaryExpr)
		post, ok3 := s.Post.(*ast.IncDecStmt)
		if !ok1 || !ok2 || !ok3 || init.Tok != token.DEFINE || len(init.Lhs) != 1 || len(init.Rhs) != 1 || cond.Op != token.LSS || post.Tok != token.INC {
			return nil, nil, false
		}
		counter = objectOf(l.f.info, init.Lhs[0])
		zero := l.f.info.Types[init.Rhs[0]].Value
		if zero == nil || constant.Sign(zero) != 0 || objectOf(l.f.info, cond.X) != counter || objectOf(l.f.info, post.X) != counter {
			return nil, nil, false
		}
		body, count = s.Body, cond.Y
	default:
		return nil, nil, false
	}
	v := l.f.info.Types[count].Value
	if v == nil || v.Kind() != constant.Int {
		return nil, nil, false
	}
	n, exact := constant.Int64Val(v)
	if !exact || n < 2 || n > 1000 {
		return nil, nil, false
	}
	p.tries = strconv.FormatInt(n-1, 10)
	if _, literal := ast.Unparen(count).(*ast.BasicLit); !literal && untypedOrInt(l.f.declaredConst(count)) {
		p.tries = l.source(count) + " - 1"
	}
	return body, counter, true
}

// declaredConst returns the type of the constant that e names.
func (f *function) declaredConst(e ast.Expr) types.Type {
	if id, ok := ast.Unparen(e).(*ast.Ident); ok {
		return f.declaredType(id)
	}
	return nil
}

func untypedOrInt(t types.Type) bool {
	b, ok := t.(*types.Basic)
	return ok && (b.Kind() == types.Int || b.Kind() == types.UntypedInt)
}

// assigns reports whether the loop's first statement assigns the one result, or
// both, of its attempt.
func (l *loop) assigns(p *plain) bool {
	if p.assign == nil || len(p.assign.Rhs) != 1 || len(p.assign.Lhs) > 2 || p.assign.Tok != token.ASSIGN && p.assign.Tok != token.DEFINE {
		return false
	}
	call, ok := ast.Unparen(p.assign.Rhs[0]).(*ast.CallExpr)
	if !ok || !l.isAttempt(call) || resultCount(l.f.info, call) != len(p.assign.Lhs) {
		return false
	}
	p.call = call
	for _, lhs := range p.assign.Lhs {
		if _, ok := lhs.(*ast.Ident); !ok {
			return false
		}
	}
	errVar := p.assign.Lhs[len(p.assign.Lhs)-1]
	obj := objectOf(l.f.info, errVar)
	return obj != nil && types.Identical(obj.Type(), types.Universe.Lookup("error").Type()) && l.attempt.obj == obj
}

// leavesBy reports whether cond is "if err == nil" with a break, or with a return,
// which it notes.
func (l *loop) leavesBy(p *plain, cond *ast.IfStmt) bool {
	x, op := l.f.compared(&node{cond: ast.Unparen(cond.Cond)}, l.f.isNil)
	if x == nil || op != token.EQL || l.attempt.obj == nil || variable(l.f.info, x) != l.attempt.obj || len(cond.Body.List) != 1 {
		return false
	}
	switch s := cond.Body.List[0].(type) {
	case *ast.BranchStmt:
		return s.Tok == token.BREAK && s.Label == nil && p.assign.Tok == token.ASSIGN && p.keep == nil
	case *ast.ReturnStmt:
		p.then = cond.Body
		return true
	}
	return false
}

// keeps reports whether p.keep, if there is one, is "last = err".
func (l *loop) keeps(p *plain) bool {
	k := p.keep
	if k == nil {
		return true
	}
	return k.Tok == token.ASSIGN && len(k.Lhs) == 1 && len(k.Rhs) == 1 && p.assign.Tok == token.DEFINE &&
		objectOf(l.f.info, k.Lhs[0]) != nil && objectOf(l.f.info, k.Rhs[0]) == l.attempt.obj
}

// sleep returns the delay of a time.Sleep.
func (l *loop) sleep(s ast.Stmt) ast.Expr {
	e, ok := s.(*ast.ExprStmt)
	if !ok {
		return nil
	}
	call, ok := e.X.(*ast.CallExpr)
	if !ok || !isFunc(l.f.info, call, "time", "Sleep") {
		return nil
	}
	return call.Args[0]
}

// delayAllowed reports whether the delay is a constant within the limits of
// retry.Config, and whether the file still needs package time.
func (l *loop) delayAllowed(p *plain) bool {
	v := l.f.info.Types[p.delay].Value
	if v == nil {
		return false
	}
	d, ok := constant.Int64Val(v)
	if !ok || time.Duration(d) < time.Millisecond || time.Duration(d) > time.Minute {
		return false
	}
	used := func(n ast.Node) bool {
		return mentions(n, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return false
			}
			name, ok := l.f.info.Uses[id].(*types.PkgName)
			return ok && name.Imported().Path() == "time" && (n.Pos() < l.pos || n.Pos() > l.end || n.Pos() >= p.delay.Pos() && n.End() <= p.delay.End())
		})
	}
	return used(l.f.file)
}

// errorsAllowed reports whether no code of the function compares the error with
// another or asserts its type: retry may wrap it.
func (l *loop) errorsAllowed(p *plain) bool {
	errs := []types.Object{l.attempt.obj}
	if p.keep != nil {
		errs = append(errs, objectOf(l.f.info, p.keep.Lhs[0]))
	}
	isErr := func(e ast.Expr) bool {
		for _, obj := range errs {
			if objectOf(l.f.info, e) == obj {
				return true
			}
		}
		return false
	}
	return !mentions(l.f.body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			return (isErr(n.X) || isErr(n.Y)) && !l.f.isNil(n.X) && !l.f.isNil(n.Y)
		case *ast.TypeAssertExpr:
			return isErr(n.X)
		case *ast.SwitchStmt:
			return n.Tag != nil && isErr(n.Tag)
		}
		return false
	})
}

// replacement writes the code that stands for the loop.
func (l *loop) replacement(p *plain, pkg, ctxPkg string) (string, bool) {
	ctx, param := l.f.contextVar(l.pos), "_"
	if ctx == "" {
		ctx = ctxPkg + ".Background()"
	} else if mentions(p.call, func(n ast.Node) bool { id, ok := n.(*ast.Ident); return ok && id.Name == ctx }) {
		param = ctx
	}
	name, result := "Run", "error"
	if len(p.assign.Lhs) == 2 {
		t, ok := l.typeName(l.f.info.TypeOf(p.call).(*types.Tuple).At(0).Type())
		if !ok {
			return "", false
		}
		name, result = "Do", "("+t+", error)"
	}
	call := fmt.Sprintf("%s.%s(%s, %s.Config{MaxRetries: %s, Backoff: %s.ConstantBackoff(%s), RetryIf: func(error) bool { return true }}, func(%s %s.Context) %s {\nreturn %s\n})",
		pkg, name, ctx, pkg, p.tries, pkg, l.source(p.delay), param, ctxPkg, result, l.source(p.call))
	lhs := make([]string, len(p.assign.Lhs))
	for i, e := range p.assign.Lhs {
		lhs[i] = l.source(e)
	}
	code := fmt.Sprintf("%s %s %s", strings.Join(lhs, ", "), p.assign.Tok, call)
	if p.then != nil {
		code = fmt.Sprintf("if %s; %s == nil %s", code, lhs[len(lhs)-1], l.source(p.then))
		if p.keep != nil {
			code += fmt.Sprintf(" else {\n%s\n}", l.source(p.keep))
		}
	}
	return code, true
}

// source returns n as code.
func (l *loop) source(n ast.Node) string {
	var b bytes.Buffer
	if err := format.Node(&b, l.f.pass.Fset, n); err != nil {
		return ""
	}
	return b.String()
}

// unspeakable matches types that another package cannot name, or only at length.
var unspeakable = regexp.MustCompile(`struct\{|interface\{|\.[a-z_]`)

// typeName writes t as the file would, if it imports what that needs.
func (l *loop) typeName(t types.Type) (string, bool) {
	ok := true
	name := types.TypeString(t, func(pkg *types.Package) string {
		if pkg == l.f.pass.Pkg {
			return ""
		}
		for _, spec := range l.f.file.Imports {
			if obj := l.f.info.PkgNameOf(spec); obj != nil && obj.Imported() == pkg && obj.Name() != "." && obj.Name() != "_" {
				_, seen := l.f.pass.Pkg.Scope().Innermost(l.pos).LookupParent(obj.Name(), l.pos)
				ok = ok && seen == obj
				return obj.Name()
			}
		}
		ok = false
		return pkg.Name()
	})
	return name, ok && !unspeakable.MatchString(name)
}

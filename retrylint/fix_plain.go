package retrylint

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

// A plainLoop does nothing but call one function, leave on success, and wait.
type plainLoop struct {
	assign *ast.AssignStmt
	call   *ast.CallExpr
	then   ast.Stmt        // what is done on success: a return, or nil for break
	keep   *ast.AssignStmt // "last = err"
}

// plain rewrites a loop that does nothing but call one function, so that the call is
// all that is left of it.
func (r *rewrite) plain() bool {
	p := &plainLoop{}
	if r.strict || r.bound.stop != nil || r.bound.init+r.bound.post != "" || r.commented() || !r.takeApart(p) || !r.context() || r.compared(r.l.attempt.obj) || p.keep != nil && r.compared(objectOf(r.info, p.keep.Lhs[0])) {
		return false
	}
	backoff := r.backoff()
	if r.bound.counter != nil && uses(r.info, p.assign, r.bound.counter) || backoff == "" {
		return false
	}
	for _, w := range r.waits {
		if w.leave != nil || w.drain != "" || w.after != nil {
			return false
		}
	}
	param, ok := r.param(false, p.call)
	if !ok {
		return false
	}
	name, result := "Run", "error"
	if len(p.assign.Lhs) == 2 {
		t, ok := r.typeName(r.info.TypeOf(p.call).(*types.Tuple).At(0).Type())
		if !ok {
			return false
		}
		name, result = "Do", "("+t+", error)"
	}
	call := fmt.Sprintf("%s.%s(%s, %s, func(%s %s.Context) %s {\nreturn %s\n})",
		r.pkg, name, r.ctx, r.config(backoff), param, r.imports.use("context", "context"), result, r.source(p.call))
	lhs := make([]string, len(p.assign.Lhs))
	for i, e := range p.assign.Lhs {
		lhs[i] = r.source(e)
	}
	code := fmt.Sprintf("%s %s %s", strings.Join(lhs, ", "), p.assign.Tok, call)
	if p.then != nil {
		code = fmt.Sprintf("if %s; %s == nil {\n%s\n}", code, lhs[len(lhs)-1], r.source(p.then))
		if p.keep != nil {
			code += fmt.Sprintf(" else {\n%s\n}", r.source(p.keep))
		}
	}
	r.replace(r.l.stmt.Pos(), r.l.stmt.End(), r.initial+code)
	return true
}

// commented reports whether a comment in the loop's body would be lost.
func (r *rewrite) commented() bool {
	line := func(pos token.Pos) int { return r.l.f.pass.Fset.Position(pos).Line }
	for _, c := range r.l.f.file.Comments {
		if c.Pos() > r.l.stmt.Pos() && c.End() < r.l.stmt.End() && line(c.Pos()) > line(r.bound.body.Lbrace) {
			return true
		}
	}
	return false
}

// takeApart reports whether the body is "err = call(); if err == nil { return }; wait",
// or "err = call(); if err != nil { wait; continue }; return", and notes its parts.
func (r *rewrite) takeApart(p *plainLoop) bool {
	list := r.bound.body.List
	if w, n := r.pauseAt(list, 0); w != nil && w.head {
		r.waits, list = append(r.waits, w), list[n:]
	}
	if len(list) > 0 {
		if as, ok := list[0].(*ast.AssignStmt); ok {
			p.assign, list = as, list[1:]
		}
	}
	if len(list) == 0 {
		return false
	}
	cond, ok := list[0].(*ast.IfStmt)
	if !ok || cond.Else != nil || (cond.Init == nil) == (p.assign == nil) {
		return false
	}
	if p.assign == nil {
		p.assign, _ = cond.Init.(*ast.AssignStmt)
	}
	x, op := r.l.f.compared(&node{cond: ast.Unparen(cond.Cond)}, r.l.f.isNil)
	if x == nil || r.l.attempt.obj == nil || variable(r.info, x) != r.l.attempt.obj || !r.assigns(p) {
		return false
	}
	failed, done := list[1:], cond.Body.List
	if op == token.NEQ {
		failed, done = cond.Body.List, list[1:]
		if len(failed) == 0 {
			return false
		}
		if b, ok := failed[len(failed)-1].(*ast.BranchStmt); !ok || b.Tok != token.CONTINUE || b.Label != nil {
			return false
		}
		failed = failed[:len(failed)-1]
	}
	if len(failed) > 0 {
		if keep, ok := failed[0].(*ast.AssignStmt); ok {
			p.keep, failed = keep, failed[1:]
		}
	}
	if len(failed) > 0 {
		w, n := r.pauseAt(failed, 0)
		if w == nil || w.head || n != len(failed) {
			return false
		}
		r.waits = append(r.waits, w)
	}
	return len(done) == 1 && r.leavesBy(p, done[0]) && r.keeps(p)
}

// assigns reports whether the attempt's one result, or both, are assigned.
func (r *rewrite) assigns(p *plainLoop) bool {
	if p.assign == nil || len(p.assign.Rhs) != 1 || len(p.assign.Lhs) > 2 || p.assign.Tok != token.ASSIGN && p.assign.Tok != token.DEFINE {
		return false
	}
	call, ok := ast.Unparen(p.assign.Rhs[0]).(*ast.CallExpr)
	if !ok || resultCount(r.info, call) != len(p.assign.Lhs) {
		return false
	}
	p.call = call
	for _, lhs := range p.assign.Lhs {
		if _, ok := lhs.(*ast.Ident); !ok {
			return false
		}
	}
	obj := objectOf(r.info, p.assign.Lhs[len(p.assign.Lhs)-1])
	return obj != nil && types.Identical(obj.Type(), types.Universe.Lookup("error").Type()) && r.l.attempt.obj == obj
}

// leavesBy reports whether s is a break, or a return, which it notes.
func (r *rewrite) leavesBy(p *plainLoop, s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.BranchStmt:
		return s.Tok == token.BREAK && s.Label == nil && p.assign.Tok == token.ASSIGN && p.keep == nil
	case *ast.ReturnStmt:
		p.then = s
		return true
	}
	return false
}

// keeps reports whether p.keep, if there is one, is "last = err".
func (r *rewrite) keeps(p *plainLoop) bool {
	k := p.keep
	if k == nil {
		return true
	}
	return k.Tok == token.ASSIGN && len(k.Lhs) == 1 && len(k.Rhs) == 1 && p.assign.Tok == token.DEFINE && p.then != nil &&
		objectOf(r.info, k.Lhs[0]) != nil && objectOf(r.info, k.Rhs[0]) == r.l.attempt.obj
}

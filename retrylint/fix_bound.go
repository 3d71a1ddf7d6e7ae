package retrylint

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"strconv"
)

// A bound is what the head of a loop says of how often it goes round.
type bound struct {
	body    *ast.BlockStmt
	counter types.Object // declared by the head; nil if there is none
	name    string       // of the counter
	first   int64        // its value in the first round
	counts  bool         // a count ends the loop
	times   ast.Expr     // the count
	init    string       // what the head does first, as code
	post    string       // and what it does after each round, if that is no counting
	retries string       // MaxRetries, as code
	stop    ast.Expr     // a condition that ends the loop otherwise, when it is false
	kept    []ast.Expr   // of the head, in the rewritten code
}

// header reads the head of the loop.
func (r *rewrite) header() bool {
	b := &r.bound
	b.retries = r.pkg + ".Unlimited"
	switch s := r.l.stmt.(type) {
	case *ast.RangeStmt:
		basic, ok := underlying(r.info, s.X).(*types.Basic)
		if !ok || basic.Info()&types.IsInteger == 0 || s.Value != nil || s.Key != nil && s.Tok != token.DEFINE {
			return false
		}
		b.body = s.Body
		if id, ok := s.Key.(*ast.Ident); ok && id.Name != "_" {
			b.counter, b.name = r.info.ObjectOf(id), id.Name
		}
		return r.count(s.X, -1)
	case *ast.ForStmt:
		b.body = s.Body
		if !r.counter(s) {
			b.counter, b.first, b.name = nil, 0, ""
			if s.Init != nil {
				b.init = r.source(s.Init) + "\n"
			}
			if s.Post != nil {
				if r.calls(s.Post) {
					return false
				}
				b.post = r.source(s.Post) + "\n"
			}
		}
		if s.Cond == nil {
			return true
		}
		if c, ok := s.Cond.(*ast.BinaryExpr); ok && b.counter != nil && objectOf(r.info, c.X) == b.counter {
			switch c.Op {
			case token.LSS, token.NEQ:
				return r.count(c.Y, -1-b.first)
			case token.LEQ:
				return r.count(c.Y, -b.first)
			}
		}
		b.stop = s.Cond
		return true
	}
	return false
}

// counter reads "i := 0" and "i++", which may both be missing.
func (r *rewrite) counter(s *ast.ForStmt) bool {
	b := &r.bound
	if s.Init == nil && s.Post == nil {
		return true
	}
	init, ok1 := s.Init.(*ast.AssignStmt)
	post, ok2 := s.Post.(*ast.IncDecStmt)
	if !ok1 || !ok2 || init.Tok != token.DEFINE || len(init.Lhs) != 1 || post.Tok != token.INC {
		return false
	}
	b.counter = objectOf(r.info, init.Lhs[0])
	first := r.info.Types[init.Rhs[0]].Value
	if b.counter == nil || first == nil || first.Kind() != constant.Int || objectOf(r.info, post.X) != b.counter {
		return false
	}
	b.name = b.counter.Name()
	b.first, _ = constant.Int64Val(first)
	return (b.first == 0 || b.first == 1) && !r.setInBody(b.counter)
}

// setInBody reports whether the body assigns to the counter.
func (r *rewrite) setInBody(obj types.Object) bool {
	for _, d := range r.l.f.defs[obj] {
		if d.at.Pos() >= r.bound.body.Pos() && d.at.End() <= r.bound.body.End() {
			return true
		}
	}
	return false
}

// count notes that the loop goes round n times, and more, or less, by plus one.
func (r *rewrite) count(n ast.Expr, plus int64) bool {
	b := &r.bound
	b.counts, b.times = true, n
	if v := r.info.Types[n].Value; v != nil {
		times, exact := constant.Int64Val(constant.ToInt(v))
		if !exact || times+plus < 1 || times+plus > 1000 {
			return false
		}
		b.retries = strconv.FormatInt(times+plus, 10)
		if _, literal := ast.Unparen(n).(*ast.BasicLit); !literal && untypedOrInt(r.declaredConst(n)) {
			b.retries, b.kept = r.plus(n, plus), []ast.Expr{n}
		}
		return true
	}
	if !r.steady(n, false) {
		return false
	}
	text := r.plus(n, plus)
	if !types.Identical(r.info.TypeOf(n), types.Typ[types.Int]) {
		text = fmt.Sprintf("int(%s)", r.source(n)) + offset(plus)
	}
	// 0 would stand for the default.
	b.retries, b.kept = fmt.Sprintf("%s.Or(max(%s, 0), %s.NoRetries)", r.imports.use("cmp", "cmp"), text, r.pkg), []ast.Expr{n}
	return true
}

func (r *rewrite) plus(n ast.Expr, plus int64) string { return r.source(n) + offset(plus) }

func offset(plus int64) string {
	switch {
	case plus < 0:
		return fmt.Sprintf(" - %d", -plus)
	case plus > 0:
		return fmt.Sprintf(" + %d", plus)
	}
	return ""
}

// declaredConst returns the type of the constant that e names.
func (r *rewrite) declaredConst(e ast.Expr) types.Type {
	if id, ok := ast.Unparen(e).(*ast.Ident); ok {
		return r.l.f.declaredType(id)
	}
	return nil
}

func untypedOrInt(t types.Type) bool {
	b, ok := t.(*types.Basic)
	return ok && (b.Kind() == types.Int || b.Kind() == types.UntypedInt)
}

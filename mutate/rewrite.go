package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"os"
	"slices"
	"strings"
)

// A mutant is one small change of a program, such as < for <=, that a test should notice.
type mutant struct {
	id       int
	file     string // as in the table: a path from the root of the repository
	line     int
	function string
	change   string // "a < b -> a <= b"
}

// rewriter writes all mutants of a file into one source text, in which an environment
// variable chooses: a package is compiled once, and not once for each mutant.
type rewriter struct {
	fset     *token.FileSet
	info     *types.Info
	path     string
	source   []byte
	base     int // of the file in fset
	nextID   int
	wanted   func(line int) bool
	function string
	mutants  []mutant
	before   map[int]string // insertions, by offset
	after    map[int]string // and those that end an expression which ends there
	replaced map[int]int    // offset of an operator's text and its length
	parents  []ast.Node
}

// source of the functions that choose between the original and its mutants.
const chooser = `package %s

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"sync"
)

var (
	mutantChosen, _ = strconv.Atoi(os.Getenv("MUTANT"))
	mutantRecord    = os.Getenv("MUTANT_RECORD")
	mutantSeen      sync.Map
)

// mutant reports whether the mutant is the one that is tried.
func mutant(id int) bool {
	if mutantRecord != "" {
		mutantNote(id)
	}
	return id == mutantChosen
}

func mutantNote(id int) {
	if _, seen := mutantSeen.LoadOrStore(id, true); seen {
		return
	}
	if f, err := os.OpenFile(mutantRecord, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		fmt.Fprintln(f, id)
		f.Close()
	}
}

type mutantNumber interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr | ~float32 | ~float64
}

type mutantInteger interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

// The first id is that of the negation, the next that of the boundary, which a test can
// notice only where both are equal.
func mutantLSS[T cmp.Ordered](id int, a, b T) bool {
	return (a < b || a == b && mutant(id+1)) != mutant(id)
}

func mutantLEQ[T cmp.Ordered](id int, a, b T) bool {
	return (a <= b && !(a == b && mutant(id+1))) != mutant(id)
}

func mutantGTR[T cmp.Ordered](id int, a, b T) bool {
	return (a > b || a == b && mutant(id+1)) != mutant(id)
}

func mutantGEQ[T cmp.Ordered](id int, a, b T) bool {
	return (a >= b && !(a == b && mutant(id+1))) != mutant(id)
}

func mutantADD[T mutantNumber](id int, a, b T) T {
	if mutant(id) {
		return a - b
	}
	return a + b
}

func mutantSUB[T mutantNumber](id int, a, b T) T {
	if mutant(id) {
		return a + b
	}
	return a - b
}

func mutantMUL[T mutantNumber](id int, a, b T) T {
	if mutant(id) {
		return a / b
	}
	return a * b
}

func mutantQUO[T mutantNumber](id int, a, b T) T {
	if mutant(id) {
		return a * b
	}
	return a / b
}

func mutantREM[T mutantInteger](id int, a, b T) T {
	if mutant(id) {
		return a * b
	}
	return a %% b
}

func mutantNEG[T mutantNumber](id int, a T) T {
	if mutant(id) {
		return a
	}
	return -a
}
`

var helpers = map[token.Token]string{
	token.LSS: "mutantLSS", token.LEQ: "mutantLEQ", token.GTR: "mutantGTR", token.GEQ: "mutantGEQ",
	token.ADD: "mutantADD", token.SUB: "mutantSUB", token.MUL: "mutantMUL", token.QUO: "mutantQUO", token.REM: "mutantREM",
}

var opposite = map[token.Token]token.Token{
	token.LSS: token.GEQ, token.LEQ: token.GTR, token.GTR: token.LEQ, token.GEQ: token.LSS, token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL, token.REM: token.MUL,
	token.LAND: token.LOR, token.LOR: token.LAND, token.INC: token.DEC, token.DEC: token.INC,
	token.ADD_ASSIGN: token.SUB_ASSIGN, token.SUB_ASSIGN: token.ADD_ASSIGN,
	token.MUL_ASSIGN: token.QUO_ASSIGN, token.QUO_ASSIGN: token.MUL_ASSIGN,
	token.AND_ASSIGN: token.OR_ASSIGN, token.OR_ASSIGN: token.AND_ASSIGN,
}

var boundary = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
}

// rewrite returns the text with its mutants, which are numbered from firstID on.
func rewrite(fset *token.FileSet, info *types.Info, file *ast.File, path, name string, firstID int, wanted func(line int) bool) ([]byte, []mutant, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	r := &rewriter{fset: fset, info: info, path: name, source: source, base: fset.File(file.Pos()).Base(), nextID: firstID,
		wanted: wanted, before: map[int]string{}, after: map[int]string{}, replaced: map[int]int{}}
	for _, declaration := range file.Decls {
		if d, ok := declaration.(*ast.GenDecl); ok && d.Tok == token.CONST {
			continue // a constant cannot be chosen at run time
		}
		r.function = "package"
		if d, ok := declaration.(*ast.FuncDecl); ok {
			r.function = d.Name.Name
		}
		ast.Inspect(declaration, func(n ast.Node) bool {
			if n == nil {
				r.parents = r.parents[:len(r.parents)-1]
				return false
			}
			if !r.visit(n) {
				return false
			}
			r.parents = append(r.parents, n)
			return true
		})
	}
	return r.text(), r.mutants, nil
}

func (r *rewriter) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ArrayType, *ast.FuncType:
		return false
	case *ast.DeclStmt:
		return n.Decl.(*ast.GenDecl).Tok != token.CONST
	case *ast.BinaryExpr:
		r.binary(n)
	case *ast.UnaryExpr:
		if n.Op == token.SUB && !r.untyped(n) && r.wanted(r.line(n)) {
			id := r.add(n, r.textOf(n)+" -> "+r.textOf(n.X))
			r.replace(n.OpPos, 1, fmt.Sprintf("mutantNEG(%d, ", id))
			r.close(n.End(), ")")
		}
	case *ast.IncDecStmt:
		r.statement(n, n.TokPos, n.Tok)
	case *ast.AssignStmt:
		if opposite[n.Tok] != token.ILLEGAL && r.isNumber(n.Lhs[0]) {
			r.statement(n, n.TokPos, n.Tok)
		}
	}
	return true
}

func (r *rewriter) binary(n *ast.BinaryExpr) {
	if !r.wanted(r.fset.Position(n.OpPos).Line) || opposite[n.Op] == token.ILLEGAL {
		return
	}
	mutated := func(op token.Token) string {
		return fmt.Sprintf("%s -> %s %s %s", r.textOf(n), r.textOf(n.X), op, r.textOf(n.Y))
	}
	switch n.Op {
	case token.EQL, token.NEQ:
		id := r.add(n, mutated(opposite[n.Op]))
		r.open(n.Pos(), fmt.Sprintf("(mutant(%d) != (", id))
		r.close(n.End(), "))")
	case token.LAND, token.LOR:
		// De Morgan: with all three negated it is the other operator, as lazy.
		id := r.add(n, mutated(opposite[n.Op]))
		chosen := fmt.Sprintf(" != mutant(%d)", id)
		r.open(n.Pos(), "(((")
		r.close(n.X.End(), ")"+chosen)
		r.open(n.Y.Pos(), "(")
		r.close(n.Y.End(), ")"+chosen+")"+chosen+")")
	default:
		if r.untyped(n.X) && r.untyped(n.Y) || boundary[n.Op] == token.ILLEGAL && !r.isNumber(n) {
			return
		}
		id := r.add(n, mutated(opposite[n.Op]))
		if at, ok := boundary[n.Op]; ok {
			r.add(n, mutated(at))
		}
		r.open(n.Pos(), fmt.Sprintf("%s(%d, ", helpers[n.Op], id))
		r.replace(n.OpPos, len(n.Op.String()), ",")
		r.close(n.End(), ")")
	}
}

// statement makes an if of an assignment or increment, which takes a function literal at
// the end of a for clause.
func (r *rewriter) statement(n ast.Stmt, at token.Pos, op token.Token) {
	if !r.wanted(r.line(n)) {
		return
	}
	start, end := "", ""
	switch parent := r.parents[len(r.parents)-1].(type) {
	case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause:
		if comm, ok := parent.(*ast.CommClause); ok && comm.Comm == n {
			return
		}
	case *ast.ForStmt:
		if parent.Post != n {
			return
		}
		start, end = "func() { ", " }()"
	default:
		return
	}
	left, right := string(r.source[r.offset(n.Pos()):r.offset(at)]), string(r.source[r.offset(at)+len(op.String()):r.offset(n.End())])
	mutated := left + opposite[op].String() + right
	id := r.add(n, r.textOf(n)+" -> "+mutated)
	r.open(n.Pos(), fmt.Sprintf("%sif mutant(%d) { %s } else { ", start, id, mutated))
	r.close(n.End(), " }"+end)
}

func (r *rewriter) add(n ast.Node, change string) int {
	id := r.nextID
	r.nextID++
	change = strings.Join(strings.Fields(change), " ")
	r.mutants = append(r.mutants, mutant{id: id, file: r.path, line: r.line(n), function: r.function, change: change})
	return id
}

func (r *rewriter) untyped(e ast.Expr) bool {
	v := r.info.Types[e]
	if v.Value == nil {
		return false
	}
	if v.Value.Kind() == constant.Unknown {
		return true
	}
	// The type checker gives a constant the type of its use; a literal has none of its own.
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.ParenExpr:
		return r.untyped(e.X)
	case *ast.UnaryExpr:
		return r.untyped(e.X)
	case *ast.BinaryExpr:
		return r.untyped(e.X) && r.untyped(e.Y)
	case *ast.Ident:
		return isUntyped(r.info.Uses[e])
	case *ast.SelectorExpr:
		return isUntyped(r.info.Uses[e.Sel])
	}
	return false
}

func isUntyped(o types.Object) bool {
	c, ok := o.(*types.Const)
	if !ok {
		return false
	}
	b, ok := c.Type().(*types.Basic)
	return ok && b.Info()&types.IsUntyped != 0
}

func (r *rewriter) isNumber(e ast.Expr) bool {
	t := r.info.TypeOf(e)
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsNumeric != 0 && b.Info()&types.IsComplex == 0
}

func (r *rewriter) line(n ast.Node) int { return r.fset.Position(n.Pos()).Line }

func (r *rewriter) offset(p token.Pos) int { return int(p) - r.base }

func (r *rewriter) textOf(n ast.Node) string {
	return string(r.source[r.offset(n.Pos()):r.offset(n.End())])
}

// The nodes are visited from the outside in: what opens later at a place stands further
// right, and what closes later further left.
func (r *rewriter) open(p token.Pos, s string) { r.before[r.offset(p)] += s }

func (r *rewriter) close(p token.Pos, s string) { r.after[r.offset(p)] = s + r.after[r.offset(p)] }

func (r *rewriter) replace(p token.Pos, length int, s string) {
	r.open(p, s)
	r.replaced[r.offset(p)] = length
}

func (r *rewriter) text() []byte {
	var out []byte
	places := map[int]bool{len(r.source): true}
	for at := range r.before {
		places[at] = true
	}
	for at := range r.after {
		places[at] = true
	}
	sorted := make([]int, 0, len(places))
	for at := range places {
		sorted = append(sorted, at)
	}
	slices.Sort(sorted)
	from := 0
	for _, at := range sorted {
		out = append(out, r.source[from:at]...)
		out = append(out, r.after[at]...)
		out = append(out, r.before[at]...)
		from = at + r.replaced[at]
	}
	return append(out, r.source[from:]...)
}

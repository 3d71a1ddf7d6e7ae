package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/cfg"
)

// A node is a basic block. A condition made with && or || is several nodes, so
// that each knows one test and where it leads.
type node struct {
	index int
	list  []ast.Node // statements and expressions, in order
	cond  ast.Expr   // what decides between succs[0] (true) and succs[1]; nil if unknown
	tag   ast.Expr   // of a switch: cond is compared with it
	stmt  ast.Stmt   // what gave rise to it
	kind  cfg.BlockKind
	succs []*node
	preds []*node
}

// about returns what the condition consists of.
func (n *node) about() []ast.Expr {
	if n.tag != nil {
		return []ast.Expr{n.cond, n.tag}
	}
	return []ast.Expr{n.cond}
}

// A graph is the control flow of one function, without what its function
// literals do.
type graph struct {
	nodes []*node
}

// graph builds the graph of f.
func (f *function) graph() *graph {
	info, body := f.info, f.body
	b := &graphBuilder{
		clauses: map[*ast.CaseClause]ast.Stmt{},
		comms:   map[ast.Node]bool{},
	}
	b.collect(body)
	flow := cfg.New(body, func(call *ast.CallExpr) bool { return !f.neverReturns(info, call, 2) })
	first := make([]*node, len(flow.Blocks))
	for i, block := range flow.Blocks {
		first[i] = b.add(block)
	}
	for i, block := range flow.Blocks {
		b.connect(first[i], block, first)
	}
	for _, n := range b.nodes {
		for _, s := range n.succs {
			s.preds = append(s.preds, n)
		}
	}
	return &graph{nodes: b.nodes}
}

type graphBuilder struct {
	nodes   []*node
	clauses map[*ast.CaseClause]ast.Stmt // to the switch around it
	comms   map[ast.Node]bool            // what select clauses send or receive
}

// collect notes what package cfg leaves out: which switch a case belongs to, and
// which statements stand in select clauses.
func (b *graphBuilder) collect(body *ast.BlockStmt) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.SwitchStmt:
			for _, c := range n.Body.List {
				b.clauses[c.(*ast.CaseClause)] = n
			}
		case *ast.TypeSwitchStmt:
			for _, c := range n.Body.List {
				b.clauses[c.(*ast.CaseClause)] = n
			}
		case *ast.CommClause:
			if n.Comm != nil {
				b.comms[n.Comm] = true
				if e, ok := n.Comm.(*ast.ExprStmt); ok {
					b.comms[e.X] = true
				}
			}
		}
		return true
	})
}

func (b *graphBuilder) newNode(block *cfg.Block) *node {
	n := &node{index: len(b.nodes), stmt: block.Stmt, kind: block.Kind}
	b.nodes = append(b.nodes, n)
	return n
}

// add makes the node for block, without its successors. A receive in a select
// clause is moved to where it has happened: into the clause.
func (b *graphBuilder) add(block *cfg.Block) *node {
	n := b.newNode(block)
	if clause, ok := block.Stmt.(*ast.CommClause); ok && block.Kind == cfg.KindSelectCaseBody && clause.Comm != nil {
		n.list = append(n.list, clause.Comm)
	}
	for _, x := range block.Nodes {
		if !b.comms[x] {
			n.list = append(n.list, x)
		}
	}
	return n
}

func (b *graphBuilder) connect(n *node, block *cfg.Block, first []*node) {
	for _, s := range block.Succs {
		n.succs = append(n.succs, first[s.Index])
	}
	if len(block.Succs) != 2 {
		return
	}
	if block.Succs[0].Kind == cfg.KindSwitchCaseBody {
		clause, _ := block.Succs[0].Stmt.(*ast.CaseClause)
		if s, ok := b.clauses[clause].(*ast.TypeSwitchStmt); ok {
			if len(clause.List) == 1 {
				n.cond, n.tag = clause.List[0], asserted(s)
			}
			return
		}
	}
	if len(n.list) == 0 {
		return
	}
	cond, ok := n.list[len(n.list)-1].(ast.Expr)
	if !ok {
		return
	}
	switch block.Succs[0].Kind {
	case cfg.KindSelectCaseBody, cfg.KindRangeBody:
		return
	case cfg.KindSwitchCaseBody:
		clause, _ := block.Succs[0].Stmt.(*ast.CaseClause)
		s, ok := b.clauses[clause].(*ast.SwitchStmt)
		if !ok {
			return
		}
		if s.Tag != nil {
			n.cond, n.tag = cond, s.Tag
			return
		}
	}
	n.list = n.list[:len(n.list)-1]
	b.split(n, block, cond, n.succs[0], n.succs[1])
}

// asserted returns the expression whose type s switches on.
func asserted(s *ast.TypeSwitchStmt) ast.Expr {
	var x ast.Expr
	ast.Inspect(s.Assign, func(n ast.Node) bool {
		if t, ok := n.(*ast.TypeAssertExpr); ok && x == nil {
			x = t.X
		}
		return x == nil
	})
	return x
}

// split makes n, which is to decide cond, a chain of single tests.
func (b *graphBuilder) split(n *node, block *cfg.Block, cond ast.Expr, yes, no *node) {
	cond = ast.Unparen(cond)
	if x, ok := cond.(*ast.UnaryExpr); ok && x.Op == token.NOT {
		b.split(n, block, x.X, no, yes)
		return
	}
	if x, ok := cond.(*ast.BinaryExpr); ok && (x.Op == token.LAND || x.Op == token.LOR) {
		second := b.newNode(block)
		if x.Op == token.LAND {
			b.split(n, block, x.X, second, no)
		} else {
			b.split(n, block, x.X, yes, second)
		}
		b.split(second, block, x.Y, yes, no)
		return
	}
	n.cond = cond
	n.list = append(n.list, cond)
	n.succs = []*node{yes, no}
}

// neverReturns reports whether call ends the goroutine or the process, itself or
// in the last statement of a function of the package.
func (fn *function) neverReturns(info *types.Info, call *ast.CallExpr, depth int) bool {
	switch f := callee(info, call).(type) {
	case *types.Builtin:
		return f.Name() == "panic"
	case *types.Func:
		if decl := fn.pkg.bodyOf(info, call); decl != nil && depth > 0 && len(decl.Body.List) > 0 {
			last, ok := decl.Body.List[len(decl.Body.List)-1].(*ast.ExprStmt)
			if !ok {
				return false
			}
			inner, ok := last.X.(*ast.CallExpr)
			return ok && fn.neverReturns(info, inner, depth-1)
		}
		if f.Pkg() == nil {
			return false
		}
		if f.Signature().Recv() != nil {
			switch f.Name() { // loggers and tests
			case "Fatal", "Fatalf", "Fatalln", "FailNow", "Skip", "Skipf", "SkipNow":
				return true
			}
		}
		switch f.Pkg().Path() + "." + f.Name() {
		case "os.Exit", "runtime.Goexit", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf", "log.Panicln":
			return true
		}
	}
	return false
}

// A set is a set of nodes.
type set map[*node]bool

// edge is one way out of a node.
type edge struct {
	from *node
	succ int
}

func (e edge) to() *node { return e.from.succs[e.succ] }

// reach returns the nodes that can be reached from start, start included, by
// edges that follow allows.
func reach(start *node, follow func(edge) bool) set {
	seen := set{start: true}
	for todo := []*node{start}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for i, s := range n.succs {
			if !seen[s] && follow(edge{n, i}) {
				seen[s] = true
				todo = append(todo, s)
			}
		}
	}
	return seen
}

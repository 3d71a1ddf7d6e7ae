// Package retrylint finds hand-written retry loops and says what is wrong with
// each; where it is certain, it offers the rewrite to package
// github.com/retryutils/retry. It also finds mistakes in the use of that package.
package retrylint

import (
	"flag"
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"sort"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Analyzer is retrylint with every category switched on. Its flags, one for each
// category, switch them off.
var Analyzer = New(nil)

// New returns an analyzer of its own in which the named categories are switched
// off. Names that are none of a category are ignored; see [Categories].
func New(disabled []string) *analysis.Analyzer {
	on := map[string]*bool{}
	a := &analysis.Analyzer{
		Name:             "retrylint",
		Doc:              documentation(),
		URL:              "https://github.com/retryutils/retry/tree/main/retrylint",
		RunDespiteErrors: true,
		Flags:            *flag.NewFlagSet("retrylint", flag.ContinueOnError),
	}
	for _, c := range categories {
		value := true
		for _, d := range disabled {
			value = value && d != c.name
		}
		on[c.name] = a.Flags.Bool(c.name, value, "report "+c.name+": "+strings.ToLower(c.doc[:1])+c.doc[1:])
	}
	a.Run = func(pass *analysis.Pass) (any, error) {
		r := &reporter{pass: pass, on: on}
		r.run()
		return nil, nil
	}
	return a
}

// Categories returns the names of all categories.
func Categories() []string {
	names := make([]string, len(categories))
	for i, c := range categories {
		names[i] = c.name
	}
	return names
}

// A finding is what is reported at one place.
type finding struct {
	category string
	pos, end token.Pos
	message  string
	loop     *loop // the one it belongs to, or nil
	fix      *analysis.SuggestedFix
}

type reporter struct {
	pass     *analysis.Pass
	on       map[string]*bool
	findings []finding
}

func (r *reporter) add(f finding) { r.findings = append(r.findings, f) }

func (r *reporter) run() {
	pkg := newPackageInfo(r.pass)
	for _, file := range r.pass.Files {
		if isGenerated(r.pass.Fset, file) {
			continue
		}
		r.findings = nil
		if !isTest(r.pass, file) {
			r.loops(pkg, file)
		}
		if importsRetry(file) {
			newUsage(r, file).check()
		}
		r.report(newSuppressions(r.pass.Fset, file))
	}
}

// generated is the convention of https://go.dev/s/generatedcode.
var generated = regexp.MustCompile(`^// Code generated .* DO NOT EDIT\.$`)

// isGenerated reports whether file was not written by hand. What cgo makes of a
// file that imports "C" begins with a comment of cgo, but is otherwise that file;
// what it adds to a package is not.
func isGenerated(fset *token.FileSet, file *ast.File) bool {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if c.Pos() > file.Package {
				return false
			}
			if generated.MatchString(c.Text) && (!strings.Contains(c.Text, "by cmd/cgo;") || sourceName(fset, file) == rawName(fset, file)) {
				return true
			}
		}
	}
	return false
}

// rawName returns the name of the file that was compiled.
func rawName(fset *token.FileSet, file *ast.File) string { return fset.File(file.FileStart).Name() }

// sourceName returns the name of the file that was written, which differs from
// the compiled one where a line directive says so.
func sourceName(fset *token.FileSet, file *ast.File) string {
	return fset.Position(file.Package).Filename
}

// isTest reports whether file is one of tests.
func isTest(pass *analysis.Pass, file *ast.File) bool {
	return strings.HasSuffix(sourceName(pass.Fset, file), "_test.go")
}

// loops finds the retry loops of file.
func (r *reporter) loops(pkg *packageInfo, file *ast.File) {
	variables := map[*ast.FuncLit]*ast.Ident{} // that literals are assigned to
	ast.Inspect(file, func(n ast.Node) bool {
		f := &function{pass: r.pass, info: r.pass.TypesInfo, pkg: pkg, file: file, node: n}
		switch n := n.(type) {
		case *ast.AssignStmt:
			if id, lit, ok := literalOf(n); ok {
				variables[lit] = id
			}
		case *ast.FuncDecl:
			f.name, f.typ, f.body = n.Name.Name, n.Type, n.Body
			f.object = r.pass.TypesInfo.Defs[n.Name]
		case *ast.FuncLit:
			f.typ, f.body = n.Type, n.Body
			if id := variables[n]; id != nil {
				f.name, f.object = id.Name, r.pass.TypesInfo.ObjectOf(id)
			}
		}
		if f.body != nil {
			r.function(f)
		}
		return true
	})
}

// literalOf returns the variable and the function literal of "f = func…".
func literalOf(as *ast.AssignStmt) (*ast.Ident, *ast.FuncLit, bool) {
	if len(as.Lhs) != 1 || len(as.Rhs) != 1 {
		return nil, nil, false
	}
	id, ok1 := as.Lhs[0].(*ast.Ident)
	lit, ok2 := as.Rhs[0].(*ast.FuncLit)
	return id, lit, ok1 && ok2
}

func (r *reporter) function(f *function) {
	if !worthALook(f.info, f) {
		return
	}
	f.defs, f.fields = collectDefs(f.info, f.body), collectFields(f.info, f.body)
	for _, l := range f.loops() {
		r.add(l.finding())
		l.faults(r)
	}
	for _, l := range f.recursions() {
		r.add(l.finding())
		l.faults(r)
	}
	for _, l := range f.polls() {
		r.add(l.finding())
	}
}

// worthALook reports whether f has a loop, a label, or a call of itself or of a
// helper that polls. Most functions have not.
func worthALook(info *types.Info, f *function) bool {
	return mentions(f.body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ForStmt, *ast.RangeStmt, *ast.LabeledStmt:
			return true
		case *ast.CallExpr:
			return pollName.MatchString(calleeName(n)) || calleeName(n) == "AfterFunc" || f.name != "" && calleeName(n) == f.name
		}
		return false
	})
}

// report reports the findings in order, but for those that are switched off or
// silenced.
func (r *reporter) report(s *suppressions) {
	sort.SliceStable(r.findings, func(i, j int) bool { return r.findings[i].pos < r.findings[j].pos })
	type key struct {
		pos      token.Pos
		category string
	}
	seen := map[key]bool{}
	for _, f := range r.findings {
		k := key{f.pos, f.category}
		if !*r.on[f.category] || s.silence(f) || seen[k] {
			continue
		}
		seen[k] = true
		d := analysis.Diagnostic{Pos: f.pos, End: f.end, Category: f.category, URL: categoryOf(f.category).url(),
			Message: f.message + " (" + f.category + ")"}
		if f.fix != nil {
			d.SuggestedFixes = []analysis.SuggestedFix{*f.fix}
		}
		r.pass.Report(d)
	}
}

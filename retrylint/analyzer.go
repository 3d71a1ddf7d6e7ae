// Package retrylint finds hand-written retry loops and reports what is wrong with
// each; where the result is certain, it offers the rewrite to package
// github.com/retryutils/retry. It also finds mistakes in the use of that package.
package retrylint

import (
	"flag"
	"go/ast"
	"go/token"
	"go/types"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Analyzer is retrylint with every category switched on but those of [Optional]. Its flags,
// one for each category, switch them off and on; the flag each reports each fault of a loop
// by itself.
var Analyzer = New(Optional())

// New returns a separate analyzer in which the named categories are switched off.
// Names that are no category are ignored; see [Categories]. Its result is a
// [*Result].
func New(disabled []string) *analysis.Analyzer {
	on := map[string]*bool{}
	a := &analysis.Analyzer{
		Name:             "retrylint",
		Doc:              documentation(),
		URL:              "https://github.com/retryutils/retry/tree/main/retrylint",
		RunDespiteErrors: true,
		Flags:            *flag.NewFlagSet("retrylint", flag.ContinueOnError),
		ResultType:       reflect.TypeFor[*Result](),
	}
	each := a.Flags.Bool("each", false, "report each fault of a loop by itself, not as a note of the loop")
	for _, c := range categories {
		value := true
		for _, d := range disabled {
			value = value && d != c.Name
		}
		on[c.Name] = a.Flags.Bool(c.Name, value, "report "+c.Name+": "+strings.ToLower(c.Doc[:1])+c.Doc[1:])
	}
	a.Run = func(pass *analysis.Pass) (any, error) {
		r := &reporter{pass: pass, on: on, result: new(Result)}
		r.run()
		for _, f := range r.result.Findings {
			if !*each {
				pass.Report(f.diagnostic())
				continue
			}
			for _, f := range f.Each() {
				pass.Report(f.diagnostic())
			}
		}
		return r.result, nil
	}
	return a
}

// A Result is what the analyzer found in one package.
type Result struct {
	Findings []Finding // in the order of files and positions
}

// A Finding is a retry loop, or a mistake in the use of the library.
type Finding struct {
	Category string
	Message  string
	Pos, End token.Pos // what is marked
	Function string    // the declaration that it is in: "Load", "(*Client).Load"
	Notes    []Finding // the faults of a loop
	Span     [2]token.Pos
	Fix      *analysis.SuggestedFix // nil where no rewrite is certain

	loop *loop // the one it belongs to, or nil
}

// Each returns f without its notes, and behind it the notes.
func (f Finding) Each() []Finding {
	notes := f.Notes
	f.Notes = nil
	return append([]Finding{f}, notes...)
}

// diagnostic returns f as one diagnostic, with its notes as related positions, and
// their categories in its text.
func (f Finding) diagnostic() analysis.Diagnostic {
	d := analysis.Diagnostic{Pos: f.Pos, End: f.End, Category: f.Category, URL: CategoryOf(f.Category).URL(), Message: f.Text()}
	for _, n := range f.Notes {
		d.Related = append(d.Related, analysis.RelatedInformation{Pos: n.Pos, End: n.End, Message: n.Text()})
	}
	if f.Fix != nil {
		d.SuggestedFixes = []analysis.SuggestedFix{*f.Fix}
	}
	return d
}

// Text returns the message, the categories of the notes, and the category.
func (f Finding) Text() string {
	var names []string
	seen := map[string]bool{}
	for _, n := range f.Notes {
		if !seen[n.Category] {
			seen[n.Category] = true
			names = append(names, n.Category)
		}
	}
	if len(names) == 0 {
		return f.Message + " (" + f.Category + ")"
	}
	return f.Message + "; faults: " + strings.Join(names, ", ") + " (" + f.Category + ")"
}

type reporter struct {
	pass     *analysis.Pass
	on       map[string]*bool
	findings []Finding // of the file in work
	result   *Result
}

func (r *reporter) add(f Finding) { r.findings = append(r.findings, f) }

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
		r.collect(file)
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

// loops finds the retry loops of file. That of the library itself is what the others are
// replaced by.
func (r *reporter) loops(pkg *packageInfo, file *ast.File) {
	if r.pass.Pkg.Path() == retryPath {
		return
	}
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
	if !mayRetry(f) {
		return
	}
	f.defs, f.fields, f.outs = collectDefs(f.info, f.body), collectFields(f.info, f.body), collectOuts(f.info, f.body)
	for _, l := range append(f.loops(), f.recursions()...) {
		r.add(l.finding())
		l.faults(r)
	}
	for _, l := range f.polls() {
		r.add(l.finding())
	}
}

// mayRetry reports whether f has a loop, a label, a timer, or a call of itself or
// of a helper that polls. Most functions have none.
func mayRetry(f *function) bool {
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

// collect adds the findings of file to the result, in order, but for those that
// are switched off or silenced. The faults of a loop become its notes, unless loops
// themselves are switched off.
func (r *reporter) collect(file *ast.File) {
	sort.SliceStable(r.findings, func(i, j int) bool { return r.findings[i].Pos < r.findings[j].Pos })
	type key struct {
		pos      token.Pos
		category string
	}
	seen := map[key]bool{}
	silenced := newSuppressions(r.pass.Fset, file)
	var kept []Finding
	loops := map[*loop]int{} // to their index in kept
	for _, f := range r.findings {
		k := key{f.Pos, f.Category}
		if !*r.on[f.Category] || seen[k] || silenced.silence(f) {
			continue
		}
		seen[k] = true
		f.Function = functionAt(file, f.Pos)
		if f.Span[0] == token.NoPos {
			f.Span = [2]token.Pos{f.Pos, f.End}
		}
		if f.Category == "loop" {
			loops[f.loop] = len(kept)
		}
		kept = append(kept, f)
	}
	var top []Finding
	for i, f := range kept {
		if at, ok := loops[f.loop]; ok && f.loop != nil && at != i {
			kept[at].Notes = append(kept[at].Notes, f)
		}
	}
	for i, f := range kept {
		if at, ok := loops[f.loop]; !ok || f.loop == nil || at == i {
			top = append(top, f)
		}
	}
	r.result.Findings = append(r.result.Findings, top...)
}

// functionAt returns the name of the declaration around pos, as the runtime would
// write it.
func functionAt(file *ast.File, pos token.Pos) string {
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || pos < fn.Pos() || pos >= fn.End() {
			continue
		}
		if fn.Recv == nil || len(fn.Recv.List) == 0 {
			return fn.Name.Name
		}
		t := fn.Recv.List[0].Type
		if star, ok := t.(*ast.StarExpr); ok {
			return "(*" + types.ExprString(star.X) + ")." + fn.Name.Name
		}
		return types.ExprString(t) + "." + fn.Name.Name
	}
	return ""
}

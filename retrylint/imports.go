package retrylint

import (
	"go/ast"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// An importer collects the imports that a rewrite needs.
type importer struct {
	l    *loop
	ok   bool              // whether the names are free
	used map[string]string // by path: the name
	add  []string          // lines of the imports that are missing
}

// use returns the name by which the file knows the package, or will: the first of
// names, the first of which is its own, that is free.
func (i *importer) use(path string, names ...string) string {
	if name := i.used[path]; name != "" {
		return name
	}
	if i.used == nil {
		i.used = map[string]string{}
	}
	f := i.l.f
	scope := f.pass.Pkg.Scope().Innermost(i.l.pos)
	if scope == nil {
		i.ok = false
		return names[0]
	}
	for _, spec := range f.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if obj := f.info.PkgNameOf(spec); err == nil && p == path && obj != nil && obj.Name() != "_" && obj.Name() != "." {
			if _, seen := scope.LookupParent(obj.Name(), i.l.pos); seen == obj {
				i.used[path] = obj.Name()
				return obj.Name()
			}
		}
	}
	for n, name := range names {
		_, taken := scope.LookupParent(name, token.NoPos)
		if taken != nil || f.pass.Pkg.Scope().Lookup(name) != nil || i.inTests(name) || mentions(i.l.stmt, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok || id.Name != name {
				return false
			}
			v, isVar := f.info.Defs[id].(*types.Var)
			return isVar && !v.IsField()
		}) {
			continue
		}
		line := strconv.Quote(path)
		if n > 0 {
			line = name + " " + line
		}
		i.add = append(i.add, line)
		i.used[path] = name
		return name
	}
	i.ok = false
	return names[0]
}

// inTests reports whether a test of the package declares name: tests are often analyzed
// in another pass, but are compiled with the file.
func (i *importer) inTests(name string) bool {
	tests, err := filepath.Glob(filepath.Join(filepath.Dir(rawName(i.l.f.pass.Fset, i.l.f.file)), "*_test.go"))
	if err != nil {
		return false
	}
	declares := regexp.MustCompile(`(?m)^(func|var|const|type) ` + name + `\b`)
	for _, test := range tests {
		if text, err := os.ReadFile(test); err == nil && declares.Match(text) {
			return true
		}
	}
	return false
}

// edits returns the changes that add what is missing, and that remove imports which
// are not used any more when the given edits are made, but for what they copy.
func (i *importer) edits(others []analysis.TextEdit, copied []ast.Node) []analysis.TextEdit {
	file := i.l.f.file
	var edits []analysis.TextEdit
	removed := map[*ast.ImportSpec]bool{}
	for _, spec := range file.Imports {
		if obj := i.l.f.info.PkgNameOf(spec); obj != nil && i.unused(obj, others, copied) {
			removed[spec] = true
		}
	}
	var decl *ast.GenDecl // the first with parentheses
	for _, d := range file.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.IMPORT {
			continue
		}
		if gen.Lparen.IsValid() && decl == nil {
			decl = gen
		}
		from := gen.Lparen + 1
		for _, s := range gen.Specs {
			spec := s.(*ast.ImportSpec)
			end := endOf(spec)
			switch {
			case removed[spec] && gen.Lparen.IsValid():
				edits = append(edits, analysis.TextEdit{Pos: from, End: end})
			case removed[spec]:
				edits = append(edits, analysis.TextEdit{Pos: gen.Pos(), End: gen.End()})
			}
			from = end
		}
	}
	if decl == nil {
		if len(i.add) > 0 {
			pos := file.Name.End()
			edits = append(edits, analysis.TextEdit{Pos: pos, End: pos, NewText: []byte("\n\nimport (\n\t" + strings.Join(separated(i.add), "\n\t") + "\n)\n")})
		}
		return edits
	}
	for _, line := range i.add {
		edits = append(edits, i.insert(decl, line, removed))
	}
	return edits
}

// separated sorts import lines, the standard library's first.
func separated(lines []string) []string {
	var own, others []string
	for _, line := range lines {
		if standard(pathOf(line)) {
			own = append(own, line)
		} else {
			others = append(others, line)
		}
	}
	slices.Sort(own)
	slices.Sort(others)
	if len(own) > 0 && len(others) > 0 {
		own = append(own, "")
	}
	return append(own, others...)
}

func pathOf(line string) string {
	return strings.Trim(line[strings.Index(line, `"`):], `"`)
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func endOf(spec *ast.ImportSpec) token.Pos {
	if spec.Comment != nil {
		return spec.Comment.End()
	}
	return spec.End()
}

// unused reports whether the edits take away all uses of the package.
func (i *importer) unused(obj *types.PkgName, edits []analysis.TextEdit, copied []ast.Node) bool {
	if i.used[obj.Imported().Path()] != "" || obj.Name() == "_" || obj.Name() == "." {
		return false
	}
	gone := false
	for id, used := range i.l.f.info.Uses {
		if used != types.Object(obj) {
			continue
		}
		if !slices.ContainsFunc(edits, func(e analysis.TextEdit) bool { return e.Pos <= id.Pos() && id.End() <= e.End }) ||
			slices.ContainsFunc(copied, func(n ast.Node) bool { return n.Pos() <= id.Pos() && id.End() <= n.End() }) {
			return false
		}
		gone = true
	}
	return gone
}

// insert adds line where it belongs: into the group of imports that begin most like it.
func (i *importer) insert(decl *ast.GenDecl, line string, removed map[*ast.ImportSpec]bool) analysis.TextEdit {
	path := pathOf(line)
	at := func(pos token.Pos, text string) analysis.TextEdit {
		return analysis.TextEdit{Pos: pos, End: pos, NewText: []byte(text)}
	}
	number := func(pos token.Pos) int { return i.l.f.pass.Fset.Position(pos).Line }
	var groups [][]*ast.ImportSpec
	for n, s := range decl.Specs {
		spec := s.(*ast.ImportSpec)
		if n == 0 || number(spec.Pos()) > number(decl.Specs[n-1].End())+1 {
			groups = append(groups, nil)
		}
		if !removed[spec] {
			groups[len(groups)-1] = append(groups[len(groups)-1], spec)
		}
	}
	best, alike := []*ast.ImportSpec(nil), -1
	for _, group := range groups {
		for _, spec := range group {
			p, _ := strconv.Unquote(spec.Path.Value)
			if n := common(p, path); standard(p) == standard(path) && n > alike {
				best, alike = group, n
			}
		}
	}
	switch {
	case best == nil && standard(path):
		return at(decl.Lparen+1, "\n\t"+line+"\n")
	case best == nil:
		return at(decl.Rparen, "\n\t"+line+"\n")
	}
	for _, spec := range best {
		if p, _ := strconv.Unquote(spec.Path.Value); p > path && spec.Doc == nil {
			return at(spec.Pos(), line+"\n\t")
		}
	}
	return at(endOf(best[len(best)-1]), "\n\t"+line)
}

// common returns how many elements of their paths a and b begin with in common.
func common(a, b string) int {
	n := 0
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	for n < min(len(as), len(bs)) && as[n] == bs[n] {
		n++
	}
	return n
}

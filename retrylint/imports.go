package retrylint

import (
	"go/ast"
	"go/token"
	"strconv"

	"golang.org/x/tools/go/analysis"
)

// An importer collects the imports that a rewrite needs.
type importer struct {
	l   *loop
	ok  bool // whether the names are free
	add []string
}

// use returns the name by which the file knows the package, or will.
func (i *importer) use(path, name string) string {
	f := i.l.f
	scope := f.pass.Pkg.Scope().Innermost(i.l.pos)
	if scope == nil {
		i.ok = false
		return name
	}
	for _, spec := range f.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if obj := f.info.PkgNameOf(spec); err == nil && p == path && obj != nil && obj.Name() != "_" && obj.Name() != "." {
			if _, seen := scope.LookupParent(obj.Name(), i.l.pos); seen != obj {
				i.ok = false
			}
			return obj.Name()
		}
	}
	if _, taken := scope.LookupParent(name, token.NoPos); taken != nil || f.pass.Pkg.Scope().Lookup(name) != nil {
		i.ok = false
	}
	i.add = append(i.add, path)
	return name
}

// edits returns the changes that add what is missing.
func (i *importer) edits() []analysis.TextEdit {
	var edits []analysis.TextEdit
	file := i.l.f.file
	for _, path := range i.add {
		pos, text := file.Name.End(), "\n\nimport "+strconv.Quote(path)+"\n"
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.IMPORT {
				continue
			}
			if decl.Lparen.IsValid() {
				pos, text = decl.Lparen+1, "\n\t"+strconv.Quote(path)
			} else {
				pos, text = decl.End(), "\nimport "+strconv.Quote(path)
			}
			break
		}
		edits = append(edits, analysis.TextEdit{Pos: pos, End: pos, NewText: []byte(text)})
	}
	return edits
}

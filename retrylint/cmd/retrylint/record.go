package main

import (
	"fmt"
	"go/token"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/packages"

	"github.com/retryutils/retry/retrylint"
)

// A record is a finding as it is reported, in JSON with these names.
type record struct {
	Rule      string   `json:"rule"`
	Severity  string   `json:"severity"`
	Message   string   `json:"message"`
	Module    string   `json:"module,omitempty"`
	Package   string   `json:"package,omitempty"`
	Function  string   `json:"function,omitempty"`
	File      string   `json:"file"` // relative to the root of the repository, with slashes
	Line      int      `json:"line"`
	Column    int      `json:"column"`
	EndLine   int      `json:"endLine"`
	EndColumn int      `json:"endColumn"`
	URL       string   `json:"url"`
	Fixable   bool     `json:"fixable"`
	Notes     []record `json:"notes,omitempty"`

	text  string // the message, with the categories
	path  string // the file, absolute
	span  [2]int // the lines that it is about
	edits []edit
	fixed bool
}

func newRecord(opts *options, pkg *packages.Package, f retrylint.Finding, root, module string) record {
	from, to := pkg.Fset.Position(f.Pos), pkg.Fset.Position(f.End)
	r := record{
		Rule: f.Category, Severity: opts.level(f.Category), Message: f.Message, text: f.Text(),
		Module: module, Package: strings.TrimSuffix(pkg.PkgPath, "_test"), Function: f.Function,
		File: relative(root, from.Filename), path: from.Filename,
		Line: from.Line, Column: from.Column, EndLine: to.Line, EndColumn: to.Column,
		URL: retrylint.CategoryOf(f.Category).URL(), Fixable: f.Fix != nil,
		span: [2]int{pkg.Fset.Position(f.Span[0]).Line, pkg.Fset.Position(f.Span[1]).Line},
	}
	for _, n := range f.Notes {
		note := newRecord(opts, pkg, n, root, module)
		r.Notes = append(r.Notes, note)
	}
	if f.Fix != nil {
		r.edits = newEdits(pkg.Fset, f.Fix)
	}
	return r
}

func newEdits(fset *token.FileSet, fix *analysis.SuggestedFix) []edit {
	var edits []edit
	for _, e := range fix.TextEdits {
		edits = append(edits, edit{fset.Position(e.Pos).Offset, fset.Position(e.End).Offset, string(e.NewText)})
	}
	return edits
}

// relative returns file as a path from root, with slashes, where it is below it.
func relative(root, file string) string {
	if rel, err := filepath.Rel(root, file); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(file)
}

// flatten makes the notes records of their own.
func flatten(all []record) []record {
	var flat []record
	for _, r := range all {
		notes := r.Notes
		r.Notes, r.text = nil, fmt.Sprintf("%s (%s)", r.Message, r.Rule)
		flat = append(append(flat, r), notes...)
	}
	return flat
}

// filter returns the records of all modules that are not excluded and, with a
// revision to compare with, touch what changed since.
func (o *options) filter(modules []*module, root string) ([]record, error) {
	var changed changes
	if o.diff != "" {
		var err error
		if changed, err = changesSince(o.diff, root); err != nil {
			return nil, err
		}
	}
	var all []record
	for _, m := range modules {
		var kept []record
		for _, r := range m.records {
			if !o.excluded(r.File) && (o.diff == "" || changed.touch(r)) {
				kept = append(kept, r)
			}
		}
		m.records = kept
		all = append(all, kept...)
	}
	return all, nil
}

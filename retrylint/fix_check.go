package retrylint

import (
	"errors"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
)

// What rewritten code uses of the library, and of packages that the file may not have
// imported yet.
var stubs = map[string]string{
	retryPath: `package retry
import ("context"; "time")
const ( NoRetries = -1; Unlimited = 1<<31-1 )
var ErrMaxRetries, ErrDraining error
type Backoff func(int, time.Duration, func() float64) time.Duration
func ConstantBackoff(time.Duration) Backoff
type Config struct { MaxRetries int; MaxDelay time.Duration; Backoff Backoff; RetryIf func(error) bool; Drain <-chan struct{} }
func Do[T any](context.Context, Config, func(context.Context) (T, error)) (T, error) { panic(nil) }
func Run(context.Context, Config, func(context.Context) error) error
func Permanent(error) error
func RetryCount(context.Context) int`,
	"context": `package context
type Context interface { Deadline() (int, bool); Done() <-chan struct{}; Err() error; Value(any) any }
func Background() Context`,
	"cmp":    `package cmp; func Or[T comparable](...T) T { panic(nil) }`,
	"errors": `package errors; func Is(error, error) bool; func New(string) error`,
	"time":   `package time; type Duration int64; const Hour Duration = 1`,
}

// compiles reports whether the package has no more errors of its types than before
// when the edits are made.
func (r *rewrite) compiles(edits []analysis.TextEdit) bool {
	text, err := format.Source(applied(r.src, r.base, edits))
	if err != nil {
		return false
	}
	pass := r.l.f.pass
	const name = "fixed by retrylint"
	file, err := parser.ParseFile(pass.Fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		return false
	}
	defer pass.Fset.RemoveFile(pass.Fset.File(file.FileStart))
	files := []*ast.File{file}
	for _, f := range pass.Files {
		if f != r.l.f.file {
			files = append(files, signatures(f))
		}
	}
	known := stubImporter{"unsafe": types.Unsafe}
	known.add(pass.Pkg)
	wrong := 0
	conf := types.Config{Importer: known, FakeImportC: true, Sizes: pass.TypesSizes, Error: func(err error) {
		var e types.Error
		if errors.As(err, &e) && pass.Fset.File(e.Pos) != nil && pass.Fset.File(e.Pos).Name() == name {
			wrong++
		}
	}}
	_, _ = conf.Check(pass.Pkg.Path(), pass.Fset, files, nil)
	before := 0
	for _, e := range pass.TypeErrors {
		if pass.Fset.File(e.Pos) == pass.Fset.File(r.l.pos) {
			before++
		}
	}
	return wrong <= before
}

// signatures returns file without the bodies of its functions.
func signatures(file *ast.File) *ast.File {
	short := *file
	short.Decls = slices.Clone(file.Decls)
	for i, d := range short.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			bare := *fn
			bare.Body = nil
			short.Decls[i] = &bare
		}
	}
	return &short
}

// applied returns src with the edits made.
func applied(src []byte, base token.Pos, edits []analysis.TextEdit) []byte {
	sorted := slices.Clone(edits)
	slices.SortStableFunc(sorted, func(a, b analysis.TextEdit) int {
		if a.Pos != b.Pos {
			return int(a.Pos - b.Pos)
		}
		return int(a.End - b.End)
	})
	var out []byte
	at := base
	for _, e := range sorted {
		if e.Pos < at {
			return nil // they overlap
		}
		out = append(append(out, src[at-base:e.Pos-base]...), e.NewText...)
		at = e.End
	}
	return append(out, src[at-base:]...)
}

// stubImporter finds what the package imports, and stubs of what the rewritten code
// imports besides.
type stubImporter map[string]*types.Package

// add adds what p imports, and what that does.
func (s stubImporter) add(p *types.Package) {
	for _, i := range p.Imports() {
		if s[i.Path()] == nil {
			s[i.Path()] = i
			s.add(i)
		}
	}
}

func (s stubImporter) Import(path string) (*types.Package, error) {
	if p := s[path]; p != nil {
		return p, nil
	}
	source, ok := stubs[path]
	if !ok {
		return types.NewPackage(path, ""), nil
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	conf := types.Config{Importer: s, IgnoreFuncBodies: true}
	p, err := conf.Check(path, fset, []*ast.File{file}, nil)
	s[path] = p
	return p, err
}

// tidied returns the edits in order, those that touch as one.
func tidied(edits []analysis.TextEdit) []analysis.TextEdit {
	slices.SortStableFunc(edits, func(a, b analysis.TextEdit) int {
		if a.Pos != b.Pos {
			return int(a.Pos - b.Pos)
		}
		return int(a.End - b.End)
	})
	var out []analysis.TextEdit
	for _, e := range edits {
		if n := len(out); n > 0 && out[n-1].End == e.Pos {
			out[n-1].End = e.End
			out[n-1].NewText = append(slices.Clone(out[n-1].NewText), e.NewText...)
			continue
		}
		out = append(out, e)
	}
	return out
}

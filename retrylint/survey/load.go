package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/tools/go/analysis"

	"github.com/retryutils/retry/retrylint"
)

// A module is a line of modules.txt: a module, its version, and which of its
// packages are looked at; all if there are none.
type module struct {
	path, version string
	patterns      []string
}

func (m module) String() string { return m.path + "@" + m.version }

// listed is what the survey needs of what go list reports of a package.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	DepOnly    bool
	GoFiles    []string
	CgoFiles   []string
	ImportMap  map[string]string
	Module     *struct{ Path, Dir, GoVersion string }
	Error      *struct{ Err string }
}

// list downloads m and what it needs into the ordinary module cache, by way of a
// module in dir that requires it, and returns its packages behind those that
// they import.
func (m module) list(dir string) ([]*listed, error) {
	mod := fmt.Sprintf("module survey\n\ngo 1.26\n\nrequire %s %s\n", m.path, m.version)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o600); err != nil {
		return nil, err
	}
	patterns := []string{m.path + "/..."}
	if len(m.patterns) > 0 {
		patterns = nil
		for _, p := range m.patterns {
			patterns = append(patterns, m.path+"/"+p)
		}
	}
	env := append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=1")
	download := exec.Command("go", "mod", "download", m.String())
	download.Dir, download.Env = dir, env
	if out, err := download.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", m, err, out)
	}
	cmd := exec.Command("go", append([]string{"list", "-e", "-deps", "-json=ImportPath,Dir,Standard,DepOnly,GoFiles,CgoFiles,ImportMap,Module,Error"}, patterns...)...)
	cmd.Dir, cmd.Env = dir, env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		return nil, fmt.Errorf("%s: %w: %s", m, err, stderr.String())
	}
	var all []*listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(listed)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// A result is what the survey found in one module.
type result struct {
	module   module
	findings []found
	packages int
	lines    int
	broken   int // packages with errors of their types
	spent    time.Duration
	err      error
}

type found struct {
	file     string // within the module
	line     int
	category string
	message  string
	fix      bool
	fixed    []byte // the file with the fix, if there is one
	source   string // where the file is
}

// survey runs the analyzer over the packages of m. Packages are checked from
// their source, those that are only imported without the bodies of their
// functions: nothing is compiled.
func survey(m module, analyzer *analysis.Analyzer) (res result) {
	res.module = m
	dir, err := os.MkdirTemp("", "survey")
	if err != nil {
		res.err = err
		return res
	}
	defer os.RemoveAll(dir)
	packages, err := m.list(dir)
	if err != nil {
		res.err = err
		return res
	}
	l := loader{fset: token.NewFileSet(), done: map[string]*types.Package{"unsafe": types.Unsafe}}
	for _, p := range packages {
		l.check(p, !p.DepOnly, analyzer, &res)
	}
	if res.packages == 0 {
		res.err = fmt.Errorf("%s: no packages", m)
	}
	return res
}

type loader struct {
	fset *token.FileSet
	done map[string]*types.Package
}

// parse returns the files of p, those with errors as far as they go.
func (l *loader) parse(p *listed, wanted bool) []*ast.File {
	var files []*ast.File
	mode := parser.SkipObjectResolution
	if wanted {
		mode |= parser.ParseComments
	}
	for _, name := range append(append([]string{}, p.GoFiles...), p.CgoFiles...) {
		file, err := parser.ParseFile(l.fset, filepath.Join(p.Dir, name), nil, mode)
		if file != nil {
			files = append(files, file)
		}
		if err != nil && wanted {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return files
}

// check parses and type-checks p, and, if it is wanted, analyzes it.
func (l *loader) check(p *listed, wanted bool, analyzer *analysis.Analyzer, res *result) {
	if p.ImportPath == "unsafe" {
		return
	}
	files := l.parse(p, wanted)
	var wrong []types.Error
	conf := types.Config{
		Importer:         importer{l, p},
		IgnoreFuncBodies: !wanted,
		FakeImportC:      true,
		Sizes:            types.SizesFor("gc", "amd64"),
		Error: func(err error) {
			var e types.Error
			if errors.As(err, &e) {
				wrong = append(wrong, e)
			}
		},
	}
	info := &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{}, Instances: map[*ast.Ident]types.Instance{},
		Implicits: map[ast.Node]types.Object{}, Scopes: map[ast.Node]*types.Scope{}, FileVersions: map[*ast.File]string{},
	}
	if !wanted {
		info = nil
	}
	pkg, _ := conf.Check(p.ImportPath, l.fset, files, info)
	l.done[p.ImportPath] = pkg
	if !wanted || len(files) == 0 {
		return
	}
	res.packages++
	if len(wrong) > 0 {
		res.broken++
	}
	for _, f := range files {
		res.lines += l.fset.File(f.FileStart).LineCount()
	}
	l.analyze(p, analyzer, &analysis.Pass{
		Analyzer: analyzer, Fset: l.fset, Files: files, Pkg: pkg, TypesInfo: info, TypesSizes: conf.Sizes, TypeErrors: wrong,
		ResultOf: map[*analysis.Analyzer]any{}, ReadFile: os.ReadFile,
	}, res)
}

func (l *loader) analyze(p *listed, analyzer *analysis.Analyzer, pass *analysis.Pass, res *result) {
	root := p.Dir
	if p.Module != nil && p.Module.Dir != "" {
		root = p.Module.Dir
	}
	pass.Report = func(analysis.Diagnostic) {}
	start := time.Now()
	defer func() {
		res.spent += time.Since(start)
		if r := recover(); r != nil {
			res.err = fmt.Errorf("%s: panic in %s: %v", res.module, p.ImportPath, r)
		}
	}()
	result, err := analyzer.Run(pass)
	if err != nil {
		res.err = err
		return
	}
	for _, f := range result.(*retrylint.Result).Findings {
		for _, f := range f.Each() {
			pos := l.fset.Position(f.Pos)
			name := strings.TrimPrefix(strings.TrimPrefix(pos.Filename, root), "/")
			res.findings = append(res.findings, found{file: name, line: pos.Line, category: f.Category, message: f.Message,
				fix: f.Fix != nil, fixed: l.applied(f.Fix, pos.Filename), source: pos.Filename})
		}
	}
}

// applied returns the file name with the fix made.
func (l *loader) applied(fix *analysis.SuggestedFix, name string) []byte {
	if fix == nil {
		return nil
	}
	src, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	var out []byte
	at := 0
	for _, e := range fix.TextEdits {
		file := l.fset.File(e.Pos)
		out = append(append(out, src[at:file.Offset(e.Pos)]...), e.NewText...)
		at = file.Offset(e.End)
	}
	text, err := format.Source(append(out, src[at:]...))
	if err != nil {
		return nil
	}
	return text
}

// importer finds what a package imports among those that are done.
type importer struct {
	l *loader
	p *listed
}

func (i importer) Import(path string) (*types.Package, error) {
	if to, ok := i.p.ImportMap[path]; ok {
		path = to
	}
	if pkg := i.l.done[path]; pkg != nil {
		return pkg, nil
	}
	return nil, fmt.Errorf("package %s is not there", path)
}

package snippets

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp" // what snippets use
)

// packages are what a snippet may use without importing it, by name.
var packages = map[string]string{
	"bufio": "bufio", "cmp": "cmp", "xml": "encoding/xml",
	"context": "context", "errors": "errors", "expvar": "expvar", "fmt": "fmt", "io": "io", "json": "encoding/json", "log": "log", "slog": "log/slog", "math": "math",
	"http": "net/http", "url": "net/url", "os": "os", "slices": "slices", "rand": "math/rand/v2", "strconv": "strconv", "strings": "strings", "sync": "sync",
	"testing": "testing", "synctest": "testing/synctest", "time": "time", "httptest": "net/http/httptest",
	"clockwork": "github.com/jonboulle/clockwork", "rate": "golang.org/x/time/rate",
	"otelretry": "github.com/retryutils/retry/otelretry", "otelhttp": "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",
	"retry": "github.com/retryutils/retry", "retrytest": "github.com/retryutils/retry/retrytest",
	"statusz": "github.com/retryutils/retry/statusz", "signal": "os/signal", "syscall": "syscall",
}

// prelude is what snippets speak of as if it were there.
const prelude = `
type Gene struct{ Symbol, Name, Location string }
var (
	ctx    context.Context
	t      *testing.T
	cfg    retry.Config
	client *retry.RetryableClient
	base   *http.Client
	logger *slog.Logger
	db     interface{ PingContext(context.Context) error }
	err    error
)
func fetch(ctx context.Context, symbol string) (Gene, error) { return Gene{}, nil }
func ping(ctx context.Context) error { return nil }
func dial() error { return nil }
func genePage(*retry.RetryableClient) http.Handler { return nil }
func status(ctx context.Context, job string) (string, error) { return "", nil }
func googleDelay(*http.Response) error { return nil }
func chatDelay(*http.Response) error { return nil }
func ncbiError(*http.Response) error { return nil }
func s3Error(*http.Response) error { return nil }
func firstEvent(*http.Response) error { return nil }
`

type snippet struct {
	name, text string
}

// snippets returns the Go code of a page, with the line where each begins.
func snippets(t *testing.T, file string) (all []snippet) {
	page, err := os.ReadFile(file)
	require.NoError(t, err)
	var text []string
	begin := 0
	for i, line := range strings.Split(string(page), "\n") {
		switch {
		case begin == 0 && line == "```go":
			begin, text = i+1, nil
		case begin > 0 && line == "```":
			all = append(all, snippet{fmt.Sprintf("%s:%d", filepath.Base(file), begin), strings.Join(text, "\n")})
			begin = 0
		case begin > 0:
			text = append(text, line)
		}
	}
	require.Zero(t, begin, "a snippet of %s does not end", file)
	return all
}

// Every snippet of Go in the README and in docs/ compiles, as it stands: whole
// files, declarations, or statements. Those of docs/migrating are compiled in
// examples/migrate.
func TestSnippetsCompile(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	files = append(files, "../../README.md")
	exports := exportData(t)
	count := 0
	for _, file := range files {
		for _, s := range snippets(t, file) {
			count++
			t.Run(s.name, func(t *testing.T) {
				for _, problem := range check(s, exports) {
					t.Error(problem)
				}
			})
		}
	}
	assert.Greater(t, count, 20)
}

// The check notices what it must.
func TestCheck(t *testing.T) {
	exports := exportData(t)
	for text, want := range map[string]string{
		"gene, err := fetch(ctx, 1)":                                  "cannot use 1",
		"retry.Do(ctx, retry.Config{Retries: 3}, nil)":                "unknown field Retries",
		"func f() { retry.Nothing() }":                                "undefined: retry.Nothing",
		"package main\nfunc main() { return 1 }":                      "too many return values",
		"if err != nil":                                               "expected",
		"gene, err := fetch(ctx, \"BRCA1\")":                          "",
		"type Gene struct{ ID int }\nvar g = Gene{ID: 1}":             "",
		"package main\nimport \"fmt\"\nfunc main() { fmt.Println() }": "",
	} {
		problems := check(snippet{"test", text}, exports)
		if want == "" {
			assert.Empty(t, problems, text)
		} else if assert.NotEmpty(t, problems, text) {
			assert.Contains(t, problems[0].Error(), want)
		}
	}
}

// check type-checks a snippet. That something is not used is no fault of an
// excerpt.
func check(s snippet, exports map[string]string) (problems []error) {
	fset := token.NewFileSet()
	files, err := parse(fset, s)
	if err != nil {
		return []error{err}
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	config := types.Config{
		Importer: importer.ForCompiler(fset, "gc", lookup),
		Error: func(err error) {
			if e, ok := err.(types.Error); !ok || !e.Soft {
				problems = append(problems, err)
			}
		},
	}
	config.Check("snippet", fset, files, nil)
	return problems
}

func parse(fset *token.FileSet, s snippet) ([]*ast.File, error) {
	if strings.HasPrefix(s.text, "package ") {
		file, err := parser.ParseFile(fset, s.name, s.text, parser.SkipObjectResolution)
		return []*ast.File{file}, err
	}
	header := "package snippet; import ("
	for name, path := range packages {
		header += fmt.Sprintf("%s %q; ", name, path)
	}
	header += ")\n"
	file, err := parser.ParseFile(fset, s.name, header+s.text, parser.SkipObjectResolution)
	if err != nil { // no declarations: statements
		file, err = parser.ParseFile(fset, s.name, header+"func _() {\n"+s.text+"\n}", parser.SkipObjectResolution)
	}
	if err != nil {
		return nil, err
	}
	before, err := parser.ParseFile(fset, "prelude", header+prelude, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return []*ast.File{without(before, declared(file)), file}, nil
}

// declared are the names that a file declares.
func declared(file *ast.File) map[string]bool {
	names := make(map[string]bool)
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names[d.Name.Name] = true
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names[spec.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						names[name.Name] = true
					}
				}
			}
		}
	}
	return names
}

// without returns the prelude without what the snippet declares itself.
func without(file *ast.File, names map[string]bool) *ast.File {
	var kept []ast.Decl
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok {
			var specs []ast.Spec
			for _, spec := range g.Specs {
				v, isValue := spec.(*ast.ValueSpec)
				ty, isType := spec.(*ast.TypeSpec)
				if isValue && names[v.Names[0].Name] || isType && names[ty.Name.Name] {
					continue
				}
				specs = append(specs, spec)
			}
			g.Specs = specs
		}
		if f, ok := d.(*ast.FuncDecl); ok && names[f.Name.Name] {
			continue
		}
		kept = append(kept, d)
	}
	file.Decls = kept
	return file
}

// exportData has the compiler's word on each package, by path.
func exportData(t *testing.T) map[string]string {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}
	for _, path := range packages {
		args = append(args, path)
	}
	var stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[path] = file
	}
	return exports
}

// heading is what a link to a part of a page goes by.
var (
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fence   = regexp.MustCompile("(?s)```.*?```")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

func anchors(page string) map[string]bool {
	found := make(map[string]bool)
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(h[1]), "")
		found[strings.ReplaceAll(text, " ", "-")] = true
	}
	return found
}

// Links within the repository lead somewhere, also to the part of a page; so do
// those that retrylint prints.
func TestLinks(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../*.md", "../../*/*.md", "../../*/*/*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		files = append(files, found...)
	}
	assert.Greater(t, len(files), 10)
	for _, file := range files {
		page, err := os.ReadFile(file)
		require.NoError(t, err)
		text := fence.ReplaceAllString(string(page), "")
		for _, l := range link.FindAllStringSubmatch(text, -1) {
			path, anchor, _ := strings.Cut(l[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			info, err := os.Stat(target)
			if !assert.NoError(t, err, "%s links to %s", file, l[1]) || info.IsDir() || anchor == "" {
				continue
			}
			text, err := os.ReadFile(target)
			require.NoError(t, err)
			if strings.HasSuffix(target, ".go") {
				assert.Regexp(t, `L\d+`, anchor)
				continue
			}
			assert.True(t, anchors(string(text))[anchor], "%s links to %s", file, l[1])
		}
	}
	adopting, err := os.ReadFile("../../docs/adopting.md")
	require.NoError(t, err)
	for _, anchor := range []string{"a-counted-loop", "an-endless-loop", "context", "jitter", "backoff", "which-errors",
		"http", "polling", "recursion", "goto", "the-library"} {
		assert.True(t, anchors(string(adopting))[anchor], "retrylint links to docs/adopting.md#%s", anchor)
	}
}

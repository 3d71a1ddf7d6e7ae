package main

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// source has each form that is mutated, where it is hard to, and some that are not.
const source = `package p

import "time"

const limit = 5 * time.Second // not at run time

type text string

func f(a, b int, s string, d time.Duration, m map[string]int) (n int, ok bool) {
	if a < b && s != "" || -a >= 1<<3 {
		n = a + 2*b // of numbers
	}
	for i := 0; i <= len(s); i++ {
		m[s]++
		n += i % 2
	}
	switch {
	case d > 10*time.Millisecond, text(s)+"x" == "y":
		s += "no number"
	}
	return n, !(a == b)
}
`

func TestRewrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.go")
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "source", nil)
	checked := func(texts map[string]string) (*types.Info, []*ast.File) {
		t.Helper()
		var files []*ast.File
		for name, text := range texts {
			file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			files = append(files, file)
		}
		info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
		if _, err := (&types.Config{Importer: imports}).Check("p", fset, files, info); err != nil {
			t.Fatalf("%v\n%v", err, texts)
		}
		return info, files
	}
	info, files := checked(map[string]string{path: source})
	rewritten, mutants, err := rewrite(fset, info, files[0], path, "p.go", 1, func(int) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	checked(map[string]string{"rewritten.go": string(rewritten), "chooser.go": fmt.Sprintf(chooser, "p")})

	got := map[string]bool{}
	for i, m := range mutants {
		if m.id != i+1 || m.file != "p.go" || m.function != "f" {
			t.Errorf("%+v, want number %d of f in p.go", m, i+1)
		}
		got[m.change] = true
	}
	want := map[string]bool{}
	for _, change := range []string{
		`a < b && s != "" || -a >= 1<<3 -> a < b && s != "" && -a >= 1<<3`,
		`a < b && s != "" -> a < b || s != ""`, `a < b -> a >= b`, `a < b -> a <= b`, `s != "" -> s == ""`,
		`-a >= 1<<3 -> -a < 1<<3`, `-a >= 1<<3 -> -a > 1<<3`, `-a -> a`, `a + 2*b -> a - 2*b`, `2*b -> 2 / b`,
		`i <= len(s) -> i > len(s)`, `i <= len(s) -> i < len(s)`, `i++ -> i--`, `m[s]++ -> m[s]--`, `n += i % 2 -> n -= i % 2`, `i % 2 -> i * 2`,
		`d > 10*time.Millisecond -> d <= 10*time.Millisecond`, `d > 10*time.Millisecond -> d >= 10*time.Millisecond`,
		`10*time.Millisecond -> 10 / time.Millisecond`, `text(s)+"x" == "y" -> text(s)+"x" != "y"`, `a == b -> a != b`,
	} {
		want[change] = true
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("want %v\n got %v", want, got)
	}
}

// A line is tried if it is asked for, and no other.
func TestRewriteLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.go")
	const text = "package p\n\nfunc f(a, b int) bool {\n\treturn a < b &&\n\t\ta != 0\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	if _, err := new(types.Config).Check("p", fset, []*ast.File{file}, info); err != nil {
		t.Fatal(err)
	}
	_, mutants, err := rewrite(fset, info, file, path, "p.go", 1, func(line int) bool { return line == 5 })
	if err != nil || len(mutants) != 1 || mutants[0].change != "a != 0 -> a == 0" {
		t.Errorf("%v, %v; want the one of line 5", mutants, err)
	}
}

func TestScore(t *testing.T) {
	r := row{all: 40, killed: 30, timedOut: 2, equal: 4, survived: 3, unreached: 1}
	if got := r.score(); got != "88.9 %" {
		t.Errorf("%s, want 32 of 36", got)
	}
	if got := (row{all: 1, equal: 1}).score(); got != "-" {
		t.Errorf("%s of none", got)
	}
}

package retrylint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// "//nolinters" and "//nolint:" silenced everything: a word that only begins so is none, and
// an empty list is a list.
func TestSilences(t *testing.T) {
	for comment, want := range map[string]bool{
		"//nolint": true, "// nolint": true, "//nolint // why": true, "//nolint:retrylint": true, "//nolint: errcheck, RetryLint": true,
		"//nolint:all": true, "//nolint:errcheck,retrylint the server is ours": true, "//retrylint:ignore once": true,
		"//nolinters": false, "//nolint:": false, "//nolint: // retrylint": false, "//nolint:errcheck": false, "//nolint:retrylinter": false,
		"//nolint:ä": false, "//retrylint:ignore": false, "// see nolint": false,
	} {
		if silences(comment) != want {
			t.Errorf("%s: %v", comment, !want)
		}
	}
}

// FuzzComment reads any comment: one that silences this linter names it, or all of them, or
// gives a reason; and it does so wherever it stands.
func FuzzComment(f *testing.F) {
	for _, text := range []string{"nolint", "nolint:retrylint", "nolint: errcheck, retrylint // why", "nolint:all", "nolint:retrylinter",
		"retrylint:ignore", "retrylint:ignore once", " retrylint:ignore x", "nolintx", "nolint:", "nolint:errcheck", "nolint:RetryLint"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\r\n") {
			return
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "p.go", "package p\n//"+text+"\nfunc f() {}\n\nfunc g() {}\n", parser.ParseComments)
		if err != nil {
			return
		}
		s := newSuppressions(fset, file)
		functions := []*ast.FuncDecl{file.Decls[0].(*ast.FuncDecl), file.Decls[1].(*ast.FuncDecl)}
		silenced := s.silence(Finding{Pos: functions[0].Body.Pos()})
		if silenced != silences("//"+text) || s.silence(Finding{Pos: functions[1].Body.Pos()}) {
			t.Errorf("%q silences the function below it: %v, or the next one", text, silenced)
		}
		lower := strings.ToLower(text) // as golangci-lint reads them
		if silenced && !strings.Contains(lower, "retrylint") && !strings.Contains(lower, "all") && strings.Fields(text)[0] != "nolint" {
			t.Errorf("%q silences", text)
		}
	})
}

package retrylint

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
)

// suppressions are the comments of a file that silence findings.
type suppressions struct {
	fset      *token.FileSet
	lines     map[int]bool    // the lines they hold for
	functions []*ast.FuncDecl // and the functions
}

var (
	nolint = regexp.MustCompile(`^//\s?nolint(?:(:)([^/]*)|\s|$)`)
	ignore = regexp.MustCompile(`^//retrylint:ignore\s+\S`)
)

// newSuppressions reads //nolint, //nolint:retrylint, and //retrylint:ignore
// followed by a reason. One on a line of its own holds for the next line too, and
// above a function, or at its first line, for all of it.
func newSuppressions(fset *token.FileSet, file *ast.File) *suppressions {
	s := &suppressions{fset: fset, lines: map[int]bool{}}
	line := func(pos token.Pos) int { return fset.Position(pos).Line }
	code := map[int]bool{} // lines that have more than a comment
	for _, group := range file.Comments {
		for _, c := range group.List {
			if !silences(c.Text) {
				continue
			}
			if len(code) == 0 {
				code = codeLines(fset, file)
			}
			s.lines[line(c.Pos())] = true
			if !code[line(c.Pos())] {
				s.lines[line(group.End())+1] = true
			}
		}
	}
	for _, d := range file.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && s.lines[line(fn.Type.Func)] {
			s.functions = append(s.functions, fn)
		}
	}
	return s
}

func silences(comment string) bool {
	if ignore.MatchString(comment) {
		return true
	}
	m := nolint.FindStringSubmatch(comment)
	if m == nil {
		return false
	}
	if m[1] == "" {
		return true
	}
	for name := range strings.SplitSeq(m[2], ",") {
		name, _, _ = strings.Cut(strings.TrimSpace(name), " ")
		if strings.EqualFold(name, "retrylint") || strings.EqualFold(name, "all") {
			return true
		}
	}
	return false
}

func codeLines(fset *token.FileSet, file *ast.File) map[int]bool {
	lines := map[int]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n.(type) {
		case nil, *ast.CommentGroup, *ast.Comment:
			return false
		case *ast.File:
			return true
		}
		lines[fset.Position(n.Pos()).Line] = true
		lines[fset.Position(n.End()).Line] = true
		return true
	})
	return lines
}

// silence reports whether a comment silences f: at its line, at the beginning of
// its loop, or above its function.
func (s *suppressions) silence(f Finding) bool {
	for _, fn := range s.functions {
		if fn.Pos() <= f.Pos && f.Pos < fn.End() {
			return true
		}
	}
	return s.lines[s.fset.Position(f.Pos).Line] || f.loop != nil && s.lines[s.fset.Position(f.loop.pos).Line]
}

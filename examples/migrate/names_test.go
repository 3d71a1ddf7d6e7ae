package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The names in the pages' tables exist, in the versions that the programs are built
// with, and so do ours. Each exported name that a program may have in it is on its
// library's page.
func TestNamesOfPeers(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(text)
	}
	required, api := read("go.mod"), read("../../api.txt")
	ours := regexp.MustCompile("`\\*?([A-Z]\\w+(?:\\.[A-Z]\\w+)?)")
	theirs := regexp.MustCompile("`(\\w+)\\.([A-Z][\\w.]*)`")
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			page := read("../../docs/migrating/" + p.name + ".md")
			header := regexp.MustCompile(`(?m)^\| (\S+) (v\S+) \| here`).FindStringSubmatch(page)
			require.NotNil(t, header)
			module := regexp.MustCompile(`\t(\S+/(?:go-)?` + header[1] + `(?:/v\d+)?) ` + regexp.QuoteMeta(header[2]) + `\n`).FindStringSubmatch(required)
			require.NotNil(t, module, "go.mod has another version than %s %s", header[1], header[2])
			names := exported(t, module[1])
			for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*?) ?\| ([^|]*) \|`).FindAllStringSubmatch(page, -1) {
				for _, name := range theirs.FindAllStringSubmatch(row[1], -1) {
					assert.True(t, names[name[1]+"."+name[2]], "no %s there", name[0])
				}
				for _, name := range ours.FindAllStringSubmatch(row[2], -1) {
					last := name[1][strings.LastIndex(name[1], ".")+1:]
					assert.True(t, regexp.MustCompile(`\b`+last+`\b`).MatchString(api), "no %s here", name[0])
				}
			}
			text, _, _ := strings.Cut(page, "\nBefore:\n")
			spans := strings.Join(regexp.MustCompile("`[^`]+`").FindAllString(text, -1), " ")
			for _, name := range slices.Sorted(maps.Keys(names)) {
				last := name[strings.LastIndex(name, ".")+1:]
				if !usual.MatchString(last) && (p.name != "resty" || strings.Contains(name, "Retry")) {
					assert.True(t, regexp.MustCompile(`\b`+last+`\b`).MatchString(spans), "%s is not on the page", name)
				}
			}
		})
	}
}

// usual are the methods of interfaces of the standard library, which are the same for all types.
var usual = regexp.MustCompile(`^(Error|Is|As|Unwrap|String|RoundTrip)$`)

// exported returns the exported names of a library, with methods and fields: those of
// the packages about what this library is about.
func exported(t *testing.T, module string) map[string]bool {
	args := []string{"list", "-f", "{{.Dir}}", module}
	for _, p := range []string{"retrypolicy", "circuitbreaker", "failsafehttp", "budget", "hedgepolicy", "timeout"} {
		if strings.HasSuffix(module, "/failsafe-go") {
			args = append(args, module+"/"+p)
		}
	}
	dirs, err := exec.Command("go", args...).Output()
	require.NoError(t, err)
	names := make(map[string]bool)
	for dir := range strings.FieldsSeq(string(dirs)) {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, name := range declared(tree) {
				names[tree.Name.Name+"."+name] = true
			}
		}
	}
	return names
}

func declared(tree *ast.File) (names []string) {
	add := func(of string, ids ...*ast.Ident) {
		for _, id := range ids {
			if id.IsExported() {
				names = append(names, of+id.Name)
			}
		}
	}
	for _, d := range tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add("", d.Name)
			} else if of := receiver(d.Recv.List[0].Type); ast.IsExported(of) {
				add(of+".", d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					add("", spec.Names...)
				case *ast.TypeSpec:
					if add("", spec.Name); !spec.Name.IsExported() {
						continue
					}
					var members *ast.FieldList
					switch of := spec.Type.(type) {
					case *ast.StructType:
						members = of.Fields
					case *ast.InterfaceType:
						members = of.Methods
					default:
						continue
					}
					for _, member := range members.List {
						add(spec.Name.Name+".", member.Names...)
					}
				}
			}
		}
	}
	return names
}

// receiver is the name of a method's type, without its star and its parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

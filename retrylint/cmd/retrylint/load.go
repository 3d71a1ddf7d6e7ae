package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/packages"

	"github.com/retryutils/retry/retrylint"
)

// A module is what was found in one.
type module struct {
	path     string
	dir      string
	packages map[string]bool
	broken   int
	records  []record
}

// A target is a directory in which packages are loaded by patterns.
type target struct {
	dir      string
	patterns []string
	noWork   bool // a module that the workspace around it does not use
}

// analyze loads the packages for each operating system, and runs a over them. What
// several of them have in common is one finding.
func analyze(opts *options, a *analysis.Analyzer, root string, stderr io.Writer) (modules []*module, broken bool, err error) {
	targets, err := opts.targets()
	if err != nil {
		return nil, false, err
	}
	systems := opts.goos
	if len(systems) == 0 {
		systems = []string{""}
	}
	byPath := map[string]*module{}
	seen := map[string]bool{}
	for _, t := range targets {
		for _, system := range systems {
			pkgs, err := load(opts, t, system)
			if err != nil {
				return nil, false, fmt.Errorf("%s: %w", t.dir, err)
			}
			graph, err := checker.Analyze([]*analysis.Analyzer{a}, pkgs, nil)
			if err != nil {
				return nil, false, err
			}
			slices.SortFunc(graph.Roots, func(x, y *checker.Action) int { return strings.Compare(x.Package.ID, y.Package.ID) })
			for _, act := range graph.Roots {
				m := moduleOf(byPath, &modules, act.Package, t.dir)
				m.packages[act.Package.PkgPath] = true
				for _, e := range act.Package.Errors {
					if !seen[e.Error()] {
						seen[e.Error()] = true
						m.broken++
						broken = true
						fmt.Fprintln(stderr, strings.TrimPrefix(e.Error(), "-: ")) // of no place in a file
					}
				}
				if act.Err != nil {
					broken = true
					fmt.Fprintf(stderr, "retrylint: %s: %v\n", act.Package.ID, act.Err)
					continue
				}
				for _, f := range act.Result.(*retrylint.Result).Findings {
					r := newRecord(opts, act.Package, f, root, m.path)
					if key := fmt.Sprint(r.File, r.Line, r.Column, r.Rule); !seen[key] {
						seen[key] = true
						m.records = append(m.records, r)
					}
				}
			}
		}
	}
	return modules, broken, nil
}

func moduleOf(byPath map[string]*module, modules *[]*module, pkg *packages.Package, dir string) *module {
	path := dir
	if pkg.Module != nil {
		path, dir = pkg.Module.Path, pkg.Module.Dir
	}
	m := byPath[path]
	if m == nil {
		m = &module{path: path, dir: dir, packages: map[string]bool{}}
		byPath[path] = m
		*modules = append(*modules, m)
	}
	return m
}

// load loads the packages of t as they are built for system.
func load(opts *options, t target, system string) ([]*packages.Package, error) {
	env := os.Environ()
	if system != "" {
		env = append(env, "GOOS="+system)
	}
	if t.noWork {
		env = append(env, "GOWORK=off")
	}
	cfg := &packages.Config{
		Mode:  packages.LoadSyntax | packages.NeedModule, //nolint:staticcheck // what an analyzer without facts needs
		Dir:   t.dir,
		Env:   env,
		Tests: opts.tests,
	}
	if opts.tags != "" {
		cfg.BuildFlags = []string{"-tags=" + opts.tags}
	}
	return packages.Load(cfg, t.patterns...)
}

// targets returns where packages are loaded: in each module below the working
// directory, or in that alone. There, ./... stands for all modules of a workspace
// that are below it, also where it is none itself.
func (o *options) targets() ([]target, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	used := workspace()
	if o.modules {
		return modulesBelow(here, used)
	}
	t := target{dir: here}
	for _, pattern := range o.patterns {
		if pattern != "./..." || len(used) == 0 {
			t.patterns = append(t.patterns, pattern)
			continue
		}
		for _, dir := range used {
			if rel, err := filepath.Rel(here, dir); err == nil && filepath.IsLocal(rel) {
				t.patterns = append(t.patterns, "./"+filepath.ToSlash(filepath.Join(rel, "...")))
			} else if up, err := filepath.Rel(dir, here); err == nil && filepath.IsLocal(up) {
				t.patterns = append(t.patterns, pattern) // within that module
			}
		}
	}
	slices.Sort(t.patterns)
	t.patterns = slices.Compact(t.patterns)
	return []target{t}, nil
}

// workspace returns the directories of the modules that the workspace uses, if
// there is one.
func workspace() []string {
	file, err := exec.Command("go", "env", "GOWORK").Output()
	if name := string(bytes.TrimSpace(file)); err != nil || name == "" || name == "off" {
		return nil
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// modulesBelow returns a target for each go.mod in and below dir. Modules that a
// workspace around them does not use are loaded without it.
func modulesBelow(dir string, used []string) ([]target, error) {
	var found []target
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != dir {
			if name := d.Name(); name == "vendor" || name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
				return fs.SkipDir
			}
		}
		if d.Name() == "go.mod" && !d.IsDir() {
			at := filepath.Dir(path)
			found = append(found, target{dir: at, patterns: []string{"./..."}, noWork: len(used) > 0 && !slices.Contains(used, at)})
		}
		return nil
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no go.mod in or below %s", dir)
	}
	return found, err
}

// repository returns the root of the repository around the working directory, or
// that directory.
func repository() string {
	out, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err == nil {
		if root, err := filepath.EvalSymlinks(strings.TrimSpace(string(out))); err == nil {
			return root
		}
	}
	here, err := os.Getwd()
	if err != nil {
		return "."
	}
	return here
}

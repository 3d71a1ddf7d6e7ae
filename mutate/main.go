// Command mutate changes the code of a package a little, in one place at a time, and runs
// the package's tests on each change: one that no test notices shows what is not tested.
//
//	go run ./mutate                      # the packages below, which takes an hour
//	go run ./mutate -files breaker .     # the files of a package whose names match
//	go run ./mutate -base origin/main    # the lines that differ from a commit
//	go run ./mutate -v > log             # and, once more tests are written:
//	go run ./mutate -again log           # what survived, and what was left out
//
// It prints the mutants that survive, and exits with 1 if some of them are not listed in
// survivors.tsv, with the reason why they change nothing that can be seen, or, behind
// "open:", what is not tested yet. With -table it brings docs/mutation.md up to date for
// the files it tried.
//
// All mutants of a package are compiled into one program, in which an environment variable
// chooses, and each is tried only by the tests that reach it, the quickest first.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// packages are those tried by default, each by its own tests.
var packages = []string{
	"internal/attempt", "internal/clock", "internal/pace", "internal/redact", "internal/retryafter", "internal/valid",
	"sse", "download", "hedge", "retrytest", ".",
}

var (
	root    string
	files   = flag.String("files", "", "only files whose names match `regexp`")
	base    = flag.String("base", "", "only lines that differ from `commit`")
	atMost  = flag.Duration("for", 0, "begin no mutant after this `time`; those left out are counted")
	workers = flag.Int("workers", 2, "how many are tried at once")
	table   = flag.Bool("table", false, "bring docs/mutation.md up to date")
	again   = flag.String("again", "", "take from a `log`, written with -v, what it says was killed")
	only    = flag.String("run", "", "only tests whose names match `regexp`, to see what a new one notices")
	every   = flag.Int("every", 1, "try one of `n` mutants, another one each day")
	verbose = flag.Bool("v", false, "print every mutant")
)

func main() {
	flag.Parse()
	out, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	check(err)
	root = strings.TrimSpace(string(out))
	began := time.Now()
	if flag.NArg() > 0 {
		packages = flag.Args()
	}
	known := readSurvivors()
	var tried []result
	for _, pkg := range packages {
		tried = append(tried, try(filepath.Clean(pkg), began)...)
	}
	failed := report(tried, known)
	if *table {
		check(writeTable(tried, known))
	}
	fmt.Printf("%d mutants in %s\n", len(tried), time.Since(began).Round(time.Second))
	if failed {
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
}

// fate is what became of a mutant.
type fate string

const (
	killed     fate = "killed"
	timedOut   fate = "timed out"
	survived   fate = "survived"
	notReached fate = "not reached"
	leftOut    fate = "left out"
)

type result struct {
	mutant
	fate fate
}

// try mutates a package and returns what became of each mutant.
func try(pkg string, began time.Time) []result {
	dir, err := os.MkdirTemp("", "mutate")
	check(err)
	defer os.RemoveAll(dir)
	mutants := mutate(pkg, dir)
	if len(mutants) == 0 {
		return nil
	}
	tests := newSuite(pkg, dir)
	results := make([]result, len(mutants))
	before := readLog()
	next := make(chan int)
	var wg sync.WaitGroup
	for range *workers {
		wg.Go(func() {
			for i := range next {
				results[i] = result{mutants[i], tests.try(mutants[i])}
				if *verbose {
					fmt.Printf("%-11s %s\n", results[i].fate, results[i].mutant)
				}
			}
		})
	}
	for i, m := range mutants {
		if f := before[m.key()]; f == killed || f == timedOut {
			results[i] = result{m, f}
			continue
		}
		if *atMost > 0 && time.Since(began) > *atMost {
			results[i] = result{m, leftOut}
			continue
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d %s: %s", m.file, m.line, m.function, m.change)
}

// key is what stays the same when lines above it are added.
func (m mutant) key() string { return m.file + " " + m.function + ": " + m.change }

var logLine = regexp.MustCompile(`^(killed|timed out|survived|not reached) +(\S+):\d+ (\S+: .*)$`)

// readLog reads what became of each mutant of an earlier run. Of several with the same
// text in one function, all were killed only if each was.
func readLog() map[string]fate {
	fates := map[string]fate{}
	if *again == "" {
		return fates
	}
	file, err := os.ReadFile(*again)
	check(err)
	for line := range strings.Lines(string(file)) {
		if m := logLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			key := m[2] + " " + m[3]
			if f := fates[key]; f == "" || f == killed || f == timedOut {
				fates[key] = fate(m[1])
			}
		}
	}
	return fates
}

// mutate writes the package's files with their mutants, and an overlay for the compiler.
func mutate(pkg, dir string) []mutant {
	var listed struct {
		Dir, Name, ImportPath string
		GoFiles               []string
	}
	check(json.Unmarshal(goList("-json=Dir,Name,ImportPath,GoFiles", "./"+pkg), &listed))
	exports := map[string]string{}
	for line := range strings.Lines(string(goList("-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", "./"+pkg))) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			exports[path] = file
		}
	}
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range listed.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(listed.Dir, name), nil, parser.SkipObjectResolution)
		check(err)
		parsed = append(parsed, file)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	_, err := (&types.Config{Importer: imports}).Check(listed.ImportPath, fset, parsed, info)
	check(err)

	changed := changedLines()
	matching := regexp.MustCompile(*files)
	overlay := map[string]string{}
	var mutants []mutant
	for i, file := range parsed {
		name := filepath.ToSlash(filepath.Join(pkg, listed.GoFiles[i]))
		if !matching.MatchString(listed.GoFiles[i]) || changed != nil && changed[name] == nil {
			continue
		}
		wanted := func(line int) bool { return changed == nil || changed[name][line] }
		path := filepath.Join(listed.Dir, listed.GoFiles[i])
		text, found, err := rewrite(fset, info, file, path, name, len(mutants)+1, wanted)
		check(err)
		if len(found) == 0 {
			continue
		}
		mutants = append(mutants, found...)
		overlay[path] = filepath.Join(dir, listed.GoFiles[i])
		check(os.WriteFile(overlay[path], text, 0o600))
	}
	path := filepath.Join(dir, "mutant_chooser.go")
	overlay[filepath.Join(listed.Dir, "mutant_chooser.go")] = path
	check(os.WriteFile(path, fmt.Appendf(nil, chooser, listed.Name), 0o600))
	encoded, err := json.Marshal(map[string]any{"Replace": overlay})
	check(err)
	check(os.WriteFile(filepath.Join(dir, "overlay.json"), encoded, 0o600))
	if *every > 1 { // the ids stay those of the text
		today := int(time.Now().Unix()/(24*60*60)) % *every
		mutants = slices.DeleteFunc(mutants, func(m mutant) bool { return m.id%*every != today })
	}
	return mutants
}

func goList(args ...string) []byte {
	command := exec.Command("go", append([]string{"list"}, args...)...)
	command.Dir, command.Stderr = root, os.Stderr
	out, err := command.Output()
	check(err)
	return out
}

var hunk = regexp.MustCompile(`^@@ -\S+ \+(\d+)(?:,(\d+))? @@`)

// changedLines are the lines of each file that differ from those of the base; nil is all.
func changedLines() map[string]map[int]bool {
	if *base == "" {
		return nil
	}
	command := exec.Command("git", "diff", "-U0", "--no-prefix", "--merge-base", *base, "--", "*.go")
	command.Dir, command.Stderr = root, os.Stderr
	out, err := command.Output()
	check(err)
	changed := map[string]map[int]bool{}
	var file map[int]bool
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(line, "+++ "); ok {
			file = map[int]bool{}
			changed[strings.TrimSpace(name)] = file
		} else if m := hunk.FindStringSubmatch(line); m != nil {
			first, _ := strconv.Atoi(m[1])
			count, err := strconv.Atoi(m[2])
			if err != nil {
				count = 1
			}
			for i := range count {
				file[first+i] = true
			}
		}
	}
	return changed
}

// test is one test function of a package.
type test struct {
	name string
	took time.Duration
}

// suite is the compiled tests of a package, and which of them reach each mutant, the
// quickest first.
type suite struct {
	program, dir string
	reach        map[int][]test
}

// newSuite compiles a package's tests with all mutants, and runs each test without any, to
// learn which of them it reaches.
func newSuite(pkg, dir string) *suite {
	s := &suite{filepath.Join(dir, "tests"), filepath.Join(root, pkg), map[int][]test{}}
	compile := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", s.program, "./"+pkg)
	compile.Dir, compile.Stderr = root, os.Stderr
	check(compile.Run())
	if _, err := os.Stat(s.program); err != nil {
		return s // there are no tests
	}
	list := exec.Command(s.program, "-test.list", "^(Test|Fuzz|Example)")
	list.Dir = s.dir
	out, err := list.Output()
	check(err)
	var mu sync.Mutex
	var wg sync.WaitGroup
	names := make(chan string)
	for range *workers {
		wg.Go(func() {
			for name := range names {
				record := filepath.Join(dir, "reached-"+name)
				start := time.Now()
				if s.run([]test{{name: name, took: 6 * time.Second}}, "MUTANT_RECORD="+record) != survived {
					fmt.Printf("%s of %s fails without a mutant, and is left out\n", name, pkg)
					continue
				}
				t := test{name, time.Since(start)}
				ids, err := os.ReadFile(record)
				if err != nil {
					continue // it reaches none
				}
				mu.Lock()
				for line := range strings.Lines(string(ids)) {
					id, err := strconv.Atoi(strings.TrimSpace(line))
					check(err)
					s.reach[id] = append(s.reach[id], t)
				}
				mu.Unlock()
			}
		})
	}
	matching := regexp.MustCompile(*only)
	for name := range strings.FieldsSeq(string(out)) {
		if matching.MatchString(name) {
			names <- name
		}
	}
	close(names)
	wg.Wait()
	for _, tests := range s.reach {
		slices.SortFunc(tests, func(a, b test) int { return cmp.Compare(a.took, b.took) })
	}
	return s
}

// try runs the tests that reach a mutant until one fails: a few that are quick first.
func (s *suite) try(m mutant) fate {
	tests := s.reach[m.id]
	if len(tests) == 0 {
		return notReached
	}
	quick := 0
	for took := time.Duration(0); quick < len(tests) && took < 300*time.Millisecond; quick++ {
		took += tests[quick].took
	}
	for _, batch := range [][]test{tests[:quick], tests[quick:]} {
		if len(batch) == 0 {
			break
		}
		if f := s.run(batch, "MUTANT="+strconv.Itoa(m.id)); f != survived {
			return f
		}
	}
	return survived
}

// run runs some of the tests, with bounds on their time and memory: that of the processor
// ends a loop without an end, also where the machine is busy, and that of the clock a
// test that waits for ever.
func (s *suite) run(tests []test, environment string) fate {
	names := make([]string, len(tests))
	var took time.Duration
	for i, t := range tests {
		names[i] = t.name
		took += t.took
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second+5*took)
	defer cancel()
	script := fmt.Sprintf(`ulimit -v 8000000; ulimit -t %d; exec "$0" "$@"`, 3+int((3*took).Seconds()))
	command := exec.CommandContext(ctx, "sh", "-c", script, s.program, "-test.run", "^("+strings.Join(names, "|")+")$", "-test.failfast")
	command.Dir, command.Env = s.dir, append(os.Environ(), environment)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a test may start processes of its own
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	err := command.Run()
	if command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // what it left behind
	}
	state, _ := command.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ctx.Err() != nil, state.Signaled() && (state.Signal() == syscall.SIGXCPU || state.Signal() == syscall.SIGKILL):
		return timedOut
	case err != nil:
		return killed
	}
	return survived
}

// A survivor is a mutant that no test notices, because it changes nothing that can be seen,
// for the reason given, or because there is no test yet: it is open then.
type survivor struct{ file, function, change, reason string }

func (s survivor) is(m mutant) bool {
	return s.file == m.file && s.function == m.function && s.change == m.change
}

func (s survivor) isEquivalent(m mutant) bool {
	return s.is(m) && !strings.HasPrefix(s.reason, "open:")
}

// readSurvivors reads mutate/survivors.tsv: file, function, change, reason.
func readSurvivors() []survivor {
	file, err := os.ReadFile(filepath.Join(root, "mutate", "survivors.tsv"))
	check(err)
	var known []survivor
	lines := bufio.NewScanner(bytes.NewReader(file))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 4 {
			check(fmt.Errorf("survivors.tsv: want four fields, have %d: %q", len(fields), lines.Text()))
		}
		known = append(known, survivor{fields[0], fields[1], fields[2], fields[3]})
	}
	return known
}

// report prints what survived and is not listed, and returns whether there is any.
func report(tried []result, known []survivor) (failed bool) {
	for _, r := range tried {
		if (r.fate == survived || r.fate == notReached) && !slices.ContainsFunc(known, func(s survivor) bool { return s.is(r.mutant) }) {
			fmt.Printf("%s: %s\n", r.fate, r.mutant)
			failed = true
		}
	}
	return failed
}

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/retryutils/retry/retrylint"
)

const loop = `package a

import "time"

func f() error { return nil }

func load() (err error) {
	for i := 0; i < 3; i++ {
		if err = f(); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}
`

// build builds the command.
func build(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "retrylint")
	if out, err := exec.Command("go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}

// execute runs a program in dir, without a workspace, and returns its output and
// exit code.
func execute(t *testing.T, dir, name string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newModule writes a module with one loop.
func newModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, "go.mod", "module example.org/a\n\ngo 1.25\n")
	put(t, dir, "a.go", loop)
	return dir
}

// The command runs by itself and under go vet, has a flag for each category,
// explains each with an example, and says what is wrong with code that does not
// compile.
func TestCommand(t *testing.T) {
	exe, dir := build(t), newModule(t)
	out, code := execute(t, dir, exe, "./...")
	if code != 3 || strings.Count(out, "\na.go")+strings.Count(out, "\n\ta.go") < 3 || !strings.HasPrefix(out, "a.go:8:2: warning: hand-written") {
		t.Errorf("by itself: %d\n%s", code, out)
	}
	if out, _ := execute(t, dir, exe, "-each", "-jitter=false", "./..."); strings.Contains(out, "(jitter)") || !strings.Contains(out, "\na.go:12:3: warning: ") {
		t.Errorf("-each -jitter=false:\n%s", out)
	}
	out, code = execute(t, dir, "go", "vet", "-vettool="+exe, "-retrylint.context=false", "./...")
	if code == 0 || !strings.Contains(out, "(loop)") || strings.Contains(out, "context") {
		t.Errorf("go vet: %d\n%s", code, out)
	}
	out, _ = execute(t, dir, exe, "-h")
	for _, c := range retrylint.Categories() {
		if !strings.Contains(out, "\n"+c+" (") || !strings.Contains(out, "-"+c) {
			t.Errorf("-h does not explain %s", c)
		}
	}
	if out, code := execute(t, dir, exe, "-severity", "jiter=error"); code != 2 || !strings.Contains(out, "jiter") {
		t.Errorf("a wrong setting: %d\n%s", code, out)
	}
	put(t, dir, "a.go", "package a\n\nfunc f() {\n\tfor {\n\t\tif err := missing(); err == nil {\n\t\t\treturn\n\t\t}\n\t}\n}\n")
	if out, code := execute(t, dir, exe, "-loop=false", "./..."); code == 0 || !strings.Contains(out, "undefined: missing") || strings.Contains(out, "panic") {
		t.Errorf("broken code: %d\n%s", code, out)
	}
}

// Every format has the finding; SARIF is valid by its schema, its paths are
// relative, and each rule has a page.
func TestFormats(t *testing.T) {
	exe, dir := build(t), newModule(t)
	out, code := execute(t, dir, exe, "-format", "json", "./...")
	var records []record
	if err := json.Unmarshal([]byte(out), &records); err != nil || code != 3 || len(records) != 1 || records[0].File != "a.go" || len(records[0].Notes) < 3 || records[0].Function != "load" {
		t.Errorf("json: %v %d\n%s", err, code, out)
	}
	file := filepath.Join(dir, "out.sarif")
	execute(t, dir, exe, "-format", "sarif", "-o", file, "./...")
	report, err := sarif.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Validate(); err != nil {
		t.Error(err)
	}
	run := report.Runs[0]
	if len(run.Tool.Driver.Rules) != len(retrylint.Categories()) || len(run.Results) != 1 || len(run.Results[0].RelatedLocations) < 3 ||
		*run.Results[0].Locations[0].PhysicalLocation.ArtifactLocation.URI != "a.go" || !strings.Contains(*run.Tool.Driver.Rules[0].HelpURI, "#") {
		t.Errorf("sarif: %+v", run)
	}
	if out, _ := execute(t, dir, exe, "-format", "github", "./..."); !strings.HasPrefix(out, "::warning file=a.go,line=8,") || strings.Count(out, "\n") != 1 {
		t.Errorf("github:\n%s", out)
	}
	put(t, dir, "b/go.mod", "module example.org/b\n\ngo 1.25\n")
	put(t, dir, "b/b.go", strings.Replace(loop, "package a", "package b", 1)+"var x int = 1\n")
	if out, _ := execute(t, dir, exe, "-modules", "-format", "summary"); !strings.Contains(out, "example.org/a") || !strings.Contains(out, "example.org/b") || !strings.Contains(out, "2 modules") {
		t.Errorf("summary:\n%s", out)
	}
	put(t, dir, "go.work", "go 1.25\n\nuse ./b\n")
	if out, code := execute(t, dir, exe, "./..."); code != 3 || !strings.Contains(out, "b/b.go:8") {
		t.Errorf("a workspace whose root is no module of it: %d\n%s", code, out)
	}
}

// A loop without a wait, which is only reported where it is asked for.
const atOnce = `package n

func f() error { return nil }

func F() (err error) {
	for attempt := 0; attempt < 3; attempt++ {
		if err = f(); err == nil {
			break
		}
	}
	return err
}
`

// The configuration file, exclusions, other operating systems and tags.
func TestConfig(t *testing.T) {
	exe, dir := build(t), newModule(t)
	put(t, dir, "old/old.go", strings.Replace(loop, "package a", "package old", 1))
	put(t, dir, "w/w_windows.go", strings.Replace(loop, "package a", "package w", 1))
	put(t, dir, "w/w.go", "package w\n")
	put(t, dir, "g/g.go", "//go:build special\n\n"+strings.Replace(loop, "package a", "package g", 1))
	put(t, dir, ".retrylint.yml", "disable: [jitter]\nseverity: {loop: error}\nexclude: [\"old/**\"]\n")
	out, code := execute(t, dir, exe, "./...")
	if code != 3 || strings.Contains(out, "old.go") || strings.Contains(out, "jitter") || !strings.Contains(out, "error: hand-written") || strings.Contains(out, "w_windows.go") {
		t.Errorf("configuration: %d\n%s", code, out)
	}
	if out, _ := execute(t, dir, exe, "-goos", "linux,windows", "./..."); !strings.Contains(out, "w_windows.go") || strings.Count(out, "\na.go:8")+1 > 2 {
		t.Errorf("-goos:\n%s", out)
	}
	if out, _ := execute(t, dir, exe, "-tags", "special", "./..."); !strings.Contains(out, "g.go") {
		t.Errorf("-tags:\n%s", out)
	}
	if _, code := execute(t, dir, exe, "-fail", "none", "./..."); code != 0 {
		t.Errorf("-fail none: %d", code)
	}
	put(t, dir, "n/n.go", atOnce)
	for _, c := range []struct {
		config string
		args   []string
		want   bool
	}{{"{}", nil, false}, {"enable: [no-wait]", nil, true}, {"{}", []string{"-no-wait"}, true}, {"enable: [no-wait]", []string{"-no-wait=false"}, false}} {
		put(t, dir, ".retrylint.yml", c.config+"\n")
		if out, _ := execute(t, dir, exe, append(c.args, "./n")...); strings.Contains(out, "no-wait") != c.want || !strings.Contains(out, "(loop)") {
			t.Errorf("no-wait with %q and %q:\n%s", c.config, c.args, out)
		}
	}
	put(t, dir, ".retrylint.yml", "enable: [nowait]\n")
	if out, code := execute(t, dir, exe, "./..."); code != 2 || !strings.Contains(out, "nowait") {
		t.Errorf("a wrong name: %d\n%s", code, out)
	}
	put(t, dir, ".retrylint.yml", "disabled: [jitter]\n")
	if out, code := execute(t, dir, exe, "./..."); code != 2 || !strings.Contains(out, "disabled") {
		t.Errorf("a wrong field: %d\n%s", code, out)
	}
}

// A baseline accepts what is there, also when lines move, and nothing beyond it;
// -diff reports what touches a change only.
func TestBaselineAndDiff(t *testing.T) {
	exe, dir := build(t), newModule(t)
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-qm", "a"}} {
		if out, code := execute(t, dir, "git", args...); code != 0 {
			t.Fatal(out)
		}
	}
	execute(t, dir, exe, "-baseline", "write", "./...")
	put(t, dir, "a.go", strings.Replace(loop, "func f", "// f.\nfunc f", 1))
	if out, code := execute(t, dir, exe, "-baseline", "check", "./..."); code != 0 {
		t.Errorf("a line moved: %d\n%s", code, out)
	}
	if out, code := execute(t, dir, exe, "-diff", "HEAD", "./..."); code != 0 {
		t.Errorf("-diff, the loop is as it was: %d\n%s", code, out)
	}
	put(t, dir, "b.go", strings.NewReplacer("load", "loadMore", "func f() error { return nil }", "").Replace(loop))
	for _, args := range [][]string{{"-baseline", "check"}, {"-diff", "HEAD"}} {
		if out, code := execute(t, dir, exe, append(args, "./...")...); code != 3 || !strings.Contains(out, "b.go:") || strings.Contains(out, "a.go:9") {
			t.Errorf("%v, a new loop: %d\n%s", args, code, out)
		}
	}
	put(t, dir, "a.go", strings.Replace(loop, "time.Second", "time.Minute", 1))
	if out, code := execute(t, dir, exe, "-diff", "HEAD", "./..."); code != 3 || !strings.Contains(out, "a.go:8") {
		t.Errorf("-diff, the loop changed: %d\n%s", code, out)
	}
}

// -fix rewrites, and reports what is left by its exit code.
func TestFix(t *testing.T) {
	exe, dir := build(t), newModule(t)
	put(t, dir, "a.go", strings.Replace(loop, "\treturn err\n", "\t_ = err\n\treturn err\n", 1))
	out, code := execute(t, dir, exe, "-fix", "./...")
	text, err := os.ReadFile(filepath.Join(dir, "a.go"))
	if err != nil || code != 0 || !strings.Contains(string(text), "retry.Run(") || !strings.Contains(out, "1 loops replaced") {
		t.Errorf("%v %d\n%s\n%s", err, code, out, text)
	}
}

// What is odd about a directory costs no finding, and is said in a line that names it.
func TestOddInputs(t *testing.T) {
	exe := build(t)
	const mod = "module example.org/a\n\ngo 1.25\n"
	other := strings.NewReplacer("package a", "package a\n\nfunc broken( {", "f()", "g()", "load()", "loadG()").Replace(loop)
	for _, test := range []struct {
		name  string
		files map[string]string
		args  []string
		code  int
		want  []string // in the output
	}{
		{"parse error", map[string]string{"go.mod": mod, "a.go": loop, "b.go": other}, []string{"./..."}, 3, []string{"a.go:8:2", "b.go:3:14: expected ')'"}},
		{"type error", map[string]string{"go.mod": mod, "a.go": loop + "\nfunc bad() { missing() }\n"}, []string{"./..."}, 3, []string{"a.go:8:2", "undefined: missing"}},
		{"declared twice", map[string]string{"go.mod": mod, "a.go": loop, "b.go": strings.Replace(loop, "func f() error { return nil }", "", 1)}, []string{"./..."}, 3, []string{"a.go:8:2", "b.go:8:2", "redeclared"}},
		{"unknown range", map[string]string{"go.mod": mod, "a.go": strings.Replace(loop, "for i := 0; i < 3; i++", "for range missing", 1)}, []string{"./..."}, 3, []string{"a.go:8:2", "undefined: missing"}},
		{"no result", map[string]string{"go.mod": mod, "a.go": loop, "b.go": "package a\n\nfunc none() {}\n\nfunc bad(err error) {\n\tfor err != nil {\n\t\terr = none()\n\t}\n}\n"}, []string{"./..."}, 3, []string{"a.go:8:2", "none() (no value) used as value"}},
		{"no module", map[string]string{"a.go": loop}, []string{"./..."}, 1, []string{"\npattern ./...: directory prefix"}},
		{"no module, one file", map[string]string{"a.go": loop}, []string{"a.go"}, 3, []string{"a.go:8:2"}},
		{"no such directory", map[string]string{"go.mod": mod, "a.go": loop}, []string{"./b"}, 1, []string{"directory not found"}},
		{"vendor", map[string]string{
			"go.mod":                    mod + "\nrequire example.org/b v1.0.0\n",
			"vendor/modules.txt":        "# example.org/b v1.0.0\n## explicit; go 1.25\nexample.org/b\n",
			"vendor/example.org/b/b.go": strings.Replace(loop, "package a", "package b", 1),
			"a.go":                      strings.Replace(loop, `import "time"`, "import (\n\t_ \"example.org/b\"\n\t\"time\"\n)", 1),
		}, []string{"./..."}, 3, []string{"\na.go:11:2"}},
		{"build tag", map[string]string{"go.mod": mod, "a.go": "//go:build special\n\n" + loop, "b.go": "package a\n"}, []string{"-tags", "special", "./..."}, 3, []string{"a.go:10:2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				put(t, dir, name, text)
			}
			out, code := execute(t, dir, exe, test.args...)
			if code != test.code {
				t.Errorf("exit code %d", code)
			}
			for _, want := range test.want {
				if !strings.Contains("\n"+out, want) {
					t.Errorf("lacks %q", want)
				}
			}
			if strings.Contains(out, "vendor/") {
				t.Error("speaks of what is vendored")
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

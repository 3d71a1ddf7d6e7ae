package retrylint_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/retryutils/retry/retrylint"
)

// each returns an analyzer that reports each fault by itself, in these categories,
// or in all.
func each(names ...string) *analysis.Analyzer {
	var off []string
	for _, c := range retrylint.Categories() {
		if len(names) > 0 && !slices.Contains(names, c) {
			off = append(off, c)
		}
	}
	a := retrylint.New(off)
	if err := a.Flags.Set("each", "true"); err != nil {
		panic(err)
	}
	return a
}

func TestShapes(t *testing.T) { analysistest.Run(t, data(t), each("loop"), "./shapes") }

func TestLookalikes(t *testing.T) { analysistest.Run(t, data(t), each(), "./lookalikes") }

func TestFaults(t *testing.T) { analysistest.Run(t, data(t), each(), "./faults") }

func TestUsage(t *testing.T) { analysistest.Run(t, data(t), each(), "./usage") }

func TestSilence(t *testing.T) { analysistest.Run(t, data(t), each(), "./silence") }

// What cgo makes of a file is looked at, and not taken for a generated one.
func TestCgo(t *testing.T) { analysistest.Run(t, data(t), each("loop"), "./cgo") }

// By itself a loop is one finding, with its faults as notes.
func TestNotes(t *testing.T) { analysistest.Run(t, data(t), retrylint.New(nil), "./notes") }

func TestFixes(t *testing.T) {
	analysistest.RunWithSuggestedFixes(t, data(t), each("loop"), "./fixes", "./compared")
}

// A fix that does not compile, or does something else, is worse than none: the
// program of the testdata and the fixed one print the same.
func TestFixesCompileAndRun(t *testing.T) {
	want := goRun(t, filepath.Join(data(t), "fixes"), "fixes.go")
	fixed, err := os.MkdirTemp(data(t), "fixed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(fixed) })
	golden, err := os.ReadFile(filepath.Join(data(t), "fixes", "fixes.go.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fixed, "main.go"), golden, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := goRun(t, fixed, "main.go"); got != want || !strings.Contains(got, "ok") {
		t.Errorf("the fixed program prints\n%s\ninstead of\n%s", got, want)
	}
}

func goRun(t *testing.T, dir, file string) string {
	t.Helper()
	cmd := exec.Command("go", "run", file)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func data(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

package retrylint_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/retryutils/retry/retrylint"
)

// only returns the analyzer with these categories and no other.
func only(names ...string) *analysis.Analyzer {
	var off []string
	for _, c := range retrylint.Categories() {
		off = append(off, c)
		for _, n := range names {
			if c == n {
				off = off[:len(off)-1]
			}
		}
	}
	return retrylint.New(off)
}

func TestShapes(t *testing.T) { analysistest.Run(t, data(t), only("loop"), "./shapes") }

func TestLookalikes(t *testing.T) { analysistest.Run(t, data(t), retrylint.Analyzer, "./lookalikes") }

func TestFaults(t *testing.T) { analysistest.Run(t, data(t), retrylint.New(nil), "./faults") }

func TestUsage(t *testing.T) { analysistest.Run(t, data(t), retrylint.Analyzer, "./usage") }

func TestSilence(t *testing.T) { analysistest.Run(t, data(t), retrylint.Analyzer, "./silence") }

func TestFixes(t *testing.T) {
	analysistest.RunWithSuggestedFixes(t, data(t), only("loop"), "./fixes")
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

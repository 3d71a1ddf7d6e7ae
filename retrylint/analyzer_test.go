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
	analysistest.RunWithSuggestedFixes(t, data(t), each("loop"), "./fixes", "./compared", "./tests")
}

// A fix that does not compile, or does something else, is worse than none: each loop
// of package differential, and what it is rewritten to, are run against the same
// failures, in fake time. They make the same attempts, return the same, and wait equally
// long but for jitter. What is left as it is, is so for a reason that stands above it.
func TestFixesDoTheSame(t *testing.T) {
	analysistest.RunWithSuggestedFixes(t, data(t), each("loop"), "./differential")
	driver, err := os.ReadFile(filepath.Join(data(t), "differential", "driver.go.txt"))
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile(filepath.Join(data(t), "differential", "loops.go.golden"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(data(t), "fixed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	after := filepath.Join(dir, "after")
	if err := os.Mkdir(after, 0o700); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(driver), "AFTER", filepath.Base(dir)+"/after")
	for name, content := range map[string]string{filepath.Join(after, "loops.go"): string(golden), filepath.Join(dir, "driver_test.go"): text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "go", "test", "-count=5", ".")
}

func run(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func data(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// golangci-lint finds the plugin by its name, gives it its settings, and reports its
// finding, with the faults that are not switched off.
func TestPlugin(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "golangci-lint")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(binary, "run", "--config", "testdata/golangci.yml", "./testdata/loop")
	cmd.Env = append(os.Environ(), "GOLANGCI_LINT_CACHE="+t.TempDir(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != 1 {
		t.Fatalf("%v, want exit code 1 for a finding\n%s", err, out)
	}
	text := string(out)
	if !strings.Contains(text, "loop/loop.go:10:2: hand-written retry loop around os.Open") || !strings.Contains(text, "last-sleep") || strings.Contains(text, "jitter") {
		t.Errorf("golangci-lint reports\n%s", text)
	}
}

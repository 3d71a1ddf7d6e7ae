package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/retryutils/retry/retrylint"
)

// build builds the command.
func build(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "retrylint")
	if out, err := exec.Command("go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}

func run(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The command runs by itself and under go vet, writes JSON, has a flag for each
// category, explains each with an example, and says what is wrong with code that
// does not compile.
func TestCommand(t *testing.T) {
	exe := build(t)
	data, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	out, err := run(data, exe, "./silence")
	if err == nil || !strings.Contains(out, "(unbounded)") || !strings.Contains(out, "(jitter)") {
		t.Errorf("by itself: %v\n%s", err, out)
	}
	out, _ = run(data, exe, "-jitter=false", "./silence")
	if strings.Contains(out, "(jitter)") || !strings.Contains(out, "(context)") {
		t.Errorf("-jitter=false:\n%s", out)
	}
	out, err = run(data, "go", "vet", "-vettool="+exe, "-retrylint.context=false", "./silence")
	if err == nil || !strings.Contains(out, "(unbounded)") || strings.Contains(out, "(context)") {
		t.Errorf("go vet: %v\n%s", err, out)
	}
	out, err = run(data, exe, "-json", "./silence")
	if err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, `"category": "unbounded"`) {
		t.Errorf("-json: %v\n%s", err, out)
	}
	out, _ = run(data, exe, "-h")
	for _, c := range retrylint.Categories() {
		if !strings.Contains(out, "\n"+c+": ") || !strings.Contains(out, "-"+c) {
			t.Errorf("-h does not explain %s", c)
		}
	}
	broken := t.TempDir()
	write(t, broken, "go.mod", "module broken\n\ngo 1.25\n")
	write(t, broken, "broken.go", "package broken\n\nfunc f() {\n\tfor {\n\t\tif err := missing(); err == nil {\n\t\t\treturn\n\t\t}\n\t}\n}\n")
	out, err = run(broken, exe, "./...")
	if err == nil || !strings.Contains(out, "undefined: missing") || strings.Contains(out, "panic") {
		t.Errorf("broken code: %v\n%s", err, out)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

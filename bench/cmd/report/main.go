// Command report runs the benchmarks of this module round after round, and
// writes RESULTS.md and a bar chart for each group from the medians.
//
//	go run ./cmd/report            about seven minutes
//	go run ./cmd/report -quick     less than one, to see whether it works
//
// All candidates take their turn in every round, so that a machine that is slow
// for a while is slow for all of them.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

type settings struct {
	rounds    int
	benchtime time.Duration
	quick     bool
	raw, from string
}

func main() {
	var s settings
	flag.IntVar(&s.rounds, "rounds", 10, "how often to run everything")
	flag.DurationVar(&s.benchtime, "benchtime", 100*time.Millisecond, "how long to run each benchmark in a round")
	flag.BoolVar(&s.quick, "quick", false, "2 rounds of 10ms: the figures are rough")
	flag.StringVar(&s.raw, "raw", "", "also write the benchmarks' output to this `file`, for benchstat and -from")
	flag.StringVar(&s.from, "from", "", "report on the output in this `file` instead of running anything")
	flag.Parse()
	if s.quick {
		s.rounds, s.benchtime = 2, 10*time.Millisecond
	}
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	dir, err := output("", "go", "list", "-m", "-f", "{{.Dir}}", modulePath)
	if err != nil {
		return err
	}
	begun := time.Now()
	text, err := figures(s, dir)
	if err != nil {
		return err
	}
	if s.raw != "" {
		if err := os.WriteFile(s.raw, text, 0o644); err != nil {
			return err
		}
	}
	res, err := parse(bytes.NewReader(text))
	if err != nil {
		return err
	}
	about, err := describe(s, dir, res, time.Since(begun))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "RESULTS.md"), document(res, about), 0o644); err != nil {
		return err
	}
	return drawAll(filepath.Join(dir, "results"), res)
}

const modulePath = "github.com/retryutils/retry/bench"

// figures returns what the benchmarks print.
func figures(s settings, dir string) ([]byte, error) {
	if s.from != "" {
		return os.ReadFile(s.from)
	}
	temp, err := os.MkdirTemp("", "report")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	binary := filepath.Join(temp, "bench.test")
	if _, err := output(dir, "go", "test", "-c", "-o", binary, "."); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for round := range s.rounds {
		begun := time.Now()
		common := []string{"-test.run=^$", "-test.benchtime=" + s.benchtime.String()}
		for _, part := range [][]string{
			{"-test.bench=.", "-test.skip=Parallel"},
			{"-test.bench=Parallel", "-test.cpu=1,2"},
		} {
			cmd := exec.Command(binary, append(common, part...)...)
			cmd.Dir, cmd.Stdout = dir, &text
			cmd.Stderr = os.Stderr
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("round %d: %w\n%s", round+1, err, lastLines(text.String(), 5))
			}
		}
		fmt.Printf("round %d of %d: %v\n", round+1, s.rounds, time.Since(begun).Round(time.Second))
	}
	return text.Bytes(), nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// output runs a command, and returns what it prints without the last newline.
func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd.Args, err)
	}
	return strings.TrimRight(string(text), "\n"), nil
}

// setting is what a run's figures depend on.
type setting struct {
	rounds    int
	benchtime string
	took      string
	machine   string
	versions  []string
}

func describe(s settings, dir string, res *results, took time.Duration) (setting, error) {
	about := setting{rounds: res.rounds(), benchtime: s.benchtime.String(), took: took.Round(time.Second).String()}
	if s.from != "" {
		about.benchtime, about.took = "", ""
	}
	goVersion, err := output(dir, "go", "env", "GOVERSION")
	if err != nil {
		return about, err
	}
	about.machine = fmt.Sprintf("%s, %d processors, %s/%s, %s", res.cpu, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, goVersion)
	for _, p := range peers {
		version, err := output(dir, "go", "list", "-m", "-f", "{{.Version}}", p)
		if err != nil {
			return about, err
		}
		about.versions = append(about.versions, p+" "+version)
	}
	return about, nil
}

var peers = []string{
	"github.com/avast/retry-go/v5",
	"github.com/aws/aws-sdk-go-v2",
	"github.com/cenkalti/backoff/v7",
	"github.com/eapache/go-resiliency",
	"github.com/failsafe-go/failsafe-go",
	"github.com/hashicorp/go-retryablehttp",
	"github.com/sethvargo/go-retry",
	"github.com/sony/gobreaker/v2",
	"resty.dev/v3",
}

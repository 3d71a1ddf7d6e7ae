// The command retrylint finds hand-written retry loops. It runs by itself, on the
// packages of a module, a workspace or a tree of modules, and as a tool of go vet:
//
//	go run github.com/retryutils/retry/retrylint/cmd/retrylint ./...
//	retrylint -modules -format sarif -o retrylint.sarif
//	retrylint -diff origin/main ./...
//	retrylint -baseline write ./... && retrylint -baseline check ./...
//	go vet -vettool=$(which retrylint) ./...
//
// It exits with 3 if there are findings, with 1 if something could not be analyzed,
// with 2 if it was called wrongly, and else with 0.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/retryutils/retry/retrylint"
)

func main() {
	if calledByVet(os.Args[1:]) {
		unitchecker.Main(retrylint.Analyzer)
	}
	opts, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "retrylint:", err)
		os.Exit(2)
	}
	code, err := run(opts, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "retrylint:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// calledByVet reports whether args are those by which go vet asks a tool for its
// version and flags, and has it check one package.
func calledByVet(args []string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "-V=") || a == "-flags" || strings.HasSuffix(a, ".cfg") {
			return true
		}
	}
	return false
}

// run analyzes what opts name, writes the report, and returns the exit code.
func run(opts *options, stdout, stderr io.Writer) (code int, err error) {
	root := repository()
	a := retrylint.New(opts.disable)
	results, broken, err := analyze(opts, a, root, stderr)
	if err != nil {
		return 0, err
	}
	all, err := opts.filter(results, root)
	if err != nil {
		return 0, err
	}
	switch opts.baseline {
	case "write":
		if err := writeBaseline(opts.baselineFile, all); err != nil {
			return 0, err
		}
		fmt.Fprintf(stderr, "retrylint: %d findings written to %s\n", len(all), opts.baselineFile)
		return 0, nil
	case "check":
		var gone int
		if all, gone, err = checkBaseline(opts.baselineFile, all); err != nil {
			return 0, err
		}
		if gone > 0 {
			fmt.Fprintf(stderr, "retrylint: %d findings of %s are gone: write it again\n", gone, opts.baselineFile)
		}
	}
	if opts.fix {
		fixed, files, err := applyFixes(all)
		if err != nil {
			return 0, err
		}
		if fixed > 0 {
			fmt.Fprintf(stderr, "retrylint: %d loops replaced in %d files; now go get github.com/retryutils/retry\n", fixed, files)
		}
		var left []record
		for _, r := range all {
			if !r.fixed {
				left = append(left, r)
			}
		}
		all = left
	}
	if opts.each {
		all = flatten(all)
	}
	out := stdout
	if opts.output != "" {
		file, err := os.Create(opts.output)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	}
	if err := write(out, opts, all, results); err != nil {
		return 0, err
	}
	switch {
	case opts.fails(all):
		return 3, nil
	case broken:
		return 1, nil
	}
	return 0, nil
}

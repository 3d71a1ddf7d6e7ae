package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A place is what a finding keeps when lines move: not its line. A package may
// have several of the kind in a function.
type place struct{ pkg, function, rule string }

// counts returns how many findings, notes included, each place has.
func counts(all []record) map[place]int {
	n := map[place]int{}
	for _, r := range flatten(all) {
		n[place{r.Package, r.Function, r.Rule}]++
	}
	return n
}

// writeBaseline writes the places and how many findings each has.
func writeBaseline(name string, all []record) error {
	var lines []string
	for p, n := range counts(all) {
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%d", p.pkg, p.function, p.rule, n))
	}
	slices.Sort(lines)
	text := "# Findings that retrylint -baseline check accepts: package, function, rule, count.\n"
	for _, line := range lines {
		text += line + "\n"
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// checkBaseline returns the records beyond those of the baseline, and how many of
// that are gone. Of a loop that is accepted, the notes that are not remain.
func checkBaseline(name string, all []record) (left []record, gone int, err error) {
	known, err := readBaseline(name)
	if err != nil {
		return nil, 0, err
	}
	accepted := func(r record) bool {
		p := place{r.Package, r.Function, r.Rule}
		if known[p] == 0 {
			return false
		}
		known[p]--
		return true
	}
	for _, r := range all {
		old := accepted(r)
		var notes []record
		for _, n := range r.Notes {
			if !accepted(n) {
				notes = append(notes, n)
			}
		}
		if r.Notes = notes; old {
			left = append(left, notes...)
		} else {
			left = append(left, r)
		}
	}
	for _, n := range known {
		gone += n
	}
	return left, gone, nil
}

func readBaseline(name string) (map[place]int, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: write it with -baseline write", err)
	}
	defer file.Close()
	known := map[place]int{}
	for lines := bufio.NewScanner(file); ; {
		if !lines.Scan() {
			return known, lines.Err()
		}
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("%s: %q has %d fields instead of 4", name, line, len(f))
		}
		n, err := strconv.ParseUint(f[3], 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s: count in %q, want 1 to %d", name, line, math.MaxUint16)
		}
		known[place{f[0], f[1], f[2]}] += int(n)
	}
}

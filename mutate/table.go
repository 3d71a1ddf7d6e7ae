package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	tableHead = "| file | mutants | killed | timed out | equivalent | survived | not reached | score | date | commit |\n| --- | --: | --: | --: | --: | --: | --: | --: | --- | --- |\n"
	tableFrom = "<!-- written by go run ./mutate -table: from here -->\n"
	tableTo   = "<!-- to here -->\n"
)

// A row of the table is what became of the mutants of a file.
type row struct {
	file                                              string
	all, killed, timedOut, equal, survived, unreached int
	date, commit                                      string
}

func (r row) String() string {
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %d | %s | %s | %s |", r.file, r.all, r.killed, r.timedOut, r.equal, r.survived, r.unreached, r.score(), r.date, r.commit)
}

// score is the share that the tests noticed of those that can be noticed.
func (r row) score() string {
	if r.all == r.equal {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(r.killed+r.timedOut)/float64(r.all-r.equal))
}

func (r *row) add(other row) {
	r.all, r.killed, r.timedOut = r.all+other.all, r.killed+other.killed, r.timedOut+other.timedOut
	r.equal, r.survived, r.unreached = r.equal+other.equal, r.survived+other.survived, r.unreached+other.unreached
}

// writeTable brings the rows of the files that were tried as a whole up to date.
func writeTable(tried []result, known []survivor) error {
	path := filepath.Join(root, "docs", "mutation.md")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(text, []byte(tableFrom))
	old, after, ok2 := bytes.Cut(rest, []byte(tableTo))
	if !ok || !ok2 {
		return fmt.Errorf("%s: the place of the table is not marked", path)
	}
	rows := map[string]*row{}
	for line := range strings.Lines(string(old)) {
		r := row{}
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 10 || strings.HasPrefix(line, "| **") {
			continue
		}
		r.file, r.date, r.commit = strings.TrimPrefix(cells[0], "| "), cells[8], strings.TrimSuffix(cells[9], " |")
		if n, _ := fmt.Sscan(strings.Join(cells[1:7], " "), &r.all, &r.killed, &r.timedOut, &r.equal, &r.survived, &r.unreached); n == 6 {
			rows[r.file] = &r
		}
	}
	commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return err
	}
	now, incomplete := map[string]*row{}, map[string]bool{}
	for _, r := range tried {
		incomplete[r.file] = incomplete[r.file] || r.fate == leftOut
		if now[r.file] == nil {
			now[r.file] = &row{file: r.file, date: time.Now().UTC().Format(time.DateOnly), commit: strings.TrimSpace(string(commit))}
		}
		to := now[r.file]
		to.all++
		switch {
		case r.fate == killed:
			to.killed++
		case r.fate == timedOut:
			to.timedOut++
		case slices.ContainsFunc(known, func(s survivor) bool { return s.isEquivalent(r.mutant) }):
			to.equal++
		case r.fate == survived:
			to.survived++
		default:
			to.unreached++
		}
	}
	maps.DeleteFunc(now, func(file string, _ *row) bool { return incomplete[file] })
	maps.Copy(rows, now)

	var out strings.Builder
	out.Write(before)
	out.WriteString(tableFrom + "\n")
	out.WriteString(tableHead)
	packages := map[string]*row{}
	for _, file := range slices.SortedFunc(maps.Keys(rows), func(a, b string) int {
		return strings.Compare(filepath.Dir(a)+" "+a, filepath.Dir(b)+" "+b)
	}) {
		fmt.Fprintln(&out, rows[file])
		pkg := filepath.Dir(file)
		if packages[pkg] == nil {
			packages[pkg] = &row{file: "**" + pkg + "**"}
		}
		packages[pkg].add(*rows[file])
	}
	for _, pkg := range slices.Sorted(maps.Keys(packages)) {
		fmt.Fprintln(&out, packages[pkg])
	}
	out.WriteString("\n")
	out.WriteString(tableTo)
	out.Write(after)
	return os.WriteFile(path, []byte(out.String()), 0o644)
}

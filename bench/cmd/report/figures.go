package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// results are the figures of a run.
type results struct {
	cpu  string
	rows []*row // in the order in which they first came
}

// row is one benchmark: Benchmark<group>/<kind>/<name>-<procs>.
type row struct {
	group, kind, name string
	procs             int
	values            map[string][]float64 // by unit, one for each round
}

// The kinds of candidates.
const (
	floor = "floor"
	ours  = "retry"
	peer  = "peer"
)

// parse reads the output of go test -bench.
func parse(r io.Reader) (*results, error) {
	res := new(results)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if cpu, ok := strings.CutPrefix(lines.Text(), "cpu: "); ok {
			res.cpu = strings.TrimSpace(cpu)
		}
		if !strings.HasPrefix(lines.Text(), "Benchmark") {
			continue
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || len(fields)%2 != 0 {
			return nil, fmt.Errorf("not a benchmark's result: %q", lines.Text())
		}
		row := res.find(fields[0])
		for i := 2; i < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", lines.Text(), err)
			}
			row.values[fields[i+1]] = append(row.values[fields[i+1]], value)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(res.rows) == 0 {
		return nil, fmt.Errorf("no benchmark's result was found")
	}
	return res, nil
}

// find returns the row of a benchmark, which is made if need be.
func (res *results) find(full string) *row {
	want := row{procs: 1}
	if i := strings.LastIndexByte(full, '-'); i >= 0 {
		if n, err := strconv.Atoi(full[i+1:]); err == nil {
			full, want.procs = full[:i], n
		}
	}
	full = strings.ReplaceAll(strings.TrimPrefix(full, "Benchmark"), "_", " ")
	want.group, full, _ = strings.Cut(full, "/")
	var found bool
	if want.kind, want.name, found = strings.Cut(full, "/"); !found {
		want.kind, want.name = "", want.kind
	}
	for _, r := range res.rows {
		if r.group == want.group && r.kind == want.kind && r.name == want.name && r.procs == want.procs {
			return r
		}
	}
	want.values = map[string][]float64{}
	res.rows = append(res.rows, &want)
	return &want
}

// rounds is how often each benchmark was run, at least.
func (res *results) rounds() int {
	least := math.MaxInt
	for _, r := range res.rows {
		for _, values := range r.values {
			least = min(least, len(values))
		}
	}
	return least
}

// group returns the rows of a group, the fastest first. With processors given,
// it returns only those that ran on so many.
func (res *results) group(name string, procs int) []*row {
	var rows []*row
	for _, r := range res.rows {
		if r.group == name && (procs == 0 || r.procs == procs) {
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b *row) int {
		switch x, y := a.main(), b.main(); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return rows
}

// row returns one of the results, or nil. Any number of processors will do if
// none is given.
func (res *results) row(group, kind, name string, procs int) *row {
	for _, r := range res.rows {
		if r.group == group && r.kind == kind && r.name == name && (procs == 0 || r.procs == procs) {
			return r
		}
	}
	return nil
}

// bestPeer returns the fastest of the peers that are of the same form as name.
func (res *results) bestPeer(group, name string, procs int) *row {
	for _, r := range res.group(group, procs) {
		if r.kind == peer && form(r.name) == form(name) {
			return r
		}
	}
	return nil
}

// form is what stands before the colon: a client is not compared to a round
// tripper, which can do less.
func form(name string) string {
	form, _, found := strings.Cut(name, ": ")
	if !found {
		return ""
	}
	return form
}

// unit is what a group is about: time, or heap.
func (r *row) unit() string {
	if _, ok := r.values["B/instance"]; ok {
		return "B/instance"
	}
	return "ns/op"
}

func (r *row) main() float64 { return r.median(r.unit()) }

func (r *row) median(unit string) float64 {
	if r == nil || len(r.values[unit]) == 0 {
		return math.NaN()
	}
	return median(r.values[unit])
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// spread is half of the range that the middle half of the values takes, as a
// share of the median.
func (r *row) spread() float64 {
	sorted := slices.Sorted(slices.Values(r.values[r.unit()]))
	n := len(sorted)
	return (sorted[(3*n-1)/4] - sorted[n/4]) / 2 / r.main()
}

// ratio divides two medians round by round, so that what slowed down a whole
// round does not count.
func ratio(a, b *row, unitA, unitB string) float64 {
	return median(ratios(a, b, unitA, unitB))
}

func ratios(a, b *row, unitA, unitB string) []float64 {
	if a == nil || b == nil {
		return []float64{math.NaN()}
	}
	x, y := a.values[unitA], b.values[unitB]
	all := make([]float64, 0, len(x))
	for i := range min(len(x), len(y)) {
		all = append(all, x[i]/y[i])
	}
	if len(all) == 0 {
		return []float64{math.NaN()}
	}
	return all
}

// times is the usual case: how many times as long a takes as b.
func times(a, b *row) float64 {
	if a == nil || b == nil {
		return math.NaN()
	}
	return ratio(a, b, a.unit(), b.unit())
}

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"time"
)

// A judgement is a line of judged.tsv: a finding that was read, and whether it is
// true by the rule of the README.
type judgement struct {
	module, place, category string
	verdict, reason         string
	batch                   string
}

func (j judgement) key() string { return j.module + "\t" + j.place + "\t" + j.category }

// A known is a line of loops.tsv: a loop that is one by the rule.
type known struct {
	module, place, shape, source string
}

// report writes the tables, and returns the precision and recall that they say.
func report(w io.Writer, dir string, results []result) (precision, recall float64, err error) {
	judged, err := readJudged(dir + "/judged.tsv")
	if err != nil {
		return 0, 0, err
	}
	loops, err := readLoops(dir + "/loops.tsv")
	if err != nil {
		return 0, 0, err
	}
	present := map[string]bool{}
	surveyed := map[string]bool{}
	for _, res := range results {
		surveyed[res.module.String()] = true
		for _, f := range res.findings {
			present[fmt.Sprintf("%s\t%s:%d\t%s", res.module, f.file, f.line, f.category)] = true
		}
	}
	fmt.Fprint(w, "# What retrylint finds in other people's code\n\nWritten by `go run ./survey > RESULTS.md`.\n")
	if err := writeOnce(w, dir, judged); err != nil {
		return 0, 0, err
	}
	precision = writePrecision(w, judged, present, surveyed)
	recall = writeRecall(w, loops, present, surveyed)
	writeFixes(w, judged, results)
	writeSpeed(w, results)
	return precision, recall, nil
}

// writeOnce says how the modules of each batch were judged when they were new to the
// analyzer, by the lines of once.tsv: a batch, how many modules, loops known, and found.
func writeOnce(w io.Writer, dir string, judged []judgement) error {
	rows, err := readTable(dir+"/once.tsv", 4)
	if err != nil {
		return err
	}
	fmt.Fprint(w, "\n## Judged once\n\nModules that were new to the analyzer, read once, when it was finished, and used to improve it\nafterwards. The sections below say what it finds in them now.\n\n| batch | modules | findings | true | precision | loops known | found | recall |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, r := range rows {
		var yes, all, known, found int
		for _, j := range judged {
			if j.batch == r[0] {
				all++
				if j.verdict == "true" {
					yes++
				}
			}
		}
		if _, err := fmt.Sscan(r[2], &known); err != nil {
			return err
		}
		if _, err := fmt.Sscan(r[3], &found); err != nil {
			return err
		}
		fmt.Fprintf(w, "| %s | %s | %d | %d | %s | %d | %d | %s |\n", r[0], r[1], all, yes, percent(yes, all), known, found, percent(found, known))
	}
	by := counts{}
	for _, j := range judged {
		if strings.HasPrefix(j.batch, "unseen") {
			by.add(j, j.category, "all")
		}
	}
	fmt.Fprint(w, "\nBy category, of these and of the first batch (\"unseen\"):\n\n")
	by.write(w)
	return nil
}

// counts are how many judgements there are by some name, and how many of them true.
type counts map[string]*struct{ yes, all int }

func (c counts) add(j judgement, names ...string) {
	for _, name := range names {
		if c[name] == nil {
			c[name] = new(struct{ yes, all int })
		}
		c[name].all++
		if j.verdict == "true" {
			c[name].yes++
		}
	}
}

func (c counts) write(w io.Writer) {
	names := slices.Sorted(maps.Keys(c))
	slices.SortStableFunc(names, func(a, b string) int { return c[b].all - c[a].all })
	fmt.Fprint(w, "| category | judged | true | precision |\n| --- | ---: | ---: | ---: |\n")
	for _, name := range names {
		fmt.Fprintf(w, "| %s | %d | %d | %s |\n", name, c[name].all, c[name].yes, percent(c[name].yes, c[name].all))
	}
}

// writePrecision counts the judgements of findings that are still made.
func writePrecision(w io.Writer, judged []judgement, present, surveyed map[string]bool) float64 {
	by := counts{"all": {}}
	var wrong []judgement
	for _, j := range judged {
		if !surveyed[j.module] || !present[j.key()] {
			continue
		}
		by.add(j, "all", "batch: "+j.batch, j.category)
		if j.verdict != "true" {
			wrong = append(wrong, j)
		}
	}
	fmt.Fprint(w, "\n## Precision\n\nOf the findings that were judged (judged.tsv), by the rule of the README:\n\n")
	by.write(w)
	fmt.Fprint(w, "\nThe false ones:\n\n")
	for _, j := range wrong {
		fmt.Fprintf(w, "- %s %s, %s: %s\n", j.module, j.place, j.category, j.reason)
	}
	return share(by["all"].yes, by["all"].all)
}

// writeRecall says which of the known loops are found.
func writeRecall(w io.Writer, loops []known, present, surveyed map[string]bool) float64 {
	type count struct{ found, all int }
	by := map[string]*count{"all": {}}
	var missed []known
	for _, k := range loops {
		if !surveyed[k.module] {
			continue
		}
		for _, name := range []string{"all", "source: " + k.source, "shape: " + k.shape} {
			if by[name] == nil {
				by[name] = &count{}
			}
			by[name].all++
			if present[k.module+"\t"+k.place+"\tloop"] {
				by[name].found++
			}
		}
		if !present[k.module+"\t"+k.place+"\tloop"] {
			missed = append(missed, k)
		}
	}
	fmt.Fprint(w, "\n## Recall\n\nOf the loops that were found by reading and searching (loops.tsv):\n\n| loops | known | found | recall |\n| --- | ---: | ---: | ---: |\n")
	var names []string
	for name := range by {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(w, "| %s | %d | %d | %s |\n", name, by[name].all, by[name].found, percent(by[name].found, by[name].all))
	}
	fmt.Fprint(w, "\nThe missed ones:\n\n")
	for _, k := range missed {
		fmt.Fprintf(w, "- %s %s (%s)\n", k.module, k.place, k.shape)
	}
	return share(by["all"].found, by["all"].all)
}

// writeFixes says for how many loops there is a rewrite.
func writeFixes(w io.Writer, judged []judgement, results []result) {
	verdicts := map[string]judgement{}
	for _, j := range judged {
		verdicts[j.key()] = j
	}
	type count struct{ fixed, all int }
	rows := []string{"all", "judged true", "judged false", "not judged", "batch: unseen 3", "batch: unseen 4", "batch: unseen 5", "batch: unseen 6", "batch: unseen 7", "batch: unseen 8", "batch: unseen 9", "batch: unseen 10", "batch: unseen 11", "batch: unseen 12", "batch: unseen 13", "batch: unseen 14", "batch: unseen 15"}
	by := map[string]*count{}
	for _, name := range rows {
		by[name] = &count{}
	}
	for _, res := range results {
		for _, f := range res.findings {
			if f.category != "loop" {
				continue
			}
			j := verdicts[fmt.Sprintf("%s\t%s:%d\t%s", res.module, f.file, f.line, f.category)]
			names := []string{"all", "not judged"}
			if j.verdict != "" {
				names[1] = "judged " + j.verdict
			}
			if by["batch: "+j.batch] != nil {
				names = append(names, "batch: "+j.batch)
			}
			for _, name := range names {
				by[name].all++
				if f.fix {
					by[name].fixed++
				}
			}
		}
	}
	fmt.Fprint(w, "\n## Rewrites\n\nOf the loops that are found, those for which a rewrite is offered, all of which type-check:\n\n| loops | found | rewritten | share |\n| --- | ---: | ---: | ---: |\n")
	for _, name := range rows {
		fmt.Fprintf(w, "| %s | %d | %d | %s |\n", name, by[name].all, by[name].fixed, percent(by[name].fixed, by[name].all))
	}
}

// writeSpeed says how long each module took, beyond loading, and what was found.
func writeSpeed(w io.Writer, results []result) {
	fmt.Fprint(w, "\n## Modules\n\nThe time is that of the analyzer, beyond loading.\n\n| module | packages | lines | with type errors | findings | time | s per 100,000 lines |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	var lines, failed int
	var spent time.Duration
	var slowest float64
	for _, res := range results {
		if res.err != nil {
			failed++
			fmt.Fprintf(w, "| %s | %s | | | | | |\n", res.module, strings.ReplaceAll(firstLine(res.err.Error()), "|", "/"))
			continue
		}
		per := res.spent.Seconds() * 100_000 / float64(max(res.lines, 1))
		if res.lines > 20_000 {
			slowest = max(slowest, per)
		}
		lines += res.lines
		spent += res.spent
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d | %v | %.2f |\n", res.module, res.packages, res.lines, res.broken, len(res.findings), res.spent.Round(time.Millisecond), per)
	}
	fmt.Fprintf(w, "\n%d modules, %d of them not analyzed, %d lines, %v: %.2f s per 100,000 lines; the slowest module of more than 20,000 lines %.2f s.\n",
		len(results), failed, lines, spent.Round(time.Millisecond), spent.Seconds()*100_000/float64(max(lines, 1)), slowest)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// share returns n / of, 1 of nothing.
func share(n, of int) float64 {
	if of == 0 {
		return 1
	}
	return float64(n) / float64(of)
}

func percent(n, of int) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%d %%", n*100/of)
}

// readTable reads lines of tab-separated fields; # begins a comment line.
func readTable(name string, fields int) ([][]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for line := range strings.SplitSeq(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.Split(line, "\t")
		if len(row) != fields {
			return nil, fmt.Errorf("%s: %d fields instead of %d: %q", name, len(row), fields, line)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func readJudged(name string) ([]judgement, error) {
	rows, err := readTable(name, 6)
	var all []judgement
	for _, r := range rows {
		all = append(all, judgement{r[0], r[1], r[2], r[3], r[4], r[5]})
	}
	return all, err
}

func readLoops(name string) ([]known, error) {
	rows, err := readTable(name, 4)
	var all []known
	for _, r := range rows {
		all = append(all, known{r[0], r[1], r[2], r[3]})
	}
	return all, err
}

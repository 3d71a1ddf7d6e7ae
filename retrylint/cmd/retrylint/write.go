package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/retryutils/retry/retrylint"
)

// write writes the report in the format of opts.
func write(w io.Writer, opts *options, all []record, modules []*module) error {
	switch opts.format {
	case "json":
		return writeJSON(w, all)
	case "sarif":
		return writeSARIF(w, opts, all)
	case "github":
		return writeAnnotations(w, all)
	case "summary":
		return writeSummary(w, all, modules)
	}
	return writeText(w, all)
}

// writeText writes a line for each finding, its notes indented below.
func writeText(w io.Writer, all []record) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, r := range all {
		fmt.Fprintf(w, "%s:%d:%d: %s: %s (%s)\n", relative(here, r.path), r.Line, r.Column, r.Severity, r.Message, r.Rule)
		for _, n := range r.Notes {
			fmt.Fprintf(w, "\t%s:%d:%d: %s: %s (%s)\n", filepath.Base(n.path), n.Line, n.Column, n.Severity, n.Message, n.Rule)
		}
	}
	return nil
}

// writeJSON writes an array of records.
func writeJSON(w io.Writer, all []record) error {
	if all == nil {
		all = []record{}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	return e.Encode(all)
}

// writeAnnotations writes the commands by which a workflow of GitHub annotates
// lines.
func writeAnnotations(w io.Writer, all []record) error {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, r := range all {
		level := strings.ReplaceAll(r.Severity, "note", "notice")
		message := r.Message
		for _, n := range r.Notes {
			message += fmt.Sprintf("\nline %d: %s (%s)", n.Line, n.Message, n.Rule)
		}
		_, err := fmt.Fprintf(w, "::%s file=%s,line=%d,endLine=%d,col=%d,title=%s::%s\n",
			level, property.Replace(r.File), r.Line, r.EndLine, r.Column, property.Replace("retrylint "+r.Rule), data.Replace(message))
		if err != nil {
			return err
		}
	}
	return nil
}

// writeSARIF writes SARIF 2.1.0: a rule for each category, a result for each
// finding, and its notes as related locations.
func writeSARIF(w io.Writer, opts *options, all []record) error {
	run := sarif.NewRunWithInformationURI("retrylint", retrylint.Analyzer.URL)
	for _, name := range retrylint.Categories() {
		c := retrylint.CategoryOf(name)
		run.AddRule(name).WithName(name).WithShortDescription(sarif.NewMultiformatMessageString().WithText(c.Doc)).
			WithHelpURI(c.URL()).WithHelp(sarif.NewMultiformatMessageString().WithText(c.Doc + "\n\n" + c.Example)).
			WithDefaultConfiguration(sarif.NewReportingConfiguration().WithLevel(opts.level(name)))
	}
	seen := map[place]int{}
	for _, r := range all {
		result := sarif.NewRuleResult(r.Rule).WithRuleIndex(run.GetRuleIndex(r.Rule)).WithLevel(r.Severity).
			WithMessage(sarif.NewTextMessage(strings.TrimSuffix(r.text, " ("+r.Rule+")"))).
			WithLocations([]*sarif.Location{location(r)})
		p := place{r.Package, r.Function, r.Rule}
		seen[p]++
		result.WithPartialFingerprints(map[string]string{"retrylint/v1": fmt.Sprintf("%s %s %s %d", p.pkg, p.function, p.rule, seen[p])})
		for i, n := range r.Notes {
			result.AddRelatedLocation(location(n).WithID(i + 1).WithMessage(sarif.NewTextMessage(fmt.Sprintf("%s (%s)", n.Message, n.Rule))))
		}
		run.AddResult(result)
	}
	report := sarif.NewReport()
	report.AddRun(run)
	return report.PrettyWrite(w)
}

func location(r record) *sarif.Location {
	region := sarif.NewRegion().WithStartLine(r.Line).WithStartColumn(r.Column).WithEndLine(r.EndLine).WithEndColumn(r.EndColumn)
	file := sarif.NewSimpleArtifactLocation(r.File).WithURIBaseID("%SRCROOT%")
	return sarif.NewLocationWithPhysicalLocation(sarif.NewPhysicalLocation().WithArtifactLocation(file).WithRegion(region))
}

// writeSummary writes a table of the modules, those with most loops first, and one
// of the categories.
func writeSummary(w io.Writer, all []record, modules []*module) error {
	byModule := map[string][]record{}
	byRule := map[string]int{}
	for _, r := range all {
		byModule[r.Module] = append(byModule[r.Module], r)
	}
	for _, r := range flatten(all) {
		byRule[r.Rule]++
	}
	modules = slices.Clone(modules)
	loops := func(records []record) (n, fixable int) {
		for _, r := range records {
			if r.Rule == "loop" {
				n++
			}
			if r.Fixable {
				fixable++
			}
		}
		return n, fixable
	}
	slices.SortStableFunc(modules, func(a, b *module) int {
		x, _ := loops(byModule[a.path])
		y, _ := loops(byModule[b.path])
		return y - x
	})
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "module\tpackages\tbroken\tloops\tfixable\terrors\twarnings\tnotes")
	line := func(name string, packages, broken int, records []record) {
		n, fixable := loops(records)
		by := map[string]int{}
		for _, r := range flatten(records) {
			by[r.Severity]++
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", name, packages, broken, n, fixable, by["error"], by["warning"], by["note"])
	}
	packages, broken := 0, 0
	for _, m := range modules {
		line(m.path, len(m.packages), m.broken, byModule[m.path])
		packages, broken = packages+len(m.packages), broken+m.broken
	}
	line(fmt.Sprintf("%d modules", len(modules)), packages, broken, all)
	fmt.Fprintln(t)
	fmt.Fprintln(t, "category\tfindings")
	names := retrylint.Categories()
	slices.SortStableFunc(names, func(a, b string) int { return byRule[b] - byRule[a] })
	for _, name := range names {
		if byRule[name] > 0 {
			fmt.Fprintf(t, "%s\t%d\n", name, byRule[name])
		}
	}
	return t.Flush()
}

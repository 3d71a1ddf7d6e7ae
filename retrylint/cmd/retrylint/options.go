package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"go.yaml.in/yaml/v3"

	"github.com/retryutils/retry/retrylint"
)

// configName is looked for in the working directory and the ones above it, up to
// the root of the repository.
const configName = ".retrylint.yml"

// options are the flags, over the configuration file.
type options struct {
	patterns     []string
	modules      bool
	tests        bool
	tags         string
	goos         []string
	disable      []string
	severity     map[string]string
	exclude      []string
	each         bool
	fix          bool
	diff         string
	baseline     string
	baselineFile string
	format       string
	output       string
	fail         string
}

// config is the configuration file.
type config struct {
	Disable  []string          `yaml:"disable"`
	Enable   []string          `yaml:"enable"`
	Severity map[string]string `yaml:"severity"`
	Exclude  []string          `yaml:"exclude"`
	Tags     []string          `yaml:"tags"`
	GOOS     []string          `yaml:"goos"`
	Each     bool              `yaml:"each"`
	Fail     string            `yaml:"fail"`
	Baseline string            `yaml:"baseline"`
}

// levels are the severities, the mildest first.
var levels = []string{"note", "warning", "error"}

func parse(args []string, stderr io.Writer) (*options, error) {
	flags := flag.NewFlagSet("retrylint", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o := &options{severity: map[string]string{}}
	var configFile, goos, severities, excludes string
	var asJSON bool
	flags.StringVar(&configFile, "config", "", "the configuration file (default "+configName+", here or in a directory above)")
	flags.BoolVar(&o.modules, "modules", false, "analyze every module in and below the working directory, each by itself")
	flags.BoolVar(&o.tests, "test", true, "analyze test files too: of these, only the use of the library")
	flags.StringVar(&o.tags, "tags", "", "build tags, separated by commas")
	flags.StringVar(&goos, "goos", "", "operating systems to analyze for, separated by commas (default this one)")
	flags.StringVar(&excludes, "exclude", "", "paths to leave out, separated by commas: internal/legacy/**, **/*.pb.go")
	flags.StringVar(&severities, "severity", "", "severities, separated by commas: jitter=warning,no-wait=error")
	flags.BoolVar(&o.each, "each", false, "report each fault of a loop by itself")
	flags.BoolVar(&o.fix, "fix", false, "apply the rewrites that are certain; what is left is reported and decides the exit code")
	flags.StringVar(&o.diff, "diff", "", "report only what touches lines that changed since the merge base with this revision of git, untracked files included")
	flags.StringVar(&o.baseline, "baseline", "", "write: accept all findings of today; check: report only those beyond them")
	flags.StringVar(&o.baselineFile, "baseline-file", "", "the baseline (default .retrylint-baseline in the root of the repository)")
	flags.StringVar(&o.format, "format", "text", "text, json, sarif (2.1.0), github (annotations of a workflow) or summary (a table of modules)")
	flags.BoolVar(&asJSON, "json", false, "the same as -format json")
	flags.StringVar(&o.output, "o", "", "write the report to this file")
	flags.StringVar(&o.fail, "fail", "", "the mildest severity that makes the exit code 3: note (default), warning, error or none")
	on := map[string]*bool{}
	for _, name := range retrylint.Categories() {
		on[name] = flags.Bool(name, !slices.Contains(retrylint.Optional(), name), "report "+name)
	}
	flags.Usage = func() {
		fmt.Fprintf(stderr, "retrylint: %s\nUsage: retrylint [flags] [packages]\n\n", retrylint.Analyzer.Doc)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	c, err := readConfig(configFile)
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	o.patterns = flags.Args()
	if len(o.patterns) == 0 {
		o.patterns = []string{"./..."}
	}
	if asJSON {
		o.format = "json"
	}
	for name, on := range on {
		enabled := *on || !set[name] && slices.Contains(c.Enable, name)
		if !enabled || !set[name] && slices.Contains(c.Disable, name) {
			o.disable = append(o.disable, name)
		}
	}
	for name, level := range c.Severity {
		o.severity[name] = level
	}
	for _, s := range list(severities) {
		name, level, _ := strings.Cut(s, "=")
		o.severity[name] = level
	}
	o.exclude = append(c.Exclude, list(excludes)...)
	if !set["tags"] {
		o.tags = strings.Join(c.Tags, ",")
	}
	if o.goos = list(goos); len(o.goos) == 0 {
		o.goos = c.GOOS
	}
	o.each = o.each || c.Each
	o.fail = cmp.Or(o.fail, c.Fail, "note")
	o.baselineFile = cmp.Or(o.baselineFile, c.Baseline, filepath.Join(repository(), ".retrylint-baseline"))
	return o, o.validate(c)
}

func (o *options) validate(c *config) error {
	var wrong []error
	one := func(flag, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			wrong = append(wrong, fmt.Errorf("%s: %q is none of %s", flag, value, strings.Join(allowed, ", ")))
		}
	}
	one("-format", o.format, "text", "json", "sarif", "github", "summary")
	one("-baseline", o.baseline, "", "write", "check")
	one("-fail", o.fail, append([]string{"none"}, levels...)...)
	for name, level := range o.severity {
		one("severity", name, retrylint.Categories()...)
		one("severity of "+name, level, levels...)
	}
	for _, name := range c.Disable {
		one("disable", name, retrylint.Categories()...)
	}
	for _, name := range c.Enable {
		one("enable", name, retrylint.Categories()...)
	}
	for _, pattern := range o.exclude {
		if !doublestar.ValidatePattern(pattern) {
			wrong = append(wrong, fmt.Errorf("exclude: %q is no pattern", pattern))
		}
	}
	return errors.Join(wrong...)
}

// readConfig reads the file of this name, or the nearest of the usual name.
func readConfig(name string) (*config, error) {
	c := new(config)
	if name == "" {
		if name = findConfig(); name == "" {
			return c, nil
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func findConfig() string {
	dir, err := os.Getwd()
	for top := repository(); err == nil; dir = filepath.Dir(dir) {
		name := filepath.Join(dir, configName)
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return name
		}
		if dir == top || dir == filepath.Dir(dir) {
			break
		}
	}
	return ""
}

// excluded reports whether file, a path relative to the root of the repository,
// is left out.
func (o *options) excluded(file string) bool {
	for _, pattern := range o.exclude {
		if ok, _ := doublestar.Match(strings.TrimPrefix(pattern, "./"), file); ok {
			return true
		}
	}
	return false
}

// level returns the severity of a category.
func (o *options) level(category string) string {
	return cmp.Or(o.severity[category], retrylint.CategoryOf(category).Severity)
}

// fails reports whether one of the records, or of their notes, is severe enough.
func (o *options) fails(all []record) bool {
	if o.fail == "none" {
		return false
	}
	for _, r := range all {
		if slices.Index(levels, r.Severity) >= slices.Index(levels, o.fail) || o.fails(r.Notes) {
			return true
		}
	}
	return false
}

// list splits s at commas.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

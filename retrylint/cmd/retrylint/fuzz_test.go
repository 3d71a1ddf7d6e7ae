package main

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/retryutils/retry/retrylint"
)

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A count of -1, once it was counted down, never came to 0 and accepted all findings to come.
func TestBaseline_WrongCount(t *testing.T) {
	name := filepath.Join(t.TempDir(), "baseline")
	for _, count := range []string{"-1", "0", "x", "", "1.5", "65536", "9223372036854775808"} {
		writeFile(t, name, "p\tf\tno-wait\t"+count+"\n")
		if _, _, err := checkBaseline(name, nil); err == nil || !strings.Contains(err.Error(), "want 1 to 65535") {
			t.Errorf("%q: %v", count, err)
		}
	}
}

// FuzzBaseline reads any file as a baseline: it is refused, or what is written of it is read
// as the same.
func FuzzBaseline(f *testing.F) {
	for _, text := range []string{"", "# a\n\n", "p\tf\tno-wait\t2\n", "p\tf\tno-wait\t2\r\n", "p\tf\tr\t-1", "p\tf\tr\t1\np\tf\tr\t1\n", "p\tf", "p\tf\tr\tx", "p\tf\tr\t9223372036854775807\np\tf\tr\t1"} {
		f.Add(text)
	}
	name := filepath.Join(f.TempDir(), "baseline")
	f.Fuzz(func(t *testing.T, text string) {
		writeFile(t, name, text)
		known, err := readBaseline(name)
		if err != nil {
			return
		}
		var all []record
		for p, n := range known {
			if n < 1 {
				t.Fatalf("%d of %q", n, p)
			}
			all = append(all, slices.Repeat([]record{{Package: p.pkg, Function: p.function, Rule: p.rule}}, min(n, 100))...)
		}
		if left, gone, err := checkBaseline(name, all); len(left) > 0 || gone < 0 || err != nil {
			t.Fatalf("left %v, gone %d, error %v", left, gone, err)
		}
		again, err := map[place]int(nil), writeBaseline(name, all)
		if err == nil {
			again, err = readBaseline(name)
		}
		if err != nil || !maps.Equal(again, counts(all)) {
			t.Fatalf("%v, error %v, want %v", again, err, counts(all))
		}
	})
}

// FuzzConfig reads any file as the configuration, and any flags beside it: they are refused,
// or every severity and rule is one that there is.
func FuzzConfig(f *testing.F) {
	f.Add("disable: [jitter]\nseverity: {no-wait: error}\nfail: warning\nexclude: ['**/*.pb.go']\n", "jitter=note", "a/**")
	f.Add("unknown: 1", "x", "[")
	f.Add("severity: {no-wait: fatal}\n---\n", "=,", "")
	f.Add("&a [*a]", "no-wait", "{a,{b}")
	name := filepath.Join(f.TempDir(), "config.yml")
	f.Fuzz(func(t *testing.T, text, severities, exclude string) {
		writeFile(t, name, text)
		o, err := parse([]string{"-config", name, "-severity", severities, "-exclude", exclude}, io.Discard)
		if err != nil {
			return
		}
		var wrong []error
		for rule, level := range o.severity {
			if !slices.Contains(retrylint.Categories(), rule) || !slices.Contains(levels, level) {
				wrong = append(wrong, errors.New(rule+"="+level))
			}
		}
		for _, rule := range o.disable {
			if !slices.Contains(retrylint.Categories(), rule) {
				wrong = append(wrong, errors.New("disable "+rule))
			}
		}
		if wrong != nil {
			t.Error(errors.Join(wrong...))
		}
		o.excluded(strings.Trim(text, "./"))
		o.fails([]record{{Severity: "error"}})
	})
}

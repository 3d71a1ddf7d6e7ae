package bench

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// peers are the packages whose names docs/adopting.md translates.
var peers = map[string]string{
	"retryablehttp":  "github.com/hashicorp/go-retryablehttp",
	"backoff":        "github.com/cenkalti/backoff/v7",
	"gobreaker":      "github.com/sony/gobreaker/v2",
	"failsafe":       "github.com/failsafe-go/failsafe-go",
	"retrypolicy":    "github.com/failsafe-go/failsafe-go/retrypolicy",
	"circuitbreaker": "github.com/failsafe-go/failsafe-go/circuitbreaker",
	"hedgepolicy":    "github.com/failsafe-go/failsafe-go/hedgepolicy",
	"failsafehttp":   "github.com/failsafe-go/failsafe-go/failsafehttp",
	"budget":         "github.com/failsafe-go/failsafe-go/budget",
}

// The names in the tables for those who move over exist, in the versions that are
// measured here, and so do ours.
func TestNamesOfPeers(t *testing.T) {
	page, err := os.ReadFile("../docs/adopting.md")
	if err != nil {
		t.Fatal(err)
	}
	required, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	api, err := os.ReadFile("../api.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(page), "\n## Moving from another library\n")
	part, _, _ = strings.Cut(part, "\n## ")
	for _, header := range regexp.MustCompile(`(?m)^\| (\S+) (v\S+) \| here`).FindAllStringSubmatch(part, -1) {
		if !regexp.MustCompile(`/` + header[1] + `(/v\d+)? ` + regexp.QuoteMeta(header[2]) + `\n|/go-` + header[1] + ` ` + regexp.QuoteMeta(header[2]) + `\n`).Match(required) {
			t.Errorf("go.mod has another version than %s %s", header[1], header[2])
		}
	}
	names := 0
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)\\.([\\w.]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(part, -1) {
		names++
		documented(t, peers[row[1]], row[2])
		for _, ours := range regexp.MustCompile("`\\*?([A-Z]\\w+(?:\\.[A-Z]\\w+)?)").FindAllStringSubmatch(row[3], -1) {
			_, member, ok := strings.Cut(ours[1], ".")
			if !ok {
				member = ours[1]
			}
			if !regexp.MustCompile(`\b` + member + `\b`).Match(api) {
				t.Errorf("%s: no such name here", ours[1])
			}
		}
	}
	if names < 40 {
		t.Errorf("found %d names", names)
	}
}

func documented(t *testing.T, path, name string) {
	t.Helper()
	if out, err := exec.Command("go", "doc", path+"."+name).CombinedOutput(); err != nil {
		t.Errorf("%s.%s: %s", path, name, out)
	}
}

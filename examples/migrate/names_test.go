package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The names in the pages' tables exist, in the versions that the programs are built
// with, and so do ours.
func TestNamesOfPeers(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(text)
	}
	var pages strings.Builder
	for _, p := range programs {
		pages.WriteString(read("../../docs/migrating/" + p.name + ".md"))
	}
	required, api := read("go.mod"), read("../../api.txt")
	header := regexp.MustCompile(`^\| (\S+) (v\S+) \| here`)
	row := regexp.MustCompile("^\\| (?:`(\\w+)\\.([\\w.]+)`)? ?\\| ([^|]*) \\|")
	ours := regexp.MustCompile("`\\*?([A-Z]\\w+(?:\\.[A-Z]\\w+)?)")
	module, names := "", make(map[string]bool)
	for line := range strings.SplitSeq(pages.String(), "\n") {
		if h := header.FindStringSubmatch(line); h != nil {
			found := regexp.MustCompile(`\t(\S+/(?:go-)?` + h[1] + `(?:/v\d+)?) ` + regexp.QuoteMeta(h[2]) + `\n`).FindStringSubmatch(required)
			require.NotNil(t, found, "go.mod has another version than %s %s", h[1], h[2])
			module = found[1]
		}
		r := row.FindStringSubmatch(line)
		if r == nil {
			continue
		}
		if r[1] != "" {
			path := module
			switch r[1] {
			case "retrypolicy", "circuitbreaker", "hedgepolicy", "failsafehttp", "budget":
				path += "/" + r[1]
			}
			names[path+"."+r[2]] = true
		}
		for _, name := range ours.FindAllStringSubmatch(r[3], -1) {
			_, member, ok := strings.Cut(name[1], ".")
			if !ok {
				member = name[1]
			}
			assert.Regexp(t, `\b`+member+`\b`, api, "no such name here")
		}
	}
	assert.Greater(t, len(names), 80)
	for name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("go", "doc", name).CombinedOutput()
			assert.NoError(t, err, "%s", out)
		})
	}
}

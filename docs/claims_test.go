// Package docs checks that the pages here say what is so.
package docs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// claim is a promise of the README or of the documentation of a package, with the test
// that fails if it is false, and with a change of the code that makes it false.
type claim struct {
	Promise string // in the words of the file; " … " stands for words left out
	Of      string // what it is a promise of: a heading or a symbol
	In      string // the file that makes it
	Test    string // a file and a function
	Break   []change
}

type change struct{ File, Old, New string }

type claims []struct {
	About  string
	Claims []claim
}

func readClaims(t *testing.T) (all claims) {
	t.Helper()
	text, err := os.ReadFile("claims.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &all))
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", path))
	require.NoError(t, err)
	return string(text)
}

// test returns the file and the name of the claim's test.
func (c claim) test() (file, name string) {
	file, name, _ = strings.Cut(c.Test, " ")
	return file, name
}

// Each promise stands where the table says, in these words; its test exists; and the
// change that breaks it can be made. Whether the test fails then is for
// TestClaims_Broken to see, which takes half an hour.
func TestClaims(t *testing.T) {
	seen := make(map[string]bool)
	for _, group := range readClaims(t) {
		for _, c := range group.Claims {
			assert.False(t, seen[c.Promise+c.Of], "%s: twice", c.Promise)
			seen[c.Promise+c.Of] = true
			said := plain(read(t, c.In))
			for words := range strings.SplitSeq(c.Promise, " … ") {
				_, after, ok := strings.Cut(said, plain(words))
				assert.True(t, ok, "%s does not say: %s", c.In, words)
				said = after
			}
			file, name := c.test()
			assert.Regexp(t, `(?m)^func `+name+`\(`, read(t, file), "%s", c.Promise)
			assert.NotEmpty(t, c.Break, c.Promise)
			for _, b := range c.Break {
				assert.NotEqual(t, b.Old, b.New)
				assert.Equal(t, 1, strings.Count(read(t, b.File), b.Old), "%s: in %s: %s", c.Promise, b.File, b.Old)
			}
		}
	}
	table := "<!-- claims -->\n" + readClaims(t).table() + "<!-- end -->"
	part := regexp.MustCompile(`(?s)<!-- claims -->.*?<!-- end -->`)
	page := read(t, "docs/claims.md")
	if os.Getenv("WRITE") != "" {
		page = part.ReplaceAllLiteralString(page, table)
		require.NoError(t, os.WriteFile("claims.md", []byte(page), 0o644))
	}
	assert.Equal(t, table, part.FindString(page), "the page is not claims.json: WRITE=1 go test ./docs")
}

// plain is a text without its markup, and on one line.
func plain(text string) string {
	text = regexp.MustCompile(`(?m)^\s*//|\s//\s|[*\[\]`+"`"+`]`).ReplaceAllString(text, " ")
	text = strings.Join(strings.Fields(text), " ")
	return regexp.MustCompile(` ([.,;:)])|(\() `).ReplaceAllString(text, "$1$2")
}

// table is the page's.
func (all claims) table() string {
	var b strings.Builder
	for _, group := range all {
		fmt.Fprintf(&b, "\n### %s\n\n| promise | of | test | broken by |\n| --- | --- | --- | --- |\n", group.About)
		for _, c := range group.Claims {
			file, name := c.test()
			var changes []string
			for _, b := range c.Break {
				changes = append(changes, fmt.Sprintf("%s: %s → %s", b.File, code(b.Old), code(b.New)))
			}
			promise := regexp.MustCompile(`\[(\*?[\w.]+)\]`).ReplaceAllString(c.Promise, "`$1`")
			fmt.Fprintf(&b, "| %s | [%s](../%s) | [%s](../%s) | %s |\n", strings.ReplaceAll(promise, "|", `\|`),
				c.Of, c.In, name, file, strings.Join(changes, "<br>"))
		}
	}
	return b.String() + "\n"
}

// code is Go in a cell of a table.
func code(source string) string {
	source = regexp.MustCompile(`\s*\n\s*`).ReplaceAllString(strings.TrimSpace(source), " ⏎ ")
	source = strings.ReplaceAll(strings.Join(strings.Fields(source), " "), "|", `\|`)
	switch {
	case source == "":
		return "nothing"
	case strings.Contains(source, "`"):
		return "`` " + source + " ``"
	}
	return "`" + source + "`"
}

// Each test fails when its promise is broken. The changes are made in copies, by the
// compiler's overlay: BREAK=1 go test ./docs -run TestClaims_Broken -timeout 2h -v
func TestClaims_Broken(t *testing.T) {
	if os.Getenv("BREAK") == "" {
		t.Skip("takes half an hour: BREAK=1")
	}
	for _, group := range readClaims(t) {
		for _, c := range group.Claims {
			t.Run(group.About+"/"+c.Promise, func(t *testing.T) {
				t.Parallel()
				broken(t, c)
			})
		}
	}
}

func broken(t *testing.T, c claim) {
	replaced := make(map[string]string) // files by the copies that stand for them
	for _, b := range c.Break {
		path, err := filepath.Abs(filepath.Join("..", b.File))
		require.NoError(t, err)
		source, err := os.ReadFile(path)
		if copied, ok := replaced[path]; ok { // a second change of it
			source, err = os.ReadFile(copied)
		} else {
			replaced[path] = filepath.Join(t.TempDir(), filepath.Base(path))
		}
		require.NoError(t, err)
		changed := strings.Replace(string(source), b.Old, b.New, 1)
		require.NoError(t, os.WriteFile(replaced[path], []byte(changed), 0o600))
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": replaced})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, text, 0o600))

	file, name := c.test()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=60s", "-run", "^"+name+"$", ".")
	cmd.Dir = filepath.Join("..", filepath.Dir(file))
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	switch {
	case err == nil:
		t.Errorf("%s: %s passes though the promise is broken:\n%s", c.Promise, c.Test, out)
	case !errors.As(err, &failed), !regexp.MustCompile(`(?m)^(--- FAIL: ` + name + `|panic: |fatal error: )`).Match(out):
		t.Errorf("%s: %s did not run: %v\n%s", c.Promise, c.Test, err, out)
	}
}

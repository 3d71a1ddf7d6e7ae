package statusz

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each label of retry.Outcome is explained on the page and in the docs: a new one must
// not leave an operator alone.
func TestEveryOutcomeIsExplained(t *testing.T) {
	source, err := os.ReadFile("../error.go")
	require.NoError(t, err)
	docs, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	_, list, _ := strings.Cut(string(source), "// Outcome returns a label")
	list, _, _ = strings.Cut(list, "func Outcome(")
	var labels []string
	for _, match := range regexp.MustCompile(`(?m)^//\t([a-z_]+(?:, [a-z_]+)*)(?:$|  )`).FindAllStringSubmatch(list, -1) {
		labels = append(labels, strings.Split(match[1], ", ")...)
	}
	require.Len(t, labels, len(meanings))
	for _, label := range labels {
		assert.NotEmpty(t, meanings[label], label)
		assert.Contains(t, string(docs), "`"+label+"`")
	}
}

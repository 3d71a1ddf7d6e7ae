package statusz

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each label of retry.Outcome is explained on the page and in the docs: a new one must
// not leave an operator alone.
func TestEveryOutcomeIsExplained(t *testing.T) {
	source, err := os.ReadFile("../error_outcome.go")
	require.NoError(t, err)
	docs, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^\toutcome\w+ += "(\w+)"$`).FindAllSubmatch(source, -1)
	require.Len(t, found, len(meanings))
	for _, match := range found {
		label := string(match[1])
		assert.NotEmpty(t, meanings[label], label)
		assert.Contains(t, string(docs), "`"+label+"`")
	}
}

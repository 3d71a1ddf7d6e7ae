package statusz

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A failure to connect is distinguished from one that the caller or a limit cut short.
func TestKindsOfFailures(t *testing.T) {
	dial := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://a.test/", Err: &net.OpError{Op: "dial", Err: err}}
	}
	for _, c := range []struct {
		want string
		err  error
	}{
		{"connect", dial(errors.New("refused"))}, {"connect", dial(os.ErrDeadlineExceeded)}, {"connect", &net.DNSError{Name: "a.test"}},
		{"canceled", dial(context.Canceled)}, {"timeout", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}},
		{"timeout", context.DeadlineExceeded}, {"error", &net.OpError{Op: "read", Err: errors.New("reset")}},
	} {
		assert.Equal(t, c.want, new(call).kindOf(c.err, time.Now()), c.err)
	}
}

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

package main

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The example shows what it says: without the fleet one process is held back,
// with it all are, and fewer calls go to a dead server.
func TestShow(t *testing.T) {
	for name, start := range map[string]func() (string, string, func(), error){"found": startRedis, "embedded": startEmbedded} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			require.NoError(t, show(t.Context(), &out, start))
			held := numbers(t, `= (\d+) of 20 processes held back`, out.String())
			assert.Equal(t, []int{1, 20}, held, out.String())
			sent := numbers(t, `= (\d+) calls sent to a dead server`, out.String())
			assert.Less(t, sent[1], sent[0], out.String())
		})
	}
}

func numbers(t *testing.T, pattern, text string) (found []int) {
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(match[1])
		require.NoError(t, err)
		found = append(found, n)
	}
	require.Len(t, found, 2, text)
	return found
}

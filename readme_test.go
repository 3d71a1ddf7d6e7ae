package retry_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func readme(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("README.md")
	require.NoError(t, err)
	return string(page)
}

// The README's table of defaults says what the code does: the values are seen at
// work, and not read from where they are written.
func TestReadme_Defaults(t *testing.T) {
	_, part, _ := strings.Cut(readme(t), "\n## Defaults")
	defaults := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\| ([^|]+) \\|").FindAllStringSubmatch(part, -1) {
		defaults[strings.ReplaceAll(row[1], "`", "")] = row[2]
	}
	plain := retry.Config{Jitter: retry.NoJitter}
	low, high := retry.Config{Rand: func() float64 { return 0 }}, retry.Config{Rand: func() float64 { return 1 - 1e-12 }}
	var statuses []string
	for _, code := range retry.DefaultRetryStatusCodes() {
		statuses = append(statuses, fmt.Sprint(code))
	}
	for name, want := range map[string]string{
		"MaxRetries": fmt.Sprint(retry.DefaultMaxRetries),
		"InitialDelay, Multiplier, MaxDelay": fmt.Sprintf("%v, %v, %v",
			plain.Delay(1), plain.Delay(2).Seconds()/plain.Delay(1).Seconds(), plain.Delay(1000)),
		"Jitter":           fmt.Sprintf("%.1f to %.1f times the delay", low.Delay(1).Seconds(), high.Delay(1).Seconds()),
		"MaxRetryAfter":    retry.DefaultMaxRetryAfter.String() + "; longer ends the call",
		"RetryStatusCodes": strings.Join(statuses, ", "),
		"Breaker":          breakerDefaults(t),
	} {
		assert.Equal(t, want, defaults[name], name)
	}
	for _, name := range []string{"AttemptTimeout", "MaxElapsed", "Budget"} {
		assert.Equal(t, "none", defaults[name], name)
	}
}

func breakerDefaults(t *testing.T) string {
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	failures := 0
	for ; breaker.State() == retry.StateClosed; failures++ {
		permit, err := breaker.Allow()
		require.NoError(t, err)
		permit.Done(errDown)
	}
	open := time.Until(breaker.Snapshot().OpenUntil).Round(time.Second)
	return fmt.Sprintf("none; that of `HostBreaker` or `NewCircuitBreaker` opens at %d failures in a row, for %v", failures, open)
}

// The README's complete example is the one that package documentation shows and
// the tests run.
func TestReadme_Example(t *testing.T) {
	_, program, ok := strings.Cut(readme(t), "```go\npackage main\n")
	require.True(t, ok)
	program, _, _ = strings.Cut(program, "\n```")
	_, program, ok = strings.Cut(program, "func main() {\n")
	require.True(t, ok)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	assert.Contains(t, string(source), "func Example() {\n"+program)
}

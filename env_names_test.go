package retry_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// HGNC_MAX_RETRYS=3 passed in silence, and the default stood. A variable that is
// nearly one of those that are read is an error that names the right one, and not
// what it holds.
func TestMisspelledVariables(t *testing.T) {
	config := func() error { _, err := retry.ConfigFromEnv("hgnc"); return err }
	over := func() error { _, err := retry.Config{MaxRetries: 3}.WithEnv("HGNC_"); return err }
	breaker := func() error { _, err := retry.BreakerConfig{}.WithEnv("HGNC"); return err }
	budget := func() error { _, err := retry.BudgetFromEnv("HGNC", 0.1, 1); return err }
	readers := []func() error{config, breaker, budget}
	for name, want := range map[string]string{
		"MAX_RETRYS": "MAX_RETRIES", "MAX_RETRY": "MAX_RETRIES", "MAX_RETIRES": "MAX_RETRIES", "MAXRETRIES": "MAX_RETRIES",
		"MAXRETRYS": "MAX_RETRIES", "MAX__RETRIES": "MAX_RETRIES", "_MAX_RETRIES": "MAX_RETRIES", "RETRIES_MAX": "MAX_RETRIES",
		"MAX-RETRIES": "MAX_RETRIES", "max_retries": "MAX_RETRIES", "Max_Retries": "MAX_RETRIES", "AMX_RETRIES": "MAX_RETRIES", "MAX_RE_TRIES": "MAX_RETRIES",
		"INTIAL_DELAY": "INITIAL_DELAY", "DELAY_INITIAL": "INITIAL_DELAY", "MAX_DEALY": "MAX_DELAY", "MAX_DELAYS": "MAX_DELAY",
		"MULTIPLYER": "MULTIPLIER", "MUTLIPLIER": "MULTIPLIER", "JITER": "JITTER", "MAX_ELAPSE": "MAX_ELAPSED",
		"ATTEMPT_TIME_OUT": "ATTEMPT_TIMEOUT", "ATEMPT_TIMEOUT": "ATTEMPT_TIMEOUT", "TIMEOUT_ATTEMPT": "ATTEMPT_TIMEOUT",
		"MAX_RETRIES_AFTER": "MAX_RETRY_AFTER", "RETRY_STATUS_CODE": "RETRY_STATUS_CODES", "RETRY_STATUSCODES": "RETRY_STATUS_CODES",
		"WAIT_WHEN_OPENED": "", "WAIT_WHEN_OPNE": "WAIT_WHEN_OPEN",
		"FAILURE_TRESHOLD": "FAILURE_THRESHOLD", "FAILURES_THRESHOLD": "FAILURE_THRESHOLD", "RECOVERY_TIMOUT": "RECOVERY_TIMEOUT",
		"SLOW_CALLS_RATE": "SLOW_CALL_RATE", "MIN_CALL": "MIN_CALLS", "WINDOWS": "WINDOW", "HALFOPEN_PROBES": "HALF_OPEN_PROBES",
		"BUDGET_RATIOS": "BUDGET_RATIO", "BUDGET_BRUST": "BUDGET_BURST", "BUGDET_RATIO": "BUDGET_RATIO",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HGNC_"+name, "SECRET")
			var found []string
			for _, read := range readers {
				if err := read(); err != nil {
					assert.ErrorIs(t, err, retry.ErrInvalidConfig)
					found = append(found, err.Error())
				}
			}
			if want == "" {
				assert.Empty(t, found)
				return
			}
			assert.Equal(t, []string{"retry: invalid: HGNC_" + name + " is not a known variable, want HGNC_" + want}, found, "by its own reader alone")
			assert.NotContains(t, strings.Join(found, ""), "SECRET")
		})
	}
	t.Setenv("HGNC_MAX_RETRYS", "3")
	t.Setenv("HGNC_MAX_RETRIES", "many")
	assert.ErrorContains(t, over(), "HGNC_MAX_RETRYS is not a known variable")
	assert.ErrorContains(t, over(), `HGNC_MAX_RETRIES is "many"`)
	t.Setenv("HGNC_MAX_RETRIES", "")
	t.Setenv("HGNC_MAX_RETRYS", " ")
	assert.NoError(t, over(), "blank is as good as unset")
}

// What a service names by itself, and what another reader of the same prefix or of a
// longer one reads, is left alone.
func TestOtherVariablesAreLeftAlone(t *testing.T) {
	for _, name := range []string{
		"API_KEY", "URL", "BASE_URL", "HOST", "PORT", "TIMEOUT", "TOKEN", "USER", "USERNAME", "PASSWORD", "NAMES", "GAME", "RATE", "DATE", "DELAY",
		"RETRIES", "LIMIT", "RATE_LIMIT", "MAX_ENTRIES", "MAX_SERIES", "MAX_CONNS", "MAX_SIZE", "MAX_CALLS", "MIN_DELAY", "PROXY_TIMEOUT", "READ_TIMEOUT",
		"FAILURE_DATE", "TWITTER", "GENES_MAX_RETRIES", "V2_MAX_DELAY", "BREAKER_NAME", "BREAKER_MIN_CALLS", "A_WINDOW", "MAX_RETRIES_PER_HOST", "_", "", "Ä_DELAY",
		"GENES_MAX_RETRYS", "BREAKER_FAILURE_TRESHOLD",
	} {
		t.Setenv("HGNC_"+name, "x")
	}
	for name, value := range map[string]string{
		"MAX_RETRIES": "3", "MAX_RETRY_AFTER": "1m", "RECOVERY_TIMEOUT": "5s", "MAX_RECOVERY_TIMEOUT": "1m", "RECOVERY_JITTER": "0.1", "MIN_CALLS": "7",
		"NAME": "hgnc", "BUDGET_RATIO": "0.5", "BUDGET_BURST": "3",
	} {
		t.Setenv("HGNC_"+name, value)
	}
	cfg, err := retry.ConfigFromEnv("HGNC")
	require.NoError(t, err)
	assert.Equal(t, 3, cfg.MaxRetries)
	breaker, err := retry.BreakerConfig{}.WithEnv("HGNC")
	require.NoError(t, err)
	assert.Equal(t, 7, breaker.MinCalls)
	budget, err := retry.BudgetFromEnv("hgnc_", 0.1, 1)
	require.NoError(t, err)
	assert.Equal(t, 3.0, budget.Balance())

	t.Setenv("MAX_RETRYS", "3") // without a prefix, all programs' variables would have it
	_, err = retry.ConfigFromEnv("")
	assert.NoError(t, err)
}

func TestBudgetFromEnv(t *testing.T) {
	b, err := retry.BudgetFromEnv("UNSET", 0.5, 2)
	require.NoError(t, err)
	assert.Equal(t, 2.0, b.Balance())
	t.Setenv("B_BUDGET_RATIO", "0.25")
	t.Setenv("B_BUDGET_BURST", "0")
	b, err = retry.BudgetFromEnv("b", 0.5, 2)
	require.NoError(t, err)
	b.Deposit()
	assert.Equal(t, 0.25, b.Balance())
	for name, c := range map[string]struct{ ratio, burst, want string }{
		"no number": {"some", "", `B_BUDGET_RATIO is "some", want a number`},
		"no whole":  {"", "1.5", `B_BUDGET_BURST is "1.5", want a whole number`},
		"negative":  {"-1", "", "B_BUDGET_RATIO is -1, want a finite number of 0 or more"},
		"NaN":       {"NaN", "", "B_BUDGET_RATIO is NaN, want a finite number of 0 or more"},
		"huge":      {"", "2000000000", "B_BUDGET_BURST is 2000000000, want 0 or more, and no more than a billion"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("B_BUDGET_RATIO", c.ratio)
			t.Setenv("B_BUDGET_BURST", c.burst)
			b, err := retry.BudgetFromEnv("B", 0.5, 2)
			assert.Nil(t, b)
			assert.EqualError(t, err, "retry: invalid: "+c.want)
		})
	}
	_, err = retry.BudgetFromEnv("UNSET", -1, 2)
	assert.ErrorContains(t, err, "BudgetFromEnv.ratio is -1")
}

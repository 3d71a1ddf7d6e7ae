package retry_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func TestConfigFromEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"NAME": "hgnc", "MAX_RETRIES": "7", "INITIAL_DELAY": "0.5", "MAX_DELAY": "2m", "MULTIPLIER": "1.5", "JITTER": "full",
		"MAX_ELAPSED": "90", "ATTEMPT_TIMEOUT": " 1.5s ", "MAX_RETRY_AFTER": "1h", "RETRY_STATUS_CODES": "429, 503", "WAIT_WHEN_OPEN": "true",
	} {
		t.Setenv("HGNC_"+name, value)
	}
	want := retry.Config{
		Name: "hgnc", MaxRetries: 7, InitialDelay: 500 * time.Millisecond, MaxDelay: 2 * time.Minute, Multiplier: 1.5,
		Jitter: retry.FullJitter, MaxElapsed: 90 * time.Second, AttemptTimeout: 1500 * time.Millisecond,
		MaxRetryAfter: time.Hour, RetryStatusCodes: []int{429, 503}, WaitWhenOpen: true,
	}
	for _, prefix := range []string{"HGNC", "HGNC_"} {
		got, err := retry.ConfigFromEnv(prefix)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	got, err := retry.ConfigFromEnv("NOBODY_SETS_THIS")
	assert.NoError(t, err)
	assert.True(t, reflect.DeepEqual(retry.Config{}, got))
}

func TestConfigFromEnvironmentForms(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        retry.Config
	}{
		{"MAX_RETRIES", "0", retry.Config{MaxRetries: retry.NoRetries}},
		{"MAX_RETRIES", "-1", retry.Config{MaxRetries: retry.NoRetries}},
		{"MAX_RETRIES", "Unlimited", retry.Config{MaxRetries: retry.Unlimited}},
		{"JITTER", "none", retry.Config{Jitter: retry.NoJitter}},
		{"JITTER", "Equal", retry.Config{Jitter: retry.EqualJitter}},
		{"JITTER", "0.7, 1.3", retry.Config{Jitter: retry.Jitter{Min: 0.7, Max: 1.3}}},
		{"MAX_ELAPSED", "1e3", retry.Config{MaxElapsed: 1000 * time.Second}},
		{"MAX_ELAPSED", "  ", retry.Config{}},
	} {
		t.Run(c.name+c.value, func(t *testing.T) {
			t.Setenv("X_"+c.name, c.value)
			got, err := retry.ConfigFromEnv("X")
			assert.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestConfigFromEnvironmentReportsEachVariable(t *testing.T) {
	bad := map[string]string{
		"MAX_RETRIES": "many", "INITIAL_DELAY": "soon", "MAX_DELAY": "NaN", "MULTIPLIER": "two", "JITTER": "some",
		"MAX_ELAPSED": "1e300", "RETRY_STATUS_CODES": "429,abc", "WAIT_WHEN_OPEN": "perhaps", "ATTEMPT_TIMEOUT": "-3s",
	}
	for name, value := range bad {
		t.Setenv("BAD_"+name, value)
	}
	got, err := retry.ConfigFromEnv("BAD")
	assert.Equal(t, retry.Config{}, got)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	for name, value := range bad {
		if name == "ATTEMPT_TIMEOUT" { // readable, but of no use
			assert.ErrorContains(t, err, "BAD_ATTEMPT_TIMEOUT is "+value)
		} else {
			assert.ErrorContains(t, err, "BAD_"+name+` is "`+value+`"`)
		}
	}
	t.Setenv("JIT_JITTER", "1,x")
	_, err = retry.ConfigFromEnv("JIT")
	assert.Error(t, err)
}

// MAX_DELAY=0 and the like gave the default silently: in a Config 0 is a field
// that was not set, in the environment it is what a person wrote.
func TestEnvironmentRefusesAZeroThatMeansSomethingElse(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"MAX_DELAY", "0", "more than 0"},
		{"MAX_DELAY", "0s", "1ns"},
		{"INITIAL_DELAY", "0", "1ns"},
		{"INITIAL_DELAY", "-1", "more than 0"},
		{"MULTIPLIER", "0", "at least 1"},
		{"MULTIPLIER", "0.5", "at least 1"},
		{"MULTIPLIER", "NaN", "at least 1"},
		{"JITTER", "0,0", "none"},
		{"JITTER", "2,1", "Min <= Max"},
		{"MAX_RETRY_AFTER", "0", "more than 0"},
		{"MAX_RETRIES", "-2", `0 or more, or "unlimited"`},
		{"MAX_ELAPSED", "-1s", "0 or more"},
		{"RETRY_STATUS_CODES", "99", "100 to 999"},
		{"WAIT_WHEN_OPEN", "yes", "true"},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			t.Setenv("X_"+c.name, c.value)
			_, err := retry.ConfigFromEnv("X")
			assert.ErrorIs(t, err, retry.ErrInvalidConfig)
			assert.ErrorContains(t, err, "X_"+c.name+" is ")
			assert.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "Config.")
		})
	}
	t.Setenv("Y_RETRY_STATUS_CODES", "none")
	cfg, err := retry.ConfigFromEnv("y")
	require.NoError(t, err)
	assert.Equal(t, []int{}, cfg.RetryStatusCodes)
	fn, calls := script(&retry.StatusError{StatusCode: 503})
	assert.Error(t, retry.Run(t.Context(), cfg, fn))
	assert.Equal(t, 1, *calls)
}

// What the environment sets is laid over what the code has, and what it does not
// set stays.
func TestWithEnv(t *testing.T) {
	t.Setenv("HGNC_MAX_RETRIES", "9")
	t.Setenv("HGNC_INITIAL_DELAY", "2s")
	code := retry.Config{Name: "hgnc", MaxRetries: 3, MaxDelay: time.Hour, Jitter: retry.FullJitter}
	for _, prefix := range []string{"HGNC", "hgnc", "Hgnc_"} {
		got, err := code.WithEnv(prefix)
		require.NoError(t, err)
		want := code
		want.MaxRetries, want.InitialDelay = 9, 2*time.Second
		assert.Equal(t, want, got)
	}
	t.Setenv("HGNC_MAX_DELAY", "500ms")
	got, err := code.WithEnv("HGNC")
	assert.ErrorContains(t, err, "HGNC_INITIAL_DELAY is 2s, want at most HGNC_MAX_DELAY, 500ms")
	assert.Equal(t, code, got, "as it was")
	t.Setenv("HGNC_INITIAL_DELAY", "")
	code.InitialDelay = time.Second
	_, err = code.WithEnv("HGNC")
	assert.ErrorContains(t, err, "Config.InitialDelay is 1s, want at most HGNC_MAX_DELAY, 500ms", "the code's own is named as such")
}

func TestBreakerConfigWithEnv(t *testing.T) {
	for name, value := range map[string]string{
		"NAME": "gnomad", "FAILURE_THRESHOLD": "-1", "FAILURE_RATE": "0.5", "SLOW_CALL_DURATION": "2s", "SLOW_CALL_RATE": "0.9",
		"WINDOW": "30", "MIN_CALLS": "7", "RECOVERY_TIMEOUT": "5s", "MAX_RECOVERY_TIMEOUT": "1m", "RECOVERY_JITTER": "0.2",
		"HALF_OPEN_PROBES": "2", "SUCCESS_THRESHOLD": "3", "PROBE_TIMEOUT": "10s", "OBSERVE_ONLY": "TRUE",
	} {
		t.Setenv("GNOMAD_"+name, value)
	}
	got, err := retry.BreakerConfig{Name: "code", MinCalls: 3}.WithEnv("gnomad")
	require.NoError(t, err)
	want := retry.BreakerConfig{
		Name: "gnomad", FailureThreshold: -1, FailureRate: 0.5, SlowCallDuration: 2 * time.Second, SlowCallRate: 0.9,
		Window: 30 * time.Second, MinCalls: 7, RecoveryTimeout: 5 * time.Second, MaxRecoveryTimeout: time.Minute,
		RecoveryJitter: 0.2, HalfOpenProbes: 2, SuccessThreshold: 3, ProbeTimeout: 10 * time.Second, ObserveOnly: true,
	}
	assert.True(t, reflect.DeepEqual(want, got), "%+v", got)

	code := retry.BreakerConfig{Name: "code", RecoveryTimeout: time.Second}
	got, err = code.WithEnv("NOBODY_SETS_THIS")
	require.NoError(t, err)
	assert.True(t, reflect.DeepEqual(code, got))
	for _, c := range []struct{ name, value, want string }{
		{"FAILURE_THRESHOLD", "0", "-1"}, {"FAILURE_RATE", "1.5", "(0, 1]"}, {"WINDOW", "0", "more than 0"}, {"MIN_CALLS", "0", "1 or more"},
		{"RECOVERY_TIMEOUT", "0", "more than 0"}, {"MAX_RECOVERY_TIMEOUT", "1ms", "RecoveryTimeout"}, {"HALF_OPEN_PROBES", "0", "1 or more"},
		{"SUCCESS_THRESHOLD", "x", "whole number"}, {"PROBE_TIMEOUT", "0", "more than 0"}, {"OBSERVE_ONLY", "1.5", "true"},
		{"SLOW_CALL_RATE", "0.5", "B_SLOW_CALL_DURATION is 0s, want a duration, to go with B_SLOW_CALL_RATE, 0.5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("B_"+c.name, c.value)
			got, err := code.WithEnv("B")
			assert.ErrorIs(t, err, retry.ErrInvalidConfig)
			assert.ErrorContains(t, err, c.want)
			if c.name != "SLOW_CALL_RATE" { // the other one is missing
				assert.ErrorContains(t, err, "B_"+c.name+" is ")
			}
			assert.True(t, reflect.DeepEqual(code, got))
		})
	}
}

// An error about two settings named the field of the one that the environment had
// not set, or had set to nonsense, and wanted a 0 that the environment refuses.
func TestEnvironmentErrorsNameVariables(t *testing.T) {
	config := func(prefix string) error { _, err := retry.ConfigFromEnv(prefix); return err }
	breaker := func(prefix string) error { _, err := retry.BreakerConfig{}.WithEnv(prefix); return err }
	over := func(prefix string) error {
		_, err := retry.Config{InitialDelay: 10 * time.Second}.WithEnv(prefix)
		return err
	}
	for name, c := range map[string]struct {
		read func(string) error
		vars map[string]string
		want string
	}{
		"beyond the default":   {config, map[string]string{"INITIAL_DELAY": "2m"}, `V_INITIAL_DELAY is 2m0s, want at most V_MAX_DELAY, 1m0s`},
		"below the default":    {breaker, map[string]string{"MAX_RECOVERY_TIMEOUT": "1s"}, `V_MAX_RECOVERY_TIMEOUT is 1s, want 0 for no growth, or at least V_RECOVERY_TIMEOUT, 1m0s`},
		"half a pair":          {breaker, map[string]string{"SLOW_CALL_DURATION": "1s"}, `V_SLOW_CALL_RATE is 0, want a share, to go with V_SLOW_CALL_DURATION, 1s`},
		"other half":           {breaker, map[string]string{"SLOW_CALL_RATE": "0.5"}, `V_SLOW_CALL_DURATION is 0s, want a duration, to go with V_SLOW_CALL_RATE, 0.5`},
		"nonsense in a pair":   {breaker, map[string]string{"SLOW_CALL_DURATION": "1s", "SLOW_CALL_RATE": "x"}, `V_SLOW_CALL_RATE is "x", want a number`},
		"nonsense over code":   {over, map[string]string{"INITIAL_DELAY": "x", "MAX_DELAY": "1s"}, `V_INITIAL_DELAY is "x", want a duration such as "1.5s", or seconds`},
		"0 is no way out":      {config, map[string]string{"MULTIPLIER": "0.5"}, `V_MULTIPLIER is 0.5, want a finite number of at least 1`},
		"0 is no default":      {breaker, map[string]string{"WINDOW": "1us"}, `V_WINDOW is 1µs, want 1ms to a year`},
		"0 retries are wanted": {config, map[string]string{"MAX_RETRIES": "-3"}, `V_MAX_RETRIES is "-3", want 0 or more, or "unlimited"`},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range c.vars {
				t.Setenv("V_"+variable, value)
			}
			assert.EqualError(t, c.read("v"), "retry: invalid: "+c.want)
		})
	}
}

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

// A jitter is two numbers, of which the first may be 0; a duration that is too long for
// one is none.
func TestEnvironmentNumbers(t *testing.T) {
	for _, c := range []struct {
		name, value string
		good        bool
	}{
		{"JITTER", "0,1", true}, {"JITTER", "a,1", false}, {"JITTER", "1,b", false}, {"JITTER", "a,b", false}, {"JITTER", "1", false}, {"JITTER", "0,0", false},
		{"MAX_ELAPSED", "9223372036.854774", true}, {"MAX_ELAPSED", "9223372036.8547758", false}, {"MAX_ELAPSED", "-9223372036.8547758", false},
	} {
		t.Setenv("X_"+c.name, c.value)
		_, err := retry.ConfigFromEnv("X")
		assert.Equal(t, c.good, err == nil, "%s=%s: %v", c.name, c.value, err)
		if !c.good {
			assert.ErrorContains(t, err, "X_"+c.name)
			assert.ErrorContains(t, err, "is \""+c.value+"\", want")
		}
		t.Setenv("X_"+c.name, "")
	}
}

// The statuses that an operator sets have no effect on a program that decides by RetryIf.
// That is said at start.
func TestWithEnv_StatusesBesideRetryIf(t *testing.T) {
	t.Setenv("X_RETRY_STATUS_CODES", "429,503")
	_, err := retry.Config{RetryIf: retry.Retryable}.WithEnv("X")
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	assert.ErrorContains(t, err, `X_RETRY_STATUS_CODES is "429,503", want it unset: the program decides by RetryIf`)
	_, err = retry.Config{}.WithEnv("X")
	assert.NoError(t, err)
}

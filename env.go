package retry

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/retryutils/retry/internal/valid"
)

// ConfigFromEnv reads a Config from environment variables: with the prefix
// "HGNC", from HGNC_MAX_RETRIES, HGNC_INITIAL_DELAY, HGNC_MAX_DELAY,
// HGNC_MULTIPLIER, HGNC_JITTER, HGNC_MAX_ELAPSED, HGNC_ATTEMPT_TIMEOUT,
// HGNC_MAX_RETRY_AFTER, HGNC_RETRY_STATUS_CODES, HGNC_WAIT_WHEN_OPEN and
// HGNC_NAME. The prefix is read in upper case.
//
// Durations are Go's ("1.5s", "2m") or plain seconds ("1.5"). MAX_RETRIES also
// takes "unlimited", and 0 there means no retries. JITTER is "0.8,1.2", "full",
// "equal" or "none"; RETRY_STATUS_CODES is "429,503", or "none". A variable that
// is unset or blank leaves its field at the default. A 0 is refused where it
// would mean a default in the Config. What cannot be read or used is reported for each
// variable and matches [ErrInvalidConfig], and so is a variable with the prefix whose
// name is nearly one of these, such as HGNC_MAX_RETRYS. Others with the prefix are
// left alone; those of [BreakerConfig.WithEnv] and [BudgetFromEnv] may share it.
func ConfigFromEnv(prefix string) (Config, error) {
	return Config{}.WithEnv(prefix)
}

// WithEnv returns c with the fields changed that the environment sets, in the
// variables of [ConfigFromEnv]; the other fields stay. With an error it returns c as
// it was.
func (c Config) WithEnv(prefix string) (Config, error) {
	return overlay(c, "Config", configVariables, (*Config).problems, process(), prefix)
}

func configVariables(changed *Config) []variable {
	return []variable{
		{"NAME", "Name", into(&changed.Name, parseText)},
		{"MAX_RETRIES", "MaxRetries", into(&changed.MaxRetries, parseRetries)},
		{"INITIAL_DELAY", "InitialDelay", into(&changed.InitialDelay, positive(parseDuration, `more than 0 ("1ns" for next to nothing)`))},
		{"MAX_DELAY", "MaxDelay", into(&changed.MaxDelay, positive(parseDuration, `more than 0 ("1ns" for next to nothing)`))},
		{"MULTIPLIER", "Multiplier", into(&changed.Multiplier, positive(parseFloat, "at least 1 (1 for waits that do not grow)"))},
		{"JITTER", "Jitter", into(&changed.Jitter, parseJitter)},
		{"MAX_ELAPSED", "MaxElapsed", into(&changed.MaxElapsed, parseDuration)},
		{"ATTEMPT_TIMEOUT", "AttemptTimeout", into(&changed.AttemptTimeout, parseDuration)},
		{"MAX_RETRY_AFTER", "MaxRetryAfter", into(&changed.MaxRetryAfter, positive(parseDuration, `more than 0 ("1ns" to wait for no server)`))},
		{"RETRY_STATUS_CODES", "RetryStatusCodes", into(&changed.RetryStatusCodes, refuse(parseStatusCodes, func([]int) bool { return changed.RetryIf != nil }, "it unset: the program decides by RetryIf"))},
		{"WAIT_WHEN_OPEN", "WaitWhenOpen", into(&changed.WaitWhenOpen, parseBool)},
	}
}

// WithEnv returns c with the fields changed that the environment sets: with the prefix
// "HGNC_BREAKER", from HGNC_BREAKER_NAME, …_FAILURE_THRESHOLD, …_FAILURE_RATE,
// …_SLOW_CALL_DURATION, …_SLOW_CALL_RATE, …_WINDOW, …_MIN_CALLS,
// …_RECOVERY_TIMEOUT, …_MAX_RECOVERY_TIMEOUT, …_RECOVERY_JITTER,
// …_HALF_OPEN_PROBES, …_SUCCESS_THRESHOLD, …_PROBE_TIMEOUT and …_OBSERVE_ONLY,
// in the forms of [ConfigFromEnv]. The other fields stay. With an error it returns c
// as it was.
func (c BreakerConfig) WithEnv(prefix string) (BreakerConfig, error) {
	return overlay(c, "BreakerConfig", breakerVariables, (*BreakerConfig).problems, process(), prefix)
}

func breakerVariables(changed *BreakerConfig) []variable {
	const count, duration = "1 or more", "more than 0"
	return []variable{
		{"NAME", "Name", into(&changed.Name, parseText)},
		{"FAILURE_THRESHOLD", "FailureThreshold", into(&changed.FailureThreshold, refuse(parseInt, func(n int) bool { return n == 0 }, "1 or more, or -1 to go by the rates alone"))},
		{"FAILURE_RATE", "FailureRate", into(&changed.FailureRate, parseFloat)},
		{"SLOW_CALL_DURATION", "SlowCallDuration", into(&changed.SlowCallDuration, parseDuration)},
		{"SLOW_CALL_RATE", "SlowCallRate", into(&changed.SlowCallRate, parseFloat)},
		{"WINDOW", "Window", into(&changed.Window, positive(parseDuration, duration))},
		{"MIN_CALLS", "MinCalls", into(&changed.MinCalls, positive(parseInt, count))},
		{"RECOVERY_TIMEOUT", "RecoveryTimeout", into(&changed.RecoveryTimeout, positive(parseDuration, duration))},
		{"MAX_RECOVERY_TIMEOUT", "MaxRecoveryTimeout", into(&changed.MaxRecoveryTimeout, parseDuration)},
		{"RECOVERY_JITTER", "RecoveryJitter", into(&changed.RecoveryJitter, parseFloat)},
		{"HALF_OPEN_PROBES", "HalfOpenProbes", into(&changed.HalfOpenProbes, positive(parseInt, count))},
		{"SUCCESS_THRESHOLD", "SuccessThreshold", into(&changed.SuccessThreshold, positive(parseInt, count))},
		{"PROBE_TIMEOUT", "ProbeTimeout", into(&changed.ProbeTimeout, positive(parseDuration, duration))},
		{"OBSERVE_ONLY", "ObserveOnly", into(&changed.ObserveOnly, parseBool)},
	}
}

// BudgetFromEnv is [NewBudget] with the values changed that the environment sets: with
// the prefix "HGNC", in HGNC_BUDGET_RATIO and HGNC_BUDGET_BURST.
func BudgetFromEnv(prefix string, ratio float64, burst int) (*Budget, error) {
	v, err := overlay(budgetValues{ratio, burst}, "BudgetFromEnv", budgetVariables, (*budgetValues).problems, process(), prefix)
	if err != nil {
		return nil, err
	}
	return NewBudget(v.ratio, v.burst)
}

func budgetVariables(changed *budgetValues) []variable {
	return []variable{
		{"BUDGET_RATIO", "ratio", into(&changed.ratio, parseFloat)},
		{"BUDGET_BURST", "burst", into(&changed.burst, parseInt)},
	}
}

// environment is what variables are read from.
type environment struct {
	getenv func(string) string
	all    []string // NAME=value each
}

func process() environment { return environment{os.Getenv, os.Environ()} }

// variable is read into a field.
type variable struct {
	name, field string
	parse       func(string) error
}

// overlay returns a struct with the fields changed that the environment sets, or, with an
// error, as it was. The error names what the user wrote, or has to write: a variable, or
// a field of kind that only the code has set.
func overlay[S any](code S, kind string, variables func(*S) []variable, problems func(*S) valid.Problems, env environment, prefix string) (S, error) {
	if prefix = strings.ToUpper(strings.TrimSuffix(prefix, "_")); prefix != "" {
		prefix += "_"
	}
	changed := code
	known := variables(&changed)
	var errs []error
	names, unread := make(map[string]string), make(map[string]bool) // by field
	for _, v := range known {
		name := prefix + v.name
		value := strings.TrimSpace(env.getenv(name))
		if names[v.field] = name; value == "" {
			if !reflect.ValueOf(code).FieldByName(v.field).IsZero() {
				delete(names, v.field)
			}
			continue
		}
		if err := v.parse(value); err != nil {
			unread[v.field] = true
			errs = append(errs, fmt.Errorf("%w: %s is %q, %w", ErrInvalidConfig, name, value, err))
		}
	}
	if prefix != "" { // else the variables of all other programs have it
		errs = append(errs, env.misspelled(prefix, known)...)
	}
	unusable := slices.DeleteFunc(problems(&changed), func(p valid.Problem) bool { return unread[p.Field] })
	for i := range unusable {
		unusable[i].Want = strings.TrimSuffix(unusable[i].Want, valid.OrDefault) // 0 is refused here
	}
	errs = append(errs, unusable.Join(ErrInvalidConfig, func(field string) string { return cmp.Or(names[field], kind+"."+field) }))
	if err := errors.Join(errs...); err != nil {
		return code, err
	}
	return changed, nil
}

// misspelled reports variables whose names are nearly one of those that are read.
// What they hold may be a secret of something else, and is not shown.
func (e environment) misspelled(prefix string, variables []variable) (errs []error) {
	own := namesOf(variables)
	known := slices.Concat(own, namesOf(configVariables(new(Config))), namesOf(breakerVariables(new(BreakerConfig))), namesOf(budgetVariables(new(budgetValues))))
	for _, entry := range slices.Sorted(slices.Values(e.all)) {
		name, value, _ := strings.Cut(entry, "=")
		rest, ok := strings.CutPrefix(strings.ToUpper(name), prefix)
		if !ok || strings.TrimSpace(value) == "" {
			continue
		}
		if slices.Contains(known, rest) && e.getenv(prefix+rest) != "" { // some systems ignore the case
			continue
		}
		if want := nearest(rest, known); slices.Contains(own, want) {
			errs = append(errs, fmt.Errorf("%w: %s is not a known variable, want %s", ErrInvalidConfig, name, prefix+want))
		}
	}
	return errs
}

func namesOf(variables []variable) (names []string) {
	for _, v := range variables {
		names = append(names, v.name)
	}
	return names
}

func into[T any](field *T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*field = v
		}
		return err
	}
}

// positive refuses 0, which in a field stands for a default, and less.
func positive[T int | float64 | time.Duration](parse func(string) (T, error), want string) func(string) (T, error) {
	return refuse(parse, func(v T) bool { return v <= 0 }, want)
}

func refuse[T any](parse func(string) (T, error), wrong func(T) bool, want string) func(string) (T, error) {
	return func(s string) (T, error) {
		v, err := parse(s)
		if err == nil && wrong(v) {
			err = errors.New("want " + want)
		}
		return v, err
	}
}

func parseText(s string) (string, error) { return s, nil }

var (
	parseInt   = wanting(strconv.Atoi, "a whole number")
	parseFloat = wanting(func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }, "a number")
	parseBool  = wanting(func(s string) (bool, error) { return strconv.ParseBool(strings.ToLower(s)) }, `"true" or "false"`)
)

// wanting has a parser say what it wants, and not what it is called.
func wanting[T any](parse func(string) (T, error), want string) func(string) (T, error) {
	return func(s string) (T, error) {
		v, err := parse(s)
		if err != nil {
			err = errors.New("want " + want)
		}
		return v, err
	}
}

func parseRetries(s string) (int, error) {
	n, err := strconv.Atoi(s)
	switch {
	case strings.EqualFold(s, "unlimited"):
		return Unlimited, nil
	case err != nil || n < NoRetries:
		return 0, errors.New(`want 0 or more, or "unlimited"`)
	case n == 0:
		return NoRetries, nil
	}
	return n, nil
}

func parseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	seconds, err := strconv.ParseFloat(s, 64)
	ns := seconds * float64(time.Second)
	if err != nil || math.IsNaN(ns) || math.Abs(ns) >= math.MaxInt64 {
		return 0, errors.New(`want a duration such as "1.5s", or seconds`)
	}
	return time.Duration(math.Round(ns)), nil
}

func parseJitter(s string) (Jitter, error) {
	switch strings.ToLower(s) {
	case "full":
		return FullJitter, nil
	case "equal":
		return EqualJitter, nil
	case "none":
		return NoJitter, nil
	}
	low, high, ok := strings.Cut(s, ",")
	from, err1 := parseFloat(strings.TrimSpace(low))
	to, err2 := parseFloat(strings.TrimSpace(high))
	if !ok || err1 != nil || err2 != nil {
		return Jitter{}, errors.New(`want two numbers such as "0.8,1.2", or "full", "equal" or "none"`)
	}
	if from == 0 && to == 0 {
		return Jitter{}, errors.New(`want a Max above 0, or "none" for exact waits`)
	}
	return Jitter{from, to}, nil
}

func parseStatusCodes(s string) ([]int, error) {
	codes := []int{}
	if strings.EqualFold(s, "none") {
		return codes, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		code, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return nil, errors.New(`want statuses such as "429,503", or "none"`)
		}
		codes = append(codes, code)
	}
	return codes, nil
}

// nearest returns which of the known names was probably meant: one with other
// underscores, with its words in another order or number, or with a slip in a word.
// It returns "" if it was none.
func nearest(name string, known []string) (found string) {
	for _, k := range known {
		if before, ok := strings.CutSuffix(name, "_"+k); ok && strings.Trim(before, "_") != "" {
			return "" // under a longer prefix, for something else
		}
		if found == "" && isNear(name, k) {
			found = k
		}
	}
	return found
}

// isNear reports whether a name differs so little from a known one that this is meant.
func isNear(name, known string) bool {
	words, want := wordsOf(name), wordsOf(known)
	joined, wanted := strings.Join(words, ""), strings.Join(want, "")
	if joined == wanted {
		return true
	}
	if len(words) == 0 || len(wanted) <= 4 { // NAME is near to much else
		return false
	}
	if len(words) != len(want) {
		return isNearWord(joined, wanted, 1)
	}
	if areNearInOrder(words, want) {
		return true
	}
	slices.Sort(words)
	slices.Sort(want)
	return areNearInOrder(words, want)
}

func areNearInOrder(words, want []string) bool {
	for i := range want {
		if !isNearWord(words[i], want[i], max(1, len(want[i])/4)) {
			return false
		}
	}
	return true
}

func wordsOf(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' || r == '.' })
}

// isNearWord reports whether a word has no more than so many slips. One in the first
// letter makes another word (RATE, DATE), unless it is only in another place.
func isNearWord(word, want string, limit int) bool {
	if singular(word) == singular(want) {
		return true
	}
	if word[0] != want[0] && !slices.Equal(slices.Sorted(strings.SplitSeq(word, "")), slices.Sorted(strings.SplitSeq(want, ""))) {
		return false
	}
	return distance(word, want) <= limit
}

func singular(word string) string {
	switch {
	case strings.HasSuffix(word, "IES"):
		return strings.TrimSuffix(word, "IES") + "Y"
	case strings.HasSuffix(word, "SES"):
		return strings.TrimSuffix(word, "ES")
	case strings.HasSuffix(word, "SS"), strings.HasSuffix(word, "US"):
		return word
	}
	return strings.TrimSuffix(word, "S")
}

// distance is how many letters have to be put in, left out, replaced, or swapped with
// their neighbour.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

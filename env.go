package retry

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// ConfigFromEnv reads a Config from environment variables: with the prefix
// "HGNC", from HGNC_MAX_RETRIES, HGNC_INITIAL_DELAY, HGNC_MAX_DELAY,
// HGNC_MULTIPLIER, HGNC_JITTER, HGNC_MAX_ELAPSED, HGNC_ATTEMPT_TIMEOUT,
// HGNC_MAX_RETRY_AFTER, HGNC_RETRY_STATUS_CODES, HGNC_WAIT_WHEN_OPEN and
// HGNC_NAME.
//
// Durations are Go's ("1.5s", "2m") or plain seconds ("1.5"). MAX_RETRIES also
// takes "unlimited", and 0 there means no retries. JITTER is "0.8,1.2", "full",
// "equal" or "none"; RETRY_STATUS_CODES is "429,503". A variable that is unset
// or blank leaves its field at the default. What cannot be read or used is
// reported for each variable and matches [ErrInvalidConfig].
func ConfigFromEnv(prefix string) (Config, error) {
	return configFrom(prefix, os.Getenv)
}

func configFrom(prefix string, getenv func(string) string) (Config, error) {
	if prefix = strings.TrimSuffix(prefix, "_"); prefix != "" {
		prefix += "_"
	}
	var c Config
	var errs []error
	for _, field := range []struct {
		name  string
		parse func(string) error
	}{
		{"NAME", into(&c.Name, func(s string) (string, error) { return s, nil })},
		{"MAX_RETRIES", into(&c.MaxRetries, parseRetries)},
		{"INITIAL_DELAY", into(&c.InitialDelay, parseDuration)},
		{"MAX_DELAY", into(&c.MaxDelay, parseDuration)},
		{"MULTIPLIER", into(&c.Multiplier, parseFloat)},
		{"JITTER", into(&c.Jitter, parseJitter)},
		{"MAX_ELAPSED", into(&c.MaxElapsed, parseDuration)},
		{"ATTEMPT_TIMEOUT", into(&c.AttemptTimeout, parseDuration)},
		{"MAX_RETRY_AFTER", into(&c.MaxRetryAfter, parseDuration)},
		{"RETRY_STATUS_CODES", into(&c.RetryStatusCodes, parseStatusCodes)},
		{"WAIT_WHEN_OPEN", into(&c.WaitWhenOpen, strconv.ParseBool)},
	} {
		value := strings.TrimSpace(getenv(prefix + field.name))
		if value == "" {
			continue
		}
		if err := field.parse(value); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s is %q: %w", ErrInvalidConfig, prefix+field.name, value, err))
		}
	}
	if err := errors.Join(append(errs, c.Validate())...); err != nil {
		return Config{}, err
	}
	return c, nil
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

func parseRetries(s string) (int, error) {
	if strings.EqualFold(s, "unlimited") {
		return Unlimited, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New(`want a whole number or "unlimited"`)
	}
	if n == 0 {
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

func parseFloat(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, errors.New("want a number")
	}
	return f, nil
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
	return Jitter{from, to}, nil
}

func parseStatusCodes(s string) ([]int, error) {
	var codes []int
	for part := range strings.SplitSeq(s, ",") {
		code, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return nil, errors.New(`want statuses such as "429,503"`)
		}
		codes = append(codes, code)
	}
	return codes, nil
}

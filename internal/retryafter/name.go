package retryafter

import (
	"slices"
	"strings"
	"time"
)

type kind int

const (
	other kind = iota
	retryAfter
	reset     // when a bucket is full again
	remaining // what is left in a bucket
	policy    // both, by keys and values
)

// field is a header field that may speak of a wait.
type field struct {
	name    string
	kind    kind
	bucket  string        // all words of the name but those of its kind and unit
	unit    time.Duration // of a plain number
	precise bool          // a distance or in milliseconds, where others give the second
	limit   bool          // the name speaks of a limit
	values  []string
}

// joined takes words apart that are written together, as in RateLimit-ResetTime and
// X-RateLimit-UserReset.
var joined = strings.NewReplacer("retry-after", "-retryafter-", "retry_after", "-retryafter-", "retryafter", "-retryafter-",
	"ratelimit", "-rate-limit-", "remaining", "-remaining-", "reset", "-reset-", "_", "-")

var kinds = map[string]kind{
	"retryafter": retryAfter,
	"reset":      reset, "next": reset,
	"remaining": remaining, "left": remaining,
}

// units are the words behind that say how the value is to be read. The form of the
// value says so by itself, but for milliseconds.
var units = map[string]time.Duration{
	"ms": time.Millisecond, "msec": time.Millisecond, "msecs": time.Millisecond, "millis": time.Millisecond,
	"millisecond": time.Millisecond, "milliseconds": time.Millisecond,
	"s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
	"after": time.Second, "in": time.Second, "at": time.Second, "on": time.Second, "time": time.Second, "date": time.Second,
	"datetime": time.Second, "timestamp": time.Second, "epoch": time.Second, "unix": time.Second, "utc": time.Second, "iso": time.Second,
}

// parts are what the names of all kinds have one of. Most of a response's fields have
// none, and need not be taken apart.
var parts = []string{"retry", "reset", "next", "remaining", "left", "limit", "quota", "throttl"}

func parseName(name string) field {
	f := field{unit: time.Second}
	name = strings.ToLower(name)
	if name == "x-amz-retry-after" { // the one that is in milliseconds and does not say so
		f.unit = time.Millisecond
	}
	if !slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(name, part) }) {
		return f
	}
	words := make([]string, 0, 8)
	for word := range strings.SplitSeq(joined.Replace(name), "-") {
		if word == "" {
			continue
		}
		if k := kinds[word]; k != other && f.kind == other {
			f.kind = k
			continue
		}
		if unit := units[word]; unit != 0 && f.kind != other {
			f.unit = min(f.unit, unit)
			f.precise = f.precise || f.kind == reset && (word == "after" || word == "in")
			continue
		}
		switch word {
		case "limit", "limits", "quota", "throttle", "throttling":
			f.limit = true
		}
		words = append(words, word)
	}
	if f.kind == other && f.limit {
		f.kind = policy
	}
	if f.kind != other {
		f.precise = f.precise || f.unit < time.Second
		f.bucket = strings.Join(words, " ")
	}
	return f
}

// list returns the values of all lines, of which each may be a list itself. The
// comma of a date separates nothing, and parameters are left out.
func (f field) list() (texts []string) {
	day := ""
	for _, line := range f.values {
		for text := range strings.SplitSeq(line, ",") {
			text, _, _ = strings.Cut(text, ";")
			if text = strings.Trim(text, " \t\"'"); isWeekday(text) {
				day = text + ", "
			} else if text != "" {
				texts = append(texts, day+text)
				day = ""
			}
		}
	}
	return texts
}

func isWeekday(s string) bool {
	return len("Mon") <= len(s) && len(s) <= len("Wednesday") && strings.Contains("Mon Tue Wed Thu Fri Sat Sun", s[:len("Mon")])
}

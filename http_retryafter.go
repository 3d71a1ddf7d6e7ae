package retry

import (
	"cmp"
	"math"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// ParseRetryAfter returns how long a response asks its client to wait, as of
// now, and whether it asks at all. A time that is past already is a wait of 0.
//
// In this order it goes by
//
//   - Retry-After-Ms, X-Ms-Retry-After-Ms and X-Amz-Retry-After, in milliseconds,
//   - Retry-After, in seconds, whole or decimal, or as an HTTP date in any of
//     its three formats (RFC 9110, sections 10.2.3 and 5.6.7); a number that can
//     only be a Unix time is taken as one,
//   - RateLimit, the IETF draft's list of policies with r=0,
//   - X-RateLimit-Reset, X-Rate-Limit-Reset and RateLimit-Reset, where their
//     Remaining is absent or 0: as seconds, as a Unix time in seconds or
//     milliseconds, to which a second is added for its resolution, with units
//     ("6m0s"), or as a date of HTTP or RFC 3339. A suffix names a bucket, as in
//     X-RateLimit-Reset-Tokens. X-RateLimit-Reset-After and its like, in seconds,
//     are more precise, and take the place of the Reset of their bucket.
//
// Dates and Unix times are measured from the response's own Date, where it has
// one, so that a clock that is off does no harm. The Age of a response that comes
// from a cache has passed already. Of several values the longest counts. What
// cannot be understood is ignored, and so are negative numbers; a number too large
// is the longest Duration.
func ParseRetryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	return serverWait(h, func() time.Time { return now })
}

// serverWait is ParseRetryAfter for those who look at the clock only if they
// must: most responses say nothing of a wait.
func serverWait(h http.Header, clock func() time.Time) (time.Duration, bool) {
	hints := collectHints(h)
	if hints.none() {
		return 0, false
	}
	now := clock()
	if hints.date != "" {
		if date, ok := parseDate(hints.date, now); ok {
			now = date.Add(min(hints.age, maxAge))
		}
	}
	best := longest{}
	for _, value := range hints.milliseconds {
		if d, ok := parseDecimal(strings.TrimSpace(value), time.Millisecond); ok {
			best.offer(hints.aged(d))
		}
	}
	if best.found {
		return best.d, true
	}
	for _, value := range hints.retryAfter {
		if d, ok := hints.parseRetryAfter(value, now); ok {
			best.offer(d)
		}
	}
	if best.found {
		return best.d, true
	}
	if hints.rateLimit != "" && !hints.cached {
		if d, ok := parseRateLimit(hints.rateLimit); ok {
			return d, true
		}
	}
	for _, quota := range hints.buckets {
		if d, ok := hints.parseQuota(quota, now); ok {
			best.offer(d)
		}
	}
	return best.d, best.found
}

// longest keeps the longest of the durations offered.
type longest struct {
	d     time.Duration
	found bool
}

func (l *longest) offer(d time.Duration) { l.d, l.found = max(l.d, d), true }

// rateHints are the headers that may speak of a wait. They are looked for in
// any spelling, because a header that was not read from the network need not
// have canonical names.
type rateHints struct {
	milliseconds, retryAfter []string
	date, rateLimit          string
	cached                   bool // answered by a cache
	age                      time.Duration
	buckets                  map[string]*quota
}

// quota is what the headers say of one bucket.
type quota struct {
	reset, after, remaining string
}

// none reports whether nothing speaks of a wait.
func (hints *rateHints) none() bool {
	return hints.milliseconds == nil && hints.retryAfter == nil && hints.rateLimit == "" && hints.buckets == nil
}

func collectHints(h http.Header) rateHints {
	var hints rateHints
	for name, values := range h {
		if len(values) == 0 {
			continue
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Retry-After-Ms", "X-Ms-Retry-After-Ms", "X-Amz-Retry-After":
			hints.milliseconds = append(hints.milliseconds, values...)
		case "Retry-After":
			hints.retryAfter = append(hints.retryAfter, values...)
		case "Date":
			hints.date = values[0]
		case "Age":
			hints.cached = true
			hints.age, _ = parseDecimal(strings.TrimSpace(values[0]), time.Second)
		case "Ratelimit":
			hints.rateLimit = strings.Join(values, ",")
		default:
			hints.addBucket(name, strings.TrimSpace(values[0]))
		}
	}
	return hints
}

// addBucket notes a header of the form X-RateLimit-Reset, -Reset-After or
// -Remaining, with or without a bucket's name behind.
func (hints *rateHints) addBucket(name, value string) {
	rest, ok := strings.CutPrefix(name, "X-Ratelimit-")
	if !ok {
		if rest, ok = strings.CutPrefix(name, "X-Rate-Limit-"); !ok {
			if rest, ok = strings.CutPrefix(name, "Ratelimit-"); !ok {
				return
			}
		}
	}
	family := strings.TrimSuffix(name, rest)
	if key, ok := strings.CutPrefix(rest, "Reset-After"); ok {
		hints.quota(family + key).after = value
	} else if key, ok := strings.CutPrefix(rest, "Reset"); ok {
		if key, ok := strings.CutSuffix(key, "-After"); ok {
			hints.quota(family + key).after = value
		} else {
			hints.quota(family + key).reset = value
		}
	} else if key, ok := strings.CutPrefix(rest, "Remaining"); ok {
		hints.quota(family + key).remaining = value
	}
}

func (hints *rateHints) quota(key string) *quota {
	b := hints.buckets[key]
	if b == nil {
		if hints.buckets == nil {
			hints.buckets = make(map[string]*quota)
		}
		b = new(quota)
		hints.buckets[key] = b
	}
	return b
}

// empty reports whether nothing is left of the quota, as far as is known.
func (b *quota) empty() bool {
	if b.remaining == "" {
		return true
	}
	n, ok := parseDecimal(strings.TrimPrefix(b.remaining, "-"), time.Second)
	return ok && (n == 0 || b.remaining[0] == '-')
}

// maxAge keeps a time from an absurd Age within the range of times.
const maxAge = 100 * 365 * 24 * time.Hour

// aged is what is left of a wait that a cache passed on.
func (hints *rateHints) aged(d time.Duration) time.Duration {
	if d == math.MaxInt64 {
		return d
	}
	return max(0, d-hints.age)
}

// Numbers in this range are Unix times of our century when they stand where a
// number of seconds should: as such they would be 30 years and more.
const (
	minEpoch = 1_000_000_000
	maxEpoch = 4_000_000_000
)

func (hints *rateHints) parseRetryAfter(value string, now time.Time) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	d, ok := parseDecimal(value, time.Second)
	if !ok {
		return until(value, now)
	}
	if seconds := int64(d / time.Second); minEpoch <= seconds && seconds < maxEpoch {
		return max(0, time.Unix(seconds, 0).Sub(now)), true
	}
	return hints.aged(d), true
}

// until is the time left until a date of HTTP.
func until(value string, now time.Time) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	at, ok := parseDate(value, now)
	if !ok {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}

func (hints *rateHints) parseQuota(b *quota, now time.Time) (time.Duration, bool) {
	if !b.empty() {
		return 0, false
	}
	if d, ok := parseDelta(b.after); ok {
		return hints.aged(d), true
	}
	return hints.parseReset(b.reset, now)
}

// parseDelta reads seconds, or a number with units.
func parseDelta(value string) (time.Duration, bool) {
	if d, ok := parseDecimal(value, time.Second); ok {
		return d, true
	}
	d, err := time.ParseDuration(value)
	return d, err == nil && d >= 0
}

func (hints *rateHints) parseReset(value string, now time.Time) (time.Duration, bool) {
	d, ok := parseDelta(value)
	if !ok {
		if at, err := time.Parse(time.RFC3339, value); err == nil {
			return max(0, at.Sub(now)), true
		}
		return until(value, now)
	}
	switch n := int64(d / time.Second); {
	case d == math.MaxInt64: // milliseconds since 1970 are more than a Duration holds
		ms, err := strconv.ParseInt(value, 10, 64)
		if err != nil || ms < minEpoch*1000 || ms >= maxEpoch*1000 {
			return d, true
		}
		return max(0, time.UnixMilli(ms).Sub(now)), true
	case n >= minEpoch:
		return max(0, time.Unix(n, 0).Sub(now)+time.Second), true
	}
	return hints.aged(d), true
}

// parseDecimal reads digits with or without a fraction, in the given unit, and
// rounds up to a nanosecond. Signs, exponents, NaN and the like are no numbers
// here. A number too large is the longest Duration.
func parseDecimal(value string, unit time.Duration) (time.Duration, bool) {
	whole, fraction, _ := strings.Cut(value, ".")
	if !digits(whole) || !digits(fraction) || whole == "" && fraction == "" {
		return 0, false
	}
	n, err := strconv.ParseInt(cmp.Or(whole, "0"), 10, 64)
	if err != nil || n > math.MaxInt64/int64(unit)-1 {
		return math.MaxInt64, true
	}
	part := 0.0
	if fraction != "" {
		part, _ = strconv.ParseFloat("0."+fraction, 64)
	}
	// Floats are off by less than a billionth here; that is no nanosecond more.
	return time.Duration(n)*unit + time.Duration(math.Ceil(part*float64(unit)-1e-6)), true
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// parseDate reads an HTTP date, and what servers send for one: a day without
// its leading zero, UTC or a numeric zone instead of GMT. Go would take any
// other zone's name for GMT too.
func parseDate(value string, now time.Time) (time.Time, bool) {
	value = strings.TrimSpace(value)
	at, err := http.ParseTime(value)
	for _, layout := range []string{"Mon, _2 Jan 2006 15:04:05 GMT", "Mon, _2 Jan 2006 15:04:05 UTC", "Mon, _2 Jan 2006 15:04:05 -0700"} {
		if err != nil {
			at, err = time.Parse(layout, value)
		}
	}
	if err != nil {
		return time.Time{}, false
	}
	if zone, offset := at.Zone(); offset == 0 && zone != "GMT" && zone != "UTC" && zone != "" {
		return time.Time{}, false
	}
	// Section 5.6.7: a two-digit year that seems to lie more than 50 years
	// ahead is the last one in the past with these digits.
	if _, isRFC850 := time.Parse(time.RFC850, value); isRFC850 == nil && at.After(now.AddDate(50, 0, 0)) {
		at = at.AddDate(-100, 0, 0)
	}
	return at, true
}

// parseRateLimit reads the RateLimit field of draft-ietf-httpapi-ratelimit-headers:
// a list of policies, each with the quota that remains (r) and the seconds until
// it is restored (t). A field that is malformed anywhere is ignored as a whole.
func parseRateLimit(field string) (time.Duration, bool) {
	best := longest{}
	for item := range strings.SplitSeq(field, ",") {
		parts := strings.Split(item, ";")
		if name := strings.TrimSpace(parts[0]); len(name) < 2 || name[0] != '"' || name[len(name)-1] != '"' {
			return 0, false
		}
		remaining, reset := int64(-1), int64(-1)
		for _, part := range parts[1:] {
			key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			if key != "r" && key != "t" {
				continue
			}
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 || !digits(value) {
				return 0, false
			}
			if key == "r" {
				remaining = n
			} else {
				reset = n
			}
		}
		if remaining < 0 {
			return 0, false
		}
		if remaining == 0 && reset >= 0 {
			best.offer(time.Duration(min(reset, math.MaxInt64/int64(time.Second))) * time.Second)
		}
	}
	return best.d, best.found
}

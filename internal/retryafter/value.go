package retryafter

import (
	"cmp"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// reader reads values that are waits.
type reader struct {
	now, local time.Time // as the server sees it, if it says so, and as the client does
	age        time.Duration
	cached     bool // answered by a cache
}

// wait reads a value by its form. A number, or a date of HTTP, is what RFC 9110 defines;
// the other forms are believed only as long as they are no years.
func (r *reader) wait(text string, f field) (time.Duration, bool) {
	if d, ok := decimal(text, f.unit); ok {
		if at, ok := r.unixTime(text, f); ok {
			return r.until(at, false)
		}
		return r.left(d), true
	}
	if at, strict, ok := parseDate(text, r.now); ok {
		return r.until(at, strict)
	}
	d, ok := parseDuration(text)
	return r.left(d), ok && d <= year
}

// left is what is left of a duration that a cache passed on.
func (r *reader) left(d time.Duration) time.Duration { return min(max(0, d-r.age), century) }

// until is the time left until a date: as the server sees it, so that a clock that is
// wrong does no harm, unless that would be years.
func (r *reader) until(at time.Time, strict bool) (time.Duration, bool) {
	d := at.Sub(r.now)
	if d > year {
		d = min(d, at.Sub(r.local))
	}
	return min(max(0, d), century), strict || d <= year
}

// unixTime returns the time that a number is, if it is one: seconds, milliseconds,
// microseconds or nanoseconds since 1970. As seconds from now it would be three
// years or more. That does not depend on the clock, which may be wrong, or a test's,
// which begins in 1984 or 2000. Only of a Retry-After, which is in seconds by its
// definition, a number below a thousand million is no time unless it is near now.
func (r *reader) unixTime(text string, f field) (time.Time, bool) {
	n, _ := strconv.ParseFloat(text, 64) // it is a decimal
	least, most := 1e8, 4.1e9            // 1973 and 2099
	if f.kind == retryAfter {
		least = max(least, min(1e9, float64(r.now.Add(-year).Unix())))
	}
	for scale := float64(time.Second / f.unit); scale <= 1e9; scale *= 1e3 {
		if seconds := n / scale; least <= seconds && seconds < most {
			at := time.UnixMicro(int64(math.Round(seconds * 1e6)))
			if f.kind != retryAfter && scale == 1 && !strings.Contains(text, ".") {
				at = at.Add(time.Second) // it was rounded down
			}
			return at, true
		}
	}
	return time.Time{}, false
}

// decimal reads digits with or without a fraction, in the given unit, and rounds up
// to a nanosecond. Signs, exponents, NaN and the like are no numbers here. A number
// too large is the longest Duration.
func decimal(text string, unit time.Duration) (time.Duration, bool) {
	whole, fraction, _ := strings.Cut(text, ".")
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

// Dates as servers send them where they should send one of HTTP's: a day without
// its leading zero, UTC or a numeric zone instead of GMT, a cookie's dashes, no day
// of the week, and what JavaScript makes of a Date.
var almostHTTP = []string{
	"Mon, _2 Jan 2006 15:04:05 GMT", "Mon, _2 Jan 2006 15:04:05 UTC", "Mon, _2 Jan 2006 15:04:05 -0700",
	"Mon, _2-Jan-2006 15:04:05 GMT", "_2 Jan 2006 15:04:05 GMT", "Mon Jan _2 15:04:05 UTC 2006", "Mon Jan _2 2006 15:04:05 GMT-0700",
}

// parseDate reads a date of HTTP, of RFC 3339, or nearly so, and reports whether it
// is one of HTTP by the letter. A zone's name other than GMT and UTC is not
// accepted: Go would take it for GMT.
func parseDate(text string, now time.Time) (at time.Time, strict, ok bool) {
	if len(text) < len("2006-01-02") || len(text) > 100 {
		return time.Time{}, false, false
	}
	if at, err := http.ParseTime(text); err == nil {
		// RFC 9110, section 5.6.7: a two-digit year that seems to lie more than 50
		// years ahead is the last one in the past with these digits.
		if _, rfc850 := time.Parse(time.RFC850, text); rfc850 == nil && at.After(now.AddDate(50, 0, 0)) {
			at = at.AddDate(-100, 0, 0)
		}
		return at, true, isUTC(at)
	}
	text, _, _ = strings.Cut(text, " (")
	for _, layout := range almostHTTP {
		if at, err := time.Parse(layout, text); err == nil {
			return at, false, isUTC(at)
		}
	}
	at, ok = parseISODate(text)
	return at, false, ok
}

func isUTC(at time.Time) bool {
	zone, offset := at.Zone()
	return offset != 0 || zone == "" || zone == "GMT" || zone == "UTC"
}

// parseISODate reads a date of RFC 3339, also without seconds, with a blank for the
// T, or without a zone, which is UTC then.
func parseISODate(text string) (time.Time, bool) {
	text, _, _ = strings.Cut(strings.ToUpper(text), " M=") // Go's own, of a time with a monotonic clock
	if len(text) < len("2006-01-02") {
		return time.Time{}, false
	}
	day, clock := text[:len("2006-01-02")], text[len("2006-01-02"):]
	if clock == "" {
		at, err := time.Parse(time.DateOnly, day)
		return at, err == nil
	}
	if clock[0] == 'T' || clock[0] == ' ' {
		clock = strings.ReplaceAll(clock[1:], " ", "")
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		for _, zone := range []string{"Z07:00", "Z0700", "UTC", "GMT", "-0700UTC", ""} {
			if at, err := time.Parse(time.DateOnly+"T"+layout+zone, day+"T"+clock); err == nil {
				return at, true
			}
		}
	}
	return time.Time{}, false
}

var (
	clockUnits = map[string]time.Duration{
		"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond,
		"ms": time.Millisecond, "msec": time.Millisecond, "millisecond": time.Millisecond, "milliseconds": time.Millisecond,
		"s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
		"m": time.Minute, "min": time.Minute, "mins": time.Minute, "minute": time.Minute, "minutes": time.Minute,
		"h": time.Hour, "hr": time.Hour, "hrs": time.Hour, "hour": time.Hour, "hours": time.Hour,
		"d": day, "day": day, "days": day,
	}
	isoDays  = map[string]time.Duration{"w": 7 * day, "d": day} // months and years have no length
	isoClock = map[string]time.Duration{"h": time.Hour, "m": time.Minute, "s": time.Second}
)

const day = 24 * time.Hour

// parseDuration reads a duration as Go writes it, and with days and words ("1d2h",
// "30 seconds"), one of ISO 8601 ("PT1M30S"), and one of .NET ("00:01:30").
func parseDuration(text string) (time.Duration, bool) {
	text = strings.ToLower(text)
	if iso, ok := strings.CutPrefix(text, "p"); ok {
		days, clock, hasClock := strings.Cut(iso, "t")
		d, ok := sum(days, isoDays)
		if !hasClock {
			return d, ok
		}
		t, okClock := sum(clock, isoClock)
		return d + t, okClock && (ok || days == "")
	}
	if hours, rest, ok := strings.Cut(text, ":"); ok {
		minutes, seconds, ok := strings.Cut(rest, ":")
		if days, after, ok := strings.Cut(hours, "."); ok {
			hours = days + "d" + after
		}
		d, valid := sum(hours+"h"+minutes+"m"+seconds+"s", clockUnits)
		return d, ok && valid
	}
	return sum(text, clockUnits)
}

// sum adds up numbers with units.
func sum(text string, units map[string]time.Duration) (total time.Duration, ok bool) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		end := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if end < 0 {
			return 0, false
		}
		number, rest := text[:end], strings.TrimSpace(text[end:])
		if end = strings.IndexFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) }); end < 0 {
			end = len(rest)
		}
		unit := units[rest[:end]]
		if unit == 0 {
			return 0, false
		}
		d, valid := decimal(number, unit)
		if !valid {
			return 0, false
		}
		total, text, ok = min(total+min(d, century), century), rest[end:], true
	}
	return total, ok
}

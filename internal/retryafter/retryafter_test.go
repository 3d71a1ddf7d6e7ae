package retryafter_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/retryafter"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) // 1795435200

const (
	none    = time.Duration(-1)
	century = 100 * 365 * 24 * time.Hour
)

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// at is a clock that stands still.
func at(now time.Time) func() time.Time { return func() time.Time { return now } }

// Most responses say nothing of a wait: neither is the clock read for them, nor their Date.
func TestParse_NothingToRead(t *testing.T) {
	clock := func() time.Time { panic("the clock was read") }
	_, ok := retryafter.Parse(headers("Date", "Sun, 06 Nov 1994 08:49:37 GMT", "Age", "3", "Content-Type", "text/plain"), clock, true)
	assert.False(t, ok)
}

func TestParse(t *testing.T) {
	in90s := noon.Add(90 * time.Second)
	for _, test := range []struct {
		name string
		h    http.Header
		want time.Duration
	}{
		{"nothing", headers(), none},
		{"seconds", headers("Retry-After", "120"), 2 * time.Minute},
		{"zero", headers("Retry-After", "0"), 0},
		{"decimals", headers("Retry-After", "2.5"), 2500 * time.Millisecond},
		{"trailing zero", headers("Retry-After", "40.0"), 40 * time.Second},
		{"many decimals, rounded up", headers("Retry-After", "0.0000000001"), 1},
		{"exact decimals", headers("Retry-After", "1.0232"), 1023200 * time.Microsecond},
		{"white space", headers("Retry-After", " 7 "), 7 * time.Second},
		{"blank line, then a value", headers("Retry-After", "", "Retry-After", "5"), 5 * time.Second},
		{"the longest of two", headers("Retry-After", "5", "Retry-After", "7"), 7 * time.Second},
		{"IMF-fixdate", headers("Retry-After", in90s.Format(http.TimeFormat)), 90 * time.Second},
		{"RFC 850", headers("Retry-After", in90s.Format("Monday, 02-Jan-06 15:04:05 GMT")), 90 * time.Second},
		{"asctime", headers("Retry-After", in90s.Format(time.ANSIC)), 90 * time.Second},
		{"one-digit day", headers("Retry-After", "Tue, 1 Dec 2026 12:00:00 GMT"), 8 * 24 * time.Hour},
		{"UTC", headers("Retry-After", "Mon, 23 Nov 2026 12:01:00 UTC"), time.Minute},
		{"numeric zone", headers("Retry-After", "Mon, 23 Nov 2026 12:01:00 +0000"), time.Minute},
		{"a zone that Go does not know", headers("Retry-After", "Mon, 23 Nov 2026 12:01:00 PST"), none},
		{"the same in RFC 850", headers("Retry-After", "Monday, 23-Nov-26 12:01:00 PST"), none},
		{"two-digit year of the last century", headers("Retry-After", "Sunday, 06-Nov-77 08:49:37 GMT"), 0},
		{"past date", headers("Retry-After", noon.Add(-time.Hour).Format(http.TimeFormat)), 0},
		{"skewed clock, shown by Date", headers("Retry-After", noon.Add(time.Hour+time.Minute).Format(http.TimeFormat), "Date", noon.Add(time.Hour).Format(http.TimeFormat)), time.Minute},
		{"negative", headers("Retry-After", "-5"), none},
		{"signed", headers("Retry-After", "+5"), none},
		{"word", headers("Retry-After", "abc"), none},
		{"Go duration", headers("Retry-After", "1m0s"), time.Minute},
		{"exponent", headers("Retry-After", "1e3"), none},
		{"NaN", headers("Retry-After", "NaN"), none},
		{"Inf", headers("Retry-After", "Inf"), none},
		{"point", headers("Retry-After", "."), none},
		{"hex", headers("Retry-After", "0x10"), none},
		{"too large for a Duration", headers("Retry-After", "99999999999"), century},
		{"just too large", headers("Retry-After", "9223372037"), century},
		{"25 digits", headers("Retry-After", "1234567890123456789012345"), century},
		{"Unix time by mistake", headers("Retry-After", "1795435260"), 60 * time.Second},
		{"milliseconds win, being more precise", headers("Retry-After", "2", "Retry-After-Ms", "1500"), 1500 * time.Millisecond},
		{"Azure's milliseconds", headers("X-Ms-Retry-After-Ms", "250"), 250 * time.Millisecond},
		{"not canonical", http.Header{"retry-after": {"5"}}, 5 * time.Second},

		{"reset as a Unix time", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1795435260"), 61 * time.Second},
		{"reset as a Unix time, no remaining", headers("X-RateLimit-Reset", "1795435260"), 61 * time.Second},
		{"reset in milliseconds", headers("X-RateLimit-Reset", "1795435260000"), 60 * time.Second},
		{"reset in the past", headers("X-RateLimit-Reset", "1495435260"), 0},
		{"reset as a delta", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "40"), 40 * time.Second},
		{"reset as a fraction", headers("X-RateLimit-Reset", "0.37"), 370 * time.Millisecond},
		{"reset with units", headers("X-RateLimit-Reset-Requests", "6m0s"), 6 * time.Minute},
		{"quota left", headers("X-RateLimit-Remaining", "3", "X-RateLimit-Reset", "40"), none},
		{"other spellings", headers("X-Rate-Limit-Remaining", "0", "X-Rate-Limit-Reset", "4"), 4 * time.Second},
		{"without X", headers("RateLimit-Remaining", "0", "RateLimit-Reset", "4"), 4 * time.Second},
		{"buckets: those that are empty", headers(
			"X-RateLimit-Remaining-Requests", "0", "X-RateLimit-Reset-Requests", "12ms",
			"X-RateLimit-Remaining-Tokens", "0", "X-RateLimit-Reset-Tokens", "1s",
			"X-RateLimit-Remaining-Images", "9", "X-RateLimit-Reset-Images", "1h"), time.Second},
		{"reset that is garbage", headers("X-RateLimit-Reset", "soon"), none},
		{"negative reset", headers("X-RateLimit-Reset", "-1s"), none},
		{"Retry-After wins over a reset", headers("Retry-After", "3", "X-RateLimit-Reset", "40"), 3 * time.Second},
		{"only a limit", headers("X-RateLimit-Limit", "3"), none},

		{"IETF field", headers("RateLimit", `"a";r=0;t=50, "b";r=9;t=900`), 50 * time.Second},
		{"IETF field, two empty", headers("RateLimit", `"a";r=0;t=50, "b";r=0;t=900`), 15 * time.Minute},
		{"IETF field, nothing empty", headers("RateLimit", `"a";r=1;t=50`), none},
		{"IETF field, malformed", headers("RateLimit", `"a";r=0;t=50, b;r=0;t=900`), none},
		{"IETF field, malformed number", headers("RateLimit", `"a";r=0;t=-50`), none},
		{"IETF field, no remaining", headers("RateLimit", `"a";t=50`), none},
		{"IETF field, from a cache", headers("RateLimit", `"a";r=0;t=50`, "Age", "10"), none},
		{"AWS's milliseconds", headers("X-Amz-Retry-After", "1500"), 1500 * time.Millisecond},
		{"AWS's milliseconds win as well", headers("X-Amz-Retry-After", "1500", "Retry-After", "2"), 1500 * time.Millisecond},
		{"blanks around milliseconds", headers("Retry-After-Ms", " 1500 "), 1500 * time.Millisecond},

		{"reset after", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset-After", "64.5"), 64500 * time.Millisecond},
		{"reset after, quota left", headers("X-RateLimit-Remaining", "4", "X-RateLimit-Reset-After", "3600"), none},
		{"reset after, of a bucket", headers("X-RateLimit-Remaining-Tokens", "0", "X-RateLimit-Reset-After-Tokens", "9", "X-RateLimit-Remaining", "1", "X-RateLimit-Reset-After", "99"), 9 * time.Second},
		{"reset after, behind the bucket", headers("X-RateLimit-Remaining-Tokens", "4", "X-RateLimit-Reset-Tokens-After", "9"), none},
		{"reset after, spelled differently", headers("RateLimit-Remaining", "4", "X-Rate-Limit-Reset-After", "9"), none},
		{"reset after, spelled differently, exhausted", headers("RateLimit-Remaining", "0", "X-Rate-Limit-Reset-After", "9"), 9 * time.Second},
		{"reset after is more precise than reset", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1795435260", "X-RateLimit-Reset-After", "59.5"), 59500 * time.Millisecond},
		{"reset after that is garbage", headers("X-RateLimit-Reset", "7", "X-RateLimit-Reset-After", "soon"), 7 * time.Second},
		{"overdrawn", headers("X-RateLimit-Remaining", "-1", "X-RateLimit-Reset", "7"), 7 * time.Second},
		{"remaining that is garbage", headers("X-RateLimit-Remaining", "few", "X-RateLimit-Reset", "7"), none},
		{"remaining alone", headers("X-RateLimit-Remaining", "0"), none},
		{"reset as a date", headers("RateLimit-Remaining", "0", "RateLimit-Reset", in90s.Format(http.TimeFormat)), 90 * time.Second},
		{"reset as a date, quota left", headers("RateLimit-Remaining", "1", "RateLimit-Reset", in90s.Format(http.TimeFormat)), none},
		{"reset as a date, past", headers("RateLimit-Reset", noon.Add(-time.Hour).Format(http.TimeFormat)), 0},
		{"reset as a date, skewed clock", headers("RateLimit-Reset", noon.Add(time.Hour+time.Minute).Format(http.TimeFormat), "Date", noon.Add(time.Hour).Format(http.TimeFormat)), time.Minute},
		{"reset as a date of RFC 3339", headers("X-RateLimit-Reset-Requests", in90s.Format(time.RFC3339)), 90 * time.Second},

		{"Age counts against seconds", headers("Retry-After", "120", "Age", "30"), 90 * time.Second},
		{"Age counts against milliseconds", headers("Retry-After-Ms", "120000", "Age", "30"), 90 * time.Second},
		{"Age counts against a date", headers("Retry-After", in90s.Format(http.TimeFormat), "Date", noon.Format(http.TimeFormat), "Age", "30"), time.Minute},
		{"Age does not count twice", headers("Retry-After", in90s.Format(http.TimeFormat), "Age", "30"), 90 * time.Second},
		{"Age counts against a reset", headers("X-RateLimit-Reset", "120", "Age", "30"), 90 * time.Second},
		{"older than its wait", headers("Retry-After", "120", "Age", "500"), 0},
		{"Age that is garbage", headers("Retry-After", "120", "Age", "old"), 2 * time.Minute},
		{"Age that is negative", headers("Retry-After", "120", "Age", "-5"), 2 * time.Minute},
		{"Age without bounds", headers("Retry-After", in90s.Format(http.TimeFormat), "Date", noon.Format(http.TimeFormat), "Age", "9999999999999999999"), 0},
		{"Retry-After wins over the IETF field", headers("RateLimit", `"a";r=0;t=50`, "Retry-After", "3"), 3 * time.Second},

		{"quoted", headers("Retry-After", `"30"`), 30 * time.Second},
		{"a list, made by a proxy", headers("Retry-After", "5, 7"), 7 * time.Second},
		{"a list of dates", headers("Retry-After", "Mon, 23 Nov 2026 12:00:10 GMT, Mon, 23 Nov 2026 12:00:20 GMT"), 20 * time.Second},
		{"a list, one of it garbage", headers("Retry-After", "soon, 7"), 7 * time.Second},
		{"with a parameter", headers("Retry-After", "7;comment=x"), 7 * time.Second},
		{"minus", headers("Retry-After", "-"), none},
		{"comma", headers("Retry-After", ","), none},
		{"two points", headers("Retry-After", "1.2.3"), none},
		{"digits of another script", headers("Retry-After", "٣٠"), none},

		{"ISO 8601", headers("Retry-After", "PT30S"), 30 * time.Second},
		{"ISO 8601, of several units", headers("Retry-After", "P1DT2H3M4.5S"), 26*time.Hour + 3*time.Minute + 4500*time.Millisecond},
		{"ISO 8601, small letters", headers("Retry-After", "pt1m"), time.Minute},
		{"ISO 8601, weeks", headers("Retry-After", "P2W"), 14 * 24 * time.Hour},
		{"ISO 8601, months", headers("Retry-After", "P1M"), none},
		{"ISO 8601, years", headers("Retry-After", "P1Y"), none},
		{"ISO 8601, empty", headers("Retry-After", "P"), none},
		{"ISO 8601, empty behind T", headers("Retry-After", "PT"), none},
		{"ISO 8601, units of the wrong half", headers("Retry-After", "P5S"), none},
		{"ISO 8601, negative", headers("Retry-After", "PT-5S"), none},
		{"ISO 8601, a century and more", headers("Retry-After", "PT1000000H"), none},
		{"ISO 8601, past all", headers("Retry-After", "P99999999999999999999D"), none},
		{"Go duration, fraction", headers("Retry-After", "1.5s"), 1500 * time.Millisecond},
		{"Go duration, milliseconds", headers("Retry-After", "250ms"), 250 * time.Millisecond},
		{"Go duration, microseconds", headers("Retry-After", "250µs"), 250 * time.Microsecond},
		{"Go duration, negative", headers("Retry-After", "-5s"), none},
		{"Go duration, years", headers("Retry-After", "99999h"), none},
		{"days", headers("Retry-After", "1d2h"), 26 * time.Hour},
		{"words", headers("Retry-After", "30 seconds"), 30 * time.Second},
		{"words of several units", headers("Retry-After", "1 hour 5 minutes"), 65 * time.Minute},
		{"unknown unit", headers("Retry-After", "5 fortnights"), none},
		{"unit alone", headers("Retry-After", "s"), none},
		{".NET", headers("Retry-After", "00:01:30"), 90 * time.Second},
		{".NET, days", headers("Retry-After", "1.02:00:00"), 26 * time.Hour},
		{".NET, fraction", headers("Retry-After", "00:00:01.2500000"), 1250 * time.Millisecond},
		{".NET, cut", headers("Retry-After", "00:01"), none},
		{".NET, colons alone", headers("Retry-After", "::"), none},

		{"RFC 3339", headers("Retry-After", "2026-11-23T12:01:30Z"), 90 * time.Second},
		{"RFC 3339, fraction", headers("Retry-After", "2026-11-23T12:01:30.250Z"), 90250 * time.Millisecond},
		{"RFC 3339, offset", headers("Retry-After", "2026-11-23T14:01:30+02:00"), 90 * time.Second},
		{"RFC 3339, no seconds", headers("Retry-After", "2026-11-23T12:05Z"), 5 * time.Minute},
		{"RFC 3339, no seconds, offset", headers("Retry-After", "2026-11-23T13:05+01:00"), 5 * time.Minute},
		{"RFC 3339, past", headers("Retry-After", "2026-11-23T11:59:59Z"), 0},
		{"RFC 3339, never", headers("Retry-After", "9999-12-31T23:59:59Z"), none},
		{"ISO 8601 time, short offset", headers("Retry-After", "2026-11-23T13:05:00+0100"), 5 * time.Minute},
		{"ISO 8601 time, no zone", headers("Retry-After", "2026-11-23T12:05:00"), 5 * time.Minute},
		{"Ruby's time", headers("Retry-After", "2026-11-23 12:05:00 UTC"), 5 * time.Minute},
		{"Go's time", headers("Retry-After", "2026-11-23 12:05:00.5 +0000 UTC m=+0.000012"), 5*time.Minute + 500*time.Millisecond},
		{"a day", headers("Retry-After", "2026-11-24"), 12 * time.Hour},
		{"no day", headers("Retry-After", "2026-11-31T12:00:00Z"), none},
		{"HTTP date, far", headers("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"), century},
		{"a cookie's date", headers("Retry-After", "Mon, 23-Nov-2026 12:01:30 GMT"), 90 * time.Second},
		{"no day of the week", headers("Retry-After", "23 Nov 2026 12:01:30 GMT"), 90 * time.Second},
		{"UnixDate", headers("Retry-After", "Mon Nov 23 12:01:30 UTC 2026"), 90 * time.Second},

		{"Unix milliseconds", headers("Retry-After", "1795435260000"), time.Minute},
		{"Unix microseconds", headers("Retry-After", "1795435260000000"), time.Minute},
		{"Unix nanoseconds", headers("Retry-After", "1795435260000000000"), time.Minute},
		{"Unix time with a fraction", headers("Retry-After", "1795435260.5"), 60500 * time.Millisecond},
		{"Unix time, past", headers("Retry-After", "1795435100"), 0},
		{"Unix time, years from now", headers("Retry-After", "3000000000"), none},
		{"Unix milliseconds, years from now", headers("Retry-After", "3000000000000"), none},
		{"a year", headers("Retry-After", "366d"), 366 * 24 * time.Hour},
		{"more than a year", headers("Retry-After", "366d1ms"), none},
		{"a year ahead of the server's clock", headers("Retry-After", "2027-11-23T12:00:00Z", "Date", "Sun, 22 Nov 2026 12:00:00 GMT"), 366 * 24 * time.Hour},
		{"a long comment", headers("Retry-After", "Mon Nov 23 2026 12:01:30 GMT+0000 ("+strings.Repeat("x", 64)+")"), 90 * time.Second},
		{"a comment too long", headers("Retry-After", "Mon Nov 23 2026 12:01:30 GMT+0000 ("+strings.Repeat("x", 65)+")"), none},
		{"no values", http.Header{"Date": nil, "Age": {}, "Retry-After": {"7"}}, 7 * time.Second},
		{"years in seconds", headers("Retry-After", "999999999"), 999999999 * time.Second},

		{"X-Retry-After", headers("X-Retry-After", "8"), 8 * time.Second},
		{"of a bucket", headers("X-RateLimit-Retry-After", "8"), 8 * time.Second},
		{"written together", headers("X-RateLimit-RetryAfter", "8"), 8 * time.Second},
		{"with a unit in the name", headers("X-Rate-Limit-Retry-After-Seconds", "8"), 8 * time.Second},
		{"with milliseconds in the name", headers("X-Rate-Limit-Retry-After-Milliseconds", "800"), 800 * time.Millisecond},
		{"Beta-", headers("Beta-Retry-After", "8"), 8 * time.Second},
		{"underscores", http.Header{"retry_after": {"8"}}, 8 * time.Second},
		{"milliseconds that are garbage", headers("Retry-After-Ms", "soon", "Retry-After", "2"), 2 * time.Second},
		{"a Unix time in milliseconds", headers("Retry-After-Ms", "1795435260000"), time.Minute},
		{"0 beside what is left", headers("Retry-After", "0", "RateLimit-Remaining", "19", "RateLimit-Reset", "40"), none},
		{"0 beside what is left, no reset", headers("Retry-After", "0", "X-RateLimit-Remaining", "19"), none},
		{"0 beside what is left, IETF", headers("Retry-After", "0", "RateLimit", `"a";r=5;t=50`), none},
		{"0 beside nothing left", headers("Retry-After", "0", "RateLimit-Remaining", "0"), 0},
		{"not a header of this kind", headers("X-Retry-Count", "5", "X-After", "9", "X-Password-Reset", "3", "X-Time-Left", "0"), none},

		{"reset of a month", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "2592000"), 30 * 24 * time.Hour},
		{"reset in microseconds", headers("X-RateLimit-Reset", "1795435260000000"), time.Minute},
		{"reset, the first number that is a time", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "100000000"), 0},
		{"reset, the last that is none", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "99999999"), 99999999 * time.Second},
		{"reset, the first again that is none", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "4100000000"), century},
		{"reset with a fraction is exact", headers("X-RateLimit-Reset", "1795435260.25"), 60250 * time.Millisecond},
		{"reset years ahead", headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "3000000000"), none},
		{"less than one left", headers("X-RateLimit-Remaining", "0.4", "X-RateLimit-Reset", "7"), 7 * time.Second},
		{"bucket before", headers("X-RateLimit-Requests-Remaining", "0", "X-RateLimit-Requests-Reset", "7", "X-RateLimit-Tokens-Remaining", "9", "X-RateLimit-Tokens-Reset", "70"), 7 * time.Second},
		{"bucket before and behind", headers("X-RateLimit-Remaining-Requests", "0", "X-RateLimit-Requests-Reset", "7"), 7 * time.Second},
		{"bucket of several words", headers("Acme-RateLimit-Input-Tokens-Remaining", "0", "Acme-RateLimit-Input-Tokens-Reset", "7", "Acme-RateLimit-Tokens-Remaining", "1", "Acme-RateLimit-Tokens-Reset", "70"), 7 * time.Second},
		{"the longest of two", headers("X-RateLimit-A-Remaining", "0", "X-RateLimit-A-Reset", "7", "X-RateLimit-B-Remaining", "0", "X-RateLimit-B-Reset", "9", "X-RateLimit-C-Remaining", "1", "X-RateLimit-C-Reset", "99"), 9 * time.Second},
		{"a bucket without a remaining beside one that is exhausted", headers("X-RateLimit-Remaining-A", "0", "X-RateLimit-Reset-A", "7", "X-RateLimit-Reset-B", "3600"), 7 * time.Second},
		{"the old fields and the IETF's: the longer", headers("RateLimit", `"a";r=0;t=50`, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "90"), 90 * time.Second},
		{"windows", headers("X-RateLimit-Remaining", "0, 14999", "X-RateLimit-Reset", "3, 1419704"), 3 * time.Second},
		{"windows, the second", headers("X-RateLimit-Remaining", "1, 0", "X-RateLimit-Reset", "3, 1419704"), 1419704 * time.Second},
		{"windows, both", headers("X-RateLimit-Remaining", "0, 0", "X-RateLimit-Reset", "3, 60"), time.Minute},
		{"windows, none", headers("X-RateLimit-Remaining", "1,14999", "X-RateLimit-Reset", "3,1419704"), none},
		{"windows in lines", headers("X-RateLimit-Remaining", "7", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "90", "X-RateLimit-Reset", "4"), 4 * time.Second},
		{"windows with parameters", headers("X-RateLimit-Remaining", "0;w=1, 5;w=60", "X-RateLimit-Reset", "1;w=1, 50;w=60"), time.Second},
		{"windows with one reset", headers("X-RateLimit-Remaining", "5, 0", "X-RateLimit-Reset", "3"), 3 * time.Second},
		{"windows of dates with long days", headers("X-RateLimit-Remaining", "0, 3", "X-RateLimit-Reset", "Wednesday, 25-Nov-26 12:00:00 GMT, Thursday, 26-Nov-26 12:00:00 GMT"), 48 * time.Hour},
		{"windows of dates", headers("X-RateLimit-Remaining", "0, 3", "X-RateLimit-Reset", "Mon, 23 Nov 2026 12:00:10 GMT, Mon, 23 Nov 2026 13:00:00 GMT"), 10 * time.Second},

		{"IETF, a name with a comma", headers("RateLimit", `"a,b;c=1";r=0;t=50`), 50 * time.Second},
		{"IETF, a name with a quote", headers("RateLimit", `"a\",";r=0;t=50`), 50 * time.Second},
		{"IETF, a name that is not closed", headers("RateLimit", `"a;r=0;t=50`), none},
		{"IETF, a quote for a name", headers("RateLimit", `"a";r=0;t=50,"`), none},
		{"IETF, a value without a key", headers("RateLimit", `"a";r=0;t=50;=1`), none},
		{"IETF, a partition key", headers("RateLimit", `"a";r=0;t=50;pk=:cHsdsRa894==:`), 50 * time.Second},
		{"IETF, a parameter without a value", headers("RateLimit", `"a";fast;r=0;t=50`), 50 * time.Second},
		{"IETF, an empty parameter", headers("RateLimit", `"a";;r=0;t=50`), none},
		{"IETF, two names", headers("RateLimit", `"a";"b";r=0;t=50`), none},
		{"IETF, an empty name", headers("RateLimit", `"";r=0;t=50`), 50 * time.Second},
		{"IETF, blanks", headers("RateLimit", ` "a" ; r=0 ; t=50 `), 50 * time.Second},
		{"IETF, lines", headers("RateLimit", `"a";r=3;t=50`, "RateLimit", `"b";r=0;t=9`), 9 * time.Second},
		{"IETF, no time", headers("RateLimit", `"a";r=0`), none},
		{"IETF, a trailing comma", headers("RateLimit", `"a";r=0;t=50,`), none},
		{"IETF, a decimal", headers("RateLimit", `"a";r=0;t=5.5`), none},
		{"IETF, a policy", headers("RateLimit-Policy", `"a";q=100;w=60`), none},
		{"IETF, an absurd time", headers("RateLimit", `"a";r=0;t=99999999999`), century},
		{"IETF, 7th draft", headers("RateLimit", "limit=5, remaining=0, reset=42"), 42 * time.Second},
		{"IETF, 7th draft, in another order", headers("RateLimit", "reset=42,remaining=0,limit=5"), 42 * time.Second},
		{"IETF, 7th draft, something left", headers("RateLimit", "limit=5, remaining=1, reset=42"), none},
		{"IETF, 7th draft, no remaining", headers("RateLimit", "limit=5, reset=42"), none},
		{"IETF, 7th draft, negative", headers("RateLimit", "limit=5, remaining=0, reset=-42"), none},
		{"IETF, under another name", headers("X-RateLimit", `"a";r=0;t=50`), 50 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := retryafter.Parse(test.h, at(noon), true)
			assert.Equal(t, test.want != none, ok)
			assert.Equal(t, max(0, test.want), got)
		})
	}
}

// A reset is named in many ways, all of which are of one bucket. They were taken for
// buckets of their own, of which nothing is known, so that a plain 403 with 1,980 requests
// left was a limit, and 40,000 ms were eleven hours.
func TestFormsOfAReset(t *testing.T) {
	in40s := noon.Add(40 * time.Second)
	for suffix, value := range map[string]string{
		"Reset": "40", "Reset-After": "40", "Reset-After-Seconds": "40", "Reset-In": "40", "Reset-Seconds": "40", "Reset-Sec": "40",
		"Reset-Ms": "40000", "Reset-After-Ms": "40000", "Reset-Milliseconds": "40000", "ResetMs": "40000", "ResetInMillis": "40000ms",
		"Reset-At": in40s.Format(time.RFC3339), "ResetAt": in40s.Format("2006-01-02 15:04:05"), "Reset-Date": in40s.Format(http.TimeFormat),
		"ResetTime": in40s.Format(http.TimeFormat), "Reset-Time": "1795435240000", "Reset-Timestamp": "1795435239", "Reset-Epoch": "1795435239",
		"Reset-Unix": "1795435239", "Reset-UTC": in40s.Format(time.RFC850), "Resets-At": "1795435239", "Next-Reset": "40", "Next": "PT40S",
		"Time-To-Reset": "00:00:40", "UserReset": "40", "Reset-Time-Ms": "1795435240000", "reset_at": in40s.Format(time.RFC3339Nano),
	} {
		for _, prefix := range []string{"X-RateLimit-", "RateLimit-", "X-Rate-Limit-", "Acme-Ratelimit-Day-"} {
			for _, left := range []string{"1980", "0"} {
				got, ok := retryafter.Parse(headers(prefix+"Limit", "2000", prefix+"Remaining", left, prefix+suffix, value), at(noon), true)
				assert.Equal(t, left == "0", ok, "%s%s with %s left", prefix, suffix, left)
				if ok {
					assert.Equal(t, 40*time.Second, got, "%s%s", prefix, suffix)
				}
			}
			_, ok := retryafter.Parse(headers(prefix+suffix, value), at(noon), false)
			assert.False(t, ok, "%s%s alone, and no refusal for a limit", prefix, suffix)
		}
	}
}

// A number that is a Unix time is one whatever the clock says: tests begin in 1984 or
// 2000, and clocks are wrong. In a bubble of testing/synctest a reset 40 s ahead was
// read as 262,968 hours.
func TestUnixTimesOnOtherClocks(t *testing.T) {
	for name, now := range map[string]time.Time{
		"synctest": time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), "clockwork": time.Date(1984, 4, 4, 0, 0, 0, 0, time.UTC),
		"of today": noon, "of the future": time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		ahead := func(scale int64) string { return fmt.Sprint((now.Unix() + 40) * scale) }
		for _, test := range []struct {
			h    http.Header
			want time.Duration
		}{
			{headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", ahead(1)), 41 * time.Second},
			{headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", ahead(1000)), 40 * time.Second},
			{headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset-Ms", ahead(1000)), 40 * time.Second},
			{headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", fmt.Sprint(now.Unix()-40)), 0},
			{headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "40"), 40 * time.Second},
			{headers("Retry-After", ahead(1)), 40 * time.Second},
			{headers("Retry-After", ahead(1000)), 40 * time.Second},
		} {
			got, ok := retryafter.Parse(test.h, at(now), true)
			assert.True(t, ok, "%s: %v", name, test.h)
			assert.Equal(t, test.want, got, "%s: %v", name, test.h)
		}
	}

	reset := headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1795435240")
	for _, now := range []time.Time{time.Unix(0, 0), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), noon.AddDate(-2, 0, 0)} {
		_, ok := retryafter.Parse(reset, at(now), true)
		assert.False(t, ok, "a clock that is years behind, at %v", now)
		dated := reset.Clone()
		dated.Set("Date", noon.Format(http.TimeFormat))
		got, _ := retryafter.Parse(dated, at(now), true)
		assert.Equal(t, 41*time.Second, got, "the same with a Date")
	}
	reset.Set("Date", "Thu, 01 Jan 1970 00:00:10 GMT")
	got, _ := retryafter.Parse(reset, at(noon), true)
	assert.Equal(t, 41*time.Second, got, "the server's Date is what is wrong")
}

// The server's own word is obeyed only where it is one, and a no wins.
func TestShouldRetry(t *testing.T) {
	for _, test := range []struct {
		h           http.Header
		again, said bool
	}{
		{headers(), false, false},
		{headers("X-Should-Retry", "true"), true, true},
		{headers("X-Should-Retry", "false"), false, true},
		{headers("Stripe-Should-Retry", " True "), true, true},
		{headers("Stripe-Should-Retry", "FALSE"), false, true},
		{headers("Should-Retry", "0"), false, true},
		{http.Header{"x-should-retry": {"true"}}, true, true},
		{headers("X-Should-Retry", "maybe"), false, false},
		{headers("X-Should-Retry", ""), false, false},
		{headers("X-Should-Retry", "true", "X-Should-Retry", "false"), false, true},
		{headers("X-Should-Retry", "true", "Stripe-Should-Retry", "false"), false, true},
		{headers("X-Should-Retry-Reason", "true"), false, false},
		{http.Header{"X-Should-Retry": nil}, false, false},
	} {
		again, said := retryafter.ShouldRetry(test.h)
		assert.Equal(t, test.again, again, "%v", test.h)
		assert.Equal(t, test.said, said, "%v", test.h)
	}
}

// A server may send a header of megabytes; it is not worth seconds to read.
func TestLargeHeader(t *testing.T) {
	h := headers("Retry-After", "5")
	for _, name := range []string{"X-RateLimit-Reset", "X-RateLimit-Remaining", "RateLimit"} {
		h.Add(name, strings.Repeat("Mon, 23 Nov,", 1<<20))
	}
	begin := time.Now()
	d, ok := retryafter.Parse(h, at(noon), true)
	assert.True(t, ok)
	assert.Equal(t, 5*time.Second, d)
	assert.Less(t, time.Since(begin), time.Second, "it was 10 s and more")
}

// 16 KiB of values are read, of the fields that speak of a wait: others take no part of it.
func TestBoundOfWhatIsRead(t *testing.T) {
	long := func(value string, size int) string { return strings.Repeat(" ", size-len(value)) + value }
	const most = 16 << 10
	for name, test := range map[string]struct {
		h    http.Header
		want time.Duration
	}{
		"as much":       {headers("Retry-After", long("5", most)), 5 * time.Second},
		"more":          {headers("Retry-After", long("5", most+1)), 0},
		"in two lines":  {headers("Retry-After", long("5", most/2), "Retry-After", long("5", most/2+1)), 0},
		"in two fields": {headers("Retry-After", long("5", most/2), "X-Retry-After", long("9", most/2+1)), 5 * time.Second},
		"of others":     {headers("Cookie", long("a=b", 2*most), "Retry-After", "5"), 5 * time.Second},
	} {
		d, _ := retryafter.Parse(test.h, at(noon), true)
		assert.Equal(t, test.want, d, name)
	}
}

// A date with a numeric zone is the same wherever the client is: Go gives it the name of
// the local zone where that has the same offset.
func TestNumericZonesAnywhere(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	for _, time.Local = range []*time.Location{time.UTC, time.FixedZone("CET", 60*60)} {
		for _, value := range []string{"Mon, 23 Nov 2026 13:01:30 +0100", "Mon, 23 Nov 2026 12:01:30 +0000"} {
			d, ok := retryafter.Parse(headers("Retry-After", value), at(noon), true)
			assert.True(t, ok, "%s in %v", value, time.Local)
			assert.Equal(t, 90*time.Second, d, "%s in %v", value, time.Local)
		}
	}
}

// Whatever a server sends: no panic, no negative wait, none of more than a century, and
// none without a word of it.
func FuzzParse(f *testing.F) {
	for _, value := range []string{"", "0", "2.5", "-5", "9223372037", "1e999", "NaN", "Mon, 23 Nov 2026 12:01:30 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
		"Monday, 23-Nov-26 12:01:30 GMT", "Mon Nov 23 12:01:30 2026", "1795435260", "1795435260000", "6m0s", `"a";r=0;t=50`, "limit=5, remaining=0, reset=42",
		"PT1M", "P1D", "00:01:30", "1.02:03:04", "2026-11-23T12:05Z", "0, 14999", "3;w=1", `"a,\";r=0`, "b=h;r=0;t=5,b=d;r=1;t=6"} {
		f.Add("Retry-After", value, "0", "1", int64(noon.Unix()))
		f.Add("X-RateLimit-Reset-Ms", value, "0", value, int64(0))
		f.Add("RateLimit", value, value, "", int64(1<<40))
	}
	f.Fuzz(func(t *testing.T, name, value, remaining, other string, now int64) {
		for _, h := range []http.Header{
			{name: {value}},
			{name: {value, other}, "X-Ratelimit-Remaining": {remaining}, "Date": {other}},
			{name: {value}, "Ratelimit-Remaining": {remaining}, "Ratelimit-Reset": {other}, "Age": {remaining}},
			{"Retry-After": {value}, "Date": {remaining}, "Age": {other}},
			{"X-Ratelimit-Remaining": {remaining}, "X-Ratelimit-Reset": {value}, "X-Ratelimit-Reset-After": {other}},
			{"Ratelimit": {value, other}},
		} {
			for _, limited := range []bool{true, false} {
				d, ok := retryafter.Parse(h, at(time.Unix(now, 0)), limited)
				if d < 0 || d > century || !ok && d != 0 {
					t.Errorf("%v: %v, %v", h, d, ok)
				}
				if again, _ := retryafter.Parse(h, at(time.Unix(now, 0)), limited); again != d {
					t.Errorf("%v: %v, then %v", h, d, again)
				}
			}
			if again, said := retryafter.ShouldRetry(h); again && !said {
				t.Errorf("%v: retried without a word of it", h)
			}
		}
	})
}

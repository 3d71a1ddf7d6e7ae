package retry_test

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestParseRetryAfter(t *testing.T) {
	const none = time.Duration(-1)
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
		{"skewed clock, told by Date", headers("Retry-After", noon.Add(time.Hour+time.Minute).Format(http.TimeFormat), "Date", noon.Add(time.Hour).Format(http.TimeFormat)), time.Minute},
		{"negative", headers("Retry-After", "-5"), none},
		{"signed", headers("Retry-After", "+5"), none},
		{"word", headers("Retry-After", "abc"), none},
		{"Go duration", headers("Retry-After", "1m0s"), none},
		{"exponent", headers("Retry-After", "1e3"), none},
		{"NaN", headers("Retry-After", "NaN"), none},
		{"Inf", headers("Retry-After", "Inf"), none},
		{"point", headers("Retry-After", "."), none},
		{"hex", headers("Retry-After", "0x10"), none},
		{"too large for a Duration", headers("Retry-After", "99999999999"), math.MaxInt64},
		{"just too large", headers("Retry-After", "9223372037"), math.MaxInt64},
		{"25 digits", headers("Retry-After", "1234567890123456789012345"), math.MaxInt64},
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
		{"reset after, of another family", headers("RateLimit-Remaining", "4", "X-Rate-Limit-Reset-After", "9"), 9 * time.Second},
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
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := retry.ParseRetryAfter(test.h, noon)
			assert.Equal(t, test.want != none, ok)
			assert.Equal(t, max(0, test.want), got)
		})
	}
}

// Whatever a server sends: no panic, no negative wait, no wait without a word of
// it.
func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "2.5", "-5", "9223372037", "1e999", "NaN", "Mon, 23 Nov 2026 12:01:30 GMT",
		"Monday, 23-Nov-26 12:01:30 GMT", "Mon Nov 23 12:01:30 2026", "1795435260", "1795435260000", "6m0s", `"a";r=0;t=50`} {
		f.Add(seed, "0", "")
		f.Add("", "0", seed)
	}
	f.Fuzz(func(t *testing.T, value, remaining, reset string) {
		for _, h := range []http.Header{
			headers("Retry-After", value), headers("Retry-After-Ms", value), headers("RateLimit", value),
			headers("X-RateLimit-Remaining", remaining, "X-RateLimit-Reset", reset, "Date", value),
			headers("X-RateLimit-Remaining", remaining, "X-RateLimit-Reset-After", reset, "Age", value),
			headers("X-Amz-Retry-After", reset, "Retry-After", value, "Age", remaining, "Date", reset),
		} {
			d, ok := retry.ParseRetryAfter(h, noon)
			if d < 0 || !ok && d != 0 {
				t.Errorf("%v: %v, %v", h, d, ok)
			}
		}
	})
}

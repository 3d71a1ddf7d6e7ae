package retry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry/internal/clock"
	"github.com/retryutils/retry/internal/redact"
	"github.com/retryutils/retry/internal/retryafter"
	"github.com/retryutils/retry/internal/valid"
)

// StatusError is a response whose status is an error. [CheckStatus] makes it of
// a response, and a [RetryableClient] returns it for a final status of 400 or
// above. It does not change once it has been returned.
type StatusError struct {
	StatusCode int
	Method     string
	URL        string // without user information and query values
	Header     http.Header
	Body       []byte        // its first 64 KiB
	RetryAfter time.Duration // what the server asked for, see ParseRetryAfter; 0 if nothing, or no wait

	hinted      bool // the server said when to come back, if only that it may be now
	said, again bool // it said explicitly whether to send the request again, and that it should
	atWork      bool // it is still busy with an earlier attempt, which had the same key
	harmless    bool // neither this attempt nor one before it was carried out, see MayHaveActed
}

// Error names the method, the URL and the status, and no secret.
func (e *StatusError) Error() string {
	if e == nil {
		return "<nil>"
	}
	text := strings.TrimSpace(fmt.Sprintf("%d %s", e.StatusCode, http.StatusText(e.StatusCode)))
	if where := strings.TrimSpace(e.Method + " " + redact.URL(e.URL)); where != "" {
		text = where + ": " + text
	}
	return text
}

// Format adds, for %+v, the beginning of the body to the text: up to 200 bytes,
// on one line.
func (e *StatusError) Format(f fmt.State, verb rune) {
	text := e.Error()
	switch {
	case verb != 'v' || e == nil:
	case f.Flag('#'):
		fmt.Fprintf(f, "&retry.StatusError{StatusCode:%d, Method:%q, URL:%q, RetryAfter:%d}", e.StatusCode, e.Method, redact.URL(e.URL), e.RetryAfter)
		return
	case f.Flag('+'):
		text += e.body()
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), text)
}

func (e *StatusError) body() string {
	if body := oneLine(e.Body, 200); body != "" {
		return ": " + body
	}
	return ""
}

// oneLine is the beginning of a text that need not be one, without what would
// break a line or steer a terminal.
func oneLine(text []byte, limit int) string {
	text = text[:min(len(text), limit)]
	printable := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) { // also half of a character, at the end
			return ' '
		}
		return r
	}, string(text))
	return strings.Join(strings.Fields(printable), " ")
}

var defaultStatusCodes = []int{
	http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// DefaultRetryStatusCodes returns what [Config.RetryStatusCodes] means by nil, for
// callers that append to it: 408, 425, 429, 500, 502, 503 and 504.
func DefaultRetryStatusCodes() []int { return slices.Clone(defaultStatusCodes) }

// retryable judges by the given status codes, nil for the default ones.
func (e *StatusError) retryable(codes []int) bool {
	if codes == nil {
		codes = defaultStatusCodes
	}
	switch code := e.StatusCode; {
	case e.said:
		return e.again
	case e.atWork:
		return true
	case slices.Contains(codes, code):
		return true
	case code == http.StatusForbidden, code == http.StatusRequestEntityTooLarge: // a limit, if they say for how long
		return (e.hinted || e.RetryAfter > 0) && slices.Contains(codes, http.StatusTooManyRequests)
	case code >= 500 && code < 600 && http.StatusText(code) == "": // not registered: as a 500 (RFC 9110, section 15)
		return slices.Contains(codes, http.StatusInternalServerError)
	}
	return false
}

// What follows a 429: its wait is read in internal/retryafter, pauses the gate and
// ends the call or not in decide.go, and whether the request is sent again in http_idempotent.go.

// refuses reports whether the server refuses its client for now, and not only this
// request.
func (e *StatusError) refuses() bool {
	return e.StatusCode == http.StatusTooManyRequests || e.StatusCode == http.StatusServiceUnavailable ||
		e.StatusCode == http.StatusForbidden && e.RetryAfter > 0
}

// drainBytes is how much is read of a body that is not wanted, and kept of an error's.
const drainBytes = 64 << 10

func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return resp.Header.Get("Location") != ""
	}
	return false
}

// CheckStatus returns a [*StatusError] for a response with a status of 400 or
// above, and nil for others: with it, a function that uses a plain *http.Client
// can be retried by [Do] according to the rules for statuses. It reads the
// beginning of an error's body and puts it back, so that resp.Body can still be
// read from the start. The caller must still close it.
func CheckStatus(resp *http.Response) error {
	if resp == nil {
		return invalid("CheckStatus: response is nil")
	}
	if resp.StatusCode < 400 {
		return nil
	}
	e := statusOf(resp)
	if resp.Body != nil && !valid.IsNil(resp.Body) {
		// What was read counts, even if the rest cannot be.
		e.Body, _ = io.ReadAll(io.LimitReader(resp.Body, drainBytes))
		resp.Body = &rereader{io.MultiReader(bytes.NewReader(e.Body), resp.Body), resp.Body}
	}
	return e
}

// rereader reads from one thing and closes another.
type rereader struct {
	io.Reader
	io.Closer
}

// statusOf describes a response by the request that it answers.
func statusOf(resp *http.Response) *StatusError {
	method, url := "", ""
	if req := resp.Request; req != nil {
		method = methodOf(req)
		if req.URL != nil {
			url = redact.ParsedURL(req.URL)
		}
	}
	e := newStatusError(resp, method, url, nil)
	e.Header = resp.Header.Clone() // the response is its caller's, who may change it
	return e
}

func methodOf(req *http.Request) string {
	if req.Method == "" {
		return http.MethodGet
	}
	return req.Method
}

// newStatusError describes a response without touching its body. It shares the header.
func newStatusError(resp *http.Response, method, url string, on clockwork.Clock) *StatusError {
	e := &StatusError{StatusCode: resp.StatusCode, Method: method, URL: url, Header: resp.Header}
	e.RetryAfter, e.hinted = retryafter.Parse(resp.Header, func() time.Time { return clock.Now(on) }, resp.StatusCode == http.StatusTooManyRequests)
	if resp.StatusCode >= 400 {
		e.again, e.said = retryafter.ShouldRetry(resp.Header)
	}
	return e
}

// ParseRetryAfter returns how long a response asks its client to wait, as of now,
// and whether it asks at all. A time that is past already is a wait of 0, and none
// is longer than a century.
//
// It goes by Retry-After first, in milliseconds where there is such a field
// (Retry-After-Ms, X-Ms-Retry-After-Ms, X-Amz-Retry-After), else in seconds, whole
// or decimal, or as an HTTP date (RFC 9110, section 10.2.3). What is neither is read
// as what servers send by mistake, as long as that is no years: a Unix time, a
// duration of Go or ISO 8601, a time of RFC 3339. Names with more words, such as
// X-RateLimit-Retry-After, count as well. A Retry-After of 0 beside a limit of which
// something is left asks for nothing.
//
// Without one it goes by the limits that are exhausted; the one that is restored last
// counts:
//
//   - RateLimit, the IETF draft's list of policies with r=0, also as its seventh
//     version and some services write it,
//   - X-RateLimit-Reset and its like, where the Remaining of the same bucket is 0 or
//     absent: as seconds, as a Unix time in seconds, to which one is added for its
//     resolution, or in milliseconds, as a duration or a date. The bucket's name may
//     stand before or behind, as in X-RateLimit-Reset-Tokens; -Reset-At, -Reset-Ms,
//     -ResetTime and such are other ways to write the same, of which -Reset-After and
//     milliseconds are taken first. Of several windows in one field each is paired
//     with its own Remaining.
//
// Dates and Unix times are measured from the response's own Date, where it has
// one, so that a clock that is off does no harm. The Age of a response that comes
// from a cache has passed already. Of several values the longest counts. What
// cannot be understood is ignored, and so are negative numbers.
//
// A [StatusError] has this wait in its RetryAfter, except that a reset without a
// Remaining counts for a 429 only: other statuses do not say that a limit was
// exceeded.
func ParseRetryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	return retryafter.Parse(h, func() time.Time { return now }, true)
}

package retry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// texts are all the ways in which this package tells of an error.
func texts(err error) string {
	given := &retry.Error{Attempts: 1, Reason: retry.ErrMaxRetries, Err: err}
	var log strings.Builder
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "given", given, "event", retry.Event{Err: err}, "rejection", (&retry.OpenError{Err: err}).Error())
	}
	encoded, _ := json.Marshal(map[string]any{"given": given, "event": retry.Event{Err: err}, "pause": &retry.PauseError{Err: err}})
	return log.String() + string(encoded) + fmt.Sprintf("%v %+v %q %s", given, given, given, &retry.PauseError{Err: err})
}

func parsed(raw string) error {
	_, err := url.Parse(raw)
	return err
}

// Only the URL of the outermost *url.Error was cleaned, and only if it was a valid
// one. Whatever a secret hides in, and however deep, it is in none of the texts.
func TestRedaction(t *testing.T) {
	get := func(raw string, err error) error { return &url.Error{Op: "Get", URL: raw, Err: err} }
	const sound = "https://user:SECRET@h.example/gene?sig=SECRET&SECRET#SECRET"
	for name, err := range map[string]error{
		"query":                    get(sound, errDown),
		"inner":                    get("https://h.example/", get(sound, errDown)),
		"wrapped":                  fmt.Errorf("token: %w", fmt.Errorf("fetch: %w", get(sound, errDown))),
		"flattened":                fmt.Errorf("token: %v", get(sound, errDown)),
		"flattened, quoted":        fmt.Errorf("token: %q", get(sound, errDown).Error()),
		"quoted twice":             fmt.Errorf("%q", fmt.Sprintf("%q", get(sound, errDown).Error())),
		"joined":                   errors.Join(errDown, get(sound, errDown), get("mailto:SECRET@h", errDown)),
		"a plain text":             errors.New("cannot reach " + sound + ", giving up"),
		"in brackets":              errors.New("cannot reach <" + sound + ">: down (" + sound + ")"),
		"two in one":               errors.New("https://a.example/,https://user:SECRET@b.example/"),
		"a URL in a query":         errors.New("https://a.example/?next=https://user:SECRET@b.example/?SECRET"),
		"relative":                 get("/gene?sig=SECRET", errDown),
		"without a scheme":         get("//user:SECRET@h/gene?sig=SECRET", errDown),
		"mailto":                   get("mailto:SECRET@h", errDown),
		"mailto, in a text":        errors.New(`cannot send to mailto:SECRET@h?subject=SECRET.`),
		"urn":                      get("urn:SECRET:x", errDown),
		"urn, in a text":           errors.New("unknown urn:uuid:SECRET"),
		"opaque":                   get("http:user:SECRET@h?sig=SECRET", errDown),
		"opaque, of any scheme":    get("magnet:?xt=SECRET", errDown),
		"not a URL: port":          parsed("http://user:SECRET/word@host/"),
		"the same, wrapped":        fmt.Errorf("%w: %w", retry.ErrInvalidConfig, parsed("http://user:SECRET/word@host/")),
		"the same, flattened":      fmt.Errorf("config: %v", parsed("http://user:SECRET/word@host/")),
		"the same, quoted":         fmt.Errorf("config: %q", parsed("http://user:SECRET/word@host/").Error()),
		"not a URL: escape":        parsed("http://h/%SECRET?sig=SECRET"),
		"not a URL: control":       parsed("http://h/\x7f?sig=SECRET"),
		"not a URL: brackets":      parsed("http://user:SECRET@[::1?token=SECRET"),
		"not a URL: no scheme":     parsed(":SECRET@h"),
		"not a URL: relative":      get("%zz?token=SECRET", errDown),
		"not a URL: spaces":        get("http://us er:SECRET WORD@h/?a=SECRET b SECRET", errDown),
		"Location":                 fmt.Errorf("failed to parse Location header %q: %v", "http://[::1?token=SECRET", parsed("http://[::1?token=SECRET")),
		"proxy":                    fmt.Errorf("invalid proxy address %q: %v", "user:SECRET@proxy:3128", parsed("user:SECRET@proxy:port")),
		"proxy with a scheme":      get("https://h.example/", fmt.Errorf("proxyconnect: %s refused", "http://user:SECRET@proxy:3128")),
		"Authorization":            errors.New("bad header Authorization: Bearer SECRET"),
		"Authorization in Go":      fmt.Errorf("sent %v", http.Header{"Authorization": {"Basic SECRET"}, "Proxy-Authorization": {"Digest username=\"SECRET\", response=\"SECRET\""}}),
		"Authorization in Go, %+q": fmt.Errorf("sent %+q", http.Header{"Authorization": {"SECRET"}}),
		"Authorization in JSON":    errors.New(`{"authorization":"Token SECRET"}`),
		"bearer":                   errors.New("rejected bearer SECRET"),
		"dsn":                      errors.New("dial postgres://user:SECRET@db:5432/genes?sslkey=SECRET: refused"),
		"status":                   &retry.StatusError{StatusCode: 404, Method: "GET", URL: sound, Header: http.Header{"Set-Cookie": {"SECRET"}}},
		"in an Error":              &retry.Error{Reason: get(sound, errDown), Err: get(sound, errDown)},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, err)
			got := texts(err)
			assert.NotContains(t, got, "SECRET")
			assert.NotContains(t, got, "{}")
		})
	}
}

// What is no secret stays as it is: a text nobody can read helps nobody.
func TestRedactionLeavesTheRest(t *testing.T) {
	for text, want := range map[string]string{
		"":     "",
		"down": "",
		"dial tcp 127.0.0.1:80: connect: refused":                               "",
		`Get "https://h.example:8443/a/@b/c%20d": EOF`:                          "",
		"dial tcp: lookup h.example on 10.0.0.1:53: no such host":               "",
		"http: server closed, https: too":                                       "",
		"mail to alice@example.com bounced":                                     "",
		"really? yes: 12:30":                                                    "",
		"Basic authentication failed, bearer token expired":                     "",
		`invalid header field value for "Authorization"`:                        "",
		"http://[::1]:8080/gene: refused":                                       "",
		"rpc error: code = Unavailable desc = closing":                          "",
		`Get "https://h.example/gene?key=SECRET&v=1": EOF`:                      `Get "https://h.example/gene?key=xxxxx&v=xxxxx": EOF`,
		"a https://user:SECRET@h.example/x, b":                                  "a https://xxxxx@h.example/x, b",
		`parse "http://user:SECRET/word@h/": invalid port ":SECRET" after host`: `parse "http:xxxxx": invalid port "xxxxx" after host`,
		"line 1\n\tline  2 ":                                                    "",
	} {
		if want == "" {
			want = text
		}
		assert.Equal(t, want, strings.TrimPrefix((&retry.Error{Err: errors.New(text)}).Error(), "retry: after 0 attempts: "))
		again := (&retry.Error{Err: errors.New(want)}).Error()
		assert.Equal(t, "retry: after 0 attempts: "+want, again, "once is enough")
	}
}

// The base transport of a client fetches a token, as oauth2's does, and its error
// brings the URL of that.
func TestRedactionOfABaseTransportsError(t *testing.T) {
	inner := &url.Error{Op: "Post", URL: "https://user:SECRET@id.example/token?secret=SECRET", Err: io.ErrUnexpectedEOF}
	for name, err := range map[string]error{"itself": inner, "wrapped": fmt.Errorf("token: %w", inner), "flattened": fmt.Errorf("token: %v (%w)", inner, io.EOF)} {
		t.Run(name, func(t *testing.T) {
			log, logger := newLog()
			cfg, tr := track(soon)
			cfg.Logger = logger
			base := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, err })}
			_, got := outcomeClient(t, base, cfg).Get(t.Context(), "http://gene.example/?sig=SECRET")
			require.Error(t, got)
			var found *url.Error
			require.ErrorAs(t, got, &found)
			assert.NotContains(t, log.String()+fmt.Sprintf("%v %+v %v", got, got, found), "SECRET")
			require.NotEmpty(t, tr.errs)
			for _, seen := range append(tr.errs, tr.last().Err) {
				assert.NotContains(t, fmt.Sprintf("%v", seen), "SECRET")
				var found *url.Error
				if errors.As(seen, &found) {
					assert.NotContains(t, found.Error(), "SECRET")
				}
			}
			if name != "flattened" {
				assert.ErrorIs(t, got, io.ErrUnexpectedEOF)
			}
		})
	}
	for _, raw := range []string{"http://user:SECRET/word@host/", "http://h/%SECRET", "http://user:SECRET@[::1/"} {
		_, err := outcomeClient(t, nil, soon).Get(t.Context(), raw)
		require.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.NotContains(t, err.Error(), "SECRET")
		var found *url.Error
		require.ErrorAs(t, err, &found)
		assert.NotContains(t, found.Error(), "SECRET")
	}
}

// A failure in JSON was {}, and in slog's every field of it.
func TestErrorsAndEventsInLogsAndJSON(t *testing.T) {
	failure := &url.Error{Op: "Get", URL: "https://h.example/?sig=SECRET", Err: errDown}
	encoded, err := json.Marshal(map[string]any{
		"error":  &retry.Error{Attempts: 2, Reason: retry.ErrMaxRetries, Err: failure},
		"status": &retry.StatusError{StatusCode: 503, Method: "GET", URL: "https://h.example/", Header: http.Header{"A": {"b"}}, Body: []byte("body")},
		"event":  retry.Event{Name: "hgnc", Attempt: 2, Delay: time.Second, Elapsed: time.Minute, Why: retry.WaitBackoff, Err: failure},
		"done":   &retry.Event{},
		"nil":    []any{(*retry.Error)(nil), (*retry.StatusError)(nil)},
	})
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"error": "retry: no retries left after 2 attempts: Get \"https://h.example/?sig=xxxxx\": down",
		"status": "GET https://h.example/: 503 Service Unavailable",
		"event": {"Name":"hgnc","Host":"","Attempt":2,"Delay":1000000000,"Elapsed":60000000000,"Why":"backoff","Err":"Get \"https://h.example/?sig=xxxxx\": down"},
		"done": {"Name":"","Host":"","Attempt":0,"Delay":0,"Elapsed":0,"Why":"","Err":null},
		"nil": [null, null]
	}`, string(encoded))

	log, logger := newLog()
	logger.Info("x", "status", &retry.StatusError{StatusCode: 503, Body: []byte("body")}, "none", (*retry.Error)(nil),
		"event", retry.Event{Name: "hgnc", Attempt: 2, Delay: time.Second, Why: retry.WaitBackoff, Err: failure})
	assert.Contains(t, log.String(), `status="503 Service Unavailable" none=<nil> event.attempt=2 event.name=hgnc event.delay=1s event.elapsed=0s event.why=backoff event.error="Get \"https://h.example/?sig=xxxxx\": down"`)
}

// FuzzRedaction puts a secret wherever a URL has a place for one, and its error
// through whatever people do with errors.
func FuzzRedaction(f *testing.F) {
	f.Add("https", "h.example", "a/b", "key", uint16(0), uint8(0))
	f.Add("http", "[::1]:80", "%zz", "", uint16(0xffff), uint8(3))
	f.Add("mailto", "h", "", "a=b", uint16(9), uint8(5))
	f.Fuzz(func(t *testing.T, scheme, host, path, key string, places uint16, form uint8) {
		const secret = "S3CR3Tt0ken"
		for _, part := range []string{scheme, host, path, key} {
			if strings.ContainsAny(part, " \t\r\n\v\f\"\\?#@&=/:") && form%4 >= 2 { // a flattened text shows no bounds
				return
			}
		}
		at := func(i int, text string) string {
			if places&(1<<i) == 0 {
				return ""
			}
			return text
		}
		raw := scheme + "://" + at(0, "user:"+secret+"@") + host + "/" + path + "?" + key + "=" + at(1, secret) + at(2, "&"+secret) + at(3, "#"+secret)
		var err error = &url.Error{Op: "Get", URL: raw, Err: errDown}
		switch form % 4 {
		case 1:
			err = fmt.Errorf("outer: %w", errors.Join(errDown, err))
		case 2:
			err = fmt.Errorf("outer: %v", err)
		case 3:
			err = fmt.Errorf("outer: %q", err.Error())
		}
		given := &retry.Error{Reason: retry.ErrMaxRetries, Err: err}
		if text := given.Error(); strings.Contains(text, secret) {
			t.Errorf("%q of %q shows the secret", text, raw)
		}
	})
}

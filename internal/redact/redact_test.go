package redact_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry/internal/redact"
)

var errDown = errors.New("down")

func parseError(raw string) error {
	_, err := url.Parse(raw)
	return err
}

// Whatever a secret stands in, and however deep, the text does not contain it: not
// only the URL of an outermost, valid *url.Error.
func TestError(t *testing.T) {
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
		"a URL in a path":          get("https://a.example/web/https://user:SECRET@b.example/x", errDown), // as that of an archive
		"a name in a path":         get("https://a.example/web/https://SECRET@b.example", errDown),
		"escaped, in a path":       get("https://a.example/web/https:%2f%2fSECRET@b.example/x", errDown),
		"two in a path":            get("https://a.example/http://b/http://SECRET@c/http://SECRET@d/", errDown),
		"a slash in a password":    get("https://a.example/https://user:SECRET/SECRET@b.example/x", errDown),
		"a query in a path":        get("https://a.example/web/https:%2f%2fb.example%2f%3ftoken=SECRET", errDown),
		"all escaped, in a path":   get("https://a.example/web/https%3A%2F%2FSECRET%40b.example", errDown),
		"no host, in a path":       get("https://a.example/https://://SECRET@b.example", errDown),
		"a path in a scheme":       get("h:/ps://SECRET@b.example/gene", errDown),
		"relative":                 get("/gene?sig=SECRET", errDown),
		"relative, no name":        errors.New("moved to /gene?SECRET#page=2"), // what stands before the = is no name
		"relative, with a scheme":  get("/https://SECRET@h/gene", errDown),
		"not a scheme":             get("ht/tps://SECRET@h/gene", errDown),
		"without a scheme":         get("//user:SECRET@h/gene?sig=SECRET", errDown),
		"mailto":                   get("mailto:SECRET@h", errDown),
		"mailto, in a text":        errors.New(`cannot send to mailto:SECRET@h?subject=SECRET.`),
		"urn":                      get("urn:SECRET:x", errDown),
		"urn, in a text":           errors.New("unknown urn:uuid:SECRET"),
		"opaque":                   get("http:user:SECRET@h?sig=SECRET", errDown),
		"opaque, of any scheme":    get("magnet:?xt=SECRET", errDown),
		"not a URL: port":          parseError("http://user:SECRET/word@host/"),
		"the same, wrapped":        fmt.Errorf("%w: %w", errDown, parseError("http://user:SECRET/word@host/")),
		"the same, flattened":      fmt.Errorf("config: %v", parseError("http://user:SECRET/word@host/")),
		"the same, quoted":         fmt.Errorf("config: %q", parseError("http://user:SECRET/word@host/").Error()),
		"not a URL: escape":        parseError("http://h/%SECRET?sig=SECRET"),
		"not a URL: control":       parseError("http://h/\x7f?sig=SECRET"),
		"not a URL: brackets":      parseError("http://user:SECRET@[::1?token=SECRET"),
		"not a URL: no scheme":     parseError(":SECRET@h"),
		"not a URL: relative":      get("%zz?token=SECRET", errDown),
		"not a URL: spaces":        get("http://us er:SECRET WORD@h/?a=SECRET b SECRET", errDown),
		"Location":                 fmt.Errorf("failed to parse Location header %q: %v", "http://[::1?token=SECRET", parseError("http://[::1?token=SECRET")),
		"proxy":                    fmt.Errorf("invalid proxy address %q: %v", "user:SECRET@proxy:3128", parseError("user:SECRET@proxy:port")),
		"proxy with a scheme":      get("https://h.example/", fmt.Errorf("proxyconnect: %s refused", "http://user:SECRET@proxy:3128")),
		"Authorization":            errors.New("bad header Authorization: Bearer SECRET"),
		"Authorization in Go":      fmt.Errorf("sent %v", http.Header{"Authorization": {"Basic SECRET"}, "Proxy-Authorization": {"Digest username=\"SECRET\", response=\"SECRET\""}}),
		"Authorization in Go, %+q": fmt.Errorf("sent %+q", http.Header{"Authorization": {"SECRET"}}),
		"Authorization in JSON":    errors.New(`{"authorization":"Token SECRET"}`),
		"Authorization alone":      errors.New("Authorization: Basic SECRET"),
		"Authorization and =":      errors.New("authorization=SECRET"),
		"the same, later":          errors.New("sent authorization=SECRET"),
		"bearer":                   errors.New("rejected bearer SECRET"),
		"bearer alone":             errors.New("Bearer SECRET"),
		"bearer, two blanks":       errors.New("rejected bearer  SECRET"),
		"basic":                    errors.New("rejected Basic SECRET"),                         // no mark of a secret but the word
		"bearer in JSON":           errors.New(`rejected {"user":"me","auth":"Bearer SECRET"}`), // "auth":"Bearer was taken for the word before
		"bearer behind a name":     errors.New(`rejected X-Auth:Bearer SECRET, auth=Bearer SECRET, header="Bearer SECRET" and <Bearer SECRET>`),
		"bearer, as code":          errors.New("rejected `Bearer SECRET`"),
		"fragment of a path":       errors.New("redirected to /cb#access_token=SECRET and //host/cb#id_token=SECRET"),
		"all the words":            errors.New("no authorization, neither bearer SECRET nor basic SECRET"),
		"not a URL, wrapped":       fmt.Errorf("fetch: %w", get("http://us er:SECRET WORD@h/?a=SECRET b SECRET", errDown)),
		"after a blank":            errors.New("\tsent  bearer SECRET"),
		"a query without a path":   errors.New("no such gene?sig=SECRET"),
		"a query without a name":   errors.New("no such /gene?SECRET"),
		"no scheme before ://":     errors.New("cannot reach ://user:SECRET@h"),
		"beside a nil pointer":     fmt.Errorf("%w, %w", (*url.Error)(nil), get("http://us er:SECRET WORD@h/?a=SECRET b SECRET", errDown)),
		"before a nil pointer":     fmt.Errorf("%w, %w", get("http://us er:SECRET WORD@h/?a=SECRET b SECRET", errDown), (*url.Error)(nil)),
		"dsn":                      errors.New("dial postgres://user:SECRET@db:5432/genes?sslkey=SECRET: refused"),
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, err)
			assert.NotContains(t, redact.Error(err), "SECRET")
			wrapped := redact.Wrap(err)
			assert.NotContains(t, fmt.Sprintf("%v %+v %q", wrapped, wrapped, wrapped), "SECRET")
			assert.Equal(t, redact.Error(err), redact.Error(wrapped), "once is enough")
			var found *url.Error
			if errors.As(wrapped, &found) && found != nil {
				assert.NotContains(t, found.Error(), "SECRET")
			}
		})
	}
}

// What is no secret stays: a text that cannot be read helps no reader.
func TestErrorKeepsTheRest(t *testing.T) {
	for text, want := range map[string]string{
		"":     "",
		"down": "",
		"dial tcp 127.0.0.1:80: connect: refused":                               "",
		`Get "https://h.example:8443/a/@b/c%20d": EOF`:                          "",
		"dial tcp: lookup h.example on 10.0.0.1:53: no such host":               "",
		"see docs/pace.md#line and item#a=b, C#":                                "",
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
		"\tline 1:\n\n\tline 2":                                                 "",
		"sent map[Authorization:[] Accept:[text/html]]":                         "",
		"dial http://[::1]: refused":                                            "",
		`rejected bearer "SECRET"`:                                              `rejected bearer "xxxxx"`,
		"at ://user:SECRET@h.example/x":                                         "at xxxxx@h.example/x",
		"at https://a.example,b://%zz":                                          "at https:xxxxx", // by way of https://a.example,b:xxxxx, which has a wrong port
		`parse: invalid port "" after host`:                                     `parse: invalid port "xxxxx" after host`,
	} {
		if want == "" {
			want = text
		}
		assert.Equal(t, want, redact.Error(errors.New(text)))
		assert.Equal(t, want, redact.Error(errors.New(want)), "once is enough")
	}
}

func TestWrapKeepsWhatHasNoSecret(t *testing.T) {
	assert.NoError(t, redact.Wrap(nil))
	assert.Empty(t, redact.Error(nil))
	assert.Same(t, errDown, redact.Wrap(errDown))
	inner := &url.Error{Op: "Get", URL: "https://h.example/?a=SECRET", Err: errDown}
	wrapped := redact.Wrap(fmt.Errorf("token: %w", inner))
	assert.ErrorIs(t, wrapped, errDown)
	var found *url.Error
	require.ErrorAs(t, wrapped, &found)
	assert.Equal(t, "https://h.example/?a=xxxxx", found.URL)
	assert.Equal(t, "https://h.example/?a=SECRET", inner.URL, "the caller's own is not changed")
	assert.NotPanics(t, func() { redact.Wrap(&careless{}) }, "a method that panics")
	wrapped = redact.Wrap(fmt.Errorf("bearer SECRET: %w", (*url.Error)(nil)))
	assert.NotPanics(t, func() { errors.As(wrapped, &found) }, "a nil pointer")
}

func TestParsedURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://user:SECRET@h.example/gene?key=SECRET#SECRET": "https://xxxxx@h.example/gene?key=xxxxx",
		"https://h.example/gene":                               "https://h.example/gene",
		"http:user:SECRET@h.example":                           "http:xxxxx",
		"https://a.example/w%20b/https://SECRET@h.example/@x":  "https://a.example/w%20b/https://xxxxx@h.example/@x",
		"https://a.example/https://h.example/w%2Fb@x":          "https://a.example/https://h.example/w%2Fb@x",
		"https://a.example/file:///x@y":                        "https://a.example/file:///x@y",
		"https://a.example/http://@b":                          "https://a.example/http://xxxxx@b",
	} {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		assert.Equal(t, want, redact.ParsedURL(u))
		assert.Equal(t, want, redact.URL(raw))
		assert.Equal(t, raw, u.String(), "the caller's own is not changed")
	}
}

func TestParsedURLWithAPathThatIsNone(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "a.example", Path: "://SECRET@b.example"}
	assert.NotContains(t, redact.ParsedURL(u), "SECRET")
}

// A URL whose path was set as it is sent, as an opaque one, is shown like any other.
func TestParsedURLWithAnOpaquePath(t *testing.T) {
	u := &url.URL{Scheme: "https", Opaque: "//user:SECRET@h.example/a%2Fb", RawQuery: "key=SECRET"}
	assert.Equal(t, "https://xxxxx@h.example/a%2Fb?key=xxxxx", redact.ParsedURL(u))
}

// Of what is no URL at most the scheme stays.
func TestURLThatIsNone(t *testing.T) {
	for raw, want := range map[string]string{
		"http://[::1?SECRET": "http:xxxxx",
		"a0+z9://%zz@SECRET": "a0+z9:xxxxx",
		"://SECRET":          "xxxxx",
		"SE CRET://h":        "xxxxx",
		"9http://%zz@SECRET": "xxxxx",
		"http%zz":            "xxxxx",
		"ht/tp://SECRET@h":   "xxxxx",
		// These are some:
		"/gene?key=SECRET":                   "/gene?key=xxxxx",
		"https://a.example/https://b?SECRET": "https://a.example/https://b?xxxxx",
	} {
		assert.Equal(t, want, redact.URL(raw), raw)
	}
}

// A server can put a long text into an error, as a Location of a megabyte that net/http
// quotes. One of an eighth of that, of nothing but schemes, took seconds, and four times as
// long for twice as much; other texts take milliseconds.
func TestLongTextsTakeNoLonger(t *testing.T) {
	timeOf := func(unit string) time.Duration {
		text, least := strings.Repeat(unit, 1<<17/len(unit)), time.Hour
		for range 3 { // the machine has other things to do
			begin := time.Now()
			_ = redact.Error(&url.Error{Op: "Get", URL: text, Err: errors.New("failed to parse Location header " + text)})
			_ = redact.URL(text)
			least = min(least, time.Since(begin))
		}
		return least
	}
	limit := 100*time.Millisecond + 40*timeOf("a b ")
	for _, unit := range []string{"a://", "a://b/%zz", "a://b?", "://", "a:", "a@", "http:", "mailto:x@y,", "?a=b", "&", `"`, `\`, "((", "]]", "::",
		"authorization: ", "authorization: x\n", `invalid port "`, `invalid port "x"`, "bearer ", "bearer x "} {
		assert.Less(t, timeOf(unit), limit, "%q, again and again", unit)
	}
}

type careless struct{ inner error }

func (c *careless) Error() string { return "careless: " + c.inner.Error() }

// FuzzError puts a secret wherever a URL has a place for one, and its error
// through the usual ways of wrapping and formatting.
func FuzzError(f *testing.F) {
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
		if text := redact.Error(err); strings.Contains(text, secret) {
			t.Errorf("%q of %q shows the secret", text, raw)
		}
	})
}

// FuzzText gives any text to what looks for secrets in it, with a header and a URL that
// have one in the middle. What is left has none, and loses nothing when it is looked
// through again.
func FuzzText(f *testing.F) {
	for _, text := range []string{"", "down", "a b\nc", `"quoted"`, "http://h/", "Authorization", "{[(", "x://y?z#", `\"`} {
		f.Add(text, text, uint8(0))
		f.Add(text, text, uint8(4))
	}
	f.Fuzz(func(t *testing.T, before, after string, form uint8) {
		const secret = "S3CR3Tt0ken"
		var middle string
		switch form % 6 {
		case 0:
			middle = "Authorization: Bearer " + secret + "\n"
		case 1:
			middle = "\nProxy-Authorization: " + secret + "\n"
		case 2:
			middle = ` map[Authorization:[Basic ` + secret + `]] `
		case 3:
			middle = " https://user:" + secret + "@h.example/ "
		case 4:
			middle = " https://h.example/?key=" + secret + " "
		case 5:
			middle = " bearer " + secret + " "
		}
		text := redact.Text(before + middle + after)
		if strings.Contains(before+after, secret) {
			return
		}
		if strings.Contains(text, secret) {
			t.Errorf("%q of %q shows the secret", text, before+middle+after)
		}
		if again := redact.Text(text); again != text {
			t.Errorf("%q became %q, and then %q", before+middle+after, text, again)
		}
	})
}

// FuzzURL puts secrets into any URL, valid or not.
func FuzzURL(f *testing.F) {
	f.Add("https", "h.example", "/a", "key")
	f.Add("mailto", "h", "", "")
	f.Add("http", "[::1", "%zz", "a=b&c")
	f.Fuzz(func(t *testing.T, scheme, host, path, key string) {
		const secret = "S3CR3Tt0ken"
		for _, raw := range []string{
			scheme + "://user:" + secret + "@" + host + path, scheme + "://" + secret + "@" + host + path + "?" + key,
			scheme + "://" + host + path + "?" + key + "=" + secret, scheme + "://" + host + path + "?" + secret,
			scheme + "://" + host + path + "?" + key + "#" + secret, scheme + ":" + secret,
		} {
			u, err := url.Parse(raw)
			if err == nil && (strings.Contains(u.Path, secret) || strings.Contains(u.Host, secret) || strings.Contains(u.Scheme, secret)) {
				continue // by its place it is none
			}
			safe := redact.URL(raw)
			if strings.Contains(safe, secret) {
				t.Errorf("%q of %q shows the secret", safe, raw)
			}
			if err == nil && strings.Contains(redact.Bare(u), secret) {
				t.Errorf("%q of %q shows the secret", redact.Bare(u), raw)
			}
			if again := redact.URL(safe); !strings.EqualFold(again, safe) { // a scheme is written in lower case
				t.Errorf("%q became %q, and then %q", raw, safe, again)
			}
		}
	})
}

package retry

import (
	"fmt"
	"net/url"
	"strings"
)

const hidden = "xxxxx"

// redacted is err's text without secrets. net/http strips the password from the
// URLs of its errors, but leaves the query; others strip nothing, and put the
// text of one error into that of another. So the URLs that the tree is known to
// hold are replaced first, as they are and as %q writes them, and then whatever
// in the text looks like a URL or a credential.
func redacted(err error) string {
	if err == nil {
		return ""
	}
	text := textOf(err)
	if !suspicious(text) {
		return text
	}
	walk(err, func(err error) bool {
		if e, ok := err.(*url.Error); ok && e != nil && e.URL != "" {
			if safe := redactURL(e.URL); safe != e.URL {
				quoted := fmt.Sprintf("%q", e.URL)
				text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], safe)
				text = strings.ReplaceAll(text, e.URL, safe)
			}
		}
		return true
	})
	return redactText(text)
}

// textOf is err's text, or what fmt makes of an error that has none: a nil
// pointer, or one in a tree, whose method panics.
func textOf(err error) (text string) {
	if isNil(err) {
		return "<nil>"
	}
	defer func() {
		if recover() != nil {
			text = fmt.Sprint(err)
		}
	}()
	return err.Error()
}

// suspicious is false for a text that has nothing to hide.
func suspicious(text string) bool {
	return strings.ContainsAny(text, `?@#"`) || strings.Contains(text, ":") || containsFold(text, "bearer") || containsFold(text, "authorization")
}

// safe returns err, or, if its text has secrets, an error around it whose text
// has none.
func safe(err error) error {
	if err == nil {
		return nil
	}
	text := redacted(err)
	switch e, ok := err.(*url.Error); {
	case text == textOf(err):
		return err
	case ok && e != nil:
		return rebuiltURL(e)
	}
	return &safeError{text, err}
}

func rebuiltURL(e *url.Error) *url.Error {
	return &url.Error{Op: e.Op, URL: redactURL(e.URL), Err: safe(e.Err)}
}

type safeError struct {
	text string
	err  error
}

func (e *safeError) Error() string { return e.text }
func (e *safeError) Unwrap() error { return e.err }

// As finds the first *url.Error without its secrets.
func (e *safeError) As(target any) bool {
	found, ok := target.(**url.Error)
	return ok && !walk(e.err, func(err error) bool {
		inner, ok := err.(*url.Error)
		if ok && inner != nil {
			*found = rebuiltURL(inner)
			return false
		}
		return true
	})
}

// redactURL hides the user information, the query values, the fragment and the
// opaque part of a URL, which need not be a valid one. The names of the query's
// parameters stay, because they help to tell requests apart.
func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil { // nothing in it can be trusted to be where it seems to be
		if scheme, _, ok := strings.Cut(raw, "://"); ok && isScheme(scheme) {
			return scheme + ":" + hidden
		}
		return hidden
	}
	if u.Opaque == "" && !strings.ContainsAny(raw, "?#@") {
		return raw
	}
	return withoutSecrets(*u)
}

// safeURL is redactURL for a URL that need not be parsed any more, unless
// somebody put half of it into Opaque.
func safeURL(u *url.URL) string {
	if u.Opaque != "" {
		return redactURL(u.String())
	}
	return withoutSecrets(*u)
}

func withoutSecrets(u url.URL) string {
	if u.User != nil {
		u.User = url.User(hidden)
	}
	if u.Opaque != "" {
		u.Opaque = hidden
	}
	u.Fragment, u.RawFragment = "", ""
	if u.RawQuery != "" {
		u.RawQuery = redactQuery(u.RawQuery)
	}
	return u.String()
}

func redactQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, ok := strings.Cut(pair, "="); ok && !strings.ContainsAny(name, ":/?@") { // those are no name's
			pairs[i] = name + "=" + hidden
		} else if pair != "" {
			pairs[i] = hidden // a bare token
		}
	}
	return strings.Join(pairs, "&")
}

// isScheme goes by RFC 3986, section 3.1.
func isScheme(s string) bool {
	for i, r := range s {
		letter := 'a' <= r|0x20 && r|0x20 <= 'z'
		if !letter && (i == 0 || !('0' <= r && r <= '9' || strings.ContainsRune("+-.", r))) {
			return false
		}
	}
	return s != ""
}

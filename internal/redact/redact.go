// Package redact removes secrets from the texts of errors and URLs: user
// information, query values, fragments, Authorization headers, bearer tokens.
//
// The URLs of an error are known where its tree has a *url.Error; elsewhere a URL or
// a credential is recognised by its form. Hosts, paths and the names of query
// parameters stay, because they distinguish requests.
package redact

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// hidden stands where a secret was.
const hidden = "xxxxx"

// Error returns the text of err without secrets, "" for nil. Where a method of an
// error panics, such as one of a nil pointer, it is what package fmt prints instead.
func Error(err error) string {
	_, safe := texts(err)
	return safe
}

// texts returns the text of err as it is, and without secrets. net/http removes only
// the password from the URLs of its errors, and others format one error into another:
// so the URLs in the tree are replaced wherever they stand, plain or quoted.
func texts(err error) (raw, safe string) {
	if err == nil {
		return "", ""
	}
	defer func() {
		if recover() != nil {
			raw = fmt.Sprint(err)
			safe = Text(raw)
		}
	}()
	raw = err.Error()
	if !strings.ContainsAny(raw, `?@#":`) && !slices.ContainsFunc(announcing, func(word string) bool { return indexFold(raw, word) >= 0 }) {
		return raw, raw // nothing in it can be a secret
	}
	return raw, Text(replaceURLs(raw, err))
}

// replaceURLs redacts in text the URLs of each *url.Error in the tree of err. A branch
// whose methods panic, such as a nil pointer, has none.
func replaceURLs(text string, err error) (replaced string) {
	defer func() {
		if recover() != nil {
			replaced = text
		}
	}()
	if e, ok := err.(*url.Error); ok && e.URL != "" {
		if safe := URL(e.URL); safe != e.URL {
			quoted := fmt.Sprintf("%q", e.URL)
			text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], safe)
			text = strings.ReplaceAll(text, e.URL, safe)
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return replaceURLs(text, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, branch := range e.Unwrap() {
			text = replaceURLs(text, branch)
		}
	}
	return text
}

// Wrap returns err if its text has no secrets, or else an error around it whose text
// has none, and in which errors.As finds a *url.Error without them.
func Wrap(err error) error {
	raw, safe := texts(err)
	if safe == raw {
		return err
	}
	if e, ok := err.(*url.Error); ok {
		return wrapURL(e)
	}
	return &wrapped{safe, err}
}

func wrapURL(e *url.Error) *url.Error {
	return &url.Error{Op: e.Op, URL: URL(e.URL), Err: Wrap(e.Err)}
}

type wrapped struct {
	text string
	err  error
}

func (e *wrapped) Error() string { return e.text }
func (e *wrapped) Unwrap() error { return e.err }

// As finds the first *url.Error, without its secrets.
func (e *wrapped) As(target any) bool {
	found, ok := target.(**url.Error)
	var inner *url.Error
	if !ok || !errors.As(e.err, &inner) || inner == nil {
		return false
	}
	*found = wrapURL(inner)
	return true
}

// URL removes the user information, the query values, the fragment and the opaque
// part of a URL, which need not be a valid one.
func URL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" && strings.Contains(u.Path, "://") { // nothing in it can be trusted to be where it seems to be
		if scheme, _, ok := strings.Cut(raw, "://"); ok && scheme != "" && schemeStart(scheme, len(scheme)) == 0 {
			return scheme + ":" + hidden
		}
		return hidden
	}
	if u.Opaque == "" && !strings.ContainsAny(raw, "?#@") && !strings.Contains(u.Path, "://") {
		return raw
	}
	return withoutSecrets(*u)
}

// ParsedURL is URL for one that is parsed already.
func ParsedURL(u *url.URL) string {
	if u.Opaque != "" { // may be the second half of a URL
		return URL(u.String())
	}
	return withoutSecrets(*u)
}

// Bare is a URL without all that may hold a secret, for messages that need not show that
// it was there: its scheme, host and path.
func Bare(u *url.URL) string {
	bare := *u
	bare.User, bare.Opaque, bare.RawQuery, bare.Fragment, bare.RawFragment = nil, "", "", "", ""
	hideInPath(&bare)
	return bare.String()
}

func withoutSecrets(u url.URL) string {
	if u.User != nil {
		u.User = url.User(hidden)
	}
	if u.Opaque != "" {
		u.Opaque = hidden
	}
	hideInPath(&u)
	u.Fragment, u.RawFragment = "", ""
	if u.RawQuery != "" {
		u.RawQuery = query(u.RawQuery)
	}
	return u.String()
}

// hideInPath removes the secrets of URLs in the path of another, as those of a proxy or an
// archive have them, or as they follow one in a text without a space.
func hideInPath(u *url.URL) {
	if i := strings.Index(u.Path, "://"); i >= 0 {
		start := schemeStart(u.Path, i)
		if safe := u.Path[:start] + urls(u.Path[start:]); safe != u.Path {
			u.Path, u.RawPath = safe, ""
		}
	}
}

// urls removes the secrets from a URL, and from those that follow without a space,
// unless they are in its query anyway.
func urls(raw string) string {
	path, _, _ := strings.Cut(raw, "?")
	var b strings.Builder
	start, end := 0, strings.Index(path, "://")+len("://")
	for {
		i := strings.Index(path[end:], "://")
		if i < 0 {
			b.WriteString(URL(raw[start:]))
			return b.String()
		}
		next := schemeStart(path, end+i)
		b.WriteString(URL(raw[start:next]))
		start, end = next, end+i+len("://")
	}
}

// query removes the values of a query, and parts that have no name.
func query(raw string) string {
	var safe strings.Builder
	safe.Grow(len(raw) + len(hidden))
	for more := true; more; {
		var pair string
		pair, raw, more = strings.Cut(raw, "&")
		if name, _, ok := strings.Cut(pair, "="); ok && !strings.ContainsAny(name, ":/?@") { // no name has those
			safe.WriteString(name)
			safe.WriteString("=" + hidden)
		} else if pair != "" {
			safe.WriteString(hidden)
		}
		if more {
			safe.WriteByte('&')
		}
	}
	return safe.String()
}

// schemeStart is where the scheme begins that ends at end (RFC 3986, section 3.1); at
// end itself if there is none.
func schemeStart(s string, end int) int {
	before := strings.TrimRightFunc(s[:end], func(r rune) bool {
		return 'a' <= r|0x20 && r|0x20 <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("+-.", r)
	})
	scheme := strings.TrimLeft(s[len(before):end], "0123456789+-.")
	return end - len(scheme)
}

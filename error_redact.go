package retry

import (
	"fmt"
	"net/url"
	"strings"
)

const hidden = "xxxxx"

// redacted is err's text without the secrets of the URLs that net/http puts
// into a *url.Error: it strips the password, but leaves the query.
func redacted(err error) string {
	text := err.Error()
	walk(err, func(err error) bool {
		if e, ok := err.(*url.Error); ok && e.URL != "" {
			if safe := redactURL(e.URL); safe != e.URL {
				text = strings.ReplaceAll(text, e.URL, safe)
				quoted := fmt.Sprintf("%q", e.URL) // as (*url.Error).Error writes it
				text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], safe)
			}
		}
		return true
	})
	return text
}

// redactURL hides the user information, the query values and the fragment of a
// URL, which need not be a valid one. The names of the query's parameters stay,
// because they help to tell requests apart.
func redactURL(raw string) string {
	if !strings.ContainsAny(raw, "?#@") {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil { // nothing in it can be trusted to be where it seems to be
		scheme, _, _ := strings.Cut(raw, ":")
		return scheme + ":" + hidden
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
	u.Fragment, u.RawFragment = "", ""
	if u.RawQuery != "" {
		u.RawQuery = redactQuery(u.RawQuery)
	}
	return u.String()
}

func redactQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, ok := strings.Cut(pair, "="); ok {
			pairs[i] = name + "=" + hidden
		} else if pair != "" {
			pairs[i] = hidden // a bare token
		}
	}
	return strings.Join(pairs, "&")
}

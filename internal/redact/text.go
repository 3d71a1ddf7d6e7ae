package redact

import (
	"slices"
	"strings"
)

// Text removes what looks like a secret from a text of unknown origin: the values
// of Authorization headers, the parts that package net/url quotes of a URL that it
// cannot parse, and, word by word, URLs and credentials. It looks again until it finds
// nothing, as what is left of a URL may look like a part of the one before it; a text in
// which there is no end to that is hidden as a whole.
func Text(text string) string {
	for range 5 {
		safe := textOnce(text)
		if safe == text {
			return text
		}
		text = safe
	}
	return hidden
}

func textOnce(text string) string {
	text = headers(text)
	for _, phrase := range quotedByURL {
		text = quotedAfter(text, phrase)
	}
	var b strings.Builder
	previous := ""
	for len(text) > 0 {
		n := strings.IndexFunc(text, isSpace)
		if n < 0 {
			n = len(text)
		}
		for word := range strings.SplitAfterSeq(text[:n], `"`) {
			b.WriteString(redactWord(word, previous))
		}
		if n > 0 {
			previous = text[:n]
		}
		if n < len(text) {
			b.WriteByte(text[n])
			n++
		}
		text = text[n:]
	}
	return b.String()
}

func isSpace(r rune) bool { return r == ' ' || r == '\n' || r == '\t' || r == '\r' }

// quotedByURL are what comes before a part of a URL in the errors of net/url and
// net/netip.
var quotedByURL = []string{"invalid port ", "invalid URL escape ", "invalid character ", "ParseAddr("}

// quotedAfter removes what is quoted right behind a phrase, however often the quotes
// were quoted again.
func quotedAfter(text, phrase string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, phrase)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		b.WriteString(phrase)
		text = after
		inner := strings.TrimLeft(after, `\`)
		quote := after[:len(after)-len(inner)] + `"`
		if inner, ok = strings.CutPrefix(after, quote); !ok {
			continue
		}
		if end := strings.Index(inner, quote); end >= 0 {
			b.WriteString(quote + hidden + quote)
			text = inner[end+len(quote):]
		}
	}
}

const authorization = "authorization"

// announcing are the words that a secret follows without any mark.
var announcing = []string{"bearer", "basic", authorization}

// headers removes the value of each Authorization header, up to the end of its line,
// or of the brackets in which Go prints it.
func headers(text string) string {
	var b strings.Builder
	for {
		i := indexFold(text, authorization)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		i += len(authorization)
		b.WriteString(text[:i])
		text = text[i:]
		value := strings.TrimLeft(text, " \\\"':=[{")
		opening := text[:len(text)-len(value)]
		if !strings.ContainsAny(opening, ":=[{") {
			continue
		}
		end := strings.IndexAny(value, "\r\n]}")
		if end < 0 {
			end = len(value)
		}
		b.WriteString(opening)
		if end > 0 {
			b.WriteString(hidden)
		}
		text = value[end:]
	}
}

// opaqueSchemes are those of URLs without slashes that are looked for in texts.
var opaqueSchemes = []string{"http:", "https:", "mailto:", "urn:", "data:", "tel:", "sip:", "sips:"}

// redactWord removes the secrets from a word without white space.
func redactWord(word, previous string) string {
	lead := len(word) - len(strings.TrimLeft(word, "([{<'`,;\\\""))
	tail := len(strings.TrimRight(word, ":,.;)}>'`\\\""))
	if tail <= lead {
		return word
	}
	return word[:lead] + redactCore(word[lead:tail], previous) + word[tail:]
}

func redactCore(core, previous string) string {
	switch strings.ToLower(previous[strings.LastIndexAny(previous, "\"'`([{<=:,;\\")+1:]) {
	case "bearer", "basic": // as in "Bearer eyJ…", not as in "basic authentication" or "bearer token"
		if !slices.Contains([]string{"token", "tokens", "auth", "authentication", "authorization", "credentials", "scheme"}, strings.ToLower(core)) {
			return hidden
		}
	}
	if i := strings.Index(core, "://"); i >= 0 {
		if start := schemeStart(core, i); start < i {
			return credentials(core[:start]) + URL(core[start:])
		}
	}
	for _, scheme := range opaqueSchemes {
		if len(core) > len(scheme) && strings.EqualFold(core[:len(scheme)], scheme) {
			return URL(core)
		}
	}
	return credentials(core)
}

// credentials removes a name and password before an @, the values of a query, and a
// fragment that holds some.
func credentials(word string) string {
	if before, fragment, ok := strings.Cut(word, "#"); ok && strings.Contains(before, "/") && strings.Contains(fragment, "=") {
		word = before
	}
	path, values, ok := strings.Cut(word, "?")
	if at := strings.LastIndexByte(path, '@'); at >= 0 && strings.Contains(path[:at], ":") {
		path = hidden + path[at:]
	}
	switch {
	case !ok:
		return path
	case strings.Contains(values, "=") || strings.Contains(path, "/"):
		values, _, _ = strings.Cut(values, "#")
		return path + "?" + query(values)
	}
	return path + "?" + values
}

// indexFold is strings.Index for a text in any case and an ASCII word in lower
// case.
func indexFold(text, lower string) int {
	for i := 0; i+len(lower) <= len(text); i++ {
		if text[i]|0x20 == lower[0] && strings.EqualFold(text[i:i+len(lower)], lower) {
			return i
		}
	}
	return -1
}

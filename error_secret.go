package retry

import (
	"slices"
	"strings"
)

// redactText hides what looks like a secret in a text of unknown make: the
// values of Authorization headers, the details that package net/url quotes of a
// URL that it cannot parse, and, word by word, URLs and credentials.
func redactText(text string) string {
	text = redactHeaders(text)
	for _, phrase := range quotedByURL {
		text = redactQuoted(text, phrase)
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

// redactQuoted hides what is quoted right behind a phrase, however often the
// quotes were quoted again.
func redactQuoted(text, phrase string) string {
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

// redactHeaders hides the value of each Authorization header, up to the end of
// its line, or of the brackets in which Go prints it.
func redactHeaders(text string) string {
	const name = "authorization"
	var b strings.Builder
	for {
		i := indexFold(text, name)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		i += len(name)
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

// redactWord hides what a word without white space has of secrets.
func redactWord(word, previous string) string {
	lead := len(word) - len(strings.TrimLeft(word, "([{<'`,;\\\""))
	tail := len(strings.TrimRight(word, ":,.;)}>'`\\\""))
	if tail <= lead {
		return word
	}
	core := word[lead:tail]
	if strings.HasSuffix(core, "]") && !strings.Contains(core, "[") {
		core = strings.TrimRight(core, "]")
		tail = lead + len(core)
	}
	return word[:lead] + redactCore(core, previous) + word[tail:]
}

func redactCore(core, previous string) string {
	switch strings.ToLower(strings.TrimLeft(previous, `"'([{\`)) {
	case "bearer", "basic": // as in "Bearer eyJ…", not as in "basic authentication" or "bearer token"
		if !slices.Contains([]string{"token", "tokens", "auth", "authentication", "authorization", "credentials", "scheme"}, strings.ToLower(core)) {
			return hidden
		}
	}
	if i := strings.Index(core, "://"); i >= 0 {
		start := i
		for start > 0 && isScheme(core[start-1:i]) {
			start--
		}
		if start < i {
			return redactCredentials(core[:start]) + redactURLs(core[start:])
		}
	}
	for _, scheme := range opaqueSchemes {
		if len(core) > len(scheme) && strings.EqualFold(core[:len(scheme)], scheme) {
			return redactURL(core)
		}
	}
	return redactCredentials(core)
}

// redactURLs hides the secrets of a URL, and of those that follow without a
// space, unless they are in its query anyway.
func redactURLs(raw string) string {
	path, _, _ := strings.Cut(raw, "?")
	first := strings.Index(path, "://")
	next := strings.LastIndex(path, "://")
	if next == first {
		return redactURL(raw)
	}
	for next > 0 && isScheme(path[next-1:next]) {
		next--
	}
	if next == 0 {
		return hidden
	}
	return redactURLs(raw[:next]) + redactURL(raw[next:])
}

// redactCredentials hides a name and password before an @, and the values of a
// query.
func redactCredentials(word string) string {
	path, query, ok := strings.Cut(word, "?")
	if at := strings.LastIndexByte(path, '@'); at >= 0 && strings.Contains(path[:at], ":") {
		path = hidden + path[at:]
	}
	switch {
	case !ok:
		return path
	case strings.Contains(query, "=") || strings.Contains(path, "/"):
		query, _, _ = strings.Cut(query, "#")
		return path + "?" + redactQuery(query)
	}
	return path + "?" + query
}

func containsFold(text, lower string) bool { return indexFold(text, lower) >= 0 }

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

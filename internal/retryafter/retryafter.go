// Package retryafter reads in a response's header what its server says about
// another attempt: how long to wait before it, and whether to make one.
//
// It goes by one rule rather than by a list of services. A name is split into
// words: what the field is (a Retry-After, a reset, a remaining), its unit, and
// the bucket, before or behind. A value is read by its form: a number, a date, a
// duration. Of the buckets that are exhausted, the one that is restored last counts.
package retryafter

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	year    = 366 * 24 * time.Hour
	century = 100 * 365 * 24 * time.Hour // no wait is longer

	maxSize = 16 << 10 // of the values that are read: a server could send megabytes to keep its client busy
)

// Parse returns how long a response asks its client to wait, as of now, which is called
// only if there is something to read, and whether it asks at all. Limited says that the
// response is a refusal for a limit, which makes a reset count of whose bucket nothing
// else is known.
func Parse(h http.Header, now func() time.Time, limited bool) (time.Duration, bool) {
	var known, fields []field
	for name, values := range h {
		if f := parseName(name); f.kind != other {
			f.name, f.values = name, values
			known = append(known, f)
		}
	}
	if len(known) == 0 {
		return 0, false
	}
	local := now()
	r := reader{now: local, local: local, cached: len(h["Age"]) > 0}
	if age, ok := decimal(strings.TrimSpace(h.Get("Age")), time.Second); ok {
		r.age = min(age, century)
	}
	if at, _, ok := parseDate(strings.TrimSpace(h.Get("Date")), local); ok {
		r.now = at.Add(r.age)
	}
	slices.SortFunc(known, func(a, b field) int { return strings.Compare(a.name, b.name) }) // lists of several spellings stay aligned
	size := 0
	for _, f := range known {
		own := 0
		for _, line := range f.values {
			own += len(line)
		}
		if size+own <= maxSize {
			size += own
			fields = append(fields, f)
		}
	}
	asked := r.asked(fields)
	exhausted, unknown, left := r.buckets(fields)
	switch {
	case asked.found && (asked.d > 0 || exhausted.found || !left):
		return asked.d, true
	case asked.found: // "0" beside what is left: some servers say so in every response
		return 0, false
	case exhausted.found:
		return exhausted.d, true
	case limited:
		return unknown.d, unknown.found
	}
	return 0, false
}

// ShouldRetry returns the server's explicit word on whether the request should be
// sent again, and whether there is one. Of several that differ, no counts.
func ShouldRetry(h http.Header) (again, said bool) {
	const suffix = "should-retry" // X-, Stripe-
	again = true
	for name, values := range h {
		if start := len(name) - len(suffix); start < 0 || !strings.EqualFold(name[start:], suffix) {
			continue
		}
		for _, value := range values {
			if b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(value))); err == nil {
				again, said = again && b, true
			}
		}
	}
	return again && said, said
}

// longest is the longest of the waits that were offered, or of the precise ones among
// them, which the others round.
type longest struct {
	d              time.Duration
	found, precise bool
}

func (l *longest) offer(d time.Duration, ok, precise bool) {
	switch {
	case !ok || l.precise && !precise:
	case precise && !l.precise:
		*l = longest{d, true, true}
	default:
		l.d, l.found = max(l.d, d), true
	}
}

// asked is the wait that a Retry-After asks for.
func (r *reader) asked(fields []field) (asked longest) {
	for _, f := range fields {
		if f.kind != retryAfter {
			continue
		}
		for _, text := range f.list() {
			d, ok := r.wait(text, f)
			asked.offer(d, ok, f.precise)
		}
	}
	return asked
}

// bucket is what the fields say of one limit.
type bucket struct {
	limit     bool     // the names speak of a limit
	remaining []string // one for each of its windows
	resets    []field
}

// buckets returns the longest wait of those that are exhausted and of those of which
// that is not known, and whether one has something left.
func (r *reader) buckets(fields []field) (exhausted, unknown longest, left bool) {
	named := map[string]*bucket{}
	var all []*bucket
	for _, f := range fields {
		b := named[f.bucket]
		if b == nil {
			b = new(bucket)
			named[f.bucket], all = b, append(all, b)
		}
		b.limit = b.limit || f.limit
		switch f.kind {
		case remaining:
			b.remaining = append(b.remaining, f.list()...)
		case reset:
			b.resets = append(b.resets, f)
		case policy:
			wait, tokens := r.policy(f)
			exhausted.offer(wait.d, wait.found, false)
			left = left || tokens
		}
	}
	// A remaining without a reset is that of a reset without a remaining: there are
	// services that name the two differently.
	var single []string
	for _, b := range all {
		if b.limit && b.resets == nil {
			single = append(single, b.remaining...)
			left = left || b.remaining != nil && !slices.ContainsFunc(b.remaining, isZero)
		}
	}
	for _, b := range all {
		switch {
		case b.resets == nil || !b.limit && b.remaining == nil:
			continue
		case b.remaining == nil:
			b.remaining = single
		}
		if d := r.restored(b); b.remaining == nil {
			unknown.offer(d.d, d.found, false)
		} else if slices.ContainsFunc(b.remaining, isZero) {
			exhausted.offer(d.d, d.found, false)
		} else {
			left = true
		}
	}
	return exhausted, unknown, left
}

// restored is the time until the windows of a bucket that are exhausted, or may be,
// are restored.
func (r *reader) restored(b *bucket) (restored longest) {
	for _, f := range b.resets {
		texts := f.list()
		for i, text := range texts {
			if len(texts) == len(b.remaining) && !isZero(b.remaining[i]) {
				continue
			}
			d, ok := r.wait(text, f)
			restored.offer(d, ok, f.precise)
		}
	}
	return restored
}

// isZero reports whether too little remains for another request.
func isZero(remaining string) bool {
	n, ok := decimal(strings.TrimPrefix(remaining, "-"), time.Second)
	return ok && (n < time.Second || remaining[0] == '-')
}

// policy returns the longest wait for the windows of a field that are exhausted, and
// whether another one has something left. A field with a malformed window is ignored as a
// whole, as the draft demands, and so is one that a cache answers with.
func (r *reader) policy(f field) (exhausted longest, left bool) {
	all, ok := windows(f.values)
	if !ok || r.cached {
		return longest{}, false
	}
	for _, w := range all {
		remaining, known := w["remaining"]
		reset, timed := w["reset"]
		switch {
		case timed && !known:
			return longest{}, false
		case known && !isZero(remaining):
			left = true
		case timed:
			d, ok := r.wait(reset, f)
			exhausted.offer(d, ok, false)
		}
	}
	return exhausted, left
}

// windows takes a field apart that describes windows by keys and values:
//
//	"a";r=0;t=50, "b";r=9;t=900                   draft-ietf-httpapi-ratelimit-headers, from its 8th version on
//	limit=5, remaining=0, reset=42                its 7th
//	b=hour;q=100;r=0;t=50,b=day;q=900;r=9;t=900   some services
//
// A window ends where a name follows or a key comes again.
func windows(lines []string) (all []map[string]string, ok bool) {
	window := map[string]string{}
	for _, item := range splitQuoted(strings.Join(lines, ","), ',') {
		for i, pair := range splitQuoted(item, ';') {
			key, value, hasValue := strings.Cut(pair, "=")
			switch {
			case i == 0 && len(pair) > 1 && pair[0] == '"' && pair[len(pair)-1] == '"':
				all, window = append(all, window), map[string]string{}
				continue
			case key == "", key[0] == '"', i == 0 && !hasValue:
				return nil, false
			case !hasValue: // a parameter
				continue
			}
			switch key {
			case "r":
				key = "remaining"
			case "t", "resets":
				key = "reset"
			}
			if (key == "remaining" || key == "reset") && (value == "" || !digits(value)) {
				return nil, false
			}
			if _, again := window[key]; again {
				all, window = append(all, window), map[string]string{}
			}
			window[key] = value
		}
	}
	return append(all, window), true
}

// splitQuoted splits at a separator that is not inside of quotes, and trims blanks.
func splitQuoted(s string, separator byte) (parts []string) {
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == separator && !quoted:
			parts = append(parts, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	return append(parts, strings.TrimSpace(s[start:]))
}

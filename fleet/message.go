package fleet

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// message is what is published: eight fields with a space between, of which the
// first is the version. How much is left of a pause or an open time counts from
// when it was published.
type message struct {
	seq       uint64 // counts the fleet's messages
	kind      string // "pause", "refused", "open" or "close"
	from      string // the member
	left      time.Duration
	episode   string // of a breaker; "-" if there is none
	name      string // of the gate or breaker
	published int64  // in ms of the server's clock; 0: not known, in version 1
}

const (
	maxName    = 200 // bytes
	maxMessage = 512
)

// parse is false for what no member of this version can have sent.
func parse(text string) (m message, ok bool) {
	if len(text) > maxMessage {
		return m, false
	}
	field := strings.Split(text, " ")
	switch {
	case len(field) == 7 && field[0] == "1":
		field = append(field, "0")
	case len(field) != 8 || field[0] != "2":
		return m, false
	}
	seq, err1 := strconv.ParseUint(field[1], 10, 53)
	ms, err2 := strconv.ParseInt(field[4], 10, 64)
	published, err3 := strconv.ParseInt(field[7], 10, 54)
	if err1 != nil || err2 != nil || err3 != nil || ms < 0 || ms > maxTime.Milliseconds() || published < 0 {
		return m, false
	}
	m = message{seq, field[2], field[3], time.Duration(ms) * time.Millisecond, field[5], canonical(field[6]), published}
	switch m.kind {
	case "pause", "refused", "open":
		ok = ms > 0
	case "close":
		ok = ms == 0
	}
	return m, ok && validID(m.from) && validID(m.episode) && validName(m.name)
}

func validID(s string) bool {
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) < 0
}

// validName takes what a person can read in one word: a host with its port, too.
func validName(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return r == ' ' || !unicode.IsPrint(r)
	}) < 0
}

// nameOf returns the name under which something is shared.
func nameOf(kind, name string) (string, error) {
	if !validName(name) {
		return "", invalid("%s name %.80q: want 1 to %d printable bytes without spaces", kind, name, maxName)
	}
	return canonical(name), nil
}

// canonical is one spelling of a name that is the address of a host, as in
// "https://API.example.org:443/": versions of package retry have named hosts with
// and without the port. Other names are as they are.
func canonical(name string) string {
	u, err := url.Parse(name)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return name
	}
	host, port := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && port != defaultPorts[u.Scheme] {
		host += ":" + port
	}
	return u.Scheme + "://" + host
}

var defaultPorts = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"}

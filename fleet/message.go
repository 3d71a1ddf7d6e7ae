package fleet

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// message is what is published: seven fields with a space between, of which the
// first is the version. It carries no time of day, only how much is left.
type message struct {
	seq     uint64 // counts the fleet's messages
	kind    string // "pause", "open" or "close"
	from    string // the member
	left    time.Duration
	episode string // of a breaker; "-" if there is none
	name    string // of the gate or breaker
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
	if len(field) != 7 || field[0] != "1" {
		return m, false
	}
	seq, err1 := strconv.ParseUint(field[1], 10, 53)
	ms, err2 := strconv.ParseInt(field[4], 10, 64)
	if err1 != nil || err2 != nil || ms < 0 || ms > maxTime.Milliseconds() {
		return m, false
	}
	m = message{seq, field[2], field[3], time.Duration(ms) * time.Millisecond, field[5], field[6]}
	switch m.kind {
	case "pause", "open":
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

func checkName(kind, name string) error {
	if !validName(name) {
		return invalid("%s name %.80q: want 1 to %d printable bytes without spaces", kind, name, maxName)
	}
	return nil
}

// ms is d in whole milliseconds, and at least 1.
func ms(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Round(time.Millisecond).Milliseconds()), 10)
}

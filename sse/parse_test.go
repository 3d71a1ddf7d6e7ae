package sse

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// all parses text in pieces of at most that length.
func all(t testing.TB, text string, piece int, limit int64) ([]Event, *parser, error) {
	t.Helper()
	p := &parser{limit: limit}
	var events []Event
	for len(text) > 0 {
		n := min(piece, len(text))
		if err := p.parse([]byte(text[:n]), func(e Event) bool { events = append(events, e); return true }); err != nil {
			return events, p, err
		}
		text = text[n:]
	}
	return events, p, nil
}

func shown(events []Event) string {
	var text []string
	for _, e := range events {
		text = append(text, fmt.Sprintf("%s/%s/%q", e.Type, e.ID, e.Data))
	}
	return strings.Join(text, " ")
}

// The examples of the HTML standard, and what its rules say of every odd form, in one
// piece and byte by byte.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		// The standard's own examples.
		"data: YHOO\ndata: +2\ndata: 10\n\n": `message//"YHOO\n+2\n10"`,
		": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n": `message/1/"first event" message//"second event"`,
		"data\n\ndata\ndata\n\ndata:":                   `message//"" message//"\n"`,
		"data:test\n\ndata: test\n\n":                   `message//"test" message//"test"`,
		"event: add\ndata: 73857293\n\nevent: x\n\n":    `add//"73857293"`,
		"id: 7\n\ndata: a\n\n":                          `message/7/"a"`,
		"id: 7\ndata: a\n\ndata: b\n\n":                 `message/7/"a" message/7/"b"`,
		"id: 7\ndata: a\n\nid: 8\x00\ndata: b\n\n":      `message/7/"a" message/7/"b"`,
		"id: 7\ndata: a\n\nid: \x00\ndata: b\n\n":       `message/7/"a" message/7/"b"`,
		"event: x\n\ndata: a\n\n":                       `message//"a"`,
		"event: x\nevent: y\ndata: a\n\n":               `y//"a"`,
		"event: x\nevent\ndata: a\n\n":                  `message//"a"`,
		"data: a\r\rdata: b\r\n\r\ndata: c\n\r\n":       `message//"a" message//"b" message//"c"`,
		"data: a\r\ndata: b\r\n\n":                      `message//"a\nb"`,
		"data: a\n\rdata: b\n\n":                        `message//"a" message//"b"`,
		"\xef\xbb\xbfdata: a\n\n":                       `message//"a"`,
		"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n":           ``,
		"data: a\n\n\xef\xbb\xbfdata: b\n\n":            `message//"a"`,
		"\xef\xbb\xbf: comment\ndata: a\n\n":            `message//"a"`,
		"\xef\xbbdata: a\n\n":                           ``,
		"Data: a\nDATA: b\n data: c\ndata : d\n\n":      ``,
		"data: a\nnothing\nx: y\n:\n::\n\n":             `message//"a"`,
		"data: a\n":                                     ``,
		"data: a":                                       ``,
		"\n\n\r\r\n":                                    ``,
		"data: \xff\x00\u2028é\n\n":                     `message//"\xff\x00\u2028é"`,
		"data: a: b :c\n\n":                             `message//"a: b :c"`,
		"data:\n\n":                                     `message//""`,
		"data\r\n\r\nevent:e\rdata:1\r\ndata:2\r\n\r\n": `message//"" e//"1\n2"`,
	} {
		for _, piece := range []int{len(text), 1, 2, 3} {
			events, p, err := all(t, text, piece, 0)
			require.NoError(t, err)
			assert.Equal(t, want, shown(events), "%q in pieces of %d", text, piece)
			assert.EqualValues(t, len(text), p.pos)
		}
	}
}

// A retry field counts if it has digits only; one that is too long for a Duration is as
// long as can be. An ID counts from the blank line on.
func TestParse_State(t *testing.T) {
	const before = time.Hour
	for value, want := range map[string]time.Duration{
		"1500": 1500 * time.Millisecond, "0": 0, "007": 7 * time.Millisecond, "": before, " 1": before, "-1": before, "+1": before,
		"1.5": before, "1s": before, "1 ": before, "0x1": before, "٣": before,
		"9223372036854": 9223372036854 * time.Millisecond, "9223372036855": math.MaxInt64, "9223372036854775807": math.MaxInt64, "99999999999999999999999": math.MaxInt64,
	} {
		p := &parser{retry: before}
		require.NoError(t, p.parse([]byte("retry: "+value+"\n"), nil))
		assert.Equal(t, want, p.retry, "%q", value)
	}
	p := &parser{lastID: "1", id: "1"}
	require.NoError(t, p.parse([]byte("id: 2\ndata: x\n"), nil))
	assert.Equal(t, "1", p.lastID)
	assert.False(t, p.progressed)
	require.NoError(t, p.parse([]byte("\n"), func(Event) bool { return true }))
	assert.Equal(t, "2", p.lastID)
	assert.True(t, p.progressed)
}

// An event may be as large as the limit, and no larger, in one line or several, whatever
// else it has; a stream of small ones, and long comments, may go on for ever. The error
// says where the event began.
func TestParse_Limit(t *testing.T) {
	ten := strings.Repeat("x", 10)
	for text, fits := range map[string]bool{
		"data: " + ten + "\n\n":                             true,
		"data: " + ten + "x\n\n":                            false,
		"data:" + ten + "\n\n":                              true,
		"data:" + ten[:4] + "\ndata:" + ten[:5] + "\n\n":    true,
		"data:" + ten[:5] + "\ndata:" + ten[:5] + "\n\n":    false,
		"event: " + ten + "\ndata:\n\n":                     true,
		"event: " + ten + "x\ndata:\n\n":                    false,
		"id: " + ten + "\ndata: x\n\n":                      false,
		"id: " + ten + "x\n\n":                              true, // no event
		"event: " + ten[:5] + "\ndata: " + ten[:5] + "\n\n": true,
		"event: " + ten[:6] + "\ndata: " + ten[:5] + "\n\n": false,
		"id: " + ten + "\n\n:" + ten + "\n\n":               true,
		": " + strings.Repeat("x", 1000) + "\n\n":           true,
		strings.Repeat(":\n", 1000):                         true,
		strings.Repeat("data: x\n\n", 1000):                 true,
		strings.Repeat("data\n", 1000):                      false,
		strings.Repeat("x", 1000):                           false,
	} {
		for _, piece := range []int{len(text), 1} {
			_, _, err := all(t, text, piece, 10)
			assert.Equal(t, fits, err == nil, "%q: %v", text, err)
		}
	}
	_, _, err := all(t, "data: x\n\ndata: "+ten+ten+"\n\n", 3, 10)
	assert.EqualError(t, err, "event at byte 9 of the stream is longer than 10 bytes (MaxEvent)")
}

// simple is a second parser, of a whole text, written from the standard's grammar: lines
// first, then blocks.
func simple(text string) (events []Event, lastID string, retry time.Duration) {
	text = strings.TrimPrefix(text, "\xef\xbb\xbf")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var id, kind string
	var data []string
	for _, line := range lines[:len(lines)-1] { // what follows the last line's end is no line
		if line == "" {
			lastID = id
			if data != nil {
				e := Event{ID: id, Type: kind, Data: []byte(strings.Join(data, "\n"))}
				if kind == "" {
					e.Type = "message"
				}
				events = append(events, e)
			}
			kind, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "data":
			data = append(data, value)
		case field == "event":
			kind = value
		case field == "id" && !strings.Contains(value, "\x00"):
			id = value
		case field == "retry" && value != "" && strings.Trim(value, "0123456789") == "":
			if ms, err := strconv.ParseFloat(value, 64); err == nil && ms < math.MaxInt64/1e6 {
				retry = time.Duration(ms) * time.Millisecond
			} else {
				retry = math.MaxInt64
			}
		}
	}
	return events, lastID, retry
}

// FuzzParse compares the parser with the simple one, with the text cut at random.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"data: a\n\n", "\xef\xbb\xbfid: 1\r\ndata: x\r\ndata: y\r\n\r\n", ":\n\revent: z\rdata\r\r", "retry: 12\nid\x00: 3\nid: 4\x00\n\n",
		"data:\n\rdata: b\n\ndata: unfinished", "\xef\xbb", "event: a\n\n\n\nid\n\n",
	} {
		f.Add([]byte(seed), uint64(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		p := new(parser)
		var got []Event
		for rest := text; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 1+random.IntN(9)))
			require.NoError(t, p.parse(rest[:n], func(e Event) bool { got = append(got, e); return true }))
			rest = rest[n:]
		}
		want, lastID, retry := simple(string(text))
		assert.Equal(t, want, got)
		assert.Equal(t, lastID, p.lastID)
		if retry < math.MaxInt64/2 { // beyond, a float is not exact
			assert.Equal(t, retry, p.retry)
		}
		assert.EqualValues(t, len(text), p.pos)
	})
}

func BenchmarkParse(b *testing.B) {
	chunk := bytes.Repeat([]byte("id: 12345\nevent: delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hello\"}}\n\n"), 300)
	p := &parser{limit: 16 << 20}
	events := 0
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		_ = p.parse(chunk, func(Event) bool { events++; return true })
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}

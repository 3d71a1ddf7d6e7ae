package sse

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"
)

// parser follows the rules of the HTML standard, section 9.2.6, over the bytes of one
// response, in whatever pieces they come.
type parser struct {
	limit      int64 // of an event's size; 0: none
	pos        int64 // bytes parsed
	start      int64 // where the event under way began
	progressed bool  // an event or a comment came

	line    []byte // the beginning of a line whose end has not come
	comment bool   // it is a comment, of which nothing is kept
	afterCR bool   // a line feed that comes now belongs to the line before
	begun   bool   // the first line is over: it may begin with a byte order mark

	data   []byte // of the event under way, with a line feed behind each line
	kind   string
	id     string        // of the event under way, or of those before
	lastID string        // of the last one that is over
	retry  time.Duration // of the last such field
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// parse takes the next bytes, and gives the events that end in them to emit, until that
// returns false.
func (p *parser) parse(chunk []byte, emit func(Event) bool) error {
	for len(chunk) > 0 {
		if p.afterCR {
			p.afterCR = false
			if chunk[0] == '\n' {
				chunk = chunk[1:]
				p.pos++
				continue
			}
		}
		if len(p.line) == 0 && !p.comment {
			p.comment = chunk[0] == ':'
		}
		end := bytes.IndexByte(chunk, '\n')
		if end < 0 {
			end = len(chunk)
		}
		if cr := bytes.IndexByte(chunk[:end], '\r'); cr >= 0 {
			end = cr
		}
		if !p.comment {
			p.line = append(p.line, chunk[:end]...)
			if err := p.checkSize(int64(len(p.line) - len("event: "))); err != nil {
				return err
			}
		}
		if p.pos += int64(end); end == len(chunk) {
			return nil
		}
		p.pos++
		p.afterCR = chunk[end] == '\r'
		chunk = chunk[end+1:]
		event, found, err := p.endLine()
		if err != nil {
			return err
		}
		if found && !emit(event) {
			return nil
		}
	}
	return nil
}

// endLine takes the line that is whole now, and returns the event that it ends, if
// there is one.
func (p *parser) endLine() (event Event, found bool, err error) {
	line := p.line
	p.line = p.line[:0]
	if !p.begun {
		p.begun = true
		line = bytes.TrimPrefix(line, byteOrderMark)
		p.comment = p.comment || len(line) > 0 && line[0] == ':'
	}
	if p.comment {
		p.comment, p.progressed = false, true
		return Event{}, false, nil
	}
	if len(line) == 0 {
		event, found = p.endEvent()
		return event, found, nil
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		p.data = append(append(p.data, value...), '\n')
	case "event":
		p.kind = string(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			p.id = string(value)
		}
	case "retry":
		p.retry = reconnection(value, p.retry)
	}
	return Event{}, false, p.checkSize(0)
}

// endEvent returns the event under way, if it has data; else it was none.
func (p *parser) endEvent() (event Event, found bool) {
	p.lastID, p.start = p.id, p.pos
	if found = p.data != nil; found {
		event = Event{ID: p.id, Type: cmp.Or(p.kind, "message"), Data: p.data[:len(p.data)-1]}
		p.progressed = true
	}
	p.data, p.kind = nil, ""
	return event, found
}

// checkSize returns an error if the event under way is too large, with so many bytes
// more.
func (p *parser) checkSize(more int64) error {
	size := int64(max(0, len(p.data)-1)+len(p.kind)) + max(0, more)
	if p.data != nil || more > 0 { // an ID alone is that of events before
		size += int64(len(p.id))
	}
	if p.limit > 0 && size > p.limit {
		return fmt.Errorf("event at byte %d of the stream is longer than %d bytes (MaxEvent)", p.start, p.limit)
	}
	return nil
}

// reconnection is the time that a retry field says, in milliseconds; before, if it does
// not consist of digits. One that is too long for a Duration is as long as one can be.
func reconnection(value []byte, before time.Duration) time.Duration {
	if len(value) == 0 || len(bytes.Trim(value, "0123456789")) > 0 {
		return before
	}
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || ms > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

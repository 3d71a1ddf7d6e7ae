package retry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

// Parts of an HTTP/2 response to a stream. The literals of HPACK name the header by its
// place in the static table.
func headers2(flags byte, extra ...string) func(uint32) []byte {
	block := append([]byte{0x88}, strings.Join(extra, "")...) // :status 200
	return func(stream uint32) []byte { return frame(1, 4|flags, stream, block...) }
}

func data2(flags byte, text ...byte) func(uint32) []byte {
	return func(stream uint32) []byte { return frame(0, flags, stream, text...) }
}

func trailers2(stream uint32) []byte { return frame(1, 5, stream, []byte("\x00\x05x-sum\x017")...) }

func dies2(stream uint32) []byte { return goAway(stream, 2) }

const (
	ends    = 1 // END_STREAM
	length5 = "\x0f\x0d\x015"
	length0 = "\x0f\x0d\x010"
	gzip2   = "\x0f\x0b\x04gzip"
)

func answer2(parts ...func(uint32) []byte) func(uint32) []byte {
	return func(stream uint32) (answer []byte) {
		for _, part := range parts {
			answer = append(answer, part(stream)...)
		}
		return answer
	}
}

// fetches are the ways to have the answer to a request decoded.
var fetches = map[string]func(*retry.RetryableClient, *http.Request) (map[string]string, error){
	"DecodeJSON": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, retry.DecodeJSON[map[string]string])
	},
	"own decoder": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, func(resp *http.Response) (value map[string]string, err error) {
			return value, json.NewDecoder(resp.Body).Decode(&value)
		})
	},
	"own decoder that reads all": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, func(resp *http.Response) (value map[string]string, err error) {
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, err
			}
			return value, json.Unmarshal(text, &value)
		})
	},
	"own decoder that closes": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, func(resp *http.Response) (value map[string]string, err error) {
			defer resp.Body.Close()
			return value, json.NewDecoder(resp.Body).Decode(&value)
		})
	},
	"own decoder that reads nothing": func(c *retry.RetryableClient, req *http.Request) (map[string]string, error) {
		return retry.Fetch(c, req, func(*http.Response) (map[string]string, error) {
			return nil, errors.New("not what I expect")
		})
	},
}

// senders are the methods of which no second request may follow an answer, and the
// ways to send them.
var senders = []struct {
	method string
	opts   []retry.Option
}{{"POST", nil}, {"POST", []retry.Option{retry.IdempotentOnly()}}, {"PATCH", nil}, {"LOCK", nil}}

// HTTP/2 marks the end of every body: an answer that is empty and complete is the
// server's word that the request was carried out, however its end is written, and
// whatever the decoder makes of it.
func TestEmptyAnswerOverHTTP2(t *testing.T) {
	for name, answer := range map[string]func(uint32) []byte{
		"end in the header":       headers2(ends),
		"length 0":                headers2(ends, length0),
		"empty DATA":              answer2(headers2(0), data2(ends)),
		"two empty DATA":          answer2(headers2(0), data2(0), data2(ends)),
		"length 0, empty DATA":    answer2(headers2(0, length0), data2(ends)),
		"trailers":                answer2(headers2(0), trailers2),
		"empty DATA and trailers": answer2(headers2(0), data2(0), trailers2),
		"padding alone":           answer2(headers2(0), data2(8|ends, 2, 0, 0)),
		"gzip of nothing":         answer2(headers2(0, gzip2), data2(ends, zipped("")...)),
		"gzip, and trailers":      answer2(headers2(0, gzip2), data2(0, zipped("")...), trailers2),
		"gzip, but empty":         answer2(headers2(0, gzip2), data2(ends)),
		"gzip, empty, trailers":   answer2(headers2(0, gzip2), trailers2),
		"gzip, end in the header": headers2(ends, gzip2),
		"reset after the end":     answer2(headers2(ends), rst(0)),
		"GOAWAY after the end":    answer2(headers2(0), data2(ends), dies2),
	} {
		for how, fetch := range fetches {
			for _, sender := range senders {
				t.Run(name+", "+how+", "+sender.method, func(t *testing.T) {
					server, base := newPlainFrames(t, answer, ok200)
					_, err := fetch(outcomeClient(t, base, soon, sender.opts...), newRequest(t, sender.method, server.url, strings.NewReader("x")))
					if how == "DecodeJSON" {
						assert.NoError(t, err)
					}
					assert.EqualValues(t, 1, server.streams.Load(), "%v", err)
				})
			}
		}
	}
}

// What broke off is no success: asked for again where that does no harm, and else the
// error says that the request may have been carried out.
func TestCutAnswerOverHTTP2(t *testing.T) {
	good := zipped(`{"a":"b"}`)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-6] ^= 0xff
	whole := answer2(headers2(0), data2(ends, []byte(`{"a":"b"}`)...))
	for name, answer := range map[string]func(uint32) []byte{
		"reset without a body":      answer2(headers2(0), rst(2)),
		"reset, no error":           answer2(headers2(0), rst(0)),
		"cancelled in the body":     answer2(headers2(0), data2(0, '{'), rst(8)),
		"reset in the body":         answer2(headers2(0), data2(0, '{'), rst(2)),
		"refused in the body":       answer2(headers2(0), data2(0, '{'), rst(7)),
		"shorter than its length":   answer2(headers2(0, length5), data2(ends)),
		"shorter, with trailers":    answer2(headers2(0, length5), data2(0, '{'), trailers2),
		"no end":                    answer2(headers2(0), dies2),
		"no end in the body":        answer2(headers2(0), data2(0, '{'), dies2),
		"end within the JSON":       answer2(headers2(0), data2(ends, '{')),
		"trailers within the JSON":  answer2(headers2(0), data2(0, '{'), trailers2),
		"gzip, cut":                 answer2(headers2(0, gzip2), data2(ends, good[:len(good)-12]...)),
		"gzip, cut in its checksum": answer2(headers2(0, gzip2), data2(ends, good[:len(good)-2]...)),
		"gzip, cut, with trailers":  answer2(headers2(0, gzip2), data2(0, good[:len(good)-2]...), trailers2),
		"gzip, wrong checksum":      answer2(headers2(0, gzip2), data2(ends, damaged...)),
		"gzip, header alone":        answer2(headers2(0, gzip2), data2(ends, good[:10]...)),
		"gzip that is none":         answer2(headers2(0, gzip2), data2(ends, []byte("no gzip at all")...)),
		"gzip, reset":               answer2(headers2(0, gzip2), data2(0, good[:len(good)-2]...), rst(2)),
	} {
		for _, how := range []string{"DecodeJSON", "own decoder", "own decoder that reads all"} {
			for _, sender := range append(slices.Clone(senders), struct {
				method string
				opts   []retry.Option
			}{"GET", nil}) {
				t.Run(name+", "+how+", "+sender.method, func(t *testing.T) {
					server, base := newPlainFrames(t, answer, whole)
					got, err := fetches[how](outcomeClient(t, base, soon, sender.opts...), newRequest(t, sender.method, server.url, strings.NewReader("x")))
					if sender.method == "LOCK" || sender.opts != nil {
						assert.ErrorIs(t, err, retry.ErrNotIdempotent)
						assert.EqualValues(t, 1, server.streams.Load())
						return
					}
					assert.NoError(t, err)
					assert.Equal(t, map[string]string{"a": "b"}, got)
					assert.EqualValues(t, 2, server.streams.Load())
				})
			}
		}
	}
}

// A chunked body ends behind its trailers: one that breaks off within them is not
// complete, though all of its bytes may be there.
func TestCutInTheTrailers(t *testing.T) {
	whole := framed("trailers", "", []byte(`{"a":"b"}`))
	for _, body := range []string{"", `{"a":"b"}`} {
		broken := framed("trailers", "", []byte(body))
		for _, cut := range []int{2, 12, 40} { // bytes from the end
			for _, sender := range senders {
				t.Run(strings.Join([]string{body, sender.method}, " "), func(t *testing.T) {
					url, hits := newAnswers(t, broken[:len(broken)-cut], whole)
					got, err := fetches["own decoder that reads all"](outcomeClient(t, nil, soon, sender.opts...), newRequest(t, sender.method, url, nil))
					if sender.method == "LOCK" || sender.opts != nil {
						assert.ErrorIs(t, err, retry.ErrNotIdempotent)
						assert.EqualValues(t, 1, hits.Load())
						return
					}
					assert.NoError(t, err)
					assert.Equal(t, map[string]string{"a": "b"}, got)
					assert.EqualValues(t, 2, hits.Load())
				})
			}
		}
	}
}

package download

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/redact"
)

// identity says which file a part is the beginning of.
type identity struct {
	URL      string            `json:"url"`                // without user information, query and fragment
	ID       string            `json:"id"`                 // a hash of the whole URL
	ETag     string            `json:"etag,omitempty"`     // if it is a strong one
	Modified string            `json:"modified,omitempty"` // if there is no ETag
	Length   int64             `json:"length"`             // -1: not known
	Digests  map[string][]byte `json:"digests,omitempty"`  // that the server sent
}

// identify takes the identity of the file from a response with the whole of it.
func identify(u *url.URL, resp *http.Response) identity {
	id := identity{URL: redact.Bare(u), ID: hashOf(u), Length: lengthOf(resp)}
	if resp.Uncompressed { // ranges and digests are those of the compressed file
		return id
	}
	id.Digests = digestsOf(resp.Header, false)
	tag := resp.Header.Get("ETag")
	switch {
	case strings.HasPrefix(tag, `"`) && strings.HasSuffix(tag, `"`) && len(tag) >= 2:
		id.ETag = tag
	case tag == "":
		modified, err := http.ParseTime(resp.Header.Get("Last-Modified"))
		date, dateErr := http.ParseTime(resp.Header.Get("Date"))
		if err == nil && dateErr == nil && date.Sub(modified) >= time.Second {
			id.Modified = resp.Header.Get("Last-Modified")
		}
	}
	return id
}

func lengthOf(resp *http.Response) int64 {
	if resp.Uncompressed || resp.ContentLength == 0 && resp.Header.Get("Content-Length") == "" {
		return -1
	}
	return resp.ContentLength
}

func hashOf(u *url.URL) string {
	sum := sha256.Sum256([]byte(u.String()))
	return hex.EncodeToString(sum[:])
}

// validator is what If-Range asks with; "" if nothing proves that a file is the same.
func (id *identity) validator() string {
	if id.ETag != "" {
		return id.ETag
	}
	return id.Modified
}

// changed reports whether a response is certain to be of another file.
func (id *identity) changed(resp *http.Response, length int64) bool {
	tag, modified := resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	return id.ETag != "" && tag != "" && tag != id.ETag ||
		id.Modified != "" && (tag != "" || modified != "" && modified != id.Modified) ||
		id.validator() != "" && id.Length >= 0 && length >= 0 && length != id.Length
}

// begin starts the file with a response that has the whole of it. Where a range was
// asked for, and the file is not what it was, it does not: the change is to be known
// first.
func (d *download) begin(resp *http.Response) error {
	if err := d.wrongEncoding(resp); err != nil {
		return err
	}
	if d.asked > 0 && d.file.changed(resp, lengthOf(resp)) {
		return d.begunAgain(fmt.Errorf("%w at byte %d: ETag %.80q, Last-Modified %.80q", ErrChanged, d.at, resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")))
	}
	d.drop()
	if d.local == nil {
		d.file = identify(d.req.URL, resp)
		d.digests = d.file.sums()
		if d.file.validator() != "" {
			d.local = d.part.save(d.file)
		}
	}
	for _, sum := range d.sums {
		sum.reset()
	}
	d.refused = 0
	if d.local != nil {
		return d.fail(d.local)
	}
	d.report(false)
	return nil
}

// resume checks a response with a part of the file against what was asked, and returns
// where it ends.
func (d *download) resume(resp *http.Response) (end int64, err error) {
	if err := d.wrongEncoding(resp); err != nil {
		return -1, err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	text := resp.Header.Get("Content-Range")
	first, last, total, ok := parseContentRange(text)
	switch {
	case d.asked == 0:
		return -1, retry.Permanent(fmt.Errorf("status is 206, want 200: no range was asked for"))
	case strings.EqualFold(kind, "multipart/byteranges"):
		err = fmt.Errorf("content type is %.80q, want one range", kind)
	case !ok || first != d.asked || last < first:
		err = fmt.Errorf("Content-Range is %.80q, want \"bytes %d-\"", text, d.asked)
	case resp.ContentLength > 0 && resp.ContentLength != last-first+1:
		err = fmt.Errorf("Content-Length is %d, want %d for Content-Range %.80q", resp.ContentLength, last-first+1, text)
	case d.file.changed(resp, total):
		return -1, d.begunAgain(fmt.Errorf("%w at byte %d: ETag %.80q, Content-Range %.80q", ErrChanged, d.at, resp.Header.Get("ETag"), text))
	case d.file.ETag != "" && resp.Header.Get("ETag") == "": // required by RFC 9110, section 15.3.7
		err = fmt.Errorf("range at byte %d has no ETag, want %.80q", d.asked, d.file.ETag)
	}
	if err != nil {
		d.refused++
		return -1, err
	}
	d.refused = 0
	if d.file.Length < 0 && total >= 0 {
		d.file.Length = total
		if err := d.part.save(d.file); err != nil {
			return -1, d.fail(err)
		}
	}
	if d.file.Digests == nil && !resp.Uncompressed {
		d.digests = (&identity{Digests: digestsOf(resp.Header, true)}).sums()
	}
	if d.asked < d.at { // its last byte, which is there already
		d.at = d.asked
	}
	return last + 1, nil
}

// outside judges a 416, which says that the file ends before the range begins. It
// returns nil if that means that the part is whole.
func (d *download) outside(resp *http.Response) error {
	text := resp.Header.Get("Content-Range")
	length, ok := strings.CutPrefix(text, "bytes */")
	total, err := strconv.ParseInt(length, 10, 64)
	known := ok && err == nil
	switch {
	case d.asked == 0:
		return retry.Permanent(fmt.Errorf("status is 416, want 200: no range was asked for"))
	case known && total == d.at && d.asked == d.at && !d.file.changed(resp, total):
		d.file.Length = total
		return nil
	case known && (total < d.at || d.file.changed(resp, total)):
		return d.begunAgain(fmt.Errorf("%w at byte %d: status 416, Content-Range %.80q", ErrChanged, d.at, text))
	}
	return d.begunAgain(fmt.Errorf("status is 416 with Content-Range %.80q, want \"bytes */%d\"", text, d.at))
}

// begunAgain forgets what is there, for the next attempt to begin from nothing.
func (d *download) begunAgain(reason error) error {
	if d.drop(); d.local != nil {
		return d.fail(d.local)
	}
	if d.changes++; d.changes <= maxChanges {
		d.most = 0 // what comes now is progress
	}
	return retry.Neutral(reason)
}

// maxChanges is how often a file may change and have its new bytes count as progress: a
// server whose answers are all of different files must not be asked for ever.
const maxChanges = 3

// parseContentRange reads "bytes 0-99/200" (RFC 9110, section 14.4); total is -1 where
// it is "*".
func parseContentRange(text string) (first, last, total int64, ok bool) {
	unit, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	span, length, found := strings.Cut(strings.TrimSpace(rest), "/")
	from, to, dash := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") || !found || !dash {
		return 0, 0, 0, false
	}
	total = -1
	for _, field := range []struct {
		text string
		to   *int64
	}{{from, &first}, {to, &last}, {length, &total}} {
		if field.text == "*" && field.to == &total {
			continue
		}
		n, err := strconv.ParseUint(field.text, 10, 63)
		if err != nil || strings.HasPrefix(field.text, "+") {
			return 0, 0, 0, false
		}
		*field.to = int64(n)
	}
	return first, last, total, last >= first && (total < 0 || last < total)
}

// Package download fetches long files, and goes on with them where they broke off.
//
//	result, err := download.File(ctx, client, "https://example.org/release.vcf.bgz", "release.vcf.bgz",
//		download.Checksum(sha256.New(), sum))
//
// The bytes go to path.part, beside which path.part.json says what they are the
// beginning of. The file gets its name when it is whole, verified and on the disk: a
// file with that name is never a part of one. A download that failed leaves its part, if
// a byte came, and the next one goes on with it, also in another process, and also after
// a crash of the process at any moment. After a success nothing is left but the file.
//
// The client's rules hold: its Config says how often and when a connection that failed
// is made again, and its Gate, Breaker, Budget and hooks see each attempt. An attempt
// that brought bytes beyond all before it sets the number of retries and the backoff
// back, so that a long file arrives over a line that breaks every minute; MaxElapsed and
// the deadline bound the whole. The client's Timeout ends with the headers; give it a
// [retry.IdleTimeout] against servers that fall silent.
//
// # What is continued
//
// A part is continued by a range request (RFC 9110, section 14.2) that holds only for
// the very same file (If-Range, section 13.1.5). That takes a strong ETag, or, where
// there is none at all, a Last-Modified that lies a second or more before the response's
// Date (section 8.8.2.2); other files begin again from nothing. What comes is checked
// against what was asked, and a file that changed begins again: [Config.OnRetry]
// receives an error that matches [ErrChanged]. Redirects are followed again each time, so
// that an address that expires is resolved again.
//
// # What is verified
//
// The length; the sums of [Checksum]; and those that the server sends: Repr-Digest (RFC
// 9530), its predecessor Digest (RFC 3230), Content-MD5 (RFC 1864), and S3's
// X-Amz-Checksum headers of a whole object. A response with neither a length nor a
// marked end is refused unless a sum is known: that it was cut off could not be seen.
//
// The file is the bytes that the server has: they are asked for without compression. A
// server that compresses all the same is refused, unless the name says that the file is
// compressed, such as .gz, or the request has an Accept-Encoding of the caller's, who
// gets then what comes.
//
// # Locks
//
// The part is locked while it is written (flock; on Windows by its share mode). On file
// systems and operating systems without locks the caller must see to it that a path is
// downloaded once at a time.
//
// [Config.OnRetry]: https://pkg.go.dev/github.com/retryutils/retry#Config
package download

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/redact"
)

// The errors that a caller may want to know by name.
var (
	ErrChecksum = errors.New("download: wrong checksum")
	ErrInUse    = errors.New("download: another download writes to this path")
	ErrChanged  = errors.New("download: the file changed on the server") // and is begun again
)

// Result says what was downloaded.
type Result struct {
	Bytes   int64       // the file's length; of a download that failed, how much of it there is
	Resumed int64       // how many of them were there before, of an earlier download
	Header  http.Header // of the last response
}

// Option changes how [File] and [Request] work.
type Option func(*options)

type options struct {
	progress func(done, total int64)
	sums     []*sum
}

// Progress has fn called with the number of bytes that are there, and that there will
// be: -1 if that is not known. It is called at the beginning and at the end, and not
// more than ten times a second between, by the goroutine that downloads. done goes back
// to 0 when a file is begun again.
func Progress(fn func(done, total int64)) Option { return func(o *options) { o.progress = fn } }

// Checksum has the file verified before it gets its name: h, which is reset and must not
// be used meanwhile, must come to want over the whole of it. It may be given several
// times. A file with a wrong sum is deleted, and the error matches [ErrChecksum] and shows
// both; it is not fetched again.
func Checksum(h hash.Hash, want []byte) Option {
	return func(o *options) { o.sums = append(o.sums, &sum{name: "checksum", hash: h, want: want}) }
}

// File downloads a URL to a path.
func File(ctx context.Context, c *retry.RetryableClient, url, path string, opts ...Option) (Result, error) {
	if ctx == nil {
		return Result{}, fmt.Errorf("%w: download: ctx is nil", retry.ErrInvalidConfig)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil { // its text may have a secret of the URL in it
		return Result{}, fmt.Errorf("%w: download: URL is malformed", retry.ErrInvalidConfig)
	}
	return Request(c, req, path, opts...)
}

// Request is [File] for a request with headers or the like. It must be a GET without a
// body and without a range of its own.
func Request(c *retry.RetryableClient, req *http.Request, path string, opts ...Option) (Result, error) {
	d := &download{req: req, path: path, buffer: make([]byte, 256<<10)}
	for _, option := range opts {
		if option != nil {
			option(&d.options)
		}
	}
	if err := d.validate(c); err != nil {
		return Result{}, err
	}
	if err := d.open(); err != nil {
		return Result{}, err
	}
	defer d.close()
	d.report(true)
	err := retry.Resume(req.Context(), c, d.next, d.read)
	if err == nil && d.local == nil {
		d.local = d.publish()
	}
	if d.local != nil {
		err = d.local
	}
	return Result{Bytes: d.at, Resumed: d.resumed, Header: d.header}, err
}

// download is one call of Request.
type download struct {
	req  *http.Request
	path string
	options
	buffer []byte
	shown  time.Time // when Progress was called last

	part    *part
	file    identity    // what the part is the beginning of
	at      int64       // how many bytes of it are there
	most    int64       // how many there were at most: what is beyond is progress
	changes int         // of the file, on the server
	resumed int64       // how many were there before
	digests []*sum      // those that the server sent
	header  http.Header // of the last response
	local   error       // of the disk, which ends the download
	whole   bool        // it is there, and verified

	asked   int64 // the range of the attempt under way; 0: none
	refused int   // answers in a row to a range that were not what was asked
}

func (d *download) validate(c *retry.RetryableClient) error {
	wrong := ""
	switch req := d.req; {
	case c == nil || req == nil || req.URL == nil:
		wrong = "client, request or its URL is nil"
	case d.path == "":
		wrong = "path is empty"
	case req.Method != "" && req.Method != http.MethodGet:
		wrong = fmt.Sprintf("method is %q, want GET", req.Method)
	case req.Body != nil && req.Body != http.NoBody:
		wrong = "request has a body, want none"
	case req.Header.Get("Range") != "" || req.Header.Get("If-Range") != "":
		wrong = "request has a Range or If-Range, want none"
	}
	for _, sum := range d.sums {
		if sum.hash == nil || len(sum.want) != sum.hash.Size() {
			wrong = fmt.Sprintf("Checksum has %d bytes, want as many as its hash", len(sum.want))
		}
	}
	if wrong != "" {
		return fmt.Errorf("%w: download: %s", retry.ErrInvalidConfig, wrong)
	}
	if info, err := os.Stat(d.path); err == nil && info.IsDir() {
		return fmt.Errorf("%w: download: path %s is a directory", retry.ErrInvalidConfig, d.path)
	}
	return nil
}

// open takes possession of the part, and finds out what is in it.
func (d *download) open() (err error) {
	if d.part, err = openPart(d.path + ".part"); err != nil {
		return err
	}
	d.file = identity{Length: -1}
	if old, size := d.part.load(d.req.URL); size > 0 {
		d.file, d.at, d.most, d.resumed = old, size, size, size
	}
	d.digests = d.file.sums()
	return nil
}

// close closes the part, and removes one that cannot be continued.
func (d *download) close() {
	if d.at == 0 || d.part.begun && d.file.validator() == "" {
		d.part.remove()
	}
	d.part.close()
}

// next makes the request for what is missing.
func (d *download) next(ctx context.Context) (*http.Request, error) {
	for _, sum := range d.allSums() {
		if err := sum.catchUp(ctx, d.part.file, d.at, d.buffer); err != nil {
			return nil, d.unless(ctx, err)
		}
	}
	req := d.req.Clone(ctx)
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	if !d.anyEncoding() {
		req.Header.Set("Accept-Encoding", "identity") // nor does net/http ask for gzip then
	}
	if d.asked = d.from(); d.asked > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.asked))
		req.Header.Set("If-Range", d.file.validator())
	}
	return req, nil
}

// from is where to go on. Of a part that is whole, the last byte is asked for again, so
// that the server says whether it is still the same file.
func (d *download) from() int64 {
	switch {
	case d.file.validator() == "" || d.refused >= maxRefused:
		return 0
	case d.at == d.file.Length:
		return d.at - 1
	}
	return d.at
}

// maxRefused is how many wrong answers to a range a download puts up with before it asks
// for the whole file.
const maxRefused = 4

// read takes what a response brings.
func (d *download) read(resp *http.Response) (progressed bool, err error) {
	d.header = resp.Header.Clone()
	defer func() {
		progressed = d.at > d.most
		d.most = max(d.most, d.at)
	}()
	end := int64(-1) // where the response's body ends, in the file
	switch resp.StatusCode {
	case http.StatusOK:
		if err = d.begin(resp); err == nil {
			end = d.file.Length
		}
	case http.StatusPartialContent:
		end, err = d.resume(resp)
	case http.StatusRequestedRangeNotSatisfiable:
		if err = d.outside(resp); err == nil {
			return false, d.verify(resp)
		}
	default:
		err = retry.Permanent(fmt.Errorf("status is %d, want 200 or 206", resp.StatusCode))
	}
	if err != nil {
		return false, d.named(resp, err)
	}
	if err = d.copy(resp, end); err != nil {
		return false, err
	}
	switch {
	case end >= 0 && d.at < end:
		return false, d.named(resp, fmt.Errorf("body ends at byte %d, want %d: %w", d.at, end, io.ErrUnexpectedEOF))
	case resp.StatusCode == http.StatusPartialContent && d.at != d.file.Length:
		return false, d.named(resp, fmt.Errorf("range ends at byte %d, want %s", d.at, d.length()))
	case end < 0 && resp.Close && len(resp.TransferEncoding) == 0 && !resp.Uncompressed && len(d.allSums()) == 0:
		return false, d.named(resp, retry.Permanent(fmt.Errorf("body ends at byte %d with the connection, and neither its length nor a checksum is known", d.at)))
	}
	return false, d.verify(resp)
}

// copy writes the body to the part, up to an end if that is known.
func (d *download) copy(resp *http.Response, end int64) error {
	ctx, sums := resp.Request.Context(), d.allSums()
	for {
		n, err := resp.Body.Read(d.buffer)
		if end >= 0 && int64(n) > end-d.at {
			return d.named(resp, fmt.Errorf("body goes on behind byte %d, want its end", end))
		}
		if n > 0 {
			if _, err := d.part.file.WriteAt(d.buffer[:n], d.at); err != nil {
				return d.fail(err)
			}
			for _, sum := range sums {
				sum.add(d.buffer[:n], d.at)
			}
			d.at += int64(n)
			d.report(false)
		}
		switch {
		case err == io.EOF, err != nil && d.at == end: // what breaks behind the last byte is no matter
			return nil
		case err != nil && isDone(ctx):
			return err
		case err != nil:
			return d.named(resp, fmt.Errorf("body breaks off at byte %d of %s: %w", d.at, d.length(), err))
		}
	}
}

func isDone(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func (d *download) length() string {
	if d.file.Length < 0 {
		return "unknown"
	}
	return fmt.Sprint(d.file.Length)
}

// verify compares the checksums of the file, which is there.
func (d *download) verify(resp *http.Response) error {
	d.digests = append(d.digests, (&identity{Digests: digestsOf(http.Header(resp.Trailer), true)}).sums()...)
	for _, sum := range d.allSums() {
		if err := sum.catchUp(resp.Request.Context(), d.part.file, d.at, d.buffer); err != nil {
			return d.unless(resp.Request.Context(), err)
		}
		if err := sum.verify(); err != nil {
			d.drop()
			return retry.Permanent(retry.Neutral(d.named(resp, err)))
		}
	}
	d.whole = true
	return nil
}

func (d *download) allSums() []*sum { return append(d.sums[:len(d.sums):len(d.sums)], d.digests...) }

// fail ends the download because of the disk, with which the server has nothing to do.
func (d *download) fail(err error) error {
	d.local = err
	return retry.Permanent(retry.Neutral(err))
}

// unless is fail, unless the caller has ended it.
func (d *download) unless(ctx context.Context, err error) error {
	if isDone(ctx) {
		return err
	}
	return d.fail(err)
}

// drop forgets what is there.
func (d *download) drop() {
	d.file, d.at, d.resumed, d.digests = identity{Length: -1}, 0, 0, nil
	if err := d.part.reset(); err != nil {
		d.local = err
	}
}

// publish gives the file its name.
func (d *download) publish() error {
	if err := d.part.publish(d.path); err != nil {
		d.whole = false
		return err
	}
	d.report(true)
	return nil
}

// report calls Progress, if it is time.
func (d *download) report(now bool) {
	if d.progress == nil || !now && time.Since(d.shown) < 100*time.Millisecond {
		return
	}
	d.shown = time.Now()
	d.progress(d.at, d.file.Length)
}

// named puts the URL into an error, without its secrets.
func (d *download) named(resp *http.Response, err error) error {
	return &url.Error{Op: "Get", URL: redact.Bare(resp.Request.URL), Err: err}
}

// anyEncoding reports whether the caller has asked for encodings.
func (d *download) anyEncoding() bool { return len(d.req.Header.Values("Accept-Encoding")) > 0 }

// wrongEncoding reports an encoding that would make the file another one than it seems.
func (d *download) wrongEncoding(resp *http.Response) error {
	coding := strings.ToLower(resp.Header.Get("Content-Encoding"))
	if coding == "" || coding == "identity" || resp.Uncompressed || d.anyEncoding() {
		return nil
	}
	for _, suffix := range map[string][]string{
		"gzip": {".gz", ".tgz", ".bgz"}, "x-gzip": {".gz", ".tgz", ".bgz"}, "br": {".br"}, "zstd": {".zst"}, "compress": {".Z"},
	}[coding] {
		if strings.HasSuffix(d.req.URL.Path, suffix) || filepath.Ext(d.path) == suffix {
			return nil
		}
	}
	return retry.Permanent(fmt.Errorf("content encoding is %.80q, want none, as was asked for (for the encoded bytes, ask with an Accept-Encoding)", coding))
}

package download_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/download"
)

var soon = retry.Config{Backoff: retry.ConstantBackoff(time.Millisecond), MaxRetries: 5, Jitter: retry.NoJitter}

func random(n int, seed uint64) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	source.Read(data)
	return data
}

// shelf is a server of one file, whose answers can be cut.
type shelf struct {
	*httptest.Server
	mu       sync.Mutex
	data     []byte
	tag      string                                                   // "" for none
	modified time.Time                                                // zero for none
	cut      func(n int) int                                          // after how many bytes answer n ends; negative: not
	before   func(n int, w http.ResponseWriter, r *http.Request) bool // true: it answered
	written  func(n int)                                              // by each write of an answer
	requests []*http.Request
	sent     atomic.Int64
}

func newShelf(t testing.TB, data []byte) *shelf {
	s := &shelf{data: data, tag: `"1"`}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		conn.(*net.TCPConn).SetWriteBuffer(16 << 10) // little is in flight
		return ctx
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	n, data := len(s.requests), s.data
	if s.tag != "" {
		w.Header().Set("ETag", s.tag)
	}
	modified, cut, before, written := s.modified, s.cut, s.before, s.written
	s.mu.Unlock()
	if before != nil && before(n, w, r) {
		return
	}
	left := -1
	if cut != nil {
		left = cut(n)
	}
	http.ServeContent(&cutting{w, left, written, s}, r, "", modified, bytes.NewReader(data))
}

type cutting struct {
	http.ResponseWriter
	left    int
	written func(n int)
	s       *shelf
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.written != nil {
		defer c.written(len(p))
	}
	if c.left >= 0 && len(p) >= c.left {
		n, _ := c.ResponseWriter.Write(p[:c.left])
		c.s.sent.Add(int64(n))
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(p)
	c.left -= n
	c.s.sent.Add(int64(n))
	return n, err
}

// asked is the number of requests.
func (s *shelf) asked() int { return len(s.ranges()) }

// ranges are those that were asked for.
func (s *shelf) ranges() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		all = append(all, strings.TrimPrefix(r.Header.Get("Range"), "bytes="))
	}
	return all
}

func clientOf(t testing.TB, base *http.Client, cfg retry.Config, opts ...retry.Option) *retry.RetryableClient {
	t.Helper()
	if base == nil {
		base = &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	}
	client, err := retry.NewRetryableClient(base, cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// only checks that nothing is in the directory but the file, with that content.
func only(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got), "%d bytes, want %d", len(got), len(want))
	assert.Equal(t, []string{filepath.Base(path)}, names(t, filepath.Dir(path)))
}

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

// A file that is cut goes on where it broke off, in one download and over several, and
// whatever is its validator; nothing is sent twice, and nothing left behind.
func TestResumes(t *testing.T) {
	data := random(100_000, 1)
	for name, change := range map[string]func(*shelf){
		"ETag":          func(*shelf) {},
		"Last-Modified": func(s *shelf) { s.tag, s.modified = "", time.Now().Add(-time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, data)
			change(s)
			s.cut = func(n int) int { return []int{10_000, 20_000, 30_000, -1}[min(n, 4)-1] }
			path := filepath.Join(t.TempDir(), "file")
			cfg := soon
			cfg.MaxRetries = 1 // each attempt brings something
			result, err := download.File(t.Context(), clientOf(t, nil, cfg), s.URL, path)
			require.NoError(t, err)
			only(t, path, data)
			assert.Equal(t, []string{"", "10000-", "30000-", "60000-"}, s.ranges())
			assert.EqualValues(t, len(data), s.sent.Load())
			assert.EqualValues(t, len(data), result.Bytes)
			assert.Zero(t, result.Resumed)
			assert.NotEmpty(t, result.Header)
		})
		t.Run(name+", several downloads", func(t *testing.T) {
			s := newShelf(t, data)
			change(s)
			s.cut = func(n int) int { return []int{10_000, 20_000, -1}[min(n, 3)-1] }
			path := filepath.Join(t.TempDir(), "file")
			cfg := soon
			cfg.MaxRetries = retry.NoRetries
			client := clientOf(t, nil, cfg)
			for i, there := range []int64{10_000, 30_000} {
				result, err := download.File(t.Context(), client, s.URL+"/?token=secret", path)
				assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
				assert.ErrorIs(t, err, retry.ErrMaxRetries)
				assert.ErrorContains(t, err, fmt.Sprintf(`Get "%s/": body breaks off at byte %d of 100000`, s.URL, there))
				assert.Equal(t, there, result.Bytes)
				assert.Equal(t, []string{"file.part", "file.part.json"}, names(t, filepath.Dir(path)), "after %d", i)
				side, err := os.ReadFile(path + ".part.json")
				require.NoError(t, err)
				assert.NotContains(t, string(side), "secret")
			}
			sum := sha256.Sum256(data)
			result, err := download.File(t.Context(), client, s.URL+"/?token=secret", path, download.Checksum(sha256.New(), sum[:]))
			require.NoError(t, err)
			assert.EqualValues(t, 30_000, result.Resumed)
			only(t, path, data)
			assert.EqualValues(t, len(data), s.sent.Load())
		})
	}
}

// Another query is another file: a part of it is not gone on with.
func TestAnotherQueryIsAnotherFile(t *testing.T) {
	s := newShelf(t, random(1000, 2))
	s.cut = func(n int) int { return []int{500, -1}[min(n, 2)-1] }
	path := filepath.Join(t.TempDir(), "file")
	cfg := soon
	cfg.MaxRetries = retry.NoRetries
	_, err := download.File(t.Context(), clientOf(t, nil, cfg), s.URL+"/?version=1", path)
	assert.Error(t, err)
	result, err := download.File(t.Context(), clientOf(t, nil, cfg), s.URL+"/?version=2", path)
	require.NoError(t, err)
	assert.Zero(t, result.Resumed)
	assert.Equal(t, []string{"", ""}, s.ranges())
	only(t, path, s.data)
}

// A part that is whole already, as after a crash before the file got its name, is asked
// for its last byte, and verified.
func TestWholePart(t *testing.T) {
	for _, changed := range []bool{false, true} {
		s := newShelf(t, random(1000, 3))
		path := filepath.Join(t.TempDir(), "file")
		client := clientOf(t, nil, soon)
		require.NoError(t, os.Mkdir(path+"2", 0o700))
		s.cut = func(n int) int { return []int{999, -1}[min(n, 2)-1] }
		cfg := soon
		cfg.MaxRetries = retry.NoRetries
		_, err := download.File(t.Context(), clientOf(t, nil, cfg), s.URL, path)
		require.Error(t, err)
		part, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(t, err)
		_, err = part.Write(s.data[999:])
		require.NoError(t, err)
		require.NoError(t, part.Close())
		require.NoError(t, os.Remove(path+"2"))
		if changed {
			s.data, s.tag = random(1000, 4), `"2"`
		}
		sum := sha256.Sum256(s.data)
		_, err = download.File(t.Context(), client, s.URL, path, download.Checksum(sha256.New(), sum[:]))
		require.NoError(t, err)
		only(t, path, s.data)
		assert.Equal(t, "999-", s.ranges()[1])
	}
}

// What nothing proves to be the same file begins again: a weak ETag, none, a date that
// is too near. A server that has no ranges and always cuts does not go on for ever.
func TestBeginsAgain(t *testing.T) {
	data := random(10_000, 5)
	for name, change := range map[string]func(*shelf){
		"weak ETag":            func(s *shelf) { s.tag = `W/"1"` },
		"no validator":         func(s *shelf) { s.tag = "" },
		"weak ETag and a date": func(s *shelf) { s.tag, s.modified = `W/"1"`, time.Now().Add(-time.Hour) },
		"date of now":          func(s *shelf) { s.tag, s.modified = "", time.Now().Add(time.Second) },
		"no ranges": func(s *shelf) {
			s.before = func(_ int, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, data)
			change(s)
			s.cut = func(n int) int { return []int{5000, 4000, -1}[min(n, 3)-1] }
			path := filepath.Join(t.TempDir(), "file")
			_, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, path)
			require.NoError(t, err)
			only(t, path, data)
			if name != "no ranges" {
				assert.Equal(t, []string{"", "", ""}, s.ranges())
			}
		})
		t.Run(name+", always cut", func(t *testing.T) {
			s := newShelf(t, data)
			change(s)
			s.cut = func(n int) int { return 100 * min(n, 3) }
			path := filepath.Join(t.TempDir(), "file")
			_, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, path)
			assert.ErrorIs(t, err, retry.ErrMaxRetries)
			assert.Equal(t, 3+5, s.asked(), "three that brought more than those before, and five retries")
			assert.NoFileExists(t, path)
			if name != "no ranges" {
				assert.Empty(t, names(t, filepath.Dir(path)), "what cannot be continued")
			}
		})
	}
}

// A file that changes meanwhile begins again, and OnRetry gets ErrChanged.
func TestChanged(t *testing.T) {
	for name, change := range map[string]func(*shelf){
		"ETag": func(s *shelf) { s.tag = `"2"` },
		"date": func(s *shelf) { s.modified = s.modified.Add(time.Minute) },
		"a server that ignores If-Range": func(s *shelf) {
			s.tag = `"2"`
			s.before = func(_ int, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("If-Range"); return false }
		},
		"shorter, and If-Range ignored": func(s *shelf) {
			s.data, s.tag = s.data[:100], `"2"`
			s.before = func(_ int, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("If-Range"); return false }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, random(10_000, 6))
			if name == "date" {
				s.tag, s.modified = "", time.Now().Add(-time.Hour)
			}
			s.cut = func(n int) int { return []int{5000, -1}[min(n, 2)-1] }
			var failures []error
			cfg := soon
			cfg.OnRetry = func(_ context.Context, e retry.Event) {
				if failures = append(failures, e.Err); len(failures) == 1 {
					s.mu.Lock()
					s.data = random(20_000, 7)
					change(s)
					s.mu.Unlock()
				}
			}
			path := filepath.Join(t.TempDir(), "file")
			var seen []string
			result, err := download.File(t.Context(), clientOf(t, nil, cfg), s.URL, path,
				download.Progress(func(done, total int64) { seen = append(seen, fmt.Sprint(done, "/", total)) }))
			require.NoError(t, err)
			only(t, path, s.data)
			require.Len(t, failures, 2)
			assert.ErrorIs(t, failures[1], download.ErrChanged)
			assert.ErrorContains(t, failures[1], "at byte 5000")
			assert.Zero(t, result.Resumed)
			assert.Equal(t, "0/-1", seen[0])
			assert.Equal(t, fmt.Sprint(len(s.data), "/", len(s.data)), seen[len(seen)-1])
		})
	}
}

// A file that changes near its end may be cut as often again as it was before; one that
// is another with every answer is not asked for for ever.
func TestChanged_Progress(t *testing.T) {
	s := newShelf(t, random(10_000, 15))
	s.cut = func(n int) int { return 1000 }
	s.before = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n == 9 {
			s.data, s.tag = random(9_000, 16), `"2"`
			w.Header().Set("ETag", s.tag)
		}
		return false
	}
	cfg := soon
	cfg.MaxRetries = 2
	path := filepath.Join(t.TempDir(), "file")
	_, err := download.File(t.Context(), clientOf(t, nil, cfg), s.URL, path)
	require.NoError(t, err)
	only(t, path, s.data)

	s = newShelf(t, random(10_000, 17))
	s.cut = func(n int) int { return 1000 }
	s.before = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(n)))
		return false
	}
	_, err = download.File(t.Context(), clientOf(t, nil, cfg), s.URL, path+"2")
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 9, s.asked())
}

// reply is one answer of a played server.
type reply struct {
	status int
	header string // name: value, one a line
	body   string // parts that are read one after the other, with <then> between
	cut    bool
}

func (r reply) response(req *http.Request) *http.Response {
	resp := &http.Response{StatusCode: r.status, ProtoMajor: 1, Header: http.Header{}, Request: req, ContentLength: -1, TransferEncoding: []string{"chunked"}}
	for _, line := range strings.Split(r.header, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			resp.Header.Add(name, value)
		}
	}
	if _, err := fmt.Sscan(resp.Header.Get("Content-Length"), &resp.ContentLength); err == nil {
		resp.TransferEncoding = nil
	}
	resp.Close = resp.Header.Get("Connection") == "close"
	if resp.Close {
		resp.TransferEncoding = nil
	}
	var parts []io.Reader
	for _, part := range strings.Split(r.body, "<then>") {
		parts = append(parts, strings.NewReader(part))
	}
	if r.cut {
		parts = append(parts, cutReader{})
	}
	body := io.MultiReader(parts...)
	resp.Body = io.NopCloser(body)
	return resp
}

type cutReader struct{}

func (cutReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type replies struct {
	all    []reply
	ranges []string
}

func (r *replies) RoundTrip(req *http.Request) (*http.Response, error) {
	next := r.all[min(len(r.ranges), len(r.all)-1)]
	r.ranges = append(r.ranges, req.Header.Get("Range"))
	return next.response(req), nil
}

// Answers to a range that are not what was asked are refused, whatever is wrong with
// them; the next attempt asks again, and after four it asks for the whole. Their text
// says what was wanted.
func TestWrongRanges(t *testing.T) {
	const head = "ETag: \"1\"\nContent-Length: 10"
	first := reply{200, head, "01234", true}
	right := reply{206, "ETag: \"1\"\nContent-Length: 5\nContent-Range: bytes 5-9/10", "56789", false}
	for name, test := range map[string]struct {
		wrong reply
		text  string
	}{
		"another begin":       {reply{206, "ETag: \"1\"\nContent-Range: bytes 4-9/10", "456789", false}, `Content-Range is "bytes 4-9/10", want "bytes 5-"`},
		"the whole":           {reply{206, "ETag: \"1\"\nContent-Range: bytes 0-9/10", "0123456789", false}, `want "bytes 5-"`},
		"no Content-Range":    {reply{206, "ETag: \"1\"", "56789", false}, `Content-Range is "", want "bytes 5-"`},
		"another unit":        {reply{206, "ETag: \"1\"\nContent-Range: lines 5-9/10", "56789", false}, `want "bytes 5-"`},
		"backwards":           {reply{206, "ETag: \"1\"\nContent-Range: bytes 5-4/10", "", false}, `want "bytes 5-"`},
		"beyond the end":      {reply{206, "ETag: \"1\"\nContent-Range: bytes 5-10/10", "56789x", false}, `want "bytes 5-"`},
		"a total of none":     {reply{206, "ETag: \"1\"\nContent-Range: bytes 5-9/0", "56789", false}, `want "bytes 5-"`},
		"overflow":            {reply{206, "ETag: \"1\"\nContent-Range: bytes 5-99999999999999999999/*", "56789", false}, `want "bytes 5-"`},
		"another length":      {reply{206, "ETag: \"1\"\nContent-Length: 4\nContent-Range: bytes 5-9/10", "5678", false}, `Content-Length is 4, want 5`},
		"several ranges":      {reply{206, "ETag: \"1\"\nContent-Type: multipart/byteranges; boundary=x\nContent-Range: bytes 5-9/10", "--x", false}, `content type is "multipart/byteranges", want one range`},
		"no ETag":             {reply{206, "Content-Range: bytes 5-9/10", "56789", false}, `range at byte 5 has no ETag, want "\"1\""`},
		"too many bytes":      {reply{206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789x", false}, `body goes on behind byte 10, want its end`},
		"too few bytes":       {reply{206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "", false}, `body ends at byte 5, want 10`},
		"nothing satisfiable": {reply{416, "Content-Range: bytes */100", "", false}, `the file changed on the server at byte 5: status 416, Content-Range "bytes */100"`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, again := range []int{1, 4} {
				base := &replies{all: []reply{first}}
				for range again {
					base.all = append(base.all, test.wrong)
				}
				last := right
				if test.wrong.status == 416 || again == 4 && !strings.Contains(name, "bytes") {
					last = reply{200, head, "0123456789", false}
				}
				base.all = append(base.all, last)
				if test.wrong.status == 416 && again == 4 {
					continue
				}
				var failures []string
				cfg := soon
				cfg.OnRetry = func(_ context.Context, e retry.Event) { failures = append(failures, e.Err.Error()) }
				path := filepath.Join(t.TempDir(), "file")
				_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, cfg), "http://files.example/file?token=secret", path)
				require.NoError(t, err)
				only(t, path, []byte("0123456789"))
				assert.Contains(t, failures[1], test.text)
				assert.Contains(t, failures[1], `Get "http://files.example/file"`)
				if again == 4 && last.status == 200 {
					assert.Equal(t, "", base.ranges[5], "the whole is asked for")
				}
			}
		})
	}
}

// A range may be shorter than what was asked, and the length unknown until the end: a
// 416 at the end says that the file is whole. What is not wanted at all ends the call.
func TestRanges(t *testing.T) {
	const dated = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\nDate: Mon, 01 Jan 2024 00:00:01 GMT\nContent-Length: 10"
	first := reply{200, "ETag: \"1\"\nContent-Length: 10", "01234", true}
	whole := reply{200, "ETag: \"1\"\nContent-Length: 10", "0123456789", false}
	wrong := reply{206, "ETag: \"1\"\nContent-Range: bytes 4-9/10", "456789", false}
	for name, test := range map[string]struct {
		replies []reply
		ranges  []string
		want    string
		text    string
	}{
		"short ranges": {[]reply{{200, "ETag: \"1\"\nContent-Length: 10", "01", true}, {206, "ETag: \"1\"\nContent-Range: bytes 2-4/10", "234", false},
			{206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789", false}}, []string{"", "bytes=2-", "bytes=5-"}, "0123456789", ""},
		"broken behind the last byte": {[]reply{{200, "ETag: \"1\"\nContent-Length: 10", "01234", true}, {206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789", true}},
			[]string{"", "bytes=5-"}, "0123456789", ""},
		"unknown length, whole by 416": {[]reply{{200, "ETag: \"1\"", "0123456789", true}, {416, "Content-Range: bytes */10", "", false}}, []string{"", "bytes=10-"}, "0123456789", ""},
		"unknown length of a range": {[]reply{{200, "ETag: \"1\"", "01234", true}, {206, "ETag: \"1\"\nContent-Range: bytes 5-9/*", "56789", false}, {416, "Content-Range: bytes */10", "", false}},
			[]string{"", "bytes=5-", "bytes=10-"}, "0123456789", ""},
		"416 of a shorter file": {[]reply{{200, "ETag: \"1\"", "0123456789", true}, {416, "Content-Range: bytes */4", "", false}, {200, "ETag: \"2\"\nContent-Length: 4", "abcd", false}},
			[]string{"", "bytes=10-", ""}, "abcd", ""},
		"416 without a length": {[]reply{{200, "ETag: \"1\"", "0123456789", true}, {416, "", "", false}, {200, "ETag: \"1\"\nContent-Length: 10", "0123456789", false}},
			[]string{"", "bytes=10-", ""}, "0123456789", ""},
		"range of unknown total":                {[]reply{first, {206, "ETag: \"1\"\nContent-Range: bytes 5-9/*", "56789", false}}, []string{"", "bytes=5-"}, "0123456789", ""},
		"total known by the range":              {[]reply{{200, "ETag: \"1\"", "01234", true}, {206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789", false}}, []string{"", "bytes=5-"}, "0123456789", ""},
		"shorter than its length":               {[]reply{{200, "ETag: \"1\"\nContent-Length: 10", "01234", false}, {206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789", false}}, []string{"", "bytes=5-"}, "0123456789", ""},
		"longer than its length":                {[]reply{{200, "ETag: \"1\"\nContent-Length: 10", "0123456789<then>x", false}, whole}, []string{"", "bytes=9-"}, "0123456789", ""},
		"longer than nothing":                   {[]reply{{200, "ETag: \"1\"\nContent-Length: 0", "x", false}, whole}, []string{"", ""}, "0123456789", ""},
		"suddenly empty":                        {[]reply{first, {200, "ETag: \"1\"\nContent-Length: 0", "", false}, whole}, []string{"", "bytes=5-", ""}, "0123456789", ""},
		"the same date, not said again":         {[]reply{{200, dated, "01234", true}, {206, "Content-Range: bytes 5-9/10", "56789", false}}, []string{"", "bytes=5-"}, "0123456789", ""},
		"an ETag that was not there":            {[]reply{{200, dated, "01234", true}, {206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789", false}, whole}, []string{"", "bytes=5-", ""}, "0123456789", ""},
		"a date that is none":                   {[]reply{{200, strings.Replace(dated, "Mon,", "Moon,", 1), "01234", true}, whole}, []string{"", ""}, "0123456789", ""},
		"an ETag of nothing":                    {[]reply{{200, "ETag: \"\"\nContent-Length: 10", "01234", true}, {206, "ETag: \"\"\nContent-Range: bytes 5-9/10", "56789", false}}, []string{"", "bytes=5-"}, "0123456789", ""},
		"half an ETag":                          {[]reply{{200, "ETag: \"\nContent-Length: 10", "01234", true}, whole}, []string{"", ""}, "0123456789", ""},
		"another file after four wrong answers": {[]reply{first, wrong, wrong, wrong, wrong, {200, "ETag: \"2\"\nContent-Length: 4", "abcd", false}}, []string{"", "bytes=5-", "bytes=5-", "bytes=5-", "bytes=5-", ""}, "abcd", ""},
		"416 without a unit":                    {[]reply{{200, "ETag: \"1\"", "0123456789", true}, {416, "Content-Range: 10", "", false}, whole}, []string{"", "bytes=10-", ""}, "0123456789", ""},
		"whole, and the connection ends":        {[]reply{{200, "Connection: close\nContent-Length: 5", "01234", false}}, []string{""}, "01234", ""},
		"empty, and the connection ends":        {[]reply{{200, "Connection: close\nContent-Length: 0", "", false}}, []string{""}, "", ""},
		"empty":                                 {[]reply{{200, "ETag: \"1\"\nContent-Length: 0", "", false}}, []string{""}, "", ""},
		"206 unasked":                           {[]reply{{206, "ETag: \"1\"\nContent-Range: bytes 0-9/10", "0123456789", false}}, []string{""}, "-", "status is 206, want 200"},
		"416 unasked":                           {[]reply{{416, "Content-Range: bytes */10", "", false}}, []string{""}, "-", "status is 416, want 200"},
		"204":                                   {[]reply{{204, "", "", false}}, []string{""}, "-", "status is 204, want 200 or 206"},
		"404":                                   {[]reply{{404, "", "", false}}, []string{""}, "-", "404 Not Found"},
		"ends with the connection":              {[]reply{{200, "Connection: close\nETag: \"1\"", "01234", false}}, []string{""}, "-", "body ends at byte 5 with the connection, and neither its length nor a checksum is known"},
	} {
		t.Run(name, func(t *testing.T) {
			base := &replies{all: test.replies}
			path := filepath.Join(t.TempDir(), "file")
			_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/file", path)
			assert.Equal(t, test.ranges, base.ranges)
			if test.text != "" {
				assert.ErrorContains(t, err, test.text)
				assert.NoFileExists(t, path)
				return
			}
			require.NoError(t, err)
			only(t, path, []byte(test.want))
		})
	}
}

// A 416 is a change of the file only where it shows one; in either case the file is
// begun again.
func TestNotSatisfiable(t *testing.T) {
	unknown := reply{200, "ETag: \"1\"", "0123456789", true}
	whole := reply{200, "ETag: \"1\"\nContent-Length: 10", "0123456789<then>x", false}
	for name, test := range map[string]struct {
		first   reply
		header  string
		changed bool
	}{
		"shorter":       {unknown, "Content-Range: bytes */4", true},
		"another ETag":  {unknown, "ETag: \"2\"\nContent-Range: bytes */12", true},
		"longer":        {unknown, "Content-Range: bytes */12", false},
		"no number":     {unknown, "Content-Range: bytes */x", false},
		"the last byte": {whole, "Content-Range: bytes */10", false},
	} {
		base := &replies{all: []reply{test.first, {416, test.header, "", false}, {200, "Content-Length: 4", "abcd", false}}}
		var failures []error
		cfg := soon
		cfg.OnRetry = func(_ context.Context, e retry.Event) { failures = append(failures, e.Err) }
		path := filepath.Join(t.TempDir(), "file")
		_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, cfg), "http://files.example/file", path)
		require.NoError(t, err, name)
		only(t, path, []byte("abcd"))
		require.Len(t, failures, 2, name)
		assert.Equal(t, test.changed, errors.Is(failures[1], download.ErrChanged), "%s: %v", name, failures[1])
	}
}

// Transports of others leave the length at 0, or have none of the signs of net/http.
func TestLengthThatIsNotSet(t *testing.T) {
	text := func(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
	for name, test := range map[string]struct {
		change func(*http.Response)
		want   string
		total  string
	}{
		"not set":          {func(r *http.Response) { r.ContentLength, r.Body = 0, text("01234") }, "01234", "5/-1"},
		"said to be empty": {func(r *http.Response) { r.ContentLength, r.Body = 0, text(""); r.Header.Set("Content-Length", "0") }, "", "0/0"},
		"that of fewer":    {func(r *http.Response) { r.ContentLength, r.Body, r.Uncompressed = 3, text("01234"), true }, "01234", "5/-1"},
		"HTTP/2":           {func(r *http.Response) { r.ContentLength, r.Body, r.TransferEncoding = -1, text("01234"), nil }, "01234", "5/-1"},
	} {
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			resp := reply{status: 200}.response(req)
			test.change(resp)
			return resp, nil
		})
		path := filepath.Join(t.TempDir(), "file")
		last := ""
		_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/file", path,
			download.Progress(func(done, total int64) { last = fmt.Sprint(done, "/", total) }))
		require.NoError(t, err, name)
		only(t, path, []byte(test.want))
		assert.Equal(t, test.total, last, name)
	}
	n := 0
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		if n++; n == 1 {
			return reply{200, "ETag: \"1\"\nContent-Length: 10", "01234", true}.response(req), nil
		}
		resp := reply{206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789", false}.response(req)
		resp.ContentLength = 0
		return resp, nil
	})
	path := filepath.Join(t.TempDir(), "file")
	_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/file", path)
	require.NoError(t, err)
	only(t, path, []byte("0123456789"))
	assert.Equal(t, 2, n)
}

// Compression corrupts nothing: it is not asked for, and refused where a server sends it
// all the same, unless the name or the caller says that it is meant.
func TestEncodings(t *testing.T) {
	plain := bytes.Repeat([]byte("chr1\t1000\tA\tG\n"), 1000)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write(plain)
	w.Close()
	willing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.URL.Query().Has("always") || strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(packed.Bytes())
			return
		}
		w.Write(plain)
	}))
	defer willing.Close()
	for url, want := range map[string][]byte{"/a.vcf": plain, "/a.vcf?always": nil, "/a.vcf.gz?always": packed.Bytes(), "/asked?always": packed.Bytes()} {
		path := filepath.Join(t.TempDir(), "file")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, willing.URL+url, nil)
		require.NoError(t, err)
		if strings.HasPrefix(url, "/asked") {
			req.Header.Set("Accept-Encoding", "gzip")
		}
		_, err = download.Request(clientOf(t, nil, soon), req, path)
		if want == nil {
			assert.ErrorContains(t, err, `content encoding is "gzip", want none`)
			assert.Empty(t, names(t, filepath.Dir(path)))
			continue
		}
		require.NoError(t, err, url)
		only(t, path, want)
	}
}

// A redirect to an address that expires is followed again each time.
func TestPresigned(t *testing.T) {
	s := newShelf(t, random(30_000, 8))
	s.cut = func(n int) int { return []int{10_000, 10_000, -1}[min(n, 3)-1] }
	var issued atomic.Int64
	s.before = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("signature") == fmt.Sprint(issued.Load()) {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, fmt.Sprintf("%s/?signature=%d", s.URL, issued.Add(1)), http.StatusTemporaryRedirect)
	}))
	defer origin.Close()
	path := filepath.Join(t.TempDir(), "file")
	_, err := download.File(t.Context(), clientOf(t, nil, soon), origin.URL, path)
	require.NoError(t, err)
	only(t, path, s.data)
	assert.EqualValues(t, 3, issued.Load())
	assert.EqualValues(t, len(s.data), s.sent.Load())
}

// A wrong sum, the caller's or the server's, deletes the part, shows both, and is not
// fetched again; a right one is verified over resumed bytes too. What is no digest of
// the whole is left alone.
func TestChecksums(t *testing.T) {
	data := random(20_000, 9)
	sha, md := sha256.Sum256(data), md5.Sum(data)
	other := sha256.Sum256(nil)
	crc := crc32.NewIEEE()
	crc.Write(data)
	b64 := base64.StdEncoding.EncodeToString
	for header, right := range map[string]bool{
		"Repr-Digest: sha-256=:" + b64(sha[:]) + ":, unknown=:AAAA:":             true,
		"Repr-Digest: unknown=:AAAA:, sha-256=:" + b64(other[:]) + ":;x=1":       false,
		"Digest: SHA-256=" + b64(sha[:]) + ",MD5=" + b64(md[:]):                  true,
		"Digest: md5=" + b64(other[:16]):                                         false,
		"Content-MD5: " + b64(md[:]):                                             true,
		"Content-MD5: " + b64(other[:16]):                                        false,
		"X-Amz-Checksum-Sha256: " + b64(other[:]):                                false,
		"X-Amz-Checksum-Crc32: " + b64(crc.Sum(nil)):                             true,
		"X-Amz-Checksum-Crc32: AAAAAA==":                                         false,
		"X-Amz-Checksum-Crc32c: AAAAAA==":                                        false,
		"X-Amz-Checksum-Crc64nvme: AAAAAAAAAAA=":                                 false,
		"X-Amz-Checksum-Sha256: " + b64(other[:]) + "-3":                         true,
		"X-Amz-Checksum-Type: COMPOSITE|X-Amz-Checksum-Sha256: " + b64(other[:]): true,
		"Content-MD5: nonsense":                                                  true,
		"Repr-Digest: sha-256=nonsense, =, :":                                    true,
	} {
		s := newShelf(t, data)
		s.cut = func(n int) int { return []int{7000, -1}[min(n, 2)-1] }
		s.before = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			for _, line := range strings.Split(header, "|") {
				if name, value, _ := strings.Cut(line, ": "); n == 1 || name == "Repr-Digest" || name == "Digest" {
					w.Header().Set(name, value)
				}
			}
			return false
		}
		path := filepath.Join(t.TempDir(), "file")
		_, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, path)
		assert.Equal(t, 2, s.asked())
		if right {
			require.NoError(t, err, header)
			only(t, path, data)
			continue
		}
		assert.ErrorIs(t, err, download.ErrChecksum, header)
		assert.Empty(t, names(t, filepath.Dir(path)))
	}

	s := newShelf(t, data)
	path := filepath.Join(t.TempDir(), "file")
	_, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, path, download.Checksum(md5.New(), md[:]), download.Checksum(sha256.New(), other[:]))
	assert.ErrorIs(t, err, download.ErrChecksum)
	assert.ErrorContains(t, err, fmt.Sprintf("checksum is %x, want %x", sha, other))
	assert.Equal(t, 1, s.asked())
	assert.Empty(t, names(t, filepath.Dir(path)))

	// The end of the connection is the end of the file, where a sum proves it.
	base := &replies{all: []reply{{200, "Connection: close", string(data), false}}}
	_, err = download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/", path, download.Checksum(sha256.New(), sha[:]))
	require.NoError(t, err)
	only(t, path, data)
}

// Two downloads to one path: the second is refused at once, and sends nothing. The first
// one is not disturbed.
func TestInUse(t *testing.T) {
	s := newShelf(t, random(1000, 10))
	inside, goOn := make(chan struct{}), make(chan struct{})
	s.before = func(int, http.ResponseWriter, *http.Request) bool { close(inside); <-goOn; return false }
	path := filepath.Join(t.TempDir(), "file")
	done := make(chan error)
	go func() {
		_, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, path)
		done <- err
	}()
	<-inside
	_, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, path)
	assert.ErrorIs(t, err, download.ErrInUse)
	assert.ErrorContains(t, err, path)
	close(goOn)
	require.NoError(t, <-done)
	only(t, path, s.data)
	assert.Equal(t, 1, s.asked())
}

// Many that race for one path: each download that succeeds has the whole file.
func TestRacing(t *testing.T) {
	s := newShelf(t, random(50_000, 11))
	path := filepath.Join(t.TempDir(), "file")
	var wg sync.WaitGroup
	var succeeded atomic.Int32
	client := clientOf(t, nil, soon)
	for range 8 {
		wg.Go(func() {
			for range 10 {
				_, err := download.File(t.Context(), client, s.URL, path)
				if err == nil {
					succeeded.Add(1)
					got, err := os.ReadFile(path)
					assert.NoError(t, err)
					assert.True(t, bytes.Equal(s.data, got))
				} else {
					assert.ErrorIs(t, err, download.ErrInUse)
				}
			}
		})
	}
	wg.Wait()
	assert.Positive(t, succeeded.Load())
	only(t, path, s.data)
}

// What the disk refuses is not retried, and found out before anything is sent.
func TestDisk(t *testing.T) {
	s := newShelf(t, random(1000, 12))
	dir := t.TempDir()
	_, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, filepath.Join(dir, "missing", "file"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a", "file.part"), 0o700))
	_, err = download.File(t.Context(), clientOf(t, nil, soon), s.URL, filepath.Join(dir, "a", "file"))
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	_, err = download.File(t.Context(), clientOf(t, nil, soon), s.URL, dir)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	assert.Zero(t, s.asked())

	// The part is taken away, or replaced, meanwhile: another's file does not get the name.
	path := filepath.Join(dir, "file")
	s.before = func(int, http.ResponseWriter, *http.Request) bool {
		assert.NoError(t, os.Remove(path+".part"))
		assert.NoError(t, os.WriteFile(path+".part", []byte("another's"), 0o600))
		return false
	}
	_, err = download.File(t.Context(), clientOf(t, nil, soon), s.URL, path)
	assert.ErrorContains(t, err, "removed or replaced")
	assert.NoFileExists(t, path)
	assert.FileExists(t, path+".part")
}

// reader is a body that does something else when it is read.
type reader func() (int, error)

func (r reader) Read([]byte) (int, error) { return r() }

// What stands beside the part cannot be written, or removed in the end, and what is in
// it is taken away: each ends the download at once, for it is no fault of the server.
func TestDiskFails(t *testing.T) {
	occupy := func(path string) {
		_ = os.Remove(path)
		assert.NoError(t, os.MkdirAll(filepath.Join(path, "x"), 0o700))
	}
	for name, test := range map[string]struct {
		before func(path string)
		at     func(path string) // the end of the body
		bytes  int64
		named  bool // the file has got its name
	}{
		"cannot be written":      {before: func(path string) { occupy(path + ".part.json") }},
		"cannot be removed":      {at: func(path string) { occupy(path + ".part.json") }, bytes: 10, named: true},
		"the part is taken away": {at: func(path string) { assert.NoError(t, os.Truncate(path+".part", 0)) }, bytes: 10},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if test.before != nil {
				test.before(path)
			}
			requests := 0
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				requests++
				resp := reply{200, "ETag: \"1\"\nContent-Length: 10", "", false}.response(req)
				resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("0123456789"), reader(func() (int, error) {
					if test.at != nil {
						test.at(path)
					}
					return 0, io.EOF
				})))
				sum := sha256.Sum256([]byte("0123456789"))
				if name == "the part is taken away" { // a digest that comes last is that of the file
					resp.Trailer = http.Header{"Repr-Digest": {"sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"}}
				}
				return resp, nil
			})
			result, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/file", path)
			assert.Error(t, err)
			assert.Equal(t, 1, requests)
			assert.Equal(t, test.bytes, result.Bytes)
			_, err = os.Stat(path)
			assert.Equal(t, test.named, err == nil)
		})
	}
}

// What stands beside the part cannot be written or removed when a later answer says how long
// the file is, or that it has changed: that, too, ends the download at once.
func TestDiskFailsAtALaterAnswer(t *testing.T) {
	for header, first := range map[string]string{
		"ETag: \"1\"\nContent-Range: bytes 5-9/10": "ETag: \"1\"",
		"ETag: \"2\"\nContent-Range: bytes 5-9/*":  "ETag: \"1\"\nContent-Length: 10",
	} {
		path := filepath.Join(t.TempDir(), "file")
		requests := 0
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			if requests++; requests == 1 {
				return reply{200, first, "01234", true}.response(req), nil
			}
			_ = os.Remove(path + ".part.json")
			assert.NoError(t, os.MkdirAll(filepath.Join(path+".part.json", "x"), 0o700))
			return reply{206, header, "56789", false}.response(req), nil
		})
		_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/file", path)
		var disk *fs.PathError
		assert.ErrorAs(t, err, &disk)
		assert.Equal(t, 2, requests)
		assert.NoFileExists(t, path)
	}
}

// What breaks behind the last byte, or with it, is no matter: the file is whole.
func TestBrokenBehindTheLastByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	requests := 0
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		requests++
		resp := reply{200, "ETag: \"1\"\nContent-Length: 10", "", false}.response(req)
		resp.Body = io.NopCloser(withLast{strings.NewReader("0123456789"), io.ErrUnexpectedEOF})
		return resp, nil
	})
	_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/file", path)
	require.NoError(t, err)
	only(t, path, []byte("0123456789"))
	assert.Equal(t, 1, requests)
}

// withLast fails with the last byte.
type withLast struct {
	*strings.Reader
	err error
}

func (r withLast) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.Len() == 0 {
		err = r.err
	}
	return n, err
}

// A range that does not name the length of the file takes nothing from what is known of it.
func TestRangeWithoutTheLength(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	base := &replies{all: []reply{
		{200, "ETag: \"1\"\nContent-Length: 10", "01234", true},
		{206, "ETag: \"1\"\nContent-Range: bytes 5-6/*", "56", false},
		{206, "ETag: \"1\"\nContent-Range: bytes 7-9/*", "789", false},
	}}
	var totals []int64
	_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/file", path,
		download.Progress(func(_, total int64) { totals = append(totals, total) }))
	require.NoError(t, err)
	only(t, path, []byte("0123456789"))
	assert.EqualValues(t, 10, totals[len(totals)-1])
}

// What says of which file a part is is gone before bytes of another one are in it: after a
// crash of the process nothing may be gone on with that is not what it seems.
func TestSideIsGoneBeforeOtherBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	cfg := soon
	cfg.MaxRetries = retry.NoRetries
	cut := &http.Client{Transport: &replies{all: []reply{{200, "ETag: \"1\"\nContent-Length: 10", "01234", true}}}}
	_, err := download.File(t.Context(), clientOf(t, cut, cfg), "http://files.example/file", path)
	require.Error(t, err)
	require.FileExists(t, path+".part.json")
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := reply{200, "Content-Length: 10", "", false}.response(req)
		resp.Body = io.NopCloser(io.MultiReader(reader(func() (int, error) {
			assert.NoFileExists(t, path+".part.json")
			return 0, io.EOF
		}), strings.NewReader("abcdefghij")))
		return resp, nil
	})
	_, err = download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, cfg), "http://files.example/file", path)
	require.NoError(t, err)
	only(t, path, []byte("abcdefghij"))
}

// A part is gone on with whose length is not known yet, and not if there is more of it
// than there can be.
func TestLengthOfAPart(t *testing.T) {
	for header, resumed := range map[string]int64{"": 5, "Content-Length: 10": 0} {
		path := filepath.Join(t.TempDir(), "file")
		cfg := soon
		cfg.MaxRetries = retry.NoRetries
		cut := &http.Client{Transport: &replies{all: []reply{{200, "ETag: \"1\"\n" + header, "01234", true}}}}
		_, err := download.File(t.Context(), clientOf(t, cut, cfg), "http://files.example/file", path)
		require.Error(t, err)
		if header != "" {
			side, err := os.ReadFile(path + ".part.json")
			require.NoError(t, err)
			require.Contains(t, string(side), `"length":10`)
			require.NoError(t, os.WriteFile(path+".part.json", bytes.Replace(side, []byte(`"length":10`), []byte(`"length":0`), 1), 0o600))
		}
		answer := reply{206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789", false}
		if resumed == 0 {
			answer = reply{200, "ETag: \"1\"\nContent-Length: 10", "0123456789", false}
		}
		base := &replies{all: []reply{answer}}
		result, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, cfg), "http://files.example/file", path)
		require.NoError(t, err)
		assert.Equal(t, resumed, result.Resumed)
		only(t, path, []byte("0123456789"))
	}
}

// After a failure without a byte nothing is left; a part that another download left is
// not lost by one of another URL that never got an answer.
func TestNothingLeft(t *testing.T) {
	dead := &http.Client{Transport: &replies{all: []reply{{503, "", "", false}}}}
	path := filepath.Join(t.TempDir(), "file")
	_, err := download.File(t.Context(), clientOf(t, dead, soon), "http://files.example/1", path)
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Empty(t, names(t, filepath.Dir(path)))

	cut := &http.Client{Transport: &replies{all: []reply{{200, "ETag: \"1\"\nContent-Length: 10", "01234", true}, {503, "", "", false}}}}
	_, err = download.File(t.Context(), clientOf(t, cut, soon), "http://files.example/1", path)
	assert.Error(t, err)
	_, err = download.File(t.Context(), clientOf(t, dead, soon), "http://files.example/2", path)
	assert.Error(t, err)
	part, err := os.ReadFile(path + ".part")
	require.NoError(t, err)
	assert.Equal(t, "01234", string(part))
	rest := &http.Client{Transport: &replies{all: []reply{{206, "ETag: \"1\"\nContent-Range: bytes 5-9/10", "56789", false}}}}
	result, err := download.File(t.Context(), clientOf(t, rest, soon), "http://files.example/1", path)
	require.NoError(t, err)
	assert.EqualValues(t, 5, result.Resumed)
	only(t, path, []byte("0123456789"))
}

// Sidecar files that are damaged, as after a crash of the machine, begin again.
func TestDamagedSide(t *testing.T) {
	for _, side := range []string{"", "{", "null", "[]", `{"id":"x"}`, `{"length":"x"}`, "\x00\x00\x00"} {
		s := newShelf(t, random(1000, 13))
		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path+".part", []byte("garbage"), 0o600))
		require.NoError(t, os.WriteFile(path+".part.json", []byte(side), 0o600))
		result, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, path)
		require.NoError(t, err)
		assert.Zero(t, result.Resumed)
		only(t, path, s.data)
	}
}

// Progress is called at most ten times a second, and at the end.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			resp := reply{200, "ETag: \"1\"\nContent-Length: 1000", "", false}.response(req)
			resp.Body = io.NopCloser(&dripping{left: 1000})
			return resp, nil
		})
		var at []time.Duration
		var last string
		began := time.Now()
		_, err := download.File(t.Context(), clientOf(t, &http.Client{Transport: base}, soon), "http://files.example/", filepath.Join(t.TempDir(), "file"),
			download.Progress(func(done, total int64) {
				at = append(at, time.Since(began))
				last = fmt.Sprint(done, "/", total)
			}))
		require.NoError(t, err)
		assert.Equal(t, "1000/1000", last)
		assert.Len(t, at, 12, "%v", at)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// dripping gives a byte each millisecond.
type dripping struct{ left int }

func (d *dripping) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Millisecond)
	d.left--
	p[0] = 'x'
	return 1, nil
}

// A cancel gives the cancel, with its cause, and the file does not get its name.
func TestCancel(t *testing.T) {
	s := newShelf(t, random(1000, 14))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	s.before = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "1000")
		w.Write(s.data[:400])
		w.(http.Flusher).Flush()
		cancel(stop)
		<-r.Context().Done()
		return true
	}
	path := filepath.Join(t.TempDir(), "file")
	_, err := download.File(ctx, clientOf(t, nil, soon), s.URL, path)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, stop)
	assert.NotContains(t, err.Error(), "breaks off", "it is the caller who did")
	assert.NoFileExists(t, path)
	assert.Equal(t, 1, s.asked())

	// The same when the body is being read for certain.
	ctx, cancel = context.WithCancelCause(t.Context())
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := reply{200, "ETag: \"1\"\nContent-Length: 10", "", false}.response(req)
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("01234"), reader(func() (int, error) {
			cancel(stop)
			<-req.Context().Done()
			return 0, req.Context().Err()
		})))
		return resp, nil
	})
	_, err = download.File(ctx, clientOf(t, &http.Client{Transport: base}, soon), s.URL, path)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, stop)
	assert.NotContains(t, err.Error(), "breaks off")
}

// Wrong use is an error, and nothing is sent. No secret of a malformed URL is shown.
func TestWrongUse(t *testing.T) {
	s := newShelf(t, nil)
	client := clientOf(t, nil, soon)
	path := filepath.Join(t.TempDir(), "file")
	request := func(change func(*http.Request)) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		require.NoError(t, err)
		change(req)
		return req
	}
	for name, call := range map[string]func() error{
		"client":  func() error { _, err := download.File(t.Context(), nil, s.URL, path); return err },
		"request": func() error { _, err := download.Request(client, nil, path); return err },
		"path":    func() error { _, err := download.File(t.Context(), client, s.URL, ""); return err },
		"URL": func() error {
			_, err := download.File(t.Context(), client, "http://user:hunter2@ho st/", path)
			return err
		},
		"method": func() error {
			_, err := download.Request(client, request(func(r *http.Request) { r.Method = "POST" }), path)
			return err
		},
		"range": func() error {
			_, err := download.Request(client, request(func(r *http.Request) { r.Header.Set("Range", "bytes=1-") }), path)
			return err
		},
		"body": func() error {
			_, err := download.Request(client, request(func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("x")) }), path)
			return err
		},
		"checksum": func() error {
			_, err := download.File(t.Context(), client, s.URL, path, download.Checksum(sha256.New(), []byte{1}))
			return err
		},
		"no hash": func() error {
			_, err := download.File(t.Context(), client, s.URL, path, download.Checksum(nil, nil))
			return err
		},
	} {
		err := call()
		assert.ErrorIs(t, err, retry.ErrInvalidConfig, name)
		assert.NotContains(t, fmt.Sprint(err), "hunter2")
	}
	assert.Zero(t, s.asked())
	assert.Empty(t, names(t, filepath.Dir(path)))
}

package download

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/redact"
)

var contentRange = regexp.MustCompile(`^(?i:bytes) +(\d+)-(\d+)/(\d+|\*)$`)

// FuzzContentRange compares the parser with a regular expression: what it accepts is a
// range of that form that lies inside the file.
func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-99/200", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 0-10/10", "bytes +0-9/10", "lines 0-9/10", "bytes 0-99999999999999999999/*", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, last, total, ok := parseContentRange(text)
		if !ok {
			return
		}
		assert.True(t, 0 <= first && first <= last && (total == -1 || last < total), text)
		if match := contentRange.FindStringSubmatch(text); match != nil {
			a, _ := strconv.ParseInt(match[1], 10, 64)
			b, _ := strconv.ParseInt(match[2], 10, 64)
			assert.Equal(t, []int64{a, b}, []int64{first, last})
		}
	})
}

// FuzzDigests gives any text as a digest: what is accepted has its algorithm's length.
func FuzzDigests(f *testing.F) {
	f.Add("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", "SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "1B2M2Y8AsgTpgAmY7PhCfg==")
	f.Fuzz(func(t *testing.T, repr, digest, md5 string) {
		header := http.Header{"Repr-Digest": {repr}, "Digest": {digest}, "Content-Md5": {md5}}
		for name, value := range digestsOf(header, false) {
			require.NotNil(t, algorithms[name])
			assert.Len(t, value, algorithms[name]().Size())
		}
	})
}

// FuzzSide gives any text as the small file beside the part: either it is not gone on
// with, or it is about this URL, has a validator, and not more bytes than the file.
func FuzzSide(f *testing.F) {
	u, err := url.Parse("https://user:pass@files.example/a?token=secret#part")
	require.NoError(f, err)
	good, err := json.Marshal(identity{URL: redact.Bare(u), ID: hashOf(u), ETag: `"1"`, Length: 10})
	require.NoError(f, err)
	assert.NotContains(f, string(good), "secret")
	assert.NotContains(f, string(good), "pass")
	for _, seed := range []string{string(good), "{}", "", "null", `{"id":1}`} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, side []byte) {
		path := filepath.Join(dir, "file.part")
		require.NoError(t, os.WriteFile(path, []byte("01234"), 0o600))
		p, err := openPart(path)
		require.NoError(t, err)
		defer p.close()
		require.NoError(t, os.WriteFile(p.sidePath(), side, 0o600))
		if id, size := p.load(u); size > 0 {
			assert.EqualValues(t, 5, size)
			assert.Equal(t, hashOf(u), id.ID)
			assert.NotEmpty(t, id.validator())
			assert.True(t, id.Length == -1 || id.Length >= 5)
		}
	})
}

// FuzzRequest puts secrets into the URL and the header of a download: the file beside the part,
// which others may read, has none, and neither has an error.
func FuzzRequest(f *testing.F) {
	f.Add("https", "files.example", "/a", "token", uint16(200), "bytes 0-9/10")
	f.Add("http", "[::1]:80", "/%2F", "", uint16(206), "bytes 1-1/3")
	f.Add("http", "h", "", "a&b", uint16(416), "bytes */3")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, scheme, host, path, key string, status uint16, text string) {
		const secret = "S3CR3Tt0ken"
		for _, u := range []url.URL{
			{Scheme: scheme, Host: host, Path: path, User: url.UserPassword("user", secret)},
			{Scheme: scheme, Host: host, Path: path, User: url.User(secret), RawQuery: key + "=" + secret},
			{Scheme: scheme, Host: host, Path: path, RawQuery: secret, Fragment: secret},
			{Scheme: scheme, Host: host, Opaque: "//" + host + path + "?" + key + "=" + secret},
		} {
			requests := 0
			base := serving(func(req *http.Request) (*http.Response, error) {
				resp := &http.Response{StatusCode: 200, ContentLength: 10, Body: io.NopCloser(io.LimitReader(zeros{}, 5)), Request: req, Header: http.Header{
					"Set-Cookie": {secret}, "Etag": {`"1"`}, "Digest": {text},
				}}
				if requests++; requests > 1 {
					resp.StatusCode, resp.Header["Content-Range"] = int(status%600), []string{text}
				}
				return resp, nil
			})
			client, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{MaxRetries: 1, Backoff: retry.ConstantBackoff(1)})
			require.NoError(t, err)
			file := filepath.Join(dir, "file")
			req := &http.Request{Method: http.MethodGet, URL: &u, Header: http.Header{"Authorization": {secret}}}
			_, err = Request(client, req, file)
			assert.NotContains(t, fmt.Sprintf("%v %+v %q", err, err, err), secret)
			left, err := filepath.Glob(file + "*")
			require.NoError(t, err)
			for _, name := range left {
				text, err := os.ReadFile(name)
				require.NoError(t, err)
				assert.NotContains(t, string(text), secret)
				require.NoError(t, os.Remove(name))
			}
			assert.NotContains(t, redact.Bare(&u), secret)
		}
	})
}

type serving func(*http.Request) (*http.Response, error)

func (s serving) RoundTrip(req *http.Request) (*http.Response, error) { return s(req) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

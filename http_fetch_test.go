package retry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// What cannot be fetched lets go of its body all the same.
func TestFetchOfNothing(t *testing.T) {
	client := outcomeClient(t, nil, soon)
	decode := func(*http.Response) (int, error) { return 0, nil }
	for name, fetch := range map[string]func(*http.Request) error{
		"decode": func(req *http.Request) error { _, err := retry.Fetch[int](client, req, nil); return err },
		"client": func(req *http.Request) error { _, err := retry.Fetch(nil, req, decode); return err },
		"URL":    func(req *http.Request) error { req.URL = nil; _, err := retry.Fetch(client, req, decode); return err },
	} {
		body := &countedClose{Reader: strings.NewReader("x")}
		assert.ErrorIs(t, fetch(newRequest(t, "POST", "http://gene.example/", body)), retry.ErrInvalidConfig, name)
		assertClosed(t, body)
	}
	_, err := retry.Fetch(client, nil, decode)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
}

// Without a DecodeLimit a body of 64 MiB is decoded, and one that is a byte longer
// is not, nor asked for again.
func TestDecodeLimitByDefault(t *testing.T) {
	for _, test := range []struct {
		size int64
		opts []retry.Option
		fits bool
	}{
		{64 << 20, nil, true},
		{64<<20 + 1, nil, false},
		{64<<20 + 1, []retry.Option{retry.DecodeLimit(0)}, true},
	} {
		requests := 0
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			requests++
			return &http.Response{StatusCode: 200, ProtoMajor: 1, ContentLength: -1, Header: http.Header{},
				Body: io.NopCloser(io.LimitReader(endless{}, test.size)), Request: req}, nil
		})
		got, err := retry.Fetch(outcomeClient(t, &http.Client{Transport: base}, soon, test.opts...), newRequest(t, "GET", "http://gene.example/", nil),
			func(resp *http.Response) (int64, error) { return io.Copy(io.Discard, resp.Body) })
		assert.Equal(t, 1, requests)
		if test.fits {
			assert.NoError(t, err)
			assert.Equal(t, test.size, got)
			continue
		}
		var tooLong *http.MaxBytesError
		require.ErrorAs(t, err, &tooLong)
		assert.EqualValues(t, 64<<20, tooLong.Limit)
		assert.Zero(t, got)
	}
}

// A 202 without a body, which says that the work was accepted, was taken for an
// answer cut off: the work was ordered four times.
func TestJSONOfACompleteAndEmptyAnswer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"202": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202) },
		"200": func(w http.ResponseWriter, r *http.Request) {},
		"201": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(201)
		},
		"203 typed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(203)
		},
		"204":     status(204),
		"205":     func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(205) },
		"chunked": sending(202, "", ""),
		"gzip": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.(http.Flusher).Flush()
		},
		"a new line":          sending(202, "application/json", "\r\n"),
		"a new line, counted": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "\n") },
	} {
		t.Run(name, func(t *testing.T) {
			server := newStand(t, answer)
			client := outcomeClient(t, nil, soon)
			posted, err := retry.PostJSON[map[string]int](t.Context(), client, server.URL, 7)
			assert.NoError(t, err)
			assert.Zero(t, posted)
			got, err := retry.GetJSON[*struct{}](t.Context(), client, server.URL)
			assert.NoError(t, err)
			assert.Nil(t, got)
			assert.Equal(t, 2, server.hits())
		})
	}
	t.Run("of unknown length it may have been cut off", func(t *testing.T) {
		for _, head := range []string{"HTTP/1.1 202 Accepted\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n \r\n"} {
			server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
				conn, _, _ := w.(http.Hijacker).Hijack()
				io.WriteString(conn, head)
				conn.Close()
			})
			_, err := retry.GetJSON[int](t.Context(), outcomeClient(t, nil, soon), server.URL)
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
			assert.ErrorContains(t, err, `Get "`+server.URL+`": unexpected EOF`, "who reads only the text must know of what")
			assert.Equal(t, 4, server.hits())
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		for _, answer := range []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202) }, sending(202, "", "")} {
			server := unstarted(t, answer)
			server.EnableHTTP2 = true
			server.StartTLS()
			got, err := retry.PostJSON[int](t.Context(), outcomeClient(t, server.Client(), soon), server.URL, 7)
			assert.NoError(t, err)
			assert.Zero(t, got)
			assert.Equal(t, 1, server.hits())
		}
	})
	t.Run("a response by hand", func(t *testing.T) { // its ContentLength of 0 says nothing
		got, err := retry.DecodeJSON[int](&http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("7"))})
		assert.NoError(t, err)
		assert.Equal(t, 7, got)
		got, err = retry.DecodeJSON[int](&http.Response{StatusCode: 200})
		assert.NoError(t, err)
		assert.Zero(t, got)
		_, err = retry.DecodeJSON[int](nil)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	})
}

// A server that sent all its JSON, and then neither a byte nor the end, was asked
// four times, each time until the time limit.
func TestJSONFollowedBySilence(t *testing.T) {
	for _, text := range []string{`{"a":[1,"}"]}`, `[]`, `"BRCA1"`, `"a\\\"b"`, "\"\u00e9\\u00e9\"", `true`, `false`, `null`, " \n{} ", "\xef\xbb\xbf{}", "\xef\xbb\xbf\"x\""} {
		for _, head := range []string{"Content-Length: 1000\r\n\r\n" + text, fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(text), text)} {
			t.Run(text, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				server := newStand(t, func(w http.ResponseWriter, r *http.Request) {
					conn, _, _ := w.(http.Hijacker).Hijack()
					defer conn.Close()
					io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+head)
					<-release
				})
				defer close(release)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_, err := retry.GetJSON[any](ctx, outcomeClient(t, nil, soon), server.URL)
				assert.NoError(t, err)
				assert.Equal(t, 1, server.hits())
			})
		}
	}
}

// What is complete is so in any number of pieces, and so is what is not.
func TestJSONInPieces(t *testing.T) {
	for text, good := range map[string]bool{
		`{"a":"\"","b":[true,null]}`: true, `"a\\"`: true, `12.5`: true, `false`: true, " \t\r\n null \n": true, "\xef\xbb\xbf[]": true,
		`"a`: false, `"a\"`: false, `tru`: false, `[1`: false, "\xef\xbb\xbf": false, "\xef\xbb": false,
		`nul1`: false, `{} {}`: false, `"a" "b"`: false, `true false`: false, `<html>`: false, `truefalse`: false,
	} {
		var pieces []io.Reader
		for i := range len(text) {
			pieces = append(pieces, strings.NewReader(text[i:i+1]))
		}
		_, whole := retry.DecodeJSON[any](&http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader(text))})
		assert.Equal(t, good, whole == nil, "%q: %v", text, whole)
		_, err := retry.DecodeJSON[any](&http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(io.MultiReader(pieces...))})
		if strings.Contains(text, " ") && !good || text == "truefalse" {
			continue // what follows the value is not waited for
		}
		assert.Equal(t, good, err == nil, "%q: %v", text, err)
	}
}

// A 304, and a redirect that the client does not follow, have no JSON: they were
// "cut off", and asked for again.
func TestJSONOfAStatusBelow400(t *testing.T) {
	unfollowed := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, test := range []struct {
		code   int
		answer http.HandlerFunc
		base   *http.Client
		name   string
	}{
		{304, status(304), nil, "304 Not Modified"},
		{300, sending(300, "application/json", `{}`), nil, "300 Multiple Choices"},
		{302, status(302, "Location", "/there?key=SECRET"), unfollowed, "302 Found"},
		{307, status(307, "Location", "/there"), unfollowed, "307 Temporary Redirect"},
		{305, status(305), nil, "305 Use Proxy"},
	} {
		server := newStand(t, test.answer)
		_, err := retry.GetJSON[any](t.Context(), outcomeClient(t, test.base, soon), server.URL)
		var found *retry.StatusError
		require.ErrorAs(t, err, &found)
		assert.Equal(t, test.code, found.StatusCode)
		assert.EqualError(t, err, "GET "+server.URL+": "+test.name)
		assert.Equal(t, 1, server.hits())
	}
}

// An HTML page, of a login or a proxy, in the place of JSON: "invalid character
// '<'" told nobody where to look.
func TestJSONThatIsALoginPage(t *testing.T) {
	page := "<!DOCTYPE html>\n<html><head><title>Sign in</title>" + strings.Repeat(" x", 500)
	server := newStand(t, sending(200, "text/html; charset=utf-8", page))
	_, err := retry.GetJSON[map[string]int](t.Context(), outcomeClient(t, nil, soon), server.URL)
	require.Error(t, err)
	assert.Equal(t, 1, server.hits())
	for _, part := range []string{"200 OK", "text/html", `<!DOCTYPE html> <html>`, "Sign in", "invalid character '<'"} {
		assert.ErrorContains(t, err, part)
	}
	assert.NotContains(t, err.Error(), "\n")
	assert.Less(t, len(err.Error()), 300)

	_, err = retry.DecodeJSON[int](&http.Response{StatusCode: 203, Body: io.NopCloser(strings.NewReader(`"private"`))})
	assert.ErrorContains(t, err, "203 Non-Authoritative Information")
	assert.NotContains(t, err.Error(), "private", "it was JSON after all")
}

func TestNewJSONRequest(t *testing.T) {
	req, err := retry.NewJSONRequest(t.Context(), "PUT", "https://h.example/gene", map[string]int{"a": 1})
	require.NoError(t, err)
	assert.Equal(t, "PUT", req.Method)
	assert.Equal(t, "application/json", req.Header.Get("Content-Type"))
	assert.Equal(t, "application/json", req.Header.Get("Accept"))
	assert.EqualValues(t, 7, req.ContentLength)
	for range 2 {
		body, err := req.GetBody()
		require.NoError(t, err)
		text, _ := io.ReadAll(body)
		assert.Equal(t, `{"a":1}`, string(text))
	}
	req, err = retry.NewJSONRequest(t.Context(), "GET", "https://h.example/gene", nil)
	require.NoError(t, err)
	assert.Nil(t, req.Body)
	assert.Empty(t, req.Header.Get("Content-Type"))

	for _, make := range []func() (*http.Request, error){
		func() (*http.Request, error) { return retry.NewJSONRequest(t.Context(), "GET", "http://[::1", nil) },
		func() (*http.Request, error) { return retry.NewJSONRequest(t.Context(), "G ET", "http://h", nil) },
		func() (*http.Request, error) { return retry.NewJSONRequest(t.Context(), "PUT", "http://h", func() {}) },
		func() (*http.Request, error) { return retry.NewJSONRequest(nil, "GET", "http://h", nil) }, //lint:ignore SA1012 that is the test
	} {
		_, err := make()
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	}

	server := newStand(t, status(503), sending(200, "application/json", `{"Symbol":"BRCA1"}`))
	req, err = retry.NewJSONRequest(t.Context(), "PUT", server.URL, []int{1})
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer x")
	got, err := retry.Fetch(outcomeClient(t, nil, soon), req, retry.DecodeJSON[struct{ Symbol string }])
	require.NoError(t, err)
	assert.Equal(t, "BRCA1", got.Symbol)
	for _, r := range server.requests() {
		assert.Equal(t, "[1]", r.body)
		assert.Equal(t, "Bearer x", r.header.Get("Authorization"))
	}
	_, err = retry.PostJSON[any](t.Context(), outcomeClient(t, nil, soon), server.URL, nil)
	require.NoError(t, err)
	assert.Equal(t, "null", server.requests()[2].body)
	_, err = retry.PostJSON[any](t.Context(), outcomeClient(t, nil, soon), server.URL, func() {})
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
}

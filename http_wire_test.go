package retry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// A transport that signs saw "X-Idempotency-Key: []" on PUT and DELETE, a mark for
// net/http that is not sent, signed it, and got SignatureDoesNotMatch. The mark is set
// beneath it, and still works: net/http itself repeats a PUT whose connection, used
// before, turned out to be closed.
func TestSignerSeesWhatIsSent(t *testing.T) {
	for _, method := range []string{"PUT", "DELETE", "QUERY", "POST", "PATCH"} {
		for _, query := range []string{"", "?signature=x"} {
			t.Run(method+query, func(t *testing.T) {
				server := newStand(t, status(200), reset, status(200))
				var signed []http.Header
				cfg, tr := track(soon)
				client := outcomeClient(t, nil, cfg, retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
					return roundTrip(func(req *http.Request) (*http.Response, error) {
						signed = append(signed, req.Header.Clone())
						req = req.Clone(req.Context())
						req.URL.RawQuery = strings.TrimPrefix(query, "?")
						return base.RoundTrip(req)
					})
				}))
				resp, err := client.Get(t.Context(), server.URL)
				read(t, resp, err)
				req := newRequest(t, method, server.URL, strings.NewReader("x"))
				resp, err = client.Do(req.WithContext(retry.WithIdempotent(req.Context(), true)))
				read(t, resp, err)
				assert.Equal(t, 1, tr.last().Attempt, "net/http repeated it")
				require.Len(t, signed, 2)
				for _, r := range server.requests()[1:] {
					for name := range signed[1] {
						assert.Equal(t, signed[1][name], r.header[name], name)
					}
					assert.NotContains(t, r.header, "X-Idempotency-Key")
				}
				assert.Len(t, server.requests(), 3)
			})
		}
	}
}

// net/http itself repeats a GET, and whatever has a key, when a connection that was used
// before breaks with the request on it. A caller who says that the request is not
// idempotent had it carried out twice all the same.
func TestNotIdempotentHoldsForNetHTTPToo(t *testing.T) {
	for _, method := range []string{"GET", "", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "LOCK"} {
		for _, key := range []string{"", "Idempotency-Key", "X-Idempotency-Key"} {
			for _, body := range []string{"", "x"} {
				t.Run(strings.Join([]string{method, key, body}, " "), func(t *testing.T) {
					server := newStand(t, status(200), reset, status(200))
					client := outcomeClient(t, nil, soon)
					send := func(idempotent bool) (*http.Response, error) {
						req := newRequest(t, method, server.URL, nil)
						if body != "" {
							req = newRequest(t, method, server.URL, strings.NewReader(body))
						}
						if key != "" {
							req.Header.Set(key, "k")
						}
						return client.Do(req.WithContext(retry.WithIdempotent(req.Context(), idempotent)))
					}
					resp, err := send(true)
					read(t, resp, err)
					_, err = send(false)
					assert.ErrorIs(t, err, retry.ErrNotIdempotent)
					require.Equal(t, 2, server.hits())
					first, second := server.requests()[0], server.requests()[1]
					assert.Equal(t, first.header, second.header)
					assert.Equal(t, first.body, second.body)
					assert.Equal(t, first.length, second.length)
					assert.Empty(t, second.encoding)
				})
			}
		}
	}
}

// RetryCount was 0 in a check and in a decoder, so that what was to be done once, at
// the first failure, was done at each.
func TestChecksAndDecodersKnowTheAttempt(t *testing.T) {
	for _, code := range []int{500, 401, 200} {
		server := newStand(t, status(code))
		var checks, decodes []int
		client := outcomeClient(t, nil, soon, retry.CheckResponse(func(resp *http.Response) error {
			checks = append(checks, retry.RetryCount(resp.Request.Context()))
			if code == 401 {
				return retry.RetryAfter(retry.CheckStatus(resp), 0)
			}
			return nil
		}))
		_, err := retry.Fetch(client, newRequest(t, "GET", server.URL, nil), func(resp *http.Response) (int, error) {
			decodes = append(decodes, retry.RetryCount(resp.Request.Context()))
			return 0, assert.AnError
		})
		assert.Error(t, err)
		assert.Equal(t, []int{0, 1, 2, 3}, checks, code)
		if code == 200 {
			assert.Equal(t, checks, decodes)
		}
	}
}

// framed is a raw HTTP answer, whose body ends by its length, its last chunk, or the
// end of the connection.
func framed(framing, coding string, body []byte) string {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	if coding != "" {
		head += "Content-Encoding: " + coding + "\r\n"
	}
	switch framing {
	case "length":
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	case "chunks", "trailers":
		head += "Transfer-Encoding: chunked\r\n\r\n"
		if len(body) > 0 {
			head += fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
		}
		if framing == "trailers" {
			return head + "0\r\nX-Sum: 7\r\nServer-Timing: db;dur=3\r\n\r\n"
		}
		return head + "0\r\n\r\n"
	}
	return head + "Connection: close\r\n\r\n" + string(body)
}

func zipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.Bytes()
}

// Whether a body is complete depends on how it is framed and coded. A POST whose
// complete answer was empty was sent again, although the status said that it was
// carried out.
func TestEmptyAnswerToAPostIsNotAskedForAgain(t *testing.T) {
	for _, framing := range []string{"length", "chunks", "trailers", "close"} {
		for coding, body := range map[string][]byte{"": nil, "gzip": zipped("")} {
			for how, fetch := range fetches {
				for _, sender := range senders {
					t.Run(strings.Join([]string{framing, coding, how, sender.method}, " "), func(t *testing.T) {
						url, hits := newAnswers(t, framed(framing, coding, body))
						_, err := fetch(outcomeClient(t, nil, soon, sender.opts...), newRequest(t, sender.method, url, strings.NewReader("x")))
						assert.Equal(t, how == "DecodeJSON", err == nil, "%v", err)
						assert.EqualValues(t, 1, hits.Load())
					})
				}
			}
		}
	}
}

// A body whose checksum alone shows that it is damaged was taken for good: the
// decoder had its value before the end came.
func TestDamagedBodyIsNoSuccess(t *testing.T) {
	good := zipped(`{"a":"b"}`)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-6] ^= 0xff // in the checksum
	for _, framing := range []string{"length", "chunks", "trailers", "close"} {
		for name, fetch := range map[string]func(*retry.RetryableClient, string) (map[string]string, error){
			"GET": func(c *retry.RetryableClient, url string) (map[string]string, error) {
				return retry.GetJSON[map[string]string](context.Background(), c, url)
			},
			"POST with a key": func(c *retry.RetryableClient, url string) (map[string]string, error) {
				return retry.PostJSON[map[string]string](context.Background(), c, url, 1)
			},
			"own decoder": func(c *retry.RetryableClient, url string) (map[string]string, error) {
				return retry.Fetch(c, newRequest(t, "GET", url, nil), func(resp *http.Response) (map[string]string, error) {
					_, err := resp.Body.Read(make([]byte, 1)) // as much as it wants
					return map[string]string{"a": "b"}, err
				})
			},
		} {
			t.Run(framing+name, func(t *testing.T) {
				url, hits := newAnswers(t, framed(framing, "gzip", damaged), framed(framing, "gzip", good))
				got, err := fetch(outcomeClient(t, nil, soon), url)
				assert.NoError(t, err)
				assert.Equal(t, map[string]string{"a": "b"}, got)
				assert.EqualValues(t, 2, hits.Load())
			})
		}
	}
	// DecodeJSON without Fetch: of a value that fills its first read exactly, 512 bytes,
	// no further read shows the end.
	for _, length := range []int{9, 512} {
		value := zipped(`{"a":"` + strings.Repeat("b", length-len(`{"a":""}`)) + `"}`)
		value[len(value)-6] ^= 0xff
		url, _ := newAnswers(t, framed("length", "gzip", value))
		resp, err := http.Get(url)
		require.NoError(t, err)
		_, err = retry.DecodeJSON[map[string]string](resp)
		assert.ErrorIs(t, err, gzip.ErrChecksum, length)
		resp.Body.Close()
	}

	url, hits := newAnswers(t, framed("length", "gzip", damaged))
	_, err := retry.PostJSON[map[string]string](t.Context(), outcomeClient(t, nil, soon, retry.IdempotentOnly()), url, 1)
	assert.ErrorIs(t, err, retry.ErrNotIdempotent)
	assert.ErrorIs(t, err, gzip.ErrChecksum)
	assert.EqualValues(t, 1, hits.Load())
}

// Lines of a log about a request say which: several hosts share a Config, and a name.
func TestLogLinesNameTheRequest(t *testing.T) {
	server := newStand(t, status(502, "Connection", "close"), reset, status(500))
	text, logger := newLog()
	cfg, tr := track(soon)
	cfg.Logger, cfg.Name = logger, "genes"
	_, err := outcomeClient(t, nil, cfg).Post(t.Context(), server.URL+"/?key=SECRET", "", nil)
	require.Error(t, err)
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	require.Len(t, lines, 4)
	for i, want := range []string{"status=502", "", "status=500", "status=500"} {
		assert.Contains(t, lines[i], "name=genes method=POST host="+server.URL)
		if assert.Contains(t, lines[i], want); want == "" {
			assert.NotContains(t, lines[i], "status=", "there was no answer")
		}
		assert.NotContains(t, lines[i], "SECRET")
	}
	assert.Equal(t, server.URL, tr.last().Host)
}

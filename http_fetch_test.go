package retry_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

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

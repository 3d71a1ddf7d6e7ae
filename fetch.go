package retry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Fetch sends req and decodes the response. Decoding is part of the attempt: if
// it fails because the body was cut off, or with any other error that [Do]
// would retry, the request is sent again, and decode is called anew: it must
// begin from the start, say with an empty file. Mark errors that no retry can
// help with [Permanent]. Only responses below 400 are decoded. The body is
// closed for decode.
func Fetch[T any](c *RetryableClient, req *http.Request, decode func(*http.Response) (T, error)) (T, error) {
	var value, zero T
	if c == nil || req == nil || decode == nil {
		if req != nil {
			closeBody(req)
		}
		return zero, invalid("Fetch: client, request or decode is nil")
	}
	decoded := false
	inAttempt := func(resp *http.Response) (err error) {
		if limit := c.core.decodeLimit; limit > 0 {
			resp.Body = http.MaxBytesReader(nil, resp.Body, limit)
		}
		value, err = decode(resp)
		decoded = err == nil
		return err
	}
	resp, err := c.do(req, inAttempt)
	if err != nil {
		return zero, err
	}
	defer resp.Body.Close()
	if !decoded { // a redirect that the client does not follow
		if err := inAttempt(resp); err != nil {
			return zero, unmarked(err)
		}
	}
	return value, nil
}

// GetJSON sends a GET request and decodes the JSON of the response into a T. A
// body that was cut off is retried, one that is no JSON or does not fit T is
// not. A response without a body (204) is a zero T.
func GetJSON[T any](ctx context.Context, c *RetryableClient, url string) (T, error) {
	return fetchJSON[T](ctx, c, http.MethodGet, url, nil)
}

// PostJSON sends in as JSON, and decodes the response as [GetJSON] does.
func PostJSON[T any](ctx context.Context, c *RetryableClient, url string, in any) (T, error) {
	body, err := json.Marshal(in)
	if err != nil {
		var zero T
		return zero, invalid("PostJSON: %w", err)
	}
	return fetchJSON[T](ctx, c, http.MethodPost, url, body)
}

func fetchJSON[T any](ctx context.Context, c *RetryableClient, method, url string, in []byte) (T, error) {
	var zero T
	var body io.Reader
	if in != nil {
		body = bytes.NewReader(in)
	}
	req, err := newRequest(ctx, method, url, body)
	if err != nil {
		return zero, err
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return Fetch(c, req, decodeJSON[T])
}

func decodeJSON[T any](resp *http.Response) (T, error) {
	var value, zero T
	if resp.StatusCode == http.StatusNoContent {
		return zero, nil
	}
	body := &errorReader{r: resp.Body}
	decoder := json.NewDecoder(body)
	err := decoder.Decode(&value)
	if err == nil {
		if _, err = decoder.Token(); err == io.EOF {
			return value, nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	switch {
	case body.err != nil: // the body was cut off
		err = body.err
	case err == io.EOF, err == io.ErrUnexpectedEOF: // so was the JSON
		err = io.ErrUnexpectedEOF
	default:
		err = Permanent(fmt.Errorf("decoding JSON: %w", err))
	}
	return zero, err
}

// errorReader remembers an error of reading, to tell it from one of decoding.
type errorReader struct {
	r   io.Reader
	err error
}

func (r *errorReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

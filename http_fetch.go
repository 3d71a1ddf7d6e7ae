package retry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// Fetch sends req and decodes the response. Decoding is part of the attempt: if it
// fails with an error that [Do] would retry, such as that of a body that was cut
// off, the request is sent again and decode is called anew. So decode must begin
// from the start each time, say with an empty file. An error of decode that no retry
// can help is to be marked [Permanent]. Only responses below 400 are decoded. Fetch
// closes the body.
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
	resp, err := c.do(req, func(t *Transport) { t.decode = inAttempt })
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

// GetJSON sends a GET request and decodes the response as [DecodeJSON] does. A
// body that was cut off is retried, one that is no JSON or does not fit T is
// not.
func GetJSON[T any](ctx context.Context, c *RetryableClient, url string) (T, error) {
	return fetchJSON[T](c)(NewJSONRequest(ctx, http.MethodGet, url, nil))
}

// PostJSON sends a POST request with the value in as JSON, nil as null, and decodes
// the response as [GetJSON] does.
func PostJSON[T any](ctx context.Context, c *RetryableClient, url string, in any) (T, error) {
	if in == nil {
		in = json.RawMessage("null")
	}
	return fetchJSON[T](c)(NewJSONRequest(ctx, http.MethodPost, url, in))
}

func fetchJSON[T any](c *RetryableClient) func(*http.Request, error) (T, error) {
	return func(req *http.Request, err error) (T, error) {
		if err != nil {
			var zero T
			return zero, err
		}
		return Fetch(c, req, DecodeJSON[T])
	}
}

// NewJSONRequest returns a request that accepts JSON, and whose body is the value in
// as JSON; it has none if in is nil. Add headers to it, and send it by [Fetch] with
// [DecodeJSON]. If in cannot be written as JSON, or method or URL are malformed, the
// error matches [ErrInvalidConfig].
func NewJSONRequest(ctx context.Context, method, url string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, invalid("request body: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := newRequest(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

package retry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// beforeRedirect waits as long as a redirect asks to (RFC 9110, section 10.2.3).
func (h *hop) beforeRedirect(ctx context.Context) error {
	if location := h.resp.Header.Get("Location"); location != "" {
		if _, err := url.Parse(location); err != nil { // net/http's error would quote it whole
			return &url.Error{Op: "parse", URL: redactURL(location), Err: errors.New("malformed Location")}
		}
	}
	if len(h.resp.Header["Retry-After"]) == 0 {
		return nil
	}
	cfg := &h.host.cfg
	wait, _ := ParseRetryAfter(h.resp.Header, cfg.now())
	stop := h.call.fits(ctx, cfg, wait)
	if wait > cfg.maxRetryAfter() {
		stop = halt{reason: ErrRetryAfterTooLong}
	}
	if stop.reason == nil && wait > 0 {
		h.call.sleep(ctx, cfg, wait)
		h.call.alarm.stop()
		stop = h.call.fits(ctx, cfg, 0)
	}
	if stop.reason == nil {
		return nil
	}
	return h.call.error(cfg, stop, nil)
}

// Limits of what is read of a response that is not wanted.
const (
	drainBytes = 64 << 10
	drainTime  = 50 * time.Millisecond
)

// closeResponse closes a response that is not wanted, after reading what little
// may be left of it: only then can an HTTP/1 connection be used again.
func closeResponse(resp *http.Response) {
	if resp.Body == nil {
		return
	}
	if resp.ProtoMajor < 2 && !resp.Close && resp.ContentLength != 0 && resp.ContentLength <= drainBytes {
		// Real time, whatever the clock: a guard against a peer that drips.
		// Closing is what ends a Read that hangs.
		guard := time.AfterFunc(drainTime, func() { resp.Body.Close() })
		io.CopyN(io.Discard, resp.Body, drainBytes)
		guard.Stop()
	}
	resp.Body.Close()
}

func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return resp.Header.Get("Location") != ""
	}
	return false
}

// timedBody ends an attempt's time limits with its body.
type timedBody struct {
	io.ReadCloser
	timeout *timeoutContext
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.timeout.cancel()
	}
	return n, err
}

func (b *timedBody) Close() error {
	defer b.timeout.cancel()
	return b.ReadCloser.Close()
}

// givenUp carries the loop's error past http.Client to the RetryableClient.
type givenUp struct {
	io.ReadCloser
	err error
}

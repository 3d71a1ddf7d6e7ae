package retry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

func TestRetryable(t *testing.T) {
	transport := func(err error) error { return &url.Error{Op: "Get", URL: "https://host/", Err: err} }
	for _, err := range []error{
		errDown, context.Canceled, context.DeadlineExceeded, retry.RetryAfter(errDown, 0),
		&retry.StatusError{StatusCode: 429}, &retry.StatusError{StatusCode: 503}, &retry.StatusError{StatusCode: 403, RetryAfter: 1},
		transport(&net.OpError{Op: "dial", Err: errDown}), transport(&net.DNSError{IsTemporary: true}), &url.Error{Op: "custom", URL: "no scheme"},
		retry.RetryAfter(&retry.Error{Reason: retry.ErrMaxRetries}, 0), // the caller insists
	} {
		assert.True(t, retry.Retryable(err), "%T %v", err, err)
		assert.True(t, retry.Retryable(fmt.Errorf("wrapped: %w", err)), "%T %v", err, err)
	}
	for _, err := range []error{
		nil, retry.Permanent(errDown), errors.Join(errDown, retry.Permanent(errDown)), retry.ErrInvalidConfig, http.ErrSchemeMismatch,
		&retry.StatusError{StatusCode: 404}, &retry.StatusError{StatusCode: 403}, &retry.StatusError{StatusCode: 501},
		&retry.OpenError{}, &retry.OpenError{Err: retry.RetryAfter(errDown, 1)},
		&retry.Error{Reason: retry.ErrMaxRetries, Err: retry.RetryAfter(errDown, 1)},
		transport(&tls.CertificateVerificationError{Err: errDown}), transport(tls.AlertError(40)), transport(tls.RecordHeaderError{}),
		x509.UnknownAuthorityError{}, x509.HostnameError{}, x509.CertificateInvalidError{}, x509.SystemRootsError{}, &tls.ECHRejectionError{},
		transport(&net.OpError{Op: "remote error", Err: errDown}), transport(&net.OpError{Op: "local error", Err: errDown}),
		transport(&net.DNSError{IsNotFound: true}), transport(&net.AddrError{}), transport(&net.ParseError{}),
		net.InvalidAddrError(""), net.UnknownNetworkError(""), url.EscapeError(""), url.InvalidHostError(""), &http.MaxBytesError{},
		&url.Error{Op: "parse", URL: ":", Err: errDown}, &url.Error{Op: "Get", URL: "gopher://host/", Err: errDown},
	} {
		assert.False(t, retry.Retryable(err), "%T", err)
		if err != nil {
			assert.False(t, retry.Retryable(fmt.Errorf("wrapped: %w", err)), "%T", err)
		}
	}
}

// An open breaker's rejection inside of fn ends the call, whoever's it is, even
// where its last failure asked for a retry.
func TestRejectionOfAnotherBreakerIsNotRetried(t *testing.T) {
	b, _ := newBreaker(t, nil)
	report(t, b, 3, retry.RetryAfter(&retry.StatusError{StatusCode: 503}, time.Millisecond))
	calls := 0
	err := retry.Run(t.Context(), retry.Config{}, func(ctx context.Context) error {
		calls++
		return b.Do(ctx, func(context.Context) error { return nil })
	})
	assert.ErrorIs(t, err, retry.ErrCircuitOpen)
	assert.Equal(t, 1, calls)
}

func TestErrorText(t *testing.T) {
	secret := &url.Error{Op: "Get", URL: "https://user:pass@host/a?key=SECRET&TOKEN#frag", Err: errDown}
	for want, err := range map[string]error{
		"retry: no retries left after 3 attempts: down":      &retry.Error{Attempts: 3, Reason: retry.ErrMaxRetries, Err: errDown},
		"retry: context canceled after 0 attempts":           &retry.Error{Reason: context.Canceled},
		"retry: no retries left after 1 attempt in 12.3s: d": &retry.Error{Attempts: 1, Elapsed: 12345 * time.Millisecond, Reason: retry.ErrMaxRetries, Err: errors.New("d")},
		"retry: no retries left after 1 attempt in 12ms: d":  &retry.Error{Attempts: 1, Elapsed: 12345 * time.Microsecond, Reason: retry.ErrMaxRetries, Err: errors.New("d")},
		`retry: no retries left after 1 attempt: Get "https://xxxxx@host/a?key=xxxxx&xxxxx": down`: &retry.Error{
			Attempts: 1, Reason: retry.ErrMaxRetries, Err: secret},
		`retry: no retries left after 1 attempt: Get "http:xxxxx": down`: &retry.Error{
			Attempts: 1, Reason: retry.ErrMaxRetries, Err: &url.Error{Op: "Get", URL: "http://h:port/?key=SECRET", Err: errDown}},
	} {
		assert.EqualError(t, err, want)
	}
	e := &retry.Error{Reason: retry.ErrMaxRetries, Err: &url.Error{Op: "Get", URL: "http://h/", Err: context.DeadlineExceeded}}
	assert.True(t, e.Timeout(), "its last attempt ran out of time")
	assert.False(t, (&retry.Error{Reason: retry.ErrMaxRetries, Err: errDown}).Timeout())
}

// %+v of what a call gave up with shows the body of the response, which often says
// what is wrong, as that of the response's own error does; nothing else shows it.
func TestErrorShowsTheBody(t *testing.T) {
	status := &retry.StatusError{StatusCode: 503, Method: "GET", URL: "https://h.example/?key=SECRET", Body: []byte("quota\nexceeded"), Header: http.Header{"A": {"SECRET"}}}
	for _, inner := range []error{status, fmt.Errorf("get: %w", status), errors.Join(errDown, status)} {
		e := &retry.Error{Attempts: 2, Reason: retry.ErrMaxRetries, Err: inner}
		assert.Equal(t, e.Error()+": quota exceeded", fmt.Sprintf("%+v", e))
		for _, verb := range []string{"%v", "%s", "%q", "%#v"} {
			assert.NotContains(t, fmt.Sprintf(verb, e), "exceeded", verb)
		}
		assert.NotContains(t, fmt.Sprintf("%v %+v %s %q %#v", e, e, e, e, e), "SECRET")
	}
	e := &retry.Error{Attempts: 2, Reason: retry.ErrMaxRetries, Err: errDown}
	assert.Equal(t, e.Error(), fmt.Sprintf("%+v", e))
	assert.Equal(t, "<nil> <nil>", fmt.Sprintf("%v %+v", (*retry.Error)(nil), (*retry.Error)(nil)))
}

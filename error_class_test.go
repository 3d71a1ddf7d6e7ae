package retry_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

func failedWith(code int) error { return &retry.StatusError{StatusCode: code} }

// Of Join(503, 404) and Join(404, 503) one was retried and the other was not: only
// the first status was looked at. Now all branches must be retryable, and a mark
// around the whole still wins.
func TestJoinedErrorsAreJudgedAlike(t *testing.T) {
	retryable := []error{errDown, failedWith(503), failedWith(429), retry.RetryAfter(failedWith(404), 0), context.DeadlineExceeded}
	final := []error{failedWith(404), retry.Permanent(errDown), &retry.OpenError{}, &retry.Error{Reason: retry.ErrMaxRetries},
		&retry.PauseError{}, sql.ErrNoRows, fs.ErrNotExist, &net.DNSError{IsNotFound: true}, fmt.Errorf("w: %w", failedWith(400))}
	for _, a := range retryable {
		for _, b := range retryable {
			assert.True(t, retry.Retryable(errors.Join(a, b)), "%v, %v", a, b)
			assert.True(t, retry.Retryable(fmt.Errorf("%w and %w", a, b)), "%v, %v", a, b)
		}
		for _, b := range final {
			for _, err := range []error{errors.Join(a, b), errors.Join(b, a), fmt.Errorf("%w, %w", a, b), errors.Join(errors.Join(b), a), errors.Join(nil, a, nil, errors.Join(a, b))} {
				assert.False(t, retry.Retryable(err), "%v, %v", a, b)
				assert.Equal(t, !errors.Is(b, errDown), retry.Retryable(retry.RetryAfter(err, 0)), "the mark is around the whole: %v, %v", a, b)
				assert.False(t, retry.Retryable(retry.Permanent(err)))
			}
		}
	}
	calls := 0
	err := retry.Run(t.Context(), retry.Config{RetryStatusCodes: []int{404, 503}, Backoff: retry.ConstantBackoff(0)}, func(context.Context) error {
		calls++
		return errors.Join(failedWith(503), failedWith(404), failedWith([]int{404, 400}[min(calls, 2)/2]))
	})
	assert.Error(t, err)
	assert.Equal(t, 2, calls, "all branches go by RetryStatusCodes")
}

// Of several hints the first one counted: two servers' wishes are both kept only by
// the longer.
func TestLongestHintOfJoinedErrors(t *testing.T) {
	asks := func(code int, d time.Duration) error { return &retry.StatusError{StatusCode: code, RetryAfter: d} }
	for name, test := range map[string]struct {
		err  error
		want time.Duration
	}{
		"marks":                  {errors.Join(retry.RetryAfter(errDown, time.Second), retry.RetryAfter(errDown, 10*time.Second)), 10 * time.Second},
		"marks, the other way":   {errors.Join(retry.RetryAfter(errDown, 10*time.Second), retry.RetryAfter(errDown, time.Second)), 10 * time.Second},
		"statuses":               {errors.Join(asks(503, time.Second), asks(429, 10*time.Second)), 10 * time.Second},
		"a mark and a status":    {errors.Join(retry.RetryAfter(errDown, time.Second), asks(429, 10*time.Second)), 10 * time.Second},
		"a status and a mark":    {errors.Join(asks(429, time.Second), retry.RetryAfter(errDown, 10*time.Second)), 10 * time.Second},
		"nested":                 {errors.Join(errDown, fmt.Errorf("%w: %w", errDown, errors.Join(asks(429, 10*time.Second), errDown))), 10 * time.Second},
		"the whole is marked":    {retry.RetryAfter(errors.Join(asks(429, 10*time.Second), errDown), 2*time.Second), 2 * time.Second},
		"a mark inside a mark":   {retry.RetryAfter(retry.RetryAfter(errDown, 10*time.Second), 2*time.Second), 2 * time.Second},
		"stale, in an Error":     {errors.Join(retry.RetryAfter(errDown, time.Second), retry.RetryAfter(&retry.Error{Err: asks(429, 10*time.Second)}, 0)), time.Second},
		"stale, in an OpenError": {retry.RetryAfter(&retry.OpenError{Err: retry.RetryAfter(errDown, 10*time.Second)}, time.Second), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := retry.Config{Backoff: retry.ConstantBackoff(0), Jitter: retry.NoJitter, MaxRetries: 1}
			waits, err := retrytest.Run(t, cfg, calling(t, test.err))
			assert.Error(t, err)
			assert.Equal(t, test.want, waits.Total())
		})
	}
}

// A stale wish to wait, inside the rejection of a breaker or the end of an inner
// call, closed the gate again with each call.
func TestNoHintFromErrorsOfOldAttempts(t *testing.T) {
	stale := retry.RetryAfter(errDown, time.Hour)
	for _, err := range []error{
		&retry.OpenError{Err: stale}, &retry.PauseError{RetryAfter: time.Minute, Err: stale}, &retry.Error{Reason: retry.ErrMaxRetries, Err: stale},
		fmt.Errorf("wrapped: %w", &retry.Error{Reason: retry.ErrCircuitOpen, Err: &retry.StatusError{StatusCode: 429, RetryAfter: time.Hour}}),
		errors.Join(errDown, &retry.OpenError{Err: stale}),
	} {
		gate := retry.NewGate(nil)
		calls := 0
		_ = retry.Run(t.Context(), retry.Config{Gate: gate}, func(context.Context) error { calls++; return err })
		_, paused := gate.PausedUntil()
		assert.False(t, paused, "%v", err)
		assert.Equal(t, 1, calls, "%v", err)
	}
}

// A row, a file or a program that is not there was asked for six times, for half a
// minute. What a retry cannot change is told by the standard library's types.
func TestWhatLasts(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	_, notThere := os.Open(missing)
	_, notListed := os.ReadDir(missing)
	notRenamed := os.Rename(missing, missing+"2")
	_, noProgram := exec.LookPath("no-such-program")
	notStarted := exec.Command(missing).Run()
	closed, err := os.Create(missing + "3")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, notOpen := closed.Read(make([]byte, 1))
	var number struct{ N int }
	notFitting := json.Unmarshal([]byte(`{"N":"text"}`), &number)
	noJSON := &json.UnsupportedValueError{Str: "NaN"}
	for _, err := range []error{
		sql.ErrNoRows, sql.ErrTxDone, fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed, os.ErrNotExist, errors.ErrUnsupported, exec.ErrNotFound, exec.ErrDot,
		notThere, notListed, notRenamed, noProgram, notStarted, notOpen, notFitting, noJSON, &json.InvalidUnmarshalError{},
		&fs.PathError{Op: "open", Err: syscall.EACCES}, &fs.PathError{Op: "open", Err: syscall.EPERM},
	} {
		require.Error(t, err)
		calls := 0
		got := retry.Run(t.Context(), soon, func(context.Context) error { calls++; return fmt.Errorf("wrapped: %w", err) })
		assert.Equal(t, 1, calls, "%T %v", err, err)
		assert.ErrorIs(t, got, err)
		assert.True(t, retry.Retryable(retry.RetryAfter(err, 0)), "the caller knows better: %v", err)
	}
	var value any
	for _, err := range []error{ // these need not last
		&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ENOENT)}, // the server starts
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)},
		fs.ErrExist, &fs.PathError{Op: "open", Err: fs.ErrExist}, &fs.PathError{Op: "open", Err: syscall.EMFILE}, &fs.PathError{Op: "write", Err: syscall.ENOSPC},
		sql.ErrConnDone, json.Unmarshal([]byte(`{"N":`), &value), &strconv.NumError{Err: strconv.ErrSyntax},
		context.Canceled, context.DeadlineExceeded, os.ErrDeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, &exec.ExitError{},
	} {
		assert.True(t, retry.Retryable(err), "%T %v", err, err)
	}
}

// Drivers and file systems have errors of their own, which are those of the
// standard library by an Is method alone; they were asked for again and again.
func TestErrorsThatSayThatTheyLast(t *testing.T) {
	for _, err := range []error{
		&matching{sql.ErrNoRows}, &matching{fs.ErrNotExist}, &matching{fs.ErrPermission}, &matching{errors.ErrUnsupported}, &matching{retry.ErrInvalidConfig},
		http.ErrNotSupported, syscall.ENOSYS, os.NewSyscallError("splice", syscall.EOPNOTSUPP), retry.ErrCircuitOpen,
	} {
		assert.False(t, retry.Retryable(err), "%T %v", err, err)
		assert.False(t, retry.Retryable(errors.Join(errDown, fmt.Errorf("wrapped: %w", err))), "%T %v", err, err)
		assert.True(t, retry.Retryable(retry.RetryAfter(err, 0)), "the caller knows better: %v", err)
	}
	for _, err := range []error{ // what an errno means depends on what it is about
		syscall.ENOENT, syscall.EACCES, syscall.EPERM, &matching{fs.ErrExist}, &matching{context.Canceled}, &matching{context.DeadlineExceeded},
	} {
		assert.True(t, retry.Retryable(err), "%T %v", err, err)
	}
}

// Any TLS alert was taken for good. Only those about how one side is set up are; a
// record that was garbled on its way is not.
func TestAlertsThatLast(t *testing.T) {
	for code, lasts := range map[uint8]bool{
		40: true, 42: true, 43: true, 44: true, 45: true, 46: true, 48: true, 49: true, 70: true, 71: true, 112: true, 116: true, 120: true,
		10: false, 20: false, 21: false, 22: false, 50: false, 51: false, 80: false, 90: false, 100: false,
	} {
		for _, op := range []string{"remote error", "local error"} {
			for _, err := range []error{tls.AlertError(code), &net.OpError{Op: op, Err: tls.AlertError(code)}} {
				assert.Equal(t, !lasts, retry.Retryable(&url.Error{Op: "Get", URL: "https://h/", Err: err}), "%d %v", code, err)
			}
		}
	}
}

// The scheme of a transport of one's own (RegisterProtocol) is nobody's to doubt
// once it failed as only a scheme that is served can.
func TestSchemeThatSomebodyServes(t *testing.T) {
	custom := func(err error) error { return &url.Error{Op: "Get", URL: "s3://bucket/key", Err: err} }
	assert.False(t, retry.Retryable(custom(errors.New("unsupported protocol scheme"))))
	for _, err := range []error{
		&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, io.EOF, io.ErrUnexpectedEOF,
		context.DeadlineExceeded, failedWith(503), retry.RetryAfter(errDown, 0), fmt.Errorf("w: %w", io.EOF),
	} {
		assert.True(t, retry.Retryable(custom(err)), "%v", err)
	}
	transport := &http.Transport{}
	transport.RegisterProtocol("s3", roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }))
	calls := 0
	err := retry.Run(t.Context(), soon, func(context.Context) error {
		calls++
		_, err := (&http.Client{Transport: transport}).Get("s3://bucket/key")
		return err
	})
	assert.ErrorIs(t, err, retry.ErrMaxRetries)
	assert.Equal(t, 4, calls)
}

type careless struct{ inner error }

func (c *careless) Error() string { return "careless: " + c.inner.Error() }
func (c *careless) Unwrap() error { return c.inner }

type carelessTree []error

func (carelessTree) Error() string     { return "tree" }
func (c carelessTree) Unwrap() []error { return c }

// Functions that return a nil pointer as an error, or wrap one, crashed the caller
// in a method of the pointer. Those of this package's types are safe; of others no
// method is called but Error.
func TestNilPointersAsErrors(t *testing.T) {
	try := func(err error, ours bool) {
		for _, err := range []error{err, carelessTree{nil, err, nil}, carelessTree{}, errors.Join(err, errDown), retry.RetryAfter(carelessTree{err}, 0)} {
			assert.NotPanics(t, func() {
				retry.Retryable(err)
				retry.IsFailure(err)
				breaker, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold = 100 })
				log, logger := newLog()
				cfg := retry.Config{MaxRetries: 1, Backoff: retry.ConstantBackoff(0), Gate: retry.NewGate(nil), Logger: logger, Breaker: breaker}
				got := retry.Run(t.Context(), cfg, func(context.Context) error { return err })
				_ = breaker.Do(t.Context(), func(context.Context) error { return err })
				permit(t, breaker).Done(err)
				_, _ = json.Marshal(retry.Event{Err: err})
				_ = log.String()
				if ours {
					_ = fmt.Sprintf("%v %+v", got, got)
					_ = retry.Outcome(got)
					if given, ok := got.(*retry.Error); ok {
						_ = given.Timeout()
					}
				}
			}, "%T", err)
		}
	}
	for _, err := range []error{(*retry.Error)(nil), (*retry.OpenError)(nil), (*retry.StatusError)(nil), (*retry.PauseError)(nil)} {
		try(err, true)
	}
	for _, err := range []error{(*url.Error)(nil), (*net.OpError)(nil), (*net.DNSError)(nil), (*fs.PathError)(nil), (*os.LinkError)(nil), (*exec.Error)(nil), (*careless)(nil)} {
		try(err, false)
	}
}

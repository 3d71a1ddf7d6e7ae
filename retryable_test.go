package retry_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

func failedWith(code int) error { return &retry.StatusError{StatusCode: code} }

// matching is an error that wraps nothing, and is another one by its Is method alone,
// like those of drivers, file systems and package net.
type matching struct{ target error }

func (e *matching) Error() string        { return "like " + e.target.Error() }
func (e *matching) Is(target error) bool { return target == e.target }

// sqlState is an error of a PostgreSQL driver, which has its code by this method.
type sqlState string

func (s sqlState) Error() string    { return "ERROR (SQLSTATE " + string(s) + ")" }
func (s sqlState) SQLState() string { return string(s) }

// dry is a limiter that lets no call through.
type dry struct{}

func (dry) Wait(context.Context) error { return errors.New("burst is 0") }

// What an error says to a retry and to a breaker, by itself, wrapped and joined. A
// half-open breaker opens at a failure, closes at an answer, and stays as it is where an
// error says nothing about the dependency.
func TestWhatErrorsSay(t *testing.T) {
	at := func(raw string, err error) error { return &url.Error{Op: "Get", URL: raw, Err: err} }
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	call := func(name string, err error) error { return os.NewSyscallError(name, err) }
	gaveUp := func(attempts int, err error) error {
		return &retry.Error{Attempts: attempts, Reason: retry.ErrMaxRetries, Err: err}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	_, noFile := os.Open(missing)
	_, noDirectory := os.ReadDir(missing)
	noRename := os.Rename(missing, missing+"2")
	closed, err := os.Create(missing + "3")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, notOpen := closed.Read(make([]byte, 1))
	_, noProgram := exec.LookPath("no-such-program")
	notStarted := exec.Command(missing).Run()
	_, noScheme := http.Get("gopher://localhost/")
	_, noPort := net.Dial("tcp", "localhost")
	_, noNetwork := net.Dial("tcp9", "localhost:80")
	_, noJSON := json.Marshal(math.NaN())
	var number struct{ N int }
	notFitting, cutOff := json.Unmarshal([]byte(`{"N":"text"}`), &number), json.Unmarshal([]byte(`{"N":`), &number)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, notDialed := new(net.Dialer).DialContext(cancelled, "tcp", "127.0.0.1:1")
	require.ErrorIs(t, notDialed, context.Canceled)
	invalid := retry.Run(t.Context(), retry.Config{MaxRetries: -2}, none)
	refused := retry.Run(t.Context(), retry.Config{MaxRetries: retry.NoRetries, Limiter: dry{}}, none)

	const failure, answer, silent = retry.StateOpen, retry.StateClosed, retry.StateHalfOpen
	for _, group := range []struct {
		retryable bool
		health    retry.State
		errs      []error
	}{
		{true, failure, []error{
			errDown, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, driver.ErrBadConn, context.DeadlineExceeded, os.ErrDeadlineExceeded, &matching{context.DeadlineExceeded},
			failedWith(500), failedWith(503), failedWith(520), retry.RetryAfter(failedWith(503), 1), retry.RetryAfter(fmt.Errorf("get: %w", failedWith(500)), 1),
			errors.Join(retry.RetryAfter(errDown, 1), failedWith(502)), (*retry.StatusError)(nil),
			at("https://host/", dial(errDown)), at("https://host/", &net.DNSError{IsTemporary: true}), &net.DNSError{IsTimeout: true}, &url.Error{Op: "custom", URL: "no scheme", Err: errDown},
			dial(call("connect", syscall.ECONNREFUSED)), dial(call("connect", syscall.EACCES)),
			&net.OpError{Op: "dial", Net: "unix", Err: call("connect", syscall.ENOENT)}, // the server starts
			syscall.ENOENT, syscall.EACCES, syscall.EPERM, // what an errno means depends on what it is about
			&exec.ExitError{}, &fs.PathError{Op: "read", Err: syscall.EIO}, &fs.PathError{Op: "write", Err: syscall.ENOSPC},
			cutOff, &strconv.NumError{Err: strconv.ErrSyntax},
			sqlState("08006"), sqlState("53300"), sqlState("57P01"), sqlState("58030"), sqlState("XX000"), sqlState("bad"),
			sqlState("25006"), sqlState("28P01"), sqlState("3D000"), sqlState("55000"), sqlState("57014"), sqlState("HY000"),
			errors.Join(retry.RetryAfter(errDown, 1), syscall.ECONNRESET), errors.Join(driver.ErrBadConn, sqlState("23505")),
			// A scheme that net/http does not know (RegisterProtocol) is not in doubt once it
			// failed as only one that is served can.
			at("s3://bucket/key", dial(syscall.ECONNREFUSED)), at("s3://bucket/key", io.EOF), at("s3://bucket/key", context.DeadlineExceeded), at("s3://bucket/key", failedWith(503)),
		}},
		// The state of the dependency, or of the way to it, which no retry changes; and a
		// rollback that comes too late, a file closed twice, or a row that was not found hides
		// no broken connection: as a probe, such an error closed the breaker.
		{false, failure, []error{
			failedWith(501), gaveUp(6, errDown), &net.DNSError{IsNotFound: true}, at("https://host/", &net.DNSError{IsNotFound: true}),
			x509.HostnameError{Certificate: &x509.Certificate{}}, x509.UnknownAuthorityError{}, x509.CertificateInvalidError{}, &tls.ECHRejectionError{}, http.ErrSchemeMismatch,
			at("https://host/", &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}), at("https://host/", tls.RecordHeaderError{}),
			at("https://host/", &net.OpError{Op: "remote error", Err: errDown}), at("https://host/", &net.OpError{Op: "local error", Err: errDown}),
			errors.Join(driver.ErrBadConn, sql.ErrTxDone), errors.Join(sql.ErrTxDone, driver.ErrBadConn),
			errors.Join(context.DeadlineExceeded, fmt.Errorf("rollback: %w", sql.ErrTxDone)),
			errors.Join(&net.OpError{Op: "read", Err: call("read", syscall.ECONNRESET)}, fs.ErrClosed),
			errors.Join(sql.ErrNoRows, driver.ErrBadConn), errors.Join(failedWith(404), io.ErrUnexpectedEOF), fmt.Errorf("%w: %w", sql.ErrNoRows, context.DeadlineExceeded),
			errors.Join(failedWith(404), failedWith(503)), errors.Join(failedWith(503), failedWith(404)), failedWith(599 + 1),
		}},
		// A server that says when to come back is at work: a rate limit, known by a mark and
		// without a status, opened breakers.
		{true, answer, []error{
			failedWith(408), failedWith(429), &retry.StatusError{StatusCode: 403, RetryAfter: 1}, retry.RetryAfter(failedWith(429), 1),
			retry.RetryAfter(errDown, 1), retry.RetryAfter(errDown, 0), retry.RetryAfter(failedWith(404), 1), at("s3://bucket/key", retry.RetryAfter(errDown, 0)),
			sqlState("23505"), sqlState("42601"), sqlState("22001"), sqlState("40001"), sqlState("P0001"),
			sqlState("55P03"), sqlState("25P02"), sqlState("26000"), sqlState("54001"), sqlState("38000"), retry.RetryAfter(io.ErrUnexpectedEOF, 1),
		}},
		// Five lookups that found nothing opened the breaker of a healthy database.
		{false, answer, []error{
			failedWith(400), failedWith(403), failedWith(404), failedWith(499), errors.Join(failedWith(404), failedWith(429)),
			sql.ErrNoRows, &matching{sql.ErrNoRows}, fmt.Errorf("%w: %w", errors.New("gene not found"), sql.ErrNoRows), notFitting, gaveUp(3, sql.ErrNoRows),
			&url.Error{Op: "Get", Err: failedWith(404)}, errors.Join(sql.ErrNoRows, sql.ErrTxDone),
		}},
		// A cancel, and what came about on this side, say nothing: they opened the breakers of
		// healthy dependencies, and as a probe would close that of one that is down.
		{true, silent, []error{
			context.Canceled, notDialed, &matching{context.Canceled}, errors.Join(errDown, &matching{context.Canceled}), &matching{fs.ErrExist},
			retry.Neutral(errDown), retry.Neutral(failedWith(500)), retry.Neutral(context.DeadlineExceeded), retry.RetryAfter(retry.Neutral(errDown), 1),
			fmt.Errorf("cache: %w", retry.Neutral(errDown)), errors.Join(errors.New("a"), retry.Neutral(errDown)),
			sql.ErrConnDone, fs.ErrExist, &fs.PathError{Op: "open", Err: fs.ErrExist}, &fs.PathError{Op: "open", Err: syscall.EMFILE},
			dial(call("socket", syscall.EMFILE)), at("http://host", dial(call("socket", syscall.ENFILE))), at("s3://bucket/key", dial(call("socket", syscall.EMFILE))),
			&exec.Error{Name: "x", Err: retry.RetryAfter(errDown, 1)}, // the mark overrides what is final
		}},
		{false, silent, []error{
			retry.ErrCircuitOpen, &matching{retry.ErrCircuitOpen}, &retry.OpenError{}, &retry.OpenError{Err: retry.RetryAfter(errDown, 1)}, errors.Join(errDown, &retry.OpenError{}),
			&retry.PauseError{Err: errDown}, gaveUp(1, retry.Neutral(errDown)), gaveUp(0, nil), retry.Neutral(failedWith(404)),
			retry.ErrInvalidConfig, &matching{retry.ErrInvalidConfig}, invalid, refused, gaveUp(1, sql.ErrConnDone), gaveUp(1, retry.ErrInvalidConfig),
			sql.ErrTxDone, fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed, &matching{fs.ErrNotExist}, &matching{fs.ErrPermission},
			http.ErrServerClosed, bufio.ErrTooLong, &fs.PathError{Op: "open", Err: syscall.ENOTDIR}, &fs.PathError{Op: "write", Err: syscall.EROFS}, &os.LinkError{Op: "rename", Err: syscall.EXDEV},
			noFile, noDirectory, noRename, notOpen, &fs.PathError{Op: "open", Err: syscall.EACCES}, &fs.PathError{Op: "open", Err: syscall.EPERM},
			exec.ErrNotFound, exec.ErrDot, noProgram, notStarted,
			&exec.Error{Name: "x", Err: errors.Join(retry.RetryAfter(errDown, 1), errCause)}, // that of one of several does not
			errors.ErrUnsupported, &matching{errors.ErrUnsupported}, http.ErrNotSupported, syscall.ENOSYS, call("splice", syscall.EOPNOTSUPP),
			noJSON, &json.InvalidUnmarshalError{}, &json.UnsupportedValueError{Str: "NaN"}, &http.MaxBytesError{}, x509.SystemRootsError{},
			noPort, noNetwork, at("https://host/", &net.AddrError{}), at("https://host/", &net.ParseError{}), net.InvalidAddrError(""), net.UnknownNetworkError(""),
			noScheme, at("s3://bucket/key", errors.New("unsupported protocol scheme")), url.EscapeError(""), url.InvalidHostError(""),
			&url.Error{Op: "parse", URL: "http://host:port/%zz", Err: url.EscapeError("%zz")},
		}},
	} {
		for _, err := range group.errs {
			require.Error(t, err)
			for _, err := range []error{err, fmt.Errorf("wrapped: %w", err), errors.Join(err)} {
				assert.Equal(t, group.retryable, retry.Retryable(err), "%T %v", err, err)
				assert.Equal(t, group.health == failure, retry.IsFailure(err), "%T %v", err, err)
				assert.True(t, retry.Retryable(retry.RetryAfter(err, 0)), "the caller knows better: %v", err)
				assert.False(t, retry.Retryable(retry.Permanent(err)))

				b, _ := halfOpened(t, nil)
				assert.Equal(t, err, b.Do(t.Context(), func(context.Context) error { return err }))
				assert.Equal(t, group.health, b.State(), "%T %v", err, err)
				b, _ = newBreaker(t, nil)
				report(t, b, 3, err)
				assert.Equal(t, group.health == failure, b.State() == retry.StateOpen, "%T %v", err, err)
				if group.health == silent {
					s := b.Snapshot()
					assert.Equal(t, 3, s.Requests)
					assert.Zero(t, s.Successes+s.Failures+s.ConsecutiveFailures)
					assert.NoError(t, s.LastFailure)
				}
				calls := 0
				_ = retry.Run(t.Context(), retry.Config{MaxRetries: 1, Backoff: retry.ConstantBackoff(0)}, func(context.Context) error { calls++; return err })
				assert.Equal(t, group.retryable, calls == 2, "%T %v", err, err)
			}
		}
	}
	assert.False(t, retry.Retryable(nil))
	assert.False(t, retry.IsFailure(nil))
	for _, err := range []error{retry.Permanent(errDown), errors.Join(errDown, retry.Permanent(errDown)), retry.RetryAfter(retry.Permanent(errDown), 0)} {
		assert.False(t, retry.Retryable(err), "the mark of Permanent wins, wherever it is: %v", err)
	}
	assert.False(t, retry.IsFailure(retry.Permanent(retry.RetryAfter(errDown, time.Second))))
	assert.True(t, retry.IsFailure(retry.Permanent(errDown)))
	assert.True(t, retry.Retryable(retry.RetryAfter(gaveUp(1, errDown), 0)), "the caller insists")
	assert.True(t, retry.IsFailure(gaveUp(0, errDown)), "a failure was seen, though no attempt was counted")
	assert.True(t, retry.IsFailure(gaveUp(1, nil)), "an attempt was made, whatever came of it")
}

// Any TLS alert ended the call. Only those about how one side is set up are; a
// record that was garbled on its way is not.
func TestWhichTLSAlertsAreFinal(t *testing.T) {
	for code, final := range map[uint8]bool{
		40: true, 42: true, 43: true, 44: true, 45: true, 46: true, 48: true, 49: true, 70: true, 71: true, 112: true, 116: true, 120: true,
		10: false, 20: false, 21: false, 22: false, 50: false, 51: false, 80: false, 90: false, 100: false,
	} {
		for _, op := range []string{"remote error", "local error"} {
			for _, err := range []error{tls.AlertError(code), &net.OpError{Op: op, Err: tls.AlertError(code)}} {
				assert.Equal(t, !final, retry.Retryable(&url.Error{Op: "Get", URL: "https://h/", Err: err}), "%d %v", code, err)
			}
		}
	}
}

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

// Of several requested delays the first one counted: only the longest satisfies all.
func TestLongestRequestedDelayCounts(t *testing.T) {
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

// A stale request to wait, inside the rejection of a breaker or the end of an inner
// call, closed the gate again with each call.
func TestRequestedDelayOfAnOldAttemptIsIgnored(t *testing.T) {
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

// A custom transport's scheme (RegisterProtocol) was taken for one that cannot be fetched.
func TestSchemeOfACustomTransport(t *testing.T) {
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
					assert.NotContains(t, fmt.Sprintf("%v %+v", err, err), "PANIC")
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

// canceledStatus is what gRPC makes of a cancel: a type of its own, which wraps
// nothing of package context.
type canceledStatus struct{ code int }

func (e *canceledStatus) Error() string { return "rpc error: code = Canceled desc = context canceled" }

// What callees return when their caller cancels is theirs to choose: few of them
// return context.Canceled. It counted as a failure, so that users who went away
// opened the breaker of a healthy dependency.
func TestCancelIsNeutralWhateverTheError(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	for name, fn := range map[string]func(ctx context.Context, cancel func()) error{
		"gRPC": func(_ context.Context, cancel func()) error { cancel(); return &canceledStatus{1} },
		"command": func(ctx context.Context, cancel func()) error {
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=TestHangsAsAProcess")
			cmd.Env = append(os.Environ(), "RETRY_TEST_HANG=1")
			if err := cmd.Start(); err != nil {
				return err
			}
			cancel()
			err := cmd.Wait()
			var killed *exec.ExitError
			assert.ErrorAs(t, err, &killed)
			return err
		},
		"conn with a deadline": func(ctx context.Context, cancel func()) error {
			defer context.AfterFunc(ctx, func() { client.SetDeadline(time.Unix(1, 0)) })()
			cancel()
			_, err := client.Read(make([]byte, 1))
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return err
		},
		"closed":    func(_ context.Context, cancel func()) error { cancel(); return net.ErrClosed },
		"EOF":       func(_ context.Context, cancel func()) error { cancel(); return io.ErrUnexpectedEOF },
		"wrapped":   func(_ context.Context, cancel func()) error { cancel(); return fmt.Errorf("read: %w", io.EOF) },
		"joined":    func(_ context.Context, cancel func()) error { cancel(); return errors.Join(errDown, io.EOF) },
		"deadline":  func(_ context.Context, cancel func()) error { cancel(); return context.DeadlineExceeded },
		"throttled": func(_ context.Context, cancel func()) error { cancel(); return retry.RetryAfter(errDown, 1) },
		"gave up": func(_ context.Context, cancel func()) error {
			cancel()
			return &retry.Error{Reason: retry.ErrMaxRetries, Err: errDown}
		},
		"permanent":  func(_ context.Context, cancel func()) error { cancel(); return retry.Permanent(errDown) },
		"the cause":  func(ctx context.Context, cancel func()) error { cancel(); <-ctx.Done(); return context.Cause(ctx) },
		"derived":    func(ctx context.Context, cancel func()) error { cancel(); <-ctx.Done(); return childOf(ctx) },
		"own reason": func(_ context.Context, cancel func()) error { cancel(); return errors.New("user went away") },
	} {
		for kind, call := range map[string]func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error{
			"breaker": (*retry.CircuitBreaker).Do,
			"loop": func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error {
				return retry.Run(ctx, retry.Config{Breaker: b}, fn)
			},
			"loop with a timeout": func(b *retry.CircuitBreaker, ctx context.Context, fn func(context.Context) error) error {
				return retry.Run(ctx, retry.Config{Breaker: b, AttemptTimeout: time.Hour}, fn)
			},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				b, _ := newBreaker(t, func(c *retry.BreakerConfig) {
					c.FailureThreshold, c.Clock = 1, nil
					c.IsFailure = func(err error) bool { t.Error("was asked about", err); return true }
				})
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				assert.Error(t, call(b, ctx, func(ctx context.Context) error { return fn(ctx, func() { cancel(errCause) }) }))
				s := b.Snapshot()
				assert.Equal(t, retry.StateClosed, s.State)
				assert.Equal(t, 1, s.Requests)
				assert.Zero(t, s.Successes+s.Failures)
				assert.NoError(t, s.LastFailure)
			})
		}
	}
}

func childOf(ctx context.Context) error {
	child, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	return child.Err()
}

func TestHangsAsAProcess(t *testing.T) {
	if os.Getenv("RETRY_TEST_HANG") != "" {
		select {}
	}
}

// Time that runs out is evidence against the dependency, the caller's limit or the attempt's;
// and a panic is one even if the caller is gone.
func TestWhatStaysAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		late, cancelLate := context.WithTimeout(context.Background(), time.Second)
		defer cancelLate()
		lateForAReason, cancelLater := context.WithTimeoutCause(context.Background(), time.Second, errCause)
		defer cancelLater()
		time.Sleep(time.Second)
		for name, c := range map[string]struct {
			ctx context.Context
			err error
		}{
			"attempt's timeout":     {context.Background(), context.DeadlineExceeded},
			"caller's deadline":     {late, context.DeadlineExceeded},
			"deadline, other error": {late, io.EOF},
			"deadline with a cause": {lateForAReason, errCause},
			"status":                {cancelled, &retry.StatusError{StatusCode: 502}},
			"status in an Error":    {cancelled, &retry.Error{Reason: retry.ErrMaxRetries, Err: &retry.StatusError{StatusCode: 502}}},
		} {
			b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
			require.NoError(t, err)
			finish := make(chan struct{})
			ctx := &switching{Context: context.Background(), after: c.ctx}
			go func() {
				defer close(finish)
				assert.Equal(t, c.err, b.Do(ctx, func(context.Context) error { ctx.switched = true; return c.err }))
			}()
			<-finish
			assert.Equal(t, retry.StateOpen, b.State(), name)
		}
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		leaveBy(func() { _ = b.Do(ctx, func(context.Context) error { stop(); panic("bang") }) })
		assert.Equal(t, retry.StateOpen, b.State(), "a panic")
	})
}

// switching is a context that ends as another one did, at a word.
type switching struct {
	context.Context
	after    context.Context
	switched bool
}

func (c *switching) current() context.Context {
	if c.switched {
		return c.after
	}
	return c.Context
}
func (c *switching) Done() <-chan struct{} { return c.current().Done() }
func (c *switching) Err() error            { return c.current().Err() }

// bareContext was written by hand: it is done, and does not say why.
type bareContext struct {
	context.Context
	done chan struct{}
}

func (c *bareContext) Done() <-chan struct{} { return c.done }
func (c *bareContext) Err() error            { return nil }

// CircuitBreaker.Do returned nil for such a context, without a call.
func TestDoneContextWithoutAnError(t *testing.T) {
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold = 1 })
	ctx := &bareContext{context.Background(), make(chan struct{})}
	assert.Equal(t, errDown, b.Do(ctx, func(context.Context) error { close(ctx.done); return errDown }))
	assert.Equal(t, retry.StateClosed, b.State(), "cancelled meanwhile")
	err := b.Do(ctx, func(context.Context) error { t.Error("called"); return nil })
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, b.Snapshot().Requests)
}

// A custom IsFailure is not asked about an error marked Neutral, and so decides about the
// others only. The mark goes together with Permanent, in either order, and inside wrappers.
func TestIsFailureIsNotAskedAboutNeutralErrors(t *testing.T) {
	miss := errors.New("cache miss")
	for _, err := range []error{
		retry.Neutral(retry.Permanent(miss)), retry.Permanent(retry.Neutral(miss)), fmt.Errorf("cache: %w", retry.Permanent(retry.Neutral(miss))),
		&retry.Error{Reason: retry.ErrMaxRetries, Err: retry.Neutral(miss)}, fmt.Errorf("inner: %w", &retry.PauseError{}),
	} {
		b, _ := halfOpened(t, func(c *retry.BreakerConfig) {
			c.IsFailure = func(error) bool { t.Error("asked about a neutral error"); return true }
		})
		assert.Equal(t, err, b.Do(t.Context(), func(context.Context) error { return err }))
		calls := 0
		got := retry.Run(t.Context(), retry.Config{Breaker: b}, func(context.Context) error { calls++; return err })
		assert.Equal(t, errors.Is(err, miss), errors.Is(got, miss))
		assert.Equal(t, 1, calls, "the place of the probe was free, and the error is final")
		assert.Equal(t, retry.StateHalfOpen, b.State())
		assert.Equal(t, 2, b.Snapshot().Requests)
	}
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) {
		c.FailureThreshold, c.IsFailure = 1, func(err error) bool { return errors.Is(err, miss) }
	})
	report(t, b, 2, errDown)
	assert.Equal(t, 2, b.Snapshot().Successes)
	report(t, b, 1, miss)
	assert.Equal(t, retry.StateOpen, b.State())
}

func TestRateLimitOfCheckResponseDoesNotOpen(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "slow down") }))
	defer server.Close()
	b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1})
	require.NoError(t, err)
	client, err := retry.NewRetryableClient(nil, retry.Config{Breaker: b, MaxRetries: retry.NoRetries},
		retry.CheckResponse(func(*http.Response) error { return retry.RetryAfter(errors.New("rate limit"), time.Hour) }))
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	_, err = client.Get(t.Context(), server.URL)
	assert.Error(t, err)
	assert.Equal(t, retry.StateClosed, b.State())
	assert.Equal(t, 1, b.Snapshot().Successes)
}

// An open breaker's rejection inside of fn ends the call, any breaker's, even
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

func TestNeutralProbesDoNotStarveTheVerdict(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.HalfOpenProbes = 3 })
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	report(t, b, 10, context.Canceled)
	report(t, b, 1, nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

// A timeout is evidence against the dependency, the attempt's and, unless IsFailure says
// otherwise, the caller's deadline.
func TestTimeoutsAreFailures(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	patient := func(err error) bool { return !errors.Is(err, context.DeadlineExceeded) }
	for name, test := range map[string]struct {
		isFailure func(error) bool
		call      func(*retry.CircuitBreaker, context.Context) error
		want      retry.State
	}{
		"attempt's": {nil, func(b *retry.CircuitBreaker, ctx context.Context) error {
			return retry.Run(ctx, retry.Config{MaxRetries: 1, AttemptTimeout: time.Second, Breaker: b}, hang)
		}, retry.StateOpen},
		"caller's": {nil, func(b *retry.CircuitBreaker, ctx context.Context) error { return b.Do(ctx, hang) }, retry.StateOpen},
		"patient":  {patient, func(b *retry.CircuitBreaker, ctx context.Context) error { return b.Do(ctx, hang) }, retry.StateClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 1, IsFailure: test.isFailure})
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				assert.ErrorIs(t, test.call(b, ctx), context.DeadlineExceeded)
				assert.Equal(t, test.want, b.State())
			})
		})
	}
}

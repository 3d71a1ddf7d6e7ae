package retry_test

import (
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
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

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

// Time that runs out is evidence against the dependency, whoever set the limit;
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

// Neutral says what no type can: that an error is no fault of the dependency. It
// goes together with Permanent, in either order, and inside of wrappers.
func TestNeutralErrorsCountAsNeither(t *testing.T) {
	for _, err := range []error{
		retry.Neutral(errDown),
		retry.Neutral(retry.Permanent(errDown)),
		retry.Permanent(retry.Neutral(errDown)),
		retry.RetryAfter(retry.Neutral(errDown), time.Second),
		retry.Neutral(&retry.StatusError{StatusCode: 500}),
		retry.Neutral(context.DeadlineExceeded),
		fmt.Errorf("cache: %w", retry.Neutral(errDown)),
		errors.Join(errors.New("a"), retry.Neutral(errDown)),
		&retry.Error{Reason: retry.ErrMaxRetries, Err: retry.Neutral(errDown)},
		&retry.PauseError{Err: errDown}, fmt.Errorf("inner: %w", &retry.PauseError{}),
	} {
		assert.False(t, retry.IsFailure(err), "%v", err)
		b, advance := halfOpened(t, func(c *retry.BreakerConfig) {
			c.IsFailure = func(error) bool { t.Error("asked about a neutral error"); return true }
		})
		assert.Equal(t, err, b.Do(context.Background(), func(context.Context) error { return err }))
		assert.Equal(t, retry.StateHalfOpen, b.State(), "no verdict")
		advance(0)
		calls := 0
		_ = retry.Run(context.Background(), retry.Config{Breaker: b, MaxRetries: retry.NoRetries}, func(context.Context) error { calls++; return err })
		assert.Equal(t, 1, calls, "the place is free")
		s := b.Snapshot()
		assert.Equal(t, 2, s.Requests)
		assert.Zero(t, s.Successes+s.Failures)
		assert.NoError(t, s.LastFailure)
	}
}

// A permanent neutral error ends the loop at once, and comes back as it is.
func TestNeutralAndPermanentInTheLoop(t *testing.T) {
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold = 1 })
	miss := errors.New("cache miss")
	for _, marked := range []error{retry.Neutral(retry.Permanent(miss)), retry.Permanent(retry.Neutral(miss))} {
		calls := 0
		err := retry.Run(context.Background(), retry.Config{Breaker: b}, func(context.Context) error { calls++; return marked })
		assert.ErrorIs(t, err, miss)
		assert.Equal(t, 1, calls)
	}
	assert.Equal(t, retry.StateClosed, b.State())
	assert.Zero(t, b.Snapshot().Failures)
}

// A server that says when to come back is at work: a rate limit, told by a mark
// and without a status, opened breakers.
func TestMarkedErrorsAreNoFailures(t *testing.T) {
	status := func(code int) error { return &retry.StatusError{StatusCode: code} }
	for _, c := range []struct {
		err  error
		want bool
	}{
		{retry.RetryAfter(errors.New("rate limit"), time.Second), false},
		{fmt.Errorf("check: %w", retry.RetryAfter(errDown, time.Second)), false},
		{retry.RetryAfter(errDown, 0), false},
		{retry.Permanent(retry.RetryAfter(errDown, time.Second)), false},
		{retry.RetryAfter(status(429), time.Second), false},
		{retry.RetryAfter(status(503), time.Second), true},
		{retry.RetryAfter(fmt.Errorf("get: %w", status(500)), time.Second), true},
		{errors.Join(retry.RetryAfter(errDown, time.Second), status(502)), true},
		{errors.Join(status(404), status(503)), true},
		{errors.Join(status(503), status(404)), true},
		{errors.Join(status(404), status(429)), false},
		{status(499), false},
		{status(599), true},
		{retry.Permanent(errDown), true},
		{(*retry.StatusError)(nil), true},
	} {
		assert.Equal(t, c.want, retry.IsFailure(c.err), "%#v", c.err)
	}
	b, _ := halfOpened(t, nil)
	permit(t, b).Done(retry.RetryAfter(errDown, time.Second))
	assert.Equal(t, retry.StateClosed, b.State(), "as good as a 429")
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

// A rejection inside of fn may be a nil pointer in an interface: no panic.
func TestTypedNilRejection(t *testing.T) {
	var rejection *retry.OpenError
	assert.Equal(t, "<nil>", rejection.Error())
	assert.Equal(t, "<nil> <nil>", fmt.Sprintf("%v %+v", rejection, rejection))
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold = 100 })
	assert.NotPanics(t, func() {
		_ = b.Do(context.Background(), func(context.Context) error { return rejection })
		_ = retry.Run(context.Background(), retry.Config{Breaker: b, MaxRetries: retry.NoRetries}, func(context.Context) error { return rejection })
		permit(t, b).Done(rejection)
	})
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB08_CallersCancelIsNeutral(t *testing.T) {
	b, _ := newBreaker(t, nil)
	for range 10 {
		ctx, cancel := context.WithCancelCause(context.Background())
		err := b.Do(ctx, func(ctx context.Context) error {
			cancel(errors.New("user went away"))
			return context.Cause(ctx) // net/http returns the bare cause
		})
		require.EqualError(t, err, "user went away")
		p := permit(t, b)
		p.Done(fmt.Errorf("query: %w", context.Canceled))
	}
	s := b.Snapshot()
	assert.Equal(t, retry.StateClosed, s.State)
	assert.Equal(t, 20, s.Requests)
	assert.Zero(t, s.Failures+s.Successes+s.ConsecutiveFailures)
}

func TestB09_CancelledProbeGivesNoVerdict(t *testing.T) {
	b, clock := newBreaker(t, nil)
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	permit(t, b).Done(context.Canceled)
	assert.Equal(t, retry.StateHalfOpen, b.State())
	permit(t, b).Done(nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB10_NeutralProbesDoNotStarveTheVerdict(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.HalfOpenProbes = 3 })
	report(t, b, 3, errDown)
	clock.Advance(10 * time.Second)
	report(t, b, 10, context.Canceled)
	report(t, b, 1, nil)
	assert.Equal(t, retry.StateClosed, b.State())
}

func TestB11_AttemptTimeoutIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureThreshold: 2})
		require.NoError(t, err)
		cfg := retry.Config{MaxRetries: 1, AttemptTimeout: time.Second, Breaker: b}
		err = retry.Run(t.Context(), cfg, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, retry.StateOpen, b.State())
	})
}

func TestB12_CallersDeadlineIsAFailure(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	synctest.Test(t, func(t *testing.T) {
		patient := retry.BreakerConfig{FailureThreshold: 1, IsFailure: func(err error) bool {
			return !errors.Is(err, context.DeadlineExceeded)
		}}
		for cfg, want := range map[*retry.BreakerConfig]retry.State{
			{FailureThreshold: 1}: retry.StateOpen,
			&patient:              retry.StateClosed, // the knob
		} {
			b, err := retry.NewCircuitBreaker(*cfg)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			assert.ErrorIs(t, b.Do(ctx, hang), context.DeadlineExceeded)
			assert.Equal(t, want, b.State())
		}
	})
}

// What a call returns after its caller's cancel says nothing, unless it is the
// server's own answer.
func TestB13_StatusCountsThoughContextIsCancelled(t *testing.T) {
	for err, want := range map[error]retry.State{
		errDown:                             retry.StateClosed,
		&retry.StatusError{StatusCode: 500}: retry.StateOpen,
		fmt.Errorf("get: %w", &retry.StatusError{StatusCode: 503}): retry.StateOpen,
	} {
		b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold = 1 })
		ctx, cancel := context.WithCancel(context.Background())
		got := b.Do(ctx, func(context.Context) error { cancel(); return err })
		assert.Equal(t, err, got)
		assert.Equal(t, want, b.State(), err)
	}
}

func TestB56_NeutralIsFoundInsideWrappers(t *testing.T) {
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold = 1 })
	for _, err := range []error{
		fmt.Errorf("a: %w", fmt.Errorf("b: %w", context.Canceled)),
		errors.Join(errDown, fmt.Errorf("c: %w", &retry.OpenError{})),
		fmt.Errorf("d: %w", retry.ErrCircuitOpen),
	} {
		report(t, b, 1, err)
		assert.False(t, retry.IsFailure(err))
	}
	assert.Equal(t, retry.StateClosed, b.State())
	assert.Zero(t, b.Snapshot().Successes)
}

func TestIsFailure(t *testing.T) {
	assert.False(t, retry.IsFailure(nil))
	assert.True(t, retry.IsFailure(errDown))
	assert.True(t, retry.IsFailure(context.DeadlineExceeded))
	assert.True(t, retry.IsFailure(&retry.StatusError{StatusCode: 500}))
	for _, code := range []int{400, 404, 429, 499} {
		assert.False(t, retry.IsFailure(fmt.Errorf("get: %w", &retry.StatusError{StatusCode: code})))
	}
	b, _ := newBreaker(t, nil) // a server that says 404 is at work
	report(t, b, 2, errDown)
	report(t, b, 1, &retry.StatusError{StatusCode: http.StatusNotFound})
	assert.Equal(t, 1, b.Snapshot().Successes)
}

// matching is an error that wraps nothing, and is another one all the same.
type matching struct{ target error }

func (e *matching) Error() string { return "like " + e.target.Error() }

func (e *matching) Is(target error) bool { return target == e.target }

// A dial that was cancelled fails with an error of package net that is
// context.Canceled by its Is method alone. Through a Permit, which knows no
// context, it counted as a failure of the server.
func TestCancelThatOnlySaysSoIsNeutral(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, dial := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:1")
	require.ErrorIs(t, dial, context.Canceled)
	for _, err := range []error{
		dial, &matching{context.Canceled}, fmt.Errorf("get: %w", &matching{context.Canceled}), errors.Join(errDown, &matching{context.Canceled}),
		&matching{retry.ErrCircuitOpen}, fmt.Errorf("get: %w", retry.ErrCircuitOpen),
	} {
		b, _ := newBreaker(t, nil)
		report(t, b, 5, err)
		assert.Equal(t, retry.StateClosed, b.State(), "%T %v", err, err)
		assert.Zero(t, b.Snapshot().Failures)
		assert.False(t, retry.IsFailure(err), "%T %v", err, err)
	}
	assert.True(t, retry.IsFailure(&matching{context.DeadlineExceeded}))
}

// sqlState is an error of a PostgreSQL driver, which has its code by this method.
type sqlState string

func (s sqlState) Error() string    { return "ERROR (SQLSTATE " + string(s) + ")" }
func (s sqlState) SQLState() string { return string(s) }

// Five lookups that found nothing opened the breaker of a healthy database. An answer
// shows the dependency at work, whatever the caller makes of it.
func TestAnswersAreNoFailures(t *testing.T) {
	var number struct{ N int }
	for _, err := range []error{
		sql.ErrNoRows, &matching{sql.ErrNoRows}, fmt.Errorf("%w: %w", errors.New("gene not found"), sql.ErrNoRows),
		json.Unmarshal([]byte(`{"N":"text"}`), &number), failedWith(404), retry.RetryAfter(errDown, 1),
		sqlState("23505"), sqlState("42601"), sqlState("22001"), sqlState("40001"), sqlState("P0001"),
		&retry.Error{Attempts: 3, Reason: retry.ErrMaxRetries, Err: sql.ErrNoRows},
	} {
		for _, err := range []error{err, fmt.Errorf("lookup: %w", err), errors.Join(err)} {
			assert.False(t, retry.IsFailure(err), "%T %v", err, err)
			b, _ := halfOpened(t, nil)
			assert.Equal(t, err, b.Do(t.Context(), func(context.Context) error { return err }))
			assert.Equal(t, retry.StateClosed, b.State(), "the probe was answered: %v", err)
		}
	}
}

// An error that came about without the dependency says nothing about it: calls with a
// transaction that was over, or an address that nothing can be sent to, opened a healthy
// one's breaker, and as a probe it would close that of one that is down.
func TestErrorsOfThisSideSayNothing(t *testing.T) {
	_, noFile := os.Open(filepath.Join(t.TempDir(), "client.pem"))
	_, noProgram := exec.LookPath("no-such-program")
	noURL := &url.Error{Op: "parse", URL: "http://host:port/%zz", Err: url.EscapeError("%zz")}
	_, noScheme := http.Get("gopher://localhost/")
	_, noPort := net.Dial("tcp", "localhost")
	_, noNetwork := net.Dial("tcp9", "localhost:80")
	_, noJSON := json.Marshal(math.NaN())
	noRetries := retry.Config{MaxRetries: retry.NoRetries, Limiter: dry{}}
	invalid := retry.Run(t.Context(), retry.Config{MaxRetries: -2}, none)
	refused := retry.Run(t.Context(), noRetries, none)
	for _, err := range []error{
		sql.ErrTxDone, sql.ErrConnDone, retry.ErrInvalidConfig, invalid, refused, errors.ErrUnsupported, syscall.ENOSYS,
		noFile, noProgram, noURL, noScheme, noPort, noNetwork, noJSON, &json.InvalidUnmarshalError{}, &http.MaxBytesError{},
		fs.ErrNotExist, fs.ErrExist, fs.ErrClosed, x509.SystemRootsError{},
		&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)},
		&url.Error{Op: "Get", URL: "http://host", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.ENFILE)}},
	} {
		require.Error(t, err)
		for _, err := range []error{err, fmt.Errorf("%w: %w", errors.New("save"), err), &retry.Error{Attempts: 1, Reason: retry.ErrMaxRetries, Err: err}} {
			assert.False(t, retry.IsFailure(err), "%T %v", err, err)
			b, _ := halfOpened(t, nil)
			_ = b.Do(t.Context(), func(context.Context) error { return err })
			assert.Equal(t, retry.StateHalfOpen, b.State(), "no verdict: %v", err)
			b.Reset()
			report(t, b, 9, err)
			s := b.Snapshot()
			assert.Equal(t, retry.StateClosed, s.State)
			assert.Zero(t, s.Successes+s.Failures)
		}
	}
}

// dry is a limiter that lets no call through.
type dry struct{}

func (dry) Wait(context.Context) error { return errors.New("burst is 0") }

// What is the dependency's state is a failure, also if a retry cannot change it; and a
// rollback that comes too late, or a file that is closed twice, hides no broken connection.
func TestStatesOfTheDependencyAreFailures(t *testing.T) {
	var value any
	for _, err := range []error{
		errDown, io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, context.DeadlineExceeded, os.ErrDeadlineExceeded,
		failedWith(500), retry.RetryAfter(failedWith(503), 1), &retry.Error{Attempts: 6, Reason: retry.ErrMaxRetries, Err: errDown},
		&net.DNSError{IsNotFound: true}, &net.DNSError{IsTimeout: true}, x509.HostnameError{}, x509.UnknownAuthorityError{}, http.ErrSchemeMismatch,
		&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}},
		&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ENOENT)},
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		json.Unmarshal([]byte(`{"N":`), &value), &exec.ExitError{}, &fs.PathError{Op: "read", Err: syscall.EIO},
		sqlState("08006"), sqlState("53300"), sqlState("57P01"), sqlState("58030"), sqlState("XX000"), sqlState("bad"),
		errors.Join(driver.ErrBadConn, sql.ErrTxDone), errors.Join(sql.ErrTxDone, driver.ErrBadConn),
		errors.Join(context.DeadlineExceeded, fmt.Errorf("rollback: %w", sql.ErrTxDone)),
		errors.Join(&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, fs.ErrClosed),
	} {
		assert.True(t, retry.IsFailure(err), "%T %v", err, err)
		assert.True(t, retry.IsFailure(fmt.Errorf("wrapped: %w", err)), "%T %v", err, err)
		b, _ := newBreaker(t, nil)
		report(t, b, 3, err)
		assert.Equal(t, retry.StateOpen, b.State(), "%T %v", err, err)
	}
}

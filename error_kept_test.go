package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

func secretStatus() *retry.StatusError {
	return &retry.StatusError{StatusCode: 503, Method: "GET", URL: "http://host/a", RetryAfter: time.Second,
		Header: http.Header{"Set-Cookie": {"session=SECRET"}}, Body: []byte("SECRET")}
}

// opaque is a wrapper of a type that the library has never seen.
type opaque struct{ err error }

func (e *opaque) Error() string { return "opaque: " + e.err.Error() }
func (e *opaque) Unwrap() error { return e.err }

// offered is an error that hands out a status without wrapping it.
type offered struct{ status *retry.StatusError }

func (e *offered) Error() string { return "offered" }
func (e *offered) As(target any) bool {
	status, ok := target.(**retry.StatusError)
	if ok {
		*status = e.status
	}
	return ok
}

// A rejection by an open breaker gave one caller another's response: body,
// header and URL of somebody else's failure were found by errors.As.
func TestFailuresAreKeptWithoutTheirResponse(t *testing.T) {
	for name, wrap := range map[string]func(*retry.StatusError) error{
		"bare": func(e *retry.StatusError) error { return e },
		"url.Error": func(e *retry.StatusError) error {
			return &url.Error{Op: "Get", URL: "http://host/a?sig=SECRET", Err: e}
		},
		"with %w":      func(e *retry.StatusError) error { return fmt.Errorf("get: %w", e) },
		"with two %w":  func(e *retry.StatusError) error { return fmt.Errorf("%w: %w", errDown, e) },
		"joined":       func(e *retry.StatusError) error { return errors.Join(errDown, e, secretStatus()) },
		"unknown type": func(e *retry.StatusError) error { return &opaque{&opaque{e}} },
		"path error":   func(e *retry.StatusError) error { return &fs.PathError{Op: "open", Path: "x", Err: e} },
		"offered":      func(e *retry.StatusError) error { return &offered{e} },
		"Permanent":    func(e *retry.StatusError) error { return retry.Permanent(e) },
		"RetryAfter":   func(e *retry.StatusError) error { return retry.RetryAfter(e, time.Second) },
		"Error": func(e *retry.StatusError) error {
			return &retry.Error{Attempts: 3, Reason: retry.ErrMaxRetries, Err: e}
		},
		"deep": func(e *retry.StatusError) error {
			return fmt.Errorf("a: %w", errors.Join(&opaque{&url.Error{Op: "Get", URL: "http://host/?sig=SECRET", Err: e}}, errDown))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var told []retry.StateChange
			b, _ := newBreaker(t, func(c *retry.BreakerConfig) {
				c.FailureThreshold = 1
				c.IsFailure = func(error) bool { return true }
				c.OnStateChange = func(s retry.StateChange) { told = append(told, s) }
			})
			original := wrap(secretStatus())
			text := original.Error()
			got := b.Do(context.Background(), func(context.Context) error { return original })
			assert.Same(t, original, got, "the caller has its own, whole")
			var own *retry.StatusError
			require.ErrorAs(t, original, &own)
			assert.Equal(t, "SECRET", string(own.Body))
			assert.Equal(t, text, original.Error())

			rejection := b.Do(context.Background(), none)
			var status *retry.StatusError
			assert.False(t, errors.As(rejection, &status), "not found by others")
			var open *retry.OpenError
			require.ErrorAs(t, rejection, &open)
			require.NotEmpty(t, told)
			for where, kept := range map[string]error{"OpenError": open.Err, "Snapshot": b.Snapshot().LastFailure, "StateChange": told[0].Err} {
				require.ErrorAs(t, kept, &status, where)
				assert.Equal(t, &retry.StatusError{StatusCode: 503, Method: "GET", URL: "http://host/a", RetryAfter: time.Second}, status)
				assert.Equal(t, strings.ReplaceAll(text, "SECRET", "xxxxx"), kept.Error(), "the text is the same")
				assert.Equal(t, errors.Is(original, errDown), errors.Is(kept, errDown))
				assert.Equal(t, errors.Is(original, retry.ErrMaxRetries), errors.Is(kept, retry.ErrMaxRetries))
				assert.Equal(t, retry.Retryable(original), retry.Retryable(kept))
			}
			own.Body[0], own.StatusCode = 'X', 1 // whatever the caller does with its own
			own.Header.Set("Set-Cookie", "x")
			assert.Equal(t, 503, status.StatusCode)
		})
	}
}

// What has no response in it is kept as it is.
func TestOtherFailuresAreKeptAsTheyAre(t *testing.T) {
	for _, err := range []error{errDown, fmt.Errorf("a: %w", errDown), errors.Join(errDown, errCause), &opaque{errDown},
		&url.Error{Op: "Get", URL: "http://host/a?b", Err: errDown}, &retry.StatusError{StatusCode: 500, URL: "x"}} {
		b, _ := newBreaker(t, nil)
		permit(t, b).Done(err)
		if u, ok := err.(*url.Error); ok {
			assert.Equal(t, &url.Error{Op: "Get", URL: "http://host/a?xxxxx", Err: errDown}, b.Snapshot().LastFailure)
			assert.Equal(t, "http://host/a?b", u.URL)
			continue
		}
		assert.Same(t, err, b.Snapshot().LastFailure)
	}
}

// An inner breaker's rejection tells nothing that the outer one could hand on,
// and a deadline inside somebody else's failure is not the caller's.
func TestRejectionSaysNothingOfWhatIsInside(t *testing.T) {
	b, _ := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold = 1 })
	permit(t, b).Done(fmt.Errorf("get: %w", context.DeadlineExceeded))
	for _, err := range []error{
		b.Do(context.Background(), none),
		retry.Run(context.Background(), retry.Config{Breaker: b}, none),
	} {
		assert.ErrorIs(t, err, retry.ErrCircuitOpen)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
		assert.Contains(t, err.Error(), "context deadline exceeded")
		var timeout interface{ Timeout() bool }
		assert.False(t, errors.As(err, &timeout) && timeout.Timeout())
		var open *retry.OpenError
		require.ErrorAs(t, err, &open)
		assert.ErrorIs(t, open.Err, context.DeadlineExceeded, "for those who ask")
	}
}

// slog and encoding/json wrote {} for an error, or all the fields of one, with
// the query of its URL.
func TestBreakerRenderings(t *testing.T) {
	var told retry.StateChange
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.Name, c.FailureThreshold = "hgnc", 1
		c.OnStateChange = func(s retry.StateChange) { told = s }
	})
	secret := &url.Error{Op: "Get", URL: "https://user:SECRET@host/a?sig=SECRET", Err: errDown}
	permit(t, b).Done(fmt.Errorf("fetch: %w", secret))
	open, snapshot := refused(t, b), b.Snapshot()
	const failure = `fetch: Get \"https://xxxxx@host/a?sig=xxxxx\": down`
	at := clock.Now().Format(time.RFC3339Nano)
	until := clock.Now().Add(10 * time.Second).Format(time.RFC3339Nano)
	for want, value := range map[string]any{
		`{"Name":"hgnc","State":"open","RetryAfter":10000000000,"Err":"` + failure + `"}`:                                                                                                                        open,
		`{"Name":"hgnc","From":"closed","To":"open","At":"` + at + `","Until":"` + until + `","Cause":"1 failure in a row","Err":"` + failure + `"}`:                                                             told,
		`{"State":"open","Requests":0,"Successes":0,"Failures":0,"SlowCalls":0,"Rejections":1,"ConsecutiveFailures":0,"OpenUntil":"` + until + `","LastFailure":"` + failure + `","Cause":"1 failure in a row"}`: snapshot,
		`{"Name":"","State":"half-open","RetryAfter":0,"Err":null}`:                                                                                                                                              &retry.OpenError{State: retry.StateHalfOpen},
		`{"State":"closed","Requests":0,"Successes":0,"Failures":0,"SlowCalls":0,"Rejections":0,"ConsecutiveFailures":0,"OpenUntil":"0001-01-01T00:00:00Z","LastFailure":null,"Cause":""}`:                       retry.Snapshot{},
		`null`: (*retry.OpenError)(nil),
	} {
		got, err := json.Marshal(value)
		assert.NoError(t, err)
		assert.JSONEq(t, want, string(got))
		if p, ok := value.(retry.Snapshot); ok {
			got, err = json.Marshal(&p)
			assert.NoError(t, err)
			assert.JSONEq(t, want, string(got))
		}
	}
	for kind, handler := range map[string]func(*strings.Builder) slog.Handler{
		"text": func(out *strings.Builder) slog.Handler { return slog.NewTextHandler(out, nil) },
		"json": func(out *strings.Builder) slog.Handler { return slog.NewJSONHandler(out, nil) },
	} {
		for name, value := range map[string]any{"open": open, "change": told, "pointer": &told, "snapshot": snapshot, "pointer to snapshot": &snapshot, "rejection": error(open)} {
			var out strings.Builder
			slog.New(handler(&out)).Info("x", "value", value)
			line := out.String()
			assert.NotContains(t, line, "SECRET", kind+name)
			assert.NotContains(t, line, "{}", kind+name)
			assert.Contains(t, line, "sig=xxxxx", kind+name)
			assert.Contains(t, line, "open", kind+name)
		}
		var out strings.Builder
		slog.New(handler(&out)).Info("x", "rejection", (*retry.OpenError)(nil), "snapshot", retry.Snapshot{}, "change", retry.StateChange{})
		assert.NotContains(t, out.String(), "panic")
	}
}

func TestStateReadsBackWhatItWrites(t *testing.T) {
	for _, state := range []retry.State{retry.StateClosed, retry.StateOpen, retry.StateHalfOpen, 7, -1} {
		text, err := json.Marshal(map[retry.State]retry.State{state: state})
		require.NoError(t, err)
		var back map[retry.State]retry.State
		require.NoError(t, json.Unmarshal(text, &back))
		assert.Equal(t, map[retry.State]retry.State{state: state}, back)
	}
	for _, text := range []string{"", "Open", "open ", "halfopen", "State()", "State(1)", "State(7)x", "State(07)", "3"} {
		state := retry.StateOpen
		err := state.UnmarshalText([]byte(text))
		assert.ErrorIs(t, err, retry.ErrInvalidConfig, text)
		assert.Equal(t, retry.StateOpen, state)
	}
}

// A rejection is shared by those who are rejected together: it never changes
// once somebody has it.
func TestSharedRejectionDoesNotChange(t *testing.T) {
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) { c.FailureThreshold, c.ProbeTimeout = 1, time.Second })
	permit(t, b).Done(errDown)
	var given []*retry.OpenError
	var copies []retry.OpenError
	take := func() {
		given = append(given, refused(t, b))
		copies = append(copies, *given[len(given)-1])
	}
	for range 50 {
		take()
		clock.Advance(100 * time.Millisecond)
	}
	clock.Advance(5 * time.Second)
	probe := permit(t, b)
	take()
	probe.Done(errCause)
	take()
	b.Trip(time.Minute)
	take()
	b.ForceOpen()
	take()
	b.Reset()
	for n := range given {
		assert.Equal(t, copies[n], *given[n])
	}
}

package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// A rejection by an open breaker gave one caller another's response: body, header and
// URL of a failure that was not its own were found by errors.As.
func TestSharedFailuresHaveNoResponse(t *testing.T) {
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
			var changes []retry.StateChange
			b, _ := newBreaker(t, func(c *retry.BreakerConfig) {
				c.FailureThreshold = 1
				c.IsFailure = func(error) bool { return true }
				c.OnStateChange = func(s retry.StateChange) { changes = append(changes, s) }
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
			require.NotEmpty(t, changes)
			for where, shared := range map[string]error{"OpenError": open.Err, "Snapshot": b.Snapshot().LastFailure, "StateChange": changes[0].Err} {
				require.ErrorAs(t, shared, &status, where)
				assert.Equal(t, &retry.StatusError{StatusCode: 503, Method: "GET", URL: "http://host/a", RetryAfter: time.Second}, status)
				assert.Equal(t, strings.ReplaceAll(text, "SECRET", "xxxxx"), shared.Error(), "the text is the same")
				assert.Equal(t, errors.Is(original, errDown), errors.Is(shared, errDown))
				assert.Equal(t, errors.Is(original, retry.ErrMaxRetries), errors.Is(shared, retry.ErrMaxRetries))
				assert.Equal(t, retry.Retryable(original), retry.Retryable(shared))
			}
			own.Body[0], own.StatusCode = 'X', 1 // whatever the caller does with its own
			own.Header.Set("Set-Cookie", "x")
			assert.Equal(t, 503, status.StatusCode)
		})
	}
}

// What has no response in it is shared as it is.
func TestOtherFailuresAreSharedAsTheyAre(t *testing.T) {
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

// The refusal that paused a gate is shown to every call that waits for it, also where it
// comes with a rejection or a pause of another call.
func TestSharedRefusalsHaveNoResponse(t *testing.T) {
	var status *retry.StatusError
	for _, err := range []error{
		secretStatus(), &retry.OpenError{Name: "hgnc", Err: secretStatus()}, &retry.PauseError{Name: "hgnc", RetryAfter: 1, Err: fmt.Errorf("get: %w", secretStatus())},
	} {
		gate := retry.NewGate(nil)
		_ = retry.Run(t.Context(), retry.Config{Gate: gate, MaxRetries: retry.NoRetries}, func(context.Context) error { return retry.RetryAfter(err, time.Hour) })
		var pause *retry.PauseError
		require.ErrorAs(t, retry.Run(t.Context(), retry.Config{Gate: gate}, none), &pause)
		shared := pause.Err
		assert.Equal(t, err.Error(), shared.Error())
		var open *retry.OpenError
		switch {
		case errors.As(shared, &open):
			shared = open.Err
		case errors.As(shared, &pause):
			shared = pause.Err
		}
		require.ErrorAs(t, shared, &status)
		assert.Nil(t, status.Header)
		assert.Nil(t, status.Body)
	}
}

// The failure in a rejection is another call's: a deadline in it is not the caller's.
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

// texts are all the ways in which this package writes an error.
func texts(err error) string {
	given := &retry.Error{Attempts: 1, Reason: retry.ErrMaxRetries, Err: err}
	var log strings.Builder
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "given", given, "event", retry.Event{Host: "h", Err: err}, "rejection", (&retry.OpenError{Err: err}).Error(), "pause", &retry.PauseError{Err: err})
	}
	encoded, _ := json.Marshal(map[string]any{"given": given, "event": retry.Event{Err: err}, "pause": &retry.PauseError{Err: err}})
	return log.String() + string(encoded) + fmt.Sprintf("%v %+v %q %s", given, given, given, &retry.PauseError{Err: err})
}

// Only the URL of the outermost *url.Error was cleaned, and only if it was a valid
// one. Whatever a secret hides in, and however deep, it is in none of the texts.
func TestRedaction(t *testing.T) {
	get := func(raw string, err error) error { return &url.Error{Op: "Get", URL: raw, Err: err} }
	const sound = "https://user:SECRET@h.example/gene?sig=SECRET&SECRET#SECRET"
	for name, err := range map[string]error{
		"query":                 get(sound, errDown),
		"wrapped":               fmt.Errorf("token: %w", fmt.Errorf("fetch: %w", get(sound, errDown))),
		"flattened, quoted":     fmt.Errorf("token: %q", get(sound, errDown).Error()),
		"joined":                errors.Join(errDown, get(sound, errDown), get("mailto:SECRET@h", errDown)),
		"mailto":                get("mailto:SECRET@h", errDown),
		"Authorization in JSON": errors.New(`{"authorization":"Token SECRET"}`),
		"bearer":                errors.New("rejected bearer SECRET"),
		"status":                &retry.StatusError{StatusCode: 404, Method: "GET", URL: sound, Header: http.Header{"Set-Cookie": {"SECRET"}}},
		"in an Error":           &retry.Error{Reason: get(sound, errDown), Err: get(sound, errDown)},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, err)
			got := texts(err)
			assert.NotContains(t, got, "SECRET")
			assert.NotContains(t, got, "{}")
		})
	}
}

// The base transport of a client fetches a token, as oauth2's does, and its error
// brings the URL of that.
func TestRedactionOfABaseTransportsError(t *testing.T) {
	inner := &url.Error{Op: "Post", URL: "https://user:SECRET@id.example/token?secret=SECRET", Err: io.ErrUnexpectedEOF}
	for name, err := range map[string]error{"itself": inner, "wrapped": fmt.Errorf("token: %w", inner), "flattened": fmt.Errorf("token: %v (%w)", inner, io.EOF)} {
		t.Run(name, func(t *testing.T) {
			log, logger := newLog()
			cfg, tr := track(soon)
			cfg.Logger = logger
			base := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, err })}
			_, got := outcomeClient(t, base, cfg).Get(t.Context(), "http://gene.example/?sig=SECRET")
			require.Error(t, got)
			var found *url.Error
			require.ErrorAs(t, got, &found)
			assert.NotContains(t, log.String()+fmt.Sprintf("%v %+v %v", got, got, found), "SECRET")
			require.NotEmpty(t, tr.errs)
			for _, seen := range append(tr.errs, tr.last().Err) {
				assert.NotContains(t, fmt.Sprintf("%v", seen), "SECRET")
				var found *url.Error
				if errors.As(seen, &found) {
					assert.NotContains(t, found.Error(), "SECRET")
				}
			}
			if name != "flattened" {
				assert.ErrorIs(t, got, io.ErrUnexpectedEOF)
			}
		})
	}
	for _, raw := range []string{"http://user:SECRET/word@host/", "http://h/%SECRET", "http://user:SECRET@[::1/"} {
		_, err := outcomeClient(t, nil, soon).Get(t.Context(), raw)
		require.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.NotContains(t, err.Error(), "SECRET")
		var found *url.Error
		require.ErrorAs(t, err, &found)
		assert.NotContains(t, found.Error(), "SECRET")
	}
}

// A failure in JSON was {}, and in slog's every field of it.
func TestErrorsAndEventsInLogsAndJSON(t *testing.T) {
	failure := &url.Error{Op: "Get", URL: "https://h.example/?sig=SECRET", Err: errDown}
	encoded, err := json.Marshal(map[string]any{
		"error":  &retry.Error{Attempts: 2, Reason: retry.ErrMaxRetries, Err: failure},
		"status": &retry.StatusError{StatusCode: 503, Method: "GET", URL: "https://h.example/", Header: http.Header{"A": {"b"}}, Body: []byte("body")},
		"event":  retry.Event{Name: "hgnc", Attempt: 2, Delay: time.Second, Elapsed: time.Minute, Why: retry.WaitBackoff, Err: failure},
		"done":   &retry.Event{},
		"nil":    []any{(*retry.Error)(nil), (*retry.StatusError)(nil)},
	})
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"error": "retry: no retries left after 2 attempts: Get \"https://h.example/?sig=xxxxx\": down",
		"status": "GET https://h.example/: 503 Service Unavailable",
		"event": {"Name":"hgnc","Host":"","Attempt":2,"Delay":1000000000,"Elapsed":60000000000,"Why":"backoff","Err":"Get \"https://h.example/?sig=xxxxx\": down"},
		"done": {"Name":"","Host":"","Attempt":0,"Delay":0,"Elapsed":0,"Why":"","Err":null},
		"nil": [null, null]
	}`, string(encoded))

	log, logger := newLog()
	logger.Info("x", "status", &retry.StatusError{StatusCode: 503, Body: []byte("body")}, "none", (*retry.Error)(nil),
		"event", retry.Event{Name: "hgnc", Attempt: 2, Delay: time.Second, Why: retry.WaitBackoff, Err: failure})
	assert.Contains(t, log.String(), `status="503 Service Unavailable" none=<nil> event.attempt=2 event.name=hgnc event.delay=1s event.elapsed=0s event.why=backoff event.error="Get \"https://h.example/?sig=xxxxx\": down"`)
}

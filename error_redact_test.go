package retry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// texts are all the ways in which this package tells of an error.
func texts(err error) string {
	given := &retry.Error{Attempts: 1, Reason: retry.ErrMaxRetries, Err: err}
	var log strings.Builder
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "given", given, "event", retry.Event{Err: err}, "rejection", (&retry.OpenError{Err: err}).Error())
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

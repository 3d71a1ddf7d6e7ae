package retry_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// slog and encoding/json wrote {} for an error, or all the fields of one, with
// the query of its URL.
func TestBreakerRenderings(t *testing.T) {
	var change retry.StateChange
	b, clock := newBreaker(t, func(c *retry.BreakerConfig) {
		c.Name, c.FailureThreshold = "hgnc", 1
		c.OnStateChange = func(s retry.StateChange) { change = s }
	})
	secret := &url.Error{Op: "Get", URL: "https://user:SECRET@host/a?sig=SECRET", Err: errDown}
	permit(t, b).Done(fmt.Errorf("fetch: %w", secret))
	open, snapshot := refused(t, b), b.Snapshot()
	const failure = `fetch: Get \"https://xxxxx@host/a?sig=xxxxx\": down`
	at := clock.Now().Format(time.RFC3339Nano)
	until := clock.Now().Add(10 * time.Second).Format(time.RFC3339Nano)
	for want, value := range map[string]any{
		`{"Name":"hgnc","State":"open","RetryAfter":10000000000,"Err":"` + failure + `"}`:                                                                                                                        open,
		`{"Name":"hgnc","From":"closed","To":"open","At":"` + at + `","Until":"` + until + `","Cause":"1 failure in a row","Err":"` + failure + `"}`:                                                             change,
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
		for name, value := range map[string]any{"open": open, "change": change, "pointer": &change, "snapshot": snapshot, "pointer to snapshot": &snapshot, "rejection": error(open)} {
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

// Calls that are rejected together share a rejection: it never changes once it was returned.
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

package retry

import (
	"encoding/json"
	"log/slog"

	"github.com/retryutils/retry/internal/redact"
)

// An error is a struct whose fields nobody may see or an address, to a package
// that looks for fields. Here it is its text, without the secrets of the URLs in
// it; no error is null.

// MarshalJSON writes the fields, Err as its text.
func (e *OpenError) MarshalJSON() ([]byte, error) {
	type fields OpenError // without methods
	return json.Marshal(struct {
		fields
		Err any
	}{fields(*e), textOrNil(e.Err)})
}

// LogValue is the text, as of any error in a log.
func (e *OpenError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// MarshalJSON writes the fields, Err as its text.
func (c StateChange) MarshalJSON() ([]byte, error) {
	type fields StateChange
	return json.Marshal(struct {
		fields
		Err any
	}{fields(c), textOrNil(c.Err)})
}

// LogValue is a group of the fields that are set, under the keys of the
// package's own log lines.
func (c StateChange) LogValue() slog.Value {
	return slog.GroupValue(append(c.attrs(""), slog.Time("at", c.At))...)
}

// attrs describes the change of a breaker, which is known by the given name if
// it has none of its own.
func (c *StateChange) attrs(name string) []slog.Attr {
	attrs := make([]slog.Attr, 0, 6)
	if c.Name != "" {
		name = c.Name
	}
	if name != "" {
		attrs = append(attrs, slog.String("name", name))
	}
	attrs = append(attrs, slog.String("from", c.From.String()), slog.String("to", c.To.String()))
	if c.Cause != "" {
		attrs = append(attrs, slog.String("cause", c.Cause))
	}
	if !c.Until.IsZero() {
		attrs = append(attrs, slog.Time("until", c.Until))
	}
	return appendError(attrs, c.Err)
}

// MarshalJSON writes the fields, LastFailure as its text.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	type fields Snapshot
	return json.Marshal(struct {
		fields
		LastFailure any
	}{fields(s), textOrNil(s.LastFailure)})
}

// LogValue is a group of the fields. OpenUntil and LastFailure are left out if
// there is none.
func (s Snapshot) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("state", s.State.String()),
		slog.Int("requests", s.Requests),
		slog.Int("successes", s.Successes),
		slog.Int("failures", s.Failures),
		slog.Int("slow_calls", s.SlowCalls),
		slog.Int("rejections", s.Rejections),
		slog.Int("consecutive_failures", s.ConsecutiveFailures),
	}
	if !s.OpenUntil.IsZero() {
		attrs = append(attrs, slog.Time("open_until", s.OpenUntil))
	}
	if s.Cause != "" {
		attrs = append(attrs, slog.String("cause", s.Cause))
	}
	return slog.GroupValue(appendError(attrs, s.LastFailure)...)
}

func appendError(attrs []slog.Attr, err error) []slog.Attr {
	if err != nil {
		attrs = append(attrs, slog.String("error", redact.Error(err)))
	}
	return attrs
}

// textOrNil is for a field that holds an error.
func textOrNil(err error) any {
	if err == nil {
		return nil
	}
	return redact.Error(err)
}

package retry

import (
	"encoding/json"
	"log/slog"

	"github.com/retryutils/retry/internal/redact"
)

// The errors of this package are logged and marshalled as their text, which has
// no secrets, whatever they wrap. Without that, encoding/json would write {} for
// an error inside, and slog every field of it.

// LogValue is the error's text.
func (e *Error) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// MarshalJSON writes the error's text.
func (e *Error) MarshalJSON() ([]byte, error) { return json.Marshal(e.Error()) }

// LogValue is the error's text.
func (e *PauseError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// MarshalJSON writes the error's text.
func (e *PauseError) MarshalJSON() ([]byte, error) { return json.Marshal(e.Error()) }

// LogValue is the error's text: neither its header nor its body.
func (e *StatusError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// MarshalJSON writes the error's text: neither its header nor its body.
func (e *StatusError) MarshalJSON() ([]byte, error) { return json.Marshal(e.Error()) }

// LogValue is a group of the fields that are set, the error as its text.
func (e Event) LogValue() slog.Value {
	attrs := append(make([]slog.Attr, 0, 7), slog.Int("attempt", e.Attempt))
	if e.Name != "" {
		attrs = append(attrs, slog.String("name", e.Name))
	}
	if e.Host != "" {
		attrs = append(attrs, slog.String("host", e.Host))
	}
	if e.Delay > 0 {
		attrs = append(attrs, readable("delay", e.Delay))
	}
	attrs = append(attrs, readable("elapsed", e.Elapsed))
	if e.Why != "" {
		attrs = append(attrs, slog.String("why", string(e.Why)))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", redact.Error(e.Err)))
	}
	return slog.GroupValue(attrs...)
}

// MarshalJSON writes all fields by their names, the error as its text, or null.
func (e Event) MarshalJSON() ([]byte, error) {
	type event Event // has no methods
	return json.Marshal(struct {
		event
		Err *string
	}{event(e), errorText(e.Err)})
}

// errorText is an error as a field of JSON: its text without secrets, or null.
func errorText(err error) *string {
	if err == nil {
		return nil
	}
	text := redact.Error(err)
	return &text
}

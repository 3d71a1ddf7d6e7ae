package attempt_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/attempt"
)

func TestIsDial(t *testing.T) {
	reset := errors.New("connection reset by peer")
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{reset, false},
		{&net.OpError{Op: "read", Err: reset}, false},
		{&net.OpError{Op: "dial", Err: reset}, true},
		{&net.OpError{Op: "proxyconnect", Err: reset}, true},
		{&net.OpError{Op: "socks connect", Err: reset}, true},
		{&net.DNSError{Err: "no such host"}, true},
		{fmt.Errorf("call: %w", &net.OpError{Op: "read", Err: &net.DNSError{Err: "no such host"}}), true},
		{fmt.Errorf("call: %w", &net.OpError{Op: "dial", Err: reset}), true},
	} {
		assert.Equal(t, c.want, attempt.IsDial(c.err), "%#v", c.err)
	}
}

// What a RoundTripper that plays a server did is noted for the attempt whose context it was
// given, and for no other.
func TestPlay(t *testing.T) {
	attempt.Play(t.Context(), nil) // of no attempt
	var played attempt.Played
	ctx := context.WithValue(t.Context(), attempt.PlayedKey{}, &played)
	attempt.Play(ctx, &net.OpError{Op: "dial"})
	assert.EqualValues(t, 1, played.Calls.Load())
	assert.Zero(t, played.Sent.Load())
	attempt.Play(ctx, &net.OpError{Op: "read"})
	attempt.Play(ctx, nil)
	assert.EqualValues(t, 3, played.Calls.Load())
	assert.EqualValues(t, 2, played.Sent.Load())
}

func TestOf(t *testing.T) {
	assert.Equal(t, attempt.Traits{}, attempt.Of(t.Context()))
	for _, idempotent := range []bool{true, false} {
		ctx := context.WithValue(t.Context(), attempt.IdempotentKey{}, idempotent)
		assert.Equal(t, attempt.Traits{Decided: true, Idempotent: idempotent}, attempt.Of(ctx))
		traits := attempt.Traits{Recorded: true}
		assert.Equal(t, traits, attempt.Of(context.WithValue(ctx, attempt.Key{}, &traits)), "of the attempt under way")
	}
}

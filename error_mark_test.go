package retry_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry"
)

// Permanent around Permanent left a mark on, which an outer Do then obeyed.
func TestPermanentLeavesNoMark(t *testing.T) {
	run := func(err error) error {
		return retry.Run(t.Context(), retry.Config{}, func(context.Context) error { return err })
	}
	assert.Equal(t, errDown, run(retry.Permanent(retry.Permanent(errDown))))
	assert.Equal(t, retry.Neutral(errDown), run(retry.Permanent(retry.Neutral(retry.Permanent(errDown)))))
	assert.Equal(t, retry.RetryAfter(errDown, 1), run(retry.Permanent(retry.RetryAfter(errDown, 1))))
	for _, err := range []error{retry.Permanent(retry.Permanent(errDown)), retry.Neutral(retry.Permanent(errDown))} {
		assert.True(t, retry.Retryable(run(err)), "the Do around this one is free to retry")
	}
	wrapped := fmt.Errorf("outer: %w", retry.Permanent(errDown))
	assert.Equal(t, wrapped, run(wrapped))
	assert.Nil(t, retry.Permanent(nil))
	assert.Nil(t, retry.Neutral(nil))
	assert.EqualError(t, retry.Neutral(errDown), "down")
	assert.ErrorIs(t, retry.Neutral(errDown), errDown)
}

// Neutral changes nothing in the loop.
func TestNeutralIsRetriedAsTheErrorWouldBe(t *testing.T) {
	cfg := retry.Config{Backoff: retry.ConstantBackoff(0), MaxRetries: 2}
	fn, calls := script(retry.Neutral(errDown))
	gaveUp(t, retry.Run(t.Context(), cfg, fn), retry.ErrMaxRetries)
	assert.Equal(t, 3, *calls)
	for _, err := range []error{retry.Neutral(retry.Permanent(errDown)), retry.Permanent(retry.Neutral(errDown)), retry.Neutral(&retry.StatusError{StatusCode: 404})} {
		fn, calls = script(err)
		assert.Error(t, retry.Run(t.Context(), cfg, fn))
		assert.Equal(t, 1, *calls)
	}
}

package valid_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/valid"
)

func TestProblems(t *testing.T) {
	kind := errors.New("invalid")
	var p valid.Problems
	var none *time.Timer
	valid.Require(&p, true, "Right", 1, "a count")
	p.NotNegative("Delay", 0)
	p.NotNil("Clock", nil)
	p.NotNil("Clock", time.NewTimer)
	assert.NoError(t, p.Join(kind, valid.Of("Config")))

	valid.Require(&p, false, "Count", -1, "0 or more"+valid.OrDefault)
	valid.RequireOther(&p, false, "Delay", time.Minute, "at most", "MaxDelay", time.Second)
	p.NotNegative("Delay", -time.Second)
	p.NotNil("Timer", none)
	err := p.Join(kind, valid.Of("Config"))
	assert.ErrorIs(t, err, kind)
	assert.EqualError(t, err, `invalid: Config.Count is -1, want 0 or more, or 0 for the default
invalid: Config.Delay is 1m0s, want at most Config.MaxDelay, 1s
invalid: Config.Delay is -1s, want 0 or more
invalid: Config.Timer is a nil *time.Timer, want one that is there, or nil itself for none`)
}

func TestIsNil(t *testing.T) {
	var pointer *int
	var function func()
	for _, v := range []any{pointer, function} {
		assert.True(t, valid.IsNil(v), "%T", v)
	}
	for _, v := range []any{nil, 0, new(int), func() {}, []int(nil)} {
		assert.False(t, valid.IsNil(v), "%T", v)
	}
}

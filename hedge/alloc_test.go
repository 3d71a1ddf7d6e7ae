package hedge_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/hedge"
)

// A request that is not eligible costs no allocation.
func TestNotEligibleAllocatesNothing(t *testing.T) {
	resp := &http.Response{StatusCode: 200, Body: http.NoBody}
	base := roundTrip(func(*http.Request) (*http.Response, error) { return resp, nil })
	h := newHedge(t, hedge.Config{Delay: time.Hour})
	rt := h.Transport(base)
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		req := request(t, t.Context(), method, strings.NewReader("x"))
		assert.Zero(t, testing.AllocsPerRun(100, func() { rt.RoundTrip(req) }), method)
	}
}

package otelretry_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/hedge"
	"github.com/retryutils/retry/otelretry"
)

type slowFirst struct{}

func (slowFirst) RoundTrip(req *http.Request) (*http.Response, error) {
	if hedge.Count(req.Context()) == 0 {
		<-req.Context().Done()
		return nil, context.Cause(req.Context())
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// A hedge has a span of its own, which distinguishes it from a retry: it is sent once more, and in
// the same attempt.
func TestHedgeIsNoRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(t)
		cfg, err := otelretry.Instrument(retry.Config{Name: "x"}, p.opts...)
		require.NoError(t, err)
		h, err := hedge.New(hedge.Config{Delay: time.Second})
		require.NoError(t, err)
		options := append(otelretry.Options(p.opts...), retry.WrapTransport(h.Transport))
		client, err := retry.NewRetryableClient(&http.Client{Transport: slowFirst{}}, cfg, options...)
		require.NoError(t, err)
		resp, err := client.Get(context.Background(), "http://a.test/")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		synctest.Wait()
		tree := strings.Split(strings.TrimSpace(p.tree()), "\n")
		require.Len(t, tree, 3, "%q", tree) // the call and two requests
		var hedged, first int
		for _, line := range tree[1:] {
			if strings.Contains(line, "hedge=1") {
				hedged++
				assert.Contains(t, line, "resend_count=1")
			} else {
				first++
				assert.NotContains(t, line, "resend_count")
			}
		}
		assert.Equal(t, [2]int{1, 1}, [2]int{hedged, first}, "%q", tree)
		assert.Contains(t, tree[0], "attempts=1")
	})
}

package lookalikes

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Loops that a retry resembles until it is followed what stands where.

var errStopped = errors.New("stopped")

// An end without an error goes round as well as one with: it runs until it is stopped.
func runConnection(run func() error, stopping *bool) {
	wait := time.Second
	for {
		err := run()
		if errors.Is(err, errStopped) {
			return
		} else if err != nil {
			println("connection failed, reconnecting")
		}
		if *stopping {
			return
		}
		wait = min(2*wait, time.Minute)
		time.Sleep(wait)
	}
}

type region struct{ url string }

type step struct {
	region *region
	wait   time.Duration
}

type signals struct{}

func (signals) Join(ctx context.Context, url string) error { return nil }
func (signals) Prepare() error                             { return nil }

// A plan: each step has an address of its own, and what is prepared for it first is not
// what failed, though its error has the same name.
func followPlan(ctx context.Context, s signals, plan []*step) (last error) {
	for _, attempt := range plan {
		if attempt.wait > 0 {
			time.Sleep(attempt.wait)
		}
		var err error
		if err = s.Prepare(); err != nil {
			return err
		}
		err = s.Join(ctx, attempt.region.url)
		if err != nil {
			last = err
			continue
		}
		return nil
	}
	return last
}

func mayRetry(resp *http.Response, err error) bool { return err != nil }

func regionsOf(u url.URL) ([]string, error) { return nil, nil }

// The request goes to another host in each round, by an assignment to its URL; what is
// got once, when it is not there yet, is no attempt.
func failover(ctx context.Context, t http.RoundTripper, req *http.Request, body []byte) (*http.Response, error) {
	host := req.URL.Host
	var regions []string
	for attempt := 0; attempt < 3; attempt++ {
		r := req.Clone(ctx)
		r.URL.Host = host
		r.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := t.RoundTrip(r)
		if !mayRetry(resp, err) || attempt == 2 {
			return resp, err
		}
		if regions == nil {
			regions, _ = regionsOf(*req.URL)
		}
		if len(regions) > 0 {
			host, regions = regions[0], regions[1:]
		}
		resp.Body.Close()
		time.Sleep(time.Second)
	}
	return nil, errStopped
}

package bench

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"

	"github.com/retryutils/retry/hedge"
)

func BenchmarkHedge(b *testing.B) { measure(b, succeed, hedges()) }

// hedges are calls that are answered in time.
func hedges() []candidate {
	const delay = time.Hour
	return []candidate{
		{floor, "plain call", func() loop { return plainCall }},
		{floor, "goroutine, channel, timer and context", func() loop { return handWrittenHedge(delay) }},
		{ours, "Transport, not eligible", func() loop { return ourHedge(http.MethodPost, hedge.Config{Delay: delay}) }},
		{ours, "Transport, in time", func() loop { return ourHedge(http.MethodGet, hedge.Config{Delay: delay}) }},
		{ours, "Do, in time", func() loop {
			h := newHedge(hedge.Config{Delay: delay})
			return func(n int, w *work) {
				ctx := context.Background()
				for range n {
					_, err := hedge.Do(ctx, h, w.valueCtx)
					w.note(err)
				}
			}
		}},
		{peer, "failsafe-go hedge policy", func() loop {
			executor := failsafe.With(hedgepolicy.NewWithDelay[int](delay))
			return func(n int, w *work) {
				for range n {
					_, err := executor.GetWithExecution(func(e failsafe.Execution[int]) (int, error) { return w.valueCtx(e.Context()) })
					w.note(err)
				}
			}
		}},
	}
}

func newHedge(cfg hedge.Config) *hedge.Hedge {
	h, err := hedge.New(cfg)
	if err != nil {
		panic(err)
	}
	return h
}

func ourHedge(method string, cfg hedge.Config) loop {
	h := newHedge(cfg)
	return func(n int, w *work) {
		resp := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}
		rt := h.Transport(roundTrip(func(*http.Request) (*http.Response, error) { return resp, w.run() }))
		req, err := http.NewRequest(method, "http://bench.example/items/1?page=2", strings.NewReader(""))
		if err != nil {
			panic(err)
		}
		for range n {
			_, err := rt.RoundTrip(req)
			w.note(err)
		}
	}
}

// handWrittenHedge is the least that it takes to wait for an answer and for a delay.
func handWrittenHedge(delay time.Duration) loop {
	return func(n int, w *work) {
		for range n {
			ctx, cancel := context.WithCancel(background)
			answered := make(chan error, 1)
			go func() { answered <- w.runCtx(ctx) }()
			timer := time.NewTimer(delay)
			select {
			case err := <-answered:
				w.note(err)
			case <-timer.C:
				panic("late")
			}
			timer.Stop()
			cancel()
		}
	}
}

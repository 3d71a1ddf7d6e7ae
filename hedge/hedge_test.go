package hedge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/hedge"
)

// A bubble of synctest fails a test whose goroutines do not end: that no loser stays is
// part of every test here.

// The first answer is late, the hedge's is not: it is the one that is returned, the first
// request is cancelled, and what its transport returns in spite of that is read and closed.
func TestHedgeWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counts [2]int
		base := &backend{}
		base.answer = func(n int64, req *http.Request) (*http.Response, error) {
			counts[n-1] = hedge.Count(req.Context())
			if n == 2 {
				return after(req, 10*time.Millisecond, 200)
			}
			_, err := after(req, slow, 200)
			assert.Equal(t, context.Canceled, err)
			return &http.Response{StatusCode: 200, Body: base.body(strings.NewReader("too late"))}, nil
		}
		h := newHedge(t, hedge.Config{Delay: late})
		status, took := send(t, h.Transport(base))
		synctest.Wait()
		assert.Equal(t, 200, status)
		assert.Equal(t, late+10*time.Millisecond, took)
		assert.Equal(t, [2]int{0, 1}, counts)
		assert.Equal(t, hedge.Snapshot{Calls: 1, Hedges: 1, Won: 1, Delay: late}, h.Snapshot())
		assert.Zero(t, base.bodies.Load(), "open bodies")
		assert.EqualValues(t, 2, base.drained.Load(), "read to their ends")
		assert.Zero(t, base.underway.Load())
	})
}

// An answer in time: no hedge, and no timer that stays.
func TestNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &backend{answer: func(_ int64, req *http.Request) (*http.Response, error) { return after(req, late-1, 200) }}
		h := newHedge(t, hedge.Config{Delay: late})
		_, took := send(t, h.Transport(base))
		assert.Equal(t, late-1, took)
		assert.Equal(t, hedge.Snapshot{Calls: 1, Delay: late}, h.Snapshot())
	})
}

// What both fail with: a response is preferred to an error, and otherwise the first of the
// two is returned, when the second has come.
func TestBothFail(t *testing.T) {
	broken, refused := errors.New("broken"), errors.New("refused")
	for name, c := range map[string]struct {
		first, second any // a status or an error
		want          any
	}{
		"two errors":              {broken, refused, broken},
		"an error, then a 503":    {broken, 503, 503},
		"a 503, then an error":    {503, broken, 503},
		"a 503, then a 500":       {503, 500, 503},
		"a 429, then a 429":       {429, 429, 429},
		"a 503, then a success":   {503, 200, 200},
		"a 429, then a 404":       {429, 404, 404},
		"an error, then success":  {broken, 204, 204},
		"a success is not waited": {200, 503, 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
					// The first fails after the hedge has begun, and before its end.
					outcome, took := c.first, late+10*time.Millisecond
					if n == 2 {
						outcome, took = c.second, 50*time.Millisecond
					}
					status, isStatus := outcome.(int)
					resp, err := after(req, took, status)
					if err != nil || isStatus {
						return resp, err
					}
					return nil, outcome.(error)
				}}
				h := newHedge(t, hedge.Config{Delay: late})
				began := time.Now()
				resp, err := h.Transport(base).RoundTrip(request(t, t.Context(), http.MethodGet, nil))
				took := time.Since(began)
				if want, ok := c.want.(error); ok {
					assert.Equal(t, want, err)
					assert.Nil(t, resp)
				} else {
					require.NoError(t, err)
					assert.Equal(t, c.want, resp.StatusCode)
					text, err := io.ReadAll(resp.Body)
					assert.NoError(t, err)
					assert.Equal(t, "body", string(text))
					resp.Body.Close()
				}
				if c.first == 200 {
					assert.Equal(t, late+10*time.Millisecond, took)
				} else {
					assert.Equal(t, late+50*time.Millisecond, took)
				}
				time.Sleep(time.Second)
				assert.Zero(t, base.bodies.Load(), "open bodies")
				won := int64(0)
				if c.want != c.first && c.second != 503 {
					won = 1
				}
				assert.Equal(t, won, h.Snapshot().Won)
			})
		})
	}
}

// A failure before the delay is the call's: it is the loop that retries.
func TestFailureInTimeIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &backend{answer: func(_ int64, req *http.Request) (*http.Response, error) { return after(req, late/2, 503) }}
		h := newHedge(t, hedge.Config{Delay: late})
		status, took := send(t, h.Transport(base))
		assert.Equal(t, 503, status)
		assert.Equal(t, late/2, took)
		assert.Zero(t, h.Snapshot().Hedges)
	})
}

// Both succeed at the same moment: one is returned with its body, the other is closed.
func TestBothSucceedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
			d := 3 * late
			if n == 2 {
				d = 2 * late
			}
			time.Sleep(d) // whether it was cancelled or not
			return &http.Response{StatusCode: 200}, nil
		}}
		h := newHedge(t, hedge.Config{Delay: late, Budget: newBudget(t, 1, 100)})
		for range 100 {
			base.requests.Store(0)
			_, took := send(t, h.Transport(base))
			assert.Equal(t, 3*late, took)
			time.Sleep(3 * late) // the other may have been sent later, when it was asked for again
			synctest.Wait()
			require.Zero(t, base.bodies.Load(), "open bodies")
		}
	})
}

// The caller cancels before the delay, between the two, and when both are under way: no
// other request is sent, all end, and the error is the one that the transport has for it.
func TestCallerCancels(t *testing.T) {
	for when, requests := range map[time.Duration]int64{late / 2: 1, late: -1, 2 * late: 2} {
		synctest.Test(t, func(t *testing.T) {
			base := &backend{answer: func(_ int64, req *http.Request) (*http.Response, error) { return after(req, slow, 200) }}
			h := newHedge(t, hedge.Config{Delay: late})
			cause := errors.New("the user left")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(when, func() { cancel(cause) })
			began := time.Now()
			_, err := h.Transport(base).RoundTrip(request(t, ctx, http.MethodGet, nil))
			assert.ErrorIs(t, err, cause)
			assert.Equal(t, when, time.Since(began))
			synctest.Wait()
			assert.Zero(t, base.underway.Load())
			if requests > 0 {
				assert.Equal(t, requests, base.requests.Load())
			}
		})
	}
}

// A cancel that comes at the moment of the delay, or just before it: no request is sent for a
// caller that is gone. When both are under way, the first that ends is the end: the call is
// not held up by one that does not look at its context.
func TestCancelledAtTheDelay(t *testing.T) {
	for range 50 {
		clock := clockwork.NewFakeClock()
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			time.Sleep(time.Millisecond)
			return nil, context.Cause(req.Context())
		})
		h := newHedge(t, hedge.Config{Delay: time.Second, Clock: clock})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := h.Transport(base).RoundTrip(request(t, ctx, http.MethodGet, nil))
			assert.ErrorIs(t, err, context.Canceled)
		}()
		require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
		cancel()
		clock.Advance(time.Second)
		<-done
		require.Zero(t, h.Snapshot().Hedges)
	}
	synctest.Test(t, func(t *testing.T) {
		base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
			if n == 2 {
				time.Sleep(slow)
				return nil, errors.New("deaf")
			}
			return after(req, slow, 200)
		}}
		h := newHedge(t, hedge.Config{Delay: late})
		ctx, cancel := context.WithTimeout(t.Context(), 2*late)
		defer cancel()
		began := time.Now()
		_, err := h.Transport(base).RoundTrip(request(t, ctx, http.MethodGet, nil))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 2*late, time.Since(began))
		time.Sleep(slow)
		assert.Zero(t, base.underway.Load())
	})
}

// The delay that is learned while late calls are hedged is the true quantile of the times
// of answers, and not that of the calls, which hedges make shorter: hedging does not teach
// itself to hedge more.
func TestLearnedDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		takes := func() time.Duration { // uniform, and a tenth of them thirty times as long
			mu.Lock()
			defer mu.Unlock()
			d := time.Duration(10e6 + 10e6*random.Float64())
			if random.IntN(10) == 0 {
				d *= 30
			}
			return d
		}
		base := &backend{answer: func(_ int64, req *http.Request) (*http.Response, error) { return after(req, takes(), 200) }}
		h := newHedge(t, hedge.Config{Budget: newBudget(t, 1, 100)})
		rt := h.Transport(base)
		for i := range 3000 {
			send(t, rt)
			if i == 98 {
				assert.Zero(t, h.Snapshot().Delay)
			}
		}
		s := h.Snapshot()
		assert.InEpsilon(t, 450*time.Millisecond, s.Delay, 0.1)
		assert.InDelta(t, 150, s.Hedges, 50)
	})
}

// A body of the loser that hangs until it is closed keeps neither the caller nor, for long,
// a goroutine; nor does one that waits for a response that is set apart.
func TestLosersBodyHangs(t *testing.T) {
	for _, status := range []int{200, 503} {
		synctest.Test(t, func(t *testing.T) {
			reader, writer := io.Pipe()
			base := &backend{}
			base.answer = func(n int64, req *http.Request) (*http.Response, error) {
				if n == 2 {
					return after(req, 2*late, 200)
				}
				if status == 503 { // comes before the winner
					resp, err := after(req, 2*late, 503)
					resp.Body = hanging{base.body(reader), reader}
					return resp, err
				}
				_, err := after(req, slow, 200)
				require.Error(t, err)
				return &http.Response{StatusCode: status, Body: hanging{base.body(reader), reader}}, nil
			}
			h := newHedge(t, hedge.Config{Delay: late})
			got, took := send(t, h.Transport(base))
			assert.Equal(t, 200, got)
			assert.Equal(t, 3*late, took)
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
			assert.Zero(t, base.bodies.Load(), "open bodies")
			_, err := writer.Write([]byte("x"))
			assert.ErrorIs(t, err, io.ErrClosedPipe)
		})
	}
}

type hanging struct {
	io.ReadCloser
	pipe *io.PipeReader
}

func (h hanging) Close() error {
	h.pipe.Close()
	return h.ReadCloser.Close()
}

// A transport that panics, or leaves by runtime.Goexit, does so on the goroutine of the
// caller, unchanged, and the other request ends. A panic in a goroutine of its own would
// end the process. That of a request that has lost already has no one to go to.
func TestPanics(t *testing.T) {
	for name, c := range map[string]struct {
		panics int64 // the request that does
		when   time.Duration
		lost   bool
	}{
		"the first, before the delay":      {1, late / 2, false},
		"the first, with a hedge":          {1, 2 * late, false},
		"the hedge":                        {2, late, false},
		"the first, after it has lost":     {1, slow, true},
		"the hedge, after it has lost too": {2, slow, true},
	} {
		for _, exits := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, exits: %v", name, exits), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
						if n != c.panics {
							took := slow
							if c.lost {
								took = 3 * late
							}
							return after(req, took, 200)
						}
						time.Sleep(c.when)
						if exits {
							runtime.Goexit()
						}
						panic("out of order")
					}}
					h := newHedge(t, hedge.Config{Delay: late})
					returned, panicked := false, any(nil)
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() { panicked = recover() }()
						send(t, h.Transport(base))
						returned = true
					}()
					<-done
					assert.Equal(t, c.lost, returned)
					if !c.lost && !exits {
						assert.Equal(t, "out of order", panicked)
					} else {
						assert.Nil(t, panicked)
					}
					time.Sleep(slow)
					synctest.Wait()
					assert.Zero(t, base.underway.Load())
					assert.Zero(t, base.bodies.Load(), "open bodies")
				})
			})
		}
	}
}

// The budget is empty when the call is late: it goes on alone, and is hedged as soon as
// there is something in the budget, if that is while it is still under way.
func TestBudgetIsEmptyBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := newBudget(t, 0, 1)
		base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) { return after(req, slow, 200) }}
		h := newHedge(t, hedge.Config{Delay: late, Budget: budget})
		time.AfterFunc(late/2, func() { assert.True(t, budget.Withdraw()) })
		_, took := send(t, h.Transport(base))
		assert.Equal(t, slow, took)
		assert.Equal(t, hedge.Snapshot{Calls: 1, Refused: 1, Delay: late}, h.Snapshot())

		time.AfterFunc(2*late, budget.Refund)
		base.answer = func(n int64, req *http.Request) (*http.Response, error) {
			if n == 3 {
				return after(req, late, 200)
			}
			return after(req, slow, 200)
		}
		_, took = send(t, h.Transport(base))
		assert.Less(t, took, 4*late)
		assert.Equal(t, hedge.Snapshot{Calls: 2, Hedges: 1, Won: 1, Refused: 2, Delay: late}, h.Snapshot())
	})
}

// The clock is a fake one, of the Hedge or of the request's Config: the hedge comes when it
// says so, and one timer at a time is on it.
func TestFakeClock(t *testing.T) {
	for _, own := range []bool{true, false} {
		clock := clockwork.NewFakeClock()
		answer := make(chan struct{})
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			if hedge.Count(req.Context()) == 1 {
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			}
			select {
			case <-answer:
			case <-req.Context().Done():
			}
			return nil, context.Canceled
		})
		cfg, hedging := retry.Config{}, hedge.Config{Delay: time.Hour}
		if own {
			hedging.Clock = clock
		} else {
			cfg.Clock = clock
		}
		h := newHedge(t, hedging)
		client, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg, retry.WrapTransport(h.Transport))
		require.NoError(t, err)
		done := make(chan error)
		go func() {
			resp, err := client.Get(context.Background(), "http://host.test/")
			if err == nil {
				resp.Body.Close()
			}
			done <- err
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		require.NoError(t, clock.BlockUntilContext(ctx, 1))
		clock.Advance(time.Hour - 1)
		assert.Zero(t, h.Snapshot().Hedges)
		clock.Advance(1)
		assert.NoError(t, <-done)
		assert.EqualValues(t, 1, h.Snapshot().Hedges)
		over, stop := context.WithCancel(context.Background())
		stop()
		assert.Error(t, clock.BlockUntilContext(over, 1), "timers left")
		cancel()
	}
}

// Which requests may be sent twice at the same time. An Idempotency-Key, of the caller's or
// of the client's own making, is no reason; what the caller says is the last word.
func TestEligible(t *testing.T) {
	named := func(req *http.Request) bool { return req.Method == http.MethodPut }
	yes := retry.WithIdempotent(context.Background(), true)
	no := retry.WithIdempotent(context.Background(), false)
	text := func() io.Reader { return strings.NewReader("x") }
	once := func() io.Reader { return io.LimitReader(strings.NewReader("x"), 1) }
	for _, c := range []struct {
		method   string
		ctx      context.Context
		body     func() io.Reader
		eligible func(*http.Request) bool
		header   string
		hedges   int64
	}{
		{method: "GET", hedges: 1},
		{method: "", hedges: 1},
		{method: "HEAD", hedges: 1},
		{method: "OPTIONS", hedges: 1},
		{method: "QUERY", body: text, hedges: 1},
		{method: "QUERY", body: once},
		{method: "TRACE"},
		{method: "PUT", body: text},
		{method: "DELETE"},
		{method: "POST", body: text},
		{method: "PATCH", body: text},
		{method: "POST", body: text, header: "Idempotency-Key"},
		{method: "GET", header: "Upgrade"},
		{method: "POST", ctx: yes, body: text, hedges: 1},
		{method: "POST", ctx: yes, body: once},
		{method: "GET", ctx: no},
		{method: "PUT", eligible: named, body: text, hedges: 1},
		{method: "GET", eligible: named},
		{method: "PUT", eligible: named, ctx: no, body: text},
	} {
		for _, through := range []string{"", "client", "transport"} {
			t.Run(fmt.Sprintf("%+v %s", c, through), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
						if req.Body != nil {
							sent, err := io.ReadAll(req.Body)
							assert.NoError(t, err)
							if c.body != nil {
								assert.Equal(t, "x", string(sent))
							}
						}
						return after(req, slow, 200)
					}}
					h := newHedge(t, hedge.Config{Delay: late, Eligible: c.eligible})
					rt := h.Transport(base)
					var body io.Reader
					if c.body != nil {
						body = c.body()
					}
					ctx := c.ctx
					if ctx == nil {
						ctx = context.Background()
					}
					req := request(t, ctx, "GET", body)
					req.Method = c.method
					if c.header != "" {
						req.Header.Set(c.header, "1")
					}
					send := rt.RoundTrip
					switch through {
					case "client":
						client, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{}, retry.WrapTransport(h.Transport))
						require.NoError(t, err)
						send = client.Do
					case "transport":
						transport, err := retry.NewTransport(base, retry.Config{}, retry.WrapTransport(h.Transport))
						require.NoError(t, err)
						send = transport.RoundTrip
					}
					resp, err := send(req)
					require.NoError(t, err)
					resp.Body.Close()
					assert.Equal(t, c.hedges, h.Snapshot().Hedges)
					assert.EqualValues(t, 1, h.Snapshot().Calls)
				})
			})
		}
	}
}

// A GetBody that fails leaves the call to the first request, and costs no budget.
func TestGetBodyFails(t *testing.T) {
	for name, getBody := range map[string]func() (io.ReadCloser, error){
		"error":          func() (io.ReadCloser, error) { return nil, errors.New("gone") },
		"error and body": func() (io.ReadCloser, error) { return http.NoBody, errors.New("gone") },
		"neither":        func() (io.ReadCloser, error) { return nil, nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			base := &backend{answer: func(_ int64, req *http.Request) (*http.Response, error) { return after(req, slow, 200) }}
			budget := newBudget(t, 0, 1)
			h := newHedge(t, hedge.Config{Delay: late, Budget: budget})
			req := request(t, t.Context(), "QUERY", strings.NewReader("x"))
			req.GetBody = getBody
			resp, err := h.Transport(base).RoundTrip(req)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Zero(t, h.Snapshot().Hedges, name)
			assert.Equal(t, 1.0, budget.Balance(), name)
		})
	}
}

// The context of a response lives until its body was read to the end, even where nothing
// closes it; one without a body stays without, and its context ends at once.
func TestContextOfAResponse(t *testing.T) {
	for name, body := range map[string]io.ReadCloser{"text": io.NopCloser(strings.NewReader("body")), "NoBody": http.NoBody, "nil": nil} {
		synctest.Test(t, func(t *testing.T) {
			var sent context.Context
			h := newHedge(t, hedge.Config{Delay: late})
			resp, err := h.Transport(roundTrip(func(req *http.Request) (*http.Response, error) {
				sent = req.Context()
				return &http.Response{StatusCode: 200, Body: body}, nil
			})).RoundTrip(request(t, t.Context(), http.MethodGet, nil))
			require.NoError(t, err)
			if name != "text" {
				assert.Equal(t, body, resp.Body, name)
				assert.Error(t, sent.Err(), name)
				return
			}
			_, err = resp.Body.Read(make([]byte, 2))
			assert.NoError(t, err)
			assert.NoError(t, sent.Err(), "half of it is to be read")
			_, err = io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.Error(t, sent.Err())
		})
	}
}

// A part of what is saved up is left to calls that are late for a while: three hedges of
// ten in the Hedge's own budget, and ten of the twenty that need not win.
func TestReserves(t *testing.T) {
	for _, c := range []struct {
		budget        *retry.Budget
		first, second int64
	}{{nil, 7, 10}, {newBudget(t, 0, 100), 10, 20}} {
		synctest.Test(t, func(t *testing.T) {
			h := newHedge(t, hedge.Config{Delay: late, Budget: c.budget})
			rt := h.Transport(&backend{answer: func(_ int64, req *http.Request) (*http.Response, error) { return after(req, slow, 200) }})
			for range 25 { // one after the other: what is left is read before it is taken
				go send(t, rt)
				time.Sleep(time.Microsecond)
			}
			time.Sleep(late)
			synctest.Wait()
			assert.Equal(t, c.first, h.Snapshot().Hedges, "at the delay")
			time.Sleep(late / 4)
			synctest.Wait()
			assert.Equal(t, c.second, h.Snapshot().Hedges, "a little later")
			time.Sleep(slow)
		})
	}
}

// A call deposits once into the budget that hedges withdraw from, whichever that is: the
// loop does so into that of its Config, and a retry does not count.
func TestDeposits(t *testing.T) {
	for name, c := range map[string]struct {
		own, loop bool // a budget of the hedges, and one of the Config
		want      float64
	}{"own, no Config": {true, false, 1}, "that of the Config": {false, true, 1}, "own beside that of the Config": {true, true, 1}} {
		synctest.Test(t, func(t *testing.T) {
			emptied := func() *retry.Budget {
				b := newBudget(t, 1, 3)
				for b.Withdraw() {
				}
				return b
			}
			base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
				status := 200
				if n == 1 && c.loop {
					status = 503
				}
				return after(req, late/2, status)
			}}
			budget := emptied()
			cfg, loop := hedge.Config{Delay: late}, retry.Config{}
			if c.own {
				cfg.Budget = budget
			}
			if c.loop && !c.own {
				loop.Budget = budget
			}
			h := newHedge(t, cfg)
			if !c.loop {
				send(t, h.Transport(base))
				assert.Equal(t, c.want, budget.Balance(), name)
				return
			}
			if c.own {
				loop.Budget = newBudget(t, 0, 10)
			} else {
				c.want = 0 // a deposit of the loop's, and the retry that took it
			}
			client, err := retry.NewRetryableClient(&http.Client{Transport: base}, loop, retry.WrapTransport(h.Transport))
			require.NoError(t, err)
			resp, err := client.Get(t.Context(), "http://host.test/")
			require.NoError(t, err)
			resp.Body.Close()
			assert.EqualValues(t, 2, base.requests.Load(), name)
			assert.Equal(t, c.want, budget.Balance(), name)
		})
	}
}

// What a call says of how long answers take: an answer, also one of a hedge, and a caller
// who did not wait longer; not a failure of its own, however it comes, nor a hedge that
// answers after the first request has failed.
func TestWhatIsLearned(t *testing.T) {
	const usual, long = 20 * time.Millisecond, 10 * time.Second
	permanent, broken := retry.Permanent(errors.New("gone")), errors.New("broken")
	type step struct {
		d   time.Duration
		err error
	}
	for name, c := range map[string]struct {
		first, hedge step
		cancel       time.Duration
		learns       bool
	}{
		"an answer":                             {first: step{long, nil}, hedge: step{2 * long, nil}, learns: true},
		"an answer of the hedge":                {first: step{3 * long, nil}, hedge: step{long, nil}, learns: true},
		"a caller that is gone":                 {first: step{3 * long, nil}, hedge: step{3 * long, nil}, cancel: long, learns: true},
		"a permanent failure":                   {first: step{long, permanent}, hedge: step{2 * long, nil}},
		"a permanent failure of the hedge":      {first: step{3 * long, nil}, hedge: step{long, permanent}, learns: true},
		"a failure, then the hedge's answer":    {first: step{usual * 2, broken}, hedge: step{long, nil}},
		"a failure, then that of the hedge":     {first: step{usual * 2, broken}, hedge: step{long, broken}},
		"a failure, then a permanent one":       {first: step{usual * 2, broken}, hedge: step{long, permanent}},
		"the hedge's failure, then an answer":   {first: step{long, nil}, hedge: step{usual, broken}, learns: true},
		"the hedge's failure, then the first's": {first: step{long, broken}, hedge: step{usual, broken}},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHedge(t, hedge.Config{Budget: newBudget(t, 1, 1000)})
			do := func(ctx context.Context, first, second step) {
				_, _ = hedge.Do(ctx, h, func(ctx context.Context) (int, error) {
					s := first
					if hedge.Count(ctx) == 1 {
						s = second
					}
					select {
					case <-time.After(s.d):
						return 0, s.err
					case <-ctx.Done():
						return 0, ctx.Err()
					}
				})
			}
			for range 99 {
				do(t.Context(), step{usual, nil}, step{})
			}
			for range 50 {
				do(t.Context(), step{time.Hour, broken}, step{})
			}
			assert.Zero(t, h.Snapshot().Delay, name)
			assert.Zero(t, h.Snapshot().Hedges, name)
			ctx, cancel := context.WithTimeout(t.Context(), usual)
			do(ctx, step{time.Hour, nil}, step{})
			cancel()
			assert.InEpsilon(t, usual, h.Snapshot().Delay, 0.04, name)
			for range 8 { // of 108, more than the 5 % beyond the quantile
				ctx, cancel := context.WithCancel(t.Context())
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				do(ctx, c.first, c.hedge)
				cancel()
			}
			assert.Equal(t, c.learns, h.Snapshot().Delay > long/2, "%s: %v", name, h.Snapshot())
			assert.LessOrEqual(t, h.Snapshot().Delay, long+long/20)
		})
	}
}

// A response that a function does not return is nothing to close.
func TestDoWithoutAResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHedge(t, hedge.Config{Delay: late})
		gone := retry.Permanent(errors.New("gone"))
		resp, err := hedge.Do(t.Context(), h, func(context.Context) (*http.Response, error) { return nil, gone })
		assert.Nil(t, resp)
		assert.Equal(t, gone, err)
	})
}

// A host whose breaker is not closed, or whose gate pauses or paces, gets no hedge, and none
// is sent by a service that drains.
func TestHostInTrouble(t *testing.T) {
	for name, trouble := range map[string]func(cfg retry.Config){
		"none":           func(retry.Config) {},
		"breaker open":   func(cfg retry.Config) { cfg.Breaker.Trip(time.Hour) },
		"gate pauses":    func(cfg retry.Config) { cfg.Gate.Pause(time.Hour) },
		"budget emptied": func(cfg retry.Config) { cfg.Budget.Withdraw() },
		"draining":       nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			drain := make(chan struct{})
			if trouble == nil {
				trouble = func(retry.Config) { close(drain) }
			}
			var settings retry.Config
			base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
				if n == 1 {
					time.AfterFunc(late/2, func() { trouble(settings) })
				}
				return after(req, slow, 200)
			}}
			h := newHedge(t, hedge.Config{Delay: late})
			client, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{Budget: newBudget(t, 0, 1), Drain: drain},
				retry.WrapTransport(h.Transport), retry.HostBreaker(retry.BreakerConfig{}),
				retry.OnHost(func(_ string, cfg retry.Config) { settings = cfg }))
			require.NoError(t, err)
			resp, err := client.Get(t.Context(), "http://host.test/")
			require.NoError(t, err)
			resp.Body.Close()
			want := int64(0)
			if name == "none" {
				want = 1
			}
			assert.Equal(t, want, h.Snapshot().Hedges, name)
			assert.Equal(t, 1-want, h.Snapshot().Refused, name)
		})
	}
}

// A Limiter knows what rate a server allows: a hedge, too, needs its permission, at once. One
// that can only be waited for gives none.
func TestLimiter(t *testing.T) {
	for _, c := range []struct {
		limiter retry.Limiter
		hedges  int64
	}{{allowing{pass{}, true}, 1}, {allowing{pass{}, false}, 0}, {pass{}, 0}} {
		synctest.Test(t, func(t *testing.T) {
			base := &backend{answer: func(_ int64, req *http.Request) (*http.Response, error) { return after(req, slow, 200) }}
			h := newHedge(t, hedge.Config{Delay: late})
			budget := newBudget(t, 0, 1)
			client, err := retry.NewRetryableClient(&http.Client{Transport: base},
				retry.Config{Limiter: c.limiter, Budget: budget}, retry.WrapTransport(h.Transport))
			require.NoError(t, err)
			resp, err := client.Get(t.Context(), "http://host.test/")
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, c.hedges, h.Snapshot().Hedges, "%+v", c.limiter)
			assert.EqualValues(t, 1-c.hedges, budget.Balance(), "%+v", c.limiter)
		})
	}
}

type pass struct{}

func (pass) Wait(context.Context) error { return nil }

type allowing struct {
	pass
	yes bool
}

func (a allowing) Allow() bool { return a.yes }

// At a host that never answers, retries and hedges together stay within the one budget that
// they share, given to both or to the client alone; with one of its own, that of the hedges
// comes on top.
func TestTotalFailure(t *testing.T) {
	for name, c := range map[string]struct {
		both, own bool
		limit     float64
	}{"of the Config": {false, false, 1.1}, "given to both": {true, false, 1.1}, "none": {false, true, 1.05}} {
		synctest.Test(t, func(t *testing.T) {
			const calls = 2000
			base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
				time.Sleep(3 * late)
				return nil, errors.New("hung up")
			}}
			budget := newBudget(t, 0.1, 1)
			cfg, hedging := retry.Config{MaxRetries: 3, Budget: budget, InitialDelay: time.Millisecond}, hedge.Config{Delay: late}
			if c.both {
				hedging.Budget = budget
			}
			if c.own {
				cfg.Budget, cfg.MaxRetries = nil, retry.NoRetries
			}
			h := newHedge(t, hedging)
			client, err := retry.NewRetryableClient(&http.Client{Transport: base}, cfg, retry.WrapTransport(h.Transport))
			require.NoError(t, err)
			began := time.Now()
			for range calls {
				_, err := client.Get(t.Context(), "http://host.test/")
				require.Error(t, err)
			}
			accrued := time.Since(began).Minutes()
			assert.LessOrEqual(t, float64(base.requests.Load()), calls*c.limit+10+accrued+1, name)
			assert.Positive(t, h.Snapshot().Hedges, name)
		})
	}
}

// Where hedges do not help, because all requests are equally late, they stop, whatever the
// budget allows; and begin again when they do.
func TestHedgesThatDoNotWin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHedge(t, hedge.Config{Delay: late, Budget: newBudget(t, 1, 1000)})
		equal := func(_ int64, req *http.Request) (*http.Response, error) { return after(req, 2*late, 200) }
		base := &backend{answer: equal}
		rt := h.Transport(base)
		for range 3000 {
			send(t, rt)
		}
		before := h.Snapshot()
		assert.InDelta(t, 25, before.Hedges, 5)
		base.answer = func(_ int64, req *http.Request) (*http.Response, error) {
			if hedge.Count(req.Context()) > 0 {
				return after(req, late, 200)
			}
			return after(req, slow, 200)
		}
		for range 2000 {
			send(t, rt)
		}
		assert.Greater(t, h.Snapshot().Hedges-before.Hedges, int64(900))
	})
}

// More than one hedge: each a delay after the one before.
func TestMaxHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at [4]time.Duration
		var numbers [4]int
		began := time.Now()
		base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
			at[n-1], numbers[n-1] = time.Since(began), hedge.Count(req.Context())
			return after(req, slow, 200)
		}}
		h := newHedge(t, hedge.Config{Delay: late, MaxHedges: 3})
		_, took := send(t, h.Transport(base))
		assert.Equal(t, slow, took)
		assert.Equal(t, [4]time.Duration{0, late, 2 * late, 3 * late}, at)
		assert.Equal(t, [4]int{0, 1, 2, 3}, numbers)
		time.Sleep(slow)
		assert.Zero(t, base.underway.Load())
		assert.Zero(t, base.bodies.Load(), "open bodies")
	})
}

// The response is the caller's: its body can be read after the race is over, its Request is
// the one that was sent, and that was not changed. The context ends with the body.
func TestResponseIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var winner context.Context
		base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
			req.Header.Set("X-Signature", fmt.Sprint(n)) // as a transport should not
			req.URL.RawQuery = "key"
			if n == 1 {
				return after(req, slow, 200)
			}
			winner = req.Context()
			return after(req, late, 200)
		}}
		h := newHedge(t, hedge.Config{Delay: late})
		req := request(t, t.Context(), "GET", nil)
		resp, err := h.Transport(base).RoundTrip(req)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		assert.NoError(t, winner.Err())
		assert.Same(t, req, resp.Request)
		assert.Empty(t, req.Header)
		assert.Empty(t, req.URL.RawQuery)
		text, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		assert.Equal(t, "body", string(text))
		resp.Body.Close()
		assert.Error(t, winner.Err())
	})
}

// The line about a hedged call: the delay, and neither query nor user information.
func TestLogLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
			return after(req, slow/time.Duration(n*n), 200)
		}}
		h := newHedge(t, hedge.Config{Delay: late})
		client, err := retry.NewRetryableClient(&http.Client{Transport: base},
			retry.Config{Name: "genes", Logger: slog.New(slog.NewTextHandler(&text, nil))}, retry.WrapTransport(h.Transport))
		require.NoError(t, err)
		resp, err := client.Get(t.Context(), "http://user:secret@host.test/?key=secret")
		require.NoError(t, err)
		resp.Body.Close()
		_, line, _ := strings.Cut(text.String(), " ")
		assert.Equal(t, "level=INFO msg=hedged delay=20ms hedges=1 won=true name=genes method=GET host=http://host.test\n", line)

		text.Reset()
		base.answer = func(_ int64, req *http.Request) (*http.Response, error) { return after(req, late/2, 200) }
		resp, err = client.Get(t.Context(), "http://host.test/")
		require.NoError(t, err)
		resp.Body.Close()
		assert.Empty(t, text.String(), "of a call that was not hedged")
	})
}

// The loop, its breaker and the hooks see one attempt.
func TestLoopSeesOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{FailureRate: 0.5})
		require.NoError(t, err)
		base := &backend{answer: func(n int64, req *http.Request) (*http.Response, error) {
			assert.Zero(t, retry.RetryCount(req.Context()))
			return after(req, slow, 200)
		}}
		attempts := 0
		h := newHedge(t, hedge.Config{Delay: late})
		client, err := retry.NewRetryableClient(&http.Client{Transport: base}, retry.Config{Breaker: breaker,
			OnDone: func(_ context.Context, e retry.Event) { attempts = e.Attempt }}, retry.WrapTransport(h.Transport))
		require.NoError(t, err)
		resp, err := client.Get(t.Context(), "http://host.test/")
		require.NoError(t, err)
		resp.Body.Close()
		assert.EqualValues(t, 2, base.requests.Load())
		assert.Equal(t, 1, attempts)
		assert.Equal(t, 1, breaker.Snapshot().Requests)
	})
}

// A function: the first success wins, an error that no retry can help is an end, another
// waits; what lost is closed.
func TestDo(t *testing.T) {
	gone := retry.Permanent(errors.New("gone"))
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		first, second error
		took          time.Duration
		want          error
	}{
		"success":                  {nil, nil, 2 * late, nil},
		"permanent":                {gone, nil, 2 * late, gone},
		"broken, then a success":   {broken, nil, 3 * late, nil},
		"broken, then broken":      {broken, errors.New("again"), 3 * late, broken},
		"broken, then a permanent": {broken, gone, 3 * late, gone},
	} {
		synctest.Test(t, func(t *testing.T) {
			var open, entries atomic.Int64
			h := newHedge(t, hedge.Config{Delay: late})
			began := time.Now()
			value, err := hedge.Do(t.Context(), h, func(ctx context.Context) (*resource, error) {
				entries.Add(1)
				time.Sleep(2 * late) // does not look at ctx
				if hedge.Count(ctx) == 0 {
					if c.first != nil {
						return nil, c.first
					}
				} else if c.second != nil {
					return nil, c.second
				}
				open.Add(1)
				return &resource{&open}, nil
			})
			assert.Equal(t, c.want, err, name)
			assert.Equal(t, c.took, time.Since(began), name)
			if err == nil {
				assert.NoError(t, value.Close())
			}
			time.Sleep(slow)
			assert.Zero(t, open.Load(), name)
			assert.EqualValues(t, 2, entries.Load(), name)
		})
	}
}

type resource struct{ open *atomic.Int64 }

func (r *resource) Close() error { r.open.Add(-1); return nil }

// A response that Do returns can be read: its context ends with its body, as that of any
// other value does when Do returns.
func TestDoContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHedge(t, hedge.Config{Delay: late})
		var given context.Context
		resp, err := hedge.Do(t.Context(), h, func(ctx context.Context) (*http.Response, error) {
			given = ctx
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("body"))}, nil
		})
		require.NoError(t, err)
		assert.NoError(t, given.Err())
		text, _ := io.ReadAll(resp.Body)
		assert.Equal(t, "body", string(text))
		resp.Body.Close()
		assert.Error(t, given.Err())

		n, err := hedge.Do(t.Context(), h, func(ctx context.Context) (int, error) { given = ctx; return 7, nil })
		require.NoError(t, err)
		assert.Equal(t, 7, n)
		assert.Error(t, given.Err())
	})
}

func TestWrongConfig(t *testing.T) {
	for want, cfg := range map[string]hedge.Config{
		"hedge.Config.Delay is -1s, want 0 or more":    {Delay: -time.Second},
		"hedge.Config.Quantile is 1, want between":     {Quantile: 1},
		"hedge.Config.Quantile is NaN, want between":   {Quantile: math.NaN()},
		"hedge.Config.Quantile is -0.5, want between":  {Quantile: -0.5},
		"hedge.Config.MaxHedges is -1, want 0 or more": {MaxHedges: -1},
		"hedge.Config.Clock is a nil *clockwork.Fake":  {Clock: (*clockwork.FakeClock)(nil)},
	} {
		_, err := hedge.New(cfg)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
		assert.ErrorContains(t, err, want)
	}
	_, err := hedge.New(hedge.Config{Delay: -1, MaxHedges: -1})
	assert.ErrorContains(t, err, "Delay")
	assert.ErrorContains(t, err, "MaxHedges")
	assert.Zero(t, hedge.Count(context.Background()))
}

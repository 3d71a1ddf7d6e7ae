package retrytest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/attempt"
	"github.com/retryutils/retry/internal/redact"
)

// Faults makes attempts fail, so that all tests of a service show what it does when
// they do: whether it tries again at all, and whether the work is then done once. It
// needs no package retry in the service, and no testing.T: TestMain is the place for it.
//
//	func TestMain(m *testing.M) {
//		faults := retrytest.FailFirst()
//		http.DefaultTransport = faults.Transport(http.DefaultTransport)
//		code := m.Run()
//		for _, request := range faults.Abandoned() {
//			fmt.Println("not tried again:", request)
//		}
//		os.Exit(code)
//	}
//
// Of a request that is made several times, the first attempts of the first time fail. More
// than 65,000 other requests later one is not recognised. Faults is safe for concurrent use.
type Faults struct {
	// Key names the request that an attempt in HTTP belongs to. Nil: its method, URL,
	// Idempotency-Key and body, as far as GetBody can show the body: what cannot be sent
	// twice is not read ahead. A client that makes a new Idempotency-Key for each attempt
	// therefore never succeeds, which is a fault of its own. Where attempts differ for a
	// good reason, such as a time or nonce in what is signed, let Key leave that out. To be
	// set before the first request.
	Key func(*http.Request) string

	answers []Answer
	random  bool
	share   float64
	seed    uint64

	mu            sync.Mutex // guards the fields below
	recent, older map[requestKey]*faulted
}

// maxFaulted is how many requests are in recent until it becomes the older one.
const maxFaulted = 1 << 16

// requestKey is a hash of what attempts of one request have in common.
type requestKey [sha256.Size]byte

// faulted is a request of which attempts were made.
type faulted struct {
	attempts int
	failed   string // what it is for people, if the last attempt was made to fail
}

// FailFirst makes the first attempts of each request fail, one for each of the answers:
// the first attempt gets the first answer, and so on. Without answers the first one gets a
// 503. Besides those of a [Script], the answers [Lost] and [CutOff] have the request
// carried out.
func FailFirst(answers ...Answer) *Faults {
	if len(answers) == 0 {
		answers = []Answer{Status(http.StatusServiceUnavailable, "")}
	}
	return &Faults{answers: answers, recent: make(map[requestKey]*faulted)}
}

// FailAtRandom makes a share of all attempts fail, in [0, 1], each with one of the answers,
// and without answers with a 503. The same seed fails the same attempts of the same requests,
// in whatever order they come and from whatever port a server of the test has.
func FailAtRandom(seed uint64, share float64, answers ...Answer) *Faults {
	f := FailFirst(answers...)
	f.random, f.seed, f.share = true, seed, share
	return f
}

// Lost is a request that is carried out, and whose answer is lost: the connection is
// reset before the headers. A [Script], which carries nothing out, resets the connection.
func Lost() Answer {
	a := Reset()
	a.what, a.carriedOut = "carried out, the answer lost", true
	return a
}

// CutOff is a request that is carried out, and the body of whose answer breaks off: at
// half of its length or, if that is not known, at its end. An answer without a body is
// lost, and a [Script] resets the connection.
func CutOff() Answer {
	a := Lost()
	a.what, a.cutOff = "carried out, the answer cut off", true
	return a
}

// Abandoned lists the requests whose last attempt was made to fail, without user information
// and query: the code under test did not try them again, or not often enough.
func (f *Faults) Abandoned() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, generation := range []map[requestKey]*faulted{f.recent, f.older} {
		for _, r := range generation {
			if r.failed != "" {
				all = append(all, r.failed)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// next counts an attempt, and returns the answer that it gets if it is to fail. here tells
// the request from all others, draw is the part of that which is the same in each run.
func (f *Faults) next(here, draw, what string) (a Answer, fails bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := requestKey(sha256.Sum256([]byte(here + "\n" + draw)))
	r := f.recent[key]
	if r == nil {
		if len(f.recent) >= maxFaulted {
			f.recent, f.older = make(map[requestKey]*faulted), f.recent
		}
		if r = f.older[key]; r == nil {
			r = new(faulted)
		}
		delete(f.older, key)
		f.recent[key] = r
	}
	n := r.attempts
	r.attempts++
	if f.random {
		hash := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", f.seed, n, draw))
		fails = float64(binary.LittleEndian.Uint64(hash[:])>>11)/(1<<53) < f.share
		a = f.answers[binary.LittleEndian.Uint64(hash[8:])%uint64(len(f.answers))]
	} else if fails = n < len(f.answers); fails {
		a = f.answers[n]
	}
	if r.failed = ""; fails {
		r.failed = what
	}
	return a, fails
}

// Transport returns base with the failures. A nil base is http.DefaultTransport as it is
// now, so the result may take its place. Code that expects an *http.Transport there, to
// clone it, is given the result in its own client instead.
func (f *Faults) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &failing{f, base}
}

type failing struct {
	faults *Faults
	base   http.RoundTripper
}

// Unwrap returns the transport below.
func (t *failing) Unwrap() http.RoundTripper { return t.base }

// CloseIdleConnections is what [http.Client.CloseIdleConnections] looks for.
func (t *failing) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func (t *failing) RoundTrip(req *http.Request) (*http.Response, error) {
	var here, draw string
	if t.faults.Key != nil {
		draw = t.faults.Key(req)
	} else {
		body, err := digest(req)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		here = req.URL.Scheme + "://" + req.URL.Host
		draw = fmt.Sprintf("%s %q %q %x", req.Method, req.URL.RequestURI(), req.Header["Idempotency-Key"], body)
	}
	a, fails := t.faults.next(here, draw, strings.TrimSpace(req.Method+" "+redact.Bare(req.URL)))
	if !fails {
		return t.base.RoundTrip(req)
	}
	if err := a.wait(req.Context(), clockOf(req.Context())); err != nil {
		closeBody(req)
		return nil, err
	}
	if a.carriedOut {
		return t.carryOut(a, req)
	}
	closeBody(req)
	attempt.Play(req.Context(), a.err)
	if a.err != nil {
		return nil, a.err
	}
	return a.response(req), nil
}

// carryOut sends the request, and breaks its answer.
func (t *failing) carryOut(a Answer, req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if a.cutOff && resp.ContentLength != 0 && req.Method != http.MethodHead {
		var part io.Reader = resp.Body
		if resp.ContentLength > 0 {
			part = io.LimitReader(part, resp.ContentLength/2)
		}
		resp.Body = struct {
			io.Reader
			io.Closer
		}{&cutReader{part}, resp.Body}
		return resp, nil
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<20) // so that the server comes to its end
	resp.Body.Close()
	return nil, a.err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// digest is a hash of the body, if it can be read without disturbing the one that is sent.
func digest(req *http.Request) ([]byte, error) {
	hash := sha256.New()
	if req.GetBody != nil && !attempt.Of(req.Context()).Recorded {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		defer body.Close()
		if _, err := io.Copy(hash, body); err != nil {
			return nil, err
		}
	}
	return hash.Sum(nil), nil
}

// FailFunc returns fn with the failures of f: for calls that are not HTTP, or a layer
// above it. Attempts belong to one request if their arguments are the same as package fmt
// prints them. An answer's error is the function's; a status of 400 and above is a
// [retry.StatusError]; after [Lost] and [CutOff] fn has been called, and its result is lost.
func FailFunc[A, T any](f *Faults, fn func(context.Context, A) (T, error)) func(context.Context, A) (T, error) {
	place := caller()
	return func(ctx context.Context, argument A) (T, error) {
		var none T
		draw := fmt.Sprintf("%T %+v", argument, argument)
		a, fails := f.next(place, draw, fmt.Sprintf("the function of %s, with its %T", place, argument))
		if !fails {
			return fn(ctx, argument)
		}
		if err := a.wait(ctx, clockOf(ctx)); err != nil {
			return none, err
		}
		if a.carriedOut {
			if _, err := fn(ctx, argument); err != nil {
				return none, err
			}
		}
		if a.err != nil {
			return none, a.err
		}
		resp := a.response(&http.Request{})
		if err := retry.CheckStatus(resp); err != nil {
			return none, err
		}
		_, err := io.Copy(io.Discard, resp.Body)
		return none, err
	}
}

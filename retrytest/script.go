package retrytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/attempt"
	"github.com/retryutils/retry/internal/redact"
)

// Request is one request as a [Script] got it.
type Request struct {
	Method string
	URL    string
	Header http.Header
	Body   []byte
	// Attempt is 1 for the first attempt of a request, 2 for its first retry. A
	// server cannot know: there it counts the requests with this method and URL.
	Attempt int
	At      time.Time // on the script's clock
}

// Script answers requests, one after the other, and remembers them. It is an
// http.RoundTripper, which needs no network, and can [Script.Serve] as a real
// server on loopback. [Script.On] gives a host, path or method answers of its own.
// It is safe for concurrent use.
//
// [retry.MayHaveActed] knows what a Script did with a request: it is false if every
// attempt was [Refused], or answered as by [TooManyRequests], and true after a [Reset],
// [Cut], [Hang] or any other answer.
//
// At the end of the test it fails the test if an answer was not asked for, or
// the body of a response not closed.
type Script struct {
	// Clock is what slow answers and the times of requests go by; nil is that of the
	// Config of the request, or else the real one, or that of a bubble. To be set before
	// the first request.
	Clock *Clock

	t      testing.TB
	place  string               // where it was made
	answer func(Request) Answer // nil: those of the list
	list   list                 // for requests that no pattern matches

	mu       sync.Mutex // guards the fields below, and the lists' given
	patterns http.ServeMux
	lists    map[string]*list // by pattern
	seen     []Request
	open     map[int]Answer // bodies handed out, by request
}

// list is answers, one for each request.
type list struct {
	of      string // whose they are, for the test's errors
	answers []Answer
	given   int
}

// NewScript returns a script with a list of answers. A request beyond the last
// one fails the test, so that a script without answers is for requests that must
// not be made.
func NewScript(t testing.TB, answers ...Answer) *Script {
	s := newScript(t, caller())
	s.list = list{of: "script of " + s.place, answers: answers}
	s.usesUp(&s.list)
	return s
}

// usesUp has the test fail at its end if answers of a list are left.
func (s *Script) usesUp(l *list) {
	s.t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if left := l.answers[min(l.given, len(l.answers)):]; len(left) > 0 {
			s.t.Errorf("retrytest: %d of %d answers were not asked for, the next one: %v (%s)", len(left), len(l.answers), left[0], l.of)
		}
	})
}

// On gives the requests that match a pattern a list of answers of their own. The pattern
// is one of [http.ServeMux], with a method, a host without its port, or a path:
// "POST /genes", "genes.example/", "GET genes.example/gene/{symbol}"; a scheme before the
// host is ignored. The most specific pattern counts. Requests that match none get the
// answers of [NewScript], or of the function of [NewScriptFunc]. To be called before the
// first request; like ServeMux, it panics if a pattern is wrong, or is there already.
func (s *Script) On(pattern string, answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pattern = withoutScheme.Replace(pattern)
	s.patterns.Handle(pattern, http.NotFoundHandler()) // only its pattern is of use
	if s.lists == nil {
		s.lists = make(map[string]*list)
	}
	l := &list{of: fmt.Sprintf("On %q of %s", pattern, caller()), answers: answers}
	s.lists[pattern] = l
	s.usesUp(l)
}

// withoutScheme is for hosts as package retry names them.
var withoutScheme = strings.NewReplacer("https://", "", "http://", "")

// matching returns the list for a request, nil if the function decides.
func (s *Script) matching(r Request) *list {
	if u, err := url.Parse(r.URL); err == nil {
		_, pattern := s.patterns.Handler(&http.Request{Method: r.Method, Host: u.Host, URL: u})
		if l := s.lists[pattern]; l != nil {
			return l
		}
	}
	if s.answer != nil {
		return nil
	}
	return &s.list
}

// NewScriptFunc returns a script whose answers a function decides on. It may be
// called by several goroutines at once.
func NewScriptFunc(t testing.TB, answer func(Request) Answer) *Script {
	s := newScript(t, caller())
	s.answer = answer
	return s
}

func newScript(t testing.TB, place string) *Script {
	s := &Script{t: t, place: place, open: make(map[int]Answer)}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for n, a := range s.open {
			t.Errorf("retrytest: the body of the response to request %d was not closed: %v (script of %s)", n, a, s.place)
		}
	})
	return s
}

// caller says where the function that asks was called: a failure of the test is
// reported from deep in a call, or at the end, and that line is no help.
func caller() string {
	_, file, line, _ := runtime.Caller(2)
	return fmt.Sprintf("%s:%d", filepath.Base(file), line)
}

// Requests returns what was asked so far.
func (s *Script) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.seen...)
}

// Client returns a client whose requests the script answers.
func (s *Script) Client() *http.Client { return &http.Client{Transport: s} }

// Serve has a server on loopback give the answers, and returns its URL. It is
// closed at the end of the test. Each request gets a connection of its own:
// net/http repeats a request by itself when a used one breaks.
func (s *Script) Serve() string {
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.serveHTTP))
	server.Config.SetKeepAlivesEnabled(false)
	server.Start()
	s.t.Cleanup(server.Close)
	return server.URL
}

// errNoAnswer is permanent, so that the test ends soon.
var errNoAnswer = retry.Permanent(errors.New("retrytest: the script has no answer left"))

// next notes a request and returns its answer and its number, from 1.
func (s *Script) next(r Request, clock clockwork.Clock) (Answer, int, error) {
	r.At = clock.Now()
	s.mu.Lock()
	if r.Attempt == 0 {
		r.Attempt = 1
		for _, earlier := range s.seen {
			if earlier.Method == r.Method && earlier.URL == r.URL {
				r.Attempt++
			}
		}
	}
	s.seen = append(s.seen, r)
	n := len(s.seen)
	l := s.matching(r)
	if l == nil {
		s.mu.Unlock()
		return s.answer(r), n, nil
	}
	l.given++
	given := l.given
	s.mu.Unlock()
	if given > len(l.answers) {
		s.t.Errorf("retrytest: request %d came, and the script has answers for %d: %s %s (%s)", given, len(l.answers), r.Method, withoutSecrets(r.URL), l.of)
		return Answer{}, n, errNoAnswer
	}
	return l.answers[given-1], n, nil
}

// clock is what an answer to a request with this context goes by.
func (s *Script) clock(ctx context.Context) clockwork.Clock {
	if s.Clock != nil {
		return s.Clock
	}
	return clockOf(ctx)
}

// clockOf returns the clock of the request whose attempt ctx was given to.
func clockOf(ctx context.Context) clockwork.Clock {
	if cfg, ok := retry.ConfigOf(ctx); ok && cfg.Clock != nil {
		return cfg.Clock
	}
	return clockwork.NewRealClock()
}

func withoutSecrets(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(a URL that cannot be read)"
	}
	return redact.Bare(u)
}

// RoundTrip answers a request.
func (s *Script) RoundTrip(req *http.Request) (*http.Response, error) {
	r := Request{
		Method: req.Method, URL: req.URL.String(), Header: req.Header.Clone(),
		Attempt: retry.RetryCount(req.Context()) + 1,
	}
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err = errors.Join(err, req.Body.Close()); err != nil {
			return nil, err
		}
		r.Body = body
	}
	if err := req.Context().Err(); err != nil { // as net/http does
		return nil, err
	}
	clock := s.clock(req.Context())
	a, n, err := s.next(r, clock)
	attempt.Play(req.Context(), errors.Join(err, a.err))
	if err != nil {
		return nil, err
	}
	if err := a.wait(req.Context(), clock); err != nil {
		return nil, err
	}
	if a.err != nil {
		return nil, a.err
	}
	return s.response(a, n, req), nil
}

func (s *Script) response(a Answer, n int, req *http.Request) *http.Response {
	resp := a.response(req)
	if resp.Body == http.NoBody {
		return resp
	}
	s.mu.Lock()
	s.open[n] = a
	s.mu.Unlock()
	resp.Body = &body{Reader: resp.Body, close: func() {
		s.mu.Lock()
		delete(s.open, n)
		s.mu.Unlock()
	}}
	return resp
}

// body is that of a response. It cannot be read any more when it is closed.
type body struct {
	io.Reader
	close  func()
	mu     sync.Mutex // guards closed: one may close while another reads
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.Reader.Read(p)
}

func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.close()
	return nil
}

// cutReader ends as a connection does that breaks.
type cutReader struct{ r io.Reader }

func (c *cutReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

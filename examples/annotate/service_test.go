package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// annotateIn runs the service against scripts, one for each API that is asked, in
// a bubble where waiting takes no time.
func annotateIn(t *testing.T, symbols []string, scripts map[string][]retrytest.Answer,
	check func(t *testing.T, s *annotator, lookups []*lookup, waits retrytest.Waits, asked map[string][]retrytest.Request)) {
	t.Helper()
	_, err := retrytest.Bubble(t, retry.Config{}, func(t *testing.T, _ retry.Config) error {
		d := dependencies{timeline: newTimeline()}
		d.cfg, d.breaker = settings()
		d.cfg.Jitter = retry.NoJitter
		router := make(router)
		for _, a := range apis() {
			if answers, ok := scripts[a.name]; ok {
				d.apis = append(d.apis, a)
				router[hostOf(a.url)] = retrytest.NewScript(t, answers...)
			}
		}
		d.transport = router
		s, err := newAnnotator(d)
		require.NoError(t, err)
		lookups := s.annotate(t.Context(), symbols, grace, func() {})
		var waits retrytest.Waits
		asked := make(map[string][]retrytest.Request)
		for _, l := range lookups {
			for _, w := range l.allWaits() {
				waits = append(waits, retry.Event{Why: w.Why, Delay: w.For})
			}
		}
		for _, a := range d.apis {
			asked[a.name] = router[hostOf(a.url)].Requests()
		}
		check(t, s, lookups, waits, asked)
		return nil
	})
	require.NoError(t, err)
}

// router sends each request to its host's script.
type router map[string]*retrytest.Script

func (r router) RoundTrip(req *http.Request) (*http.Response, error) {
	return r[req.URL.Host].RoundTrip(req)
}

const brca1 = `{"response": {"docs": [{"hgnc_id": "HGNC:1100", "name": "BRCA1 DNA repair associated", "location": "17q21.31"}]}}`

func json200(text string) retrytest.Answer { return retrytest.Status(200, text) }

// A reset, a body that breaks off and a 500 cost waits, and nothing else.
func TestBadDay(t *testing.T) {
	annotateIn(t, []string{"BRCA1"}, map[string][]retrytest.Answer{
		"hgnc": {retrytest.Reset(), retrytest.Cut(brca1, 20), retrytest.Status(500, ""), json200(brca1)},
	}, func(t *testing.T, _ *annotator, lookups []*lookup, waits retrytest.Waits, asked map[string][]retrytest.Request) {
		require.NoError(t, lookups[0].err)
		assert.Equal(t, "HGNC:1100, BRCA1 DNA repair associated, 17q21.31", lookups[0].Answer)
		assert.Equal(t, "500ms backoff, 1s backoff, 2s backoff", waits.String())
		assert.Equal(t, "application/json", asked["hgnc"][0].Header.Get("Accept"))
	})
}

// Each API says in its own way that it had enough, and each is understood.
func TestRateLimits(t *testing.T) {
	limited := retrytest.Status(400, `{"errors":[{"message":"Query rate limit exceeded. Please try again in a few minutes."}]}`)
	for api, c := range map[string]struct {
		signal, good retrytest.Answer
		wait         string
		answer       string
	}{
		"ensembl": {retrytest.TooManyRequests(700 * time.Millisecond), json200(`{"id":"ENSG1","biotype":"protein_coding"}`), "700ms retry-after", "ENSG1, protein_coding"},
		"ncbi":    {retrytest.Status(429, `{"error":"API rate limit exceeded"}`), json200(`{"esearchresult":{"count":"7"}}`), "1s retry-after", "7 variants in ClinVar"},
		"gnomad":  {limited, json200(`{"data":{"gene":{"gnomad_constraint":{"pli":1,"oe_lof_upper":0.2}}}}`), "1m0s retry-after", "pLI 1.00, LOEUF 0.20"},
		"uniprot": {retrytest.TooManyRequests(3 * time.Second), json200(`{"results":[{"primaryAccession":"P38398"}]}`), "3s retry-after", "P38398"},
		"string":  {retrytest.Status(503, "").With("Retry-After", "2"), json200(`[{"preferredName_B":"BARD1"}]`), "2s retry-after", "interacts with BARD1"},
	} {
		t.Run(api, func(t *testing.T) {
			annotateIn(t, []string{"BRCA1"}, map[string][]retrytest.Answer{api: {c.signal, c.good}},
				func(t *testing.T, s *annotator, lookups []*lookup, waits retrytest.Waits, _ map[string][]retrytest.Request) {
					require.NoError(t, lookups[0].err)
					assert.Equal(t, c.answer, lookups[0].Answer)
					require.NotEmpty(t, waits)
					assert.Equal(t, c.wait, waits[:1].String())
					assert.Equal(t, retry.StateClosed, s.breakers[api].State(), "a rate limit is no failure")
				})
		})
	}
}

// Who is locked out by the HGNC asks no more, for anything.
func TestLockedOut(t *testing.T) {
	annotateIn(t, []string{"BRCA1", "PKD1", "TTN", "UMOD"}, map[string][]retrytest.Answer{
		"hgnc": {retrytest.Status(403, "blocked")},
	}, func(t *testing.T, s *annotator, lookups []*lookup, _ retrytest.Waits, _ map[string][]retrytest.Request) {
		for _, l := range lookups {
			assert.ErrorIs(t, l.err, retry.ErrRetryAfterTooLong)
		}
	})
}

// A wait is shown as long as it was. Calls in the queue behind a pause are notified of
// more than it takes when the line moves up, and the sums were too high by that.
func TestWaitsAsTheyEnded(t *testing.T) {
	_, err := retrytest.Bubble(t, retry.Config{}, func(t *testing.T, _ retry.Config) error {
		line, l := newTimeline(), new(lookup)
		ctx := withLookup(t.Context(), l)
		report := func(why retry.Why, d time.Duration) { line.onWait(ctx, retry.Event{Why: why, Delay: d}) }
		report(retry.WaitPause, time.Second)
		time.Sleep(time.Second)
		report(retry.WaitPause, time.Minute) // it becomes longer, but by less
		time.Sleep(time.Second)
		report(retry.WaitBreaker, 0) // for an unknown time
		time.Sleep(3*time.Second + 100*time.Millisecond)
		report(retry.WaitLimiter, 100*time.Millisecond) // reported afterwards
		report(retry.WaitPause, time.Hour)              // and ended at once
		line.end(l)
		assert.Equal(t, []wait{
			{retry.WaitPause, line.start, 2 * time.Second},
			{retry.WaitBreaker, line.start.Add(2 * time.Second), 3 * time.Second},
			{retry.WaitLimiter, line.start.Add(5 * time.Second), 100 * time.Millisecond},
		}, l.allWaits())
		return nil
	})
	require.NoError(t, err)
}

// A wait that an interrupt ends counts up to there, and is shown although no
// attempt followed it.
func TestWaitInterrupted(t *testing.T) {
	_, err := retrytest.Bubble(t, retry.Config{}, func(t *testing.T, _ retry.Config) error {
		ctx, interrupt := context.WithCancel(t.Context())
		d := dependencies{timeline: newTimeline(), apis: apis()[:1]}
		d.cfg, d.breaker = settings()
		d.transport = retrytest.NewScript(t, retrytest.TooManyRequests(time.Minute))
		s, err := newAnnotator(d)
		require.NoError(t, err)
		time.AfterFunc(time.Second, interrupt)
		lookups := s.annotate(ctx, []string{"BRCA1"}, grace, func() {})
		r := &report{[]string{"BRCA1"}, d.apis, lookups, s.breakers, d.timeline, time.Now()}
		var text, page strings.Builder
		require.NoError(t, r.text(&text))
		assert.Contains(t, text.String(), "BRCA1   waits 3.00s: retry-after")
		assert.Contains(t, text.String(), "3.00s  BRCA1   not sent: stopped")
		assert.Contains(t, r.summary(), "waits, side by side: retry-after 3.0s")
		require.NoError(t, r.html(&page))
		assert.Contains(t, page.String(), "3.00s retry-after")
		return nil
	})
	require.NoError(t, err)
}

// What is down is left alone after five failures, and the others do not notice.
func TestDown(t *testing.T) {
	down := retrytest.Status(503, "")
	good := json200(`{"esearchresult":{"count":"7"}}`)
	symbols := []string{"A1", "B1", "C1", "D1", "E1", "F1"}
	annotateIn(t, symbols, map[string][]retrytest.Answer{
		"uniprot": {down, down, down, down, down},
		"ncbi":    {good, good, good, good, good, good},
	}, func(t *testing.T, s *annotator, lookups []*lookup, _ retrytest.Waits, asked map[string][]retrytest.Request) {
		for _, l := range lookups {
			if l.API == "ncbi" {
				assert.NoError(t, l.err)
			} else {
				assert.ErrorIs(t, l.err, retry.ErrCircuitOpen)
			}
		}
		assert.Len(t, asked["uniprot"], 5)
		assert.Equal(t, retry.StateOpen, s.breakers["uniprot"].State())
		events := s.timeline.of("uniprot")
		opened := slices.DeleteFunc(events, func(e event) bool { return strings.HasPrefix(e.String(), "all calls pause") })
		require.Len(t, opened, 1)
		assert.Equal(t, "breaker closed -> open: 503 Service Unavailable", opened[0].String())
	})
}

// A gene that is not known is an answer, in each API's own words.
func TestUnknown(t *testing.T) {
	annotateIn(t, []string{"NOSUCH"}, map[string][]retrytest.Answer{
		"hgnc":    {json200(`{"response":{"docs":[]}}`)},
		"ensembl": {retrytest.Status(400, `{"error":"No valid lookup found"}`)},
		"gnomad":  {json200(`{"data":{"gene":null}}`)},
		"uniprot": {json200(`{"results":[]}`)},
		"string":  {retrytest.Status(404, "")},
	}, func(t *testing.T, s *annotator, lookups []*lookup, _ retrytest.Waits, _ map[string][]retrytest.Request) {
		for _, l := range lookups {
			assert.ErrorIs(t, l.err, errUnknown, l.API)
		}
	})
}

// An interrupt lets those under way end, if they do so soon, begins none, and
// names what was not done.
func TestInterrupt(t *testing.T) {
	_, err := retrytest.Bubble(t, retry.Config{}, func(t *testing.T, _ retry.Config) error {
		ctx, interrupt := context.WithCancel(t.Context())
		d := dependencies{timeline: newTimeline()}
		d.cfg, d.breaker = settings()
		for _, a := range apis() {
			if a.name == "uniprot" {
				d.apis = []*api{a}
			}
		}
		d.transport = retrytest.NewScriptFunc(t, func(r retrytest.Request) retrytest.Answer {
			switch {
			case strings.Contains(r.URL, "A1"):
				return json200(`{"results":[{"primaryAccession":"P1"}]}`).After(2 * time.Second)
			case strings.Contains(r.URL, "B1"):
				return retrytest.Hang()
			}
			return json200(`{"results":[{"primaryAccession":"P2"}]}`).After(time.Hour)
		})
		s, err := newAnnotator(d)
		require.NoError(t, err)
		time.AfterFunc(time.Second, interrupt)
		start := time.Now()
		lookups := s.annotate(ctx, []string{"A1", "B1", "C1", "D1"}, grace, func() {})
		assert.LessOrEqual(t, time.Since(start), time.Second+grace)
		left := notDone(lookups)
		assert.Contains(t, left, "B1 at uniprot")
		for _, l := range lookups { // three of the four were under way, which ones does not matter
			assert.Equal(t, l.Symbol != "A1" || l.Answer != "P1", slices.Contains(left, l.Symbol+" at uniprot"))
		}
		return nil
	})
	require.NoError(t, err)
}

// The environment has the last word, for all and for one.
func TestEnvironment(t *testing.T) {
	t.Setenv("RETRY_MAX_RETRIES", "2")
	t.Setenv("RETRY_GNOMAD_MAX_RETRIES", "unlimited")
	t.Setenv("RETRY_BREAKER_FAILURE_THRESHOLD", "1")
	d, err := configure(options{}, nil)
	require.NoError(t, err)
	d.apis = apis()
	s := &annotator{breakers: make(map[string]*retry.CircuitBreaker)}
	for _, a := range d.apis {
		cfg, err := s.configure(a, d)
		require.NoError(t, err)
		want := 2
		if a.name == "gnomad" {
			want = retry.Unlimited
		}
		assert.Equal(t, want, cfg.MaxRetries, a.name)
		assert.Equal(t, retry.FullJitter, cfg.Jitter, "what is not set stays")
		s.breakers[a.name].Do(t.Context(), func(context.Context) error { return errors.New("down") })
		assert.Equal(t, retry.StateOpen, s.breakers[a.name].State())
	}
	t.Setenv("RETRY_GNOMAD_MAX_DELAY", "soon")
	_, err = newAnnotator(d)
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	assert.ErrorContains(t, err, "RETRY_GNOMAD_MAX_DELAY")
}

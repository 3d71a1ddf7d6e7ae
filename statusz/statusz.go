// Package statusz shows on one page what an operator wants to know of the calls of a
// service: how they end, what they wait for, and the state of what they share.
//
//	page := statusz.New()
//	client, err := retry.NewRetryableClient(base, page.Watch(cfg))
//	page.Client("annotate", client)
//	http.Handle("/debug/retry", page)
//
// The page is HTML for people, and JSON with Accept: application/json or ?format=json. It
// has no scripts and nothing from elsewhere, changes nothing, and hides the user
// information and the query values of URLs; yet hosts and errors are not for everyone to
// see: serve it where only operators can reach it, as net/http/pprof.
//
// It is computed when it is asked for. Until then it costs what the hooks of
// [Page.Watch] count, some hundred nanoseconds a call.
package statusz

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/internal/redact"
)

// Page is an http.Handler. It is made by [New], and safe for concurrent use.
type Page struct {
	since time.Time

	mu       sync.Mutex // guards the fields below
	series   map[key]*series
	clients  []namedClient
	breakers []*retry.CircuitBreaker
	gates    []namedGate
	budgets  []namedBudget
}

type namedClient struct {
	name   string
	client *retry.RetryableClient
}

type namedGate struct {
	name string
	gate *retry.Gate
}

type namedBudget struct {
	name   string
	budget *retry.Budget
}

// New returns a page that shows nothing yet.
func New() *Page { return &Page{since: time.Now(), series: make(map[key]*series)} }

// Client shows the hosts of a client, with their breakers, gates, budgets and settings.
// Their calls are counted if the client's Config was made by [Page.Watch].
func (p *Page) Client(name string, c *retry.RetryableClient) {
	if c != nil {
		add(p, &p.clients, namedClient{name, c})
	}
}

// Breaker shows a breaker by its name. That of a client's host, or of a Config that is
// watched, is shown already.
func (p *Page) Breaker(b *retry.CircuitBreaker) {
	if b != nil {
		add(p, &p.breakers, b)
	}
}

// Gate shows a gate; see Breaker.
func (p *Page) Gate(name string, g *retry.Gate) {
	if g != nil {
		add(p, &p.gates, namedGate{name, g})
	}
}

// Budget shows a budget; see Breaker.
func (p *Page) Budget(name string, b *retry.Budget) {
	if b != nil {
		add(p, &p.budgets, namedBudget{name, b})
	}
}

// add appends an element, once.
func add[T comparable](p *Page, list *[]T, element T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(*list, element) {
		*list = append(*list, element)
	}
}

// ServeHTTP answers GET and HEAD.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Accept")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "the page is only to be read", http.StatusMethodNotAllowed)
		return
	}
	format := r.URL.Query().Get("format")
	if format == "" {
		format = "html"
		if wantsJSON(r.Header.Values("Accept")) {
			format = "json"
		}
	}
	var body bytes.Buffer
	var err error
	switch status := p.status(); format {
	case "json":
		header.Set("Content-Type", "application/json")
		encoder := json.NewEncoder(&body)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(status)
	case "html":
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		err = page.Execute(&body, status)
	default:
		http.Error(w, "format is html or json", http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	if r.Method == http.MethodGet {
		w.Write(body.Bytes())
	}
}

// wantsJSON reports whether an Accept header names JSON, and not HTML as browsers do.
func wantsJSON(accept []string) (yes bool) {
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		switch kind, _, _ := mime.ParseMediaType(part); kind {
		case "text/html":
			return false
		case "application/json":
			yes = true
		}
	}
	return yes
}

// status is all that the page shows.
type status struct {
	Time     time.Time `json:"time"`
	Since    time.Time `json:"since"` // when the page was made, as a rule with the process
	Hosts    []entry   `json:"hosts"` // and functions: calls of one name and host
	Breakers []breaker `json:"breakers,omitempty"`
	Gates    []gate    `json:"gates,omitempty"`
	Budgets  []budget  `json:"budgets,omitempty"`
}

// entry is what there is to say of the calls of one name and host.
type entry struct {
	Client     string            `json:"client,omitempty"`
	Name       string            `json:"name"`
	Host       string            `json:"host,omitempty"`
	Findings   []finding         `json:"findings,omitempty"`
	Breaker    *breaker          `json:"breaker,omitempty"`
	Gate       *gate             `json:"gate,omitempty"`
	Budget     *budget           `json:"budget,omitempty"`
	Counted    bool              `json:"counted"` // its calls are, and there were some
	UnderWay   int               `json:"calls_under_way"`
	InAttempts int               `json:"calls_in_attempts"`
	Waiting    []waiting         `json:"calls_waiting,omitempty"`
	Last       map[string]counts `json:"last,omitempty"` // 1m, 5m, 60m
	Failure    *failure          `json:"last_failure,omitempty"`
	Settings   string            `json:"settings,omitempty"`

	windows  []window
	asked    asked
	answered bool
}

type breaker struct {
	Name                string      `json:"name,omitempty"`
	State               retry.State `json:"state"`
	Cause               string      `json:"cause,omitempty"`
	Until               *time.Time  `json:"open_until,omitempty"`
	Left                duration    `json:"open_for,omitempty"`
	LastFailure         string      `json:"last_failure,omitempty"`
	Failures            int         `json:"failures"`
	ConsecutiveFailures int         `json:"consecutive_failures"`
	SlowCalls           int         `json:"slow_calls"`
	Requests            int         `json:"requests"`
	Rejections          int64       `json:"rejections"`
	Waiting             int         `json:"calls_waiting"`
}

type gate struct {
	Name        string     `json:"name,omitempty"`
	Until       *time.Time `json:"paused_until,omitempty"`
	Left        duration   `json:"paused_for,omitempty"`
	Pace        float64    `json:"pace_per_second,omitempty"`
	Waiting     int        `json:"calls_waiting"`
	Cause       string     `json:"cause,omitempty"` // of the last pause or pace
	LastRefusal string     `json:"last_refusal,omitempty"`
}

type budget struct {
	Name     string  `json:"name,omitempty"`
	Balance  float64 `json:"balance"`
	Refusals int64   `json:"refusals"`
}

// duration is written for people, in JSON too.
type duration time.Duration

func (d duration) String() string {
	switch d := time.Duration(d); {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= 10*time.Millisecond:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}

func (d duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (p *Page) status() *status {
	p.mu.Lock()
	counted := make(map[key]*series, len(p.series))
	for k, s := range p.series {
		counted[k] = s
	}
	clients, breakers := slices.Clip(p.clients), slices.Clip(p.breakers)
	gates, budgets := slices.Clip(p.gates), slices.Clip(p.budgets)
	p.mu.Unlock()

	s := &status{Time: time.Now(), Since: p.since, Hosts: []entry{}}
	shown := make(map[key]bool)
	for _, named := range clients {
		for host, cfg := range named.client.Hosts() {
			k := key{cfg.Name, host}
			shown[k] = true
			e := newEntry(k, counted[k], cfg)
			e.Client, e.Settings = named.name, cfg.String()
			s.Hosts = append(s.Hosts, e)
		}
	}
	for k, series := range counted {
		if !shown[k] {
			parts := series.parts
			parts.Clock = series.clock
			s.Hosts = append(s.Hosts, newEntry(k, series, parts))
		}
	}
	slices.SortFunc(s.Hosts, func(a, b entry) int {
		return cmp.Or(b.severity()-a.severity(), cmp.Compare(b.NotOK(), a.NotOK()), strings.Compare(a.Name, b.Name), strings.Compare(a.Host, b.Host), strings.Compare(a.Client, b.Client))
	})
	for _, b := range breakers {
		s.Breakers = append(s.Breakers, *newBreaker(b, nil))
	}
	for _, g := range gates {
		shown := newGate(g.gate, nil)
		shown.Name = g.name
		s.Gates = append(s.Gates, *shown)
	}
	for _, b := range budgets {
		s.Budgets = append(s.Budgets, budget{b.name, b.budget.Balance(), b.budget.Refusals()})
	}
	return s
}

// newEntry shows the calls that a series counted, if they are, and the parts of cfg.
func newEntry(k key, s *series, cfg retry.Config) entry {
	e := entry{Name: k.name, Host: k.host, Counted: s != nil}
	if cfg.Breaker != nil {
		e.Breaker = newBreaker(cfg.Breaker, cfg.Clock)
	}
	if cfg.Gate != nil {
		e.Gate = newGate(cfg.Gate, cfg.Clock)
	}
	if cfg.Budget != nil {
		e.Budget = &budget{Balance: cfg.Budget.Balance(), Refusals: cfg.Budget.Refusals()}
	}
	if s != nil {
		v := s.view()
		e.UnderWay, e.InAttempts, e.Waiting = v.underWay, v.inAttempts, v.waiting
		e.windows, e.Failure, e.Last = v.windows, v.last, make(map[string]counts)
		e.asked, e.answered = v.asked, v.answered
		for _, w := range v.windows {
			e.Last[w.Name] = w.Counts
		}
	}
	e.Findings = e.findings()
	return e
}

func newBreaker(b *retry.CircuitBreaker, clock clockwork.Clock) *breaker {
	s := b.Snapshot()
	shown := &breaker{
		Name: b.Name(), State: s.State, Cause: s.Cause, Failures: s.Failures, ConsecutiveFailures: s.ConsecutiveFailures,
		SlowCalls: s.SlowCalls, Requests: s.Requests, Rejections: b.Rejections(), Waiting: b.Waiting(),
	}
	if s.LastFailure != nil {
		shown.LastFailure = redact.Error(s.LastFailure)
	}
	shown.Until, shown.Left = left(s.OpenUntil, clock)
	return shown
}

func newGate(g *retry.Gate, clock clockwork.Clock) *gate {
	s := g.Snapshot()
	shown := &gate{Pace: s.PacePerSecond, Waiting: s.Waiting, Cause: s.Cause}
	if s.LastRefusal != nil {
		shown.LastRefusal = redact.Error(s.LastRefusal)
	}
	shown.Until, shown.Left = left(s.PausedUntil, clock)
	return shown
}

// left returns a time that is set, and how long it is until then.
func left(until time.Time, clock clockwork.Clock) (*time.Time, duration) {
	if until.IsZero() {
		return nil, 0
	}
	now := time.Now()
	if clock != nil {
		now = clock.Now()
	}
	return &until, duration(max(0, until.Sub(now)))
}

func clockTime(t time.Time) string { return t.Format("15:04:05 MST") }

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"plot":   plot,
	"labels": labels,
	"number": func(f float64) string { return fmt.Sprintf("%.3g", f) },
	"clock":  clockTime,
	"meaning": func(outcome string) string {
		return meanings[outcome]
	},
}).Parse(pageText))

package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/examples/migrate/genes"
	"github.com/retryutils/retry/examples/migrate/retryablehttp"
)

// same is what the server sees and the caller gets before and after, in seconds, where
// differs has nothing else.
var same = map[string]string{
	"recovers":     "asked at 0 0.1 0.3; found at 0.3",
	"rate limit":   "asked at 0 1; found at 1",
	"reset":        "asked at 0 0.1; found at 0.1",
	"no such gene": "asked at 0; error at 0",
	"down":         "asked at 0 0.1 0.3 0.7; error at 0.7",
	"cancelled":    "asked at 0; canceled at 0.04",
	"locked":       "asked at 0 0.1; found at 0.1",
	"half of the calls": "asked at 0 0.05 0.1 0.15 0.2 0.25 0.3 0.35 0.4 0.45; found at 0, found at 0.05, error at 0.1, found at 0.15, " +
		"error at 0.2, error at 0.25, found at 0.3, error at 0.35, found at 0.4, error at 0.45, rejected at 0.5, rejected at 0.55",
	"outage": "asked at 0 0.5 1 1.5 2 8 9; error at 0, error at 0.5, error at 1, error at 1.5, error at 2, " +
		"rejected at 2.5, rejected at 3, found at 8, found at 9",
	"no such genes": "asked at 0 0.05 0.1 0.15 0.2 0.25; error at 0, error at 0.05, error at 0.1, error at 0.15, error at 0.2, error at 0.25",
}

// Each is explained in docs/migrating.md, or on the page of its library.
var differs = map[string]struct{ before, after string }{
	// A wait that would outlast the deadline is not begun.
	"deadline": {"asked at 0 0.1; deadline at 0.15", "asked at 0 0.1; deadline at 0.1"},
	// A server that asks for more than MaxRetryAfter, or the deadline, ends the call.
	"an hour": {"asked at 0; deadline at 2.7", "asked at 0; error at 0"},
	// A registered status above 504 is not retried.
	"507": {"asked at 0 0.1; found at 0.1", "asked at 0; error at 0"},
	// 408 is retried.
	"timeout": {"asked at 0; error at 0", "asked at 0 0.1; found at 0.1"},

	"retryablehttp/down": {"asked at 0 0.1 0.3 0.6; error at 0.6", "asked at 0 0.1 0.3 0.6; error at 0.6"}, // linear

	// The programs for v4 know nothing of Retry-After, and have a limit of time, not of tries.
	"backoff4/rate limit": {"asked at 0 0.1; found at 0.1", "asked at 0 0.1; found at 0.1"},
	"backoff4/down":       {"asked at 0 0.1 0.3 0.7 1.5; error at 1.5", "asked at 0 0.1 0.3 0.7 1.5; error at 1.5"},
	"backoff4/an hour":    {"asked at 0 0.1 0.3 0.7 1.5; error at 1.5", "asked at 0 0.1 0.3 0.7 1.5; error at 1.5"},
	// Its limit of time is kept by v5 and v7 too.
	"backoff5/an hour": {"asked at 0; error at 0", "asked at 0; error at 0"},
	"backoff7/an hour": {"asked at 0; error at 0", "asked at 0; error at 0"},
	// Limits of the wait, or of the whole call, cut the server's wait short: it is asked sooner
	// than it wanted.
	"retrygo/an hour":  {"asked at 0 1 2; deadline at 2.7", "asked at 0; error at 0"},
	"resty/an hour":    {"asked at 0 1 2; deadline at 2.7", "asked at 0; error at 0"},
	"failsafe/an hour": {"asked at 0 2 2 2; error at 2", "asked at 0; error at 0"},

	// A Transport returns the last response, as net/http does.
	"failsafe/deadline": {"asked at 0 0.1; deadline at 0.15", "asked at 0 0.1; error at 0.1"},
	"resty/deadline":    {"asked at 0 0.1; deadline at 0.15", "asked at 0 0.1; error at 0.1"},
	// A breaker that opens during a wait is seen at the end of the wait, or before it.
	"failsafe/outage": {
		"asked at 0 0.1 0.3 0.7 0.7 8 9; error at 0.7, rejected at 0.8, rejected at 1, rejected at 1.5, rejected at 2, rejected at 2.5, rejected at 3, found at 8, found at 9",
		"asked at 0 0.1 0.3 0.7 0.7 8 9; error at 0.7, error at 0.7, rejected at 1, rejected at 1.5, rejected at 2, rejected at 2.5, rejected at 3, found at 8, found at 9",
	},
}

// What changes with the library is what is said here and on the page, and nothing else.
func TestBeforeAndAfter(t *testing.T) {
	for _, p := range programs {
		for _, name := range p.cases {
			t.Run(p.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					want, ok := differs[p.name+"/"+name]
					if !ok {
						want, ok = differs[name]
					}
					if !ok {
						want.before, want.after = same[name], same[name]
					}
					log := slog.New(slog.DiscardHandler)
					before, after, err := compare(p, name, log, log)
					require.NoError(t, err)
					if p.name == "resty" { // its jitter cannot be switched off: what is left is how often
						times := regexp.MustCompile(` at [0-9. ]*[0-9]|[0-9.]+`)
						for _, text := range []*string{&want.before, &want.after, &before, &after} {
							*text = times.ReplaceAllStringFunc(*text, func(at string) string { return strings.Repeat("*", len(strings.Fields(at))-1) })
						}
					}
					assert.Equal(t, want.before, before, "before")
					assert.Equal(t, want.after, after, "after")
				})
			})
		}
	}
}

// roundTrip notes the X-Attempt of each request before it hands it on.
type roundTrip struct {
	standIn  standIn
	attempts []string
}

func (r *roundTrip) RoundTrip(req *http.Request) (*http.Response, error) {
	r.attempts = append(r.attempts, req.Header.Get("X-Attempt"))
	return r.standIn.RoundTrip(req)
}

// What a RequestLogHook sets in the header arrives with each attempt.
func TestHeaderOfAttempts(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, program := range map[string]func(*http.Client) (find, error){
		"before": func(c *http.Client) (find, error) { return retryablehttp.Before(c, log), nil },
		"after":  func(c *http.Client) (find, error) { return retryablehttp.After(c, log) },
	} {
		synctest.Test(t, func(t *testing.T) {
			server := &roundTrip{standIn: standIn{scenario: scenarios["recovers"], begin: time.Now()}}
			ask, err := program(&http.Client{Transport: server})
			require.NoError(t, err)
			assert.Equal(t, "found", call(scenarios["recovers"], ask), name)
			assert.Equal(t, []string{"1", "2", "3"}, server.attempts, name)
		})
	}
}

// The error of a call that was given up on is the last failure itself in these libraries,
// and an Error around it here: errors.As finds it in both. A failure that is final comes
// back as it is.
func TestErrorThatIsReturned(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, p := range programs {
		if p.name != "backoff4" && p.name != "backoff5" && p.name != "retrygo" {
			continue
		}
		for name, bare := range map[string]bool{"down": false, "no such gene": true} {
			synctest.Test(t, func(t *testing.T) {
				after, err := p.after(&http.Client{Transport: &standIn{scenario: scenarios[name]}}, log)
				require.NoError(t, err)
				_, err = p.before(&http.Client{Transport: &standIn{scenario: scenarios[name]}}, log)(t.Context(), "https://genes.example/BRCA1")
				assert.IsType(t, &genes.StatusError{}, err, p.name)
				_, err = after(t.Context(), "https://genes.example/BRCA1")
				var status *genes.StatusError
				assert.ErrorAs(t, err, &status)
				assert.Equal(t, bare, err == error(status), "%s: %v", p.name, err)
				var given *retry.Error
				assert.Equal(t, !bare, errors.As(err, &given), p.name)
			})
		}
	}
}

// What is logged stays: the hooks of go-retryablehttp see each request and response, a
// notification comes before each retry, and a breaker's changes have their names.
func TestLog(t *testing.T) {
	for _, p := range programs {
		name := "recovers"
		if p.name == "gobreaker" {
			name = "outage"
		}
		synctest.Test(t, func(t *testing.T) {
			var before, after bytes.Buffer
			plain := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				switch a.Key {
				case slog.TimeKey, "cause", "error": // the error is the user's own in v5 only if it has no Retry-After
					return slog.Attr{}
				}
				return a
			}}
			_, _, err := compare(p, name, slog.New(slog.NewTextHandler(&before, plain)), slog.New(slog.NewTextHandler(&after, plain)))
			require.NoError(t, err)
			assert.NotEmpty(t, before.String(), p.name)
			assert.Equal(t, before.String(), after.String(), p.name)
		})
	}
}

// The pages show the programs that run here, without their imports.
func TestProgramsAreThoseOfThePage(t *testing.T) {
	for _, p := range programs {
		page, err := os.ReadFile(filepath.Join("../../docs/migrating", p.name+".md"))
		require.NoError(t, err)
		for _, file := range []string{"before.go", "after.go"} {
			source, err := os.ReadFile(filepath.Join(p.name, file))
			require.NoError(t, err)
			_, code, ok := strings.Cut(string(source), "\n)\n\n")
			require.True(t, ok)
			assert.True(t, strings.Contains(string(page), "\n```go\n"+code+"```\n"), "the page lacks %s/%s as it is", p.name, file)
		}
		assert.Equal(t, 2, strings.Count(string(page), "\n```go\n"), p.name)
	}
}

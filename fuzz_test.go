package retry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fuzzConfig is a Config of arbitrary fields. Validate and valid must agree on it.
func fuzzConfig(t *testing.T, curve byte, initial, ceiling int64, multiplier, low, high, random float64) Config {
	c := Config{
		InitialDelay: time.Duration(initial), MaxDelay: time.Duration(ceiling), Multiplier: multiplier,
		Jitter: Jitter{low, high}, Rand: func() float64 { return random },
	}
	switch curve % 6 {
	case 1:
		c.Backoff = ConstantBackoff(c.InitialDelay)
	case 2:
		c.Backoff = LinearBackoff(c.InitialDelay)
	case 3:
		c.Backoff = FibonacciBackoff(c.InitialDelay)
	case 4:
		c.Backoff = DecorrelatedBackoff(c.InitialDelay)
	case 5:
		c.Backoff = ExponentialBackoff(c.InitialDelay, multiplier)
	}
	if err := c.Validate(); c.validNumbers() != (err == nil) {
		t.Fatalf("validNumbers() is %v, Validate() %v: %+v", c.validNumbers(), err, c)
	}
	return c
}

// FuzzConfigDelay checks that no valid Config has a delay outside of
// [0, MaxDelay], whatever the retry's number and the curve.
func FuzzConfigDelay(f *testing.F) {
	f.Add(byte(0), int64(0), int64(0), 0.0, 0.0, 0.0, 0.5, 1)
	f.Add(byte(5), int64(time.Hour), int64(math.MaxInt64), math.MaxFloat64, 3.0, 4.0, 0.999, math.MaxInt)
	f.Fuzz(func(t *testing.T, curve byte, initial, ceiling int64, multiplier, low, high, random float64, retry int) {
		c := fuzzConfig(t, curve, initial, ceiling, multiplier, low, high, random)
		if !c.validNumbers() {
			return
		}
		d := c.Delay(retry)
		if d < 0 || d > c.maxDelay() {
			t.Fatalf("Delay(%d) is %v: %+v", retry, d, c)
		}
		if hint := time.Duration(ceiling); hint > 0 && random >= 0 && random < 1 {
			if long := c.lengthen(hint); long < hint || float64(long) > float64(hint)*1.1+1 {
				t.Fatalf("a requested wait of %v is lengthened to %v: %+v", hint, long, c)
			}
		}
	})
}

// FuzzConfigValid checks that the quick judgement on the numbers of a Config, and the
// one in words, are the same.
func FuzzConfigValid(f *testing.F) {
	f.Add(0, int64(0), int64(0), int64(0), int64(0), int64(0), 0.0, 0.0, 0.0, 0)
	f.Add(-2, int64(1), int64(-1), int64(1), int64(1), int64(1), 1.5, 0.5, 1.5, 503)
	f.Add(-1, int64(math.MinInt64), int64(1), int64(1), int64(1), int64(1), math.NaN(), math.Inf(1), math.NaN(), 99)
	f.Fuzz(func(t *testing.T, retries int, initial, ceiling, elapsed, timeout, after int64, multiplier, low, high float64, code int) {
		c := Config{
			MaxRetries: retries, InitialDelay: time.Duration(initial), MaxDelay: time.Duration(ceiling),
			MaxElapsed: time.Duration(elapsed), AttemptTimeout: time.Duration(timeout), MaxRetryAfter: time.Duration(after),
			Multiplier: multiplier, Jitter: Jitter{low, high},
		}
		valid := c.validNumbers()
		if code != 0 {
			c.RetryStatusCodes = []int{503, code}
			valid = valid && validStatus(code)
		}
		if err := c.Validate(); valid != (err == nil) {
			t.Fatalf("valid is %v, Validate() %v", valid, err)
		}
	})
}

// FuzzConfigFromEnv checks that what is read is valid or reported, never both,
// and that a report names a variable or field.
func FuzzConfigFromEnv(f *testing.F) {
	f.Add("HGNC", "hgnc\n5\n1s\n60\n2\n0.8,1.2\n1m\n30\n5m\n429,503\ntrue")
	f.Add("", "\nunlimited\n1e300\nNaN\n-Inf\nfull\n-1\n0x1p-2\n9999999999h\n,\nT")
	f.Fuzz(func(t *testing.T, prefix, lines string) {
		names := []string{"NAME", "MAX_RETRIES", "INITIAL_DELAY", "MAX_DELAY", "MULTIPLIER", "JITTER", "MAX_ELAPSED",
			"ATTEMPT_TIMEOUT", "MAX_RETRY_AFTER", "RETRY_STATUS_CODES", "WAIT_WHEN_OPEN"}
		env := map[string]string{}
		for i, value := range strings.Split(lines, "\n") {
			if key := names[i%len(names)]; prefix == "" {
				env[key] = value
			} else {
				env[strings.TrimSuffix(prefix, "_")+"_"+key] = value
			}
		}
		read := environment{getenv: func(name string) string { return env[name] }}
		c, err := overlay(Config{}, "Config", configVariables, (*Config).problems, read, prefix)
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Fatalf("read an invalid Config: %v", err)
			}
			return
		}
		if !errors.Is(err, ErrInvalidConfig) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if c.Name != "" || c.MaxRetries != 0 || c.RetryStatusCodes != nil {
			t.Fatalf("an error, and a Config: %+v", c)
		}
	})
}

// FuzzBreakerFromEnv checks the same of a BreakerConfig, and of a budget, as
// FuzzConfigFromEnv.
func FuzzBreakerFromEnv(f *testing.F) {
	f.Add("hgnc\n5\n0.5\n1s\n0.5\n10s\n20\n60\n2m\n0.2\n1\n1\n60s\ntrue\n0.1\n10")
	f.Add("\n-1\nNaN\n1e300\n2\n0\n-5\n0x1p-2\n9999999999h\n+Inf\n0\n99999999999999999999\n-1ns\nT\n-0\n-1")
	f.Fuzz(func(t *testing.T, lines string) {
		values := strings.Split(lines, "\n")
		variables := append(breakerVariables(new(BreakerConfig)), budgetVariables(new(budgetValues))...)
		env := environment{getenv: func(name string) string {
			for i, v := range variables {
				if v.name == name && i < len(values) {
					return values[i]
				}
			}
			return ""
		}}
		config, err := overlay(BreakerConfig{}, "BreakerConfig", breakerVariables, (*BreakerConfig).problems, env, "")
		if err == nil && config.Validate() != nil {
			t.Fatalf("read an invalid BreakerConfig: %v", config.Validate())
		}
		if err != nil && !errors.Is(err, ErrInvalidConfig) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if budget, err := overlay(budgetValues{}, "BudgetFromEnv", budgetVariables, (*budgetValues).problems, env, ""); err == nil {
			if _, err := NewBudget(budget.ratio, budget.burst); err != nil {
				t.Fatalf("read an invalid budget: %v", err)
			}
		}
	})
}

// FuzzState reads any text as a State: what is accepted is written in the same way.
func FuzzState(f *testing.F) {
	for _, text := range []string{"closed", "open", "half-open", "State(7)", "State(-1)", "State( 7)", "State(7)x", "State(0)", ""} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s State
		if err := s.UnmarshalText(text); err != nil {
			if !errors.Is(err, ErrInvalidConfig) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if again, _ := s.MarshalText(); string(again) != string(text) {
			t.Fatalf("%q became %q", text, again)
		}
	})
}

// FuzzDecodeJSON reads a body in pieces of any length, with a byte order mark or without one:
// the value is the one that package json finds in the whole, and what is no JSON is an error.
func FuzzDecodeJSON(f *testing.F) {
	for _, text := range []string{`{"a":[1,2.5,"x\u00e9\""]}`, ` "a\\" `, "true", "null\n", "12", `{"a":1}{`, "\xef\xbb\xbf[]", "\xef\xbb", "nul", `"a`, "<html>", "", " \n"} {
		f.Add([]byte(text), uint64(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		body := &pieces{bytes.NewReader(text), rand.New(rand.NewPCG(seed, 0))}
		value, err := DecodeJSON[any](&http.Response{StatusCode: 200, ContentLength: int64(len(text)), Body: io.NopCloser(body)})
		bare := bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		var whole, first any
		if json.Unmarshal(bare, &whole) == nil {
			if err != nil || !reflect.DeepEqual(value, whole) {
				t.Fatalf("%q is %v, error %v, want %v", text, value, err, whole)
			}
			return
		}
		switch blank := len(bytes.TrimSpace(bare)) == 0; {
		case err != nil:
		case blank && value != nil:
			t.Fatalf("%q is %v", text, value)
		case !blank && (json.NewDecoder(bytes.NewReader(bare)).Decode(&first) != nil || !reflect.DeepEqual(value, first)):
			t.Fatalf("%q is %v, want no value", text, value)
		}
	})
}

// pieces is a reader that gives a few bytes at a time.
type pieces struct {
	io.Reader
	random *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	return p.Reader.Read(b[:min(len(b), 1+p.random.IntN(5))])
}

// FuzzEnvironment has a secret in variables of any name that are not among those that are
// read: an error may name them, and shows nothing of what they hold.
func FuzzEnvironment(f *testing.F) {
	f.Add("HGNC", "HGNC_MAX_RETRYS\nHGNC_API_KEY\nhgnc_jiter\nHGNC_\nHGNC")
	f.Add("a_", "A__MAX_RETRIES\nA_MAXRETRIES\na_max_retries ")
	f.Fuzz(func(t *testing.T, prefix, lines string) {
		const secret = "S3CR3Tt0ken"
		var all []string
		for name := range strings.SplitSeq(lines, "\n") {
			all = append(all, name+"="+secret)
		}
		env := environment{getenv: func(string) string { return "" }, all: all}
		_, config := overlay(Config{}, "Config", configVariables, (*Config).problems, env, prefix)
		_, breaker := overlay(BreakerConfig{}, "BreakerConfig", breakerVariables, (*BreakerConfig).problems, env, prefix)
		for _, err := range []error{config, breaker} {
			if err != nil && (strings.Contains(err.Error(), secret) || !errors.Is(err, ErrInvalidConfig)) {
				t.Fatalf("%v", err)
			}
		}
	})
}

// FuzzTexts puts a secret where a URL and a header have one, that URL into the errors of
// a call, and these into everything that shows errors: no text has it.
func FuzzTexts(f *testing.F) {
	f.Add("https", "h.example", "/gene", "key", "hgnc")
	f.Add("http", "[::1]:80", "/%zz?", "", "")
	f.Add("mailto", "", "x", "a&b", "a\nb")
	f.Fuzz(func(t *testing.T, scheme, host, path, key, name string) {
		const secret = "S3CR3Tt0ken"
		for _, raw := range []string{
			scheme + "://user:" + secret + "@" + host + path, scheme + "://" + host + path + "?" + key + "=" + secret, scheme + "://" + host + path + "#" + secret,
		} {
			if u, err := url.Parse(raw); err == nil && (strings.Contains(u.Path, secret) || strings.Contains(u.Host, secret)) {
				continue // by its place it is none
			}
			status := &StatusError{StatusCode: 503, Method: "GET", URL: raw, Header: http.Header{"Authorization": {secret}, "Set-Cookie": {secret}}, Body: []byte("down")}
			for _, cause := range []error{status, &url.Error{Op: "Get", URL: raw, Err: io.EOF}, errors.Join(io.EOF, fmt.Errorf("fetch: %w", &url.Error{Op: "Get", URL: raw, Err: io.EOF}))} {
				shared, _ := sanitized(cause)
				open, paused := &OpenError{Name: name, Err: shared}, &PauseError{Name: name, Err: shared}
				event := Event{Name: name, Host: host, Err: cause}
				change := StateChange{Name: name, To: StateOpen, Err: shared}
				snapshot := Snapshot{LastFailure: shared}
				given := &Error{Attempts: 2, Reason: ErrCircuitOpen, Err: cause, name: name, detail: open}
				timed := &limitError{cause, time.Second, "AttemptTimeout"}
				for _, shown := range []any{status, open, paused, event, change, snapshot, given, timed, &limiterError{err: cause}, GateSnapshot{LastRefusal: shared}} {
					var log bytes.Buffer
					slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", shown)
					written, _ := json.Marshal(shown)
					formatted := ""
					if err, ok := shown.(error); ok {
						formatted = fmt.Sprintf("%v %+v %#v %q", err, err, err, err)
					}
					if all := log.String() + string(written) + formatted; strings.Contains(all, secret) {
						t.Fatalf("%T of %q shows the secret: %s", shown, raw, all)
					}
				}
			}
		}
	})
}

// FuzzClient puts a secret wherever a request or an answer has a place for one, and sends it
// by a client whose server answers in every way. What is shown of the call has none: its
// error, its events, its log, and the names of the hosts.
func FuzzClient(f *testing.F) {
	f.Add("https", "h.example", "/gene", "key", "Basic", uint8(0))
	f.Add("http", "[::1]:80", "/%zz?", "", "a\nb", uint8(1))
	f.Add("HTTP", "user@h", "//x", "a&b", "", uint8(2))
	f.Fuzz(func(t *testing.T, scheme, host, path, key, word string, way uint8) {
		const secret = "S3CR3Tt0ken"
		for _, u := range []url.URL{
			{Scheme: scheme, Host: host, Path: path, User: url.UserPassword("user", secret)},
			{Scheme: scheme, Host: host, Path: path, User: url.User(secret), RawQuery: key + "=" + secret},
			{Scheme: scheme, Host: host, Path: path, RawQuery: secret, Fragment: secret},
			{Scheme: scheme, Host: host, Opaque: "//" + host + path + "?" + key + "=" + secret},
		} {
			var shown bytes.Buffer
			see := func(values ...any) {
				for _, value := range values {
					written, _ := json.Marshal(value)
					fmt.Fprintf(&shown, "%v %s\n", value, written)
				}
			}
			event := func(_ context.Context, e Event) { see(e) }
			base := roundTripper(func(req *http.Request) (*http.Response, error) {
				resp := &http.Response{StatusCode: 503, Body: http.NoBody, Request: req, Header: http.Header{
					"Set-Cookie": {"session=" + secret}, "Www-Authenticate": {word + " " + secret}, "Authorization": {secret},
				}}
				switch way % 6 {
				case 0:
					return nil, &url.Error{Op: "Get", URL: req.URL.String(), Err: io.ErrUnexpectedEOF}
				case 1:
					return nil, fmt.Errorf("%s: %w", word, &url.Error{Op: "Get", URL: req.URL.String(), Err: errors.New(word)})
				case 2:
					resp.StatusCode = 302
					resp.Header.Set("Location", u.String())
				case 3:
					resp.StatusCode = 307
					resp.Header.Set("Location", scheme+"://"+host+":port/?"+key+"="+secret)
				case 4:
					resp.StatusCode = 404
				}
				return resp, nil
			})
			breaker, err := NewCircuitBreaker(BreakerConfig{FailureThreshold: 2, OnStateChange: func(change StateChange) { see(change) }})
			if err != nil {
				t.Fatal(err)
			}
			client, err := NewRetryableClient(&http.Client{Transport: base}, Config{
				MaxRetries: 2, Backoff: ConstantBackoff(1), Breaker: breaker, OnRetry: event, OnDone: event, OnWait: event,
				Logger: slog.New(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelDebug})),
			})
			if err != nil {
				t.Fatal(err)
			}
			req := &http.Request{Method: "GET", URL: &u, Header: http.Header{"Authorization": {word + " " + secret}, "Cookie": {"session=" + secret}}}
			for range 2 { // the breaker opens in between, and shows the last failure
				resp, err := client.Do(req)
				if err == nil {
					resp.Body.Close()
					continue
				}
				see(err, breaker.Snapshot())
				fmt.Fprintf(&shown, "%+v %q", err, err)
			}
			for name, cfg := range client.Hosts() {
				see(name, cfg)
			}
			if strings.Contains(shown.String(), secret) {
				t.Fatalf("%#v shows the secret: %s", u, &shown)
			}
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

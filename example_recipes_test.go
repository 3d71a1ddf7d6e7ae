package retry_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// This file is the home of the recipes that docs/recipes.md shows. The declarations
// that carry no test are there word for word.

type bearer struct {
	base  http.RoundTripper
	host  string
	fetch func(context.Context) (string, error) // asks for a new token
	lock  chan struct{}                         // guards token; of capacity 1: a waiter can give up, unlike at a mutex
	token string
}

// current returns a token other than the refused one, "" if none was refused.
func (b *bearer) current(ctx context.Context, refused string) (_ string, err error) {
	select {
	case b.lock <- struct{}{}:
		defer func() { <-b.lock }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if b.token == refused || b.token == "" { // else another request has replaced it
		b.token, err = b.fetch(ctx)
	}
	return b.token, err
}

func (b *bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != b.host { // after a redirect
		return b.base.RoundTrip(req)
	}
	token, err := b.current(req.Context(), "")
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := b.send(req, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || req.GetBody == nil && req.Body != nil && req.Body != http.NoBody {
		return resp, err
	}
	resp.Body.Close()
	if token, err = b.current(req.Context(), token); err != nil {
		return nil, err
	}
	if req.GetBody != nil {
		req = req.Clone(req.Context())
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return b.send(req, token)
}

func (b *bearer) send(req *http.Request, token string) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+token)
	return b.base.RoundTrip(req)
}

func withToken(host string, fetch func(context.Context) (string, error)) retry.Option {
	return retry.WrapTransport(func(base http.RoundTripper) http.RoundTripper {
		return &bearer{base: base, host: host, fetch: fetch, lock: make(chan struct{}, 1)}
	})
}

// issuer is a service that accepts the last token that it has issued, if that is not
// revoked.
type issuer struct {
	mu      sync.Mutex
	issued  int
	revoked bool
	served  []string
	arrived func() // called by every request, outside of the lock
}

func (s *issuer) fetch(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued++
	s.revoked = false
	return fmt.Sprint("token ", s.issued), nil
}

func (s *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	s.mu.Lock()
	known := !s.revoked && req.Header.Get("Authorization") == fmt.Sprint("Bearer token ", s.issued)
	s.mu.Unlock()
	if s.arrived != nil {
		s.arrived()
	}
	code := http.StatusUnauthorized
	if known {
		code = http.StatusOK
		s.mu.Lock()
		s.served = append(s.served, string(body))
		s.mu.Unlock()
	}
	return &http.Response{StatusCode: code, Body: http.NoBody, Header: http.Header{}, Request: req}, nil
}

// The token is replaced once for each time that it expires, however many requests were
// under way with the old one, and each of them is carried out once: without a wait, a
// withdrawal from the budget, or doubt whether it may be repeated.
func TestRecipe_TokenThatExpires(t *testing.T) {
	const callers = 1000
	s := new(issuer)
	cfg := soon
	cfg.Budget, _ = retry.NewBudget(0.1, 1)
	client := outcomeClient(t, &http.Client{Transport: s}, cfg, withToken("api.example", s.fetch), retry.IdempotentOnly())
	post := func(body io.Reader) error {
		resp, err := client.Post(t.Context(), "https://api.example/", "text/plain", body)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	require.NoError(t, post(nil))
	for expiry := 1; expiry <= 3; expiry++ {
		s.revoked, s.served = true, nil
		var under atomic.Int32
		all := make(chan struct{})
		s.arrived = func() { // no request is answered before all were sent with the old token
			if under.Add(1) == callers {
				close(all)
			}
			<-all
		}
		var calls sync.WaitGroup
		for i := range callers {
			calls.Go(func() {
				body := io.Reader(strings.NewReader(fmt.Sprint(i)))
				if i%2 == 0 {
					body = io.MultiReader(body) // which has no GetBody
				}
				assert.NoError(t, post(body))
			})
		}
		calls.Wait()
		assert.Equal(t, 1+expiry, s.issued)
		assert.Len(t, s.served, callers)
		assert.NotContains(t, s.served, "")
	}
}

// A 401 that a new token does not cure is final, after one more request. A 503 before
// it, which is retried, does not use up that one.
func TestRecipe_TokenThatHelpsNothing(t *testing.T) {
	script := retrytest.NewScript(t, retrytest.Status(503, ""), retrytest.Status(401, "old"), retrytest.Status(401, "no such user"))
	fetched := 0
	client := outcomeClient(t, script.Client(), soon, withToken("api.example", func(context.Context) (string, error) {
		fetched++
		return fmt.Sprint(fetched), nil
	}))
	_, err := client.Get(t.Context(), "https://api.example/")
	var status *retry.StatusError
	require.ErrorAs(t, err, &status)
	assert.Equal(t, "no such user", string(status.Body))
	assert.Equal(t, 2, fetched)

	// A redirect to another host does not get the token.
	script = retrytest.NewScript(t, retrytest.Status(302, "").With("Location", "https://other.example/"), retrytest.Status(401, ""))
	client = outcomeClient(t, script.Client(), soon, withToken("api.example", func(context.Context) (string, error) { return "1", nil }))
	_, err = client.Get(t.Context(), "https://api.example/")
	assert.ErrorAs(t, err, &status)
	assert.Empty(t, script.Requests()[1].Header["Authorization"])
}

// A caller who waits for another's token may give up, and the failure to get one is
// a failure of the attempt.
func TestRecipe_TokenThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", context.Cause(ctx) }
		client := outcomeClient(t, &http.Client{Transport: new(issuer)}, soon, withToken("api.example", hangs))
		first, giveUp := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		calls.Go(func() {
			_, err := client.Get(first, "https://api.example/")
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		second, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Get(second, "https://api.example/")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		giveUp()
		calls.Wait()
	})

	failed, s := false, new(issuer)
	client := outcomeClient(t, &http.Client{Transport: s}, soon, withToken("api.example", func(ctx context.Context) (string, error) {
		if !failed {
			failed = true
			return "", errors.New("connection reset")
		}
		return s.fetch(ctx)
	}))
	_, err := client.Post(t.Context(), "https://api.example/", "", strings.NewReader("x"))
	assert.NoError(t, err)
	assert.Equal(t, []string{"x"}, s.served)
}

func googleDelay(resp *http.Response) error {
	status, ok := retry.CheckStatus(resp).(*retry.StatusError)
	if !ok {
		return nil // below 400
	}
	var body struct {
		Error struct {
			Details []struct {
				Type       string `json:"@type"`
				RetryDelay string `json:"retryDelay"`
			}
		}
	}
	json.Unmarshal(status.Body, &body)
	for _, detail := range body.Error.Details {
		delay, err := time.ParseDuration(detail.RetryDelay)
		if detail.Type == "type.googleapis.com/google.rpc.RetryInfo" && err == nil {
			return retry.RetryAfter(status, max(delay, status.RetryAfter))
		}
	}
	return nil // judged by its status and header
}

func chatDelay(resp *http.Response) error {
	status, ok := retry.CheckStatus(resp).(*retry.StatusError)
	if !ok || status.StatusCode != http.StatusTooManyRequests {
		return nil
	}
	type limit struct {
		Seconds json.Number `json:"retry_after"` // with decimals
	}
	var body struct {
		limit            // Discord
		Parameters limit // Telegram
	}
	json.Unmarshal(status.Body, &body)
	delay, err := time.ParseDuration(string(cmp.Or(body.Seconds, body.Parameters.Seconds)) + "s")
	if err != nil {
		return nil
	}
	return retry.RetryAfter(status, max(delay, status.RetryAfter))
}

func ncbiError(resp *http.Response) error {
	var body struct {
		Error  string
		Result struct{ Error string } `json:"esearchresult"`
	}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&body) != nil {
		return nil
	}
	if text := body.Error + body.Result.Error; text != "" {
		return fmt.Errorf("NCBI: %s", text)
	}
	return nil
}

func s3Error(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK || !strings.HasSuffix(resp.Header.Get("Content-Type"), "/xml") {
		return nil
	}
	var body struct {
		XMLName       xml.Name
		Code, Message string
	}
	if xml.NewDecoder(resp.Body).Decode(&body) != nil || body.XMLName.Local != "Error" {
		return nil
	}
	err := fmt.Errorf("S3: %s: %s", body.Code, body.Message)
	switch body.Code {
	case "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown":
		return err
	}
	return retry.Permanent(err)
}

func firstEvent(resp *http.Response) error {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return nil
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var event struct {
			Error struct{ Type, Message string }
		}
		json.Unmarshal([]byte(data), &event)
		switch event.Error.Type {
		case "":
			return nil
		case "overloaded_error", "api_error", "rate_limit_error":
			return fmt.Errorf("stream: %s: %s", event.Error.Type, event.Error.Message)
		}
		return retry.Permanent(fmt.Errorf("stream: %s: %s", event.Error.Type, event.Error.Message))
	}
	return nil
}

var checks = map[string]func(*http.Response) error{
	"generativelanguage.googleapis.com": googleDelay,
	"discord.com":                       chatDelay,
	"api.telegram.org":                  chatDelay,
	"eutils.ncbi.nlm.nih.gov":           ncbiError,
	"genes.s3.amazonaws.com":            s3Error,
	"api.anthropic.com":                 firstEvent,
}

var checkByHost = retry.CheckResponse(func(resp *http.Response) error {
	if check, ok := checks[resp.Request.URL.Hostname()]; ok {
		return check(resp)
	}
	return nil
})

// What a service says in the body alone is waited for, retried, or final. What a check
// reads of a body is there for the decoder.
func TestRecipe_WhatOnlyABodySays(t *testing.T) {
	const (
		google, discord, telegram = "generativelanguage.googleapis.com", "discord.com", "api.telegram.org"
		ncbi, s3, anthropic       = "eutils.ncbi.nlm.nih.gov", "genes.s3.amazonaws.com", "api.anthropic.com"
		final                     = "no waits"
	)
	kinds := map[string]string{s3: "application/xml", anthropic: "text/event-stream; charset=utf-8"}
	good := map[string]string{
		ncbi:      `{"header": {"type": "esearch"}, "esearchresult": {"count": "1", "idlist": ["672"]}}`,
		s3:        `<?xml version="1.0" encoding="UTF-8"?><CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>`,
		anthropic: "event: message_start\ndata: {\"type\": \"message_start\"}\n\nevent: message_stop\ndata: {\"type\": \"message_stop\"}\n\n",
	}
	for name, test := range map[string]struct {
		host, body string
		code       int
		header     string // Retry-After
		waits      string
	}{
		// https://cloud.google.com/apis/design/errors, google.rpc.RetryInfo
		"Google": {google, `{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [
			{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaMetric": "requests"}]},
			{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}}`, 429, "", "34.5s retry-after"},
		"Google, 403": {google, `{"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]}}`, 403, "", "7s retry-after"},
		"Google, header": {google, `{"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]}}`, 503, "9",
			"9s retry-after"},
		"Google, neither": {google, `{"error": {"code": 503, "status": "UNAVAILABLE", "details": "none"}}`, 503, "", "1ms backoff"},
		"Google, final":   {google, `{"error": {"code": 403, "status": "PERMISSION_DENIED", "details": []}}`, 403, "", final},

		// https://discord.com/developers/docs/topics/rate-limits
		"Discord": {discord, `{"message": "You are being rate limited.", "retry_after": 64.57, "global": false}`, 429, "", "1m4.57s retry-after"},
		// https://core.telegram.org/bots/api#responseparameters
		"Telegram": {telegram, `{"ok": false, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": 35}}`, 429, "",
			"35s retry-after"},
		"no JSON":  {discord, "<html>banned", 429, "3", "3s retry-after"},
		"no delay": {telegram, `{"ok": false, "error_code": 429}`, 429, "", "1ms backoff"},

		// https://www.ncbi.nlm.nih.gov/books/NBK25499/
		"NCBI":             {ncbi, `{"header": {}, "esearchresult": {"ERROR": "Search Backend failed: read timeout"}}`, 200, "", "1ms backoff"},
		"NCBI, at the top": {ncbi, `{"error": "API rate limit exceeded", "count": "11"}`, 200, "", "1ms backoff"},

		// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
		"S3": {s3, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n   \n<Error><Code>InternalError</Code><Message>Please try again.</Message></Error>", 200, "",
			"1ms backoff"},
		"S3, final": {s3, "<Error><Code>InvalidPart</Code><Message>No such part.</Message></Error>", 200, "", final},

		// https://docs.anthropic.com/en/api/streaming
		"stream": {anthropic, "event: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"Overloaded\"}}\n\n", 200, "",
			"1ms backoff"},
		"stream, final": {anthropic, "data: {\"type\": \"error\", \"error\": {\"type\": \"invalid_request_error\", \"message\": \"no such model\"}}\n\n", 200, "",
			final},
	} {
		t.Run(name, func(t *testing.T) {
			first := retrytest.Status(test.code, test.body).With("Content-Type", kinds[test.host])
			if test.header != "" {
				first = first.With("Retry-After", test.header)
			}
			answers := []retrytest.Answer{first}
			if test.waits != final {
				answers = append(answers, retrytest.Status(200, good[test.host]).With("Content-Type", kinds[test.host]))
			}
			script := retrytest.NewScript(t, answers...)
			var got string
			waits, err := retrytest.Run(t, soon, func(cfg retry.Config) error {
				client, err := retry.NewRetryableClient(script.Client(), cfg, checkByHost)
				require.NoError(t, err)
				got, err = retry.Fetch(client, newRequest(t, "POST", "https://"+test.host, nil), func(resp *http.Response) (string, error) {
					text, err := io.ReadAll(resp.Body)
					return string(text), err
				})
				return err
			})
			assert.Equal(t, test.waits, waits.String())
			assert.Equal(t, test.waits == final, err != nil, "%v", err)
			if test.waits != final {
				assert.Equal(t, good[test.host], got)
			}
		})
	}
}

func pay(ctx context.Context, client *retry.RetryableClient, amount int) (string, error) {
	receipt, err := retry.PostJSON[string](retry.WithIdempotent(ctx, false), client, "https://payments.example/payments", amount)
	var status *retry.StatusError
	switch {
	case err == nil:
		return receipt, nil
	case errors.As(err, &status) && status.StatusCode == http.StatusPaymentRequired:
		return "", errors.New("declined")
	case errors.As(err, &status) && slices.Contains([]int{400, 401, 403, 404, 422}, status.StatusCode): // this API answers so before it acts
		return "", fmt.Errorf("not paid, and a retry cannot help: %w", err)
	case retry.MayHaveActed(err): // true unless it is certain
		return "", fmt.Errorf("perhaps paid, ask before it is tried again: %w", err)
	}
	return "", fmt.Errorf("not paid, try again later: %w", err)
}

// The rows of the page's table: what a payment ends with, and what its customer learns.
func TestRecipe_Payment(t *testing.T) {
	const paid, declined, wrong, perhaps, not = "", "declined", "a retry cannot help", "perhaps paid", "not paid, try again later"
	busy, busyServer := retrytest.TooManyRequests(time.Second), retrytest.Status(503, "").With("Retry-After", "1")
	open, err := retry.NewCircuitBreaker(retry.BreakerConfig{})
	require.NoError(t, err)
	open.ForceOpen()
	paused := retry.NewGate(nil)
	paused.Pause(time.Hour)
	none, err := retry.NewBudget(0, 0)
	require.NoError(t, err)
	closed := make(chan struct{})
	close(closed)
	for name, c := range map[string]struct {
		answers []retrytest.Answer
		cfg     retry.Config
		want    string
		reason  error
	}{
		"paid":                     {[]retrytest.Answer{busy, retrytest.JSON("receipt")}, retry.Config{}, paid, nil},
		"402":                      {[]retrytest.Answer{retrytest.Status(402, "")}, retry.Config{}, declined, nil},
		"401, a changed key":       {[]retrytest.Answer{retrytest.Status(401, "")}, retry.Config{}, wrong, nil},
		"422 after 429":            {[]retrytest.Answer{busy, retrytest.Status(422, "")}, retry.Config{}, wrong, nil},
		"409, not in the list":     {[]retrytest.Answer{retrytest.Status(409, "")}, retry.Config{}, perhaps, nil},
		"402 after 429":            {[]retrytest.Answer{busy, retrytest.Status(402, "")}, retry.Config{}, declined, nil},
		"open":                     {nil, retry.Config{Breaker: open}, not, retry.ErrCircuitOpen},
		"paused":                   {nil, retry.Config{Gate: paused}, not, retry.ErrRetryAfterTooLong},
		"draining":                 {[]retrytest.Answer{busy}, retry.Config{Drain: closed}, not, retry.ErrDraining},
		"429 to the end":           {[]retrytest.Answer{busy, busy}, retry.Config{}, not, retry.ErrMaxRetries},
		"503 with a wait":          {[]retrytest.Answer{busyServer, busyServer}, retry.Config{}, not, retry.ErrMaxRetries},
		"no connection":            {[]retrytest.Answer{retrytest.Refused(), retrytest.Refused()}, retry.Config{}, not, retry.ErrMaxRetries},
		"429, and no budget":       {[]retrytest.Answer{busy}, retry.Config{Budget: none}, not, retry.ErrBudgetExhausted},
		"429, and no time":         {[]retrytest.Answer{retrytest.TooManyRequests(time.Minute)}, retry.Config{}, not, retry.ErrDeadline},
		"429 for too long":         {[]retrytest.Answer{retrytest.TooManyRequests(time.Hour)}, retry.Config{}, not, retry.ErrRetryAfterTooLong},
		"503":                      {[]retrytest.Answer{retrytest.Status(503, "")}, retry.Config{}, perhaps, retry.ErrNotIdempotent},
		"500":                      {[]retrytest.Answer{retrytest.Status(500, "")}, retry.Config{}, perhaps, retry.ErrNotIdempotent},
		"reset after 429":          {[]retrytest.Answer{busy, retrytest.Reset()}, retry.Config{MaxRetries: 2}, perhaps, retry.ErrNotIdempotent},
		"no answer in time":        {[]retrytest.Answer{retrytest.Hang()}, retry.Config{}, perhaps, context.DeadlineExceeded},
		"an answer that is broken": {[]retrytest.Answer{retrytest.Cut(`"receipt"`, 3)}, retry.Config{}, perhaps, nil},
	} {
		t.Run(name, func(t *testing.T) {
			script := retrytest.NewScript(t, c.answers...)
			if c.cfg.MaxRetries == 0 {
				c.cfg.MaxRetries = 1
			}
			if c.cfg.Breaker != nil || c.cfg.Gate != nil { // which are not of the bubble
				checkPayment(t, script, c.cfg, c.want, c.reason)
				return
			}
			synctest.Test(t, func(t *testing.T) { checkPayment(t, script, c.cfg, c.want, c.reason) })
		})
	}
}

func checkPayment(t *testing.T, script *retrytest.Script, cfg retry.Config, want string, reason error) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, err := retry.NewRetryableClient(script.Client(), cfg)
	require.NoError(t, err)
	_, err = pay(ctx, client, 7)
	if want == "" {
		assert.NoError(t, err)
		return
	}
	assert.ErrorContains(t, err, want)
	if reason != nil {
		assert.ErrorIs(t, err, reason)
	}
}

// The recipes on the page are the code that is tested here.
func TestRecipesAreThoseOfThePage(t *testing.T) {
	page, err := os.ReadFile("docs/recipes.md")
	require.NoError(t, err)
	_, part, ok := strings.Cut(string(page), "\n## A token that expires\n")
	require.True(t, ok)
	_, payment, ok := strings.Cut(string(page), "\n## A payment\n")
	require.True(t, ok)
	payment, _, _ = strings.Cut(payment, "\n## ")
	part += payment
	var sources strings.Builder
	for _, file := range []string{"example_recipes_test.go", "example_test.go"} {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		sources.Write(source)
	}
	margin := regexp.MustCompile(`(?m)^\t+`)
	tested := margin.ReplaceAllString(sources.String(), "")
	recipes := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllStringSubmatch(part, -1)
	assert.Len(t, recipes, 9)
	for _, recipe := range recipes {
		for declaration := range strings.SplitSeq(recipe[1], "\n\n") {
			assert.Contains(t, tested, margin.ReplaceAllString(declaration, ""))
		}
	}
}

package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// flaky returns a server that answers with the given statuses, one after the
// other, and then with a gene.
func flaky(statuses ...int) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(statuses) > 0 {
			status := statuses[0]
			statuses = statuses[1:]
			w.WriteHeader(status)
			return
		}
		io.WriteString(w, `{"symbol": "BRCA1", "location": "17q21.31"}`)
	}))
}

// A plain *http.Client becomes retryable with CheckStatus.
func ExampleDo_http() {
	server := flaky(503, 429)
	defer server.Close()

	body, err := retry.Do(context.Background(), quick, func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if err := retry.CheckStatus(resp); err != nil {
			return nil, err
		}
		return io.ReadAll(resp.Body)
	})
	fmt.Println(string(body), err)
	// Output: {"symbol": "BRCA1", "location": "17q21.31"} <nil>
}

func ExampleRetryableClient() {
	server := flaky(503, 502)
	defer server.Close()

	client, err := retry.NewRetryableClient(http.DefaultClient, quick)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Get(context.Background(), server.URL+"/fetch/symbol/BRCA1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// An error status is an error, with all that is known of it.
func ExampleStatusError() {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()

	client, _ := retry.NewRetryableClient(nil, quick)
	_, err := client.Get(context.Background(), server.URL+"/gene?api_key=secret")

	var status *retry.StatusError
	if errors.As(err, &status) {
		fmt.Printf("%d %q\n", status.StatusCode, status.Body)
	}
	// Output: 404 "404 page not found\n"
}

func ExampleGetJSON() {
	server := flaky(429)
	defer server.Close()

	client, _ := retry.NewRetryableClient(nil, quick)
	gene, err := retry.GetJSON[Gene](context.Background(), client, server.URL)
	fmt.Println(gene.Symbol, gene.Location, err)
	// Output: BRCA1 17q21.31 <nil>
}

// Settings by host are a map: what is not in it keeps the client's settings, or, as
// here, is an error, which Check finds at start.
func ExamplePerHost() {
	hosts := map[string]struct {
		retries int
		timeout time.Duration
	}{
		"https://gnomad.example":  {retries: 1, timeout: 10 * time.Second},
		"https://ensembl.example": {retries: 3, timeout: 2 * time.Second},
	}
	script := retrytest.NewScriptFunc(exampleT{}, func(retrytest.Request) retrytest.Answer { return retrytest.Status(503, "") })
	client, err := retry.NewRetryableClient(script.Client(), quick, retry.PerHost(func(host string, cfg *retry.Config) error {
		own, ok := hosts[host]
		if !ok {
			return errors.New("no settings for this host")
		}
		cfg.MaxRetries, cfg.AttemptTimeout = own.retries, own.timeout
		return nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(client.Check("https://gnomad.example/api", "https://ensembl.exmaple/lookup"))
	client.Get(context.Background(), "https://gnomad.example/api")
	fmt.Println(len(script.Requests()), "requests")
	// Output:
	// retry: invalid: host https://ensembl.exmaple: no settings for this host
	// 2 requests
}

// Each host gets a breaker of its own: one that is down does not stop the others.
func ExampleHostBreaker() {
	script := retrytest.NewScriptFunc(exampleT{}, func(r retrytest.Request) retrytest.Answer {
		if strings.HasPrefix(r.URL, "https://down.example") {
			return retrytest.Status(503, "")
		}
		return retrytest.Status(204, "")
	})
	client, err := retry.NewRetryableClient(script.Client(), quick, retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 2}))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = client.Get(context.Background(), "https://down.example")
	fmt.Println(errors.Is(err, retry.ErrCircuitOpen))
	_, err = client.Get(context.Background(), "https://up.example")
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// For code that brings its own *http.Client.
func ExampleNewTransport() {
	server := flaky(503)
	defer server.Close()

	transport, err := retry.NewTransport(nil, quick)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	// Output: 200
}

// An API of GraphQL that reports its rate limit with status 400 and a message.
func ExampleCheckResponse_rateLimit() {
	limited := `{"errors": [{"message": "Query rate limit exceeded."}]}`
	script := retrytest.NewScript(exampleT{}, retrytest.Status(400, limited), retrytest.Status(400, `{"errors": []}`))
	check := func(resp *http.Response) error {
		var body struct{ Errors []struct{ Message string } }
		if resp.StatusCode == 400 && json.NewDecoder(resp.Body).Decode(&body) == nil && len(body.Errors) > 0 {
			return retry.RetryAfter(errors.New(body.Errors[0].Message), time.Minute)
		}
		return nil // judged by its status
	}
	waits, err := retrytest.Run(exampleT{}, retry.Config{Jitter: retry.NoJitter}, func(cfg retry.Config) error {
		client, err := retry.NewRetryableClient(script.Client(), cfg, retry.CheckResponse(check))
		if err != nil {
			return err
		}
		_, err = client.Get(context.Background(), "https://gnomad.example/api")
		return err
	})
	var status *retry.StatusError
	fmt.Println(waits, errors.As(err, &status) && status.StatusCode == 400)
	// Output: 1m0s retry-after true
}

// A download into a file: what breaks off begins again.
func ExampleFetch() {
	script := retrytest.NewScript(exampleT{}, retrytest.Cut("all of the genes", 7), retrytest.Status(200, "all of the genes"))
	client, _ := retry.NewRetryableClient(script.Client(), quick)
	dir, err := os.MkdirTemp("", "genes")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "genes.txt")

	req, _ := http.NewRequest(http.MethodGet, "https://genes.example/all", nil)
	size, err := retry.Fetch(client, req, func(resp *http.Response) (int64, error) {
		file, err := os.Create(name) // empty, in each attempt
		if err != nil {
			return 0, retry.Permanent(err)
		}
		n, err := io.Copy(file, resp.Body)
		return n, errors.Join(err, file.Close())
	})
	text, _ := os.ReadFile(name)
	fmt.Println(size, err, string(text))
	// Output: 16 <nil> all of the genes
}

func ExamplePostJSON() {
	script := retrytest.NewScript(exampleT{}, retrytest.Reset(), retrytest.JSON(Gene{Symbol: "PKD1"}))
	client, _ := retry.NewRetryableClient(script.Client(), quick)
	gene, err := retry.PostJSON[Gene](context.Background(), client, "https://genes.example", map[string]string{"symbol": "PKD1"})

	asked := script.Requests()
	fmt.Println(gene.Symbol, err)
	fmt.Println(string(asked[1].Body), asked[0].Header["Idempotency-Key"][0] == asked[1].Header["Idempotency-Key"][0])
	// Output:
	// PKD1 <nil>
	// {"symbol":"PKD1"} true
}

// What GetJSON decodes with, for a request of one's own.
func ExampleDecodeJSON() {
	script := retrytest.NewScript(exampleT{}, retrytest.Cut(`{"symbol": "TTN"}`, 5), retrytest.Status(200, `{"symbol": "TTN"}`))
	client, _ := retry.NewRetryableClient(script.Client(), quick)
	req, _ := http.NewRequest(http.MethodGet, "https://genes.example/TTN", nil)
	req.Header.Set("User-Agent", "genes/1.0")
	gene, err := retry.Fetch(client, req, retry.DecodeJSON[Gene])
	fmt.Println(gene.Symbol, err)
	// Output: TTN <nil>
}

// For code that wants an *http.Client: net/http's contract, to the letter.
func ExampleRetryableClient_StandardClient() {
	script := retrytest.NewScript(exampleT{}, retrytest.Status(503, ""), retrytest.Status(404, "no such gene"))
	client, _ := retry.NewRetryableClient(script.Client(), quick)
	resp, err := client.StandardClient().Get("https://genes.example/NOSUCH")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output: 404 no such gene <nil>
}

func ExampleRetryableClient_PostForm() {
	script := retrytest.NewScript(exampleT{}, retrytest.Status(502, ""), retrytest.Status(200, ""))
	client, _ := retry.NewRetryableClient(script.Client(), quick)
	resp, err := client.PostForm(context.Background(), "https://genes.example", url.Values{"symbol": {"TTN"}})
	fmt.Println(resp.StatusCode, err, string(script.Requests()[1].Body))
	// Output: 200 <nil> symbol=TTN
}

// A POST that must not be carried out twice, whatever happens.
func ExampleWithIdempotent() {
	script := retrytest.NewScript(exampleT{}, retrytest.Reset())
	client, _ := retry.NewRetryableClient(script.Client(), quick)
	ctx := retry.WithIdempotent(context.Background(), false)
	_, err := client.Post(ctx, "https://payments.example", "text/plain", strings.NewReader("100 francs"))
	fmt.Println(err != nil, len(script.Requests()), "request")
	// Output: true 1 request
}

func ExampleIdempotentOnly() {
	script := retrytest.NewScript(exampleT{}, retrytest.Reset())
	client, _ := retry.NewRetryableClient(script.Client(), quick, retry.IdempotentOnly())
	_, err := client.Post(context.Background(), "https://payments.example", "text/plain", strings.NewReader("100 francs"))
	fmt.Println(err != nil, len(script.Requests()), "request")
	// Output: true 1 request
}

// One limit for all servers of a company.
func ExampleHostKey() {
	var keys []string
	script := retrytest.NewScriptFunc(exampleT{}, func(retrytest.Request) retrytest.Answer { return retrytest.Status(204, "") })
	client, _ := retry.NewRetryableClient(script.Client(), quick,
		retry.HostKey(func(req *http.Request) string {
			_, domain, _ := strings.Cut(req.URL.Hostname(), ".")
			return domain
		}),
		retry.PerHost(func(key string, cfg *retry.Config) error { keys = append(keys, key); return nil }))
	for _, host := range []string{"a.example.org", "b.example.org"} {
		client.Get(context.Background(), "https://"+host)
	}
	fmt.Println(keys)
	// Output: [example.org]
}

// A body that can be read only once is remembered up to a limit.
func ExampleReplayBuffer() {
	script := retrytest.NewScript(exampleT{}, retrytest.Status(503, ""))
	client, _ := retry.NewRetryableClient(script.Client(), quick, retry.ReplayBuffer(4))
	once := io.MultiReader(strings.NewReader("more than four"))
	_, err := client.Post(context.Background(), "https://genes.example", "text/plain", once)
	fmt.Println(errors.Is(err, retry.ErrBodyNotReplayable), len(script.Requests()))
	// Output: true 1
}

func ExampleDecodeLimit() {
	script := retrytest.NewScript(exampleT{}, retrytest.JSON(strings.Repeat("A", 1000)))
	client, _ := retry.NewRetryableClient(script.Client(), quick, retry.DecodeLimit(100))
	_, err := retry.GetJSON[string](context.Background(), client, "https://genes.example")
	var tooLong *http.MaxBytesError
	fmt.Println(errors.As(err, &tooLong))
	// Output: true
}

// Each request waits for itself.
func ExampleNoSharedPause() {
	script := retrytest.NewScript(exampleT{}, retrytest.TooManyRequests(time.Hour), retrytest.Status(204, ""))
	client, _ := retry.NewRetryableClient(script.Client(), quick, retry.NoSharedPause())
	_, err := client.Get(context.Background(), "https://genes.example/all")
	fmt.Println(errors.Is(err, retry.ErrRetryAfterTooLong))
	_, err = client.Get(context.Background(), "https://genes.example/BRCA1")
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// As the raise_for_status of Python.
func ExampleCheckStatus() {
	recorder := httptest.NewRecorder()
	recorder.WriteHeader(404)
	fmt.Println(retry.CheckStatus(recorder.Result()))
	// Output: 404 Not Found
}

// Seconds, with decimals, or a date.
func ExampleParseRetryAfter() {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, value := range []string{"120", "0.7", "Fri, 02 Jan 2026 03:05:05 GMT", "soon"} {
		fmt.Println(retry.ParseRetryAfter(http.Header{"Retry-After": {value}}, now))
	}
	// Output:
	// 2m0s true
	// 700ms true
	// 1m0s true
	// 0s false
}

// A service that is asked to stop answers the requests that it has accepted. With Drain,
// the calls that they make wait and retry no more, so that Shutdown need not wait for a
// backoff of minutes. Requests keep their own contexts: what is in flight finishes.
func ExampleConfig_drain() {
	term, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer upstream.Close()
	client, err := retry.NewRetryableClient(nil, retry.Config{
		Drain:        term.Done(),
		InitialDelay: time.Minute,
		OnWait:       func(context.Context, retry.Event) { stop() }, // here, as if a signal came
	})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := client.Get(r.Context(), upstream.URL)
		fmt.Fprint(w, retry.Outcome(err))
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(listener)

	waiting := make(chan string)
	go func() { // the request of a user, whose call waits for its first retry
		resp, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		waiting <- string(text)
	}()

	<-term.Done()
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	shutdown := make(chan error)
	go func() { shutdown <- server.Shutdown(grace) }()
	fmt.Println(<-waiting)
	fmt.Println(<-shutdown)
	// Output:
	// draining
	// <nil>
}

// Of two payments that failed, one may have been made: the connection broke before its
// answer came. The other was refused.
func ExampleMayHaveActed() {
	payments := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/lost" {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer payments.Close()
	client, err := retry.NewRetryableClient(nil, retry.Config{MaxRetries: 1, InitialDelay: time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := retry.WithIdempotent(context.Background(), false) // a payment is made once
	for _, path := range []string{"/lost", "/refused"} {
		_, err := retry.PostJSON[string](ctx, client, payments.URL+path, 7)
		fmt.Println(path, retry.Outcome(err), retry.MayHaveActed(err))
	}
	// Output:
	// /lost not_idempotent true
	// /refused max_retries false
}

// Spellings of one address are one host. Check makes the hosts of URLs, and Hosts
// shows them as [retry.PerHost] gets them.
func ExampleRetryableClient_Hosts() {
	client, err := retry.NewRetryableClient(nil, retry.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = client.Check("https://rest.ensembl.org/lookup/id", "HTTPS://user@REST.ensembl.org:443", "https://rest.ensembl.org:8443/",
		"http://rest.ensembl.org", "http://127.0.0.1:8080", "http://[::1]:80/gene?symbol=BRCA1")
	fmt.Println(err)
	for host := range client.Hosts() {
		fmt.Println(host)
	}
	// Output:
	// <nil>
	// http://127.0.0.1:8080
	// http://[::1]
	// http://rest.ensembl.org
	// https://rest.ensembl.org
	// https://rest.ensembl.org:8443
}

// All hosts have a breaker that opens after five failures, but for one of which two are
// enough. Its name, in events and on a page, is the host's.
func ExamplePerHost_breaker() {
	script := retrytest.NewScriptFunc(exampleT{}, func(retrytest.Request) retrytest.Answer { return retrytest.Status(500, "") })
	cfg := retry.Config{MaxRetries: retry.NoRetries}
	client, err := retry.NewRetryableClient(script.Client(), cfg, retry.HostBreaker(retry.BreakerConfig{}),
		retry.PerHost(func(host string, cfg *retry.Config) (err error) {
			if host == "https://gnomad.example" {
				cfg.Breaker, err = retry.NewCircuitBreaker(retry.BreakerConfig{Name: host, FailureThreshold: 2, Clock: cfg.Clock})
			}
			return err
		}))
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		client.Get(context.Background(), "https://gnomad.example/api")
		client.Get(context.Background(), "https://ensembl.example/lookup")
	}
	for host, cfg := range client.Hosts() {
		fmt.Println(host, cfg.Breaker.State())
	}
	// Output:
	// https://ensembl.example closed
	// https://gnomad.example open
}

// The payments of one host are made once, and what other hosts get is repeated.
func ExamplePerHost_noRetries() {
	script := retrytest.NewScriptFunc(exampleT{}, func(retrytest.Request) retrytest.Answer { return retrytest.Status(429, "") })
	cfg := quick
	cfg.MaxRetries = 2
	client, err := retry.NewRetryableClient(script.Client(), cfg, retry.PerHost(func(host string, cfg *retry.Config) error {
		if host == "https://payments.example" {
			cfg.MaxRetries = retry.NoRetries
		}
		return nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, url := range []string{"https://payments.example/payments", "https://mail.example/receipts"} {
		_, err := retry.PostJSON[string](context.Background(), client, url, "100 francs")
		fmt.Println(retry.Outcome(err), retry.MayHaveActed(err))
	}
	for _, r := range script.Requests() {
		fmt.Println(r.Attempt, r.URL, r.Header.Get("Idempotency-Key") != "")
	}
	// Output:
	// max_retries false
	// max_retries false
	// 1 https://payments.example/payments false
	// 1 https://mail.example/receipts true
	// 2 https://mail.example/receipts true
	// 3 https://mail.example/receipts true
}

package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// Some APIs say only in the body that a retry cannot help. CheckResponse sees the
// response before the status is judged.
func ExampleCheckResponse() {
	attempts := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attempts++
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"error": {"code": "insufficient_quota"}}`)
	}))
	defer server.Close()

	quota := retry.CheckResponse(func(resp *http.Response) error {
		var answer struct{ Error struct{ Code string } }
		failure := retry.CheckStatus(resp) // nil below 400
		var status *retry.StatusError
		if errors.As(failure, &status) && json.Unmarshal(status.Body, &answer) == nil && answer.Error.Code == "insufficient_quota" {
			return retry.Permanent(failure)
		}
		return nil // judged by its status
	})
	client, err := retry.NewRetryableClient(nil, retry.Config{}, quota)
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Get(context.Background(), server.URL)
	var status *retry.StatusError
	fmt.Println(errors.As(err, &status), status.StatusCode, attempts)
	// Output: true 429 1
}

// retrieveError has the shape of golang.org/x/oauth2's *RetrieveError, which comes
// out of a client whose transport fetches a token.
type retrieveError struct {
	Response  *http.Response
	ErrorCode string
}

func (e *retrieveError) Error() string { return "oauth2: " + e.ErrorCode }

// A token that was revoked does not come back by asking again; a token server that
// is overloaded may.
func ExampleRetryable() {
	cfg := retry.Config{
		InitialDelay: time.Millisecond,
		RetryIf: func(err error) bool {
			var token *retrieveError // *oauth2.RetrieveError
			if errors.As(err, &token) {
				return token.Response.StatusCode >= 500
			}
			return retry.Retryable(err)
		},
	}
	attempts := 0
	err := retry.Run(context.Background(), cfg, func(context.Context) error {
		attempts++
		return &retrieveError{&http.Response{StatusCode: 400}, "invalid_grant"}
	})
	fmt.Println(err, attempts)
	// Output: oauth2: invalid_grant 1
}

// A request with headers of one's own, and JSON both ways.
func ExampleNewJSONRequest() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"symbol":"BRCA1","as":%q}`, r.Header.Get("X-User"))
	}))
	defer server.Close()

	client, err := retry.NewRetryableClient(nil, retry.Config{})
	if err != nil {
		log.Fatal(err)
	}
	req, err := retry.NewJSONRequest(context.Background(), http.MethodPut, server.URL, map[string]string{"symbol": "BRCA1"})
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("X-User", "curator")
	gene, err := retry.Fetch(client, req, retry.DecodeJSON[map[string]string])
	fmt.Println(gene["symbol"], gene["as"], err)
	// Output: BRCA1 curator <nil>
}

// What the client made for each host, to be shown on a page or to an operator.
func ExampleOnHost() {
	breakers := make(map[string]*retry.CircuitBreaker) // guard it, where requests go out side by side
	script := retrytest.NewScriptFunc(exampleT{}, func(retrytest.Request) retrytest.Answer { return retrytest.Status(503, "") })
	client, err := retry.NewRetryableClient(script.Client(), quick,
		retry.HostBreaker(retry.BreakerConfig{FailureThreshold: 2}),
		retry.OnHost(func(host string, cfg retry.Config) { breakers[host] = cfg.Breaker }))
	if err != nil {
		fmt.Println(err)
		return
	}
	client.Get(context.Background(), "https://genes.example/BRCA1")
	for host, breaker := range breakers {
		fmt.Println(host, breaker.State())
	}
	// Output: https://genes.example open
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A signature that is valid for a moment is made for each attempt.
func ExampleWrapTransport() {
	script := retrytest.NewScript(exampleT{}, retrytest.Status(503, ""), retrytest.Status(204, ""))
	signed := 0
	sign := func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			signed++
			req = req.Clone(req.Context()) // it is the caller's
			req.Header.Set("X-Signature", fmt.Sprint("signature ", signed))
			return base.RoundTrip(req)
		})
	}
	client, err := retry.NewRetryableClient(script.Client(), quick, retry.WrapTransport(sign))
	if err != nil {
		fmt.Println(err)
		return
	}
	client.Get(context.Background(), "https://genes.example/BRCA1")
	for _, r := range script.Requests() {
		fmt.Println(r.Header.Get("X-Signature"))
	}
	// Output:
	// signature 1
	// signature 2
}

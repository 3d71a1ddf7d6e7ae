// Command llm asks a language model several questions at once, over an API that streams
// its answers, is overloaded now and then, and meters tokens:
//
//	go run ./examples/llm
//	go run ./examples/llm -tokens 90
//
// The API is played by a stand-in on loopback (server.go), which answers as those of the
// known providers do: 429 where the tokens of a minute are used up, 529 and 503, an
// overload that shows in the first event of a 200, and an answer that breaks off. Each
// question gets one whole answer all the same. With -tokens the program keeps to a limit
// of its own, below that of the API, and is not refused.
//
// What there is to learn is in newClient and ask.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/sse"
)

const (
	maxTokens = 40 // of one answer
	parallel  = 3  // questions at a time
)

// newClient returns the one client for the API. A limit of 0 is none of its own.
func newClient(base *http.Client, tokensPerSecond float64, report func(retry.Event)) (*retry.RetryableClient, error) {
	cfg := retry.Config{
		Name:       "model",
		MaxRetries: 6, InitialDelay: 200 * time.Millisecond, MaxDelay: 10 * time.Second, Jitter: retry.FullJitter,
		MaxElapsed: 2 * time.Minute, // of a call until its last event
		OnWait:     func(_ context.Context, e retry.Event) { report(e) },
	}
	if tokensPerSecond > 0 {
		cfg.Limiter = tokenLimiter{rate.NewLimiter(rate.Limit(tokensPerSecond), 2*maxTokens)}
	}
	return retry.NewRetryableClient(base, cfg, // the base's Timeout ends with the headers in a stream
		retry.IdleTimeout(5*time.Second), // and this guards what follows; pings of the API count
		retry.CheckResponse(overloaded),
		retry.HostBreaker(retry.BreakerConfig{FailureRate: 0.5, RecoveryTimeout: 5 * time.Second, RecoveryJitter: 0.2}))
}

// tokenLimiter lets requests through by what they cost, of which ask says how much.
type tokenLimiter struct{ *rate.Limiter }

type costKey struct{}

func (l tokenLimiter) Wait(ctx context.Context) error {
	cost, _ := ctx.Value(costKey{}).(int)
	return l.WaitN(ctx, min(max(1, cost), l.Burst()))
}

// overloaded judges the first event of a stream before it is handed on, while the
// question can still be repeated.
func overloaded(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return nil // judged by its status: 529 is retried as a 500 is
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var event event
		if json.Unmarshal([]byte(data), &event) == nil && event.Error.Type != "" {
			return event.failure()
		}
		return nil
	}
	return nil
}

// event is what this program reads of one.
type event struct {
	Delta struct{ Text string }
	Usage struct {
		Tokens int `json:"output_tokens"`
	}
	Error struct{ Type, Message string }
}

// failure is the error that an event reports.
func (e event) failure() error {
	err := fmt.Errorf("model: %s: %s", e.Error.Type, e.Error.Message)
	switch e.Error.Type {
	case "overloaded_error", "api_error", "rate_limit_error":
		return err
	}
	return retry.Permanent(err) // what is wrong with the question stays wrong
}

// ask returns an answer, and how many tokens it took. An answer that breaks off is not
// asked for again: the model would give another one. It is continued once, from where it
// is.
func ask(ctx context.Context, client *retry.RetryableClient, url, question string) (answer string, tokens int, err error) {
	answer, tokens, err = stream(ctx, client, url, question, "")
	if errors.Is(err, retry.ErrNotIdempotent) {
		var rest string
		var more int
		rest, more, err = stream(ctx, client, url, question, answer)
		answer, tokens = answer+rest, tokens+more
	}
	return answer, tokens, err
}

// stream asks for an answer that begins with what is there of it.
func stream(ctx context.Context, client *retry.RetryableClient, url, question, begun string) (answer string, tokens int, err error) {
	ctx = context.WithValue(ctx, costKey{}, len(strings.Fields(question+" "+begun))+maxTokens)
	req, err := retry.NewJSONRequest(ctx, http.MethodPost, url+"/v1/messages", request{
		Stream: true, MaxTokens: maxTokens, Messages: []message{{"user", question}, {"assistant", begun}},
	})
	if err != nil {
		return "", 0, err
	}
	for received, err := range sse.Stream(client, req) {
		if err != nil {
			return answer, tokens, err
		}
		var event event
		if err := json.Unmarshal(received.Data, &event); err != nil {
			return answer, tokens, err
		}
		answer += event.Delta.Text // an interactive program shows it here
		tokens = max(tokens, event.Usage.Tokens)
		switch received.Type {
		case "error": // in the middle: what there is of the answer stands
			return answer, tokens, event.failure()
		case "message_stop":
			return answer, tokens, nil
		}
	}
	return answer, tokens, errors.New("model: the answer ends without message_stop")
}

// run asks all questions, prints what happens, and returns how many were answered.
func run(ctx context.Context, w io.Writer, base *http.Client, url string, tokensPerSecond float64) (answered int, err error) {
	var mu sync.Mutex // guards w and what follows
	waited := make(map[retry.Why]time.Duration)
	client, err := newClient(base, tokensPerSecond, func(e retry.Event) {
		mu.Lock()
		defer mu.Unlock()
		waited[e.Why] += e.Delay
		if e.Err != nil {
			fmt.Fprintf(w, "  attempt %d: %v; wait %v (%s)\n", e.Attempt, e.Err, e.Delay.Round(time.Millisecond), e.Why)
		}
	})
	if err != nil {
		return 0, err
	}
	var all sync.WaitGroup
	places := make(chan struct{}, parallel)
	for _, question := range questions {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			answer, tokens, err := ask(ctx, client, url, question)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fmt.Fprintf(w, "%s\n  %q, and then: %v (%s)\n", question, answer, err, retry.Outcome(err))
				return
			}
			answered++
			fmt.Fprintf(w, "%s\n  %s (%d tokens)\n", question, answer, tokens)
		})
	}
	all.Wait()
	fmt.Fprintf(w, "%d of %d answered; waited for", answered, len(questions))
	for _, why := range []retry.Why{retry.WaitBackoff, retry.WaitRetryAfter, retry.WaitPause, retry.WaitBreaker, retry.WaitLimiter} {
		fmt.Fprintf(w, " %s %v", why, waited[why].Round(10*time.Millisecond))
	}
	fmt.Fprintln(w)
	return answered, nil
}

func main() {
	tokens := flag.Float64("tokens", 0, "tokens per second that the program allows itself; 0: as many as the API does")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	model := newModel()
	server := httptest.NewServer(model)
	defer server.Close()
	answered, err := run(ctx, os.Stdout, &http.Client{Timeout: 10 * time.Second}, server.URL, *tokens)
	fmt.Println(model)
	if err != nil || answered < len(questions) {
		fmt.Fprintln(os.Stderr, "llm: not all questions were answered", err)
		os.Exit(1)
	}
}

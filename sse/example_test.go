package sse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/sse"
)

// A stand-in for the API of a language model, which is overloaded at first, then silent,
// and then answers.
func model() *httptest.Server {
	requests := 0
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		w.Header().Set("Content-Type", "text/event-stream")
		switch requests {
		case 1:
			fmt.Fprint(w, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n")
		case 2:
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			for _, text := range []string{"BRCA1", " repairs", " DNA."} {
				fmt.Fprintf(w, "event: delta\ndata: {\"text\":%q}\n\n", text)
			}
			fmt.Fprint(w, "event: stop\ndata: {}\n\n")
		}
	}))
}

// overloaded looks at the first event before anything of it is handed on: an overload
// that the model reports there is retried.
func overloaded(resp *http.Response) error {
	var seen []byte
	for buffer := make([]byte, 512); !bytes.Contains(seen, []byte("\n\n")); {
		n, err := resp.Body.Read(buffer)
		if seen = append(seen, buffer[:n]...); err != nil {
			break // what is wrong with the stream shows when it is read
		}
	}
	if strings.HasPrefix(string(seen), "event: error") && bytes.Contains(seen, []byte("overloaded_error")) {
		return errors.New("model overloaded")
	}
	return nil
}

// The answer of a language model, as it is written. A connection that falls silent is
// given up after IdleTimeout, and the question asked again, as long as no part of an
// answer was seen.
func ExampleStream() {
	server := model()
	defer server.Close()
	cfg := retry.Config{
		InitialDelay: 10 * time.Millisecond,
		OnRetry: func(_ context.Context, e retry.Event) {
			fmt.Println("retry:", strings.ReplaceAll(e.Err.Error(), server.URL, "http://model.example"))
		},
	}
	client, err := retry.NewRetryableClient(nil, cfg, retry.IdleTimeout(400*time.Millisecond), retry.CheckResponse(overloaded))
	if err != nil {
		fmt.Println(err)
		return
	}
	req, err := retry.NewJSONRequest(context.Background(), http.MethodPost, server.URL+"/v1/messages", map[string]any{
		"stream": true, "prompt": "What does BRCA1 do?",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Accept", "text/event-stream")
	for event, err := range sse.Stream(client, req) {
		if err != nil {
			fmt.Println("answer ends early:", err) // errors.Is(err, retry.ErrNotIdempotent): what was printed stands
			break
		}
		var delta struct{ Text string }
		if err := json.Unmarshal(event.Data, &delta); err != nil {
			fmt.Println(err)
			break
		}
		fmt.Print(delta.Text)
	}
	fmt.Println()
	// Output:
	// retry: model overloaded
	// retry: Post "http://model.example/v1/messages": event stream at byte 0: no byte of the body within 400ms (IdleTimeout)
	// BRCA1 repairs DNA.
}

// A feed of events is followed for ever: each time that its connection ends, it is asked
// for what came after the last event. Here the server ends it with a 204 in the end.
func ExampleStream_feed() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last := 0
		fmt.Sscan(r.Header.Get("Last-Event-ID"), &last)
		if last >= 4 {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry: 5\n")
		for id := last + 1; id <= last+2; id++ {
			fmt.Fprintf(w, "id: %d\nevent: release\ndata: Ensembl %d\n\n", id, 112+id)
		}
	}))
	defer server.Close()
	cfg := retry.Config{MaxRetries: retry.Unlimited, InitialDelay: time.Millisecond, MaxDelay: time.Minute}
	client, err := retry.NewRetryableClient(nil, cfg, retry.IdleTimeout(5*time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	req, err := http.NewRequest(http.MethodGet, server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range sse.Stream(client, req) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(event.ID, event.Type, string(event.Data))
	}
	// Output:
	// 1 release Ensembl 113
	// 2 release Ensembl 114
	// 3 release Ensembl 115
	// 4 release Ensembl 116
}

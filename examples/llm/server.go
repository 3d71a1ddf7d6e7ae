package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type request struct {
	Stream    bool      `json:"stream"`
	MaxTokens int       `json:"max_tokens"`
	Messages  []message `json:"messages"`
}

var questions = []string{"What does BRCA1 do?", "What does PKD1 do?", "What does TTN do?", "What does CFTR do?", "What does HTT do?", "What does DMD do?"}

var answers = map[string]string{
	"What does BRCA1 do?": "It repairs DNA that is broken on both strands.",
	"What does PKD1 do?":  "It makes polycystin-1, by which cells of the kidney feel the flow.",
	"What does TTN do?":   "It makes titin, the spring of the muscle, and the longest protein known.",
	"What does CFTR do?":  "It makes a channel that lets chloride through the membrane.",
	"What does HTT do?":   "It makes huntingtin, which nerve cells need to carry their cargo.",
	"What does DMD do?":   "It makes dystrophin, which ties the muscle fibre to what surrounds it.",
}

// What the API does wrong, by the number of the request that it lets pass.
var faults = map[int]string{2: "529", 4: "error event", 5: "503", 7: "cut"}

const (
	tokensPerSecond = 100
	tokenBurst      = 150
	wordTime        = 10 * time.Millisecond
)

// model is the stand-in for the API.
type model struct {
	mu     sync.Mutex // guards the fields below
	tokens float64
	filled time.Time
	passed int
	counts map[string]int // by what was done
}

func newModel() *model {
	return &model{tokens: tokenBurst, filled: time.Now(), counts: make(map[string]int)}
}

// take takes tokens from the meter, or returns when there will be enough of them; and what
// the API shall do with the request.
func (m *model) take(cost float64) (wait time.Duration, fault string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.tokens = min(tokenBurst, m.tokens+now.Sub(m.filled).Seconds()*tokensPerSecond)
	m.filled = now
	if missing := cost - m.tokens; missing > 0 {
		m.counts["429"]++
		return time.Duration(missing / tokensPerSecond * float64(time.Second)), ""
	}
	m.tokens -= cost
	m.passed++
	fault = faults[m.passed]
	if fault == "" {
		m.counts["answered"]++
	} else {
		m.counts[fault]++
	}
	return 0, fault
}

func (m *model) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("The API answered %d requests, and refused %d (429); %d times it was overloaded (529), %d times in the first event, and %d times down (503); %d answers broke off.",
		m.counts["answered"], m.counts["429"], m.counts["529"], m.counts["error event"], m.counts["503"], m.counts["cut"])
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in request
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Messages) != 2 {
		http.Error(w, `{"type": "error", "error": {"type": "invalid_request_error"}}`, http.StatusBadRequest)
		return
	}
	question, begun := in.Messages[0].Content, in.Messages[1].Content
	wait, fault := m.take(float64(len(strings.Fields(question+" "+begun)) + in.MaxTokens))
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		w.Header().Set("Anthropic-Ratelimit-Tokens-Limit", strconv.Itoa(tokensPerSecond*60))
		w.Header().Set("Anthropic-Ratelimit-Tokens-Remaining", "0")
		w.Header().Set("Anthropic-Ratelimit-Tokens-Reset", time.Now().Add(wait).UTC().Format(time.RFC3339))
		problem(w, http.StatusTooManyRequests, "rate_limit_error")
		return
	}
	switch fault {
	case "529":
		problem(w, 529, "overloaded_error")
		return
	case "503":
		problem(w, http.StatusServiceUnavailable, "api_error")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if fault == "error event" {
		emit(w, "error", `{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}`)
		return
	}
	emit(w, "message_start", `{"type": "message_start", "message": {"usage": {"output_tokens": 0}}}`)
	words := strings.SplitAfter(strings.TrimPrefix(answers[question], begun), " ")
	for n, word := range words {
		if fault == "cut" && n == len(words)/2 {
			panic(http.ErrAbortHandler)
		}
		text, _ := json.Marshal(word)
		emit(w, "content_block_delta", fmt.Sprintf(`{"type": "content_block_delta", "delta": {"type": "text_delta", "text": %s}, "usage": {"output_tokens": %d}}`, text, n+1))
		time.Sleep(wordTime)
	}
	emit(w, "message_stop", `{"type": "message_stop"}`)
}

func problem(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type": "error", "error": {"type": %q}}`, kind)
}

func emit(w http.ResponseWriter, kind, data string) {
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, data)
	w.(http.Flusher).Flush()
}

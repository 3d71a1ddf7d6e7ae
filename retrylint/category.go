package retrylint

import (
	"fmt"
	"strings"
)

// A category is one kind of finding. Each can be switched off.
type category struct {
	name    string
	doc     string // what is wrong, and why that hurts
	anchor  string // of docs/adopting.md
	example string // code that has it
}

const adopting = "https://github.com/retryutils/retry/blob/main/docs/adopting.md"

// categories lists every category, those of hand-written loops first.
var categories = []category{
	{"loop", "A hand-written retry loop: something that can fail is done again until it does not.", "a-counted-loop",
		"for i := 0; i < 3; i++ {\n\tif err = ping(ctx); err == nil {\n\t\tbreak\n\t}\n\ttime.Sleep(time.Second)\n}"},
	{"context", "The loop is deaf while it sleeps: a cancelled caller waits to the end of the sleep.", "context",
		"time.Sleep(delay) // between two attempts"},
	{"unbounded", "Nothing but success ends the loop: no count, no deadline, no context.", "an-endless-loop",
		"for {\n\tif err := dial(); err == nil {\n\t\treturn\n\t}\n\ttime.Sleep(time.Second)\n}"},
	{"last-sleep", "It sleeps once more after the last attempt, only to give up.", "a-counted-loop",
		"for i := 0; i < 3; i++ {\n\tif err = f(); err == nil {\n\t\treturn nil\n\t}\n\ttime.Sleep(time.Second) // also when i == 2\n}\nreturn err"},
	{"jitter", "The delay has no random part: callers that failed together come back together.", "jitter",
		"time.Sleep(time.Second << attempt)"},
	{"no-wait", "It tries again at once, without any wait: a dependency in trouble gets more load, not less.", "a-counted-loop",
		"for i := 0; i < 3; i++ {\n\tif err = f(); err == nil {\n\t\treturn nil\n\t}\n}"},
	{"overflow", "The delay grows without a ceiling: by shift or product it becomes hours, then negative.", "backoff",
		"delay *= 2 // and nothing limits it"},
	{"unit", "A duration without a unit is in nanoseconds.", "backoff",
		"time.Sleep(5000)"},
	{"retry-all", "Every error is retried, those that cannot change too: a wrong password, a 404, a cancelled context.", "which-errors",
		"if err != nil {\n\ttime.Sleep(time.Second)\n\tcontinue\n}"},
	{"body-reuse", "The request's body was read by the first attempt; the next one sends none, or fails.", "http",
		"req, err := http.NewRequest(\"POST\", url, body)\nfor i := 0; i < 3; i++ {\n\tresp, err = client.Do(req)\n\t…\n}"},
	{"body-close", "The response that is dropped before the next attempt is not closed, or only when the function returns: its connection is lost.", "http",
		"if resp.StatusCode >= 500 {\n\tcontinue // resp.Body stays open\n}"},
	{"header-add", "Header.Add in the loop adds the header once more in every round.", "http",
		"for i := 0; i < 3; i++ {\n\treq.Header.Add(\"Authorization\", token)\n\tresp, err = client.Do(req)\n\t…\n}"},
	{"break-select", "The break leaves only the select or switch, not the loop.", "context",
		"select {\ncase <-ctx.Done():\n\tbreak\ncase <-time.After(delay):\n}"},
	{"retry-after", "A status is retried and the server's Retry-After not looked at.", "http",
		"if resp.StatusCode == 429 {\n\tresp.Body.Close()\n\ttime.Sleep(time.Second)\n\tcontinue\n}"},
	{"last-error", "Giving up, it returns an error that does not say why the attempts failed.", "a-counted-loop",
		"return errors.New(\"too many attempts\")"},

	{"unchecked", "The error of a constructor of package retry is discarded: what it returns may be nil.", "the-library",
		"breaker, _ := retry.NewCircuitBreaker(cfg)"},
	{"per-call", "A breaker, budget or gate is made for each call: it never sees a second one.", "the-library",
		"breaker, err := retry.NewCircuitBreaker(bc)\n…\nreturn retry.Run(ctx, retry.Config{Breaker: breaker}, f)"},
	{"nested", "A retry within a retry of the same call: the attempts multiply.", "the-library",
		"retry.Run(ctx, cfg, func(ctx context.Context) error {\n\treturn retry.Run(ctx, cfg, f)\n})"},
	{"no-timeout", "An *http.Client without any time limit: an attempt that hangs is never retried.", "the-library",
		"retry.NewRetryableClient(http.DefaultClient, retry.Config{})"},
	{"clock", "The Config has one clock and its breaker or gate another: a test with a fake one never sees it recover.", "the-library",
		"breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})\n…\ncfg := retry.Config{Clock: clockwork.NewFakeClock(), Breaker: breaker}"},
}

func categoryOf(name string) *category {
	for i := range categories {
		if categories[i].name == name {
			return &categories[i]
		}
	}
	panic("retrylint: no category " + name)
}

func (c *category) url() string { return adopting + "#" + c.anchor }

// documentation is what -h shows.
func documentation() string {
	var b strings.Builder
	b.WriteString("find hand-written retry loops, and what is wrong with them\n\n")
	b.WriteString("Each category can be switched off by its flag, and is linked to its part of\n" + adopting + ".\n")
	b.WriteString("//nolint:retrylint, or //retrylint:ignore with a reason, at a line, on the line\nbefore, or at the beginning of the loop, silences it.\n")
	for _, c := range categories {
		fmt.Fprintf(&b, "\n%s: %s\n\n", c.name, c.doc)
		for line := range strings.SplitSeq(c.example, "\n") {
			b.WriteString("\t" + line + "\n")
		}
	}
	return b.String()
}

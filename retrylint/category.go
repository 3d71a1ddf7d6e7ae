package retrylint

import (
	"fmt"
	"strings"
)

// A Category is one kind of finding. Each can be switched off.
type Category struct {
	Name     string
	Severity string // "error": wrong whatever happens; "warning": harmful under failure; "note"
	Doc      string // what is wrong, and the damage
	Example  string // code that has it
	anchor   string // of docs/adopting.md
}

const adopting = "https://github.com/retryutils/retry/blob/main/docs/adopting.md"

// categories lists every category, those of hand-written loops first.
var categories = []Category{
	{"loop", "warning", "A hand-written retry loop: an operation that can fail is repeated until it succeeds.",
		"for i := 0; i < 3; i++ {\n\tif err = ping(ctx); err == nil {\n\t\tbreak\n\t}\n\ttime.Sleep(time.Second)\n}", "a-counted-loop"},
	{"context", "warning", "The loop ignores its context while it waits: a cancelled caller waits to the end of the sleep.",
		"time.Sleep(delay) // between two attempts", "context"},
	{"unbounded", "warning", "Only success ends the loop: no count, no deadline, no context.",
		"for {\n\tif err := dial(); err == nil {\n\t\treturn\n\t}\n\ttime.Sleep(time.Second)\n}", "an-endless-loop"},
	{"last-sleep", "note", "It waits once more after the last attempt, only to give up.",
		"for i := 0; i < 3; i++ {\n\tif err = f(); err == nil {\n\t\treturn nil\n\t}\n\ttime.Sleep(time.Second) // also when i == 2\n}\nreturn err", "a-counted-loop"},
	{"jitter", "note", "The delay has no random part: callers that failed together retry together.",
		"time.Sleep(time.Second << attempt)", "jitter"},
	{"no-wait", "warning", "It retries without a wait: an overloaded dependency gets more load, not less. Only reported where it is asked for.",
		"for i := 0; i < 3; i++ {\n\tif err = f(); err == nil {\n\t\treturn nil\n\t}\n}", "a-counted-loop"},
	{"overflow", "error", "The delay grows without a ceiling: by shift or product it becomes hours, then negative.",
		"delay *= 2 // and nothing limits it", "backoff"},
	{"unit", "error", "A duration without a unit is in nanoseconds.",
		"time.Sleep(5000)", "backoff"},
	{"retry-all", "warning", "Every error is retried, permanent ones too: a wrong password, a 404, a cancelled context.",
		"if err != nil {\n\ttime.Sleep(time.Second)\n\tcontinue\n}", "which-errors"},
	{"body-reuse", "error", "The request's body was read by the first attempt; the next one sends none, or fails.",
		"req, err := http.NewRequest(\"POST\", url, body)\nfor i := 0; i < 3; i++ {\n\tresp, err = client.Do(req)\n\t…\n}", "http"},
	{"body-close", "warning", "The response that is dropped before the next attempt is not closed, or only when the function returns: its connection is lost.",
		"if resp.StatusCode >= 500 {\n\tcontinue // resp.Body stays open\n}", "http"},
	{"header-add", "error", "Header.Add in the loop adds the header once more in every round.",
		"for i := 0; i < 3; i++ {\n\treq.Header.Add(\"Authorization\", token)\n\tresp, err = client.Do(req)\n\t…\n}", "http"},
	{"break-select", "error", "The break leaves only the select or switch, not the loop.",
		"select {\ncase <-ctx.Done():\n\tbreak\ncase <-time.After(delay):\n}", "context"},
	{"retry-after", "warning", "A status is retried, and the server's Retry-After is not applied.",
		"if resp.StatusCode == 429 {\n\tresp.Body.Close()\n\ttime.Sleep(time.Second)\n\tcontinue\n}", "http"},
	{"last-error", "warning", "Giving up, it returns an error that does not say why the attempts failed.",
		"return errors.New(\"too many attempts\")", "a-counted-loop"},

	{"unchecked", "error", "The error of a constructor of package retry is discarded: the other result may be nil.",
		"breaker, _ := retry.NewCircuitBreaker(cfg)", "the-library"},
	{"per-call", "error", "A breaker, budget, gate or client is made for each call: it never sees a second one.",
		"breaker, err := retry.NewCircuitBreaker(bc)\n…\nreturn retry.Run(ctx, retry.Config{Breaker: breaker}, f)", "the-library"},
	{"nested", "warning", "A retry within a retry of the same call: the outer one repeats nothing that the inner one gave up on.",
		"retry.Run(ctx, cfg, func(ctx context.Context) error {\n\treturn retry.Run(ctx, cfg, f)\n})", "the-library"},
	{"no-timeout", "warning", "An *http.Client without any time limit: an attempt that hangs is never retried.",
		"retry.NewRetryableClient(http.DefaultClient, retry.Config{})", "the-library"},
	{"clock", "error", "The Config has one clock and its breaker or gate another: a test with a fake one never sees it recover.",
		"breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{})\n…\ncfg := retry.Config{Clock: clockwork.NewFakeClock(), Breaker: breaker}", "the-library"},
	{"outer-context", "error", "The function that is retried uses the context of the function around it: AttemptTimeout and RetryCount do not reach what it calls.",
		"retry.Run(ctx, cfg, func(context.Context) error {\n\treturn ping(ctx)\n})", "the-library"},
	{"retry-if", "warning", "RetryIf retries every error that it does not name, those that package retry knows to be permanent too.",
		"retry.Config{RetryIf: func(err error) bool { return !errors.Is(err, errBusy) }}", "which-errors"},
	{"used-body", "error", "The response leaves the function that decodes it: Fetch closes its body before it can be read.",
		"resp, err := retry.Fetch(client, req, func(resp *http.Response) (*http.Response, error) { return resp, nil })", "the-library"},
}

// Categories returns the names of all categories.
func Categories() []string {
	names := make([]string, len(categories))
	for i, c := range categories {
		names[i] = c.Name
	}
	return names
}

// Optional returns the names of the categories that are only reported where they are asked
// for: of their findings in code that was new to the analyzer, too few were true.
func Optional() []string { return []string{"no-wait"} }

// CategoryOf returns the category of this name. It panics if there is none.
func CategoryOf(name string) Category {
	for _, c := range categories {
		if c.Name == name {
			return c
		}
	}
	panic("retrylint: no category " + name)
}

// URL returns the address of the page that shows how to do without it.
func (c Category) URL() string { return adopting + "#" + c.anchor }

// documentation is what -h shows.
func documentation() string {
	var b strings.Builder
	b.WriteString("find hand-written retry loops, and what is wrong with them\n\n")
	b.WriteString("Each category can be switched off, or on, by its flag, and is linked to its part of\n" + adopting + ".\n")
	b.WriteString("//nolint:retrylint, or //retrylint:ignore with a reason, at a line, on the line\nbefore, at the beginning of the loop, or above the function, silences it.\n")
	for _, c := range categories {
		fmt.Fprintf(&b, "\n%s (%s): %s\n\n", c.Name, c.Severity, c.Doc)
		for line := range strings.SplitSeq(c.Example, "\n") {
			b.WriteString("\t" + line + "\n")
		}
	}
	return b.String()
}

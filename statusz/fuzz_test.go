package statusz_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/statusz"
)

// FuzzPage puts a secret where a URL has one into errors that the page shows, and a tag into
// the names: neither gets through, in HTML and in JSON.
func FuzzPage(f *testing.F) {
	f.Add("https", "h.example", "/gene", "key", "hgnc")
	f.Add("mailto", "[::1", "%zz", "", "\x00\xff")
	f.Fuzz(func(t *testing.T, scheme, host, path, key, name string) {
		const secret = "S3CR3Tt0ken"
		name = "<i>" + name
		page := statusz.New()
		breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		page.Breaker(breaker)
		page.Gate(name, retry.NewGate(nil))
		cfg := page.Watch(retry.Config{Name: name, Breaker: breaker, MaxRetries: retry.NoRetries})
		for _, raw := range []string{
			scheme + "://user:" + secret + "@" + host + path, scheme + "://" + host + path + "?" + key + "=" + secret, scheme + "://" + host + path + "#" + secret,
		} {
			if u, err := url.Parse(raw); err == nil && (strings.Contains(u.Path, secret) || strings.Contains(u.Host, secret)) {
				continue // by its place it is none
			}
			for _, failure := range []error{&url.Error{Op: "Get", URL: raw, Err: io.EOF}, fmt.Errorf("fetch: %w", &retry.StatusError{StatusCode: 503, URL: raw, Header: http.Header{"Authorization": {secret}}})} {
				_ = retry.Run(t.Context(), cfg, func(context.Context) error { return failure })
				for _, form := range []string{"html", "json"} {
					shown := httptest.NewRecorder()
					page.ServeHTTP(shown, httptest.NewRequest(http.MethodGet, "/?format="+form, nil))
					if text := shown.Body.String(); strings.Contains(text, secret) || form == "html" && strings.Contains(text, "<i>") {
						t.Fatalf("%v: %s", failure, text)
					}
				}
			}
		}
	})
}

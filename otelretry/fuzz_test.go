package otelretry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/otelretry"
)

// FuzzAttributes puts a secret wherever a request has a place for one, and fails it: no
// name, attribute, event or status of a span has it, and no attribute of a metric.
func FuzzAttributes(f *testing.F) {
	f.Add("https", "h.example", "/gene", "key", "GET", uint8(0))
	f.Add("http", "[::1]:x", "/%zz?", "a&b", "BREW", uint8(1))
	f.Fuzz(func(t *testing.T, scheme, host, path, key, method string, way uint8) {
		const secret = "S3CR3Tt0ken"
		p := newProbe(t)
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			switch way % 3 {
			case 0:
				return nil, &url.Error{Op: "Get", URL: req.URL.String(), Err: io.EOF}
			case 1:
				return nil, fmt.Errorf("fetch: %w", &url.Error{Op: "Get", URL: req.URL.String(), Err: io.EOF})
			}
			return &http.Response{StatusCode: 503, Body: http.NoBody, Request: req, Header: http.Header{"Set-Cookie": {secret}}}, nil
		})
		client, err := retry.NewRetryableClient(&http.Client{Transport: base}, p.instrument(retry.Config{MaxRetries: 1, InitialDelay: 1}), otelretry.Options(p.opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range []url.URL{
			{Scheme: scheme, Host: host, Path: path, User: url.UserPassword("user", secret)},
			{Scheme: scheme, Host: host, Path: path, User: url.User(secret), RawQuery: key + "=" + secret},
			{Scheme: scheme, Host: host, Path: path, RawQuery: secret, Fragment: secret},
			{Scheme: scheme, Host: host, Opaque: "//" + host + path + "?" + key + "=" + secret},
		} {
			resp, err := client.Do(&http.Request{Method: method, URL: &u, Header: http.Header{"Authorization": {secret}}})
			if err == nil {
				resp.Body.Close()
			}
			transport, _ := otelretry.NewTransport(base, p.opts...)
			_, _ = transport.RoundTrip(&http.Request{Method: method, URL: &u, Header: http.Header{}})
		}
		var all metricdata.ResourceMetrics
		if err := p.reader.Collect(context.Background(), &all); err != nil {
			t.Fatal(err)
		}
		shown := fmt.Sprintf("%+v", all.ScopeMetrics)
		for _, span := range p.spans.Ended() {
			shown += fmt.Sprintln(span.Name(), span.Attributes(), span.Events(), span.Status())
		}
		if strings.Contains(shown, secret) {
			t.Errorf("shows the secret: %s", shown)
		}
	})
}

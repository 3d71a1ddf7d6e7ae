package retryafter_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/retryutils/retry/internal/retryafter"
)

// What public services send, and the wait that a careful client takes. The values
// are those of their documentation, moved to noon where they are times.
func TestServices(t *testing.T) {
	for _, test := range []struct {
		service string
		status  int
		fields  string
		want    time.Duration
	}{
		// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
		{"GitHub, primary limit", 403, `
			x-ratelimit-limit: 5000
			x-ratelimit-remaining: 0
			x-ratelimit-used: 5000
			x-ratelimit-reset: 1795437000
			x-ratelimit-resource: core`, 30*time.Minute + time.Second},
		{"GitHub, secondary limit", 403, `
			retry-after: 60
			x-ratelimit-limit: 5000
			x-ratelimit-remaining: 4983
			x-ratelimit-used: 17
			x-ratelimit-reset: 1795437000
			x-ratelimit-resource: core`, time.Minute},
		{"GitHub, search", 429, `
			x-ratelimit-limit: 30
			x-ratelimit-remaining: 0
			x-ratelimit-used: 30
			x-ratelimit-reset: 1795435242
			x-ratelimit-resource: search`, 43 * time.Second},
		{"GitHub, no permission", 403, `
			x-ratelimit-limit: 5000
			x-ratelimit-remaining: 4983
			x-ratelimit-reset: 1795437000`, none},

		// https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#response-headers
		{"GitLab", 429, `
			RateLimit-Limit: 60
			RateLimit-Name: throttle_authenticated_web
			RateLimit-Observed: 67
			RateLimit-Remaining: 0
			RateLimit-Reset: 1795435230
			RateLimit-ResetTime: Mon, 23 Nov 2026 12:00:30 GMT
			Retry-After: 30`, 30 * time.Second},
		{"GitLab, no permission", 403, `
			RateLimit-Limit: 2000
			RateLimit-Name: throttle_authenticated_api
			RateLimit-Observed: 20
			RateLimit-Remaining: 1980
			RateLimit-Reset: 1795435260
			RateLimit-ResetTime: Mon, 23 Nov 2026 12:01:00 GMT`, none},

		// https://docs.stripe.com/rate-limits, https://docs.stripe.com/error-low-level
		{"Stripe", 429, `
			Stripe-Rate-Limited-Reason: global-concurrency
			Stripe-Should-Retry: true`, none},

		// https://shopify.dev/docs/api/admin-rest/usage/rate-limits
		{"Shopify", 429, `
			X-Shopify-Shop-Api-Call-Limit: 40/40
			Retry-After: 2.0`, 2 * time.Second},

		// https://docs.slack.dev/apis/web-api/rate-limits
		{"Slack", 429, `Retry-After: 30`, 30 * time.Second},

		// https://discord.com/developers/docs/topics/rate-limits
		{"Discord, one route", 429, `
			X-RateLimit-Limit: 10
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 1795435264.57
			X-RateLimit-Reset-After: 64.57
			X-RateLimit-Bucket: abcd1234
			X-RateLimit-Scope: user`, 64570 * time.Millisecond},
		{"Discord, global", 429, `
			Retry-After: 65
			X-RateLimit-Global: true
			X-RateLimit-Scope: global`, 65 * time.Second},

		// https://docs.x.com/x-api/fundamentals/rate-limits
		{"X, 15 minutes", 429, `
			x-rate-limit-limit: 900
			x-rate-limit-remaining: 0
			x-rate-limit-reset: 1795435800`, 10*time.Minute + time.Second},
		{"X, the day of a user", 429, `
			x-rate-limit-limit: 1080000
			x-rate-limit-remaining: 1079999
			x-rate-limit-reset: 1795436100
			x-app-limit-24hour-limit: 25
			x-app-limit-24hour-remaining: 20
			x-app-limit-24hour-reset: 1795521600
			x-user-limit-24hour-limit: 17
			x-user-limit-24hour-remaining: 0
			x-user-limit-24hour-reset: 1795442400`, 2*time.Hour + time.Second},

		// https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
		{"Atlassian, hourly quota", 429, `
			X-RateLimit-Limit: 65000
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 2026-11-23T12:05Z
			RateLimit-Reason: jira-quota-global-based`, 5 * time.Minute},
		{"Atlassian, burst", 429, `
			Retry-After: 5
			X-RateLimit-Limit: 100
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 2026-11-23T12:05Z
			RateLimit-Reason: jira-burst-based`, 5 * time.Second},
		// https://community.developer.atlassian.com/t/2026-point-based-rate-limits/97828
		{"Atlassian, beta", 429, `
			Beta-Ratelimit: "tenant-app-quota";r=0;t=2788
			X-Beta-Ratelimit-Reason: jira-quota-tenant-based
			X-Beta-Ratelimit-Reset: 2026-11-23T12:00Z
			X-Ratelimit-Limit: 400
			X-Ratelimit-Remaining: 399`, 2788 * time.Second},
		// https://confluence.atlassian.com/doc/_ratelimiting_httpheaders-992678779.html
		{"Atlassian Data Center", 429, `
			X-RateLimit-Limit: 100
			X-RateLimit-Remaining: 0
			X-RateLimit-FillRate: 10
			X-RateLimit-Interval-Seconds: 60
			retry-after: 14`, 14 * time.Second},
		{"Atlassian Data Center, no permission", 403, `
			X-RateLimit-Limit: 100
			X-RateLimit-Remaining: 94
			X-RateLimit-FillRate: 10
			X-RateLimit-Interval-Seconds: 60
			retry-after: 0`, none},

		// https://developer.okta.com/docs/reference/rl-best-practices/
		{"Okta", 429, `
			X-Rate-Limit-Limit: 600
			X-Rate-Limit-Remaining: 0
			X-Rate-Limit-Reset: 1795435260`, 61 * time.Second},

		// https://auth0.com/docs/troubleshoot/customer-support/operational-policies/rate-limit-policy
		{"Auth0", 429, `
			x-ratelimit-limit: 10
			x-ratelimit-remaining: 0
			x-ratelimit-reset: 1795435201`, 2 * time.Second},
		// https://auth0.com/docs/fine-grained-m2m-token-quotas
		{"Auth0, quota of a client", 429, `
			Auth0-Client-Quota-Limit: b=per_hour;q=100;r=0;t=1482,b=per_day;q=300;r=200;t=44682
			Auth0-Organization-Quota-Limit: b=per_hour;q=900;r=7;t=1482,b=per_day;q=9000;r=8000;t=44682`, 1482 * time.Second},

		// https://www.twilio.com/docs/api/errors/20429
		{"Twilio", 429, `Twilio-Concurrent-Requests: 35`, none},
		// https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits
		{"SendGrid", 429, `
			X-RateLimit-Limit: 500
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 1795435260`, 61 * time.Second},

		// https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
		{"OpenAI", 429, `
			x-ratelimit-limit-requests: 60
			x-ratelimit-limit-tokens: 150000
			x-ratelimit-remaining-requests: 0
			x-ratelimit-remaining-tokens: 149984
			x-ratelimit-reset-requests: 1s
			x-ratelimit-reset-tokens: 6m0s`, time.Second},
		// https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py
		{"OpenAI, with milliseconds", 429, `
			retry-after: 1
			retry-after-ms: 583
			x-should-retry: true`, 583 * time.Millisecond},
		// https://console.groq.com/docs/rate-limits
		{"Groq", 429, `
			x-ratelimit-limit-requests: 14400
			x-ratelimit-limit-tokens: 18000
			x-ratelimit-remaining-requests: 0
			x-ratelimit-remaining-tokens: 17997
			x-ratelimit-reset-requests: 2m59.56s
			x-ratelimit-reset-tokens: 7.66s`, 179560 * time.Millisecond},

		// https://platform.claude.com/docs/en/api/rate-limits#response-headers
		{"Anthropic", 429, `
			anthropic-ratelimit-requests-limit: 50
			anthropic-ratelimit-requests-remaining: 0
			anthropic-ratelimit-requests-reset: 2026-11-23T12:00:12Z
			anthropic-ratelimit-input-tokens-limit: 40000
			anthropic-ratelimit-input-tokens-remaining: 0
			anthropic-ratelimit-input-tokens-reset: 2026-11-23T12:00:48Z
			anthropic-ratelimit-output-tokens-limit: 8000
			anthropic-ratelimit-output-tokens-remaining: 8000
			anthropic-ratelimit-output-tokens-reset: 2026-11-23T13:00:00Z`, 48 * time.Second},
		{"Anthropic, with Retry-After", 429, `
			retry-after: 13
			anthropic-ratelimit-requests-remaining: 0
			anthropic-ratelimit-requests-reset: 2026-11-23T12:00:12Z
			x-should-retry: true`, 13 * time.Second},
		{"Anthropic, overloaded", 529, `
			x-should-retry: true
			anthropic-ratelimit-requests-remaining: 49
			anthropic-ratelimit-requests-reset: 2026-11-23T12:00:12Z`, none},

		// https://cloud.google.com/storage/docs/retry-strategy
		{"Google Cloud", 429, `Server: ESF`, none},

		// https://learn.microsoft.com/azure/cosmos-db/nosql/troubleshoot-request-rate-too-large
		{"Azure Cosmos DB", 429, `x-ms-retry-after-ms: 1520`, 1520 * time.Millisecond},
		// https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
		{"Azure Resource Manager", 429, `
			Retry-After: 17
			x-ms-ratelimit-remaining-subscription-reads: 0`, 17 * time.Second},
		// https://learn.microsoft.com/azure/governance/resource-graph/concepts/guidance-for-throttled-requests
		{"Azure Resource Graph", 429, `
			x-ms-user-quota-remaining: 0
			x-ms-user-quota-resets-after: 00:00:03`, 3 * time.Second},
		// https://learn.microsoft.com/azure/ai-services/openai/how-to/quota
		{"Azure OpenAI", 429, `
			retry-after: 20
			retry-after-ms: 19400
			x-ratelimit-reset-requests: 60`, 19400 * time.Millisecond},
		// https://learn.microsoft.com/graph/throttling
		{"Microsoft Graph", 429, `
			Retry-After: 10
			RateLimit-Limit: 1200
			RateLimit-Remaining: 0
			RateLimit-Reset: 9`, 10 * time.Second},

		// https://github.com/aws/aws-sdk-cpp/issues/3832
		{"AWS", 503, `x-amz-retry-after: 1500`, 1500 * time.Millisecond},
		// https://developer-docs.amazon.com/sp-api/docs/usage-plans-and-rate-limits
		{"Amazon SP-API", 429, `x-amzn-RateLimit-Limit: 0.0167`, none},

		// https://developers.cloudflare.com/fundamentals/api/reference/limits/
		{"Cloudflare", 429, `
			Ratelimit: "default";r=0;t=43
			Ratelimit-Policy: "default";q=1200;w=300
			retry-after: 43`, 43 * time.Second},

		// https://github.com/Ensembl/ensembl-rest/wiki/Rate-Limits
		{"Ensembl", 429, `
			Retry-After: 40.0
			X-RateLimit-Limit: 55000
			X-RateLimit-Reset: 892
			X-RateLimit-Period: 3600
			X-RateLimit-Remaining: 54710`, 40 * time.Second},
		{"Ensembl, the hour", 429, `
			X-RateLimit-Limit: 55000
			X-RateLimit-Reset: 892
			X-RateLimit-Period: 3600
			X-RateLimit-Remaining: 0`, 892 * time.Second},

		// https://www.ncbi.nlm.nih.gov/books/NBK25497/; what is sent: https://github.com/ropensci/taxize/issues/722
		{"NCBI", 429, `
			X-RateLimit-Limit: 3
			X-RateLimit-Remaining: 0`, none},
		{"NCBI, formerly", 429, `
			Retry-After: 2
			X-RateLimit-Limit: 3
			X-RateLimit-Remaining: 0`, 2 * time.Second},

		// https://github.com/broadinstitute/gnomad-browser/blob/main/graphql-api/src/graphql/rate-limiting.ts: by its body alone
		{"gnomAD", 400, `Content-Type: application/json`, none},

		// https://support.reddithelp.com/hc/en-us/articles/16160319875092-Reddit-Data-API-Wiki
		{"Reddit", 429, `
			X-Ratelimit-Used: 996
			X-Ratelimit-Remaining: 0.0
			X-Ratelimit-Reset: 214`, 214 * time.Second},

		// https://linear.app/developers/rate-limiting
		{"Linear", 400, `
			X-Complexity: 120
			X-RateLimit-Requests-Limit: 5000
			X-RateLimit-Requests-Remaining: 4912
			X-RateLimit-Requests-Reset: 1795438800000
			X-RateLimit-Complexity-Limit: 250000
			X-RateLimit-Complexity-Remaining: 0
			X-RateLimit-Complexity-Reset: 1795436100000`, 15 * time.Minute},

		// https://api-dashboard.search.brave.com/documentation/guides/rate-limiting
		{"Brave", 429, `
			X-RateLimit-Limit: 1, 15000
			X-RateLimit-Policy: 1;w=1, 15000;w=2592000
			X-RateLimit-Remaining: 0, 14999
			X-RateLimit-Reset: 1, 1419704`, time.Second},
		{"Brave, the month", 429, `
			X-RateLimit-Limit: 1, 15000
			X-RateLimit-Policy: 1;w=1, 15000;w=2592000
			X-RateLimit-Remaining: 1, 0
			X-RateLimit-Reset: 1, 1419704`, 1419704 * time.Second},

		// https://docs.docker.com/reference/api/hub/latest/, also before https://github.com/docker/docs/pull/22916
		{"Docker Hub", 429, `
			X-RateLimit-Limit: 180
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 1795435260
			X-Retry-After: 1795435260`, time.Minute},
		// https://docs.docker.com/docker-hub/usage/pulls/
		{"Docker Hub, pulls", 429, `
			ratelimit-limit: 100;w=21600
			ratelimit-remaining: 0;w=21600
			docker-ratelimit-source: 192.0.2.1`, none},

		// https://developer.zendesk.com/documentation/api-basics/best-practices/best-practices-for-avoiding-rate-limiting
		{"Zendesk, an endpoint", 429, `
			x-rate-limit: 700
			ratelimit-limit: 700
			x-rate-limit-remaining: 699
			ratelimit-remaining: 699
			ratelimit-reset: 41
			zendesk-ratelimit-tickets-index: total=100; remaining=0; resets=43`, 43 * time.Second},

		// https://docs.bigcommerce.com/docs/start/best-practices/api-rate-limits
		{"BigCommerce", 429, `
			X-Rate-Limit-Time-Window-Ms: 30000
			X-Rate-Limit-Time-Reset-Ms: 15000
			X-Rate-Limit-Requests-Quota: 150
			X-Rate-Limit-Requests-Left: 0`, 15 * time.Second},

		// https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines
		{"HubSpot", 429, `
			X-HubSpot-RateLimit-Interval-Milliseconds: 10000
			X-HubSpot-RateLimit-Max: 100
			X-HubSpot-RateLimit-Remaining: 0`, none},

		// https://www.surveymonkey.com/developer/docs/ (api.surveymonkey.com/v3/docs#headers)
		{"SurveyMonkey", 429, `
			X-Ratelimit-App-Global-Minute-Limit: 120
			X-Ratelimit-App-Global-Minute-Remaining: 0
			X-Ratelimit-App-Global-Minute-Reset: 44
			X-Ratelimit-App-Global-Day-Limit: 500
			X-Ratelimit-App-Global-Day-Remaining: 310
			X-Ratelimit-App-Global-Day-Reset: 43200`, 44 * time.Second},

		// https://developers.zoom.us/docs/api/rate-limits/
		{"Zoom, the day", 429, `
			X-RateLimit-Category: Heavy
			X-RateLimit-Type: Daily-limit
			X-RateLimit-Limit: 60000
			X-RateLimit-Remaining: 0
			Retry-After: 2026-11-24T00:00:00Z`, 12 * time.Hour},

		// https://docs.gusto.com/embedded-payroll/changelog/added-rate-limit-headers
		{"Gusto", 429, `
			X-RateLimit-Limit: 200
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 2026-11-23 05:00:30 -0700`, 30 * time.Second},

		// https://developer.lemlist.com/api-reference/getting-started/rate-limits
		{"lemlist", 429, `
			X-RateLimit-Limit: 20
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: Mon Nov 23 2026 13:00:02 GMT+0100 (Central European Standard Time)`, 2 * time.Second},

		// https://techdocs.akamai.com/msl/reference/resource-limiting
		{"Akamai", 429, `
			X-RateLimit-Limit: 60
			X-RateLimit-Remaining: 0
			X-RateLimit-Next: 2026-11-23T12:00:07.250Z`, 7250 * time.Millisecond},

		// https://developers-classic.mailerlite.com/docs/api-rate-limits
		{"MailerLite", 429, `
			X-RateLimit-Limit: 60
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 2026-11-23 12:00:59
			X-RateLimit-Retry-After: 59`, 59 * time.Second},

		// https://developers.brevo.com/docs/limit-headers
		{"Brevo", 429, `
			x-sib-ratelimit-limit: 1000
			x-sib-ratelimit-remaining: 0
			x-sib-ratelimit-reset: 1200`, 20 * time.Minute},

		// https://docs.agent.ai/ratelimits
		{"agent.ai", 429, `
			ratelimit-limit: 1000
			ratelimit-remaining: 0
			ratelimit-reset: 1795435500
			ratelimit-reset-date: 2026-11-23T12:05:00.000Z`, 5*time.Minute + time.Second},

		// https://developer.atlassian.com/server/hipchat/hipchat-rest-api-rate-limits/
		{"HipChat, a room", 429, `
			X-Ratelimit-Limit: 500
			X-Ratelimit-Remaining: 499
			X-Ratelimit-Reset: 1795435499
			X-FloodControl-Limit: 30
			X-FloodControl-Remaining: 0
			X-FloodControl-Reset: 1795435220`, 21 * time.Second},

		// https://apidocs.imgur.com/#rate-limits
		{"Imgur", 429, `
			X-RateLimit-UserLimit: 500
			X-RateLimit-UserRemaining: 0
			X-RateLimit-UserReset: 1795438799
			X-RateLimit-ClientLimit: 12500
			X-RateLimit-ClientRemaining: 12000
			X-Post-Rate-Limit-Limit: 1250
			X-Post-Rate-Limit-Remaining: 1250
			X-Post-Rate-Limit-Reset: 3600`, time.Hour},

		// https://docs.developer.yelp.com/docs/fusion-rate-limiting
		{"Yelp", 429, `
			RateLimit-DailyLimit: 5000
			RateLimit-Remaining: 0
			RateLimit-ResetTime: 2026-11-24T00:00:00+00:00`, 12 * time.Hour},

		// https://developer.vimeo.com/guidelines/rate-limiting
		{"Vimeo", 429, `
			X-RateLimit-Limit: 100
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 2026-11-23T12:00:45+00:00`, 45 * time.Second},

		// https://docs.mapbox.com/api/guides/#rate-limits
		{"Mapbox", 429, `
			X-Rate-Limit-Interval: 60
			X-Rate-Limit-Limit: 300
			X-Rate-Limit-Reset: 1795435219`, 20 * time.Second},
		{"Mapbox, its own failure", 500, `
			X-Rate-Limit-Interval: 60
			X-Rate-Limit-Limit: 300
			X-Rate-Limit-Reset: 1795435219`, none},

		// https://docs.rapidapi.com/docs/response-headers
		{"RapidAPI", 429, `
			X-RateLimit-Requests-Limit: 500
			X-RateLimit-Requests-Remaining: 0
			X-RateLimit-Requests-Reset: 1730600
			X-RateLimit-rapid-free-plans-hard-limit-Limit: 500000
			X-RateLimit-rapid-free-plans-hard-limit-Remaining: 499000
			X-RateLimit-rapid-free-plans-hard-limit-Reset: 2330600`, 1730600 * time.Second},

		// https://developer.konghq.com/plugins/rate-limiting/
		{"Kong", 429, `
			RateLimit-Limit: 5
			RateLimit-Remaining: 0
			RateLimit-Reset: 34
			X-RateLimit-Limit-Minute: 5
			X-RateLimit-Remaining-Minute: 0
			X-RateLimit-Limit-Hour: 1000
			X-RateLimit-Remaining-Hour: 994`, 34 * time.Second},

		// https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/rate_limit_filter
		{"Envoy", 429, `
			x-envoy-ratelimited: true
			x-ratelimit-limit: 10, 10;w=1;name="per-ip", 1000;w=3600
			x-ratelimit-remaining: 0
			x-ratelimit-reset: 1`, time.Second},

		// https://github.com/bucket4j/bucket4j-spring-boot-starter, and many tutorials
		{"Bucket4j", 429, `
			X-Rate-Limit-Remaining: 0
			X-Rate-Limit-Retry-After-Seconds: 49`, 49 * time.Second},

		// https://github.com/animir/node-rate-limiter-flexible/wiki
		{"rate-limiter-flexible", 429, `
			Retry-After: 0.75
			X-RateLimit-Limit: 6
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: Mon Nov 23 2026 12:00:01 GMT+0000 (Coordinated Universal Time)`, 750 * time.Millisecond},

		// https://github.com/openclaw/clawhub/issues/407
		{"ClawHub", 429, `
			Retry-After: 1795435240
			X-RateLimit-Limit: 20
			X-RateLimit-Remaining: 0
			X-RateLimit-Reset: 1795435240`, 40 * time.Second},
	} {
		t.Run(test.service, func(t *testing.T) {
			h := http.Header{}
			for line := range strings.Lines(test.fields) {
				if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
					h.Add(name, value)
				}
			}
			got, ok := retryafter.Parse(h, at(noon), test.status == http.StatusTooManyRequests)
			assert.Equal(t, test.want != none, ok, fmt.Sprint(h))
			assert.Equal(t, max(0, test.want), got)
		})
	}
}

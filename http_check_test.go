package retry_test

import (
	"errors"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

// A wrong setting of one host among many was found by its first request, at three in
// the morning. Check makes the settings of all hosts that are known, and sends nothing.
func TestCheckFindsWrongSettingsAtStart(t *testing.T) {
	errSecretMissing := errors.New("no token for the host")
	client, err := retry.NewRetryableClient(&http.Client{Transport: retrytest.NewScript(t)}, retry.Config{},
		retry.HostBreaker(retry.BreakerConfig{}), retry.PerHost(func(host string, cfg *retry.Config) error {
			switch host {
			case "https://hgnc.test":
				cfg.AttemptTimeout = time.Second
			case "https://wrong.test":
				cfg.MaxRetries = -7
			case "https://missing.test:8443":
				return errSecretMissing
			}
			return nil
		}))
	require.NoError(t, err)
	require.NoError(t, client.Check())
	require.NoError(t, client.Check("https://hgnc.test/fetch", "https://HGNC.test:443", "http://[::1]:80/x"))
	hosts := maps.Collect(client.Hosts())
	require.Len(t, hosts, 2, "each host once, however its URL is spelled")
	assert.Equal(t, time.Second, hosts["https://hgnc.test"].AttemptTimeout, "as PerHost left it")
	assert.NotNil(t, hosts["https://hgnc.test"].Gate)
	assert.Equal(t, "https://hgnc.test", hosts["https://hgnc.test"].Breaker.Name())
	assert.Contains(t, hosts, "http://[::1]")

	err = client.Check("https://wrong.test", "https://fine.test", "https://missing.test:8443/a", "rest.ensembl.org/x",
		"localhost:80", "127.0.0.1:80", "/x", "", "https://user:pw@%zz/?key=hidden")
	require.ErrorIs(t, err, retry.ErrInvalidConfig)
	assert.ErrorIs(t, err, errSecretMissing)
	for _, text := range []string{"host https://wrong.test", "MaxRetries is -7", "host https://missing.test:8443", `"rest.ensembl.org/x"`, `"/x"`} {
		assert.ErrorContains(t, err, text)
	}
	joined := err.(interface{ Unwrap() []error }).Unwrap()
	assert.Len(t, joined, 8)
	for _, each := range joined {
		assert.ErrorIs(t, each, retry.ErrInvalidConfig)
	}
	assert.NotContains(t, err.Error(), "hidden")
	assert.NotContains(t, err.Error(), "pw")
	assert.Contains(t, maps.Collect(client.Hosts()), "https://fine.test")
	assert.NotContains(t, maps.Collect(client.Hosts()), "https://wrong.test")
}

// Hosts are listed in order, whoever met them, and a loop over them may end early and
// may use the client.
func TestHostsOfAClient(t *testing.T) {
	client, err := retry.NewRetryableClient(&http.Client{Transport: retrytest.NewScriptFunc(t, func(retrytest.Request) retrytest.Answer {
		return retrytest.Status(200, "")
	})}, retry.Config{}, retry.HostKey(func(req *http.Request) string { return req.Header.Get("Tenant") + req.URL.Query().Get("secret") }))
	require.NoError(t, err)
	for range client.Hosts() {
		t.Error("there is none yet")
	}
	resp, err := client.StandardClient().Get("https://b.test/?secret=s1")
	require.NoError(t, err)
	resp.Body.Close()
	require.NoError(t, client.Check("https://c.test:444/?secret=s2", "https://a.test/?secret=s3", "https://a.test/?secret=s4", "https://d.test/"))
	var names []string
	for name, cfg := range client.Hosts() {
		names = append(names, name)
		assert.Equal(t, name, cfg.Name)
		require.NoError(t, client.Check("https://late.test/?secret=s5"))
	}
	assert.Equal(t, []string{"https://a.test", "https://a.test", "https://b.test", "https://c.test:444"}, names, "a key is shown nowhere, and a host without one is not remembered")
	for range client.Hosts() {
		break
	}
}

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The log, the page and the metrics each show the cause of an incident, of real processes
// with nothing but what the examples and the documents advise.
func TestCausesShow(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	dir := t.TempDir()
	require.NoError(t, run(t.Context(), dir, time.Second, 7*time.Second, false))
	for incident, want := range map[string]struct{ log, page, metrics string }{
		"down": {
			`msg="circuit breaker changed state" name=uniprot .* cause="5 failures in a row" .* connection refused`,
			`attempts in 5m failed with connect .*the dependency is down or cannot be reached\..*The circuit breaker is`,
			`retry_calls_total{host="\S+",name="uniprot",retry_outcome="circuit_open"} [1-9]`,
		},
		"pause": {
			`msg=pausing .* name=ensembl .* status=429 delay=(10m0s|9m59s) until=`,
			`Paused for another (10m0s|9m\d+s), until .* \(the server asked for (10m0s|9m59s) at .*429 Too Many Requests.*end at once`,
			`retry_gate_pause_remaining_seconds{host="\S+",name="ensembl"} 5\d\d`,
		},
		"deadline": {
			`name=ensembl .* reason="context deadline exceeded \(the caller's\)" elapsed=4[5-9]\dms`,
			`calls in 5m ended with deadline: their callers had allowed 4[45]0ms`,
			`retry_calls_total{host="\S+",name="ensembl",retry_outcome="deadline"} [1-9]`,
		},
		"setting": {
			`name=hgnc .* no answer within 200ms \(AttemptTimeout\)`,
			`attempts in 5m failed with timeout \(\d+, after 2\d0ms\)(?s:.*)attempt_timeout=200ms`,
			`retry_retries_total{error_type="timeout",host="\S+",name="hgnc"} [1-9]`,
		},
		"backend": {
			`msg=retrying attempt=1 name=uniprot .* status=502`,
			`attempts in 5m failed with 502 .*it is not down. One of several backends`,
			`retry_retries_total{error_type="502",host="\S+",name="uniprot"} [1-9]`,
		},
	} {
		for file, pattern := range map[string]string{"service.log": want.log, "page.html": want.page, "metrics.txt": want.metrics} {
			text, err := os.ReadFile(filepath.Join(dir, incident, file))
			require.NoError(t, err)
			assert.Regexp(t, pattern, string(text), "%s, %s", incident, file)
		}
	}
}

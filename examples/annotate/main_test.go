package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/retrytest"
)

func annotate(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

// The run that newcomers see: one service is down, four others fail in their own
// ways and recover.
func TestDefaultRun(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := annotate(t.Context(), "-metrics")
	require.Zero(t, code, stderr)
	assert.Empty(t, stderr)
	for _, want := range []string{
		"BRCA1\n  hgnc     HGNC:1100, BRCA1 DNA repair associated, 17q21.31\n  ensembl  ENSG00000012048, protein_coding\n",
		"  uniprot  breaker open for another ",
		"connection reset by peer", "200 OK: body cut off", "429 Too Many Requests", "all calls pause for ",
		"400 Bad Request: Query rate limit exceeded.", "-- breaker closed -> open: 503 Service Unavailable",
		"uniprot, breaker open", "30 of 36 lookups answered",
	} {
		assert.Contains(t, stdout, want)
	}
	for _, want := range []string{
		`retry_calls_total\{host="http://127.0.0.1:\d+",name="uniprot",retry_outcome="circuit_open"\} 6`,
		`retry_breaker_state\{host="http://127.0.0.1:\d+",name="uniprot",retry_breaker_state="open"\} 1`,
	} {
		assert.Regexp(t, want, stdout)
	}
}

func TestHelp(t *testing.T) {
	code, stdout, stderr := annotate(t.Context(), "-h")
	assert.Zero(t, code)
	assert.Empty(t, stderr)
	for _, want := range []string{"Usage: annotate", "-live", "-html", "-listen", "RETRY_MAX_RETRIES", "Exit codes"} {
		assert.Contains(t, stdout, want)
	}
	for _, symbol := range defaultSymbols {
		assert.Contains(t, stdout, symbol)
	}
}

// What cannot work is reported in one line, before anything is asked.
func TestBadInput(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for want, c := range map[string]struct {
		code int
		args []string
	}{
		"flag provided but not defined: -frob":                         {2, []string{"-frob"}},
		`"../x" is not a gene symbol`:                                  {2, []string{"TTN", "../x"}},
		`flag -html has an empty value`:                                {2, []string{"-html", ""}},
		`"" is not a gene symbol`:                                      {2, []string{""}},
		"flag needs an argument: -html":                                {2, []string{"-html"}},
		`invalid value "hgnc" for flag -at: want api=url`:              {2, []string{"-at", "hgnc"}},
		`invalid value "x=http://h" for flag -at: there is no API "x"`: {2, []string{"-at", "x=http://h"}},
		"cannot write /no/such/place/t.html: ":                         {1, []string{"-html", "/no/such/place/t.html", "TTN"}},
		"cannot write " + os.TempDir() + ": is a directory":            {1, []string{"-html", os.TempDir(), "TTN"}},
		"cannot serve metrics: listen tcp " + taken.Addr().String():    {1, []string{"-listen", taken.Addr().String(), "TTN"}},
	} {
		code, stdout, stderr := annotate(t.Context(), c.args...)
		assert.Equal(t, c.code, code, want)
		assert.Empty(t, stdout)
		assert.True(t, strings.HasPrefix(stderr, "annotate: "+want), stderr)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	}
}

func TestBadEnvironment(t *testing.T) {
	for variable, value := range map[string]string{
		"RETRY_MAX_RETRIES": "many", "RETRY_HGNC_MAX_DELAY": "-1s", "RETRY_BREAKER_FAILURE_RATE": "2",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			code, stdout, stderr := annotate(t.Context(), "TTN")
			assert.Equal(t, 2, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, variable)
			assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
		})
	}
}

// Ctrl-C in the middle: what is there is shown, what is not is named.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer interrupt()
	start := time.Now()
	code, stdout, stderr := annotate(ctx)
	assert.Equal(t, 130, code)
	assert.Less(t, time.Since(start), grace+10*time.Second)
	assert.Contains(t, stdout, "lookups answered")
	assert.Regexp(t, `^annotate: interrupted; not done: .* at string\n$`, stderr)
}

func TestOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	assert.Equal(t, 1, run(t.Context(), []string{"WT1"}, brokenWriter{}, &stderr))
	assert.Equal(t, "annotate: writing: disk full\n", stderr.String())
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// Without a network there is one line, and not one for each lookup; and it comes
// soon: six genes queued for half a minute at the one that allows nine calls a
// minute, in silence.
func TestNoNetwork(t *testing.T) {
	for name, c := range map[string]struct {
		answer retrytest.Answer
		soon   time.Duration
		want   string
	}{
		"refused": {retrytest.Refused(), 0, "dial tcp: connect: connection refused"},
		"silence": {retrytest.Hang(), 15 * time.Second, "context deadline exceeded"}, // an attempt's timeout
	} {
		t.Run(name, func(t *testing.T) {
			_, err := retrytest.Bubble(t, retry.Config{}, func(t *testing.T, _ retry.Config) error {
				d, err := configure(options{}, io.Discard)
				require.NoError(t, err)
				d.apis = apis()
				script := retrytest.NewScriptFunc(t, func(retrytest.Request) retrytest.Answer { return c.answer })
				d.transport = script
				s, err := newAnnotator(d)
				require.NoError(t, err)
				start := time.Now()
				r := &report{defaultSymbols, d.apis, s.annotate(t.Context(), defaultSymbols, grace, func() {}), s.breakers, d.timeline, time.Now()}
				assert.Equal(t, c.soon, time.Since(start))
				assert.LessOrEqual(t, len(script.Requests()), 3*len(d.apis))
				return r.deliver(t.Context(), options{}, s.metrics, io.Discard)
			})
			require.ErrorContains(t, err, "no answer from any service, the first one: "+c.want)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

// That one of them cannot be reached is no reason to end the others.
func TestOneUnreachable(t *testing.T) {
	_, err := retrytest.Bubble(t, retry.Config{}, func(t *testing.T, _ retry.Config) error {
		d, err := configure(options{}, io.Discard)
		require.NoError(t, err)
		for _, a := range apis() {
			if a.name == "uniprot" || a.name == "string" {
				d.apis = append(d.apis, a)
			}
		}
		d.transport = retrytest.NewScriptFunc(t, func(r retrytest.Request) retrytest.Answer {
			if strings.Contains(r.URL, "uniprot") {
				return retrytest.Refused()
			}
			return json200(`[{"preferredName_B":"BARD1"}]`).After(time.Second)
		})
		s, err := newAnnotator(d)
		require.NoError(t, err)
		for _, l := range s.annotate(t.Context(), []string{"BRCA1", "TTN"}, grace, func() {}) {
			if l.API == "string" {
				assert.NoError(t, l.err)
			} else {
				assert.ErrorIs(t, l.err, syscall.ECONNREFUSED)
			}
		}
		return nil
	})
	require.NoError(t, err)
}

func TestListen(t *testing.T) {
	stop, err := serveMetrics("127.0.0.1:0", prometheus.NewRegistry())
	require.NoError(t, err)
	stop()
}

// probe measures the page from within: text that is too small, or that does not
// fit, and rows that are not to be seen.
const probe = `<script>addEventListener('load', () => {
  const all = [...document.querySelectorAll('td, th, p, h1, h2')];
  const small = all.filter(e => e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 12).length;
  const cut = all.filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline').length;
  const seen = [...document.querySelectorAll('tr.attempt')].filter(e => e.getBoundingClientRect().height > 10 && e.querySelector('.axis i').getBoundingClientRect().width >= 2).length;
  document.title = 'probe small=' + small + ' cut=' + cut + ' wide=' + Math.max(0, document.documentElement.scrollWidth - innerWidth) + ' seen=' + seen;
})</script>`

// The page in a real browser, at 1280 pixels. CI insists on there being one.
func TestPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "timeline.html")
	code, stdout, stderr := annotate(t.Context(), "-html", file)
	require.Zero(t, code, stderr)
	match := regexp.MustCompile(`with (\d+) attempts`).FindStringSubmatch(stdout)
	require.NotNil(t, match)
	attempts, _ := strconv.Atoi(match[1])

	page, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, attempts, bytes.Count(page, []byte(`<tr class="attempt">`)), "a row for each attempt")
	assert.NotContains(t, string(page), "ZgotmplZ")
	assert.NotRegexp(t, `(?:src|href)=|@import|url\(`, string(page), "self-contained")

	browser, err := exec.LookPath("chromium")
	if err != nil {
		require.Empty(t, os.Getenv("NEED_BROWSER"), "no chromium")
		t.Skip("no chromium")
	}
	probed := filepath.Join(dir, "probed.html")
	require.NoError(t, os.WriteFile(probed, append(page, probe...), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000",
		"--user-data-dir="+filepath.Join(dir, "profile"), "--enable-logging=stderr", "--dump-dom", "file://"+probed)
	var dom, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &dom, &log
	require.NoError(t, cmd.Run(), log.String())
	_, title, _ := strings.Cut(dom.String(), "<title>")
	title, _, _ = strings.Cut(title, "</title>")
	assert.Equal(t, "probe small=0 cut=0 wide=0 seen="+match[1], title)
	assert.NotContains(t, log.String(), "CONSOLE", "no script error")
}

// A service that is asked to stop answers what it has accepted, with what its lookups
// found so far, and begins neither a wait nor a retry for it: TERM at a random moment
// loses no request.
func TestServeLosesNoRequest(t *testing.T) {
	t.Parallel()
	ctx, term := context.WithCancel(t.Context())
	defer term()
	reader, writer := io.Pipe()
	code := make(chan int)
	go func() { code <- run(ctx, []string{"-serve", "127.0.0.1:0"}, io.Discard, writer) }()
	line, err := bufio.NewReader(reader).ReadString('\n')
	require.NoError(t, err)
	address := regexp.MustCompile(`http://[\d.:]+`).FindString(line)
	page, err := http.Get(address + "/debug/retry")
	require.NoError(t, err)
	text, err := io.ReadAll(page.Body)
	page.Body.Close()
	require.NoError(t, err)
	for _, api := range apis() {
		assert.Contains(t, string(text), ">"+api.name+"<")
	}
	answers := make(chan string)
	for _, symbol := range []string{"BRCA1", "PKD1", "TTN"} {
		go func() {
			resp, err := http.Get(address + "/gene/" + symbol)
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			answers <- string(body)
		}()
	}
	require.Eventually(t, func() bool { // the lookups are under way, and some wait
		page, err := http.Get(address + "/debug/retry?format=json")
		if err != nil {
			return false
		}
		defer page.Body.Close()
		text, _ := io.ReadAll(page.Body)
		return bytes.Contains(text, []byte(`"for": "backoff"`)) || bytes.Contains(text, []byte(`"for": "retry-after"`))
	}, 10*time.Second, time.Millisecond)
	term()
	for range 3 {
		answer := <-answers
		assert.True(t, strings.HasPrefix(answer, "{") && strings.Contains(answer, `"uniprot"`), answer)
	}
	assert.Zero(t, <-code)
	_, err = http.Get(address + "/gene/BRCA1")
	assert.Error(t, err, "no new one is accepted")
}

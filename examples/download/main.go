// Command download fetches files, several at a time, and goes on with what an earlier run
// began:
//
//	go run ./examples/download
//	go run ./examples/download -dir data -sha256 2c26…,fcde… https://…/a.vcf.bgz https://…/b.vcf.bgz
//
// Without a URL it fetches three files from a server of its own, on loopback, whose
// connections break again and again. What there is to learn about packages retry and
// download is in this file.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/download"
)

type options struct {
	dir      string
	parallel int
	sums     [][]byte
	urls     []string
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("download", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.dir, "dir", ".", "the `directory` for the files")
	flags.IntVar(&o.parallel, "parallel", 3, "how many files at a time")
	sums := flags.String("sha256", "", "the files' SHA-256 in hexadecimal, one for each URL, separated by `commas`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.urls = flags.Args()
	if o.parallel < 1 {
		return o, fmt.Errorf("-parallel is %d, want 1 or more", o.parallel)
	}
	if *sums == "" {
		return o, nil
	}
	for _, text := range strings.Split(*sums, ",") {
		sum, err := hex.DecodeString(strings.TrimSpace(text))
		if err != nil || len(sum) != sha256.Size {
			return o, fmt.Errorf("-sha256: %q is no SHA-256, want 64 hexadecimal digits", text)
		}
		o.sums = append(o.sums, sum)
	}
	if len(o.sums) != len(o.urls) {
		return o, fmt.Errorf("-sha256 has %d sums for %d URLs, want one for each", len(o.sums), len(o.urls))
	}
	return o, nil
}

// newClient returns a client for long files: patient with a server that is away, and not
// with one that falls silent.
func newClient(retried func(error), soon bool) (*retry.RetryableClient, error) {
	cfg := retry.Config{
		MaxRetries: 10, // since the last byte that came
		OnRetry:    func(_ context.Context, e retry.Event) { retried(e.Err) },
	}
	if soon { // the server on loopback is back at once
		cfg.InitialDelay, cfg.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	}
	return retry.NewRetryableClient(nil, cfg, retry.IdleTimeout(30*time.Second))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "download:", err)
		return 2
	}
	standIn := len(o.urls) == 0
	if standIn {
		var stop func()
		o.urls, o.sums, stop = serve()
		defer stop()
	}
	if err := os.MkdirAll(o.dir, 0o777); err != nil {
		fmt.Fprintln(stderr, "download:", err)
		return 1
	}
	bar := newTotal(stderr, len(o.urls))
	client, err := newClient(func(error) { bar.retried() }, standIn)
	if err != nil {
		fmt.Fprintln(stderr, "download:", err)
		return 2
	}
	defer client.CloseIdleConnections()

	results, failures := make([]download.Result, len(o.urls)), make([]error, len(o.urls))
	slots := make(chan struct{}, o.parallel)
	var all sync.WaitGroup
	for i, u := range o.urls {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			opts := []download.Option{download.Progress(func(done, total int64) { bar.set(i, done, total) })}
			if o.sums != nil {
				opts = append(opts, download.Checksum(sha256.New(), o.sums[i]))
			}
			results[i], failures[i] = download.File(ctx, client, u, target(o.dir, u), opts...)
		})
	}
	all.Wait()
	bar.finish()

	code := 0
	for i, u := range o.urls {
		name := target(o.dir, u)
		if failures[i] != nil {
			fmt.Fprintf(stderr, "%s: %v\n", name, failures[i])
			code = 1
			continue
		}
		fmt.Fprintf(stdout, "%s: %d bytes", name, results[i].Bytes)
		if resumed := results[i].Resumed; resumed > 0 {
			fmt.Fprintf(stdout, ", %d of them there before", resumed)
		}
		if o.sums != nil {
			fmt.Fprint(stdout, ", SHA-256 as expected")
		}
		fmt.Fprintln(stdout)
	}
	fmt.Fprintf(stdout, "%d connections broke\n", bar.retries)
	return code
}

// target is the path of the file that a URL names.
func target(dir, raw string) string {
	name := "download"
	if u, err := url.Parse(raw); err == nil {
		if base := path.Base(u.Path); base != "." && base != "/" && base != ".." && !strings.Contains(base, `\`) {
			name = base
		}
	}
	return filepath.Join(dir, name)
}

// total shows the progress of all files together.
type total struct {
	mu          sync.Mutex // guards the fields below
	bar         *progressbar.ProgressBar
	done, sizes []int64
	retries     int
}

func newTotal(stderr io.Writer, files int) *total {
	shown := io.Discard
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		shown = stderr
	}
	return &total{
		bar: progressbar.NewOptions64(-1, progressbar.OptionSetWriter(shown), progressbar.OptionShowBytes(true),
			progressbar.OptionFullWidth(), progressbar.OptionThrottle(65*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetSpinnerChangeInterval(0)), // its goroutine reads what Set64 writes, without a lock
		done:  make([]int64, files),
		sizes: make([]int64, files),
	}
}

func (t *total) set(file int, done, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done[file], t.sizes[file] = done, max(done, size)
	var sum, most int64
	for i := range t.done {
		sum, most = sum+t.done[i], most+t.sizes[i]
	}
	if most > 0 {
		t.bar.ChangeMax64(most + 1) // it ends with finish, and not before a file that has not begun
		_ = t.bar.Set64(sum)        // what cannot be shown is no reason to stop
	}
}

func (t *total) retried() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retries++
	t.bar.Describe(fmt.Sprintf("%d retries", t.retries))
}

func (t *total) finish() { _ = t.bar.Finish() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	http.DefaultClient.CloseIdleConnections()
	os.Exit(code)
}

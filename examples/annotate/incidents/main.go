// Command incidents runs the service of examples/annotate five times, breaks each in a way
// of its own, and collects what someone on call would have: the log, the metrics, the
// alerts that fire, and the page. Can you tell what is wrong, and what to do?
//
//	go run ./examples/annotate/incidents -dir incidents
//
// It takes a quarter of an hour, since alerts look at five minutes and more. It needs
// prometheus and chromium for alerts.txt and page.png.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/retryutils/retry"
)

// incident is one way to break the service. What has no new arguments or environment is
// broken while it runs; the others are a deployment, that is a restart.
type incident struct {
	name       string
	breakIt    func(map[string]*upstream)
	args, envs []string
}

var incidents = []incident{
	{name: "down", breakIt: func(all map[string]*upstream) { all["uniprot"].server.Close() }},
	{name: "pause", breakIt: func(all map[string]*upstream) { all["ensembl"].pause(10 * time.Minute) }},
	{name: "deadline", args: []string{"-timeout", "450ms"}},
	{name: "setting", envs: []string{"RETRY_HGNC_ATTEMPT_TIMEOUT=200ms"}},
	{name: "backend", breakIt: func(all map[string]*upstream) { all["uniprot"].breakBackend(4) }},
}

func main() {
	dir := flag.String("dir", ".", "`directory` to write to")
	before := flag.Duration("before", 4*time.Minute, "how long all is well")
	after := flag.Duration("for", 450*time.Second, "how long it is not")
	flag.Parse()
	if err := run(context.Background(), *dir, *before, *after, true); err != nil {
		log.Fatal(err)
	}
}

// run makes all incidents at once. Unless they are watched there are neither alerts nor
// pictures.
func run(ctx context.Context, dir string, before, after time.Duration, watched bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	binary, err := build(ctx, dir)
	if err != nil {
		return err
	}
	defer os.Remove(binary)
	services := make([]*service, len(incidents))
	for i, each := range incidents {
		if services[i], err = newService(binary, filepath.Join(dir, each.name)); err != nil {
			return err
		}
		defer services[i].close()
	}
	var watcher *prometheus
	if watched {
		if watcher, err = startPrometheus(ctx, services); err != nil {
			return err
		}
		defer watcher.stop()
	}
	errs := make([]error, len(incidents))
	var all sync.WaitGroup
	for i, each := range incidents {
		all.Go(func() { errs[i] = services[i].run(ctx, each, before, after) })
	}
	all.Wait()
	if watched {
		for _, s := range services {
			errs = append(errs, watcher.collect(s))
		}
		for _, s := range services {
			errs = append(errs, s.screenshot(ctx))
		}
	}
	return errors.Join(errs...)
}

func build(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "annotate-service")
	command := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/retryutils/retry/examples/annotate")
	command.Stderr = os.Stderr
	return binary, command.Run()
}

// service is a process of examples/annotate, with its upstreams.
type service struct {
	binary, dir, address string
	upstreams            map[string]*upstream
	log                  *os.File
	process              *exec.Cmd
}

func newService(binary, dir string) (*service, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &service{binary: binary, dir: dir}
	var err error
	if s.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(dir, "service.log")); err != nil {
		return nil, err
	}
	s.upstreams, err = startUpstreams()
	return s, err
}

// addresses counts those given out.
var addresses atomic.Uint32

// freeAddress returns an address of this machine for a process to listen at. Where all of
// 127.0.0.0/8 is the machine itself, no listener that takes any port takes this one, before
// the process starts or while it starts again.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", 2+addresses.Add(1)%250))
	if err != nil {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func (s *service) close() {
	s.stop()
	for _, u := range s.upstreams {
		u.server.Close()
	}
	s.log.Close()
}

func (s *service) start(ctx context.Context, args, envs []string) error {
	args = append([]string{"-serve", s.address, "-v"}, args...)
	for _, name := range []string{"hgnc", "ensembl", "uniprot"} {
		args = append(args, "-at", name+"="+s.upstreams[name].address)
	}
	s.process = exec.Command(s.binary, args...)
	s.process.Env = append(os.Environ(), envs...)
	s.process.Stderr = s.log
	if err := s.process.Start(); err != nil {
		return err
	}
	soon := retry.Config{Name: "service", MaxRetries: retry.Unlimited, MaxElapsed: 20 * time.Second, Backoff: retry.ConstantBackoff(50 * time.Millisecond)}
	return retry.Run(ctx, soon, func(context.Context) error {
		_, err := s.get("/debug/retry")
		return err
	})
}

func (s *service) stop() {
	if s.process != nil {
		s.process.Process.Signal(syscall.SIGTERM)
		s.process.Wait()
		s.process = nil
	}
}

// run has all well before the incident. Users ask three times a second.
func (s *service) run(ctx context.Context, i incident, before, after time.Duration) error {
	if err := s.start(ctx, nil, nil); err != nil {
		return err
	}
	s.users(ctx, before)
	if len(i.args)+len(i.envs) > 0 {
		s.stop()
		if err := s.start(ctx, i.args, i.envs); err != nil {
			return err
		}
	}
	if i.breakIt != nil {
		i.breakIt(s.upstreams)
	}
	s.users(ctx, after)
	return s.collect()
}

func (s *service) users(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	genes := []string{"BRCA1", "PKD1", "TTN", "UMOD", "HNF1B", "WT1"}
	for ctx.Err() == nil {
		go s.get("/gene/" + genes[rand.N(len(genes))])
		select {
		case <-ctx.Done():
		case <-time.After(200*time.Millisecond + rand.N(266*time.Millisecond)):
		}
	}
}

func (s *service) get(path string) ([]byte, error) {
	resp, err := http.Get("http://" + s.address + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// collect writes what the service shows.
func (s *service) collect() error {
	var errs []error
	for name, path := range map[string]string{"metrics.txt": "/metrics", "page.html": "/debug/retry", "page.json": "/debug/retry?format=json"} {
		text, err := s.get(path)
		errs = append(errs, err, os.WriteFile(filepath.Join(s.dir, name), text, 0o644))
	}
	return errors.Join(errs...)
}

func (s *service) screenshot(ctx context.Context) error {
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		return err
	}
	defer os.RemoveAll(profile)
	return exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir="+profile,
		"--window-size=1280,2000", "--screenshot="+filepath.Join(s.dir, "page.png"), "file://"+filepath.Join(s.dir, "page.html")).Run()
}

// prometheus scrapes the services, and evaluates the repository's alerts.
type prometheus struct {
	address, dir string
	process      *exec.Cmd
}

func startPrometheus(ctx context.Context, services []*service) (*prometheus, error) {
	dir, err := os.MkdirTemp("", "prometheus")
	if err != nil {
		return nil, err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/retryutils/retry").Output()
	if err != nil {
		return nil, err
	}
	rules := filepath.Join(strings.TrimSpace(string(root)), "docs", "alerts.yml")
	var targets []string
	for _, s := range services {
		targets = append(targets, s.address)
	}
	list, err := json.Marshal(targets)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("global: {scrape_interval: 10s, evaluation_interval: 10s}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: annotate, static_configs: [{targets: %s}]}]\n", rules, list)
	p := &prometheus{dir: dir}
	if p.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	p.process = exec.CommandContext(ctx, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.address, "--log.level=warn")
	p.process.Stderr = os.Stderr
	return p, p.process.Start()
}

func (p *prometheus) stop() {
	p.process.Process.Signal(syscall.SIGTERM)
	p.process.Wait()
	os.RemoveAll(p.dir)
}

// collect writes the alerts that fire about a service.
func (p *prometheus) collect(s *service) error {
	resp, err := http.Get("http://" + p.address + "/api/v1/alerts")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels, Annotations map[string]string
				State               string
				ActiveAt            time.Time
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	var texts []string
	for _, a := range answer.Data.Alerts {
		mine := false
		for _, u := range s.upstreams {
			mine = mine || a.Labels["host"] == u.address
		}
		if mine && a.State == "firing" {
			texts = append(texts, fmt.Sprintf("FIRING %s (%s) since %s\n  name=%s host=%s\n  %s\n  %s\n  runbook: %s\n",
				a.Labels["alertname"], a.Labels["severity"], a.ActiveAt.UTC().Format("15:04:05 MST"), a.Labels["name"], a.Labels["host"],
				a.Annotations["summary"], a.Annotations["description"], a.Annotations["runbook_url"]))
		}
	}
	if slices.Sort(texts); len(texts) == 0 {
		texts = []string{"No alert fires.\n"}
	}
	return os.WriteFile(filepath.Join(s.dir, "alerts.txt"), []byte(strings.Join(texts, "\n")), 0o644)
}

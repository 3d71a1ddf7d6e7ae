package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/retryutils/retry"
)

// Config says which fleet a process joins, and how careful the fleet is. Only
// Name is needed.
type Config struct {
	// Name is the fleet's: 1 to 64 letters, digits, dots, dashes and
	// underscores. All keys and the channel in Redis begin with it.
	Name string

	// A breaker opens on the word of others when at least Quorum processes (0
	// means 2), and at least this share of those alive (0 means 0.1), agree.
	Quorum      int
	QuorumShare float64

	// A process agrees when its own breaker is open, or when it is closed and so
	// many calls in a row have failed. 0 means 2; negative: when it is open only.
	Suspicion int

	// OpenTime is for how long a breaker opens when processes agreed before
	// their own was open, and so had no time of its own yet. 0 means 5s; the
	// least is 100ms, the most an hour.
	OpenTime time.Duration

	// Lease is how often a [Rate] that is in use asks for its share, 100ms to
	// 500ms. 0 means 250ms.
	Lease time.Duration

	// Timeout is how long one answer of Redis is waited for, in the background.
	// 0 means 500ms.
	Timeout time.Duration

	// Logger is told when the connection is lost and found, and what others
	// reported. nil: silent.
	Logger *slog.Logger
}

const (
	maxTime = time.Hour // the longest pause and open time that is told or believed

	beatEvery  = time.Second // a sign of life
	beatLost   = 200 * time.Millisecond
	memberTime = 5 * time.Second // without one, a process counts as gone
	syncEvery  = 30 * time.Second
	lookEvery  = 100 * time.Millisecond // at the breakers of this process
)

var fleetName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Validate reports every field that cannot be used, one joined error each, all
// matching [retry.ErrInvalidConfig].
func (c Config) Validate() error {
	var errs []error
	require := func(ok bool, field string, value any, want string) {
		if !ok {
			errs = append(errs, invalid("Config.%s is %v, want %s", field, value, want))
		}
	}
	within := func(d, least, most time.Duration) bool { return d == 0 || d >= least && d <= most }
	require(fleetName.MatchString(c.Name), "Name", fmt.Sprintf("%.80q", c.Name), "1 to 64 letters, digits, dots, dashes and underscores")
	require(c.Quorum >= 0 && c.Quorum <= 1e6, "Quorum", c.Quorum, "a count, or 0 for the default")
	require(c.QuorumShare >= 0 && c.QuorumShare <= 1, "QuorumShare", c.QuorumShare, "a share in [0, 1]")
	require(within(c.OpenTime, 100*time.Millisecond, maxTime), "OpenTime", c.OpenTime, "100ms to 1h, or 0 for the default")
	require(within(c.Lease, 100*time.Millisecond, 500*time.Millisecond), "Lease", c.Lease, "100ms to 500ms, or 0 for the default")
	require(within(c.Timeout, 10*time.Millisecond, time.Minute), "Timeout", c.Timeout, "10ms to 1m, or 0 for the default")
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.Quorum = cmp.Or(c.Quorum, 2)
	c.QuorumShare = cmp.Or(c.QuorumShare, 0.1)
	c.Suspicion = cmp.Or(c.Suspicion, 2)
	c.OpenTime = cmp.Or(c.OpenTime, 5*time.Second)
	c.Lease = cmp.Or(c.Lease, 250*time.Millisecond)
	c.Timeout = cmp.Or(c.Timeout, 500*time.Millisecond)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler)).With("fleet", c.Name)
	return c
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("fleet: "+format+": %w", append(args, retry.ErrInvalidConfig)...)
}

// Fleet is this process as a member of a fleet. It is safe for concurrent use.
type Fleet struct {
	id    string // of this member: random, new with every Join
	cfg   Config
	store *store
	log   *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	newsDue, choresDue, lookDue signal

	link   link
	counts counts

	mu       sync.Mutex // guards the maps
	gates    map[string]*sharedGate
	breakers map[string][]*sharedBreaker
	rates    map[string]*Rate
}

// Join makes this process a member of the fleet that cfg names. It waits for
// Redis no longer than cfg.Timeout and ctx allow: whether it is there or not,
// the process is a member, and is heard as soon as Redis can be reached. The
// only error is that of a wrong cfg or a nil client. The client stays the
// caller's, who closes it after the Fleet.
func Join(ctx context.Context, client rueidis.Client, cfg Config) (*Fleet, error) {
	if ctx == nil || client == nil {
		return nil, invalid("Join: ctx or client is nil")
	}
	return join(ctx, func() (rueidis.Client, error) { return client, nil }, cfg)
}

// Dial is [Join] with a client of the Fleet's own, which [Fleet.Close] closes.
// Where rueidis.NewClient fails without a server, Dial does not: it goes on
// trying in the background.
func Dial(ctx context.Context, option rueidis.ClientOption, cfg Config) (*Fleet, error) {
	if ctx == nil || len(option.InitAddress) == 0 {
		return nil, invalid("Dial: ctx is nil or option has no InitAddress")
	}
	if option.ConnWriteTimeout == 0 {
		option.ConnWriteTimeout = 2 * time.Second // a hung connection is given up after that
	}
	option.DisableCache = true // nothing is cached, and not every server can
	f, err := join(ctx, func() (rueidis.Client, error) { return rueidis.NewClient(option) }, cfg)
	if err == nil {
		f.store.owned = true
	}
	return f, err
}

func join(ctx context.Context, dial func() (rueidis.Client, error), cfg Config) (*Fleet, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	id := make([]byte, 8)
	rand.Read(id)
	f := &Fleet{
		id:        hex.EncodeToString(id),
		cfg:       cfg.withDefaults(),
		store:     &store{dial: dial, prefix: "{retry:" + cfg.Name + "}:"},
		newsDue:   make(signal, 1),
		choresDue: make(signal, 1),
		lookDue:   make(signal, 1),
		gates:     make(map[string]*sharedGate),
		breakers:  make(map[string][]*sharedBreaker),
		rates:     make(map[string]*Rate),
	}
	f.log = f.cfg.Logger
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.link.start()
	for _, task := range []func(){f.listen, f.announce, f.keep, f.watch} {
		f.tasks.Go(task)
	}
	wait, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	select {
	case <-f.link.first:
	case <-wait.Done():
	}
	return f, nil
}

// Close leaves the fleet, and returns when nothing of it runs any more. Gates
// and breakers keep the state that they are in, and are this process's own
// again; a [Rate] goes on at its equal share. It never fails; the error
// is there for io.Closer.
func (f *Fleet) Close() error {
	f.cancel()
	f.tasks.Wait()
	f.store.close(f)
	return nil
}

// Host joins what the requests to one host share, under the host's name: its
// gate, which it gets here if it has none, and its breaker, if it has one. It
// is for [retry.PerHost]:
//
//	retry.PerHost(func(host string, cfg *retry.Config) { f.Host(host, cfg) })
func (f *Fleet) Host(host string, cfg *retry.Config) error {
	if cfg.Gate == nil {
		cfg.Gate = retry.NewGate(cfg.Clock)
	}
	if err := f.Gate(host, cfg.Gate); err != nil {
		return err
	}
	if cfg.Breaker == nil {
		return nil
	}
	return f.Breaker(host, cfg.Breaker)
}

// signal wakes a goroutine, at least once after it was given.
type signal chan struct{}

func (s signal) give() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// sleep returns after d, or when the signal was given. It is false when the
// Fleet is closed.
func (f *Fleet) sleep(d time.Duration, wake signal) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-f.ctx.Done():
	}
	return f.ctx.Err() == nil
}

// Package fleet shares what one process learns with all others: it joins the gates,
// breakers, rates and budgets of package retry in many processes over Redis or
// Valkey, at no cost per call.
//
//	f, err := fleet.Dial(ctx, rueidis.ClientOption{InitAddress: []string{"redis:6379"}}, fleet.Config{Name: "annotator"})
//	defer f.Close()
//	f.Gate("ensembl", gate)                           // a 429 of one process counts for all
//	f.Breaker("gnomad", breaker)                      // what some found dead, the others need not find
//	cfg.Limiter = f.Rate("ncbi", 3)                   // 3 a second for the whole fleet, shared out
//	cfg.Budget, err = f.Budget("ensembl", 0.1, 10)    // 10 retries saved up, and one a minute, for all together
//
// and for an HTTP client, host by host:
//
//	client, err := retry.NewRetryableClient(nil, cfg, retry.HostBreaker(retry.BreakerConfig{}), retry.PerHost(f.Host))
//
// # What is shared
//
// State stays where it is: each process counts, opens and waits for itself, and
// only conclusions are published.
//
// A pause is published when it is really longer than what the fleet knows (by 5ms to
// 100ms, a tenth of it), with the time that is left. It stays in Redis until it ends,
// for those who join later. One that code sets by [retry.Gate.Pause] stands to its end
// everywhere. That of a refusal is passed on by [retry.Gate.Refused]: in a process where
// a call that is under way is accepted, it is over. Each process adds a little (up to 5ms per member, or
// the interval of its gate's pace; 5s at most), so that they do not come back in the
// same moment.
//
// A breaker's report counts once per process. When a quorum agrees ([Config]), an
// episode begins: all open, and come to probe one after the other, at random moments
// (100ms apart on average, spread over the open time at most). A failed probe prolongs
// the episode, but never two of the same process in a row: a bad node holds no other
// up. The next comes from another process, a fifth of the open time later: none probes
// more often than it would by itself, and all know sooner. A process whose own calls
// succeeded within the last second does not follow.
//
// The first successful probe closes all, at random moments within 1ms per member.
// Where calls wait ([retry.Config].WaitWhenOpen), processes take positions in a queue,
// 5ms for each of these calls, which so go as those of one process do; until its
// position, and for OpenTime at most, a process does not probe by itself either. Where
// Redis does not answer, or all positions within OpenTime are taken, a random moment
// after Timeout takes its place.
//
// Where failures are a matter of luck, suspicion can agree by luck: with the
// defaults, and a quarter of all calls failing, a tenth of 1,000 quiet processes
// can be suspicious at a time. Set Suspicion higher, or below 0, if a dependency
// is like that.
//
// A rate is a row of slots, evenly spaced, of which each process leases some half a
// second ahead. Where processes name different rates, the lowest holds for all.
//
// A budget's ratio is that of each process's own calls; the retries that are saved up,
// and the one that accrues each minute, are the fleet's.
//
// Hosts are named in one way, however they are spelt: https://x and https://X:443 are
// one.
//
// # Why no counters and no locks
//
// A breaker that keeps its counts in Redis, or holds a lock there while it calls,
// makes every call wait for the network twice over, and fail when Redis does. Four
// commands a call are common, and a lock serializes the whole fleet. Failures
// counted together also let one bad node open the breaker of all. None of that is
// needed: a conclusion is news once a minute, not once a call. So calls read what is
// in their own memory, and Redis is used in the background.
//
// # Bounds
//
// T is [Config].Timeout, 0.5s by default, and n the number of members. "Slow" is a
// Redis that answers within T; "away" one that refuses, hangs, is full or read-only, or
// is cut off from this process; "back" is the time from 5s after its return. TestHistories
// checks this with real processes while Redis is killed, frozen and failed over, a part
// of them is cut off, and processes are stopped and killed.
//
//	what                              up               slow             away                     back
//	a call waits for Redis            never            never            never                    never
//	others know of a pause after      1ms, in the      T, or 1s + T     they do not              all know the
//	                                  median; 2s if                                              longest
//	                                  a message is
//	                                  lost
//	it is longer there by at most     5ms × n, or      the same, and    -                        5ms × n
//	                                  1/pace, and 5s   2T + 0.5s
//	it is shorter there by at most    0.1s             0.1s             -                        0.1s
//	breakers follow a quorum after    as for a pause   as for a pause   each opens by itself     all know
//	breakers close after a probe      OpenTime         OpenTime + T     by a probe of their own  all are closed
//	calls of a rate R in a time t     R(t + 0.1s)      R(t + 0.1s + T)  R·t·1.1 all together,    as up
//	                                                                    after 10s R/n each; 2R·t
//	                                                                    where only a part of the
//	                                                                    members is cut off
//	a slot, or a position, is given   once             once             -                        once
//	retries of a budget, beyond       burst, and       the same         none                     as up
//	the ratio                         one a minute
//	Close returns after               a round trip     T                1s                       a round trip
//
// A part that is cut off goes on by itself, and so does the other. Redis without its
// data, after a restart or a failover, gives out the slots of half a second and the
// burst of a budget again; processes report again what still holds. From its return
// until 5s later a process goes from its share of a rate to what it needs. A process
// that starts while Redis is away takes R/[Config].Members, and one that is closed R/n,
// whatever the others do.
//
// A process that is stopped, by a debugger, a frozen container or a sleeping laptop,
// acts on nothing that it received and that is older than 250ms when it goes on: it asks
// for what is left. A command that a hung server runs when its caller has given up has
// no effect.
//
// Not guaranteed:
//
//   - That calls in flight are held back, or those of the few milliseconds until the
//     others know.
//   - Anything against a client that may write to Redis and means harm: it can renew a
//     pause of an hour. No message does more than that, malformed ones are dropped and
//     counted, and keys that other software has overwritten are repaired. Authentication
//     and TLS are settings of the client.
//   - Order across clocks of Redis servers: after a failover to one whose clock is off,
//     an open time may be off by as much, and an hour at most.
//
// # When things fail
//
//	what fails                  what a process does                          back
//	Redis refuses, is full,     goes on with its own gates and breakers, a   at the next beat, every
//	read-only, failing over     Rate with its share, after 10s with rate/n   200ms meanwhile
//	Redis hangs                 the same, after Timeout (500ms)              the same
//	data or scripts flushed     reports again what still holds               at the next beat, 1s
//	a part is cut off           both parts go on; a quorum takes two         both report, longest wins
//	a message is lost           not paused, or opened, until it asks         2s
//	no right to subscribe       asks at each beat; logs why                  1s
//	a process dies              its report is valid for its time; its        5s, until it is not counted
//	                            slots are lost, half a second of its share
//	a process is stopped        asks for what is left when it goes on        at once
//	one bad node                opens for itself                             —
//	no Redis at the start       [Dial] joins later; rueidis.NewClient fails  when it is there
//
// # Redis
//
// Redis 6 and later, Valkey, single, with Sentinel or as a cluster. A user of Redis 7
// needs a channel, which new ones lack, and these rights, of a fleet named annotator:
//
//	ACL SETUSER annotator on >password ~{retry:annotator}:* &{retry:annotator}:news
//		+@connection +@scripting +@pubsub +@read +@write +@fast +info
//
// # Sizing
//
// Each process keeps two to six connections (rueidis has one per slot group and
// one for each kind of work), and sends one command a second as its beat, plus 2 to 10
// a second for each Rate that is in use, and one a minute for each Budget that is empty.
// All else is news: a pause costs one command in each process that the server refuses,
// and one message to each member; an outage as many commands as processes notice before
// the quorum is full, one message to each member when it is, and up to five per
// open time; its end one command in each process in which calls wait. News goes before
// the questions of the regular sync, which are pipelined.
//
//	processes  beats            one pause          an outage of 60s, open time 5s
//	10         10 a second      10 messages        about 45 pieces of news × 10 messages
//	100        100 a second     100 messages       about 45 × 100
//	1,000      1,000 a second   1,000 messages     about 45 × 1,000
//
// A small Redis does 100,000 a second. Memory is below 200 bytes per name and
// member. Names are kept until they have been quiet for a minute, at most an hour. A
// Fleet has four goroutines, and up to 64 for a moment while it sends; Close ends them.
// It does not keep gates and breakers alive.
//
// # What to watch
//
// [Fleet.Snapshot] has it all. Connected false for more than some seconds: the
// processes are on their own, and the log says why. Members lower than the number of
// processes: some do not reach Redis, or have another Name. Dropped above 0: another
// version, or other software writes there. Stale growing: processes are stopped, or
// starved of CPU. Errors and Losses growing: Redis is slow, or the Timeout too short.
// Contradicted growing: this process is well where others are not. The Logger logs
// connections and losses, and every pause, opening and closing that came from others.
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
	// many calls in a row have failed. Fewer, within the last second, make a
	// third of a voice. 0 means 2; negative: when it is open only.
	Suspicion int

	// OpenTime is for how long breakers open when processes agree before their
	// own is open, and so has a time of its own. They close within as long after
	// the first successful probe. It should be the RecoveryTimeout of the
	// breakers. 0 means 5s; the least is 100ms, the most an hour.
	OpenTime time.Duration

	// Members is how many processes the fleet is expected to have, such as the
	// Members of an earlier [Snapshot]: until a process knows the others, because
	// Redis is away when it starts, it takes that part of a [Rate]. 0 means 20.
	Members int

	// Lease is how often a [Rate] that is in use asks for its share, 100ms to
	// 500ms. 0 means 250ms.
	Lease time.Duration

	// Timeout is how long one answer of Redis is waited for, in the background.
	// 0 means 500ms.
	Timeout time.Duration

	// Logger logs when the connection is lost and found and why, and what others
	// reported. nil: silent.
	Logger *slog.Logger
}

const (
	maxTime = time.Hour // the longest pause and open time that is published or believed

	beatEvery  = time.Second // a sign of life
	beatLost   = 200 * time.Millisecond
	memberTime = 5 * time.Second // without one, a process counts as gone
	syncEvery  = 30 * time.Second
	lookEvery  = 100 * time.Millisecond // at the breakers of this process
	closeTime  = 800 * time.Millisecond // for which Close waits
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
	require(c.Members >= 0 && c.Members <= 1e6, "Members", c.Members, "a count, or 0 for the default")
	require(within(c.OpenTime, 100*time.Millisecond, maxTime), "OpenTime", c.OpenTime, "100ms to 1h, or 0 for the default")
	require(within(c.Lease, 100*time.Millisecond, 500*time.Millisecond), "Lease", c.Lease, "100ms to 500ms, or 0 for the default")
	require(within(c.Timeout, 10*time.Millisecond, time.Minute), "Timeout", c.Timeout, "10ms to 1m, or 0 for the default")
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.Quorum = cmp.Or(c.Quorum, 2)
	c.QuorumShare = cmp.Or(c.QuorumShare, 0.1)
	c.Suspicion = cmp.Or(c.Suspicion, 2)
	c.Members = cmp.Or(c.Members, 20)
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

	sendDue, choresDue, lookDue signal

	connection connection
	counts     counts
	leave      func() // once

	mu       sync.Mutex      // guards the maps
	refusals map[string]bool // answers of Redis that were logged
	gates    map[string]*sharedGate
	breakers map[string][]*sharedBreaker
	rates    map[string]*Rate
	budgets  map[string]*sharedBudget
}

// Join makes this process a member of the fleet that cfg names. It waits for
// Redis no longer than cfg.Timeout and ctx allow: whether it is there or not,
// the process is a member, and takes part as soon as Redis can be reached. The
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
		sendDue:   make(signal, 1),
		choresDue: make(signal, 1),
		lookDue:   make(signal, 1),
		refusals:  make(map[string]bool),
		gates:     make(map[string]*sharedGate),
		breakers:  make(map[string][]*sharedBreaker),
		rates:     make(map[string]*Rate),
		budgets:   make(map[string]*sharedBudget),
	}
	f.log = f.cfg.Logger
	f.leave = sync.OnceFunc(func() {
		f.tasks.Wait()
		f.store.close(f)
	})
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.connection.start(f.cfg.Members)
	for _, task := range []func(){f.listen, f.announce, f.keep, f.watch} {
		f.tasks.Go(task)
	}
	wait, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	select {
	case <-f.connection.first:
	case <-wait.Done():
	}
	return f, nil
}

// Close leaves the fleet. Gates and breakers keep the state that they are in, and
// are this process's own again; a [Rate] goes on at its equal share. When it returns
// nothing of the Fleet runs any more, unless Redis hangs: then it returns within a
// second, and what waits for an answer ends with the timeouts of the client. It never
// fails; the error is there for io.Closer.
func (f *Fleet) Close() error {
	f.cancel()
	left := make(chan struct{})
	go func() { f.leave(); close(left) }()
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-left:
	case <-timer.C:
	}
	return nil
}

// Host joins what the requests to one host share, under the host's name: its
// gate, which it gets here if it has none, and its breaker, if it has one. It
// is for [retry.PerHost]:
//
//	retry.NewRetryableClient(nil, cfg, retry.HostBreaker(breakerConfig), retry.PerHost(f.Host))
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

package lookalikes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"testdata/ids"
	"testdata/randutil"
	"testdata/status"
)

// Loops that a retry resembles until it is followed what stands where.

var errStopped = errors.New("stopped")

// An end without an error goes round as well as one with: it runs until it is stopped.
func runConnection(run func() error, stopping *bool) {
	backoff := time.Second
	for {
		err := run()
		if errors.Is(err, errStopped) {
			return
		} else if err != nil {
			println("connection failed, reconnecting")
		}
		if *stopping {
			return
		}
		if backoff *= 2; backoff > time.Minute {
			backoff = time.Minute
		}
		select {
		case <-time.After(backoff):
		}
	}
}

type region struct{ url string }

type step struct {
	region *region
	wait   time.Duration
}

type signals struct{}

func (signals) Join(ctx context.Context, url string) error { return nil }
func (signals) Prepare() error                             { return nil }

// A plan: each step has an address of its own, and what is prepared for it first is not
// what failed, though its error has the same name.
func followPlan(ctx context.Context, s signals, plan []*step) (last error) {
	for _, attempt := range plan {
		if attempt.wait > 0 {
			time.Sleep(attempt.wait)
		}
		var err error
		if err = s.Prepare(); err != nil {
			return err
		}
		err = s.Join(ctx, attempt.region.url)
		if err != nil {
			last = err
			continue
		}
		return nil
	}
	return last
}

func mayRetry(resp *http.Response, err error) bool { return err != nil }

func regionsOf(u url.URL) ([]string, error) { return nil, nil }

// The request goes to another host in each round, by an assignment to its URL; what is
// got once, when it is not there yet, is no attempt.
func failover(ctx context.Context, t http.RoundTripper, req *http.Request, body []byte) (*http.Response, error) {
	host := req.URL.Host
	var regions []string
	for attempt := 0; attempt < 3; attempt++ {
		r := req.Clone(ctx)
		r.URL.Host = host
		r.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := t.RoundTrip(r)
		if !mayRetry(resp, err) || attempt == 2 {
			return resp, err
		}
		if regions == nil {
			regions, _ = regionsOf(*req.URL)
		}
		if len(regions) > 0 {
			host, regions = regions[0], regions[1:]
		}
		resp.Body.Close()
		time.Sleep(time.Second)
	}
	return nil, errStopped
}

func put(name string) error    { return nil }
func create(name string) error { return nil }

// It is put right once, and a flag that is looked at before what went wrong says so.
func putOnce(name string) error {
	var created bool
	for {
		err := put(name)
		if err == nil {
			return nil
		}
		if created {
			return err
		}
		switch err.Error() {
		case "no bucket, retry":
			if err = create(name); err != nil {
				return err
			}
			created = true
			continue
		}
		return err
	}
}

type counter struct{ n int32 }

func (c *counter) Load() int32   { return c.n }
func (c *counter) Store(n int32) { c.n = n }

type placement struct {
	servers []string
	index   counter
}

func connectTo(ctx context.Context, addr string) error { return nil }

// The next server, by an index that a method sets.
func (p *placement) connect(ctx context.Context) {
	for ctx.Err() == nil {
		addr := p.servers[p.index.Load()]
		if err := connectTo(ctx, addr); err != nil {
			p.index.Store((p.index.Load() + 1) % int32(len(p.servers)))
			time.Sleep(time.Second)
			continue
		}
		return
	}
}

func fetchFrom(u *url.URL) (*http.Response, error) { return nil, nil }

// A redirect is followed once.
func redirected(u *url.URL) (*http.Response, error) {
	redirects := 0
again:
	resp, err := fetchFrom(u)
	if err != nil {
		return nil, err
	}
	if (resp.StatusCode == 301 || resp.StatusCode == 307) && redirects == 0 {
		println("retry at another place")
		if u, err = resp.Location(); err != nil {
			return nil, err
		}
		redirects++
		goto again
	}
	return resp, nil
}

type wire struct{}

func (wire) readPacket() (string, error)       { return "", nil }
func (wire) authenticate(string) error         { return nil }
func (wire) reply(msg string, fine bool) error { return nil }

// A server reads the next request in each round.
func serveAuth(w wire, maxAttempts int) error {
	for attempts := 0; ; attempts++ {
		if attempts >= maxAttempts {
			return errStopped
		}
		request, err := w.readPacket()
		if err != nil {
			return err
		}
		if err := w.authenticate(request); err == nil {
			return nil
		}
		if err := w.reply("failed", false); err != nil {
			return err
		}
	}
}

func pull() (changed int, err error) { return 0, nil }

// Each round goes further, until there is nothing left.
func pullAll() error {
	for tries := 0; tries < 3; tries++ {
		changed, err := pull()
		if err != nil {
			return err
		}
		if changed == 0 {
			break
		}
	}
	return nil
}

type watch struct{ index int }

func (watch) List(index int) ([]string, int, error) { return nil, 0, nil }

// What the inner loop tries again, the outer one asks for for ever.
func watchHeld(w watch, session string) {
	index := 0
again:
	retries := 3
retry: // want `\(loop\)`
	held, next, err := w.List(index)
	if err != nil { // want `\(retry-all\)`
		if retries > 0 {
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
			retries--
			goto retry
		}
		return
	}
	if len(held) > 0 && held[0] == session {
		index = next
		goto again
	}
}

type job struct{ parts []string }

func write(part string) error { return nil }

// The parts of another job in each round.
func writeJobs(jobs map[string]*job) (failed []string) {
next:
	for attempt, j := range jobs {
		for _, part := range j.parts {
			if err := write(part); err != nil {
				failed = append(failed, attempt)
				continue next
			}
		}
		break
	}
	return failed
}

func lock(path string) error { return nil }

// Another file in each round.
func lockAnother(dir string) (string, error) {
	for try := 0; ; try++ {
		f, err := os.CreateTemp(dir, "lock")
		if err != nil {
			return "", err
		}
		f.Close()
		path := f.Name()
		if err := lock(path); err != nil {
			if try < 3 {
				continue
			}
			return "", err
		}
		return path, nil
	}
}

func subnet(name string, attempt int) string { return name }

func createNetwork(subnet string) error       { return nil }
func networkExists(name string) (bool, error) { return false, nil }

// From the number of the attempt another subnet is made; that the network exists is only
// asked when that failed.
func network(name string) error {
	for attempt := 1; attempt < 5; attempt++ {
		err := createNetwork(subnet(name, attempt))
		if err == nil {
			return nil
		}
		if errors.Is(err, errStopped) {
			exists, err := networkExists(name)
			if err != nil {
				return err
			}
			if exists {
				return nil
			}
			continue
		}
		return err
	}
	return errStopped
}

func state(name string) (done bool, err error) { return false, nil }
func info(name string) error                   { return nil }

func show(name string) {}

// What succeeds goes round: it is watched, and what is tried when it fails is another thing.
func progress(ctx context.Context, name string, unknown func(error) bool) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		done, err := state(name)
		if err != nil {
			if !unknown(err) {
				return
			}
			if err := info(name); err == nil {
				return
			}
			continue
		}
		if done {
			return
		}
		show(name)
	}
}

type buffer struct {
	data   []byte
	offset int
}

// Partial reads: each goes on where the last one ended.
func (b *buffer) fill(r io.Reader, size int) (err error) {
	for i := 0; i < 3; i++ {
		var n int
		n, err = io.ReadFull(r, b.data[b.offset:size])
		b.offset += n
		if err != nil {
			if err != io.ErrUnexpectedEOF {
				return err
			}
			continue
		}
		break
	}
	return err
}

type job struct{ Done, Version int }

func job1(name string) (*job, error) { return nil, nil }

// A value is polled that says nothing of being ready, and the wait nothing of retries.
func polled(name string) error {
	for {
		j, err := job1(name)
		if err != nil {
			return err
		}
		if j.Done == 1 {
			return nil
		}
		time.Sleep(time.Second)
	}
}

func update(version int, j *job) error { return nil }

// Each round reads, and writes if the version is still that.
func replace(name string, outOfSequence func(error) bool) error {
	for i := 0; ; i++ {
		j, err := job1(name)
		if err != nil {
			return err
		}
		err = update(j.Version, j)
		if i < 10 && err != nil && outOfSequence(err) {
			time.Sleep(time.Second)
			continue
		}
		return err
	}
}

// Without a wait, a count or an error that it asks about, it may look for another candidate.
func rotate(ctx context.Context, once func(context.Context) (bool, bool, error)) (errs []error) {
	for {
		attempted, success, err := once(ctx)
		if err != nil {
			errs = append(errs, err)
		}
		if !attempted || success {
			return errs
		}
		// The health check failed: retry with the next.
	}
}

func bit(offset int) (int, error) { return 0, nil }

// After a failure another offset is tried.
func available(offset, count int) (int, error) {
retry:
	b, err := bit(offset)
	if err != nil && count > 0 {
		offset = 0
		count--
		goto retry
	}
	return b, err
}

func work(batch []string) error { return nil }

// What succeeds goes round: it works until there is nothing left.
func reconcile(ctx context.Context, left func() []string, finish func() error) {
	for {
		if batch := left(); len(batch) == 0 {
			if err := finish(); err == nil {
				return
			}
		} else if err := work(batch); err != nil {
			println("batch failed")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

type group struct {
	names []string
	next  int
}

func (s *group) pick() string {
	s.next++
	return s.names[s.next%len(s.names)]
}

// Each round picks the next of several.
func (s *group) dialOne(dial func(string) error) (err error) {
	for i := 0; i < 3; i++ {
		name := s.pick()
		if err = dial(name); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func full(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return true
	}
	return info.Size() > 100
}

func set(n int) bool { return n > 3 }

// It waits until an operation fails, for a value, and for what an error does not say.
func gone(path string) {
	for exists(path) {
		time.Sleep(time.Second)
	}
	for !full(path) {
		time.Sleep(time.Second)
	}
	for n := 0; !set(n); n++ {
		time.Sleep(time.Second)
	}
}

type subscription struct{ interval time.Duration }

func subscribe() (*subscription, error) { return nil, nil }

// Success goes round, though only success sets what ends the loop.
func push(send func(*subscription) bool) {
	var ending bool
	for !ending {
		s, err := subscribe()
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		if send(s) {
			ending = true
		}
	}
}

type volume struct{ Ready int }

func volumeOf(name string) (*volume, error) { return nil, nil }

func retryAfter(name string) time.Duration { return time.Second }

// A value is polled: what it is compared with is given, and the server says how often.
func volumeIs(name string, status int) error {
	for {
		v, err := volumeOf(name)
		if err != nil {
			return err
		}
		if v.Ready == status {
			return nil
		}
		time.Sleep(retryAfter(name))
	}
}

type bucket struct{}

func (bucket) TryTake(n int) (bool, time.Duration) { return false, 0 }

// A limiter says when it is the caller's turn: nothing has failed.
func limited(b bucket) {
	for {
		ok, wait := b.TryTake(1)
		if ok {
			return
		}
		time.Sleep(wait)
	}
}

func insert(id string) error { return nil }

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return string(b[:])
}

// Another ID in each round, which a function literal is given.
func device(do func(func() error) error) (err error) {
	for i := 1; i <= 5; i++ {
		id := newID()
		if err = do(func() error { return insert(id) }); err == nil {
			return nil
		}
	}
	return err
}

type errorKinds struct{}

func (errorKinds) IsAlreadyExists(err error) bool { return false }

// What exists already is not there the next time: the name is another.
func createAny(kinds errorKinds, create func() error) (err error) {
	for i := 0; i < 8; i++ {
		if err = create(); err == nil || !kinds.IsAlreadyExists(err) {
			return err
		}
	}
	return err
}

var errBucketExists = errors.New("there is such a bucket")

// The error says that there is such a thing already: waiting for it to go would take time.
func firstBucket(create func(id string) error) error {
	for i := 0; i < 100; i++ {
		if err := create(newID()); err != nil {
			if errors.Is(err, errBucketExists) {
				continue
			}
			return err
		}
		return nil
	}
	return errStopped
}

type row struct {
	Data  map[string]string
	Owner string
}

type answer struct{ Row *row }

type table struct{}

func (table) Lookup(name string) (*answer, error)          { return nil, nil }
func (table) Row(name string) (*row, error)                { return nil, nil }
func (table) Replace(r, expected *row) error               { return nil }
func (table) Under(owner string, f func() error) error     { return f() }
func (table) Delete(name string) (deleted bool, err error) { return false, nil }

// What the round has read is changed and written back, if nothing else has been written in between:
// compare-and-swap, however its attempts are counted.
func update(t table, stale func(error) bool) error {
	for attempt := 0; attempt < 5; attempt++ {
		got, err := t.Lookup("a")
		if err != nil {
			return err
		}
		r := got.Row
		before := copyOf(r)
		r.Data["x"] = "y"
		if err := t.Replace(r, before); err == nil {
			return nil
		} else if !stale(err) {
			return err
		}
	}
	return errStopped
}

func copyOf(r *row) *row { c := *r; return &c }

// The same, where a function literal writes, and where the row is all that was read.
func updateWithin(t table, stale func(error) bool) error {
	for attempt := 0; attempt < 5; attempt++ {
		r, err := t.Row("a")
		if err != nil {
			return err
		}
		r.Owner = "me"
		err = t.Under("me", func() error { return t.Replace(r, nil) })
		if err == nil {
			return nil
		}
		if !stale(err) {
			return err
		}
	}
	return errStopped
}

type security struct{ Insecure bool }

// After a failure less is asked for, for good.
func connectSomehow(start func(*security) error, greet func() error, s *security) error {
retry:
	if s != nil {
		if err := start(s); err != nil {
			return err
		}
	}
	if err := greet(); err != nil {
		s = nil
		goto retry
	}
	return nil
}

// Another address in each round, in a call within a function literal.
func lookupAnywhere(addresses []string, next int, ask func(address string) error) (err error) {
	for attempt := 0; attempt < 3; attempt++ {
		address := addresses[next]
		err = func() error { return ask(address) }()
		if err == nil {
			return nil
		}
		next++
	}
	return err
}

// A counter that goroutines share says which is next.
func pushInTurn(targets []func() error, next *uint64) (err error) {
	for attempt := 0; attempt < 3; attempt++ {
		target := targets[atomic.AddUint64(next, 1)%uint64(len(targets))]
		if err = target(); err == nil {
			return nil
		}
	}
	return err
}

// As many rounds as there are targets, of which the pusher takes one after another.
func pushToAll(targets []string, push func() error) (err error) {
	size := len(targets)
	for i := 0; i < size; i++ {
		if err = push(); err == nil {
			return nil
		}
	}
	return err
}

type closed struct{ By string }

func (*closed) Error() string { return "" }

// The error that errors.As makes tells one end apart; an end without any goes round as well.
func keepConnected(run func() error, stopping *bool) {
	reconnects := 0
	for {
		err := run()
		c := &closed{}
		if errors.As(err, &c) && c.By == "me" {
			return
		} else if err != nil {
			println("connection failed")
		}
		if *stopping {
			return
		}
		reconnects++
		time.Sleep(time.Duration(reconnects) * time.Second)
	}
}

// A function of another package that is given nothing makes the ID.
func firstFree(create func(id string) error) (err error) {
	for attempt := 0; attempt < 100; attempt++ {
		if err = create(ids.New().String()); err == nil {
			return nil
		}
	}
	return err
}

// An error is unwrapped: each round looks at the next one of its chain.
func nameOf(err error) (string, bool) {
	for range 100 {
		if v, ok := err.(interface{ Name() (string, bool) }); ok {
			if name, ok := v.Name(); ok && name != "" {
				return name, true
			}
		}
		switch v := err.(type) {
		case interface{ Cause() error }:
			err = v.Cause()
		case interface{ Unwrap() error }:
			err = v.Unwrap()
		default:
			return "", false
		}
		if err == nil {
			return "", false
		}
	}
	return "", false
}

// Each round listens on another port, drawn by a generator that is no package of that name.
func anyPort(g randutil.Generator, listen func(port int) (io.Closer, error), maxRetries int) (io.Closer, error) {
	for try := 0; try < maxRetries; try++ {
		port := 1024 + g.Intn(1000)
		l, err := listen(port)
		if err != nil {
			continue
		}
		return l, nil
	}
	return nil, errStopped
}

// Each round asks for the next major version, in the URL that the request is made with.
func latest(host string) (int, error) {
	major, suffix := 1, ""
	for {
		if major > 1 {
			suffix = fmt.Sprintf("v%d", major)
		}
		address := url.URL{Host: host, Path: "/module/" + suffix}
		major++
		req, err := http.NewRequest(http.MethodGet, address.String(), nil)
		if err != nil {
			return 0, err
		}
		statusCode := 0
		var retryError error
		_ = eventually(func() bool {
			resp, err := http.DefaultClient.Do(req)
			retryError = err
			if err != nil {
				return false
			}
			statusCode = resp.StatusCode
			return resp.Body.Close() == nil
		})
		if retryError != nil {
			return 0, retryError
		}
		if statusCode == http.StatusNotFound {
			return major - 2, nil
		}
	}
}

func eventually(f func() bool) error { return nil }

type unsupported struct{}

func (unsupported) Error() string { return "unsupported" }

// What errors.As fills in here is no variable: the analyzer took that for the variable that
// the result of a call is not either.
func expire(remove func(int) interface{ Get() (any, error) }, update func(func()), log func(error)) error {
	for i := 0; i < 10; i++ {
		done := false
		for !done {
			update(func() { done = true })
		}
		_, err := remove(i).Get()
		if err != nil {
			if errors.As(err, &unsupported{}) {
				return nil
			}
			log(err)
		}
	}
	return errStopped
}

// The number is not that of the attempt: no limit of retries stands beside it.
func nextShard(ctx context.Context, shards int, open func(ctx context.Context, shard int) error) (err error) {
	for r := 0; r < shards; r++ {
		if err = open(ctx, r+1); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

// An error that is kept in the same variable as another ends the loop, and its absence
// leads to the next round: success goes round.
func drained(next func() (io.Reader, error), handle func(io.Reader) error) error {
	for {
		r, err := next()
		if err != nil {
			return err
		}
		err = handle(r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return err
		}
	}
}

type statusError struct{ code int }

func (e statusError) Error() string { return "status" }

func isRecoverable(code int, text string, log func(string)) bool {
	if code > 0 && code != 503 {
		return false
	}
	log(text)
	return true
}

// A helper judges the error of what is done periodically: success goes round.
func periodic(quit chan struct{}, ticker *time.Ticker, poll func() error, state chan<- string) {
	for {
		select {
		case <-quit:
			return
		case <-ticker.C:
			if err := poll(); err != nil {
				if status, ok := err.(statusError); ok {
					recoverable := isRecoverable(status.code, "will retry at the next interval", func(string) {})
					if recoverable {
						state <- "interrupted"
					} else {
						state <- "off"
						return
					}
				} else {
					state <- "interrupted"
				}
				continue
			}
			state <- "valid"
		}
	}
}

// What says "again" says it without an error: the watch has ended, and nothing failed.
func watched(open func() (<-chan string, error), out chan<- string) {
	again := func() (bool, error) {
		events, err := open()
		if err != nil {
			return false, err
		}
		for event := range events {
			out <- event
		}
		return true, nil
	}
	go func() {
		for {
			retry, err := again()
			if err != nil {
				out <- err.Error()
			}
			if !retry {
				return
			}
			time.Sleep(time.Second)
		}
	}()
}

// One success is not enough: they are counted.
func stable(call func() error) error {
	tries, successes := 0, 0
	for tries < 30 {
		if err := call(); err == nil {
			successes++
		}
		if successes > 4 {
			return nil
		}
		tries++
		time.Sleep(time.Second)
	}
	return errStopped
}

// False means no more than that it is not so yet: nothing says that it is retried.
func untilIdle(idle func(string) bool) {
	for !idle("queue") {
		fmt.Println("still busy")
		time.Sleep(time.Second)
	}
}

// Asked without anything to do, a state is polled.
func untilDone(done func() bool) {
	for !done() {
		fmt.Println("will try again")
		time.Sleep(time.Second)
	}
}

// A session that works until it is stopped returns false where it was not: that is no failure
// of a call that ends it.
func lockedSession(stop chan struct{}, begin func() error, work func() bool) {
	for {
		if ended := locked(stop, begin, work); ended {
			return
		}
		time.Sleep(time.Second)
	}
}

func locked(stop chan struct{}, begin func() error, work func() bool) bool {
	if err := begin(); err != nil {
		return false
	}
	for {
		select {
		case <-stop:
			return true
		default:
		}
		if !work() {
			time.Sleep(time.Second)
		}
	}
}

func Poll(interval time.Duration, condition func() (bool, error)) error { return nil }

// Some errors are what it waits for.
func deleted(get func() error, notFound func(error) bool) error {
	return Poll(time.Second, func() (bool, error) {
		if err := get(); err != nil {
			if notFound(err) {
				return true, nil
			}
			return false, nil
		}
		return true, nil
	})
}

// What is not there is made, and then opened.
func openOrMake(path string, make func(string) error) (f *os.File, err error) {
	for range 3 {
		f, err = os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			if err := make(path); err != nil {
				return nil, err
			}
			continue
		}
		return f, err
	}
	return nil, err
}

type move struct{ left int }

// It waits for a value, and an error is passed over on the way.
func moved(ticker *time.Ticker, info func() (*move, error)) int {
	rounds := 0
	for {
		<-ticker.C
		rounds++
		m, err := info()
		if err != nil {
			continue
		}
		if m.left == 0 {
			return rounds
		}
	}
}

// The loop of a server, of which a panic is no other end.
func serve(l net.Listener, done chan struct{}, with func(net.Conn) context.Context, handle func(context.Context, net.Conn)) error {
	var delay time.Duration
	for {
		c, err := l.Accept()
		if err != nil {
			select {
			case <-done:
				return errStopped
			default:
			}
			if ne, ok := err.(net.Error); ok && ne.Temporary() {
				if delay == 0 {
					delay = 5 * time.Millisecond
				} else {
					delay *= 2
				}
				fmt.Printf("accept: %v; retrying in %v", err, delay)
				time.Sleep(delay)
				continue
			}
			return err
		}
		ctx := with(c)
		if ctx == nil {
			panic("no context")
		}
		delay = 0
		go handle(ctx, c)
	}
}

func isConflict(err error) bool { return false }

// It reads, changes, and writes if nothing has changed in between.
func updated(get func() (*move, error), put func(*move) error) error {
	return Poll(time.Second, func() (bool, error) {
		m, err := get()
		if err != nil {
			return false, err
		}
		m.left++
		if err := put(m); err != nil {
			if isConflict(err) {
				return false, nil
			}
			return false, err
		}
		return true, nil
	})
}

// A heartbeat goes on for as long as it is answered well: failures are counted to give up.
func heartbeat(ticker *time.Ticker, client *http.Client, url string, done chan struct{}) {
	failures := 0
	for {
		select {
		case <-ticker.C:
			resp, err := client.Head(url)
			if err != nil {
				failures++
				if failures >= 3 {
					return
				}
				continue
			}
			resp.Body.Close()
			switch resp.StatusCode {
			case http.StatusOK:
				failures = 0
			case http.StatusMethodNotAllowed:
				return
			default:
				failures++
				if failures >= 3 {
					return
				}
			}
		case <-done:
			return
		}
	}
}

// A value is waited for: that the rounds are counted, in numbers named for retries, is no word of
// what is tried.
func portState(link func() (*move, error)) error {
	retries := []int{0, 50, 500, 1000}
	for i, ms := range retries {
		time.Sleep(time.Duration(ms) * time.Millisecond)
		m, err := link()
		if err != nil {
			return err
		}
		if m.left == 0 {
			break
		}
		if i == len(retries)-1 {
			return errStopped
		}
	}
	return nil
}

type routes struct{ readers []string }

func fetchRoutes() (*routes, error) { return nil, nil }

// The body keeps the count, in a number named for retries, and a value is waited for.
func readers(r *routes) (*routes, error) {
	var err error
	retries := 10
	for len(r.readers) == 0 {
		retries--
		if retries == 0 {
			break
		}
		time.Sleep(time.Second)
		if r, err = fetchRoutes(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Its end is an error of a kind.
func gone(get func() error, notFound func(error) bool) error {
	return Poll(time.Second, func() (bool, error) {
		err := get()
		if notFound(err) {
			return true, nil
		}
		return false, err
	})
}

// A value is compared, and no error.
func settled(get func() (*move, error)) error {
	return Poll(time.Second, func() (bool, error) {
		m, err := get()
		if err != nil {
			return false, err
		}
		return m.left == 0, nil
	})
}

// A value is waited for, and what is not there yet has none.
func filled(get func() (*move, error), notFound func(error) bool) error {
	return Poll(time.Second, func() (bool, error) {
		m, err := get()
		if notFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return m.left == 0, nil
	})
}

// An error is what it waits for.
func failsWell(get func() error) error {
	return Poll(time.Second, func() (bool, error) {
		err := get()
		return err != nil, nil
	})
}

// The next message is received, whatever status is sent for the last one.
func receive(recv func() (int, error), send func(int, *status.Status) bool, handle chan<- int, wait func() error) {
	for {
		id, err := recv()
		if err != nil {
			return
		}
		if id%2 != 1 {
			if !send(id, status.New(http.StatusBadRequest, "odd")) {
				return
			}
			time.Sleep(time.Second)
			continue
		}
		handle <- id
	}
}

type listener struct{}

func (*listener) loop() error { return nil }
func (*listener) close()      {}

// It listens for ever: whether there is a listener yet is no condition of the loop.
func listenAgain(open func() (*listener, error), sleep func(time.Duration)) {
	var l *listener
	for {
		if l != nil {
			if err := l.loop(); err != nil {
				fmt.Println(err)
			}
			l.close()
			l = nil
		}
		time.Sleep(time.Second)
		var err error
		l, err = open()
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("connection reestablished")
		}
	}
}

// A session that has ended is opened again: an error is only one of its ends.
func sessions(ctx context.Context, once func(context.Context) (bool, error), log func(...any)) {
	wait := time.Second
	for {
		connected, err := once(ctx)
		if connected {
			wait = time.Second
		}
		if err != nil && err != io.EOF {
			log("connection error", err)
		}
		log("Retrying in", wait)
		select {
		case <-time.After(wait):
			continue
		case <-ctx.Done():
			return
		}
	}
}

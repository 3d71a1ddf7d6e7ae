package shapes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

func shouldRetry(req *http.Request, resp *http.Response) bool { return resp == nil }

// The decision is made by a helper that is not given the error.
func decidedByHelper(client *http.Client, req *http.Request, max int) (resp *http.Response, err error) {
	for n := 0; n <= max; n++ { // want `hand-written retry loop around client.Do`
		resp, err = client.Do(req)
		if req.Context().Err() != nil {
			return nil, req.Context().Err()
		}
		if !shouldRetry(req, resp) || n >= max {
			break
		}
		if resp != nil {
			resp.Body.Close()
		}
		time.Sleep(time.Second)
	}
	return resp, err
}

func annotate(err error) error { return fmt.Errorf("ping: %w", err) }

// The attempt stands within the call that wraps its error.
func wrapped(ctx context.Context) (err error) {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around ping`
		err = annotate(ping(ctx))
		if err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

// The error is wrapped before it is tested.
func wrappedLater(ctx context.Context) (err error) {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around ping`
		first := ping(ctx)
		err = annotate(first)
		if err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

// A function literal that calls itself.
func closureRecursion(ctx context.Context) error {
	var try func(left int) error
	try = func(left int) error {
		err := ping(ctx)
		if err != nil && left > 0 {
			time.Sleep(time.Second)
			return try(left - 1) // want `hand-written retry recursion around try`
		}
		return err
	}
	return try(3)
}

type link struct{}

func (l *link) open() error { return errors.New("closed") }

// The next attempt is made by a timer.
func (l *link) reconnect() {
	if err := l.open(); err != nil {
		time.AfterFunc(time.Second, l.reconnect) // want `hand-written retry recursion around reconnect`
	}
}

func (l *link) reconnectLater() {
	if err := l.open(); err != nil {
		time.AfterFunc(time.Second, func() { // want `hand-written retry recursion around reconnectLater`
			l.reconnectLater()
		})
	}
}

func (l *link) reconnectInBackground() {
	if err := l.open(); err != nil {
		go func() {
			time.Sleep(time.Second)
			l.reconnectInBackground() // want `hand-written retry recursion around reconnectInBackground`
		}()
	}
}

type health struct {
	Healthy bool
	State   string
}

func inspect(ctx context.Context, id string) (*health, error) { return nil, ctx.Err() }

// Success is in the answer, and an error is retried as well.
func healthy(ctx context.Context, id string) error {
	for i := 0; i < 30; i++ { // want `hand-written retry loop around inspect`
		r, err := inspect(ctx, id)
		if err == nil && r.Healthy {
			return nil
		}
		time.Sleep(time.Second)
	}
	return errors.New("never healthy")
}

func inState(ctx context.Context, id string) error {
	for { // want `hand-written retry loop around inspect`
		r, err := inspect(ctx, id)
		if err != nil {
			fmt.Println("retrying:", err)
		} else if r.State == "running" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (l *link) connected() bool { return false }

// Success is seen at the beginning of the next round.
func earlySuccess(l *link) {
	for { // want `hand-written retry loop around l.open`
		if l.connected() {
			return
		}
		if err := l.open(); err != nil {
			fmt.Println(err)
		}
		time.Sleep(time.Second)
	}
}

func earlyReturn(l *link, n int) (err error) {
	for i := 0; i < n; i++ { // want `hand-written retry loop around l.open`
		if l.connected() {
			return nil
		}
		if err = l.open(); err != nil {
			time.Sleep(time.Second)
			continue
		}
		return nil
	}
	return err
}

func newLink(addr string) *link { return &link{} }

// The receiver is made in each round.
func receiver(addr string) (l *link, err error) {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around c.open`
		c := newLink(addr)
		if err = c.open(); err == nil {
			return c, nil
		}
		time.Sleep(time.Second)
	}
	return nil, err
}

func receiverSteps(addr string) (err error) {
	var l *link
	for i := 0; i < 3; i++ { // want `hand-written retry loop around l.open`
		l = newLink(addr)
		err = l.open()
		if err == nil {
			break
		}
		time.Sleep(time.Second)
	}
	return err
}

// Success is nested in the other branch.
func elseBranch(ctx context.Context) (*health, error) {
	for i := 0; ; i++ { // want `hand-written retry loop around inspect`
		r, err := inspect(ctx, "a")
		if err != nil {
			fmt.Println(err)
		} else {
			if r.Healthy {
				return r, nil
			} else {
				fmt.Println("not yet")
			}
		}
		if i > 5 {
			return nil, err
		}
		time.Sleep(time.Second)
	}
}

// The error is discarded, and the value is looked at.
func discarded(addr string) *conn {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around dial`
		c, _ := dial(addr)
		if c != nil {
			return c
		}
		time.Sleep(time.Second)
	}
	return nil
}

type Problem struct{ Code int }

type apiError struct{ Code int }

func request() (string, *apiError) { return "", nil }

// The error's type has no method Error.
func otherErrorType() (string, *apiError) {
	for tries := 0; ; tries++ { // want `hand-written retry loop around request`
		s, problem := request()
		if problem == nil {
			return s, nil
		}
		if tries == 3 {
			return "", problem
		}
		time.Sleep(time.Second)
	}
}

func open(path string) syscall.Errno { return 0 }

func errno(path string) {
	for { // want `hand-written retry loop around open`
		if e := open(path); e == 0 {
			return
		}
		time.Sleep(time.Second)
	}
}

type verdict struct{}

func (verdict) Err() error           { return nil }
func notify() verdict                { return verdict{} }
func attempt() (string, bool, error) { return "", false, nil }

// The error is part of what the attempt returns.
func asked() error {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around notify`
		v := notify()
		if err := v.Err(); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return nil
}

// A flag beside the error says whether to try again, and an error ends it.
func flagged() (string, error) {
	for { // want `hand-written retry loop around attempt`
		s, retry, err := attempt()
		if err != nil {
			return "", err
		}
		if retry {
			continue
		}
		return s, nil
	}
}

// A success that is not what is wanted goes round too, in a loop that counts attempts.
func wanted(name string) error {
	for attempt := 0; attempt < 5; attempt++ { // want `hand-written retry loop around list`
		if attempt > 0 {
			time.Sleep(time.Second)
		}
		names, err := list()
		if err != nil {
			continue
		}
		for _, n := range names {
			if n == name {
				return nil
			}
		}
	}
	return nil
}

func list() ([]string, error) { return nil, nil }

// Each part of the condition may say "not yet".
func window() error {
	var w struct{ From, To int }
	for i := 0; i < 3; i++ { // want `hand-written retry loop around load`
		if i > 0 {
			time.Sleep(time.Second)
		}
		err := load(&w)
		if err != nil {
			continue
		}
		if w.From == 0 || w.To == 0 {
			fmt.Println("no window")
			continue
		}
		return nil
	}
	return nil
}

func load(any) error { return nil }

type cluster struct{}

func (cluster) Join(addr string) (int, error) { return 0, nil }

// A method named Join is no errors.Join.
func join(c cluster) {
	for { // want `hand-written retry loop around c.Join`
		if _, err := c.Join("a"); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

type link struct{ to, from *link }

func follow(l *link) error { return nil }

// Fields whose values come from one another: another in each round.
func circular(a, b *link) error {
	for i := 0; i < 3; i++ {
		a.to = b.from
		b.from = a.from
		a.from = b.to
		b.to = a.to
		if err := follow(b); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return nil
}

// A variable says whether there was an error, and what else is asked of the response.
func flagged(r *http.Request) *http.Response {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around http.DefaultClient.Do`
		resp, err := http.DefaultClient.Do(r)
		good := err == nil && resp.StatusCode < 500
		if good {
			return resp
		}
		time.Sleep(time.Second)
	}
	return nil
}

// The flag is the loop's condition.
func until() {
	ok := false
	for !ok { // want `hand-written retry loop around fetch`
		_, err := fetch()
		if ok = err == nil; !ok {
			time.Sleep(time.Second)
		}
	}
}

// Only success sets what the loop's condition asks about.
func connection(dial func() (net.Conn, error)) (conn net.Conn) {
	for conn == nil { // want `hand-written retry loop around dial`
		c, err := dial()
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		conn = c
	}
	return conn
}

// A goroutine of each round makes the attempt, and sends its error.
func inGoroutine(ctx context.Context) error {
	for { // want `hand-written retry loop around fetch`
		done := make(chan error, 1)
		go func() {
			_, err := fetch()
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil {
				return nil
			}
		case <-time.After(time.Minute):
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

type holder struct{ err error }

// A field holds the error.
func (h *holder) hold() error {
	for i := 0; i < 3; i++ { // want `hand-written retry loop around fetch`
		if _, h.err = fetch(); h.err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return h.err
}

func answers(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// A function at hand returns false for an error.
func untilItAnswers(url string) bool {
	for i := 0; i < 30; i++ { // want `hand-written retry loop around answers`
		if answers(url) {
			return true
		}
		time.Sleep(time.Second)
	}
	return false
}

// So does a literal, whose result a variable holds.
func untilItListens(addr string) {
	listens := func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	for { // want `hand-written retry loop around listens`
		ok := listens()
		if ok {
			return
		}
		time.Sleep(time.Second)
	}
}

func decide(err error) (delay time.Duration, reason error) { return 0, err }

// It judges the error that it is given, and makes no attempt.
func retriable(err error) bool {
	_, reason := decide(err)
	return reason == nil
}

func judged(ctx context.Context) error {
	for attempt := 0; ; attempt++ { // want `hand-written retry loop around fetch`
		_, err := fetch()
		if retriable(err) {
			time.Sleep(time.Second)
			continue
		}
		return err
	}
}

// The body counts, and only its log says why.
func countedByBody() (err error) {
	n := 0
	for n < 3 { // want `hand-written retry loop around fetch`
		if _, err = fetch(); err != nil {
			println("fetching failed, retrying")
			n++
			continue
		}
		break
	}
	return err
}

type shell struct{}

func (shell) Command(name string, args ...string) *command { return nil }

type command struct{ Out io.Writer }

func (*command) Run() error { return nil }

// What is passed on as "args[1:]..." is only read: it is the same command in each round.
func runCommand(s shell, num int, args ...string) error {
	for i := 0; i < num; i++ { // want `hand-written retry loop around cmd.Run`
		cmd := s.Command(args[0], args[1:]...)
		cmd.Out = os.Stdout
		if err := cmd.Run(); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return errors.New("failed")
}

// Each round tries all servers: what changes within a round is the same in the next.
func anyServer(servers []string, first int, ask func(server string) error) (err error) {
	for retry := 0; retry < 3; retry++ { // want `hand-written retry loop around ask`
		i := first
		for x := 0; x < len(servers); x++ {
			server := servers[i]
			if err = ask(server); err == nil {
				return nil
			}
			if i++; i == len(servers) {
				i = 0
			}
		}
		time.Sleep(time.Second)
	}
	return err
}

type statusError struct{ StatusCode int }

func (*statusError) Error() string { return "" }

// Of errors.As is known which call returned the error.
func signed(sign func() error, tries int) error { // the loop stands at the label
again: // want `hand-written retry goto around sign`
	err := sign()
	if err != nil && tries > 0 {
		var status *statusError
		if errors.As(err, &status) && status.StatusCode == 429 {
			time.Sleep(time.Second)
			tries--
			goto again
		}
	}
	return err
}

func waitTurn(ctx context.Context, round int) error { time.Sleep(time.Second); return ctx.Err() }

// What is given to the attempt is its number, as the name of the limit says.
func numberedByLimit(ctx context.Context, maxRetries int, call func(ctx context.Context, round int) (bool, error)) error {
	late, err := call(ctx, 0)
	for r := 0; maxRetries < 0 || r < maxRetries; r++ { // want `hand-written retry loop around call`
		if err == nil || !late {
			return err
		}
		if err = waitTurn(ctx, r); err != nil {
			return err
		}
		late, err = call(ctx, r+1)
	}
	return err
}

var errExpired = errors.New("expired")

// Both errors are kept in one variable: that of the first call does not decide.
func oneVariable(pick func() (*link, error), tries int) error { // the loop stands at the label
retry: // want `hand-written retry goto around l.open`
	l, err := pick()
	if err != nil {
		return err
	}
	err = l.open()
	if err == errExpired {
		goto retry
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && tries > 0 {
		tries--
		goto retry
	}
	return err
}

// No answer yet: what is noted of it is no work, and only the other ways lead out.
func versionstamp(query func() ([]map[string]any, error)) (uint64, error) {
	var last error
	for i := 0; i < 10; i++ { // want `hand-written retry loop around query`
		if i > 0 {
			time.Sleep(50 * time.Millisecond)
		}
		changes, err := query()
		if err != nil {
			last = err
			continue
		}
		if len(changes) > 0 && len(changes[0]) > 0 {
			if v, ok := changes[0]["versionstamp"].(uint64); ok {
				return v, nil
			}
			if _, ok := changes[0]["versionstamp"]; ok {
				last = fmt.Errorf("a %T", changes[0]["versionstamp"])
			}
		} else {
			last = errors.New("no changes")
		}
	}
	return 0, last
}

var errLocked = errors.New("locked")

// What the loop's condition asks about is set where the error is none of those to retry.
func obtain(ctx context.Context, lock func(context.Context) error) error {
	obtained := false
	for !obtained { // want `hand-written retry loop around lock`
		select {
		case <-ctx.Done():
			return ctx.Err()
		default:
			err := lock(ctx)
			if err != nil && !errors.Is(err, errLocked) {
				return err
			} else if errors.Is(err, errLocked) {
				time.Sleep(time.Second)
				continue
			}
			obtained = true
		}
	}
	return nil
}

// No error is returned, but a log says what false means.
func untilSent(send func([]byte) bool, data []byte, stop <-chan struct{}) {
	for !send(data) { // want `hand-written retry loop around send`
		fmt.Println("cannot send; re-trying in a second")
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
		}
	}
}

// Only some errors say "not yet"; the others end it.
func created(get func() error, notFound func(error) bool) error {
	return PollImmediate(time.Second, time.Minute, func() (bool, error) { // want `hand-written retry polling around get`
		if err := get(); err != nil {
			if notFound(err) {
				return false, nil
			}
			return false, err
		}
		return true, nil
	})
}

// A file that is gone when it is read may be there at the next attempt.
func scan(dir string) ([]os.DirEntry, error) {
	var last error
	for attempt := 1; attempt <= 3; attempt++ { // want `hand-written retry loop around os.ReadDir`
		entries, err := os.ReadDir(dir)
		if err == nil {
			return entries, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		last = err
	}
	return nil, last
}

type steps struct{ left int }

func (s *steps) next() time.Duration { s.left--; return time.Second }

// The function says what its steps are.
func ExponentialBackoff(b steps, condition func() (bool, error)) error {
	for b.left > 0 { // want `hand-written retry loop around condition`
		if ok, err := condition(); err != nil || ok {
			return err
		}
		if b.left == 1 {
			break
		}
		time.Sleep(b.next())
	}
	return errLocked
}

type move struct{ left int }

// An error that is logged is what the next round is for, though it waits for a value, too.
func moved(ticker *time.Ticker, info func() (*move, error)) {
	for { // want `hand-written retry loop around info`
		<-ticker.C
		m, err := info()
		if err != nil {
			fmt.Println(err)
			continue
		}
		if m.left == 0 {
			return
		}
	}
}

// One condition is about both.
func movedToo(ticker *time.Ticker, info func() (*move, error)) {
	for { // want `hand-written retry loop around info`
		<-ticker.C
		if m, err := info(); err == nil && m.left == 0 {
			return
		}
	}
}

type node struct{ Ready bool }

// Readiness is asked for, and an error says as much as "not yet".
func untilReady(get func() (*node, error)) {
	for { // want `hand-written retry loop around get`
		time.Sleep(time.Second)
		n, err := get()
		if err != nil {
			continue
		}
		if n.Ready {
			return
		}
	}
}

// Which error it is, is asked first.
func createdFirst(get func() error, notFound func(error) bool) error {
	return PollImmediate(time.Second, time.Minute, func() (bool, error) { // want `hand-written retry polling around get`
		err := get()
		if notFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, nil
	})
}

// What is returned says whether there was an error.
func answers(client *http.Client, url string) error {
	return PollImmediate(time.Second, time.Minute, func() (bool, error) { // want `hand-written retry polling around client.Get`
		_, err := client.Get(url)
		return err == nil, nil
	})
}

// A status says that it is not there yet.
func wellAnswered(client *http.Client, url string) error {
	return PollImmediate(time.Second, time.Minute, func() (bool, error) { // want `hand-written retry polling around client.Get`
		resp, err := client.Get(url)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return true, nil
		}
		return false, nil
	})
}

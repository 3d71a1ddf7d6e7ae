package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Faults that depend on the way through the loop, each beside code without it.

func check(resp *http.Response) error { return nil }

func ceilingInBody() error {
	d := time.Second
	for attempt := 0; ; attempt++ { // want `\(loop\)`
		err := g()
		if err == nil { // want `\(retry-all\)`
			return nil
		}
		if attempt >= 3 { // the bound of the delay, too
			return err
		}
		time.Sleep(d << attempt) // want `\(context\)` `\(jitter\)`
	}
}

// A count that is not known may be small.
func variableCount(max int) error {
	for attempt := 0; ; attempt++ { // want `\(loop\)`
		err := g()
		if err == nil { // want `\(retry-all\)`
			return nil
		}
		if attempt >= max {
			return err
		}
		time.Sleep(time.Second << attempt) // want `\(context\)` `\(jitter\)`
	}
}

func clamped(max int) error {
	for attempt := 0; attempt < max; attempt++ { // want `\(loop\)`
		err := g()
		if err == nil { // want `\(retry-all\)`
			return nil
		}
		shift := attempt
		if shift > 5 {
			shift = 5
		}
		time.Sleep(time.Second << shift) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return nil
}

func lastSleepDown(left int) (err error) {
	for left > 0 { // want `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		left--
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return err
}

func lastSleepOnStatus(client *http.Client, req *http.Request) (resp *http.Response, err error) {
	for i := 0; i < 3; i++ { // want `\(loop\)`
		resp, err = client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != 503 { // want `\(retry-after\)`
			return resp, nil
		}
		resp.Body.Close()
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return nil, errors.New("unavailable")
}

func deadlineFirst(n int, deadline time.Time) (err error) {
	for i := 0; i < n; i++ { // want `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		if time.Now().Add(time.Second).After(deadline) {
			return err
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
	return err
}

func attemptAfterTheLoop() error {
	for i := 0; i < 3; i++ { // want `\(loop\)`
		if err := g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
	return g()
}

// A wait that is made only after a success is not one between attempts.
func pacing(ctx context.Context, n int) error {
	for i := 0; i < 3; i++ { // want `\(loop\)` `\(no-wait\)`
		err := f(ctx)
		if err == nil { // want `\(retry-all\)`
			time.Sleep(time.Second)
			return nil
		}
	}
	return errors.New("gave up") // want `\(last-error\)`
}

type poller struct{ interval time.Duration }

func newPoller() *poller { return &poller{interval: time.Second} }

func (p *poller) spread() { p.interval = time.Duration(rand.Int63n(int64(time.Second))) }

// The field is given a random value elsewhere in the package.
func (p *poller) wait() {
	for { // want `\(loop\)` `\(unbounded\)`
		if g() == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(p.interval) // want `\(context\)`
	}
}

func byTheClock() {
	for { // want `\(loop\)` `\(unbounded\)`
		if g() == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(time.Second + time.Duration(time.Now().UnixNano()%1e9)) // want `\(context\)`
	}
}

func sorted(ctx context.Context) error {
	if err := f(ctx); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// The callee tells errors from one another.
func sortedByCallee(ctx context.Context, d time.Duration) {
	for { // want `\(loop\)` `\(unbounded\)`
		if sorted(ctx) == nil {
			return
		}
		time.Sleep(d + rand.N(d)) // want `\(context\)`
	}
}

// The helper may read the header, but the sleep is constant.
func retryAfterUnused(client *http.Client, req *http.Request) (*http.Response, error) {
	for { // want `\(unbounded\)` `\(loop\)`
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		if err := check(resp); err != nil {
			fmt.Println(err)
		}
		if resp.StatusCode == 429 { // want `\(retry-after\)`
			resp.Body.Close()
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
			continue
		}
		return resp, nil
	}
}

func closedOnSuccess(client *http.Client, req *http.Request) ([]byte, error) {
	for { // want `\(unbounded\)` `\(loop\)`
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == 200 { // want `\(retry-after\)` `not closed.*\(body-close\)`
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			return b, err
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

func closedOnFailure(client *http.Client, req *http.Request) (*http.Response, error) {
	for { // want `\(unbounded\)` `\(loop\)`
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == 200 { // want `\(retry-after\)`
			return resp, nil
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

func trial(ctx context.Context, attempt int) (bool, error) {
	if attempt > 0 {
		time.Sleep(time.Second)
	}
	n := 0
	n += attempt
	n *= attempt
	n -= attempt
	n %= 7
	n /= 3
	fmt.Println(n)
	return false, nil
}

// The attempt waits by itself.
func waitsInside(ctx context.Context) error {
	var last error
	for attempt := 0; attempt < 3; attempt++ { // want `\(loop\)`
		retry, err := trial(ctx, attempt)
		if err == nil || !retry {
			return err
		}
		last = err
	}
	return last
}

// The error of a wait that came as a value ends the loop.
func waitGiven(ctx context.Context, backoff func(context.Context) error) error {
	for { // want `\(loop\)`
		_, err := trial(ctx, 0)
		if err == nil {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return err
		}
		if err := backoff(ctx); err != nil {
			return err
		}
	}
}

// What is left of the time is no count: an attempt follows each wait.
var errBusy = errors.New("busy")

func timeLeft(ctx context.Context, left, pause time.Duration) (err error) {
	for errors.Is(err, errBusy) { // want `\(loop\)`
		time.Sleep(pause) // want `\(context\)` `\(jitter\)`
		if left -= pause; left <= 0 {
			break
		}
		_, err = trial(ctx, 0)
	}
	return err
}

func transient(err error) error {
	if errors.Is(err, errBusy) {
		return nil
	}
	return err
}

// The function that is given the error returns nil for what is to be retried.
func forgiven(ctx context.Context) error {
	for { // want `\(loop\)` `\(unbounded\)`
		_, err := trial(ctx, 0)
		if err == nil {
			return nil
		}
		if err = transient(err); err != nil {
			return err
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

// A deadline ends the recursion.
func untilDeadline(ctx context.Context, deadline time.Time) error {
	_, err := trial(ctx, 0)
	if err != nil {
		select {
		case <-time.After(time.Until(deadline)):
			return err
		case <-time.After(time.Second): // want `\(jitter\)`
		}
		return untilDeadline(ctx, deadline) // want `\(loop\)`
	}
	return nil
}

func pauseOrStop(d time.Duration, attempt int, stop <-chan struct{}) bool {
	select {
	case <-time.After(d << min(attempt, 5)):
		return true
	case <-stop:
		return false
	}
}

// The time ends the loop, and no count: a wait that gets the number is none.
func forAWhile(ctx context.Context, d time.Duration) (err error) {
	end := time.Now().Add(d)
	for attempt := 0; time.Now().Before(end); attempt++ { // want `\(loop\)`
		if _, err = trial(ctx, 0); err == nil { // want `\(retry-all\)`
			return nil
		}
		if !pauseOrStop(time.Second, attempt, ctx.Done()) {
			return ctx.Err()
		}
	}
	return err
}

type future struct{}

func (future) Done(ctx context.Context) (bool, error) { return false, nil }

// An attempt follows each wait, behind the body; and the future may be done with an
// error, which is then not retried.
func completion(ctx context.Context, f future, tries int) error {
	done, err := f.Done(ctx)
	for attempts := 0; !done; done, err = f.Done(ctx) { // want `\(loop\)`
		if attempts >= tries {
			return err
		}
		if err != nil {
			attempts++
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
	return err
}

// The response is closed wherever there is one.
func closedIfThere(addr string) error {
	for i := 0; i < 3; i++ { // want `\(loop\)`
		resp, err := http.Get(addr)
		if err == nil && resp.StatusCode == http.StatusOK { // want `\(retry-after\)`
			resp.Body.Close()
			return nil
		}
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return nil
}

// It is closed on each way round, which takes two conditions to see.
func closedUnlessKept(addr string) (*http.Response, error) {
	for i := 0; i < 3; i++ { // want `\(loop\)`
		resp, err := http.Get(addr)
		if err != nil {
			return nil, err
		}
		keep := resp.ContentLength > 0 && resp.StatusCode == http.StatusOK
		if !keep {
			resp.Body.Close()
		}
		if resp.ContentLength > 0 && resp.StatusCode == http.StatusOK { // want `\(retry-after\)`
			return resp, nil
		}
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return nil, nil
}

// It waits in a function literal that does nothing else.
func waitsInside(ctx context.Context) error {
	for attempt := 0; ; attempt++ { // want `\(loop\)`
		if attempt > 0 {
			if err := func() error {
				t := time.NewTimer(time.Second)
				defer t.Stop()
				select {
				case <-t.C: // want `\(jitter\)`
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}(); err != nil {
				return err
			}
		}
		_, err := trial(ctx, 0)
		if !errors.Is(err, errBusy) {
			return err
		}
	}
}

type sleeper interface {
	SleepWithContext(ctx context.Context, d time.Duration) error
}

// A name that begins with Sleep waits, whatever it says of a context.
func token(ctx context.Context, s sleeper) error {
	for { // want `\(loop\)`
		_, err := trial(ctx, 0)
		if err == nil || !errors.Is(err, errBusy) {
			return err
		}
		if err := s.SleepWithContext(ctx, time.Second); err != nil {
			return err
		}
	}
}

// A function without a result that came as a value may wait, as may one that speaks of it:
// what is certain is reported.
func waitsElsewhere(handle func(error), retryTimer func(error) error) error {
	for try := 0; try < 5; try++ { // want `\(loop\)`
		_, err := trial(nil, 0)
		if !errors.Is(err, errBusy) {
			return err
		}
		handle(err)
	}
	for try := 0; try < 5; try++ { // want `\(loop\)`
		_, err := trial(nil, 0)
		if !errors.Is(err, errBusy) {
			return err
		}
		if err := retryTimer(err); err != nil {
			return err
		}
	}
	for try := 0; try < 5; try++ { // want `\(loop\)` `\(no-wait\)`
		_, err := trial(nil, 0)
		if !errors.Is(err, errBusy) {
			return err
		}
		fmt.Println("busy", err)
	}
	return nil
}

// A flag that the attempt sets ends the loop, whatever the error: they are not all retried.
func flagBesideError(locked func(func() error) error, load func() (bool, error)) error {
	for attempt := 0; attempt < 5; attempt++ { // want `\(loop\)`
		var writable bool
		err := locked(func() error {
			var err error
			writable, err = load()
			return err
		})
		if err == nil {
			return nil
		}
		if !writable {
			return err
		}
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return nil
}

// Some callers wait before they try, and some do not: not all equally long.
func byChance() {
	for { // want `\(loop\)` `\(unbounded\)`
		if rand.Intn(10) == 0 {
			time.Sleep(time.Second) // want `\(context\)`
		}
		if err := g(); err == nil { // want `\(retry-all\)`
			return
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

// The error of what is asked may be that of a limit, and ends the loop; where it does not,
// nothing does.
func answered(ask func() (ready bool, err error)) error {
	for { // want `\(loop\)`
		ready, err := ask()
		if err != nil {
			return err
		}
		if ready {
			break
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
	for { // want `\(loop\)` `\(unbounded\)`
		ready, err := ask()
		if err == nil && ready { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
}

// A conflict is not counted: no attempt is the last one before that wait.
func notCounted(conflict func(error) bool) error {
	var err error
	for retry := 0; retry < 3; { // want `\(loop\)`
		if err = g(); err == nil {
			return nil
		}
		if conflict(err) {
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
			continue
		}
		retry++
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)` `\(last-sleep\)`
	}
	return err
}

// The loop's condition is the ceiling of the delay.
func ceilingInHeader() error {
	var err error
	for d := 100.0; d < 10000; d *= 1.6 { // want `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Duration(d) * time.Millisecond) // want `\(context\)` `\(jitter\)` `\(last-sleep\)`
	}
	return err
}

type page struct{ ctx context.Context }

func (p *page) GetContext() context.Context { return p.ctx }

func closePage(p *page) error { return nil }

var errNavigating = errors.New("it is navigating")

// What is given to the attempt has a context that ends it.
func carried(p *page) error {
	for { // want `\(loop\)`
		err := closePage(p)
		if errors.Is(err, errNavigating) {
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
			continue
		}
		return err
	}
}

// A function literal asks which error it is.
func knownErrors(known []string) (err error) {
	for i := 0; i < 10; i++ { // want `\(loop\)`
		if err = g(); err == nil {
			return nil
		}
		retry := slices.ContainsFunc(known, func(s string) bool { return strings.Contains(err.Error(), s) })
		if !retry {
			return err
		}
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return err
}

type statusError struct{ StatusCode int }

func (*statusError) Error() string { return "" }

// The count is asked before the wait: none follows the last attempt.
func countedFirst(tries int) error {
again: // want `\(loop\)`
	err := g()
	if err != nil && tries > 0 {
		var status *statusError
		if errors.As(err, &status) && status.StatusCode == 429 {
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
			tries--
			goto again
		}
	}
	return err
}

type counting struct{ tries int }

func newCounting() *counting { return &counting{tries: 3} }

// A field that is only ever set to a small number bounds the delay, too.
func (c *counting) do() error {
	for i := 0; ; i++ { // want `\(loop\)`
		err := g()
		if err == nil { // want `\(retry-all\)`
			return nil
		}
		if i == c.tries {
			return err
		}
		time.Sleep(time.Second << i) // want `\(context\)` `\(jitter\)`
	}
}

// A factor of a tenth more takes many rounds.
func slowGrowth() error {
	var err error
	for i := range 66 { // want `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Millisecond * time.Duration(math.Pow(1.1, float64(i)))) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return err
}

// The status is looked at where there was no error, and the body is closed there before.
func closedBefore(url string) error {
	for i := 0; i < 3; i++ { // want `\(loop\)`
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		if err == nil && resp.StatusCode == http.StatusOK { // want `\(retry-after\)`
			return nil
		}
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return errors.New("it is not there") // want `\(last-error\)`
}

type matcher interface{ To(kind string) }

func expect(v any) matcher { return nil }

func kindOf(err error) string { return "" }

// What is expected of the error ends the loop for others.
func expects() {
	for i := 0; i < 3; i++ { // want `\(loop\)`
		err := g()
		if err == nil {
			return
		}
		expect(kindOf(err)).To("busy")
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
}

type logger interface {
	WithError(error) logger
	Info(string)
}

// A logger that is given the error decides nothing.
func logs(log logger) {
	for i := 0; i < 3; i++ { // want `\(loop\)`
		err := g()
		if err == nil { // want `\(retry-all\)`
			return
		}
		log.WithError(err).Info("retrying")
		time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
}

// Any status but 200 has ended the loop before: only errors are retried.
func anyOtherStatus(client *http.Client, url string) error {
	for i := 0; i < 10; i++ { // want `\(loop\)`
		resp, err := client.Get(url)
		if err != nil {
			time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New("status")
		}
		if resp.StatusCode == http.StatusOK {
			break
		}
	}
	return nil
}

// Of the others, the loop goes on for 503.
func anotherStatus(client *http.Client, url string) error {
	for i := 0; i < 10; i++ { // want `\(loop\)`
		resp, err := client.Get(url)
		if err != nil {
			time.Sleep(time.Second) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable { // want `\(retry-after\)`
			return errors.New("status")
		}
		if resp.StatusCode == http.StatusOK {
			break
		}
	}
	return nil
}

// No Retry-After comes with 425.
func tooEarly(client *http.Client, url string) error {
	for { // want `\(loop\)` `\(unbounded\)`
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusTooEarly {
			time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
			continue
		}
		return nil
	}
}

type backOff interface{ NextBackOff() time.Duration }

// The first round waits for no time, the others for one that may be random.
func afterFirst(ctx context.Context, b backOff) error {
	tick := time.After(0)
	for { // want `\(loop\)`
		select {
		case <-tick:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := g()
		if err == nil { // want `\(retry-all\)`
			return nil
		}
		tick = time.After(b.NextBackOff())
	}
}

type powered struct {
	tries    int
	exponent float64
	initial  time.Duration
}

func newPowered() powered { return powered{tries: 20, exponent: 1.5, initial: 100 * time.Millisecond} }

// Fields that are set once bound it.
func (p powered) run() (err error) {
	for try := range p.tries { // want `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(p.initial * time.Duration(math.Pow(p.exponent, float64(try)))) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
	}
	return err
}

type steep struct {
	tries    int
	exponent float64
}

func newSteep() steep { return steep{tries: 20, exponent: 3} }

// Twenty rounds at a factor of three are 36 years.
func (p steep) run() (err error) {
	for try := range p.tries { // want `\(loop\)`
		if err = g(); err == nil { // want `\(retry-all\)`
			return nil
		}
		time.Sleep(time.Second * time.Duration(math.Pow(p.exponent, float64(try)))) // want `\(context\)` `\(last-sleep\)` `\(jitter\)` `\(overflow\)`
	}
	return err
}

// Five rounds of milliseconds are no hour, at a factor of 32.
func milliseconds() error {
	err := g()
	for i := 0; i < 5 && err == errBusy; i++ { // want `\(loop\)`
		time.Sleep(time.Duration(math.Pow(32, float64(i))) * time.Millisecond) // want `\(context\)` `\(jitter\)`
		err = g()
	}
	return err
}

// Of seconds, four are nine hours.
func seconds32() error {
	err := g()
	for i := 0; i < 4 && err == errBusy; i++ { // want `\(loop\)`
		time.Sleep(time.Duration(math.Pow(32, float64(i))) * time.Second) // want `\(context\)` `\(jitter\)` `\(overflow\)`
		err = g()
	}
	return err
}

var errBusy = errors.New("busy")

// The last attempt has returned its error before.
func returnsBefore(max int) error {
	for i := 0; i < max+1; i++ { // want `\(loop\)`
		err := g()
		if err == nil { // want `\(retry-all\)`
			return nil
		}
		if i == max {
			return err
		}
		time.Sleep(time.Second) // want `\(context\)` `\(jitter\)`
	}
	return fmt.Errorf("failed after %d attempts", max)
}

// A 502 comes with no Retry-After.
func badGateway(client *http.Client, req *http.Request) (*http.Response, error) {
	for retries := range 20 { // want `\(loop\)`
		resp, err := client.Do(req)
		if err != nil || resp.StatusCode == http.StatusBadGateway { // want `\(body-close\)`
			time.Sleep(time.Second * time.Duration(retries)) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
			continue
		}
		return resp, nil
	}
	return nil, errBusy // want `\(last-error\)`
}

// A 503 does, though a 502 is asked for before.
func unavailable(client *http.Client, req *http.Request) (*http.Response, error) {
	for retries := range 20 { // want `\(loop\)`
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusServiceUnavailable { // want `\(body-close\)` `\(retry-after\)`
			time.Sleep(time.Second * time.Duration(retries)) // want `\(context\)` `\(last-sleep\)` `\(jitter\)`
			continue
		}
		return resp, nil
	}
	return nil, errBusy
}

// Package differential has loops as they are found, all of which are rewritten. A test
// runs them as they are and as they are rewritten, against the same failures.
package differential

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand"
	"strings"
	"time"

	"testdata/differential/script"
)

func Counted(ctx context.Context, s *script.Script) (string, error) {
	var last error
	for i := 0; i < 4; i++ { // want `hand-written`
		v, err := s.Get()
		if err == nil {
			return v, nil
		}
		last = err
		time.Sleep(time.Second)
	}
	return "", fmt.Errorf("gave up: %w", last)
}

var Times, Delay = 4, 2 * time.Second

// The count and the delay are variables, and the wait obeys the context.
func Variable(ctx context.Context, s *script.Script) (v string, err error) {
	for i := 0; i < Times; i++ { // want `hand-written`
		v, err = s.Get()
		if err == nil {
			return v, nil
		}
		select {
		case <-time.After(Delay):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return "", err
}

func Timer(ctx context.Context, s *script.Script) error {
	for { // want `hand-written`
		err := s.Try()
		if err == nil {
			return nil
		}
		if errors.Is(err, script.ErrFinal) {
			return fmt.Errorf("final: %w", err)
		}
		timer := time.NewTimer(Delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func Continue(ctx context.Context, s *script.Script) (string, error) {
	for range 3 { // want `hand-written`
		v, err := s.Get()
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		return v, nil
	}
	return "", errors.New("never there")
}

func Logged(ctx context.Context, s *script.Script) error {
	var err error
	for attempt := 1; attempt <= 5; attempt++ { // want `hand-written`
		if err = s.Try(); err == nil {
			break
		}
		s.Logf("attempt %d failed: %v", attempt, err)
		time.Sleep(time.Duration(attempt) * time.Second)
	}
	return err
}

// Exponential waits by a power, as ever.
func Exponential(ctx context.Context, s *script.Script) error {
	for try := range 4 { // want `hand-written`
		err := s.Try()
		switch {
		case errors.Is(err, script.ErrFinal):
			return err
		case err != nil:
			pause := time.Second * time.Duration(math.Pow(2, float64(try)))
			s.Logf("retrying in %s", pause)
			time.Sleep(pause)
			continue
		}
		return nil
	}
	return errors.New("too often")
}

func Doubling(ctx context.Context, s *script.Script) (string, error) {
	backoff := time.Second
	for { // want `hand-written`
		v, err := s.Get()
		if err == nil {
			return v, nil
		}
		if backoff > 10*time.Second {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(backoff):
		}
		backoff *= 2
	}
}

func HeadWait(ctx context.Context, s *script.Script) error {
	var last error
	for attempt := 0; attempt <= Times; attempt++ { // want `hand-written`
		if attempt > 0 {
			time.Sleep(time.Duration(100*attempt) * time.Millisecond)
		}
		last = s.Try()
		if last == nil || errors.Is(last, script.ErrFinal) {
			return last
		}
	}
	return fmt.Errorf("%d attempts: %w", Times+1, last)
}

func FirstWait(ctx context.Context, s *script.Script) error {
	for { // want `hand-written`
		time.Sleep(500 * time.Millisecond)
		if err := s.Try(); err == nil || errors.Is(err, script.ErrFinal) || len(s.Times) > 6 {
			return err
		} else {
			s.Logf("not yet: %v", err)
			continue
		}
	}
}

func Scoped(ctx context.Context, s *script.Script) error {
	for range 5 { // want `hand-written`
		if err := s.Try(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("not there")
}

func Guarded(ctx context.Context, s *script.Script) error {
	const maxRetries = 3
	var err error
	for i := 1; i <= maxRetries; i++ { // want `hand-written`
		err = s.Try()
		if err == nil {
			return nil
		}
		if errors.Is(err, script.ErrFinal) {
			return err
		}
		if i+1 <= maxRetries {
			after := time.Duration(100*i*i) * time.Millisecond
			s.Logf("retry after %s", after)
			time.Sleep(after)
		}
	}
	return err
}

func LastRound(ctx context.Context, s *script.Script) error {
	for i := 0; ; i++ { // want `hand-written`
		err := s.Try()
		if err == nil {
			return nil
		}
		if i == 2 {
			return fmt.Errorf("gave up: %w", err)
		}
		time.Sleep(time.Second)
	}
}

// Deadline is so far from a multiple of the wait that jitter changes no count.
func Deadline(ctx context.Context, s *script.Script) error {
	var err error
	deadline := time.Now().Add(3 * time.Second)
	for time.Now().Before(deadline) { // want `hand-written`
		if err = s.Try(); err == nil {
			return nil
		}
		time.Sleep(2 * time.Second)
	}
	return fmt.Errorf("not in time: %w", err)
}

func TwoSteps(ctx context.Context, s *script.Script) (string, error) {
	var last error
outer:
	for i := 0; i < 6; i++ { // want `hand-written`
		if err := s.Try(); err != nil {
			last = err
			time.Sleep(time.Second)
			continue outer
		}
		v, err := s.Get()
		if err != nil {
			last = err
			time.Sleep(time.Second)
			continue
		}
		return v, nil
	}
	return "", last
}

func Bool(ctx context.Context, s *script.Script) bool {
	for range 3 { // want `hand-written`
		err := s.Try()
		if err == nil {
			return true
		}
		if errors.Is(err, script.ErrFinal) {
			return false
		}
		time.Sleep(time.Second)
	}
	return false
}

func Nothing(ctx context.Context, s *script.Script) {
	for range 3 { // want `hand-written`
		if err := s.Try(); err != nil {
			s.Logf("failed: %v", err)
			time.Sleep(time.Second)
			continue
		}
		return
	}
	s.Logf("gave up")
}

// Mixed leaves the loop for one error, and the function for another.
func Mixed(ctx context.Context, s *script.Script) (string, error) {
	for range Times { // want `hand-written`
		v, err := s.Get()
		if err == nil {
			return v, nil
		}
		if errors.Is(err, script.ErrFinal) {
			break
		}
		time.Sleep(time.Second)
	}
	return "left", errors.New("left")
}

func Ticker(ctx context.Context, s *script.Script) error {
	ticker := time.NewTicker(Delay)
	defer ticker.Stop()
	for { // want `hand-written`
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := s.Try(); errors.Is(err, script.ErrFinal) {
				return fmt.Errorf("final: %w", err)
			} else if err != nil {
				continue
			}
			return nil
		}
	}
}

func OuterCount(ctx context.Context, s *script.Script) (err error) {
	var tries int
	for tries = 1; tries <= Times; tries += 1 { // want `hand-written`
		if err = s.Try(); err == nil {
			break
		}
		time.Sleep(Delay)
	}
	if err != nil {
		return fmt.Errorf("failed %d times: %w", tries-1, err)
	}
	return nil
}

// Kinds of errors are asked for by their text, by type, and by a helper.
func Kinds(ctx context.Context, s *script.Script) error {
	for range Times { // want `hand-written`
		err := s.Try()
		if isBusy(err) {
			continue
		}
		if _, ok := err.(*fs.PathError); ok {
			continue
		}
		if err != nil && strings.Contains(err.Error(), "no such host") {
			continue
		}
		return err
	}
	return errors.New("too often")
}

func isBusy(err error) bool { return errors.Is(err, script.ErrBusy) }

// Inner has a loop with a label of its own in it.
func Inner(ctx context.Context, s *script.Script) error {
	var err error
outer:
	for range Times { // want `hand-written`
		if err = s.Try(); err == nil {
			return nil
		}
	inner:
		for i := range 3 {
			for range 2 {
				if i == 1 {
					continue inner
				}
				if errors.Is(err, script.ErrFinal) {
					break outer
				}
			}
		}
		time.Sleep(time.Second)
	}
	return fmt.Errorf("left: %w", err)
}

// Stopped ends its waits when a channel is closed.
func Stopped(_ context.Context, s *script.Script) error {
	for i := 0; i < 5; i++ { // want `hand-written`
		err := s.Try()
		if err == nil {
			return nil
		}
		select {
		case <-s.Stop:
			return script.ErrStop
		case <-time.After(time.Second):
		}
	}
	return errors.New("too often")
}

// StoppedValue has a value besides.
func StoppedValue(_ context.Context, s *script.Script) (string, error) {
	for { // want `hand-written`
		v, err := s.Get()
		if err == nil {
			return v, nil
		}
		if errors.Is(err, script.ErrFinal) {
			return "", err
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-timer.C:
		case <-s.Stop:
			timer.Stop()
			return "stopped", script.ErrStop
		}
	}
}

// Quietly returns nothing, and obeys a context as well.
func Quietly(ctx context.Context, s *script.Script) {
	for { // want `hand-written`
		err := s.Try()
		if err == nil || errors.Is(err, script.ErrFinal) {
			return
		}
		s.Logf("failed")
		select {
		case <-s.Stop:
			return
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// Empty goes round for an answer that is not all that is wanted.
func Empty(ctx context.Context, s *script.Script) (string, error) {
	for i := 0; i < 4; i++ { // want `hand-written`
		v, err := s.State()
		if err == nil && v == "ready" {
			return v, nil
		}
		if errors.Is(err, script.ErrFinal) {
			return "", err
		}
		time.Sleep(time.Second)
	}
	return "", errors.New("nothing")
}

// StoppedLoudly writes a line when it is stopped.
func StoppedLoudly(_ context.Context, s *script.Script) string {
	for { // want `hand-written`
		err := s.Try()
		if err != nil && !errors.Is(err, script.ErrFinal) {
			select {
			case <-time.After(time.Second):
				continue
			case <-s.Stop:
				s.Logf("stopped")
				return "stopped"
			}
		}
		break
	}
	return "done"
}

// LabelledEnd leaves the loop, and not the function, when its context ends, and keeps why.
func LabelledEnd(ctx context.Context, s *script.Script) (string, error) {
	var v string
	var err error
tries:
	for i := 0; i < Times; i++ { // want `hand-written`
		v, err = s.Get()
		if err == nil || i == Times-1 {
			break
		}
		select {
		case <-time.After(Delay):
		case <-ctx.Done():
			err = ctx.Err()
			break tries
		}
	}
	if err != nil {
		return "", err
	}
	return v + " at last", nil
}

// judged is an attempt that says beside its error whether to try again.
func judged(s *script.Script) (again bool, err error) {
	v, err := s.State()
	return err != nil && !errors.Is(err, script.ErrFinal) || err == nil && v == "pending", err
}

// Countdown keeps the error of the last attempt, which may be none, for what follows.
func Countdown(_ context.Context, s *script.Script) (string, error) {
	var err error
	attemptsRemaining := 3
	for attemptsRemaining >= 0 { // want `hand-written`
		var more bool
		more, err = judged(s)
		if !more {
			return "answered", err
		}
		backoff := time.Second * time.Duration(4-attemptsRemaining)
		s.Logf("retrying after %v", backoff)
		time.Sleep(backoff)
		attemptsRemaining--
	}
	return "exhausted", err
}

// Skipped returns what it cannot change, an error or none, and else keeps the last.
func Skipped(_ context.Context, s *script.Script) error {
	var err error
	for attempt := 1; attempt <= 4; attempt++ { // want `hand-written`
		var again bool
		again, err = judged(s)
		if !again {
			return err
		}
		time.Sleep(time.Second)
	}
	return err
}

// Signalled waits for a context that ends only in another goroutine, and behind a select
// that returns.
func Signalled(ctx context.Context, s *script.Script) error {
	go func() {
		for range s.Stop {
			<-ctx.Done()
		}
	}()
	defer close(s.Stop)
	select {
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	for { // want `hand-written`
		err := s.Try()
		if err == nil || errors.Is(err, script.ErrFinal) {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// HeadCounted waits before the first attempt as well, and longer before each.
func HeadCounted(_ context.Context, s *script.Script) error {
	var err error
	for i := 0; i < 3; i++ { // want `hand-written`
		time.Sleep(time.Duration(100*(i+1)) * time.Millisecond)
		s.Logf("attempt")
		if err = s.Try(); err == nil {
			break
		}
	}
	return err
}

// Randomly computes the next delay after the wait.
func Randomly(ctx context.Context, s *script.Script) error {
	delay := time.Second
	for { // want `hand-written`
		err := s.Try()
		if err == nil || errors.Is(err, script.ErrFinal) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
		delay = min(3*time.Second, time.Duration((1+rand.Float64()/1000)*float64(delay)))
	}
}

func cancellableSleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func tryWith(ctx context.Context, s *script.Script) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.Try()
}

// Helped waits in a function that obeys the context that the attempts get.
func Helped(ctx context.Context, s *script.Script) error {
	var err error
	for attempt := 1; attempt <= Times; attempt++ { // want `hand-written`
		if err = tryWith(ctx, s); err == nil {
			return nil
		}
		s.Logf("failed")
		if attempt < Times {
			cancellableSleep(ctx, time.Duration(attempt)*time.Second)
		}
	}
	return err
}

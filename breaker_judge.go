package retry

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"net/textproto"
)

// verdict is what a result means to a breaker.
type verdict int

const (
	success verdict = iota
	failure
	neutral
)

// judgeCall judges the error that a call returned. ctx is the caller's: once it
// is cancelled, whatever the call made of that is neutral: few callees return a
// context.Canceled then. A *StatusError is the server's own
// answer all the same.
func (b *CircuitBreaker) judgeCall(ctx context.Context, err error) verdict {
	switch {
	case err == errAbandoned:
		return failure
	case isNeutral(err):
		return neutral
	case cancelled(ctx) && !hasStatus(err):
		return neutral
	case b.isFailure == nil:
		return judge(err)
	case b.isFailure(err):
		return failure
	}
	return success
}

// cancelled reports whether ctx was cancelled, and did not run out of time.
func cancelled(ctx context.Context) bool {
	return done(ctx) && !errors.Is(ctx.Err(), context.DeadlineExceeded)
}

func hasStatus(err error) bool {
	var status *StatusError
	return as(err, &status)
}

// isNeutral reports whether err says nothing about the dependency.
func isNeutral(err error) bool {
	marked := !walk(err, func(err error) bool {
		switch err.(type) {
		case *neutralError, *OpenError, *PauseError, *bodyError:
			return false
		}
		return true
	})
	return marked || is(err, context.Canceled) || is(err, ErrCircuitOpen)
}

// IsFailure is the default of [BreakerConfig.IsFailure]: every error is a
// failure except
//
//   - a cancel, what is marked [Neutral], and the rejection of another breaker
//     or the pause of a [Gate], which say nothing about the dependency,
//   - an answer, which shows it at work: a [*StatusError] below 500, what is marked
//     [RetryAfter] and has no status of 500 or above, [sql.ErrNoRows], JSON that does
//     not fit the Go type ([*json.UnmarshalTypeError]), and what PostgreSQL says about
//     a statement, such as a violated constraint (by SQLState, in the classes 02, 0A,
//     21, 22, 23, 40, 42, 44 and P0),
//   - what came about without it: [ErrInvalidConfig], [sql.ErrTxDone],
//     [sql.ErrConnDone], an [*Error] without an attempt, a request that cannot be sent
//     (its address, URL, scheme or JSON), a response or request over the caller's size
//     limit, a file or program that is missing here, [errors.ErrUnsupported], and no
//     file descriptor left. Joined with an error of the network it counts as that.
//
// A breaker without an IsFailure of its own counts an answer as a success, and what came
// about without the dependency, like a cancel, as neither.
func IsFailure(err error) bool { return err != nil && judge(err) == failure }

// judge judges an error by itself.
func judge(err error) verdict {
	if isNeutral(err) {
		return neutral
	}
	var h health
	h.add(err)
	switch {
	case h.broken:
		return failure
	case h.answered:
		return success
	case h.local && !h.network:
		return neutral
	}
	return failure
}

// health is what an error's tree shows of the dependency.
type health struct {
	broken   bool // it said so itself, by its status
	answered bool
	network  bool // a connection failed, or an answer did not come
	local    bool // it had no part in it
}

func (h *health) add(err error) {
	if err == nil || isNil(err) {
		return
	}
	switch err := err.(type) {
	case *StatusError:
		h.answered = true
		h.broken = h.broken || err.StatusCode >= 500
		return
	case *retryAfterError:
		h.answered = true
	case *Error:
		if err.Attempts == 0 && err.Err == nil {
			h.local = true
		}
		h.add(err.Err) // its Reason is about the call
		return
	}
	n := natureOf(err)
	h.answered = h.answered || n&answered != 0
	if n&local != 0 { // and what is inside of it shows nothing of the network
		h.local = true
		return
	}
	several, one := unwrapped(err)
	for _, branch := range several {
		h.add(branch)
	}
	inside := health{}
	inside.add(one)
	h.broken, h.answered = h.broken || inside.broken, h.answered || inside.answered
	h.local, h.network = h.local || inside.local, h.network || inside.network
	if !inside.local { // a dial that has no address to go to is an error of the network by its type only
		h.network = h.network || ofConnection(err)
	}
}

// ofConnection reports whether err itself shows that a connection failed.
func ofConnection(err error) bool {
	switch err.(type) {
	case net.Error, textproto.ProtocolError:
		return true
	}
	return err == io.EOF || err == io.ErrUnexpectedEOF || err == net.ErrClosed || err == driver.ErrBadConn
}

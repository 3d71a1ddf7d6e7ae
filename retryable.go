package retry

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/retryutils/retry/internal/valid"
)

// Retryable reports whether another attempt may bring another result. It may,
// for every error except
//
//   - one marked [Permanent], or about an invalid setting,
//   - a [*StatusError] with a status that Config.RetryStatusCodes leaves out by
//     default,
//   - the rejection of a circuit breaker, a [*PauseError], and an [*Error]: an
//     inner Do has retried that already, or could not wait for it,
//   - what cannot change: failed TLS verification, and TLS alerts about how one
//     side is set up; a host name that does not exist; a malformed address or
//     URL, and an unsupported scheme, unless the cause shows that it is served; a
//     response or request over a size limit, or a line over that of a
//     [bufio.Scanner]; a server of this program that was shut down ([http.ErrServerClosed]),
//   - what the machine or the data says, and will say again: a file or program
//     that is not there, is not permitted or is closed ([fs.ErrNotExist],
//     [fs.ErrPermission], [fs.ErrInvalid], [fs.ErrClosed], [*exec.Error]); a row
//     that is not there ([sql.ErrNoRows]); a transaction that is over
//     ([sql.ErrTxDone]); JSON that is whole, and does not fit
//     the Go type, or a Go value that is no JSON; [errors.ErrUnsupported].
//
// Retryable, though they may not look it, are
//
//   - errors of package context: they may come from another context than the
//     caller's, such as that of a call whose result several callers share. Do itself
//     sees when the caller's own is done,
//   - [fs.ErrExist], by which programs wait for a lock file,
//   - a socket that is not there, while the server that makes it starts,
//   - [sql.ErrConnDone]: the next attempt takes another connection,
//   - data that does not parse ([*json.SyntaxError], [*strconv.NumError]): it may
//     have been cut off on its way.
//
// Use RetryIf, or the marks, where you know better. Of several joined errors all
// must be retryable, unless the whole is marked.
//
// It goes by types and values, found anywhere in err's tree or matched by an Is
// method in it, never by text.
func Retryable(err error) bool {
	return err != nil && examine(err, nil).retryable()
}

// retryable judges an error by its marks, then by RetryIf.
func (c *Config) retryable(err error, found findings) bool {
	if c.RetryIf == nil || found.has(permanent) || found.has(delayed) && !found.has(ended) {
		return found.retryable()
	}
	return c.RetryIf(err)
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
//     20 to 27, 2B, 2D, 2F, 34, 38 to 40, 42, 44, 54 and P0, and 55P03, but 25006, a server
//     that has become read-only),
//   - what arose before it was reached, or without it: [ErrInvalidConfig], [sql.ErrTxDone],
//     [sql.ErrConnDone], an [*Error] without an attempt, a request that cannot be sent
//     (its address, URL, scheme or JSON), a response or request over the caller's size
//     limit, a file or program that is missing here, [errors.ErrUnsupported], and no
//     file descriptor left.
//
// An error of the last two kinds is a failure if it is joined with an error of the network.
//
// A breaker without an IsFailure of its own counts an answer as a success, and the other
// exceptions as neither.
func IsFailure(err error) bool {
	return err != nil && examine(err, nil).verdict() == failure
}

// verdict is what a result means to a breaker.
type verdict int

const (
	success verdict = iota
	failure
	neutral
)

// judge judges the error that a call returned. ctx is the caller's: once it is
// cancelled, any error is neutral, for few callees return a context.Canceled then.
// A *StatusError is the server's own answer all the same.
func (b *CircuitBreaker) judge(ctx context.Context, err error, found findings) verdict {
	switch {
	case err == nil:
		return success
	case err == errAbandoned:
		return failure
	case found.has(silent), cancelled(ctx) && !hasStatus(err):
		return neutral
	case b.cfg.IsFailure == nil:
		return found.verdict()
	case b.cfg.IsFailure(err):
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
	return errors.As(err, &status) && status != nil
}

// nature is a set of what an error shows.
type nature uint16

const (
	// To a retry.
	permanent nature = 1 << iota // marked so
	delayed                      // marked RetryAfter
	wholly                       // and so with all that is inside, not one of several joined errors
	ended                        // an inner Do, a breaker or a gate ended a call with it
	final                        // another attempt cannot change it
	refusing                     // of all callers of the server, not of this request alone
	status                       // it is a *StatusError, not inside a mark of RetryAfter

	// To a breaker. What is final, and neither answered nor local, is a state of the
	// dependency or of the way to it: a name that does not exist, an expired certificate.
	silent   // says nothing about the dependency
	failing  // a status of 500 or above
	answered // the dependency was at work, and answered
	network  // a connection failed, or an answer did not come
	local    // came about on this side: the dependency has no part in it
)

func (n nature) has(any nature) bool { return n&any != 0 }

// when is n if a condition holds.
func (n nature) when(holds bool) nature {
	if holds {
		return n
	}
	return 0
}

// findings are what the tree of an error shows.
type findings struct {
	nature
	delay time.Duration // the longest one that was requested
}

func (f findings) retryable() bool { return !f.has(permanent | ended | final) }

// verdict judges an error by itself.
func (f findings) verdict() verdict {
	switch {
	case f.has(silent):
		return neutral
	case f.has(failing | network): // an answer beside it hides no broken connection
		return failure
	case f.has(answered):
		return success
	case f.has(local):
		return neutral
	}
	return failure
}

// examine goes through the tree of an error once, from the inside out: what an error
// is may depend on what it wraps. codes are the statuses that are retried, nil for the
// default ones. A nil pointer that is an error shows nothing, and no method of it is
// called: most would panic.
func examine(err error, codes []int) (f findings) {
	if err == nil {
		return f
	}
	if reflect.TypeOf(err) == typeValue { // most errors that wrap nothing
		f.nature = natures[err]
		return f
	}
	switch e := err.(type) {
	case *OpenError, *PauseError: // what is inside is another call's
		f.nature = ended | silent
		return f
	case *Error: // what is inside is about attempts long past
		f.nature = ended
		if e != nil {
			const health = silent | failing | answered | network | local
			f.nature |= examine(e.Err, codes).nature & health
			f.nature |= (examine(e.Reason, codes).nature | examine(e.detail, codes).nature) & silent // else about the call
			f.nature |= local.when(e.Attempts == 0 && e.Err == nil)
		}
		return f
	case *StatusError:
		if e != nil {
			f.nature = status | answered | final.when(!e.retryable(codes)) | refusing.when(e.refuses()) | failing.when(e.StatusCode >= 500)
			f.delay = max(0, e.RetryAfter)
		}
		return f
	case *markedError:
		f = examine(e.err, codes)
		if e.mark.has(delayed) { // it overrides what is inside
			f.nature &^= ended | final | refusing | status | network
			f.delay = max(0, e.delay)
		}
		f.nature |= e.mark
		if e.mark.has(silent) && f.has(delayed) { // a wait of this call alone
			f.nature &^= refusing
		}
		return f
	}
	if valid.IsNil(err) {
		return f
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		f = examine(e.Unwrap(), codes)
	case interface{ Unwrap() []error }:
		for _, branch := range e.Unwrap() {
			inside := examine(branch, codes)
			f.nature |= inside.nature &^ wholly
			f.delay = max(f.delay, inside.delay)
		}
	}
	own := natureOf(err, f.nature)
	if own.has(local | answered) { // what is inside shows nothing of the network
		f.nature &^= failing | answered | network | local
	}
	if f.has(wholly) {
		own &^= final
	}
	f.nature |= own
	return f
}

// natures are those of values, all made by errors.New. An error that says by an Is
// method that it is one of them has its nature, as those of drivers and file systems do.
//
// database/sql and os/exec are here for their errors alone: the linker leaves all the
// rest of them out.
var natures = map[error]nature{
	ErrCircuitOpen:         ended | silent,
	ErrDraining:            ended | silent,
	ErrInvalidConfig:       final | local,
	context.Canceled:       silent | network,
	io.EOF:                 network,
	io.ErrUnexpectedEOF:    network,
	driver.ErrBadConn:      network,
	errors.ErrUnsupported:  final | local,
	sql.ErrNoRows:          final | answered,
	sql.ErrTxDone:          final | local,
	sql.ErrConnDone:        local, // the next attempt takes another one
	exec.ErrNotFound:       final | local,
	exec.ErrDot:            final | local,
	fs.ErrNotExist:         final | local,
	fs.ErrPermission:       final | local,
	fs.ErrInvalid:          final | local,
	fs.ErrClosed:           final | local,
	fs.ErrExist:            local, // a lock file goes away
	http.ErrSchemeMismatch: final,
	http.ErrServerClosed:   final | local, // Serve says so once it was shut down
	bufio.ErrTooLong:       final | local,
}

var typeValue = reflect.TypeOf(ErrInvalidConfig)

// natureOf is the nature of err itself, which wraps errors of the given nature.
func natureOf(err error, inside nature) (n nature) {
	switch e := err.(type) {
	case *bodyError:
		return silent
	case *net.AddrError, *net.ParseError, net.InvalidAddrError, net.UnknownNetworkError,
		url.EscapeError, url.InvalidHostError, *http.MaxBytesError, *exec.Error, x509.SystemRootsError,
		*json.InvalidUnmarshalError, *json.UnsupportedTypeError, *json.UnsupportedValueError, *json.MarshalerError:
		return final | local
	case *json.UnmarshalTypeError:
		return final | answered
	case *tls.CertificateVerificationError, *tls.ECHRejectionError, tls.RecordHeaderError,
		x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError,
		x509.ConstraintViolationError, x509.UnhandledCriticalExtension:
		return final // the two sides do not fit together
	case tls.AlertError:
		return final.when(isSetupAlert(uint64(e)))
	case *net.OpError: // how crypto/tls reports alerts, whose type it does not export
		if e.Op == "remote error" || e.Op == "local error" {
			alert := reflect.ValueOf(e.Err)
			n = final.when(alert.Kind() != reflect.Uint8 || isSetupAlert(alert.Uint()))
		}
	case *net.DNSError:
		n = final.when(e.IsNotFound)
	case *url.Error:
		n = (final | local).when(e.Op == "parse" || !supportedScheme(e.URL) && !inside.has(network|answered|local|ended))
	case *fs.PathError, *os.LinkError: // an errno of theirs is about a file; one of the network may be about a socket that is not there yet
		for _, value := range []error{fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed, fs.ErrExist} {
			n |= natures[value].when(errors.Is(err, value))
		}
		for _, value := range []error{syscall.ENOTDIR, syscall.EISDIR, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EROFS, syscall.EXDEV} {
			n |= (final | local).when(errors.Is(err, value)) // what else is wrong with a path
		}
	case syscall.Errno: // what else it means depends on what it is about
		n = (final | local).when(errors.Is(e, errors.ErrUnsupported)) | local.when(e == syscall.EMFILE || e == syscall.ENFILE)
	default:
		if e, ok := err.(interface{ Is(error) bool }); ok {
			for value, its := range natures {
				n |= its.when(e.Is(value))
			}
		}
		if e, ok := err.(interface{ SQLState() string }); ok {
			n |= answered.when(isAboutStatement(e.SQLState()))
		}
	}
	if (n | inside).has(local | answered) { // an error of the network by its type only, such as a dial that has no address to go to
		return n
	}
	switch e := err.(type) {
	case net.Error, textproto.ProtocolError: // the latter: cut off inside a header line
		n |= network
	case interface{ As(any) bool }:
		n |= network.when(e.As(new(http2Error)))
	}
	return n
}

// supportedScheme reports whether net/http can fetch the URL of a *url.Error
// that came from a client; other operations name no scheme, and count as supported.
func supportedScheme(raw string) bool {
	scheme, _, ok := strings.Cut(raw, "://")
	return !ok || strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// isSetupAlert reports whether a TLS alert (RFC 8446, section 6.2) is about how
// one side is set up, and not about what became of the bytes on their way.
func isSetupAlert(code uint64) bool {
	switch code {
	case 40, // handshake_failure
		42, 43, 44, 45, 46, 48, 49, // about certificates, their authority, and access
		70, 71, // protocol_version, insufficient_security
		86, 109, 110, // inappropriate_fallback, missing_extension, unsupported_extension
		112, 113, // unrecognized_name, bad_certificate_status_response
		115, 116, 120, 121: // unknown_psk_identity, certificate_required, no_application_protocol, ech_required
		return true
	}
	return false
}

// isAboutStatement goes by the class of a SQLSTATE, by which PostgreSQL's drivers report
// what its server answered. Other classes may be about the server's own state (08
// connection, 53 resources, 57 operator, 58 system).
func isAboutStatement(state string) bool {
	switch {
	case len(state) != 5, state == "25006": // read-only, as after a failover
		return false
	case state == "55P03": // lock_not_available: NOWAIT, or lock_timeout
		return true
	}
	switch state[:2] {
	case "02", "0A", "20", "21", "22", "23", "24", "25", "26", "27", "2B", "2D", "2F", "34", "38", "39", "40", "42", "44", "54", "P0":
		return true
	}
	return false
}

// http2Error is what net/http's HTTP/2 stream errors turn into when asked by
// errors.As: the way to see them without importing golang.org/x/net/http2.
type http2Error struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e http2Error) Error() string { return "http2 stream error" }

// streamCode returns the code of an HTTP/2 stream's error.
func streamCode(err error) (uint32, bool) {
	var stream http2Error
	ok := errors.As(err, &stream)
	return stream.Code, ok
}

// Codes of RFC 9113, section 7.
const (
	refusedStream   = 0x7
	enhanceYourCalm = 0xb
	http11Required  = 0xd
)

package retry

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Retryable reports whether another attempt may bring another result. It may,
// for every error except
//
//   - one marked [Permanent], or about an invalid setting,
//   - a [*StatusError] with a status that Config.RetryStatusCodes leaves out by
//     default,
//   - the rejection of a circuit breaker, and an [*Error]: an inner Do has
//     retried that already,
//   - what cannot change: failed TLS verification and TLS alerts, a host name
//     that does not exist, a malformed address or URL, an unsupported scheme, a
//     response or request over a size limit.
//
// It goes by types, found anywhere in err's tree, never by text. An error of
// package context is retryable: Do itself sees to the caller's own context.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	f := examine(err)
	return f.retryable(nil)
}

// findings is what one walk through an error's tree brings to light.
type findings struct {
	permanent bool             // marked so
	ended     bool             // by an inner Do or a breaker, and not marked since
	marked    *retryAfterError // the outermost mark of RetryAfter
	status    *StatusError     // the outermost
	lasting   bool             // of a kind that another attempt cannot change
}

func examine(err error) (f findings) {
	walk(err, func(err error) bool {
		switch e := err.(type) {
		case *permanentError:
			f.permanent = true
		case *retryAfterError:
			if f.marked == nil {
				f.marked = e
			}
		case *StatusError:
			if f.status == nil {
				f.status = e
			}
		case *OpenError, *Error:
			f.ended = f.ended || f.marked == nil // marks further in are about attempts long past
		default:
			f.lasting = f.lasting || lasting(err)
		}
		return true
	})
	return f
}

// retryable judges by the given status codes, nil for the default ones.
func (f *findings) retryable(codes []int) bool {
	switch {
	case f.permanent, f.ended:
		return false
	case f.marked != nil:
		return true
	case f.lasting:
		return false
	case f.status != nil:
		return f.status.retryable(codes)
	}
	return true
}

// hint is the wait that the server asked for.
func (f *findings) hint() time.Duration {
	if f.marked != nil {
		return f.marked.d
	}
	if f.status != nil {
		return f.status.RetryAfter
	}
	return 0
}

// throttled reports whether the wait that the server asked for concerns all of
// its callers, and not this one request.
func (f *findings) throttled() bool {
	return f.marked != nil || f.status != nil && f.status.throttled()
}

// lasting reports whether err, without what it wraps, is of a kind that no
// other attempt can change.
func lasting(err error) bool {
	switch e := err.(type) {
	case *tls.CertificateVerificationError, tls.AlertError, tls.RecordHeaderError, *tls.ECHRejectionError,
		x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError, x509.SystemRootsError:
		return true
	case *net.OpError:
		return e.Op == "remote error" || e.Op == "local error" // how crypto/tls reports alerts
	case *net.DNSError:
		return e.IsNotFound
	case *net.AddrError, *net.ParseError, net.InvalidAddrError, net.UnknownNetworkError:
		return true
	case *url.Error:
		return e.Op == "parse" || !supportedScheme(e.URL)
	case url.EscapeError, url.InvalidHostError, *http.MaxBytesError:
		return true
	}
	return err == ErrInvalidConfig || err == http.ErrSchemeMismatch
}

// supportedScheme reports whether net/http can fetch the URL of a *url.Error
// that came from a client; other operations name no scheme and are let pass.
func supportedScheme(raw string) bool {
	scheme, _, ok := strings.Cut(raw, "://")
	return !ok || strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// walk visits err and all that it wraps, outermost first, until visit returns
// false. It reports whether it came to the end.
func walk(err error, visit func(error) bool) bool {
	for err != nil {
		if !visit(err) {
			return false
		}
		switch wrapper := err.(type) {
		case interface{ Unwrap() error }:
			err = wrapper.Unwrap()
		case interface{ Unwrap() []error }:
			for _, inner := range wrapper.Unwrap() {
				if !walk(inner, visit) {
					return false
				}
			}
			return true
		default:
			return true
		}
	}
	return true
}

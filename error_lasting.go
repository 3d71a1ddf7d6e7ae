package retry

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
)

// nature is what the kind of an error says, to a retry and to a breaker.
type nature int

const (
	final    nature = 1 << iota // another attempt cannot change it
	answered                    // the dependency was at work, and answered
	local                       // it came about on this side: the dependency has no part in it
)

// lasting reports whether err, without what it wraps, is of a kind that no
// other attempt can change. See Retryable for the reasons.
func lasting(err error) bool { return natureOf(err)&final != 0 }

// natureOf judges err without what it wraps. An error that is final, and neither
// answered nor local, is a state of the dependency or of the way to it: a name that does
// not exist, a certificate that has expired.
//
// database/sql and os/exec are here for their errors alone: the linker leaves
// all the rest of them out.
func natureOf(err error) nature {
	if reflect.TypeOf(err) == typeValue { // most errors: one look, and not thirty
		return valueNatures[err]
	}
	switch e := err.(type) {
	case *net.DNSError:
		return finalIf(e.IsNotFound)
	case *net.AddrError, *net.ParseError, net.InvalidAddrError, net.UnknownNetworkError,
		url.EscapeError, url.InvalidHostError, *http.MaxBytesError, *exec.Error, x509.SystemRootsError,
		*json.InvalidUnmarshalError, *json.UnsupportedTypeError, *json.UnsupportedValueError, *json.MarshalerError:
		return final | local
	case *json.UnmarshalTypeError:
		return final | answered
	case *url.Error:
		if e.Op == "parse" || !supportedScheme(e.URL) && !served(e.Err) {
			return final | local
		}
		return 0
	case *fs.PathError:
		return fileNature(e.Err)
	case *os.LinkError:
		return fileNature(e.Err)
	}
	if n := natureByIs(err); n != 0 {
		return n
	}
	if e, ok := err.(interface{ SQLState() string }); ok {
		return stateNature(e.SQLState())
	}
	return finalIf(lastingTLS(err))
}

func finalIf(is bool) nature {
	if is {
		return final
	}
	return 0
}

// valueNatures are all made by errors.New.
var valueNatures = map[error]nature{
	ErrInvalidConfig:       final | local,
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
}

var typeValue = reflect.TypeOf(ErrInvalidConfig)

// natureByIs is the nature of one of those values if err says by an Is method that it
// is that, as the errors of drivers and file systems do. An errno alone says only that
// the system cannot do it, or has no file descriptors left: what else it means depends
// on what it is about.
func natureByIs(err error) nature {
	matcher, ok := err.(interface{ Is(error) bool })
	if !ok {
		return 0
	}
	if reflect.TypeOf(err).PkgPath() == "syscall" {
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return final | local
		case err == error(syscall.EMFILE), err == error(syscall.ENFILE):
			return local
		}
		return 0
	}
	for value, n := range valueNatures {
		if matcher.Is(value) {
			return n
		}
	}
	return 0
}

// stateNature goes by the class of a SQLSTATE, by which PostgreSQL's drivers tell what
// its server answered. Those that are listed are about the statement; others may be
// about the server's own state (08 connection, 53 resources, 57 operator, 58 system).
func stateNature(state string) nature {
	if len(state) == 5 {
		switch state[:2] {
		case "02", "0A", "21", "22", "23", "40", "42", "44", "P0":
			return answered
		}
	}
	return 0
}

// fileNature judges what is inside an error about a file. The same errno in an
// error of the network means something else: a socket that is not there yet.
func fileNature(err error) nature {
	if err == nil || isNil(err) {
		return 0
	}
	for _, value := range []error{fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed, fs.ErrExist} {
		if errors.Is(err, value) {
			return valueNatures[value]
		}
	}
	return 0
}

// lastingTLS reports whether err means that the two sides of a TLS connection do
// not fit together. A caller who knows that they do may take a record that is no
// TLS, or any alert, for a fault of the way.
func lastingTLS(err error) bool {
	switch e := err.(type) {
	case *tls.CertificateVerificationError, *tls.ECHRejectionError, tls.RecordHeaderError,
		x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError,
		x509.ConstraintViolationError, x509.UnhandledCriticalExtension:
		return true
	case tls.AlertError:
		return lastingAlert(uint64(e))
	case *net.OpError: // how crypto/tls reports alerts, whose type it does not export
		if e.Op != "remote error" && e.Op != "local error" {
			return false
		}
		alert := reflect.ValueOf(e.Err)
		return alert.Kind() != reflect.Uint8 || lastingAlert(alert.Uint())
	}
	return false
}

// lastingAlert reports whether a TLS alert (RFC 8446, section 6.2) is about how
// one side is set up, and not about what became of the bytes on their way.
func lastingAlert(code uint64) bool {
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

// supportedScheme reports whether net/http can fetch the URL of a *url.Error
// that came from a client; other operations name no scheme and are let pass.
func supportedScheme(raw string) bool {
	scheme, _, ok := strings.Cut(raw, "://")
	return !ok || strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// served reports whether an error shows that somebody serves the URL whose
// request it ended: it is of the network, or an answer.
func served(err error) bool {
	return ofNetwork(err) || !walk(err, func(err error) bool {
		switch err.(type) {
		case *StatusError, *retryAfterError:
			return false
		}
		return true
	})
}

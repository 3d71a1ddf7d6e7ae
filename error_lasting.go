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
)

// lasting reports whether err, without what it wraps, is of a kind that no
// other attempt can change. See Retryable for the reasons.
//
// database/sql and os/exec are here for their errors alone: the linker leaves
// all the rest of them out.
func lasting(err error) bool {
	if reflect.TypeOf(err) == typeValue { // most errors: one look, and not thirty
		return lastingValues[err]
	}
	switch e := err.(type) {
	case *net.DNSError:
		return e.IsNotFound
	case *net.AddrError, *net.ParseError, net.InvalidAddrError, net.UnknownNetworkError,
		url.EscapeError, url.InvalidHostError, *http.MaxBytesError:
		return true
	case *url.Error:
		return e.Op == "parse" || !supportedScheme(e.URL) && !served(e.Err)
	case *fs.PathError:
		return lastingFile(e.Err)
	case *os.LinkError:
		return lastingFile(e.Err)
	case *exec.Error:
		return true
	case *json.UnmarshalTypeError, *json.InvalidUnmarshalError, *json.UnsupportedTypeError, *json.UnsupportedValueError:
		return true
	}
	return lastingByIs(err) || lastingTLS(err)
}

// lastingValues are all made by errors.New.
var lastingValues = map[error]bool{
	ErrInvalidConfig: true, http.ErrSchemeMismatch: true, errors.ErrUnsupported: true, sql.ErrNoRows: true, sql.ErrTxDone: true,
	exec.ErrNotFound: true, exec.ErrDot: true, fs.ErrNotExist: true, fs.ErrPermission: true, fs.ErrInvalid: true, fs.ErrClosed: true,
}

var typeValue = reflect.TypeOf(ErrInvalidConfig)

// lastingByIs reports whether err says by an Is method that it is one of those
// values, as the errors of drivers and file systems do. An errno alone says only
// that the system cannot do it: what else it means depends on what it is about.
func lastingByIs(err error) bool {
	matcher, ok := err.(interface{ Is(error) bool })
	if !ok {
		return false
	}
	if reflect.TypeOf(err).PkgPath() == "syscall" {
		return errors.Is(err, errors.ErrUnsupported)
	}
	for value := range lastingValues {
		if matcher.Is(value) {
			return true
		}
	}
	return false
}

// lastingFile judges what is inside an error about a file. The same errno in an
// error of the network means something else: a socket that is not there yet.
func lastingFile(err error) bool {
	if err == nil || isNil(err) {
		return false
	}
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrClosed)
}

// lastingTLS reports whether err means that the two sides of a TLS connection do
// not fit together. A caller who knows that they do may take a record that is no
// TLS, or any alert, for a fault of the way.
func lastingTLS(err error) bool {
	switch e := err.(type) {
	case *tls.CertificateVerificationError, *tls.ECHRejectionError, tls.RecordHeaderError,
		x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError, x509.SystemRootsError,
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

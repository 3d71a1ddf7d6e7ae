package retry

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// host is what the requests to one host share. It does not change once it is
// ready, but for the atomics, and for what hosts.mu guards.
type host struct {
	name           string // of the request that it was made for
	cfg            Config // with its gate, breaker and the like
	attemptTimeout time.Duration
	inUse          atomic.Int32
	proto          atomic.Int32  // the major version of HTTP of its last answer; 0: it never answered
	ready          chan struct{} // closed when it is configured, or will not be
	whole          bool          // it is; to be read after ready is closed, or under hosts.mu

	recent recent // how it was first found

	// Guarded by hosts.mu.
	key        string
	sources    []source
	list       *hostList // that it is in
	prev, next *host
}

// newHost makes a host for one request alone.
func (c *core) newHost(key string, req *http.Request) (*host, error) {
	h := new(host)
	h.inUse.Add(1)
	if err := h.configure(c, key, req); err != nil {
		return nil, err
	}
	return h, nil
}

// configure gives the host its settings.
func (h *host) configure(c *core, key string, req *http.Request) error {
	h.cfg = c.cfg
	name := hostName(req)
	h.name = name
	if h.cfg.Name == "" {
		h.cfg.Name = name
	}
	if key != "" {
		if err := h.customize(c, key, name); err != nil {
			if errors.Is(err, ErrInvalidConfig) {
				return fmt.Errorf("host %s: %w", name, err)
			}
			return fmt.Errorf("%w: host %s: %w", ErrInvalidConfig, name, err)
		}
	}
	h.cfg.host = name // PerHost may have replaced all of it
	if key != "" && c.onHost != nil {
		c.onHost(name, h.cfg)
	}
	h.attemptTimeout, h.cfg.AttemptTimeout = h.cfg.AttemptTimeout, 0
	return nil
}

// customize gives the host its own breaker and gate, and calls PerHost.
func (h *host) customize(c *core, key, name string) (err error) {
	own := func() error {
		if c.breaker != nil {
			settings := *c.breaker
			settings.Name = name
			if settings.Clock == nil {
				settings.Clock = h.cfg.Clock
			}
			if h.cfg.Breaker, err = NewCircuitBreaker(settings); err != nil {
				return err
			}
		}
		if c.cfg.Gate == nil && !c.noPause {
			h.cfg.Gate = NewGate(h.cfg.Clock)
		}
		return nil
	}
	if err = own(); err != nil || c.perHost == nil {
		return err
	}
	given := h.cfg
	if err = c.perHost(key, &h.cfg); err != nil {
		return err
	}
	if h.cfg.Gate == nil && !c.noPause {
		h.cfg.Gate = NewGate(h.cfg.Clock)
	}
	if !sameClock(h.cfg.Clock, given.Clock) && h.cfg.Gate == given.Gate && h.cfg.Breaker == given.Breaker {
		if err = own(); err != nil { // what was made for it goes by its clock
			return err
		}
	}
	return h.cfg.Validate()
}

// settings is the host's effective Config, as PerHost left it.
func (h *host) settings() Config {
	cfg := h.cfg
	cfg.AttemptTimeout = h.attemptTimeout
	return cfg
}

// key is what counts as one host: by default scheme, name and port, so that
// spellings of the same address share one.
func (c *core) key(req *http.Request) string {
	if c.hostKey != nil {
		return c.hostKey(req)
	}
	return hostName(req)
}

// hostName names a host in logs, errors, metrics and events, and is its default key:
// scheme://host, and a port only where it is not the scheme's own. A key of the user's
// own is shown nowhere: it may be a secret.
func hostName(req *http.Request) string {
	scheme, name, port := strings.ToLower(req.URL.Scheme), strings.ToLower(req.URL.Hostname()), req.URL.Port()
	switch {
	case port != "" && port != schemePort(scheme):
		name = net.JoinHostPort(name, port)
	case strings.Contains(name, ":"):
		name = "[" + name + "]"
	}
	return scheme + "://" + name
}

func schemePort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

package retry

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/retryutils/retry/internal/clock"
)

// host is what the requests to one host share. It does not change once it is
// ready, but for the atomics, and for what hosts.mu guards.
type host struct {
	source            // as it was first found
	name       string // of the request that it was made for
	cfg        Config // with its gate, breaker and the like
	inUse      atomic.Int32
	proto      atomic.Int32  // the major version of HTTP of its last answer; 0: it never answered
	ready      chan struct{} // closed when it is configured, or will not be
	configured bool          // successfully; to be read after ready is closed, or under hosts.mu

	// Guarded by hosts.mu.
	key   string
	place *list.Element // in hosts.used; nil if it was forgotten
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
	h.name, h.cfg = hostName(req), c.cfg
	h.cfg.Name = cmp.Or(h.cfg.Name, h.name)
	if key != "" {
		if err := h.customize(c, key); err != nil {
			if errors.Is(err, ErrInvalidConfig) {
				return fmt.Errorf("host %s: %w", h.name, err)
			}
			return fmt.Errorf("%w: host %s: %w", ErrInvalidConfig, h.name, err)
		}
	}
	h.cfg.host = h.name // PerHost may have replaced all of it
	if key != "" {
		for _, fn := range c.onHost {
			fn(h.name, h.cfg)
		}
	}
	return nil
}

// customize gives the host its own breaker and gate, and calls PerHost.
func (h *host) customize(c *core, key string) (err error) {
	own := func() error {
		if c.breaker != nil {
			settings := *c.breaker
			settings.Name = h.name
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
	if err = own(); err != nil {
		return err
	}
	given := h.cfg
	for _, configure := range c.perHost {
		if err = configure(key, &h.cfg); err != nil {
			return err
		}
	}
	if h.cfg.Gate == nil && !c.noPause {
		h.cfg.Gate = NewGate(h.cfg.Clock)
	}
	if !clock.Same(h.cfg.Clock, given.Clock) && h.cfg.Gate == given.Gate && h.cfg.Breaker == given.Breaker {
		if err = own(); err != nil { // what was made for it goes by its clock
			return err
		}
	}
	return h.cfg.Validate()
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
// scheme://host, and a port only where it is not the scheme's own. A custom key
// is shown nowhere: it may be a secret.
func hostName(req *http.Request) string {
	scheme, name, port := strings.ToLower(req.URL.Scheme), strings.ToLower(req.URL.Hostname()), req.URL.Port()
	switch {
	case port != "" && !(scheme == "http" && port == "80") && !(scheme == "https" && port == "443"):
		name = net.JoinHostPort(name, port)
	case strings.Contains(name, ":"):
		name = "[" + name + "]"
	}
	return scheme + "://" + name
}

// hosts finds the host of a request, and keeps a bounded number of them. No
// caller's function is called under its lock.
type hosts struct {
	last atomic.Pointer[host] // most clients talk to one host

	mu    sync.Mutex // guards the fields below
	byKey map[string]*host
	bySrc map[source]*host // the same hosts, by what stands in the URL
	used  list.List        // newest first
}

// source is what stands in a URL.
type source struct{ scheme, host string }

// maxHosts is how many hosts are remembered. One with an open breaker or a gate
// that is paused is never forgotten: if all are like that, a new host goes
// without a memory.
const maxHosts = 1000

// get returns the host of a request, in use.
func (hs *hosts) get(c *core, req *http.Request) (*host, error) {
	src := source{req.URL.Scheme, req.URL.Host}
	if last := hs.last.Load(); last != nil && last.source == src {
		last.inUse.Add(1)
		return last, nil
	}
	if h := hs.bySource(src, c); h != nil {
		return h, nil
	}
	key := c.key(req)
	if key == "" {
		return c.newHost(key, req)
	}
	for {
		h, mine := hs.byName(key, src, c)
		switch {
		case h == nil:
			return c.newHost(key, req) // without a memory
		case mine:
			if err := hs.build(h, c, req); err != nil {
				return nil, err
			}
			return h, nil
		case h.await(req.Context()):
			return h, nil
		}
		h.inUse.Add(-1)
		if done(req.Context()) {
			return nil, doneError(req.Context())
		}
	}
}

// all returns the hosts that are configured, in the order of their names.
func (hs *hosts) all() (all []*host) {
	hs.mu.Lock()
	for _, h := range hs.byKey {
		if h.configured {
			all = append(all, h)
		}
	}
	hs.mu.Unlock()
	slices.SortFunc(all, func(a, b *host) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.key, b.key))
	})
	return all
}

// bySource finds a host by the shortcut, if there is one.
func (hs *hosts) bySource(src source, c *core) *host {
	if c.hostKey != nil {
		return nil
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.bySrc[src]
	if h == nil || !h.configured || h.place == nil {
		return nil
	}
	hs.touch(h)
	if h.source == src {
		hs.last.Store(h)
	}
	return h
}

// touch takes a host into use. hs.mu must be held.
func (hs *hosts) touch(h *host) {
	if last := hs.last.Load(); last != nil {
		hs.used.MoveToFront(last.place) // it was used unseen
	}
	hs.used.MoveToFront(h.place)
	h.inUse.Add(1)
}

// byName finds or makes the host of a key; mine says that the caller must build
// it. It is nil if there is no room.
func (hs *hosts) byName(key string, src source, c *core) (h *host, mine bool) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h = hs.byKey[key]; h == nil {
		if len(hs.byKey) >= maxHosts && !hs.evict(c) {
			return nil, false
		}
		if hs.byKey == nil {
			hs.byKey, hs.bySrc = make(map[string]*host), make(map[source]*host)
		}
		h, mine = &host{source: src, key: key, ready: make(chan struct{})}, true
		hs.byKey[key], h.place = h, hs.used.PushFront(h)
	}
	hs.touch(h)
	if c.hostKey == nil && hs.bySrc[src] != h {
		if len(hs.bySrc) >= 2*maxHosts { // it is only a shortcut
			clear(hs.bySrc)
		}
		hs.bySrc[src] = h
	}
	return h, mine
}

// build configures a host. Requests to it that begin meanwhile wait. If it fails, even
// by a panic, the host is forgotten, and the next request tries again.
func (hs *hosts) build(h *host, c *core, req *http.Request) (err error) {
	ok := false
	defer func() {
		hs.mu.Lock()
		if h.configured = ok; !ok {
			h.inUse.Add(-1)
			hs.forget(h)
		}
		hs.mu.Unlock()
		close(h.ready)
	}()
	err = h.configure(c, h.key, req)
	ok = err == nil
	return err
}

// await waits until a host is configured, and reports whether it is.
func (h *host) await(ctx context.Context) bool {
	select {
	case <-h.ready:
	default:
		select {
		case <-h.ready:
		case <-ctx.Done():
			return false
		}
	}
	return h.configured
}

// evict forgets the host that was not used for longest, among those that hold nothing
// worth keeping. Those that do move to the front, so that the others are examined first
// when another one must go. hs.mu must be held.
func (hs *hosts) evict(c *core) bool {
	for range hs.used.Len() {
		h := hs.used.Back().Value.(*host)
		if h.idle(c) {
			hs.forget(h)
			return true
		}
		hs.used.MoveToFront(h.place)
	}
	return false
}

// forget removes a host, but for its shortcuts, which lead nowhere then. hs.mu must be
// held.
func (hs *hosts) forget(h *host) {
	hs.last.CompareAndSwap(h, nil)
	hs.used.Remove(h.place)
	h.place = nil
	delete(hs.byKey, h.key)
}

// idle reports whether nothing is lost with the host: no request is under way,
// and its own gate and breaker stop no call.
func (h *host) idle(c *core) bool {
	if h.inUse.Load() > 0 {
		return false
	}
	if g := h.cfg.Gate; g != nil && g != c.cfg.Gate {
		if _, paused := g.PausedUntil(); paused {
			return false
		}
	}
	b := h.cfg.Breaker
	return b == nil || b == c.cfg.Breaker || b.State() != StateOpen
}

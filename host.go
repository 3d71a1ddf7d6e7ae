package retry

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// host is what the requests to one host share.
type host struct {
	recent         recent // how it was first found
	cfg            Config // with its gate, breaker and the like
	attemptTimeout time.Duration
	err            error // what is wrong with cfg
	once           sync.Once
	inUse          atomic.Int32
	used           int64        // when, in requests; guarded by hosts.mu
	proto          atomic.Int32 // the major version of HTTP of its last answer; 0: it never answered
}

// hosts finds the host of a request, and keeps a bounded number of them.
type hosts struct {
	last atomic.Pointer[recent] // most clients talk to one host

	mu    sync.Mutex // guards the fields below
	byKey map[string]*host
	bySrc map[source]*host // the same hosts, by what stands in the URL
	tick  int64
}

type source struct{ scheme, host string }

type recent struct {
	source
	host *host
}

// maxHosts is how many hosts are remembered. One with an open breaker or a gate
// that is paused is never forgotten: if all are like that, a new host goes
// without a memory.
const maxHosts = 1000

// get returns the host of a request, in use.
func (hs *hosts) get(c *core, req *http.Request) (*host, error) {
	src := source{req.URL.Scheme, req.URL.Host}
	if last := hs.last.Load(); last != nil && last.source == src {
		last.host.inUse.Add(1)
		return last.host, nil
	}
	hs.mu.Lock()
	hs.tick++
	h := hs.bySrc[src]
	if h == nil || c.hostKey != nil {
		h = hs.lookUp(c, req, src)
	}
	h.used = hs.tick
	h.inUse.Add(1)
	hs.mu.Unlock()
	// Outside of the lock: it calls the user's function, once.
	h.once.Do(func() { h.configure(c, req) })
	if h.err != nil {
		h.inUse.Add(-1)
		return nil, h.err
	}
	if h.recent.source == src && c.hostKey == nil {
		hs.last.Store(&h.recent)
	}
	return h, nil
}

// lookUp finds or makes the host by its key. hs.mu must be held.
func (hs *hosts) lookUp(c *core, req *http.Request, src source) *host {
	key := c.key(req)
	if key == "" {
		return new(host)
	}
	h := hs.byKey[key]
	if h == nil {
		h = new(host)
		h.recent = recent{src, h}
		if len(hs.byKey) >= maxHosts && !hs.evict() {
			return new(host)
		}
		if hs.byKey == nil {
			hs.byKey = make(map[string]*host)
		}
		hs.byKey[key] = h
	}
	if c.hostKey == nil {
		if hs.bySrc == nil || len(hs.bySrc) >= 2*maxHosts { // it is only a shortcut
			hs.bySrc = make(map[source]*host)
		}
		hs.bySrc[src] = h
	}
	return h
}

// evict forgets the host that was not used for longest, among those that hold
// nothing worth keeping. hs.mu must be held.
func (hs *hosts) evict() bool {
	var oldest string
	for key, h := range hs.byKey {
		if (oldest == "" || h.used < hs.byKey[oldest].used) && h.idle() {
			oldest = key
		}
	}
	if oldest == "" {
		return false
	}
	gone := hs.byKey[oldest]
	hs.last.Store(nil)
	delete(hs.byKey, oldest)
	for src, h := range hs.bySrc {
		if h == gone {
			delete(hs.bySrc, src)
		}
	}
	return true
}

// idle reports whether nothing is lost with the host: no request is under way,
// its gate is open, and its breaker is closed and does not count failures.
func (h *host) idle() bool {
	if h.inUse.Load() > 0 {
		return false
	}
	if h.cfg.Gate != nil {
		if _, paused := h.cfg.Gate.PausedUntil(); paused {
			return false
		}
	}
	if h.cfg.Breaker != nil {
		s := h.cfg.Breaker.Snapshot()
		return s.State == StateClosed && s.ConsecutiveFailures == 0
	}
	return true
}

// configure gives the host its settings.
func (h *host) configure(c *core, req *http.Request) {
	key := c.key(req)
	h.cfg = c.cfg
	if h.cfg.Name == "" {
		h.cfg.Name = key
	}
	if key != "" {
		if c.perHost != nil {
			c.perHost(key, &h.cfg)
			h.err = h.cfg.Validate()
		}
		if h.cfg.Gate == nil && !c.noPause {
			h.cfg.Gate = NewGate(h.cfg.Clock)
		}
		if c.onHost != nil && h.err == nil {
			c.onHost(key, h.cfg)
		}
	}
	h.attemptTimeout, h.cfg.AttemptTimeout = h.cfg.AttemptTimeout, 0
}

// key is what counts as one host: by default scheme, name and port, so that
// spellings of the same address share one.
func (c *core) key(req *http.Request) string {
	if c.hostKey != nil {
		return c.hostKey(req)
	}
	scheme, name, port := strings.ToLower(req.URL.Scheme), strings.ToLower(req.URL.Hostname()), req.URL.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return scheme + "://" + net.JoinHostPort(name, port)
}

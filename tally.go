package retry

import (
	"sync/atomic"
	"unsafe"
)

// tally counts the calls of a period without making processors wait for each
// other: it starts as two plain numbers, and is spread over several cache lines
// once two calls collide on them.
//
// See Dice, Lev, Moir: "Scalable Statistics Counters" (SPAA 2013).
type tally struct {
	requests  counter
	successes counter
	wide      atomic.Pointer[[stripes]stripe]
}

const stripes = 8

// stripe is as long as the memory that processors fetch at once.
type stripe struct {
	requests, successes counter
	_                   [128 - 16]byte
}

type counter struct{ n atomic.Int64 }

func (c *counter) add(t *tally) {
	if t.wide.Load() == nil {
		if n := c.n.Load(); c.n.CompareAndSwap(n, n+1) {
			return
		}
		t.wide.CompareAndSwap(nil, new([stripes]stripe))
	}
	t.mine(c).n.Add(1)
}

// mine is the stripe's counterpart of c for this goroutine, told from others by
// where its stack lies.
func (t *tally) mine(c *counter) *counter {
	var here byte
	s := &t.wide.Load()[uint64(uintptr(unsafe.Pointer(&here))>>10)*0x9e3779b97f4a7c15>>61]
	if c == &t.requests {
		return &s.requests
	}
	return &s.successes
}

func (c *counter) load(t *tally) int64 {
	n := c.n.Load()
	if wide := t.wide.Load(); wide != nil {
		for i := range wide {
			if c == &t.requests {
				n += wide[i].requests.n.Load()
			} else {
				n += wide[i].successes.n.Load()
			}
		}
	}
	return n
}

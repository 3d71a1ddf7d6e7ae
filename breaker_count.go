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
	requests  atomic.Int64
	successes atomic.Int64
	wide      atomic.Pointer[[stripes]stripe]
}

const (
	stripeBits = 5
	stripes    = 1 << stripeBits
)

// stripe is as long as the memory that processors fetch at once.
type stripe struct {
	requests, successes atomic.Int64
	_                   [128 - 16]byte
}

func (t *tally) request() {
	if n := t.requests.Load(); t.wide.Load() != nil || !t.requests.CompareAndSwap(n, n+1) {
		t.mine().requests.Add(1)
	}
}

func (t *tally) success() {
	if n := t.successes.Load(); t.wide.Load() != nil || !t.successes.CompareAndSwap(n, n+1) {
		t.mine().successes.Add(1)
	}
}

// mine is this goroutine's stripe, told from others by where its stack lies.
func (t *tally) mine() *stripe {
	if t.wide.Load() == nil {
		t.wide.CompareAndSwap(nil, new([stripes]stripe))
	}
	var here byte
	hash := uint64(uintptr(unsafe.Pointer(&here))>>10) * 0x9e3779b97f4a7c15 // Fibonacci hashing
	return &t.wide.Load()[hash>>(64-stripeBits)]
}

// sums returns the numbers of requests and successes, the latter never the
// larger: each success was a request before.
func (t *tally) sums() (requests, successes int) {
	wide := t.wide.Load()
	successes = int(t.successes.Load())
	if wide != nil {
		for i := range wide {
			successes += int(wide[i].successes.Load())
		}
		for i := range wide {
			requests += int(wide[i].requests.Load())
		}
	}
	return requests + int(t.requests.Load()), successes
}

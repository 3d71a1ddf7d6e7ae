// Command soak runs everything that the library has, for an hour, against servers in the
// same process that misbehave at random, and checks what a shorter test cannot: that
// nothing grows, that no POST is lost or carried out twice, and that the events of each
// call add up.
//
//	cd integration && GOWORK=off go run -race ./soak
//
// It stops the load for a moment once a minute, when all calls have ended, and counts: heap,
// goroutines and descriptors must be within 2 % of those of the tenth minute (of a shorter
// run: of its first sixth). What the last long run gave is in integration/README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

var (
	length = flag.Duration("for", time.Hour, "how long it runs")
	rate   = flag.Float64("rate", 150, "calls per second that begin")
	seed   = flag.Uint64("seed", 0, "of what the servers and calls do; 0: by chance")
	heaps  = flag.String("heaps", "", "a directory for a profile of the heap at each count, for go tool pprof -base; makes it slower")
	spread = flag.Float64("within", 0.02, "by what share heap, goroutines and descriptors may exceed the first ones that count")
)

func main() {
	flag.Parse()
	if *heaps != "" {
		runtime.MemProfileRate = 1 << 10
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	if err := soak(); err != nil {
		fmt.Fprintf(os.Stderr, "soak: seed %d: %v\n", *seed, err)
		os.Exit(1)
	}
}

// inFlightMost is how many calls there are at once: above it none begins.
const inFlightMost = 200

func soak() error {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	books := newBooks()
	servers := newServers(books)
	defer servers.close()
	calls, err := newCalls(books, servers, dir)
	if err != nil {
		return err
	}
	reserve(1_000)
	random := rand.New(rand.NewPCG(*seed, 0))
	fmt.Printf("%v, race detector %v, %.0f calls/s, seed %d\n", *length, raceEnabled, *rate, *seed)
	fmt.Println("   after    calls attempts  retries    waits failures hedges    posts   heap KiB goroutines descriptors")

	start := time.Now()
	interval := max(*length/60, min(*length/6, time.Minute))
	var first, last sample
	for n := 1; time.Since(start) < *length; n++ {
		load(random, servers, calls, time.Now().Add(interval))
		servers.calm()
		if err := calls.settle(); err != nil {
			return err
		}
		if err := books.check(calls.hedged()); err != nil {
			return err
		}
		last = measure(first)
		if *heaps != "" {
			if err := writeHeap(filepath.Join(*heaps, fmt.Sprintf("%03d", n))); err != nil {
				return err
			}
		}
		fmt.Printf("%8v %s %s\n", time.Since(start).Round(time.Second), books, last)
		if counts := time.Since(start) >= *length/6-time.Second/2; counts && first.heap == 0 {
			first = last
		} else if counts {
			if err := last.within(first, *spread); err != nil {
				return err
			}
		}
	}
	fmt.Printf("heap %+.1f %%, goroutines %+d, descriptors %+d since the first that counts\n",
		100*(float64(last.heap)/float64(first.heap)-1), last.goroutines-first.goroutines, last.descriptors-first.descriptors)
	return nil
}

// reserve has as many goroutines at once as there will ever be. The runtime keeps what it
// needs for each of them when it has ended, which would otherwise be found as growth.
func reserve(goroutines int) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() { <-end })
	}
	close(end)
	wg.Wait()
}

// load begins calls until a time, while the servers change their moods, and waits until
// all have ended.
func load(random *rand.Rand, servers *servers, calls *calls, end time.Time) {
	var wg sync.WaitGroup
	places := make(chan struct{}, inFlightMost)
	pace := time.NewTicker(time.Duration(float64(time.Second) / *rate))
	defer pace.Stop()
	moods := time.NewTicker(300 * time.Millisecond)
	defer moods.Stop()
	for time.Now().Before(end) {
		select {
		case <-moods.C:
			servers.change(random)
			calls.meddle(random)
		case <-pace.C:
			select {
			case places <- struct{}{}:
			default:
				continue
			}
			kind, draw := random.IntN(len(kinds)), random.Uint64()
			wg.Go(func() {
				defer func() { <-places }()
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				kinds[kind](ctx, calls, rand.New(rand.NewPCG(draw, 0)))
			})
		}
	}
	wg.Wait()
}

// sample is what the process holds when no call is under way.
type sample struct {
	heap                    uint64
	goroutines, descriptors int
}

// measure waits for a moment until as little is left as there was before: a connection
// that was closed takes its goroutines with it a little later.
func measure(before sample) (s sample) {
	for range 20 {
		runtime.GC()
		runtime.GC() // what a sync.Pool holds lives for two
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		now := sample{memory.HeapAlloc, runtime.NumGoroutine(), descriptors()}
		if s.heap == 0 {
			s = now
		}
		s = sample{min(s.heap, now.heap), min(s.goroutines, now.goroutines), min(s.descriptors, now.descriptors)}
		if before.heap != 0 && s.within(before, 0) == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return s
}

func writeHeap(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return pprof.WriteHeapProfile(file)
}

// descriptors counts those of the process, where the system shows them.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

func (s sample) String() string {
	return fmt.Sprintf("%10d %10d %11d", s.heap>>10, s.goroutines, s.descriptors)
}

func (s sample) within(first sample, share float64) error {
	most := 1 + share
	if float64(s.heap) > most*float64(first.heap) || float64(s.goroutines) > most*float64(first.goroutines) || float64(s.descriptors) > most*float64(first.descriptors) {
		return fmt.Errorf("grown by more than %v: heap %d bytes, goroutines %d, descriptors %d; were %d, %d, %d",
			share, s.heap, s.goroutines, s.descriptors, first.heap, first.goroutines, first.descriptors)
	}
	return nil
}

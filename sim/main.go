// Command sim drives the library in a time of its own through the workloads of
// the literature on retries, and writes what it finds to RESULTS.md and
// results/ beside it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func main() {
	seed := flag.Uint64("seed", 1, "of everything random")
	trials := flag.Int("trials", 40, "of each contention experiment")
	short := flag.Bool("brief", false, "compare the gate with none in one line, and write nothing")
	only := flag.String("only", "", "situations, separated by |: print a cell of a table for each, and write nothing")
	testing.Init()
	flag.Parse()
	began := time.Now()
	// The worlds need synctest bubbles, which package testing alone hands out.
	inTest(func(t *testing.T) {
		if *short {
			fmt.Println(brief(compare(t, append(harmless(), useful()...), []peer{peers()[theGate], peers()[noGate]}, 5)))
			os.Exit(0)
		}
		if *only != "" {
			fmt.Println(cells(t, strings.Split(*only, "|")))
			os.Exit(0)
		}
		f := simulate(t, *seed, *trials)
		report := f.markdown(*seed)
		fmt.Print(report)
		fmt.Fprintf(os.Stderr, "took %v\n", time.Since(began).Round(100*time.Millisecond))
		if err := f.write(folder(), report); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	})
}

func inTest(f func(*testing.T)) {
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "sim", F: f}}, nil, nil)
}

// folder is where this program's source lies.
func folder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// The command survey runs retrylint over the modules of modules.txt, at the
// versions that stand there, and compares what it finds with what was judged by
// reading: judged.tsv for precision, loops.tsv for recall. It downloads the
// modules, with the go command and into its ordinary cache.
//
//	go run ./survey > RESULTS.md
//	go run ./survey -only gocql -list
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/retryutils/retry/retrylint"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("data", "survey", "the directory of modules.txt, judged.tsv and loops.tsv")
	only := flag.String("only", "", "only modules whose path contains one of these, separated by commas")
	list := flag.Bool("list", false, "list the findings instead of the table")
	fixes := flag.String("fixes", "", "write each file with a fix, as it was and with the fix, into this directory")
	check := flag.Bool("check", false, "fail if precision is below 90 %, recall below 80 %, or a module cannot be analyzed")
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "how many modules are analyzed at once")
	flag.Parse()
	modules, err := readModules(*dir + "/modules.txt")
	if err != nil {
		log.Fatal(err)
	}
	modules = slices.DeleteFunc(modules, func(m module) bool { return !selected(m.path, *only) })
	results := surveyAll(modules, *parallel)
	failed := 0
	for _, res := range results {
		if res.err != nil {
			failed++
		}
	}
	if *fixes != "" {
		if err := saveFixes(*fixes, results); err != nil {
			log.Fatal(err)
		}
	}
	if *list {
		for _, res := range results {
			for _, f := range res.findings {
				fix := ""
				if f.fix {
					fix = " [fix]"
				}
				fmt.Printf("%s\t%s:%d\t%s\t%s%s\n", res.module, f.file, f.line, f.category, f.message, fix)
			}
		}
		return
	}
	precision, recall, err := report(os.Stdout, *dir, results)
	if err != nil {
		log.Fatal(err)
	}
	if *check && (failed > 0 || precision < 0.9 || recall < 0.8) {
		log.Fatalf("%d modules not analyzed, precision %.2f, recall %.2f", failed, precision, recall)
	}
}

// surveyAll analyzes the modules, so many at once, and logs what it found in each.
func surveyAll(modules []module, parallel int) []result {
	results := make([]result, len(modules))
	next := make(chan int)
	var group sync.WaitGroup
	for range max(parallel, 1) {
		group.Go(func() {
			for i := range next {
				res := survey(modules[i], retrylint.Analyzer)
				if res.err != nil {
					log.Print(res.err)
				}
				log.Printf("%s: %d packages, %d lines, %d findings, %v", res.module, res.packages, res.lines, len(res.findings), res.spent)
				results[i] = res
				runtime.GC()
			}
		})
	}
	for i := range modules {
		next <- i
	}
	close(next)
	group.Wait()
	return results
}

// selected reports whether path contains one of the parts, or there are none.
func selected(path, parts string) bool {
	for part := range strings.SplitSeq(parts, ",") {
		if strings.Contains(path, part) {
			return true
		}
	}
	return false
}

// readModules reads lines "module@version patterns…"; # begins a comment.
func readModules(name string) ([]module, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var modules []module
	for line := range strings.SplitSeq(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		path, version, ok := strings.Cut(fields[0], "@")
		if !ok {
			return nil, fmt.Errorf("%s: %q lacks a version", name, fields[0])
		}
		modules = append(modules, module{path, version, fields[1:]})
	}
	return modules, nil
}

// saveFixes writes pairs of files into dir, to compare by diff or to compile: N.go is
// a file as it was, N.fixed.go the same with one fix.
func saveFixes(dir string, results []result) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	n := 0
	for _, res := range results {
		for _, f := range res.findings {
			if f.fixed == nil {
				continue
			}
			n++
			src, err := os.ReadFile(f.source)
			if err != nil {
				return err
			}
			place := fmt.Sprintf("// %s %s:%d\n", res.module, f.file, f.line)
			for name, text := range map[string][]byte{"%03d.go": src, "%03d.fixed.go": f.fixed} {
				if err := os.WriteFile(fmt.Sprintf(dir+"/"+name, n), append([]byte(place), text...), 0o600); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

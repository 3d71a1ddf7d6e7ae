// The command retrylint finds hand-written retry loops. It runs by itself, on
// packages, and as a tool of go vet:
//
//	go run github.com/retryutils/retry/retrylint/cmd/retrylint ./...
//	go vet -vettool=$(which retrylint) ./...
package main

import (
	"os"
	"strings"

	"golang.org/x/tools/go/analysis/singlechecker"
	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/retryutils/retry/retrylint"
)

func main() {
	if calledByVet(os.Args[1:]) {
		unitchecker.Main(retrylint.Analyzer)
	}
	singlechecker.Main(retrylint.Analyzer)
}

// calledByVet reports whether args are those by which go vet asks a tool for its
// version and flags, and has it check one package.
func calledByVet(args []string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "-V=") || a == "-flags" || strings.HasSuffix(a, ".cfg") {
			return true
		}
	}
	return false
}

// The command golangci is golangci-lint with retrylint in it: what its command "custom"
// would build, without cloning its repository. It is a module of its own, because
// golangci-lint requires some 200 others.
//
//	go run . run --config testdata/golangci.yml ./testdata/loop
package main

import (
	"fmt"
	"os"

	"github.com/golangci/golangci-lint/v2/pkg/commands"
	"github.com/golangci/golangci-lint/v2/pkg/exitcodes"

	_ "github.com/retryutils/retry/retrylint/plugin"
)

func main() {
	if err := commands.Execute(commands.BuildInfo{Version: "with retrylint"}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitcodes.Failure)
	}
}

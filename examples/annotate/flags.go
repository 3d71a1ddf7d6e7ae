package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
)

const usage = `Collects what six public services know of human genes, and shows what each
lookup took: attempts, waits with their reasons, pauses, and circuit breakers.

Usage: annotate [-live] [-html file] [-metrics] [-listen address] [-v] [symbol...]
       annotate -serve address [-live] [-v]

Without -live it asks stand-ins on loopback, which know a dozen genes and have a
bad day: one is down, one throttles, others break off. Without symbols it looks up
BRCA1 PKD1 TTN UMOD HNF1B WT1. Settings come from the environment, too:
RETRY_MAX_RETRIES for all services, RETRY_GNOMAD_MAX_RETRIES for one, and
RETRY_BREAKER_RECOVERY_TIMEOUT for the breakers.

`

const exitCodes = `
Ctrl-C gives the lookups under way 2s to end, begins no others, and shows what
there is; a second one ends it at once.

Exit codes: 0 each gene has an answer from at least one service; 1 one has none,
or something else failed; 2 wrong usage; 130 interrupted, with lookups not done.
("go run" prints the code, and itself exits with 1.)
`

var defaultSymbols = []string{"BRCA1", "PKD1", "TTN", "UMOD", "HNF1B", "WT1"}

type options struct {
	live, metrics, verbose bool
	html, listen, serve    string
	symbols                []string
}

// parse reads the arguments. Flags may stand after symbols.
func parse(args []string, help io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("annotate", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.BoolVar(&o.live, "live", false, "ask the real services, no faster than they like it")
	flags.StringVar(&o.html, "html", "", "write the timeline to `file`, too, as a page")
	flags.BoolVar(&o.metrics, "metrics", false, "print the metrics in the end")
	flags.StringVar(&o.listen, "listen", "", "serve /metrics at this `address` while it runs")
	flags.StringVar(&o.serve, "serve", "", "be a service at this `address`: /gene/SYMBOL, /debug/retry and /metrics")
	flags.BoolVar(&o.verbose, "v", false, "log to standard error")
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprint(help, usage)
				flags.SetOutput(help)
				flags.PrintDefaults()
				fmt.Fprint(help, exitCodes)
			}
			return o, err
		}
		if err := notEmpty(flags); err != nil {
			return o, err
		}
		if flags.NArg() == 0 {
			break
		}
		symbol := flags.Arg(0)
		if !symbolPattern.MatchString(symbol) {
			return o, fmt.Errorf("%q is not a gene symbol", symbol)
		}
		if !slices.Contains(o.symbols, symbol) {
			o.symbols = append(o.symbols, symbol)
		}
		args = flags.Args()[1:]
	}
	if len(o.symbols) == 0 {
		o.symbols = defaultSymbols
	}
	return o, nil
}

// notEmpty refuses a flag that was given without a value, such as -html "$unset".
func notEmpty(flags *flag.FlagSet) (err error) {
	flags.Visit(func(f *flag.Flag) {
		if f.Value.String() == "" {
			err = fmt.Errorf("flag -%s has an empty value", f.Name)
		}
	})
	return err
}

var symbolPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$`)

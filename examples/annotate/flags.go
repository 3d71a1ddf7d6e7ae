package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

const usage = `Collects what six public services know of human genes, and shows what each
lookup took: attempts, waits with their reasons, pauses, and circuit breakers.

Usage: annotate [-live] [-html file] [-metrics] [-listen address] [-v] [symbol...]
       annotate -serve address [-timeout duration] [-live | -at api=url ...] [-v]

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
	at                     addresses
	timeout                time.Duration
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
	flags.Var(&o.at, "at", "ask `api=url`, and only those that are given so")
	flags.DurationVar(&o.timeout, "timeout", 15*time.Second, "with -serve: how long a request may take")
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

// addresses are the APIs to ask at other addresses than their own.
type addresses []*api

func (a *addresses) String() string {
	var all []string
	for _, each := range *a {
		all = append(all, each.name+"="+each.url)
	}
	return strings.Join(all, " ")
}

func (a *addresses) Set(value string) error {
	name, address, _ := strings.Cut(value, "=")
	if u, err := url.Parse(address); err != nil || u.Host == "" {
		return errors.New("want api=url, such as hgnc=http://127.0.0.1:8081")
	}
	table := apis()
	i := slices.IndexFunc(table, func(a *api) bool { return a.name == name })
	if i < 0 {
		return fmt.Errorf("there is no API %q", name)
	}
	table[i].url = strings.TrimSuffix(address, "/")
	*a = append(*a, table[i])
	return nil
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

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
)

const usage = `Looks up human genes by their symbols, and shows what each lookup took: every
attempt, and every wait with its reason.

Usage: hgnc [-live] [-json] [-seed n] symbol...

Without -live it asks a server of its own on loopback. That one knows a dozen
genes (BRCA1 BRCA2 CFTR COL4A5 EGFR HNF1B PKD1 PKD2 TP53 TTN UMOD WT1), answers
as the HGNC does, and misbehaves on purpose: it refuses, fails, breaks
connections, cuts answers short, or takes too long.

`

const exitCodes = `
Exit codes: 0 all was answered, be it that a gene is unknown; 1 a lookup failed;
2 wrong usage; 130 interrupted. ("go run" prints the code, and itself exits with 1.)
`

// defaultSeed has BRCA1, PKD1 and TTN meet each of the faults.
const defaultSeed = 11

type options struct {
	live, json bool
	seed       uint64
	symbols    []string
}

// errHelp says that help was asked for and given.
var errHelp = flag.ErrHelp

// parse reads the arguments. Flags may stand after symbols.
func parse(args []string, help io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("hgnc", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.BoolVar(&o.live, "live", false, fmt.Sprintf("ask %s, at most %d times per second", liveService, maxRate))
	flags.BoolVar(&o.json, "json", false, "print JSON")
	flags.Uint64Var(&o.seed, "seed", defaultSeed, "`n` decides how the embedded server misbehaves")
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
		return o, errors.New("no gene to look up, such as BRCA1")
	}
	return o, nil
}

var symbolPattern = regexp.MustCompile(`^[A-Za-z0-9][[:graph:]]{0,99}$`)

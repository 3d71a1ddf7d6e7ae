package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/retryutils/retry"
	"golang.org/x/time/rate"
)

// api is one external service: where it is, what rate it sustains, how it reports a
// rate that is too high, and how to ask it.
type api struct {
	name      string
	url       string
	perSecond rate.Limit // what its operators ask for, and a little less
	check     func(*http.Response) error
	ask       func(ctx context.Context, c *retry.RetryableClient, base, symbol string) (string, error)
}

// apis is the table that a service has one of. The limits are those that the
// operators publish; where none is, it is an estimate on the safe side.
func apis() []*api {
	return []*api{
		{"hgnc", "https://rest.genenames.org", 9, checkHGNC, askHGNC},
		{"ensembl", "https://rest.ensembl.org", 14, nil, askEnsembl}, // its 429 says how long
		{"ncbi", "https://eutils.ncbi.nlm.nih.gov", 2.8, checkNCBI, askNCBI},
		{"gnomad", "https://gnomad.broadinstitute.org", 9. / 60, checkGnomAD(time.Minute), askGnomAD},
		{"uniprot", "https://rest.uniprot.org", 5, nil, askUniProt},
		{"string", "https://string-db.org", 1, nil, askSTRING},
	}
}

// errUnknown is an answer like any other: the service does not know the gene.
var errUnknown = errors.New("unknown gene")

// checkHGNC: a client that asks too often is locked out with a 403, and stays out while
// it goes on asking, so the pause is long: longer than MaxRetryAfter, so that no lookup
// waits for it, and all that are left fail at once.
func checkHGNC(resp *http.Response) error {
	if resp.StatusCode == http.StatusForbidden {
		return retry.RetryAfter(retry.CheckStatus(resp), 15*time.Minute)
	}
	return nil
}

// checkNCBI: a 429 without a hint. The limit is per second.
func checkNCBI(resp *http.Response) error {
	if _, hint := retry.ParseRetryAfter(resp.Header, time.Now()); resp.StatusCode == http.StatusTooManyRequests && !hint {
		return retry.RetryAfter(retry.CheckStatus(resp), time.Second)
	}
	return nil
}

// checkGnomAD: the rate limit comes as a GraphQL error with status 400, and is
// counted by the minute.
func checkGnomAD(window time.Duration) func(*http.Response) error {
	return func(resp *http.Response) error {
		if resp.StatusCode != http.StatusBadRequest {
			return nil
		}
		var answer struct{ Errors []struct{ Message string } }
		if json.NewDecoder(resp.Body).Decode(&answer) != nil || len(answer.Errors) == 0 ||
			!strings.HasPrefix(answer.Errors[0].Message, "Query rate limit exceeded") {
			return nil
		}
		return retry.RetryAfter(&gnomADLimit{answer.Errors[0].Message}, window)
	}
}

type gnomADLimit struct{ message string }

func (e *gnomADLimit) Error() string { return e.message }

func askHGNC(ctx context.Context, c *retry.RetryableClient, base, symbol string) (string, error) {
	type answer struct {
		Response struct {
			Docs []struct {
				ID       string `json:"hgnc_id"`
				Name     string
				Location string
			}
		}
	}
	a, err := retry.GetJSON[answer](ctx, c, base+"/fetch/symbol/"+url.PathEscape(symbol))
	switch {
	case err != nil:
		return "", err
	case len(a.Response.Docs) == 0: // a miss has status 200
		return "", errUnknown
	}
	gene := a.Response.Docs[0]
	return fmt.Sprintf("%s, %s, %s", gene.ID, gene.Name, gene.Location), nil
}

func askEnsembl(ctx context.Context, c *retry.RetryableClient, base, symbol string) (string, error) {
	type answer struct {
		ID      string
		Biotype string
	}
	a, err := retry.GetJSON[answer](ctx, c, base+"/lookup/symbol/homo_sapiens/"+url.PathEscape(symbol)+"?content-type=application/json")
	var status *retry.StatusError
	if errors.As(err, &status) && status.StatusCode == http.StatusBadRequest { // so it says "not found"
		return "", errUnknown
	}
	return a.ID + ", " + a.Biotype, err
}

func askNCBI(ctx context.Context, c *retry.RetryableClient, base, symbol string) (string, error) {
	query := url.Values{
		"db": {"clinvar"}, "term": {symbol + "[gene]"}, "retmode": {"json"}, "retmax": {"0"}, "tool": {"annotate"},
	}
	if key := os.Getenv("NCBI_API_KEY"); key != "" {
		query.Set("api_key", key) // it appears in no error and no log line
	}
	type answer struct {
		Result struct{ Count string } `json:"esearchresult"`
	}
	a, err := retry.GetJSON[answer](ctx, c, base+"/entrez/eutils/esearch.fcgi?"+query.Encode())
	return a.Result.Count + " variants in ClinVar", err
}

const gnomADQuery = `query ($symbol: String!) {
  gene(gene_symbol: $symbol, reference_genome: GRCh38) { gnomad_constraint { pli oe_lof_upper } }
}`

// askGnomAD asks by POST, but changes nothing.
func askGnomAD(ctx context.Context, c *retry.RetryableClient, base, symbol string) (string, error) {
	type answer struct {
		Data struct {
			Gene *struct {
				Constraint *struct {
					PLI   float64
					LOEUF float64 `json:"oe_lof_upper"`
				} `json:"gnomad_constraint"`
			}
		}
	}
	a, err := retry.PostJSON[answer](retry.WithIdempotent(ctx, true), c, base+"/api",
		map[string]any{"query": gnomADQuery, "variables": map[string]string{"symbol": symbol}})
	switch {
	case err != nil:
		return "", err
	case a.Data.Gene == nil || a.Data.Gene.Constraint == nil:
		return "", errUnknown
	}
	return fmt.Sprintf("pLI %.2f, LOEUF %.2f", a.Data.Gene.Constraint.PLI, a.Data.Gene.Constraint.LOEUF), nil
}

func askUniProt(ctx context.Context, c *retry.RetryableClient, base, symbol string) (string, error) {
	query := url.Values{
		"query":  {"(gene_exact:" + symbol + ") AND (organism_id:9606) AND (reviewed:true)"},
		"fields": {"accession"}, "format": {"json"}, "size": {"1"},
	}
	type answer struct {
		Results []struct {
			Accession string `json:"primaryAccession"`
		}
	}
	a, err := retry.GetJSON[answer](ctx, c, base+"/uniprotkb/search?"+query.Encode())
	if err == nil && len(a.Results) == 0 {
		return "", errUnknown
	}
	if err != nil {
		return "", err
	}
	return a.Results[0].Accession, nil
}

func askSTRING(ctx context.Context, c *retry.RetryableClient, base, symbol string) (string, error) {
	query := url.Values{"identifiers": {symbol}, "species": {"9606"}, "limit": {"3"}, "caller_identity": {"annotate"}}
	type partner struct {
		Name string `json:"preferredName_B"`
	}
	partners, err := retry.GetJSON[[]partner](ctx, c, base+"/api/json/interaction_partners?"+query.Encode())
	var status *retry.StatusError
	if errors.As(err, &status) && status.StatusCode == http.StatusNotFound {
		return "", errUnknown
	}
	var names []string
	for _, p := range partners {
		names = append(names, p.Name)
	}
	return "interacts with " + strings.Join(names, ", "), err
}

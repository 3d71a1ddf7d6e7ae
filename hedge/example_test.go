package hedge_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/hedge"
)

// A client whose late requests are sent once more, from the budget of its retries.
func ExampleHedge_Transport() {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 { // this one hangs
			<-r.Context().Done()
		}
	}))
	defer server.Close()

	budget, err := retry.NewBudget(0.1, 2)
	if err != nil {
		panic(err)
	}
	h, err := hedge.New(hedge.Config{Delay: 50 * time.Millisecond}) // without a Delay, it is learned
	if err != nil {
		panic(err)
	}
	client, err := retry.NewRetryableClient(nil, retry.Config{Budget: budget}, retry.WrapTransport(h.Transport))
	if err != nil {
		panic(err)
	}
	resp, err := client.Get(context.Background(), server.URL)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode, h.Snapshot().Hedges)
	// Output: 200 1
}

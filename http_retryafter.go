package retry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/retryutils/retry/internal/retryafter"
)

// What is left here serves gate_quota.go alone, and goes with it.

type rateHints struct{}

func (rateHints) parseReset(value string, now time.Time) (time.Duration, bool) {
	return retryafter.Parse(http.Header{"X-Ratelimit-Reset": {value}}, now, true)
}

func parseDecimal(value string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || !(n >= 0 && n < 1e9) {
		return 0, false
	}
	return time.Duration(n * float64(unit)), true
}

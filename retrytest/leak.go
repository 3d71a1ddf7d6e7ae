package retrytest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const leakLabel = "retrytest"

var leakCount atomic.Int64

// leakTime is how long goroutines have to end after the test.
const leakTime = time.Second

// NoLeaks fails the test if a goroutine that it starts from now on, or one that
// such a goroutine starts, is still there a second after its end. It is to be
// called first: what the test cleans up itself it cleans up before. Tests that
// run in parallel do not disturb it, because it knows its goroutines by a label
// of runtime/pprof. Idle connections of http.DefaultTransport are closed; those
// of another transport the test must close.
//
// Bodies are a [Script]'s to watch, timers a [Clock]'s, and both do without
// being asked. In a bubble of testing/synctest there is no need for any of it.
func NoLeaks(t testing.TB) {
	name := fmt.Sprint(leakCount.Add(1))
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(leakLabel, name)))
	t.Cleanup(func() {
		pprof.SetGoroutineLabels(context.Background()) // this one is not meant
		http.DefaultClient.CloseIdleConnections()
		end := time.Now().Add(leakTime)
		left := goroutines(name)
		for ; left != "" && time.Now().Before(end); left = goroutines(name) {
			time.Sleep(time.Millisecond)
		}
		if left != "" {
			t.Errorf("retrytest: goroutines left:\n%s", left)
		}
	})
}

// goroutines returns the stacks of those with the label, of each kind once.
func goroutines(name string) string {
	var profile bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&profile, 1)
	var found []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", leakLabel, name)) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

package fleet

import (
	"context"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// world is where a history happens.
type world interface {
	start(which string) (*process, *proxy) // a member, and its network
	kill(*process)

	freezeRedis(bool)
	killRedis() // with its data and scripts
	restartRedis()
	failOver() // to a replica, without its scripts; the members still look for the old one
	failedOver([]*historyMember)
}

// realWorld has processes, and two servers.
type realWorld struct {
	t                *testing.T
	primary, replica *server
}

func newRealWorld(t *testing.T) *realWorld {
	w := &realWorld{t, realRedis(t), realRedis(t)}
	w.replica.do("REPLICAOF", "127.0.0.1", strconv.Itoa(w.primary.port))
	return w
}

func (w *realWorld) start(which string) (*process, *proxy) {
	network := newProxy(w.t, w.primary.addr())
	return startProcess(w.t, network.addr(), "FLEET_HISTORY="+which), network
}

func (w *realWorld) kill(p *process) { require.NoError(w.t, p.cmd.Process.Kill()) }

func (w *realWorld) freezeRedis(frozen bool) {
	if frozen {
		w.primary.signal(syscall.SIGSTOP)
	} else {
		w.primary.signal(syscall.SIGCONT)
	}
}

func (w *realWorld) killRedis()    { w.primary.stop() }
func (w *realWorld) restartRedis() { w.primary.start() }

// failOver makes the replica the server of all. The other one is not there any more.
func (w *realWorld) failOver() {
	eventually(w.t, func() bool { return strings.Contains(w.replica.do("INFO", "replication"), "master_link_status:up") }, "in sync")
	w.primary.stop()
	w.primary, w.replica = w.replica, w.primary
	w.primary.do("REPLICAOF", "NO", "ONE")
}

func (w *realWorld) failedOver(members []*historyMember) {
	for _, m := range members {
		m.network.setTarget(dialer(w.primary.addr()))
	}
}

// fakeWorld is in fake time, with members in one process, which cannot be stopped.
type fakeWorld struct {
	t       *testing.T
	redis   *fakeRedis
	network *proxy // before it

	networks map[*process]*proxy
	ends     map[*process]func()
}

func newFakeWorld(t *testing.T, s *fakeRedis) *fakeWorld {
	return &fakeWorld{t, s, newMemoryProxy(t, s.connect), make(map[*process]*proxy), make(map[*process]func())}
}

func (w *fakeWorld) start(which string) (*process, *proxy) {
	network := newMemoryProxy(w.t, w.network.connect)
	network.delay = rand.N(3 * time.Millisecond)
	reader, in := io.Pipe()
	out, writer := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runHistory(ctx, network.options(), which, reader, writer)
		writer.Close()
	}()
	p := newProcess(w.t, in, out)
	w.networks[p] = network
	w.ends[p] = func() { cancel(); in.Close(); <-ended }
	w.t.Cleanup(w.ends[p])
	return p, network
}

func (w *fakeWorld) kill(p *process) {
	w.networks[p].setCut(true)
	w.ends[p]()
}

func (w *fakeWorld) freezeRedis(frozen bool) { w.network.setFrozen(frozen) }

func (w *fakeWorld) killRedis() {
	w.failOver()
	w.redis.FlushAll()
}

func (w *fakeWorld) restartRedis() { w.redis.setAway(false) }

func (w *fakeWorld) failOver() {
	w.redis.setAway(true)
	_, err := try(w.t, memoryOptions(w.redis.Dial), "SCRIPT", "FLUSH")
	require.NoError(w.t, err)
}

func (w *fakeWorld) failedOver([]*historyMember) { w.redis.setAway(false) }

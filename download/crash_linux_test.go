package download_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
	"github.com/retryutils/retry/download"
)

// TestMain is also the program that the tests here start, limit and kill.
func TestMain(m *testing.M) {
	if url := os.Getenv("DOWNLOAD_TEST_URL"); url != "" {
		os.Exit(downloadAndSay(url, os.Getenv("DOWNLOAD_TEST_PATH"), os.Getenv("DOWNLOAD_TEST_SUM"), os.Getenv("DOWNLOAD_TEST_LIMIT")))
	}
	os.Exit(m.Run())
}

func downloadAndSay(url, path, sum, limit string) int {
	var most uint64
	if _, err := fmt.Sscan(limit, &most); err == nil { // a full disk, as the process sees it
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
			fmt.Println(err)
			return 2
		}
	}
	client, err := retry.NewRetryableClient(&http.Client{Transport: &http.Transport{}}, soon)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	want, err := hex.DecodeString(sum)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	result, err := download.File(context.Background(), client, url, path, download.Checksum(sha256.New(), want))
	fmt.Println(result.Resumed, err)
	if err != nil {
		return 1
	}
	return 0
}

func process(url, path string, data []byte, limit int) (*exec.Cmd, *strings.Builder) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DOWNLOAD_TEST_URL="+url, "DOWNLOAD_TEST_PATH="+path, fmt.Sprintf("DOWNLOAD_TEST_SUM=%x", sha256.Sum256(data)))
	if limit > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprint("DOWNLOAD_TEST_LIMIT=", limit))
	}
	said := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = said, said
	return cmd, said
}

// A process that is killed at any moment leaves no wrong file, and the next one goes on
// where it was, so that in the end the file was sent once, and what was in flight.
func TestKilled(t *testing.T) {
	data := random(8<<20, 20)
	s := newShelf(t, data)
	path := filepath.Join(t.TempDir(), "file")
	source := rand.New(rand.NewPCG(20, 1))
	var mu sync.Mutex
	var cmd *exec.Cmd
	left := 0 // bytes until it is killed; some of these are behind the last one
	s.mu.Lock()
	s.written = func(n int) {
		mu.Lock()
		defer mu.Unlock()
		if left -= n; left <= 0 {
			cmd.Process.Kill()
		}
	}
	s.mu.Unlock()
	kills := 0
	for ; ; kills++ {
		mu.Lock()
		started, said := process(s.URL, path, data, 0)
		if left = 1 + source.IntN(2<<20); kills >= 15 {
			left = math.MaxInt
		}
		cmd = started
		require.NoError(t, cmd.Start())
		mu.Unlock()
		err := started.Wait()
		if got, readErr := os.ReadFile(path); readErr == nil {
			assert.True(t, bytes.Equal(data, got), "the file has its name, and is another one")
		}
		if err == nil {
			t.Logf("after %d kills: %s", kills, said)
			break
		}
		require.Equal(t, syscall.SIGKILL, started.ProcessState.Sys().(syscall.WaitStatus).Signal(), said)
	}
	assert.Positive(t, kills)
	only(t, path, data)
	assert.LessOrEqual(t, float64(s.sent.Load()), 1.02*float64(len(data))+float64(kills)*inFlight, "bytes sent over %d kills", kills)
}

// inFlight is what the buffers of a connection on the loopback hold at most.
const inFlight = 4 << 20

// A disk that is full ends the download at once; when there is room again, it goes on.
func TestDiskFull(t *testing.T) {
	data := random(1<<20, 21)
	s := newShelf(t, data)
	path := filepath.Join(t.TempDir(), "file")
	cmd, said := process(s.URL, path, data, 300_000)
	assert.Error(t, cmd.Run())
	assert.Contains(t, said.String(), "file too large")
	assert.Equal(t, 1, s.asked(), "what the disk refuses is not retried")
	assert.NoFileExists(t, path)
	cmd, said = process(s.URL, path, data, 0)
	require.NoError(t, cmd.Run(), said)
	assert.Equal(t, "300000 <nil>\n", said.String())
	only(t, path, data)
}

// The lock is the process's: another one is refused meanwhile.
func TestInUseByAProcess(t *testing.T) {
	data := random(1000, 22)
	s := newShelf(t, data)
	inside, goOn := make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	s.before = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
		if n == 1 {
			close(inside)
			<-goOn
		}
		return false
	}
	s.mu.Unlock()
	path := filepath.Join(t.TempDir(), "file")
	cmd, said := process(s.URL, path, data, 0)
	require.NoError(t, cmd.Start())
	<-inside
	_, err := download.File(t.Context(), clientOf(t, nil, soon), s.URL, path)
	assert.ErrorIs(t, err, download.ErrInUse)
	close(goOn)
	require.NoError(t, cmd.Wait(), said)
	only(t, path, data)
}

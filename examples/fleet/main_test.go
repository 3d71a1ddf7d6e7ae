package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The example shows what it says: with the fleet fewer calls go to a server that
// refuses them, and to a dead one. On a busy machine all 20 processes may call before
// the first is answered, so this is in fake time.
func TestScene(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis := miniredis.NewMiniRedis()
		defer time.Sleep(time.Minute) // until the clients' timers are through
		defer redis.Close()
		redis.ClockTTL(true)
		options := []*rueidis.ClientOption{nil, {
			InitAddress: []string{"redis:6379"},
			DialCtxFn:   func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) { return redis.Dial() },
			AlwaysRESP2: true,
		}}
		var sent [2]int64
		var out bytes.Buffer
		for i, option := range options {
			s := new(server)
			client := &http.Client{Transport: direct{s}, Timeout: time.Second}
			var err error
			sent[i], err = scene(t.Context(), &out, s, func(ctx context.Context) (io.Reader, func() error, error) {
				lines, w := io.Pipe()
				ended := make(chan error, 1)
				go func() {
					ended <- work(ctx, w, client, "http://server", option)
					w.Close()
				}()
				return lines, func() error { return <-ended }, nil
			})
			require.NoError(t, err)
		}
		refused := numbers(t, `= (\d+) calls refused`, out.String())
		assert.GreaterOrEqual(t, refused[0], processes)
		assert.Less(t, refused[1], refused[0]/2, out.String())
		assert.Less(t, sent[1], sent[0]/2, out.String())
	})
}

// direct has a handler answer requests in the same process.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// Processes of their own, and a real Redis, are shown as well.
func TestShow(t *testing.T) {
	for name, start := range map[string]func() (string, string, func(), error){"found": startRedis, "embedded": startEmbedded} {
		t.Run(name, func(t *testing.T) { // one at a time: 20 processes are enough for a small machine
			var out bytes.Buffer
			require.NoError(t, show(t.Context(), &out, true, start))
			for _, n := range numbers(t, `= (\d+) calls refused`, out.String()) {
				assert.NotZero(t, n, out.String())
			}
			sent := numbers(t, `= (\d+) calls sent to a dead server`, out.String())
			assert.NotZero(t, sent[1], out.String())
			assert.Less(t, sent[1], sent[0], out.String())
			assert.Contains(t, out.String(), fmt.Sprintf("20 processes sent %d calls to a dead server without the fleet, and %d with it\n", sent[0], sent[1]))
		})
	}
}

// What cannot work is reported in one line, before anything is started; and so is an
// interrupt.
func TestStart(t *testing.T) {
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, c := range []struct {
		ctx            context.Context
		args           []string
		code           int
		stdout, stderr string
	}{
		{t.Context(), []string{"-frob"}, 2, "", "fleet: takes -v or nothing, and got [\"-frob\"] (-h explains)\n"},
		{t.Context(), []string{"-h"}, 0, "Usage: fleet [-v]\n", ""},
		{interrupted, nil, 130, "", "fleet: interrupted; the figures are those of a part\n"},
	} {
		var out, errs bytes.Buffer
		assert.Equal(t, c.code, start(c.ctx, c.args, &out, &errs))
		assert.Contains(t, out.String(), c.stdout)
		assert.Equal(t, c.stderr, errs.String())
	}
}

// A Redis that is there, and does not start, is said to be so: the example went
// on without, and showed a fleet that is none.
func TestRedisDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "redis-server"), []byte("#!/bin/sh\nexit 1\n"), 0o700))
	t.Setenv("PATH", dir)
	_, _, _, err := startRedis()
	assert.ErrorContains(t, err, "redis-server does not start: it ended at once")
}

// A process that pauses twice is one that was held back: a busy machine showed 22
// of 20.
func TestCount(t *testing.T) {
	l := &log{out: io.Discard}
	l.begin("a refusal")
	for _, process := range []int{1, 2, 1} {
		l.line(process, time.Now(), "paused", "2000")
	}
	assert.Equal(t, 2, l.count("paused"))
	l.begin("the next part")
	assert.Zero(t, l.count("paused"))
}

func numbers(t *testing.T, pattern, text string) (found []int) {
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(match[1])
		require.NoError(t, err)
		found = append(found, n)
	}
	require.Len(t, found, 2, text)
	return found
}

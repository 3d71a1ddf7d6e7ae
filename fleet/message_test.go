package fleet

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

var strange = []string{
	"", " ", "hello", "1", strings.Repeat("x", 1<<20),
	"1 1 pause a 1000 -",           // too short
	"1 1 pause a 1000 - host more", // too long
	"2 1 pause a 1000 - host",      // without the time
	"2 1 pause a 1000 - host -1", "2 1 pause a 1000 - host x", "2 1 pause a 1000 - host 99999999999999999999",
	"3 1 pause a 1000 - host 1", // of a version to come
	"1 -1 pause a 1000 - host",  // a negative number
	"1 99999999999999999999 pause a 1000 - host",
	"1 1 stop a 1000 - host", // an unknown kind
	"1 1 pause a 0 - host", "1 1 pause a -5 - host", "1 1 open a 0 e host",
	"1 1 pause a 3600001 - host", // more than an hour
	"1 1 pause a 9223372036854775807 - host", "1 1 pause a 1e3 - host", "1 1 pause a NaN - host",
	"1 1 close a 5 e host",
	"1 1 pause A;B 1000 - host", "1 1 pause a 1000 \xff host", "1 1 pause a 1000 - ho\nst",
	"1 1 pause a 1000 - " + strings.Repeat("h", 201),
	"1 1 pause a 1000 - \u202ehost",
	"1 1 pause " + strings.Repeat("a", 65) + " 1000 - host",
}

// What no member can have sent is dropped and counted, and the worst that a
// message does is a pause of an hour.
func TestHostileMessages(t *testing.T) {
	for _, text := range strange {
		_, ok := parse(text)
		assert.False(t, ok, "%.100q", text)
	}
	s := realRedis(t)
	f := joined(t, s, Config{})
	gate := retry.NewGate(nil)
	require.NoError(t, f.Gate("host", gate))
	for _, text := range strange {
		s.do("PUBLISH", "{retry:test}:news", text)
	}
	eventually(t, func() bool { return f.Snapshot().Dropped == uint64(len(strange)) }, "dropped")
	assert.Zero(t, left(gate))
	s.do("PUBLISH", "{retry:test}:news", fmt.Sprintf("2 9007199254740991 pause a 3600000 - host %d", s.now()))
	eventually(t, func() bool { return left(gate) > 0 }, "paused")
	assert.Less(t, left(gate), time.Hour+time.Second)

	// A number far ahead does not make it deaf to losses.
	other := retry.NewGate(nil)
	require.NoError(t, f.Gate("other", other))
	eventually(t, func() bool { return f.Snapshot().Syncs > 1 }, "asked again")
}

// What is kept in Redis may be hostile too.
func TestHostileData(t *testing.T) {
	t.Parallel()
	s := realRedis(t)
	f := joined(t, s, Config{})
	s.do("SET", "{retry:test}:pause:host", "x") // without an end
	s.do("SET", "{retry:test}:pause:long", "x", "PX", "99999999999")
	s.do("LPUSH", "{retry:test}:findings:host", "x") // of another type
	s.do("HSET", "{retry:test}:episode:far", "id", "x", "until", "9e99")
	s.do("HSET", "{retry:test}:episode:odd", "id", "A B", "until", "x")
	s.do("SET", "{retry:test}:turns:host", "9e99")
	s.do("HSET", "{retry:test}:demand:host", "total", "x")
	gate, long := retry.NewGate(nil), retry.NewGate(nil)
	require.NoError(t, f.Gate("host", gate))
	require.NoError(t, f.Gate("long", long))
	var breakers []*retry.CircuitBreaker
	for _, name := range []string{"host", "far", "odd"} {
		breakers = append(breakers, breaker(t, retry.BreakerConfig{}))
		require.NoError(t, f.Breaker(name, breakers[len(breakers)-1]))
	}
	require.NoError(t, f.Rate("host", 100).Wait(t.Context()))
	eventually(t, func() bool { return left(long) > 0 }, "at most an hour")
	assert.Less(t, left(long), time.Hour+time.Second)
	assert.Zero(t, left(gate))
	for _, b := range breakers {
		assert.Less(t, time.Until(b.Snapshot().OpenUntil), 2*time.Hour+time.Second)
	}
}

func TestParse(t *testing.T) {
	m, ok := parse("2 17 open 0a1b 2500 1700000000000-0a1b https://api.example.org 1700000000123")
	require.True(t, ok)
	assert.Equal(t, message{17, "open", "0a1b", 2500 * time.Millisecond, "1700000000000-0a1b", "https://api.example.org", 1700000000123}, m)

	m, ok = parse("1 17 pause 0a1b 2500 - https://api.example.org:443")
	require.True(t, ok, "a message of version 1, of unknown age")
	assert.Equal(t, message{17, "pause", "0a1b", 2500 * time.Millisecond, "-", "https://api.example.org", 0}, m)
}

func FuzzParse(f *testing.F) {
	for _, text := range strange[:len(strange)-1] {
		f.Add(text)
	}
	f.Add("1 1 pause a 1000 - host")
	f.Fuzz(func(t *testing.T, text string) {
		if m, ok := parse(text); ok {
			assert.LessOrEqual(t, m.left, time.Hour)
			assert.LessOrEqual(t, len(m.name), maxName)
		}
	})
}

// FuzzAnswer has Redis answer with any texts in place of those of its scripts: what is taken
// from them is within the bounds of each, whatever that does to a pause or a rate.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{"1\n0\n5\n48.5", "0\n-1\nx\nNaN", "\n9007199254740993\n1e3\n-Inf", "3600001\n+1\n 1\n0x1p-2", "1\n1\n1\n1e-300", "1\n2"} {
		f.Add(text, uint16(50))
	}
	var reply atomic.Value
	option := options(answersWith(f, func() string { return reply.Load().(string) }))
	option.AlwaysRESP2, option.ClientSetInfo = true, rueidis.DisableClientSetInfo
	reply.Store("+OK\r\n")
	client, err := rueidis.NewClient(option)
	require.NoError(f, err)
	f.Cleanup(client.Close)
	f.Fuzz(func(t *testing.T, text string, perSecond uint16) {
		fields := strings.Split(text, "\n")
		array := fmt.Sprintf("*%d\r\n", len(fields))
		for _, field := range fields {
			array += fmt.Sprintf("$%d\r\n%s\r\n", len(field), field)
		}
		reply.Store(array)
		values, err := client.Do(t.Context(), client.B().Ping().Build()).ToArray()
		require.NoError(t, err)
		require.Len(t, values, len(fields))
		got := answer{values: values}
		for i := range values {
			d, err := got.duration(i)
			assert.True(t, err != nil || d >= 0 && d <= time.Hour, "%q: %v", fields[i], d)
			n, err := got.int(i, -1, 5)
			assert.True(t, err != nil || n >= -1 && n <= 5, "%q: %v", fields[i], n)
		}
		if len(values) != 4 {
			return
		}
		r := &Rate{perSecond: 1 + float64(perSecond)}
		given, first, more, agreed, err := r.decode(got, 10)
		if err != nil {
			return
		}
		assert.True(t, agreed > 0 && agreed <= r.perSecond, "%v of %v", agreed, r.perSecond)
		assert.True(t, given >= 0 && given <= 10, "%v slots", given)
		assert.True(t, more >= 0 && more <= 500, "%v ms", more)
		furthest := ahead + 2*r.gap(agreed) + 2*time.Second
		assert.True(t, first >= 0 && first <= furthest.Microseconds(), "%v µs at %v a second", first, agreed)
	})
}

func TestConfigValidate(t *testing.T) {
	assert.NoError(t, Config{Name: "annotator"}.Validate())
	for _, c := range []Config{
		{}, {Name: "a b"}, {Name: "a{b}"}, {Name: strings.Repeat("a", 65)},
		{Name: "a", Quorum: -1}, {Name: "a", QuorumShare: 1.1}, {Name: "a", OpenTime: time.Millisecond},
		{Name: "a", OpenTime: 2 * time.Hour}, {Name: "a", Lease: time.Second}, {Name: "a", Timeout: -1},
	} {
		assert.ErrorIs(t, c.Validate(), retry.ErrInvalidConfig, "%+v", c)
		_, err := Dial(t.Context(), options("127.0.0.1:1"), c)
		assert.ErrorIs(t, err, retry.ErrInvalidConfig)
	}
	_, err := Join(t.Context(), nil, Config{Name: "a"})
	assert.ErrorIs(t, err, retry.ErrInvalidConfig)
}

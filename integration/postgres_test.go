package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/retryutils/retry"
)

// postgres starts a server with a data directory of its own.
func postgres(t testing.TB) (*process, string) {
	t.Helper()
	bin := filepath.Dir(program(t, "postgres", "/usr/lib/postgresql/*/bin/postgres"))
	dir, err := os.MkdirTemp("", "pg")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	who := asPostgres(t, dir)
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres", "--auth=trust", "-N")
	initdb.SysProcAttr, initdb.Dir = who, dir
	out, err := initdb.CombinedOutput()
	require.NoError(t, err, "%s", out)
	port := freePort(t)
	url := fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable&connect_timeout=2", address(port))
	p := start(t, func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", filepath.Join(dir, "data"), "-p", strconv.Itoa(port), "-k", dir, "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1")
		attributes := *who
		cmd.SysProcAttr, cmd.Dir = &attributes, dir
		return cmd
	}, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			err = conn.Close(ctx)
		}
		return err
	})
	return p, url
}

// asPostgres: the server refuses to be run by root.
func asPostgres(t testing.TB, dir string) *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return new(syscall.SysProcAttr)
	}
	u, err := user.Lookup("postgres")
	require.NoError(t, err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	require.NoError(t, os.Chown(dir, uid, gid))
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// Each row is there once, and no goroutine is lost: see outage.
func TestPostgresOutage(t *testing.T) {
	server, url := postgres(t)
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(t.Context(), "create table done (id bigint primary key)")
	require.NoError(t, err)
	before := count(t)

	// The key makes it safe to repeat a commit whose fate is unknown.
	through := outage{
		server: server, stop: syscall.SIGINT, openTime: 200 * time.Millisecond, enough: 500,
		breaker: retry.BreakerConfig{Name: "postgres", IsFailure: PostgresFailure}, retryIf: PostgresRetryable,
		work: func(ctx context.Context, id int64) error {
			_, err := pool.Exec(ctx, "insert into done values ($1) on conflict do nothing", id)
			return err
		},
	}
	done := through.run(t)
	var rows int64
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from done").Scan(&rows))
	assert.Equal(t, done, rows)
	pool.Reset()
	settled(t, before, 4)
}

// Transactions that the server serializes: a conflict is repeated with the whole
// transaction, and the sum is right.
func TestPostgresSerialization(t *testing.T) {
	_, url := postgres(t)
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(t.Context(), "create table account (id int primary key, balance int); insert into account values (1, 0)")
	require.NoError(t, err)
	var retries atomic.Int64
	cfg := retry.Config{
		InitialDelay: time.Millisecond, MaxDelay: 50 * time.Millisecond, Jitter: retry.FullJitter, MaxRetries: 200, RetryIf: PostgresRetryable,
		OnRetry: func(_ context.Context, e retry.Event) {
			retries.Add(1)
			var conflict *pgconn.PgError
			assert.ErrorAs(t, e.Err, &conflict)
		},
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 10 {
				assert.NoError(t, retry.Run(t.Context(), cfg, func(ctx context.Context) error {
					return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
						var balance int
						if err := tx.QueryRow(ctx, "select balance from account where id = 1").Scan(&balance); err != nil {
							return err
						}
						_, err := tx.Exec(ctx, "update account set balance = $1 where id = 1", balance+1)
						return err
					})
				}))
			}
		})
	}
	wg.Wait()
	var balance int
	require.NoError(t, pool.QueryRow(t.Context(), "select balance from account").Scan(&balance))
	assert.Equal(t, 100, balance)
	assert.Positive(t, retries.Load(), "there were conflicts")

	// What cannot change is one attempt, and no fault of the server.
	for _, query := range []string{"select * from nothing", "insert into account values (1, 0)", "select 1/0", "syntax"} {
		attempts := 0
		err := retry.Run(t.Context(), cfg, func(ctx context.Context) error { attempts++; _, err := pool.Exec(ctx, query); return err })
		assert.Equal(t, 1, attempts, "%v", err)
		assert.False(t, PostgresFailure(err), "%v", err)
	}
	// What the program does wrong stays wrong, and is no failure of the server either.
	var number int
	for name, wrong := range map[string]func(ctx context.Context) error{
		"scan into a wrong type": func(ctx context.Context) error { return pool.QueryRow(ctx, "select 'text'").Scan(&number) },
		"scan of too few values": func(ctx context.Context) error { return pool.QueryRow(ctx, "select 1, 2").Scan(&number) },
		"an argument too much":   func(ctx context.Context) error { _, err := pool.Exec(ctx, "select 1", 2); return err },
		"an unknown type": func(ctx context.Context) error {
			_, err := pool.Exec(ctx, "select $1::int", make(chan int))
			return err
		},
		"no such row": func(ctx context.Context) error { return pool.QueryRow(ctx, "select 1 where false").Scan(&number) },
		"a transaction that is over": func(ctx context.Context) error {
			tx, err := pool.Begin(ctx)
			require.NoError(t, err)
			require.NoError(t, tx.Commit(ctx))
			_, err = tx.Exec(ctx, "select 1")
			return err
		},
		"a pool that is closed": func(ctx context.Context) error {
			closed, err := pgxpool.New(ctx, url)
			require.NoError(t, err)
			closed.Close()
			return closed.Ping(ctx)
		},
		"a bug": func(context.Context) error { return errors.New("balance is negative") },
	} {
		attempts := 0
		err := retry.Run(t.Context(), cfg, func(ctx context.Context) error { attempts++; return wrong(ctx) })
		assert.Error(t, err, name)
		assert.Equal(t, 1, attempts, "%s: %v", name, err)
		assert.False(t, PostgresFailure(err), "%s: %v", name, err)
	}
	// A proxy's error may have no code.
	assert.False(t, PostgresRetryable(&pgconn.PgError{}))
	assert.True(t, PostgresRetryable(fmt.Errorf("lost: %w", io.ErrUnexpectedEOF)))
	assert.False(t, PostgresRetryable(pgx.ErrNoRows))
	assert.False(t, PostgresFailure(pgx.ErrNoRows))
	var refused *net.OpError
	_, err = pgx.Connect(t.Context(), "postgres://postgres@"+address(freePort(t))+"/postgres?sslmode=disable")
	assert.True(t, errors.As(err, &refused) && PostgresRetryable(err) && PostgresFailure(err), "%v", err)
}

// The example runs, and its transfers get into each other's way.
func TestPostgresExample(t *testing.T) {
	_, url := postgres(t)
	cmd := exec.CommandContext(t.Context(), "go", "run", "./postgres", url)
	cmd.Dir, cmd.Env = "../examples", append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	var made, refused, retries, sum int
	var same bool
	_, err = fmt.Sscanf(string(out), "%d transfers made, %d refused, %d retries; %d in all accounts, as before: %t", &made, &refused, &retries, &sum, &same)
	require.NoError(t, err, "%s", out)
	assert.Equal(t, 200, made+refused)
	assert.Positive(t, made)
	assert.Positive(t, retries)
	assert.True(t, same, "%s", out)
}

// The recipe that the example shows is the one that is tested here.
func TestPostgresRecipeIsThatOfTheExample(t *testing.T) {
	ours, err := os.ReadFile("recipes.go")
	require.NoError(t, err)
	example, err := os.ReadFile("../examples/postgres/recipe.go")
	require.NoError(t, err)
	_, recipe, ok := strings.Cut(string(example), "\n)\n")
	require.True(t, ok)
	assert.Contains(t, string(ours), recipe)
}

// Command postgres moves money between the accounts of a PostgreSQL database, several
// transfers at a time, each in a serializable transaction:
//
//	go run ./examples/postgres postgres://user@localhost/database
//
// Transactions that get into each other's way are repeated, and so are those whose
// connection broke; what is wrong with a statement, or with the program, is reported at
// once. A transfer has a key: one whose commit was carried out, though its answer was
// lost, is not made twice. What there is to learn is in newConfig, transfer and recipe.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/retryutils/retry"
)

const (
	accounts  = 4
	transfers = 200
	parallel  = 8
	start     = 100 // in each account
)

const schema = `
drop table if exists transfer, account;
create table account (id int primary key, balance int not null);
create table transfer (id int primary key);`

var errNoMoney = errors.New("not enough money")

// newConfig is the one Config for the database. retries counts.
func newConfig(retries *atomic.Int64) (retry.Config, error) {
	breaker, err := retry.NewCircuitBreaker(retry.BreakerConfig{Name: "database", RecoveryTimeout: 2 * time.Second, IsFailure: PostgresFailure})
	return retry.Config{
		Name:         "database",
		RetryIf:      PostgresRetryable,
		MaxRetries:   50, // conflicts are many and short
		InitialDelay: 2 * time.Millisecond, MaxDelay: 100 * time.Millisecond, Jitter: retry.FullJitter,
		AttemptTimeout: 5 * time.Second, MaxElapsed: 30 * time.Second,
		Breaker: breaker,
		OnRetry: func(context.Context, retry.Event) { retries.Add(1) },
	}, err
}

// transfer repeats the whole transaction, which begins with its key.
func transfer(ctx context.Context, cfg retry.Config, pool *pgxpool.Pool, id, from, to, amount int) error {
	return retry.Run(ctx, cfg, func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, "insert into transfer values ($1) on conflict do nothing", id)
			if err != nil || tag.RowsAffected() == 0 { // an earlier attempt was committed
				return err
			}
			var balance int
			if err := tx.QueryRow(ctx, "select balance from account where id = $1", from).Scan(&balance); err != nil {
				return err
			}
			if balance < amount {
				return retry.Permanent(errNoMoney)
			}
			if _, err := tx.Exec(ctx, "update account set balance = balance - $2 where id = $1", from, amount); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "update account set balance = balance + $2 where id = $1", to, amount)
			return err
		})
	})
}

func run(ctx context.Context, w io.Writer, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	var retries, made, refused atomic.Int64
	cfg, err := newConfig(&retries)
	if err != nil {
		return err
	}
	err = retry.Run(ctx, cfg, func(ctx context.Context) error {
		if _, err := pool.Exec(ctx, schema); err != nil {
			return err
		}
		_, err := pool.Exec(ctx, "insert into account select id, $2 from generate_series(0, $1 - 1) id", accounts, start)
		return err
	})
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	failures := make(chan error, parallel)
	for worker := range parallel {
		all.Go(func() {
			for id := worker; id < transfers; id += parallel {
				switch err := transfer(ctx, cfg, pool, id, id%accounts, (id*7+1)%accounts, id%30); {
				case err == nil:
					made.Add(1)
				case errors.Is(err, errNoMoney):
					refused.Add(1)
				default:
					failures <- fmt.Errorf("transfer %d: %w", id, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(failures)
	if err := <-failures; err != nil {
		return err
	}
	sum, err := retry.Do(ctx, cfg, func(ctx context.Context) (sum int, err error) {
		err = pool.QueryRow(ctx, "select sum(balance) from account").Scan(&sum)
		return sum, err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d transfers made, %d refused, %d retries; %d in all accounts, as before: %t\n", made.Load(), refused.Load(), retries.Load(), sum, sum == accounts*start)
	return err
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: postgres url")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

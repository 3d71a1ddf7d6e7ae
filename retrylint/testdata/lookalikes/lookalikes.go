// Package lookalikes has loops that are none of retries.
package lookalikes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func ready(ctx context.Context) (bool, error)            { return false, nil }
func page(ctx context.Context, t string) (string, error) { return "", nil }
func work(item int) error                                { return nil }

func pollCondition(ctx context.Context) error {
	for {
		ok, err := ready(ctx)
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		time.Sleep(time.Second)
	}
}

func pagination(ctx context.Context) error {
	token := ""
	for {
		next, err := page(ctx, token)
		if err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		token = next
	}
}

func worker(items chan int) {
	for item := range items {
		if err := work(item); err != nil {
			fmt.Println(err)
			time.Sleep(time.Second)
			continue
		}
		fmt.Println("done")
	}
}

func accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				time.Sleep(time.Millisecond)
				continue
			}
			return err
		}
		go c.Close()
	}
}

func pacing(ctx context.Context, items []int) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for _, item := range items {
		<-t.C
		if err := work(item); err != nil {
			return err
		}
	}
	return nil
}

func readAll(r io.Reader) (n int, err error) {
	buf := make([]byte, 512)
	for {
		k, err := r.Read(buf)
		n += k
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func lines(r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		fmt.Println(line)
	}
}

func spin(v *atomic.Int64) {
	for {
		old := v.Load()
		if v.CompareAndSwap(old, old+1) {
			return
		}
	}
}

func interrupted(fd int, buf []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, buf)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func failover(addrs []string) (net.Conn, error) {
	var last error
	for _, addr := range addrs {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c, nil
		}
		last = err
	}
	return nil, last
}

func freePort() (net.Listener, error) {
	for port := 8000; port < 9000; port++ {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			return l, nil
		}
	}
	return nil, errors.New("none is free")
}

func freeName(dir string) (*os.File, error) {
	for i := 0; i < 1000; i++ {
		f, err := os.OpenFile(dir+strconv.Itoa(i), os.O_CREATE|os.O_EXCL, 0o600)
		if os.IsExist(err) {
			continue
		}
		return f, err
	}
	return nil, errors.New("none is free")
}

func ask(in *bufio.Scanner) int {
	for {
		in.Scan()
		n, err := strconv.Atoi(in.Text())
		if err == nil {
			return n
		}
		fmt.Println("not a number")
	}
}

func server(ctx context.Context) {
	for {
		if err := work(1); err != nil {
			fmt.Println(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Minute):
		}
	}
}

func walk(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := walk(dir + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}

func repairAndTryOnce(path string) (*os.File, error) {
	f, err := os.Create(path)
	if os.IsNotExist(err) {
		if err := os.MkdirAll("dir", 0o700); err != nil {
			return nil, err
		}
		return repairAndTryOnce(path)
	}
	return f, err
}

type pool struct {
	addrs []string
	next  int
}

func (p *pool) dial(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }

func (p *pool) roundRobin() net.Conn {
	for {
		c, err := p.dial(p.addrs[p.next%len(p.addrs)])
		if err == nil {
			return c
		}
		p.next++
		time.Sleep(time.Second)
	}
}

func freeAddress() (net.Listener, error) {
	ip := []byte{127, 0, 0, 1}
	for {
		l, err := net.Listen("tcp", net.IP(ip).String()+":0")
		if err == nil {
			return l, nil
		}
		ip[3]++
	}
}

func passphrase(prompt string) string { return prompt }
func unlock(p string) error           { return nil }

func askAgain() error {
	var err error
	for trials := 0; trials < 3; trials++ {
		if err = unlock(passphrase("again")); err == nil {
			return nil
		}
	}
	return err
}

func readForEver(c net.Conn, out chan []byte) {
	buf := make([]byte, 512)
	for {
		n, err := c.Read(buf)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		out <- buf[:n]
	}
}

func worksWhenThereIs(ctx context.Context) error {
	for {
		job, err := page(ctx, "")
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		if job == "" {
			time.Sleep(time.Second)
			continue
		}
		fmt.Println(len(job), work(1))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

type servers struct {
	addresses []string
	at        int
	server    string
}

func (p *servers) next() (string, bool) { return "", false }
func (p *servers) current() string      { return p.server }
func (p *servers) turn() string {
	p.at = (p.at + 1) % len(p.addresses)
	return p.addresses[p.at]
}

func connect(addr string) error { return nil }

// Each round connects to the next server, which a field holds.
func nextServer(p *servers) error {
	var again bool
	for {
		p.server, again = p.next()
		if again {
			time.Sleep(time.Second)
		}
		if err := connect(p.current()); err == nil {
			return nil
		}
	}
}

// The method returns the addresses in turn.
func inTurn(p *servers) (err error) {
	for attempt := 0; attempt < 3; attempt++ {
		if err = connect(p.turn()); err == nil {
			return nil
		}
	}
	return err
}

func name() string { return fmt.Sprint("n", rand.Int()) }

// Another name in each round, by a function at hand, or set before.
func otherName() (err error) {
	for try := 1; try <= 3; try++ {
		if err = connect(name()); err == nil {
			break
		}
	}
	return err
}

type object struct{ name string }

func (o *object) SetName(name string) { o.name = name }
func create(o *object) error          { return nil }

func setName(o *object) (err error) {
	const maxRetries = 7
	for range maxRetries {
		o.SetName(fmt.Sprint("n", rand.Int()))
		if err = create(o); err == nil {
			break
		}
	}
	return err
}

func askPassword(prompt string) string { return "" }

// A person is asked in each round.
func decrypt(update func(string) error) error {
	try := func(attempt int) error { return update(askPassword("Password")) }
	err := try(0)
	for attempts := 1; attempts < 3 && errors.Is(err, errNone); attempts++ {
		err = try(attempts)
	}
	return err
}

// A success goes round as well; the kind of error only says when to end.
func heartbeat(stop chan struct{}, ping func() error) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			if err := ping(); err == nil {
				fmt.Println("fine")
			} else {
				if e, ok := err.(net.Error); ok && e.Timeout() {
					continue
				}
				return
			}
		}
	}
}

type kv struct{}

func (kv) Get(key string) (int, error)               { return 0, nil }
func (kv) CAS(key string, old, to int) (bool, error) { return true, nil }

// Compare and swap.
func swap(s kv) error {
	for retries := 0; retries < 10; retries++ {
		v, err := s.Get("a")
		if err != nil {
			continue
		}
		if ok, err := s.CAS("a", v, v+1); err != nil || !ok {
			continue
		}
		return nil
	}
	return errors.New("changed too often")
}

type reader struct{}

func (reader) Len() (int, error)      { return 0, nil }
func (reader) Field() (string, error) { return "", nil }
func (reader) Number() (int, error)   { return 0, nil }

var errNone = errors.New("none")

// A count that was read is no answer to wait for.
func fields(r reader) error {
	n, err := r.Len()
	if err != nil {
		return err
	}
	for i := 0; i < n; i++ {
		field, err := r.Field()
		if err != nil {
			return err
		}
		if field == "size" {
			if _, err = r.Number(); err != nil && err != errNone {
				return err
			}
		}
	}
	return nil
}

type missingError struct{ id string }

func (e missingError) Error() string { return e.id }

type invalidError struct{ persistable bool }

func (e invalidError) Error() string { return "invalid" }

func allowed(events []string) error   { return nil }
func fetch(id string) (string, error) { return id, nil }

// What was missing is fetched, and the round begins with more than the one before.
func fetchMissing(events []string) error {
retryAllowed:
	if err := allowed(events); err != nil {
		if missing, ok := err.(missingError); ok {
			event, err2 := fetch(missing.id)
			switch e := err2.(type) {
			case invalidError:
				if !e.persistable {
					return e
				}
			case nil:
			default:
				return err2
			}
			events = append(events, event)
			goto retryAllowed
		}
		return err
	}
	return nil
}

// Package lookalikes has loops that are none of retries.
package lookalikes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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

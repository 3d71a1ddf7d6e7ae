//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package download

import (
	"errors"
	"os"
	"syscall"
)

// openLocked opens a part for this download alone. The lock ends with the process,
// however that does. Where the file system has none, as some of clusters, there is none.
func openLocked(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == syscall.EINTR:
			continue
		case err == nil, errors.Is(err, errors.ErrUnsupported), err == syscall.ENOLCK:
			return file, nil
		}
		file.Close()
		if err == syscall.EWOULDBLOCK {
			return nil, ErrInUse
		}
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
}

//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package download

import "os"

// openLocked opens a part. There are no locks here.
func openLocked(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
}

package download

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"github.com/retryutils/retry"
)

// part is the file that the bytes go to, locked, with the small one beside it that says
// what they are.
type part struct {
	path  string
	file  *os.File
	begun bool // its content is this download's
}

// openPart opens and locks a part. Another download may have given it its final name, or
// removed it, between the two: what is locked must be what the path leads to.
func openPart(path string) (*part, error) {
	for range 100 { //retrylint:ignore not a retry loop: the path is compared with what was locked
		if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%w: download: %s is no regular file", retry.ErrInvalidConfig, path)
		}
		file, err := openLocked(path)
		if errors.Is(err, ErrInUse) {
			return nil, fmt.Errorf("%w: %s", ErrInUse, path)
		}
		if err != nil {
			return nil, err
		}
		p := &part{path: path, file: file}
		if p.isThere() {
			return p, nil
		}
		file.Close()
	}
	return nil, fmt.Errorf("%w: %s", ErrInUse, path)
}

// isThere reports whether the path still leads to the file that is open.
func (p *part) isThere() bool {
	mine, err := p.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(p.path)
	return err == nil && os.SameFile(mine, named)
}

func (p *part) sidePath() string { return p.path + ".json" }

// load returns what the part is the beginning of, and how many bytes there are: 0 if
// they cannot be continued.
func (p *part) load(u *url.URL) (id identity, size int64) {
	text, err := os.ReadFile(p.sidePath())
	if err != nil {
		return id, 0
	}
	info, err := p.file.Stat()
	if err != nil || json.Unmarshal(text, &id) != nil || id.ID != hashOf(u) || id.validator() == "" ||
		id.Length < -1 || id.Length >= 0 && info.Size() > id.Length {
		return id, 0
	}
	p.begun = true
	return id, info.Size()
}

// reset empties the part, before anything else is said of it: at no moment the bytes of
// one file stand beside the name of another.
func (p *part) reset() error {
	p.begun = true
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	return removed(p.sidePath())
}

func (p *part) save(id identity) error {
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return os.WriteFile(p.sidePath(), text, 0o600)
}

// publish gives the part its final name, once it is on the disk.
func (p *part) publish(path string) error {
	if err := p.file.Sync(); err != nil {
		return err
	}
	if !p.isThere() {
		return fmt.Errorf("download: %s was removed or replaced: %w", p.path, fs.ErrNotExist)
	}
	if err := os.Rename(p.path, path); err != nil {
		return err
	}
	if err := removed(p.sidePath()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// remove removes the part, if it is still there, and what is beside it.
func (p *part) remove() {
	info, err := p.file.Stat()
	if err == nil && (p.begun || info.Size() == 0) && p.isThere() {
		removed(p.sidePath())
		removed(p.path)
	}
}

func (p *part) close() { p.file.Close() }

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes a rename in a directory last. Some systems cannot, and do not need it.
func syncDir(path string) error {
	if runtime.GOOS == "windows" || runtime.GOOS == "js" || runtime.GOOS == "wasip1" || runtime.GOOS == "plan9" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil // it may be written to, and not read
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}

package download

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strings"
)

// algorithms are those of digests that servers send, by their names in Repr-Digest.
var algorithms = map[string]func() hash.Hash{
	"sha-512":   sha512.New,
	"sha-256":   sha256.New,
	"sha":       sha1.New,
	"md5":       md5.New,
	"crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"crc64nvme": func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) },
}

// digestsOf finds the digests of the whole file in a header. What Content-MD5 and S3
// say of a response with a range is about that alone.
func digestsOf(header http.Header, ofRange bool) map[string][]byte {
	digests := make(map[string][]byte)
	add := func(name, text string) {
		name = strings.ToLower(strings.TrimSpace(name))
		value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if algorithm := algorithms[name]; err == nil && algorithm != nil && len(value) == algorithm().Size() {
			digests[name] = value
		}
	}
	if !ofRange {
		add("md5", header.Get("Content-MD5"))
		for name, text := range map[string]string{"sha-256": "Sha256", "sha": "Sha1", "crc32": "Crc32", "crc32c": "Crc32c", "crc64nvme": "Crc64nvme"} {
			if !strings.EqualFold(header.Get("X-Amz-Checksum-Type"), "COMPOSITE") { // of the parts' checksums
				add(name, header.Get("X-Amz-Checksum-"+text))
			}
		}
	}
	for _, member := range strings.Split(strings.Join(header.Values("Digest"), ","), ",") {
		name, text, _ := strings.Cut(member, "=")
		add(name, text)
	}
	for _, member := range strings.Split(strings.Join(header.Values("Repr-Digest"), ","), ",") {
		member, _, _ = strings.Cut(member, ";")
		name, text, _ := strings.Cut(strings.TrimSpace(member), "=")
		if len(text) > 2 && text[0] == ':' && text[len(text)-1] == ':' {
			add(name, text[1:len(text)-1])
		}
	}
	if len(digests) == 0 {
		return nil
	}
	return digests
}

// sums are those that verify the digests.
func (id *identity) sums() (sums []*sum) {
	for name, want := range id.Digests {
		if algorithm := algorithms[name]; algorithm != nil {
			sums = append(sums, &sum{name: "server's " + name, hash: algorithm(), want: want})
		}
	}
	return sums
}

// sum is a checksum that the file must have.
type sum struct {
	name string
	hash hash.Hash
	want []byte
	at   int64 // bytes that it has seen
	used bool
}

func (s *sum) reset() {
	s.hash.Reset()
	s.at, s.used = 0, true
}

// add takes the bytes at an offset of the file, if they are the next ones. What it misses
// catchUp reads.
func (s *sum) add(p []byte, offset int64) {
	if !s.used {
		s.reset()
	}
	if s.at == offset {
		s.hash.Write(p)
		s.at += int64(len(p))
	}
}

// catchUp takes what it has not seen of the first bytes of the file.
func (s *sum) catchUp(ctx context.Context, file io.ReaderAt, end int64, buffer []byte) error {
	for s.at < end {
		if isDone(ctx) {
			return context.Cause(ctx)
		}
		n, err := file.ReadAt(buffer[:min(int64(len(buffer)), end-s.at)], s.at)
		if n > 0 {
			s.add(buffer[:n], s.at)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (s *sum) verify() error {
	if !s.used {
		s.reset()
	}
	if got := s.hash.Sum(nil); !bytes.Equal(got, s.want) {
		return fmt.Errorf("%w: %s is %x, want %x", ErrChecksum, s.name, got, s.want)
	}
	return nil
}

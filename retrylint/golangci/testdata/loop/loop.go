// Package loop has one finding.
package loop

import (
	"os"
	"time"
)

func Open(name string) (f *os.File, err error) {
	for range 3 {
		if f, err = os.Open(name); err == nil {
			return f, nil
		}
		time.Sleep(time.Second)
	}
	return nil, err
}

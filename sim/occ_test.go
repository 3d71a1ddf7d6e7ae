package main

import (
	"fmt"
	"testing"
)

func TestOCC(t *testing.T) {
	for _, s := range occStrategies() {
		for _, n := range []int{10, 100, 200} {
			r := occ(s, n, 20, 1)
			fmt.Printf("%s %d %.0f %.0f\n", s.name, n, r.calls, r.time)
		}
	}
}

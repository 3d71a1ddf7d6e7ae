package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

func TestHarmRows(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SEEDS"))
	n = max(1, n)
	var who []peer
	for i, p := range peers() {
		if os.Getenv("PEERS") == "" && i == 0 || strings.Contains(os.Getenv("PEERS"), strconv.Itoa(i)) {
			who = append(who, p)
		}
	}
	for _, s := range append(harmless(), useful()...) {
		if !strings.Contains(s.name, os.Getenv("ROW")) {
			continue
		}
		line := fmt.Sprintf("%-32s", s.name)
		for _, p := range who {
			var a, b, c []float64
			for seed := range uint64(n) {
				synctest.Test(t, func(*testing.T) {
					o := s.run(p, seed)
					a, b, c = append(a, o.took), append(b, o.refused), append(c, o.lost)
				})
			}
			slices.Sort(a)
			slices.Sort(b)
			slices.Sort(c)
			f := 1.0
			if s.ideal > 0 {
				f = s.ideal
			}
			line += fmt.Sprintf(" | %8.3f (%8.3f) %6.0f (%6.0f) %4.0f", a[n/2]/f, a[n-1]/f, b[n/2], b[n-1], c[n-1])
		}
		fmt.Println(line, "  goal", s.goal, s.refused)
	}
}

package main

import (
	"testing"
	"testing/synctest"
)

func TestX(t *testing.T) {
	ps := openPolicies()
	for _, n := range []int{20, 1000} {
		for _, p := range ps[len(ps)-2:] {
			for seed := range uint64(5) {
				synctest.Test(t, func(*testing.T) {
					o := outage(n, 60).run(p, seed+1)
					t.Log(n, p.name, o.amplification, o.dead, o.perSecond, o.recovered, o.ok)
				})
			}
		}
	}
}

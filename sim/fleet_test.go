package main

import (
	"testing"
	"testing/synctest"
)

func TestX(t *testing.T) {
	for _, p := range fleetPolicies() {
		for seed := range uint64(2) {
			synctest.Test(t, func(*testing.T) {
				l := closedOutage(60)
				l.processes, l.workers = 20, 50
				o := l.run(p, seed+1)
				t.Logf("%s ampl %.2f peak/s %d /100ms %d shed %d half %v 99 %v last %v", p.name, o.amplification, o.perSecond, o.per100ms, o.shed, sec(o.quantile(0.5, 1000)), sec(o.quantile(0.99, 1000)), sec(o.quantile(1, 1000)))
			})
		}
	}
	for _, s := range throttledServers() {
		synctest.Test(t, func(*testing.T) {
			o := s.run(throttledFleet, 1)
			t.Logf("%s %.0f (%.2f)", s.name, o.refused, o.makespan)
		})
	}
}

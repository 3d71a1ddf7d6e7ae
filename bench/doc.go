// Package bench measures package retry beside its peers: the same work, set up
// alike, in one run.
//
//	go test -bench . ./...        runs everything
//	go run ./cmd/report           runs everything several times, and writes RESULTS.md
//
// The tests show, besides, what the peers and this library do in given cases: those of
// the README (compare_test.go), and what users of the peers have reported as faults
// (faults_test.go, whose table is in docs/claims.md).
//
// A benchmark is named Group/kind/candidate, where the kind is "floor" for what
// the work itself costs when it is written by hand, "retry" for this library
// and "peer" for the others. Each one checks that its candidate made the calls
// it should have made, and no others.
package bench

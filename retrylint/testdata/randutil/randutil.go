// Package randutil draws numbers for the loops of other packages.
package randutil

// A Generator is one of random numbers.
type Generator interface{ Intn(n int) int }

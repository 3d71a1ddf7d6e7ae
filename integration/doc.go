// Package integration puts the library between real software: servers and
// clients that nobody here wrote.
package integration

// Package integration puts the library between real software: servers and
// clients that others wrote.
package integration

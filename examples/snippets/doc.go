// Package snippets compiles the Go code in the README and in docs/. There is
// nothing in it but a test.
package snippets

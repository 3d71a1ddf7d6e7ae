// Package status makes statuses, as that of gRPC does.
package status

// A Status is what a server answers.
type Status struct {
	Code int
	Text string
}

// New returns a status.
func New(code int, text string) *Status { return &Status{code, text} }

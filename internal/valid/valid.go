// Package valid collects what is wrong with the fields of a configuration.
package valid

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// OrDefault ends what is wanted of a field whose 0 means a default.
const OrDefault = ", or 0 for the default"

// Problems are those of one configuration.
type Problems []Problem

// Problem is a field that cannot be used.
type Problem struct {
	Field string
	Want  string
	value any
	other string // a field that the wanted value depends on
	limit any    // and its value
}

// Require notes a field that is wrong. It is generic, and what it does about that is
// elsewhere, so that one that is right costs next to nothing: each call that is more than
// a plain one judges its Config.
func Require[T any](p *Problems, ok bool, field string, value T, want string) {
	if !ok {
		add(p, field, value, want)
	}
}

func add[T any](p *Problems, field string, value T, want string) {
	*p = append(*p, Problem{Field: field, value: value, Want: want})
}

// RequireOther is for a field that contradicts another one.
func RequireOther[T, L any](p *Problems, ok bool, field string, value T, want, other string, limit L) {
	if !ok {
		*p = append(*p, Problem{field, want, value, other, limit})
	}
}

// NotNegative is for durations.
func (p *Problems) NotNegative(field string, d time.Duration) {
	Require(p, d >= 0, field, d, "0 or more")
}

// NotNil is for an interface that may be nil, but not hold a nil pointer: that would
// panic in the middle of a call.
func (p *Problems) NotNil(field string, v any) {
	if IsNil(v) {
		add(p, field, fmt.Sprintf("a nil %T", v), "one that is there, or nil itself for none")
	}
}

// Join makes one error of them, which wraps kind, with the fields named as name does.
func (p Problems) Join(kind error, name func(field string) string) error {
	errs := make([]error, len(p))
	for i, e := range p {
		if e.other != "" {
			e.Want = fmt.Sprintf("%s %s, %v", e.Want, name(e.other), e.limit)
		}
		errs[i] = fmt.Errorf("%w: %s is %v, want %s", kind, name(e.Field), e.value, e.Want)
	}
	return errors.Join(errs...)
}

// Of names the fields of a struct.
func Of(kind string) func(string) string {
	return func(field string) string { return kind + "." + field }
}

// IsNil reports whether an interface holds a nil pointer or function: it is not nil to
// all appearances, but most methods would panic.
func IsNil(v any) bool {
	value := reflect.ValueOf(v)
	return (value.Kind() == reflect.Pointer || value.Kind() == reflect.Func) && value.IsNil()
}

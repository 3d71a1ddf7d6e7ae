package retry

import (
	"errors"
	"fmt"
	"time"
)

// orDefault ends what is wanted of a field whose 0 means a default.
const orDefault = ", or 0 for the default"

// problems collects what is wrong with a configuration.
type problems []problem

type problem struct {
	field string
	value any
	want  string
	other string // a field that the wanted value hangs on
	limit any    // and its value
}

func (p *problems) require(ok bool, field string, value any, want string) {
	p.requireOther(ok, field, value, want, "", nil)
}

// requireOther is for a field that contradicts another one.
func (p *problems) requireOther(ok bool, field string, value any, want, other string, limit any) {
	if !ok {
		*p = append(*p, problem{field, value, want, other, limit})
	}
}

func (p *problems) notNegative(field string, d time.Duration) {
	p.require(d >= 0, field, d, "0 or more")
}

// notNil is for an interface that may be nil, but not hold a nil pointer: that would
// panic in the middle of a call.
func (p *problems) notNil(field string, v any) {
	p.require(!isNil(v), field, fmt.Sprintf("a nil %T", v), "one that is there, or nil itself for none")
}

// join makes one error of them, with the fields named as name does.
func (p problems) join(name func(field string) string) error {
	errs := make([]error, len(p))
	for i, e := range p {
		if e.other != "" {
			e.want = fmt.Sprintf("%s %s, %v", e.want, name(e.other), e.limit)
		}
		errs[i] = fmt.Errorf("%w: %s is %v, want %s", ErrInvalidConfig, name(e.field), e.value, e.want)
	}
	return errors.Join(errs...)
}

// of names the fields of a struct.
func of(kind string) func(string) string {
	return func(field string) string { return kind + "." + field }
}

// invalid reports a wrong argument.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalidConfig, fmt.Errorf(format, args...))
}

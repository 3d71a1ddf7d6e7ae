package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// changes are the lines of each file, by its path in the repository, that are new;
// nil stands for all lines.
type changes map[string]map[int]bool

// changesSince returns what changed since the merge base of the working tree with
// revision.
func changesSince(revision, root string) (changes, error) {
	base, err := git(root, "merge-base", revision, "HEAD")
	if err != nil {
		return nil, err
	}
	text, err := git(root, "diff", "--no-color", "--no-ext-diff", "--unified=0", strings.TrimSpace(base), "--", "*.go")
	if err != nil {
		return nil, err
	}
	files, _, err := gitdiff.Parse(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("git diff: %w", err)
	}
	c := changes{}
	for _, f := range files {
		if f.IsDelete {
			continue
		}
		lines := map[int]bool{}
		for _, part := range f.TextFragments {
			for i := range part.NewLines {
				lines[int(part.NewPosition+i)] = true
			}
			if part.NewLines == 0 { // lines were removed behind this one
				lines[int(part.NewPosition)], lines[int(part.NewPosition)+1] = true, true
			}
		}
		c[f.NewName] = lines
	}
	untracked, err := git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.go")
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(untracked, "\x00") {
		c[name] = nil
	}
	return c, nil
}

// touch reports whether one of the lines that r is about is new.
func (c changes) touch(r record) bool {
	lines, changed := c[r.File]
	if !changed || lines == nil {
		return changed
	}
	for line := r.span[0]; line <= r.span[1]; line++ {
		if lines[line] {
			return true
		}
	}
	return false
}

func git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("git %s: %w", args[0], errors.Join(err, errors.New(strings.TrimSpace(stderr.String()))))
	}
	return string(out), err
}

package main

import (
	"fmt"
	"go/format"
	"os"
	"slices"
)

// An edit replaces the bytes from start to end of a file.
type edit struct {
	start, end int
	text       string
}

// applyFixes rewrites the files of the records that have a fix, and marks them as
// fixed. Of fixes that overlap, the later ones are left for another run; what
// several of them add at the same place, such as an import, is added once.
func applyFixes(all []record) (fixed, files int, err error) {
	byFile := map[string][]edit{}
	for i := range all {
		r := &all[i]
		if len(r.edits) > 0 && merge(byFile, r.path, r.edits) {
			r.fixed = true
			fixed++
		}
	}
	for name, edits := range byFile {
		info, err := os.Stat(name)
		if err != nil {
			return fixed, files, err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return fixed, files, err
		}
		slices.SortFunc(edits, func(a, b edit) int { return b.start - a.start })
		for _, e := range edits {
			text = slices.Concat(text[:e.start], []byte(e.text), text[e.end:])
		}
		if text, err = format.Source(text); err != nil {
			return fixed, files, fmt.Errorf("%s: the fix does not parse: %w", name, err)
		}
		if err := os.WriteFile(name, text, info.Mode().Perm()); err != nil {
			return fixed, files, err
		}
		files++
	}
	return fixed, files, nil
}

// merge adds edits to those of the file, if none overlaps with one that is there.
func merge(byFile map[string][]edit, file string, edits []edit) bool {
	var add []edit
	for _, e := range edits {
		if slices.Contains(byFile[file], e) {
			continue
		}
		for _, other := range byFile[file] {
			if e.start < other.end && other.start < e.end || e.start == other.start {
				return false
			}
		}
		add = append(add, e)
	}
	byFile[file] = append(byFile[file], add...)
	return true
}

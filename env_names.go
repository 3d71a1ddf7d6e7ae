package retry

import (
	"slices"
	"strings"
)

// nearest returns which of the known names was probably meant: one with other
// underscores, with its words in another order or number, or with a slip in a word.
// It returns "" if it was none.
func nearest(name string, known []string) (found string) {
	least := -1
	for _, k := range known {
		if before, ok := strings.CutSuffix(name, "_"+k); ok && strings.Trim(before, "_") != "" {
			return "" // under a longer prefix, for something else
		}
		if slips, near := compareNames(name, k); near && (least < 0 || slips < least) {
			found, least = k, slips
		}
	}
	return found
}

// compareNames counts the slips by which a name differs from a known one, and reports
// whether they are few enough for it to be meant.
func compareNames(name, known string) (slips int, near bool) {
	words, want := wordsOf(name), wordsOf(known)
	joined, wanted := strings.Join(words, ""), strings.Join(want, "")
	if joined == wanted {
		return 0, true
	}
	if len(words) == 0 || len(wanted) < 5 { // NAME is near to much else
		return 0, false
	}
	if len(words) != len(want) {
		return compareWords(joined, wanted, 1)
	}
	if slips, near = compareInOrder(words, want); !near {
		slices.Sort(words)
		slices.Sort(want)
		slips, near = compareInOrder(words, want)
	}
	return slips, near && slips <= max(1, len(wanted)/4)
}

func compareInOrder(words, want []string) (slips int, near bool) {
	for i := range want {
		n, ok := compareWords(words[i], want[i], max(1, len(want[i])/4))
		if !ok {
			return 0, false
		}
		slips += n
	}
	return slips, true
}

func wordsOf(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' || r == '.' })
}

// compareWords compares as compareNames does. A slip in the first letter makes
// another word (RATE, DATE), unless it is only in another place.
func compareWords(word, want string, limit int) (slips int, near bool) {
	if singular(word) == singular(want) {
		return 0, true
	}
	if word[0] != want[0] && !slices.Equal(slices.Sorted(strings.SplitSeq(word, "")), slices.Sorted(strings.SplitSeq(want, ""))) {
		return 0, false
	}
	slips = distance(word, want)
	return slips, slips <= limit
}

func singular(word string) string {
	switch {
	case strings.HasSuffix(word, "IES"):
		return strings.TrimSuffix(word, "IES") + "Y"
	case strings.HasSuffix(word, "SES"):
		return strings.TrimSuffix(word, "ES")
	case strings.HasSuffix(word, "SS"), strings.HasSuffix(word, "US"):
		return word
	}
	return strings.TrimSuffix(word, "S")
}

// distance is how many letters have to be put in, left out, replaced, or swapped with
// their neighbour.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

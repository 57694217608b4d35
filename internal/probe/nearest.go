// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"slices"
	"strings"
)

// nearestMaxLength bounds the names that are compared: the comparison costs the product of both lengths, and
// no valid name is longer.
const nearestMaxLength = 256

// UnknownError says that a name is none of those that exist.
type UnknownError struct {
	// Kind is what the name should have been one of, in the singular: "metric".
	Kind string
	// Name as it was written.
	Name string
	// Valid names, sorted.
	Valid []string
}

// Unknown returns an [UnknownError] for a name that is not among the valid ones.
func Unknown(kind, name string, valid []string) *UnknownError {
	valid = slices.Clone(valid)
	slices.Sort(valid)
	return &UnknownError{Kind: kind, Name: name, Valid: slices.Compact(valid)}
}

// Error names the nearest valid name, or all of them when none is near.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("unknown %s %q%s", e.Kind, e.Name, suggestion(e.Name, e.Valid))
}

// suggestion is the end of a sentence that says that the name does not exist.
func suggestion(name string, valid []string) string {
	if near := Nearest(name, valid); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	if len(valid) == 0 {
		return ": there are none"
	}
	return ": valid are " + strings.Join(valid, ", ")
}

// Nearest returns the valid name that was most likely meant by name, or "" when none is near: a name that differs
// by few letters (at most a third of them are missing, added, changed or swapped with a neighbour), or the only
// one that ends in ".name". Of several equally near the first of valid is taken.
func Nearest(name string, valid []string) string {
	if name == "" || len(name) > nearestMaxLength {
		return ""
	}
	folded := strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	best, bound := "", len(name)/3+1
	if len(name) < 3 {
		bound = 1 + len(name)/2
	}
	for _, candidate := range valid {
		if len(candidate) > nearestMaxLength || max(len(candidate), len(folded))-min(len(candidate), len(folded)) >= bound {
			continue
		}
		if d := distance(folded, candidate); d < bound && d < len(candidate) {
			best, bound = candidate, d
		}
	}
	if best != "" {
		return best
	}
	for _, candidate := range valid {
		if !strings.HasSuffix(candidate, "."+folded) {
			continue
		}
		if best != "" {
			return ""
		}
		best = candidate
	}
	return best
}

// distance is the Damerau-Levenshtein distance in its restricted form (optimal string alignment): the least number
// of bytes to insert, delete, change, or swap with their neighbour, none of them twice.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, previous, current := rows[0], rows[1], rows[2]
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}

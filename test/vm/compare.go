// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// growth is how much more the verifier may have to look at before that is a change for the worse.
const growth = 1.5

// cells are a document's, by section, row and column.
type cells map[[3]string]string

// readCells reads the tables of a document.
func readCells(text string) cells {
	found := make(cells)
	var section string
	var columns []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section, columns = title, nil
			continue
		}
		if !strings.HasPrefix(line, "|") {
			continue
		}
		f := strings.Split(strings.Trim(line, "|"), "|")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		switch {
		case columns == nil:
			columns = f
		case strings.HasPrefix(f[0], "--"):
		case len(f) == len(columns):
			for i := 1; i < len(f); i++ {
				found[[3]string{section, f[0], columns[i]}] = f[i]
			}
		}
	}
	return found
}

// worse lists what a document has that is worse than in the one before, of what was run: of all packages or of the selected ones.
func (o options) worse(before, after string, results []*result) []string {
	old, now := readCells(before), readCells(after)
	var list []string
	for place, had := range old {
		if !o.ran(results, place) {
			continue
		}
		has, there := now[place]
		if had != "" && !isMetric(place) && (!there || isWorse(place[0], had, has)) {
			if has == "" {
				has = "nothing"
			}
			list = append(list, fmt.Sprintf("%s, %s, %s: it was %q and is %q", place[0], place[1], place[2], had, has))
		}
	}
	// A metric has a row where a kernel can not give it only.
	for place, has := range now {
		if isMetric(place) && rank(has) == rankNo && old[place] == "" && o.ran(results, place) && inColumn(old, place) {
			list = append(list, fmt.Sprintf("%s, %s, %s: it was there and is %q", place[0], place[1], place[2], has))
		}
	}
	slices.Sort(list)
	return list
}

// isMetric tells whether a row of a probe's table is that of a metric or event, and not of a program, which has its hook beside it.
func isMetric(place [3]string) bool {
	return strings.HasPrefix(place[0], probeTitle) && !strings.Contains(place[1], "` `")
}

// inColumn tells whether a document has anything of a section for a kernel.
func inColumn(c cells, place [3]string) bool {
	for other, cell := range c {
		if cell != "" && other[0] == place[0] && other[2] == place[2] {
			return true
		}
	}
	return false
}

// ran tells whether a cell is of something that was run.
func (o options) ran(results []*result, place [3]string) bool {
	return slices.ContainsFunc(results, func(r *result) bool {
		kernel, name := runOf(place)
		if r.Column != kernel || r.Environment != name {
			return false
		}
		return place[0] != testsTitle || o.selects(r, strings.Trim(place[1], "`"))
	})
}

// isWorse compares two cells of a section.
func isWorse(section, had, has string) bool {
	before, after := number(had), number(has)
	switch {
	case rank(has) < rank(had):
		return true
	case section == privilegesTitle || section == onTopTitle: // one more that is needed
		return slices.ContainsFunc(strings.Fields(has), func(s string) bool {
			return strings.HasPrefix(s, "CAP_") && !slices.Contains(strings.Fields(had), s)
		})
	case rank(has) > rank(had):
		return false
	case section == environmentTitle:
		return worth(has) < worth(had)
	case section == testsTitle: // which of them pass is known by their names
		return skipped(has) > skipped(had) || strings.Contains(has, "failed")
	case rank(had) == rankTaken: // the verifier's instructions
		return before > 0 && float64(after) > growth*float64(before)
	}
	return false
}

// worth orders what holds in an environment.
func worth(cell string) int {
	holds := strings.TrimPrefix(cell, cellTaken+" ")
	for i, prefix := range []string{outcome.WorksBut, outcome.Works, outcome.Refuses} {
		if strings.HasPrefix(holds, prefix) {
			return []int{2, 3, 1}[i]
		}
	}
	return 0
}

const (
	rankNothing = iota
	rankNo
	rankSpare
	rankTaken
)

// rank orders what a cell can say.
func rank(cell string) int {
	switch {
	case cell == "":
		return rankNothing
	case strings.HasPrefix(cell, cellNo):
		return rankNo
	case strings.HasPrefix(cell, cellTaken):
		return rankTaken
	}
	return rankSpare
}

// skipped is how many tests a cell says were.
func skipped(cell string) int {
	before, _, _ := strings.Cut(cell, " skipped")
	_, count, _ := strings.Cut(before, ", ")
	if _, after, ok := strings.Cut(count, ", "); ok { // "12, 1 failed, 2 skipped"
		count = after
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return 0
	}
	return n
}

// number is the first one in a cell.
func number(cell string) int {
	for _, word := range strings.FieldsFunc(cell, func(r rune) bool { return r < '0' || r > '9' }) {
		n, err := strconv.Atoi(word)
		if err == nil {
			return n
		}
	}
	return 0
}

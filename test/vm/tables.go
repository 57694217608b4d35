// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// table is text in rows and columns, which are kernels.
type table struct {
	title   string
	about   string
	columns []string
	rows    []string
	cells   map[[2]string]string // by row and column
}

func newTable(title, about string, columns []string) *table {
	return &table{title: title, about: about, columns: columns, cells: make(map[[2]string]string)}
}

func (t *table) set(row, column, cell string) {
	if !slices.Contains(t.rows, row) {
		t.rows = append(t.rows, row)
	}
	t.cells[[2]string{row, column}] = cell
}

// markdown writes it, columns aligned.
func (t *table) markdown(out *strings.Builder) {
	fmt.Fprintf(out, "\n## %s\n", t.title)
	if t.about != "" {
		fmt.Fprintf(out, "%s\n", t.about)
	}
	out.WriteString("\n")
	head := append([]string{""}, t.columns...)
	lines := [][]string{head}
	for _, row := range t.rows {
		line := []string{row}
		for _, column := range t.columns {
			line = append(line, t.cells[[2]string{row, column}])
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(head))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, line := range lines {
		for i, cell := range line {
			fmt.Fprintf(out, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		out.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprintf(out, "|%s", strings.Repeat("-", width+2))
			}
			out.WriteString("|\n")
		}
	}
}

// notes are reasons, each told once and referred to by its number.
type notes struct{ texts []string }

func (n *notes) mark(text string) string {
	i := slices.Index(n.texts, text)
	if i < 0 {
		i = len(n.texts)
		n.texts = append(n.texts, text)
	}
	return fmt.Sprintf("[%d]", i+1)
}

// markdown lists them, when there are some.
func (n *notes) markdown(out *strings.Builder) {
	if len(n.texts) == 0 {
		return
	}
	out.WriteString("\n## Notes\n\n")
	for i, text := range n.texts {
		first, _, _ := strings.Cut(text, "\n")
		fmt.Fprintf(out, "- [%d] %s\n", i+1, first)
	}
}

// What the cells say.
const (
	cellTaken = "✓"
	cellSpare = "–"
	cellNo    = "no"
)

// probeTitle begins those of the tables below.
const probeTitle = "Probe "

// wholeProbe is the row of one of which a kernel can do nothing.
const wholeProbe = "all of it"

// programTables are one table for each probe.
func programTables(results []*result, n *notes) []*table {
	columns := columnsOf(results)
	tables := make(map[string]*table)
	var order []string
	of := func(probe string) *table {
		if tables[probe] == nil {
			tables[probe] = newTable(probeTitle+probe, "", columns)
			order = append(order, probe)
		}
		return tables[probe]
	}
	for _, r := range results {
		for _, p := range r.Programs {
			of(p.Probe).set(fmt.Sprintf("`%s` `%s`", p.Name, p.Hook), r.Column, programCell(p, n))
		}
		for _, m := range r.Missing {
			row := wholeProbe
			if m.Name != "" {
				row = fmt.Sprintf("`%s`", m.Name)
			}
			of(m.Probe).set(row, r.Column, cellNo+" "+n.mark(m.Why))
		}
	}
	list := make([]*table, 0, len(order))
	for _, probe := range order {
		list = append(list, tables[probe])
	}
	return list
}

func programCell(p outcome.Program, n *notes) string {
	switch {
	case p.Taken && p.Instructions > 0:
		return fmt.Sprintf("%s %d", cellTaken, p.Instructions)
	case p.Taken:
		return cellTaken
	case p.Why != "":
		return cellNo + " " + n.mark(p.Why)
	}
	return cellSpare
}

func columnsOf(results []*result) []string {
	var columns []string
	for _, r := range results {
		if !slices.Contains(columns, r.Column) {
			columns = append(columns, r.Column)
		}
	}
	return columns
}

// testsTitle is that of the table below.
const testsTitle = "Tests"

// failedOnce begins the note on tests that passed at the second attempt.
const failedOnce = "failed once, and passed when it was run again: "

// testTable has each package's tests, counted.
func testTable(results []*result, n *notes) *table {
	t := newTable(testsTitle, "Passed, of those that attach programs and run there; failed and skipped ones where there are some.", columnsOf(results))
	for _, r := range results {
		counts := make(map[string]map[string]int)
		skips := make(map[string][]*skip)
		repeated := make(map[string][]string)
		var packages []string
		for _, test := range r.Tests {
			if counts[test.Package] == nil {
				counts[test.Package] = make(map[string]int)
				packages = append(packages, test.Package)
			}
			counts[test.Package][test.Result]++
			if test.Again {
				repeated[test.Package] = append(repeated[test.Package], test.Name)
			}
			if test.Result == outcome.Skipped {
				skips[test.Package] = addSkip(skips[test.Package], test)
			}
		}
		for _, pkg := range packages {
			cell := fmt.Sprint(counts[pkg][outcome.Passed])
			if names := repeated[pkg]; len(names) > 0 {
				cell += " " + n.mark(failedOnce+strings.Join(names, ", "))
			}
			if failed := counts[pkg][outcome.Failed]; failed > 0 {
				cell += fmt.Sprintf(", %d failed", failed)
			}
			if skipped := counts[pkg][outcome.Skipped]; skipped > 0 {
				cell += fmt.Sprintf(", %d skipped", skipped)
				for _, s := range skips[pkg] {
					cell += " " + n.mark(s.reason+": "+strings.Join(s.tests, ", "))
				}
			}
			t.set("`"+pkg+"`", r.Column, cell)
		}
	}
	return t
}

// skip is why some tests of a package were skipped.
type skip struct {
	reason string
	tests  []string
}

func addSkip(list []*skip, t outcome.Test) []*skip {
	why := reason(t.Output)
	i := slices.IndexFunc(list, func(s *skip) bool { return s.reason == why })
	if i < 0 {
		i = len(list)
		list = append(list, &skip{reason: why})
	}
	list[i].tests = append(list[i].tests, t.Name)
	return list
}

// reason is what a test said when it was skipped, without the place in its source.
func reason(output string) string {
	line, _, _ := strings.Cut(output, "\n")
	if _, text, ok := strings.Cut(line, ".go:"); ok {
		if _, said, ok := strings.Cut(text, ": "); ok {
			return said
		}
	}
	return line
}

// document is docs/kernels.md.
func document(results []*result) string {
	var whole, reduced []*result
	for _, r := range results {
		switch r.Environment {
		case "":
			whole = append(whole, r)
		case privileges:
		default:
			reduced = append(reduced, r)
		}
	}
	var out strings.Builder
	out.WriteString(preamble)
	kernels := newTable(kernelsTitle, "", []string{"release", "Debian"})
	for _, r := range whole {
		kernels.set(r.Column, "release", r.Release)
		kernels.set(r.Column, "Debian", r.Suite)
	}
	kernels.markdown(&out)
	n := new(notes)
	for _, t := range programTables(whole, n) {
		t.markdown(&out)
	}
	testTable(whole, n).markdown(&out)
	if len(reduced) > 0 {
		environmentTable(reduced, n).markdown(&out)
	}
	n.markdown(&out)
	return out.String()
}

const preamble = `# Kernels
<!-- Generated by make test-kernels. -->

What each kernel takes of each probe when everything is enabled. ` + "`make test-kernels`" + ` boots the kernels in virtual machines, loads and attaches
all programs through the receiver's own loader, runs the tests that attach programs, in their small size, and fails when something got worse; with ` + "`KERNELFLAGS=-docs`" + `, it writes this page. What takes
long and is hardly about the kernel (` + "`receiver`, `receiver/internal/emit`, `internal/ring`, `internal/packet/filter`, `examples/probes`" + `) runs on the oldest kernel and on the running one only;
` + "`test/e2e`, and of `test/reliability`" + ` the soak and what needs the built Collector, on none.

Up to the reduced environments, all of it is in one that is whole, with cgroups of the second version only (“v2 only”). amd64 and arm64 take the same objects, byte for byte; of the receiver,
only the names of system calls (the decoder ` + "`syscall`" + `) are each architecture's own.

- ✓: loaded and attached, with the number of instructions that the verifier looked at.
- –: not needed: an alternative of it was taken, or there is no metric or event left that it is for.
- no: the kernel can not do it, for the reason in the note.
`

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// judge prints the tables, and decides.
func judge(o options, results []*result, out io.Writer) error {
	if len(results) == 0 {
		return errors.New("no kernel is selected")
	}
	if _, err := io.WriteString(out, document(results)+"\n"+privilegesDocument(results)); err != nil {
		return err
	}
	var problems []string
	for _, r := range results {
		for _, f := range r.failures() {
			title := environment{name: r.Environment}.title()
			problems = append(problems, fmt.Sprintf("%s, %s: %s", r.Column, title, f))
		}
	}
	noted, err := os.ReadFile(passedFile)
	if err != nil {
		return err
	}
	before := readPassed(string(noted))
	problems = append(problems, o.repeated(before, results)...)
	if o.whole(results, notPrivileges) {
		problems = append(problems, nowhere(results)...)
	}
	var failed error
	if len(problems) > 0 {
		failed = fmt.Errorf("failed:\n%s", strings.Join(problems, "\n"))
	}
	if failed != nil && !o.accept {
		return failed
	}
	if o.run != allTests {
		return failed // the page is of all tests
	}
	return errors.Join(failed, compare(o, results, before))
}

// compare holds the results against the pages and the tests that passed, and renews them when that is wanted.
func compare(o options, results []*result, passed history) error {
	pins, err := loadPins(pinsFile)
	if err != nil {
		return err
	}
	var kept []*result
	for _, r := range results {
		if r.Suite != "" {
			kept = append(kept, r) // the host is another one everywhere
		}
	}
	var list []string
	for _, p := range pages {
		before, err := os.ReadFile(p.file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, place := range append(o.worse(string(before), p.text(kept), kept), unplanned(readCells(string(before)), pins)...) {
			list = append(list, p.file+": "+place)
		}
	}
	for _, test := range o.lost(passed, kept) {
		list = append(list, passedFile+": "+test)
	}
	if slices.Sort(list); len(list) > 0 && !o.accept {
		return fmt.Errorf("worse than before:\n%s\nKERNELFLAGS='-docs -accept' takes it as it is", strings.Join(list, "\n"))
	}
	if !o.docs {
		return nil
	}
	return writePages(o, results, kept, passed, pins)
}

// nowhere lists the tests that were skipped, and the programs that were not taken, on every kernel.
func nowhere(results []*result) []string {
	ran, taken := make(map[string]bool), make(map[string]bool)
	var tests, programs []string
	for _, r := range results {
		for _, t := range r.Tests {
			name := t.Package + " " + t.Name
			if _, ok := ran[name]; !ok {
				tests = append(tests, name)
			}
			ran[name] = ran[name] || t.Result != outcome.Skipped
		}
		for _, p := range r.Programs {
			name := p.Probe + " " + p.Name
			if _, ok := taken[name]; !ok {
				programs = append(programs, name)
			}
			taken[name] = taken[name] || p.Taken
		}
	}
	var list []string
	for _, name := range tests {
		if !ran[name] {
			list = append(list, name+" is skipped on every kernel")
		}
	}
	for _, name := range programs {
		if !taken[name] {
			list = append(list, name+" is taken on no kernel")
		}
	}
	return list
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// mostAgain is of how many failed tests it is asked whether they fail twice.
const mostAgain = 3

// again is a plan of the tests of another that failed; false where there is nothing to ask: none did, too many, or the machine itself. Machines
// that are emulated stand still for seconds now and then, which no test of a kernel's timers can know of. So what passes at the second attempt is told in
// the tables, and is no failure.
func again(r *result, done outcome.Plan) (outcome.Plan, bool) {
	p := outcome.Plan{Environment: done.Environment}
	if len(r.Errs) > 0 || len(r.failures()) > mostAgain {
		return p, false
	}
	for _, s := range done.Suites {
		var names []string
		for _, t := range r.Tests {
			switch {
			case t.Package != s.Package || t.Result != outcome.Failed:
			case t.Name == "":
				return p, false // the suite broke off
			default:
				names = append(names, t.Name)
			}
		}
		if len(names) > 0 {
			s.Run = "^(" + strings.Join(names, "|") + ")$"
			p.Suites = append(p.Suites, s)
		}
	}
	return p, len(p.Suites) > 0
}

// amend notes what passed at the second attempt.
func (r *result) amend(second *result) {
	for i := range r.Tests {
		t := &r.Tests[i]
		passed := func(s outcome.Test) bool {
			return s.Package == t.Package && s.Name == t.Name && s.Result == outcome.Passed
		}
		if t.Result == outcome.Failed && slices.ContainsFunc(second.Tests, passed) {
			t.Result, t.Again = outcome.Passed, true
		}
	}
}

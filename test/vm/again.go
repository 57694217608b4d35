// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

const (
	// mostAgain is of how many failed tests it is asked whether they fail twice.
	mostAgain = 3
	// accounts is of whom it is never asked: what is lost now and then is what that package is there to find.
	accounts = "test/reliability"
)

// again is a plan of the packages of another of which tests failed; false where there is nothing to ask: none did, too many, or the machine itself. Machines
// that are emulated stand still for seconds now and then, which no test of a kernel's timers can know of. So what passes at the second attempt, in
// the same company, is told in the tables, and is no failure.
func again(r *result, done outcome.Plan) (outcome.Plan, bool) {
	p := outcome.Plan{Environment: done.Environment, Privileges: done.Privileges}
	if len(r.Errs) > 0 || len(r.failures()) > mostAgain {
		return p, false
	}
	for _, s := range done.Suites {
		failed := false
		for _, t := range r.Tests {
			if t.Package != s.Package || t.Result != outcome.Failed {
				continue
			}
			if t.Name == "" || t.Package == accounts { // without a name, the suite broke off
				return p, false
			}
			failed = true
		}
		if failed {
			p.Suites = append(p.Suites, s)
		}
	}
	return p, len(p.Suites) > 0
}

// amend notes what passed at the second attempt, if nothing else failed there.
func (r *result) amend(second *result) {
	if len(second.Errs) > 0 {
		r.Errs = append(r.Errs, second.Errs...)
		return
	}
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

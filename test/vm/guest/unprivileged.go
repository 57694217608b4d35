// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/capability"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// unprivilegedSuites runs the probes' own tests, in which a probe is an unprivileged user's with just the capabilities that are enough for it. Of
// what a test says that it needs on top, those are told without which it fails.
func unprivilegedSuites(plan *outcome.Plan, s setting, enough map[string][]string, tell func(outcome.Line)) error {
	var errs []error
	for _, suite := range plan.Suites {
		set, ok := enough[path.Base(suite.Package)]
		if !ok {
			errs = append(errs, fmt.Errorf("%s is not run, since it is not known what is enough for it", suite.Package))
			continue
		}
		var more []*outcome.OnTop
		err := runSuite(suite, plan.Environment, s.with(set, ""), func(line outcome.Line) {
			if t := line.Test; t != nil && t.Result == outcome.Passed {
				for i, needs := range t.OnTop {
					same := func(n capability.Needs) bool { return n.String() == needs.String() }
					if !slices.ContainsFunc(t.OnTop[:i], same) { // parts of a test say the same
						more = append(more, &outcome.OnTop{What: needs.What, Package: suite.Package, Test: t.Name, Capabilities: needs.Capabilities})
					}
				}
			}
			tell(line)
		})
		errs = append(errs, err)
		for _, o := range more {
			if err := leaveOut(suite, plan.Environment, s, set, o); err != nil {
				errs = append(errs, err)
				continue
			}
			tell(outcome.Line{OnTop: o})
		}
	}
	return errors.Join(errs...)
}

// with has the variables that make a suite's probes an unprivileged user's.
func (s setting) with(set []string, missing string) setting {
	s.variables = append(slices.Clone(s.variables), capability.Variable+"="+strings.Join(set, ","), capability.WithoutVariable+"="+missing)
	return s
}

// leaveOut takes one capability after another away from a test that says that it needs them on top, and keeps those without which it fails.
func leaveOut(suite outcome.Suite, environment string, s setting, set []string, o *outcome.OnTop) error {
	suite.Run, suite.Skip = "^"+o.Test+"$", ""
	var needed []string
	for _, name := range o.Capabilities {
		result := ""
		err := runSuite(suite, environment, s.with(set, name), func(line outcome.Line) {
			if line.Test != nil && line.Test.Name == o.Test {
				result = line.Test.Result
			}
		})
		switch {
		case err != nil:
			return err
		case result == outcome.Failed:
			needed = append(needed, name)
		case result != outcome.Passed:
			return fmt.Errorf("%s %s without %s: %q", suite.Package, o.Test, name, result)
		}
	}
	o.Capabilities = needed
	return nil
}

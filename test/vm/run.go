// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// result is what became of one run: a kernel in an environment.
type result struct {
	// Column names it in the tables.
	Column      string
	Environment string
	Release     string
	Suite       string // of Debian; empty for the host
	Programs    []outcome.Program
	Missing     []outcome.Missing
	Tests       []outcome.Test
	Privileges  []outcome.Privileges
	OnTop       []outcome.OnTop
	// Errs keep the run from being one.
	Errs []string
	// Made is what it is of, when it is kept.
	Made made `json:",omitempty"`
	// dropped are the packages whose tests were left out when it was recalled.
	dropped []string
}

// take adds one of the guest's lines.
func (r *result) take(line outcome.Line) {
	switch {
	case line.Kernel != nil:
		r.Release = line.Kernel.Release
	case line.Program != nil:
		r.Programs = append(r.Programs, *line.Program)
	case line.Missing != nil:
		r.Missing = append(r.Missing, *line.Missing)
	case line.Privileges != nil:
		r.Privileges = append(r.Privileges, *line.Privileges)
	case line.OnTop != nil:
		r.OnTop = append(r.OnTop, *line.OnTop)
	case line.Test != nil:
		r.Tests = append(r.Tests, *line.Test)
	case line.Done != nil:
		r.Errs = append(r.Errs, line.Done.Errors...)
	}
}

// beside takes from an earlier result the tests of the packages that were not run now, and what kept it from being one.
func (r *result) beside(before *result, run []string) {
	if r.Made == nil {
		r.Made = make(made)
	}
	for _, t := range before.Tests {
		if !slices.Contains(run, t.Package) {
			r.Tests = append(r.Tests, t)
			r.Made[t.Package] = before.Made[t.Package]
		}
	}
	slices.SortStableFunc(r.Tests, func(a, b outcome.Test) int { return strings.Compare(a.Package, b.Package) })
	r.Errs = append(r.Errs, before.Errs...)
}

// failures are all reasons to call the run failed.
func (r *result) failures() []string {
	all := append([]string(nil), r.Errs...)
	for _, t := range r.Tests {
		if t.Result == outcome.Failed {
			all = append(all, fmt.Sprintf("%s %s\n%s", t.Package, t.Name, t.Output))
		}
	}
	if r.Environment != "" { // what is missing there is what its tests look at
		return append(all, r.unexpected(len(all) == 0)...)
	}
	for _, p := range r.Programs {
		if p.Why != "" && !p.Unsupported {
			all = append(all, fmt.Sprintf("%s %s: %s", p.Probe, p.Name, p.Why))
		}
	}
	for _, m := range r.Missing {
		if !m.Unsupported {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s: %s", m.Probe, m.Name, m.Why)))
		}
	}
	return all
}

// unexpected is what the tests of a reduced environment found, and what is not declared to hold there. When nothing failed, one must have run.
func (r *result) unexpected(mustRun bool) []string {
	if r.Environment == privileges {
		return nil
	}
	e, _ := environmentOn(r.Column, r.Environment)
	var list []string
	for _, t := range r.Tests {
		if t.Result != outcome.Passed {
			continue
		}
		mustRun = false
		if t.Holds != e.holds {
			list = append(list, fmt.Sprintf("%s %s found %q there, and not %q", t.Package, t.Name, t.Holds, e.holds))
		}
	}
	if mustRun {
		list = append(list, "no test ran")
	}
	return list
}

// plan is for a guest. In a reduced environment only its own tests are run.
func plan(e environment, packages []string, run string) outcome.Plan {
	p := outcome.Plan{Environment: e.name, Report: e.name == "", Privileges: e.name == privileges}
	switch e.name {
	case "":
	case privileges:
		packages = probePackages()
	default:
		packages, run = []string{environmentPackage}, e.tests
	}
	for _, pkg := range packages {
		p.Suites = append(p.Suites, outcome.Suite{
			Package: pkg, Binary: path.Join(guestTests, binary(pkg)), Dir: path.Join(guestSources, pkg), Run: run, Skip: elsewhere[pkg], Short: true,
		})
	}
	return p
}

// packagesIn are those of a plan.
func packagesIn(p outcome.Plan) []string {
	var list []string
	for _, s := range p.Suites {
		list = append(list, s.Package)
	}
	return list
}

// runGuest boots a kernel and does what the plan says.
func runGuest(ctx context.Context, p pin, files guestFiles, work string, plan outcome.Plan, parameters string, processors int, tell *progress) *result {
	r := &result{Column: p.String(), Environment: plan.Environment, Suite: p.Suite}
	initrd := filepath.Join(work, "initramfs "+tell.title)
	defer os.Remove(initrd)
	if err := writeGuest(initrd, files, plan); err != nil {
		r.Errs = append(r.Errs, err.Error())
		return r
	}
	var console bytes.Buffer
	err := boot(ctx, p, files.vmlinuz(), initrd, parameters, processors, &console, func(line outcome.Line) {
		r.take(line)
		tell.tell(line)
	})
	broken, stood := complaints(console.String())
	for _, line := range stood {
		tell.print("stood still: %s", line)
	}
	for _, text := range broken {
		r.Errs = append(r.Errs, "the kernel says:\n"+text)
	}
	if err != nil {
		r.Errs = append(r.Errs, fmt.Sprintf("%v; the end of its console:\n%s", err, tail(console.String())))
	}
	return r
}

// runHost does what the plan says on the kernel that runs now.
func runHost(ctx context.Context, work string, programs binaries, plan outcome.Plan, tell *progress) *result {
	r := &result{Column: "host " + runtime.GOARCH, Environment: plan.Environment}
	fail := func(err error) *result {
		r.Errs = append(r.Errs, err.Error())
		return r
	}
	for i := range plan.Suites {
		suite := &plan.Suites[i]
		dir, err := filepath.Abs(suite.Package)
		if err != nil {
			return fail(err)
		}
		suite.Binary, suite.Dir = programs.path(suite.Package), dir
	}
	b, err := json.Marshal(plan)
	if err != nil {
		return fail(err)
	}
	file := filepath.Join(work, "plan "+tell.title)
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return fail(err)
	}
	args := []string{programs.guest(), file}
	if os.Geteuid() != 0 {
		args = append([]string{"sudo"}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	_, readErr := readConsole(out, &complaint, func(line outcome.Line) {
		r.take(line)
		tell.tell(line)
	})
	if err := cmd.Wait(); err != nil {
		return fail(fmt.Errorf("%w: %s", err, tail(complaint.String())))
	}
	if readErr != nil {
		return fail(readErr)
	}
	return r
}

// consoleTail is how much of a console is shown, in bytes.
const consoleTail = 16 << 10

func tail(s string) string {
	return s[max(0, len(s)-consoleTail):]
}

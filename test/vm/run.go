// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
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
	// Errs keep the run from being one.
	Errs []string
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
	case line.Test != nil:
		r.Tests = append(r.Tests, *line.Test)
	case line.Done != nil:
		r.Errs = append(r.Errs, line.Done.Errors...)
	}
}

// failures are all reasons to call the run failed.
func (r *result) failures() []string {
	all := append([]string(nil), r.Errs...)
	for _, t := range r.Tests {
		if t.Result == outcome.Failed {
			all = append(all, fmt.Sprintf("%s %s\n%s", t.Package, t.Name, t.Output))
		}
	}
	if r.Environment != "" {
		return all // what is missing there is what its tests look at
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

// plan is for a guest.
func plan(environment string, packages []string, run string) outcome.Plan {
	p := outcome.Plan{Environment: environment, Report: true}
	for _, pkg := range packages {
		p.Suites = append(p.Suites, outcome.Suite{
			Package: pkg, Binary: path.Join(guestTests, strings.ReplaceAll(pkg, "/", "-")), Dir: path.Join(guestSources, pkg), Run: run,
		})
	}
	return p
}

// runGuest boots a kernel and does what the plan says.
func runGuest(ctx context.Context, p pin, vmlinuz string, root []string, work string, programs binaries, plan outcome.Plan, parameters string, log io.Writer) *result {
	r := &result{Column: p.String(), Environment: plan.Environment, Suite: p.Suite}
	initrd := filepath.Join(work, "initramfs")
	defer os.Remove(initrd)
	if err := writeGuest(initrd, root, programs, plan); err != nil {
		r.Errs = append(r.Errs, err.Error())
		return r
	}
	var console bytes.Buffer
	err := boot(ctx, p.Arch, vmlinuz, initrd, parameters, &console, func(line outcome.Line) {
		r.take(line)
		progress(log, line)
	})
	if err != nil {
		r.Errs = append(r.Errs, fmt.Sprintf("%v; the end of its console:\n%s", err, tail(console.String())))
	}
	return r
}

// runHost does what the plan says on the kernel that runs now.
func runHost(ctx context.Context, work string, programs binaries, packages []string, run string, log io.Writer) *result {
	r := &result{Column: "host " + runtime.GOARCH}
	fail := func(err error) *result {
		r.Errs = append(r.Errs, err.Error())
		return r
	}
	p := plan("", packages, run)
	for i := range p.Suites {
		dir, err := filepath.Abs(packages[i])
		if err != nil {
			return fail(err)
		}
		p.Suites[i].Binary, p.Suites[i].Dir = programs.path(packages[i]), dir
	}
	b, err := json.Marshal(p)
	if err != nil {
		return fail(err)
	}
	file := filepath.Join(work, "plan.json")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return fail(err)
	}
	args := []string{programs.path(guestPackage), file}
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
		progress(log, line)
	})
	if err := cmd.Wait(); err != nil {
		return fail(fmt.Errorf("%w: %s", err, tail(complaint.String())))
	}
	if readErr != nil {
		return fail(readErr)
	}
	return r
}

// progress tells of what is not as it should be, as it happens.
func progress(log io.Writer, line outcome.Line) {
	switch {
	case line.Kernel != nil:
		fmt.Fprintf(log, "    Linux %s %s\n", line.Kernel.Release, line.Kernel.Machine)
	case line.Test != nil && line.Test.Result == outcome.Failed:
		fmt.Fprintf(log, "    FAIL %s %s\n", line.Test.Package, line.Test.Name)
	}
}

// consoleTail is how much of a console is shown, in bytes.
const consoleTail = 4 << 10

func tail(s string) string {
	return s[max(0, len(s)-consoleTail):]
}
